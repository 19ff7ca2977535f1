"""What DRBD's programs print: every recording is understood, and nothing else is."""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from salt.exceptions import CommandExecutionError
from support import ROOT, load_module

PARSE = load_module("_utils/drbd_parse.py", "drbd_test_parse_too")
RECORDED = ROOT / "test/unit/drbd/recorded"
FIXTURES = ROOT / "test/fixtures/opensvc-2.1"
STATUS = sorted(RECORDED.glob("*/*.status.out"))
SECRET = "canary-secret"


def read(host, state, peer="there"):
    """A state as drbd.status would give it."""
    text = (RECORDED / host / f"{state}.status.out").read_text()
    proc = PARSE.proc_drbd((RECORDED / host / f"{state}.proc.out").read_text())
    [resource] = PARSE.with_proc(
        PARSE.status_text(text), proc, {"t0": [peer], "t1": [peer]}
    ).values()
    return resource


def ids(host, state):
    return PARSE.generations((RECORDED / host / f"{state}.gi.out").read_text())


# host, state, one line, in sync, connected, obstacle
STATES = [
    ("demo1", "connecting", "Secondary Inconsistent, there Connecting Off DUnknown", 0, 0, None),
    ("demo1", "new_connected", "Secondary Inconsistent, there Connected Established Inconsistent", 0, 1, None),
    ("demo1", "skipped", "Secondary UpToDate, there Connected Established UpToDate", 1, 1, None),
    ("demo1", "primary", "Primary UpToDate, there Connected Established UpToDate", 1, 1, None),
    ("demo2", "standalone", "Secondary UpToDate, there StandAlone Off DUnknown", 0, 0, "StandAlone"),
    ("demo1", "peer_gone", "Primary UpToDate, there Connecting Off DUnknown", 0, 0, None),
    ("demo2", "synctarget", "Secondary Inconsistent, there Connected SyncTarget UpToDate 31.3 % (4120 KiB/s)", 0, 1, None),
    ("demo2", "paused_target", "Secondary Inconsistent, there Connected PausedSyncT UpToDate 67.26 %", 0, 1, "paused"),
    ("demo1", "paused_source", "Primary UpToDate, there Connected PausedSyncS Inconsistent 67.26 %", 0, 1, None),
    ("demo1", "syncsource", "Primary UpToDate, there Connected SyncSource Inconsistent 87.5 % (1992 KiB/s)", 0, 1, None),
    ("demo1", "synced", "Primary UpToDate, there Connected Established UpToDate", 1, 1, None),
    ("demo1", "verifying", "Primary UpToDate, there Connected VerifyS UpToDate 6.3 % (4488 KiB/s)", 1, 1, None),
    ("demo2", "verifying_target", "Secondary UpToDate, there Connected VerifyT UpToDate 15.7 % (3672 KiB/s)", 1, 1, None),
    ("demo1", "sb", "Primary UpToDate, there StandAlone Off DUnknown", 0, 0, "split brain"),
    ("demo1", "detached", "Secondary Diskless, there Connected Established UpToDate", 0, 1, "Diskless"),
    ("demo2", "diskless", "Secondary Diskless, there StandAlone Off DUnknown", 0, 0, "Diskless"),
    ("demo2", "nodev", "Secondary Diskless, there StandAlone Off DUnknown", 0, 0, "Diskless"),
    ("demo2", "full_sync", "Secondary Inconsistent, there Connected SyncTarget UpToDate 9.4 % (4324 KiB/s)", 0, 1, None),
    ("demo2", "peer_down_midsync", "Secondary Inconsistent, there Connecting Off DUnknown", 0, 0, None),
]  # fmt: skip


@pytest.mark.parametrize("host, state, line, synced, connected, obstacle", STATES)
def test_a_recorded_state(host, state, line, synced, connected, obstacle):
    resource = read(host, state)
    assert PARSE.summary(resource) == line
    assert PARSE.in_sync(resource) is bool(synced)
    assert PARSE.connected(resource) is bool(connected)
    found = PARSE.obstacle(resource)
    assert (found is None) if obstacle is None else (obstacle in found)


