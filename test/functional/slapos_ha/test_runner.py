"""The runner under Salt's own loader, synced to a master as `salt-run saltutil.sync_all` does it; only the minions are played."""

import copy
import gc
import re
import time

import pytest
import salt.client
import salt.config
import salt.loader
import salt.runner
import salt.utils.event
from support import ROOT
from unit.slapos_ha.world import STEPS, TASKS, World, lock_util


def master_opts(folder):
    """The options of a master that has this checkout as its file_roots and keeps what it writes below ``folder``."""
    opts = salt.config.DEFAULT_MASTER_OPTS.copy()
    opts.update(
        id="master_master",
        root_dir=str(folder),
        conf_file=str(folder / "master"),
        cachedir=str(folder / "cache"),
        pki_dir=str(folder / "pki"),
        sock_dir=str(folder / "run"),
        extension_modules=str(folder / "extmods"),
        log_file=str(folder / "master.log"),
        file_roots={"base": [str(ROOT), str(folder / "srv")]},
        file_ignore_glob=[".git/*", "test/*"],
        fileserver_list_cache_time=0,
        __role="master",
    )
    for name in ("cache/proc", "pki/minions", "run", "srv"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for minion in ("demo1", "demo2"):
        (folder / "pki/minions" / minion).write_text("a key")
    (folder / "master").write_text("")
    (folder / "srv/half.sls").write_text(
        "The two nodes can become a site:\n  slapos_ha.step:\n    - step: preflight\n"
    )
    return opts


@pytest.fixture(scope="module")
def opts(tmp_path_factory):
    opts = master_opts(tmp_path_factory.mktemp("master"))
    salt.loader.runner(opts, utils=salt.loader.utils(opts))["saltutil.sync_all"]()
    return opts


class Minions:
    """Answers as LocalClient does for minions that give these facts; what is asked for other things is noted, and ``meanwhile`` is called."""

    def __init__(self, facts):
        self.facts, self.done, self.answer = facts, [], {}
        self.meanwhile = lambda: None

    def cmd(self, target, function, **kwargs):
        if function == "slapos_ha.facts":
            return {name: {"ret": copy.deepcopy(facts)} for name, facts in self.facts.items()}
        self.done.append((target, function, *kwargs["arg"]))
        self.meanwhile()
        return {name: {"ret": self.answer} for name in target}


@pytest.fixture
def world(defaults, example):
    return World(defaults, example).deployed()


@pytest.fixture
def minions(world, monkeypatch):
    minions = Minions(world.facts)
    monkeypatch.setattr(salt.client, "get_local_client", lambda *_, **__: minions)
    # There is no master with a bus, and each event would look for it for a second.
    monkeypatch.setattr(salt.utils.event.SaltEvent, "fire_event", lambda *_, **__: True)
    return minions


@pytest.fixture
def runners(opts, minions):
    with salt.runner.RunnerClient(opts) as client:
        yield client.functions


def test_preflight_plan_and_status_of_a_healthy_site(runners):
    answer = runners["slapos_ha.step"]("preflight")
    assert answer["result"] is True, answer["comment"]
    assert "site paris: demo1 (preferred) and demo2" in answer["comment"]
    assert {entry["step"] for entry in answer["plan"] if not entry["done"]} == {
        "software",
        "verify",
    }
    plan = runners["slapos_ha.plan"]()["data"]
    assert "retcode" not in plan and "Plan of site paris (demo1, demo2)" in plan["paris"]
    status = runners["slapos_ha.status"]()["data"]
    assert "retcode" not in status and "All is well." in status["paris"]


def test_what_is_not_verified_is_named_in_every_report(runners, world):
    sentence = "slapos_ha:cluster:agent:sha256: missing, so whatever https://x.test/a.deb gives"
    for facts in world.facts.values():
        facts["unverified"] = [sentence]
    world.facts["demo2"]["unverified"].append("/etc/apt/sources.list: line 1 …")
    said = [
        runners["slapos_ha.step"]("preflight")["comment"],
        runners["slapos_ha.plan"]()["data"]["paris"],
        runners["slapos_ha.status"]()["data"]["paris"],
    ]
    for text in map(" ".join, map(str.split, said)):
        assert f"NOT VERIFIED on demo1 and demo2: {sentence}" in text
        assert "NOT VERIFIED on demo2: /etc/apt/sources.list: line 1" in text


def test_a_step_talks_to_the_minions(runners, minions):
    shape = runners["slapos_ha.step"]("preflight")["shape"]
    answer = runners["slapos_ha.step"]("sync", shape=shape)
    assert answer["result"] is True, answer["comment"]
    assert minions.done == [(["demo1"], "state.sls", "slapos_ha.sync")]


# Each raised in a util, which another loader has loaded than the runner that has to catch it.
def test_what_stops_in_a_util_is_an_answer_of_the_runner(runners, world):
    world.facts["demo2"]["problems"] = ["slapos_ha:drbd:port: 80 is not right"]
    answer = runners["slapos_ha.step"]("preflight")
    assert answer["result"] is False
    assert answer["comment"] == "demo2: slapos_ha:drbd:port: 80 is not right\nNothing was changed."
    for function in ("plan", "status"):
        data = runners[f"slapos_ha.{function}"]()["data"]
        assert data["retcode"] == 1 and data["problems"] == answer["comment"]


def test_a_red_gate_is_an_answer_of_the_runner(runners, world, minions):
    shape = runners["slapos_ha.step"]("preflight")["shape"]
    world.facts["demo2"]["cluster"]["nodes"]["demo2"]["frozen"] = True
    answer = runners["slapos_ha.step"]("re6st_switch", shape=shape)
    assert answer["result"] is False
    assert [function for _, function, *_ in minions.done] == ["ps.pgrep"]
    assert "the service is not moved to demo2:" in answer["comment"]
    assert "node demo2 is frozen" in answer["comment"]
    assert "run the orchestration again" in answer["comment"]
    assert "frozen cannot be forced: the agent moves nothing that is frozen" in answer["comment"]


# --- The orchestration, and who has the site -----------------------------------------------------------------------------------------------

SOFTWARE = (["demo1", "demo2"], "state.sls", "slapos_ha.software")
REFRESHED = (["demo1", "demo2"], "opensvc.refresh", "slapos/svc/comp1")
HEALTHY = (["demo1"], "state.single", "opensvc.healthy")


def orchestrate(runners, sls="orch.deploy", **kwargs):
    """Run an orchestration as `salt-run state.orch` does; returns its states in their order."""
    said = runners["state.orch"](sls, **kwargs)
    states = said["data"]["master_master"]
    assert isinstance(states, dict), states
    return sorted(states.values(), key=lambda state: state["__run_num__"])


@pytest.fixture
def bob(opts):
    """Somebody else who is at work on the site."""
    lock = lock_util.take(opts, "paris", {"user": "bob", "jid": "7", "run": "orch.deploy"}, 3600)
    lock.renew("sync")
    yield lock
    lock.release()


def test_an_orchestration_has_the_site_as_long_as_it_works(opts, runners, minions, world):
    seen = []
    # Not well yet: the last step waits for it.
    world.object["overall"] = "warn"
    minions.meanwhile = lambda: seen.extend(lock_util.holders(opts))
    states = orchestrate(runners)
    assert {s["__id__"]: s["comment"] for s in states if not s["result"]} == {}, states
    assert minions.done == [SOFTWARE, REFRESHED, HEALTHY]
    assert [owner["step"] for owner in seen] == ["software", "verify", "verify"]
    assert {owner["run"] for owner in seen} == {"orch.deploy"}
    assert all(owner["user"] and owner["jid"] and owner["host"] for owner in seen)
    assert lock_util.holders(opts) == []


def test_a_second_orchestration_is_refused(opts, runners, minions, bob):
    first, *others = orchestrate(runners)
    assert first["result"] is False
    assert "site paris is in use: orch.deploy of bob on " in first["comment"]
    assert re.search(r"now at step sync \(\d+ s ago\)", first["comment"])
    assert '"site": "paris", "steal": true' in first["comment"]
    assert {state["result"] for state in others} == {False} and minions.done == []
    assert [owner["id"] for owner in lock_util.holders(opts)] == [bob.id]


def test_another_site_is_not_in_the_way(opts, runners):
    lyon = lock_util.take(opts, "lyon", {"user": "bob", "run": "orch.deploy"}, 3600)
    assert all(state["result"] for state in orchestrate(runners))
    lyon.release()


def test_test_mode_takes_no_lock_and_says_who_has_it(opts, runners, minions, bob):
    first, *others = orchestrate(runners, test=True)
    assert first["result"] is True and "in use: orch.deploy of bob" in first["comment"]
    assert {state["result"] for state in others} == {True, None} and minions.done == []
    assert [owner["id"] for owner in lock_util.holders(opts)] == [bob.id]


def test_plan_and_status_say_who_is_at_work(runners, bob, world):
    for function in ("plan", "status"):
        data = runners[f"slapos_ha.{function}"]()["data"]
        assert "retcode" not in data and "site paris is in use" in data["paris"]
    # Half of what another run does looks like obstacles.
    world.facts["demo2"]["problems"] = ["slapos_ha:storage:path: it may hold data"]
    assert "site paris is in use" in runners["slapos_ha.plan"]()["data"]["problems"]
    assert "site paris is in use" in runners["slapos_ha.step"]("preflight")["comment"]


def test_a_step_by_itself_has_to_get_the_site_too(opts, runners, minions, bob):
    answer = runners["slapos_ha.step"]("sync")
    assert answer["result"] is False and "in use: orch.deploy of bob" in answer["comment"]
    assert minions.done == []
    bob.release()
    minions.meanwhile = lambda: minions.done.append(lock_util.holders(opts)[0]["run"])
    assert runners["slapos_ha.step"]("sync")["result"] is True
    assert minions.done[-1] == "one step of orch.deploy" and lock_util.holders(opts) == []


def test_stealing_says_whose_it_was_and_the_other_stops(runners, bob):
    first, *others = orchestrate(runners, pillar={"slapos_ha": {"steal": True}})
    assert all(state["result"] for state in (first, *others)), first
    assert "took the lock over from orch.deploy of bob" in first["comment"]
    with pytest.raises(lock_util.CommandExecutionError, match="lost the lock of site paris"):
        bob.renew("provision")


def test_an_orchestration_that_is_taken_over_stops_at_its_next_step(opts, runners, minions):
    thief = []
    owner = {"user": "bob", "run": "orch.deploy"}
    minions.meanwhile = lambda: thief or thief.append(
        lock_util.take(opts, "paris", owner, 3600, steal=True)
    )
    states = orchestrate(runners)
    after = STEPS.index("software") + 2
    assert [state["result"] for state in states] == [True] * after + [False] * (len(states) - after)
    assert "lost the lock of site paris" in states[after]["comment"]
    assert "the step re6st_first is not begun: site paris is in use" in states[after]["comment"]
    assert minions.done == [SOFTWARE]
    assert [owner["id"] for owner in lock_util.holders(opts)] == [thief[0].id]
    thief[0].release()


def test_a_step_that_fails_gives_the_site_back(opts, runners, minions):
    minions.answer = {"file_|-a_|-a_|-managed": {"result": False, "comment": "no room"}}
    states = orchestrate(runners)
    assert [s["__id__"] for s in states if "no room" in s["comment"]] == [
        "What is local is installed and configured on both nodes"
    ]
    assert lock_util.holders(opts) == []


def test_a_run_that_ends_in_the_middle_gives_the_site_back_though_its_process_lives(opts, runners):
    assert [state["result"] for state in orchestrate(runners, "half")] == [True]
    # Salt's own threads may hold what belonged to the run for a moment longer.
    deadline = time.monotonic() + 30
    while lock_util.holders(opts) and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.1)
    assert lock_util.holders(opts) == []


