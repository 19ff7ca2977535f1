"""What the daemon of one node decides about one object, from what it knows of the cluster. Pure.

``View`` is the daemon's picture; ``decide`` reads it and returns the orders to carry out:
``Smon(**changes)`` changes this instance's monitor, ``Run(action, …)`` starts an action.
"""

from dataclasses import dataclass, field

STARTED = ("n/a", "up")
STOPPED = ("n/a", "down", "stdby up", "stdby down", "unknown", None)
ORCHESTRATED = (
    "ready",
    "idle",
    "wait children",
    "wait parents",
    "wait priors",
    "wait sync",
    "wait leader",
    "wait non-leader",
)
# (state of the monitor, target) after which the target is given up.
ABORTED = {
    ("thaw failed", "thawed"),
    ("freeze failed", "frozen"),
    ("start failed", "started"),
    ("stop failed", "stopped"),
    ("stop failed", "purged"),
    ("stop failed", "unprovisioned"),
    ("shutdown failed", "shutdown"),
    ("delete failed", "deleted"),
    ("unprovision failed", "unprovisioned"),
    ("provision failed", "provisioned"),
    ("place failed", "placed"),
    ("purge failed", "purged"),
}
ABORTED_LEADER = {("start failed", "placed")}
ABORTED_OTHER = {("stop failed", "placed")}
PRESERVED_NODES = ("maintenance", "upgrade", "init")
STANDBY_TRIES = 2


@dataclass
class Smon:
    """A change of this instance's monitor; None leaves a field alone, "unset" empties it."""

    status: str | None = None
    local_expect: str | None = None
    global_expect: str | None = None
    retries: tuple = ()


@dataclass
class Run:
    """An action on this instance, and the state its monitor has while it runs and when it fails."""

    action: str
    progress: str
    failed: str
    options: dict = field(default_factory=dict)
    success: Smon = field(default_factory=lambda: Smon(status="idle"))


@dataclass
class Object:
    """What the configuration says of an object, as far as decisions go."""

    path: str
    nodes: list
    kind: str = "svc"
    topology: str = "failover"
    orchestrate: str = "no"
    placement: str = "nodes order"
    disabled: bool = False
    children: list = field(default_factory=list)
    restart: dict = field(default_factory=dict)


@dataclass
class View:
    """The cluster as the daemon of ``node`` sees it; ``nodes`` holds live nodes only."""

    node: str
    nodes: dict
    now: float
    node_frozen: bool = False
    rejoined: bool = True
    ready_period: float = 5.0

    def instances(self, path):
        found = {}
        for node, data in self.nodes.items():
            instance = data.get("services", {}).get("status", {}).get(path)
            if instance is not None:
                found[node] = instance
        return found

    def local(self, path):
        return self.instances(path).get(self.node)


def monitor(instance):
    return instance.get("monitor") or {"status": "idle"}


# Aggregates ------------------------------------------------------------------------------------


def aggregate(view, obj):
    """The object in the cluster: avail, overall, frozen, placement, provisioned."""
    instances = [one for one in view.instances(obj.path).values() if "avail" in one]
    if obj.kind not in ("svc", "vol"):
        return {}
    return {
        "avail": _avail(instances),
        "overall": _overall(instances),
        "frozen": _frozen(instances),
        "placement": _placement(instances, obj),
        "provisioned": _provisioned(instances),
    }


def _avail(instances):
    states = [one["avail"] for one in instances]
    up = states.count("up")
    if not states:
        return "unknown"
    if up == 1:
        return "up"
    if set(states) == {"n/a"}:
        return "n/a"
    return "warn" if up > 1 or "warn" in states else "down"


def _overall(instances):
    states = {one.get("overall", "n/a") for one in instances}
    if not states:
        return "n/a"
    if states & {"warn", "stdby down"}:
        return "warn"
    if len(states) == 1:
        state = states.pop()
        return "down" if state.startswith("stdby") else state
    if "up" in states and states <= {"up", "down", "stdby up", "n/a"}:
        return "up"
    return "down" if states <= {"down", "stdby up", "n/a"} else "undef"


def _frozen(instances):
    frozen = [bool(one.get("frozen")) for one in instances]
    if not frozen:
        return "n/a"
    return "frozen" if all(frozen) else "mixed" if any(frozen) else "thawed"


def _placement(instances, obj):
    if obj.placement == "none":
        return "n/a"
    instances = [one for one in instances if not one.get("frozen")]
    if len(instances) < 2:
        return "optimal"
    placement, somewhere = "optimal", False
    for one in instances:
        leader = monitor(one).get("placement") == "leader"
        if one["avail"] in ("up", "warn"):
            somewhere = True
            placement = placement if leader else "non-optimal"
        elif leader:
            placement = "non-optimal"
    return placement if somewhere else "n/a"