def test_every_recorded_status_is_understood():
    assert len(STATUS) > 30
    for path in STATUS:
        resource = read(path.parent.name, path.name.removesuffix(".status.out"))
        assert resource["disk"][0]["minor"] in (3, 4)
        assert len(resource["connections"]) == 1


def test_up_is_less_than_on_the_way_to_in_sync():
    """A resync that an operator paused is no reason to touch a resource that is up."""
    for host, state in (("demo2", "paused_target"), ("demo1", "connecting"), ("demo1", "skipped")):
        assert PARSE.not_up(read(host, state)) is None
    peer_diskless = read("demo1", "skipped")
    peer_diskless["connections"]["there"]["volumes"][0]["disk"] = "Diskless"
    assert PARSE.not_up(peer_diskless) is None
    assert PARSE.obstacle(peer_diskless).startswith("volume 0 of there is Diskless: see the kernel's log there")  # fmt: skip
    for host, state, why in (("demo1", "sb", "StandAlone"), ("demo1", "detached", "Diskless")):
        assert why in PARSE.not_up(read(host, state))


def test_the_whole_shape():
    assert read("demo2", "synctarget") == {
        "role": "Secondary",
        "suspended": False,
        "disk": {0: {"minor": 3, "disk": "Inconsistent", "size": 131032, "quorum": None}},
        "connections": {
            "there": {
                "state": "Connected",
                "role": "Primary",
                "volumes": {
                    0: {
                        "replication": "SyncTarget",
                        "disk": "UpToDate",
                        "percent": 31.3,
                        "rate": 4120,
                        "out_of_sync": 51552,
                        "resync_suspended": "no",
                        "seconds_left": 11,
                    }
                },
            }
        },
    }


def test_of_a_verify_the_progress_is_that_of_the_verify():
    # drbdsetup status says done:100.00 throughout.
    assert "done:100.00" in (RECORDED / "demo1/verifying.status.out").read_text()
    assert PARSE.progress(read("demo1", "verifying"))["percent"] == 6.3
    text = (RECORDED / "demo1/verifying.status.out").read_text()
    [alone] = PARSE.with_proc(
        PARSE.status_text(text), PARSE.proc_drbd("version: 8.4.11 (api:1/proto:86-101)\n"), {}
    ).values()
    assert (
        PARSE.progress(alone)["percent"] == 100.0
    )  # without its /proc/drbd nothing better is known


def test_nobody_has_data_only_when_both_are_new_and_at_rest():
    told = {
        path.name
        for path in STATUS
        if PARSE.nobody_has_data(read(path.parent.name, path.name.removesuffix(".status.out")))
    }
    assert told == {"new_connected.status.out"}


def test_a_resync_is_seen():
    assert PARSE.syncing(read("demo2", "synctarget")) and PARSE.syncing(
        read("demo1", "paused_source")
    )
    assert not PARSE.syncing(read("demo1", "verifying")) and not PARSE.syncing(
        read("demo1", "skipped")
    )


@pytest.mark.parametrize("name", ["drbdsetup_status", "drbdadm_status", "drbdadm_status_all"])
def test_the_short_form(name):
    found = PARSE.status_text((FIXTURES / f"{name}.out").read_text())
    [resource] = found.values()
    assert list(found) == ["comp1.slapos.svc.hyperopenx"]
    assert PARSE.summary(resource) == "Secondary UpToDate, peer Connected Established UpToDate"


def test_no_resource_is_no_resource():
    assert PARSE.status_text("") == {} == PARSE.status_text("\n")


