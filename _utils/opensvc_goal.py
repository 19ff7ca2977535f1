"""
Goals of an OpenSVC object: whether one is reached, and whether it still can be. Pure functions on the status that ``opensvc.status`` returns.

A command of the agent that returns 0 has only been accepted: ``switch --wait`` of agent 2.1 comes back long before the switch is done, and
``provision --wait`` returns 0 while both instances are ``provision failed``. These functions are what is believed instead.
"""

from salt.exceptions import SaltInvocationError

# The failures after which the agent gives the goal up (ABORT_STATES in the daemon's monitor of 2.1).
_DEAD = {
    "placed": ("start failed", "stop failed", "place failed", "shutdown failed"),
    "started": ("start failed", "place failed"),
    "stopped": ("stop failed", "shutdown failed"),
    "provisioned": ("provision failed", "start failed"),
    "thawed": ("thaw failed", "unfreeze failed"),
    "frozen": ("freeze failed",),
    "unprovisioned": ("unprovision failed", "stop failed", "shutdown failed"),
    "optimal": ("start failed", "stop failed", "place failed", "shutdown failed"),
    "gone": ("delete failed", "purge failed", "unprovision failed", "stop failed"),
    "settled": (),
    "settled_here": (),
    "standby": (),
    "cleared": (),
    "healthy": ("start failed", "stop failed", "provision failed", "place failed"),
    "resources_up": (),
    "resources_provisioned": (),
    "resources_unprovisioned": (),
    "resources_enabled": (),
    "resources_disabled": (),
}
# These are about every node: an instance that has not reported is not yet so.
_EVERYWHERE = (
    "provisioned",
    "unprovisioned",
    "healthy",
    "resources_enabled",
    "resources_disabled",
)
# What is made on one node is no matter of what another one is making for itself: both make their disks at once, and one that cannot does not hold up the other.
_OF_ONE_NODE = ("settled_here", "resources_provisioned", "resources_unprovisioned")
_STOPPED = ("down", "stdby up", "stdby down", "n/a")


def active(status):
    """The nodes on which the object is up."""
    return [node for node, one in status["instances"].items() if one["avail"] == "up"]


def left_up(status, node):
    """
    The resources that are up on a node although the object is up on another: what an action that failed has left. None where the object is up on no other.

    Tasks and syncs are no part of an instance that stands by, or does not.
    """
    if not [other for other in active(status) if other != node]:
        return None
    resources = status["instances"].get(node, {"resources": {}})["resources"]
    return sorted(
        rid
        for rid, one in resources.items()
        if one["status"] == "up" and not one["disable"] and not rid.startswith(("sync#", "task#"))
    )


def summary(status):
    """One line for people: what the object and each instance is and is doing."""
    if status is None:
        return "there is no such object"
    parts = [f"{status['avail']}"]
    for node, one in sorted(status["instances"].items()):
        text = f"{node} {one['avail']}, {one['state']}"
        if one["frozen"]:
            text += ", frozen"
        if one["global_expect"]:
            text += f", wants {one['global_expect']}"
        parts.append(text)
    return "; ".join(parts)


def troubles(status, node=None):
    """What resources complain of, as ``node rid: text``: the reason behind a failed state, where the agent knows it."""
    found = []
    for name, one in sorted(status["instances"].items()):
        if node not in (None, name):
            continue
        for rid, resource in sorted(one["resources"].items()):
            if resource["disable"]:
                continue
            lines = [line for line in resource["log"] if line.startswith(("warn", "err"))]
            if lines or resource["status"] in ("warn", "undef"):
                found.append(
                    f"{name} {rid} is {resource['status']}: {'; '.join(lines)}".rstrip(": ")
                )
    return found


def _failed(status, states):
    return [
        f"the instance on {node} is '{one['state']}'"
        for node, one in sorted(status["instances"].items())
        if one["state"] in states
    ]


def _quiet(status):
    return all(
        one["state"] == "idle" and not one["global_expect"] for one in status["instances"].values()
    )