def _provisioned(instances):
    if not instances:
        return False
    states = [one["provisioned"] for one in instances if one.get("provisioned") is not None]
    if not states:
        return "n/a"
    if "mixed" in states:
        return "mixed"
    return True if all(states) else False if not any(states) else "mixed"


# Placement -------------------------------------------------------------------------------------


def candidates(view, obj, strict=True, unprovisioned=False):
    """The nodes that could run the object, the preferred first. Not ``strict``: whatever state they are in."""
    found = []
    for node in obj.nodes:
        data = view.nodes.get(node)
        instance = view.instances(obj.path).get(node)
        if data is None or instance is None or "avail" not in instance:
            continue
        if data.get("monitor", {}).get("status") in PRESERVED_NODES:
            continue
        if strict:
            if data.get("frozen") or instance.get("frozen"):
                continue
            if instance["avail"] == "n/a" or monitor(instance).get("status") in (
                "start failed",
                "place failed",
            ):
                continue
            if instance.get("provisioned") is False and not unprovisioned:
                continue
        found.append(node)
    return found


def is_leader(view, obj):
    """Whether this node is the preferred one among those that could run the object."""
    return candidates(view, obj)[:1] == [view.node]


def natural_leader(view, obj):
    return candidates(view, obj, strict=False)[:1] == [view.node]


def leader_first(view, obj):
    """Whether this node may provision now: it goes first, or the one that goes first is done."""
    instances = view.instances(obj.path)
    ranks = [node for node in obj.nodes if instances.get(node, {}).get("avail") in ("up", "warn")]
    ranks = ranks or candidates(view, obj, strict=False, unprovisioned=True)
    if not ranks or ranks[0] == view.node:
        return True
    return instances.get(ranks[0], {}).get("provisioned", True) is True


def others_done(view, obj, deleted=False):
    """Whether this node may unprovision now: it is not the last one, or all others are done."""
    ranks = [
        node
        for node in candidates(view, obj, strict=False)
        if view.instances(obj.path)[node].get("provisioned")
    ]
    if not ranks or ranks[0] != view.node:
        return True
    for node, instance in view.instances(obj.path).items():
        if node == view.node or "updated" not in instance:
            continue
        if deleted or instance.get("provisioned") not in (False, None):
            return False
    return True


def children_down(view, obj, aggregates):
    return all(
        aggregates.get(child, {}).get("avail", "unknown") in STOPPED
        for child in obj.children
        if child != obj.path
    )


# The decision ----------------------------------------------------------------------------------


def aborted(state, target, placement):
    """A move to a named node is never given up for a failure: it goes on when the failure is cleared."""
    pairs = ABORTED | (ABORTED_LEADER if placement == "leader" else ABORTED_OTHER)
    return (state, target) in pairs


def reached(view, obj, agg, target):
    """Whether a target state is reached, or out of reach for good."""
    instance = view.local(obj.path) or {}
    smon = monitor(instance)
    avail, frozen = agg.get("avail"), bool(instance.get("frozen"))
    if target == "stopped":
        return avail in STOPPED and frozen
    if target == "shutdown":
        return frozen and all(is_shut(one) for one in view.instances(obj.path).values())
    if target == "started":
        if avail in STARTED and not frozen:
            return True
        warned = any(
            one.get("avail") == "warn" and not monitor(one).get("status", "").endswith("ing")
            for one in view.instances(obj.path).values()
        )
        return agg.get("frozen") == "thawed" and warned
    if target in ("frozen", "thawed"):
        return agg.get("frozen") == target
    if target == "unprovisioned":
        return agg.get("provisioned") in (False, "n/a") and avail in STOPPED
    if target in ("purged", "deleted"):
        return not any("updated" in one for one in view.instances(obj.path).values())
    if target == "aborted":
        return all(
            monitor(one).get("global_expect") in (None, "aborted")
            and monitor(one).get("local_expect") in (None, "started")
            for one in view.instances(obj.path).values()
        )
    if target == "placed":
        if agg.get("frozen") != "thawed":
            return False
        return agg.get("placement") in ("optimal", "n/a") and avail in ("up", "n/a")
    if target.startswith("placed@"):
        destination = view.instances(obj.path).get(target.split("@")[1])
        if destination is None:
            return True
        return (
            destination.get("avail") not in STOPPED
            or monitor(destination).get("status") == "start failed"
        )
    if target.startswith("restarted@"):
        return smon.get("local_expect") != "started" and view.now > float(target.split("@")[1]) + 2
    return target != "provisioned"


