"""``om daemon``."""

import os
import sys
import time

from . import conf, env, render, wire
from .cli_node import comm_error, daemon_data
from .cluster import Cluster
from .errors import Failed
from .log import Log

UNIT = "opensvc-agent.service"
# Set by the unit: what systemd starts must not ask systemd to start it.
IN_UNIT = "STANDIN_UNIT"


def run(action, options):
    return ACTIONS[action](options)


def _by_systemd():
    return not env.fake() and not os.environ.get(IN_UNIT) and os.path.isdir("/run/systemd/system")


def _systemctl(*words):
    import subprocess

    return subprocess.run(["systemctl", *words], check=False).returncode


def _active():
    import subprocess

    probe = subprocess.run(["systemctl", "is-active", "--quiet", UNIT], check=False)
    return probe.returncode == 0


def _start(options):
    if env.daemon_pid():
        Log().info("daemon is already started")
        return 0
    if options.foreground:
        from .daemon import start

        return start(foreground=True)
    if _by_systemd():
        _systemctl("reset-failed", UNIT)
        return _systemctl("restart", UNIT)
    from .daemon import start

    return start()


def _stop(options):
    if _by_systemd() and _active():
        return _systemctl("stop", UNIT)
    pid = env.daemon_pid()
    if pid is None:
        return 0
    try:
        wire.local({"action": "stop"})
    except OSError as error:
        comm_error(error)
    deadline = time.monotonic() + 60
    while env.daemon_pid() == pid:
        if time.monotonic() >= deadline:
            raise Failed(f"the daemon (pid {pid}) does not stop")
        time.sleep(0.1)
    return 0


def _restart(options):
    if _by_systemd():
        if not _active():
            _stop(options)
        return _systemctl("restart", UNIT)
    return _stop(options) or _start(options)


def _running(options):
    return 0 if env.daemon_pid() else 1


def _status(options):
    data = daemon_data()
    if data is None:
        # The real one says so and exits 0 as well.
        return 0
    if options.format == "json":
        print(render.to_json(data))
    elif options.format:
        print("\n".join(render.flatten(data)))
    else:
        sys.stdout.write(render.cluster(data) + "\n")
    return 0


def _stats(options):
    return 0


def _shutdown(options):
    """Stop the instances of this node, standby resources too, then the daemon."""
    from . import paths
    from .instance import Instance

    for path in (*paths.select("*/svc/*"), *paths.select("*/vol/*", "vol")):
        Instance(path, {"origin": "daemon"}).action("shutdown")
    env.write_atomic(env.var("last_shutdown"), "")
    return _stop(options)


def _join(options):
    if not options.secret:
        raise Failed("--secret must be set")
    return _enter(options, options.secret)


def _rejoin(options):
    return _enter(options, Cluster().secret)


def _enter(options, secret):
    """Become a member of another node's cluster; its configuration replaces ours."""
    log = Log()
    member = options.node
    if not member:
        raise Failed("--node must be set")
    frozen = env.var("node", "frozen")
    already = os.path.exists(frozen)
    if already:
        log.info("local node is already frozen")
    else:
        env.write_atomic(frozen, "")
        log.info("freeze local node")
    try:
        request = {"action": "join", "node": env.nodename()}
        answer = wire.remote(*Cluster().listener_target(member), secret, request)
    except (OSError, Failed) as error:
        if not already:
            os.unlink(frozen)
        raise Failed(f"join node {member} failed: {error}") from None
    log.info(f"join node {member}")
    sections = conf.parse(answer["data"])
    sections.setdefault("cluster", {})["secret"] = secret
    conf.save(env.cluster_conf(), sections, answer["mtime"])
    try:
        wire.local({"action": "wake"}, 5)
    except OSError:
        pass
    if already:
        log.warning("local node is left frozen as it was already before join")
        return 0
    os.unlink(frozen)
    log.info("thaw local node")
    return 0


def _leave(options):
    """Leave the cluster: the node stays frozen, so that nothing it ran is started twice."""
    log = Log()
    cluster = Cluster()
    frozen = env.var("node", "frozen")
    if os.path.exists(frozen):
        log.info("local node is already frozen")
    else:
        env.write_atomic(frozen, "")
        log.info("freeze local node")
    log.warning("DO NOT UNFREEZE before verifying split services won't double-start")
    for node in cluster.peers:
        try:
            wire.remote(
                *cluster.listener_target(node),
                cluster.secret,
                {"action": "leave", "node": env.nodename()},
            )
            log.info(f"leave node {node}")
        except (OSError, Failed):
            log.error(f"leave node {node} failed")
    sections = {
        name: keywords
        for name, keywords in cluster.sections.items()
        if name not in ("cluster", "DEFAULT") and not name.startswith(("hb#", "arbitrator#"))
    }
    conf.save(env.cluster_conf(), sections)
    from .cluster import ensure

    ensure()
    return 0


ACTIONS = {
    "start": _start,
    "stop": _stop,
    "restart": _restart,
    "running": _running,
    "status": _status,
    "stats": _stats,
    "shutdown": _shutdown,
    "join": _join,
    "rejoin": _rejoin,
    "leave": _leave,
}
