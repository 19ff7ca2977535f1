"""What programs have written is waited for on their own filesystem's disk, and on no other's."""

import ctypes
import errno
import os
import types

import pytest
from salt.exceptions import CommandExecutionError
from support import load_module

settled = load_module("_utils/slapos_disk.py").settled


@pytest.fixture
def synced(monkeypatch):
    """The folders of the handles that syncfs was given, and what it answers."""
    world = types.SimpleNamespace(seen=[], answer=0)

    def syncfs(handle):
        world.seen.append(os.readlink(f"/proc/self/fd/{handle}"))
        ctypes.set_errno(errno.EIO)
        return world.answer

    monkeypatch.setattr("ctypes.CDLL", lambda *_, **__: types.SimpleNamespace(syncfs=syncfs))
    return world


def test_each_filesystem_once_and_what_is_there(synced, tmp_path):
    (tmp_path / "a").mkdir()
    settled(str(tmp_path / "a"), str(tmp_path), str(tmp_path / "missing"), "/proc")
    assert synced.seen == [str(tmp_path / "a"), "/proc"]


def test_a_disk_that_could_not_take_it_is_said(synced, tmp_path):
    synced.answer = -1
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(CommandExecutionError, match=f"{tmp_path} is not on its disk: Input/output"):
        settled(str(tmp_path))
    assert set(os.listdir("/proc/self/fd")) == before


def test_libc_has_it(tmp_path):
    (tmp_path / "file").write_text("x")
    settled(str(tmp_path), str(tmp_path / "file"))
