"""The links between the two hosts, each cut without the other: what the lab itself has with them (ssh, Salt) stays."""

from .base import HOSTS

# Which of a host's two networks carries what: see hosts.network_up.
NETWORKS = {"heartbeat": 0, "replication": 1}


def cut(lab, host, which):
    """Nothing passes between a host and the other any more; neither is told. ``which``: replication or heartbeat."""
    _isolate(lab, which, "on")


def mend(lab, host, which):
    """What `cut` cut carries again."""
    _isolate(lab, which, "off")


def _isolate(lab, which, state):
    # Ports of a bridge that are isolated do not reach each other, and still reach the bridge, which is the control node.
    for name in HOSTS:
        lab.ip(
            "link", "set", "dev", f"{name}-{NETWORKS[which]}", "type", "bridge_slave", "isolated", state
        )  # fmt: skip
