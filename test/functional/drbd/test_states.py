"""The states through Salt's loader: nothing to do, test mode, done, refused, half done, done and yet not so. Each time it is looked what DRBD was told."""

import os
import time

import pytest

from .drbd_world import CANARY, RES, WISH, grown, said

SYNCED = "Secondary UpToDate, demo2 Connected Established UpToDate"
NEW = "Secondary Inconsistent, demo2 Connected Established Inconsistent"
SKIP = ["--", "--clear-bitmap", "new-current-uuid", "t0/0"]


def larger(world):
    world.size(262144)
    world.now("skipped")


def unloaded(world):
    world.module(None)


def loaded(world):
    (world.root / "etc/modules").write_text("drbd\n")


def nothing(world):
    world.file.unlink()


def other_settings(world):
    world.configured(RES.replace("protocol C", "protocol A"))
    world.now("skipped")


def gone(world):
    world.file.unlink()
    world.now("down:skipped")


# state: (arguments, the world before, what is told, the world then, when nothing is to be done, changes)
GOALS = {
    "module_loaded": (
        {},
        unloaded,
        ["modprobe", "drbd"],
        "down",
        loaded,
        {"module": {"old": None, "new": "8.4.11"}, "at boot": {"old": False, "new": True}},
    ),
    "resource_configured": (
        WISH,
        other_settings,
        ["drbdadm", "adjust", "t0"],
        "skipped",
        lambda world: world.now("skipped"),
        {"net:protocol": {"old": "A", "new": "C"}},
    ),
    "metadata_present": (
        {},
        "down",
        ["drbdadm", "create-md", "t0/0"],
        "down:new_connected",
        "down:skipped",
        {"metadata of volume 0": {"old": None, "new": "new"}},
    ),
    "up": (
        {},
        "down:skipped",
        ["drbdadm", "up", "t0"],
        "skipped",
        "connecting",
        {"state": {"old": "Unconfigured Unconfigured", "new": SYNCED}},
    ),
    "down": (
        {},
        "skipped",
        ["drbdadm", "down", "t0"],
        "down:skipped",
        "down:skipped",
        {"state": {"old": SYNCED, "new": "down"}},
    ),
    "primary": (
        {},
        "skipped",
        ["drbdadm", "primary", "t0"],
        "primary",
        "primary",
        {"role": {"old": "Secondary", "new": "Primary"}},
    ),
    "secondary": (
        {},
        "primary",
        ["drbdadm", "secondary", "t0"],
        "skipped",
        "skipped",
        {"role": {"old": "Primary", "new": "Secondary"}},
    ),
    "initial_sync_skipped": (
        {"connect_timeout": 1},
        "new_connected",
        ["drbdadm", *SKIP],
        "skipped",
        "skipped",
        {"initial sync": {"old": None, "new": "skipped"}},
    ),
    "resized": (
        {},
        larger,
        ["drbdadm", "resize", "t0"],
        grown(),
        "skipped",
        {"KiB of volume 0": {"old": 131032, "new": 262100}},
    ),
    "absent": (
        {},
        "skipped",
        ["drbdadm", "down", "t0"],
        "down:skipped",
        gone,
        {"resource": {"old": SYNCED, "new": None}},
    ),
}


@pytest.fixture(autouse=True)
def configured(world):
    world.configured()


@pytest.fixture
def run(states, loaders, world):
    """Apply a state in a run of its own; its return holds no secret."""

    def apply(state, name="t0", **kwargs):
        loaders.context.clear()
        ret = states[f"drbd.{state}"]("drbd" if state == "module_loaded" else name, **kwargs)
        assert CANARY not in f"{ret.comment} {ret.changes}"
        return ret

    return apply


def put(world, state):
    state(world) if callable(state) else world.now(state)


@pytest.mark.parametrize("state", GOALS)
def test_nothing_to_do(run, world, state):
    kwargs, _, _, _, already, _ = GOALS[state]
    put(world, already)
    before = world.files()
    for test in (True, False):
        ret = run(state, test=test, **kwargs)
        assert (ret.result, ret.changes) == (True, {}), ret.comment
        assert ret.comment
    assert world.acts() == [] and world.files() == before


