"""
States of objects of an OpenSVC cluster, agents 2.1 and 3: what they are to be, not which command to run. The states of configurations and keys are in
``opensvc_config``, those of the cluster itself in ``opensvc_cluster``; the three files are the state module ``opensvc``.

:depends: the ``opensvc`` execution module of this formula

.. code-block:: yaml

    The service is provisioned:
      opensvc.provisioned:
        - name: slapos/svc/comp1
        - timeout: 600

A state decides on one snapshot of the daemon, acts at most once, waits for the world to get there and reports what it then is. In test mode nothing is
started but that question. An object that is frozen is in an operator's hands: no state moves, starts or thaws it unasked.
"""

from salt.exceptions import CommandExecutionError, SaltInvocationError

__virtualname__ = "opensvc"


def __virtual__():
    return __virtualname__


def _reach(
    name, condition, act, sentence, attribute, goal, timeout, refuse=None, clear=False, **where
):
    """
    The one course of all states here: look, decide, act, wait, report.

    ``sentence`` is the goal for people and ``goal`` what its ``attribute`` is then. ``refuse`` gets the object's status and says why the state must not
    act, or nothing. ``clear`` are the failures that may be forgotten to try again, True for any. ``where`` is node and rids for the condition.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    found = None
    try:
        # An answer that another state got some seconds ago may say "already so"; before anything is done the world is asked.
        found = __salt__["opensvc.check"](name, condition, fresh=False, **where)
        if not found["done"] and found["shared"]:
            found = __salt__["opensvc.check"](name, condition, **where)
        if not found["done"] and not found["quiet"] and not __opts__["test"]:
            settled = __utils__["opensvc_goal.settled_for"](condition)
            __salt__["opensvc.wait"](name, settled, timeout=timeout)
            # By the answer that has just ended the waiting.
            found = __salt__["opensvc.check"](name, condition, fresh=False, **where)
        if found["done"]:
            ret["comment"] = f"{sentence} already"
            return ret
        status = __salt__["opensvc.status"](name, fresh=False)
        if status is None:
            ret["comment"] = _unknown(name)
            ret["result"] = None if __opts__["test"] else False
            return ret
        wish = {attribute: {"old": found["value"], "new": goal}}
        reason = refuse(status) if refuse else None
        may_clear = clear is True or clear and set(found["failed"]) <= set(clear)
        if not reason and found["dead"] and not may_clear:
            reason = f"{found['dead']}. Find out why (om {name} print status -r; om {name} logs), then clear it: state opensvc.cleared, or clear: true"
        if reason:
            ret.update(result=False, comment=f"{name} is left as it is: {reason}")
            return ret
        # What is cleared is forgotten: this comment is the last that knows it.
        notes = [f"what failed: {found['cause']}"] if condition == "cleared" else []
        if __opts__["test"]:
            comment = "; ".join([f"would see to it that {sentence}", *notes])
            ret.update(result=None, changes=wish, comment=comment)
            return ret
        if found["dead"]:
            _clear(name, found)
            for step in ("cleared", "settled"):
                __salt__["opensvc.wait"](name, step, timeout=60)
            notes.append(f"cleared first: {found['dead']}")
        notes += act()["warnings"]
        last = __salt__["opensvc.wait"](name, condition, timeout=timeout, **where)
        ret["changes"] = {attribute: {"old": found["value"], "new": last["value"]}}
        ret["comment"] = "; ".join([sentence, *notes])
    except (CommandExecutionError, SaltInvocationError) as error:
        ret.update(result=False, comment=str(error))
        if found:
            ret["changes"] = _moved(name, condition, attribute, found["value"], where)
        elif __opts__["test"] and "not installed" in str(error):
            ret.update(result=None, comment=f"would see to it that {sentence}. {error}")
    return ret


def _unknown(name):
    """An object that this node does not know: its peers tell it of theirs, so it may only not hear them."""
    heartbeats = __salt__["opensvc.cluster_status"](fresh=False)["heartbeats"]
    silent = sorted(
        {
            peer
            for heartbeat in heartbeats.values()
            for peer, seen in heartbeat["peers"].items()
            if seen.get("beating") is False
        }
    )
    if not silent:
        return f"There is no object {name}. Define it first (opensvc.object_present)."
    return f"There is no object {name} here, and {' and '.join(silent)}, which may have it, is not heard. See om mon and the network of the heartbeats."


def _clear(name, found):
    """Forget failures. The other instances may still wait for the one that failed: that wish is given up first."""
    if found["wishes"]:
        __salt__["opensvc.abort"](name)
    return __salt__["opensvc.clear"](name)


def _moved(name, condition, attribute, old, where):
    """What did change before something failed."""
    try:
        new = __salt__["opensvc.check"](name, condition, **where)["value"]
    except CommandExecutionError:
        return {}
    return {attribute: {"old": old, "new": new}} if new != old else {}


def _held(status):
    """Frozen instances, as a reason to keep off."""
    frozen = sorted(node for node, one in status["instances"].items() if one["frozen"])
    if not frozen:
        return None
    return (
        f"it is frozen on {' and '.join(frozen)}, so somebody is at work on it. When that is over: state opensvc.thawed, "
        "or om node thaw where the node is frozen"
    )


def provisioned(name, rids=None, local=False, leader=False, state_only=False, timeout=600):
    """
    What the resources of an object need is made, on all nodes, or for some resources on this node.

    .. code-block:: yaml

        Disks below DRBD are provisioned:
          opensvc.provisioned:
            - name: slapos/svc/comp1
            - rids: ['disk#0', 'disk#1', 'disk#2']
            - local: true

    name
        The object (str).
    rids
        Only these resources, on this node (list of str).
    local
        Only this node (bool); needs ``rids``.
    leader
        With ``rids``, also what is made once for all nodes (bool).
    state_only
        With ``rids``: they were made by somebody else, and the agent is only told so (bool).
    timeout
        Seconds (int) until it gives up.

    A "provision failed" of an earlier attempt is cleared and tried again. Agent 2.1 starts and thaws an object that it has provisioned on all nodes.
    """
    if rids:
        return _reach(
            name,
            "resources_provisioned",
            lambda: __salt__["opensvc.provision"](
                name, rids=rids, local=True, leader=leader, state_only=state_only, timeout=timeout
            ),
            f"{', '.join(rids)} of {name} is provisioned",
            "provisioned",
            dict.fromkeys(rids, True),
            timeout,
            rids=rids,
        )
    if local:
        return {
            "name": name,
            "result": False,
            "changes": {},
            "comment": "local: true needs rids, the resources to provision on this node",
        }
    return _reach(
        name,
        "provisioned",
        lambda: __salt__["opensvc.provision"](name),
        f"{name} is provisioned on all its nodes",
        "provisioned",
        True,
        timeout,
        clear=("provision failed",),
    )


def started(name, timeout=600, thaw=False, clear=False):
    """
    An object is up on the node where it belongs.

    .. code-block:: yaml

        The service runs:
          opensvc.started:
            - name: slapos/svc/comp1

    name
        The object (str).
    timeout
        Seconds (int) until it gives up.
    thaw
        Start it even though it is frozen (bool): a stop over all nodes leaves it so. The agent thaws it then.
    clear
        Forget an earlier failure and try again (bool).
    """
    return _reach(
        name,
        "started",
        lambda: __salt__["opensvc.start"](name),
        f"{name} is up",
        "avail",
        "up",
        timeout,
        refuse=None if thaw else _held,
        clear=clear,
    )


def stopped(name, timeout=600, clear=False):
    """
    An object is up nowhere. Standby resources stay up, and the agent leaves the instances frozen.

    .. code-block:: yaml

        The service is stopped for maintenance:
          opensvc.stopped:
            - name: slapos/svc/comp1

    name
        The object (str).
    timeout
        Seconds (int) until it gives up.
    clear
        Forget an earlier failure and try again (bool).
    """
    return _reach(
        name,
        "stopped",
        lambda: __salt__["opensvc.stop"](name),
        f"{name} is stopped",
        "avail",
        "down",
        timeout,
        clear=clear,
    )


def placed(name, node, timeout=600, clear=False):
    """
    An object is up on one node, and nothing is under way.

    .. code-block:: yaml

        The service is on demo1:
          opensvc.placed:
            - name: slapos/svc/comp1
            - node: demo1
            - timeout: 300

    name
        The object (str).
    node
        The node (str).
    timeout
        Seconds (int) until it gives up.
    clear
        Forget an earlier failure and try again (bool).

    It refuses when the object or the node is frozen, when there is no provisioned instance on the node, or when that instance is not a sound standby. DRBD
    below it is asked too (``opensvc.replicas``): its disk there has to be UpToDate and no resync may run (``drbd.synced`` waits for that), since agent 3 calls
    any standby "stdby up", and agent 2.1 cannot stop an instance while DRBD resyncs.
    """

    def refuse(status):
        instance = status["instances"].get(node)
        if instance is None:
            return f"it has no instance on {node}, only on {', '.join(sorted(status['instances'])) or 'no node'}"
        if instance["provisioned"] is not True:
            return f"the instance on {node} is not provisioned ({instance['provisioned']})"
        if instance["avail"] not in ("down", "stdby up", "up"):
            return (
                f"the instance on {node} is {instance['avail']!r}, not a sound standby: "
                f"{__utils__['opensvc_goal.why'](status, node)}"
            )
        for rid, one in __salt__["opensvc.replicas"](name, node, fresh=False).items():
            if one["trouble"]:
                return f"DRBD's {one['resource']} below {rid}: {one['trouble']}"
        return _held(status)

    return _reach(
        name,
        "placed",
        lambda: __salt__["opensvc.switch"](name, node, retry=timeout),
        f"{name} is on {node}",
        "node",
        node,
        timeout,
        refuse=refuse,
        clear=clear,
        node=node,
    )


def frozen(name, timeout=120):
    """
    The cluster does not act on an object by itself.

    .. code-block:: yaml

        Nobody moves the service meanwhile:
          opensvc.frozen:
            - name: slapos/svc/comp1

    name
        The object (str).
    timeout
        Seconds (int) until it gives up.
    """
    return _reach(
        name,
        "frozen",
        lambda: __salt__["opensvc.freeze"](name),
        f"{name} is frozen",
        "frozen",
        "frozen",
        timeout,
        clear=True,
    )


def thawed(name, timeout=120):
    """
    The cluster acts on an object by itself: it starts it where it belongs and moves it when a node dies.

    .. code-block:: yaml

        The service is highly available again:
          opensvc.thawed:
            - name: slapos/svc/comp1

    name
        The object (str).
    timeout
        Seconds (int) until it gives up.

    It refuses when a node is frozen, since the object stays frozen there.
    """

    def refuse(_status):
        nodes = __salt__["opensvc.cluster_status"](fresh=False)["nodes"]
        held = sorted(node for node, known in nodes.items() if known["frozen"])
        return f"node {' and '.join(held)} is frozen: om node thaw there" if held else None

    return _reach(
        name,
        "thawed",
        lambda: __salt__["opensvc.thaw"](name),
        f"{name} is thawed",
        "frozen",
        "thawed",
        timeout,
        refuse=refuse,
        clear=True,
    )


def cleared(name, timeout=60):
    """
    No instance of an object is held back by an earlier failure.

    .. code-block:: yaml

        An earlier failure is forgotten:
          opensvc.cleared:
            - name: slapos/svc/comp1

    name
        The object (str).
    timeout
        Seconds (int) until it gives up.

    It repairs nothing: find out first why it failed. What failed, and what the agent says of it, is in the comment, also in test mode.
    """
    return _reach(
        name,
        "cleared",
        lambda: _clear(name, __salt__["opensvc.check"](name, "cleared", fresh=False)),
        f"{name} is held back by no failure",
        "state",
        "not failed",
        timeout,
    )


def standby(name, timeout=300):
    """
    This node's instance of an object that is up on another only stands by: what an action that failed has left up here is stopped.

    .. code-block:: yaml

        Nothing but the standby is up here:
          opensvc.standby:
            - name: slapos/svc/comp1

    name
        The object (str).
    timeout
        Seconds (int) until it gives up.

    It refuses where the object is up here, or up nowhere. Standby resources stay up. Only what is left is stopped, by its name: a stop of the whole instance
    would freeze it (agent 2.1).
    """

    def left():
        return __salt__["opensvc.check"](name, "standby", fresh=False)["value"]

    def refuse(_status):
        if left() is None:
            return "it is up on no other node, so what is up here is needed; to start it: state opensvc.started, to have it elsewhere: opensvc.placed"
        return None

    return _reach(
        name,
        "standby",
        lambda: __salt__["opensvc.stop"](name, rids=left(), local=True, timeout=timeout),
        f"the instance of {name} on this node only stands by",
        "up",
        [],
        timeout,
        refuse=refuse,
    )


def healthy(name, timeout=300):
    """
    An object is up on one node, every other instance is a sound standby, nothing is frozen, failed, warned of or under way. Changes nothing.

    .. code-block:: yaml

        The service is healthy:
          opensvc.healthy:
            - name: slapos/svc/comp1
            - timeout: 120

    name
        The object (str).
    timeout
        Seconds (int) to wait for it; it gives up sooner when an instance has failed. In test mode it does not wait.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    try:
        found = __salt__["opensvc.check"](name, "healthy", fresh=False)
        if not found["done"] and not __opts__["test"]:
            found = __salt__["opensvc.wait"](name, "healthy", timeout=timeout)
        ret["comment"] = f"{name} is healthy: {found['seen']}"
        if not found["done"]:
            ret.update(result=None, comment=f"{name} is not healthy now: {found['seen']}")
    except (CommandExecutionError, SaltInvocationError) as error:
        ret.update(result=False, comment=str(error))
    return ret


