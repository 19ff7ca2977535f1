"""The states with agent 3: other commands, other answers, the same states."""

import json

import pytest

from .opensvc_world import CANARY, PATH, TOKEN, like_3

CFG = "slapos/cfg/comp1"
CFG_FILE = "namespaces/slapos/cfg/comp1.conf"
SERVICE = "namespaces/slapos/svc/comp1.conf"

UP = {"avail": "up", "overall": "up"}
STANDBY = {"avail": "stdby up", "overall": "stdby up"}
FROZEN = {"frozen_at": "2026-11-23T08:08:24Z"}


def on_demo2(status):
    return like_3(status, demo1={**STANDBY, "local_expect": "none"}, demo2=UP)


def down(status):
    return like_3(status, demo1=STANDBY, object={"avail": "down", "overall": "down"})


def frozen(status):
    return like_3(status, demo1=FROZEN, demo2=FROZEN, object={"frozen": "frozen"})


def unprovisioned(status):
    no = {"provisioned": "false"}
    return like_3(status, demo1=no, demo2=no, object=no)


def same(status):
    return status


# state, arguments, the world before, after, what om is told, changes
GOALS = [
    (
        *("placed", {"node": "demo2"}, same, on_demo2, [PATH, "switch", "--to", "demo2"]),
        {"node": {"old": "demo1", "new": "demo2"}},
    ),
    ("started", {}, down, same, [PATH, "start"], {"avail": {"old": "down", "new": "up"}}),
    ("stopped", {}, same, down, [PATH, "stop"], {"avail": {"old": "up", "new": "down"}}),
    (
        *("provisioned", {}, unprovisioned, same, [PATH, "provision"]),
        {"provisioned": {"old": False, "new": True}},
    ),
    (
        *("frozen", {}, same, frozen, [PATH, "freeze"]),
        {"frozen": {"old": "thawed", "new": "frozen"}},
    ),
    (
        *("thawed", {}, frozen, same, [PATH, "unfreeze"]),
        {"frozen": {"old": "frozen", "new": "thawed"}},
    ),
]


@pytest.fixture(params=GOALS, ids=[goal[0] for goal in GOALS])
def goal(request, third):
    state, kwargs, before, after, told, changes = request.param
    return state, kwargs, before(third.status), after(third.status), told, changes


@pytest.mark.parametrize("test", [True, False])
def test_a_goal_is_reached_by_one_command(states, third, goal, test):
    state, kwargs, before, after, told, changes = goal
    third.is_now(before)
    third.says(*told, out="OBJECT  ORCHESTRATION_ID  STATUS\n", then={"status": after})
    ret = states[f"opensvc.{state}"](PATH, test=test, timeout=30, **kwargs)
    assert ret.result is (None if test else True), ret.comment
    assert ret.changes == changes
    assert third.acts() == ([] if test else [told])
    if not test:
        third.forget()
        ret = states[f"opensvc.{state}"](PATH, **kwargs)
        assert (ret.result, ret.changes, third.acts()) == (True, {}, [])


def test_a_help_text_with_the_code_0_is_a_failure(states, third, goal, root):
    state, kwargs, before, _, told, _ = goal
    third.is_now(before)
    third.says(*told, out=(root / "test/fixtures/opensvc-3/bad_action.out").read_text())
    ret = states[f"opensvc.{state}"](PATH, timeout=5, **kwargs)
    assert (ret.result, ret.changes) == (False, {})
    assert "this agent does not know the action" in ret.comment


def test_an_orchestration_that_does_nothing_is_a_failure(states, third, goal):
    """It said "accepted"."""
    state, kwargs, before, _, told, _ = goal
    third.is_now(before)
    third.says(*told, out="OBJECT  ORCHESTRATION_ID  STATUS\n")
    ret = states[f"opensvc.{state}"](PATH, timeout=0, **kwargs)
    assert (ret.result, ret.changes) == (False, {})
    assert "after 0 s" in ret.comment


def test_a_standby_that_is_no_copy_is_not_moved_to(states, third):
    third.drbd(peer="Inconsistent")
    ret = states.opensvc.placed(PATH, node="demo2", timeout=5)
    assert (ret.result, ret.changes, third.acts()) == (False, {}, [])
    assert "the disk of demo2 is Inconsistent" in ret.comment
    assert states.opensvc.healthy(PATH, timeout=0).result is False
    third.drbd()
    assert states.opensvc.healthy(PATH, timeout=0).result is True


# --- Joining ---------------------------------------------------------------------------------------------------------------------------------


NEW = "[DEFAULT]\nid = 1\n\n[cluster]\nname = random\nnodes = demo1\n"


@pytest.fixture
def joiner(third):
    """demo1 alone, about to join demo2's cluster."""
    (third.etc / "cluster.conf").write_text(NEW)
    document = json.loads(json.dumps(third.status))
    cluster = document["cluster"]
    cluster["config"]["nodes"] = ["demo1"]
    cluster["object"].clear()
    cluster["node"].pop("demo2")
    cluster["node"]["demo1"]["instance"].clear()
    cluster["node"]["demo1"]["daemon"]["heartbeat"]["streams"] = []
    third.is_now(document)
    return third


