"""
Faults in the middle of a deployment. One deployment takes many: a fault at a step, the run ends, the fault is undone as an operator would, and the next run
goes on to the next step, where the next fault is. What is watched all the time: on how many hosts the filesystem is mounted, and the canary's lines.
"""

import json
import pathlib
import re
import subprocess
import threading
import time
from dataclasses import dataclass, field

from . import cli, control, hosts, links, site, witness
from .base import HOSTS, REPO, LabError, end, wait

# Seconds in which a run has to end after a fault.
LIMIT = 600
# Seconds in which the site has to be still again after a fault is undone.
SETTLE = 300
# Each kind once, where it hurts and the run ends soon: (fault, step) in the order in which one deployment takes them. A link is cut in a step that lasts longer
# than it takes to notice, so that the gate of the move after it knows.
SHORT = (
    ("master", "cluster"),
    ("services", "re6st_first"),
    ("minion", "re6st_first"),
    ("host", "re6st_switch"),
    ("disk", "slapos_first"),
    ("heartbeat", "slapos_first"),
    ("replication", "slapos_second"),
)


def orchestration():
    """{step: title} of the deployment, in its order."""
    text = (REPO / "orch/deploy.sls").read_text()
    return dict(re.findall(r"^  \('(\w+)', '(.*)'\),$", text, re.MULTILINE))


def acting(step):
    """The host on which a step acts, the first one where it acts on both."""
    return "demo2" if step.endswith(("_switch", "_second")) else "demo1"


# --- The witness: what is seen from outside -------------------------------------------------------------------------------------------------------


class Witness:
    """Where the filesystem is mounted by this machine's clock, and which lines of the canary were acknowledged. One ssh for each host, for as long as it lasts."""

    def __init__(self, lab):
        self.lab = lab
        # [host, from, to or None], and (moment, line).
        self.spans, self.acknowledged = [], []
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._ears = {}
        self._threads = [
            threading.Thread(target=self._follow, args=(host,), daemon=True) for host in HOSTS
        ]

    def start(self):
        for thread in self._threads:
            thread.start()

    def stop(self):
        self._over.set()
        with self._lock:
            for ear in self._ears.values():
                ear.kill()
        for thread in self._threads:
            thread.join(30)

    def dead(self, host):
        """A host was just killed: nothing is mounted there, and nobody will say so."""
        self._heard(host, "gone")
        with self._lock:
            if host in self._ears:
                self._ears[host].kill()

    def seen(self):
        """Whether the filesystem was ever mounted."""
        return bool(self.spans)

    def mounted(self):
        return [host for host, _, until in list(self.spans) if until is None]

    def _follow(self, host):
        program = pathlib.Path(witness.__file__)
        while not self._over.is_set():
            if hosts.pids(self.lab, host):
                with open(program) as text, self._lock:
                    ear = self._ears[host] = subprocess.Popen(
                        hosts.ssh_command(self.lab, host, f"python3 -u - {site.MOUNT}"),
                        stdin=text,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.DEVNULL,
                        text=True,
                    )
                for line in ear.stdout:
                    self._heard(host, line.strip())
                ear.wait()
            # The host boots, or the connection broke: what was last heard stays true until it is heard again.
            self._over.wait(1)

    def _heard(self, host, line):
        now = time.time()
        with self._lock:
            open_ = [span for span in self.spans if span[0] == host and span[2] is None]
            if line == "mounted" and not open_:
                self.spans.append([host, now, None])
            elif line == "gone" and open_:
                open_[0][2] = now
            elif line.startswith("ack "):
                self.acknowledged.append((now, line.removeprefix("ack ")))


# --- The faults: inject(step) at the moment a step begins, repair() as an operator would ------------------------------------------------------------


class Fault:
    def __init__(self, lab, seer):
        self.lab, self.seer, self.host = lab, seer, None