def verdict(condition, status, node=None, rids=None, nodes=None):
    """
    Whether ``condition`` holds, whether it still can (``dead`` says why not), and whether the agent is at work on the object (else it is ``quiet``).

    ``node`` is the target of placed and the node of settled_here, standby, resources_up, resources_provisioned and resources_unprovisioned; ``nodes`` are those that have to have
    answered, the object's own when left out. ``cause`` is what failed and what the agent says of it, also when the goal does not depend on it.
    """
    if condition not in _DEAD:
        raise SaltInvocationError(
            f"condition {condition!r} is not known; there are {', '.join(sorted(_DEAD))}"
        )
    answer = {
        "done": False,
        "dead": None,
        "cause": None,
        "failed": [],
        "wishes": [],
        "quiet": True,
        "seen": summary(status),
        "value": None,
    }
    if status is None:
        if condition == "gone":
            answer.update(done=True, value="absent")
        else:
            answer["dead"] = "the object does not exist"
        return answer
    answer["quiet"] = _HOLDS[settled_for(condition)](status, node, None)[0]
    answer["wishes"] = wishes(status)
    answer["failed"] = sorted(
        {one["state"] for one in status["instances"].values() if "failed" in one["state"]}
    )
    if answer["failed"]:
        answer["cause"] = "; ".join(_failed(status, answer["failed"]) + troubles(status))
    silent = sorted(set(nodes or status["scope"]) - set(status["instances"]))
    if silent and condition in _EVERYWHERE:
        answer["seen"] += f"; no instance is known on {', '.join(silent)}"
    done, answer["value"] = _HOLDS[condition](status, node, rids or [])
    answer["done"] = bool(done and not (silent and condition in _EVERYWHERE))
    if not answer["done"]:
        dead = _failed(status, _DEAD[condition])
        if dead:
            answer["dead"] = "; ".join(dead + troubles(status))
        elif condition == "healthy":
            answer["seen"] = "; ".join([answer["seen"], *troubles(status)])
    return answer


def _placed(status, node, _rids):
    where = active(status)
    return where == [node] and _quiet(status), where[0] if len(where) == 1 else where or None


def _provisioned(status, _node, _rids):
    return status["provisioned"] is True and _quiet(status), status["provisioned"]


def _unprovisioned(status, _node, _rids):
    return status["provisioned"] in (False, "n/a") and _quiet(status), status["provisioned"]


def _optimal(status, _node, _rids):
    """On the node that its placement policy prefers; an object that runs nowhere has no placement at all."""
    return status["placement"] == "optimal" and status["avail"] == "up" and _quiet(status), status[
        "placement"
    ]


def _started(status, _node, _rids):
    return status["avail"] == "up" and _quiet(status), status["avail"]


def _stopped(status, _node, _rids):
    down = all(one["avail"] in _STOPPED for one in status["instances"].values())
    return down and _quiet(status), status["avail"]


def _frozen(wanted):
    def holds(status, _node, _rids):
        return status["frozen"] == wanted, status["frozen"]

    return holds


def _states(status):
    return {node: one["state"] for node, one in sorted(status["instances"].items())}


def settled_for(condition):
    """The condition that nothing is under way which ``condition`` would have to wait for: settled, or settled_here."""
    return "settled_here" if condition in _OF_ONE_NODE else "settled"


def _settled(status, _node, _rids):
    """
    Nothing is under way. An instance that has failed is not under way any more, and then those that wait for it are not either: after a failed provision
    of the leader the others stay in "wait leader" for ever.
    """
    states = _states(status)
    failed = any("failed" in state for state in states.values())
    working = any(
        not (state == "idle" or "failed" in state or (failed and state.startswith("wait ")))
        for state in states.values()
    )
    return not working and (failed or not wishes(status)), states


def _settled_here(status, node, _rids):
    """Nothing is under way on this node, and the cluster wants nothing of the object."""
    state = _states(status).get(node, "idle")
    failed = "failed" in state
    return failed or state == "idle" and not wishes(status), state


def wishes(status):
    """What the cluster still wants of the object, on any node."""
    return sorted(
        {one["global_expect"] for one in status["instances"].values() if one["global_expect"]}
    )


