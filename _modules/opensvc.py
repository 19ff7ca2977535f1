"""
OpenSVC cluster agent, 2.1 and 3: what it is doing. This module's functions are in three files: this one asks, ``opensvc_config`` holds configurations
and keys, ``opensvc_act`` makes the agent act.

:depends: the ``om`` command of the OpenSVC agent; the utils ``opensvc_om``, ``opensvc_agent`` and ``opensvc_goal`` of this formula
:configuration: optional, in the minion's configuration:

    .. code-block:: yaml

        opensvc.om: /usr/bin/om       # default: om from the PATH
        opensvc.etc: /etc/opensvc     # where the agent keeps its configuration files

"Does not exist" is ``None``; "cannot be asked" (no agent, no daemon, an answer that is not understood) raises CommandExecutionError. What runs is asked
from the daemon with one ``om daemon status`` (agent 3: ``om cluster status``); states of one run share the answer until something acts.
"""

import time

from salt.exceptions import CommandExecutionError

__virtualname__ = "opensvc"

# With all monitors idle for so many seconds after a request the agent will not start anything more by itself.
_STALLED_AFTER = 45


def __virtual__():
    return __virtualname__


def _agent():
    return __utils__["opensvc_om.agent"](__salt__, __utils__, __opts__, __context__)


def version():
    """
    Return which agent is installed.

    CLI Example:

    .. code-block:: bash

        salt demo1 opensvc.version

    Returns ``{"major": 2, "version": "2.1-1890"}``. Agent 2.1 says its version to ``om node --version``, agent 3 to ``om --version``; the answer is kept
    for the rest of the job. Raises CommandExecutionError when there is no agent, or one that is neither.
    """
    return _agent().version()


# --- What the cluster is doing ------------------------------------------------------------------------------------------------------------------


def cluster_status(fresh=True):
    """
    Return the state of the cluster, its nodes, heartbeats and objects, in one shape for both agents.

    CLI Example:

    .. code-block:: bash

        salt demo1 opensvc.cluster_status

    fresh
        False (bool) accepts an answer that another state of the same run got up to 15 seconds ago, if nothing has acted since.

    Returns a dict with ``cluster`` (name, id, nodes), ``nodes`` (only those that answer: state, frozen, agent), ``heartbeats`` (rx, tx, peers with
    ``beating``: heard and reached) and ``objects`` by path: avail, overall, provisioned (True, False, "mixed" or "n/a"), frozen (thawed, frozen, mixed or
    n/a), placement, scope (its nodes) and instances by node with avail, overall, optional, frozen, provisioned, state, global_expect, local_expect, leader and resources.
    Raises CommandExecutionError when the daemon does not answer or its answer is not understood.

    A standby that agent 3 calls "stdby up" may have an Inconsistent or Outdated disk below: ask DRBD too.
    """
    return _agent().status(fresh)


def status(path, fresh=True):
    """
    Return the state of one object.

    CLI Example:

    .. code-block:: bash

        salt demo1 opensvc.status slapos/svc/comp1

    path
        The object, ``namespace/kind/name`` (str).
    fresh
        As for :py:func:`cluster_status` (bool).

    Returns the object's part of :py:func:`cluster_status`, or None when the daemon answers and no node has such an object. Raises CommandExecutionError
    when the daemon cannot be asked.
    """
    __utils__["opensvc_agent.split_path"](path)
    return cluster_status(fresh)["objects"].get(path)


def instance_status(path, node=None, fresh=True):
    """
    Return the state of an object on one node.

    CLI Example:

    .. code-block:: bash

        salt demo1 opensvc.instance_status slapos/svc/comp1

    path
        The object (str).
    node
        The node's name (str); this one when left out.
    fresh
        As for :py:func:`cluster_status` (bool).

    Returns the instance's part of :py:func:`cluster_status`, or None when the object has no instance there. Raises CommandExecutionError as it does.
    """
    known = status(path, fresh)
    return known["instances"].get(node or _agent().here) if known else None