@pytest.mark.parametrize("state", GOALS)
def test_test_mode_tells_and_touches_nothing(run, world, state):
    kwargs, before, _, _, _, changes = GOALS[state]
    put(world, before)
    files = world.files()
    ret = run(state, test=True, **kwargs)
    assert ret.result is None and "would be" in ret.comment or "would grow" in ret.comment
    # What is known only when it is done is told as what is meant.
    unforeseen = {"module_loaded": ("module", "loaded"), "up": ("state", "up")}
    if state in unforeseen:
        key, word = unforeseen[state]
        changes = {**changes, key: {**changes[key], "new": word}}
    assert ret.changes == changes
    assert world.acts() == [] and world.files() == files


@pytest.mark.parametrize("state", GOALS)
def test_done_confirmed_and_not_done_again(run, world, state):
    kwargs, before, told, after, _, changes = GOALS[state]
    put(world, before)
    world.says(*told, then=after)
    ret = run(state, **kwargs)
    assert ret.result is True, ret.comment
    assert ret.changes == changes
    assert world.acts() == [told]
    world.forget()
    again = run(state, **kwargs)
    assert (again.result, again.changes, world.acts()) == (True, {}, [])


@pytest.mark.parametrize("state", GOALS)
def test_refused_by_drbd(run, world, state):
    kwargs, before, told, _, _, _ = GOALS[state]
    put(world, before)
    files = world.files()
    said = "3: State change failed: (-12) Device is held open by someone\n"
    world.says(*told, said=["", said, 11])
    ret = run(state, **kwargs)
    assert ret.result is False
    assert "Device is held open by someone" in ret.comment
    assert ret.changes == {}
    assert told in world.acts() and world.files() == files


@pytest.mark.parametrize("state", [state for state in GOALS if state != "resource_configured"])
def test_told_without_error_and_yet_not_so(run, world, state):
    kwargs, before, told, _, _, _ = GOALS[state]
    put(world, before)
    ret = run(state, **kwargs)
    assert ret.result is False
    assert "here were no errors, but" in ret.comment or "returned 0 and there is no" in ret.comment
    assert ret.changes == {}
    assert world.acts() == [told]


RESOURCE_STATES = [
    *(state for state in GOALS if state not in ("module_loaded", "absent", "resource_configured")),
    "connected",
    "synced",
]


@pytest.mark.parametrize("state", RESOURCE_STATES)
def test_a_resource_that_is_not_there(run, world, state):
    ret = run(state, "t9")
    assert ret.result is False and "t9 is not configured on this node" in ret.comment
    # An earlier state of the same run may be what configures it.
    ret = run(state, "t9", test=True)
    assert ret.result is None and ret.comment.startswith("Cannot be foreseen yet: ")
    assert world.acts() == []


@pytest.mark.parametrize("state", [*GOALS, "connected", "synced"])
def test_what_cannot_be_asked_is_an_error_and_no_absence(run, world, state):
    if state == "module_loaded":
        (world.root / "sys/module/drbd/version").write_bytes(b"\xff\xfe")
        message = "cannot be read: it is no UTF-8 text"
    else:
        world.says("drbdsetup", "status", said=["t0 rôle:Secondaire\n\n", "", 0])
        message = "'rôle' of a resource is not understood: 'Secondaire'"
    kwargs = {**WISH, "protocol": "A"} if state == "resource_configured" else {}
    ret = run(state, **kwargs)
    assert ret.result is False and message in ret.comment and ret.changes == {}
    assert world.acts() == []


@pytest.mark.parametrize("state", [*list(GOALS)[1:], "connected", "synced"])
def test_before_drbd_utils_are_installed_test_mode_foresees_nothing(run, world, state):
    for program in world.bin.iterdir():
        program.unlink()
    kwargs = {**WISH, "protocol": "A"} if state == "resource_configured" else {}
    ret = run(state, **kwargs)
    assert ret.result is False and "is not installed: install the package" in ret.comment
    ret = run(state, test=True, **kwargs)
    assert ret.result is None


