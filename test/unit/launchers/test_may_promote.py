"""Which node may promote DRBD: what the real tools printed in each situation, and what is decided of it."""

import json
import os
import subprocess

import pytest
from support import ROOT, load_module

from .conftest import FILES, load

PARSE = load_module("_utils/drbd_parse.py", "may_promote_parse")
RECORDED = ROOT / "test/unit/drbd/recorded"
# Of a standby in the lab whose peer wrote on: it remembers former generations, and none of its own since.
BEHIND = "F11BBEE4D4D6DC0A:0000000000000000:8CBFB715515FD9AA:8CBEB715515FD9AB:1:1:0:0:0:0:0\n"
AHEAD = (RECORDED / "demo1/peer_gone.gi.out").read_text()
# As drbdsetup prints it of two nodes (DRBD 8.4), here and connected; what follows is of volumes.
STATUS = "t0 role:{own} suspended:no\n    write-ordering:flush\n  volume:0 minor:3 disk:UpToDate\n{peer}\n"
CONNECTED = "  peer connection:Connected role:{role} congested:no\n    volume:0 replication:Established peer-disk:UpToDate"
CONNECTING = "  peer connection:Connecting role:Unknown congested:no\n    volume:0 replication:Off peer-disk:DUnknown"


@pytest.fixture
def look(monkeypatch, tmp_path):
    module = load("may-promote")
    monkeypatch.setattr(module, "WORD", f"{tmp_path}/word.")
    return module


@pytest.fixture
def node(look, monkeypatch):
    return Node(look, monkeypatch)


