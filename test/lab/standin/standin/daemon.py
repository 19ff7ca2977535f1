"""The daemon: one process, one loop. Actions are its children, so that the loop never waits."""

import contextlib
import json
import os
import selectors
import signal
import socket
import sys
import time
import traceback

from . import BANNER, VERSION, conf, env, requests, wire
from .cluster import Cluster, ensure
from .heartbeat import Heartbeats
from .instance import Instance
from .jobs import Jobs
from .log import Log
from .monitor import Monitor


class Connection:
    """A request on its way in, its answer on its way out."""

    def __init__(self, sock, kind, peer):
        self.sock = sock
        self.kind = kind
        self.peer = peer
        self.data = b""
        self.answer = None
        self.since = time.monotonic()


class Daemon:
    def __init__(self, foreground=False):
        self.log = Log(console=foreground, file=env.log_file("node.log"))
        self.started = time.time()
        self.selector = selectors.DefaultSelector()
        self.listeners = {}
        self.connections = {}
        self.sessions = {"accepted": 0, "auth_validated": 0, "rx": 0, "tx": 0}
        self.stopping = None
        self.node = env.nodename()
        ensure()
        self.cluster = Cluster()
        self.cluster_mtime = conf.mtime(env.cluster_conf())
        self.jobs = Jobs(self)
        self.monitor = Monitor(self)
        self.heartbeats = Heartbeats(self)

    # Life --------------------------------------------------------------------------------------

    def run(self):
        self.log.info(BANNER)
        self.log.info(f"daemon started, version {VERSION}, pid {os.getpid()}")
        self.wake_read, self.wake_write = socket.socketpair()
        for end in (self.wake_read, self.wake_write):
            end.setblocking(False)
        signal.set_wakeup_fd(self.wake_write.fileno())
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: self.stop())
        signal.signal(signal.SIGINT, lambda *_: self.stop())
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self.selector.register(self.wake_read, selectors.EVENT_READ, ("wake", None))
        self.open_local()
        self.open_listener()
        self.heartbeats.configure()
        self.monitor.begin()
        deadline = 0.0
        try:
            while True:
                pause = max(0.0, deadline - time.monotonic())
                for key, mask in self.selector.select(min(pause, self.heartbeats.pause())):
                    self.handle(key, mask)
                finished = self.jobs.reap()
                if finished or self.monitor.woken or time.monotonic() >= deadline:
                    self.monitor.woken = False
                    self.turn()
                    deadline = time.monotonic() + self.cluster.settings["tick"]
                self.heartbeats.beat()
                if self.stopping and time.monotonic() >= self.stopping:
                    break
        finally:
            self.close()

    def turn(self):
        """One look at everything; an error in it is said and the daemon goes on."""
        try:
            if conf.mtime(env.cluster_conf()) != self.cluster_mtime:
                self.reconfigure()
            self.monitor.turn()
            now = time.monotonic()
            for connection in [one for one in self.connections.values() if now - one.since > 60]:
                self.drop(connection)
        except Exception:
            self.log.error(traceback.format_exc())

    def reconfigure(self):
        self.cluster_mtime = conf.mtime(env.cluster_conf())
        before = self.cluster.listener_target(self.node)
        self.cluster = Cluster()
        self.log.info(
            f"cluster configuration: name {self.cluster.name}, nodes {' '.join(self.cluster.nodes)}"
        )
        if self.cluster.listener_target(self.node) != before:
            self.open_listener()
        self.heartbeats.configure()

    def stop(self):
        """Tell the peers to wait for us, then end; the instances are left as they are."""
        if self.stopping:
            return
        self.log.info("daemon stop requested")
        self.monitor.set_node(status="maintenance")
        self.monitor.turn()
        self.heartbeats.force()
        self.stopping = time.monotonic() + 0.5

    def close(self):
        # Actions under way finish by themselves: cutting a move in two is worse than outliving the daemon.
        self.log.info("daemon stopped")
        for path in (env.socket_path(), env.pid_file()):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    # Sockets -----------------------------------------------------------------------------------

    def open_local(self):
        path = env.socket_path()
        env.makedirs(os.path.dirname(path), 0o700)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.bind(path)
        os.chmod(path, 0o600)
        self.listen("local", sock)

    def open_listener(self):
        self.unlisten("listener")
        try:
            address = self.cluster.get("listener", "addr") or "::"
            self.listen("listener", wire.tcp_socket(address, self.cluster.listener_port))
        except OSError as error:
            self.log.error(f"listener: {error}")

    def listen(self, name, sock):
        sock.setblocking(False)
        sock.listen(32)
        self.listeners[name] = sock
        self.selector.register(sock, selectors.EVENT_READ, ("accept", name))

    def unlisten(self, name):
        sock = self.listeners.pop(name, None)
        if sock is not None:
            self.selector.unregister(sock)
            sock.close()

    def handle(self, key, mask):
        what, which = key.data
        if what == "wake":
            with contextlib.suppress(BlockingIOError):
                while self.wake_read.recv(4096):
                    pass
        elif what == "accept":
            self.accept(key.fileobj, which)
        elif what == "beat":
            self.heartbeats.send(which)
        elif mask & selectors.EVENT_READ:
            self.receive(which)
        else:
            self.answer(which)

    def accept(self, listener, name):
        try:
            sock, peer = listener.accept()
        except OSError:
            return
        sock.setblocking(False)
        connection = Connection(sock, name, peer)
        self.connections[sock.fileno()] = connection
        self.sessions["accepted"] += 1
        self.selector.register(sock, selectors.EVENT_READ, ("connection", connection))

    def receive(self, connection):
        try:
            chunk = connection.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            self.drop(connection)
            return
        if chunk:
            connection.data += chunk
            if len(connection.data) > wire.LIMIT:
                self.drop(connection)
            return
        self.sessions["rx"] += len(connection.data)
        if connection.kind.startswith("hb:"):
            self.heartbeats.receive(connection.data)
            self.drop(connection)
            return
        connection.answer = self.serve(connection)
        self.selector.modify(connection.sock, selectors.EVENT_WRITE, ("connection", connection))

    def serve(self, connection):
        """The answer to a whole request, as bytes."""
        try:
            if connection.kind == "local":
                return json.dumps(requests.local(self, json.loads(connection.data))).encode()
            request = wire.unseal(self.cluster.secret, connection.data)
        except wire.Refused as error:
            self.log.warning(f"request from {connection.peer[0]} refused: {error}")
            return b"refused"
        except Exception as error:
            self.log.error(traceback.format_exc())
            return json.dumps({"status": 1, "error": str(error)}).encode()
        self.sessions["auth_validated"] += 1
        try:
            answer = requests.remote(self, request)
        except Exception as error:
            self.log.error(traceback.format_exc())
            answer = {"status": 1, "error": str(error)}
        return wire.seal(self.cluster.secret, answer)

    def answer(self, connection):
        try:
            sent = connection.sock.send(connection.answer)
        except BlockingIOError:
            return
        except OSError:
            self.drop(connection)
            return
        self.sessions["tx"] += sent
        connection.answer = connection.answer[sent:]
        if not connection.answer:
            self.drop(connection)

    def drop(self, connection):
        if self.connections.pop(connection.sock.fileno(), None) is not None:
            self.selector.unregister(connection.sock)
            connection.sock.close()

    # Data --------------------------------------------------------------------------------------

    def status(self):
        """What ``daemon status --format json`` shows."""
        ident = os.getpid()
        thread = {
            "configured": self.started,
            "created": self.started,
            "ident": ident,
            "state": "running",
        }
        return {
            "cluster": {
                "id": self.cluster.id,
                "name": self.cluster.name,
                "nodes": self.cluster.nodes,
            },
            "daemon": {"ident": ident, "state": "running"},
            **self.heartbeats.status(thread),
            "listener": {
                **thread,
                "config": {
                    "addr": self.cluster.get("listener", "addr") or "",
                    "port": self.cluster.listener_port,
                },
                "stats": {"sessions": {**self.sessions, "alive": {}, "clients": {}}},
                "tid": ident,
            },
            "monitor": {**thread, **self.monitor.status(), "tid": ident},
            "scheduler": {**thread, "delayed": [], "running": self.jobs.count("run"), "tid": ident},
        }

    def instance(self, path, **options):
        avail = self.monitor.aggregates.get(path, {}).get("avail")
        return Instance(
            path, {**options, "origin": "daemon"}, avail, console=False, cluster=self.cluster
        )


def start(foreground=False):
    """Become the daemon, or a child of it: returns once its socket answers."""
    if foreground:
        env.write_pid_file()
        Daemon(foreground=True).run()
        return 0
    ready, announce = os.pipe()
    if os.fork():
        os.close(announce)
        with os.fdopen(ready) as stream:
            return 0 if stream.read() == "ready" else 1
    os.close(ready)
    os.setsid()
    if os.fork():
        os._exit(0)
    code = 1
    try:
        env.makedirs(env.log_file())
        os.chdir("/")
        sink = os.open(env.log_file("daemon.out"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        null = os.open(os.devnull, os.O_RDONLY)
        for target, source in ((0, null), (1, sink), (2, sink)):
            os.dup2(source, target)
        env.write_pid_file()
        daemon = Daemon()
        first = daemon.open_local

        def opened():
            first()
            os.write(announce, b"ready")
            os.close(announce)

        daemon.open_local = opened
        daemon.run()
        code = 0
    except BaseException:
        traceback.print_exc(file=sys.stderr)
    os._exit(code)
