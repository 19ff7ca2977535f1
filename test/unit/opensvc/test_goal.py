"""Has the world got there, can it still, and what is in the way."""

import copy

import pytest
from salt.exceptions import SaltInvocationError

PATH = "slapos/svc/comp1"


@pytest.fixture
def service(two):
    """Up on demo1, standby on demo2, healthy."""
    status = two["objects"][PATH]
    status["overall"] = "up"
    for node, word in (("demo1", "up"), ("demo2", "stdby up")):
        status["instances"][node]["overall"] = word
        status["instances"][node]["resources"]["sync#i0"].update(status="up", log=[])
    return status


@pytest.fixture
def verdict(utils):
    return utils["opensvc_goal.verdict"]


def put(service, **changes):
    """``demo1__state="stopping"`` sets a value of an instance, ``avail="down"`` one of the object."""
    changed = copy.deepcopy(service)
    for key, value in changes.items():
        *node, name = key.split("__")
        (changed["instances"][node[0]] if node else changed)[name] = value
    return changed


def resource(service, node, rid, **changes):
    changed = copy.deepcopy(service)
    changed["instances"][node]["resources"][rid].update(changes)
    return changed


DOWN = {
    "avail": "down",
    "demo1__avail": "stdby up",
    "demo1__overall": "stdby up",
    "demo1__local_expect": None,
}

# condition, changes, done
CASES = [
    ("placed", {}, True),
    ("placed", {"demo1__state": "stopping"}, False),
    ("placed", {"demo2__state": "starting"}, False),
    ("placed", {"demo2__global_expect": "placed@demo1"}, False),
    ("placed", {"demo2__avail": "up"}, False),
    ("placed", {"demo1__avail": "stdby up", "demo2__avail": "up"}, False),
    ("placed", {"demo1__avail": "warn"}, False),
    ("started", {}, True),
    ("started", DOWN, False),
    ("started", {"demo1__state": "starting"}, False),
    ("stopped", {}, False),
    ("stopped", DOWN, True),
    ("stopped", {**DOWN, "demo1__avail": "warn"}, False),
    ("stopped", {**DOWN, "demo1__state": "stopping"}, False),
    ("provisioned", {}, True),
    ("provisioned", {"provisioned": "mixed"}, False),
    ("provisioned", {"provisioned": False}, False),
    ("provisioned", {"provisioned": "n/a"}, False),
    ("provisioned", {"demo2__state": "provisioning"}, False),
    ("provisioned", {"demo1__global_expect": "thawed"}, False),
    ("thawed", {}, True),
    ("thawed", {"frozen": "mixed"}, False),
    ("frozen", {"frozen": "frozen"}, True),
    ("frozen", {"frozen": "mixed"}, False),
    ("settled", {}, True),
    ("settled", {"demo1__state": "stop failed"}, True),
    ("settled", {"demo1__state": "stop failed", "demo2__global_expect": "placed@demo2"}, True),
    ("settled", {"demo1__state": "provision failed", "demo2__state": "wait leader"}, True),
    ("settled", {"demo1__state": "stop failed", "demo2__state": "starting"}, False),
    ("settled", {"demo2__global_expect": "placed@demo2"}, False),
    ("settled", {"demo1__state": "wait leader"}, False),
    ("settled_here", {"demo2__state": "provisioning"}, True),
    ("settled_here", {"demo1__state": "provisioning"}, False),
    ("settled_here", {"demo1__state": "provision failed"}, True),
    ("settled_here", {"demo2__global_expect": "provisioned"}, False),
    ("cleared", {}, True),
    ("cleared", {"demo2__state": "start failed"}, False),
    ("cleared", {"demo2__state": "starting"}, True),
    ("healthy", {}, True),
    ("healthy", {"overall": "warn"}, False),
    ("healthy", {"demo2__overall": "warn"}, False),
    ("healthy", {"demo2__avail": "stdby down"}, False),
    ("healthy", {"demo2__avail": "down", "demo2__overall": "down"}, True),
    ("healthy", {"frozen": "mixed"}, False),
    ("healthy", {"demo2__avail": "up"}, False),
    ("healthy", {"demo1__state": "stop failed"}, False),
    ("healthy", DOWN, False),
    ("gone", {}, False),
    ("optimal", {}, True),
    ("optimal", {"placement": "non-optimal"}, False),
    ("optimal", {"placement": "n/a"}, False),
    ("optimal", {"demo2__global_expect": "placed"}, False),
    ("optimal", {"avail": "warn"}, False),
    ("unprovisioned", {}, False),
    ("unprovisioned", {"provisioned": "mixed"}, False),
    ("unprovisioned", {"provisioned": False}, True),
    ("unprovisioned", {"provisioned": "n/a"}, True),
    ("unprovisioned", {"provisioned": False, "demo1__state": "unprovisioning"}, False),
]


