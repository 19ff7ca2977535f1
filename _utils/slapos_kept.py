"""
What a job of this minion has found out, kept below its cachedir for the next job: each is a process of its own, and to find it out again takes as long.

Each function takes the caller's ``__opts__``, which a util does not have itself.
"""

import contextlib
import json
import os

import salt.utils.atomicfile
import salt.utils.files


def _file(opts, name):
    return os.path.join(opts["cachedir"], "slapos_ha", name)


def read(opts, name):
    """What was kept under a name, {} when nothing was or it is spoilt."""
    try:
        with salt.utils.files.fopen(_file(opts, name), encoding="utf-8") as handle:
            kept = json.load(handle)
    except (OSError, ValueError):
        return {}
    return kept if isinstance(kept, dict) else {}


def keep(opts, name, data):
    """Keep a dict under a name. Where it cannot be kept it is found out again."""
    with contextlib.suppress(OSError):
        path = _file(opts, name)
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with salt.utils.files.set_umask(0o077), salt.utils.atomicfile.atomic_open(path, "w") as to:
            json.dump(data, to)
