"""The teardown's orchestration under Salt's own loader of a master; only the minions are played, and what is told them takes effect."""

import copy

import pytest
import salt.client
import salt.loader
import salt.runner
import salt.utils.event
from unit.slapos_ha.test_teardown import EVERYTHING
from unit.slapos_ha.world import World, lock_util

from .test_runner import Minions, master_opts, orchestrate

CONCERN = {"stopped": "mounts"}
NODES = ["demo1", "demo2"]


class Nodes(Minions):
    """What a state of slapos_ha.removed is told to remove is gone then, on the nodes that were told."""

    def __init__(self, facts):
        super().__init__(facts)
        self.left = {node: copy.deepcopy(EVERYTHING) for node in NODES}
        self.broken = {}

    def cmd(self, target, function, **kwargs):
        if function == "slapos_node.remains":
            return {name: {"ret": self.remains(name)} for name in target}
        if function == "state.sls":
            self.done.append((target, *kwargs["arg"], (kwargs["kwarg"].get("pillar"))))
            self.meanwhile()
            return {
                name: {"ret": self.removed(name, kwargs["arg"][0].split(".")[-1])}
                for name in target
            }
        return super().cmd(target, function, **kwargs)

    def remains(self, name):
        return {
            "node": name, "items": copy.deepcopy(self.left[name]), "problems": [], "sees": NODES,
        }  # fmt: skip

    def removed(self, name, sls):
        concern = CONCERN.get(sls, sls)
        if sls in self.broken:
            state = {"result": False, "comment": self.broken[sls], "changes": {}}
        else:
            gone = [
                one for one in self.left[name] if one["concern"] == concern and not one["stays"]
            ]
            self.left[name] = [one for one in self.left[name] if one not in gone]
            changes = {one["what"]: {"old": "there", "new": None} for one in gone}
            state = {"result": True, "comment": "Removed", "changes": changes}
        return {
            f"slapos_node_|-{sls}_|-{sls}_|-removed": {**state, "__id__": sls, "__run_num__": 0}
        }


@pytest.fixture(scope="module")
def opts(tmp_path_factory):
    opts = master_opts(tmp_path_factory.mktemp("master"))
    salt.loader.runner(opts, utils=salt.loader.utils(opts))["saltutil.sync_all"]()
    return opts


@pytest.fixture
def nodes(defaults, example, monkeypatch):
    nodes = Nodes(World(defaults, example).cluster().service().drbd("UpToDate").on("demo1").facts)
    monkeypatch.setattr(salt.client, "get_local_client", lambda *_, **__: nodes)
    monkeypatch.setattr(salt.utils.event.SaltEvent, "fire_event", lambda *_, **__: True)
    return nodes


@pytest.fixture
def teardown(opts, nodes):
    with salt.runner.RunnerClient(opts) as client:
        yield lambda **given: orchestrate(client.functions, "orch.teardown", **given)


def pillar(**given):
    return {"pillar": {"slapos_ha": given}}


def test_all_goes_in_order_under_the_sites_lock(opts, nodes, teardown):
    seen = []
    nodes.meanwhile = lambda: seen.extend(lock_util.holders(opts))
    states = teardown(**pillar(destroy_data="comp1"))
    assert [state["result"] for state in states] == [True] * 10, states
    word = {"slapos_ha_destroy_data": "comp1"}
    assert nodes.done == [
        (["demo1"], "slapos_ha.removed.stopped", None),
        (["demo2"], "slapos_ha.removed.stopped", None),
        (["demo1"], "slapos_ha.removed.service", None),
        (["demo2"], "slapos_ha.removed.service", None),
        (NODES, "slapos_ha.removed.drbd", word),
        (NODES, "slapos_ha.removed.data", word),
        (NODES, "slapos_ha.removed.units", word),
        (NODES, "slapos_ha.removed.software", word),
        (NODES, "slapos_ha.removed.users", word),
        (["demo2"], "slapos_ha.removed.cluster", None),
        (["demo1"], "slapos_ha.removed.cluster", None),
    ]
    assert {owner["run"] for owner in seen} == {"orch.teardown"}
    assert [owner["step"] for owner in seen][-1] == "cluster" and lock_util.holders(opts) == []
    data = next(state for state in states if state["__id__"] == "The data is gone from both nodes")
    assert set(data["changes"]) == set(NODES)
    assert "nothing of site paris is left on demo1 and demo2" in states[-1]["comment"]
    nodes.done.clear()
    again = teardown(**pillar(destroy_data="comp1"))
    assert [state["comment"] for state in again[1:-1]] == ["already so"] * 8
    assert all(state["result"] and not state["changes"] for state in again) and nodes.done == []
    assert "nothing of site paris is left" in again[0]["comment"]


