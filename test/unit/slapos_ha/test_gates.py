"""The gates before a move: each is red for its own reason, says what to do, and is forced by its name or not at all."""

import copy
import re

import pytest
from salt.exceptions import CommandExecutionError
from support import ROOT, load_module

from .world import TASKS, UTILS, World, gates_util, runner, step_util

PARSE = load_module("_utils/drbd_parse.py")
RECORDED = ROOT / "test/unit/drbd/recorded"
CAN = ["drbd_source", "heartbeats", "standby", "tasks", "versions", "ids"]
CANNOT = ["drbd_connected", "drbd_target", "drbd_sync", "agents", "frozen", "failed"]


@pytest.fixture
def healthy(defaults, example):
    """A site that is deployed, with the service on demo1."""
    world = World(defaults, example).deployed()
    for facts in world.facts.values():
        facts["ids"] = {"users": {"slapsoft": [5000, 5000], "slapuser0": [5001, 5001]}}
    return world


def disk(world, node):
    return world.facts[node]["drbd"]["status"][world.shape["fqdn"]]


def link(world, node):
    return next(iter(disk(world, node)["connections"].values()))


def agent(world, node):
    return world.facts[node]["cluster"]


def test_no_gate_is_red_on_a_healthy_site(healthy):
    assert gates_util.gates(healthy.site(), "demo2") == []


def test_every_gate_is_in_the_table():
    assert sorted(name for name, _, _ in gates_util._GATES) == sorted(CAN + CANNOT)
    assert {name for name, _, why in gates_util._GATES if why is None} == set(CAN)
    assert {gate for _, gate, _ in RED} == set(CAN + CANNOT)


