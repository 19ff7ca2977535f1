"""
States of an OpenSVC cluster, of its members and of configurations and keys, agents 2.1 and 3. Part of the state module ``opensvc``, see there.

Configurations are compared with the agent's own files, so a state that has nothing to do starts no process of ``om``.
"""

import hashlib
import os
import tempfile

import salt.utils.data
import salt.utils.files
from salt.exceptions import CommandExecutionError, SaltInvocationError

# A second file of the state module opensvc: the loader adds its functions to those of opensvc.py.
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


# --- The cluster and its members ------------------------------------------------------------------------------------------------------


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
        secret = _pillar_text(secret_pillar).strip()
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


def _pillar_text(key):
    # Not pillar.get: on Salt 3008 it answers a module with asterisks.
    text = salt.utils.data.traverse_dict_and_list(__pillar__, key)
    if not isinstance(text, str) or not text:
        raise CommandExecutionError(f"pillar {key} holds no text")
    return text


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


# --- Objects ------------------------------------------------------------------------------------------------------------------------------


def object_present(name, config=None, enforce="partial", source=None, template=None, context=None):
    """
    An object exists and its configuration has the given keywords. Nothing of it is made or started by it.

    .. code-block:: yaml

        The service is defined:
          opensvc.object_present:
            - name: slapos/svc/comp1
            - config:
                DEFAULT: {nodes: demo1 demo2, topology: failover, orchestrate: ha}
                fs#0: {type: ext4, dev: '{disk#3.exposed_devs[0]}', mnt: '/srv/{fqdn}'}

    name
        The object (str), ``namespace/kind/name``.
    config
        A dict of sections to dicts of keywords; references in braces are the agent's. Without it the object only has to exist. Keys of cfg and sec objects
        are not given here (:py:func:`key_present`).
    enforce
        ``partial`` (str) leaves keywords that are not given as they are, ``full`` removes them, except the object's id and its keys. A section of a resource that
        is up or provisioned is never removed.
    source
        In place of ``config``, a file (str) of the file server (``salt://…``) or of this node in the agent's own notation, as ``om PATH print config`` prints
        it. An ``id`` in it is not taken over.
    template
        ``jinja`` (str) renders ``source`` first. The agent's own braces are single ones.
    context
        A dict of variables for the template.

    Keywords that are not given are in the comment. The configuration is compared keyword by keyword with what the agent has.
    """
    ret = _begin(name)
    wanted, acting = {}, False
    try:
        if enforce not in ("partial", "full"):
            raise SaltInvocationError(f"enforce is partial or full, not {enforce!r}")
        if config and source:
            raise SaltInvocationError("give config or source, one of them")
        if source:
            config = _config_of(source, template, context)
        wanted = __utils__["opensvc_agent.words"](config or {})
        if "data" in wanted:
            raise SaltInvocationError(
                "config: section data holds keys, which om and its logs would show; state opensvc.key_present sets them"
            )
        current = __salt__["opensvc.config_show"](name)
        changes = __utils__["opensvc_agent.difference"](current, wanted)
        extra = __utils__["opensvc_agent.surplus"](current, wanted) if config else []
        if current is None:
            known = __salt__["opensvc.status"](name, fresh=False)
            if known is not None:
                raise CommandExecutionError(
                    f"{name} exists in the cluster ({', '.join(known['instances'])}) and not on this node. Run it on a node that has it, or wait "
                    "until the agent has brought it here"
                )
            # Every keyword of a new object is new: its sections say enough.
            changes = {"object": {"old": None, "new": name}}
            if wanted:
                changes["sections"] = {"old": None, "new": sorted(wanted)}
        elif enforce == "full":
            changes.update(
                {key: {"old": _at(current, key), "new": None} for key in extra},
            )
        if not changes:
            ret["comment"] = _with_extra(f"{name} is as it is to be", extra, enforce)
            return ret
        ret["changes"] = changes
        if __opts__["test"]:
            verb = "changed" if current is not None else "created"
            return _would(ret, _with_extra(f"{name} would be {verb}", extra, enforce))
        acting = True
        notes = _apply(name, current, wanted, changes, extra if enforce == "full" else [])
        ret["changes"] = _confirmed_object(name, wanted, changes)
        verb = "changed" if current is not None else "created"
        ret["comment"] = "; ".join([_with_extra(f"{name} {verb}", extra, enforce), *notes])
    except (CommandExecutionError, SaltInvocationError) as error:
        ret["changes"] = getattr(error, "done", None)
        if ret["changes"] is None:
            ret["changes"] = _done(name, wanted, changes) if acting else {}
        return _failed(ret, error)
    return ret


