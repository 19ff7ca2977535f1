"""States of the cluster, its members, configurations and keys through Salt's loader; a state with nothing to do starts no om."""

import base64
import copy
import hashlib
import json
import pathlib
import stat

import pytest

from .opensvc_world import CANARY, PATH, SCRIPT, like

CFG = "slapos/cfg/comp1"
CFG_FILE = "namespaces/slapos/cfg/comp1.conf"
SERVICE = "namespaces/slapos/svc/comp1.conf"


def sha(text):
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def coded(text):
    return "base64:" + base64.urlsafe_b64encode(text.encode()).decode()


# --- The cluster ----------------------------------------------------------------------------------------------------------------------


HEARTBEATS = {"hb#1": {"type": "unicast", "timeout": 15}}
NEW = "[DEFAULT]\nid = 1\n\n[cluster]\nnodes = demo1\nsecret = own\n"
SET_UP = NEW.replace("nodes", "name = slapos\nnodes") + "\n[hb#1]\ntype = unicast\ntimeout = 15\n"


def alone(status, name="slapos", **instances):
    """demo1 as the only member: agent 2.1 then runs no heartbeat."""
    document = copy.deepcopy(status)
    document["cluster"].update(name=name, nodes=["demo1"])
    document["monitor"]["nodes"].pop("demo2")
    document["monitor"]["services"] = {}
    document["monitor"]["nodes"]["demo1"]["services"] = {"config": {}, "status": {}}
    for key in ("hb#1.rx", "hb#1.tx"):
        document.pop(key)
    return document


@pytest.mark.parametrize("test", [True, False])
def test_a_cluster_is_named_and_gets_heartbeats(states, world, test):
    (world.etc / "cluster.conf").write_text(NEW)
    world.is_now(alone(world.status, "default"))
    world.says("cluster", "set", then={"cluster.conf": SET_UP, "status": alone(world.status)})
    ret = states.opensvc.cluster_present("slapos", heartbeats=HEARTBEATS, timeout=10, test=test)
    assert ret.result is (None if test else True), ret.comment
    assert ret.changes == {
        "cluster.name": {"old": None, "new": "slapos"},
        "hb#1.type": {"old": None, "new": "unicast"},
        "hb#1.timeout": {"old": None, "new": "15"},
    }
    assert (world.etc / "cluster.conf").read_text() == (NEW if test else SET_UP)
    told = ["cluster", "set", "--kw", "cluster.name=slapos", "--kw", "hb#1.type=unicast"]
    assert world.acts() == ([] if test else [[*told, "--kw", "hb#1.timeout=15"]])
    assert "own" not in str(ret.changes) + ret.comment


def test_a_cluster_that_is_set_up_stays(states, world):
    (world.etc / "cluster.conf").write_text(SET_UP)
    ret = states.opensvc.cluster_present("slapos", heartbeats=HEARTBEATS, timeout=0)
    assert (ret.result, ret.changes, world.acts()) == (True, {}, [])


def test_a_set_that_did_nothing_is_an_error(states, world):
    (world.etc / "cluster.conf").write_text(NEW)
    world.is_now(alone(world.status, "default"))
    world.says("cluster", "set", then={"cluster.conf": NEW + "\n[hb#1]\ntype = unicast\n"})
    ret = states.opensvc.cluster_present("slapos", heartbeats=HEARTBEATS, timeout=5)
    assert ret.result is False
    assert "cluster.name is None, not 'slapos'" in ret.comment
    assert ret.changes == {"hb#1.type": {"old": None, "new": "unicast"}}


def test_a_daemon_that_does_not_take_it_is_an_error(states, world):
    (world.etc / "cluster.conf").write_text(NEW)
    world.is_now(alone(world.status, "default"))
    world.says("cluster", "set", then={"cluster.conf": SET_UP})
    ret = states.opensvc.cluster_present("slapos", heartbeats=HEARTBEATS, timeout=0)
    assert ret.result is False
    assert "still calls the cluster default" in ret.comment
    assert "cluster.name" in ret.changes


@pytest.mark.parametrize("test", [True, False])
def test_a_cluster_with_services_is_not_renamed_by_accident(states, world, test):
    (world.etc / "cluster.conf").write_text(SET_UP)
    ret = states.opensvc.cluster_present("other", timeout=0, test=test)
    assert (ret.result, ret.changes, world.acts()) == (False, {}, [])
    assert PATH in ret.comment
    assert "force: true" in ret.comment


def test_a_heartbeat_needs_a_name(states, world):
    ret = states.opensvc.cluster_present("slapos", heartbeats={"beat": {"type": "unicast"}})
    assert (ret.result, world.calls()) == (False, [])
    for state in ("heartbeat_present", "heartbeat_absent"):
        more = {"config": {"type": "unicast"}} if state == "heartbeat_present" else {}
        ret = states[f"opensvc.{state}"]("beat", **more)
        assert (ret.result, ret.changes, world.calls()) == (False, {}, [])


def test_a_cluster_gets_other_settings(states, world):
    (world.etc / "cluster.conf").write_text(SET_UP)
    quorum = SET_UP.replace("name = slapos", "name = slapos\nquorum = true")
    world.says("cluster", "set", then={"cluster.conf": quorum})
    config = {"cluster": {"quorum": True}}
    ret = states.opensvc.cluster_present("slapos", heartbeats=HEARTBEATS, config=config, timeout=0)
    assert ret.result is True, ret.comment
    assert ret.changes == {"cluster.quorum": {"old": None, "new": "true"}}
    assert world.acts() == [["cluster", "set", "--kw", "cluster.quorum=true"]]
    world.forget()
    ret = states.opensvc.cluster_present("slapos", heartbeats=HEARTBEATS, config=config, timeout=0)
    assert (ret.result, ret.changes, world.acts()) == (True, {}, [])
    for wrong in ({"cluster": {"name": "other"}}, {"cluster": {"secret": CANARY}}, {"cluster": 1}):
        ret = states.opensvc.cluster_present("slapos", config=wrong)
        assert (ret.result, ret.changes, world.acts()) == (False, {}, [])
        assert CANARY not in ret.comment