# What is so, the gate, and what it says; the move is from demo1 to demo2.
RED = [
    (lambda w: link(w, "demo1").update(state="StandAlone"), "drbd_connected", "demo1 is StandAlone to demo2: see the replication link, salt demo1 drbd.status; whether it is a split brain says salt-run slapos_ha.status"),
    (lambda w: link(w, "demo2").update(state="Connecting"), "drbd_connected", "demo2 is Connecting to demo1"),
    (lambda w: disk(w, "demo1").update(connections={}), "drbd_connected", "demo1 has no DRBD connection: drbdadm adjust comp1.slapos.svc.paris"),
    (lambda w: w.facts["demo2"]["drbd"].update(status={"error": "drbdadm is missing"}), "drbd_connected", "cannot be read on demo2: drbdadm status"),
    (lambda w: w.facts["demo1"]["drbd"].update(status={}), "drbd_connected", "cannot be read on demo1: drbdadm status"),
    (lambda w: disk(w, "demo2")["disk"][0].update(disk="Inconsistent"), "drbd_target", "volume 0 on demo2 is Inconsistent, not UpToDate: wait for the resync"),
    (lambda w: disk(w, "demo2")["disk"][0].update(disk="Outdated"), "drbd_target", "volume 0 on demo2 is Outdated"),
    (lambda w: link(w, "demo1")["volumes"][0].update(disk="Outdated"), "drbd_target", "demo1 knows volume 0 on demo2 as Outdated"),
    (lambda w: link(w, "demo1")["volumes"][0].update(out_of_sync=12), "drbd_target", "12 KiB of volume 0 differ between the nodes: drbdadm disconnect"),
    (lambda w: disk(w, "demo1")["disk"][0].update(disk="Diskless"), "drbd_source", "volume 0 on demo1 is Diskless: DRBD let go of its disk after an error"),
    (lambda w: link(w, "demo1")["volumes"][0].update(replication="VerifyS", percent=12.5), "drbd_sync", "a verify of volume 0 runs on demo1 (VerifyS (12.5 %)): wait"),
    (lambda w: link(w, "demo2")["volumes"][0].update(replication="PausedSyncS"), "drbd_sync", "volume 0 on demo2 is PausedSyncS with demo1: wait"),
    (lambda w: link(w, "demo2")["volumes"][0].update(resync_suspended="user"), "drbd_sync", "a resync of volume 0 on demo2 is suspended (user): drbdadm resume-sync"),
    (lambda w: agent(w, "demo1")["nodes"].pop("demo2"), "agents", "the agent on demo1 does not see demo2: om mon"),
    (lambda w: agent(w, "demo2")["nodes"].pop("demo1"), "agents", "the agent on demo2 does not see demo1: om mon"),
    (lambda w: w.facts["demo1"].update(cluster={"error": "the daemon does not answer. See: systemctl start opensvc-agent"}), "agents", "the agent on demo1 cannot be asked: the daemon does not answer"),
    (lambda w: agent(w, "demo1")["heartbeats"]["hb#1"]["peers"]["demo2"].update(beating=False), "heartbeats", "demo1 does not hear demo2 on heartbeat hb#1: om mon"),
    (lambda w: agent(w, "demo2")["heartbeats"]["hb#1"]["peers"].pop("demo1"), "heartbeats", "demo2 does not hear demo1 on heartbeat hb#1"),
    (lambda w: agent(w, "demo2")["heartbeats"]["hb#1"].update(tx="stopped"), "heartbeats", "heartbeat hb#1.tx is stopped on demo2"),
    (lambda w: agent(w, "demo2")["heartbeats"].clear(), "heartbeats", "heartbeat hb#1 is not there on demo2"),
    (lambda w: agent(w, "demo2")["nodes"]["demo2"].update(frozen=True), "frozen", "node demo2 is frozen: om node thaw --node demo2"),
    (lambda w: agent(w, "demo1")["nodes"]["demo1"].update(frozen=True), "frozen", "node demo1 is frozen"),
    (lambda w: w.object["instances"]["demo2"].update(frozen=True), "frozen", "the instance on demo2 is frozen: om slapos/svc/comp1 thaw"),
    (lambda w: w.object["instances"]["demo1"].update(state="stop failed"), "failed", "the instance on demo1 is 'stop failed': find out why, then om slapos/svc/comp1 clear"),
    (lambda w: w.object["instances"]["demo2"].update(avail="warn"), "standby", "the standby on demo2 is 'warn', not 'stdby up'"),
    (lambda w: w.object["instances"].pop("demo2"), "standby", "the standby on demo2 is None"),
    (lambda w: w.tasks.busy.update(demo1=[123, 456]), "tasks", "a task runs on demo1 (process 123, 456): wait until it ends"),
    (lambda w: w.tasks.busy.update(demo2="'ps.pgrep' is not available."), "tasks", "whether a task runs on demo2 cannot be asked: 'ps.pgrep' is not available."),
    (lambda w: w.facts["demo2"].update(agent={"major": 2, "version": "2.1-1880"}), "versions", "the OpenSVC agent is 2.1-1890 on demo1 and 2.1-1880 on demo2"),
    (lambda w: w.facts["demo2"]["drbd"]["version"].update(module_loaded="9.2.1"), "versions", "DRBD's module is 8.4.11 on demo1 and 9.2.1 on demo2"),
    (lambda w: w.facts["demo1"].update(agent={"error": "om is not there"}), "versions", "the version of the OpenSVC agent on demo1 is not known: om is not there"),
    (lambda w: w.facts["demo1"]["drbd"].update(version={"error": "drbdadm is not there"}), "versions", "the version of DRBD on demo1 is not known: drbdadm is not there"),
    (lambda w: w.facts["demo2"]["ids"]["users"].update(slapuser0=[6001, 6001]), "ids", "the users slapuser0 are not the same on both nodes (slapuser0: [5001, 5001] on demo1, [6001, 6001] on demo2)"),
    (lambda w: w.facts["demo2"]["ids"].update(users={}), "ids", "the users slapsoft, slapuser0 are not the same on both nodes (slapsoft: [5000, 5000] on demo1, missing on demo2)"),
    (lambda w: w.facts["demo2"].update(ids={"error": "slapos_node.ids is not on this minion"}), "ids", "the users' ids on demo2 are not known: slapos_node.ids is not"),
]  # fmt: skip


@pytest.mark.parametrize("spoil, gate, sentence", RED, ids=[f"{gate}: {said}" for _, gate, said in RED])  # fmt: skip
def test_each_gate_is_red_for_its_reason_alone(healthy, spoil, gate, sentence):
    spoil(healthy)
    red = gates_util.gates(healthy.site(), "demo2")
    assert [name for name, _ in red] == [gate] and sentence in red[0][1], red


