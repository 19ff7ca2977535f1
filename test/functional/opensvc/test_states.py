"""States of objects through Salt's loader: nothing to do, test mode, done, refused, failed half-way. Each time it is counted what om was told."""

import copy
import re

import pytest

from .opensvc_world import PATH, like

# What each state needs to have something to do: (state, arguments, the world before, after, what om is told, changes)
UP = {"avail": "up", "overall": "up"}
STANDBY = {"avail": "stdby up", "overall": "stdby up"}


def on_demo2(status):
    return like(status, demo1={**STANDBY, "local_expect": None}, demo2=UP)


def moved(status, left=()):
    """Up on demo2, and on demo1 nothing but the standby and what is left."""
    known = status["monitor"]["nodes"]["demo1"]["services"]["status"][PATH]["resources"]
    down = {rid for rid, one in known.items() if one["status"] == "up"} - {*left}
    resources = {f"demo1 {rid}": {"status": "down"} for rid in down}
    return like(on_demo2(status), demo1={"avail": "warn"} if left else {}, resource=resources)


def down(status):
    return like(status, demo1=STANDBY, object={"avail": "down", "overall": "down"})


def frozen(status):
    both = {"frozen": 1795427886.0}
    return like(status, demo1=both, demo2=both, object={"frozen": "frozen"})


def unprovisioned(status):
    no = {"state": False}
    return like(
        status,
        demo1={"provisioned": "mixed"},
        object={"provisioned": "mixed"},
        resource={"demo1 disk#0": {"provisioned": no}, "demo1 disk#1": {"provisioned": no}},
    )


def off(rid):
    return lambda status: like(
        status, resource={f"demo1 {rid}": {"status": "down"}, f"demo2 {rid}": {"status": "down"}}
    )


SAME = lambda status: status  # noqa: E731 a name for a column of the table

GOALS = {
    "placed": (
        {"node": "demo2"},
        SAME,
        on_demo2,
        [PATH, "switch", "--to", "demo2"],
        {"node": {"old": "demo1", "new": "demo2"}},
    ),
    "started": ({}, down, SAME, [PATH, "start"], {"avail": {"old": "down", "new": "up"}}),
    "stopped": ({}, SAME, down, [PATH, "stop"], {"avail": {"old": "up", "new": "down"}}),
    "provisioned": (
        {},
        unprovisioned,
        SAME,
        [PATH, "provision"],
        {"provisioned": {"old": "mixed", "new": True}},
    ),
    "provisioned some": (
        {"rids": ["disk#0", "disk#1"], "local": True},
        unprovisioned,
        SAME,
        [PATH, "provision", "--local", "--rid", "disk#0,disk#1"],
        {
            "provisioned": {
                "old": {"disk#0": False, "disk#1": False},
                "new": {"disk#0": True, "disk#1": True},
            }
        },
    ),
    "provisioned by others": (
        {"rids": ["disk#0", "disk#1"], "local": True, "state_only": True},
        unprovisioned,
        SAME,
        [PATH, "set", "provisioned", "--local", "--rid", "disk#0,disk#1"],
        {
            "provisioned": {
                "old": {"disk#0": False, "disk#1": False},
                "new": {"disk#0": True, "disk#1": True},
            }
        },
    ),
    "standby": (
        {},
        lambda status: moved(status, ["volume#0"]),
        moved,
        [PATH, "stop", "--local", "--rid", "volume#0"],
        {"up": {"old": ["volume#0"], "new": []}},
    ),
    "frozen": ({}, SAME, frozen, [PATH, "freeze"], {"frozen": {"old": "thawed", "new": "frozen"}}),
    "thawed": ({}, frozen, SAME, [PATH, "thaw"], {"frozen": {"old": "frozen", "new": "thawed"}}),
    "resource_started": (
        {"rids": ["fs#0"]},
        off("fs#0"),
        SAME,
        [PATH, "start", "--local", "--rid", "fs#0"],
        {"status": {"old": {"fs#0": "down"}, "new": {"fs#0": "up"}}},
    ),
}