@pytest.mark.parametrize("condition, changes, done", CASES)
def test_when_a_condition_holds(service, verdict, condition, changes, done):
    found = verdict(condition, put(service, **changes), node="demo1")
    assert found["done"] is done


@pytest.mark.parametrize(
    "condition, state, dead",
    [
        ("placed", "stop failed", True),
        ("placed", "start failed", True),
        ("placed", "place failed", True),
        ("placed", "stopping", False),
        ("placed", "provision failed", False),
        ("started", "start failed", True),
        ("stopped", "stop failed", True),
        ("provisioned", "provision failed", True),
        ("provisioned", "start failed", True),
        ("thawed", "thaw failed", True),
        ("thawed", "unfreeze failed", True),
        ("frozen", "freeze failed", True),
        ("gone", "purge failed", True),
        ("healthy", "stop failed", True),
        ("settled", "stop failed", False),
        ("unprovisioned", "unprovision failed", True),
        ("unprovisioned", "start failed", False),
        ("optimal", "place failed", True),
    ],
)
def test_what_can_never_come_is_known_at_once(service, verdict, condition, state, dead):
    broken = put(
        service,
        demo1__state=state,
        **{**DOWN, "provisioned": "mixed", "frozen": "mixed", "placement": "n/a"},
    )
    if condition in ("stopped", "settled"):
        broken = put(service, demo1__state=state)
    found = verdict(condition, broken, node="demo2")
    assert bool(found["dead"]) is dead
    assert found["failed"] == ([state] if "failed" in state else [])
    if dead:
        assert f"the instance on demo1 is '{state}'" in found["dead"]


def test_the_reason_behind_a_failure_is_told(service, verdict):
    broken = resource(
        put(service, demo2__state="start failed", demo1__avail="stdby up"),
        *("demo2", "fs#0"),
        status="warn",
        log=["warn: already mounted", "info: x"],
    )
    dead = verdict("placed", broken, node="demo2")["dead"]
    assert "demo2 fs#0 is warn: warn: already mounted" in dead
    assert "info: x" not in dead
    # A disabled resource is nobody's concern.
    quiet = resource(broken, "demo2", "fs#0", disable=True)
    assert "fs#0" not in verdict("placed", quiet, node="demo2")["dead"]


def test_no_object(verdict):
    assert verdict("gone", None)["done"] is True
    found = verdict("started", None)
    assert (found["done"], found["dead"]) == (False, "the object does not exist")


def test_an_instance_that_has_not_reported_is_not_provisioned(service, verdict):
    del service["instances"]["demo2"]
    for condition in ("provisioned", "unprovisioned", "healthy"):
        found = verdict(condition, service)
        assert found["done"] is False
        assert "no instance is known on demo2" in found["seen"]
    # A service of two nodes in a cluster of three owes the third nothing.
    assert verdict("provisioned", service, nodes=["demo1"])["done"] is True