class Master(Fault):
    what = "the Salt master is killed"

    def inject(self, step):
        # Its processes are one session; the run that is going on is in another.
        leader = self.lab.pid("master")
        end([pid for pid in self.lab.members() if _session(pid) == leader], 0)

    def repair(self):
        control.master(self.lab)


class Minion(Fault):
    what = "the minion of the acting host is killed, with what it runs"

    def inject(self, step):
        self.host = acting(step)
        hosts.ssh(self.lab, self.host, "systemctl kill -s KILL salt-minion")

    def repair(self):
        hosts.ssh(self.lab, self.host, "systemctl restart salt-minion")


class Host(Fault):
    what = "the acting host loses its power"

    def inject(self, step):
        self.host = acting(step)
        hosts.crash(self.lab, self.host)
        self.seer.dead(self.host)

    def repair(self):
        cli.boot(self.lab, self.host)


class Link(Fault):
    def inject(self, step):
        self.host = acting(step)
        links.cut(self.lab, self.host, self.which)

    def repair(self):
        links.mend(self.lab, self.host, self.which)


class Replication(Link):
    what, which = "the replication link is cut", "replication"


class Heartbeat(Link):
    what, which = "the heartbeats' link is cut", "heartbeat"


# Takes every block that is free, also those kept for root.
FILL = r"""
import os, sys
file = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY, 0o600)
at, step = 0, 1 << 30
while step >= 4096:
    try:
        os.posix_fallocate(file, at, step)
        at += step
    except OSError:
        step >>= 2
"""


class Disk(Fault):
    what = "the disk is full: the service's where the acting host has it mounted, else the acting host's own"
    name = "slapos-ha-full"

    def inject(self, step):
        self.host = acting(step)
        here = self.host in self.seer.mounted()
        self.file = f"{site.MOUNT if here else '/var/tmp'}/{self.name}"
        hosts.ssh(self.lab, self.host, f"python3 - {self.file}", input=FILL)

    def repair(self):
        for host in HOSTS:
            hosts.ssh(self.lab, host, f"rm -f {self.file}")
            # As the run's error says of a loop file that had holes.
            disks = hosts.ssh(self.lab, host, "drbdadm dstate all", check=False).stdout
            if "Diskless/" in disks:
                hosts.ssh(self.lab, host, "drbdadm attach all")


class Services(Fault):
    what = "the re6st registry and the SlapOS master are stopped"

    def inject(self, step):
        for name in ("re6st-registry", "slapproxy", "webmaster"):
            self.lab.stop(name)

    def repair(self):
        control.services(self.lab)


FAULTS = {
    "master": Master,
    "minion": Minion,
    "host": Host,
    "replication": Replication,
    "heartbeat": Heartbeat,
    "disk": Disk,
    "services": Services,
}


def _session(pid):
    try:
        return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[3])
    except OSError:
        return None


def settle(lab, seer):
    """Wait as an operator waits before he runs it again, and clear what failed meanwhile, as the run's error says. Returns what was cleared or is still not well."""
    said = []
    try:
        wait("both minions answer", lambda: _minions(lab), SETTLE, 1)
        if seer.seen():
            wait("the agents see each other", lambda: len(_instances(lab)) == 2, SETTLE, 1)
            wait(
                "the filesystem is mounted on one host", lambda: len(seer.mounted()) == 1, SETTLE, 1
            )
            wait("DRBD is in sync", lambda: all(site.in_sync(lab, h) for h in HOSTS), SETTLE, 1)
    except LabError as error:
        said.append(str(error))
    if seer.seen():
        for host, state in _instances(lab).items():
            if "failed" in state:
                hosts.ssh(lab, host, f"om {site.SERVICE} clear --local", check=False)
                said.append(f"{host}: cleared {state!r}")
    return said


def _minions(lab):
    return control.answering(lab) >= set(HOSTS)


