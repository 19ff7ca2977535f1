"""What looks alike in agents 2.1 and 3 and is not, or is not what it looks like: one test for each."""

import ast
import json

import pytest
import yaml
from salt.exceptions import CommandExecutionError, SaltInvocationError
from support import ROOT

PATH = "slapos/svc/comp1"
STATUS_2 = ["daemon", "status", "--format", "json"]
STATUS_3 = ["cluster", "status", "-o", "json"]
INSTANCE_3 = ("cluster", "node", "demo1", "instance", PATH)


@pytest.fixture
def both(agent, recorded):
    """``both(2)`` and ``both(3)`` are the agent with its recorded answer, whose document can be changed by a path and a value."""

    def become(major, *steps):
        agent.context.clear()
        agent.become(major)
        name = (
            ("opensvc-2.1", "full_daemon_status.json") if major == 2 else ("opensvc-3", "mon.json")
        )
        document = json.loads(recorded(*name)["stdout"])
        if steps:
            *path, key, value = steps
            here = document
            for step in path:
                here = here[step]
            here[key] = value
        agent.om.says(STATUS_2 if major == 2 else STATUS_3, document)
        return agent

    return become


def shape(data):
    """The keys of a document, names given by people aside."""
    if not isinstance(data, dict):
        return None
    named = {"demo1", "demo2", "hb#1", PATH}
    return {
        key if key not in named else "*": shape(value)
        for key, value in sorted(data.items())
        if key in named or ("/" not in key and "#" not in key)
    }


def test_both_agents_have_one_shape_and_it_is_the_documented_one(both, root):
    text = ast.get_docstring(ast.parse((root / "_modules/opensvc.py").read_text()))
    block = text.partition("Both agents' answers have one shape")[2].partition("No function asks")[
        0
    ]
    documented = yaml.safe_load(block.partition(".. code-block:: yaml")[2])
    resource = documented["objects"][PATH]["instances"]["demo1"]["resources"].pop("fs#0")
    arbitrator = documented["nodes"]["demo1"]["arbitrators"].pop("arbitrator#1")
    for major in (2, 3):
        known = both(major).cluster_status()
        assert shape(known) == shape(documented)
        for one in known["objects"][PATH]["instances"].values():
            assert all(set(found) == set(resource) for found in one["resources"].values())
    steps = ("cluster", "node", "demo1", "status", "arbitrators")
    known = both(3, *steps, {"1": {"url": "demo3:1215", "status": "down", "weight": 1}})
    found = known.cluster_status()["nodes"]["demo1"]["arbitrators"]
    assert found == {"arbitrator#1": {"address": "demo3:1215", "status": "down"}}
    known = both(2, "monitor", "nodes", "demo1", "arbitrators", {"arbitrator#1": arbitrator})
    with pytest.raises(CommandExecutionError, match="arbitrator#1.name"):
        known.cluster_status()
    one = {"name": "demo3", "status": "up"}
    known = both(2, "monitor", "nodes", "demo1", "arbitrators", {"arbitrator#1": one})
    assert known.cluster_status()["nodes"]["demo1"]["arbitrators"] == {"arbitrator#1": arbitrator}


# om PATH status: 2.1 says overall with 0 up, 1 down, 2 warn …; 3 says avail with 1 n/a, 2 up, 4 down, 8 warn …
def test_exit_code_2_is_warn_for_one_agent_and_up_for_the_other(both, service, recorded):
    words = {}
    for major in (2, 3):
        agent = both(major)
        agent.om.repeats(
            [PATH, "print", "schedule"], recorded("opensvc-2.1", "full_print_schedule.json")
        )
        agent.om.repeats([PATH, "schedule"], recorded("opensvc-3", "schedule.json"))
        words[major] = (agent.status(PATH)["overall"], agent.status(PATH)["avail"])
        for ask in (agent.nodes, agent.heartbeats, agent.objects, agent.cluster_status):
            ask()
        for ask in (agent.instance_status, agent.schedule, agent.config_show):
            ask(PATH)
        agent.resource_status(PATH, "fs#0")
    # Both would have returned 2.
    assert (words[2][0], words[3][1]) == ("warn", "up")
    assert [call for call in agent.om.calls if "status" in call and call[0] == PATH] == []


