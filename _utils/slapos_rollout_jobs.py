"""
The sites' runs as jobs of Salt, each a process of its own: starting them, hearing of them, and what is on disk of them. For the runner ``slapos_ha_rollout``.

Below ``<cachedir>/slapos_ha/rollout``: ``rollout``, which a rollout holds as long as it lives, ``paused``, and ``runs/<site>``, which a site's run holds.
To hold is the kernel's lock (flock) on the file, which ends with the process however it ends; what the file says stays. A stop is made as in ``slapos_site``.
"""

import contextlib
import fcntl
import json
import logging
import multiprocessing
import os
import shutil
import signal
import threading
import time

import salt.minion
import salt.runner
import salt.utils.event
import salt.utils.jid
import salt.utils.user
from salt.exceptions import CommandExecutionError, SaltException

log = logging.getLogger(__name__)

# Ends of jobs, and the steps of sites: slapos_ha/<site>/<run>/<step>/<phase>. What is told of a rollout itself has its id in the place of <run>, digits.
_TAGS = r"(salt/run/\d+/ret$|slapos_ha/[^/]+/[a-z_]+/[^/]+/[^/]+$)"
# How long a starter may need for a job, in seconds: loading modules on a busy master, once, is the most of it.
_START = 120
_DEAD = "the process that starts jobs has died"


def folder(opts):
    """Where rollouts of this master keep what has to outlive them."""
    return os.path.join(opts["cachedir"], "slapos_ha", "rollout")


# --- What is on disk ------------------------------------------------------------------------------------------------------------------------------


class _Held:
    """A file that says something and is held: by this object and by every process that was forked while it was open."""

    def __init__(self, path, said=None):
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        with _alone(path):
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(self._handle)
                raise
        self.path, self.before = path, _parsed(os.pread(self._handle, 1 << 20, 0))
        if said is not None:
            self.write(said)

    def write(self, said):
        text = json.dumps(said).encode()
        os.pwrite(self._handle, text, 0)
        os.ftruncate(self._handle, len(text))

    def close(self):
        os.close(self._handle)


def _parsed(text):
    try:
        said = json.loads(text)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


@contextlib.contextmanager
def _alone(path):
    """One process at a time looks whether a file of this folder is held, or begins to hold it: to look is to hold it for some microseconds."""
    handle = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _look(path):
    """(what a file says, whether somebody holds it)"""
    try:
        with _alone(path):
            handle = os.open(path, os.O_RDONLY)
            try:
                said = _parsed(os.pread(handle, 1 << 20, 0))
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return said, False
            except BlockingIOError:
                return said, True
            finally:
                os.close(handle)
    except FileNotFoundError:
        return {}, False


def take(opts, said):
    """
    The master's one rollout: (an object with ``write`` and ``over``, what an earlier one left that died, or None). Raises when another rollout is at work.

    ``said`` is a dict with user, pid, since (seconds), what and id.
    """
    path = os.path.join(folder(opts), "rollout")
    try:
        held = _Held(path)
    except BlockingIOError:
        other, _ = _look(path)
        raise _stop(
            f"a rollout is at work on this master: {_who(other)}",
            "Wait until it ends, or let no more of its sites begin: salt-run slapos_ha_rollout.pause. Nothing was started.",
        ) from None
    except OSError as error:
        raise _stop(
            f"the note of the rollout: {error}",
            f"See that {folder(opts)} belongs to the user as whom salt-master runs and that there is room. Nothing was started.",
        ) from None
    before = held.before or None
    held.write({**said, "id": before["id"]} if before and same(before, said) else said)
    return held, before


def same(one, other):
    """Whether two notes are of the same rollout, so that the later continues the earlier."""
    keys = ("what", "sites", "pillar", "grain", "arguments", "site_arguments")
    return all(one.get(key) == other.get(key) for key in keys)


def over(held):
    """The rollout has ended by itself: nothing is left to continue."""
    held.write({})
    held.close()


def current(opts):
    """(what the rollout at work says, whether there is one); of one that was killed only the first."""
    return _look(os.path.join(folder(opts), "rollout"))


def _who(said):
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(said.get("since", 0)))
    return f"{said.get('what')} of {said.get('user')} since {since} UTC (process {said.get('pid')}, rollout {said.get('id')})"


def pause(opts, said=None):
    """Let no more site begin, as ``said`` (dict with user and since), or with None let them again; returns what was said before."""
    path = os.path.join(folder(opts), "paused")
    before = paused(opts)
    if said is None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    else:
        os.makedirs(folder(opts), mode=0o755, exist_ok=True)
        with open(f"{path}.new", "w", encoding="utf-8") as file:
            json.dump(said, file)
        os.rename(f"{path}.new", path)
    return before


def paused(opts):
    """Who paused the rollouts of this master and since when (dict), or None."""
    try:
        with open(os.path.join(folder(opts), "paused"), "rb") as file:
            return _parsed(file.read()) or {"user": "unknown", "since": 0}
    except FileNotFoundError:
        return None