@pytest.mark.parametrize("path", STATUS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_a_cut_status_is_refused(path):
    text = path.read_text()
    for length in range(1, len(text)):
        with pytest.raises(CommandExecutionError):
            PARSE.status_text(text[:length])


@pytest.mark.parametrize(
    "text",
    [
        "status: unrecognized option '--json'\n",
        "no resources defined!\n",
        "# No currently configured DRBD found.\n",
        "t0 rôle:Secondaire suspendu:non\n\n",
        "t0 role:Sekundär suspended:no\n  volume:0 minor:3 disk:UpToDate\n\n",
        "t0 role:Secondary\n  volume:0 minor:3 disk:AJour\n\n",
        "t0 role:Secondary\n  volume:0 minor:3 disk:UpToDate\n  peer connection:Verbunden role:Primary\n\n",
        "t0 role:Secondary\n  volume:0 minor:3 disk:UpToDate\n  peer role:Primary\n    volume:0 replication:New peer-disk:UpToDate\n\n",
        "t0 role:Secondary\n  volume:0 minor:x disk:UpToDate\n\n",
        "t0 role:Secondary colour:blue\n  volume:0 minor:3 disk:UpToDate\n\n",
        "t0 role:Secondary\n\n",
        "t0\n  volume:0 minor:3 disk:UpToDate\n\n",
        "  volume:0 minor:3 disk:UpToDate\n\n",
        "t0 role:Secondary\n  volume:0 minor:3\n\n",
        "t0 role:Secondary\n   volume:0 minor:3 disk:UpToDate\n\n",
        "t0 role:Secondary role:Primary\n  volume:0 minor:3 disk:UpToDate\n\n",
        "t0 role:Secondary\n  disk:UpToDate\n\nt0 role:Secondary\n  disk:UpToDate\n\n",
    ],
)
def test_what_is_not_known_is_refused(text):
    with pytest.raises(CommandExecutionError):
        PARSE.status_text(text)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_status_is_read_or_refused_and_never_guessed(data):
    text = data.draw(st.sampled_from(STATUS)).read_text()
    at = data.draw(st.integers(0, len(text) - 1))
    damaged = text[:at] + data.draw(st.text(max_size=5)) + text[at + data.draw(st.integers(0, 9)) :]
    try:
        found = PARSE.status_text(damaged)
    except CommandExecutionError:
        return
    for resource in found.values():
        assert resource["role"] in PARSE.ROLES
        assert all(disk["disk"] in PARSE.DISKS for disk in resource["disk"].values())
        for connection in resource["connections"].values():
            assert connection["state"] in PARSE.CONNECTIONS
            assert all(
                seen["replication"] in PARSE.REPLICATIONS for seen in connection["volumes"].values()
            )


@settings(max_examples=300, deadline=None)
@given(st.text())
def test_any_text_is_read_or_refused(text):
    for parser in (
        PARSE.status_text,
        PARSE.status_json,
        PARSE.proc_drbd,
        PARSE.generations,
        PARSE.utils_version,
        PARSE.dump_xml,
    ):
        try:
            parser(text)
        except CommandExecutionError:
            pass


# --- /proc/drbd -----------------------------------------------------------------------------------------------------------------------------


def test_every_recorded_proc_is_understood():
    for path in RECORDED.glob("*/*.proc.out"):
        found = PARSE.proc_drbd(path.read_text())
        assert found["version"] == "8.4.11" and len(found["devices"]) == 1
    assert (
        PARSE.proc_drbd((FIXTURES / "proc_drbd.out").read_text())["devices"][0]["out_of_sync"] == 0
    )


def test_proc_says_what_status_says():
    for path in STATUS:
        host, state = path.parent.name, path.name.removesuffix(".status.out")
        [resource] = PARSE.status_text(path.read_text()).values()
        [device] = PARSE.proc_drbd((RECORDED / host / f"{state}.proc.out").read_text())[
            "devices"
        ].values()
        if device["state"] == "Unconfigured":
            assert resource["disk"][0]["disk"] == "Diskless"
            continue
        # Taken one after the other: what moves in between is left out.
        assert device["disk"] == resource["disk"][0]["disk"] and device["role"] == resource["role"]
        if device["state"] == "StandAlone":
            assert resource["connections"] == {}
        else:
            assert device["peer_disk"] == resource["connections"]["peer"]["volumes"][0]["disk"]


def test_a_standalone_side_says_what_it_wrote_since():
    for host in ("demo1", "demo2"):
        [connection] = read(host, "sb")["connections"].values()
        assert connection["volumes"][0]["out_of_sync"] == 1024
    [connection] = read("demo2", "diskless")["connections"].values()
    assert connection["volumes"][0]["out_of_sync"] is None


def proc(*lines):
    return "version: 8.4.11 (api:1/proto:86-101)\nsrcversion: X\n\n" + "".join(lines)


LARGE = [
    " 0: cs:SyncSource ro:Primary/Secondary ds:UpToDate/Inconsistent C r-----\n",
    "    ns:1 nr:0 dw:2 dr:5 al:2 bm:3 lo:1 pe:1 ua:6 ap:0 ep:1 wo:f oos:4555336\n",
]


@pytest.mark.parametrize(
    "lines, percent, rate, seconds",
    [
        # Older kernels leave out the end of the line where they count in MiB.
        (["\t[====>...] sync'ed: 78.3% (4448/20480)Mfinish: 0:01:14 speed: 61,144 (58,212) K/sec\n"], 78.3, 61144, 74),
        (["\t[====>...] sync'ed: 78.3% (4448/20480)M\n", "\tfinish: 14:11:31 speed: 1,036,044 (36,168) want: 3,280 K/sec\n"], 78.3, 1036044, 51091),
        (["\t[>.......] sync'ed:  0.1% (4448/20480)K\n", "\tfinish: 0:00:00 speed: 0 (0 -- 12) K/sec (stalled)\n"], 0.1, 0, 0),
        (["\t[>.......] sync'ed:  0.1% (4448/20480)K\n", "\tfinish: 0:00:00 speed: -12 (0) K/sec\n",
          "\t  3% sector pos: 1234/5678\n", "\tresync: used:0/61 hits:1 misses:2\n"], 0.1, 0, 0),
    ],
)  # fmt: skip
def test_progress_in_all_its_spellings(lines, percent, rate, seconds):
    """By the source of drbd_proc.c; 4 GiB and more were not run here."""
    [device] = PARSE.proc_drbd(proc(*LARGE, *lines))["devices"].values()
    assert (device["percent"], device["rate"], device["seconds_left"]) == (percent, rate, seconds)


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["\t[>...] sync'ed: 78.3% (4448/20480)K\n"],
        ["\tfinish: 0:01:14 speed: 61,144 (58,212) K/sec\n"],
        ["\t[>...] sync'ed: 78.3% (4448/20480)K\n", "\tfinish: bald speed: 61,144 (58,212) K/sec\n"],
        ["\t[>...] sync'ed: 78.3% (4448/20480)K\n", "\tfinish: 0:01:14 speed: schnell (58,212) K/sec\n"],
        ["\t[>...] sync'ed: 78.3% fertig\n", "\tfinish: 0:01:14 speed: 61,144 (58,212) K/sec\n"],
    ],
)  # fmt: skip
def test_a_resync_without_progress_is_refused(lines):
    with pytest.raises(CommandExecutionError):
        PARSE.proc_drbd(proc(*LARGE, *lines))