def resource_started(name, rids, timeout=600, clear=False):
    """
    Resources of an object are up on this node.

    .. code-block:: yaml

        re6st runs:
          opensvc.resource_started:
            - name: slapos/svc/comp1
            - rids: ['app#0']

    name
        The object (str).
    rids
        The resources (list of str), which have to be enabled. What they need below, such as the filesystem, has to be up.
    timeout
        Seconds (int) until it gives up.
    clear
        Forget an earlier failure and try again (bool).
    """

    def refuse(status):
        off = sorted(
            {
                rid
                for one in status["instances"].values()
                for rid in rids
                if one["resources"].get(rid, {}).get("disable")
            }
        )
        return f"{', '.join(off)} is disabled; enable it first (opensvc.enabled)" if off else None

    return _reach(
        name,
        "resources_up",
        lambda: __salt__["opensvc.start"](name, rids=rids, timeout=timeout),
        f"{', '.join(rids)} of {name} is up",
        "status",
        dict.fromkeys(rids, "up"),
        timeout,
        refuse=refuse,
        clear=clear,
        rids=rids,
    )


def enabled(name, rids, timeout=120):
    """
    Actions reach resources of an object, on all nodes. They are not started by it.

    .. code-block:: yaml

        Tasks of SlapOS are scheduled:
          opensvc.enabled:
            - name: slapos/svc/comp1
            - rids: ['task#collect', 'task#software']

    name
        The object (str).
    rids
        The resources (list of str).
    timeout
        Seconds (int) until all nodes know.
    """
    return _able(name, rids, timeout, False)


