"""What an operator does with the site in the lab: deploy, look, move, ask for the page."""

import contextlib
import json
import queue
import re
import subprocess
import time

from . import bus, control, hosts
from .base import HOSTS, LabError, end, wait

SERVICE = "slapos/svc/comp1"
MOUNT = "/srv/comp1.slapos.svc.lab"


def deploy(lab, report=None, begun=None, overdue=None, level="info", **options):
    """
    Run the orchestration and return its result, read from its own output. `report(data)` hears each step as it begins and ends, `begun()` is called when the
    process runs, and where `overdue()` says so it is ended: its exit code is then that of a signal. `level` is what the command itself writes into the
    master's log.
    """
    arguments = [f"{key}={value}" for key, value in options.items()]
    since = time.monotonic()
    heard = queue.SimpleQueue()
    with bus.Bus(lab, heard.put), open(lab.logs / "deploy.json", "w+") as out:
        process = subprocess.Popen(
            [
                str(part)
                for part in lab.inside(
                    control.BIN / "salt-run",
                    "-c",
                    lab.home / "salt",
                    f"--log-file-level={level}",
                    "--out=json",
                    "--out-indent=1",
                    "state.orch",
                    "orch.deploy",
                    *arguments,
                )
            ],
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        try:
            if begun:
                begun()
            while True:
                # What was said before the process ended is heard after it.
                ended = process.poll() is not None
                with contextlib.suppress(queue.Empty):
                    while event := heard.get(timeout=0.3):
                        if report and re.match("slapos_ha/.*/deploy/", event["tag"]):
                            report(event["data"])
                if ended:
                    break
                if overdue and overdue():
                    end([process.pid], 10)
        except BaseException:
            end([process.pid], 10)
            raise
        out.seek(0)
        text = out.read()
    return Run(process.returncode, text, time.monotonic() - since)


def deployed(lab):
    """Deploy the site, for who needs it deployed; a deployment that fails is an error with its own steps."""
    answer = deploy(lab)
    if answer.retcode:
        raise LabError(f"the deployment failed: {answer.why}")
    return answer


class Run:
    """One run of the orchestration: exit code, seconds, and its states by step title in their order."""

    def __init__(self, retcode, text, seconds):
        self.retcode, self.text, self.seconds = retcode, text, seconds
        self.states = {}
        # Salt logs to the same terminal; the answer is the last thing that begins a line with a brace.
        found = re.search(r"^\{$.*^\}$", text, re.M | re.S)
        if found:
            data = json.loads(found.group(0))
            data = data.get("data", data)
            for states in data.values():
                if isinstance(states, dict):
                    for state in sorted(states.values(), key=lambda state: state["__run_num__"]):
                        self.states[state["__id__"]] = state

    @property
    def changed(self):
        return [title for title, state in self.states.items() if state["changes"]]

    @property
    def failed(self):
        return {
            title: state["comment"]
            for title, state in self.states.items()
            if state["result"] is False
        }

    @property
    def why(self):
        """What to show of a run that did not end as it should: the steps that failed by themselves, else the end of its output."""
        own = {
            title: comment
            for title, comment in self.failed.items()
            if not comment.startswith("One or more requisite failed")
        }
        return own or self.text[-3000:]

    @property
    def agent_seconds(self):
        """The sum of what the agent's own commands took, which each step reports."""
        return sum(map(agent_seconds, self.states.values()))


def agent_seconds(state):
    """What the agent's own commands took in one step, by its comment."""
    found = re.search(r"the agent's own commands: ([0-9.]+) s", state["comment"])
    return float(found.group(1)) if found else 0.0


def mounted(lab):
    """The hosts that have the service's filesystem mounted."""
    return [
        host
        for host in HOSTS
        if hosts.pids(lab, host)
        and hosts.ssh(
            lab, host, f"grep -c ' {MOUNT} ' /proc/mounts || true", check=False
        ).stdout.strip()
        == "1"
    ]


def active(lab):
    found = mounted(lab)
    if len(found) != 1:
        raise LabError(f"the filesystem is mounted on {found or 'no host'}")
    return found[0]


def page(lab):
    """What the service answers; it is a random text made once, in the partition."""
    said = hosts.ssh(lab, active(lab), "curl -sS --max-time 5 http://127.0.0.1:18080/", check=False)
    text = said.stdout.strip()
    if said.returncode or not re.fullmatch(r"[0-9a-f-]{36}", text):
        raise LabError(f"no page: {text[-200:]}")
    return text


def request_page(lab):
    """Have the page's software built and its instance started, by the service's own tasks; returns the page."""
    control.request(lab)
    host = active(lab)
    for task in ("software", "addpart"):
        # The agent refuses what its own schedule has started just now: that run does it as well.
        hosts.ssh(lab, host, f"om {SERVICE} run --rid task#{task}", check=False)
    return wait("the page is answered", lambda: page(lab), 600, interval=2)


def move(lab, target):
    """The move as an operator asks for it through Salt."""
    said = control.salt_json(
        lab, "salt", target, "state.single", "opensvc.placed", f"name={SERVICE}", f"node={target}"
    )
    if not isinstance(said.get(target), dict) or not said[target]:
        raise LabError(f"minion {target} did not answer: {said}")
    state = next(iter(said[target].values()))
    if not state["result"]:
        raise LabError(state["comment"])
    return state


def in_sync(lab, host):
    said = hosts.ssh(lab, host, "drbdadm dstate all", check=False).stdout.split()
    return said == ["UpToDate/UpToDate"]


def status(lab):
    return control.salt(lab, "salt-run", "slapos_ha.status", check=False)


def plan(lab):
    return control.salt(lab, "salt-run", "slapos_ha.plan", check=False)
