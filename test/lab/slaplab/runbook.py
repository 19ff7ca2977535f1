"""
The console blocks of the documentation: which command runs where, what it has to end with, and what it printed.

    ```console
    $ salt-run slapos_ha.status     # exit code 1
    …
    demo2# drbdadm status
    ```

`$` is the Salt master, `demo1#` root on a node; every other line is output. A fence may say more: `no-run` for what the lab cannot do, `settle` for what is tried until
it ends as it should, `tail=N` to keep the last N lines of an output only. The names in the documentation are those of the lab, so that its commands run as they are printed.
"""

import os
import re
import subprocess
from dataclasses import dataclass, field

from . import control, hosts
from .base import HOSTS, LabError, wait

MASTER = "master"
# What ends a block; indented by more it does not.
_END = re.compile(r" {0,3}``` *")
# A command of the documentation may take as long as a move or a deployment.
SECONDS = 3600


@dataclass
class Command:
    """A line at a prompt."""

    where: str
    line: str
    section: str
    # The line of the page that it is on.
    number: int
    code: int = 0
    run: bool = True
    settle: bool = False
    tail: int | None = None
    output: list = field(default_factory=list)


def commands(text, section=None):
    """The commands of a page in their order, or those below one heading."""
    found, heading, fence = [], "", None
    for number, line in enumerate(text.splitlines(), 1):
        if fence is not None:
            if _END.fullmatch(line):
                fence = None
                continue
            prompt = _prompt(line)
            if prompt:
                code = re.search(r" # exit code (\d+)", line)
                tail = re.search(r"\btail=(\d+)", fence)
                found.append(
                    Command(
                        *prompt,
                        section=heading,
                        number=number,
                        code=int(code[1]) if code else 0,
                        run="no-run" not in fence.split(),
                        settle="settle" in fence.split(),
                        tail=int(tail[1]) if tail else None,
                    )
                )
            elif not found or found[-1].section != heading:
                raise LabError(f"line {number}: output without a command: {line!r}")
            else:
                found[-1].output.append(line)
        elif line.startswith("```console"):
            fence = line.removeprefix("```console")
        elif line.startswith("#"):
            heading = line.lstrip("#").strip()
    if section is None:
        return found
    chosen = [command for command in found if command.section == section]
    if not chosen:
        raise LabError(f"there is no command below {section!r}")
    return chosen


def _prompt(line):
    """(where, command) of a line at a prompt, or None for output."""
    if line.startswith("$ "):
        return MASTER, line[2:]
    host, mark, rest = line.partition("# ")
    if mark and re.fullmatch(r"[a-z][a-z0-9]*", host):
        if host not in HOSTS:
            raise LabError(f"{line!r}: there is no host {host}; the hosts are {', '.join(HOSTS)}")
        return host, rest
    return None


def run(lab, command):
    """Run a command where it belongs; what it printed, when it ends as the page says, and else an error with it."""
    done = _run(lab, command)
    if done.returncode != command.code:
        # Of an orchestration what failed first: what follows says only that it did.
        failed = done.stdout.find("Result: False")
        said = done.stdout[-2000:] if failed < 0 else done.stdout[max(failed - 300, 0) :][:2000]
        raise LabError(
            f"line {command.number}, {command.where}: {command.line}: exit code {done.returncode}, not {command.code}: {said}"
        )
    return done.stdout


def until(lab, command, seconds=300):
    """Run a command again until it ends as the page says."""
    return wait(command.line, lambda: run(lab, command) or " ", seconds, 3)


def section(lab, text, name, seconds=None):
    """Run all commands below a heading; their outputs. With ``seconds`` each is tried until it ends as the page says."""
    return [
        until(lab, command, seconds) if seconds else run(lab, command)
        for command in commands(text, name)
        if command.run
    ]


def _run(lab, command):
    if command.where == MASTER:
        environment = {
            **os.environ,
            "PATH": f"{control.BIN}:{os.environ['PATH']}",
            "SALT_CONFIG_DIR": str(lab.home / "salt"),
        }
        words = lab.inside("bash", "-c", command.line)
    else:
        environment, words = None, hosts.ssh_command(lab, command.where, command.line)
    return subprocess.run(
        [str(word) for word in words],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=SECONDS,
    )


def refill(text, outputs):
    """The page with the outputs of its commands replaced; ``outputs`` is {line of the command: text}, and what is not in it stays without output."""
    lines, kept, inside = text.splitlines(), [], False
    known = {command.number: command for command in commands(text)}
    for number, line in enumerate(lines, 1):
        if line.startswith("```console"):
            inside = True
        elif inside and _END.fullmatch(line):
            inside = False
        elif inside and number not in known:
            continue
        kept.append(line)
        if number in known and number in outputs:
            kept += _shown(outputs[number], known[number].tail)
    return "\n".join(kept) + "\n"


def _shown(output, tail):
    lines = [line.rstrip() for line in output.splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    if tail is not None and len(lines) > tail:
        lines = ["…", *lines[-tail:]]
    # A line that looks like the end of the block, or like a prompt, would be read as one.
    return [
        "    " + line if _END.match(line) or _looks_like_a_prompt(line) else line for line in lines
    ]


def _looks_like_a_prompt(line):
    try:
        return _prompt(line) is not None
    except LabError:
        return True