def test_a_cluster_that_the_agent_does_not_set_up_is_told(states, world):
    (world.etc / "cluster.conf").write_text(NEW)
    world.is_now(alone(world.status, "default"))
    world.says("cluster", "set", err="E the reason\n", code=1)
    ret = states.opensvc.cluster_present("slapos", heartbeats=HEARTBEATS, timeout=0)
    assert (ret.result, ret.changes) == (False, {})
    assert "the reason" in ret.comment


@pytest.mark.parametrize("test", [True, False])
def test_a_second_heartbeat(states, world, test):
    (world.etc / "cluster.conf").write_text(SET_UP)
    two = copy.deepcopy(world.status)
    two["hb#2.rx"], two["hb#2.tx"] = two["hb#1.rx"], two["hb#1.tx"]
    after = SET_UP + "\n[hb#2]\ntype = unicast\nport = 10001\n"
    world.says("cluster", "set", then={"cluster.conf": after, "status": two})
    config = {"type": "unicast", "port": 10001}
    ret = states.opensvc.heartbeat_present("hb#2", config=config, timeout=5, test=test)
    assert ret.result is (None if test else True), ret.comment
    assert set(ret.changes) == {"hb#2.type", "hb#2.port"}
    assert len(world.acts()) == (0 if test else 1)
    if not test:
        world.forget()
        ret = states.opensvc.heartbeat_present("hb#2", config=config)
        assert (ret.result, ret.changes, world.calls()) == (True, {}, [])


@pytest.mark.parametrize("test", [True, False])
def test_a_heartbeat_is_removed_but_never_the_last(states, world, test):
    (world.etc / "cluster.conf").write_text(SET_UP + "\n[hb#2]\ntype = unicast\n")
    world.says("cluster", "delete", "--rid", "hb#2", then={"cluster.conf": SET_UP})
    ret = states.opensvc.heartbeat_absent("hb#2", test=test)
    assert ret.result is (None if test else True), ret.comment
    assert ret.changes == {"hb#2": {"old": {"type": "unicast"}, "new": None}}
    (world.etc / "cluster.conf").write_text(SET_UP)
    world.forget()
    ret = states.opensvc.heartbeat_absent("hb#2", test=test)
    assert (ret.result, ret.changes) == (True, {})
    ret = states.opensvc.heartbeat_absent("hb#1", test=test)
    assert (ret.result, ret.changes) == (False, {})
    assert "last heartbeat" in ret.comment
    assert world.calls() == []


@pytest.mark.parametrize(
    "code, after, changes, error",
    [
        (1, "", {}, "the reason"),
        (0, "", {}, "hb#2.port, hb#2.type has not become"),
        (0, "type = unicast\n", {"hb#2.type"}, "hb#2.port has not become"),
        (1, "type = unicast\n", {"hb#2.type"}, "the reason"),
        (
            0,
            "type = unicast\nport = 10001\n",
            {"hb#2.type", "hb#2.port"},
            "heartbeat hb#2 is not there",
        ),
    ],
)
def test_a_heartbeat_that_does_not_come_is_told_as_far_as_it_went(
    states, world, code, after, changes, error
):
    (world.etc / "cluster.conf").write_text(SET_UP)
    world.says(
        *("cluster", "set"),
        err="E the reason\n" if code else "",
        code=code,
        then={"cluster.conf": f"{SET_UP}\n[hb#2]\n{after}"},
    )
    config = {"type": "unicast", "port": 10001}
    ret = states.opensvc.heartbeat_present("hb#2", config=config, timeout=0)
    assert ret.result is False
    assert set(ret.changes) == set(changes)
    assert error in ret.comment


@pytest.mark.parametrize("code, error", [(1, "the reason"), (0, "hb#2 is still there")])
def test_a_heartbeat_that_stays_is_told(states, world, code, error):
    (world.etc / "cluster.conf").write_text(SET_UP + "\n[hb#2]\ntype = unicast\n")
    world.says("cluster", "delete", err="E the reason\n" if code else "", code=code)
    ret = states.opensvc.heartbeat_absent("hb#2")
    assert (ret.result, ret.changes) == (False, {})
    assert error in ret.comment


# --- Arbitrators ------------------------------------------------------------------------------------------------------------------------


ARBITRATOR = {"address": "demo3", "secret_pillar": "opensvc:cluster_secret"}
QUORUM = SET_UP.replace("name = slapos", "name = slapos\nquorum = true")
NAMED = "\n[arbitrator#1]\nname = demo3\ntimeout = 7\n"
ASKED = {
    "arbitrator#1.name": {"old": None, "new": "demo3"},
    "arbitrator#1.timeout": {"old": None, "new": "7"},
    "arbitrator#1.secret": {"old": None, "new": "(the secret of pillar opensvc:cluster_secret)"},
}


def votes(status, word):
    """demo1's daemon asks the arbitrator."""
    one = {"arbitrator#1": {"name": "demo3", "status": word}}
    return like(status, node={"demo1": {"arbitrators": one}})