def _standby(status, node, _rids):
    left = left_up(status, node)
    return left == [], left


def _cleared(status, _node, _rids):
    return not any("failed" in state for state in _states(status).values()), _states(status)


def _healthy(status, _node, _rids):
    # An instance without standby resources is "down" where the object does not run, and well so.
    good = all(
        one[key] in ("up", "stdby up", "n/a", "down")
        for one in status["instances"].values()
        for key in ("avail", "overall")
    )
    return (
        good
        and status["avail"] == "up"
        and status["overall"] == "up"
        and status["frozen"] == "thawed"
        and len(active(status)) == 1
        and _quiet(status)
    ), status["overall"]


def _of_resources(key, good):
    def holds(status, node, rids):
        known = status["instances"].get(node, {"resources": {}})["resources"]
        value = {rid: known.get(rid, {}).get(key) for rid in rids}
        return bool(rids) and all(one in good for one in value.values()), value

    return holds


def _disabled(wanted):
    def holds(status, _node, rids):
        value = {
            rid: [
                node
                for node, one in sorted(status["instances"].items())
                if one["resources"].get(rid, {}).get("disable") is not wanted
            ]
            for rid in rids
        }
        return bool(value) and not any(value.values()), value

    return holds


_HOLDS = {
    "placed": _placed,
    "started": _started,
    "stopped": _stopped,
    "provisioned": _provisioned,
    "unprovisioned": _unprovisioned,
    "optimal": _optimal,
    "thawed": _frozen("thawed"),
    "frozen": _frozen("frozen"),
    "gone": lambda status, _node, _rids: (False, "present"),
    "settled": _settled,
    "settled_here": _settled_here,
    "standby": _standby,
    "cleared": _cleared,
    "healthy": _healthy,
    "resources_up": _of_resources("status", ("up", "stdby up")),
    "resources_provisioned": _of_resources("provisioned", (True,)),
    "resources_unprovisioned": _of_resources("provisioned", (False,)),
    "resources_enabled": _disabled(False),
    "resources_disabled": _disabled(True),
}


def apart(known, here, node, heartbeats=None, cluster=None):
    """What is missing until ``here`` and ``node`` are one cluster and hear each other, as text; empty when nothing is."""
    members = known["cluster"]["nodes"]
    missing = []
    if cluster and known["cluster"]["name"] != cluster:
        missing.append(f"the daemon still calls the cluster {known['cluster']['name']}")
    missing += [f"{name} is no member" for name in (here, node) if name and name not in members]
    for name in (here, node):
        if name and known["nodes"].get(name, {}).get("state") != "idle":
            state = known["nodes"].get(name, {}).get("state")
            missing.append(f"{name} is {state}" if state else f"{name} does not answer")
    # Alone in its cluster agent 2.1 runs no heartbeat, whatever is configured.
    for name in (heartbeats or ()) if len(members) > 1 else ():
        if name not in known["heartbeats"]:
            missing.append(f"heartbeat {name} is not there")
    for name, beat in sorted(known["heartbeats"].items()):
        for way in ("rx", "tx"):
            if beat[way] != "running":
                missing.append(f"heartbeat {name}.{way} is {beat[way]}")
        if node and not beat["peers"].get(node, {}).get("beating"):
            missing.append(f"heartbeat {name} does not hear {node}")
    if node and not known["heartbeats"]:
        missing.append("the cluster has no heartbeat")
    return "; ".join(missing)


# --- Nodes ------------------------------------------------------------------------------------------------------------------------------

# Agent 2.1 is idle again once it has drained; 3 stays "drained" until it is thawed.
_NODES = {
    "idle": (("idle",), ()),
    "frozen": (("idle", "frozen", "drained"), ("freeze failed",)),
    "thawed": (("idle", "unfrozen"), ("thaw failed", "unfreeze failed")),
    "drained": (("idle", "drained"), ("drain failed",)),
}