def resource_status(path, rid, node=None, fresh=True):
    """
    Return the state of one resource on one node.

    CLI Example:

    .. code-block:: bash

        salt demo1 opensvc.resource_status slapos/svc/comp1 'app#0'

    path
        The object (str).
    rid
        The resource, such as ``app#0`` (str).
    node
        The node's name (str); this one when left out.
    fresh
        As for :py:func:`cluster_status` (bool).

    Returns a dict of status, type, label, disable, optional, standby, subset, provisioned (bool or None) and log (list of str), or None when there is no
    such resource. Raises CommandExecutionError when the daemon cannot be asked.
    """
    known = instance_status(path, node, fresh)
    return known["resources"].get(rid) if known else None


def nodes():
    """
    Return the nodes of the cluster.

    CLI Example:

    .. code-block:: bash

        salt demo1 opensvc.nodes

    Returns a dict of every member to its state, or to None for one that does not answer. Raises CommandExecutionError when the daemon cannot be asked.
    """
    known = cluster_status()
    return {node: known["nodes"].get(node) for node in known["cluster"]["nodes"]}


def heartbeats():
    """
    Return the heartbeats of the cluster as this node sees them.

    CLI Example:

    .. code-block:: bash

        salt demo1 opensvc.heartbeats

    Returns the heartbeats of :py:func:`cluster_status`. Raises CommandExecutionError when the daemon cannot be asked.
    """
    return cluster_status()["heartbeats"]


def objects():
    """
    Return the objects of the cluster.

    CLI Example:

    .. code-block:: bash

        salt demo1 opensvc.objects

    Returns a sorted list of paths. Raises CommandExecutionError when the daemon cannot be asked.
    """
    return sorted(cluster_status()["objects"])


def daemon_running():
    """
    Tell whether the agent's daemon runs on this node.

    CLI Example:

    .. code-block:: bash

        salt demo1 opensvc.daemon_running

    Returns a bool. Raises CommandExecutionError when there is no agent.
    """
    agent = _agent()
    major = agent.major
    answer = agent.run(["daemon", "running"], 60)
    if answer["retcode"] not in (0, 1):
        why = __utils__["opensvc_agent.complaint"](answer["stdout"], answer["stderr"])
        raise CommandExecutionError(f"OpenSVC: asking whether the daemon runs failed: {why}")
    # Agent 3 prints the names of the nodes whose daemon runs.
    return answer["retcode"] == 0 and (major < 3 or agent.here in answer["stdout"].split())


def schedule(path):
    """
    Return what the agent is going to run for an object on this node, and when.

    CLI Example:

    .. code-block:: bash

        salt demo1 opensvc.schedule slapos/svc/comp1

    path
        The object (str).

    Returns a list of ``{"rid": "task#collect" or None, "action", "schedule", "last_run", "next_run"}``; times are seconds since 1970, None for never.
    Disabled tasks are not in it. Raises CommandExecutionError when the object does not exist or the agent cannot be asked.
    """
    agent = _agent()
    agent.existing(path)
    major = agent.major
    args = [path, "print", "schedule", "--format", "json"]
    if major >= 3:
        args = [path, "schedule", "list", "-o", "json"]
    answer = agent.ask(args, f"asking for the schedule of {path}")
    return __utils__["opensvc_agent.parse_schedule"](answer["stdout"], major, agent.here)


def check(path, condition, node=None, rids=None, nodes=None, fresh=True):
    """
    Tell whether an object has reached a goal, and whether it still can.

    CLI Example:

    .. code-block:: bash

        salt demo1 opensvc.check slapos/svc/comp1 placed node=demo1

    path
        The object (str).
    condition
        One of placed (on ``node``, and on no other), started, stopped, provisioned, thawed, frozen, settled (nothing under way), cleared (nothing failed),
        healthy, gone, resources_up and resources_provisioned (``rids`` on ``node``), resources_enabled and resources_disabled (``rids`` everywhere).
    node
        Node's name (str); this node when left out.
    rids
        Resources (list of str).
    nodes
        Nodes whose instances have to be known (list of str) for provisioned, healthy, resources_enabled and resources_disabled; the object's own nodes
        when left out.
    fresh
        As for :py:func:`cluster_status` (bool).

    Returns ``{"done": bool, "dead": why it cannot come true or None, "failed": [states], "wishes": [what the cluster wants], "quiet": nothing is under way, "value": what is so now, "seen":
    str}``. Raises CommandExecutionError when the daemon cannot be asked.
    """
    __utils__["opensvc_agent.split_path"](path)
    known = cluster_status(fresh)
    return __utils__["opensvc_goal.verdict"](
        condition,
        known["objects"].get(path),
        node=node or _agent().here,
        rids=rids,
        nodes=nodes,
    )


