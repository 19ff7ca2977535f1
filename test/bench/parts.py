"""The parts that are measured in the lab. Each takes the bench and a record, puts numbers into it as they come, and raises where it cannot go on."""

import collections
import contextlib
import json
import sys
import time

import yaml
from slaplab import agent, cli, control, counter, faults, hosts, site
from slaplab.base import HOSTS, REPO, LabError, wait

from . import guest, parsers, playbook

sys.path.append(str(REPO / "test"))
from support import load_module  # noqa: E402 the path is set just above

# What Salt starts by name on a host, besides the agent's and DRBD's.
OTHERS = "systemctl ufw nft unshare modprobe modinfo blkid blockdev losetup getent dpkg-query dpkg-divert".split()
# Seconds until the site has to be whole before something is measured, and in which a move or a copy has to end.
SETTLE, MOVE, COPY = 600, 900, 1800
# DRBD's resource of the bench, beside that of the site.
NAME, DISK, PORT, MINOR = "bench", "/opt/bench.img", 7301, 8
PREFERRED = next(iter(HOSTS))
# The share of a new host's time that it may be at work when its deployment begins.
REST = 0.1
# MiB of a host's disk that stay free.
SPARE = 300


class Bench:
    """What the parts share: the lab, and the site in it as the parts before have left it."""

    def __init__(self, lab, options, counted=False):
        self.lab, self.options = lab, options
        # Whether a deployment's processes are counted as well.
        self.counted = counted
        # Seconds of the deployment of the lab that is up, and what Salt started in it on each host; None and empty with --reuse.
        self.first, self.started = None, {}
        self._deployed, self._broken = False, None

    @property
    def repetitions(self):
        return self.options.repetitions

    def ready(self):
        """Have a whole site in the lab, at rest. What could not be had once is not tried again for the next part."""
        if self._broken:
            raise LabError(f"there is no site to measure: {self._broken}")
        if not self._deployed:
            if self.options.reuse:
                self._reused()
            else:
                self.deployment()
        self.settle()

    @contextlib.contextmanager
    def _once(self):
        self._deployed = False
        try:
            yield
        except Exception as error:
            self._broken = str(error)
            raise
        self._deployed = True

    def _reused(self):
        with self._once():
            cli.up(self.lab, self.options.agent)
            if not site.mounted(self.lab):
                raise LabError("the lab has no site: leave out --reuse")

    def deployment(self, record=None):
        """A new lab and the whole deployment in it; its numbers go into the record."""
        with self._once(), contextlib.ExitStack() as counting:
            cli.up(self.lab, self.options.agent, fresh=True)
            wait(
                "both hosts are at rest",
                lambda: all(hosts.busy(self.lab, host) < REST for host in HOSTS),
                SETTLE,
            )
            programs = (*counter.PROGRAMS, *OTHERS)
            counters = {
                host: counting.enter_context(counter.counting(self.lab, host, programs))
                for host in (HOSTS if self.counted else ())
            }
            run = site.deployed(self.lab)
            self.first = run.seconds
            self.started = {h: collections.Counter(started()) for h, started in counters.items()}
        if record:
            record.sample("seconds", run.seconds)
            record.sample("agent", run.agent_seconds)
            record.fact("steps", steps(run.states))

    def settle(self):
        """Nothing is under way and all is well, before something is measured."""
        wait("the site is whole", lambda: site.status(self.lab).returncode == 0, SETTLE, 3)

    def agent(self):
        """Which agent the hosts have, without where it lay on this machine. A lab that cannot be asked any more is no error."""
        if agent.chosen(self.options.agent)[0] == "standin":
            return "the stand-in, a test double of OpenSVC 2.1"
        with contextlib.suppress(LabError, OSError):
            said = control.salt_json(self.lab, "salt", PREFERRED, "opensvc.version").get(PREFERRED)
            if isinstance(said, dict):
                return f"OpenSVC's own, {said['version']}"
        return "OpenSVC's own"


def steps(states):
    """[step, its seconds, those of the agent's own commands in it] of a deployment, in its order."""
    return [
        [step, states[title]["duration"] / 1000, site.agent_seconds(states[title])]
        for step, title in faults.orchestration().items()
    ]


def deploy(bench, record):
    """A full deployment, and the sum of the agent's own commands in it."""
    if bench.options.reuse:
        raise LabError("a deployment is measured in a new lab: leave out --reuse")
    for _ in range(bench.options.deploys):
        bench.deployment(record)


def second(bench, record):
    """The same orchestration again, by the first."""
    if bench.first is None:
        raise LabError(
            "what the first run took is not known of a lab that is used again: leave out --reuse"
        )
    record.sample("first", bench.first)
    for _ in range(bench.repetitions):
        run = site.deploy(bench.lab)
        if run.retcode or run.changed:
            raise LabError(f"the second run was not quiet: {run.failed or run.changed}")
        record.sample("seconds", run.seconds)


