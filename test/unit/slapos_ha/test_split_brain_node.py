"""A node's side of a split brain with real files in place of volumes: what is read from the disk, the copy, the notes, and DRBD's handler."""

import json
import os
import pathlib
import stat
import subprocess
import time

import pytest
from salt.exceptions import CommandExecutionError, SaltInvocationError
from support import ROOT, load_module

from .parted import RESOURCE, ids
from .world import World, parse_util

MINION = load_module("_utils/slapos_split_brain.py")
REMAINS = load_module("_utils/slapos_remains.py")
UTILS = {
    "slapos_split_brain.superblock": MINION.superblock,
    "slapos_split_brain.note": MINION.note,
    "slapos_split_brain.same": MINION.same,
    "slapos_split_brain.shortage": MINION.shortage,
    "slapos_remains.report": REMAINS.report,
    "drbd_parse.summary": parse_util.summary,
    "drbd_parse.progress": parse_util.progress,
    "drbd_parse.connected": parse_util.connected,
}
GENERATION = "1036D694B8247862"
STATUS = {
    "up": True, "role": "Secondary", "suspended": False, "disk": {0: {"disk": "UpToDate"}},
    "connections": {"demo1": {"state": "StandAlone", "volumes": {0: {
        "replication": "Off", "disk": "DUnknown", "percent": None, "rate": None, "out_of_sync": 1024, "resync_suspended": "no", "seconds_left": None,
    }}}},
}  # fmt: skip


class Node:
    """demo2, with a file of 8 MiB that holds an ext4 filesystem as its volume, and another as the loop file below it."""

    def __init__(self, folder, shape):
        self.folder, self.commands, self.said = folder, [], {}
        self.volume = folder / "volume"
        self.volume.write_bytes(b"")
        os.truncate(self.volume, 8 << 20)
        subprocess.run(["mke2fs", "-q", "-t", "ext4", str(self.volume)], check=True)
        (folder / "mount/slapos").mkdir(parents=True)
        (folder / "opt").mkdir()
        (folder / "opt/loop").write_bytes(b"x" * (1 << 20))
        self.site = {
            **shape, "node": "demo2", "mount": str(folder / "mount"),
            "storage": {**shape["storage"], "lv": str(self.volume), "path": str(folder / "opt"), "file": str(folder / "opt/loop")},
        }  # fmt: skip
        self.status = json.loads(json.dumps(STATUS))
        self.status["disk"] = {0: {"disk": "UpToDate"}}
        link = self.status["connections"]["demo1"]
        link["volumes"] = {0: link["volumes"]["0"]}
        self.ids = {**ids("sb", "demo2"), "current": GENERATION}
        self.module = load_module(
            "_modules/slapos_ha_split_brain.py",
            __utils__=UTILS,
            __opts__={"slapos_ha.notes": str(folder / "notes")},
            __salt__={
                "slapos_ha.site": lambda: self.site,
                "drbd.status": lambda name: {name: self.status},
                "drbd.generation_ids": lambda name: self.ids,
                "cmd.run_all": self.run,
            },
        )

    def run(self, command, **kwargs):
        assert kwargs["python_shell"] is False
        self.commands.append(command)
        if command[0] in self.said:
            return {"stdout": "", "stderr": "", "retcode": 0, **self.said[command[0]]}
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return {"stdout": done.stdout, "stderr": done.stderr, "retcode": done.returncode}

    def lvm(self, free, *others):
        """This node's backend is a volume group with so many MiB free."""
        self.site["storage"].update(backend="lvm", group="data")
        row = {"lv_size": str(8 << 20), "origin": "", "vg_free": str(free << 20), "vg_extent_size": str(4 << 20)}  # fmt: skip
        rows = [{**row, "lv_name": name} for name in ("comp1", *others)]
        self.said.update(lvs={"stdout": json.dumps({"report": [{"lv": rows}]})}, lvcreate={})


@pytest.fixture
def node(tmp_path, defaults, example):
    return Node(tmp_path, World(defaults, example).shape)


# --- This side --------------------------------------------------------------------------------------------------------------------------------------


def test_an_unmounted_side_is_read_from_the_volume_below(node):
    side = node.module.split_brain_side()
    assert side["mounted"] is False and side["files"] is None
    assert side["written"] == 1024 and side["ids"]["current"] == GENERATION
    assert side["summary"] == "Secondary UpToDate, demo1 StandAlone Off DUnknown"
    known = side["superblock"]
    assert abs(known["written"] - time.time()) < 60 and known["mounted"] == 0
    assert known["size"] == 8 << 20 and 0 < known["used"] < 8 << 20 and known["journal"] is False
    assert side["note"] is None and side["recovery"] is None and node.commands == []


