"""
The site's table in the kernel, and real packets from the peer and from a third host, IPv4 and IPv6: four network namespaces of the test's own.

Without root, nft or iproute2 this is skipped. The states run in the node's namespace: this machine's own ruleset is never touched.
"""

import ctypes
import json
import os
import shutil
import socket
import subprocess
import sys

import pytest

from .conftest import BACK, FRONT, SIX

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.skipif(
        not all(map(shutil.which, ("nft", "ip", "unshare"))),
        reason="nftables, iproute2 and util-linux are needed",
    ),
]

DRBD, UNRELATED, MULTICAST = 7289, 8080, 10002
AGENT = (1214, 1215, 10000, 10003)
HOSTS = {"node": 1, "peer": 2, "third": 3}

# Listens on all addresses: says "ready", then what it is sent.
SERVER = """
import selectors, socket, sys
known = selectors.DefaultSelector()
for port in map(int, sys.argv[2:]):
    known.register(socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True), 1, "new")
one = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
one.bind(("::", int(sys.argv[1])))
known.register(one, 1, "datagram")
print("ready", flush=True)
while True:
    for key, _ in known.select():
        if key.data == "new":
            known.register(key.fileobj.accept()[0], 1, "stream")
        elif key.data == "datagram":
            one.sendto(*one.recvfrom(99))
        elif data := key.fileobj.recv(99):
            key.fileobj.sendall(data)
        else:
            known.unregister(key.fileobj)
            key.fileobj.close()
"""
# Which of [address, port, kind] answer within two seconds: a packet that is dropped says nothing, so only time tells.
CLIENT = """
import json, selectors, socket, sys, time
known, answered = selectors.DefaultSelector(), []
for address, port, kind in json.loads(sys.argv[1]):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    one = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
    one.setblocking(False)
    one.connect_ex((address, port))
    if kind == "udp":
        one.send(b"x")
    known.register(one, 2 if kind == "tcp" else 1, [address, port, kind])
end = time.monotonic() + 2
while known.get_map() and (left := end - time.monotonic()) > 0:
    for key, _ in known.select(left):
        known.unregister(key.fileobj)
        if not key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            answered.append(key.data)
print(json.dumps(answered))
"""


def run(*args, **kwargs):
    return subprocess.run(
        [str(arg) for arg in args], check=True, capture_output=True, text=True, timeout=30, **kwargs
    ).stdout