# --- A highstate that changes nothing -------------------------------------------------------------------------------------------------------------


def converged(lab, target, nodes):
    """Seconds of a highstate of the target that finds everything as it is to be on these nodes."""
    begun = time.monotonic()
    said = control.salt_json(lab, "salt", target, "state.apply", "slapos_ha")
    seconds = time.monotonic() - begun
    for node in nodes:
        states = said.get(node)
        if not isinstance(states, dict):
            raise LabError(f"{node}: {states}")
        for title, state in states.items():
            if state["result"] is not True or state["changes"]:
                raise LabError(f"the highstate of {node} was no no-op: {title}: {state['comment']}")
    return seconds


def pinged(lab, host):
    begun = time.monotonic()
    if control.salt_json(lab, "salt", host, "test.ping").get(host) is not True:
        raise LabError(f"minion {host} does not answer")
    return time.monotonic() - begun


def roles(lab):
    """{active or standby: host}"""
    active = site.active(lab)
    return {"active": active, "standby": next(host for host in HOSTS if host != active)}


def highstate(bench, record):
    """A no-op highstate of a node and a bare `test.ping` of it, one after the other."""
    for role, host in roles(bench.lab).items():
        # The first one after a deployment or a move fills caches: it is not of the kind that is measured.
        converged(bench.lab, host, [host])
        for _ in range(bench.repetitions):
            record.sample(f"ping_{role}", pinged(bench.lab, host))
            record.sample(f"highstate_{role}", converged(bench.lab, host, [host]))


def processes(bench, record):
    """What Salt starts on a node in a no-op highstate, and in a whole deployment."""
    programs = (*counter.PROGRAMS, *OTHERS)
    for role, host in roles(bench.lab).items():
        with counter.counting(bench.lab, host, programs) as started:
            before = 0
            for _ in range(bench.repetitions):
                converged(bench.lab, host, [host])
                now = started()
                record.sample(f"highstate_{role}", len(now) - before)
                record.fact(f"highstate_{role}", dict(collections.Counter(now[before:])))
                before = len(now)
            # That it counts: this starts one process at least.
            control.salt(bench.lab, "salt", host, "drbd.status")
            if len(started()) == before:
                raise LabError(f"the counter on {host} counts nothing")
        if host in bench.started:
            record.sample(f"deploy_{role}", sum(bench.started[host].values()))
            record.fact(f"deploy_{role}", dict(bench.started[host]))


def ansible(bench, record):
    """A no-op highstate of both nodes at once, and the same as Ansible's tasks."""
    lab = bench.lab
    record.fact("version", playbook.version())
    with playbook.prepared(lab) as converge:
        converged(lab, "*", HOSTS)
        _, said = converge()
        tasks, calls = playbook.tasks(said)
        record.fact("tasks", tasks)
        record.fact("calls", calls)
        for _ in range(bench.repetitions):
            record.sample("salt", converged(lab, "*", HOSTS))
            record.sample("ansible", converge()[0])


# --- DRBD's first copy ----------------------------------------------------------------------------------------------------------------------------


def on_host(lab, host, *words):
    """What the program of guest.py answers on a host."""
    with open(guest.__file__) as program:
        said = hosts.ssh(lab, host, "python3 -", *map(str, words), stdin=program).stdout
    return json.loads(said.splitlines()[-1])


def resources():
    """{"tuned", "default"}: the text of DRBD's file as the formula writes it, and without what it says of the resync. Nothing else differs."""
    conf = load_module("_utils/drbd_conf.py", "bench_drbd_conf")
    defaults = yaml.safe_load((REPO / "slapos_ha/defaults.yaml").read_text())["drbd"]
    nodes = {host: f"10.98.1.{number}" for host, number in HOSTS.items()}
    ours = conf.wish(
        NAME, nodes, PORT, MINOR, "/dev/bench", protocol=defaults["protocol"], resync_rate=defaults["resync_rate"]
    )  # fmt: skip
    theirs = {key: value for key, value in ours.items() if not key.startswith("disk:")}
    return {"tuned": conf.render(NAME, ours), "default": conf.render(NAME, theirs)}


