"""Where the stand-in lives: file locations, the node's name, its settings and the guard that keeps it in the lab."""

import os
import sys

LAB_MARKER = "/etc/slapos-ha-lab"
SETTINGS_FILE = "/etc/slapos-ha-standin.conf"

# Seconds unless said otherwise. The real agent's value is in the comment where the stand-in is faster.
DEFAULT_SETTINGS = {
    "rejoin_delay": 5.0,  # the real agent needs about 25 s to leave init and rejoin in the lab's hosts
    "tick": 1.0,
    "hb_interval": 5.0,
    "hb_timeout": 15.0,
    "hb_port": 10000.0,
    "listener_port": 1214.0,
    "status_interval": 600.0,
    "lock_timeout": 60.0,
}


def root():
    """The fake root of a contract test, or an empty string in the lab."""
    return os.environ.get("STANDIN_ROOT", "").rstrip("/")


def fake():
    """Whether the process must not touch the system it runs on."""
    return bool(root())


def rooted(path):
    return root() + path


def nodename():
    if fake() and os.environ.get("STANDIN_NODE"):
        return os.environ["STANDIN_NODE"]
    return os.uname().nodename.lower()


def etc(*parts):
    return os.path.join(rooted("/etc/opensvc"), *parts)


def var(*parts):
    return os.path.join(rooted("/var/lib/opensvc"), *parts)


def log_file(*parts):
    return os.path.join(rooted("/var/log/opensvc"), *parts)


def run_dir(*parts):
    """Volatile state: gone after a reboot, as the flags that live there must be."""
    return os.path.join(rooted("/dev/shm/opensvc"), *parts)


def cluster_conf():
    return etc("cluster.conf")


def node_conf():
    return etc("node.conf")


def socket_path():
    return var("lsnr", "lsnr.sock")


def pid_file():
    return var("osvcd.pid")


def boot_id():
    """A text that changes with each boot of the machine."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
            return stream.read().strip()
    except OSError:
        return "unknown"


def makedirs(path, mode=0o755):
    os.makedirs(path, mode=mode, exist_ok=True)
    return path


def write_atomic(path, data, mode=0o644, mtime=None):
    """Replace a file so that a reader, or a crash, sees the old or the new content and nothing between."""
    makedirs(os.path.dirname(path))
    temporary = f"{path}.{os.getpid()}.tmp"
    payload = data if isinstance(data, bytes) else data.encode()
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        os.fchmod(descriptor, mode)
        os.write(descriptor, payload)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if mtime is not None:
        os.utime(temporary, (mtime, mtime))
    os.replace(temporary, path)


def settings():
    """The settings of the lab: defaults, then the file, then STANDIN_<NAME> of the environment."""
    values = dict(DEFAULT_SETTINGS)
    try:
        with open(rooted(SETTINGS_FILE), encoding="utf-8") as stream:
            for line in stream:
                name, separator, value = line.partition("=")
                if separator and name.strip() in values:
                    values[name.strip()] = float(value)
    except FileNotFoundError:
        pass
    for name in values:
        override = os.environ.get(f"STANDIN_{name.upper()}")
        if override:
            values[name] = float(override)
    return values


def guard():
    """Refuse to run anywhere but in the lab, or under a contract test's fake root."""
    if fake() or os.path.exists(LAB_MARKER):
        return
    sys.stderr.write(
        f"this is the slapos_ha lab stand-in, not the OpenSVC agent: {LAB_MARKER} is missing, refusing to run\n"
    )
    sys.exit(1)


def _life(pid):
    """A text that no other process has: a pid that a file on the disk names is somebody else's after a boot."""
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stream:
        return f"{boot_id()} {stream.read().rpartition(')')[2].split()[19]}"


def write_pid_file():
    """This process is the daemon. What is its own alone is in a second file, as the agent keeps its daemon's command line."""
    write_atomic(f"{pid_file()}.args", f"{_life(os.getpid())}\n")
    write_atomic(pid_file(), f"{os.getpid()}\n")


def daemon_pid():
    """The process id of the daemon, or None where it does not run."""
    try:
        with open(pid_file(), encoding="ascii") as stream:
            pid = int(stream.read())
        with open(f"{pid_file()}.args", encoding="ascii") as stream:
            return pid if _life(pid) == stream.read().strip() else None
    except (OSError, ValueError):
        return None