@pytest.mark.parametrize("test", [True, False])
def test_an_arbitrator_is_asked_for_its_vote(states, world, test, caplog):
    (world.etc / "cluster.conf").write_text(QUORUM)
    after = {"cluster.conf": QUORUM + NAMED, "status": votes(world.status, "up")}
    world.says("cluster", "set", then=after)
    ask = {**ARBITRATOR, "config": {"timeout": 7}, "timeout": 0}
    with caplog.at_level("DEBUG"):
        ret = states.opensvc.arbitrator_present("arbitrator#1", test=test, **ask)
    assert ret.result is (None if test else True), ret.comment
    assert ret.changes == ASKED
    told = ["cluster", "set", "--kw", "arbitrator#1.name=demo3", "--kw", "arbitrator#1.timeout=7"]
    assert world.acts() == ([] if test else [told])
    assert CANARY not in json.dumps(ret.raw) + caplog.text + json.dumps(world.calls())
    if test:
        assert (world.etc / "cluster.conf").read_text() == QUORUM
        return
    assert "demo3 is up" in ret.comment
    assert f"secret = {CANARY}\n" in (world.etc / "cluster.conf").read_text()
    assert stat.S_IMODE((world.etc / "cluster.conf").stat().st_mode) == 0o600
    world.forget()
    ret = states.opensvc.arbitrator_present("arbitrator#1", **ask)
    assert (ret.result, ret.changes, world.calls()) == (True, {}, [])


def test_another_secret_is_written_and_not_shown(states, world):
    (world.etc / "cluster.conf").write_text(f"{QUORUM}{NAMED}secret = old0123456789\n")
    world.is_now(votes(world.status, "up"))
    ret = states.opensvc.arbitrator_present("arbitrator#1", timeout=0, **ARBITRATOR)
    assert ret.result is True, ret.comment
    assert ret.changes == {
        "arbitrator#1.secret": {
            "old": "(another secret)",
            "new": "(the secret of pillar opensvc:cluster_secret)",
        }
    }
    assert world.acts() == []
    text = (world.etc / "cluster.conf").read_text()
    assert f"secret = {CANARY}" in text
    assert "old0123456789" not in text + json.dumps(ret.raw)


def test_without_a_quorum_nobody_asks_the_arbitrator(states, world):
    (world.etc / "cluster.conf").write_text(SET_UP)
    world.says("cluster", "set", then={"cluster.conf": SET_UP + "\n[arbitrator#1]\nname = demo3\n"})
    ret = states.opensvc.arbitrator_present("arbitrator#1", timeout=0, **ARBITRATOR)
    assert ret.result is True, ret.comment
    assert "not asked, since cluster.quorum is not true" in ret.comment
    assert world.calls("daemon", "status") == []


@pytest.mark.parametrize(
    "code, after, status, changes, error",
    [
        (1, "", None, set(), "the reason"),
        (0, "", None, {"arbitrator#1.secret"}, "arbitrator#1.name has not become"),
        (
            0,
            "name = demo3\n",
            "down",
            {"arbitrator#1.name", "arbitrator#1.secret"},
            "does not reach arbitrator#1 after 0 s: demo3 is down",
        ),
        (
            0,
            "name = demo3\n",
            None,
            {"arbitrator#1.name", "arbitrator#1.secret"},
            "the daemon asks none",
        ),
    ],
)
def test_an_arbitrator_that_has_no_vote_is_told(states, world, code, after, status, changes, error):
    (world.etc / "cluster.conf").write_text(QUORUM)
    then = {"cluster.conf": f"{QUORUM}\n[arbitrator#1]\n{after}"}
    if status:
        then["status"] = votes(world.status, status)
    world.says("cluster", "set", err="E the reason\n" if code else "", code=code, then=then)
    ret = states.opensvc.arbitrator_present("arbitrator#1", timeout=0, **ARBITRATOR)
    assert ret.result is False
    assert set(ret.changes) == changes
    assert error in ret.comment
    assert CANARY not in json.dumps(ret.raw)


@pytest.mark.parametrize(
    "name, kwargs, error",
    [
        ("demo3", ARBITRATOR, "arbitrator#1 is"),
        ("arbitrator#1", {"address": "demo3"}, "agent 2.1 needs the secret"),
        (
            "arbitrator#1",
            {**ARBITRATOR, "secret_pillar": "no:such"},
            "pillar no:such holds no text",
        ),
        ("arbitrator#1", {**ARBITRATOR, "config": {"secret": CANARY}}, "is a secret"),
    ],
)
@pytest.mark.parametrize("test", [True, False])
def test_an_arbitrator_that_cannot_be_asked_is_not_set_up(states, world, name, kwargs, error, test):
    (world.etc / "cluster.conf").write_text(QUORUM)
    ret = states.opensvc.arbitrator_present(name, test=test, **kwargs)
    assert (ret.result, ret.changes, world.acts()) == (False, {}, [])
    assert error in ret.comment
    assert CANARY not in ret.comment
    assert (world.etc / "cluster.conf").read_text() == QUORUM


@pytest.mark.parametrize("test", [True, False])
def test_an_arbitrator_is_removed(states, world, test):
    (world.etc / "cluster.conf").write_text(f"{QUORUM}{NAMED}secret = {CANARY}\n")
    world.says("cluster", "delete", "--rid", "arbitrator#1", then={"cluster.conf": QUORUM})
    ret = states.opensvc.arbitrator_absent("arbitrator#1", test=test)
    assert ret.result is (None if test else True), ret.comment
    assert ret.changes["arbitrator#1"]["new"] is None
    assert CANARY not in json.dumps(ret.raw)
    assert len(world.acts()) == (0 if test else 1)
    if not test:
        world.forget()
        ret = states.opensvc.arbitrator_absent("arbitrator#1")
        assert (ret.result, ret.changes, world.calls()) == (True, {}, [])


# --- Members ----------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def joiner(world):
    """demo1 alone, about to join demo2's cluster."""
    (world.etc / "cluster.conf").write_text(NEW)
    world.is_now(alone(world.status, "default"))
    return world


