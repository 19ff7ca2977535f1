"""What Debian 12's user-mode Linux does not know of newer processors, preloaded to it."""

import hashlib
import os
import pathlib
import tempfile

from .base import cache, run

SOURCE = pathlib.Path(__file__).with_name("xstate.c")


def too_new(cpuinfo):
    """Whether a process has more state than user-mode Linux keeps, by what /proc/cpuinfo says."""
    return any(
        "amx_tile" in line.split() for line in cpuinfo.splitlines() if line.startswith("flags")
    )


def library():
    """The path of xstate.c compiled, made once."""
    done = cache() / f"xstate-{hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]}.so"
    if not done.exists():
        with tempfile.TemporaryDirectory(dir=done.parent, prefix="making-") as folder:
            made = pathlib.Path(folder) / done.name
            run("gcc", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", made, SOURCE)
            os.replace(made, done)
    return done


def environment():
    """What linux.uml's environment needs on this machine, as a dict."""
    if not too_new(pathlib.Path("/proc/cpuinfo").read_text()):
        return {}
    return {"LD_PRELOAD": str(library())}
