"""The cluster's configuration: who is in it, what it is called, how its nodes hear each other."""

import os

from . import conf, env


class Cluster:
    """cluster.conf as this node reads it now."""

    def __init__(self, sections=None):
        self.sections = conf.load(env.cluster_conf()) if sections is None else sections
        self.settings = env.settings()
        builtins = {"nodename": env.nodename()}
        self.resolver = conf.Resolver(self.sections, builtins, env.nodename(), self.nodes)

    def get(self, section, keyword, default=None, node=None):
        return self.resolver.get(section, keyword, default, node=node)

    @property
    def name(self):
        return self.sections.get("cluster", {}).get("name") or "default"

    @property
    def id(self):
        return self.sections.get("cluster", {}).get("id")

    @property
    def secret(self):
        return self.sections.get("cluster", {}).get("secret") or ""

    @property
    def nodes(self):
        return (self.sections.get("cluster", {}).get("nodes") or env.nodename()).split()

    @property
    def peers(self):
        return [node for node in self.nodes if node != env.nodename()]

    def heartbeats(self):
        """{heartbeat: {"timeout", "interval", "port", "addr"}} as this node receives it."""
        found = {}
        for section, keywords in self.sections.items():
            if not section.startswith("hb#") or keywords.get("type", "unicast") != "unicast":
                continue
            found[section] = {
                "timeout": conf.duration(self.get(section, "timeout"), self.settings["hb_timeout"]),
                "interval": conf.duration(
                    self.get(section, "interval"), self.settings["hb_interval"]
                ),
                "port": int(self.get(section, "port") or self.settings["hb_port"]),
                "addr": self.bind_address(section),
            }
        return found

    def bind_address(self, section):
        address = self.get(section, "addr")
        interface = self.get(section, "intf")
        if not address and interface:
            address = interface_address(interface)
        return address or "::"

    def target(self, section, node):
        """Where a peer listens for a heartbeat: (address, port)."""
        address = self.get(section, "addr", node=node)
        port = int(self.get(section, "port", node=node) or self.settings["hb_port"])
        return (address if address not in (None, "::", "0.0.0.0") else node), port

    def listener_target(self, node):
        """Where the daemon of a node is asked: (address, port)."""
        port = int(self.get("listener", "port", node=node) or self.settings["listener_port"])
        return self.get("listener", "addr", node=node) or node, port

    @property
    def listener_port(self):
        return int(self.get("listener", "port") or self.settings["listener_port"])


def interface_address(name):
    """The first IPv4 address of a network interface, or None."""
    import fcntl
    import socket
    import struct

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            answer = fcntl.ioctl(probe.fileno(), 0x8915, struct.pack("256s", name[:15].encode()))
        except OSError:
            return None
    return socket.inet_ntoa(answer[20:24])


def ensure():
    """Give a node that is in no cluster one of its own; what is set already stays."""
    import secrets
    import uuid

    sections = conf.load(env.cluster_conf())
    before = {name: dict(keywords) for name, keywords in sections.items()}
    defaults = {
        "id": str(uuid.uuid1()),
        "nodes": env.nodename(),
        "secret": secrets.token_hex(16),
        "name": "default",
    }
    sections = {"DEFAULT": {"id": str(uuid.uuid4())}, **sections}
    section = sections.setdefault("cluster", {})
    for keyword, value in defaults.items():
        section.setdefault(keyword, value)
    sections["DEFAULT"].setdefault("id", str(uuid.uuid4()))
    if sections != before:
        conf.save(env.cluster_conf(), sections)
    elif os.stat(env.cluster_conf()).st_mode & 0o077:
        os.chmod(env.cluster_conf(), 0o600)