def _instances(lab):
    """{host: the state of its instance} as each host's own agent says it, of the hosts whose agent is idle and sees the other."""
    found = {}
    for host in HOSTS:
        said = hosts.ssh(
            lab, host, "om daemon status --format json", check=False, stderr=subprocess.DEVNULL
        )
        try:
            nodes = json.loads(said.stdout)["monitor"]["nodes"]
            if set(nodes) == set(HOSTS) and nodes[host]["monitor"]["status"] == "idle":
                instance = nodes[host]["services"]["status"][site.SERVICE]
                found[host] = (instance.get("monitor") or {}).get("status", "idle")
        except (ValueError, KeyError):
            continue
    return found


# --- The campaign ---------------------------------------------------------------------------------------------------------------------------------


@dataclass
class Row:
    """One fault at one step, and what came of it."""

    fault: str
    step: str
    begin: float
    outcome: str = ""
    error: str = ""
    # Seconds from the fault to the end of the run, from then until it was undone, and of the next run until it had passed the step where this one stopped.
    seconds: float = 0.0
    mended: float | None = None
    again: float | None = None
    notes: list = field(default_factory=list)
    stopped: str = ""
    end: float | None = None
    mounts: int = 0
    acknowledged: int = 0
    lost: int = 0


def judge(begun, states, titles):
    """
    What became of the steps of a run, from the one named on: [(step, what)] with went on, done before or stopped; the last one is where it stopped.
    `states` are those of the run by title, empty where it said nothing.
    """
    names = list(titles)
    found = []
    for step in names[names.index(begun) :]:
        state = states.get(titles[step])
        if state is None or state["result"] is False:
            return [*found, (step, "stopped")]
        found.append((step, "done before" if state["comment"] == "already so" else "went on"))
    return found


def complaint(answer):
    """The first line of a run's error, and whether it is a clear one: a step's own. Without a master Salt cannot give the result, but the step has said it."""
    for comment in answer.failed.values():
        lines = [line.strip() for line in comment.splitlines() if line.strip()] or [""]
        # A line that announces others says nothing by itself.
        line = " ".join(lines[: 2 if lines[0].endswith(":") else 1])
        return line, bool(line) and "Traceback" not in comment
    said = re.search(
        r"^\[ERROR\s*\] (?:slapos_ha: )?(.*step \w+ (?:stopped|was begun).*)$",
        answer.text,
        re.MULTILINE,
    )
    if said:
        return said[1].strip(), True
    lines = [line for line in answer.text.splitlines() if line.strip()]
    return (lines[-1].strip() if lines else "nothing was said"), False


