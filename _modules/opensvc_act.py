"""
OpenSVC cluster agent, 2.1 and 3: acts. Part of the ``opensvc`` execution module, see there.

What concerns all nodes is only asked for here: these functions return when the daemons have accepted. Whether it happened is for ``opensvc.wait``, since
the agent's own ``--wait`` returns too early or with 0 after a failure. What concerns this node only is done when the function returns.
"""

import time

from salt.exceptions import CommandExecutionError, SaltInvocationError

# A third file of the module opensvc: the loader adds its functions to those of opensvc.py.
__virtualname__ = "opensvc"

_VERBS_3 = {"thaw": "unfreeze"}


def __virtual__():
    return __virtualname__


def _agent():
    return __utils__["opensvc_om.agent"](__salt__, __utils__, __opts__, __context__)


def _orchestrate(path, verb, *options, retry=60):
    """Ask the daemons of all nodes for something. They refuse while an instance is in the middle of something: that is asked again for a while."""
    agent = _agent()
    agent.existing(path)
    verb = _VERBS_3.get(verb, verb) if agent.major >= 3 else verb
    deadline = time.monotonic() + retry
    while True:
        try:
            return agent.act(
                [path, verb, *options], f"{verb} of {path}", f"om {path} print status -r"
            )
        except CommandExecutionError as error:
            if not __utils__["opensvc_agent.busy"](str(error)) or time.monotonic() >= deadline:
                raise
        time.sleep(2)


def _known(path, rids):
    """The resources of an object, which have to exist: the agent acts on nothing, with the code 0, when none does."""
    config = _agent().existing(path)
    if not isinstance(rids, list):
        raise SaltInvocationError(f"rids: a list of resources of {path} is wanted")
    # Agent 2.1 gives every service a sync#i0 that is not in its configuration.
    unknown = sorted(rid for rid in rids if rid not in config and rid != "sync#i0")
    if unknown:
        raise SaltInvocationError(f"{path} has no resource {', '.join(unknown)}")
    return config


def _inline(path, verb, rids=None, options=(), timeout=600):
    """Do something with this node's instance only, now, in this process."""
    _known(path, rids or [])
    agent = _agent()
    args = [path, "instance", verb] if agent.major >= 3 else [path, *verb.split(), "--local"]
    if rids:
        args += ["--rid", ",".join(rids)]
    what = ", ".join(rids) if rids else "the instance"
    return agent.act(
        [*args, *options],
        f"{verb} of {what} of {path} on {agent.here}",
        f"om {path} print status -r",
        timeout,
    )


def provision(path, rids=None, local=False, leader=False, state_only=False, timeout=600):
    """
    Make what the resources of an object need: files, volume groups, filesystems. What exists already is kept.

    CLI Example:

    .. code-block:: bash

        salt -t 620 demo1 opensvc.provision slapos/svc/comp1 rids='["disk#0","disk#1"]'

    path
        The object (str).
    rids
        Only these resources, on this node (list of str).
    local
        Only this node's instance (bool); with ``rids`` it always is.
    leader
        Also make what is shared and made once for all nodes, such as the filesystem (bool, this node only).
    state_only
        Make nothing: the resources (``rids``, on this node) were made by somebody else, and the agent is told so (bool).
    timeout
        Seconds (int) after which the agent's command is ended, this node only.

    Returns ``{"warnings": [...]}``. Over all nodes it returns when the daemons have accepted: wait for it (:py:func:`wait`, condition provisioned), since
    ``--wait`` of agent 2.1 returns 0 also when every instance failed. Raises CommandExecutionError when the agent refuses or, on this node, fails.
    """
    if state_only:
        if not rids:
            raise SaltInvocationError(
                "state_only: needs rids, the resources that were made already"
            )
        if _agent().major >= 3:
            return _inline(path, "provision", rids, ["--state-only"], timeout)
        return _inline(path, "set provisioned", rids, (), timeout)
    if not rids and not local:
        return _orchestrate(path, "provision")
    return _inline(path, "provision", rids, ["--leader"] if leader else [], timeout)


