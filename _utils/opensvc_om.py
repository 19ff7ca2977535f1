"""
The seam to ``om``, the command of the OpenSVC agent: nothing else of this formula starts it.

The execution module ``opensvc`` has several files; each builds the same ``agent`` from its own ``__salt__``, ``__opts__`` and ``__context__``. What is
kept in ``__context__`` lives for one job: which agent this is, and the last answer of the daemon, which states of one run share. Which agent this is is
also kept below the minion's cachedir, as long as ``om`` is the same file: to ask costs each job a process.
"""

import os
import re
import socket
import stat
import time

import salt.utils.atomicfile
import salt.utils.files
import salt.utils.path
from salt.exceptions import CommandExecutionError

# How long states of one run may share an answer of the daemon, in seconds: other states change the world too.
_SHARED_FOR = 15
_SNAPSHOT = "opensvc.snapshot"
# Where both agents keep their flags and what they know of objects.
_STATE = "/var/lib/opensvc"
_VERSION = "opensvc.version"
_VERSION_FILE = "opensvc_version"
# Seconds for which a version is believed without asking: one that is run from its source tree may change around om.
_BELIEVED_FOR = 86400


def agent(functions, utils, opts, context):
    """The agent on this node; ``functions`` and ``utils`` are the caller's ``__salt__`` and ``__utils__``, which a util does not have itself."""
    return _Agent(functions, utils, opts, context)


