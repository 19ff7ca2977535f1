"""Where a lab lives, what it started, and how it ends exactly that."""

import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import signal
import subprocess
import time

REPO = pathlib.Path(__file__).resolve().parents[3]
HOSTS = {"demo1": 11, "demo2": 12}
CONTROL = "10.98.0.1"


class LabError(Exception):
    """The lab cannot do what was asked: what happened and what to do."""


def cache():
    return pathlib.Path(
        os.environ.get("SLAPOS_HA_CACHE") or pathlib.Path.home() / ".cache/slapos-ha"
    )


@contextlib.contextmanager
def alone(path, busy=None):
    """One process at a time holds the file `path`: another one is refused with the sentence `busy`, or waits where there is none."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
        except BlockingIOError:
            raise LabError(busy) from None
        yield


def run(*command, check=True, quiet=True, **kwargs):
    """Run a command and return it; what it said goes into the error when it fails."""
    if quiet:
        kwargs.setdefault("stdout", subprocess.PIPE)
        kwargs.setdefault("stderr", subprocess.STDOUT)
    done = subprocess.run([str(part) for part in command], text=True, check=False, **kwargs)
    if check and done.returncode:
        said = (done.stdout or "").strip().splitlines()
        raise LabError(
            f"{' '.join(map(str, command[:6]))} … ended with {done.returncode}: "
            + "\n".join(said[-15:])
        )
    return done


def wait(what, condition, seconds, interval=0.3):
    """Ask until the condition holds and return its value; say what was last seen when the time is over."""
    deadline = time.monotonic() + seconds
    last = None
    while True:
        try:
            last = condition()
            if last:
                return last
        except (LabError, OSError) as error:
            last = error
        if time.monotonic() > deadline:
            raise LabError(f"{what}: not within {seconds} s (last: {last!s:.300})")
        time.sleep(interval)


def started(pid):
    """The kernel's start time of a process, which with its pid names it for good; None when it is gone or a zombie."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def commit():
    """What this checkout is, for what was measured or run with it."""
    said = run("git", "-C", REPO, "describe", "--always", "--dirty", check=False)
    return said.stdout.strip() if said.returncode == 0 else "unknown"


# What labs have started and still runs.
_processes = []


def keep(process):
    """Keep the object of a process that runs on: one that goes says so in its destructor, and a Ctrl-C that falls into that is lost."""
    _processes[:] = [one for one in _processes if one.poll() is None] + [process]


class Lab:
    """One lab: its folder, its network namespace and the processes that it started."""

    def __init__(self, home=None):
        default = cache() / "lab" / hashlib.sha256(str(REPO).encode()).hexdigest()[:8]
        self.home = pathlib.Path(home or os.environ.get("LAB_HOME") or default)
        self.mark = hashlib.sha256(str(self.home).encode()).hexdigest()[:8]
        self.namespace = f"slaplab-{self.mark}"
        self.logs = self.home / "logs"
        self.pids = self.home / "pids"

    def second(self):
        """The lab beside this one that its tests use at the same time."""
        return Lab(f"{self.home}-second")

    def ip(self, *args, **kwargs):
        return run("ip", "-n", self.namespace, *args, **kwargs)

    def inside(self, *command):
        """The command, in the lab's network namespace."""
        return ["ip", "netns", "exec", self.namespace, *map(str, command)]

    def start(self, name, command, env=None, cwd=None):
        """Start a service of the lab in its namespace, in a session of its own, with a log of its own."""
        self.logs.mkdir(parents=True, exist_ok=True)
        self.pids.mkdir(parents=True, exist_ok=True)
        with open(self.logs / f"{name}.log", "ab") as log:
            process = subprocess.Popen(
                self.inside(*command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, **(env or {})},
                cwd=cwd,
            )
        keep(process)
        record = {"pid": process.pid, "started": started(process.pid)}
        (self.pids / f"{name}.json").write_text(json.dumps(record))
        return process

    def pid(self, name):
        """The pid of a service that runs, or None."""
        try:
            record = json.loads((self.pids / f"{name}.json").read_text())
        except (OSError, ValueError):
            return None
        return record["pid"] if started(record["pid"]) == record["started"] else None

    def stop(self, name, seconds=10):
        pid = self.pid(name)
        if pid:
            end([pid], seconds)
        (self.pids / f"{name}.json").unlink(missing_ok=True)

    def exists(self):
        return pathlib.Path(f"/run/netns/{self.namespace}").exists()

    def members(self):
        """The pids of all processes in the lab's own namespace: each was started by the lab or by what it started."""
        if not self.exists():
            return []
        return [int(pid) for pid in run("ip", "netns", "pids", self.namespace).stdout.split()]

    def _entering(self):
        """The pids of those that are on their way into the namespace, and no members yet."""
        words = self.inside()
        found = []
        for folder in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                command = (folder / "cmdline").read_text(errors="replace").split("\0")
                if command[: len(words)] == words:
                    found.append(int(folder.name))
        return found

    def _ended(self):
        # In this order: who enters meanwhile is a member by then.
        end([*self._entering(), *self.members()], 5)
        return not self._entering() and not self.members()

    def down(self):
        """End everything of this lab; what was never there is no error."""
        # Again and again: a host that was just being started has more processes than a moment ago.
        wait("the lab's processes end", self._ended, 30)
        if self.exists():
            run("ip", "netns", "delete", self.namespace)
        if self.pids.exists():
            for record in self.pids.glob("*.json"):
                record.unlink()


def end(pids, seconds):
    """Terminate processes, and kill those that are left after the time."""
    for number, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, 5)):
        pids = [pid for pid in pids if started(pid)]
        if not pids:
            return
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + patience
        while any(started(pid) for pid in pids) and time.monotonic() < deadline:
            time.sleep(0.1)