def test_states_of_one_run_that_are_so_already_cost_one_process(modules, world):
    world.now("skipped")
    wanted = ("metadata_present", "up", "connected", "synced", "initial_sync_skipped")
    done = modules["state.high"](
        {
            f"t0 {one}": {"drbd": [one, {"name": "t0"}], "__sls__": "t0", "__env__": "base"}
            for one in wanted
        }
    )
    assert [(one.result, one.changes) for one in done] == [(True, {})] * 5
    assert len(world.calls()) == 1


# --- The module ---------------------------------------------------------------------------------------------------------------------------------


def test_a_module_that_is_loaded_and_not_at_boot(run, world):
    ret = run("module_loaded")
    assert ret.changes == {"at boot": {"old": False, "new": True}}
    assert world.files()["etc/modules-load.d/drbd.conf"][0] == "drbd\n"
    assert world.acts() == []


def test_a_module_that_is_loaded_and_cannot_be_at_boot(run, world):
    world.module(None)
    world.says("modprobe", then="down")
    (world.root / "etc/modules-load.d").write_text("a file where a folder is wanted")
    ret = run("module_loaded")
    assert ret.result is False and "modules-load.d/drbd.conf cannot be written" in ret.comment
    assert ret.changes == {"module": {"old": None, "new": "8.4.11"}}


def test_a_module_that_is_named_for_the_boot_and_yet_not_there(run, world):
    folder = world.root / "etc/modules-load.d"
    folder.mkdir()
    (folder / "drbd.conf").symlink_to("/dev/null")
    ret = run("module_loaded")
    assert ret.result is False
    assert (
        "There were no errors, but the module is {'loaded': '8.4.11', 'at_boot': False}"
        in ret.comment
    )
    assert ret.changes == {}


# --- The file -----------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("test", [True, False])
def test_a_first_file(run, world, test):
    world.file.unlink()
    ret = run("resource_configured", test=test, **WISH)
    assert ret.result is (None if test else True), ret.comment
    assert ret.changes["net:shared-secret"] == {"old": None, "new": "(secret)"}
    assert ret.changes["on demo2:address"] == {"old": None, "new": "ipv4 10.98.1.12:7399"}
    assert world.files() == ({} if test else {"etc/drbd.d/t0.res": (RES, "0600")})
    if not test:
        assert "t0.res is written; the resource is down" in ret.comment
    assert world.acts() == []


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"port": 70000}, "port: 70000 is not right"),
        ({"protocol": "D"}, "protocol: 'D' is not right"),
        ({"net": {"shared-secret": "x"}}, "net:shared-secret: is set by shared_secret_pillar"),
        ({"handlers": {"split-brain": "a\nb"}}, "handlers:split-brain: the value is not right"),
        ({"shared_secret_pillar": "drbd:short"}, "pillar drbd:short is to hold 8 to 63"),
        ({"nodes": {"demo3": "10.0.0.3", "demo2": "10.0.0.2"}}, "this node calls itself 'demo1'"),
    ],
)
@pytest.mark.parametrize("test", [True, False])
def test_a_wrong_wish_is_refused_in_both_modes(run, world, test, changed, message):
    before = world.files()
    ret = run("resource_configured", test=test, **{**WISH, **changed})
    assert (ret.result, ret.changes) == (False, {}) and message in ret.comment
    assert world.files() == before and world.acts() == []


def test_every_section_takes_any_option(run, world):
    more = {
        "net": {"verify-alg": "sha1", "allow-two-primaries": False},
        "disk_options": {"on-io-error": "detach"},
        "handlers": {"split-brain": "/usr/lib/drbd/notify-split-brain.sh root"},
        "options": {"cpu-mask": "3"},
    }
    ret = run("resource_configured", **WISH, **more)
    assert ret.result is True
    assert set(ret.changes) == {
        "net:verify-alg", "net:allow-two-primaries", "disk:on-io-error", "handlers:split-brain", "options:cpu-mask",
    }  # fmt: skip
    assert (
        '        split-brain "/usr/lib/drbd/notify-split-brain.sh root";' in world.file.read_text()
    )
    assert run("resource_configured", **WISH, **more).changes == {}


