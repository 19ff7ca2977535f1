"""
One operator at a time for each site: a lock on this master, ``<cachedir>/slapos_ha/<site>.lock``.

The file says whose it is, and who holds a kernel's lock (flock) on it has the site: that ends with the process, however it ends. A takeover puts another
file in its place; the former owner, who still has his, notices at his next step. A stop is made as in ``slapos_site``.
"""

import contextlib
import fcntl
import glob
import json
import os
import socket
import time
import uuid

from salt.exceptions import CommandExecutionError


def take(opts, site, owner, expires, steal=False):
    """
    Take the lock of a site; raises when somebody else has it.

    ``owner`` says who this is: user, jid and run (what is being run). ``expires`` are the seconds after which a step counts as lost, since when the lock may
    be taken without ``steal``. The lock is an object with ``id``, ``notes`` (what a person has to know of how it was got), ``renew`` and ``release``.
    """
    return _Lock(_path(opts, site), site, owner, expires, steal)


def holders(opts):
    """What the locks of this master say that are held now: a list of dicts, which :py:func:`sentence` makes readable."""
    folder = os.path.join(opts["cachedir"], "slapos_ha")
    if not os.path.isdir(folder):
        return []
    with _alone(folder):
        looks = [_look(path) for path in sorted(glob.glob(f"{glob.escape(folder)}/*.lock"))]
    return [owner for owner, held in looks if held]


def sentence(owner):
    """Who has a site, since when, and where he is."""
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(owner["since"]))
    return (
        f"site {owner['site']} is in use: {_run(owner)} since {since} UTC ({_age(owner['since'])}), "
        f"now at step {owner['step']} ({_age(owner['seen'])})"
    )


class _Lock:
    def __init__(self, path, site, owner, expires, steal):
        self.path, self.folder, self.notes = path, os.path.dirname(path), []
        self.owner = {
            "id": uuid.uuid4().hex,
            "site": site,
            **{key: owner.get(key) for key in ("user", "jid", "run")},
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "since": time.time(),
            "seen": time.time(),
            "expires": expires,
            "step": "preflight",
        }
        self.id = self.owner["id"]
        with _alone(self.folder):
            before, held = _look(path)
            if held:
                self._judge(before, steal)
            elif before:
                self.notes.append(
                    f"{_run(before)} ended {_age(before['seen'])} at step {before['step']} without giving the lock back"
                )
            self._put()

    def _judge(self, before, steal):
        """Whether the lock may be taken from its owner, who lives."""
        silent = time.time() - before["seen"]
        if steal:
            self.notes.append(
                f"took the lock over from {_run(before)}, which is at step {before['step']} and stops when that ends"
            )
        elif silent > before["expires"]:
            self.notes.append(
                f"took the lock over from {_run(before)}: its step {before['step']} began {_age(before['seen'])}, longer than the "
                f"{_long(before['expires'])} that all timeouts together allow"
            )
        else:
            raise _stop(
                sentence(before),
                f"Wait until it ends: salt-run slapos_ha.status. If it hangs, end process {before['pid']} on {before['host']}, or take its place: "
                f"""pillar='{{"slapos_ha": {{"site": "{before["site"]}", "steal": true}}}}'; it then stops at its next step. Nothing was changed.""",
            )

    def _put(self):
        """Put a file of ours, locked and written, in the place of whatever is there."""
        new = f"{self.path}.new"
        # Closed with this object, for a process that outlives the run.
        self.file = open(new, "w", encoding="utf-8")  # noqa: SIM115
        os.chmod(new, 0o644)
        fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._write()
        os.rename(new, self.path)

    def _write(self):
        text = json.dumps(self.owner).encode()
        os.pwrite(self.file.fileno(), text, 0)
        os.ftruncate(self.file.fileno(), len(text))

    def _current(self):
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(self.file.fileno()))
        except FileNotFoundError:
            return False

    def renew(self, step):
        """Say which step begins now; raises when the lock is not ours any more."""
        with _alone(self.folder):
            if self._current():
                self.owner.update(step=step, seen=time.time())
                self._write()
                return
            owner, held = _look(self.path)
        why = sentence(owner) if held else f"its file {self.path} is gone"
        raise _stop(
            f"this run has lost the lock of site {self.owner['site']}, so the step {step} is not begun: {why}",
            "See what became of it: salt-run slapos_ha.status. Then run the orchestration again: what is done stays done.",
        )

    def release(self):
        """Give the lock back, if it is still ours."""
        if self.file.closed:
            return
        with _alone(self.folder):
            if self._current():
                os.unlink(self.path)
            # A process that was forked meanwhile has the same lock: closing the file would not be enough.
            fcntl.flock(self.file, fcntl.LOCK_UN)
            self.file.close()


def _path(opts, site):
    if not site or "/" in site or site.startswith("."):
        raise CommandExecutionError(f"{site!r} is no name of a site")
    return os.path.join(opts["cachedir"], "slapos_ha", f"{site}.lock")


@contextlib.contextmanager
def _alone(folder):
    """One process at a time looks at the locks or changes them, for some microseconds."""
    try:
        os.makedirs(folder, mode=0o755, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            fcntl.flock(handle, fcntl.LOCK_UN)
            os.close(handle)
    except OSError as error:
        raise _stop(
            f"the site's lock: {error}",
            f"See that {folder} belongs to the user as whom salt-master runs and that there is room.",
        ) from None


def _look(path):
    """(what the file of a lock says or None, whether somebody holds it)"""
    try:
        with open(path, encoding="utf-8") as file:
            owner = _read(file)
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return owner, True
            fcntl.flock(file, fcntl.LOCK_UN)
            return owner, False
    except FileNotFoundError:
        return None, False


def _read(file):
    """What the file says; an owner who was killed while he wrote has left less."""
    written = os.fstat(file.fileno()).st_mtime
    owner = dict.fromkeys(("id", "user", "jid", "run", "host", "pid", "step"), "unknown")
    owner.update(site=os.path.basename(file.name).removesuffix(".lock"), jid=None)
    owner.update(since=written, seen=written, expires=0)
    try:
        owner.update(json.load(file))
    except (ValueError, TypeError):
        pass
    return owner


def _run(owner):
    job = f", job {owner['jid']}" if owner["jid"] else ""
    return f"{owner['run']} of {owner['user']} on {owner['host']} (process {owner['pid']}{job})"


def _age(moment):
    return f"{_long(time.time() - moment)} ago"


def _long(seconds):
    seconds = max(int(seconds), 0)
    if seconds < 120:
        return f"{seconds} s"
    minutes = seconds // 60
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02} min"


def _stop(message, remedy):
    error = CommandExecutionError(message)
    error.remedy = remedy
    return error