@pytest.mark.parametrize("test", [True, False])
def test_a_node_joins(joiner, states, test, caplog):
    after = SET_UP.replace("nodes = demo1", "nodes = demo1 demo2")
    joiner.says("daemon", "rejoin", then={"cluster.conf": after, "status": joiner.status})
    with caplog.at_level("DEBUG"):
        ret = states.opensvc.member(
            "demo2", secret_pillar="opensvc:cluster_secret", timeout=10, test=test
        )
    assert ret.result is (None if test else True), ret.comment
    assert ret.changes == {"members": {"old": ["demo1"], "new": ["demo1", "demo2"]}}
    assert joiner.acts() == ([] if test else [["daemon", "rejoin", "--node", "demo2"]])
    assert CANARY not in json.dumps(ret.raw) + caplog.text + json.dumps(joiner.calls())
    if test:
        assert (joiner.etc / "cluster.conf").read_text() == NEW


def test_a_join_that_fails_leaves_no_trace(joiner, states):
    joiner.says("daemon", "rejoin", err="E join node demo2 failed\n", code=1)
    joiner.says("node", "thaw")
    ret = states.opensvc.member("demo2", secret_pillar="opensvc:cluster_secret", timeout=10)
    assert (ret.result, ret.changes) == (False, {})
    assert "join node demo2 failed" in ret.comment
    assert (joiner.etc / "cluster.conf").read_text() == NEW
    assert stat.S_IMODE((joiner.etc / "cluster.conf").stat().st_mode) == 0o600
    assert CANARY not in json.dumps(ret.raw)


def test_a_join_that_is_not_heard_is_told_as_far_as_it_went(joiner, states):
    joiner.says("daemon", "rejoin")
    ret = states.opensvc.member("demo2", secret_pillar="opensvc:cluster_secret", timeout=0)
    assert ret.result is False
    assert "demo2 is no member" in ret.comment
    assert ret.changes["members"]["new"] == "joined, not yet heard"


@pytest.mark.parametrize("test", [True, False])
def test_a_member_stays(states, world, test):
    ret = states.opensvc.member("demo2", secret_pillar="opensvc:cluster_secret", test=test)
    assert (ret.result, ret.changes, world.acts()) == (True, {}, [])


def test_a_member_that_is_not_heard_is_not_joined_again(states, world):
    deaf = copy.deepcopy(world.status)
    deaf["hb#1.rx"]["peers"]["demo2"]["beating"] = False
    world.is_now(deaf)
    ret = states.opensvc.member("demo2", secret_pillar="opensvc:cluster_secret", timeout=0)
    assert (ret.result, ret.changes, world.acts()) == (False, {}, [])
    assert "does not hear demo2" in ret.comment


@pytest.mark.parametrize("test", [True, False])
def test_a_member_of_another_cluster_is_left_there(states, world, test):
    ret = states.opensvc.member("demo9", secret_pillar="opensvc:cluster_secret", test=test)
    assert (ret.result, ret.changes, world.acts()) == (False, {}, [])
    assert "opensvc.leave" in ret.comment


@pytest.mark.parametrize("test", [True, False])
def test_a_member_needs_one_secret(states, world, test):
    ret = states.opensvc.member("demo2", test=test)
    assert (ret.result, world.calls()) == (False, [])


# --- Objects -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("test", [True, False])
def test_an_object_is_created(states, world, test):
    (world.etc / SERVICE).unlink()
    gone = copy.deepcopy(world.status)
    for known in gone["monitor"]["nodes"].values():
        known["services"]["config"].pop(PATH)
        known["services"]["status"].pop(PATH)
    gone["monitor"]["services"].pop(PATH)
    world.is_now(gone)
    config = {"DEFAULT": {"nodes": "demo1 demo2"}, "fs#0": {"type": "ext4", "shared": True}}
    world.says(PATH, "create", err="W beware\n", then={"config from the arguments": SERVICE})
    ret = states.opensvc.object_present(PATH, config=config, test=test)
    assert ret.result is (None if test else True), ret.comment
    assert ret.changes == {
        "object": {"old": None, "new": PATH},
        "sections": {"old": None, "new": ["DEFAULT", "fs#0"]},
    }
    assert (world.etc / SERVICE).exists() is not test
    if not test:
        assert "beware" in ret.comment
        world.forget()
        ret = states.opensvc.object_present(PATH, config=config)
        assert (ret.result, ret.changes, world.calls()) == (True, {}, [])


@pytest.mark.parametrize("test", [True, False])
def test_an_object_that_other_nodes_have_is_not_made_twice(states, world, test):
    (world.etc / SERVICE).unlink()
    ret = states.opensvc.object_present(PATH, config={"DEFAULT": {"nodes": "*"}}, test=test)
    assert (ret.result, ret.changes, world.acts()) == (False, {}, [])
    assert "demo1, demo2" in ret.comment


def test_an_object_is_not_made_when_nobody_can_say_whether_it_exists(states, world):
    (world.etc / SERVICE).unlink()
    world.says("daemon", "status")
    ret = states.opensvc.object_present(PATH)
    assert (ret.result, ret.changes, world.acts()) == (False, {}, [])
    assert "does not answer" in ret.comment


@pytest.mark.parametrize("test", [True, False])
def test_only_what_differs_is_set(states, world, test):
    before = (world.etc / SERVICE).read_text()
    after = before.replace("mnt = /srv/{fqdn}", "mnt = /data/{fqdn}")
    assert after != before
    world.says(PATH, "set", then={SERVICE: after})
    config = {"fs#0": {"type": "ext4", "mnt": "/data/{fqdn}"}, "DEFAULT": {"orchestrate": "ha"}}
    ret = states.opensvc.object_present(PATH, config=config, test=test)
    assert ret.result is (None if test else True), ret.comment
    assert ret.changes == {"fs#0.mnt": {"old": "/srv/{fqdn}", "new": "/data/{fqdn}"}}
    assert world.acts() == ([] if test else [[PATH, "set", "--kw", "fs#0.mnt=/data/{fqdn}"]])
    assert "fs#0.dev" in ret.comment  # left alone, and told so
    assert "DEFAULT.id" not in ret.comment


