"""
Where the site's secrets are seen: a recorder around runs (processes of the hosts and of the control node, the master's event bus), and scans afterwards.

The secrets are canaries: the pillar's three, the cluster's, and a line of each private key. What is reported has the canary's name and never its value.
"""

import contextlib
import json
import os
import pathlib
import re
import secrets
import shlex
import stat
import subprocess
import sys
import threading

from . import bus, hosts, sampler
from .base import HOSTS, LabError, run, wait

PROGRAM = pathlib.Path(sampler.__file__).read_text()
# Secrets that the hosts make themselves, and where each is.
MADE = {
    "cluster": "/etc/opensvc/cluster.conf",
    "re6st key": "/etc/re6stnet/cert.key",
    "slapos key": "/etc/opt/slapos/ssl/key",
}
ROOTS = ["/etc", "/tmp", "/var", "/run", "/opt", "/root", "/home", "/srv", "/dev/shm"]
# The files that must hold a secret, by its name; each has to be its owner's alone.
HOLDERS = {
    "drbd": r"/etc/drbd\.d/[^/]+\.res",
    "cluster": r"/(etc|var/lib)/opensvc/.+",
    "re6st key": r"(/srv/[^/]+/re6st)?/etc/re6stnet/cert\.key",
    "slapos key": r"(/srv/[^/]+/slapos)?/etc/opt/slapos/ssl/key",
    "disk image": r"/opt/[^/]+\.img",
}
# Windows that others leave open, each with its line in SECURITY.md: (secret, where, program).
# drbdadm (drbd-utils 9.22) hands a resource's options to drbdsetup as arguments; there is no other way to give them to it.
WINDOWS = {("drbd", "cmdline", "drbdsetup-84"), ("drbd", "cmdline", "drbdsetup")}
# On the control node: the pillar, and the master's own copy of what it compiled of it. Of the lab's registry is not judged: it logs the tokens it is given.
PILLAR = r".*/salt/(pillar/\.?site\.sls|cache/(minions|pillar)/.+)"


def canaries(lab):
    """{name: value} of what exists now."""
    known = json.loads((lab.home / "secrets.json").read_text())
    found = {name: known[name] for name in ("drbd", "re6st", "slapos")}
    for host in HOSTS:
        for name, path in MADE.items():
            text = hosts.ssh(lab, host, f"cat {path} 2>/dev/null || true").stdout
            value = sampler.secret_in(text.encode())
            if value:
                # Both nodes have the same, but for the keys, which are where the filesystem is.
                found[name] = value.decode()
    return found


def strays(findings, holders):
    """Those findings of a scan that are no file which must hold the secret, or that others can read."""
    return [
        finding
        for finding in findings
        if not re.fullmatch(holders.get(finding["name"], "(?!)"), finding["path"])
        or int(finding["mode"], 8) & (stat.S_IRWXG | stat.S_IRWXO)
    ]


