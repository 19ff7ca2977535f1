"""What each part does, with a lab that is played: in which order both sides are measured, what is looked at, and what a part that cannot be measured says."""

import collections
import contextlib
import json
import subprocess
import types

import pytest
from bench import parts, results
from slaplab.base import HOSTS, Lab, LabError
from slaplab.faults import orchestration
from support import load_module

QUIET = {"a": {"result": True, "changes": {}, "comment": "so already"}}
CONF = load_module("_utils/drbd_conf.py", "bench_test_drbd_conf")


class Play:
    """The lab as the parts see it; `did` is what was done to it, in its order."""

    def __init__(self, monkeypatch, tmp_path):
        self.lab = Lab(tmp_path / "lab")
        self.did, self.scripts = [], []
        self.here, self.whole = "demo1", True
        self.states = {host: QUIET for host in HOSTS}
        self.runs, self.copies = [], []
        # How often a new host says that it has much to do.
        self.asked, self.restless = collections.Counter(), 0
        self.counts = collections.defaultdict(list)
        self.options = types.SimpleNamespace(
            repetitions=2,
            deploys=1,
            agent="standin",
            reuse=False,
            sync_mib=1024,
            sync_seconds=120,
        )
        self.bench = parts.Bench(self.lab, self.options)
        self.record = results.Record("part", "abc", "a machine")
        for module, names in {
            parts.cli: ("up",),
            parts.control: ("salt_json", "salt"),
            parts.hosts: ("ssh", "busy"),
            parts.site: ("active", "mounted", "move", "deploy", "status"),
            parts.counter: ("counting",),
        }.items():
            for name in names:
                monkeypatch.setattr(module, name, getattr(self, name))

    def up(self, lab, tree, fresh=False):
        self.did.append("up fresh" if fresh else "up")

    def busy(self, lab, host):
        self.asked[host] += 1
        return 0.9 if self.asked[host] <= self.restless else 0.02

    def salt(self, lab, *words):
        self.did.append(" ".join(words))
        self.counts[words[1]].append("drbdsetup")

    def salt_json(self, lab, program, target, function, *words):
        self.did.append(f"{target} {function}")
        nodes = list(HOSTS) if target == "*" else [target]
        if function == "state.apply":
            for node in nodes:
                self.counts[node] += ["om", "drbdsetup"]
        return {
            "test.ping": dict.fromkeys(nodes, True),
            "state.apply": {node: self.states[node] for node in nodes},
            "opensvc.check": {target: {"done": target == self.here}},
        }[function]

    def ssh(self, lab, host, *words, check=True, **kwargs):
        script = " ".join(map(str, words))
        self.scripts.append((host, script, kwargs.get("input")))
        said = ""
        if script.startswith("df "):
            said = " 2000M\n"
        elif script.startswith("python3 - sync"):
            self.did.append(script)
            said = "a warning\n" + json.dumps(self.copies.pop(0)) + "\n"
        elif script.startswith("python3 - switch"):
            self.did.append(f"bare {host}")
            self.here = host
            said = json.dumps({"seconds": 10})
        elif script.startswith("drbdadm cstate"):
            said = "Connected\nInconsistent/Inconsistent\n"
        return types.SimpleNamespace(stdout=said, returncode=0)

    def move(self, lab, target):
        self.did.append(f"ours {target}")
        self.here = target

    def mounted(self, lab):
        return [self.here] if self.here else []

    def active(self, lab):
        return self.here

    def deploy(self, lab, *_):
        self.did.append("deploy")
        return self.runs.pop(0)

    def status(self, lab):
        self.did.append("status")
        return types.SimpleNamespace(returncode=0 if self.whole else 1)

    @contextlib.contextmanager
    def counting(self, lab, host, programs):
        assert {"om", "drbdsetup", "systemctl"} <= set(programs)
        self.did.append(f"count {host}")
        yield lambda: list(self.counts[host])
        self.did.append(f"counted {host}")


@pytest.fixture
def play(monkeypatch, tmp_path):
    return Play(monkeypatch, tmp_path)


def ran(seconds=400.0, agents=100.0, **more):
    """A deployment as slaplab.site has it, each step of ten seconds with two of the agent's."""
    states = {title: {"duration": 10000.0, "comment": "the agent's own commands: 2.0 s"} for title in orchestration().values()}  # fmt: skip
    known = {"retcode": 0, "failed": {}, "changed": [], "text": "", "seconds": seconds, "agent_seconds": agents, "states": states}  # fmt: skip
    return types.SimpleNamespace(**{**known, **more})


