"""
What programs have just written, on its disk: many do without, and a host that loses its power in the seconds after has empty files, or zeros (ext4).
"""

import ctypes
import os

from salt.exceptions import CommandExecutionError


def settled(*paths):
    """
    Wait until all that was written to the filesystems of ``paths`` is on their disks; what is not there is left out.

    Of these only: ``os.sync`` waits for all of a node's, and the service's is held up for as long as DRBD cannot write. Raises CommandExecutionError when
    a disk could not take it.
    """
    libc, done = ctypes.CDLL(None, use_errno=True), set()
    for path in paths:
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            device = os.fstat(handle).st_dev
            if device not in done and libc.syncfs(handle):
                why = os.strerror(ctypes.get_errno())
                raise CommandExecutionError(
                    f"what was written to {path} is not on its disk: {why}. See: dmesg"
                )
            done.add(device)
        finally:
            os.close(handle)