def test_no_function_asks_om_for_an_exit_code():
    """``[path, "status"]`` is in no list of arguments."""
    for name in sorted((ROOT / "_modules").glob("opensvc*.py")) + [ROOT / "_utils/opensvc_om.py"]:
        for node in ast.walk(ast.parse(name.read_text())):
            if isinstance(node, ast.List) and len(node.elts) > 1:
                words = [one.value for one in node.elts if isinstance(one, ast.Constant)]
                first = node.elts[0]
                assert isinstance(first, ast.Constant) or words[:1] != ["status"], ast.unparse(node)


def test_the_year_1_is_never(both):
    never, then = "0001-01-01T00:00:00Z", "2026-11-23T08:08:24Z"
    for value, frozen in ((never, False), (then, True)):
        agent = both(3, *INSTANCE_3, "status", "frozen_at", value)
        assert agent.instance_status(PATH)["frozen"] is frozen
        agent = both(3, "cluster", "node", "demo1", "status", "frozen_at", value)
        assert agent.nodes()["demo1"]["frozen"] is frozen
    for value in ("0001-01-01", "", None, 0):
        agent = both(3, *INSTANCE_3, "status", "frozen_at", value)
        with pytest.raises(CommandExecutionError, match="frozen_at"):
            agent.instance_status(PATH)


@pytest.mark.parametrize("value, seen", [("true", True), ("false", False), ("mixed", "mixed")])
def test_a_string_for_a_boolean(both, value, seen):
    """bool("false") is True."""
    agent = both(3, *INSTANCE_3, "status", "provisioned", value)
    assert agent.instance_status(PATH)["provisioned"] is seen or seen == "mixed"
    agent = both(3, *INSTANCE_3, "status", "resources", "fs#0", "provisioned", {"state": value})
    found = agent.resource_status(PATH, "fs#0")["provisioned"]
    assert found is (seen if seen != "mixed" else None)


@pytest.mark.parametrize("major", [2, 3])
def test_none_is_a_word_that_a_keyword_may_have(agent, service, recorded, major):
    """om get prints None for what is missing (2.1; agent 3 an empty line), with the code 0: it is not asked."""
    assert recorded("opensvc-2.1", "get_missing")["stdout"] == "None\n"
    assert recorded("opensvc-3", "svc_get_missing")["stdout"] == "\n"
    agent.become(major)
    name = agent.etc / "namespaces/slapos/svc/comp1.conf"
    name.write_text(name.read_text() + "\n[env]\nword = None\nempty =\n")
    assert agent.config_get(PATH, "env.nosuch") is None
    assert agent.config_get(PATH, "env.word") == "None"
    assert agent.config_get(PATH, "env.empty") == ""
    assert agent.om.calls == []


@pytest.mark.parametrize("disk", ["Inconsistent", "Outdated"])
def test_stdby_up_hides_a_disk_that_is_no_copy(both, disk):
    """Agent 3 calls it "stdby up" and logs nothing: DRBD is asked before the object is called healthy."""
    agent = both(3)
    standby = agent.instance_status(PATH, "demo2")
    assert standby["avail"] == "stdby up"
    name = standby["resources"]["disk#3"]["label"].split()[-1]
    link = {"state": "Connected", "volumes": {0: {"replication": "Established", "disk": disk}}}
    said = {name: {"up": True, "disk": {0: {"disk": "UpToDate"}}, "connections": {"demo2": link}}}
    assert agent.check(PATH, "healthy")["done"] is True  # without the module drbd nobody can tell
    agent.functions["drbd.generation_ids"] = None
    agent.functions["drbd.status"] = lambda fresh=True: said
    found = agent.check(PATH, "healthy")
    assert found["done"] is False
    assert f"DRBD's {name} below disk#3: the disk of demo2 is {disk}" in found["seen"]
    assert agent.replicas(PATH)["disk#3"] == {"resource": name, "trouble": None}
    link["volumes"][0]["disk"] = "UpToDate"
    assert agent.check(PATH, "healthy")["done"] is True


