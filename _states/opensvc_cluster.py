"""
States of an OpenSVC cluster and of its members, heartbeats and arbitrators, agents 2.1 and 3. Part of the state module ``opensvc``, see there.

The cluster's configuration is compared with the agent's own file; whether the daemon lives by it is asked of the daemon.
"""

import hashlib

from salt.exceptions import CommandExecutionError, SaltInvocationError

# A third file of the state module opensvc: the loader adds its functions to those of opensvc.py.
__virtualname__ = "opensvc"


def __virtual__():
    return __virtualname__


def _begin(name):
    return {"name": name, "result": True, "changes": {}, "comment": ""}


def _would(ret, comment):
    ret.update(result=None, comment=comment)
    return ret


def _failed(ret, error):
    """In test mode what an earlier state would have installed is no failure."""
    missing = "not installed" in str(error) and __opts__["test"]
    ret.update(result=None if missing else False, comment=str(error))
    return ret


def cluster_present(name, heartbeats=None, timeout=180, force=False, config=None):
    """
    This node's cluster has a name and heartbeats, and the daemon uses them. For the first node; the others become members of it.

    .. code-block:: yaml

        Cluster paris is set up:
          opensvc.cluster_present:
            - name: paris
            - heartbeats:
                hb#1: {type: unicast, timeout: 15}

    name
        The cluster's name (str). It is part of the names of what services make: volume groups, DRBD resources, mount points.
    heartbeats
        A dict of heartbeats (``hb#1``) to their keywords; times are seconds. Others that the cluster has are left alone.
    timeout
        Seconds (int) until the daemon uses it: a fresh agent needs about 25.
    force
        Rename a cluster that has services already (bool): what they have made keeps its old name, and they do not find it.
    config
        A dict of other sections of the cluster's configuration to dicts of keywords, such as ``cluster: {quorum: true}``.
    """
    ret = _begin(name)
    try:
        more = __utils__["opensvc_agent.words"](config or {})
        if more.get("cluster", {}).get("name", name) != name:
            raise SaltInvocationError(f"config: cluster.name is {name}, the state's name")
        wanted = __utils__["opensvc_agent.words"](
            {"cluster": {"name": name, **more.pop("cluster", {})}, **(heartbeats or {}), **more}
        )
        strange = sorted(key for key in heartbeats or {} if not key.startswith("hb#"))
        if strange:
            raise SaltInvocationError(
                f"heartbeats: {', '.join(strange)} is no heartbeat's name; hb#1 is"
            )
        changes = _differing("cluster", wanted)
        if changes and not force and "cluster.name" in changes:
            services = [
                path
                for path in __salt__["opensvc.cluster_status"](fresh=False)["objects"]
                if "/vol/" not in path and "/cfg/" not in path and "/sec/" not in path
            ]
            if services:
                ret["result"] = False
                ret["comment"] = (
                    f"The cluster is called {changes['cluster.name']['old']!r} and has {', '.join(sorted(services))}: what they have made is named "
                    "after it. Give that name, or force: true"
                )
                return ret
        if changes:
            if __opts__["test"]:
                ret["changes"] = changes
                return _would(ret, f"Cluster {name} would be set up")
            __salt__["opensvc.config_set"](
                "cluster", {key: change["new"] for key, change in changes.items()}
            )
            ret["changes"] = _confirmed("cluster", wanted, changes)
        elif __opts__["test"]:
            ret["comment"] = f"Cluster {name} is set up already"
            return ret
        __salt__["opensvc.wait_member"](
            None, heartbeats=sorted(heartbeats or {}), cluster=name, timeout=timeout
        )
        ret["comment"] = f"Cluster {name} is set up" + ("" if changes else " already")
    except (CommandExecutionError, SaltInvocationError) as error:
        ret["changes"] = getattr(error, "done", ret["changes"])
        return _failed(ret, error)
    return ret


def _differing(path, wanted):
    return __utils__["opensvc_agent.difference"](__salt__["opensvc.config_show"](path), wanted)


def _confirmed(path, wanted, changes):
    """The changes that did happen; raises when one did not."""
    left = _differing(path, wanted)
    if left:
        said = "; ".join(
            f"{key} is {change['old']!r}, not {change['new']!r}" for key, change in left.items()
        )
        raise _Partial(
            f"The agent reported no error, but {path} has not become as it was to be: {said}",
            {key: change for key, change in changes.items() if key not in left},
        )
    return changes