@pytest.mark.parametrize(
    "path", sorted(RECORDED.glob("*/*.proc.out")), ids=lambda p: p.parent.name + "-" + p.name
)
def test_a_cut_proc_is_refused_or_has_no_device(path):
    text = path.read_text()
    for length in range(len(text)):
        try:
            assert PARSE.proc_drbd(text[:length])["devices"] == {}
        except CommandExecutionError:
            pass


@pytest.mark.parametrize(
    "text",
    [
        "",
        "drbd is not loaded\n",
        "version: 8.4.11 (api:1/proto:86-101)\nsrcversion: X\n\n 3: cs:Verbunden ro:Primary/Secondary ds:UpToDate/UpToDate C r-----\n",
        "version: 8.4.11 (api:1/proto:86-101)\n\n 3: cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate C r-----\n",
        "version: 8.4.11 (api:1/proto:86-101)\n\n 3: cs:Connected ro:Primary\n",
        "version: 8.4.11 (api:1/proto:86-101)\nsomething else\n",
    ],
)
def test_a_proc_that_is_not_known_is_refused(text):
    with pytest.raises(CommandExecutionError):
        PARSE.proc_drbd(text)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_proc_is_read_or_refused_and_never_guessed(data):
    text = data.draw(st.sampled_from(sorted(RECORDED.glob("*/*.proc.out")))).read_text()
    at = data.draw(st.integers(0, len(text) - 1))
    damaged = text[:at] + data.draw(st.text(max_size=5)) + text[at + data.draw(st.integers(0, 9)) :]
    try:
        found = PARSE.proc_drbd(damaged)
    except CommandExecutionError:
        return
    for device in found["devices"].values():
        if device["state"] != "Unconfigured":
            assert device["role"] in PARSE.ROLES and device["disk"] in PARSE.DISKS
            assert device["out_of_sync"] >= 0
        assert device["percent"] is None or 0 <= device["percent"] <= 100
        assert device["rate"] is None or device["rate"] >= 0


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_generations_are_read_or_refused(data):
    text = data.draw(st.sampled_from(sorted(RECORDED.glob("*/*.gi.out")))).read_text()
    at = data.draw(st.integers(0, len(text) - 1))
    damaged = text[:at] + data.draw(st.text(max_size=3)) + text[at + data.draw(st.integers(0, 3)) :]
    try:
        found = PARSE.generations(damaged)
    except CommandExecutionError:
        return
    assert PARSE.checked(found) == found and len(found["flags"]) in (7, 12)


