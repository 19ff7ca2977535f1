"""The checks of one node: each obstacle gives one sentence with its key, value and remedy, and nothing is changed."""

import copy
import pathlib
import socket

import pytest
from salt.utils.dictupdate import merge
from support import load_module

pillar = load_module("_modules/slapos_ha.py")
module = load_module("_modules/slapos_ha_facts.py")


@pytest.fixture
def here(defaults, example, tmp_path):
    merged = merge(copy.deepcopy(defaults), copy.deepcopy(example["slapos_ha"]), merge_lists=False)
    merged["storage"].update(path=str(tmp_path), size="128m")
    return pillar.derive(merged, "demo1")


@pytest.fixture
def known():
    return {
        "agent": {"major": 2, "version": "2.1-1890"},
        "cluster": {"cluster": {"name": "default", "nodes": ["demo1"]}, "nodes": {}, "objects": {}},
        "drbd": {
            "version": {"utils": "9.22.0", "module_loaded": None, "module_available": "8.4.11"},
            "status": {},
        },
        "re6st": {"registered": None},
        "slapos": {"registered": None},
    }


@pytest.fixture(autouse=True)
def node(monkeypatch):
    """A node demo1 with the example's addresses and tools that answer well."""
    monkeypatch.setattr(module.socket, "gethostname", lambda: "demo1")
    monkeypatch.setattr(
        module.salt.utils.network, "ip_addrs", lambda **_: ["192.0.2.11", "198.51.100.11"]
    )
    monkeypatch.setattr(module, "_listening", lambda address, port: False)
    tools = {
        "slapos_ha.bytes_of": pillar.bytes_of,
        "opensvc.config_show": lambda path: None,
        "drbd.config": lambda: {},
        "slapos_node.registry_check": lambda url, fingerprint: {"reachable": True},
        "slapos_node.master_check": lambda url: {"reachable": True},
        "lvm.vgdisplay": lambda name, quiet: {},
        "cmd.run_all": lambda *_, **__: {"retcode": 2, "stdout": "", "stderr": ""},
    }
    monkeypatch.setattr(module, "__salt__", tools)
    monkeypatch.setattr(module, "__opts__", {"extension_modules": "/nowhere"})
    return tools


def test_a_fresh_node_has_no_problem(here, known):
    assert module._problems_of_node(here, known) == []


@pytest.mark.parametrize("owner", ["paris", "lyon", None])
def test_a_daemon_that_is_dead_does_not_make_the_sites_own_disk_a_strangers(
    here, known, node, owner
):
    """Seen in the lab: with the agent dead on one node a run said that its loop file be moved away."""
    pathlib.Path(here["storage"]["file"]).touch()
    known["cluster"] = {"error": "OpenSVC: the daemon on demo1 does not answer"}
    config = {"DEFAULT": {}, "env": {"slapos_ha_site": owner} if owner else {}}
    node["opensvc.config_show"] = {here["path"]: config}.get
    problems = module._problems_of_node(here, known)
    if owner == "paris":
        assert problems == []
    else:
        [problem] = problems
        assert "a service slapos/svc/comp1 that is not this site's" in problem


def test_a_service_whose_file_is_damaged_is_named_and_not_its_disk(here, known, node):
    pathlib.Path(here["storage"]["file"]).touch()
    known["cluster"] = {"error": "OpenSVC: the daemon on demo1 does not answer"}

    def spoilt(path):
        raise module.CommandExecutionError(f"OpenSVC: {path}: line 1 is no section")

    node["opensvc.config_show"] = spoilt
    [problem] = module._problems_of_node(here, known)
    assert problem.startswith("slapos_ha:service:name: OpenSVC: slapos/svc/comp1: line 1 is no")
    assert "remove it here: the agents bring it back" in problem


def test_with_a_dead_daemon_and_no_service_a_disk_is_a_strangers(here, known):
    pathlib.Path(here["storage"]["file"]).touch()
    known["cluster"] = {"error": "OpenSVC: the daemon on demo1 does not answer"}
    [problem] = module._problems_of_node(here, known)
    assert "is there on demo1 and no service of ours owns it" in problem


def foreign(site):
    return lambda w: (
        w.known["cluster"].update(objects={w.here["path"]: {}}),
        w.tools.update(
            {"opensvc.config_show": lambda path: {"env": {"slapos_ha_site": site} if site else {}}}
        ),
    )


class W:
    def __init__(self, here, known, tools, monkeypatch):
        self.here, self.known, self.tools, self.monkeypatch = here, known, tools, monkeypatch