def disabled(name, rids, timeout=120):
    """
    Actions skip resources of an object, on all nodes. What runs is not stopped by it.

    .. code-block:: yaml

        No task runs during the maintenance:
          opensvc.disabled:
            - name: slapos/svc/comp1
            - rids: ['task#collect', 'task#software']

    name
        The object (str).
    rids
        The resources (list of str).
    timeout
        Seconds (int) until all nodes know.
    """
    return _able(name, rids, timeout, True)


def _able(name, rids, timeout, wanted):
    word = "disabled" if wanted else "enabled"
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    before, acting = {}, False

    def differing():
        config = __salt__["opensvc.config_show"](name)
        if config is None:
            raise CommandExecutionError(f"There is no object {name} on this node")
        known = __utils__["opensvc_goal.disabled"](config, rids)
        return {rid: state for rid, state in known.items() if state is not wanted}

    def changed(left):
        old = "enabled" if wanted else "disabled"
        return {rid: {"old": old, "new": word} for rid in before if rid not in left}

    try:
        before = differing()
        if not before:
            ret["comment"] = f"{', '.join(rids)} of {name} {word} already"
            return ret
        if __opts__["test"]:
            comment = f"{', '.join(sorted(before))} of {name} would be {word}"
            ret.update(result=None, changes=changed([]), comment=comment)
            return ret
        acting = True
        __salt__["opensvc.disable" if wanted else "opensvc.enable"](name, sorted(before))
        left = differing()
        if left:
            raise CommandExecutionError(
                f"The agent reported no error, but {', '.join(sorted(left))} of {name} is still not {word}"
            )
        __salt__["opensvc.wait"](name, f"resources_{word}", rids=sorted(before), timeout=timeout)
        ret["changes"] = changed([])
        ret["comment"] = f"{', '.join(sorted(before))} of {name} {word}"
    except (CommandExecutionError, SaltInvocationError) as error:
        if __opts__["test"] and not before:
            ret.update(result=None, comment=f"{error}; its resources would be {word}")
            return ret
        ret.update(result=False, comment=str(error))
        if acting:
            try:
                ret["changes"] = changed(differing())
            except CommandExecutionError:
                pass
    return ret
