"""What the daemon answers: to the local command line, and to the daemons of the cluster."""

import os

from . import conf, env, paths, waits
from .orchestrate import Smon, candidates

TARGETS = {
    "aborted": ("svc", "vol", "cfg", "sec", "usr"),
    "deleted": ("svc", "vol", "cfg", "sec", "usr"),
    "frozen": ("svc", "vol"),
    "placed": ("svc",),
    "placed@": ("svc", "vol"),
    "provisioned": ("svc", "vol"),
    "purged": ("svc", "vol", "cfg", "sec", "usr"),
    "restarted": ("svc", "vol"),
    "shutdown": ("svc", "vol"),
    "started": ("svc", "vol"),
    "stopped": ("svc", "vol"),
    "thawed": ("svc", "vol"),
    "unprovisioned": ("svc", "vol"),
}


class Rejected(Exception):
    """The request is refused; the text says why."""


class Already(Exception):
    """There is nothing to do; the text says so."""


def local(daemon, request):
    """Answer the command line of this node."""
    action = request["action"]
    monitor = daemon.monitor
    path = request.get("path")
    if action == "status":
        monitor.wake()
        return daemon.status() if path is None else {}
    if action == "wake":
        monitor.wake()
        return {}
    if action == "ping":
        return {"pid": os.getpid()}
    if action == "object":
        return _object(daemon, path)
    if action == "expect":
        return expect(daemon, path, request["target"])
    if action == "clear":
        return {"info": monitor.clear(path)}
    if action == "monitor":
        if path in monitor.objects:
            monitor.set_smon(
                path, Smon(status=request["status"], local_expect=request.get("local_expect"))
            )
        return {}
    if action == "wait":
        return {"satisfied": waits.satisfied(daemon.status(), request["condition"])}
    if action == "node":
        return _node(daemon, request)
    if action == "stop":
        daemon.stop()
        return {}
    return {"status": 1, "error": f"unknown request {action}"}


def remote(daemon, request):
    """Answer a daemon that knows the cluster secret."""
    action = request["action"]
    if action == "config_get":
        path = paths.config_file(request["path"])
        if not os.path.exists(path):
            return {}
        with open(path, encoding="utf-8") as stream:
            return {"data": stream.read(), "mtime": conf.mtime(path)}
    if action in ("join", "leave"):
        return _membership(daemon, action, request["node"])
    if action == "clear":
        return {"info": daemon.monitor.clear(request["path"])}
    if action == "node":
        return _node(daemon, request)
    if action == "drbd_allocations":
        from .res.disk import allocations

        return allocations()
    if action in ("drbd_config_get", "drbd_config_set"):
        return _drbd_config(request)
    return {"status": 1, "error": f"unknown request {action}"}


def _object(daemon, path):
    data = daemon.status()["monitor"]
    return {
        "service": data["services"].get(path, {}),
        "monitor": data["nodes"]
        .get(daemon.node, {})
        .get("services", {})
        .get("status", {})
        .get(path, {})
        .get("monitor"),
        "mon_data": data,
    }


def _node(daemon, request):
    wanted = request["target"]
    if request.get("local"):
        daemon.monitor.freeze_node() if wanted == "frozen" else daemon.monitor.thaw_node()
        daemon.monitor.wake()
    else:
        daemon.monitor.set_node(global_expect=wanted)
    return {"info": f"node {daemon.node} {wanted}"}


def _membership(daemon, action, node):
    """Take a node into the cluster's configuration, or out of it; the newcomer gets the whole of it."""
    sections = conf.load(env.cluster_conf())
    nodes = daemon.cluster.nodes
    wanted = (
        [one for one in nodes if one != node]
        if action == "leave"
        else [*nodes, *([] if node in nodes else [node])]
    )
    if wanted != nodes:
        daemon.log.info(f"{action} of node {node}")
        sections.setdefault("cluster", {})["nodes"] = " ".join(wanted)
        conf.save(env.cluster_conf(), sections)
        daemon.reconfigure()
        daemon.monitor.wake()
    with open(env.cluster_conf(), encoding="utf-8") as stream:
        return {"status": 0, "data": stream.read(), "mtime": conf.mtime(env.cluster_conf())}


def _drbd_config(request):
    path = f"/etc/drbd.d/{os.path.basename(request['res'])}.res"
    if request["action"] == "drbd_config_get":
        try:
            with open(path, encoding="utf-8") as stream:
                return {"data": stream.read()}
        except OSError:
            return {}
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(request["data"])
    return {"status": 0}


def expect(daemon, path, target):
    """Give an object a target state; the answer is made of lines for the user."""
    try:
        _validate(daemon, path, target)
        target = _destination(daemon, path, target)
    except Already as error:
        return {"status": 0, "info": [str(error)]}
    except Rejected as error:
        return {"status": 1, "error": [str(error)]}
    daemon.monitor.set_smon(path, Smon(global_expect=target))
    return {"status": 0, "info": [f"{path} defer target state set to {target}"], "target": target}


def _validate(daemon, path, target):
    kind = paths.split(path)[1]
    base = target.split("@")[0] + ("@" if "@" in target else "")
    if kind not in TARGETS.get(base, ()):
        raise Rejected(
            f"reject set global_expect={target} request on {path}: not supported on {kind} objects"
        )
    if target in ("frozen", "aborted", "provisioned"):
        return
    instances = daemon.monitor.view().instances(path)
    if not instances:
        raise Rejected(f"object {path} does not exist")
    targets = set()
    for node, instance in instances.items():
        smon = instance.get("monitor", {})
        targets.add(smon.get("global_expect"))
        state = smon.get("status", "unknown")
        if smon.get("global_expect") == target:
            continue
        if state != "idle" and "failed" not in state and "wait" not in state:
            raise Rejected(f"{path} instance on node {node} in {state} state")
    if targets == {target}:
        raise Already(f"{path} is already targeting {target}")
    avail = daemon.monitor.aggregates.get(path, {}).get("avail")
    if target == "started" and avail == "up":
        raise Already(f"{path} is already started")
    if target == "stopped" and avail in ("down", "stdby down", "stdby up"):
        raise Already(f"{path} is already stopped")


def _destination(daemon, path, target):
    base, separator, node = target.partition("@")
    if base != "placed" or not separator:
        return target
    view = daemon.monitor.view()
    instances = view.instances(path)
    if node == "<peer>":
        free = [
            name for name, one in instances.items() if one.get("avail") not in ("up", "warn", "n/a")
        ]
        ranks = [
            name
            for name in candidates(view, daemon.monitor.objects[path], strict=False)
            if name in free
        ]
        if not ranks:
            raise Rejected("no candidate destination node")
        return f"placed@{ranks[0]}"
    if not node:
        raise Rejected("no destination node specified")
    if "," in node:
        raise Rejected("only one destination node can be specified for a failover service")
    if node not in instances:
        raise Rejected(f"destination node {node} has no {path} instance")
    if instances[node].get("avail") == "up":
        raise Already(f"instance on destination node {node} is already up")
    return target