class _Partial(CommandExecutionError):
    """Something was done and something not."""

    def __init__(self, message, done):
        super().__init__(message)
        self.done = done


def member(name, secret_sealed=None, secret_pillar=None, timeout=180):
    """
    This node is a member of another node's cluster, and both hear each other on every heartbeat.

    .. code-block:: yaml

        demo2 is a member of demo1's cluster:
          opensvc.member:
            - name: demo1
            - secret_pillar: opensvc:cluster_secret

    name
        A member of the cluster (str).
    secret_sealed
        The cluster's secret (agent 2.1) or a token to join (agent 3), sealed for this minion (str from ``opensvc.sealed_join_secret``).
        A token is good for 60 seconds.
    secret_pillar
        Or the pillar key under which it is (str). The secret itself is never given.
    timeout
        Seconds (int) until they hear each other.

    It refuses when this node is in a cluster with others already. Agent 3 takes its token as an argument only: it is in this node's list of processes for
    the ten seconds of the join.
    """
    ret = _begin(name)
    joined = False
    try:
        if bool(secret_sealed) == bool(secret_pillar):
            raise SaltInvocationError("give secret_sealed or secret_pillar, one of them")
        known = __salt__["opensvc.cluster_status"](fresh=False)
        members = known["cluster"]["nodes"]
        if name in members and len(members) > 1:
            if not __opts__["test"]:
                __salt__["opensvc.wait_member"](name, timeout=timeout)
            ret["comment"] = (
                f"{name} and this node are members of cluster {known['cluster']['name']}"
            )
            return ret
        if len(members) > 1:
            ret["result"] = False
            ret["comment"] = (
                f"This node is in cluster {known['cluster']['name']} with {', '.join(members)}. Take it out first: opensvc.leave"
            )
            return ret
        if __opts__["test"]:
            ret["changes"] = {"members": {"old": members, "new": sorted({*members, name})}}
            return _would(ret, f"This node would join the cluster of {name}")
        __salt__["opensvc.join"](
            name, secret_sealed=secret_sealed, secret_pillar=secret_pillar, timeout=timeout
        )
        joined = True
        known = __salt__["opensvc.wait_member"](name, timeout=timeout)
        ret["changes"] = {"members": {"old": members, "new": known["cluster"]["nodes"]}}
        ret["comment"] = f"This node has joined cluster {known['cluster']['name']} of {name}"
    except (CommandExecutionError, SaltInvocationError) as error:
        if joined:
            ret["changes"] = {"members": {"old": members, "new": "joined, not yet heard"}}
        return _failed(ret, error)
    return ret


def heartbeat_present(name, config, timeout=180, secret_pillar=None):
    """
    The cluster has a heartbeat, and this node's daemon runs it.

    .. code-block:: yaml

        The cluster has a second heartbeat:
          opensvc.heartbeat_present:
            - name: hb#2
            - config: {type: unicast, port: 10001, timeout: 15}

    name
        The heartbeat (str), such as ``hb#2``.
    config
        A dict of its keywords; times are seconds. Other keywords that it has are left alone.
    timeout
        Seconds (int) until the daemon runs it.
    secret_pillar
        The pillar key under which its secret is (str), for a relay of agent 2.1.
    """

    def running():
        __salt__["opensvc.wait_member"](None, heartbeats=[name], timeout=timeout)

    return _section_present("Heartbeat", "hb#", name, lambda: (config, secret_pillar), running)


