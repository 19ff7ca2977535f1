"""What is preloaded to user-mode Linux, on a process of this machine: its floating-point state is read and put back in the 2696 bytes that it keeps."""

import ctypes
import os
import pathlib
import shutil
import signal

import pytest
from slaplab import processor

ATTACH, GET, SET = 16, 0x4204, 0x4205
XSTATE, KEPT = 0x202, 2696


class Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


@pytest.fixture
def process():
    """A child that is traced and stands still."""
    pid = os.fork()
    if not pid:
        signal.pause()
        os._exit(0)
    ctypes.CDLL(None).ptrace(ATTACH, pid, None, None)
    os.waitpid(pid, 0)
    yield pid
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def asked(library, request, pid, state):
    """What ptrace returns, and how much of the state it gave."""
    vector = Vector(ctypes.addressof(state), len(state))
    ptrace = ctypes.CDLL(library, use_errno=True).ptrace
    ptrace.restype = ctypes.c_long
    return ptrace(request, pid, ctypes.c_void_p(XSTATE), ctypes.byref(vector)), vector.length


@pytest.mark.skipif(not shutil.which("gcc"), reason="gcc is not here: the lab installs it")
def test_what_is_kept_of_a_process_can_be_put_back(process, monkeypatch, tmp_path):
    monkeypatch.setenv("SLAPOS_HA_CACHE", str(tmp_path))
    library = str(processor.library())
    state, again = (ctypes.create_string_buffer(KEPT) for _ in range(2))
    code, length = asked(library, GET, process, state)
    assert code == 0 and length > 512
    # A value of the first register, XMM0, and that it is in use.
    state[160:176] = bytes(range(16))
    state[512] = bytes([state[512][0] | 2])
    assert asked(library, SET, process, state)[0] == 0
    assert asked(library, GET, process, again)[0] == 0
    assert again[160:176] == bytes(range(16))
    if processor.too_new(pathlib.Path("/proc/cpuinfo").read_text()):
        # The C library's own, as it is without what is preloaded.
        assert asked(None, SET, process, state)[0] == -1


@pytest.mark.parametrize("flags, found", [("fpu avx512f amx_tile", True), ("fpu avx512f", False)])
def test_a_processor_is_known_by_what_it_can(flags, found):
    assert processor.too_new(f"processor\t: 0\nflags\t\t: {flags}\nbugs\t: amx_tile\n") is found