OBSTACLES = [
    (lambda w: w.monkeypatch.setattr(module.socket, "gethostname", lambda: "web7"), r"cluster:nodes:demo1: this node calls itself 'web7'.*name it web7"),
    (lambda w: w.here["cluster"]["nodes"]["demo1"].update(address="192.0.2.99"), r"cluster:nodes:demo1:address: '192.0.2.99' is on no interface of demo1"),
    (lambda w: w.here["drbd"]["addresses"].update(demo1="198.51.100.99"), r"drbd:addresses:demo1: '198.51.100.99' is on no interface"),
    (lambda w: w.known.update(agent={"error": "om is not installed."}), r"cluster:agent:source: 'installed', but om is not installed. Install the OpenSVC agent"),
    (lambda w: w.known.update(agent={"major": 2, "version": "2.0-1"}), r"cluster:agent:version: '2.1' is wanted and '2.0-1' is installed"),
    (lambda w: (w.known.update(agent={"major": 3, "version": "3.0.0"}), w.here["cluster"]["agent"].pop("version")), r"agent 3.0.0 needs DRBD 9 and this kernel has 8.4.11"),
    (lambda w: w.known["cluster"].update(cluster={"name": "other", "nodes": ["demo1", "web7"]}), r"cluster:nodes: this node is already in cluster 'other' with web7"),
    (lambda w: w.known["cluster"].update(cluster={"name": "other", "nodes": ["demo1", "demo2"]}), r"cluster:name: 'paris', but these nodes are already cluster 'other'"),
    (lambda w: w.here["cluster"]["arbitrators"].update({"arbitrator#1": {"address": "demo3"}}), r"cluster:arbitrators:arbitrator#1:secret: missing, and agent 2.1 needs it"),
    (lambda w: w.here["cluster"]["heartbeats"].update({"hb#2": {"type": "relay", "relay": "demo3"}}), r"cluster:heartbeats:hb#2:secret: missing, and agent 2.1 needs it"),
    (
        lambda w: (
            w.known.update(agent={"major": 3, "version": "3.0.0"}),
            w.known["drbd"].update(version={"module_loaded": "9.2.0"}),
            w.here["cluster"]["agent"].pop("version"),
            w.here["cluster"]["heartbeats"].update({"hb#2": {"type": "relay", "relay": "demo3"}}),
        ),
        r"cluster:heartbeats:hb#2:password: missing, and agent 3 needs it",
    ),
    (lambda w: w.here["cluster"]["heartbeats"].update({"hb#2": {"type": "disk", "dev": "/dev/null", "dev@demo1": "/dev/null-such"}}), r"cluster:heartbeats:hb#2:dev: '/dev/null-such' is not there on demo1"),
    (
        lambda w: (
            w.here["firewall"].update(backend="ufw"),
            w.tools.update({"slapos_firewall.problems": lambda backend: [f"slapos_ha:firewall:backend: {backend!r}, but on demo1 ufw is not active"]}),
        ),
        r"firewall:backend: 'ufw', but on demo1 ufw is not active",
    ),
    (foreign(None), r"service:name: the cluster has a service slapos/svc/comp1 that is not this site's"),
    (foreign("lyon"), r"slapos_ha_site is 'lyon'"),
    (lambda w: w.known["drbd"].update(version={"module_loaded": None, "module_available": None}), r"drbd: kernel .* has no drbd module; install it"),
    (lambda w: w.known["drbd"].update(version={"error": "drbdadm is missing: apt-get install drbd-utils"}), r"drbd: drbdadm is missing"),
    (lambda w: w.tools.update({"drbd.config": lambda: {"r0": {"address": "192.0.2.11:7289", "device": "/dev/drbd9"}}}), r"drbd:port: 7289 is used by resource r0"),
    (lambda w: w.tools.update({"drbd.config": lambda: {"r0": {"address": "192.0.2.11:7000", "device": "/dev/drbd0"}}}), r"drbd:minor: 0 is used by resource r0"),
    (lambda w: w.monkeypatch.setattr(module, "_listening", lambda address, port: True), r"drbd:port: something on demo1 listens on 198.51.100.11:7289 already"),
    (lambda w: w.here["storage"].update(size="900t"), r"storage:size: '900t' is more than the \d+ MiB free below"),
    (lambda w: open(w.here["storage"]["file"], "w").close(), r"storage:path: .*\.img is there on demo1 and no service of ours owns it"),
    (lambda w: w.here["storage"].update(path="/nowhere", file="/nowhere/x.img"), r"storage:path: '/nowhere' is no folder on demo1"),
    (lambda w: w.here["storage"].update(backend="device", device="/dev/null-such"), r"storage:device: '/dev/null-such' is not there on demo1"),
    (
        lambda w: (
            w.here["storage"].update(backend="device", device="/dev/null"),
            w.tools.update({"cmd.run_all": lambda *_, **__: {"retcode": 0, "stdout": "DEVNAME=/dev/null\nTYPE=ext4\n", "stderr": ""}}),
        ),
        r"storage:device: '/dev/null' on demo1 is not empty \(TYPE=ext4\)",
    ),
    (lambda w: w.here["storage"].update(backend="lvm", vg="data"), r"storage:vg: there is no volume group 'data' on demo1"),
    (lambda w: w.tools.update({"slapos_node.registry_check": lambda *_: {"error": "connection refused; start the registry"}}), r"re6st:registry: connection refused"),
    (lambda w: w.tools.update({"slapos_node.master_check": lambda url: {"error": "down"} if "slap.vifib" in url else {}}), r"slapos:master_url: down"),
]  # fmt: skip