def test_a_part_that_was_set_is_told_when_the_rest_failed(states, world):
    before = (world.etc / SERVICE).read_text()
    world.says(PATH, "set", then={SERVICE: before.replace("size = 1m", "size = 2m")})
    config = {"volume#0": {"size": "2m"}, "fs#0": {"mnt": "/elsewhere"}}
    ret = states.opensvc.object_present(PATH, config=config)
    assert ret.result is False
    assert ret.changes == {"volume#0.size": {"old": "1m", "new": "2m"}}
    assert "fs#0.mnt" in ret.comment


@pytest.mark.parametrize("test", [True, False])
def test_full_removes_what_is_not_given(states, world, test):
    (world.etc / SERVICE).write_text(
        "[DEFAULT]\nid = 7\nnodes = *\nold = 1\n\n[fs#0]\ntype = ext4\n\n[task#old]\ntype = host\n\n[data]\nk = literal:v\n"
    )
    world.says(
        *(PATH, "delete", "--rid", "task#old"),
        then={SERVICE: "[DEFAULT]\nid = 7\nnodes = *\nold = 1\n\n[fs#0]\ntype = ext4\n"},
    )
    world.says(
        PATH, "unset", then={SERVICE: "[DEFAULT]\nid = 7\nnodes = *\n\n[fs#0]\ntype = ext4\n"}
    )
    config = {"DEFAULT": {"nodes": "*"}, "fs#0": {"type": "ext4"}}
    ret = states.opensvc.object_present(PATH, config=config, enforce="full", test=test)
    assert ret.result is (None if test else True), ret.comment
    assert ret.changes == {
        "DEFAULT.old": {"old": "1", "new": None},
        "task#old.type": {"old": "host", "new": None},
    }
    wanted = [[PATH, "delete", "--rid", "task#old"], [PATH, "unset", "--kw", "DEFAULT.old"]]
    assert world.acts() == ([] if test else wanted)


def test_full_does_not_forget_a_resource_that_holds_something(states, world):
    config = {key: value for key, value in world.config.items() if key != "fs#0"}
    config["DEFAULT"].pop("id")
    ret = states.opensvc.object_present(PATH, config=config, enforce="full")
    assert (ret.result, ret.changes, world.acts()) == (False, {}, [])
    assert "fs#0 of slapos/svc/comp1 is up on demo1" in ret.comment


def test_a_section_that_the_agent_keeps_is_told_beside_what_was_set(states, world):
    text = "[DEFAULT]\nid = 7\nnodes = *\n\n[task#old]\ntype = host\n"
    (world.etc / SERVICE).write_text(text)
    world.says(PATH, "set", then={SERVICE: text.replace("nodes = *", "nodes = demo1")})
    world.says(PATH, "delete", err="E the reason\n", code=1)
    config = {"DEFAULT": {"nodes": "demo1"}}
    ret = states.opensvc.object_present(PATH, config=config, enforce="full")
    assert ret.result is False
    assert ret.changes == {"DEFAULT.nodes": {"old": "*", "new": "demo1"}}
    assert "the reason" in ret.comment


@pytest.mark.parametrize(
    "code, then, error",
    [
        (1, None, "creating slapos/svc/comp1 failed: the reason"),
        (0, None, "returned no error, and there is no"),
        (0, "[DEFAULT]\nid = 1\n", "DEFAULT.nodes"),
    ],
)
def test_an_object_that_is_not_made_as_it_was_to_be_is_told(states, world, code, then, error):
    (world.etc / SERVICE).unlink()
    world.is_now(without(world.status, PATH))
    then = {SERVICE: then} if then else None
    world.says(PATH, "create", err="E the reason\n" if code else "", code=code, then=then)
    ret = states.opensvc.object_present(PATH, config={"DEFAULT": {"nodes": "*"}})
    assert ret.result is False
    assert ret.changes == ({"object": {"old": None, "new": PATH}} if then else {})
    assert error in ret.comment


# --- Objects from files -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def printed(world, root):
    """What om print config says, on the file server's side: the identity of another object, and continued lines."""
    text = (root / "test/fixtures/opensvc-2.1/print_config.out").read_text()
    assert "id = " in text
    name = world.base / "comp1.conf"
    name.write_text(text)
    return name


@pytest.mark.parametrize("test", [True, False])
def test_an_object_is_created_from_a_file(states, world, printed, test):
    (world.etc / SERVICE).unlink()
    world.is_now(without(world.status, PATH))
    world.says(PATH, "create", then={"config from the arguments": SERVICE})
    ret = states.opensvc.object_present(PATH, source=str(printed), test=test)
    assert ret.result is (None if test else True), ret.comment
    assert ret.changes["object"] == {"old": None, "new": PATH}
    assert (world.etc / SERVICE).exists() is not test
    if not test:
        assert "id = " not in (world.etc / SERVICE).read_text()
        (world.etc / SERVICE).write_text(printed.read_text().replace("id = ", "id = 9"))
        world.forget()
        for enforce in ("partial", "full"):
            ret = states.opensvc.object_present(PATH, source=str(printed), enforce=enforce)
            assert (ret.result, ret.changes, world.calls()) == (True, {}, [])


@pytest.mark.parametrize("test", [True, False])
def test_only_what_differs_from_a_template_is_set(states, world, test, loaders):
    text = "[DEFAULT]\norchestrate = {{ how }}\n\n[fs#0]\nmnt = /data/{fqdn}\n"
    (world.base / "comp1.jinja").write_text(text)
    before = (world.etc / SERVICE).read_text()
    after = before.replace("mnt = /srv/{fqdn}", "mnt = /data/{fqdn}")
    world.says(PATH, "set", then={SERVICE: after})
    ret = states.opensvc.object_present(
        PATH,
        source=f"file://{world.base}/comp1.jinja",
        template="jinja",
        context={"how": "ha"},
        test=test,
    )
    assert ret.result is (None if test else True), ret.comment
    assert ret.changes == {"fs#0.mnt": {"old": "/srv/{fqdn}", "new": "/data/{fqdn}"}}
    assert world.acts() == ([] if test else [[PATH, "set", "--kw", "fs#0.mnt=/data/{fqdn}"]])
    assert list(pathlib.Path(loaders.opts["cachedir"]).glob("opensvc.*")) == []