def test_unprovisioned_resources_are_known_to_be(service, verdict):
    gone = resource(service, "demo1", "fs#0", provisioned=False)
    ask = {"node": "demo1"}
    assert verdict("resources_unprovisioned", gone, rids=["fs#0"], **ask)["done"] is True
    assert verdict("resources_unprovisioned", gone, rids=["fs#0", "disk#0"], **ask)["done"] is False
    # Nothing is known of it: that is not "removed".
    assert verdict("resources_unprovisioned", gone, rids=["nosuch#1"], **ask)["done"] is False
    assert verdict("resources_unprovisioned", gone, rids=["app#0"], **ask)["done"] is False


def test_the_cause_of_a_failure_is_told_whatever_the_goal(service, verdict):
    assert verdict("cleared", service)["cause"] is None
    broken = resource(
        put(service, demo2__state="start failed"),
        *("demo2", "fs#0"),
        status="warn",
        log=["err: bad superblock"],
    )
    for condition in ("cleared", "started", "settled"):
        assert verdict(condition, broken)["cause"] == (
            "the instance on demo2 is 'start failed'; demo2 fs#0 is warn: err: bad superblock"
        )


@pytest.mark.parametrize("condition", ["resources_up", "resources_provisioned"])
def test_resources_of_one_node(service, verdict, condition):
    assert verdict(condition, service, node="demo1", rids=["disk#0", "fs#0"])["done"] is True
    assert verdict(condition, service, node="demo1", rids=["fs#0", "nosuch#1"])["done"] is False
    assert verdict(condition, service, node="demo3", rids=["fs#0"])["done"] is False
    assert verdict(condition, service, node="demo1", rids=[])["done"] is False
    key, bad = {
        "resources_up": ("status", "down"),
        "resources_provisioned": ("provisioned", False),
    }[condition]
    broken = resource(service, "demo1", "fs#0", **{key: bad})
    found = verdict(condition, broken, node="demo1", rids=["disk#0", "fs#0"])
    assert (found["done"], found["value"]["fs#0"]) == (False, bad)


def test_an_instance_that_only_stands_by(service, verdict):
    assert verdict("standby", service, node="demo2")["done"] is True
    left = resource(service, "demo2", "volume#0", status="up")
    left = resource(left, "demo2", "sync#i0", status="up")
    left = resource(left, "demo2", "app#0", status="up", disable=True)
    found = verdict("standby", left, node="demo2")
    assert (found["done"], found["value"]) == (False, ["volume#0"])
    # Where it is up nowhere else, nothing tells what is left from what is needed.
    for status, node in ((service, "demo1"), (put(left, demo1__avail="down"), "demo2")):
        found = verdict("standby", status, node=node)
        assert (found["done"], found["value"]) == (False, None)


def test_enabled_means_on_every_node(service, verdict):
    assert verdict("resources_disabled", service, rids=["app#0"])["done"] is True
    assert verdict("resources_enabled", service, rids=["fs#0"])["done"] is True
    one = resource(service, "demo1", "app#0", disable=False)
    assert verdict("resources_enabled", one, rids=["app#0"])["done"] is False
    assert verdict("resources_disabled", one, rids=["app#0"])["done"] is False
    both = resource(one, "demo2", "app#0", disable=False)
    assert verdict("resources_enabled", both, rids=["app#0"])["done"] is True


def test_quiet_tells_work_from_waiting(service, verdict):
    assert verdict("placed", service, node="demo2")["quiet"] is True
    assert (
        verdict("placed", put(service, demo1__state="stop failed"), node="demo2")["quiet"] is True
    )
    assert verdict("placed", put(service, demo1__state="stopping"), node="demo2")["quiet"] is False
    wish = put(service, demo1__global_expect="placed@demo2")
    assert verdict("placed", wish, node="demo2")["quiet"] is False


