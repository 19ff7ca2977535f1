"""
The seam to DRBD's programs (drbdadm, drbdsetup) and to what the kernel says of DRBD in files: nothing else of this formula starts or reads them.

All files of the execution module ``drbd`` build the same ``node`` from their own ``__salt__``, ``__opts__`` and ``__context__``. The last status is kept
in ``__context__`` for the states of one run, until something acts.
"""

import os
import re
import time

import salt.utils.files
import salt.utils.path
from salt.exceptions import CommandExecutionError

# How long states of one run may share a status, in seconds: the cluster's agent acts on DRBD too.
_SHARED_FOR = 15
_SNAPSHOT = "drbd.snapshot"
_UTILS = "drbd.utils"
_PACKAGES = {
    "drbdadm": "drbd-utils",
    "drbdsetup": "drbd-utils",
    "modprobe": "kmod",
    "modinfo": "kmod",
    "blkid": "util-linux",
}


def node(functions, utils, opts, context):
    """DRBD on this node; ``functions`` and ``utils`` are the caller's ``__salt__`` and ``__utils__``, which a util does not have itself."""
    return _Node(functions, utils, opts, context)


class _Node:
    def __init__(self, functions, utils, opts, context):
        self._salt, self._utils, self._context = functions, utils, context
        self._root = opts.get("drbd.root") or "/"
        self.name = os.uname().nodename  # as DRBD calls the node in "on demo1 {…}"

    # --- Files ---

    def path(self, *parts):
        return os.path.join(self._root, *parts)

    def read(self, *parts):
        """The text of a file, or None when it is not there."""
        try:
            with salt.utils.files.fopen(self.path(*parts), encoding="utf-8") as handle:
                return handle.read()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
            raise CommandExecutionError(
                f"DRBD: {self.path(*parts)} cannot be read: {why}"
            ) from None

    def loaded(self):
        """The version of the module in the kernel, or None."""
        text = self.read("sys/module/drbd/version")
        if text and text.strip():
            return text.strip()
        text = self.read("proc/drbd")
        return self._utils["drbd_parse.proc_drbd"](text)["version"] if text else None

    def loads_at_boot(self):
        """Whether systemd loads the module when the node starts."""
        files = [self.path("etc/modules")]
        for folder in ("etc/modules-load.d", "usr/lib/modules-load.d", "run/modules-load.d"):
            try:
                names = os.listdir(self.path(folder))
            except OSError:
                continue
            files += [self.path(folder, name) for name in names if name.endswith(".conf")]
        return any(
            line.split("#")[0].strip() == "drbd"
            for file in files
            for line in (self.read(file) or "").splitlines()
        )

    def files(self):
        """``{path: {resource: settings}}`` of all resource files, secrets included; a file that is not understood has the reason in place of the dict."""
        folder, found = self.path("etc/drbd.d"), {}
        try:
            names = sorted(os.listdir(folder))
        except FileNotFoundError:
            return {}
        for name in names:
            if name.endswith(".res"):
                file = os.path.join(folder, name)
                try:
                    found[file] = self._utils["drbd_conf.resources"](self.read(file) or "")
                except CommandExecutionError as error:
                    found[file] = str(error)
        return found

    def configured(self):
        """``{resource: settings}`` of all resource files that can be read."""
        return {
            name: settings
            for resources in self.files().values()
            if isinstance(resources, dict)
            for name, settings in resources.items()
        }

    def existing(self, resource):
        """The settings of a resource that has to be configured here."""
        self._utils["drbd_conf.name_of_resource"](resource)
        files = self.files()
        for resources in files.values():
            if isinstance(resources, dict) and resource in resources:
                return resources[resource]
        broken = [f"{file}: {why}" for file, why in files.items() if isinstance(why, str)]
        raise CommandExecutionError(
            f"DRBD: resource {resource} is not configured on {self.name}: no file of /etc/drbd.d has it"
            + (f" ({'; '.join(broken)})" if broken else "")
        )

    # --- Programs ---

    def run(self, program, args, timeout=120):
        """One process: stdout, stderr and code, whatever the code."""
        found = salt.utils.path.which(program)
        if not found:
            raise CommandExecutionError(
                f"{program} is not installed: install the package {_PACKAGES[program]}"
            )
        answer = self._salt[
            "cmd.run_all"
        ](
            [found, *args],
            python_shell=False,
            ignore_retcode=True,
            output_loglevel="quiet",  # drbdadm prints the shared secret
            rstrip=False,
            timeout=timeout,
            stdin="",  # not the operator's terminal: drbdmeta asks there before it destroys something
            env={"LANG": "C", "LC_ALL": "C", "LANGUAGE": "C"},
        )
        if answer["retcode"] and " : Timed out after " in answer["stdout"]:
            raise CommandExecutionError(
                f"DRBD: {program} {args[0]} did not come back in {timeout} s and was ended. See the kernel's log: dmesg"
            )
        return answer

    def ask(self, program, args, doing, timeout=120):
        """Run a program and return its output; raise when it fails. ``doing`` is for people."""
        answer = self.run(program, args, timeout)
        if answer["retcode"]:
            why = self._utils["drbd_parse.complaint"](answer["stdout"], answer["stderr"])
            raise CommandExecutionError(f"DRBD: {doing} failed: {why}")
        return answer["stdout"]

    def act(self, args, doing, timeout=120):
        """Run drbdadm for something that changes the world. The status that was known is forgotten, also when it fails."""
        self.forget()
        try:
            return self.ask("drbdadm", args, doing, timeout)
        finally:
            self.forget()

    def forget(self):
        self._context.pop(_SNAPSHOT, None)

    def utils_version(self):
        """The version of drbd-utils."""
        program = salt.utils.path.which("drbdadm")
        key = (program, os.stat(program).st_mtime) if program else None
        known = self._context.get(_UTILS)
        if key and known and known["key"] == key:
            return known["version"]
        version = self._utils["drbd_parse.utils_version"](
            self.ask("drbdadm", ["--version"], "asking for its version")
        )
        self._context[_UTILS] = {"key": key, "version": version}
        return version

    def available(self):
        """The version of the module on disk for the kernel that runs, or None when there is none."""
        answer = self.run("modinfo", ["-F", "version", "drbd"])
        version = answer["stdout"].strip()
        if answer["retcode"] == 0 and re.fullmatch(r"\d+\.\d+\S*", version):
            return version
        if "not found" in answer["stderr"]:
            return None
        why = self._utils["drbd_parse.complaint"](answer["stdout"], answer["stderr"])
        raise CommandExecutionError(f"DRBD: modinfo drbd failed: {why}")

    def major(self):
        """8 or 9, by the module in the kernel, or else by the one on disk."""
        version = self.loaded() or self.available()
        if not version:
            raise CommandExecutionError(
                f"DRBD: the kernel {os.uname().release} has no drbd module; install it (Debian and Ubuntu: the kernel's modules-extra package, or drbd-dkms)"
            )
        return int(version.split(".")[0])

    def status(self, fresh=True):
        """All resources that are up, from one process; ``fresh=False`` takes what another state of this run has just got."""
        kept = self._context.get(_SNAPSHOT)
        if not fresh and kept and time.monotonic() - kept["at"] < _SHARED_FOR:
            return kept["status"]
        version = self.loaded()
        if version is None:
            status = {}
        elif version.startswith("8."):
            text = self.ask(
                "drbdsetup", ["status", "--verbose", "--statistics"], "asking for the status"
            )
            proc = self.read("proc/drbd")
            peers = {
                name: self._utils["drbd_conf.peers"](settings, self.name)
                for name, settings in self.configured().items()
            }
            status = self._utils["drbd_parse.with_proc"](
                self._utils["drbd_parse.status_text"](text),
                self._utils["drbd_parse.proc_drbd"](proc) if proc else None,
                peers,
            )
        else:
            status = self._utils["drbd_parse.status_json"](
                self.ask("drbdsetup", ["status", "--json"], "asking for the status")
            )
        self._context[_SNAPSHOT] = {"at": time.monotonic(), "status": status}
        return status

    def size_of_disk(self, device):
        """The size of a block device in KiB, or None when there is none."""
        real = os.path.realpath(device)
        text = self.read("sys/class/block", os.path.basename(real), "size")
        return int(text) // 2 if text else None
