"""Commands: argument lists, never a shell unless a trigger is written for one; refused under a fake root."""

import os

from . import env
from .errors import Failed

SHELL_WORDS = ("|", "&&", ";")


def run(argv, timeout=None, data=None, shell=False, cwd=None):
    """Run a command -> (exit code, stdout, stderr). A command that is not there exits 127."""
    if env.fake():
        raise Failed(f"no command is run under a fake root: {argv}")
    import signal
    import subprocess

    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE if data is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            shell=shell,
            cwd=cwd,
            start_new_session=True,
            env={**os.environ, "LC_ALL": "C"},
        )
    except FileNotFoundError as error:
        return 127, "", str(error)
    except PermissionError as error:
        return 126, "", str(error)
    try:
        out, err = process.communicate(data, timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        return 124, out.decode(errors="replace"), f"timeout after {timeout:g} seconds"
    return process.returncode, out.decode(errors="replace"), err.decode(errors="replace")


def call(log, argv, **kwargs):
    """Run a command, saying so, with its output in the log."""
    log.info(" ".join(argv))
    code, out, err = run(argv, **kwargs)
    for line in out.splitlines():
        log.info(f"| {line}")
    for line in err.splitlines():
        log.error(f"| {line}") if code else log.warning(f"| {line}")
    return code, out, err


def must(log, argv, **kwargs):
    """Run a command whose failure is the action's."""
    code, out, _ = call(log, argv, **kwargs)
    if code:
        raise Failed("")
    return out


def script(log, command, timeout=None, quiet=False, **kwargs):
    """Run a command of the configuration, its output line by line in the log unless ``quiet``.

    The output goes through a file: a forking start leaves daemons behind that keep the descriptors,
    and a pipe would then never end.
    """
    if env.fake():
        raise Failed(f"no command is run under a fake root: {command}")
    import shlex
    import signal
    import subprocess

    shell = any(word in command for word in SHELL_WORDS)
    argv = command if shell else shlex.split(command)
    folder = env.makedirs(env.var("tmp"))
    name = os.path.join(folder, f"out.{os.getpid()}.{id(argv):x}")
    with open(name, "w+b") as output, open(f"{name}.err", "w+b") as errors:
        os.unlink(output.name)
        os.unlink(errors.name)
        process = subprocess.Popen(
            argv,
            shell=shell,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            start_new_session=True,
            **kwargs,
        )
        try:
            code = process.wait(timeout=timeout or None)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            log.error(f"execution timeout ({timeout:g} seconds)")
            code = 124
        text, complaints = (_read(stream) for stream in (output, errors))
    if not quiet:
        for line in text.splitlines():
            log.info(f"| {line}")
        # The agent marks what comes that way as an error, whatever the code is.
        for line in complaints.splitlines():
            log.error(f"| {line}")
    return code, text + complaints


def _read(stream):
    stream.seek(0)
    return stream.read().decode(errors="replace")