# --- Deployments ----------------------------------------------------------------------------------------------------------------------------------


def test_a_deployment_is_measured_in_a_new_lab_each_time(play):
    play.options.deploys = 2
    play.runs = [ran(400.0), ran(410.0)]
    parts.deploy(play.bench, play.record)
    assert play.did == ["up fresh", "deploy", "up fresh", "deploy"]
    assert play.record.samples == {"seconds": [400.0, 410.0], "agent": [100.0, 100.0]}
    steps = play.record.facts["steps"]
    assert [step for step, *_ in steps] == list(orchestration()) and steps[0][1:] == [10.0, 2.0]


def test_a_deployment_begins_when_both_hosts_are_at_rest(play, monkeypatch):
    """What a new agent has to do first would be taken for Salt's own."""
    monkeypatch.setattr(parts, "SETTLE", 0)
    play.runs, play.restless = [ran()], 1
    with pytest.raises(LabError, match="both hosts are at rest: not within 0 s"):
        parts.deploy(play.bench, play.record)
    assert play.did == ["up fresh"]
    monkeypatch.setattr(parts, "SETTLE", 5)
    play.asked.clear()
    parts.deploy(parts.Bench(play.lab, play.options), play.record)
    # demo1 is asked again because of itself, then because of demo2.
    assert play.did[1:] == ["up fresh", "deploy"] and play.asked == {"demo1": 3, "demo2": 2}


@pytest.mark.parametrize(
    "spent, busy", [("9 0 1 20 70 0 0 0 0 0", 0.1), ("0 0 0 300 0 0 0 0 0 0", 0.0)]
)
def test_what_a_host_has_to_do_is_read_of_its_kernel(monkeypatch, spent, busy):
    said = f"cpu  0 0 0 0 0 0 0 0 0 0\ncpu  {spent}\n"
    monkeypatch.setattr(parts.hosts, "ssh", lambda *_: types.SimpleNamespace(stdout=said))
    assert parts.hosts.busy(None, "demo1") == pytest.approx(busy)


def test_what_salt_starts_is_counted_for_as_long_as_a_deployment_lasts(play):
    play.bench.counted = True
    play.runs = [ran()]
    play.counts["demo1"] = ["om", "om", "nft"]
    parts.deploy(play.bench, play.record)
    assert play.did == ["up fresh", "count demo1", "count demo2", "deploy", "counted demo2", "counted demo1"]  # fmt: skip
    assert play.bench.started == {"demo1": {"om": 2, "nft": 1}, "demo2": {}}


def test_a_deployment_that_fails_is_not_tried_again_for_each_part(play):
    play.runs = [ran(retcode=1, why={"a step": "no disk"})]
    with pytest.raises(LabError, match="the deployment failed: .*no disk"):
        parts.deploy(play.bench, play.record)
    for _ in range(2):
        with pytest.raises(LabError, match="there is no site to measure: the deployment failed"):
            play.bench.ready()
    assert play.did == ["up fresh", "deploy"] and play.record.samples == {}


def test_a_site_is_deployed_once_for_the_parts_that_need_one_and_is_whole_before_each(play):
    play.runs = [ran()]
    play.bench.ready()
    play.bench.ready()
    assert play.did == ["up fresh", "deploy", "status", "status"] and play.bench.first == 400.0


def test_a_site_that_is_not_whole_is_not_measured(play, monkeypatch):
    monkeypatch.setattr(parts, "SETTLE", 0)
    play.runs, play.whole = [ran()], False
    with pytest.raises(LabError, match="the site is whole: not within 0 s"):
        play.bench.ready()
    # It may be whole again for the next part.
    play.whole = True
    play.bench.ready()


def test_a_lab_that_is_used_again_is_not_deployed_and_has_no_first_run(play):
    play.options.reuse = True
    play.bench.ready()
    assert play.did == ["up", "status"]
    for part in (parts.deploy, parts.second):
        with pytest.raises(LabError, match="leave out --reuse"):
            part(play.bench, play.record)
    play.here = None
    with pytest.raises(LabError, match="the lab has no site"):
        parts.Bench(play.lab, play.options).ready()


def test_a_second_run_is_held_to_no_change(play):
    play.bench.first = 400.0
    play.runs = [ran(30.0), ran(31.0)]
    parts.second(play.bench, play.record)
    assert play.record.samples == {"first": [400.0], "seconds": [30.0, 31.0]}
    play.runs = [ran(changed=["a step"])]
    with pytest.raises(LabError, match="not quiet: .*a step"):
        parts.second(play.bench, play.record)