class Campaign:
    """A deployment under faults, on a lab that is up. `shown(campaign)` is called after each run."""

    def __init__(self, lab, shown=None):
        self.lab, self.shown = lab, shown or (lambda campaign: None)
        self.titles = orchestration()
        self.seer = Witness(lab)
        self.rows, self.wrong = [], []
        # When all was judged.
        self.over = None
        self._waiting = []

    def __enter__(self):
        self.seer.start()
        return self

    def __exit__(self, *_):
        self.seer.stop()

    def go(self, plan):
        """The faults of `plan`, (fault, step) in the order of the steps, in as many runs as it takes."""
        todo = list(plan)
        while todo:
            self._one(todo)
            self.shown(self)

    def _one(self, todo):
        name, first = todo[0]
        fault = FAULTS[name](self.lab, self.seer)
        since = {}
        begun = time.time()

        def inject():
            fault.inject(first)
            since[first] = time.time()

        def report(data):
            if data["phase"] == "begin" and first in since:
                since.setdefault(data["step"], time.time())
            elif data["phase"] == "begin" and data["step"] == first:
                inject()
            elif data["phase"] == "done":
                self._passed(data["step"], begun)

        try:
            answer = site.deploy(
                self.lab,
                report,
                begun=inject if first == next(iter(self.titles)) else None,
                overdue=lambda: first in since and time.time() - since[first] > LIMIT,
            )
            over = time.time()
            if first not in since:
                self._not_reached(answer, todo.pop(0), begun)
                return
            rows = self._rows(answer, todo, name, first, since, over)
        finally:
            # What was cut must not stay so, whatever happened.
            if first in since:
                fault.repair()
        rows[-1].notes = settle(self.lab, self.seer)
        rows[-1].mended = time.time() - over
        self._waiting += [row for row in rows if row.stopped]

    def _not_reached(self, answer, entry, begun):
        """A run in which the step did not begin: it was done before, or the run stopped on its way there, although nothing was wrong any more."""
        row = Row(*entry, begun, "done before", end=time.time())
        if answer.retcode:
            row.outcome, (row.error, _) = "not reached", complaint(answer)
            self.wrong.append(f"{row.fault} at {row.step}: a plain run stopped: {row.error}")
        self.rows.append(row)

    def _rows(self, answer, todo, name, first, since, over):
        fate = judge(first, answer.states, self.titles)
        stopped = fate[-1][0] if fate[-1][1] == "stopped" else ""
        error, clear = complaint(answer) if stopped else ("", True)
        rows = []
        for step, what in fate:
            if not todo or todo[0] != (name, step):
                continue
            todo.pop(0)
            if what == "went on":
                what = f"went on, stopped at {stopped}" if stopped else "went on to the end"
            at = since.get(step, over)
            row = Row(name, step, at, what, error, over - at, stopped=stopped)
            if what == "done before":
                row.error, row.stopped = "", ""
            rows.append(row)
        self.rows += rows
        where = f"{name} at {first}"
        if over - since[first] > LIMIT:
            self.wrong.append(f"{where}: the run did not end within {LIMIT} s")
        elif not clear:
            self.wrong.append(f"{where}: no clear error: {error}")
        return rows

    def _passed(self, step, begun):
        """A run has done a step: rows that stopped there are over."""
        for row in [row for row in self._waiting if row.stopped == step]:
            row.again = time.time() - begun
            row.end = time.time()
            self._waiting.remove(row)

    def complete(self, run=None):
        """The last, plain run, unless the caller made it and gives it; then every row is judged. Returns the run."""
        begun = time.time()
        if run is None:
            run = site.deploy(
                self.lab,
                lambda data: data["phase"] == "done" and self._passed(data["step"], begun),
            )
        if run.retcode:
            self.wrong.append(f"the last, plain run stopped: {complaint(run)[0]}")
        else:
            said = wait(
                "all is well", lambda: (a := site.status(self.lab)).returncode == 0 and a, SETTLE, 3
            )
            if "All is well." not in said.stdout:
                self.wrong.append("the status is not well")
        self.check()
        self.over = time.monotonic()
        self.shown(self)
        return run

    def check(self):
        """Look for the acknowledged lines in the file, and judge every row by its time."""
        text = hosts.ssh(self.lab, site.active(self.lab), f"cat {site.MOUNT}/{witness.LOG}").stdout
        acknowledged = list(self.seer.acknowledged)
        # Lines acknowledged after the file was read would be missed for nothing.
        lines = text[: text.rfind("\n") + 1].splitlines()
        last = int(lines[-1].split()[0]) if lines else 0
        acknowledged = [(when, line) for when, line in acknowledged if int(line.split()[0]) <= last or not lines]  # fmt: skip
        damage = witness.broken(lines)
        if damage:
            self.wrong.append(f"the canary's file is damaged: {damage}")
        missing = set(witness.lost([line for _, line in acknowledged], lines))
        if missing:
            self.wrong.append(f"{len(missing)} of {len(acknowledged)} acknowledged writes are lost")
        if not acknowledged:
            self.wrong.append("the canary never wrote")
        for row in self.rows:
            until = row.end or time.time()
            own = [line for when, line in acknowledged if row.begin <= when <= until]
            row.acknowledged, row.lost = len(own), len(missing & set(own))
            row.mounts = witness.most(self.seer.spans, row.begin, until)
        if witness.most(self.seer.spans, 0, time.time()) > 1:
            self.wrong.append("the filesystem was mounted on both hosts at once")