@pytest.mark.parametrize("test", [True, False])
def test_a_node_joins_with_a_token(states, joiner, test, caplog):
    joiner.says("cluster", "join", out="Joined\n", then={"status": joiner.status})
    with caplog.at_level("DEBUG"):
        ret = states.opensvc.member(
            "demo2", secret_pillar="opensvc:join_token", timeout=30, test=test
        )
    assert ret.result is (None if test else True), ret.comment
    assert ret.changes == {"members": {"old": ["demo1"], "new": ["demo1", "demo2"]}}
    told = ["cluster", "join", "--node", "demo2", "--token", TOKEN, "--timeout", "30s"]
    assert joiner.acts() == ([] if test else [told])
    assert CANARY not in json.dumps(ret.raw) + caplog.text
    assert (joiner.etc / "cluster.conf").read_text() == NEW


def test_a_token_that_is_refused_is_not_shown(states, joiner):
    joiner.says("cluster", "join", err=f"Error: command cluster join: expired {TOKEN}\n", code=1)
    ret = states.opensvc.member("demo2", secret_pillar="opensvc:join_token", timeout=30)
    assert (ret.result, ret.changes) == (False, {})
    assert "expired (secret)" in ret.comment
    assert CANARY not in json.dumps(ret.raw)


def test_a_secret_is_no_token(states, joiner):
    ret = states.opensvc.member("demo2", secret_pillar="opensvc:cluster_secret", timeout=30)
    assert (ret.result, ret.changes, joiner.acts()) == (False, {}, [])
    assert "no token of agent 3" in ret.comment
    assert CANARY not in json.dumps(ret.raw)


# --- Configurations and keys -----------------------------------------------------------------------------------------------------------------


def test_what_agent_3_does_not_know_is_told(states, third, root):
    before = (third.etc / SERVICE).read_text()
    third.says(
        *(PATH, "config", "update"),
        out="committed\n",
        then={SERVICE: f"{before}\n[nosuch#1]\nfoo = 1\n"},
    )
    table = (root / "test/fixtures/opensvc-3/config_bad_kw.out").read_text().split("\n", 1)[1]
    third.says(PATH, "config", "validate", out=table)
    ret = states.opensvc.object_present(PATH, config={"nosuch#1": {"foo": 1}})
    assert ret.result is True, ret.comment
    assert ret.changes == {"nosuch#1.foo": {"old": None, "new": "1"}}
    assert "unknown keyword" in ret.comment


def test_an_arbitrator_of_agent_3_has_an_address_and_no_secret(states, third):
    (third.etc / "cluster.conf").write_text(NEW)
    document = json.loads(json.dumps(third.status))
    document["cluster"]["node"]["demo1"]["status"]["arbitrators"] = {
        "1": {"url": "demo3:1215", "status": "up", "weight": 1}
    }
    third.says(
        *("cluster", "config", "update"),
        out="committed\n",
        then={
            "cluster.conf": f"{NEW}\n[arbitrator#1]\nuri = demo3:1215\n",
            "status": document,
        },
    )
    third.says("cluster", "config", "validate", out="LEVEL  PATH\n")
    ask = {"address": "demo3:1215", "secret_pillar": "opensvc:cluster_secret", "timeout": 0}
    ret = states.opensvc.arbitrator_present("arbitrator#1", **ask)
    assert ret.result is True, ret.comment
    assert ret.changes == {"arbitrator#1.uri": {"old": None, "new": "demo3:1215"}}
    assert "demo3:1215 is up" in ret.comment
    assert CANARY not in (third.etc / "cluster.conf").read_text()
    third.forget()
    ret = states.opensvc.arbitrator_present("arbitrator#1", **ask)
    assert (ret.result, ret.changes, third.calls()) == (True, {}, [])


@pytest.mark.parametrize("test", [True, False])
def test_resources_are_disabled_by_their_configuration(states, third, test):
    before = (third.etc / SERVICE).read_text()
    assert "[fs#0]\n" in before
    status = json.loads(json.dumps(third.status))
    for node in status["cluster"]["node"].values():
        node["instance"][PATH]["status"]["resources"]["fs#0"]["disable"] = True
    third.says(
        *(PATH, "config", "update", "--set", "fs#0.disable=true"),
        out="committed\n",
        then={SERVICE: before.replace("[fs#0]", "[fs#0]\ndisable = true"), "status": status},
    )
    ret = states.opensvc.disabled(PATH, rids=["fs#0"], timeout=30, test=test)
    assert ret.result is (None if test else True), ret.comment
    assert ret.changes == {"fs#0": {"old": "enabled", "new": "disabled"}}
    assert len(third.acts()) == (0 if test else 1)


def test_a_key_of_the_pillar_goes_by_standard_input(states, third):
    empty = "[DEFAULT]\nid = 1\n\n[data]\n"
    (third.etc / CFG_FILE).write_text(empty)
    third.says(
        *(CFG, "key", "add", "--name", "token", "--from", "/dev/stdin"),
        then={CFG_FILE: f"{empty}token = literal:{CANARY}\n"},
    )
    ret = states.opensvc.key_present(CFG, key="token", contents_pillar="token")
    assert ret.result is True, ret.comment
    assert (third.base / "stdin").read_text() == CANARY
    assert CANARY not in json.dumps([ret.raw, third.calls()])