CLEAR = f"""
udevadm settle --timeout=10
drbdadm secondary {NAME} >/dev/null 2>&1
drbdadm down {NAME} >/dev/null 2>&1
rm -f /etc/drbd.d/{NAME}.res /dev/bench
losetup -j {DISK} -O NAME --noheadings | xargs -r losetup -d
rm -f {DISK}
"""
# The file of the resource is standard input.
NEW = f"""set -e
umask 077
cat >/etc/drbd.d/{NAME}.res
truncate -s %dM {DISK}
loop=$(losetup --show -f {DISK})
ln -s $loop /dev/bench
drbdadm -- --force create-md {NAME}/0 </dev/null
sync
drbdadm up {NAME}
"""
BEGIN = {
    "skipped": f"drbdadm -- --clear-bitmap new-current-uuid {NAME}/0",
    "tuned": f"drbdadm primary --force {NAME}",
    "default": f"drbdadm primary --force {NAME}",
}


def sync(bench, record):
    """A new disk on both hosts: declared equal, copied as the formula tunes DRBD, copied as DRBD does by itself."""
    lab = bench.lab
    free = min(
        int(hosts.ssh(lab, host, "df --output=avail -BM /opt | tail -n 1").stdout.strip(" M\n"))
        for host in HOSTS
    )
    size = min(bench.options.sync_mib, free - SPARE)
    if size < 64:
        raise LabError(f"{free} MiB are free on a host: not enough for a disk")
    record.fact("mib", size)
    record.fact("share", [])
    texts = resources()
    try:
        for _ in range(bench.repetitions):
            for side in ("skipped", "tuned", "default"):
                _new_disks(lab, size, texts["default" if side == "default" else "tuned"])
                seconds = bench.options.sync_seconds if side == "default" else COPY
                found = on_host(lab, PREFERRED, "sync", MINOR, seconds, BEGIN[side])
                whole, share = taken(found)
                if side == "default":
                    record.facts["share"].append(round(share, 4))
                elif share < 1:
                    raise LabError(f"{side}: not in sync after {COPY} s")
                record.sample(side, whole)
    finally:
        _no_disks(lab)


def _no_disks(lab):
    for host in HOSTS:
        hosts.ssh(lab, host, CLEAR, check=False)


def taken(found):
    """(seconds of the whole copy, the share of it that was measured); what was not waited for goes on as fast as what was."""
    if found["done"]:
        return found["seconds"], 1
    copied = found["kib"] - found["left"]
    if copied <= 0:
        raise LabError(f"nothing was copied in {found['seconds']:.0f} s")
    share = copied / found["kib"]
    return found["seconds"] / share, share


def _new_disks(lab, size, text):
    # Nowhere anything of the last copy, before one of them is new: the other would copy what it has.
    _no_disks(lab)
    for host in HOSTS:
        hosts.ssh(lab, host, NEW % size, input=text)

    def connected():
        return all(
            hosts.ssh(lab, host, f"drbdadm cstate {NAME}; drbdadm dstate {NAME}").stdout.split()
            == ["Connected", "Inconsistent/Inconsistent"]
            for host in HOSTS
        )

    wait("both new disks are connected", connected, 60)


# --- A move ---------------------------------------------------------------------------------------------------------------------------------------


def move(bench, record):
    """There and back through the formula, and there and back by the agent's own command until it is done; who begins alternates."""
    lab = bench.lab
    here = roles(lab)
    trip = (here["standby"], here["active"])
    for number in range(bench.repetitions):
        order = (("ours", _ours), ("bare", _bare))
        for name, act in order if number % 2 == 0 else reversed(order):
            seconds = []
            for target in trip:
                bench.settle()
                seconds.append(act(lab, target))
                _there(lab, target)
                record.sample(f"{name}_to_{target}", seconds[-1])
            record.sample(name, sum(seconds))


def _ours(lab, target):
    begun = time.monotonic()
    site.move(lab, target)
    return time.monotonic() - begun


def _bare(lab, target):
    return on_host(lab, target, "switch", site.SERVICE, target, MOVE)["seconds"]


def _there(lab, target):
    """Both ways of moving are held to the same end."""
    arguments = (target, "opensvc.check", site.SERVICE, "placed", f"node={target}")
    said = control.salt_json(lab, "salt", *arguments)[target]
    if not isinstance(said, dict) or not said["done"] or site.active(lab) != target:
        raise LabError(f"the move to {target} is not done: {said}")


def measured_parsers(bench, record):
    """Each parser on the largest recording of what it reads. Without the lab."""
    parsers.measure(record, bench.repetitions)


# In the order in which they are run: (whether it is measured in a site that is whole and at rest, the function).
PARTS = {
    "parsers": (False, measured_parsers),
    "deploy": (False, deploy),
    "second": (True, second),
    "highstate": (True, highstate),
    "processes": (True, processes),
    "ansible": (True, ansible),
    "sync": (True, sync),
    "move": (True, move),
}
# What needs no lab, and so no root.
WITHOUT_LAB = ("parsers",)
