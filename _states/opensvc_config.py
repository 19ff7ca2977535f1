"""
States of configurations and keys of objects of an OpenSVC cluster, agents 2.1 and 3. Part of the state module ``opensvc``, see there.

Configurations are compared with the agent's own files, so a state that has nothing to do starts no process of ``om``.
"""

import hashlib
import os
import tempfile

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
            left = __utils__["opensvc_agent.difference"](
                __salt__["opensvc.config_show"](name), wanted
            )
        raise CommandExecutionError(
            f"The agent reported no error, but {name} has not become as it was to be: {', '.join(sorted(left))}"
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
                wanted = hashlib.sha256(
                    __utils__["opensvc_agent.pillar_text"](__pillar__, contents_pillar).encode()
                ).hexdigest()
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
