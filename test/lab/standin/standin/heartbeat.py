"""Heartbeats: each carries the whole state of its sender, sealed, over a connection of its own."""

import contextlib
import selectors
import socket
import time

from . import wire

NAME_CACHE = 30.0
SEND_TIMEOUT = 5.0
MINIMUM_GAP = 0.2


class Sender:
    """A beat on its way to a peer."""

    def __init__(self, sock, heartbeat, peer, data):
        self.sock = sock
        self.heartbeat = heartbeat
        self.peer = peer
        self.data = data
        self.since = time.monotonic()


class Heartbeats:
    def __init__(self, daemon):
        self.daemon = daemon
        self.config = {}
        self.heard = {}
        self.sent = {}
        self.stats = {}
        self.senders = set()
        self.names = {}
        self.next = 0.0
        self.last = 0.0
        self.version = None

    def configure(self):
        """Take over the cluster's heartbeats as they are now."""
        daemon = self.daemon
        config = daemon.cluster.heartbeats()
        wanted = {
            f"hb:[{one['addr']}]:{one['port']}": (one["addr"], one["port"])
            for one in config.values()
        }
        for name in [
            name for name in daemon.listeners if name.startswith("hb:") and name not in wanted
        ]:
            daemon.unlisten(name)
        for name, (address, port) in wanted.items():
            if name in daemon.listeners:
                continue
            try:
                daemon.listen(name, wire.tcp_socket(address, port))
            except OSError as error:
                daemon.log.error(f"heartbeat {name}: {error}")
        self.config = config
        self.configured = time.time()
        for name in config:
            self.stats.setdefault(name, {"rx": [0, 0, 0], "tx": [0, 0, 0], "since": time.time()})
        self.force()

    def force(self):
        self.next = 0.0
        self.version = None

    def pause(self):
        """Seconds until something has to be sent."""
        return max(0.0, min(self.next - time.monotonic(), 1.0)) if self.config else 1.0

    def interval(self):
        return min(one["interval"] for one in self.config.values())

    def beat(self):
        """Send when it is time, and at once when there is news."""
        now = time.monotonic()
        for sender in [one for one in self.senders if now - one.since > SEND_TIMEOUT]:
            self.failed(sender)
        if not self.config or not self.daemon.cluster.peers:
            return
        news = self.daemon.monitor.version != self.version
        if now < self.next and not (news and now - self.last >= MINIMUM_GAP):
            if news:
                self.next = min(self.next, self.last + MINIMUM_GAP)
            return
        self.version = self.daemon.monitor.version
        self.next = now + self.interval()
        self.last = now
        for name in self.config:
            message = {
                "heartbeat": name,
                "node": self.daemon.node,
                "cluster": self.daemon.cluster.name,
                "data": self.daemon.monitor.nodes.get(self.daemon.node),
            }
            data = wire.seal(self.daemon.cluster.secret, message)
            for peer in self.daemon.cluster.peers:
                self.connect(name, peer, data)

    def connect(self, name, peer, data):
        if any(one.heartbeat == name and one.peer == peer for one in self.senders):
            return
        address = self.resolve(*self.daemon.cluster.target(name, peer))
        if address is None:
            self.stats[name]["tx"][2] += 1
            return
        family, target = address
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setblocking(False)
        sock.connect_ex(target)
        sender = Sender(sock, name, peer, data)
        self.senders.add(sender)
        self.daemon.selector.register(sock, selectors.EVENT_WRITE, ("beat", sender))

    def resolve(self, host, port):
        """An address of a name, remembered for a while: a beat must not wait for a resolver each time."""
        known = self.names.get((host, port))
        if known and time.monotonic() - known[0] < NAME_CACHE:
            return known[1]
        try:
            family, _, _, _, target = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            answer = (family, target)
        except OSError:
            answer = None
        self.names[(host, port)] = (time.monotonic(), answer)
        return answer

    def send(self, sender):
        try:
            sent = sender.sock.send(sender.data)
        except BlockingIOError:
            return
        except OSError:
            self.failed(sender)
            return
        sender.data = sender.data[sent:]
        if sender.data:
            return
        stats = self.stats[sender.heartbeat]["tx"]
        stats[0] += 1
        stats[1] += sent
        self.sent[(sender.heartbeat, sender.peer)] = time.time()
        self.close(sender)

    def failed(self, sender):
        stats = self.stats.get(sender.heartbeat)
        if stats:
            stats["tx"][2] += 1
        self.close(sender)

    def close(self, sender):
        if sender in self.senders:
            self.senders.discard(sender)
            self.daemon.selector.unregister(sender.sock)
            with contextlib.suppress(OSError):
                sender.sock.shutdown(socket.SHUT_WR)
            sender.sock.close()

    def receive(self, data):
        try:
            message = wire.unseal(self.daemon.cluster.secret, data)
            name, node = message["heartbeat"], message["node"]
        except (wire.Refused, KeyError, ValueError):
            for stats in self.stats.values():
                stats["rx"][2] += 1
            return
        if name not in self.config or node not in self.daemon.cluster.peers:
            return
        if message["cluster"] != self.daemon.cluster.name:
            self.stats[name]["rx"][2] += 1
            return
        stats = self.stats[name]["rx"]
        stats[0] += 1
        stats[1] += len(data)
        self.heard[(name, node)] = time.time()
        if message["data"]:
            self.daemon.monitor.hear(node, message["data"])

    def beating(self, name, node, now=None):
        last = self.heard.get((name, node))
        return last is not None and (now or time.time()) - last <= self.config[name]["timeout"]

    def alive(self, node):
        """Whether any heartbeat hears a peer."""
        return any(self.beating(name, node) for name in self.config)

    def status(self, thread):
        data = {}
        for name, config in self.config.items():
            for side, times in (("rx", self.heard), ("tx", self.sent)):
                peers = {self.daemon.node: {}}
                for node in self.daemon.cluster.peers:
                    last = times.get((name, node))
                    fresh = last is not None and time.time() - last <= config["timeout"]
                    peers[node] = {"beating": fresh, "last": last or 0}
                beats, size, errors = self.stats[name][side]
                data[f"{name}.{side}"] = {
                    **thread,
                    "config": (
                        {
                            "addr": config["addr"],
                            "port": config["port"],
                            "timeout": int(config["timeout"]),
                        }
                        if side == "rx"
                        else {}
                    ),
                    "configured": self.configured,
                    "peers": peers,
                    "stats": {
                        "beats": beats,
                        "bytes": size,
                        "errors": errors,
                        "since": self.stats[name]["since"],
                    },
                    "tid": thread["ident"],
                }
        return data