@pytest.fixture(params=sorted(GOALS))
def goal(request, world):
    kwargs, before, after, told, changes = GOALS[request.param]
    world.told, world.changes = told, changes
    world.before, world.after = before(world.status), after(world.status)
    return request.param.split()[0], kwargs


def test_nothing_to_do(states, world, goal):
    state, kwargs = goal
    world.is_now(world.after)
    ret = states[f"opensvc.{state}"](PATH, **kwargs)
    assert ret.result is True
    assert ret.changes == {}
    assert "already" in ret.comment
    assert world.acts() == []
    assert len(world.calls()) == 2  # the version and one status


def test_test_mode_tells_and_does_nothing(states, world, goal):
    state, kwargs = goal
    world.is_now(world.before)
    ret = states[f"opensvc.{state}"](PATH, test=True, **kwargs)
    assert ret.result is None
    assert ret.changes == world.changes
    assert world.acts() == []


def test_done_and_confirmed(states, world, goal):
    state, kwargs = goal
    world.is_now(world.before)
    world.says(*world.told, then={"status": world.after})
    ret = states[f"opensvc.{state}"](PATH, timeout=30, **kwargs)
    assert ret.result is True, ret.comment
    assert ret.changes == world.changes
    assert world.acts() == [world.told]
    world.forget()
    again = states[f"opensvc.{state}"](PATH, **kwargs)
    assert (again.result, again.changes, world.acts()) == (True, {}, [])


def test_a_command_that_returns_0_is_no_proof(states, world, goal):
    state, kwargs = goal
    world.is_now(world.before)
    world.says(*world.told)
    ret = states[f"opensvc.{state}"](PATH, timeout=0, **kwargs)
    assert ret.result is False
    assert ret.changes == {}
    assert "after 0 s" in ret.comment


HALF = {
    "provisioned some": (
        {"resource": {"demo1 disk#0": {"provisioned": {"state": True}}}},
        {
            "provisioned": {
                "old": {"disk#0": False, "disk#1": False},
                "new": {"disk#0": True, "disk#1": False},
            }
        },
    ),
    "frozen": (
        {"demo1": {"frozen": 1795427886.0}, "object": {"frozen": "mixed"}},
        {"frozen": {"old": "thawed", "new": "mixed"}},
    ),
    "thawed": (
        {"demo1": {"frozen": 0}, "object": {"frozen": "mixed"}},
        {"frozen": {"old": "frozen", "new": "mixed"}},
    ),
    "stopped": (
        {"demo1": {"avail": "warn"}, "object": {"avail": "warn"}},
        {"avail": {"old": "up", "new": "warn"}},
    ),
    "started": (
        {"demo1": {"avail": "warn"}, "object": {"avail": "warn"}},
        {"avail": {"old": "down", "new": "warn"}},
    ),
    "placed": (
        {"demo1": {"avail": "stdby up"}, "object": {"avail": "down"}},
        {"node": {"old": "demo1", "new": None}},
    ),
}


@pytest.mark.parametrize("goal", sorted(HALF), indirect=True)
def test_what_was_done_of_it_is_told(states, world, goal, request):
    """The agent got half of the way, whether it said so with its code or not."""
    state, kwargs = goal
    half, changes = HALF[request.node.callspec.params["goal"]]
    for code in (0, 1):
        world.is_now(world.before)
        world.says(
            *world.told,
            err="E no further\n" if code else "",
            code=code,
            then={"status": like(world.before, **half)},
        )
        ret = states[f"opensvc.{state}"](PATH, timeout=0, **kwargs)
        assert ret.result is False
        assert ret.changes == changes
        assert ("no further" if code else "after 0 s") in ret.comment


def test_a_refusal_of_the_agent_is_told(states, world, goal):
    state, kwargs = goal
    world.is_now(world.before)
    world.says(*world.told, err="E the reason\n", code=1)
    ret = states[f"opensvc.{state}"](PATH, timeout=5, **kwargs)
    assert ret.result is False
    assert ret.changes == {}
    assert "the reason" in ret.comment