def _config_of(source, template, context):
    path = _content(source, None, template, context)
    try:
        return __salt__["opensvc.config_read"](path)
    except CommandExecutionError as error:
        raise CommandExecutionError(str(error).replace(path, source)) from None
    finally:
        if path != source:
            os.unlink(path)


def _at(config, keyword):
    section, _, key = keyword.partition(".")
    return (config or {}).get(section, {}).get(key)


def _with_extra(comment, extra, enforce):
    if extra and enforce == "partial":
        comment += f" (left alone, since not given: {', '.join(sorted(extra))})"
    return comment


def _apply(name, current, wanted, changes, extra):
    if current is None:
        return __salt__["opensvc.create"](name, wanted)["warnings"]
    gone = sorted(
        {key.partition(".")[0] for key in extra if "#" in key.partition(".")[0]} - set(wanted)
    )
    _refuse_to_forget(name, gone)
    notes = []
    sets = {key: change["new"] for key, change in changes.items() if change["new"] is not None}
    if sets:
        notes += __salt__["opensvc.config_set"](name, sets)["warnings"]
    for section in gone:
        notes += __salt__["opensvc.config_delete_section"](name, section)["warnings"]
    unset = [key for key in extra if key.partition(".")[0] not in gone]
    if unset:
        notes += __salt__["opensvc.config_unset"](name, unset)["warnings"]
    return notes


def _refuse_to_forget(name, sections):
    """A resource that holds something would go on holding it, and nobody could stop it any more."""
    known = __salt__["opensvc.status"](name) if sections else None
    for node, one in sorted((known or {"instances": {}})["instances"].items()):
        for section in sections:
            resource = one["resources"].get(section, {})
            if resource.get("provisioned") or resource.get("status") in ("up", "stdby up", "warn"):
                raise CommandExecutionError(
                    f"{section} of {name} is {resource['status']} on {node} and holds something: it is not removed, and nothing else is changed. Stop "
                    f"and unprovision it first: om {name} unprovision --rid {section}"
                )


def _done(name, wanted, changes):
    """Of the changes that were to be, those that are so now."""
    try:
        current = __salt__["opensvc.config_show"](name)
    except CommandExecutionError:
        return {}
    if current is None:
        return {}
    if "object" in changes:
        left = __utils__["opensvc_agent.difference"](current, wanted)
        return {
            key: changes[key]
            for key in ("object", "sections")
            if key in changes and (key == "object" or not left)
        }
    return {key: change for key, change in changes.items() if _at(current, key) == change["new"]}


def _confirmed_object(name, wanted, changes):
    done = _done(name, wanted, changes)
    left = {key: change for key, change in changes.items() if key not in done}
    if left:
        if "object" in changes:
            left = _differing(name, wanted)
        raise _Partial(
            f"The agent reported no error, but {name} has not become as it was to be: {', '.join(sorted(left))}",
            done,
        )
    return changes


def object_absent(name, purge=False, timeout=300):
    """
    An object does not exist.

    .. code-block:: yaml

        The old launchers are gone:
          opensvc.object_absent:
            - name: slapos/cfg/old

    name
        The object (str).
    purge
        Also stop it and remove what its resources have made, DATA INCLUDED (bool). Without it an object that is up or provisioned is left alone.
    timeout
        Seconds (int) until it is gone on all nodes.
    """
    ret = _begin(name)
    try:
        if __salt__["opensvc.config_show"](name) is None:
            ret["comment"] = f"There is no {name}"
            return ret
        known = __salt__["opensvc.status"](name)
        holds = known and (
            known["provisioned"] in (True, "mixed")
            or any(
                one["avail"] in ("up", "stdby up", "warn") for one in known["instances"].values()
            )
        )
        if holds and not purge:
            ret["result"] = False
            ret["comment"] = (
                f"{name} is {known['avail']} and provisioned ({known['provisioned']}); without its configuration nobody could stop it. "
                "purge: true removes what it has made, data included"
            )
            return ret
        ret["changes"] = {"object": {"old": name, "new": None}}
        if __opts__["test"]:
            return _would(ret, f"{name} would be removed")
        if holds:
            __salt__["opensvc.purge"](name, force=True)
        else:
            __salt__["opensvc.delete"](name)
        __salt__["opensvc.wait"](name, "gone", timeout=timeout)
        if __salt__["opensvc.config_show"](name) is not None:
            raise CommandExecutionError(
                f"{name} is gone from the daemons and its file is still there"
            )
        ret["comment"] = f"{name} removed"
    except (CommandExecutionError, SaltInvocationError) as error:
        ret["changes"] = {}
        return _failed(ret, error)
    return ret


# --- Keys ---------------------------------------------------------------------------------------------------------------------------------