def test_a_mounted_side_has_its_newest_files_first(node, monkeypatch):
    monkeypatch.setattr(os.path, "ismount", lambda path: path == node.site["mount"])
    for number in range(7):
        file = pathlib.Path(node.site["mount"], "slapos", f"page{number}")
        file.write_text("x")
        os.utime(file, (number * 1000, number * 1000))
    found = node.module.split_brain_side()["files"]
    assert found == {
        "newest": [[f"slapos/page{n}", n * 1000] for n in (6, 5, 4, 3, 2)],
        "complete": True,
    }
    monkeypatch.setattr(node.module, "_WALK_SECONDS", -1)
    assert node.module.split_brain_side()["files"] == {"newest": [], "complete": False}


def test_a_resource_that_is_down_is_an_error_with_a_remedy(node):
    node.status["up"] = False
    with pytest.raises(CommandExecutionError, match=f"{RESOURCE} is down on demo2; first: drbdadm"):
        node.module.split_brain_side()


def test_a_volume_that_is_no_ext4_is_no_error(node):
    node.volume.write_bytes(bytes(4096))
    assert node.module.split_brain_side()["superblock"] is None


def test_a_volume_that_is_not_there_is_one(node):
    node.volume.unlink()
    with pytest.raises(CommandExecutionError, match="volume cannot be read: No such file"):
        node.module.split_brain_side()


# --- The copy ---------------------------------------------------------------------------------------------------------------------------------------


def copy_of(node):
    return node.folder / f"opt/{RESOURCE}.split-brain-{GENERATION}.img"


def test_a_loop_site_gets_a_sparse_file_of_mode_0600_beside_its_own(node):
    with open(node.volume, "r+b") as handle:
        handle.seek(5 << 20)
        handle.write(b"the victim's page")
    plan = node.module.split_brain_copy(GENERATION, test=True)
    assert plan == {"kind": "file", "where": str(copy_of(node)), "needs": 1 << 20, "made": False}
    assert node.commands == [] and not copy_of(node).exists()
    done = node.module.split_brain_copy(GENERATION)
    assert done == {**plan, "made": True}
    assert copy_of(node).read_bytes() == node.volume.read_bytes()
    about = copy_of(node).stat()
    assert stat.S_IMODE(about.st_mode) == 0o600 and about.st_blocks * 512 < 8 << 20
    assert sorted(os.listdir(node.folder / "opt")) == [copy_of(node).name, "loop"]
    assert node.module.split_brain_copy(GENERATION) == {**plan, "made": False}
    assert len(node.commands) == 1


def test_the_name_of_a_copy_is_the_same_while_the_victim_is_primary(node):
    node.ids["current"] = "1036D694B8247863"
    assert node.module.split_brain_copy(GENERATION, test=True)["where"] == str(copy_of(node))


def test_data_of_another_generation_are_not_copied(node):
    node.ids["current"] = "2820CDFF103B1748"
    with pytest.raises(CommandExecutionError, match="are of generation 2820CDFF103B1748; nothing"):
        node.module.split_brain_copy(GENERATION)


def test_what_is_in_use_is_not_copied(node):
    node.status["role"] = "Primary"
    with pytest.raises(CommandExecutionError, match="may change while it is copied: it is Primary"):
        node.module.split_brain_copy(GENERATION)
    assert node.commands == []


def test_a_copy_from_before_a_later_mount_is_refused(node):
    node.module.split_brain_copy(GENERATION)
    subprocess.run(["tune2fs", "-L", "later", str(node.volume)], check=True, capture_output=True)
    with pytest.raises(CommandExecutionError, match="which was mounted since: it is no copy"):
        node.module.split_brain_copy(GENERATION, test=True)


def test_no_room_below_the_path_is_told_with_both_sizes(node, monkeypatch):
    monkeypatch.setattr(node.module, "_SPARE", 1 << 60)
    with pytest.raises(CommandExecutionError) as error:
        node.module.split_brain_copy(GENERATION, test=True)
    assert f"below {node.folder}/opt: 1 MiB are needed and 0 MiB are free" in str(error.value)
    assert "slapos_ha:snapshot: /path" in str(error.value)


@pytest.mark.parametrize("folder", ["spare", "/not/there"])
def test_a_folder_that_is_none_is_refused(node, folder):
    with pytest.raises(SaltInvocationError, match="is no folder on demo2"):
        node.module.split_brain_copy(GENERATION, folder=folder)


def test_a_copy_that_fails_leaves_nothing(node):
    node.said["dd"] = {"retcode": 1, "stderr": "dd: error reading: Input/output error"}
    with pytest.raises(CommandExecutionError, match="failed: dd: dd: error reading"):
        node.module.split_brain_copy(GENERATION)
    node.said["dd"] = {}
    with pytest.raises(CommandExecutionError, match="has 0 bytes of 8388608"):
        node.module.split_brain_copy(GENERATION)
    assert os.listdir(node.folder / "opt") == ["loop"]


def test_a_volume_group_with_room_gets_a_snapshot_that_cannot_overflow(node):
    node.lvm(free=64)
    done = node.module.split_brain_copy(GENERATION)
    assert done == {
        "kind": "snapshot", "where": "/dev/data/comp1-split-brain-1036d694b8247862", "needs": 12 << 20, "made": True,
    }  # fmt: skip
    assert node.commands[-1] == [
        "lvcreate", "--yes", "--snapshot", "--extents", "100%ORIGIN", "--name", "comp1-split-brain-1036d694b8247862", "data/comp1",
    ]  # fmt: skip