# Recorded of DRBD 8.4 on demo1 and demo2, the node to which the service would go, and the gates that are red then.
DRBD = [
    ("primary", "primary", "demo2", set()),
    ("synced", "verified", "demo2", set()),
    ("syncsource", "synctarget", "demo2", {"drbd_target", "drbd_sync"}),
    ("syncsource", "synctarget", "demo1", {"drbd_source", "drbd_sync"}),
    ("paused_source", "paused_target", "demo2", {"drbd_target", "drbd_sync"}),
    ("verifying", "verifying_target", "demo2", {"drbd_sync"}),
    ("peer_gone", "standalone", "demo2", {"drbd_connected"}),
    ("sb", "sb", "demo2", {"drbd_connected"}),
    ("new_connected", "new_connected", "demo2", {"drbd_source", "drbd_target"}),
]


@pytest.mark.parametrize("one, two, target, gates", DRBD, ids=[f"{d[0]}-{d[2]}" for d in DRBD])
def test_what_drbd_really_says(healthy, one, two, target, gates):
    for host, state, peer in (("demo1", one, "demo2"), ("demo2", two, "demo1")):
        text = (RECORDED / host / f"{state}.status.out").read_text()
        proc = PARSE.proc_drbd((RECORDED / host / f"{state}.proc.out").read_text())
        (known,) = PARSE.with_proc(PARSE.status_text(text), proc, {"t0": [peer]}).values()
        healthy.facts[host]["drbd"]["status"] = {healthy.shape["fqdn"]: {"up": True, **known}}
    red = gates_util.gates(healthy.site(), target)
    assert {name for name, _ in red if name != "standby"} == gates, red


def test_a_task_is_known_by_the_command_that_the_agent_runs(healthy):
    gates_util.gates(healthy.site(), "demo2")
    (pattern,) = healthy.tasks.asked
    config = (ROOT / "slapos_ha/files/service.yaml").read_text()
    assert "command: '{volume#0.mnt}/slapos run {{ name }}'" in config
    for name in healthy.shape["tasks"]:
        line = f"/usr/bin/python3 -IS /var/lib/opensvc/volume/comp1-cfg/slapos run {name}"
        assert re.search(pattern, line) and re.search(pattern, f"{line} ")
    for line in (
        "/usr/bin/python3 /usr/bin/om slapos/svc/comp1 run --rid task#addpart",
        "/opt/slapos/bin/slapos node instance --now",
        "/bin/sh -c /x/slapos run addpartition",
    ):
        assert not re.search(pattern, line)


def test_while_every_task_is_disabled_nobody_is_asked_for_them(healthy):
    for instance in healthy.object["instances"].values():
        for rid in TASKS:
            instance["resources"][rid]["disable"] = True
    assert gates_util.gates(healthy.site(), "demo2") == [] and healthy.tasks.asked == []


# --- By force -----------------------------------------------------------------------------------------------------------------------------------

WRONG = [
    (["heartbeat"], r"^slapos_ha:force: there is no gate 'heartbeat'; those that can be forced are drbd_source, heartbeats, standby, tasks, versions, ids$"),
    (["all"], r"there is no gate 'all'"),
    (["drbd_target"], r"^slapos_ha:force: drbd_target cannot be forced: what was written since the disk was UpToDate is not on it, and a move would lose that$"),
    (["versions", "drbd_connected"], r"^slapos_ha:force: drbd_connected cannot be forced: .* two versions of the data$"),
    ("versions", r"^slapos_ha:force: 'versions' is no list; give the names of gates, such as \[heartbeats\]$"),
    (True, r"^slapos_ha:force: True is no list"),
]  # fmt: skip


@pytest.mark.parametrize("force, sentence", WRONG, ids=[str(force) for force, _ in WRONG])
def test_what_cannot_be_forced_is_refused_before_anything_is_asked(force, sentence):
    problems = gates_util.unforceable(force)
    assert len(problems) == 1 and re.search(sentence, problems[0]), problems


