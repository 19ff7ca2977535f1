"""
What is measured on a host by the host's own clock: a program of its own, sent over ssh as `python3 - VERB …`, with the standard library only. It prints one line
of JSON.

- `sync MINOR SECONDS COMMAND…`: runs the command and waits until both disks are UpToDate, or the seconds are over.
- `switch SERVICE NODE SECONDS`: `om SERVICE switch --to NODE`, and waits until the service is there, by what the agent says.
"""

import json
import re
import subprocess
import sys
import time


class Failed(Exception):
    """It will not come to the end that is measured: why."""


# Where a copy has begun, runs, or is over; in any other state it will not end by itself.
WORKING = frozenset(
    "Connected StartingSyncS StartingSyncT WFBitMapS WFBitMapT WFSyncUUID SyncSource SyncTarget".split()
)


def device(text, minor):
    """(connection, disks, KiB out of sync) of a minor in DRBD 8.4's /proc/drbd, or None when it has no disk there."""
    found = re.search(
        rf"^ *{minor}: cs:(\S+) ro:\S+ ds:(\S+) .*\n.* oos:(\d+)$", text, re.MULTILINE
    )
    return (found[1], found[2], int(found[3])) if found else None


def sync(minor, seconds, command, look=None, interval=0.02):
    """
    What a copy takes that the command begins: {"seconds", "done", "kib", "left"}; ``kib`` were out of sync at most, ``left`` are at the end. Raises Failed
    when DRBD is at something else.
    """
    look = look or _proc
    begun = time.monotonic()
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    most = 0
    while True:
        seen = look(minor)
        spent = time.monotonic() - begun
        if not seen or seen[0] not in WORKING:
            raise Failed(f"DRBD's minor {minor} is {seen or 'not there'}")
        connection, disks, left = seen
        most = max(most, left)
        done = connection == "Connected" and disks == "UpToDate/UpToDate"
        if done or spent > seconds:
            return {"seconds": spent, "done": done, "kib": most, "left": left}
        # What takes long is not looked at as often: that is the host's work, too.
        time.sleep(max(interval, spent / 200))


def _proc(minor):
    with open("/proc/drbd") as handle:
        return device(handle.read(), minor)


def placed(status, service, node):
    """
    Whether the service is up on the node and on no other, and nothing is under way, as `placed` of _utils/opensvc_goal.py has it: in an answer of agent 2.1's
    `om daemon status --format json`. Raises Failed when an instance has failed, as it will not get there.
    """
    where, still = [], True
    for name, known in status["monitor"]["nodes"].items():
        # A daemon that begins says nothing of services yet.
        one = known.get("services", {}).get("status", {}).get(service) or {}
        monitor = one.get("monitor") or {}
        if "failed" in monitor.get("status", ""):
            raise Failed(f"{service} is {monitor['status']!r} on {name}")
        if one:
            wish = monitor.get("global_expect") in (None, "", "none", "unset")
            still = still and wish and monitor.get("status") == "idle"
            where += [name] if one.get("avail") == "up" else []
    return still and where == [node]


def switch(service, node, seconds, interval=1):
    """{"seconds"} of a move by the agent's own command, until it is done."""
    begun = time.monotonic()
    done = subprocess.run(["om", service, "switch", "--to", node], capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"om switch ended with {done.returncode}: {(done.stderr or done.stdout)[-500:]}")  # fmt: skip
    while True:
        said = subprocess.run(
            ["om", "daemon", "status", "--format", "json"], capture_output=True, text=True
        )
        # A daemon that is busy may not answer: that is no answer yet.
        whole = said.returncode == 0 and said.stdout.startswith("{")
        if whole and placed(json.loads(said.stdout), service, node):
            return {"seconds": time.monotonic() - begun}
        if time.monotonic() - begun > seconds:
            raise Failed(f"{service} is not on {node} after {seconds} s")
        time.sleep(interval)


def main(words):
    verb, *rest = words
    try:
        if verb == "sync":
            minor, seconds, *command = rest
            answer = sync(int(minor), float(seconds), command)
        else:
            service, node, seconds = rest
            answer = switch(service, node, float(seconds))
    except Failed as error:
        sys.exit(str(error))
    print(json.dumps(answer))


if __name__ == "__main__":
    main(sys.argv[1:])