@pytest.mark.parametrize("before", [SAME, down], ids=["up here", "up nowhere"])
def test_what_may_be_needed_is_not_stopped_as_left_over(states, world, before):
    world.is_now(before(world.status))
    for test in (True, False):
        ret = states.opensvc.standby(PATH, test=test)
        assert (ret.result, ret.changes, world.acts()) == (False, {}, [])
        assert "it is up on no other node" in ret.comment and "opensvc.started" in ret.comment


def test_a_failure_with_a_part_done_reports_the_part(states, world):
    broken = like(world.status, demo1=STANDBY, object={"avail": "down"})
    world.says(
        PATH, "switch", then={"status": like(broken, demo2={**STANDBY, "state": "start failed"})}
    )
    ret = states.opensvc.placed(PATH, node="demo2", timeout=60)
    assert ret.result is False
    assert "'start failed'" in ret.comment
    assert ret.changes == {"node": {"old": "demo1", "new": None}}


def test_a_switch_is_over_when_all_is_quiet(states, world):
    """om switch --wait came back with 0 while the source was stopping: what the daemon says counts."""
    stopping = like(world.status, demo1={"state": "stopping", "global_expect": "placed@demo2"})
    starting = like(on_demo2(world.status), demo2={"state": "starting"})
    world.says(PATH, "switch", then={"status": [stopping, starting, on_demo2(world.status)]})
    ret = states.opensvc.placed(PATH, node="demo2", timeout=60)
    assert ret.result is True
    assert len(world.calls("daemon", "status")) >= 4


def test_what_is_made_here_does_not_wait_for_what_the_other_node_makes(states, world):
    """It may never be done: a node whose disk is full stays at it."""
    before = like(unprovisioned(world.status), demo2={"state": "provisioning"})
    world.is_now(before)
    after = like(world.status, demo2={"state": "provisioning"})
    world.says(PATH, "provision", then={"status": after})
    kwargs = {"rids": ["disk#0", "disk#1"], "local": True, "timeout": 0}
    assert states.opensvc.provisioned(PATH, **kwargs).result is True
    world.is_now(like(before, demo1={"state": "provisioning"}, demo2={"state": "idle"}))
    ret = states.opensvc.provisioned(PATH, **kwargs)
    assert ret.result is False and "is not settled here after 0 s" in ret.comment


def test_what_is_under_way_is_awaited_before_something_is_asked(states, world):
    stopping = like(
        world.status, demo2={"state": "stopping"}, demo1={"global_expect": "placed@demo1"}
    )
    world.is_now([stopping, stopping, world.status])
    world.says(PATH, "switch", then={"status": on_demo2(world.status)})
    ret = states.opensvc.placed(PATH, node="demo2", timeout=60)
    assert ret.result is True, ret.comment
    assert len(world.acts()) == 1


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"demo2": {"frozen": 1795427886.0}}, "frozen on demo2"),
        ({"demo2": {"avail": "warn"}}, "not a sound standby"),
        ({"demo2": {"provisioned": "mixed"}}, "not provisioned"),
        ({"demo1": {"state": "stop failed"}}, "'stop failed'.*clear: true"),
    ],
)
@pytest.mark.parametrize("test", [True, False])
def test_a_move_that_would_not_end_well_is_not_begun(states, world, change, reason, test):
    world.is_now(like(world.status, **change))
    ret = states.opensvc.placed(PATH, node="demo2", timeout=5, test=test)
    assert ret.result is False
    assert re.search(reason, ret.comment), ret.comment
    assert (ret.changes, world.acts()) == ({}, [])


@pytest.mark.parametrize(
    "drbd, reason",
    [
        ({"peer": "Inconsistent"}, "the disk of demo2 is Inconsistent, not UpToDate"),
        ({"peer": "Outdated"}, "the disk of demo2 is Outdated, not UpToDate"),
        ({"replication": "SyncSource"}, "it is SyncSource with demo2"),
        (None, "demo1 has no such resource"),
    ],
)
@pytest.mark.parametrize("test", [True, False])
def test_a_move_onto_a_disk_that_is_no_copy_is_not_begun(states, world, drbd, reason, test):
    """The agent calls the standby "stdby up" all the same."""
    if drbd:
        world.drbd(**drbd)
    else:
        (world.base / "drbd").write_text("")
    ret = states.opensvc.placed(PATH, node="demo2", timeout=5, test=test)
    assert (ret.result, ret.changes, world.acts()) == (False, {}, [])
    assert f"DRBD's comp1.slapos.svc.slapos below disk#3: {reason}" in ret.comment
    # Where it is, it stays, whatever DRBD says.
    assert states.opensvc.placed(PATH, node="demo1", test=test).result is True