class _Agent:
    def __init__(self, functions, utils, opts, context):
        self._salt, self._utils, self._opts, self._context = functions, utils, opts, context
        self.here = socket.gethostname().lower()  # as both agents call the node
        self.etc = opts.get("opensvc.etc") or "/etc/opensvc"

    @property
    def program(self):
        program = self._opts.get("opensvc.om") or salt.utils.path.which("om")
        if not program or not os.access(program, os.X_OK):
            raise CommandExecutionError(
                "The OpenSVC agent is not installed: there is no om to run. Install it, for instance with the state slapos_ha.agent."
            )
        return program

    def run(self, args, timeout=120, stdin=None):
        """One process of ``om``: stdout, stderr and code, whatever the code. ``stdin`` is where a secret goes: it is seen in no list of processes."""
        begun = time.monotonic()
        try:
            return self._run(args, timeout, stdin)
        finally:
            # For slapos_ha.facts: what the processes of `om` of this job have taken, in seconds.
            spent = self._context.get("opensvc.spent", 0.0)
            self._context["opensvc.spent"] = spent + time.monotonic() - begun

    def _run(self, args, timeout, stdin):
        answer = self._salt["cmd.run_all"](
            [self.program, *args],
            python_shell=False,
            ignore_retcode=True,
            output_loglevel="quiet",  # an answer may hold a secret
            rstrip=False,
            timeout=timeout,
            # Without the second Salt makes newlines of each backslash with an n, which scripts are full of.
            **({} if stdin is None else {"stdin": stdin, "stdin_raw_newlines": True}),
            env={"LANG": "C", "LC_ALL": "C.UTF-8"},
        )
        if answer["retcode"] and " : Timed out after " in answer["stdout"]:
            raise CommandExecutionError(
                f"OpenSVC: om {' '.join(args[:2])} did not come back in {timeout} s and was ended. See: om mon"
            )
        return answer

    def ask(self, args, doing, see="om mon", timeout=120, stdin=None, content=False, strict=False):
        """
        Run ``om`` and return its answer; raise when it refuses. ``doing`` is for people and holds no value that was given.

        ``content`` is for an answer that is somebody's data, whatever it looks like; ``strict`` for an action that fails with the code 0.
        """
        answer = self.run(args, timeout, stdin)
        out, err = answer["stdout"], answer["stderr"]
        # Agent 3 answers an action that it does not know with its help and the code 0.
        unknown = (
            not content
            and re.search(r"^Usage:$", out, re.MULTILINE)
            and not re.search(r"^(committed|unchanged)$", out, re.MULTILINE)
        )
        failed = strict and self._utils["opensvc_agent.failures"](out, err)
        if answer["retcode"] == 0 and not unknown and not failed:
            return answer
        if unknown and not err.strip():
            why = "this agent does not know the action"
        else:
            why = self._utils["opensvc_agent.complaint"](out, err)
        if re.search(r"comm error while|[Cc]onnection refused", err):
            why, see = f"the daemon does not answer ({why})", f"systemctl start {self.unit}"
        raise CommandExecutionError(f"OpenSVC: {doing} failed: {why}. See: {see}")

    def act(self, args, doing, see="om mon", timeout=120, stdin=None, strict=False):
        """Run ``om`` for something that changes the world. What was known of the cluster is forgotten, also when it fails."""
        self.forget()
        try:
            answer = self.ask(args, doing, see, timeout, stdin, strict=strict)
        finally:
            self.forget()
            # The agent's configuration and flags, which it writes without that (2.1).
            self._utils["slapos_disk.settled"](self.etc, _STATE)
        return {"warnings": self._utils["opensvc_agent.warnings"](answer["stderr"])}

    def forget(self):
        self._context.pop(_SNAPSHOT, None)

    @property
    def major(self):
        return self.version()["major"]

    @property
    def unit(self):
        return "opensvc-server" if self.major >= 3 else "opensvc-agent"

    def version(self):
        """``{"major", "version"}``: each agent refuses the other's way to ask for it, and refusing is harmless here."""
        program = self.program
        about = os.stat(program)
        # What a package brings is a new file, with a new number and a time of change that nobody can set.
        key = [program, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns]
        known = self._context.get(_VERSION) or self._kept_version()
        if known.get("key") == key:
            self._context[_VERSION] = known
            return dict(known["answer"])
        for args in (["node", "--version"], ["--version"]):
            answer = self.run(args, 60)
            text = self._utils["opensvc_agent.version"](answer["stdout"])
            if answer["retcode"] == 0 and text:
                number = re.match(r"(\d+)\.", text)
                # Run from its source tree agent 2.1 calls itself "dev".
                major = int(number.group(1)) if number else (2 if args[0] == "node" else 3)
                known = {"key": key, "answer": {"major": major, "version": text}}
                self._context[_VERSION] = known
                self._keep_version(known)
                return dict(known["answer"])
        raise CommandExecutionError(
            f"{program} is no OpenSVC agent that is known here: it says neither 'om node version …' (2.1) nor 'om version …' (3)"
        )

    def _kept_version(self):
        kept = self._utils["slapos_kept.read"](self._opts, _VERSION_FILE)
        age = time.time() - kept["at"] if isinstance(kept.get("at"), float) else -1
        return kept if 0 <= age < _BELIEVED_FOR else {}

    def _keep_version(self, known):
        self._utils["slapos_kept.keep"](self._opts, _VERSION_FILE, {**known, "at": time.time()})

    def shares(self):
        """Whether another state of this run has got an answer that this one may take."""
        kept = self._context.get(_SNAPSHOT)
        return bool(kept) and time.monotonic() - kept["at"] < _SHARED_FOR

    def status(self, fresh=True):
        """The cluster's status in one shape; ``fresh=False`` takes what another state of this run has just got."""
        if not fresh and self.shares():
            return self._context[_SNAPSHOT]["status"]
        major = self.major
        args = ["daemon", "status", "--format", "json"]
        if major >= 3:
            args = ["cluster", "status", "-o", "json"]
        answer = self.ask(
            args, "asking the daemon for the cluster's status", f"systemctl status {self.unit}"
        )
        if not answer["stdout"].strip():
            # Agent 2.1 returns 0 and prints nothing at all while its daemon is down.
            raise CommandExecutionError(
                f"OpenSVC: the daemon on {self.here} does not answer. See: systemctl start {self.unit}; om mon"
            )
        status = self._utils["opensvc_agent.parse_status"](answer["stdout"], major)
        self._context[_SNAPSHOT] = {"at": time.monotonic(), "status": status}
        return status

    def text(self, path):
        """The configuration file of an object as it is, or None when this node has no such object."""
        name = self._utils["opensvc_agent.config_file"](self.etc, path)
        try:
            with salt.utils.files.fopen(name, encoding="utf-8") as handle:
                return handle.read()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise CommandExecutionError(f"OpenSVC: {name} cannot be read: {error}") from None

    def write(self, path, text):
        """Replace a configuration file, for what must not be on a command line; the daemons see it and bring it to the other nodes."""
        name = self._utils["opensvc_agent.config_file"](self.etc, path)
        self.forget()
        try:
            with salt.utils.files.set_umask(0o077):
                with salt.utils.atomicfile.atomic_open(name, "wb") as stream:
                    stream.write(text.encode())
                os.chmod(name, stat.S_IRUSR | stat.S_IWUSR)
        except OSError as error:
            raise CommandExecutionError(
                f"OpenSVC: {name} cannot be written: {error.strerror}"
            ) from None

    def config(self, path):
        """The configuration of an object, secrets included, or None when this node has no such object."""
        text = self.text(path)
        if text is None:
            return None
        try:
            return self._utils["opensvc_agent.parse_config"](text)
        except CommandExecutionError as error:
            raise CommandExecutionError(f"OpenSVC: {path}: {error}") from None

    def existing(self, path):
        """The configuration of an object that has to exist."""
        config = self.config(path)
        if config is None:
            raise CommandExecutionError(
                f"OpenSVC: there is no {path} on {self.here}. What there is: om '*/*/*' ls"
            )
        return config
