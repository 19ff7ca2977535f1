"""Every SLS renders for both nodes, with the pillar that is shipped as the example."""

import pytest
import yaml
from support import ROOT

from ..variants import PILLARS, SLS, chunks


@pytest.fixture(scope="module", params=["demo1", "demo2"])
def node(request, make_loaders):
    pillar = yaml.safe_load((ROOT / "pillar.example").read_text())
    return request.param, make_loaders(request.param, pillar)


@pytest.mark.parametrize("sls", SLS)
def test_it_renders(node, sls):
    name, loaders = node
    low = loaders.modules.state.show_low_sls(sls)
    assert low and all(isinstance(chunk, dict) for chunk in low), low
    for chunk in low:
        function = f"{chunk['state']}.{chunk['fun']}"
        assert function in loaders.states, f"{sls}: there is no state {function}"


def test_a_highstate_of_a_node_that_is_not_deployed_registers_and_provisions_nothing(node):
    name, loaders = node
    functions = {
        f"{c['state']}.{c['fun']}" for c in loaders.modules.state.show_low_sls("slapos_ha")
    }
    assert not functions & {
        "opensvc.provisioned", "opensvc.placed", "opensvc.started", "opensvc.enabled", "opensvc.object_present", "drbd.metadata_present",
        "slapos_node.re6st_registered", "slapos_node.slapos_registered",
    }  # fmt: skip


# A deployment that has come as far as re6st, and one where re6st has run on both nodes.
@pytest.mark.parametrize("disabled, all_of_it", [("true", False), ("false", True), (None, True)])
def test_before_re6st_nobody_waits_for_slapos(make_loaders, tmp_path, disabled, all_of_it):
    loaders = make_loaders("demo2", yaml.safe_load((ROOT / "pillar.example").read_text()))
    loaders.opts["opensvc.etc"] = str(tmp_path)
    file = tmp_path / "namespaces/slapos/svc/comp1.conf"
    file.parent.mkdir(parents=True)
    if disabled:
        file.write_text(f"[DEFAULT]\nid = 7\n[app#0]\ntype = forking\ndisable = {disabled}\n")
    low = loaders.modules.state.show_low_sls("slapos_ha.software")
    made = {chunk["name"] for chunk in low if chunk["fun"] == "environment_present"}
    assert made == {"/opt/re6st", *(["/opt/slapos"] if all_of_it else [])}


def test_the_way_from_disks_to_drbd(node):
    """Each step needs the one before it: made, up since the last boot, and at the end known to the agent, which would take DRBD down and up otherwise."""
    _, loaders = node
    low = loaders.modules.state.show_low_sls("slapos_ha.storage")
    # Its place is in an extend, which is not shown here: where there is no file yet it fails.
    assert [chunk["name"] for chunk in low if chunk["fun"] == "file_allocated"] == [
        "/opt/comp1.slapos.svc.paris.img"
    ]
    ordered = sorted(
        (c for c in low if c["fun"] != "file_allocated"), key=lambda chunk: chunk["order"]
    )
    assert [
        (f"{chunk['state']}.{chunk['fun']}", chunk.get("rids"), chunk.get("state_only"))
        for chunk in ordered
    ] == [
        ("opensvc.provisioned", ["disk#0", "disk#1", "disk#2"], None),
        ("opensvc.resource_started", ["disk#0", "disk#1", "disk#2"], None),
        ("drbd.metadata_present", None, None),
        ("drbd.up", None, None),
        ("opensvc.provisioned", ["disk#3"], True),
    ]
    needs = {
        chunk["__id__"]: [name for one in chunk.get("require", []) for name in one.values()]
        for chunk in ordered
    }
    disks, started, metadata, up, told = (chunk["__id__"] for chunk in ordered)
    assert needs[disks] == [] and needs[started] == [disks]
    assert needs[metadata] == [started]
    assert needs[up] == [metadata] and needs[told] == [up]


def test_the_service_is_converged_from_the_preferred_node_only(node):
    name, loaders = node
    functions = {
        f"{c['state']}.{c['fun']}" for c in loaders.modules.state.show_low_sls("slapos_ha.service")
    }
    assert ("opensvc.object_present" in functions) == (name == "demo1")


def test_the_service_of_the_example(node):
    _, loaders = node
    config = loaders.modules.slapos_ha.service_config()
    assert config["DEFAULT"] == {
        "nodes": "demo1 demo2",
        "topology": "failover",
        "orchestrate": "ha",
    }
    assert config["disk#0"] == {
        "type": "loop",
        "file": "/opt/{fqdn}.img",
        "size": "{env.size}",
        "standby": "true",
    }
    assert config["disk#3"]["disk"] == "/dev/comp1.slapos.svc.paris/comp1"
    # A service that is not there yet begins with its applications and tasks off.
    assert all(
        config[section]["disable"] == "true"
        for section in config
        if section.startswith(("app#", "task#"))
    )
    assert sum(section.startswith("task#") for section in config) == 5


