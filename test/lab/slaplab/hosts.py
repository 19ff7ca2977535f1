"""The network and the two hosts in it."""

import io
import os
import pathlib
import shutil
import subprocess
import tarfile
import time

from . import agent, processor
from .base import CONTROL, HOSTS, LabError, end, keep, run, wait

SSH = (
    "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o ConnectTimeout=3 "
    "-o ServerAliveInterval=5 -o ServerAliveCountMax=3"
).split()
OFFLOADS = "tx off sg off tso off gso off gro off".split()
MEMORY = "960M"
# Bytes that the memory of both hosts takes, with some to spare.
ROOM = 3 << 30


def network_up(lab):
    """The lab's namespace with a front and a back network, a tap per host on each."""
    run("ip", "netns", "add", lab.namespace)
    lab.ip("link", "set", "lo", "up")
    for number in (0, 1):
        bridge = f"br{number}"
        lab.ip("link", "add", bridge, "type", "bridge")
        lab.ip("addr", "add", f"10.98.{number}.1/24", "dev", bridge)
        lab.ip("link", "set", bridge, "up")
        links = [bridge]
        for host in HOSTS:
            tap = f"{host}-{number}"
            lab.ip("tuntap", "add", tap, "mode", "tap")
            lab.ip("link", "set", tap, "master", bridge)
            lab.ip("link", "set", tap, "up")
            links.append(tap)
        for link in links:
            # With offloads on either side packets are dropped: 250 KB/s.
            run(*lab.inside("ethtool", "-K", link, *OFFLOADS), check=False)


def pids(lab, host):
    """All processes of a host: the kernel is many, and killing the first leaves a running guest."""
    words = {f"umid={host}", f"uml_dir={lab.home}/uml"}
    found = []
    for pid in lab.members():
        try:
            command = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        if words <= set(command):
            found.append(pid)
    return found


def prepare(lab, host, tree):
    """The host's own files as a tar for its second disk: name, keys, agent."""
    folder = lab.home / "hosts" / host
    folder.mkdir(parents=True, exist_ok=True)
    (lab.home / "uml").mkdir(exist_ok=True)
    names = "".join(f"10.98.0.{number} {name}\n" for name, number in HOSTS.items())
    files = {
        "etc/hostname": (f"{host}\n", 0o644),
        "etc/hosts": (f"127.0.0.1 localhost\n::1 localhost\n{CONTROL} control\n{names}", 0o644),
        # There is no resolver in the lab: a name that is not above is unknown at once, and nothing waits for that of the machine that made the image.
        "etc/resolv.conf": ("", 0o644),
        "etc/salt/minion_id": (host, 0o644),
        "etc/salt/pki/minion/minion.pem": ((lab.home / "keys" / f"{host}.pem").read_text(), 0o400),
        "etc/salt/pki/minion/minion.pub": ((lab.home / "keys" / f"{host}.pub").read_text(), 0o644),
        "root/.ssh/authorized_keys": ((lab.home / "keys/ssh.pub").read_text(), 0o600),
        "root/.ssh/id_ed25519": ((lab.home / "keys/ssh").read_text(), 0o600),
        "root/.ssh/config": (
            "Host demo1 demo2\n  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  LogLevel ERROR\n",
            0o600,
        ),
    }
    with tarfile.open(folder / "files.tar", "w") as tar:
        for name, (text, mode) in files.items():
            entry = tarfile.TarInfo(name)
            entry.mode, entry.size, entry.mtime = mode, len(text.encode()), int(time.time())
            tar.addfile(entry, io.BytesIO(text.encode()))
        agent.add(tar, tree)


def _memory(lab):
    """
    The folder of the file that is a host's memory: in this machine's own memory, where there is room and programs may be run from. Of a file on a disk the
    kernel writes back what the host changes, again and again, and has the host wait where the disk is slow. The file has no name, and goes with the host.
    """
    shared = pathlib.Path("/dev/shm")
    if shared.is_dir():
        room = os.statvfs(shared)
        if not room.f_flag & os.ST_NOEXEC and room.f_bavail * room.f_frsize > ROOM:
            return shared
    return lab.home / "uml"