def test_a_move_to_a_node_without_an_instance_is_not_begun(states, world):
    ret = states.opensvc.placed(PATH, node="demo9", timeout=5)
    assert ret.result is False
    assert "no instance on demo9" in ret.comment
    assert world.acts() == []


def test_a_failure_is_cleared_when_that_was_asked_for(states, world):
    world.is_now(like(world.status, demo1={"state": "stop failed"}))
    world.says(PATH, "clear", then={"status": world.status})
    world.says(PATH, "switch", then={"status": on_demo2(world.status)})
    ret = states.opensvc.placed(PATH, node="demo2", timeout=60, clear=True)
    assert ret.result is True, ret.comment
    assert "cleared first" in ret.comment
    assert [call[1] for call in world.acts()] == ["clear", "switch"]


def test_a_provision_that_failed_before_is_tried_again(states, world):
    broken = like(unprovisioned(world.status), demo2={"state": "provision failed"})
    world.is_now(broken)
    world.says(PATH, "clear", then={"status": unprovisioned(world.status)})
    world.says(PATH, "provision", then={"status": world.status})
    ret = states.opensvc.provisioned(PATH, timeout=60)
    assert ret.result is True, ret.comment
    assert [call[1] for call in world.acts()] == ["clear", "provision"]


def test_who_waits_for_a_node_that_failed_is_told_to_stop_waiting(states, world):
    """Seen on agent 2.1: the leader is 'provision failed' and the other stays in 'wait leader' and wants provisioned."""
    idle = unprovisioned(world.status)
    stuck = like(
        idle,
        demo1={"state": "provision failed"},
        demo2={"state": "wait leader", "global_expect": "provisioned"},
    )
    world.is_now(stuck)
    world.says(PATH, "abort", then={"status": like(idle, demo1={"state": "provision failed"})})
    world.says(PATH, "clear", then={"status": idle})
    world.says(PATH, "provision", then={"status": world.status})
    ret = states.opensvc.provisioned(PATH, timeout=60)
    assert ret.result is True, ret.comment
    assert [call[1] for call in world.acts()] == ["abort", "clear", "provision"]
    world.forget()
    world.is_now(stuck)
    assert states.opensvc.cleared(PATH, timeout=30).result is True
    assert [call[1] for call in world.acts()] == ["abort", "clear"]


def test_a_provision_that_fails_is_told_with_the_reason(states, world):
    """provision --wait returned 0 while both instances were 'provision failed'."""
    world.is_now(unprovisioned(world.status))
    broken = like(
        unprovisioned(world.status),
        demo1={"state": "provision failed"},
        resource={"demo1 disk#0": {"status": "warn", "log": ["warn: no space"]}},
    )
    world.says(PATH, "provision", then={"status": broken})
    ret = states.opensvc.provisioned(PATH, timeout=60)
    assert ret.result is False
    assert "'provision failed'" in ret.comment
    assert "disk#0 is warn: warn: no space" in ret.comment


def test_local_needs_resources(states, world):
    ret = states.opensvc.provisioned(PATH, local=True)
    assert ret.result is False
    assert world.calls() == []


def test_a_frozen_object_is_started_only_when_that_is_meant(states, world):
    held = like(frozen(down(world.status)), demo2=STANDBY)
    world.is_now(held)
    ret = states.opensvc.started(PATH)
    assert (ret.result, world.acts()) == (False, [])
    assert "frozen on demo1 and demo2" in ret.comment
    world.says(PATH, "start", then={"status": world.status})
    assert states.opensvc.started(PATH, thaw=True, timeout=30).result is True


