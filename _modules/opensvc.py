"""
OpenSVC cluster agent, 2.1 and 3: what it is doing. This module's functions are in four files: this one asks, ``opensvc_config`` holds configurations
and keys, ``opensvc_act`` makes the agent act on objects, ``opensvc_cluster`` on nodes and the cluster itself.

:depends: the ``om`` command of the OpenSVC agent; the utils ``opensvc_om``, ``opensvc_agent``, ``opensvc_goal`` and ``opensvc_seal`` of this formula
:configuration: optional, in the minion's configuration:

    .. code-block:: yaml

        opensvc.om: /usr/bin/om       # default: om from the PATH
        opensvc.etc: /etc/opensvc     # where the agent keeps its configuration files

"Does not exist" is ``None``; "cannot be asked" (no agent, no daemon, an answer that is not understood) raises CommandExecutionError. What runs is asked
from the daemon with one ``om daemon status`` (agent 3: ``om cluster status``); states of one run share the answer until something acts.

Both agents' answers have one shape, of which all functions here return parts:

.. code-block:: yaml

    cluster:
      name: paris
      id: ebd6466c-e723-11f1-ab25-5a88b54a1ba5
      nodes: [demo1, demo2]                 # all members
    nodes:                                  # only those that answer
      demo1:
        state: idle                         # what its daemon is at: init, rejoin, idle, maintenance, draining, drained …
        frozen: false
        agent: 2.1-1890
        arbitrators:                        # those that the daemon asks; agent 2.1 only with cluster.quorum
          arbitrator#1: {address: demo3, status: up}
    heartbeats:
      hb#1:
        rx: running                         # this node's receiver and sender: running, stopped, missing …
        tx: running
        peers:
          demo2: {beating: true}            # heard and reached
    objects:
      slapos/svc/comp1:
        scope: [demo1, demo2]               # the nodes that are to have it
        avail: up                           # up, down, warn, stdby up, stdby down, n/a, undef, unknown
        overall: warn                       # as avail, with what is optional and what only warns
        provisioned: true                   # true, false, mixed, n/a
        frozen: thawed                      # thawed, frozen, mixed, n/a
        placement: optimal                  # optimal, non-optimal, n/a
        instances:
          demo1:
            avail: up
            overall: warn
            optional: n/a
            frozen: false                   # true or false
            provisioned: true
            state: idle                     # what its monitor is at: idle, starting, stopping, start failed, wait leader …
            global_expect: null             # what the cluster wants of the object: started, placed@demo2 …
            local_expect: started
            leader: true                    # where the placement policy wants it
            resources:
              fs#0:
                status: up
                type: fs.ext4
                label: ext4 /dev/drbd0@/srv/comp1
                disable: false
                optional: false
                standby: false
                subset: null
                provisioned: true           # null where there is nothing to provision
                log: ['warn: …']            # level and text

No function asks by the exit code of ``om PATH status``: 2 means "warn" there for agent 2.1 and "up" for agent 3. A "stdby up" of agent 3 says nothing of
the disk below, which may be Inconsistent: :py:func:`check` asks this formula's ``drbd`` module, where it is there, before it calls an object healthy.
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

    Returns a dict with ``cluster``, ``nodes``, ``heartbeats`` and ``objects``; the head of this module shows it whole. Raises CommandExecutionError when the
    daemon does not answer or its answer is not understood.
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
        What is wanted (str), one of placed (on ``node``, and on no other), optimal (where its placement policy wants it), started, stopped, provisioned, unprovisioned, thawed,
        frozen, settled (nothing under way), settled_here (on ``node``), standby (up on another node, and on ``node`` nothing but standby resources), cleared (nothing failed), healthy, gone,
        resources_up, resources_provisioned and resources_unprovisioned (``rids`` on ``node``), resources_enabled and resources_disabled (``rids`` everywhere). Healthy asks DRBD too (:py:func:`replicas`).
    node
        Node's name (str); this node when left out.
    rids
        Resources (list of str).
    nodes
        Nodes whose instances have to be known (list of str) for provisioned, unprovisioned, healthy, resources_enabled and resources_disabled; the object's
        own nodes when left out.
    fresh
        As for :py:func:`cluster_status` (bool).

    Returns a dict of ``done`` (bool), ``dead`` (why it cannot come true, or None), ``failed`` (list of failed states), ``cause`` (what failed and what the
    agent says of it, or None), ``wishes`` (what the cluster wants), ``quiet`` (nothing is under way, bool), ``value`` (what is so now), ``seen`` (one line
    for people) and ``shared`` (whether it is by an answer that another state had got, bool). Raises CommandExecutionError when the daemon cannot be asked.
    """
    __utils__["opensvc_agent.split_path"](path)
    agent = _agent()
    shared = not fresh and agent.shares()
    known = cluster_status(fresh)["objects"].get(path)
    found = __utils__["opensvc_goal.verdict"](
        condition, known, node=node or agent.here, rids=rids, nodes=nodes
    )
    found["shared"] = shared
    if condition == "healthy" and found["done"]:
        below = [
            f"DRBD's {one['resource']} below {rid}: {one['trouble']}"
            for where in sorted(known["instances"])
            for rid, one in _replicas(known, where, fresh).items()
            if one["trouble"]
        ]
        if below:
            found["done"], found["seen"] = False, "; ".join([found["seen"], *below])
    return found