def is_shut(instance):
    standby = any(one.get("standby") for one in instance.get("resources", {}).values())
    return instance.get("avail") in ("n/a", "stdby down" if standby else "down")


def accepts(view, obj, agg, target):
    """Whether this node takes over the target another node has."""
    instance = view.local(obj.path) or {}
    smon = monitor(instance)
    avail = instance.get("avail")
    if target not in ("aborted", "thawed", "frozen") and aborted(
        smon.get("status"), target, smon.get("placement")
    ):
        return False
    if target == "stopped":
        return avail not in STOPPED or not instance.get("frozen")
    if target == "started":
        return avail != "n/a" and (agg.get("avail") in STOPPED or bool(instance.get("frozen")))
    if target == "provisioned":
        return agg.get("provisioned") not in (True, None)
    if target.startswith("placed@"):
        if avail == "n/a":
            return False
        here = view.node in target.split("@")[1].split(",")
        return avail in STOPPED if here else avail not in STOPPED
    if target == "placed":
        return avail != "n/a" and (
            agg.get("placement") == "non-optimal"
            or agg.get("avail") != "up"
            or agg.get("frozen") == "frozen"
        )
    if target.startswith("restarted@"):
        return smon.get("local_expect") == "started" and smon.get(
            "local_expect_updated", 0
        ) < float(target.split("@")[1])
    return not reached(view, obj, agg, target)


def adopt(view, obj, agg, since=0.0):
    """The target this node should take over from another, or None; ``since``: the age of the configuration."""
    smon = monitor(view.local(obj.path) or {})
    mine = smon.get("global_expect")
    if mine == "aborted":
        return None
    for node, instance in view.instances(obj.path).items():
        target = monitor(instance).get("global_expect")
        if node == view.node or target is None or target == mine:
            continue
        asked = monitor(instance).get("global_expect_updated", 0)
        if target in ("purged", "deleted") and asked < since:
            # Meant for an object of the same name that is gone.
            continue
        if mine and asked < smon.get("global_expect_updated", 0):
            continue
        if accepts(view, obj, agg, target):
            return target
    return None


def decide(view, obj, aggregates=None):
    """The orders for this node's instance of an object; an empty list is: leave it alone."""
    instance = view.local(obj.path)
    if instance is None or "updated" not in instance:
        return []
    if any(
        view.nodes[node].get("monitor", {}).get("status") == "init"
        for node in obj.nodes
        if node in view.nodes
    ):
        return []
    smon = monitor(instance)
    state, target = smon.get("status", "idle"), smon.get("global_expect")
    agg = aggregate(view, obj)
    orders = _resources(view, obj, instance, smon)
    if orders:
        return orders
    if target and target != "aborted":
        if "failed" in state:
            if aborted(state, target, smon.get("placement")):
                return [Smon(global_expect="unset")]
        elif state not in ORCHESTRATED:
            return []
    if target == "provisioned" and agg.get("provisioned") in (True, "n/a"):
        return [Smon(global_expect="thawed" if agg.get("avail") in ("up", "n/a") else "started")]
    if target and reached(view, obj, agg, target):
        idle = "idle" if target == "aborted" and state.startswith("wait ") else None
        return [Smon(global_expect="unset", status=idle)]
    if target:
        return _manual(view, obj, instance, smon, agg, aggregates or {})
    if obj.kind in ("svc", "vol"):
        return _auto(view, obj, instance, smon, agg)
    return []


def _resources(view, obj, instance, smon):
    """Restart what should be up here by itself: standby resources, and those with ``restart``."""
    if (
        view.node_frozen
        or instance.get("frozen")
        or obj.disabled
        or smon.get("status", "idle") != "idle"
    ):
        return []
    if smon.get("global_expect") in ("unprovisioned", "purged", "deleted", "frozen"):
        return []
    orders, standby, restart = [], [], []
    for rid, one in instance.get("resources", {}).items():
        tried = smon.get("restart", {}).get(rid, {}).get("retries", 0)
        if one["status"] not in ("warn", "down", "stdby down"):
            if tried:
                orders.append(Smon(retries=(rid, 0)))
            continue
        if one.get("provisioned", {}).get("state") is False or one.get("disable"):
            continue
        limit = obj.restart.get(rid, 0)
        if smon.get("local_expect") == "started" and tried <= limit:
            orders.append(Smon(retries=(rid, tried + 1)))
            if tried < limit:
                restart.append(rid)
        elif one.get("standby") and tried <= max(limit, STANDBY_TRIES):
            orders.append(Smon(retries=(rid, tried + 1)))
            if tried < max(limit, STANDBY_TRIES):
                standby.append(rid)
    if standby:
        orders.append(Run("startstandby", "restarting", "idle", {"rids": standby}))
    elif restart:
        orders.append(Run("start", "restarting", "idle", {"rids": restart}))
    # A counter alone is no reason to skip the rest of the decision for long: the next turn is a tick away.
    return orders