def test_a_frozen_node_keeps_its_objects_frozen(states, world):
    world.is_now(like(frozen(world.status), node={"demo2": {"frozen": 1795427886.0}}))
    ret = states.opensvc.thawed(PATH)
    assert (ret.result, world.acts()) == (False, [])
    assert "node demo2 is frozen" in ret.comment


@pytest.mark.parametrize("test", [True, False])
def test_cleared(states, world, test):
    why = {"demo2 fs#0": {"status": "warn", "log": ["err: no"]}}
    world.is_now(like(world.status, demo2={"state": "start failed"}, resource=why))
    world.says(PATH, "clear", then={"status": world.status})
    ret = states.opensvc.cleared(PATH, timeout=30, test=test)
    assert ret.result is (None if test else True)
    assert ret.changes["state"]["old"] == {"demo1": "idle", "demo2": "start failed"}
    assert len(world.acts()) == (0 if test else 1)
    assert "what failed: the instance on demo2 is 'start failed'; demo2 fs#0 is warn: err: no" in (
        ret.comment
    )
    world.is_now(world.status)
    ret = states.opensvc.cleared(PATH, test=test)
    assert (ret.result, ret.changes) == (True, {})


@pytest.mark.parametrize(
    "code, then, error, states_after",
    [
        (1, None, "the reason", None),
        (0, None, "after 0 s", None),
        (0, "half", "after 0 s", {"demo1": "idle", "demo2": "start failed"}),
    ],
)
def test_a_failure_that_stays_is_not_cleared(states, world, code, then, error, states_after):
    both = like(world.status, demo1={"state": "stop failed"}, demo2={"state": "start failed"})
    world.is_now(both)
    half = {"status": like(world.status, demo2={"state": "start failed"})} if then else None
    world.says(PATH, "clear", err="E the reason\n" if code else "", code=code, then=half)
    ret = states.opensvc.cleared(PATH, timeout=0)
    assert ret.result is False
    assert error in ret.comment
    assert ret.changes.get("state", {}).get("new") == states_after


@pytest.mark.parametrize("test", [True, False])
def test_healthy_is_what_drbd_calls_in_sync(states, world, test):
    world.drbd(peer="Inconsistent")
    ret = states.opensvc.healthy(PATH, timeout=0, test=test)
    assert (ret.result, ret.changes, world.acts()) == (None if test else False, {}, [])
    assert "the disk of demo2 is Inconsistent" in ret.comment
    world.drbd()
    world.forget()
    assert states.opensvc.healthy(PATH, timeout=0, test=test).result is True


def test_healthy_and_not(states, world):
    assert states.opensvc.healthy(PATH).result is True
    sick = like(
        world.status,
        demo1={"overall": "warn"},
        resource={"demo1 fs#0": {"status": "warn", "log": ["err: read only"]}},
    )
    world.is_now(sick)
    ret = states.opensvc.healthy(PATH, test=True)
    assert (ret.result, ret.changes) == (None, {})
    ret = states.opensvc.healthy(PATH, timeout=0)
    assert (ret.result, ret.changes) == (False, {})
    assert "fs#0 is warn: err: read only" in ret.comment
    assert world.acts() == []


def test_a_disabled_resource_is_not_started(states, world):
    ret = states.opensvc.resource_started(PATH, rids=["app#0"])
    assert ret.result is False
    assert "app#0 is disabled" in ret.comment
    assert world.acts() == []


# --- Enabled and disabled ---------------------------------------------------------------------------------------------------------------


SERVICE = "namespaces/slapos/svc/comp1.conf"


def with_disable(world, rids):
    text = (world.etc / SERVICE).read_text()
    for rid in rids:
        text = text.replace(f"[{rid}]", f"[{rid}]\ndisable = true")
    return text