def test_the_form_for_people_is_not_taken_for_generations():
    with pytest.raises(CommandExecutionError):
        PARSE.generations((FIXTURES / "show_gi.out").read_text())
    with pytest.raises(CommandExecutionError):
        PARSE.status_text((FIXTURES / "events2.out").read_text())


# --- Generations ----------------------------------------------------------------------------------------------------------------------------


def test_every_recorded_generation_is_understood():
    for path in RECORDED.glob("*/*.gi.out"):
        found = PARSE.generations(path.read_text())
        assert len(found["flags"]) == 7
        assert found["new"] is (path.name.split(".")[0] in ("connecting", "new_connected"))
    found = PARSE.generations((FIXTURES / "get_gi.out").read_text())
    assert found["current"] == "2320A9EFDEA93744" and found["flags"]["up_to_date"]


def test_generations_of_drbd_9():
    """As drbd-utils 9 prints them (dt_print_v9_uuids); not run here."""
    found = PARSE.generations(
        "0000000000000004:" + "0000000000000000:" * 3 + "0:0:0:0:1:0:0:1:0:0:0:1\n"
    )
    assert found["new"] and found["flags"]["al_clean"] and found["flags"]["connected"]
    assert not PARSE.generations(
        "5A32C7A1C6C1A1B4:" + "0000000000000000:" * 3 + "1:1:0:0:1:0:0:1:0:0:0:1\n"
    )["new"]


@pytest.mark.parametrize(
    "text",
    ["", "\n", "Operation canceled.\n", "0000000000000004:0:0:0:0:0:0:0:0:0:0\n", "2320A9EFDEA93744:" * 4 + "1:1:0:1:0:0\n",
     "2320A9EFDEA93744:" * 4 + "1:1:0:1:0:0:2\n", "2320A9EFDEA93744:" * 4 + "1:1:0:1:0:0:0", ("2320A9EFDEA93744:" * 4 + "1:1:0:1:0:0:0\n") * 2],
)  # fmt: skip
def test_other_generations_are_refused(text):
    with pytest.raises(CommandExecutionError):
        PARSE.generations(text)