def test_one_wish_is_written_for_either_drbd(run, world):
    """For DRBD 9 not run here."""
    world.file.unlink()
    world.module("9.2.5")
    world.says("drbdsetup", "status", "--json", said=["[]\n", "", 0])
    assert run("resource_configured", **WISH).result is True
    lines = [line for line in world.file.read_text().splitlines() if "node-id" not in line]
    assert lines == RES.splitlines()


def test_a_standalone_resource_is_left_alone(run, world):
    world.now("sb")
    ret = run("resource_configured", **WISH, net={"verify-alg": "sha1"})
    assert ret.result is True and world.acts() == []
    assert (
        "StandAlone and was left alone; it has these settings after: drbdadm adjust t0"
        in ret.comment
    )


def test_a_file_that_somebody_else_writes_too_is_told(run, world, monkeypatch):
    real = os.replace

    def fought_over(source, target):
        real(source, target)
        world.configured(RES.replace("protocol C", "protocol B"))

    world.file.unlink()
    monkeypatch.setattr(os, "replace", fought_over)
    ret = run("resource_configured", **WISH)
    assert ret.result is False
    assert "There were no errors, but " in ret.comment and "differs in net:protocol" in ret.comment


# --- Metadata -----------------------------------------------------------------------------------------------------------------------------------

TWO = RES.replace(
    "        device /dev/drbd3 minor 3;\n        disk /dev/loop7;\n        meta-disk internal;\n",
    "        volume 0 { device minor 3; disk /dev/loop7; meta-disk internal; }\n"
    "        volume 1 { device minor 4; disk /dev/loop7; meta-disk internal; }\n",
)


def test_of_two_volumes_one_gets_metadata(run, world):
    world.configured(TWO)
    world.says("drbdadm", "create-md", "t0/0", then="down:new_connected")
    world.says("drbdadm", "create-md", "t0/1", said=said("demo2", "create_md_small"))
    world.says("drbdadm", "get-gi", "t0/1", said=["", "", 1])
    ret = run("metadata_present")
    assert ret.result is False and "only 20480 bytes. That's not enough" in ret.comment
    assert ret.changes == {"metadata of volume 0": {"old": None, "new": "new"}}


def test_a_resource_that_is_up_without_its_metadata_gets_some(run, world):
    """As 8.4 leaves it after an up without."""
    world.now("diskless", "demo2")
    world.says("drbdadm", "down", then="down")
    world.says("drbdadm", "create-md", then="down:new_connected")
    ret = run("metadata_present")
    assert ret.result is True, ret.comment
    assert ret.changes == {"metadata of volume 0": {"old": None, "new": "new"}}
    assert world.acts() == [["drbdadm", "down", "t0"], ["drbdadm", "create-md", "t0/0"]]


@pytest.mark.parametrize("force", [False, True])
def test_a_disk_that_was_used_needs_force(run, world, force):
    world.says("drbdadm", "create-md", said=said("demo2", "create_md_again"))
    world.says("drbdadm", "--", "--force", "create-md", then="down:new_connected")
    ret = run("metadata_present", force=force)
    assert ret.result is force
    if not force:
        assert "if they may go, give force=True" in ret.comment and ret.changes == {}


@pytest.mark.parametrize("force", [False, True])
def test_a_filesystem_is_never_overwritten(run, world, force):
    world.says("blkid", said=said("demo2", "blkid_ext4"))
    ret = run("metadata_present", force=force)
    assert (ret.result, ret.changes, world.acts()) == (False, {}, [])
    assert "/dev/loop7 is not empty (TYPE=ext4), with force neither" in ret.comment


def test_a_disk_that_is_not_there_yet(run, world):
    world.says("drbdadm", "get-gi", said=said("demo2", "gi_nodev"))
    ret = run("metadata_present")
    assert ret.result is False and "No such file or directory" in ret.comment
    ret = run("metadata_present", test=True)
    assert ret.result is None and ret.comment.startswith("Cannot be foreseen yet")
    world.says("drbdadm", "get-gi", said=said("demo1", "md_busy"))
    ret = run("metadata_present", test=True)
    assert ret.result is False and "Device or resource busy" in ret.comment