def test_what_was_seen_is_one_line(service, utils):
    busy = put(
        service, demo1__state="stopping", demo1__global_expect="placed@demo2", demo2__frozen=True
    )
    assert utils["opensvc_goal.summary"](busy) == (
        "up; demo1 up, stopping, wants placed@demo2; demo2 stdby up, idle, frozen"
    )


def test_an_unknown_condition_is_refused(service, verdict):
    with pytest.raises(SaltInvocationError):
        verdict("nice", service)


def test_two_nodes_in_touch(two, utils):
    apart = utils["opensvc_goal.apart"]
    assert apart(two, "demo1", "demo2", ["hb#1"], "slapos") == ""
    assert apart(two, "demo1", None) == ""


@pytest.mark.parametrize(
    "steps, missing",
    [
        (("cluster", "nodes", ["demo1"]), "demo2 is no member"),
        (("cluster", "name", "default"), "still calls the cluster default"),
        (("nodes", "demo1", "state", "rejoin"), "demo1 is rejoin"),
        (("nodes", {"demo1": {"state": "idle"}}), "demo2 does not answer"),
        (("heartbeats", {}), "heartbeat hb#1 is not there"),
        (("heartbeats", "hb#1", "tx", "stopped"), "hb#1.tx is stopped"),
        (("heartbeats", "hb#1", "peers", "demo2", "beating", False), "does not hear demo2"),
        (("heartbeats", "hb#1", "peers", {}), "does not hear demo2"),
    ],
)
def test_what_is_missing_between_two_nodes(two, utils, steps, missing):
    *path, key, value = steps
    here = two
    for step in path:
        here = here[step]
    here[key] = value
    assert missing in utils["opensvc_goal.apart"](two, "demo1", "demo2", ["hb#1"], "slapos")


def test_a_node_alone_needs_no_heartbeat(two, utils):
    """Agent 2.1 starts none while it is the only member."""
    two["cluster"]["nodes"] = ["demo1"]
    two["heartbeats"] = {}
    assert utils["opensvc_goal.apart"](two, "demo1", None, ["hb#1"], "slapos") == ""


@pytest.mark.parametrize(
    "keywords, off",
    [
        ({}, False),
        ({"disable": "true"}, True),
        ({"disable": "True"}, True),
        ({"disable": "false"}, False),
        ({"disable@demo2": "true"}, True),
        ({"disable_x": "true"}, False),
    ],
)
def test_what_a_configuration_disables(utils, keywords, off):
    assert utils["opensvc_goal.disabled"]({"app#0": keywords}, ["app#0"]) == {"app#0": off}


# --- Nodes ---------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "condition, changes, done",
    [
        ("idle", {}, True),
        ("idle", {"state": "rejoin"}, False),
        ("thawed", {}, True),
        ("thawed", {"frozen": True}, False),
        ("thawed", {"state": "maintenance"}, False),
        ("frozen", {"frozen": True}, True),
        ("frozen", {}, False),
        ("frozen", {"frozen": True, "state": "freezing"}, False),
        ("drained", {"frozen": True}, False),
        ("drained", {"frozen": True, "avail": "down"}, True),
        ("drained", {"frozen": True, "avail": "down", "state": "drained"}, True),
        ("drained", {"frozen": True, "avail": "down", "state": "draining"}, False),
        ("drained", {"frozen": True, "avail": "stdby up"}, False),
        ("drained", {"frozen": True, "avail": "undef"}, False),
        ("drained", {"frozen": True, "avail": "down", "local_expect": "shutdown"}, False),
        ("drained", {"frozen": False, "avail": "down"}, False),
    ],
)
def test_when_a_node_is_so(two, utils, condition, changes, done):
    for key, value in changes.items():
        one = two["objects"][PATH]["instances"]["demo1"]
        (one if key in ("avail", "local_expect") else two["nodes"]["demo1"])[key] = value
    assert utils["opensvc_goal.nodes_verdict"](condition, two, ["demo1"])["done"] is done