def _start(failed="start failed"):
    return Run("start", "starting", failed, success=Smon(status="idle", local_expect="started"))


def _stop(force=False):
    return Run(
        "stop",
        "stopping",
        "stop failed",
        {"force": force},
        Smon(status="idle", local_expect="unset"),
    )


FREEZE = ("freeze", "freezing", "idle")
THAW = ("thaw", "thawing", "idle")


def _manual(view, obj, instance, smon, agg, aggregates):
    target = smon["global_expect"]
    base = target.split("@")[0] + ("_at" if "@" in target else "")
    return (
        MANUAL[base](view, obj, instance, smon, agg, aggregates)
        if base in MANUAL
        else [Smon(global_expect="unset")]
    )


def _frozen_(view, obj, instance, smon, agg, aggregates):
    return [] if instance.get("frozen") else [Run(*FREEZE)]


def _thawed(view, obj, instance, smon, agg, aggregates):
    return [Run(*THAW)] if instance.get("frozen") else []


def _stopped(view, obj, instance, smon, agg, aggregates, run=None):
    if not children_down(view, obj, aggregates):
        return [] if smon.get("status") == "wait children" else [Smon(status="wait children")]
    if smon.get("status") == "wait children":
        return [Smon(status="idle")]
    if not instance.get("frozen"):
        return [Run(*FREEZE)]
    if run is None and instance.get("avail") in STOPPED:
        return []
    if not all(one.get("frozen") for one in view.instances(obj.path).values()):
        return []
    return [run or _stop()]


def _shutdown(view, obj, instance, smon, agg, aggregates):
    if is_shut(instance):
        return []
    run = Run(
        "shutdown", "shutting", "shutdown failed", success=Smon(status="idle", local_expect="unset")
    )
    return _stopped(view, obj, instance, smon, agg, aggregates, run)


def _started(view, obj, instance, smon, agg, aggregates):
    if instance.get("frozen"):
        return [Run(*THAW)]
    if agg.get("avail") in STARTED or agg.get("frozen") != "thawed":
        return []
    return _auto(view, obj, instance, smon, agg)


def _provisioned_target(view, obj, instance, smon, agg, aggregates):
    if instance.get("provisioned", True) is True:
        return [] if smon.get("status") == "idle" else [Smon(status="idle")]
    alive = [node for node in obj.nodes if node in view.nodes]
    if len(view.instances(obj.path)) < len(alive):
        return [] if smon.get("status") == "wait sync" else [Smon(status="wait sync")]
    if not leader_first(view, obj):
        return [] if smon.get("status") == "wait leader" else [Smon(status="wait leader")]
    leader = natural_leader(view, obj)
    options = {"leader": leader, "disable_rollback": leader}
    # The instance is thawed by the success itself.
    return [Run("provision", "provisioning", "provision failed", options, Smon(status="idle"))]


def _unprovisioned(view, obj, instance, smon, agg, aggregates, deleted=False):
    state = smon.get("status")
    if not children_down(view, obj, aggregates):
        return [] if state == "wait children" else [Smon(status="wait children")]
    if instance.get("provisioned") in (False, None) and not deleted:
        return [] if state == "idle" else [Smon(status="idle")]
    if instance.get("avail") not in STOPPED:
        return [_stop(force=True)]
    if agg.get("avail") not in STOPPED:
        return []
    if not others_done(view, obj, deleted):
        return [] if state == "wait non-leader" else [Smon(status="wait non-leader")]
    options = {"leader": natural_leader(view, obj)}
    if deleted:
        return [Run("purge", "unprovisioning", "purge failed", options)]
    return [
        Run(
            "unprovision",
            "unprovisioning",
            "unprovision failed",
            options,
            Smon(status="idle", local_expect="unset"),
        )
    ]


def _purged(view, obj, instance, smon, agg, aggregates):
    if obj.kind not in ("svc", "vol"):
        return _deleted(view, obj, instance, smon, agg, aggregates)
    return _unprovisioned(view, obj, instance, smon, agg, aggregates, deleted=True)


