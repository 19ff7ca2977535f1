"""``om node`` and ``om mon``."""

import os
import sys
import time

from . import conf, env, paths, render, wire
from .cluster import Cluster
from .errors import Failed
from .log import Log


def run(action, options):
    return ACTIONS[action](options)


def comm_error(error):
    """How the agent says that its daemon cannot be asked."""
    reason = f"[Errno {error.errno}] {error.strerror}" if error.errno else str(error)
    Log().error(f"{env.socket_path()} comm error while connecting: {reason}")


def daemon_data():
    """The daemon's data, None with the reason said when it cannot be asked."""
    try:
        return wire.local({"action": "status"})
    except OSError as error:
        comm_error(error)
        return None


def mon(options):
    data = daemon_data()
    if data is None:
        return 1
    selector = options.service
    found = paths.select(selector) if selector else None
    # Whatever the format asked for: the real one prints text too.
    sys.stdout.write(render.cluster(data, found, selector or "*/svc/*"))
    return 0


def _freeze(options, target="frozen"):
    cluster = Cluster()
    nodes = cluster.nodes if options.node in ("*", None) else options.node.split(",")
    if options.local:
        nodes = [env.nodename()]
    request = {"action": "node", "target": target, "local": bool(options.local or options.node)}
    if not request["local"]:
        nodes = [env.nodename()]
    for node in nodes:
        try:
            if node == env.nodename():
                wire.local(request)
            else:
                wire.remote(*cluster.listener_target(node), cluster.secret, request)
        except OSError as error:
            if node != env.nodename():
                raise Failed(f"{node}: {error}") from None
            comm_error(error)
            return 1
    verb = "freeze" if target == "frozen" else "thaw"
    Log().info(f"{verb} node" if request["local"] else f"{verb} action requested")
    if options.wait and options.time:
        return wait_for(f"monitor.frozen={target}", conf.duration(options.time))
    return 0


def _thaw(options):
    return _freeze(options, "thawed")


def _ls(options):
    nodes = Cluster().nodes
    if options.node and options.node != "*":
        nodes = [node for node in nodes if node in options.node.split(",")]
    if options.format:
        print(render.to_json(nodes))
    elif nodes:
        print("\n".join(nodes))
    return 0


def wait_for(condition, seconds):
    """Wait until the daemon's data meet a condition; 1 and ``timeout`` when they do not in time."""
    deadline = None if seconds is None else time.monotonic() + seconds
    while True:
        try:
            if wire.local({"action": "wait", "condition": condition}).get("satisfied"):
                return 0
        except OSError as error:
            comm_error(error)
            return 1
        if deadline is not None and time.monotonic() >= deadline:
            sys.stderr.write("timeout\n")
            return 1
        time.sleep(0.25)


def _wait(options):
    return wait_for(options.filter or "", conf.duration(options.duration))


def _get(options):
    sections = conf.load(env.node_conf())
    if not options.kw and not options.param:
        raise Failed("no parameter. set --param")
    keyword = (options.kw or [options.param])[0]
    section, separator, option = keyword.partition(".")
    if not separator:
        raise Failed("malformed parameter. format as 'section.key'")
    print(sections.get(section, {}).get(option))
    return 0


def _set(options):
    sections = conf.load(env.node_conf())
    expressions = options.kw or [f"{options.param}={options.value}"]
    if conf.apply_expressions(sections, expressions):
        conf.save(env.node_conf(), sections)
    return 0


def _unset(options):
    sections = conf.load(env.node_conf())
    if conf.unset(sections, options.kw or [options.param]):
        conf.save(env.node_conf(), sections)
    return 0


def _print_config(options):
    if options.format:
        data = {**conf.load(env.node_conf()), "metadata": {"kind": "node"}}
        print(
            render.to_json(data, sort=False)
            if options.format == "json"
            else "\n".join(render.flatten(data))
        )
    elif os.path.exists(env.node_conf()):
        with open(env.node_conf(), encoding="utf-8") as stream:
            sys.stdout.write(stream.read())
    return 0


def _nothing(options):
    """Inventories that go to a collector the lab does not have."""
    return 0


ACTIONS = {
    "freeze": _freeze,
    "thaw": _thaw,
    "ls": _ls,
    "wait": _wait,
    "get": _get,
    "eval": _get,
    "set": _set,
    "unset": _unset,
    "print config": _print_config,
    "validate config": _nothing,
    "print schedule": _nothing,
    "print devs": _nothing,
    "pushasset": _nothing,
    "checks": _nothing,
}