def test_drbd_that_cannot_be_asked_is_not_in_sync(both):
    def status(fresh=True):
        raise CommandExecutionError("drbdsetup is not installed")

    agent = both(3)
    agent.functions.update({"drbd.generation_ids": None, "drbd.status": status})
    found = agent.check(PATH, "healthy")
    assert found["done"] is False
    assert "drbdsetup is not installed" in found["seen"]
    # Salt's own module of that name says something else by status.
    del agent.functions["drbd.generation_ids"]
    assert agent.check(PATH, "healthy")["done"] is True


@pytest.mark.parametrize(
    "act",
    [
        lambda a: a.takeover(PATH),
        lambda a: a.sync(PATH),
        lambda a: a.enable(PATH, ["app#0"]),
        lambda a: a.config_set(PATH, {"env.x": 1}),
        lambda a: a.unprovision(PATH, force=True),
        lambda a: a.cluster_freeze(),
        lambda a: a.node_drain(),
        lambda a: a.cluster_set({"cluster.quorum": True}),
    ],
)
def test_agent_3_prints_its_help_for_an_unknown_verb_and_returns_0(agent, service, recorded, act):
    agent.become(3)
    for begin in (PATH, "cluster", "node"):
        agent.om.repeats([begin], recorded("opensvc-3", "bad_action"))
    agent.become(3)
    with pytest.raises(CommandExecutionError, match="this agent does not know the action"):
        act(agent)


def test_a_key_that_reads_like_a_help_text_is_a_key(agent):
    """The launchers are such: what they hold is data, whatever it looks like."""
    agent.become(3)
    (agent.etc / "namespaces/slapos/sec").mkdir()
    (agent.etc / "namespaces/slapos/sec/s.conf").write_text("[data]\nkey = crypt:abc\n")
    agent.om.says(["slapos/sec/s", "key", "decode"], "launcher\n\nUsage:\n  launcher start\n")
    assert agent.decode("slapos/sec/s", "key", secret=True).startswith("launcher")


def test_an_unknown_keyword_is_accepted_by_agent_3_without_a_word(agent, service, recorded):
    agent.become(3)
    agent.om.says([PATH, "config", "update"], "committed\n")
    table = recorded("opensvc-3", "config_bad_kw")["stdout"].split("\n", 1)[1]
    agent.om.says([PATH, "config", "validate"], table)
    (warning,) = agent.config_set(PATH, {"nosuch#1.foo": 1})["warnings"]
    assert "unknown keyword" in warning
    assert agent.config_set(PATH, {"env.foo": 1})["warnings"] == []


def test_sync_of_agent_2_fails_with_the_code_0(agent, service, recorded):
    agent.om.repeats([PATH, "sync"], recorded("opensvc-2.1", "full_sync_nodes"))
    with pytest.raises(CommandExecutionError, match="node demo2 synchronization failed"):
        agent.sync(PATH)
    agent.om.says([PATH, "sync"], "", "@ n:demo1 o:slapos/svc/comp1 r:sync#i0 sc:n\n  rsync -a\n")
    assert agent.sync(PATH) == {"warnings": []}


def test_a_group_is_not_a_resource(agent, service):
    """disk.size is every disk# for agent 2.1."""
    for act in (agent.config_get, lambda path, name: agent.config_set(path, {name: 1})):
        with pytest.raises(SaltInvocationError, match="every disk resource"):
            act(PATH, "disk.size")
