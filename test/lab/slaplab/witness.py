"""
What is seen of the service's filesystem from outside of the hosts, and the canary: lines written to it, each acknowledged once it is on the disk.

This file is also the program that runs on a host, sent over ssh: `python3 -u - MOUNT`, standard library only. It prints `mounted`, `gone` and `ack LINE`.
"""

import collections
import fcntl
import hashlib
import os
import select
import sys
import time

LOG = "canary.log"


# --- The chain: each line is a number and a digest of itself and the line before -------------------------------------------------------------------


def link(number, before):
    """Line `number` after the line `before`, which is empty for the first."""
    return f"{number} {hashlib.sha256(f'{number} {before}'.encode()).hexdigest()}"


def broken(lines):
    """What is wrong with a chain, as text; empty where it is whole."""
    before = ""
    for number, line in enumerate(lines, 1):
        if line != link(number, before):
            return f"line {number} is {line[:40]!r}, not the successor of {before[:40]!r}"
        before = line
    return ""


def lost(acknowledged, lines):
    """The acknowledged lines that are not in the file."""
    there = set(lines)
    return [line for line in acknowledged if line not in there]


def most(spans, begin, end):
    """
    On how many hosts something was at once, at most, between two moments. `spans` are (host, from, to), with None for what has not ended; where one ends
    in the moment in which another begins they do not overlap.
    """
    moments = []
    for host, since, until in spans:
        until = float("inf") if until is None else until
        if since < end and until > begin:
            moments += [(since, 1, host), (until, 0, host)]
    here, found = collections.Counter(), 0
    for _, comes, host in sorted(moments):
        here[host] += 1 if comes else -1
        found = max(found, sum(count > 0 for count in here.values()))
    return found


# --- On a host ------------------------------------------------------------------------------------------------------------------------------------


def append(mount):
    """Write the next line and return it; None where nothing is mounted. Nothing stays open: the filesystem has to be able to go."""
    root = os.open(mount, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        # Of the folder that is open, so that it cannot become the bare mount point after this.
        if os.fstat(root).st_dev == os.stat(os.path.dirname(mount)).st_dev:
            return None
        file = os.open(LOG, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600, dir_fd=root)
        try:
            size = os.fstat(file).st_size
            tail = os.pread(file, 4096, max(size - 4096, 0))
            # What a crash or a full disk left of a line was never acknowledged.
            whole = tail[: tail.rfind(b"\n") + 1]
            before = whole.decode().splitlines()[-1] if whole else ""
            line = link(int(before.split()[0]) + 1 if before else 1, before)
            end = size - len(tail) + len(whole)
            os.ftruncate(file, end)
            text = f"{line}\n".encode()
            if os.pwrite(file, text, end) != len(text):
                return None
            os.fsync(file)
            if end == 0:
                os.fsync(root)
            return line
        finally:
            os.close(file)
    finally:
        os.close(root)


def main(mount):
    # One at a time, also where an earlier one has not noticed yet that nobody listens.
    with open("/run/slapos-ha-witness", "w") as alone, open("/proc/self/mounts") as mounts:
        fcntl.flock(alone, fcntl.LOCK_EX)
        changes = select.poll()
        changes.register(mounts, select.POLLPRI | select.POLLERR)
        was, writer, due = None, None, 0
        while True:
            mounts.seek(0)
            now = any(line.split()[1] == mount for line in mounts)
            # The empty line finds out whether anybody listens.
            print(("mounted" if now else "gone") if now is not was else "")
            was = now
            if writer and os.waitpid(writer, os.WNOHANG)[0]:
                writer = None
            if now and not writer and time.monotonic() >= due:
                due = time.monotonic() + 1
                # A process of its own: an agent that unmounts may kill what uses the filesystem, and the disk may make it wait.
                writer = os.fork()
                if not writer:
                    try:
                        line = append(mount)
                        if line:
                            os.write(1, f"ack {line}\n".encode())
                    except OSError:
                        pass
                    os._exit(0)
            changes.poll(1000)


if __name__ == "__main__":
    main(sys.argv[1])
