"""The launchers' readers on files that anybody may have damaged: an answer of the right form, or a Failure; never another exception."""

import ipaddress
import json

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from .conftest import load

FUZZ = settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))  # fmt: skip
BYTES = st.one_of(
    st.binary(max_size=40),
    st.text(st.sampled_from("ab =:/#'\"\\[]{}<>\n\t\0é😀01."), max_size=40).map(str.encode),
)
SETTINGS = {
    "re6st": {"program": "re6stnet", "path": [], "start_seconds": 1, "stop_seconds": 1, "mesh_seconds": 1},
    "slapos": {
        "program": "slapos", "path": [], "interface": "lo", "user_ids": [], "start_seconds": 1, "stop_seconds": 1, "task_seconds": 1, "boot_seconds": 1,
        "promise_seconds": 1,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    re6st = {**SETTINGS["re6st"], "conf_dir": str(folder), "ha_run_dir": str(folder / "run")}
    slapos = {
        **SETTINGS["slapos"],
        "config": str(folder / "slapos.cfg"),
        "instance_root": str(folder),
        "computer_xml": str(folder / "slapos.xml"),
        "ha_run_dir": str(folder / "run"),
    }
    (folder / "run").mkdir()
    module = load("slapos")
    return folder, module, module.base.Re6st(re6st), module.Slapos(slapos, re6st)


@FUZZ
@given(text=BYTES)
def test_re6stnet_conf(world, text):
    folder, _, service, _ = world
    (folder / "re6stnet.conf").write_bytes(text)
    for name in ("run", "log", "a"):
        assert isinstance(service.option(name, "default"), str)


@FUZZ
@given(text=BYTES)
def test_slapos_cfg(world, text):
    folder, _, _, service = world
    (folder / "slapos.cfg").write_bytes(b"[slapos]\nkey_file = x y\n" + text)
    assert isinstance(service.option("key_file"), str)
    assert all(isinstance(path, str) for path in service.missing())


WORDS = st.sampled_from(["addr", "network", "netmask", "", "10.0.0.1", "255.255.255.255", "ffff::", "2001:db8::/80", "2001:db8::1", "x", "1/2/3"])  # fmt: skip
ENTRIES = st.lists(st.lists(st.tuples(WORDS, WORDS), max_size=3), max_size=3)


@FUZZ
@given(entries=ENTRIES, kept=BYTES, cut=st.integers(0, 400))
def test_the_computers_addresses(world, entries, kept, cut):
    folder, module, _, service = world
    text = "<marshal>" + "".join(
        "<dictionary>" + "".join(f"<string>{key}</string><string>{value}</string>" for key, value in entry) + "</dictionary>"
        for entry in entries
    )  # fmt: skip
    (folder / "slapos.xml").write_text((text + "</marshal>")[:-cut] if cut else text + "</marshal>")
    (folder / "run/addresses.json").write_bytes(kept)
    try:
        hosts, networks = service.assigned()
    except module.Failure:
        return
    for host in hosts:
        ipaddress.ip_interface(host)
    for network in networks:
        ipaddress.ip_network(network)


@FUZZ
@given(text=BYTES, known=st.dictionaries(st.sampled_from(["pid", "began", "certificates"]), st.none() | st.text(max_size=3) | st.integers()))  # fmt: skip
@example(text=b"", known={"pid": ""})
def test_what_a_launcher_remembers(world, text, known):
    folder, module, _, _ = world
    for written in (text, json.dumps(known).encode()):
        (folder / "run/x.pid").write_bytes(written)
        found = module.base.remembered(str(folder / "run/x.pid"))
        assert found is None or found.pid > 0


@FUZZ
@given(number=st.integers(0, 2**16 - 1), length=st.integers(16, 32), zeros=st.integers(16, 64))
def test_a_prefix_is_within_its_network(world, number, length, zeros):
    _, module, _, _ = world
    found = module.base.prefix(number, length, f"{1 << zeros:X}")
    network = ipaddress.ip_network(found["network"])
    assert ipaddress.ip_address(found["address"]) in network
    assert found["length"] == network.prefixlen + length


@FUZZ
@given(target=st.text(max_size=20))
def test_any_target_lies_in_a_network_or_does_not(world, target):
    assert world[1].base.within(target, ipaddress.ip_network("2001:db8::/32")) in (True, False)