@pytest.mark.parametrize("state", ["enabled", "disabled"])
@pytest.mark.parametrize("test", [True, False])
def test_resources_are_enabled_and_disabled_on_all_nodes(states, world, state, test):
    rids = ["app#0", "task#collect"]
    on, off_text = (world.etc / SERVICE).read_text(), with_disable(world, rids)
    known = {
        f"{node} {rid}": {"disable": state == "disabled"}
        for node in ("demo1", "demo2")
        for rid in rids
    }
    before, after = (off_text, on) if state == "enabled" else (on, off_text)
    (world.etc / SERVICE).write_text(before)
    verb = state[:-1]
    world.says(PATH, verb, then={SERVICE: after, "status": like(world.status, resource=known)})
    ret = states[f"opensvc.{state}"](PATH, rids=rids, timeout=30, test=test)
    assert ret.result is (None if test else True), ret.comment
    assert set(ret.changes) == set(rids)
    assert ret.changes["app#0"]["new"] == state
    assert world.acts() == ([] if test else [[PATH, verb, "--rid", "app#0,task#collect"]])
    assert (world.etc / SERVICE).read_text() == (before if test else after)
    if not test:
        world.forget()
        ret = states[f"opensvc.{state}"](PATH, rids=rids)
        assert (ret.result, ret.changes, world.calls()) == (True, {}, [])


@pytest.mark.parametrize("part", [[], ["app#0"]])
def test_an_enable_that_fails_is_told_as_far_as_it_went(states, world, part):
    enabled = (world.etc / SERVICE).read_text()
    rids = ["app#0", "task#collect"]
    (world.etc / SERVICE).write_text(with_disable(world, rids))
    after = (world.etc / SERVICE).read_text()
    for rid in part:
        after = after.replace(f"[{rid}]\ndisable = true", f"[{rid}]")
    world.says(PATH, "enable", err="E the reason\n", code=1, then={SERVICE: after})
    ret = states.opensvc.enabled(PATH, rids=rids, timeout=5)
    assert ret.result is False
    assert "the reason" in ret.comment
    assert ret.changes == {rid: {"old": "disabled", "new": "enabled"} for rid in part}
    assert after != enabled


def test_an_enable_that_the_other_node_does_not_know_is_told(states, world):
    before = (world.etc / SERVICE).read_text()
    (world.etc / SERVICE).write_text(with_disable(world, ["app#0"]))
    known = {"demo1 app#0": {"disable": False}, "demo2 app#0": {"disable": True}}
    world.says(PATH, "enable", then={SERVICE: before, "status": like(world.status, resource=known)})
    ret = states.opensvc.enabled(PATH, rids=["app#0"], timeout=0)
    assert ret.result is False
    assert ret.changes == {"app#0": {"old": "disabled", "new": "enabled"}}
    assert "is not resources enabled (app#0) after 0 s" in ret.comment


def test_an_enable_that_did_not_happen_is_an_error(states, world):
    (world.etc / SERVICE).write_text(with_disable(world, ["app#0"]))
    world.says(PATH, "enable")
    ret = states.opensvc.enabled(PATH, rids=["app#0"], timeout=5)
    assert (ret.result, ret.changes) == (False, {})
    assert "still not enabled" in ret.comment


# --- What is not there -------------------------------------------------------------------------------------------------------------------


ALL = {
    "placed": {"node": "demo2"},
    "started": {},
    "stopped": {},
    "provisioned": {},
    "frozen": {},
    "thawed": {},
    "cleared": {},
    "standby": {},
    "resource_started": {"rids": ["fs#0"]},
    "enabled": {"rids": ["fs#0"]},
    "disabled": {"rids": ["fs#0"]},
    "healthy": {"timeout": 0},
}


@pytest.mark.parametrize("state", sorted(ALL))
@pytest.mark.parametrize("test", [True, False])
def test_no_such_object(states, world, state, test):
    ret = states[f"opensvc.{state}"]("slapos/svc/nosuch", test=test, **ALL[state])
    assert ret.result is (None if test else False)
    assert ret.changes == {}
    assert world.acts() == []


@pytest.mark.parametrize("way", ["rx", "tx"])
def test_an_object_may_be_unknown_for_want_of_heartbeats(states, world, way):
    cut = copy.deepcopy(world.status)
    cut[f"hb#1.{way}"]["peers"]["demo2"]["beating"] = False
    world.is_now(cut)
    ret = states.opensvc.provisioned("slapos/svc/nosuch", rids=["disk#0"], local=True)
    assert ret.result is False and ret.changes == {} and world.acts() == []
    assert "no object slapos/svc/nosuch here, and demo2, which may have it, is not heard" in ret.comment  # fmt: skip