def unprovision(path, rids=None, local=False, leader=False, force=False, timeout=600):
    """
    Remove what the resources of an object have made: files, volume groups, filesystems, DATA INCLUDED. Its configuration stays.

    CLI Example:

    .. code-block:: bash

        salt demo2 opensvc.unprovision slapos/svc/comp1 rids='["disk#3"]' force=True

    path
        The object (str).
    rids
        Only these resources, on this node (list of str).
    local
        Only this node's instance (bool); with ``rids`` it always is. Over all nodes the agent stops the object first.
    leader
        Also remove what was made once for all nodes, such as the filesystem (bool, this node only).
    force
        Has to be True (bool): nothing of it comes back.
    timeout
        Seconds (int) after which the agent's command is ended, this node only.

    Returns ``{"warnings": [...]}``; over all nodes as soon as the daemons have accepted (:py:func:`wait`, condition unprovisioned, or for some resources
    resources_unprovisioned). Raises CommandExecutionError without ``force``, while a resource of ``rids`` is in use by the running object, or when the agent
    refuses or fails.
    """
    if rids:
        _known(path, rids)
    what = ", ".join(rids) if rids else "everything"
    if force is not True:
        raise CommandExecutionError(
            f"OpenSVC: {what} that {path} has made would be removed, data included; give force=True if that is meant"
        )
    if not rids and not local:
        return _orchestrate(path, "unprovision")
    here = __salt__["opensvc.instance_status"](path) if rids else None
    if here and here["avail"] in ("up", "warn"):
        raise CommandExecutionError(
            f"OpenSVC: {path} is {here['avail']} on {_agent().here} and may use {what}; stop it first"
        )
    return _inline(path, "unprovision", rids, ["--leader"] if leader else [], timeout)


def start(path, rids=None, local=False, timeout=600):
    """
    Start an object where it belongs, or its resources on this node.

    CLI Example:

    .. code-block:: bash

        salt demo1 opensvc.start slapos/svc/comp1

    path
        The object (str).
    rids
        Only these resources, on this node (list of str).
    local
        This node's instance (bool): the cluster is not asked whether it runs elsewhere.
    timeout
        Seconds (int) after which the agent's command is ended, this node only.

    Returns ``{"warnings": [...]}``; over all nodes as soon as the daemons have accepted. Raises CommandExecutionError when the agent refuses or fails.
    """
    return (
        _inline(path, "start", rids, timeout=timeout)
        if rids or local
        else _orchestrate(path, "start")
    )


def stop(path, rids=None, local=False, timeout=600):
    """
    Stop an object everywhere, or resources on this node. Standby resources stay up. A stop over all nodes leaves the instances frozen.

    CLI Example:

    .. code-block:: bash

        salt demo1 opensvc.stop slapos/svc/comp1

    path rids local timeout
        As for :py:func:`start`.

    Returns ``{"warnings": [...]}``; over all nodes as soon as the daemons have accepted. Raises CommandExecutionError when the agent refuses or fails.
    """
    return (
        _inline(path, "stop", rids, timeout=timeout)
        if rids or local
        else _orchestrate(path, "stop")
    )


def restart(path, rids=None, local=False, timeout=600):
    """
    Stop and start an object, or resources on this node.

    CLI Example:

    .. code-block:: bash

        salt demo1 opensvc.restart slapos/svc/comp1 rids='["app#1"]'

    path rids local timeout
        As for :py:func:`start`.

    Returns ``{"warnings": [...]}``; over all nodes as soon as the daemons have accepted. Raises CommandExecutionError when the agent refuses or fails.
    """
    return (
        _inline(path, "restart", rids, timeout=timeout)
        if rids or local
        else _orchestrate(path, "restart")
    )


def switch(path, node, retry=120):
    """
    Ask the cluster to move an object to a node.

    CLI Example:

    .. code-block:: bash

        salt demo1 opensvc.switch slapos/svc/comp1 demo2

    path
        The object (str).
    node
        Where to (str).
    retry
        Seconds (int) during which the request is repeated while an instance is in the middle of something, for instance still stopping after another
        switch.

    Returns ``{"warnings": [...]}`` when the daemons have accepted; the move takes half a minute or more after that (:py:func:`wait`, condition placed).
    Raises CommandExecutionError when they refuse.
    """
    __utils__["opensvc_agent.split_path"](node)
    return _orchestrate(path, "switch", "--to", node, retry=retry)