@pytest.mark.parametrize("gate", CANNOT)
def test_none_that_would_do_harm_can_be_forced(gate):
    assert gates_util.unforceable([*CAN, gate])[0].startswith(
        f"slapos_ha:force: {gate} cannot be forced: "
    )


def test_each_of_the_others_can():
    assert gates_util.unforceable(CAN) == gates_util.unforceable([]) == []


class Site:
    """Stands for the site that the step opens: its facts stay as they are, and the move is noted."""

    def __init__(self, world):
        self.site, self.moves, self.fails = world.site(), [], False
        self.site.look = lambda applications: None
        self.site.single = self.single

    def single(self, on, function, name, **kwargs):
        self.moves.append((on, function))
        if self.fails:
            raise CommandExecutionError("demo2: the switch failed")


@pytest.fixture
def site(healthy, monkeypatch):
    site = Site(healthy)
    monkeypatch.setattr(step_util._Steps, "_event", lambda *_, **__: None)
    monkeypatch.setattr(step_util._Steps, "_claimed", lambda *_: None)
    monkeypatch.setitem(UTILS, "slapos_site.known", lambda opts, shape: site.site)
    return site


def move(world, **kwargs):
    return runner.step("re6st_switch", shape=copy.deepcopy(world.shape), **kwargs)


def test_a_move_through_open_gates(healthy, site):
    answer = move(healthy)
    assert answer["result"] is True and "forced" not in answer["comment"]
    assert site.moves == [("demo2", "opensvc.placed")]


def test_a_red_gate_says_which_and_what_to_do(healthy, site):
    agent(healthy, "demo1")["heartbeats"]["hb#1"]["peers"]["demo2"].update(beating=False)
    link(healthy, "demo1").update(state="Connecting")
    answer = move(healthy)
    assert answer["result"] is False and site.moves == []
    assert answer["comment"].splitlines() == [
        "the service is not moved to demo2:",
        "drbd_connected: demo1 is Connecting to demo2: see the replication link, salt demo1 drbd.status",
        "heartbeats: demo1 does not hear demo2 on heartbeat hb#1: om mon",
        "Correct it and run the orchestration again: what is done stays done.",
        """Who knows that it does no harm here may force a gate: pillar='{"slapos_ha": {"force": ["heartbeats"]}}'""",
        "drbd_connected cannot be forced: what was written since the nodes lost touch is on one of them only, and a move would make two versions of the data",
    ]


def test_a_forced_gate_is_passed_and_told(healthy, site):
    agent(healthy, "demo1")["heartbeats"]["hb#1"]["peers"]["demo2"].update(beating=False)
    answer = move(healthy, force=["heartbeats", "ids"])
    assert answer["result"] is True and site.moves == [("demo2", "opensvc.placed")]
    assert answer["comment"].startswith(
        "the gate heartbeats is red and was forced: demo1 does not hear demo2 on heartbeat hb#1"
    )
    # What was not red needed no force.
    assert "ids" not in answer["comment"]


def test_one_gate_that_is_forced_opens_no_other(healthy, site):
    agent(healthy, "demo1")["heartbeats"]["hb#1"]["peers"]["demo2"].update(beating=False)
    healthy.facts["demo2"]["agent"] = {"major": 2, "version": "2.1-1880"}
    answer = move(healthy, force=["heartbeats"])
    assert answer["result"] is False and site.moves == []
    assert "the gate heartbeats is red and was forced" in answer["comment"]
    assert "versions: the OpenSVC agent is 2.1-1890 on demo1" in answer["comment"]


def test_a_forced_move_that_fails_says_what_was_forced(healthy, site):
    site.fails = True
    healthy.facts["demo2"]["agent"] = {"major": 2, "version": "2.1-1880"}
    answer = move(healthy, force=["versions"])
    assert answer["result"] is False and "the switch failed" in answer["comment"]
    assert "the gate versions is red and was forced" in answer["comment"]


def test_wrong_names_stop_the_preflight(site, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "__opts__", {"cachedir": str(tmp_path)})
    answer = runner.step("preflight", force=["everything"])
    assert answer["result"] is False
    assert answer["comment"].startswith("slapos_ha:force: there is no gate 'everything'")
    assert answer["comment"].endswith("Nothing was changed.")
