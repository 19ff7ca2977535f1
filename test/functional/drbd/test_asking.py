"""The functions that ask, through Salt's loader: what they return, what they cost, and what they do without DRBD."""

import json
import pathlib

import pytest
from salt.exceptions import CommandExecutionError, SaltInvocationError

from .drbd_world import SECRET, ids, said


def test_it_takes_the_place_of_cores_module(modules):
    for name, file in (
        ("overview", "drbd"),
        ("status", "drbd"),
        ("up", "drbd_act"),
        ("configure", "drbd_config"),
    ):
        code = modules[f"drbd.{name}"].func.__code__
        assert code.co_filename.endswith(f"/extmods/modules/{file}.py")


def test_versions_are_told_apart(drbd, world):
    world.says("modinfo", said=["9.2.5\n", "", 0])
    assert drbd.version() == {
        "utils": "9.22.0",
        "module_loaded": "8.4.11",
        "module_available": "9.2.5",
    }
    world.module(None)
    world.says("modinfo", said=["", "modinfo: ERROR: Module drbd not found.\n", 1])
    assert drbd.version() == {"utils": "9.22.0", "module_loaded": None, "module_available": None}
    world.says("modinfo", said=["", "modinfo: ERROR: could not open /proc/modules\n", 1])
    with pytest.raises(
        CommandExecutionError, match="modinfo drbd failed: modinfo: ERROR: could not open"
    ):
        drbd.version()


def test_the_version_is_also_read_from_proc(drbd, world):
    world.module(None)
    world.now("skipped")
    assert drbd.version()["module_loaded"] == "8.4.11"


def test_without_drbd_utils_the_package_is_named(drbd, world):
    world.configured()
    for program in world.bin.iterdir():
        program.unlink()
    for call in (
        drbd.version,
        drbd.status,
        drbd.overview,
        drbd.config,
        lambda: drbd.metadata("t0"),
        lambda: drbd.up("t0"),
    ):
        with pytest.raises(
            CommandExecutionError,
            match="(drbdadm|drbdsetup) is not installed: install the package drbd-utils",
        ):
            call()


def test_without_the_module_nothing_is_up_and_nothing_is_run(drbd, world):
    world.configured()
    world.module(None)
    assert drbd.status()["t0"]["up"] is False
    assert world.calls() == []


def test_status(drbd, world):
    world.configured()
    world.now("syncsource")
    found = drbd.status("t0")
    assert found["t0"]["connections"]["demo2"]["volumes"][0]["percent"] == 87.5
    assert found["t0"]["up"] is True and found["t0"]["role"] == "Primary"
    assert drbd.status("all") == drbd.status() == drbd.status(name="t0") == found
    assert all(call[0] == "drbdsetup" for call in world.calls()) and len(world.calls()) == 4


def test_down_and_unknown_are_told_apart(drbd, world):
    world.configured()
    assert drbd.status("t0")["t0"] == {
        "up": False, "role": "Unconfigured", "suspended": False, "connections": {},
        "disk": {0: {"minor": 3, "disk": "Unconfigured", "size": None, "quorum": None}},
    }  # fmt: skip
    assert drbd.status("nope") == {}
    assert drbd.overview()["t0/0"]["connection state"] == "Unconfigured"


def test_a_resource_that_no_file_has_is_seen(drbd, world):
    world.now("skipped")
    assert list(drbd.status()["t0"]["connections"]) == ["peer"]


def test_standalone_is_said_though_drbdsetup_leaves_it_out(drbd, world):
    world.configured()
    world.now("sb")
    [connection] = drbd.status("t0")["t0"]["connections"].values()
    assert (connection["state"], connection["role"]) == ("StandAlone", "Unknown")
    assert connection["volumes"][0] == {
        "replication": "Off", "disk": "DUnknown", "percent": None, "rate": None, "out_of_sync": 1024, "resync_suspended": "no", "seconds_left": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    "answer, message",
    [
        (["t0 rôle:Secondaire\n\n", "", 0], "not understood"),
        (["t0 role:Secondary\n", "", 0], "cut off"),
        (
            ["", "Could not connect to 'drbd' generic netlink family\n", 20],
            "asking for the status failed: Could not connect to 'drbd'",
        ),
    ],
)
def test_a_status_that_is_not_known(drbd, world, answer, message):
    world.says("drbdsetup", "status", said=answer)
    with pytest.raises(CommandExecutionError, match=message):
        drbd.status()