def test_test_mode_names_what_would_go(nodes, teardown):
    first, *others = teardown(test=True, **pillar(destroy_data="comp1"))
    assert first["result"] is True and "its data INCLUDED" in first["comment"]
    assert [state["result"] for state in others] == [None] * 9 and nodes.done == []
    assert (
        "would see to it that SlapOS's users are gone (demo1: user slapuser1, slapuser0"
        in others[6]["comment"]
    )


def test_another_name_stops_it_before_anything(opts, nodes, teardown):
    first, *others = teardown(**pillar(destroy_data="comp2"))
    assert first["result"] is False
    assert "'comp2' is not the name of this site's service, 'comp1'" in first["comment"]
    assert {state["result"] for state in others} == {False} and nodes.done == []
    assert lock_util.holders(opts) == []


def test_a_failure_ends_it_and_a_second_run_goes_on(opts, nodes, teardown):
    nodes.broken["drbd"] = "comp1 is held open by mount"
    states = teardown(**pillar(destroy_data="comp1"))
    assert [state["result"] for state in states] == [True] * 3 + [False] * 7
    assert "demo1: drbd: comp1 is held open by mount" in states[3]["comment"]
    assert "run the orchestration again" in states[3]["comment"]
    assert lock_util.holders(opts) == []
    nodes.broken.clear()
    nodes.done.clear()
    again = teardown(**pillar(destroy_data="comp1"))
    assert all(state["result"] for state in again)
    assert nodes.done[0] == (NODES, "slapos_ha.removed.drbd", {"slapos_ha_destroy_data": "comp1"})


def test_without_the_name_the_data_is_no_step(nodes, teardown):
    for node in NODES:
        for one in nodes.left[node]:
            if one["concern"] == "data":
                one["stays"] = "kept: destroy_data is not 'comp1'"
    states = teardown()
    assert all(state["result"] for state in states)
    assert "slapos_ha.removed.data" not in [sls for _, sls, _ in nodes.done]
    assert [s["comment"] for s in states if s["__id__"] == "The data is kept on both nodes"] == [
        "already so"
    ]
    assert "is kept in /opt/comp1.slapos.svc.paris.img" in states[-1]["comment"]


def test_a_deployment_at_work_is_not_disturbed(opts, nodes, teardown):
    lock = lock_util.take(opts, "paris", {"user": "bob", "run": "orch.deploy"}, 3600)
    try:
        first, *others = teardown()
        assert first["result"] is False and "in use: orch.deploy of bob" in first["comment"]
        assert nodes.done == []
    finally:
        lock.release()


def test_what_is_left_at_the_end_is_a_failure(nodes, teardown):
    nodes.removed = lambda name, sls: Nodes.removed(nodes, name, sls) if sls != "users" else {}
    states = teardown(**pillar(destroy_data="comp1"))
    assert states[-1]["result"] is False
    assert "still there:\ndemo1: user slapuser1, slapuser0" in states[-1]["comment"]


def test_a_node_that_is_down_stops_it(nodes, teardown):
    del nodes.facts["demo2"]
    first, *others = teardown()
    assert first["result"] is False and "minion 'demo2' does not answer" in first["comment"]
    assert nodes.done == []
