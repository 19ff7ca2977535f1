"""The command `lab`."""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time

from . import agent, control, hosts, image
from .base import HOSTS, Lab, LabError, alone, wait
from .image import say


def _alone(lab):
    """One `up` or `down` of a lab at a time."""
    return alone(lab.home / "lock", f"another command is busy with the lab in {lab.home}")


def up(lab, tree=None, fresh=False):
    """Bring the lab up; a lab that is up stays as it is. A failure or Ctrl-C leaves nothing behind."""
    tree = agent.chosen(tree)
    say(agent.describe(tree))
    begun = time.monotonic()
    with _alone(lab):
        if fresh and lab.exists():
            lab.down()
        if fresh:
            _forget(lab)
        with image.making():
            image.ensure_machine()
            base = image.image()
            for group in ("re6st", "slapos"):
                image.environment(group)
        try:
            lab.logs.mkdir(exist_ok=True)
            control.keys(lab)
            if not lab.exists():
                say("network, hosts and control node")
                hosts.network_up(lab)
            for host in HOSTS:
                # A disk goes with its base image: one that has another base is a host that is made anew.
                mark = lab.home / "hosts" / host / "base"
                if not mark.exists() or mark.read_text() != str(base):
                    shutil.rmtree(lab.home / "hosts" / host, ignore_errors=True)
                    hosts.prepare(lab, host, tree)
                    mark.write_text(str(base))
                hosts.boot(lab, host, base)
            if not lab.pid("master"):
                control.start(lab)
            ready(lab)
        except BaseException:
            say("not up: taking down what was started; the logs stay in " + str(lab.logs))
            lab.down()
            raise
    say(f"up in {time.monotonic() - begun:.0f} s: {', '.join(HOSTS)}, home {lab.home}")


def ready(lab):
    """Wait until both hosts and both minions answer, and give master and minions the formula's modules."""
    for host in HOSTS:
        wait(f"{host} has booted", lambda host=host: hosts.answers(lab, host), 120)
    wait("both minions answer", lambda: control.answering(lab) >= set(HOSTS), 120)
    # Three of the twenty kinds of sync_all, each of which is requests of its own: the formula has no others for a minion.
    kinds = "saltutil.sync_modules,saltutil.sync_states,saltutil.sync_utils"
    control.salt(lab, "salt", "*", kinds, ",", ",")
    control.salt(lab, "salt-run", "saltutil.sync_all")


def _forget(lab):
    """Remove what a lab knows; its logs stay until the next one writes its own."""
    for name in (
        "hosts",
        "keys",
        "logs",
        "pids",
        "registry",
        "salt",
        "slapproxy",
        "uml",
        "secrets.json",
    ):
        path = lab.home / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def down(lab):
    with _alone(lab):
        lab.down()


def clean(lab):
    """Down, and the lab's folder with it."""
    if not lab.home.exists():
        return
    down(lab)
    shutil.rmtree(lab.home)


def boot(lab, host):
    """Start a host that was crashed; its disk is as the crash left it."""
    base = (lab.home / "hosts" / host / "base").read_text()
    hosts.boot(lab, host, base)
    wait(f"{host} has booted", lambda: hosts.answers(lab, host), 120)
    wait(f"minion {host} answers", lambda: host in control.answering(lab), 120)


def status(lab):
    print(f"home       {lab.home}")
    print(f"namespace  {lab.namespace} {'up' if lab.exists() else 'down'}")
    for host in HOSTS:
        running = hosts.pids(lab, host)
        print(
            f"{host}      "
            + (
                f"{len(running)} processes, {hosts.resident(lab, host)} MiB resident"
                if running
                else "off"
            )
        )
    for record in sorted(lab.pids.glob("*.json")):
        pid = lab.pid(record.stem)
        print(f"{record.stem:<15} " + (f"pid {pid}" if pid else "gone"))


def logs(lab, host=None):
    """The boot console and, where the host answers, its journal; without a host, where the logs are."""
    if host is None:
        for path in sorted(lab.logs.iterdir()):
            print(path)
        return
    sys.stdout.write((lab.logs / f"{host}.console").read_text(errors="replace"))
    if hosts.pids(lab, host):
        hosts.ssh(lab, host, "journalctl --no-pager -b", quiet=False)


def info(lab):
    print(
        json.dumps(
            {
                "home": str(lab.home),
                "namespace": lab.namespace,
                "up": lab.exists(),
                "hosts": {
                    host: {
                        "pids": len(hosts.pids(lab, host)),
                        "resident_mib": hosts.resident(lab, host),
                    }
                    for host in HOSTS
                },
            }
        )
    )