@pytest.mark.parametrize(
    "wanted, had, restart, schedule",
    [
        # Not given, nothing is said: what an operator has set with om stays.
        (None, None, None, None),
        (None, "1", None, None),
        (3, None, "3", "@1m"),
        (3, "1", "3", "@1m"),
        # What the configuration has stays there until it is told otherwise.
        (0, "3", "0", "@10m"),
    ],
)
def test_how_often_the_agent_starts_again_what_ended(
    make_loaders, tmp_path, wanted, had, restart, schedule
):
    pillar = yaml.safe_load((ROOT / "pillar.example").read_text())
    if wanted is not None:
        pillar["slapos_ha"]["service"]["restart"] = wanted
    loaders = make_loaders("demo1", pillar)
    loaders.opts["opensvc.etc"] = str(tmp_path)
    if had:
        file = tmp_path / "namespaces/slapos/svc/comp1.conf"
        file.parent.mkdir(parents=True)
        file.write_text(f"[DEFAULT]\nid = 7\n[app#0]\ntype = forking\nrestart = {had}\n")
    config = loaders.modules.slapos_ha.service_config()
    assert config["DEFAULT"].get("monitor_schedule") == schedule
    assert [config[app].get("restart") for app in ("app#0", "app#1")] == [restart, restart]


@pytest.mark.parametrize("test", [True, False])
def test_the_loop_file_becomes_roots_alone_and_is_not_made(node, tmp_path, test):
    _, loaders = node
    [chunk] = [
        chunk
        for chunk in loaders.modules.state.show_low_sls("slapos_ha.drbd")
        if chunk["name"] == "/opt/comp1.slapos.svc.paris.img"
    ]
    file = tmp_path / "comp1.img"
    arguments = {key: chunk[key] for key in ("user", "group", "mode", "create", "replace")}
    arguments.update(user=None, group=None, test=test)

    def applied():
        state = loaders.modules.state.single("file.managed", str(file), **arguments)
        return state.result, bool(state.changes)

    assert applied() == (True, False) and not file.exists()
    file.write_text("data")
    file.chmod(0o644)
    assert applied() == (None if test else True, True)
    assert file.stat().st_mode & 0o777 == (0o644 if test else 0o600)
    assert file.read_text() == "data"
    file.chmod(0o600)
    assert applied() == (True, False)


def test_no_secret_is_in_what_renders(node):
    _, loaders = node
    rendered = repr([loaders.modules.state.show_low_sls(sls) for sls in SLS])
    rendered += repr(chunks(loaders, "votes"))
    assert "change-me" not in rendered


@pytest.mark.parametrize("pillar", PILLARS)
def test_nothing_that_salt_makes_is_for_others_to_write(node, pillar):
    _, loaders = node
    for sls, chunk in chunks(loaders, pillar):
        if chunk["state"] != "file" or chunk["fun"] == "blockreplace":
            continue  # blockreplace keeps the file's mode and owner, and makes none
        where = (sls, chunk["name"])
        for key in ("mode", *(["dir_mode"] if chunk.get("makedirs") else [])):
            assert isinstance(chunk.get(key), str), (*where, key)
            assert int(chunk[key], 8) & 0o022 == 0, (*where, key, chunk[key])
        assert (chunk.get("user"), chunk.get("group")) == ("root", "root"), where


def test_a_firewall_is_set_only_where_the_pillar_names_one(node):
    name, loaders = node
    (chunk,) = loaders.modules.state.show_low_sls("slapos_ha.firewall")
    assert (chunk["fun"], chunk["keep"]) == ("absent", "none")
    for backend in ("nftables", "ufw", "firewalld"):
        first, *more = sorted((c for _, c in chunks(loaders, backend)), key=lambda c: c["order"])
        assert (first["fun"], first["keep"]) == ("absent", backend)
        assert "ready" in {chunk["fun"] for chunk in more}


def test_votes_are_set_in_an_order_that_takes_no_node_down(node):
    name, loaders = node
    low = [chunk for _, chunk in chunks(loaders, "votes")]
    order = [f"{chunk['fun']} {chunk['name']}".split(" ")[0] for chunk in sorted(low, key=lambda c: c["order"])]  # fmt: skip
    heartbeats = ["heartbeat_present"] * (1 if name == "demo1" else 3)
    begin = "cluster_present" if name == "demo1" else "member"
    assert order == [begin, *heartbeats, "arbitrator_present", "quorum_present"]
    by = {chunk["name"]: chunk for chunk in low}
    assert by["hb#2"]["secret_pillar"] == "slapos_ha:cluster:heartbeats:hb#2:secret"
    assert by["hb#2"]["config"] == {"type": "relay", "relay": "demo3"}
    arbitrator = by["arbitrator#1"]
    assert (arbitrator["address"], arbitrator["config"]) == ("demo4", {"timeout": 7})
    assert arbitrator["secret_pillar"] == "slapos_ha:cluster:arbitrators:arbitrator#1:secret"
    (quorum,) = [chunk for chunk in low if chunk["fun"] == "quorum_present"]
    assert quorum["arbitrators"] == ["arbitrator#1"]
    assert {"opensvc": quorum["__id__"]} in arbitrator["require_in"]
    if name == "demo1":
        assert set(by["paris"]["heartbeats"]) == {"hb#1", "hb#3"} and "config" not in by["paris"]
        ((_, off),) = chunks(loaders, "no votes")
        assert off["config"] == {"cluster": {"quorum": False}}