def takeover(path, retry=120):
    """
    Ask the cluster to move an object to this node.

    CLI Example:

    .. code-block:: bash

        salt demo2 opensvc.takeover slapos/svc/comp1

    path retry
        As for :py:func:`switch`.

    Returns ``{"warnings": [...]}`` when the daemons have accepted (:py:func:`wait`, condition placed). Raises CommandExecutionError when they refuse.
    """
    return _orchestrate(path, "takeover", retry=retry)


def giveback(path, retry=120):
    """
    Ask the cluster to move an object to the node that its placement policy prefers.

    CLI Example:

    .. code-block:: bash

        salt demo1 opensvc.giveback slapos/svc/comp1

    path retry
        As for :py:func:`switch`.

    Returns ``{"warnings": [...]}`` when the daemons have accepted (:py:func:`wait`, condition optimal). Raises CommandExecutionError when they refuse.
    """
    return _orchestrate(path, "giveback", retry=retry)


def freeze(path):
    """
    Keep the cluster from acting on an object by itself: no failover, no restart.

    CLI Example:

    .. code-block:: bash

        salt demo1 opensvc.freeze slapos/svc/comp1

    path
        The object (str).

    Returns ``{"warnings": [...]}`` when the daemons have accepted. Raises CommandExecutionError when they refuse.
    """
    return _orchestrate(path, "freeze")


def thaw(path):
    """
    Let the cluster act on an object again.

    CLI Example:

    .. code-block:: bash

        salt demo1 opensvc.thaw slapos/svc/comp1

    path
        The object (str).

    Returns ``{"warnings": [...]}`` when the daemons have accepted. Raises CommandExecutionError when they refuse.
    """
    return _orchestrate(path, "thaw")


def clear(path):
    """
    Forget that instances of an object failed, so that the cluster acts on them again. It repairs nothing.

    CLI Example:

    .. code-block:: bash

        salt demo1 opensvc.clear slapos/svc/comp1

    path
        The object (str).

    Returns ``{"warnings": [...]}``. Raises CommandExecutionError when the agent refuses.
    """
    return _orchestrate(path, "clear")


def refresh(path):
    """
    Have the agent look at this node's instance of an object now. By itself it looks every ten minutes (2.1), and after its own acts.

    CLI Example:

    .. code-block:: bash

        salt demo2 opensvc.refresh slapos/svc/comp1

    path
        The object (str).

    Returns ``{"warnings": [...]}``. Raises CommandExecutionError when the agent fails.
    """
    agent = _agent()
    agent.existing(path)
    verb = ["instance", "status"] if agent.major >= 3 else ["print", "status"]
    return agent.act([path, *verb, "-r"], f"looking at {path} on {agent.here}")


def abort(path):
    """
    Have the cluster give up what it wants of an object: after a failure on one node the others may wait for it for ever.

    CLI Example:

    .. code-block:: bash

        salt demo1 opensvc.abort slapos/svc/comp1

    path
        The object (str).

    Returns ``{"warnings": [...]}`` when the daemons have accepted. What an instance is in the middle of is not interrupted. Raises CommandExecutionError
    when they refuse.
    """
    return _orchestrate(path, "abort")


def delete(path):
    """
    Remove the configuration of an object from all nodes. What its resources have made stays.

    CLI Example:

    .. code-block:: bash

        salt demo1 opensvc.delete slapos/cfg/old

    path
        The object (str).

    Returns ``{"warnings": [...]}`` when the daemons have accepted. Raises CommandExecutionError when they refuse.
    """
    return _orchestrate(path, "delete")


def purge(path, force=False):
    """
    Stop an object, remove what its resources have made, DATA INCLUDED, and remove its configuration.

    CLI Example:

    .. code-block:: bash

        salt demo1 opensvc.purge slapos/svc/old force=True

    path
        The object (str).
    force
        Has to be True (bool): nothing of it comes back.

    Returns ``{"warnings": [...]}`` when the daemons have accepted (:py:func:`wait`, condition gone). Raises CommandExecutionError without ``force`` or when
    they refuse.
    """
    if force is not True:
        raise CommandExecutionError(
            f"OpenSVC: {path} and all that it has made would be removed, data included; give force=True if that is meant"
        )
    return _orchestrate(path, "purge")


