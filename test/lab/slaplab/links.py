"""Cutting what the two hosts hear of each other, and mending it. Only the lab's own bridges are touched."""

from .base import HOSTS, LabError

# The number of the bridge, and of a host's tap on it: the front has heartbeats (and Salt, ssh, re6st), the back DRBD's replication alone.
NETWORKS = {"heartbeat": 0, "replication": 1}


def cut(lab, host, which):
    """Let a host and the other hear each other no more on one network; the control node still reaches both."""
    _isolate(lab, host, which, "on")


def mend(lab, host, which):
    """Undo what `cut` did; of a network that is whole it changes nothing."""
    _isolate(lab, host, which, "off")


def is_cut(lab, which):
    """Whether the hosts are cut off each other on a network."""
    shown = lab.ip("-d", "link", "show", "dev", _tap(next(iter(HOSTS)), which)).stdout
    return " isolated on " in shown


def _tap(host, which):
    if host not in HOSTS or which not in NETWORKS:
        raise LabError(
            f"there is no link {which!r} of {host!r}; the hosts are {', '.join(HOSTS)}, the links {', '.join(NETWORKS)}"
        )
    return f"{host}-{NETWORKS[which]}"


def _isolate(lab, host, which, word):
    # Isolated ports of a bridge hear the bridge itself and those that are not isolated, but not each other: with two hosts both ends are marked.
    for name in dict.fromkeys((host, *HOSTS)):
        lab.ip("link", "set", "dev", _tap(name, which), "type", "bridge_slave", "isolated", word)