def test_a_volume_group_without_room_is_told_with_both_sizes(node):
    node.lvm(free=8)
    with pytest.raises(CommandExecutionError) as error:
        node.module.split_brain_copy(GENERATION, test=True)
    assert "in volume group data: 12 MiB are needed and 8 MiB are free" in str(error.value)
    assert "vgextend data /dev/…" in str(error.value)
    assert "slapos_ha:snapshot: /path" in str(error.value)
    folder = str(node.folder / "opt")
    assert node.module.split_brain_copy(GENERATION, folder=folder)["where"] == str(copy_of(node))


@pytest.mark.parametrize(
    "said", ["", "{}", '{"report": [{"lv": []}]}', '{"report": [{"lv": [{"lv_name": "comp1"}]}]}']
)
def test_what_lvs_says_otherwise_is_an_error(node, said):
    node.lvm(free=64)
    node.said["lvs"] = {"stdout": said}
    with pytest.raises(CommandExecutionError, match="what lvs says of data/comp1 is not underst"):
        node.module.split_brain_copy(GENERATION)


# --- Notes ------------------------------------------------------------------------------------------------------------------------------------------


def test_what_a_recovery_notes_is_kept_until_it_is_over(node):
    node.module.split_brain_record({"victim": "demo2", "thaw": True})
    node.module.split_brain_record({"written": 12})
    wanted = {"victim": "demo2", "thaw": True, "written": 12}
    assert node.module.split_brain_side()["recovery"] == wanted
    with pytest.raises(CommandExecutionError, match="is not connected, so that a split brain"):
        node.module.split_brain_over()
    link = node.status["connections"]["demo1"]
    link["state"] = "Connected"
    link["volumes"][0].update(replication="Established", disk="UpToDate")
    assert node.module.split_brain_over() == [str(node.folder / "notes/recovery.json")]
    assert node.module.split_brain_over() == [] and os.listdir(node.folder / "notes") == []


HANDLER = ROOT / "slapos_ha/files/split-brain"


def handle(node, **env):
    """Run the handler as drbdadm does, with programs of ours in the place of syslog and Salt."""
    (node.folder / "bin").mkdir(exist_ok=True)
    for name in ("logger", "salt-call"):
        path = node.folder / "bin" / name
        path.write_text(f'#!/bin/sh\necho "$@" >{node.folder}/{name}.said\n')
        path.chmod(0o755)
    path = f"{node.folder}/bin:/usr/bin:/bin"
    return subprocess.run(
        [str(HANDLER)],
        env={"PATH": path, "SLAPOS_HA_NOTES": str(node.folder / "notes"), **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=10,
    )


def test_the_handler_leaves_a_note_that_status_reads(node):
    done = handle(node, DRBD_RESOURCE=RESOURCE, DRBD_PEER="demo1", DRBD_MINOR="0", SECRET="x")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    note = node.module.split_brain_note(RESOURCE)
    assert {key: note[key] for key in note if key != "time"} == {
        "DRBD_RESOURCE": RESOURCE, "DRBD_PEER": "demo1", "DRBD_MINOR": "0",
    }  # fmt: skip
    assert time.strptime(note["time"], "%Y-%m-%dT%H:%M:%SZ")
    assert os.listdir(node.folder / "notes") == [f"split-brain.{RESOURCE}"]
    assert stat.S_IMODE((node.folder / "notes").stat().st_mode) == 0o700
    assert RESOURCE in (node.folder / "logger.said").read_text()
    assert "orch.recover_split_brain" in (node.folder / "logger.said").read_text()
    deadline = time.monotonic() + 5
    said = node.folder / "salt-call.said"
    while not (said.exists() and said.read_text()) and time.monotonic() < deadline:
        time.sleep(0.02)
    words = said.read_text()
    assert words.startswith(f"--out=quiet event.send slapos_ha/drbd/{RESOURCE}/split_brain ")
    assert json.loads(words.split("split_brain ", 1)[1])["resource"] == RESOURCE


@pytest.mark.parametrize("name", ["../../etc/passwd", 'x"; touch y', ""])
def test_the_handler_makes_one_file_whatever_a_resource_is_called(node, name):
    assert handle(node, DRBD_RESOURCE=name).returncode == 0
    (file,) = os.listdir(node.folder / "notes")
    assert file.startswith("split-brain.") and "/" not in file and '"' not in file


def test_the_handler_is_in_the_resources_file_by_default(defaults):
    assert defaults["drbd"]["options"]["handlers"] == {
        "split-brain": "/usr/local/lib/slapos_ha/split-brain"
    }
    text = (ROOT / "slapos_ha/drbd.sls").read_text()
    assert "- name: /usr/local/lib/slapos_ha/{{ name }}\n" in text and "('split-brain'," in text
    assert (ROOT / "slapos_ha/files/split-brain").stat().st_mode & 0o111