# --- Highstates -----------------------------------------------------------------------------------------------------------------------------------


def test_a_highstate_and_a_ping_are_measured_in_turns_on_each_node(play):
    play.here = "demo2"
    parts.highstate(play.bench, play.record)
    turn = ["test.ping", "state.apply"]
    assert play.did == [f"{host} {what}" for host in ("demo2", "demo1") for what in ["state.apply", *turn, *turn]]  # fmt: skip
    assert {name: len(values) for name, values in play.record.samples.items()} == {"ping_active": 2, "highstate_active": 2, "ping_standby": 2, "highstate_standby": 2}  # fmt: skip


@pytest.mark.parametrize(
    "said, why",
    [
        ("Minion did not return", "demo1: Minion did not return"),
        ({"b": {"result": True, "changes": {"x": 1}, "comment": "changed"}}, "demo1 was no no-op: b: changed"),
        ({"b": {"result": False, "changes": {}, "comment": "failed"}}, "demo1 was no no-op: b: failed"),
    ],
)  # fmt: skip
def test_a_highstate_that_is_no_no_op_is_no_measurement(play, said, why):
    play.states["demo1"] = said
    for part in (parts.highstate, parts.processes):
        with pytest.raises(LabError, match=why):
            part(play.bench, play.record)
    assert play.record.samples == {}


def test_processes_are_those_of_one_highstate_and_of_the_deployment(play):
    play.bench.started = {"demo1": collections.Counter(om=30, drbdadm=20), "demo2": collections.Counter(om=5)}  # fmt: skip
    parts.processes(play.bench, play.record)
    assert play.record.samples == {"highstate_active": [2, 2], "deploy_active": [50], "highstate_standby": [2, 2], "deploy_standby": [5]}  # fmt: skip
    assert play.record.facts["highstate_active"] == {"om": 1, "drbdsetup": 1}
    assert play.record.facts["deploy_standby"] == {"om": 5}
    assert results.checked(play.record.results())


def test_a_counter_that_counts_nothing_is_noticed(play, monkeypatch):
    monkeypatch.setattr(parts.control, "salt", lambda *_: None)
    with pytest.raises(LabError, match="the counter on demo1 counts nothing"):
        parts.processes(play.bench, play.record)


def test_ansible_and_salt_converge_both_hosts_in_turns(play, monkeypatch):
    @contextlib.contextmanager
    def prepared(lab):
        def converge():
            play.did.append("ansible")
            return 100.0, "\nTASK [a] ***\nok: [demo1]\nok: [demo2]\n"

        yield converge

    monkeypatch.setattr(parts.playbook, "prepared", prepared)
    parts.ansible(play.bench, play.record)
    assert play.did == ["* state.apply", "ansible"] * 3
    assert play.record.samples["ansible"] == [100.0, 100.0] and len(play.record.samples["salt"]) == 2  # fmt: skip
    assert play.record.facts == {"version": parts.playbook.version(), "tasks": 1, "calls": 2}


# --- DRBD's first copy ----------------------------------------------------------------------------------------------------------------------------

DONE = {"seconds": 30.0, "done": True, "kib": 1000, "left": 0}


def test_the_two_files_of_the_resource_differ_in_the_resync_only():
    texts = {name: CONF.resources(text)[parts.NAME] for name, text in parts.resources().items()}
    more = set(texts["tuned"]) - set(texts["default"])
    assert more == {"disk:c-plan-ahead", "disk:resync-rate", "disk:c-min-rate"} and texts["tuned"]["disk:resync-rate"] == "100M"  # fmt: skip
    assert {key: texts["tuned"][key] for key in texts["default"]} == texts["default"]
    # Neither the site's resource nor that of the lab's tests.
    assert texts["default"]["on demo1:device"] == "minor 8" and ":7301" in texts["default"]["on demo2:address"]  # fmt: skip


def test_each_copy_has_new_disks_on_both_hosts_and_nothing_is_left(play):
    play.copies = [{**DONE, "seconds": 0.1}, DONE, {**DONE, "seconds": 120.0, "done": False, "left": 900}] * 2  # fmt: skip
    parts.sync(play.bench, play.record)
    assert play.record.samples == {"skipped": [0.1] * 2, "tuned": [30.0] * 2, "default": [pytest.approx(1200.0)] * 2}  # fmt: skip
    assert play.record.facts == {"mib": 1024, "share": [0.1, 0.1]}
    assert play.did[:3] == [
        "python3 - sync 8 1800 drbdadm -- --clear-bitmap new-current-uuid bench/0",
        "python3 - sync 8 1800 drbdadm primary --force bench",
        "python3 - sync 8 120 drbdadm primary --force bench",
    ]
    kinds = ["clear" if script == parts.CLEAR else "new" if "create-md" in script else "" for _, script, _ in play.scripts]  # fmt: skip
    wanted = ["clear", "clear", "new", "new"] * 6 + ["clear", "clear"]
    assert [kind for kind in kinds if kind] == wanted
    given = [text for _, script, text in play.scripts if "create-md" in script]
    texts = parts.resources()
    assert given == [texts[name] for name in ("tuned", "tuned", "tuned", "tuned", "default", "default")] * 2  # fmt: skip