class Network:
    def __init__(self):
        self.names = {name: f"slapfw-{name}{os.getpid()}" for name in (*HOSTS, "switch")}
        self.server = None
        self.home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)

    def up(self):
        for name in self.names.values():
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
        switch = self.names["switch"]
        run("ip", "-n", switch, "link", "add", "br0", "type", "bridge")
        run("ip", "-n", switch, "link", "set", "br0", "up")
        for host, number in HOSTS.items():
            here = self.names[host]
            run("ip", "-n", here, "link", "add", "eth0", "type", "veth", "peer", "name", host, "netns", switch)  # fmt: skip
            run("ip", "-n", switch, "link", "set", host, "master", "br0", "up")
            run("ip", "-n", here, "link", "set", "eth0", "up")
            for address, prefix in ((FRONT, 24), (BACK, 24), (SIX, 64)):
                # Without the search for another host that has it, an address of IPv6 can be used at once.
                more = ["nodad"] if address == SIX else []
                run("ip", "-n", here, "addr", "add", f"{address.format(number)}/{prefix}", "dev", "eth0", *more)  # fmt: skip
        program = [sys.executable, "-ISc", SERVER, MULTICAST, DRBD, *AGENT, UNRELATED]
        self.server = subprocess.Popen(
            [str(one) for one in ("ip", "netns", "exec", self.names["node"], *program)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.server.stdout.readline() == "ready\n"

    def down(self):
        self.leave()
        os.close(self.home)
        if self.server:
            self.server.kill()
            self.server.wait(10)
        there = run("ip", "netns", "list")
        for name in self.names.values():
            if name in there:
                run("ip", "netns", "del", name)

    def _set(self, handle):
        # Of this thread only, and of the programs that it starts. Python has os.setns from 3.12 on.
        if ctypes.CDLL(None, use_errno=True).setns(handle, 0x40000000):
            raise OSError(ctypes.get_errno(), "setns")

    def enter(self, name="node"):
        handle = os.open(f"/run/netns/{self.names[name]}", os.O_RDONLY)
        self._set(handle)
        os.close(handle)

    def leave(self):
        self._set(self.home)

    def nft(self, *args):
        return run("ip", "netns", "exec", self.names["node"], "nft", *args)

    def reaches(self, host):
        """Which ports of the node a host reaches: ("front", "tcp", 1214) and so on."""
        kinds = {"front": FRONT, "back": BACK, "six": SIX}
        tries = [
            (name, kind, port)
            for name in kinds
            for kind, ports in (("tcp", (DRBD, *AGENT, UNRELATED)), ("udp", (MULTICAST,)))
            for port in ports
        ]
        asked = json.dumps([[kinds[name].format(1), port, kind] for name, kind, port in tries])
        said = run("ip", "netns", "exec", self.names[host], sys.executable, "-ISc", CLIENT, asked)
        back = {pattern.format(1): name for name, pattern in kinds.items()}
        return {(back[address], kind, port) for address, port, kind in json.loads(said)}


@pytest.fixture(scope="module")
def network():
    made = Network()
    try:
        made.up()
        yield made
    finally:
        made.down()


def named(monkeypatch, *addresses):
    """demo2 stands for these addresses, or for none."""
    real = socket.getaddrinfo

    def known(host, *args, **kwargs):
        if host == "demo2" and not addresses:
            raise socket.gaierror
        return [(2, 1, 6, "", (one, 0)) for one in addresses] if host == "demo2" else real(host, *args, **kwargs)  # fmt: skip

    monkeypatch.setattr(socket, "getaddrinfo", known)


@pytest.fixture
def node(network, loaders, monkeypatch):
    """The loader's functions, in the node's network namespace, which has no rules; and somebody else's table, to be left alone."""
    network.nft("flush", "ruleset")
    network.nft("add table inet other; add chain inet other input { type filter hook input priority 0; }")  # fmt: skip
    named(monkeypatch, FRONT.format(2))
    network.enter()
    yield loaders
    network.leave()


@pytest.fixture
def ruleset(loaders):
    return loaders.modules.slapos_firewall.rules("nftables")


def load(node, ruleset, **more):
    return node.states.slapos_firewall.nftables_loaded("rules", ruleset=ruleset, **more)


EVERYTHING = {
    (where, kind, port)
    for where in ("front", "back", "six")
    for kind, port in (
        *(("tcp", port) for port in (DRBD, *AGENT, UNRELATED)),
        ("udp", MULTICAST),
    )
}


def test_real_packets(network, node, ruleset):
    for host in ("peer", "third", "node"):
        assert network.reaches(host) == EVERYTHING, f"before, from {host}"
    assert load(node, ruleset).result is True
    assert network.reaches("third") == {(where, "tcp", UNRELATED) for where in ("front", "back", "six")}  # fmt: skip
    # The replication is for the peer's replication address, from which it reaches every address in its own network only.
    replication = {("front", "tcp", DRBD), ("six", "tcp", DRBD)}
    assert network.reaches("peer") == EVERYTHING - replication
    assert network.reaches("node") == EVERYTHING
    assert "counter packets 0" not in network.nft("list", "chain", "inet", "slapos_ha", "agent")


def test_an_address_that_nobody_gave_is_not_let_in(network, node, ruleset):
    # fd78::2 is the peer's by firewall:allow only.
    load(node, ruleset.replace("\t\tip6 saddr { fd78::2 } return\n", ""))
    assert {one for one in network.reaches("peer") if one[0] == "six"} == {("six", "tcp", UNRELATED)}  # fmt: skip


def test_a_connection_that_is_under_way_is_not_cut(network, node, ruleset):
    network.enter("third")
    with socket.create_connection((FRONT.format(1), 1214), 5) as open_before:
        network.enter("node")
        assert load(node, ruleset).result is True
        open_before.sendall(b"still here")
        assert open_before.recv(99) == b"still here"
        assert ("front", "tcp", 1214) not in network.reaches("third")


def test_test_mode_changes_nothing(network, node, ruleset):
    before = network.nft("list", "ruleset")
    ret = load(node, ruleset, test=True)
    assert ret.result is None and ret.changes["inet slapos_ha"]["old"] is None
    assert "tcp dport 7289 jump replication" in ret.changes["inet slapos_ha"]["new"]
    assert network.nft("list", "ruleset") == before


def test_a_second_run_has_no_change_though_packets_were_counted(network, node, ruleset):
    assert load(node, ruleset).changes
    network.reaches("third")
    ret = load(node, ruleset)
    assert (ret.result, ret.changes) == (True, {}), ret.changes
    assert load(node, ruleset, test=True).result is True


@pytest.mark.parametrize(
    "spoil, diff",
    [
        (["flush", "ruleset"], None),
        (["flush", "chain", "inet", "slapos_ha", "agent"], "+\t\tcounter drop"),
        (["insert", "rule", "inet", "slapos_ha", "input", "accept"], "-\t\taccept"),
        (["add", "chain", "inet", "slapos_ha", "more"], "-\tchain more {"),
    ],
)
def test_what_somebody_has_done_to_the_table_is_put_back(network, node, ruleset, spoil, diff):
    load(node, ruleset)
    whole = network.nft("-s", "list", "table", "inet", "slapos_ha")
    network.nft(*spoil)
    ret = load(node, ruleset)
    assert ret.result is True, ret.comment
    assert diff is None or diff in ret.changes["inet slapos_ha"]["diff"]
    assert network.nft("-s", "list", "table", "inet", "slapos_ha") == whole


def test_somebody_elses_rules_stay(network, node, ruleset):
    network.nft("add rule inet other input tcp dport 8080 drop")
    others = network.nft("list", "table", "inet", "other")
    load(node, ruleset)
    assert network.nft("list", "table", "inet", "other") == others
    assert "tcp" not in {kind for _, kind, port in network.reaches("third") if port == UNRELATED}
    assert node.states.slapos_firewall.absent("none").result is True
    assert network.nft("list", "table", "inet", "other") == others


def test_a_ruleset_that_is_refused_changes_nothing(network, node, ruleset):
    load(node, ruleset)
    before = network.nft("list", "ruleset")
    ret = load(node, ruleset.replace("counter drop", "counter drip"))
    assert (ret.result, ret.changes) == (False, {})
    assert "drip" in ret.comment
    assert network.nft("list", "ruleset") == before


@pytest.mark.parametrize("keep", [None, "ufw", "nftables"])
def test_the_table_goes_when_no_firewall_or_another_is_wanted(network, node, ruleset, keep):
    load(node, ruleset)
    assert node.states.slapos_firewall.absent("none", keep=keep, test=True).result is (
        True if keep == "nftables" else None
    )
    assert "table inet slapos_ha" in network.nft("list", "ruleset")
    ret = node.states.slapos_firewall.absent("none", keep=keep)
    assert ret.result is True, ret.comment
    assert ("table inet slapos_ha" in network.nft("list", "ruleset")) is (keep == "nftables")
    assert set(ret.changes) == (set() if keep == "nftables" else {"nftables table inet slapos_ha"})
    again = node.states.slapos_firewall.absent("none", keep=keep)
    assert (again.result, again.changes) == (True, {})


def test_a_peer_that_would_be_cut_off_by_its_name_is_told(node, monkeypatch):
    assert node.states.slapos_firewall.ready("x", backend="nftables").result is True
    named(monkeypatch, FRONT.format(2), "fd99::2")
    ret = node.states.slapos_firewall.ready("x", backend="nftables")
    assert ret.result is False
    assert "slapos_ha:firewall:allow: demo2 is also fd99::2 for demo1" in ret.comment
    assert "add that address, or correct /etc/hosts" in ret.comment
    named(monkeypatch)
    assert node.states.slapos_firewall.ready("x", backend="nftables").result is True


def test_the_unit_loads_the_file_as_it_is(network, node, ruleset, tmp_path):
    """What the unit runs, on what the SLS writes."""
    low = node.modules.state.show_low_sls("slapos_ha.firewall")
    files = {chunk["name"]: chunk for chunk in low if chunk["state"] == "file"}
    path = tmp_path / "firewall.nft"
    path.write_text(files["/etc/slapos_ha/firewall.nft"]["contents"])
    for _ in ("at boot", "again"):
        network.nft("-f", path)
    assert (load(node, ruleset).result, load(node, ruleset).changes) == (True, {})


def test_without_nft_it_is_said(network, node, ruleset, monkeypatch):
    monkeypatch.setattr("salt.utils.path.which", lambda name: None)
    assert load(node, ruleset, test=True).result is None
    ret = load(node, ruleset)
    assert (ret.result, ret.changes, ret.comment) == (False, {}, "nft is not installed")
    assert node.states.slapos_firewall.absent("none").result is True
    assert node.modules.slapos_firewall.problems("nftables") == []