def half_deployed(world):
    """Such that the step re6st_switch is to do."""
    for instance in world.object["instances"].values():
        for rid in ("app#0", "app#1", *TASKS):
            instance["resources"][rid]["disable"] = True
    world.facts["demo2"]["agent"] = {"major": 2, "version": "2.1-1880"}


def test_a_gate_that_is_forced_by_pillar(runners, world, minions):
    half_deployed(world)
    (first, *_) = orchestrate(runners)
    assert first["result"] is False
    assert "the OpenSVC agent is 2.1-1890 on demo1 and 2.1-1880 on demo2" in first["comment"]
    states = orchestrate(runners, pillar={"slapos_ha": {"force": ["versions"]}})
    (moved,) = (s for s in states if s["__id__"] == "The service is on the second node for re6st")
    assert moved["result"] is True
    for state in (states[0], moved):
        assert "the gate versions is red and was forced: the OpenSVC agent" in state["comment"]
    assert (["demo2"], "state.single", "opensvc.placed") in minions.done


def test_slapos_is_on_the_second_node_before_the_service_is(runners, world, minions):
    half_deployed(world)
    for facts in world.facts.values():
        facts["slapos"] = {"registered": False}
        facts["agent"] = {"major": 2, "version": "2.1-1890"}
    orchestrate(runners)
    slapos = minions.done.index((["demo1", "demo2"], "state.sls", "slapos_ha.slapos.registered"))
    assert minions.done[slapos + 1] == (["demo2"], "state.single", "opensvc.placed")


@pytest.mark.parametrize("force", [["all"], ["drbd_target"], "versions"])
def test_what_cannot_be_forced_stops_the_orchestration_at_once(runners, minions, force):
    first, *others = orchestrate(runners, pillar={"slapos_ha": {"force": force}})
    assert first["result"] is False and first["comment"].startswith("slapos_ha:force: ")
    assert {state["result"] for state in others} == {False} and minions.done == []


def test_the_joining_node_is_not_asked_for_its_key(runners, minions):
    """The second node joins with what the first one seals for the key that the master has of it, as each release of Salt keeps it."""
    answer = runners["slapos_ha.step"]("cluster", shape=minions.facts["demo1"]["shape"])
    assert answer["result"] is True, answer["comment"]
    assert minions.done == [
        (["demo1"], "state.sls", "slapos_ha.cluster"),
        (["demo1"], "opensvc.sealed_join_secret", "a key"),
        (["demo2"], "state.sls", "slapos_ha.cluster"),
    ]