def wait(path, condition, node=None, rids=None, nodes=None, timeout=300, interval=2):
    """
    Wait until an object has reached a goal.

    CLI Example:

    .. code-block:: bash

        salt -t 330 demo1 opensvc.wait slapos/svc/comp1 started timeout=300

    path condition node rids nodes
        As for :py:func:`check`.
    timeout
        Seconds (int) after which it gives up.
    interval
        Seconds (int) between two questions, each a process of ``om``.

    Returns what :py:func:`check` returned last. Raises CommandExecutionError as soon as the goal cannot be reached any more (an instance failed, or the
    agent is idle and has stopped trying), or when the time is over, with what was seen last.
    """
    deadline = time.monotonic() + timeout
    idle_since, last = None, "nothing"
    while True:
        found = None
        try:
            found = check(path, condition, node, rids, nodes)
            last = found["seen"]
        except CommandExecutionError as error:
            # The daemon restarts itself now and then (a join does it): that is no answer yet.
            last = str(error)
        now = time.monotonic()
        if found and found["done"]:
            return found
        if found and found["dead"]:
            raise CommandExecutionError(
                f"OpenSVC: {path} cannot become {_goal(condition, node, rids)}: {found['dead']}. Seen: {last}. "
                f"Find out why: om {path} print status -r; then om {path} abort, om {path} clear"
            )
        if not found or not found["quiet"] or condition in ("healthy", "resources_up"):
            idle_since = None
        elif idle_since is None:
            idle_since = now
        elif now - idle_since > _STALLED_AFTER:
            raise CommandExecutionError(
                f"OpenSVC: {path} does not become {_goal(condition, node, rids)}: the agent has been idle for {_STALLED_AFTER} s. Seen: {last}. "
                f"Find out why: om {path} print status -r"
            )
        if now >= deadline:
            raise CommandExecutionError(
                f"OpenSVC: {path} is not {_goal(condition, node, rids)} after {timeout} s. Seen last: {last}. See: om {path} print status -r"
            )
        time.sleep(min(interval, max(0.0, deadline - now)))


def _goal(condition, node, rids):
    words = condition.replace("_", " ")
    if condition == "placed":
        words += f" on {node or _agent().here}"
    return f"{words} ({', '.join(rids)})" if rids else words


def wait_member(node, heartbeats=None, cluster=None, timeout=180, interval=2):
    """
    Wait until this node and ``node`` are members of one cluster and hear each other on every heartbeat.

    CLI Example:

    .. code-block:: bash

        salt -t 200 demo2 opensvc.wait_member demo1

    node
        The other member's name (str), or None to wait for this node's own daemon only.
    heartbeats
        Names of the heartbeats that have to be there (list of str, such as ``hb#1``); those of the cluster when left out.
    cluster
        The name (str) that the cluster has to have.
    timeout interval
        As for :py:func:`wait`, in seconds (int).

    Returns the cluster status. Raises CommandExecutionError when the time is over, with what is missing.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            known = cluster_status()
            missing = __utils__["opensvc_goal.apart"](
                known, _agent().here, node, heartbeats, cluster
            )
        except CommandExecutionError as error:
            known, missing = None, str(error)
        if not missing:
            return known
        if time.monotonic() >= deadline:
            raise CommandExecutionError(
                f"OpenSVC: {_agent().here} is not in touch with {node or 'its own daemon'} after {timeout} s: {missing}. See: om mon, and port 10000 between the nodes"
            )
        time.sleep(min(interval, max(0.0, deadline - time.monotonic())))