def replicas(path, node=None, fresh=True):
    """
    Return the DRBD resources below an object's disks on a node, and what speaks against them.

    CLI Example:

    .. code-block:: bash

        salt demo1 opensvc.replicas slapos/svc/comp1 demo2

    path
        The object (str).
    node
        The node whose disks are meant (str); this one when left out. It is asked of DRBD here, which knows its peers' disks too.
    fresh
        As for :py:func:`cluster_status` (bool), of the daemon; DRBD is always asked.

    Returns ``{"disk#3": {"resource": "comp1", "trouble": None}}``; trouble is text when the disk is not UpToDate, not connected, being resynchronised, or
    when DRBD cannot be asked. Empty without DRBD disks, without an instance here, and without the ``drbd`` module of this formula. Raises
    CommandExecutionError when the daemon cannot be asked.
    """
    known = status(path, fresh)
    return _replicas(known, node or _agent().here, True) if known else {}


def _replicas(known, node, fresh):
    here = _agent().here
    names = __utils__["opensvc_goal.replicated"](known, node)
    # Salt's own module drbd, in its place, gives something else as its status.
    if not names or here not in known["instances"] or "drbd.generation_ids" not in __salt__:
        return {}
    try:
        said, trouble = __salt__["drbd.status"](fresh=fresh), None
    except CommandExecutionError as error:
        said, trouble = {}, str(error)
    return {
        rid: {
            "resource": name,
            "trouble": trouble or __utils__["opensvc_goal.unsound"](said.get(name), here, node),
        }
        for rid, name in names.items()
    }


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
                f"Find out why: om {path} logs, om {path} print status -r; then om {path} abort, om {path} clear"
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


def check_nodes(condition, nodes=None):
    """
    Tell whether nodes of the cluster are in a state.

    CLI Example:

    .. code-block:: bash

        salt demo1 opensvc.check_nodes drained nodes='["demo2"]'

    condition
        What is wanted (str), one of idle (nothing under way), frozen, thawed and drained (frozen, and no service is left on the node, standby resources included).
    nodes
        Their names (list of str); all members when left out.

    Returns a dict of ``done`` (bool), ``dead`` (why it cannot come true, or None), ``value`` (by node, what it is) and ``seen`` (one line for people).
    Raises CommandExecutionError when the daemon cannot be asked.
    """
    return __utils__["opensvc_goal.nodes_verdict"](condition, cluster_status(), nodes)


def wait_nodes(condition, nodes=None, timeout=300, interval=2):
    """
    Wait until nodes of the cluster are in a state.

    CLI Example:

    .. code-block:: bash

        salt -t 330 demo1 opensvc.wait_nodes drained nodes='["demo2"]' timeout=300

    condition nodes
        As for :py:func:`check_nodes`.
    timeout interval
        As for :py:func:`wait`, in seconds (int).

    Returns what :py:func:`check_nodes` returned last. Raises CommandExecutionError as soon as it cannot come true any more, or when the time is over, with
    what was seen last.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            found = check_nodes(condition, nodes)
        except CommandExecutionError as error:
            found = {"done": False, "dead": None, "seen": str(error)}
        if found["done"]:
            return found
        late = time.monotonic() >= deadline
        if found["dead"] or late:
            raise CommandExecutionError(
                f"OpenSVC: {' and '.join(nodes) if nodes else 'the cluster'} {'is not' if late else 'cannot become'} {condition}"
                f"{f' after {timeout} s' if late else ''}: {found['dead'] or found['seen']}. See: om mon"
            )
        time.sleep(min(interval, max(0.0, deadline - time.monotonic())))


def wait_arbitrator(name, timeout=90, interval=5):
    """
    Wait until this node's daemon reaches an arbitrator.

    CLI Example:

    .. code-block:: bash

        salt -t 120 demo1 opensvc.wait_arbitrator 'arbitrator#1'

    name
        The arbitrator (str), such as ``arbitrator#1``.
    timeout interval
        As for :py:func:`wait`, in seconds (int). The daemons ask their arbitrators once a minute, agent 2.1 only while cluster.quorum is true.

    Returns the arbitrator's part of :py:func:`cluster_status`. Raises CommandExecutionError when the time is over, with what was seen last.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            here = cluster_status()["nodes"].get(_agent().here, {})
            known = here.get("arbitrators", {}).get(name)
            seen = f"{known['address']} is {known['status']}" if known else "the daemon asks none"
        except CommandExecutionError as error:
            known, seen = None, str(error)
        if known and known["status"] == "up":
            return known
        if time.monotonic() >= deadline:
            raise CommandExecutionError(
                f"OpenSVC: {_agent().here} does not reach {name} after {timeout} s: {seen}. See: om mon; port 1214 of the arbitrator (agent 3: 1215)"
            )
        time.sleep(min(interval, max(0.0, deadline - time.monotonic())))