def boot(lab, host, image):
    """Start a host; its disk keeps what it had."""
    if pids(lab, host):
        return
    folder = lab.home / "hosts" / host
    number = HOSTS[host]
    log = open(lab.logs / f"{host}.console", "ab")  # noqa: SIM115 the host writes to it for its life
    process = subprocess.Popen(
        lab.inside(
            "linux.uml",
            f"mem={MEMORY}",
            f"umid={host}",
            f"uml_dir={lab.home}/uml",
            f"ubda={folder}/disk.cow,{image}",
            f"ubdbr={folder}/files.tar",
            "root=/dev/ubda",
            "rw",
            *(f"vec{net}:transport=tap,ifname={host}-{net},depth=128,gro=1" for net in (0, 1)),
            "con=null",
            "con0=null,fd:1",
            "con1=null",
            "ssl=null",
            f"lab.name={host}",
            f"lab.ip=10.98.0.{number}/24,10.98.1.{number}/24",
        ),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
        env={**os.environ, **processor.environment(), "TMPDIR": str(_memory(lab))},
    )
    keep(process)
    log.close()


def crash(lab, host):
    """What a power cut does: all of a host's processes are gone at once."""
    found = pids(lab, host)
    if not found:
        raise LabError(f"{host} does not run: lab boot {host}")
    end(found, 0)
    wait(f"{host} is gone", lambda: not pids(lab, host), 10)
    if shared := _shared(lab, host):
        # It would keep to a host that is gone until it notices.
        run("ssh", *shared, "-O", "exit", host, check=False)
    shutil.rmtree(lab.home / "uml" / host, ignore_errors=True)


def ssh_command(lab, host, *command, options=()):
    """The command that runs a command line on a host as root, with a connection of its own: for what runs long."""
    key, where = lab.home / "keys/ssh", f"root@10.98.0.{HOSTS[host]}"
    return [*lab.inside("ssh", "-i", key, *SSH, *options, where), *command]


def _shared(lab, host):
    """Options for a connection that one command leaves to the next: a new one takes a host of the lab ten times as long."""
    path = f"{lab.home}/uml/{host}.ssh"
    # A socket's path has 107 characters at most, and ssh makes it under a name with 17 more.
    if len(path) > 90:
        return []
    return ["-o", f"ControlPath={path}", "-o", "ControlMaster=auto", "-o", "ControlPersist=60"]


def ssh(lab, host, *command, check=True, **kwargs):
    """Run a command line on a host as root."""
    command = ssh_command(lab, host, *command, options=_shared(lab, host))
    return run(*command, check=check, **kwargs)


def answers(lab, host):
    """Whether the host has started all that it starts."""
    said = ssh(
        lab, host, "test -e /etc/slapos-ha-lab && systemctl is-system-running || true", check=False
    )
    return said.stdout.strip().splitlines()[-1:] in (["running"], ["degraded"])


# What a host says of itself when a test has failed: the lab is gone when somebody reads it.
EVIDENCE = (
    "uptime; tail -n +3 /proc/drbd; om mon | tail -n 4; grep ' /srv' /proc/mounts; "
    "dmesg | grep -i drbd | tail -n 10; journalctl -q -n 8 --no-pager -o cat -u opensvc-agent"
)


def evidence(lab):
    """The state of both hosts as a text: DRBD, agent, mounts, the last lines of kernel and agent."""
    told = []
    for host in HOSTS:
        said = ssh(lab, host, EVIDENCE, check=False).stdout if pids(lab, host) else "does not run"
        told.append(f"== {host}\n{said.strip()}")
    return "\n".join(told)


def busy(lab, host):
    """The share (0 to 1) of the last three seconds that a host has worked: a new one has its agent's first tasks to do, half a minute after it is up."""
    said = ssh(lab, host, "head -n 1 /proc/stat; sleep 3; head -n 1 /proc/stat").stdout
    # user nice system idle iowait …
    before, after = ([int(word) for word in line.split()[1:]] for line in said.splitlines())
    spent = [late - early for early, late in zip(before, after, strict=True)]
    return 1 - sum(spent[3:5]) / sum(spent)


def resident(lab, host):
    """Memory in MiB that the host takes from this machine (its guest memory is one shared file)."""
    biggest = 0
    for pid in pids(lab, host):
        try:
            text = pathlib.Path(f"/proc/{pid}/status").read_text()
        except OSError:
            continue
        for line in text.splitlines():
            if line.startswith("VmRSS:"):
                biggest = max(biggest, int(line.split()[1]) >> 10)
    return biggest