def arbitrator_present(name, address, secret_pillar=None, config=None, timeout=90):
    """
    The cluster has an arbitrator, whose vote decides which half of a split cluster goes on, and this node reaches it.

    .. code-block:: yaml

        The cluster asks demo3 when it is split:
          opensvc.arbitrator_present:
            - name: arbitrator#1
            - address: demo3
            - secret_pillar: opensvc:arbitrator_secret

    name
        The arbitrator (str), such as ``arbitrator#1``.
    address
        Agent 2.1: the name of a host (str) that runs an agent, too; agent 3: a host, ``host:port`` or an address for HTTP.
    secret_pillar
        The pillar key under which the secret of that host's agent is (str). Agent 2.1 needs it; agent 3 has none.
    config
        A dict of other keywords: ``timeout`` for agent 2.1, ``weight`` and ``insecure`` for agent 3.
    timeout
        Seconds (int) until the daemon has reached it.

    Arbitrators count while ``cluster.quorum`` is true (see :py:func:`cluster_present`); before, agent 2.1 does not ask them, and nobody knows whether it could.
    """
    asked = []

    def wanted():
        there = (__salt__["opensvc.config_show"]("cluster") or {}).get(name, {})
        # Which agent it is shows in what is there; without that om is asked.
        old = "uri" not in there and ("name" in there or __salt__["opensvc.version"]()["major"] < 3)
        if old and not secret_pillar:
            raise SaltInvocationError(
                "secret_pillar: agent 2.1 needs the secret of the arbitrator's agent"
            )
        asked.append(not old)
        keywords = {"name" if old else "uri": address, **(config or {})}
        return keywords, secret_pillar if old else None

    def reached():
        quorum = __salt__["opensvc.config_get"]("cluster", "cluster.quorum") or "false"
        if not asked[0] and quorum.lower() not in ("true", "yes", "on", "1", "t", "y"):
            return "not asked, since cluster.quorum is not true"
        known = __salt__["opensvc.wait_arbitrator"](name, timeout=timeout)
        return f"{known['address']} is {known['status']}"

    return _section_present("Arbitrator", "arbitrator#", name, wanted, reached)


def quorum_present(name, arbitrators, timeout=90):
    """
    A node of the cluster that hears neither the others nor enough arbitrators takes itself down, and this node reaches each of them.

    .. code-block:: yaml

        A split cluster asks its arbitrators:
          opensvc.quorum_present:
            - arbitrators: [arbitrator#1]

    name
        What is so afterwards, for the report (str).
    arbitrators
        The arbitrators (list of str), which are there already (:py:func:`arbitrator_present`).
    timeout
        Seconds (int) until the daemon has reached each: it asks them once a minute.

    Each node has a vote and each arbitrator that it reaches; more than half of all votes are needed. When an arbitrator is not reached, ``cluster.quorum`` is put
    back to what it was: with it, the loss of one node would take down the other as well.
    """
    ret = _begin(name)
    wanted = {"cluster": {"quorum": "true"}}
    try:
        if not arbitrators:
            raise SaltInvocationError(
                "arbitrators: name one; without, each of two nodes takes itself down when it does not hear the other"
            )
        changes = _differing("cluster", wanted)
        if __opts__["test"]:
            ret["changes"] = changes
            ret["comment"] = "The quorum is asked for already"
            return _would(ret, "The quorum would be asked for") if changes else ret
        config = __salt__["opensvc.config_show"]("cluster") or {}
        missing = [one for one in arbitrators if one not in config]
        if missing:
            raise CommandExecutionError(
                f"The cluster has no {', '.join(missing)}: state opensvc.arbitrator_present"
            )
        if changes:
            __salt__["opensvc.config_set"]("cluster", {"cluster.quorum": "true"})
            ret["changes"] = _confirmed("cluster", wanted, changes)
        seen = _votes(arbitrators, timeout, changes)
        ret["comment"] = f"The quorum is asked for; {', '.join(seen)}"
    except (CommandExecutionError, SaltInvocationError) as error:
        ret["changes"] = getattr(error, "done", ret["changes"])
        return _failed(ret, error)
    return ret


def _votes(arbitrators, timeout, changes):
    """What each arbitrator is; when one is not reached, the change of the quorum is taken back."""
    try:
        known = [__salt__["opensvc.wait_arbitrator"](one, timeout=timeout) for one in arbitrators]
    except CommandExecutionError as error:
        if not changes:
            raise
        old = changes["cluster.quorum"]["old"]
        if old is None:
            __salt__["opensvc.config_unset"]("cluster", ["cluster.quorum"])
        else:
            __salt__["opensvc.config_set"]("cluster", {"cluster.quorum": old})
        raise _Partial(f"{error}. cluster.quorum is put back to {old or 'what it is by default'}", {}) from None  # fmt: skip
    return [f"{one['address']} is {one['status']}" for one in known]