def test_states_of_a_run_share_one_answer_until_something_acts(drbd, world):
    world.configured()
    world.now("skipped")
    drbd.status()
    for _ in range(3):
        drbd.status("t0", fresh=False)
    assert len(world.calls()) == 1
    found = drbd.status("t0", fresh=False)
    found["t0"]["role"] = "spoilt by a caller"
    assert drbd.status("t0", fresh=False)["t0"]["role"] == "Secondary"
    drbd.adjust("t0")
    drbd.status("t0", fresh=False)
    assert [call[1] for call in world.calls()] == ["status", "adjust", "status"]


def test_drbd_9_is_asked_in_json(drbd, world):
    """The form of DRBD 9; not run here."""
    world.module("9.2.5")
    nine = [{"name": "t0", "role": "Secondary", "suspended": False,
             "devices": [{"volume": 0, "minor": 3, "disk-state": "UpToDate", "quorum": False, "size": 1}], "connections": []}]  # fmt: skip
    world.says("drbdsetup", "status", "--json", said=[json.dumps(nine), "", 0])
    assert drbd.status("t0")["t0"]["disk"] == {
        0: {"minor": 3, "disk": "UpToDate", "size": 1, "quorum": False}
    }


def test_overview_has_the_keys_of_core(drbd, world):
    world.configured()
    world.now("synctarget", "demo2")
    assert drbd.overview() == {
        "t0/0": {
            "minor number": 3, "device": "/dev/drbd3", "connection state": "Connected", "local role": "Secondary", "partner role": "Primary",
            "local disk state": "Inconsistent", "partner disk state": "UpToDate", "synched": 31.3,
        }
    }  # fmt: skip


def test_config_without_the_secret(drbd, world):
    world.says("drbdadm", "dump-xml", said=said("demo2", "dump_xml"))
    assert drbd.config("t0")["hosts"]["demo2"]["address"] == "10.98.1.12:7399"
    assert drbd.config("nope") is None
    assert "canary" not in str(drbd.config())
    world.says("drbdadm", "dump-xml", said=said("demo2", "dup_port"))
    with pytest.raises(CommandExecutionError, match="conflicting use of IP"):
        drbd.config()


def test_metadata_in_three_answers(drbd, world):
    world.configured()
    assert drbd.metadata("t0") == {"metadata": "none", "ids": None, "why": None}
    world.now("down:skipped")
    found = drbd.metadata("t0")
    assert found["metadata"] == "exists" and found["ids"]["current"] == "194F2C74F06BE808"
    world.says("drbdadm", "get-gi", said=said("demo1", "md_busy"))
    assert drbd.metadata("t0") == {
        "metadata": "unknown",
        "ids": None,
        "why": "open(/dev/loop7) failed: Device or resource busy",
    }
    with pytest.raises(CommandExecutionError, match="Device or resource busy"):
        drbd.generation_ids("t0")


def test_metadata_of_an_unknown_resource(drbd, world):
    (world.etc / "broken.res").write_text("resource x {")
    with pytest.raises(
        CommandExecutionError,
        match="t0 is not configured on demo1: .*broken.res: the file ends within a statement",
    ):
        drbd.metadata("t0")
    with pytest.raises(SaltInvocationError):
        drbd.status("../x")
    assert world.calls() == []


def test_a_split_brain_is_known_from_both_nodes(drbd, world):
    world.configured()
    world.now("sb")
    found = drbd.split_brain("t0", ids("sb", "demo2"))
    assert "decide whose writes go" in found.pop("why")
    assert found == {
        "split_brain": True,
        "relation": "split_brain",
        "full": False,
        "written": 1024,
    }


@pytest.mark.parametrize(
    "now, peer, relation, split",
    [
        ("peer_gone", ("standalone", "demo2"), "local_newer", False),
        ("skipped", ("skipped", "demo2"), "equal", False),
        ("new_connected", ("new_connected", "demo2"), "new", False),
        ("down:skipped", ("peer_gone", "demo1"), "peer_newer", False),
    ],
)
def test_what_is_no_split_brain(drbd, world, now, peer, relation, split):
    world.configured()
    world.now(now)
    found = drbd.split_brain("t0", ids(*peer))
    assert (found["relation"], found["split_brain"]) == (relation, split)