class Recorder:
    """Listens from :py:meth:`start` to :py:meth:`stop`; `more` are further canaries, {name: value}."""

    def __init__(self, lab, more=None):
        self.lab, self.more = lab, more or {}
        # Two may listen at once.
        self.folder = lab.home / f"leaks-{secrets.token_hex(4)}"
        self.programs, self.events = {}, []
        self.bus = bus.Bus(lab, self._hear)
        self.over = threading.Event()
        self.keeper = threading.Thread(target=self._keep, daemon=True)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self):
        self.known = {**canaries(self.lab), **self.more}
        self.folder.mkdir(mode=0o700, exist_ok=True)
        for name in (*HOSTS, "control"):
            self._begin(name)
        self.bus.start()
        for name in self.programs:
            wait(f"the sampler of {name} begins", lambda name=name: self._said(name), 30)
        self.keeper.start()

    def _begin(self, name):
        begin = {"mode": "sample", "canaries": self.known, "files": MADE, "netns": None}
        if name in HOSTS:
            command = hosts.ssh_command(self.lab, name, f"python3 -c {shlex.quote(PROGRAM)}")
        else:
            network = os.stat(f"/run/netns/{self.lab.namespace}").st_ino
            command = [sys.executable, "-c", PROGRAM]
            begin.update(files={}, netns=f"net:[{network}]")
        with open(self.folder / f"{name}.jsonl", "ab") as out:
            process = subprocess.Popen(
                [str(part) for part in command], stdin=subprocess.PIPE, stdout=out, stderr=out
            )
        self.programs[name] = process
        # A host that does not answer is tried again.
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(begin).encode() + b"\n")
            process.stdin.flush()

    def _hear(self, event):
        self.events.append((event["tag"], repr(event["data"])))

    def _said(self, name):
        """What a sampler has printed so far; of one whose host has crashed, what it printed before."""
        lines = (self.folder / f"{name}.jsonl").read_text().splitlines()
        said = [line for line in lines if line.startswith("{") and line.endswith("}")]
        return [json.loads(line) for line in said]

    def _keep(self):
        """A host that was cut off and has come back is looked at again."""
        while not self.over.wait(2):
            for host in HOSTS:
                if self.programs[host].poll() is not None and hosts.pids(self.lab, host):
                    self._begin(host)

    def stop(self):
        """End what was started; a second call does nothing."""
        self.over.set()
        if self.keeper.ident:
            self.keeper.join(30)
        self.bus.stop()
        for process in self.programs.values():
            if not process.stdin.closed:
                # The host may have gone.
                try:
                    process.stdin.close()
                except BrokenPipeError:
                    pass
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def ended(self):
        """End it and return what it heard; raises LabError where it did not look, which would prove nothing."""
        self.stop()
        looked = self.passes()
        if set(looked) != {*HOSTS, "control"} or min(looked.values()) <= 100 or not self.events:
            raise LabError(f"nobody listened: {looked} looks, {len(self.events)} events")
        return self.findings()

    def passes(self):
        """{who: how often it looked}"""
        return {
            name: max((line.get("passes", 0) for line in self._said(name)), default=0)
            for name in self.programs
        }

    def findings(self):
        """What processes showed and what was on the bus, as sentences without values; also what exists since the recorder began."""
        known = {**self.known, **canaries(self.lab)}
        found = [
            f"{name}: {line['name']} in {line['where']} of process {line['pid']} ({line['program']})"
            for name in self.programs
            for line in self._said(name)
            if "where" in line and (line["name"], line["where"], line["program"]) not in WINDOWS
        ]
        found += [
            f"bus: {name} in event {tag}"
            for tag, text in self.events
            for name, value in known.items()
            if value in text
        ]
        return list(dict.fromkeys(found))


def on_host(lab, host, known):
    """The findings of a scan of a host's files and journal."""
    asked = {"mode": "scan", "canaries": known, "roots": ROOTS}
    said = run(
        *hosts.ssh_command(lab, host, f"python3 -c {shlex.quote(PROGRAM)}"),
        input=json.dumps(asked) + "\n",
        stderr=subprocess.DEVNULL,
    )
    lines = [json.loads(line) for line in said.stdout.splitlines()]
    if not lines or lines[-1] != {"end": True}:
        raise LabError(f"the scan of {host} did not end")
    return lines[:-1]


def on_control(lab, known):
    """The findings of a scan of the control node's logs, job cache and all else that the lab's master keeps."""
    found = sampler.scan(
        [str(lab.logs), str(lab.home / "salt")],
        {name: value.encode() for name, value in known.items()},
    )
    return [finding for finding in found if "registry" not in os.path.basename(finding["path"])]


def cores(lab, host):
    """Where a host's kernel puts core dumps, and how large salt-minion's may be; the formula decides on neither."""
    command = "cat /proc/sys/kernel/core_pattern; systemctl show -p LimitCORE --value salt-minion; ulimit -c"
    pattern, minion, shell = hosts.ssh(lab, host, command).stdout.splitlines()[:3]
    return {"pattern": pattern, "salt-minion": minion, "shell": shell}