def key_present(
    name, key, source=None, contents=None, contents_pillar=None, template=None, context=None
):
    """
    An object of kind cfg or sec has a key with a content.

    .. code-block:: yaml

        The launchers' object holds re6st:
          opensvc.key_present:
            - name: slapos/cfg/comp1
            - key: re6st
            - source: salt://slapos_ha/files/re6st

    name
        The object (str), which has to exist.
    key
        The key (str).
    source
        A file (str) of the file server (``salt://…``) or of this node (an absolute path).
    contents
        Or the content itself (str); it will be in the state's data, so not for secrets.
    contents_pillar
        Or the pillar key under which the content is (str), also for secrets.
    template
        ``jinja`` (str) renders ``source`` first.
    context
        A dict of variables for the template.

    Contents are compared by their SHA-256, which is all that changes and comments show.
    """
    ret = _begin(name)
    try:
        if sum(value is not None for value in (source, contents, contents_pillar)) != 1:
            raise SaltInvocationError("give source, contents or contents_pillar, one of them")
        path = None if contents_pillar else _content(source, contents, template, context)
        try:
            if path:
                with salt.utils.files.fopen(path, "rb") as stream:
                    wanted = hashlib.sha256(stream.read()).hexdigest()
            else:
                wanted = hashlib.sha256(_pillar_text(contents_pillar).encode()).hexdigest()
            if __salt__["opensvc.keys"](name) is None:
                ret["result"] = None if __opts__["test"] else False
                ret["comment"] = f"There is no object {name} to hold {key}"
                return ret
            old = __salt__["opensvc.key_hash"](name, key)
            if old == wanted:
                ret["comment"] = f"Key {key} of {name} is as it is to be"
                return ret
            change = {key: {"old": old and f"sha256:{old}", "new": f"sha256:{wanted}"}}
            if __opts__["test"]:
                ret["changes"] = change
                return _would(ret, f"Key {key} of {name} would be set")
            notes = __salt__["opensvc.key_set"](
                name, key, source=path, contents_pillar=contents_pillar
            )["warnings"]
        finally:
            if path and path != source:
                os.unlink(path)
        if __salt__["opensvc.key_hash"](name, key) != wanted:
            raise CommandExecutionError(
                f"The agent reported no error, but key {key} of {name} has not the new content"
            )
        ret["changes"] = change
        ret["comment"] = "; ".join([f"Key {key} of {name} set", *notes])
    except (CommandExecutionError, SaltInvocationError) as error:
        return _failed(ret, error)
    return ret


def _content(source, contents, template, context):
    """The content as a file of this node, mode 0600."""
    if source is not None and source.startswith("/") and not template:
        if not os.path.isfile(source):
            raise CommandExecutionError(f"{source} is no file on this node")
        return source
    handle, path = tempfile.mkstemp(prefix="opensvc.", dir=__opts__.get("cachedir"))
    os.close(handle)
    done = False
    try:
        if contents is not None:
            with salt.utils.files.fopen(path, "w", encoding="utf-8") as stream:
                stream.write(str(contents))
        elif template:
            done = __salt__["cp.get_template"](
                source, path, template=template, **{"context": context} if context else {}
            )
            if not done:
                raise CommandExecutionError(
                    f"{source} is not on the file server or cannot be rendered; the minion's log says which"
                )
        else:
            cached = __salt__["cp.cache_file"](source)
            if not cached:
                raise CommandExecutionError(f"{source} is not on the file server")
            with salt.utils.files.fopen(cached, "rb") as read:
                data = read.read()
            with salt.utils.files.fopen(path, "wb") as stream:
                stream.write(data)
        done = True
        return path
    finally:
        if not done:
            os.unlink(path)


def key_absent(name, key):
    """
    An object of kind cfg or sec does not have a key.

    .. code-block:: yaml

        The old launcher is gone:
          opensvc.key_absent:
            - name: slapos/cfg/comp1
            - key: old

    name
        The object (str); one that does not exist has no keys.
    key
        The key (str).
    """
    ret = _begin(name)
    try:
        if key not in (__salt__["opensvc.keys"](name) or []):
            ret["comment"] = f"{name} has no key {key}"
            return ret
        change = {key: {"old": f"sha256:{__salt__['opensvc.key_hash'](name, key)}", "new": None}}
        if __opts__["test"]:
            ret["changes"] = change
            return _would(ret, f"Key {key} of {name} would be removed")
        __salt__["opensvc.key_remove"](name, key)
        if key in (__salt__["opensvc.keys"](name) or []):
            raise CommandExecutionError(
                f"The agent reported no error, but key {key} of {name} is still there"
            )
        ret["changes"] = change
        ret["comment"] = f"Key {key} of {name} removed"
    except (CommandExecutionError, SaltInvocationError) as error:
        return _failed(ret, error)
    return ret