@pytest.mark.parametrize(
    "text, error",
    [
        (None, "is no file on this node"),
        ("no section = 1\n", "comp1.bad: the agent's configuration cannot be read"),
        ("[cluster]\nsecret = canary0123456789\n", "is a secret"),
        ("[data]\nkey = literal:x\n", "key_present"),
    ],
)
def test_a_file_that_is_no_configuration_changes_nothing(states, world, text, error):
    name = world.base / "comp1.bad"
    name.unlink(missing_ok=True)
    if text is not None:
        name.write_text(text)
    ret = states.opensvc.object_present(PATH, source=str(name))
    assert (ret.result, ret.changes, world.calls()) == (False, {}, [])
    assert error in ret.comment
    assert CANARY not in ret.comment


@pytest.mark.parametrize(
    "kwargs",
    [
        {"config": {"data": {"key": "literal:x"}}},
        {"config": {"DEFAULT": {"nodes": "*"}}, "source": "/etc/hostname"},
        {"config": {"DEFAULT": {"x y": 1}}},
        {"config": {"cluster": {"secret": CANARY}}},
        {"enforce": "most"},
    ],
)
def test_a_wrong_configuration_starts_nothing(states, world, kwargs):
    ret = states.opensvc.object_present(PATH, **kwargs)
    assert (ret.result, ret.changes, world.calls()) == (False, {}, [])
    assert CANARY not in ret.comment


@pytest.mark.parametrize("test", [True, False])
def test_a_service_that_holds_something_is_not_removed(states, world, test):
    ret = states.opensvc.object_absent(PATH, test=test)
    assert (ret.result, ret.changes, world.acts()) == (False, {}, [])
    assert "purge: true" in ret.comment


@pytest.mark.parametrize("test", [True, False])
@pytest.mark.parametrize("path, verb, name", [(PATH, "purge", SERVICE), (CFG, "delete", CFG_FILE)])
def test_an_object_is_removed(states, world, test, path, verb, name):
    (world.etc / name).write_text("[DEFAULT]\nid = 1\n")
    gone = copy.deepcopy(world.status)
    for known in gone["monitor"]["nodes"].values():
        known["services"]["config"].pop(path)
        known["services"]["status"].pop(path)
    gone["monitor"]["services"].pop(path)
    world.says(path, verb, then={name: None, "status": gone})
    ret = states.opensvc.object_absent(path, purge=verb == "purge", timeout=10, test=test)
    assert ret.result is (None if test else True), ret.comment
    assert ret.changes == {"object": {"old": path, "new": None}}
    assert world.acts() == ([] if test else [[path, verb]])
    if not test:
        world.forget()
        ret = states.opensvc.object_absent(path)
        assert (ret.result, ret.changes, world.calls()) == (True, {}, [])


def without(status, path):
    gone = copy.deepcopy(status)
    for known in gone["monitor"]["nodes"].values():
        known["services"]["config"].pop(path)
        known["services"]["status"].pop(path)
    gone["monitor"]["services"].pop(path)
    return gone


@pytest.mark.parametrize(
    "code, then, error",
    [
        (1, None, "the reason"),
        (0, None, "is not gone after 0 s"),
        (0, "status", "is gone from the daemons and its file is still there"),
    ],
)
def test_an_object_that_stays_is_told(states, world, code, then, error):
    (world.etc / CFG_FILE).write_text("[DEFAULT]\nid = 1\n")
    then = {"status": without(world.status, CFG)} if then else None
    world.says(CFG, "delete", err="E the reason\n" if code else "", code=code, then=then)
    ret = states.opensvc.object_absent(CFG, timeout=0)
    assert (ret.result, ret.changes) == (False, {})
    assert error in ret.comment


def test_a_removal_that_gets_stuck_is_told(states, world):
    """purge of agent 2.1 ran into its timeout with one instance half undone."""
    stuck = like(world.status, demo1={"state": "unprovision failed", "provisioned": "mixed"})
    world.says(PATH, "purge", then={"status": stuck})
    ret = states.opensvc.object_absent(PATH, purge=True, timeout=60)
    assert (ret.result, ret.changes) == (False, {})
    assert "'unprovision failed'" in ret.comment


# --- Keys --------------------------------------------------------------------------------------------------------------------------------


def cfg(**keys):
    lines = "".join(f"{key} = {value}\n" for key, value in keys.items())
    return f"[DEFAULT]\nid = 1\n\n[data]\n{lines}"


@pytest.mark.parametrize("test", [True, False])
@pytest.mark.parametrize(
    "before, verb, old",
    [
        (cfg(), "add", None),
        (cfg(re6st=coded("#!/bin/sh\nold\n")), "change", sha("#!/bin/sh\nold\n")),
    ],
)
def test_a_key_gets_its_content(states, world, before, verb, old, test):
    new = "#!/bin/sh\nnew\n"
    (world.etc / CFG_FILE).write_text(before)
    world.says(CFG, verb, then={CFG_FILE: cfg(re6st=coded(new))})
    ret = states.opensvc.key_present(CFG, key="re6st", contents=new, test=test)
    assert ret.result is (None if test else True), ret.comment
    assert ret.changes == {"re6st": {"old": old, "new": sha(new)}}
    if test:
        assert world.acts() == []
        assert (world.etc / CFG_FILE).read_text() == before
    else:
        (told,) = world.acts()
        assert told[:-1] == [CFG, verb, "--key", "re6st", "--from"]
        world.forget()
        ret = states.opensvc.key_present(CFG, key="re6st", contents=new)
        assert (ret.result, ret.changes, world.calls()) == (True, {}, [])


