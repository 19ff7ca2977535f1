"""
A salt-master of its own for measurements: below one folder, on the loopback, on free ports; and what it costs, as the kernel counts it.

What is measured of it is all that runs on a master's behalf: its daemon, salt-run, and the jobs that these fork and leave to whoever adopts them.
"""

import asyncio
import collections
import contextlib
import ctypes
import json
import os
import pathlib
import resource
import signal
import subprocess
import sys
import threading
import time

import salt.config
import salt.crypt
import salt.utils.msgpack
import yaml
from pytestshellutils.utils import ports

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from support import answers, served  # noqa: E402

# Of what a busy machine may need for a start, in seconds.
_PATIENCE = 120
_TICK = os.sysconf("SC_CLK_TCK")
_PR_SET_CHILD_SUBREAPER = 36

# A pillar that every minion of an estate gets from one file: no top file that grows with the estate.
TOP = "base:\n  '*':\n    - site\n"


class Master:
    """A master below ``folder``, whose path is short as a socket's has to be; its minions ``ids`` are accepted with the key that they share, and ``pillar`` is the text of the one pillar file."""

    def __init__(self, folder, ids, pillar, **options):
        self.folder = pathlib.Path(folder)
        self.conf = self.folder / "etc"
        for name in ("etc", "pillar", "pki/minions", "player", "cache/proc"):
            (self.folder / name).mkdir(parents=True)
        config = {
            "id": "master_master", "root_dir": str(self.folder), "sock_dir": str(self.folder / "s"), "cachedir": str(self.folder / "cache"),
            "pki_dir": str(self.folder / "pki"), "log_file": str(self.folder / "master.log"), "log_level_logfile": "warning",
            "pidfile": str(self.folder / "master.pid"), "interface": "127.0.0.1", "publish_port": ports.get_unused_localhost_port(),
            "ret_port": ports.get_unused_localhost_port(), "file_roots": {"base": [served(self.folder)]},
            "pillar_roots": {"base": [str(self.folder / "pillar")]}, "extension_modules": str(self.folder / "extmods"), "enable_ssh_minions": False,
            "user": "root", **options,
        }  # fmt: skip
        (self.conf / "master").write_text(yaml.safe_dump(config))
        (self.folder / "pillar/top.sls").write_text(TOP)
        (self.folder / "pillar/site.sls").write_text(pillar)
        salt.crypt.gen_keys(str(self.folder / "player"), "minion", 2048)
        key = (self.folder / "player/minion.pub").read_text()
        for minion in ids:
            (self.folder / "pki/minions" / minion).write_text(key)
        self.opts = salt.config.master_config(str(self.conf / "master"))
        self.daemon = None

    def command(self, program, *arguments):
        """The command line of a program of Salt on this master; log and output are files below the master's folder."""
        code = f"import salt.scripts; salt.scripts.{program.replace('-', '_')}()"
        return [sys.executable, "-c", code, "-c", str(self.conf), *arguments]

    def __enter__(self):
        subprocess.run(
            self.command("salt-run", "saltutil.sync_all"),
            check=True,
            capture_output=True,
            timeout=_PATIENCE,
        )
        with open(self.folder / "output", "w") as log:
            self.daemon = subprocess.Popen(
                self.command("salt-master"), stdout=log, stderr=log, start_new_session=True
            )
        ends = time.monotonic() + _PATIENCE
        while not answers(self.folder / "s/master_event_pub.ipc"):
            if self.daemon.poll() is not None or time.monotonic() > ends:
                self.__exit__()
                raise RuntimeError(f"the master does not start: {self.folder}/output")
            time.sleep(0.1)
        return self

    def __exit__(self, *_):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.daemon.pid, signal.SIGTERM)
        self.daemon.wait(_PATIENCE)

    def job_cache(self):
        """(bytes, files) of the job cache, as they lie on the disk."""
        size = count = 0
        for folder, _, names in os.walk(self.folder / "cache/jobs"):
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    size += os.stat(os.path.join(folder, name)).st_blocks * 512
                    count += 1
        return size, count


# --- What it costs --------------------------------------------------------------------------------------------------------------------------------


def parents():
    """{process: its parent} of this machine."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = _stat(name)
            if fields:
                found[int(name)] = int(fields[1])
    return found


def _stat(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def tree(root, known=None):
    """A process and its descendants, as a set of ids."""
    known = parents() if known is None else known
    below, found = {}, set()
    for pid, parent in known.items():
        below.setdefault(parent, []).append(pid)
    todo = [root]
    while todo:
        pid = todo.pop()
        if pid not in found:
            found.add(pid)
            todo += below.get(pid, [])
    return found


def cpu(pids):
    """Seconds of processor that the processes and what they have waited for have used."""
    return sum(sum(map(int, fields[11:15])) for fields in map(_stat, pids) if fields) / _TICK


def memory(pids):
    """Bytes of memory of the processes; what several share counts once (Pss)."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup") as file:
                total += next(int(line.split()[1]) for line in file if line.startswith("Pss:"))
        except (FileNotFoundError, ProcessLookupError, StopIteration):
            continue  # it has ended since
    return total * 1024


class Events:
    """How many events are on a master's bus, and how many bytes of them, by kind; counted by a thread while this is entered."""

    def __init__(self, master):
        self._path = str(master.folder / "s/master_event_pub.ipc")
        self.counts, self.bytes = collections.Counter(), collections.Counter()
        self._ready = threading.Event()

    def __enter__(self):
        self._thread = threading.Thread(target=lambda: asyncio.run(self._listen()), daemon=True)
        self._thread.start()
        self._ready.wait(_PATIENCE)
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join()

    async def _listen(self):
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        reader, writer = await asyncio.open_unix_connection(self._path)
        # Large answers come by thousands: they are counted and not looked at.
        unpacker = salt.utils.msgpack.Unpacker(raw=True, max_buffer_size=1 << 30)
        self._ready.set()
        with contextlib.suppress(asyncio.CancelledError):
            while chunk := await reader.read(1 << 20):
                unpacker.feed(chunk)
                for frame in unpacker:
                    tag, _, _ = frame[b"body"].partition(b"\n\n")
                    kind = kind_of(tag.decode())
                    self.counts[kind] += 1
                    self.bytes[kind] += len(frame[b"body"])
        writer.close()


def kind_of(tag):
    """What an event is about, of few words."""
    parts = tag.split("/")
    if parts[:2] == ["salt", "job"]:
        return "answers of minions" if "ret" in parts else "jobs of minions"
    if parts[:2] == ["salt", "run"]:
        return "runners"
    if parts[0] == "slapos_ha":
        return "of a rollout" if parts[1] == "rollout" else "steps of sites"
    return "other"


@contextlib.contextmanager
def metered(command, log):
    """
    A command whose processor time is told at its end, with that of all that it leaves behind: a process, to give to :py:func:`told`.

    What of it runs when this is left is killed.
    """
    own = [sys.executable, __file__, str(log), *command]
    process = subprocess.Popen(own, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            for pid in tree(process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


def told(process):
    """{"code", "seconds" until the command's own end, "cpu" seconds of it and all others} of a command that is metered, when the last of it has ended."""
    return json.loads(process.stdout.read())


def _meter(log, *command):
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    begun = time.monotonic()
    with open(log, "w") as output:
        code = subprocess.run(command, stdout=output, stderr=output).returncode
    seconds = time.monotonic() - begun
    # What it has left behind is this process's now.
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(json.dumps({"code": code, "seconds": seconds, "cpu": used.ru_utime + used.ru_stime}))


if __name__ == "__main__":
    _meter(*sys.argv[1:])