@pytest.mark.parametrize("spoil, message", OBSTACLES, ids=[message for _, message in OBSTACLES])
def test_each_obstacle_is_named_alone(here, known, node, monkeypatch, spoil, message):
    import re

    spoil(W(here, known, node, monkeypatch))
    problems = module._problems_of_node(here, known)
    assert len(problems) == 1, problems
    assert problems[0].startswith("slapos_ha:") and re.search(message, problems[0]), problems


def test_a_deployed_node_is_not_asked_about_its_disk_registry_and_master(here, known, node):
    open(here["storage"]["file"], "w").close()
    known["cluster"].update(
        objects={here["path"]: {}}, cluster={"name": "paris", "nodes": ["demo1", "demo2"]}
    )
    known["re6st"]["registered"] = known["slapos"]["registered"] = True
    node["opensvc.config_show"] = lambda path: {"env": {"slapos_ha_site": "paris"}}
    node["slapos_node.registry_check"] = node["slapos_node.master_check"] = lambda *_: {
        "error": "down"
    }
    assert module._problems_of_node(here, known) == []


def test_a_port_that_listens_is_found():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        fresh = load_module("_modules/slapos_ha_facts.py", "fresh_slapos_ha_facts")
        assert fresh._listening("127.0.0.1", server.getsockname()[1]) is True
    assert fresh._listening("127.0.0.1", 1) is False


SOURCES = [
    ("etc/apt/sources.list", "deb http://deb.debian.org/debian bookworm main\n", False),
    ("etc/apt/sources.list", "# deb [trusted=yes] http://x.test/ ./\n", False),
    ("etc/apt/sources.list", "deb [signed-by=/k.gpg] http://x.test/trusted=yes/ ./\n", False),
    ("etc/apt/sources.list", "deb [arch=amd64 trusted=yes] http://x.test/ ./\n", True),
    ("etc/apt/sources.list.d/x.list", "deb-src [ allow-insecure=yes ] http://x.test/ ./\n", True),
    ("etc/apt/sources.list.d/x.sources", "Types: deb\nTrusted: yes\n", True),
    ("etc/apt/sources.list.d/x.sources", "Types: deb\nSigned-By: /k.gpg\nTrusted: no\n", False),
    ("etc/apt/sources.list.d/x.sources.save", "Trusted: yes\n", False),
]


@pytest.mark.parametrize("name, text, unsigned", SOURCES)
def test_an_apt_source_without_a_signature_is_found(tmp_path, name, text, unsigned):
    path = tmp_path / name
    path.parent.mkdir(parents=True)
    path.write_text(text)
    found = module._unsigned_sources(str(tmp_path))
    assert bool(found) is unsigned and all(str(path) in sentence for sentence in found)


def test_an_apt_source_without_a_signature_is_an_obstacle_unless_allowed(here, known):
    known["unverified"] = [*here["unverified"], "/etc/apt/x.list: line 1 has apt …"]
    [problem] = module._problems_of_node(here, known)
    assert problem.startswith(
        "/etc/apt/x.list: line 1 has apt …: give the repository's key as signed-by"
    )
    here["allow_unverified"] = True
    assert module._problems_of_node(here, known) == []


@pytest.fixture
def asked(node, monkeypatch):
    """What a minion remembers of the pillar, and what the master has now."""
    monkeypatch.setattr(module, "__pillar__", {"slapos_ha": {"site": "old"}}, raising=False)
    monkeypatch.setattr(module, "__grains__", {"id": "demo1"}, raising=False)
    world = {"master": {"slapos_ha": {"site": "new"}}, "refreshed": 0}
    monkeypatch.setattr(module, "_compiled_pillar", lambda: world["master"])
    node["saltutil.refresh_pillar"] = lambda: world.update(refreshed=world["refreshed"] + 1)
    node["slapos_ha.site"] = lambda: (_ for _ in ()).throw(
        module.CommandExecutionError("not right")
    )
    return world


def test_a_preflight_judges_the_pillar_as_it_is_now(asked):
    assert module.facts(preflight=True)["site"] == "new"
    assert asked["refreshed"] == 1