def test_a_key_from_the_file_server(states, world, root):
    """The launchers are files of the formula; settings.json is rendered."""
    text = (root / "slapos_ha/files/re6st").read_text()
    (world.etc / CFG_FILE).write_text(cfg(x=coded(text)))
    assert (
        states.opensvc.key_present(CFG, key="x", source="salt://slapos_ha/files/re6st").result
        is True
    )
    name = world.base / "template"
    name.write_text("{{ who }} on {{ grains.id }}\n")
    (world.etc / CFG_FILE).write_text(cfg(x=coded("me on demo1\n")))
    ret = states.opensvc.key_present(
        CFG, key="x", source=f"file://{name}", template="jinja", context={"who": "me"}
    )
    assert ret.result is True, ret.comment
    assert ret.changes == {}
    (world.etc / CFG_FILE).write_text(cfg(x=coded("plain\n")))
    name.write_text("plain\n")
    assert states.opensvc.key_present(CFG, key="x", source=str(name)).changes == {}
    assert world.calls() == []


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"contents": "a", "source": "salt://b"},
        {"source": "salt://no/such/file"},
        {"source": "/no/such/file"},
        {"contents_pillar": "no:such:key"},
    ],
)
@pytest.mark.parametrize("test", [True, False])
def test_a_key_without_its_content_is_an_error(states, world, kwargs, test):
    (world.etc / CFG_FILE).write_text(cfg())
    ret = states.opensvc.key_present(CFG, key="re6st", test=test, **kwargs)
    assert (ret.result, ret.changes, world.calls()) == (False, {}, [])


def test_a_secret_key_shows_in_nothing(states, world, caplog):
    (world.etc / CFG_FILE).write_text(cfg())
    world.says(CFG, "add", then={CFG_FILE: cfg(token=f"literal:{CANARY}")})
    with caplog.at_level("DEBUG"):
        ret = states.opensvc.key_present(CFG, key="token", contents_pillar="token")
    assert ret.result is True, ret.comment
    assert CANARY not in json.dumps(ret.raw) + caplog.text + json.dumps(world.calls())
    assert (world.base / "stdin").read_text() == CANARY


def test_a_key_of_the_pillar_arrives_letter_by_letter(states, world):
    """Salt makes newlines of a backslash with an n in what it gives to a process, unless it is told not to."""
    (world.etc / CFG_FILE).write_text(cfg())
    world.says(CFG, "add", then={CFG_FILE: cfg(script=coded(SCRIPT))})
    ret = states.opensvc.key_present(CFG, key="script", contents_pillar="script")
    assert ret.result is True, ret.comment
    assert (world.base / "stdin").read_text() == SCRIPT
    world.forget()
    ret = states.opensvc.key_present(CFG, key="script", contents_pillar="script")
    assert (ret.result, ret.changes, world.calls()) == (True, {}, [])


@pytest.mark.parametrize(
    "code, error", [(1, "the reason"), (0, "key old of slapos/cfg/comp1 is still")]
)
def test_a_key_that_stays_is_told(states, world, code, error):
    (world.etc / CFG_FILE).write_text(cfg(old="literal:x"))
    world.says(CFG, "remove", err="E the reason\n" if code else "", code=code)
    ret = states.opensvc.key_absent(CFG, key="old")
    assert (ret.result, ret.changes) == (False, {})
    assert error in ret.comment


def test_a_key_that_the_agent_refuses_is_told(states, world):
    (world.etc / CFG_FILE).write_text(cfg())
    world.says(CFG, "add", err="E the reason\n", code=1)
    ret = states.opensvc.key_present(CFG, key="token", contents_pillar="token")
    assert (ret.result, ret.changes) == (False, {})
    assert "the reason" in ret.comment


def test_a_key_that_did_not_arrive_is_an_error(states, world):
    (world.etc / CFG_FILE).write_text(cfg())
    world.says(CFG, "add")
    ret = states.opensvc.key_present(CFG, key="re6st", contents="x")
    assert (ret.result, ret.changes) == (False, {})
    assert "has not the new content" in ret.comment


@pytest.mark.parametrize("test", [True, False])
def test_a_key_needs_its_object(states, world, test):
    ret = states.opensvc.key_present("slapos/cfg/nosuch", key="re6st", contents="x", test=test)
    assert ret.result is (None if test else False)
    assert (ret.changes, world.calls()) == ({}, [])


@pytest.mark.parametrize("test", [True, False])
def test_a_key_is_removed(states, world, test):
    (world.etc / CFG_FILE).write_text(cfg(old="literal:x", re6st="literal:y"))
    world.says(CFG, "remove", then={CFG_FILE: cfg(re6st="literal:y")})
    ret = states.opensvc.key_absent(CFG, key="old", test=test)
    assert ret.result is (None if test else True), ret.comment
    assert ret.changes == {"old": {"old": sha("x"), "new": None}}
    assert world.acts() == ([] if test else [[CFG, "remove", "--key", "old"]])
    if not test:
        ret = states.opensvc.key_absent(CFG, key="old")
        assert (ret.result, ret.changes) == (True, {})


def test_no_private_file_is_left(states, world, loaders):
    """Contents pass by files in the minion's cache folder, which are gone afterwards."""
    (world.etc / CFG_FILE).write_text(cfg())
    world.says(CFG, "add", err="E no\n", code=1)
    assert states.opensvc.key_present(CFG, key="re6st", contents="x").result is False
    assert list(pathlib.Path(loaders.opts["cachedir"]).glob("opensvc.*")) == []


