"""The functions that act, through Salt's loader: what DRBD is told, when nothing, and which proof a refusal wants."""

import pytest
from salt.exceptions import CommandExecutionError, SaltInvocationError

from .drbd_world import CANARY, RES, WISH, grown, ids, said

# function: (arguments, what is told, before, after, already)
ACTS = {
    "up": ([], ["up", "t0"], "down:skipped", "connecting", "skipped"),
    "down": ([], ["down", "t0"], "skipped", "down:skipped", "down:skipped"),
    "attach": ([], ["attach", "t0"], "detached", "attached", "attached"),
    "detach": ([], ["detach", "t0"], "attached", "detached", "detached"),
    "connect": ([], ["connect", "t0"], "sb", "peer_gone", "skipped"),
    "disconnect": ([], ["disconnect", "t0"], "skipped", "sb", "sb"),
    "primary": ([], ["primary", "t0"], "skipped", "primary", "primary"),
    "secondary": ([], ["secondary", "t0"], "primary", "skipped", "skipped"),
    "verify": ([], ["verify", "t0"], "primary", "verifying", "verifying"),
    "invalidate": ([True], ["invalidate", "t0"], "skipped", "full_sync", None),
    "skip_initial_sync": (
        [True],
        ["--", "--clear-bitmap", "new-current-uuid", "t0/0"],
        "new_connected",
        "skipped",
        "skipped",
    ),
    "create_md": ([], ["create-md", "t0/0"], "down", "down:new_connected", "down:skipped"),
    "wipe_md": ([True], ["--", "--force", "wipe-md", "t0/0"], "down:new_connected", "down", "down"),
}
NEEDS_UP = "attach detach connect disconnect primary secondary verify invalidate skip_initial_sync resize".split()


@pytest.fixture(autouse=True)
def configured(world):
    world.configured()
    return world


def refused(call, *args, **kwargs):
    """The text of a refusal, which holds no secret."""
    with pytest.raises(CommandExecutionError) as error:
        call(*args, **kwargs)
    assert CANARY not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name", ACTS)
def test_done(drbd, world, name):
    args, told, before, after, _ = ACTS[name]
    world.now(before)
    world.says("drbdadm", *told, then=after)
    assert getattr(drbd, name)("t0", *args) is True
    assert world.acts() == [["drbdadm", *told]]
    # What was known before is not believed any more.
    assert drbd.status(fresh=False) == drbd.status()


@pytest.mark.parametrize("name", [name for name, act in ACTS.items() if act[4]])
def test_so_already(drbd, world, name):
    args, _, _, _, already = ACTS[name]
    world.now(already)
    assert getattr(drbd, name)("t0", *args) is False
    assert world.acts() == []