def nodes_verdict(condition, known, nodes=None):
    """
    Whether ``condition`` holds of nodes (all members when left out), whether it still can, and what each is: like :py:func:`verdict` for objects.

    ``drained`` is frozen with no service left on the node, standby resources included.
    """
    if condition not in _NODES:
        raise SaltInvocationError(
            f"condition {condition!r} is not known; there are {', '.join(sorted(_NODES))}"
        )
    good, bad = _NODES[condition]
    value, missing, dead = {}, [], []
    for name in nodes or known["cluster"]["nodes"]:
        node = known["nodes"].get(name)
        if node is None:
            value[name] = None
            missing.append(f"{name} does not answer")
            continue
        value[name] = f"{node['state']}, {'frozen' if node['frozen'] else 'thawed'}"
        rest = left(known, name) if condition == "drained" else []
        frozen = {"idle": None, "thawed": False}.get(condition, True)
        if node["state"] not in good or frozen not in (None, node["frozen"]) or rest:
            missing.append(
                f"{name} is {value[name]}" + (f" with {', '.join(rest)}" if rest else "")
            )
        if node["state"] in bad or any("failed" in one for one in rest):
            dead.append(missing[-1])
    return {
        "done": not missing,
        "dead": "; ".join(dead) or None,
        "seen": "; ".join(missing) or f"all {condition}",
        "value": value,
    }


def left(known, node):
    """The services that still hold something on a node, each with what it is."""
    found = []
    for path, status in sorted(known["objects"].items()):
        one, parts = status["instances"].get(node), path.split("/")
        if not one or (len(parts) > 1 and parts[-2] != "svc"):
            continue
        if one["avail"] not in ("down", "stdby down", "n/a") or one["local_expect"] == "shutdown":
            found.append(f"{path} {one['avail']}, {one['state']}")
    return found


# --- DRBD below an object -----------------------------------------------------------------------------------------------------------------


def replicated(status, node):
    """``{rid: DRBD resource}`` of the disks that the object's instance on a node replicates."""
    resources = status["instances"].get(node, {"resources": {}})["resources"]
    return {
        rid: one["label"].split()[-1]
        for rid, one in sorted(resources.items())
        if one["type"] == "disk.drbd" and not one["disable"] and one["label"].strip()
    }


def unsound(resource, here, node):
    """
    Why DRBD's resource (as ``drbd.status`` gives it, asked on ``here``) must not be relied on for the disk of ``node``, or None.

    Agent 3 calls a standby "stdby up" whatever its disk is, Inconsistent and Outdated too: DRBD itself is asked. While DRBD resyncs, agent 2.1 takes the
    resource for not connected, and its stop fails.
    """
    if resource is None:
        return f"{here} has no such resource"
    if not resource["up"]:
        return f"it is down on {here}"
    links = resource["connections"]
    for peer, link in sorted(links.items()):
        for volume in link["volumes"].values():
            if volume["replication"] not in ("Established", "Off"):
                return f"it is {volume['replication']} with {peer}"
    if node == here:
        disks = [volume["disk"] for volume in resource["disk"].values()]
    else:
        mine = [name for name in links if name.lower() == node] or (
            list(links) if len(links) == 1 else []
        )
        if not mine:
            return f"it has no connection to {node}"
        if links[mine[0]]["state"] != "Connected":
            return f"it is {links[mine[0]]['state']} towards {node}"
        disks = [volume["disk"] for volume in links[mine[0]]["volumes"].values()]
    bad = sorted({disk for disk in disks if disk != "UpToDate"})
    return f"the disk of {node} is {', '.join(bad)}, not UpToDate" if bad else None


# --- Configurations -------------------------------------------------------------------------------------------------------------------------


def disabled(config, rids):
    """Which of the resources a configuration disables, on some node at least: ``{rid: bool}``."""
    return {
        rid: any(
            key.split("@")[0] == "disable" and value.lower() in ("true", "yes", "on", "1", "t", "y")
            for key, value in config.get(rid, {}).items()
        )
        for rid in rids
    }


def why(status, node=None):
    """Why an object is not well, as one text."""
    return "; ".join(troubles(status, node)) or "the agent gives no reason"