# --- Up -----------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("test", [True, False])
def test_a_detached_disk_is_attached_again(run, world, test):
    world.now("detached")
    world.says("drbdadm", "adjust", then="attached")
    ret = run("up", test=test)
    assert ret.result is (None if test else True)
    assert "Diskless" in ret.changes["state"]["old"]
    assert world.acts() == ([] if test else [["drbdadm", "adjust", "t0"]])


@pytest.mark.parametrize("test", [True, False])
def test_a_split_brain_is_not_connected_by_a_highstate(run, world, test):
    world.now("sb")
    ret = run("up", test=test)
    assert (ret.result, ret.changes, world.acts()) == (False, {}, [])
    assert "t0 is left as it is: it is StandAlone towards demo2" in ret.comment
    assert "split brain" in ret.comment


def test_a_paused_resync_is_up(run, world):
    world.now("paused_target", "demo2")
    ret = run("up")
    assert (ret.result, ret.changes, world.acts()) == (True, {}, [])


def test_up_half_way(run, world):
    """Attached, but the peer's connection is refused at once."""
    world.now("down:skipped")
    world.says("drbdadm", "up", then="sb")
    ret = run("up")
    assert ret.result is False and "but t0 is not up: it is StandAlone" in ret.comment
    assert ret.changes["state"]["new"] == "Primary UpToDate, demo2 StandAlone Off DUnknown"


# --- Waiting ------------------------------------------------------------------------------------------------------------------------------------


def steps(world, *names, host="demo2"):
    """Each question is answered by what is then there; the last state stays."""
    for before, after in reversed(list(zip(names, names[1:], strict=False))):
        answer = said(host, f"{before}.status")
        world.says("drbdsetup", "status", said=answer, then=after, host=host, once=True)
    world.now(names[0], host)


def test_connected_waits_for_the_peer(run, world):
    steps(world, "peer_down_midsync", "peer_down_midsync", "synctarget")
    ret = run("connected")
    assert (ret.result, ret.changes, world.acts()) == (True, {}, [])
    assert ret.comment.startswith(
        "t0 is connected: Secondary Inconsistent, demo2 Connected SyncTarget"
    )


def test_synced_waits_for_a_resync(run, world):
    steps(world, "synctarget", "resumed", "verified")
    ret = run("synced")
    assert (ret.result, ret.changes, world.acts()) == (True, {}, [])
    assert "t0 is in sync after " in ret.comment and ret.comment.endswith(f"s: {SYNCED}")


@pytest.mark.parametrize("state", ["connected", "synced"])
def test_so_already_waits_for_nothing(run, world, state):
    world.now("skipped")
    for test in (True, False):
        ret = run(state, test=test)
        assert (ret.result, ret.changes) == (True, {}) and SYNCED in ret.comment
    assert len(world.calls()) == 2


@pytest.mark.parametrize(
    "state, now",
    [
        ("connected", "connecting"),
        ("synced", "full_sync"),
        ("synced", "down"),
        # It is not the source, so nothing is begun here.
        ("synced", "new_connected"),
    ],
)
def test_test_mode_waits_for_nothing(run, world, state, now):
    world.now(now)
    ret = run(state, test=True)
    assert (ret.result, ret.changes) == (None, {}) and "t0 would be waited for: " in ret.comment
    assert len(world.calls()) == 1


@pytest.mark.parametrize(
    "state, now, why",
    [
        ("connected", "sb", "it is StandAlone towards demo2"),
        ("connected", "down", "the resource is down: drbdadm up"),
        ("synced", "sb", "it is StandAlone towards demo2"),
        ("synced", "detached", "volume 0 is Diskless"),
        ("synced", "down", "the resource is down: drbdadm up"),
        ("initial_sync_skipped", "sb", "it is StandAlone towards demo2"),
        ("initial_sync_skipped", "detached", "volume 0 is Diskless: see the kernel"),
        ("initial_sync_skipped", "down", "the resource is down: drbdadm up"),
    ],
)
def test_what_cannot_succeed_fails_at_once(run, world, state, now, why):
    world.now(now)
    start = time.monotonic()
    ret = run(state)
    assert time.monotonic() - start < 30  # of an hour
    assert (ret.result, ret.changes, world.acts()) == (False, {}, [])
    assert why in ret.comment