def _able(path, rids, disabled):
    _known(path, rids)
    if not rids:
        raise SaltInvocationError(f"rids: name resources of {path}; none would mean all of it")
    verb = "disable" if disabled else "enable"
    args = [path, verb, "--rid", ",".join(rids)]
    if _agent().major >= 3:
        args = [path, "config", "update"]
        for rid in rids:
            args += ["--set", f"{rid}.disable=true"] if disabled else ["--unset", f"{rid}.disable"]
    return _agent().act(args, f"{verb} of {', '.join(rids)} of {path}")


def enable(path, rids):
    """
    Let actions reach resources again, on all nodes.

    CLI Example:

    .. code-block:: bash

        salt demo1 opensvc.enable slapos/svc/comp1 '["app#0"]'

    path
        The object (str).
    rids
        The resources (list of str).

    Returns ``{"warnings": [...]}``. Raises CommandExecutionError when the agent refuses, SaltInvocationError when there is no such resource.
    """
    return _able(path, rids, disabled=False)


def disable(path, rids):
    """
    Have all actions skip resources, on all nodes. A running one is not stopped.

    CLI Example:

    .. code-block:: bash

        salt demo1 opensvc.disable slapos/svc/comp1 '["task#collect"]'

    path
        The object (str).
    rids
        The resources (list of str).

    Returns ``{"warnings": [...]}``. Raises CommandExecutionError when the agent refuses, SaltInvocationError when there is no such resource.
    """
    return _able(path, rids, disabled=True)


def sync(path, target="nodes", rids=None, timeout=3600):
    """
    Copy what an object synchronises from this node to others now, whatever its schedule.

    CLI Example:

    .. code-block:: bash

        salt -t 3660 demo1 opensvc.sync slapos/svc/comp1

    path
        The object (str).
    target
        ``nodes`` (the object's other nodes), ``drpnodes`` (those of the recovery site) or ``all`` (str).
    rids
        Only these resources (list of str), such as ``sync#1``.
    timeout
        Seconds (int) after which the agent's command is ended.

    Returns ``{"warnings": [...]}``. Raises CommandExecutionError when a copy fails, also where agent 2.1 returns 0: it marks the failure in what it prints.
    With nothing to synchronise, or from a node on which the object does not run, the agent does nothing and says nothing.
    """
    verbs = {"nodes": "nodes", "drpnodes": "drp", "all": "all"}
    if target not in verbs:
        raise SaltInvocationError(f"target is {', '.join(sorted(verbs))}, not {target!r}")
    _known(path, rids or [])
    args = [path, "sync", verbs[target]]
    if _agent().major >= 3:
        args = [path, "instance", "sync", "update"]
        args += [] if target == "all" else ["--target", target]
    if rids:
        args += ["--rid", ",".join(rids)]
    return _agent().act(
        args, f"synchronising {path}", f"om {path} print status -r", timeout=timeout, strict=True
    )


def run_task(path, rid, timeout=3600):
    """
    Run a task of an object on this node now, whatever its schedule.

    CLI Example:

    .. code-block:: bash

        salt -t 3660 demo1 opensvc.run_task slapos/svc/comp1 'task#collect'

    path
        The object (str).
    rid
        The task (str).
    timeout
        Seconds (int) after which the agent's command is ended.

    Returns ``{"warnings": [...]}``. Raises CommandExecutionError when the task fails or is disabled.
    """
    config = _known(path, [rid])
    if not rid.startswith("task#"):
        raise SaltInvocationError(f"{rid} of {path} is no task")
    if config[rid].get("disable") == "true":
        # The agent returns 0 and runs nothing.
        raise CommandExecutionError(f"OpenSVC: {rid} of {path} is disabled; enable it first")
    args = [path, "instance", "run"] if _agent().major >= 3 else [path, "run"]
    return _agent().act(
        [*args, "--rid", rid], f"running {rid} of {path}", f"om {path} logs", timeout=timeout
    )