def _deleted(view, obj, instance, smon, agg, aggregates):
    if not children_down(view, obj, aggregates):
        return [] if smon.get("status") == "wait children" else [Smon(status="wait children")]
    return [Run("delete", "deleting", "delete failed")]


def _abort(view, obj, instance, smon, agg, aggregates):
    if smon.get("local_expect") in (None, "started"):
        return []
    return [Smon(local_expect="unset")]


def _placed(view, obj, instance, smon, agg, aggregates):
    if instance.get("frozen"):
        return [Run(*THAW)]
    leader = smon.get("placement") == "leader"
    if not leader:
        somebody = any(
            monitor(one).get("placement") == "leader" for one in view.instances(obj.path).values()
        )
        return [_stop()] if somebody and instance.get("avail") not in STOPPED else []
    if instance.get("avail") in STARTED:
        return []
    for node, one in view.instances(obj.path).items():
        if node != view.node and one.get("avail") not in STOPPED:
            return []
    return _auto(view, obj, instance, smon, agg)


def _placed_at(view, obj, instance, smon, agg, aggregates):
    wanted = smon["global_expect"].split("@")[1].split(",")
    if instance.get("frozen"):
        return [Run(*THAW)]
    if view.node not in wanted:
        if instance.get("avail") in STOPPED or smon.get("status") == "stop failed":
            return []
        if not set(wanted) & set(candidates(view, obj, strict=False)):
            return []
        if not children_down(view, obj, aggregates):
            return [] if smon.get("status") == "wait children" else [Smon(status="wait children")]
        return [_stop()]
    if instance.get("avail") in STARTED or smon.get("status") in ("start failed", "place failed"):
        return []
    for node, one in view.instances(obj.path).items():
        if node not in wanted and one.get("avail") not in STOPPED:
            return []
    return [_start()]


def _restarted_at(view, obj, instance, smon, agg, aggregates):
    asked = float(smon["global_expect"].split("@")[1])
    if smon.get("status") != "idle" or smon.get("local_expect") != "started":
        return []
    if smon.get("local_expect_updated", 0) > asked:
        return []
    success = Smon(status="idle", local_expect="started", global_expect="unset")
    return [Run("restart", "restarting", "restart failed", success=success)]


MANUAL = {
    "frozen": _frozen_,
    "thawed": _thawed,
    "stopped": _stopped,
    "shutdown": _shutdown,
    "started": _started,
    "provisioned": _provisioned_target,
    "unprovisioned": _unprovisioned,
    "purged": _purged,
    "deleted": _deleted,
    "aborted": _abort,
    "placed": _placed,
    "placed_at": _placed_at,
    "restarted_at": _restarted_at,
}


def _auto(view, obj, instance, smon, agg):
    """Start the object where nobody asked for anything: the failover itself."""
    avail, state, target = agg.get("avail"), smon.get("status", "idle"), smon.get("global_expect")
    if obj.disabled or avail in ("unknown", None, "undef", "n/a"):
        return []
    if smon.get("local_expect") == "started":
        if smon.get("restart"):
            return []
        lost = avail == "up" and instance["avail"] != "up"
        gone = avail != "up" and instance["avail"] in ("down", "stdby down", "undef", "n/a")
        return [Smon(local_expect="unset")] if lost or gone else []
    if view.node_frozen or instance.get("frozen") or not view.rejoined:
        return []
    if obj.orchestrate == "start" and candidates(view, obj, strict=False)[:1] != [view.node]:
        return [Smon(status="idle")] if state in ("ready", "wait parents") else []
    manual = target in ("started", "placed")
    allowed = ("down", "stdby down", "stdby up", *(("warn",) if manual else ()))
    peers = {node: one for node, one in view.instances(obj.path).items() if node != view.node}
    acting = any(monitor(one).get("status", "").endswith("ing") for one in peers.values())
    warned = any(
        one.get("avail") == "warn" and not monitor(one).get("status", "").endswith("ing")
        for one in peers.values()
    )
    failed = "place failed" if target == "placed" else "start failed"
    if state == "ready":
        better = not is_leader(view, obj) and any(
            monitor(one).get("status") == "ready" for one in peers.values()
        )
        if instance["avail"] == "up" or avail not in allowed or warned or better or acting:
            return [Smon(status="idle")]
        if smon.get("status_updated", 0) < view.now - view.ready_period:
            return [_start(failed)]
        return []
    if state != "idle" or (obj.orchestrate == "no" and not manual):
        return []
    if (
        avail not in allowed
        or warned
        or acting
        or not is_leader(view, obj)
        or instance["avail"] == "up"
    ):
        return []
    return [_start(failed)] if len(obj.nodes) == 1 else [Smon(status="ready")]