def test_the_disk_is_as_large_as_there_is_room(play, monkeypatch):
    play.options.sync_mib, play.options.repetitions = 5000, 1
    play.copies = [DONE] * 3
    parts.sync(play.bench, play.record)
    assert play.record.facts["mib"] == 1700
    assert any("truncate -s 1700M" in script for _, script, _ in play.scripts)
    monkeypatch.setattr(parts, "SPARE", 1950)
    with pytest.raises(LabError, match="2000 MiB are free on a host: not enough"):
        parts.sync(play.bench, play.record)


def test_a_copy_that_fails_leaves_nothing_behind(play):
    play.copies = [{**DONE, "done": False, "left": 500}]
    with pytest.raises(LabError, match="skipped: not in sync after 1800 s"):
        parts.sync(play.bench, play.record)
    assert [(host, script) for host, script, _ in play.scripts[-2:]] == [(host, parts.CLEAR) for host in HOSTS]  # fmt: skip


def test_what_was_not_waited_for_goes_on_as_fast_as_what_was():
    assert parts.taken(DONE) == (30.0, 1)
    assert parts.taken({**DONE, "done": False, "left": 750}) == (120.0, 0.25)
    with pytest.raises(LabError, match="nothing was copied in 30 s"):
        parts.taken({**DONE, "done": False, "left": 1000})


@pytest.mark.parametrize("script", [parts.CLEAR, parts.NEW % 1024, *parts.BEGIN.values()])
def test_a_script_of_the_hosts_is_one_for_the_shell(script):
    assert subprocess.run(["sh", "-n"], input=script, text=True).returncode == 0


# --- Moves ----------------------------------------------------------------------------------------------------------------------------------------


def test_moves_go_there_and_back_both_ways_and_who_begins_alternates(play):
    parts.move(play.bench, play.record)
    moves = [what for what in play.did if what.startswith(("ours", "bare"))]
    ours, bare = (["ours demo2", "ours demo1"], ["bare demo2", "bare demo1"])
    assert moves == ours + bare + bare + ours
    # The site is whole before each move, and each is held to the same end.
    assert play.did.count("status") == 8 == sum("opensvc.check" in what for what in play.did)
    assert play.record.samples["bare"] == [20, 20] and play.record.samples["bare_to_demo2"] == [10, 10]  # fmt: skip
    assert len(play.record.samples["ours"]) == 2


def test_a_move_that_is_not_there_is_no_measurement(play, monkeypatch):
    monkeypatch.setattr(parts.site, "move", lambda lab, target: None)
    with pytest.raises(LabError, match="the move to demo2 is not done"):
        parts.move(play.bench, play.record)
    assert play.record.samples == {}


# --- The agent ------------------------------------------------------------------------------------------------------------------------------------


def test_the_agent_is_named_without_its_place(play, monkeypatch):
    assert play.bench.agent() == "the stand-in, a test double of OpenSVC 2.1"
    monkeypatch.setattr(parts.agent, "chosen", lambda path: ("tree", "/somewhere"))
    answer = {"demo1": {"version": "2.1-1890"}}
    monkeypatch.setattr(parts.control, "salt_json", lambda *_: answer)
    assert play.bench.agent() == "OpenSVC's own, 2.1-1890"

    def silent(*_):
        raise LabError("salt: nothing")

    monkeypatch.setattr(parts.control, "salt_json", silent)
    assert play.bench.agent() == "OpenSVC's own"


def test_every_part_is_on_the_page_and_says_what_it_does():
    from bench import report

    assert set(parts.PARTS) | {"rollout"} == set(report.HOW)
    for whole, function in parts.PARTS.values():
        assert isinstance(whole, bool) and function.__doc__
    # What is measured of a deployment is measured before anything that wants a site.
    order = list(parts.PARTS)
    assert order.index("deploy") < min(order.index(name) for name, (whole, _) in parts.PARTS.items() if whole)  # fmt: skip