def _through(lab, command):
    """Hand the terminal over to a command in the lab's namespace."""
    if not lab.exists():
        raise LabError("the lab is down: test/lab/lab up")
    return subprocess.run([str(part) for part in command], check=False).returncode


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="lab",
        description="Two user-mode Linux hosts and a control node in one network namespace.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name, text in (
        ("up", "bring the lab up"),
        ("demo", "deploy on a new lab with live progress, show the status, move, crash"),
        ("guide", "run the survival guide's commands on a new lab, and put their outputs into it"),
    ):
        verb = verbs.add_parser(name, help=text)
        verb.add_argument(
            "--agent", help="an agent 2.1 tree, an agent 3 binary or a .deb (LAB_AGENT)"
        )
        if name == "up":
            verb.add_argument(
                "--fresh",
                action="store_true",
                help="forget the disks and secrets of an earlier lab",
            )
        else:
            verb.add_argument("--keep", action="store_true", help="leave the lab up afterwards")
    verb = verbs.add_parser(
        "faults", help="a deployment with a fault at every step, for each kind of fault"
    )
    verb.add_argument("--agent", help="as for demo (LAB_AGENT)")
    verb.add_argument("--faults", type=_list, help="kinds of fault; all of them if not given")
    verb.add_argument("--steps", type=_list, help="steps of the deployment; all of them if not given")  # fmt: skip
    verb.add_argument("--short", action="store_true", help="the set of `make test`, in one deployment")  # fmt: skip
    verb.add_argument("--report", action="store_true", help="keep what was run in test/lab/faults.json, and write docs/reliability.md")  # fmt: skip
    for name, text in (
        ("down", "end everything; the disks stay"),
        ("clean", "down, and remove the lab's folder; also those of its tests' second lab"),
        ("status", "what runs"),
        ("info", "the same as JSON"),
        ("image", "make the hosts' image only"),
        ("request", "ask the SlapOS master for the page's software and an instance of it"),
    ):
        verbs.add_parser(name, help=text)
    for name, text in (("crash", "kill a host at once"), ("boot", "start a crashed host")):
        verbs.add_parser(name, help=text).add_argument("host", choices=HOSTS)
    verbs.add_parser("logs", help="console and journal of a host").add_argument(
        "host", nargs="?", choices=HOSTS
    )
    verb = verbs.add_parser("ssh", help="a shell, or a command, on a host")
    verb.add_argument("host", choices=HOSTS)
    verb.add_argument("command", nargs=argparse.REMAINDER)
    for name in ("salt", "salt-run"):
        verbs.add_parser(name, help=f"{name} on the lab's master", add_help=False)
    verbs.add_parser(
        "salt-call", help="salt-call on a host: lab salt-call demo1 …", add_help=False
    ).add_argument("host", choices=HOSTS)
    given, rest = parser.parse_known_args(arguments)
    if rest and given.verb not in ("salt", "salt-run", "salt-call"):
        parser.error(f"unknown: {' '.join(rest)}")
    if os.geteuid() != 0:
        print(
            "lab: needs root: it makes a network namespace with taps, and mounts nothing of this machine",
            file=sys.stderr,
        )
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # Started in the background by a shell, a program inherits that Ctrl-C is ignored: then nobody could end it in order.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    lab = Lab()
    try:
        return _do(lab, given, rest) or 0
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _list(text):
    return text.split(",")


def _known(option, given, known):
    wrong = [name for name in given or [] if name not in known]
    if wrong:
        raise LabError(f"{option}: unknown: {', '.join(wrong)}; known: {', '.join(known)}")


def _do(lab, given, rest):
    if given.verb == "up":
        return up(lab, given.agent, given.fresh)
    if given.verb == "demo":
        from . import demo

        return demo.demo(lab, given.agent, given.keep)
    if given.verb == "guide":
        from . import guide

        return guide.guide(lab, given.agent, given.keep)
    if given.verb == "faults":
        from . import campaigns, faults

        _known("--faults", given.faults, faults.FAULTS)
        _known("--steps", given.steps, faults.orchestration())
        return not campaigns.campaigns(
            lab, given.agent, given.faults, given.steps, given.short, given.report
        )
    if given.verb == "crash":
        return hosts.crash(lab, given.host)
    if given.verb == "boot":
        return boot(lab, given.host)
    if given.verb == "logs":
        return logs(lab, given.host)
    if given.verb == "image":
        with image.making():
            image.ensure_machine()
            return print(image.image())
    if given.verb == "request":
        return control.request(lab)
    if given.verb == "ssh":
        return _through(lab, hosts.ssh_command(lab, given.host, *given.command))
    if given.verb == "salt-call":
        return _through(lab, hosts.ssh_command(lab, given.host, "/opt/salt/bin/salt-call", *rest))
    if given.verb in ("salt", "salt-run"):
        return _through(lab, lab.inside(control.BIN / given.verb, "-c", lab.home / "salt", *rest))
    if given.verb == "clean":
        clean(lab.second())
    return {"down": down, "clean": clean, "status": status, "info": info}[given.verb](lab)