@pytest.mark.parametrize(
    "mine, theirs, relation, full",
    [
        (("demo1", "new_connected"), ("demo2", "new_connected"), "new", False),
        (("demo1", "skipped"), ("demo2", "skipped"), "equal", False),
        (("demo1", "primary"), ("demo2", "primary"), "equal", False),
        (("demo1", "peer_gone"), ("demo2", "standalone"), "local_newer", False),
        (("demo2", "standalone"), ("demo1", "peer_gone"), "peer_newer", False),
        (("demo1", "paused_source"), ("demo2", "paused_target"), "local_newer", False),
        (("demo1", "sb_before"), ("demo2", "sb_before"), "split_brain", False),
        (("demo1", "sb"), ("demo2", "sb"), "split_brain", False),
        (("demo1", "sb_resolved"), ("demo2", "sb_resolved"), "equal", False),
        (("demo1", "attached"), ("demo2", "connecting_new"), "local_newer", True),
        (("demo2", "connecting_new"), ("demo1", "attached"), "peer_newer", True),
        (("demo1", "synced"), ("demo2", "standalone"), "local_newer", True),
        (("demo2", "standalone"), ("demo1", "synced"), "peer_newer", True),
    ],
)
def test_two_nodes_compared(mine, theirs, relation, full):
    def of(host, state):
        return ids("demo1", "connecting") if state == "connecting_new" else ids(host, state)

    found = PARSE.split_brain(of(*mine), of(*theirs))
    assert found == {"relation": relation, "full": full, "split_brain": relation == "split_brain"}


def test_generations_that_are_handed_over_are_checked():
    new = ids("demo1", "new_connected")
    assert PARSE.checked(new) == new and new["new"] is True
    lied = {**ids("demo1", "skipped"), "new": True}
    assert PARSE.checked(lied)["new"] is False
    for wrong in (
        None,
        "5A32C7A1C6C1A1B4",
        {},
        {"current": new["current"]},
        {**new, "current": 4},
        {**new, "history": []},
        {**new, "flags": {}},
        {**new, "flags": {**new["flags"], "up_to_date": "no"}},
    ):
        with pytest.raises(CommandExecutionError, match="a set of generations is not understood"):
            PARSE.checked(wrong)


def test_strangers_are_unrelated():
    one, other = ids("demo1", "skipped"), ids("demo1", "skipped")
    other["current"] = "AAAAAAAAAAAAAAA2"
    assert PARSE.split_brain(one, other) == {
        "relation": "unrelated",
        "full": True,
        "split_brain": True,
    }
    with pytest.raises(CommandExecutionError):
        PARSE.split_brain(one, {"current": "what"})


@given(st.lists(st.sampled_from([0, 4, 16, 32, 48, 64, 80]), min_size=8, max_size=8))
def test_comparing_is_symmetric(values):
    def of(four):
        current, bitmap, *history = (f"{value:016X}" for value in four)
        return {"current": current, "bitmap": bitmap, "history": history}

    turned = {"local_newer": "peer_newer", "peer_newer": "local_newer"}
    there = PARSE.split_brain(of(values[:4]), of(values[4:]))["relation"]
    back = PARSE.split_brain(of(values[4:]), of(values[:4]))["relation"]
    if (
        values[1] != values[4] or values[5] != values[0]
    ):  # each the other's bitmap: DRBD looks at its own first
        assert (
            turned.get(there, there) == back
            or {values[4]} & set(values[2:4])
            or {values[0]} & set(values[6:])
        )


# --- DRBD 9's status, not run here --------------------------------------------------------------------------------------------------------------