def test_a_resync_that_an_operator_paused_fails_at_once(run, world):
    world.now("paused_target", "demo2")
    ret = run("synced")
    assert ret.result is False
    assert "the resync of volume 0 is paused by an operator: drbdadm resume-sync" in ret.comment


def test_a_deadline_says_how_far_it_is(run, world):
    world.now("synctarget", "demo2")
    ret = run("synced", timeout=1)
    assert (ret.result, ret.changes) == (False, {})
    assert "t0 is not in sync: not there after 1 s. Now: " in ret.comment
    assert "SyncTarget UpToDate 31.3 % (4120 KiB/s)" in ret.comment


@pytest.mark.parametrize("state", ["connected", "synced", "initial_sync_skipped"])
def test_a_peer_that_stays_away_is_told(run, world, state):
    world.now("connecting")
    arguments = {"timeout": 1} if state == "connected" else {"connect_timeout": 1}
    ret = run(state, **arguments)
    assert (ret.result, ret.changes, world.acts()) == (False, {}, [])
    assert "no connection for 1 s: see that the resource is up on the peer" in ret.comment


# --- The first synchronisation --------------------------------------------------------------------------------------------------------------------

FORCE, BACK = ["drbdadm", "primary", "--force", "t0"], ["drbdadm", "secondary", "t0"]


def test_one_side_becomes_the_source(run, world):
    world.now("new_connected")
    # This side is Primary for a moment.
    world.says(*FORCE, then="syncsource")
    world.says(*BACK, then="skipped")
    ret = run("synced", source=True, timeout=60)
    assert ret.result is True, ret.comment
    assert ret.changes == {"initial sync": {"old": None, "new": "done"}}
    assert world.acts() == [FORCE, BACK]


def test_the_source_in_test_mode(run, world):
    world.now("new_connected")
    ret = run("synced", source=True, test=True)
    assert ret.result is None and world.acts() == []
    assert ret.changes == {"initial sync": {"old": None, "new": "done"}}


def test_two_new_disks_without_a_source_never_get_in_sync(run, world):
    world.now("new_connected")
    ret = run("synced", connect_timeout=1)
    assert (ret.result, ret.changes, world.acts()) == (False, {}, [])
    assert "no resync begins: none has data to copy from" in ret.comment


def test_a_source_of_disks_that_are_not_new_is_only_waited_for(run, world):
    steps(world, "synctarget", "synctarget", "synctarget", "verified")
    ret = run("synced", source=True)
    assert (ret.result, ret.changes, world.acts()) == (True, {}, [])


def test_a_source_whose_metadata_is_not_new_is_refused(run, world):
    world.now("new_connected")
    world.says("drbdadm", "get-gi", said=said("demo2", "synctarget.gi"))
    ret = run("synced", source=True)
    assert (ret.result, ret.changes, world.acts()) == (False, {}, [])
    assert "the metadata of volume 0 here is not new" in ret.comment


def test_a_first_copy_that_does_not_get_done_was_started(run, world):
    world.now("new_connected")
    world.says(*FORCE, then="syncsource")
    world.says(*BACK, then="full_sync")
    ret = run("synced", source=True, timeout=1)
    assert ret.result is False and "not there after 1 s" in ret.comment
    assert ret.changes == {"initial sync": {"old": None, "new": "started"}}


def test_a_first_copy_that_never_begins(run, world):
    world.now("new_connected")
    ret = run("synced", source=True)
    assert (ret.result, ret.changes) == (False, {})
    assert "There were no errors, but no initial sync of t0 has begun" in ret.comment
    assert world.acts() == [FORCE]