# --- Jobs -----------------------------------------------------------------------------------------------------------------------------------------


def engine(opts, utils, rollout, held):
    """
    What starts and follows the jobs of a rollout with this id, as a context manager.

    ``held`` is what :py:func:`take` gave, or None where runs change nothing: these are held in a folder of their own, in nobody's way, and nobody waits for
    them.
    """
    return _Engine(dict(opts), utils, rollout, held)


class _Engine:
    def __init__(self, opts, utils, rollout, held):
        self._opts, self._utils, self.rollout, self.changing = (
            opts,
            utils,
            rollout,
            held is not None,
        )
        self._held, self._bus, self._voice, self._minion = held, None, None, None
        self._locks, self._quiet = {}, threading.Event()
        # {jid: until when} of those that were asked for and not answered yet.
        self._asked = {}
        base = folder(opts)
        self._looks = os.path.join(base, "looks")
        self._runs = os.path.join(base, "runs") if held else os.path.join(self._looks, rollout)

    def __enter__(self):
        os.makedirs(self._runs, mode=0o755, exist_ok=True)
        # Before anything listens: what a job has inherited of a subscription it would hold for hours, unread, and the master would keep all events for it.
        context = multiprocessing.get_context("fork")
        self._pipe, theirs = context.Pipe()
        # A job's output is nobody's, so it is not asked for an outputter.
        opts = {**self._opts, "quiet": True, "test": False}
        self._starter = context.Process(
            target=_starter, args=(theirs, self._pipe, self._held, opts)
        )
        self._starter.start()
        theirs.close()
        return self

    def __exit__(self, *_):
        self._pipe.close()
        # With a timeout this would wait for every job as well: each has inherited what says that the starter lives (multiprocessing, Python 3.11).
        self._starter.join()
        for lock in self._locks.values():
            lock.release()
        for opened in (self._bus, self._voice, self._minion):
            # What Salt 3006 calls a minion cannot be destroyed.
            if hasattr(opened, "destroy"):
                opened.destroy()
        if not self.changing:
            self._tidy()

    def _tidy(self):
        """Remove the notes of looks that are over, also of those that were killed."""
        for look in os.listdir(self._looks):
            path = os.path.join(self._looks, look)
            # Another look that ends now may have removed it.
            with contextlib.suppress(FileNotFoundError):
                if not any(_look(os.path.join(path, site))[1] for site in os.listdir(path)):
                    shutil.rmtree(path, ignore_errors=True)

    def run(self, site):
        """(what is known of the last run of a site, whether it lives)"""
        return _look(os.path.join(self._runs, site))

    def start(self, site, function, given, what):
        """
        Ask for a site's run and return its record (dict with jid, since, site, what, rollout); raises where nobody can be asked. What became of it is in
        :py:meth:`answers`.
        """
        jid = salt.utils.jid.gen_jid(self._opts)
        if function == "state.orch":
            # As salt-run does: the lock and the steps say so whose they are.
            given = {**given, "orchestration_jid": jid}
        record = {
            "site": site,
            "what": what,
            "jid": jid,
            "rollout": self.rollout,
            "since": time.time(),
        }
        ends = time.monotonic() + _START
        try:
            self._pipe.send((os.path.join(self._runs, site), record, function, given, ends))
        except OSError:
            raise _stop(f"site {site}: its job did not begin: {_DEAD}") from None
        self._asked[jid] = ends
        return record

    def answers(self):
        """What the starter has said since the last time: [(jid, None when the run has begun, or why it has not)]. It is not waited for."""
        # In this order: one that died has said before what it had to say.
        found, lives = [], self._starter.is_alive()
        try:
            while self._pipe.poll():
                jid, problem = self._pipe.recv()
                # An answer that came too late is about a job that was given up.
                if self._asked.pop(jid, None):
                    found.append((jid, problem))
        except (OSError, EOFError):
            lives = False
        now = time.monotonic()
        for jid, ends in list(self._asked.items()):
            # Its end of the pipe is the jobs' as well: while one of them lives the pipe does not say that it is dead.
            if not lives or now > ends:
                del self._asked[jid]
                found.append((jid, f"not within {_START} s" if lives else _DEAD))
        return found

    def listen(self):
        """Hear the master's bus from now on."""
        self._bus = salt.utils.event.get_master_event(
            self._opts, self._opts["sock_dir"], listen=True
        )

    def event(self, wait):
        """
        The next event of a site as (site or jid, dict), or None after ``wait`` seconds.

        The dict of a job's end is what the job returned; that of a step has ``step``, ``phase``, ``run`` and ``at`` (seconds).
        """
        ends = time.monotonic() + wait
        try:
            raw = self._bus.get_event(
                wait=wait, tag=_TAGS, match_type="regex", full=True, auto_reconnect=True
            )
        except Exception as error:  # which one depends on transport and release
            log.debug("the master's bus is not heard: %r", error)
            raw = None
        if raw is None:
            # Without a master there is no waiting at the bus: whatever comes is seen at the next look at the job cache.
            self._quiet.wait(max(ends - time.monotonic(), 0))
            return None
        parts, data = raw["tag"].split("/"), raw["data"]
        if parts[0] == "salt":
            return parts[2], data
        _, site, run, step, phase = parts
        return site, {"run": run, "step": step, "phase": phase, "at": time.time()}

    def tell(self, site, phase, **data):
        """Tell the bus ``slapos_ha/rollout/<id>/<site>/<phase>``; returns whether there is a master that hears it."""
        tag = f"slapos_ha/rollout/{self.rollout}/{site}/{phase}"
        try:
            if self._voice is None:
                self._voice = salt.utils.event.get_master_event(
                    self._opts, self._opts["sock_dir"], listen=False
                )
            return bool(
                self._voice.fire_event({"rollout": self.rollout, "site": site, **data}, tag)
            )
        except Exception as error:  # which one depends on transport and release
            log.debug("%s is not heard: %r", tag, error)
            self._voice = None
            return False

    def result(self, jid):
        """What a job has returned, from the job cache, or None."""
        if self._minion is None:
            self._minion = salt.minion.MasterMinion(self._opts, states=False, rend=False)
        try:
            found = self._minion.returners[f"{self._opts['master_job_cache']}.get_jid"](jid)
        except Exception as error:  # which one depends on the returner
            log.debug("the job cache says nothing of %s: %r", jid, error)
            return None
        for said in found.values():
            if isinstance(said, dict) and isinstance(said.get("return"), dict):
                return said["return"]
        return None

    def outcome(self, site, jid):
        """What became of a run, from the world: what it has returned, {} when it died without that, None while it lives."""
        record, lives = self.run(site)
        said = self.result(jid)
        if said is not None:
            return said
        # In this order: a run that has just ended has its result in the cache before it gives up its file.
        return None if lives and record.get("jid") == jid else self.result(jid) or {}

    def step(self, site, jid):
        """The step at which a run is, as its lock of the site says; None where it has none."""
        owner = self._owner(site, jid)
        return owner and owner["step"]

    def halt(self, site, jid):
        """Take a site's lock from a run that is late, so that it stops at its next step; returns a sentence of what still runs."""
        owner = self._owner(site, jid)
        if owner is None:
            return f"job {jid} still runs; it has no lock of the site that could be taken from it"
        mine = {
            "user": salt.utils.user.get_specific_user(),
            "run": f"rollout {self.rollout} after job {jid}",
        }
        try:
            # Held until that run or this rollout ends: nobody should begin beside the step that hangs.
            self._locks[jid] = self._utils["slapos_site_lock.take"](
                self._opts, site, mine, owner["expires"], True
            )
        except CommandExecutionError as error:
            return f"job {jid} still runs its step {owner['step']}, and goes on after it: {error}"
        return f"job {jid} still runs its step {owner['step']} in process {owner['pid']} on {owner['host']}, and stops when that ends: its lock of the site was taken"

    def forget(self, jid):
        """Give back the lock that was taken from a run which has ended."""
        lock = self._locks.pop(jid, None)
        if lock:
            lock.release()

    def _owner(self, site, jid):
        for owner in self._utils["slapos_site_lock.holders"](self._opts):
            if owner["site"] == site and owner["jid"] == jid:
                return owner
        return None