@pytest.mark.parametrize(
    "condition, state",
    [("drained", "drain failed"), ("frozen", "freeze failed"), ("thawed", "unfreeze failed")],
)
def test_a_node_that_failed_will_not_come(two, utils, condition, state):
    two["nodes"]["demo2"].update(state=state, frozen=condition == "thawed")
    found = utils["opensvc_goal.nodes_verdict"](condition, two)
    assert found["done"] is False
    assert f"demo2 is {state}" in found["dead"]


def test_a_node_that_does_not_answer_is_not_so(two, utils):
    del two["nodes"]["demo2"]
    for condition in ("idle", "frozen", "thawed", "drained"):
        found = utils["opensvc_goal.nodes_verdict"](condition, two)
        assert (found["done"], found["dead"], found["value"]["demo2"]) == (False, None, None)
        assert "demo2 does not answer" in found["seen"]
    with pytest.raises(SaltInvocationError):
        utils["opensvc_goal.nodes_verdict"]("nice", two)


def test_only_services_keep_a_node_from_being_drained(two, utils):
    two["objects"]["slapos/vol/comp1-cfg"]["instances"]["demo1"]["avail"] = "up"
    two["objects"][PATH]["instances"]["demo1"]["avail"] = "down"
    assert utils["opensvc_goal.left"](two, "demo1") == []
    two["objects"]["web"] = copy.deepcopy(two["objects"][PATH])
    two["objects"]["web"]["instances"]["demo1"]["avail"] = "warn"
    assert utils["opensvc_goal.left"](two, "demo1") == ["web warn, idle"]


# --- DRBD below an object -------------------------------------------------------------------------------------------------------------------


def drbd(disk="UpToDate", peer="UpToDate", replication="Established", state="Connected", **more):
    """drbd.status of one resource, as it is on demo1."""
    link = {"state": state, "volumes": {0: {"replication": replication, "disk": peer}}}
    return {"up": True, "disk": {0: {"disk": disk}}, "connections": {"Demo2": link}, **more}


@pytest.mark.parametrize(
    "resource, node, trouble",
    [
        (drbd(), "demo1", None),
        (drbd(), "demo2", None),
        (None, "demo1", "demo1 has no such resource"),
        (drbd(up=False), "demo2", "it is down on demo1"),
        (drbd(disk="Inconsistent"), "demo1", "the disk of demo1 is Inconsistent, not UpToDate"),
        (drbd(disk="Outdated"), "demo1", "the disk of demo1 is Outdated, not UpToDate"),
        (drbd(disk="Inconsistent"), "demo2", None),
        (drbd(peer="Inconsistent"), "demo2", "the disk of demo2 is Inconsistent, not UpToDate"),
        (drbd(peer="Inconsistent"), "demo1", None),
        (drbd(replication="SyncSource"), "demo1", "it is SyncSource with Demo2"),
        (drbd(replication="SyncSource"), "demo2", "it is SyncSource with Demo2"),
        (drbd(state="StandAlone", replication="Off"), "demo2", "it is StandAlone towards demo2"),
        (drbd(state="Connecting", replication="Off"), "demo1", None),
        (drbd(connections={}), "demo2", "it has no connection to demo2"),
        (drbd(connections={}), "demo1", None),
    ],
)
def test_what_drbd_says_against_a_node(utils, resource, node, trouble):
    assert utils["opensvc_goal.unsound"](resource, "demo1", node) == trouble


def test_which_disks_are_replicated(two, utils):
    status = two["objects"][PATH]
    found = utils["opensvc_goal.replicated"](status, "demo2")
    assert list(found) == ["disk#3"]
    assert found["disk#3"].endswith(".svc.slapos")
    status["instances"]["demo2"]["resources"]["disk#3"]["disable"] = True
    assert utils["opensvc_goal.replicated"](status, "demo2") == {}
    assert utils["opensvc_goal.replicated"](status, "demo9") == {}