@pytest.mark.parametrize("state", sorted(set(ALL) - {"enabled", "disabled"}))
@pytest.mark.parametrize("test", [True, False])
def test_a_daemon_that_does_not_answer_is_no_absence(states, world, state, test):
    world.says("daemon", "status", err="E comm error while connecting: refused\n", code=1)
    ret = states[f"opensvc.{state}"](PATH, test=test, **{**ALL[state]})
    assert ret.result is False
    assert "does not answer" in ret.comment
    assert "systemctl start opensvc-agent" in ret.comment
    assert ret.changes == {}
    assert world.acts() == []


def test_no_agent_yet(states, world):
    (world.base / "om").unlink()
    ret = states.opensvc.started(PATH, test=True)
    assert ret.result is None
    assert "not installed" in ret.comment
    assert states.opensvc.started(PATH).result is False


def test_several_states_of_one_run_share_what_they_were_told(modules, world):
    """A highstate of a node that is deployed asks the daemon once for all its states."""
    run = {
        f"It is {name}": {"opensvc": [name, {"name": PATH}], "__sls__": "test", "__env__": "base"}
        for name in ("provisioned", "started", "thawed", "cleared", "healthy")
    }
    run["It is placed"] = {
        "opensvc": ["placed", {"name": PATH}, {"node": "demo1"}],
        "__sls__": "test",
        "__env__": "base",
    }
    answer = modules.state.high(run)
    assert [ret["result"] for ret in answer.raw.values()] == [True] * 6
    assert len(world.calls()) == 2


def test_a_state_that_acts_asks_once_before(states, world):
    """An answer of its own is not asked for again: a process of om is seconds on a busy node."""
    world.says(PATH, "switch", then={"status": on_demo2(world.status)})
    assert states.opensvc.placed(PATH, node="demo2", timeout=60).result is True
    asked = [
        call[0] for call in world.calls() if call[:2] == ["daemon", "status"] or "switch" in call
    ]
    assert asked == ["daemon", PATH, "daemon"]


def test_what_another_state_was_told_is_asked_again_before_something_is_done(modules, world):
    """The daemon's answer to the first state says nothing any more when the second one acts."""
    common = {"__sls__": "test", "__env__": "base"}
    world.is_now([world.status, on_demo2(world.status)])
    answer = modules.state.high(
        {
            "First": {"opensvc": ["started", {"name": PATH}, {"order": 1}], **common},
            "Then": {
                "opensvc": ["placed", {"name": PATH}, {"node": "demo2"}, {"order": 2}],
                **common,
            },
        }
    )
    assert [ret["result"] for ret in answer.raw.values()] == [True, True]
    assert world.acts() == []


def test_an_act_ends_the_sharing(modules, world):
    """What a state of the same run has changed is seen by the next."""
    world.is_now(down(world.status))
    world.says(PATH, "start", then={"status": world.status})
    common = {"__sls__": "test", "__env__": "base"}
    answer = modules.state.high(
        {
            "First": {"opensvc": ["stopped", {"name": PATH}, {"order": 1}], **common},
            "Then": {"opensvc": ["started", {"name": PATH}, {"order": 2}], **common},
            "Last": {
                "opensvc": ["placed", {"name": PATH}, {"node": "demo1"}, {"order": 3}],
                **common,
            },
        }
    )
    assert [bool(ret["changes"]) for ret in answer.raw.values()] == [False, True, False]
    assert all(ret["result"] for ret in answer.raw.values())


def test_all_files_of_the_module_are_one_module(modules, states):
    for name in (
        "version",
        "cluster_status",
        "config_show",
        "create",
        "provision",
        "switch",
        "join",
    ):
        assert f"opensvc.{name}" in modules
    for name in ("placed", "object_present", "key_present", "member"):
        assert f"opensvc.{name}" in states
