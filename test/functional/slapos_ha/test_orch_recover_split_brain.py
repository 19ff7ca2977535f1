"""The recovery's orchestration under Salt's own loader of a master; only the minions are played, and what is told them takes effect."""

import pytest
import salt.client
import salt.loader
import salt.runner
import salt.utils.event
from unit.slapos_ha.parted import COPY, Parted
from unit.slapos_ha.world import TASKS, World, lock_util

from .test_runner import master_opts, orchestrate

VICTIM = {"victim": "demo2"}


@pytest.fixture(scope="module")
def opts(tmp_path_factory):
    opts = master_opts(tmp_path_factory.mktemp("master"))
    salt.loader.runner(opts, utils=salt.loader.utils(opts))["saltutil.sync_all"]()
    return opts


class Nodes(Parted):
    """Calls ``meanwhile`` at whatever is told the nodes."""

    def meanwhile(self):
        pass

    def cmd(self, target, function, **kwargs):
        before = len(self.done)
        answer = super().cmd(target, function, **kwargs)
        if len(self.done) > before:
            self.meanwhile()
        return answer


@pytest.fixture
def nodes(defaults, example, monkeypatch):
    world = World(defaults, example).cluster().service().drbd("UpToDate").on("demo1")
    nodes = Nodes(world.enabled("app#0", "app#1", *TASKS))
    monkeypatch.setattr(salt.client, "get_local_client", lambda *_, **__: nodes)
    monkeypatch.setattr(salt.utils.event.SaltEvent, "fire_event", lambda *_, **__: True)
    return nodes


@pytest.fixture
def runners(opts, nodes):
    with salt.runner.RunnerClient(opts) as client:
        yield client.functions


@pytest.fixture
def recover(runners):
    def run(test=False, **given):
        pillar = {"pillar": {"slapos_ha": given}} if given else {}
        return orchestrate(runners, "orch.recover_split_brain", test=test, **pillar)

    return run


def test_status_has_exit_code_1_and_the_remedy(runners, nodes):
    data = runners["slapos_ha.status"]()["data"]
    assert data["retcode"] == 1
    said = " ".join(data["paris"].split())
    assert "- split brain: both were written to after they parted" in said
    assert "salt-run state.orch orch.recover_split_brain" in said and nodes.done == []
    nodes.resolved()
    assert "All is well." in runners["slapos_ha.status"]()["data"]["paris"]


def test_without_a_victim_there_is_one_step_that_shows_both_sides(opts, nodes, recover):
    (only,) = recover()
    assert only["result"] is True and only["changes"] == {} and nodes.done == []
    assert "2820CDFF103B1749" in only["comment"] and "1036D694B8247862" in only["comment"]
    assert "Choose the victim" in only["comment"]
    # Who only looks is not in the way of anybody, and nobody in his.
    lock = lock_util.take(opts, "paris", {"user": "bob", "run": "orch.deploy"}, 3600)
    try:
        (only,) = recover()
        assert only["result"] is True and "in use: orch.deploy of bob" in only["comment"]
    finally:
        lock.release()


def test_the_victims_writes_go_under_the_sites_lock(opts, nodes, recover):
    seen = []
    nodes.meanwhile = lambda: seen.extend(lock_util.holders(opts))
    states = recover(**VICTIM)
    assert [state["result"] for state in states] == [True] * 7, states
    assert {owner["run"] for owner in seen} == {"orch.recover_split_brain"}
    assert lock_util.holders(opts) == []
    by_title = {state["__id__"]: state for state in states}
    assert by_title["The victim does not use the resource"]["comment"] == "already so"
    kept = by_title["A copy of the data of the victim is kept"]
    assert kept["changes"] == {"demo2": {"copy": {"old": None, "new": COPY}}}
    gone = by_title["The writes of the victim are discarded"]
    assert gone["changes"]["demo2"]["data"] == {
        "old": "generation 1036D694B8247862, 1024 KiB of its own",
        "new": "those of demo1",
    }
    assert "discarded on demo2" in states[-1]["comment"] and COPY in states[-1]["comment"]
    nodes.done.clear()
    again = recover(**VICTIM)
    assert "there is no split brain, and nothing to do" in again[0]["comment"]
    assert [state["comment"] for state in again[1:]] == ["already so"] * 6
    assert all(state["result"] and not state["changes"] for state in again) and nodes.done == []
    (only,) = recover()
    assert "there is no split brain" in only["comment"] and lock_util.holders(opts) == []


def test_test_mode_names_what_would_be_done(nodes, recover):
    first, *others = recover(test=True, **VICTIM)
    assert first["result"] is True and f"kept as file {COPY}" in first["comment"]
    assert [state["result"] for state in others] == [True, None, None, None, None, None]
    assert nodes.done == []


def test_a_closed_gate_stops_it_before_anything(opts, nodes, recover):
    nodes.facts["demo1"]["mounted"], nodes.facts["demo2"]["mounted"] = False, True
    first, *others = recover(**VICTIM)
    assert first["result"] is False
    assert "service: the service is up on demo2 and not on demo1" in first["comment"]
    assert "Nothing was changed." in first["comment"]
    assert {state["result"] for state in others} == {False} and nodes.done == []
    assert lock_util.holders(opts) == []
    assert recover(force=["service"], **VICTIM)[0]["result"] is True


def test_without_a_copy_only_by_that_word(nodes, recover):
    states = recover(snapshot=False, **VICTIM)
    titles = [state["__id__"] for state in states]
    assert "No copy of the data of the victim is wanted" in titles
    assert all(state["result"] for state in states)
    assert "NOT KEPT (snapshot: false)" in states[0]["comment"]
    assert "NO COPY of it was made" in states[-1]["comment"] and nodes.copies == []


def test_a_failure_ends_it_and_a_second_run_goes_on(opts, nodes, recover):
    nodes.refused["demo2", "drbd.connect"] = "DRBD: connect of x failed: no network"
    states = recover(**VICTIM)
    assert [state["result"] for state in states] == [True] * 3 + [False] * 4
    assert "demo2: DRBD: connect of x failed: no network" in states[3]["comment"]
    assert lock_util.holders(opts) == []
    nodes.refused.clear()
    again = recover(**VICTIM)
    assert all(state["result"] for state in again), again
    assert nodes.copies == [COPY] and COPY in again[-1]["comment"]


def test_a_node_that_is_down_stops_it(nodes, recover):
    del nodes.facts["demo2"]
    first, *others = recover(**VICTIM)
    assert first["result"] is False and "minion 'demo2' does not answer" in first["comment"]
    assert nodes.done == []