def _section_present(word, prefix, name, settings, after):
    """A section of the cluster's configuration: ``settings`` gives its keywords and the pillar key of its secret, ``after`` waits for the daemon."""
    ret = _begin(name)
    wish, wanted, secret_pillar, acting = {}, {}, None, False
    try:
        if not str(name).startswith(prefix):
            raise SaltInvocationError(f"{name!r} is no {word.lower()}'s name; {prefix}1 is")
        keywords, secret_pillar = settings()
        wanted = __utils__["opensvc_agent.words"]({name: keywords})
        wish = _differing_section(name, wanted, secret_pillar)
        if not wish:
            ret["comment"] = f"{word} {name} is there already"
            return ret
        if __opts__["test"]:
            ret["changes"] = wish
            return _would(ret, f"{word} {name} would be set up")
        acting, secret = True, f"{name}.secret"
        notes = __salt__["opensvc.cluster_set"](
            {key: change["new"] for key, change in wish.items() if key != secret},
            {secret: secret_pillar} if secret in wish else None,
        )["warnings"]
        left = _differing_section(name, wanted, secret_pillar)
        ret["changes"] = {key: change for key, change in wish.items() if key not in left}
        if left:
            raise CommandExecutionError(
                f"The agent reported no error, but {', '.join(sorted(left))} has not become as it was to be"
            )
        notes = [after(), *notes]
        ret["comment"] = "; ".join([f"{word} {name} is set up", *filter(None, notes)])
    except (CommandExecutionError, SaltInvocationError) as error:
        if acting:
            ret["changes"] = _changed_section(name, wanted, secret_pillar, wish)
        return _failed(ret, error)
    return ret


def _differing_section(name, wanted, secret_pillar):
    """The keywords that are not so. A secret is compared by its SHA-256, and not even that is shown: a short one could be guessed from it."""
    changes = _differing("cluster", wanted)
    if secret_pillar:
        old = __salt__["opensvc.config_hash"]("cluster", f"{name}.secret")
        secret = __utils__["opensvc_agent.pillar_text"](__pillar__, secret_pillar).strip()
        if old != hashlib.sha256(secret.encode()).hexdigest():
            changes[f"{name}.secret"] = {
                "old": None if old is None else "(another secret)",
                "new": f"(the secret of pillar {secret_pillar})",
            }
    return changes


def _changed_section(name, wanted, secret_pillar, wish):
    try:
        left = _differing_section(name, wanted, secret_pillar)
    except CommandExecutionError:
        return {}
    return {key: change for key, change in wish.items() if key not in left}


def heartbeat_absent(name):
    """
    The cluster does not have a heartbeat. It refuses to remove the last one.

    .. code-block:: yaml

        The old heartbeat is gone:
          opensvc.heartbeat_absent:
            - name: hb#2

    name
        The heartbeat (str).
    """

    def refuse(config):
        if sum(section.startswith("hb#") for section in config) < 2:
            return f"{name} is the last heartbeat: without it each node would start the services by itself"
        return None

    return _section_absent("Heartbeat", "hb#", name, refuse)


def arbitrator_absent(name):
    """
    The cluster does not have an arbitrator.

    .. code-block:: yaml

        The old arbitrator is gone:
          opensvc.arbitrator_absent:
            - name: arbitrator#2

    name
        The arbitrator (str).
    """
    return _section_absent("Arbitrator", "arbitrator#", name, lambda config: None)


def _section_absent(word, prefix, name, refuse):
    ret = _begin(name)
    try:
        if not str(name).startswith(prefix):
            raise SaltInvocationError(f"{name!r} is no {word.lower()}'s name; {prefix}1 is")
        config = __salt__["opensvc.config_show"]("cluster") or {}
        if name not in config:
            ret["comment"] = f"There is no {word.lower()} {name}"
            return ret
        reason = refuse(config)
        if reason:
            ret.update(result=False, comment=reason)
            return ret
        change = {name: {"old": config[name], "new": None}}
        if __opts__["test"]:
            ret["changes"] = change
            return _would(ret, f"{word} {name} would be removed")
        __salt__["opensvc.config_delete_section"]("cluster", name)
        if name in (__salt__["opensvc.config_show"]("cluster") or {}):
            raise CommandExecutionError(f"The agent reported no error, but {name} is still there")
        ret["changes"] = change
        ret["comment"] = f"{word} {name} is removed"
    except (CommandExecutionError, SaltInvocationError) as error:
        return _failed(ret, error)
    return ret