NINE = [
    {
        "name": "r0", "node-id": 0, "role": "Primary", "suspended": False, "write-ordering": "flush",
        "devices": [{"volume": 0, "minor": 5, "disk-state": "UpToDate", "client": False, "open": True, "quorum": True, "size": 131032, "read": 1, "written": 2,
                     "al-writes": 3, "bm-writes": 4, "upper-pending": 0, "lower-pending": 0}],
        "connections": [{
            "peer-node-id": 1, "name": "demo2", "connection-state": "Connected", "congested": False, "peer-role": "Secondary", "tls": False,
            "ap-in-flight": 0, "rs-in-flight": 0,
            "peer_devices": [{"volume": 0, "replication-state": "SyncSource", "peer-disk-state": "Inconsistent", "peer-client": False, "resync-suspended": "no",
                              "received": 0, "sent": 9000, "out-of-sync": 40000, "pending": 0, "unacked": 0, "has-sync-details": True,
                              "has-online-verify-details": False, "percent-in-sync": 69.47, "rs-total": 179776, "db0/dt0 [MiB/s]": 4.12,
                              "db1/dt1 [MiB/s]": 4.0, "estimated-seconds-to-finish": 12, "db/dt [MiB/s]": 3.9, "percent-resync-done": 55.5}],
        }],
    }
]  # fmt: skip


def test_status_of_drbd_9():
    """As drbdsetup.c of drbd-utils 9 prints it; not run here."""
    [resource] = PARSE.status_json(json.dumps(NINE)).values()
    assert (
        PARSE.summary(resource)
        == "Primary UpToDate, demo2 Connected SyncSource Inconsistent 55.5 % (4096 KiB/s)"
    )
    assert PARSE.progress(resource) == {
        "percent": 55.5, "out_of_sync": 40000, "rate": 4096, "seconds_left": 12,
    }  # fmt: skip
    assert resource["disk"][0]["quorum"] is True
    assert PARSE.status_json("[\n]\n") == {}


def test_a_lost_quorum_of_drbd_9_is_seen():
    """Not run here."""
    given = json.loads(json.dumps(NINE))
    given[0]["devices"][0]["quorum"] = False
    [resource] = PARSE.status_json(json.dumps(given)).values()
    assert resource["disk"][0]["quorum"] is False
    assert PARSE.summary(resource).startswith("Primary UpToDate without quorum, demo2 ")
    text = "r0 role:Primary suspended:quorum\n  volume:0 minor:5 disk:UpToDate quorum:no\n\n"
    [resource] = PARSE.status_text(text).values()
    assert resource["disk"][0]["quorum"] is False and resource["suspended"] is True


@pytest.mark.parametrize(
    "where, value",
    [
        (("devices", 0, "size"), "large"),
        (("devices", 0, "quorum"), "yes"),
        (("connections", 0, "connection-state"), "Verbunden"),
        (("connections", 0, "peer_devices", 0, "replication-state"), "Resyncing"),
        (("connections", 0, "peer_devices", 0, "resync-suspended"), "maybe"),
        (("connections", 0, "peer_devices", 0, "out-of-sync"), -1),
        (("connections", 0, "peer_devices", 0, "db1/dt1 [MiB/s]"), "fast"),
        (("connections", 0, "peer_devices", 0, "percent-resync-done"), 340),
    ],
)
def test_a_word_of_drbd_9_that_is_not_known_is_refused(where, value):
    """Not run here."""
    given = json.loads(json.dumps(NINE))
    *path, last = where
    place = given[0]
    for step in path:
        place = place[step]
    place[last] = value
    with pytest.raises(CommandExecutionError, match="not understood"):
        PARSE.status_json(json.dumps(given))


@pytest.mark.parametrize(
    "key, value",
    [
        ("role", "Primaire"),
        ("devices", []),
        ("connections", None),
        ("suspended", "no"),
        ("name", 5),
    ],
)
def test_a_status_of_drbd_9_that_is_not_known_is_refused(key, value):
    with pytest.raises(CommandExecutionError):
        PARSE.status_json(json.dumps([{**NINE[0], key: value}]))