def _starter(pipe, theirs, held, opts):
    """
    Start jobs as they are asked for, until the rollout ends or dies.

    A process of its own, so that jobs inherit nothing of the rollout: no subscription, no terminal. It answers each request with its job and None or what went wrong.
    """
    theirs.close()
    if held:
        # The rollout's own: jobs that outlive it would hold it, and it could not be run again.
        held.close()
    # Ctrl-C is for the rollout; jobs have their own signals again from Salt.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    user = salt.utils.user.get_specific_user()
    with salt.runner.RunnerClient(opts) as client:
        _load(client)
        while True:
            try:
                path, record, function, given, ends = pipe.recv()
            except EOFError:
                return
            problem = None
            try:
                if function not in client.functions:
                    raise _stop(f"{function} is not available: salt-run saltutil.sync_all")
                if time.monotonic() > ends:
                    raise _stop(f"not within {_START} s")
                # The job inherits the open file, and with it the kernel's lock.
                run = _Held(path, record)
                try:
                    tag = salt.utils.event.tagify(record["jid"], prefix="run")
                    low = {"fun": function, "arg": [], "kwarg": given}
                    pub = {"jid": record["jid"], "tag": tag}
                    client.asynchronous(function, low, user=user, pub=pub)
                finally:
                    run.close()
            except BlockingIOError:
                problem = "another run of a rollout has the site"
            except (OSError, SaltException) as error:
                problem = str(error)
            pipe.send((record["jid"], problem))


def _load(client):
    """Load what every job would load for itself, a quarter of a second of processor each: they have it from this process."""
    return client.mminion, list(client.functions)


def _stop(message, remedy="Nothing was started there."):
    error = CommandExecutionError(message)
    error.remedy = remedy
    return error
