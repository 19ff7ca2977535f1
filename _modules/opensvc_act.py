"""
OpenSVC cluster agent, 2.1 and 3: acts. Part of the ``opensvc`` execution module, see there.

What concerns all nodes is only asked for here: these functions return when the daemons have accepted. Whether it happened is for ``opensvc.wait``, since
the agent's own ``--wait`` returns too early or with 0 after a failure. What concerns this node only is done when the function returns.
"""

import os
import re
import stat
import time

import salt.utils.atomicfile
import salt.utils.data
import salt.utils.files
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
    args = [path, "instance", verb] if agent.major >= 3 else [path, verb, "--local"]
    if rids:
        args += ["--rid", ",".join(rids)]
    what = ", ".join(rids) if rids else "the instance"
    return agent.act(
        [*args, *options],
        f"{verb} of {what} of {path} on {agent.here}",
        f"om {path} print status -r",
        timeout,
    )


def provision(path, rids=None, local=False, leader=False, timeout=600):
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
    timeout
        Seconds (int) after which the agent's command is ended, this node only.

    Returns ``{"warnings": [...]}``. Over all nodes it returns when the daemons have accepted: wait for it (:py:func:`wait`, condition provisioned), since
    ``--wait`` of agent 2.1 returns 0 also when every instance failed. Raises CommandExecutionError when the agent refuses or, on this node, fails.
    """
    if not rids and not local:
        return _orchestrate(path, "provision")
    return _inline(path, "provision", rids, ["--leader"] if leader else [], timeout)


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


def purge(path):
    """
    Stop an object, remove what its resources have made, DATA INCLUDED, and remove its configuration.

    CLI Example:

    .. code-block:: bash

        salt demo1 opensvc.purge slapos/svc/old

    path
        The object (str).

    Returns ``{"warnings": [...]}`` when the daemons have accepted. Raises CommandExecutionError when they refuse.
    """
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


# --- Membership --------------------------------------------------------------------------------


def node_thaw():
    """
    Let the cluster act on this node's objects again.

    CLI Example:

    .. code-block:: bash

        salt demo1 opensvc.node_thaw

    Returns ``{"warnings": [...]}``. Raises CommandExecutionError when the agent refuses.
    """
    args = ["node", "unfreeze"] if _agent().major >= 3 else ["node", "thaw", "--local"]
    return _agent().act(args, f"thawing node {_agent().here}")


def node_freeze():
    """
    Keep the cluster from acting on this node's objects by itself.

    CLI Example:

    .. code-block:: bash

        salt demo1 opensvc.node_freeze

    Returns ``{"warnings": [...]}``. Raises CommandExecutionError when the agent refuses.
    """
    args = ["node", "freeze"] if _agent().major >= 3 else ["node", "freeze", "--local"]
    return _agent().act(args, f"freezing node {_agent().here}")


def rejoin(node, timeout=180):
    """
    Take this node into the cluster of ``node``, with the secret in this node's own cluster.conf.

    CLI Example:

    .. code-block:: bash

        salt demo2 opensvc.rejoin demo1

    node
        A member of the cluster (str).
    timeout
        Seconds (int) after which the agent's command is ended.

    Returns ``{"warnings": [...]}``. Raises CommandExecutionError when the member cannot be reached or refuses the secret.
    """
    __utils__["opensvc_agent.split_path"](node)
    if _agent().major >= 3:
        raise CommandExecutionError(
            f"OpenSVC: agent 3 joins with a token of 60 seconds on its command line, which this module does not do. By hand: on {node} "
            f"'om daemon auth --role join', here 'om cluster join --node {node} --token …'"
        )
    return _agent().act(
        ["daemon", "rejoin", "--node", node],
        f"joining the cluster of {node}",
        f"om mon on {node}, port 1214 between the nodes, and whether the secret is that cluster's",
        timeout=timeout,
    )


def join(node, secret_sealed=None, secret_pillar=None, timeout=180):
    """
    Take this node into the cluster of ``node`` without showing the secret to anyone: it goes into this node's cluster.conf, mode 0600.

    CLI Example:

    .. code-block:: bash

        salt demo2 opensvc.join demo1 secret_pillar=opensvc:cluster_secret

    node
        A member of the cluster (str).
    secret_sealed
        The cluster's secret, sealed for this minion (text from ``slapos_ha.sealed_cluster_secret``).
    secret_pillar
        Or the pillar key under which the secret is (str).
    timeout
        Seconds (int) after which the agent's command is ended.

    Returns ``{"warnings": [...]}``; the nodes hear each other some seconds later (:py:func:`wait_member`). When the join fails, the file is put back and a
    node that was not frozen is thawed again. Raises CommandExecutionError when there is no secret, or as :py:func:`rejoin` does.
    """
    if bool(secret_sealed) == bool(secret_pillar):
        raise SaltInvocationError("give secret_sealed or secret_pillar, one of them")
    if secret_sealed:
        secret = __salt__["slapos_ha.unseal"](secret_sealed)
    else:
        # Not pillar.get: on Salt 3008 it answers a module with asterisks.
        secret = salt.utils.data.traverse_dict_and_list(__pillar__, secret_pillar)
    if not isinstance(secret, str) or not re.fullmatch(r"\S+", secret):
        raise CommandExecutionError(
            f"OpenSVC: there is no cluster secret {'in what was sealed' if secret_sealed else 'in pillar ' + secret_pillar}"
        )
    agent = _agent()
    if agent.major >= 3:
        return rejoin(node)
    was_frozen = agent.status()["nodes"].get(agent.here, {}).get("frozen", False)
    # The daemon may go on running: it takes the file's new secret at its next look, and rejoin replaces the file by the cluster's.
    name = __utils__["opensvc_agent.config_file"](agent.etc, "cluster")
    before = agent.text("cluster") or ""
    ours = __utils__["opensvc_agent.set_in_text"](before, "cluster", "secret", secret)
    _write(name, ours)
    try:
        return rejoin(node, timeout)
    except CommandExecutionError as error:
        # Only a file that the agent has not replaced meanwhile is ours to put back.
        if agent.text("cluster") == ours:
            _write(name, before)
            if not was_frozen:
                node_thaw()
        raise CommandExecutionError(str(error).replace(secret, "(secret)")) from None


def _write(name, text):
    with salt.utils.files.set_umask(0o077):
        with salt.utils.atomicfile.atomic_open(name, "w") as stream:
            stream.write(text)
        os.chmod(name, stat.S_IRUSR | stat.S_IWUSR)