def test_skipping_what_is_not_new_waits_for_the_resync(run, world):
    steps(world, "synctarget", "synctarget", "synctarget", "verified")
    ret = run("initial_sync_skipped")
    assert (ret.result, ret.changes, world.acts()) == (True, {}, [])
    assert "its disks were not new: what differed was copied" in ret.comment


def test_skipping_is_refused_where_data_may_be(run, world):
    world.now("new_connected")
    world.says("drbdadm", "get-gi", said=said("demo2", "synctarget.gi"))
    ret = run("initial_sync_skipped")
    assert (ret.result, ret.changes, world.acts()) == (False, {}, [])
    assert (
        "skip_initial_sync of t0 refused: the metadata of volume 0 here is not new" in ret.comment
    )


def test_skipped_and_then_the_peer_is_lost(run, world):
    world.now("new_connected")
    world.says("drbdadm", *SKIP, then="sb")
    ret = run("initial_sync_skipped")
    assert ret.result is False and "StandAlone" in ret.comment
    assert ret.changes == {"initial sync": {"old": None, "new": "skipped"}}


# --- Size ---------------------------------------------------------------------------------------------------------------------------------------


def test_a_device_that_grows_less_than_its_disk(run, world):
    larger(world)
    world.says("drbdadm", "resize", then=grown(200000))
    ret = run("resized")
    assert ret.result is False
    assert "has 200000 KiB of 262100: has the peer's disk grown too?" in ret.comment
    assert ret.changes == {"KiB of volume 0": {"old": 131032, "new": 200000}}


@pytest.mark.parametrize("test", [True, False])
def test_the_size_of_what_is_down_is_not_known(run, world, test):
    ret = run("resized", test=test)
    assert ret.result is (None if test else False)
    assert "t0 is down on this node" in ret.comment and world.acts() == []


def test_only_what_is_in_sync_grows(run, world):
    world.size(262144)
    world.now("full_sync")
    ret = run("resized")
    assert (ret.result, ret.changes, world.acts()) == (False, {}, [])
    assert (
        "resize of t0 refused: it is Secondary UpToDate, demo2 Connected SyncSource" in ret.comment
    )


# --- Absent -------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("test", [True, False])
def test_a_resource_that_is_used_is_not_removed(run, world, test):
    world.now("primary")
    ret = run("absent", test=test)
    assert (ret.result, ret.changes, world.acts()) == (False, {}, []) and world.file.exists()
    assert "t0 is Primary here, so it may be in use; first: drbdadm secondary t0" in ret.comment


@pytest.mark.parametrize("test", [True, False])
def test_a_resource_in_a_file_of_others_is_not_removed(run, world, test):
    os.rename(world.file, world.etc / "all.res")
    world.now("skipped")
    ret = run("absent", test=test)
    assert (ret.result, ret.changes, world.acts()) == (False, {}, [])
    assert "/etc/drbd.d has no file t0.res" in ret.comment
    os.rename(world.etc / "all.res", world.file)
    world.configured(RES + RES.replace("t0", "t1"))
    ret = run("absent", test=test)
    assert (ret.result, ret.changes, world.acts()) == (False, {}, [])
    assert "t0.res also holds t1" in ret.comment


def test_a_broken_file_is_removed(run, world):
    world.configured(f"resource t0 {{ net {{ shared-secret {CANARY}")
    ret = run("absent", test=True)
    assert ret.result is None and world.file.exists()
    ret = run("absent")
    assert ret.result is True and not world.file.exists()
    assert ret.changes == {"resource": {"old": "a file that is not understood", "new": None}}


def test_a_resource_that_is_down_and_its_file_stays(run, world, monkeypatch):
    world.now("skipped")
    world.says("drbdadm", "down", then="down:skipped")
    real = os.unlink

    def unlink(path, *args, **kwargs):
        if str(path) == str(world.file):
            raise OSError(1, "Operation not permitted")
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "unlink", unlink)
    ret = run("absent")
    assert (
        ret.result is False and "t0.res cannot be removed: Operation not permitted" in ret.comment
    )
    assert ret.changes == {"resource": {"old": SYNCED, "new": "down"}}