# --- Quorum -------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("test", [True, False])
def test_a_split_cluster_asks_its_arbitrators(states, world, test):
    (world.etc / "cluster.conf").write_text(SET_UP + NAMED)
    after = {"cluster.conf": QUORUM + NAMED, "status": votes(world.status, "up")}
    world.says("cluster", "set", then=after)
    ret = states.opensvc.quorum_present("q", arbitrators=["arbitrator#1"], timeout=0, test=test)
    assert ret.result is (None if test else True), ret.comment
    assert ret.changes == {"cluster.quorum": {"old": None, "new": "true"}}
    assert world.acts() == ([] if test else [["cluster", "set", "--kw", "cluster.quorum=true"]])
    if not test:
        assert "demo3 is up" in ret.comment
        world.forget()
        ret = states.opensvc.quorum_present("q", arbitrators=["arbitrator#1"], timeout=0)
        assert (ret.result, ret.changes, world.acts()) == (True, {}, [])


@pytest.mark.parametrize(
    "before, undo, then",
    [
        (SET_UP, ["cluster", "unset", "--kw", "cluster.quorum"], "what it is by default"),
        (
            QUORUM.replace("= true", "= false"),
            ["cluster", "set", "--kw", "cluster.quorum=false"],
            "false",
        ),
    ],
)
@pytest.mark.parametrize("word", ["down", None])
def test_a_quorum_without_an_arbitrator_that_answers_is_taken_back(states, world, before, undo, then, word):  # fmt: skip
    (world.etc / "cluster.conf").write_text(before + NAMED)
    status = votes(world.status, word) if word else world.status
    back = {"cluster.conf": before + NAMED}
    world.says(*undo, then=back)
    world.says("cluster", "set", "--kw", "cluster.quorum=true", then={"cluster.conf": QUORUM + NAMED, "status": status})  # fmt: skip
    ret = states.opensvc.quorum_present("q", arbitrators=["arbitrator#1"], timeout=0)
    assert (ret.result, ret.changes) == (False, {})
    assert "does not reach arbitrator#1 after 0 s" in ret.comment
    assert f"cluster.quorum is put back to {then}" in ret.comment
    assert world.acts() == [["cluster", "set", "--kw", "cluster.quorum=true"], undo]
    assert (world.etc / "cluster.conf").read_text() == before + NAMED


def test_a_quorum_that_was_there_is_not_taken_back_when_an_arbitrator_fails(states, world):
    (world.etc / "cluster.conf").write_text(QUORUM + NAMED)
    world.is_now(votes(world.status, "down"))
    ret = states.opensvc.quorum_present("q", arbitrators=["arbitrator#1"], timeout=0)
    assert (ret.result, ret.changes, world.acts()) == (False, {}, [])
    assert "demo3 is down" in ret.comment


@pytest.mark.parametrize(
    "arbitrators, error",
    [
        ([], "each of two nodes takes itself down"),
        (["arbitrator#1"], "The cluster has no arbitrator#1: state opensvc.arbitrator_present"),
    ],
)
def test_a_quorum_needs_arbitrators(states, world, arbitrators, error):
    (world.etc / "cluster.conf").write_text(SET_UP)
    ret = states.opensvc.quorum_present("q", arbitrators=arbitrators, timeout=0)
    assert (ret.result, ret.changes, world.calls()) == (False, {}, [])
    assert error in ret.comment


# --- Every kind of heartbeat ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("test", [True, False])
@pytest.mark.parametrize(
    "config, secret",
    [
        ({"type": "unicast", "port": 10001, "addr@demo1": "192.0.2.1", "addr@demo2": "192.0.2.2"}, False),
        ({"type": "multicast", "addr": "224.3.29.72", "intf": "eth1"}, False),
        ({"type": "disk", "dev": "/dev/disk/by-id/x", "dev@demo2": "/dev/sdx"}, False),
        ({"type": "relay", "relay": "demo3", "timeout": 20}, True),
        ({"type": "relay", "relay": "demo3", "username": "r", "password": "system/sec/relay"}, False),
    ],
)  # fmt: skip
def test_a_heartbeat_of_each_kind(states, world, config, secret, test):
    (world.etc / "cluster.conf").write_text(SET_UP)
    two = copy.deepcopy(world.status)
    two["hb#2.rx"], two["hb#2.tx"] = two["hb#1.rx"], two["hb#1.tx"]
    text = "".join(f"{key} = {value}\n" for key, value in config.items())
    world.says("cluster", "set", then={"cluster.conf": f"{SET_UP}\n[hb#2]\n{text}", "status": two})
    given = {"secret_pillar": "opensvc:cluster_secret"} if secret else {}
    ret = states.opensvc.heartbeat_present("hb#2", config=config, timeout=0, test=test, **given)
    assert ret.result is (None if test else True), ret.comment
    assert set(ret.changes) == {f"hb#2.{key}" for key in [*config, *(["secret"] if secret else [])]}
    told = [word for key, value in config.items() for word in ("--kw", f"hb#2.{key}={value}")]
    assert world.acts() == ([] if test else [["cluster", "set", *told]])
    assert CANARY not in json.dumps(ret.raw) + json.dumps(world.calls())
    if test:
        assert (world.etc / "cluster.conf").read_text() == SET_UP
        return
    assert (f"secret = {CANARY}" in (world.etc / "cluster.conf").read_text()) is secret
    world.forget()
    ret = states.opensvc.heartbeat_present("hb#2", config=config, timeout=0, **given)
    assert (ret.result, ret.changes, world.calls()) == (True, {}, [])


def test_a_password_is_not_given_to_om(states, world):
    (world.etc / "cluster.conf").write_text(SET_UP)
    for password in (CANARY, f"system/sec/{CANARY} x", f"sec/{CANARY.upper()}"):
        config = {"type": "relay", "relay": "demo3", "password": password}
        ret = states.opensvc.heartbeat_present("hb#2", config=config, timeout=0)
        assert (ret.result, ret.changes, world.calls()) == (False, {}, [])
        assert "hb#2.password is a secret" in ret.comment and password not in ret.comment