class Node:
    """The tools of a node: `says` has the answers by program, each a text, an error or a list of them, the last of which stays. Time goes on by sleeping only."""

    def __init__(self, look, monkeypatch):
        self.look, self.asked, self.now = look, [], 0
        self.says = {"drbdadm": BEHIND, "om": daemon(True)}
        monkeypatch.setattr(look, "run", self.run)
        monkeypatch.setattr(look.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(look.time, "sleep", self.sleep)

    def run(self, *command):
        self.asked.append(" ".join(command))
        key = " ".join(command[:2])
        said = self.says[key if key in self.says else command[0]]
        if isinstance(said, list):
            said = said.pop(0) if len(said) > 1 else said[0]
        if isinstance(said, Exception):
            raise said
        return said

    def sleep(self, seconds):
        self.now += seconds

    def status(self, own, peer=""):
        return STATUS.format(own=own, peer=peer)

    def main(self):
        return self.look.main("t0")


def daemon(beating):
    """What agent 2.1 says of its daemon, of a peer that is heard or not; recorded on demo1."""
    known = json.loads((ROOT / "test/fixtures/opensvc-2.1/full_daemon_status.json.out").read_text())
    assert known["hb#1.rx"]["peers"]["demo2"]["beating"] is True
    known["hb#1.rx"]["peers"]["demo2"]["beating"] = beating
    return json.dumps(known)


@pytest.mark.parametrize(
    "own, peer",
    [
        ("Primary", CONNECTING),
        ("Primary", CONNECTED.format(role="Secondary")),
        ("Secondary", CONNECTED.format(role="Secondary")),
    ],
)
def test_who_is_primary_or_connected_to_a_secondary_may_at_once(node, own, peer):
    node.says["drbdsetup"] = node.status(own, peer)
    assert node.main() == 0
    assert node.asked == ["drbdsetup status t0 --verbose"] and node.now == 0


def test_who_wrote_alone_may(node, capsys):
    node.says |= {"drbdsetup": node.status("Secondary", CONNECTING), "drbdadm": AHEAD}
    assert node.main() == 0 and node.now == 0
    assert "lacks what was written here" in capsys.readouterr().out


@pytest.mark.parametrize("peer", [CONNECTING, ""])
def test_a_failover_is_not_held_up(node, capsys, peer):
    node.says |= {"drbdsetup": node.status("Secondary", peer), "om": daemon(False)}
    assert node.main() == 0 and node.now == 0
    assert "this is a failover" in capsys.readouterr().out


@pytest.mark.parametrize(
    "peer, why, remedy, seconds",
    [
        (CONNECTING, "demo2 is alive and DRBD is not connected to it", "touch", 60),
        ("", "demo2 is alive and DRBD is not connected to it", "touch", 60),
        (CONNECTED.format(role="Primary"), "the peer is Primary", "om mon", 15),
    ],
)
def test_who_may_be_behind_a_living_peer_is_refused(node, capsys, peer, why, remedy, seconds):
    node.says["drbdsetup"] = node.status("Secondary", peer)
    assert node.main() == 1
    assert seconds < node.now < seconds + 3
    (line,) = capsys.readouterr().out.splitlines()
    assert why in line and remedy in line
    assert (f"touch {node.look.WORD}t0" in line) == (remedy == "touch")


def test_a_peer_that_comes_back_is_waited_for(node):
    node.says["drbdsetup"] = [
        node.status("Secondary", CONNECTED.format(role="Primary")),
        node.status("Secondary", CONNECTING),
        node.status("Secondary", CONNECTED.format(role="Secondary")),
    ]
    assert node.main() == 0 and node.now == 2


def test_what_is_down_is_brought_up_before_it_is_judged(node):
    gone = node.look.Unknown("drbdsetup status ended with 10: t0: No such resource")
    node.says |= {
        "drbdsetup": [gone, node.status("Secondary", CONNECTED.format(role="Secondary"))],
        "drbdadm up": "",
    }
    assert node.main() == 0
    assert node.asked[1] == "drbdadm up t0"


@pytest.mark.parametrize(
    "says, why",
    [
        ({"drbdsetup": "nothing that is known"}, "drbdsetup status t0 says"),
        ({"drbdadm": "no generations"}, "says no generations"),
        ({"om": "{}"}, "has no heartbeat"),
        ({"om": "no JSON"}, "does not say which nodes it hears"),
        ({"om": ""}, "does not say which nodes it hears"),
    ],
)
def test_what_is_not_understood_is_no_permission(node, capsys, says, why):
    node.says |= {"drbdsetup": node.status("Secondary", CONNECTING), **says}
    assert node.main() == 1
    assert why in capsys.readouterr().out


def test_an_operators_word_counts_once(node, capsys):
    node.says["drbdsetup"] = node.status("Secondary", CONNECTING)
    word = f"{node.look.WORD}t0"
    open(word, "w").close()
    assert node.main() == 0 and node.asked == [] and not os.path.exists(word)
    assert "operator" in capsys.readouterr().out
    assert node.main() == 1


@pytest.mark.parametrize("here, peer", [("demo1", "demo2"), ("demo2", "demo1")])
def test_agent_3_shows_the_heartbeats_of_each_node(node, monkeypatch, here, peer):
    text = (ROOT / "test/fixtures/opensvc-3/mon.json.out").read_text()
    node.says |= {"om daemon": node.look.Unknown("unknown command"), "om cluster": text}
    monkeypatch.setattr(node.look.os, "uname", lambda: os.uname_result(["", here, "", "", ""]))
    assert node.look.heard() == [peer]
    node.says["om cluster"] = text.replace('"is_beating": true', '"is_beating": false')
    assert node.look.heard() == []


@pytest.mark.parametrize("case", sorted(path.name for path in RECORDED.glob("demo*/*.status.out")))
def test_every_recording_is_read_as_the_modules_parser_reads_it(node, case):
    for path in RECORDED.glob(f"demo*/{case}"):
        text = path.read_text()
        node.says["drbdsetup"] = text
        name = text.split()[0]
        (known,) = PARSE.status_text(text).values()
        connected = [
            one["role"] for one in known["connections"].values() if one["state"] == "Connected"
        ]
        assert node.look.roles(name) == (known["role"], connected)
        generations = path.with_name(path.name.replace("status", "gi"))
        if generations.exists():
            node.says["drbdadm"] = said = generations.read_text()
            assert node.look.wrote_alone(name) == (int(PARSE.generations(said)["bitmap"], 16) != 0)


def test_the_program_itself_asks_the_tools_that_are_there(program):
    status = STATUS.format(own="Secondary", peer=CONNECTED.format(role="Secondary"))
    tool = program(
        "drbdsetup",
        f"import sys\nassert sys.argv[1:] == ['status', 't0', '--verbose']\nprint({status!r})\n",
    )
    done = subprocess.run(
        [str(FILES / "may-promote"), "t0"],
        env={"PATH": str(tool.parent)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_service_asks_before_it_promotes():
    text = (ROOT / "slapos_ha/files/service.yaml").read_text()
    drbd = text.partition("'disk#3':")[2].partition("'fs#0':")[0]
    assert "blocking_pre_start: 'test ! -x {{ promote }} || {{ promote }} {fqdn}'" in drbd
    assert "('may-promote'," in (ROOT / "slapos_ha/drbd.sls").read_text()