# Each failure as it was recorded, and its useful line.
FAILURES = {
    "up": (("demo2", "up_no_md"), "No valid meta data found"),
    "down": (("demo1", "down_busy"), "Device is held open by someone, failed to demote"),
    "attach": (("demo1", "attach_twice"), "Device '3' is configured!"),
    "disconnect": (("demo2", "disconnect_twice"), "Invalid configuration request"),
    "primary": (("demo2", "primary_second"), "Multiple primaries not allowed by config"),
    "secondary": (("demo1", "secondary_busy"), "Device is held open by someone"),
    "skip_initial_sync": (("demo1", "skip_again"), "Need to be StandAlone"),
    "create_md": (("demo2", "create_md_small"), "only 20480 bytes. That's not enough"),
    "wipe_md": (("demo2", "wipe_busy"), "Device '3' is configured!"),
    "connect": (("demo2", "sb_discard_primary"), "Local address(port) already in use"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_refusal_of_drbd_is_told_in_its_words(drbd, world, name):
    (host, recorded), line = FAILURES[name]
    args, told, before, _, _ = ACTS[name]
    world.now(before)
    world.says("drbdadm", *told, said=said(host, recorded))
    assert line in refused(getattr(drbd, name), "t0", *args)
    assert world.acts()[0] == ["drbdadm", *told]


def test_what_8_4_leaves_of_an_up_without_metadata_is_taken_down(drbd, world):
    world.says("drbdadm", "up", said=said("demo2", "up_no_md"), then="down")
    refused(drbd.up, "t0")
    assert world.acts() == [["drbdadm", "up", "t0"], ["drbdadm", "down", "t0"]]


@pytest.mark.parametrize("state", ["detached", "sb"])
def test_up_brings_back_what_a_resource_that_is_up_has_lost(drbd, world, state):
    world.now(state)
    assert drbd.up("t0") is True
    assert world.acts() == [["drbdadm", "adjust", "t0"]]


def test_adjust(drbd, world):
    world.now("skipped")
    assert drbd.adjust("t0") is True
    assert world.acts() == [["drbdadm", "adjust", "t0"]]


@pytest.mark.parametrize("name", NEEDS_UP)
def test_a_resource_that_is_down_is_told(drbd, world, name):
    assert "t0 is down on demo1; first: drbdadm up t0" in refused(getattr(drbd, name), "t0")
    assert world.acts() == []


@pytest.mark.parametrize("name", [*ACTS, "adjust", "resize"])
def test_a_resource_that_is_not_there_is_told(drbd, world, name):
    assert "t9 is not configured on demo1" in refused(getattr(drbd, name), "t9")
    for word in ("../t0", "all", "-c", "t0 t1", ""):
        with pytest.raises(SaltInvocationError, match="resource: "):
            getattr(drbd, name)(word)
    assert world.acts() == []


def test_a_program_that_does_not_come_back_is_ended(drbd, modules, monkeypatch):
    """As cmd.run_all says it."""
    space = modules["drbd.adjust"].func.__globals__
    salt, answer = space["__salt__"], {
        "retcode": 1, "stdout": "['drbdadm', 'adjust', 't0'] : Timed out after 120 seconds", "stderr": "",
    }  # fmt: skip

    class Salt:
        def __getitem__(self, name):
            return (lambda *_, **__: answer) if name == "cmd.run_all" else salt[name]

    monkeypatch.setitem(space, "__salt__", Salt())
    text = refused(drbd.adjust, "t0")
    assert "drbdadm adjust did not come back in 120 s and was ended" in text


# --- The module ---------------------------------------------------------------------------------------------------------------------------------


def test_load(drbd, world):
    assert drbd.load() is False and world.acts() == []
    world.module(None)
    text = refused(drbd.load)
    assert "modprobe drbd returned 0 and there is no" in text
    world.says("modprobe", said=["", "modprobe: FATAL: Module drbd not found.\n", 1])
    assert "loading the module drbd failed: modprobe: FATAL: Module drbd not found." in refused(
        drbd.load
    )
    world.says("modprobe", then="down")  # the kernel's file comes with the module
    assert drbd.load() is True
    assert world.acts() == [["modprobe", "drbd"]] * 3


def test_load_at_boot(drbd, world):
    assert drbd.load_at_boot() is True
    file = world.root / "etc/modules-load.d/drbd.conf"
    assert file.read_text() == "drbd\n"
    assert drbd.load_at_boot() is False
    file.write_text("# drbd\nbonding\n")
    (world.root / "etc/modules").write_text("loop\ndrbd  # by hand\n")
    assert drbd.load_at_boot() is False
    (world.root / "etc/modules").unlink()
    file.unlink()
    file.mkdir()
    with pytest.raises(CommandExecutionError, match="drbd.conf cannot be (read|written)"):
        drbd.load_at_boot()


# --- What loses data: force and a proof -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["skip_initial_sync", "invalidate", "wipe_md"])
@pytest.mark.parametrize("force", [False, None, 1, "yes"])
def test_force_has_to_be_said(drbd, world, name, force):
    _, _, before, _, _ = ACTS[name]
    world.now(before)
    text = refused(getattr(drbd, name), "t0", force=force)
    assert f"{name} of t0 refused: it can lose data and needs force=True" in text
    assert world.acts() == []


NEW = {
    "connecting": "it is not connected",
    "sb": "(it is not connected|is Primary)",
    "detached": "volume 0 is Diskless: .*then drbdadm attach",
    "full_sync": "a side has or had data",
    "invalidated": "a side has or had data",
    "synctarget": "a side is Primary",
    "paused_target": "is paused by an operator",
}


@pytest.mark.parametrize("state", NEW)
@pytest.mark.parametrize("name", ["skip_initial_sync", "primary"])
def test_two_disks_are_only_taken_for_new_with_a_proof(drbd, world, name, state):
    host = "demo2" if state in ("synctarget", "paused_target", "invalidated") else "demo1"
    world.now(state, host)
    if name == "primary" and state == "sb":
        world.now("standalone", "demo2")
    with pytest.raises(CommandExecutionError, match=NEW[state]):
        getattr(drbd, name)("t0", force=True)
    assert world.acts() == []


@pytest.mark.parametrize("name", ["skip_initial_sync", "primary"])
def test_metadata_that_has_held_data_is_not_new(drbd, world, name):
    """Inconsistent on both sides and at rest, as two disks that were cut off in a resync."""
    world.now("new_connected")
    world.says("drbdadm", "get-gi", said=said("demo2", "synctarget.gi"))
    text = refused(getattr(drbd, name), "t0", force=True)
    assert (
        "the metadata of volume 0 here is not new (generation 19502C74F06BE808): it may have held data"
        in text
    )
    assert world.acts() == []


@pytest.mark.parametrize("name", ["skip_initial_sync", "primary"])
def test_a_peer_that_has_held_data_is_not_new(drbd, world, name):
    world.now("new_connected")
    lied = {**ids("skipped"), "new": True}
    text = refused(getattr(drbd, name), "t0", force=True, peer=lied)
    assert "the peer's metadata is not new (generation 194F2C74F06BE808)" in text
    assert "a set of generations is not understood" in refused(
        getattr(drbd, name), "t0", force=True, peer={"new": True}
    )
    assert world.acts() == []


def test_a_new_side_becomes_the_data_by_force(drbd, world):
    world.now("new_connected")
    world.says("drbdadm", "primary", then="syncsource")
    assert drbd.primary("t0", force=True, peer=ids("new_connected", "demo2")) is True
    assert world.acts() == [["drbdadm", "primary", "--force", "t0"]]


def test_drbd_9_is_told_in_its_own_words(drbd, world):
    """Not run here; drbdadm of drbd-utils 9.22 takes these words for DRBD 9 (``--dry-run``)."""
    world.module("9.2.5")
    world.now("new_connected")
    nine = """[{"name": "t0", "role": "Secondary", "suspended": false,
      "devices": [{"volume": 0, "minor": 3, "disk-state": "Inconsistent", "quorum": true, "size": 131032}],
      "connections": [{"name": "demo2", "connection-state": "Connected", "peer-role": "Secondary", "peer_devices": [{"volume": 0,
        "replication-state": "Established", "peer-disk-state": "Inconsistent", "resync-suspended": "no", "out-of-sync": 131032}]}]}]\n"""
    world.says("drbdsetup", "status", "--json", said=[nine, "", 0])
    new = "0000000000000004:" + "0000000000000000:" * 3 + "0:0:0:0:1:0:0:1:0:0:0:1\n"
    world.says("drbdadm", "get-gi", said=[new, "", 0])
    assert drbd.skip_initial_sync("t0", force=True) is True
    assert world.acts() == [["drbdadm", "new-current-uuid", "--clear-bitmap", "t0/0"]]


@pytest.mark.parametrize(
    "state, host",
    [
        ("primary", "demo1"),
        ("connecting", "demo1"),
        ("new_connected", "demo1"),
        ("full_sync", "demo1"),
        ("synctarget", "demo2"),
        ("standalone", "demo2"),
    ],
)
def test_data_are_only_thrown_away_where_the_peer_has_them(drbd, world, state, host):
    world.now(state, host)
    text = refused(drbd.invalidate, "t0", force=True)
    assert (
        "the peer has to be connected, UpToDate and at rest, and this node Secondary; it is "
        in text
    )
    assert world.acts() == []


DISCARD = {"discard_my_data": True, "force": True}


def test_a_split_brain_is_resolved_with_the_proof_of_both_sides(drbd, world):
    world.now("standalone", "demo2")
    world.says("drbdadm", "get-gi", said=said("demo2", "sb_discard.gi"))
    world.says("drbdadm", "connect", then="sb_discard", host="demo2")
    assert drbd.connect("t0", peer=ids("sb"), **DISCARD) is True
    assert world.acts() == [["drbdadm", "connect", "--discard-my-data", "t0"]]


def test_writes_are_only_discarded_in_a_split_brain(drbd, world):
    world.now("standalone", "demo2")
    assert "needs force=True" in refused(drbd.connect, "t0", discard_my_data=True, peer=ids("sb"))
    assert "refused: give as peer what drbd.generation_ids says on the other node" in refused(
        drbd.connect, "t0", **DISCARD
    )
    assert "not a split brain but peer_newer: the peer has the newer data" in refused(
        drbd.connect, "t0", peer=ids("peer_gone"), **DISCARD
    )
    assert "not a split brain but equal" in refused(
        drbd.connect, "t0", peer=ids("standalone", "demo2"), **DISCARD
    )
    strangers = {**ids("standalone", "demo2"), "current": "AAAAAAAAAAAAAAA2"}
    assert "not a split brain but unrelated: the two were never one resource" in refused(
        drbd.connect, "t0", peer=strangers, **DISCARD
    )
    assert "a set of generations is not understood" in refused(
        drbd.connect, "t0", peer={"current": "x"}, **DISCARD
    )
    world.now("sb")
    assert "this node is Primary UpToDate, demo2 StandAlone" in refused(
        drbd.connect, "t0", peer=ids("sb", "demo2"), **DISCARD
    )
    world.now("skipped")
    assert "it has to be Secondary and StandAlone" in refused(
        drbd.connect, "t0", peer=ids("sb", "demo2"), **DISCARD
    )
    assert world.acts() == []


def test_the_writes_of_several_volumes_are_not_proved_by_one(drbd, world):
    status = said("demo2", "standalone.status")[0].rstrip("\n") + (
        "\n  volume:1 minor:4 disk:UpToDate\n      size:131032\n\n"
    )
    world.says("drbdsetup", "status", said=[status, "", 0])
    assert "peer proves one volume only" in refused(drbd.connect, "t0", peer=ids("sb"), **DISCARD)
    assert world.acts() == []


# --- Metadata -----------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("name", ["blkid_ext4", "blkid_lvm"])
def test_a_disk_with_something_known_gets_no_metadata(drbd, world, name, force):
    world.says("blkid", said=said("demo2", name))
    text = refused(drbd.create_md, "t0", force=force)
    assert "/dev/loop7 is not empty (TYPE=" in text and "wipefs -a /dev/loop7" in text
    assert world.acts() == []


@pytest.mark.parametrize(
    "answer, message",
    [
        (["DEVNAME=/dev/loop7\nPTTYPE=gpt\n", "", 0], "is not empty (PTTYPE=gpt)"),
        (["", "blkid: error: /dev/loop7: Input/output error\n", 2], "Input/output error"),
        (["", "", 8], "is not empty (blkid: 8)"),
    ],
)
def test_a_disk_that_cannot_be_judged_gets_no_metadata(drbd, world, answer, message):
    world.says("blkid", said=answer)
    for force in (False, True):
        assert message in refused(drbd.create_md, "t0", force=force)
    assert world.acts() == []


def test_bytes_that_nothing_knows_need_force(drbd, world):
    world.says("drbdadm", "create-md", said=said("demo2", "create_md_again"))
    text = refused(drbd.create_md, "t0")
    assert "/dev/loop7 holds bytes that are neither metadata nor a known filesystem" in text
    assert "give force=True" in text
    world.forget()
    world.says("drbdadm", "--", "--force", "create-md", then="down:new_connected")
    assert drbd.create_md("t0", force=True) is True
    assert world.acts() == [["drbdadm", "--", "--force", "create-md", "t0/0"]]


def test_a_filesystem_that_drbdmeta_sees_is_kept_with_force_too(drbd, world):
    for words in (["create-md"], ["--", "--force", "create-md"]):
        world.says("drbdadm", *words, said=said("demo2", "create_md_ext4_force"))
        assert "DRBD: create_md of t0" in refused(drbd.create_md, "t0", force=len(words) > 1)


def test_no_metadata_on_what_is_no_disk_or_cannot_be_asked(drbd, world):
    world.says("drbdadm", "get-gi", said=said("demo1", "md_busy"))
    text = refused(drbd.create_md, "t0", force=True)
    assert "whether /dev/loop7 has metadata cannot be asked" in text and "busy" in text
    (world.root / "sys/class/block/loop7/size").unlink()
    assert "/dev/loop7 is no block device on demo1" in refused(drbd.create_md, "t0", force=True)
    assert "gives no disk of volume 1 on demo1" in refused(drbd.create_md, "t0", volume=1)
    assert world.acts() == []


@pytest.mark.parametrize("name", ["create_md", "wipe_md", "metadata", "generation_ids"])
@pytest.mark.parametrize("volume", ["0 --force", "x", -1, None, 1.5])
def test_a_volume_is_a_number(drbd, world, name, volume):
    with pytest.raises(SaltInvocationError, match="volume: .* is not right"):
        getattr(drbd, name)("t0", volume=volume)
    assert world.acts() == []


@pytest.mark.parametrize("state", ["skipped", "sb", "detached"])
def test_no_metadata_below_a_resource_that_is_up(drbd, world, state):
    world.now(state)
    world.says("drbdadm", "get-gi", said=["", "", 1])
    assert "refused: it is up (" in refused(drbd.create_md, "t0", force=True)
    assert world.acts() == []


def test_what_an_up_without_metadata_left_is_taken_down_first(drbd, world):
    world.now("diskless", "demo2")
    world.says("drbdadm", "down", then="down")
    world.says("drbdadm", "create-md", then="down:new_connected")
    assert drbd.create_md("t0") is True
    assert world.acts() == [["drbdadm", "down", "t0"], ["drbdadm", "create-md", "t0/0"]]


WIPE = ["drbdadm", "--", "--force", "wipe-md", "t0/0"]


@pytest.mark.parametrize(
    "here, proof",
    [
        ("skipped", {"peer": ("skipped", "demo2")}),
        ("skipped", {"peer": ("peer_gone", "demo1")}),
        ("skipped", {"current": "194F2C74F06BE808"}),
        ("skipped", {"current": "194f2c74f06be808"}),
        ("new_connected", {}),
    ],
)
def test_metadata_go_with_a_proof(drbd, world, here, proof):
    world.now(f"down:{here}")
    if "peer" in proof:
        proof = {"peer": ids(*proof["peer"])}
    assert drbd.wipe_md("t0", force=True, **proof) is True
    assert world.acts() == [WIPE]


@pytest.mark.parametrize(
    "here, proof, message",
    [
        ("skipped", {}, "this disk has held data of generation 194F2C74F06BE808; give as peer what"),
        ("skipped", {"current": "194F2C74F06BE800"}, "give as peer what"),
        ("peer_gone", {"peer": ("standalone", "demo2")}, "does not prove that it has the data of 21E2F0742509B193 here: local_newer"),
        ("sb", {"peer": ("sb", "demo2")}, "here: split_brain"),
        ("skipped", {"peer": ("new_connected", "demo2")}, "here: local_newer"),
        # What counts is the peer, and not that this one is meant.
        ("peer_gone", {"peer": ("standalone", "demo2"), "current": "21E2F0742509B193"}, "here: local_newer"),
        ("verified", {"peer": ("not up to date", "demo2")}, "the peer's metadata does not say that its disk is UpToDate"),
        ("skipped", {"peer": {"current": "194F2C74F06BE808"}}, "a set of generations is not understood"),
    ],
)  # fmt: skip
def test_metadata_stay_without_a_proof(drbd, world, here, proof, message):
    world.now("down:skipped")
    world.says(
        "drbdadm", "get-gi", said=said("demo2" if here == "verified" else "demo1", f"{here}.gi")
    )
    peer = proof.get("peer")
    if peer == ("not up to date", "demo2"):
        peer = ids("verified", "demo2")
        peer["flags"]["up_to_date"] = False
    elif isinstance(peer, tuple):
        peer = ids(*peer)
    text = refused(drbd.wipe_md, "t0", force=True, peer=peer, current=proof.get("current"))
    assert message in text
    assert world.acts() == []


def test_metadata_of_a_resource_that_is_up_or_cannot_be_asked_stay(drbd, world):
    world.now("skipped")
    assert "it is up on demo1; first: drbdadm down t0" in refused(
        drbd.wipe_md, "t0", force=True, peer=ids("skipped")
    )
    world.now("down")
    world.says("drbdadm", "get-gi", said=said("demo1", "md_busy"))
    assert "Device or resource busy" in refused(drbd.wipe_md, "t0", force=True)
    assert world.acts() == []


def test_resize(drbd, world):
    world.now("skipped")
    assert drbd.resize("t0") is False
    world.says("drbdadm", "resize", then=grown())
    assert drbd.resize("t0") is True
    assert world.acts() == [["drbdadm", "resize", "t0"]] * 2


@pytest.mark.parametrize("state", ["connecting", "full_sync", "sb", "detached"])
def test_only_what_is_in_sync_grows(drbd, world, state):
    world.now(state)
    assert "resize of t0 refused: it is " in refused(drbd.resize, "t0")
    assert world.acts() == []


# --- Files --------------------------------------------------------------------------------------------------------------------------------------


def test_a_file_is_written_once(drbd, world):
    world.file.unlink()
    done = drbd.configure("t0", **WISH)
    assert done["running"] == "down" and done["file"] == str(world.file)
    assert done["changes"]["net:shared-secret"] == {"old": None, "new": "(secret)"}
    assert CANARY not in str(done)
    assert world.file.read_text() == RES and world.files()["etc/drbd.d/t0.res"][1] == "0600"
    before = world.file.stat()
    assert drbd.configure("t0", **WISH)["changes"] == {}
    assert world.file.stat().st_mtime_ns == before.st_mtime_ns
    assert world.acts() == []


def test_test_mode_says_the_same_and_writes_nothing(drbd, world):
    world.file.unlink()
    before = world.files()
    told = drbd.configure("t0", **WISH, test=True)
    assert told["changes"] and told["running"] is None
    assert world.files() == before and world.acts() == []
    assert drbd.configure("t0", **WISH)["changes"] == told["changes"]


def test_a_resource_that_is_up_gets_new_settings_at_once(drbd, world):
    world.now("skipped")
    done = drbd.configure("t0", **WISH, net={"verify-alg": "sha1"})
    assert done["changes"] == {"net:verify-alg": {"old": "sha256", "new": "sha1"}}
    assert done["running"] == "adjusted"
    assert world.acts() == [["drbdadm", "adjust", "t0"]]


def test_settings_that_the_kernel_refuses_are_taken_back(drbd, world):
    world.now("skipped")
    before = world.files()
    world.says("drbdadm", "adjust", said=said("demo2", "sb_discard_primary"), once=True)
    text = refused(drbd.configure, "t0", **WISH, net={"verify-alg": "sha1"})
    assert "adjust of t0 failed" in text and "already in use" in text
    assert world.files() == before
    assert world.acts() == [["drbdadm", "adjust", "t0"]] * 2


def test_a_standalone_resource_is_not_connected_by_new_settings(drbd, world):
    world.now("sb")
    assert drbd.configure("t0", **WISH, net={"verify-alg": "sha1"})["running"] == "left alone"
    assert world.acts() == []


def test_a_resource_that_is_up_keeps_its_disk(drbd, world):
    world.now("skipped")
    for changed in ({"minor": 4}, {"disk": "/dev/loop8"}):
        with pytest.raises(SaltInvocationError, match="t0 is up with another; take it down first"):
            drbd.configure("t0", **{**WISH, **changed})
    assert world.acts() == [] and world.file.read_text() == RES


def test_an_option_that_drbd_does_not_know_is_found_by_drbdadm(drbd, world):
    before = world.files()
    world.says("drbdadm", "-c", said=said("demo2", "check_bad_name"))
    with pytest.raises(SaltInvocationError) as error:
        drbd.configure("t0", **WISH, net={"protocool": "C"})
    assert "DRBD does not take the options of t0" in str(error.value)
    assert "but got 'protocool'" in str(error.value)
    assert world.files() == before  # also no file beside


OTHER = RES.replace("resource t0", "resource other").replace(CANARY, "secret-of-another")


@pytest.mark.parametrize(
    "text, message",
    [
        (OTHER, r"(minor|port|disk): .* is used by resource other in .*other.res; give a free one"),
        (OTHER.replace(":7399", ":7400").replace("loop7", "loop8"), "minor: minor 3 of demo1 is used by"),
        (OTHER.replace("minor 3", "minor 4").replace("loop7", "loop8"), "port: address 10.98.1.11:7399 is used by"),
        (OTHER.replace(":7399", ":7400").replace("minor 3", "minor 4"), "disk: disk /dev/loop7 of demo1 is used by"),
        (RES, "resource: t0 is in .*other.res already; remove it there"),
    ],
)  # fmt: skip
def test_what_another_resource_has_is_refused(drbd, world, text, message):
    (world.etc / "other.res").write_text(text)
    world.file.unlink()
    before = world.files()
    with pytest.raises(SaltInvocationError, match=message):
        drbd.configure("t0", **WISH)
    assert world.files() == before


def test_a_neighbour_that_is_not_understood_is_named(drbd, world):
    (world.etc / "other.res").write_text(f'resource x {{ net {{ shared-secret "{CANARY};')
    text = refused(drbd.configure, "t0", **WISH, net={"verify-alg": "sha1"})
    assert "other.res is not understood, and drbdadm would read it too: line 1" in text


def test_a_file_with_strangers_is_left(drbd, world):
    world.configured(RES + OTHER)
    with pytest.raises(SaltInvocationError, match="t0.res also holds other; give each a file"):
        drbd.configure("t0", **WISH)
    assert "t0.res also holds other; move that" in refused(drbd.remove_config, "t0")
    assert "also holds other" in refused(drbd.remove_config, "t0", test=True)
    assert world.file.read_text() == RES + OTHER


def test_a_file_of_the_resource_that_is_not_understood_is_replaced(drbd, world):
    world.configured(f"resource t0 {{ net {{ shared-secret {CANARY}")
    done = drbd.configure("t0", **WISH)
    assert done["changes"]["file"]["old"] == "not understood: the file ends within a statement"
    assert world.file.read_text() == RES and CANARY not in str(done)


def test_a_file_that_others_can_read_is_closed(drbd, world):
    world.file.chmod(0o644)
    assert drbd.configure("t0", **WISH)["changes"] == {"mode": {"old": "0644", "new": "0600"}}
    assert world.files()["etc/drbd.d/t0.res"][1] == "0600"


@pytest.mark.parametrize("key", ["drbd:short", "drbd:missing"])
def test_a_secret_that_is_none_is_refused_by_its_key(drbd, world, key):
    with pytest.raises(SaltInvocationError, match=f"pillar {key} is to hold 8 to 63"):
        drbd.configure("t0", **{**WISH, "shared_secret_pillar": key})
    assert world.file.read_text() == RES


def test_a_new_secret_is_told_and_not_shown(drbd, world):
    done = drbd.configure("t0", **{**WISH, "shared_secret_pillar": "drbd:new"})
    assert done["changes"] == {"net:shared-secret": {"old": "(secret)", "new": "(another secret)"}}
    assert f"shared-secret another-{CANARY};" in world.file.read_text()


def test_a_node_that_is_not_of_the_resource_is_told(drbd, world):
    nodes = {"demo3": "10.98.1.13", "demo2": "10.98.1.12"}
    with pytest.raises(
        SaltInvocationError, match="this node calls itself 'demo1'.* nodes has demo3"
    ):
        drbd.configure("t0", **{**WISH, "nodes": nodes})
    world.file.unlink()
    world.etc.rmdir()
    assert "install the package drbd-utils" in refused(drbd.configure, "t0", **WISH)


def test_without_a_module_the_form_of_the_file_is_not_known(drbd, world):
    world.module(None)
    world.says("modinfo", said=["", "modinfo: ERROR: Module drbd not found.\n", 1])
    assert "has no drbd module; install it" in refused(drbd.configure, "t0", **WISH)


def test_drbd_9_gets_node_ids(drbd, world):
    """Not run here."""
    world.module("9.2.5")
    world.says("drbdsetup", "status", "--json", said=["[]\n", "", 0])
    done = drbd.configure("t0", **WISH)
    assert set(done["changes"]) == {"on demo1:node-id", "on demo2:node-id"}
    assert drbd.configure("t0", **WISH)["changes"] == {}


def test_remove_config(drbd, world):
    world.now("skipped")
    assert drbd.remove_config("t0", test=True) is True
    assert "t0 is up; first: drbdadm down t0" in refused(drbd.remove_config, "t0")
    assert world.file.exists()
    world.now("down:skipped")
    assert drbd.remove_config("t0") is True and not world.file.exists()
    assert drbd.remove_config("t0") is False
    world.configured("resource t0 {")
    assert drbd.remove_config("t0") is True and not world.file.exists()
    assert world.acts() == []