def test_a_pillar_that_is_as_it_was_is_not_compiled_once_more(asked):
    asked["master"] = {"slapos_ha": {"site": "old"}, "other": "new"}
    assert module.facts(preflight=True)["site"] == "old" and asked["refreshed"] == 0


def test_without_a_preflight_nobody_is_asked_for_the_pillar(asked):
    assert module.facts()["site"] == "old" and asked["refreshed"] == 0


@pytest.mark.parametrize("applications", [True, False])
def test_the_launchers_are_asked_only_for_who_wants_to_know(here, node, monkeypatch, applications):
    heard = []
    monkeypatch.setattr(module, "__pillar__", {"slapos_ha": {"site": "paris"}}, raising=False)
    node["slapos_ha.site"] = lambda: here
    monkeypatch.setattr(module, "_asked", lambda function, *_: heard.append(function) or {})
    answer = module.facts(applications=applications)
    launchers = {"slapos_node.re6st_facts", "slapos_node.slapos_facts"}
    assert launchers & set(heard) == (launchers if applications else set())
    assert ("re6st" in answer, "slapos" in answer) == (applications, applications)


@pytest.mark.parametrize(
    ("nice", "allowed", "wanted"), [(0, True, -10), (-15, True, -15), (5, False, 5)]
)
def test_a_look_comes_before_what_else_runs_here(here, node, monkeypatch, nice, allowed, wanted):
    seen, now = [], [nice]

    def set_priority(which, who, priority):
        if not allowed:
            raise PermissionError
        now[0] = priority

    monkeypatch.setattr("os.getpriority", lambda which, who: now[0])
    monkeypatch.setattr("os.setpriority", set_priority)
    monkeypatch.setattr(module, "__pillar__", {"slapos_ha": {"site": "paris"}}, raising=False)
    monkeypatch.setattr(module, "__context__", {"opensvc.spent": 2.5})
    node["slapos_ha.site"] = lambda: here
    monkeypatch.setattr(module, "_asked", lambda function, *_: seen.append(now[0]) or {})
    assert module.facts()["agent_seconds"] == 2.5
    assert set(seen) == {wanted} and now == [nice]


def test_a_preflight_asks_the_launchers_in_any_case(here, node, monkeypatch):
    monkeypatch.setattr(module, "__pillar__", {"slapos_ha": {"site": "paris"}}, raising=False)
    monkeypatch.setattr(module, "_renewed_pillar", lambda: [])
    node["slapos_ha.site"] = lambda: here
    monkeypatch.setattr(module, "_asked", lambda function, *_: {"asked": function})
    judged = {}
    monkeypatch.setattr(module, "_problems_of_node", lambda _, known: judged.update(known) or [])
    assert module.facts(preflight=True, applications=False)["problems"] == []
    assert judged["re6st"] == {"asked": "slapos_node.re6st_facts"}


def test_a_pillar_that_cannot_be_compiled_is_said_without_its_text(asked):
    asked["master"] = {"_errors": ["Rendering SLS 'site' failed: token: canary-of-the-pillar"]}
    problems = module.facts(preflight=True)["problems"]
    assert len(problems) == 1 and "cannot compile the pillar of demo1" in problems[0]
    assert "canary" not in problems[0]


VOTE = {"arbitrator#1": {"address": "demo3"}}


@pytest.mark.parametrize(
    "wanted, config, unset",
    [
        ({}, {"cluster": {}}, []),
        # What the pillar does not name is as the cluster has it.
        ({}, {"cluster": {"quorum": "true"}, "arbitrator#9": {"name": "x"}}, []),
        ({"arbitrators": VOTE}, {"arbitrator#1": {"name": "demo3"}}, []),
        ({"arbitrators": VOTE}, {"arbitrator#1": {"uri": "demo3"}}, []),
        ({"arbitrators": VOTE}, {"arbitrator#1": {"name": "demo4"}}, ["arbitrator#1"]),
        (
            {"arbitrators": VOTE, "quorum": True},
            {"cluster": {}},
            ["arbitrator#1", "cluster.quorum"],
        ),
        ({"quorum": True}, {"cluster": {"quorum": "true"}}, []),
        ({"quorum": False}, {"cluster": {"quorum": "true"}}, ["cluster.quorum"]),
        ({"quorum": False}, {}, []),
        ({"quorum": True}, None, ["cluster.quorum"]),
    ],
)
def test_what_of_the_votes_is_not_set_yet(here, node, wanted, config, unset):
    here["cluster"].update(wanted)
    node["opensvc.config_show"] = lambda path: config
    assert module._unset(here) == unset


def test_an_agent_that_is_not_there_has_nothing_unset(here, node):
    here["cluster"].update(arbitrators=VOTE)
    del node["opensvc.config_show"]
    module.__grains__ = {"id": "demo1"}
    assert module._unset(here) == []
