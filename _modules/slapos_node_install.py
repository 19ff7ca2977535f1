"""
The calls of ``slapos_node`` that install software: Python environments from pinned requirements, one process of pip at a time for each.

:depends: the ``slapos_ha`` module of this formula for the site's values
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile

import salt.utils.files
from salt.exceptions import CommandExecutionError

# Salt's loader joins the functions of all files of one virtual name.
__virtualname__ = "slapos_node"


def __virtual__():
    return __virtualname__


@contextlib.contextmanager
def _alone(prefix):
    """A second installation into an environment waits for the first: a state may come while `environments` is still at work."""
    name = hashlib.sha256(prefix.encode()).hexdigest()[:12]
    # Not in /run/lock: who may write there could hold the lock, or have put the file.
    with open(f"/run/slapos_ha-{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _missing(prefix, requirements):
    missing = __salt__["slapos_node.missing_requirements"](prefix, requirements)
    unfinished = __utils__["slapos_text.unfinished"](prefix)
    if os.path.exists(unfinished) or not os.path.exists(os.path.join(prefix, "bin", "python")):
        missing["environment"] = {"old": None, "new": prefix}
    return missing


def environment_missing(prefix, requirements):
    """
    Compare an environment with pinned requirements once nobody installs into it any more. Starts no process.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_node.environment_missing /opt/re6st '["re6stnet==0.642"]'

    prefix
        The environment's folder (str).
    requirements
        A list of ``name==version`` (list of str).

    Returns ``{name: {"old": version or None, "new": version}}`` of what differs, with ``environment`` where there is none, or one whose installation was
    killed. Raises SaltInvocationError for a requirement that is not pinned.
    """
    with _alone(prefix):
        return _missing(prefix, requirements)


def environment_install(
    prefix, requirements, find_links="", no_index=False, hashes=None, python="/usr/bin/python3"
):
    """
    Make an environment hold packages of given versions.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_node.environment_install /opt/re6st '["re6stnet==0.642"]'

    prefix
        The environment's folder (str).
    requirements
        A list of ``name==version`` (list of str). With hashes, of everything that is to be installed.
    find_links
        A folder or an address with wheels (str), or empty.
    no_index
        Ask no package index (bool): what is not in find_links is missing.
    hashes
        ``{name: ["sha256:HEX", ...]}`` (dict); what does not match is not installed. Empty: not checked.
    python
        The interpreter that the environment is made of (str).

    Returns what differed before, as :py:func:`environment_missing` does; empty when nothing was to be done. Raises CommandExecutionError with the
    last lines of what failed, and before anything is changed where the folder holds something and is no environment.
    """
    with _alone(prefix):
        missing = _missing(prefix, requirements)
        if not missing:
            return missing
        unfinished = __utils__["slapos_text.unfinished"](prefix)
        fresh = "environment" in missing
        if fresh:
            _refuse_foreign(prefix)
        _mark(unfinished)
        if fresh:
            _clear(prefix, unfinished)
            # python3-venv may be missing: then the error of `venv` names the package to install.
            _run([python, "-m", "venv", prefix], f"making the environment {prefix}")
        lines = []
        for requirement in requirements:
            digests = (hashes or {}).get(requirement.partition("==")[0], [])
            lines.append(" ".join([requirement, *(f"--hash={digest}" for digest in digests)]))
        with tempfile.TemporaryDirectory(prefix="slapos_ha-") as folder:
            path = os.path.join(folder, "requirements.txt")
            with salt.utils.files.fopen(path, "w") as handle:
                handle.write("\n".join(lines) + "\n")
            args = [os.path.join(prefix, "bin", "python"), "-m", "pip", "install", "--quiet"]
            args += ["-r", path]
            args += ["--require-hashes"] if hashes else []
            args += ["--no-index"] if no_index else []
            args += ["--find-links", find_links] if find_links else []
            try:
                _run(args, f"installing {', '.join(requirements)} into {prefix}")
            finally:
                # Not reached when this is killed. A pip that gives up by itself does so before it changes anything.
                __utils__["slapos_disk.settled"](prefix)
                os.unlink(unfinished)
        return missing


def _refuse_foreign(prefix):
    """A folder is emptied for an environment only where it was one, or nothing is in it: a wrong prefix may be /opt."""
    ours = __utils__["slapos_text.is_environment"](prefix)
    if not ours and os.path.isdir(prefix) and os.listdir(prefix):
        raise CommandExecutionError(
            f"{prefix} is no Python environment and holds {', '.join(sorted(os.listdir(prefix))[:3])}: nothing was changed; move it away, or give another "
            "install:prefix"
        )


def _mark(unfinished):
    """Mark an environment as unfinished, on the disk before anything else is."""
    prefix = os.path.dirname(unfinished)
    if not os.path.isdir(prefix):
        os.makedirs(prefix)
        # Users of SlapOS's build run what is in it, whatever the minion's umask is.
        os.chmod(prefix, 0o755)
    for path, flags in ((unfinished, os.O_WRONLY | os.O_CREAT), (prefix, os.O_RDONLY)):
        handle = os.open(path, flags, 0o600)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _clear(prefix, unfinished):
    """What `venv --clear` does, but for the mark."""
    for entry in list(os.scandir(prefix)):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        elif entry.path != unfinished:
            os.unlink(entry.path)


def environments():
    """
    Make the environments of re6st and SlapOS that the site's pillar wants by pip, at the lowest priority.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_node.environments

    Returns ``{prefix: what differed before}``. Raises CommandExecutionError with the last lines of what failed.

    The orchestration has this done while the agent sets up cluster and disks; the states find it done, or wait for it.
    """
    done = {}
    site = __salt__["slapos_ha.site"]()
    for kind in ("re6st", "slapos"):
        install = site[kind]["install"]
        if install["method"] == "pip":
            done[install["prefix"]] = environment_install(
                install["prefix"],
                install["requirements"],
                install["find_links"],
                install["no_index"],
                install["hashes"] or None,
            )
    return done


def _run(args, what):
    done = __salt__["cmd.run_all"](
        ["nice", "-n", "19", *args],
        python_shell=False,
        ignore_retcode=True,
        umask="022",
        timeout=1800,
        env={"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"},
    )
    if done["retcode"]:
        lines = (done["stderr"] or done["stdout"]).strip().splitlines()
        errors = [line for line in lines if "ERROR" in line or "error:" in line] or lines
        raise CommandExecutionError(f"{what} failed: {' / '.join(errors[-3:])}")