def test_one_node_alone_knows_of_no_split_brain_only_while_connected(drbd, world):
    world.configured()
    world.now("skipped")
    assert drbd.split_brain("t0")["split_brain"] is False
    world.now("sb")
    found = drbd.split_brain("t0")
    assert (found["split_brain"], found["written"]) == (None, 1024)
    assert "give as peer what drbd.generation_ids says on the other node" in found["why"]
    assert not [call for call in world.calls() if "get-gi" in call]
    for peer in ({}, {"current": "1036D694B8247863"}, "1036D694B8247863"):
        with pytest.raises(CommandExecutionError, match="a set of generations is not understood"):
            drbd.split_brain("t0", peer)
    with pytest.raises(CommandExecutionError, match="t9 is not configured on demo1"):
        drbd.split_brain("t9")


def test_capacity(drbd, world):
    world.configured()
    world.now("skipped")
    assert drbd.capacity("t0") == {0: {"size": 131032, "possible": 131032}}
    world.size(262144)
    assert drbd.capacity("t0")[0]["possible"] == 262100
    world.now("down")
    with pytest.raises(CommandExecutionError, match="cannot be read: it is Unconfigured"):
        drbd.capacity("t0")


# --- Waiting ------------------------------------------------------------------------------------------------------------------------------------


def test_waiting_for_a_resync(drbd, world, fast, told):
    world.configured()
    world.now("new_connected")
    for name in ("synctarget", "resumed", "verified"):
        fast += [lambda name=name: world.now(name, "demo2")] + [lambda: None] * 4
    found = drbd.wait("t0", timeout=600)
    assert found["disk"][0]["disk"] == "UpToDate"
    assert {tag for tag, _ in told()} == {"slapos_ha/drbd/t0/sync"}
    assert [data["percent"] for _, data in told()] == [None, 31.3, 50.0, None]
    assert [data["rate"] for _, data in told()] == [None, 4120, 1408, None]
    assert told()[-1][1] == {
        "resource": "t0", "node": "demo1", "goal": "in_sync", "percent": None, "rate": None, "out_of_sync": 0, "seconds_left": None,
        "state": "Secondary UpToDate, demo2 Connected Established UpToDate",
    }  # fmt: skip
    assert SECRET not in str(told())


def test_waiting_ends_at_once_where_it_cannot_succeed(drbd, world, fast):
    world.configured()
    for host, name, why in (
        ("demo1", "sb", "split brain"),
        ("demo2", "paused_target", "paused"),
        ("demo1", "detached", "Diskless"),
        ("demo1", "down", "is down"),
    ):
        world.now(name, host)
        world.forget()
        with pytest.raises(CommandExecutionError, match=why):
            drbd.wait("t0", timeout=3600)
        assert len(world.calls()) == 1


def test_waiting_has_a_deadline_and_says_where_it_is(drbd, world, fast):
    world.configured()
    world.now("synctarget", "demo2")
    with pytest.raises(
        CommandExecutionError,
        match=r"not in sync: not there after 30 s\. Now: .* SyncTarget UpToDate 31\.3 % \(4120 KiB/s\)",
    ):
        drbd.wait("t0", timeout=30)


def test_a_peer_that_stays_away(drbd, world, fast):
    world.configured()
    world.now("connecting")
    with pytest.raises(
        CommandExecutionError,
        match="no connection for 20 s: see that the resource is up on the peer",
    ):
        drbd.wait("t0", timeout=3600, connect_timeout=20)


def test_a_peer_that_comes_back_in_time(drbd, world, fast):
    world.configured()
    world.now("peer_down_midsync", "demo2")
    fast += [
        lambda: None,
        lambda: world.now("synctarget", "demo2"),
        lambda: world.now("verified", "demo2"),
    ]
    assert drbd.wait("t0", timeout=60, connect_timeout=20)["role"] == "Secondary"


def test_two_new_disks_never_get_in_sync_by_themselves(drbd, world, fast):
    world.configured()
    world.now("new_connected")
    with pytest.raises(
        CommandExecutionError, match="both sides are Inconsistent and no resync begins"
    ):
        drbd.wait("t0", timeout=3600, connect_timeout=20)
    assert drbd.wait("t0", goal="connected")["role"] == "Secondary"
    with pytest.raises(SaltInvocationError, match="goal: 'done'"):
        drbd.wait("t0", goal="done")


def test_every_public_function_is_documented():
    for file in ("drbd", "drbd_act", "drbd_config"):
        text = (pathlib.Path(__file__).parents[3] / f"_modules/{file}.py").read_text()
        for body in text.split("\ndef ")[1:]:
            if not body.startswith("_"):
                assert "CLI Example:" in body.split('"""')[1], body.split("(")[0]