def leaves(value, path=()):
    """The path of every key, at whatever depth."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in pairs:
        yield (*path, key)
        if isinstance(inner, (dict, list)):
            yield from leaves(inner, (*path, key))


# What drbdsetup.c prints only under a condition, and what is not read.
OPTIONAL = """size percent-in-sync percent-resync-done estimated-seconds-to-finish quorum node-id write-ordering client open read written al-writes bm-writes
    upper-pending lower-pending peer-node-id congested tls ap-in-flight rs-in-flight peer-client received sent pending unacked has-sync-details
    has-online-verify-details rs-total""".split()


@pytest.mark.parametrize("path", list(leaves(NINE)), ids=str)
def test_nothing_is_made_up_for_what_drbd_9_leaves_out(path):
    """Not run here."""
    given = json.loads(json.dumps(NINE))
    *before, last = path
    place = given
    for step in before:
        place = place[step]
    del place[last]
    optional = last in OPTIONAL or "MiB/s" in str(last)
    if optional or path in ((0,), (0, "connections", 0), (0, "connections", 0, "peer_devices", 0)):
        PARSE.status_json(json.dumps(given))
    else:
        with pytest.raises(CommandExecutionError):
            PARSE.status_json(json.dumps(given))


def test_a_cut_status_of_drbd_9_is_refused():
    text = json.dumps(NINE)
    for length in range(len(text)):
        with pytest.raises(CommandExecutionError):
            PARSE.status_json(text[:length])


# --- Versions, configuration, complaints --------------------------------------------------------------------------------------------------------


def test_versions():
    assert PARSE.utils_version((FIXTURES / "drbdadm_version.out").read_text()) == "9.22.0"
    with pytest.raises(CommandExecutionError):
        PARSE.utils_version("Version: 9.22.0\n")


@pytest.mark.parametrize(
    "path", [FIXTURES / "drbdadm_dump_xml.out", RECORDED / "demo2/dump_xml.out"], ids=["one", "all"]
)
def test_the_configuration(path):
    [resource] = PARSE.dump_xml(path.read_text()).values()
    host = resource["hosts"]["demo1"]
    assert re.fullmatch(r"10\.9[89]\.\d\.11:7[23][89]9", host["address"])
    assert host["volumes"][0]["device"] == f"/dev/drbd{host['volumes'][0]['minor']}"
    assert SECRET not in str(resource)
    assert resource["options"].get("net", {}).get("shared-secret", "(secret)") == "(secret)"


def test_no_configuration():
    assert PARSE.dump_xml((RECORDED / "demo2/dump_xml_none.out").read_text()) == {}


def test_an_unknown_configuration_is_refused_without_its_text():
    text = (RECORDED / "demo2/dump_xml.out").read_text()
    with pytest.raises(CommandExecutionError) as error:
        PARSE.dump_xml(text[: text.index("</option") if "</option" in text else -20])
    assert SECRET not in str(error.value)


def test_no_complaint_holds_the_secret():
    """drbdadm prints the whole drbdsetup command, --shared-secret and all, when that fails."""
    leaks = 0
    for path in RECORDED.glob("*/*"):
        text = path.read_text()
        leaks += SECRET in text
        assert SECRET not in PARSE.complaint(text, "") + PARSE.complaint("", text) + PARSE.scrub(
            text
        ), path
    assert leaks >= 3


@pytest.mark.parametrize(
    "host, name, line",
    [
        ("demo1", "secondary_busy", "3: State change failed: (-12) Device is held open by someone"),
        (
            "demo1",
            "down_busy",
            "t0: State change failed: (-12) Device is held open by someone, failed to demote",
        ),
        ("demo2", "sb_discard_primary", "t0: Failure: (102) Local address(port) already in use."),
        ("demo2", "md_no_device", "open(/dev/nope) failed: No such file or directory"),
        ("demo2", "check_bad_value", "unknown protocol 'D', should be one of A,B,C"),
        (
            "demo2",
            "check_bad_name",
            "/tmp/x.conf:2: Parse error: 'an option keyword' expected, but got 'protocool'",
        ),
        ("demo2", "up_no_md", "No valid meta data found"),
    ],
)
def test_the_useful_line(said, host, name, line):
    assert PARSE.complaint(said(host, name), said(host, name, "err")) == line


def test_a_silent_failure_says_so():
    assert PARSE.complaint("", "\n") == "it says nothing"
