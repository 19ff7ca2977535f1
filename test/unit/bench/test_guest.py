"""What the program on a host sees: a copy that runs, a copy that is over, a move that is really done. Against what DRBD and agent 2.1 printed."""

import copy
import itertools
import json
import sys

import pytest
from bench import guest
from support import ROOT, load_module

RECORDED = ROOT / "test/unit/drbd/recorded/demo1"
STATUS = json.loads((ROOT / "test/fixtures/opensvc-2.1/full_daemon_status.json.out").read_text())
SERVICE = "slapos/svc/comp1"
AGENT, GOAL = load_module("_utils/opensvc_agent.py"), load_module("_utils/opensvc_goal.py")


@pytest.mark.parametrize(
    "name, seen",
    [
        ("syncsource", ("SyncSource", "UpToDate/Inconsistent", 11592)),
        ("skipped", ("Connected", "UpToDate/UpToDate", 0)),
        ("new_connected", ("Connected", "Inconsistent/Inconsistent", 131032)),
        ("sb_disc", ("StandAlone", "UpToDate/DUnknown", 1024)),
    ],
)
def test_a_device_is_read_from_what_the_kernel_said(name, seen):
    text = (RECORDED / f"{name}.proc.out").read_text()
    assert guest.device(text, 3) == seen
    # Not that of another: 13 is not 3.
    assert guest.device(text, 13) is guest.device(text, 0) is None


def looks(*seen):
    """look(minor) that answers these one after the other, and the last for ever."""
    left = list(seen)
    return lambda minor: left.pop(0) if len(left) > 1 else left[0]


BEGUN = ("Connected", "Inconsistent/Inconsistent", 900)
RUNS = ("SyncSource", "UpToDate/Inconsistent", 1000)
OVER = ("Connected", "UpToDate/UpToDate", 0)


def test_a_copy_lasts_from_its_command_until_both_disks_are_up_to_date():
    command = [sys.executable, "-c", "import time; time.sleep(0.2)"]
    found = guest.sync(9, 30, command, looks(BEGUN, RUNS, OVER), interval=0.01)
    assert found.pop("seconds") >= 0.2
    assert found == {"done": True, "kib": 1000, "left": 0}


def test_a_copy_that_takes_too_long_says_how_far_it_is(monkeypatch):
    monkeypatch.setattr(guest.time, "monotonic", itertools.count().__next__)
    found = guest.sync(9, 1.5, ["true"], looks(RUNS, (*RUNS[:2], 750)), interval=0.01)
    assert found == {"seconds": 2, "done": False, "kib": 1000, "left": 750}


@pytest.mark.parametrize("seen", [None, ("StandAlone", "UpToDate/DUnknown", 5)])
def test_what_will_not_end_by_itself_ends_the_wait(seen):
    with pytest.raises(guest.Failed, match="StandAlone" if seen else "not there"):
        guest.sync(9, 30, ["true"], looks(seen))


def changed(**wishes):
    """The recorded answer with other states: node__key is of the instance, node__monitor__key of its monitor."""
    status = copy.deepcopy(STATUS)
    for name, value in wishes.items():
        node, *path, key = name.split("__")
        one = status["monitor"]["nodes"][node]["services"]["status"][SERVICE]
        for step in path:
            one = one[step]
        one[key] = value
    return status


@pytest.mark.parametrize(
    "wishes, there",
    [
        ({}, True),
        ({"demo1__avail": "warn"}, False),
        ({"demo2__avail": "up"}, False),
        ({"demo1__monitor__status": "starting"}, False),
        ({"demo2__monitor__status": "stopping"}, False),
        ({"demo2__monitor__global_expect": "placed@demo1"}, False),
        ({"demo2__monitor__global_expect": "none"}, True),
        ({"demo1__avail": "stdby up", "demo2__avail": "up"}, False),
    ],
)
def test_a_move_is_done_by_the_same_words_as_for_the_formula(wishes, there):
    status = changed(**wishes)
    assert guest.placed(status, SERVICE, "demo1") is there
    known = AGENT.parse_status(json.dumps(status), 2)["objects"][SERVICE]
    assert GOAL.verdict("placed", known, node="demo1")["done"] is there


def test_a_node_that_says_nothing_of_the_service_yet_is_no_place():
    status = copy.deepcopy(STATUS)
    status["monitor"]["nodes"]["demo1"] = {"monitor": {"status": "init"}}
    assert guest.placed(status, SERVICE, "demo1") is False


def test_an_instance_that_has_failed_ends_the_wait():
    with pytest.raises(guest.Failed, match="'stop failed' on demo2"):
        guest.placed(changed(demo2__monitor__status="stop failed"), SERVICE, "demo1")


@pytest.fixture
def om(tmp_path, monkeypatch):
    """om(script): an agent before all others in PATH."""

    def put(script):
        program = tmp_path / "om"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    (tmp_path / "status").write_text(json.dumps(STATUS))
    (tmp_path / "moving").write_text(json.dumps(changed(demo1__monitor__status="starting")))
    return put


def test_a_switch_lasts_until_it_is_done_and_a_silent_daemon_is_no_answer(om, tmp_path):
    om(
        f"""echo "$@" >>{tmp_path}/calls
case $1 in daemon) ;; *) exit 0;; esac
case $(wc -l <{tmp_path}/calls) in 2) ;; 3) cat {tmp_path}/moving;; *) cat {tmp_path}/status;; esac"""
    )
    assert guest.switch(SERVICE, "demo1", 30, interval=0.05)["seconds"] > 0.1
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls == [f"{SERVICE} switch --to demo1", *["daemon status --format json"] * 3]


def test_a_switch_that_is_refused_says_why(om):
    om("echo 'instance on node demo1 in stopping state' >&2; exit 1")
    with pytest.raises(
        guest.Failed, match="ended with 1: instance on node demo1 in stopping state"
    ):
        guest.switch(SERVICE, "demo1", 30)


def test_a_switch_that_never_ends_is_given_up(om, tmp_path):
    om(f"cat {tmp_path}/moving")
    with pytest.raises(guest.Failed, match="is not on demo1 after 0.1 s"):
        guest.switch(SERVICE, "demo1", 0.1, interval=0.02)


def test_as_a_program_it_prints_one_line_or_says_why_not(om, capsys):
    om("echo busy >&2; exit 1")
    with pytest.raises(SystemExit, match="om switch ended with 1: busy"):
        guest.main(["switch", SERVICE, "demo1", "1"])
    assert capsys.readouterr().out == ""
