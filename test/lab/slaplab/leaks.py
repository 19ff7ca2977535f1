"""
Where the site's secrets are seen: a recorder around runs (processes of the hosts and of the control node, the master's event bus), and scans afterwards.

The secrets are canaries: the pillar's three, the cluster's, and a line of each private key. What is reported has the canary's name and never its value.
"""

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

from . import hosts, sampler
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
        self.listening = threading.Event()
        self.lost = False
        self.mark = f"lab/{self.folder.name}"
        self.bus = threading.Thread(target=self._listen, daemon=True)

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
        network = os.stat(f"/run/netns/{self.lab.namespace}").st_ino
        begin = {"mode": "sample", "canaries": self.known, "files": MADE, "netns": None}
        for host in HOSTS:
            command = hosts.ssh_command(self.lab, host, f"python3 -c {shlex.quote(PROGRAM)}")
            self._begin(host, command, begin)
        self._begin(
            "control",
            [sys.executable, "-c", PROGRAM],
            {**begin, "files": {}, "netns": f"net:[{network}]"},
        )
        self.bus.start()
        wait("the master's bus is heard", self._heard, 30)
        for name in self.programs:
            wait(f"the sampler of {name} begins", lambda name=name: self._said(name), 30)

    def _begin(self, name, command, begin):
        with open(self.folder / f"{name}.jsonl", "wb") as out:
            process = subprocess.Popen(
                [str(part) for part in command], stdin=subprocess.PIPE, stdout=out, stderr=out
            )
        process.stdin.write(json.dumps(begin).encode() + b"\n")
        process.stdin.flush()
        self.programs[name] = process

    def _said(self, name):
        """What a sampler has printed so far; of one whose host has crashed, what it printed before."""
        lines = (self.folder / f"{name}.jsonl").read_text().splitlines()
        said = [line for line in lines if line.startswith("{") and line.endswith("}")]
        return [json.loads(line) for line in said]

    def _bus(self, listen):
        import salt.config
        import salt.utils.event

        opts = salt.config.master_config(str(self.lab.home / "salt/master"))
        return salt.utils.event.get_master_event(opts, opts["sock_dir"], listen=listen)

    def _listen(self):
        with self._bus(True) as bus:
            while True:
                # For ever: where a wait is over, Salt 3007 connects anew, and what is said meanwhile is lost.
                event = bus.get_event(wait=0, full=True)
                if event is None:
                    self.lost = True
                    return
                if event["tag"] != self.mark:
                    self.events.append((event["tag"], repr(event["data"])))
                elif event["data"]["end"]:
                    return
                else:
                    self.listening.set()

    def _tell(self, end):
        """Say on the bus that we listen, or that this is the end of it."""
        with self._bus(False) as bus:
            bus.fire_event({"end": end}, self.mark)

    def _heard(self):
        self._tell(False)
        return self.listening.wait(1)

    def stop(self):
        """End what was started; a second call does nothing."""
        if self.bus.is_alive():
            self._tell(True)
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
        if self.bus.ident:
            self.bus.join(10)

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
            if "where" in line
        ]
        found += [
            f"bus: {name} in event {tag}"
            for tag, text in self.events
            for name, value in known.items()
            if value in text
        ]
        if self.lost:
            found.append("bus: it was lost before the end")
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
