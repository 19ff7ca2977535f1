"""
States of DRBD 8.4 and 9 on one node: its module, a resource's file, metadata, connection, role and synchronisation.

:depends: the ``drbd`` execution module of this formula

.. code-block:: yaml

    DRBD resource r0 is configured:
      drbd.resource_configured:
        - name: r0
        - nodes: {demo1: 10.0.0.1, demo2: 10.0.0.2}
        - port: 7289
        - minor: 0
        - disk: /dev/vg/r0
        - shared_secret_pillar: drbd:secret

A state reads, compares, acts once and reads again. In test mode nothing but that first question is asked. What another state of the same run has just
learned is believed as long as it says "already so"; before anything is done, DRBD is asked again. Where something is StandAlone it stays so: an operator
disconnected it, or it is a split brain, and connecting it is a decision.
"""

import time

from salt.exceptions import CommandExecutionError, SaltInvocationError

__virtualname__ = "drbd"

_ATTACHED = ("Inconsistent", "Outdated", "Consistent", "UpToDate", "Negotiating", "Attaching")


def __virtual__():
    return __virtualname__


def _ret(name):
    return {"name": name, "result": True, "changes": {}, "comment": ""}


def _failed(ret, error):
    """An error is the result. In test mode an earlier state of the same run may be what is missing, and has only said that it would be there."""
    ret.update(result=False, comment=str(error))
    missing = (
        "is not installed",
        "has no drbd module",
        "is not configured on",
        "is no block device",
        "is down on",
    )
    if __opts__["test"] and any(words in str(error) for words in missing):
        ret.update(result=None, comment=f"Cannot be foreseen yet: {error}")
    return ret


def _would(ret, changes, comment):
    ret.update(result=None, changes=changes, comment=comment)
    return ret


def _asked(name, fresh=True):
    """The status of a resource that has to be configured."""
    found = __salt__["drbd.status"](name, fresh=fresh).get(name)
    if found is None:
        raise CommandExecutionError(
            f"DRBD: resource {name} is not configured on this node (state drbd.resource_configured)"
        )
    return found


def _is(what, found):
    return __utils__[f"drbd_parse.{what}"](found)


def module_loaded(name="drbd"):
    """
    DRBD's module is in the kernel now, and will be when the node starts.

    .. code-block:: yaml

        DRBD module is loaded:
          drbd.module_loaded:
            - name: drbd

    name
        The module (str).

    Where nothing is to be done no process is started. A newer module on disk, which takes effect when the node starts again, is told by ``drbd.version``.
    """
    ret = _ret(name)
    try:
        before = __salt__["drbd.module"]()
        wish = {}
        if not before["loaded"]:
            wish["module"] = {"old": None, "new": "loaded"}
        if not before["at_boot"]:
            wish["at boot"] = {"old": False, "new": True}
        if not wish:
            ret["comment"] = f"DRBD {before['loaded']} is loaded, now and at boot"
            return ret
        if __opts__["test"]:
            return _would(ret, wish, f"The module {name} would be loaded, now and at boot")
        if "module" in wish:
            __salt__["drbd.load"](name)
            ret["changes"]["module"] = {"old": None, "new": __salt__["drbd.module"]()["loaded"]}
        if "at boot" in wish:
            __salt__["drbd.load_at_boot"]()
        after = __salt__["drbd.module"]()
        if "at boot" in wish and after["at_boot"]:
            ret["changes"]["at boot"] = wish["at boot"]
        if not after["loaded"] or not after["at_boot"]:
            raise CommandExecutionError(f"There were no errors, but the module is {after}")
        ret["comment"] = f"DRBD {after['loaded']} is loaded, now and at boot"
    except (CommandExecutionError, SaltInvocationError) as error:
        return _failed(ret, error)
    return ret


def resource_configured(
    name,
    nodes,
    port,
    minor,
    disk,
    protocol="C",
    resync_rate="100M",
    shared_secret_pillar=None,
    net=None,
    disk_options=None,
    handlers=None,
    options=None,
):
    """
    The file of a resource says this, mode 0600; a resource that is up gets its new settings at once.

    .. code-block:: yaml

        DRBD resource r0 is configured:
          drbd.resource_configured:
            - name: r0
            - nodes: {demo1: 10.0.0.1, demo2: 10.0.0.2}
            - port: 7289
            - minor: 0
            - disk: /dev/vg/r0
            - shared_secret_pillar: drbd:secret
            - net: {verify-alg: sha1}

    name
        The resource (str).
    nodes
        The replication address of each node by its ``uname -n`` (dict).
    port
        TCP port (int) on both nodes.
    minor
        The number of /dev/drbdN (int).
    disk
        The block device below (str); it need not be there yet.
    protocol
        A, B or C (str).
    resync_rate
        Bytes per second (str), such as 100M. A quarter of it is kept when much is written at the same time.
    shared_secret_pillar
        The *name* of the pillar key of the peers' shared secret (str).
    net
        Further options of that section (dict). Those given win over what is set by default: after-sb-0pri discard-zero-changes, after-sb-1pri and -2pri
        disconnect, c-plan-ahead 0, c-min-rate a quarter of resync_rate, and with a secret cram-hmac-alg and verify-alg sha256.
    disk_options, handlers, options
        The same of the sections disk, handlers and options (dict).

    Changes are listed option by option, without the secret. A wrong option, and a port, minor or disk that another file has, is refused before anything
    is written. Nothing is written when the file already means the same.
    """
    ret = _ret(name)
    wish = {
        "nodes": nodes,
        "port": port,
        "minor": minor,
        "disk": disk,
        "protocol": protocol,
        "resync_rate": resync_rate,
        "shared_secret_pillar": shared_secret_pillar,
        "net": net,
        "disk_options": disk_options,
        "handlers": handlers,
        "options": options,
    }
    try:
        done = __salt__["drbd.configure"](name, **wish, test=__opts__["test"])
        if not done["changes"]:
            ret["comment"] = f"{done['file']} says so already"
            return ret
        if __opts__["test"]:
            return _would(ret, done["changes"], f"{done['file']} would be written")
        ret["changes"] = done["changes"]
        after = __salt__["drbd.configure"](name, **wish, test=True)
        if after["changes"]:
            raise CommandExecutionError(
                f"There were no errors, but {done['file']} still differs in {', '.join(after['changes'])}"
            )
        said = {
            "down": "the resource is down",
            "adjusted": "the resource that is up has these settings",
            "left alone": f"the resource is StandAlone and was left alone; it has these settings after: drbdadm adjust {name}",
        }
        ret["comment"] = f"{done['file']} is written; {said[done['running']]}"
    except (CommandExecutionError, SaltInvocationError) as error:
        return _failed(ret, error)
    return ret


def metadata_present(name, force=False):
    """
    The disk of a resource has DRBD's metadata; new metadata is written only where there is nothing else.

    .. code-block:: yaml

        DRBD metadata of r0 is there:
          drbd.metadata_present:
            - name: r0

    name
        The resource (str).
    force
        Also on a disk with bytes that nothing recognises (bool), as one that was used before; never on a filesystem, volume group, RAID or partition table.
    """
    ret = _ret(name)
    try:
        found = _asked(name, fresh=False)
        if found["up"] and all(disk["disk"] in _ATTACHED for disk in found["disk"].values()):
            ret["comment"] = f"{name} is up with its disk: the metadata is there"
            return ret
        missing = []
        for volume in found["disk"]:
            known = __salt__["drbd.metadata"](name, volume)
            if known["metadata"] == "unknown":
                text = f"The metadata of {name}/{volume} cannot be asked: {known['why']}"
                if __opts__["test"] and "No such file" in known["why"]:
                    return _would(ret, {}, f"Cannot be foreseen yet: {text}")
                raise CommandExecutionError(text)
            if known["metadata"] == "none":
                missing.append(volume)
        if not missing:
            ret["comment"] = f"The metadata of {name} is there"
            return ret
        wish = {f"metadata of volume {volume}": {"old": None, "new": "new"} for volume in missing}
        if __opts__["test"]:
            return _would(ret, wish, f"Metadata of {name} would be written")
        for volume in missing:
            __salt__["drbd.create_md"](name, force=force, volume=volume)
            after = __salt__["drbd.metadata"](name, volume)
            if after["metadata"] != "exists":
                raise CommandExecutionError(
                    f"There were no errors, but the metadata of {name}/{volume} is: {after['metadata']}"
                )
            ret["changes"][f"metadata of volume {volume}"] = {
                "old": None,
                "new": "new" if after["ids"]["new"] else after["ids"]["current"],
            }
        ret["comment"] = f"Metadata of {name} is written"
    except (CommandExecutionError, SaltInvocationError) as error:
        return _failed(ret, error)
    return ret


def up(name):
    """
    A resource is up: its disk is attached, and it is connected or waits for its peer.

    .. code-block:: yaml

        DRBD resource r0 is up:
          drbd.up:
            - name: r0

    name
        The resource (str).

    A disk that was detached is attached again. A StandAlone resource is a failure and stays as it is.
    """
    ret = _ret(name)
    try:
        found = _asked(name, fresh=False)
        if found["up"] and _is("not_up", found) is None:
            ret["comment"] = f"{name} is up: {_is('summary', found)}"
            return ret
        found = _asked(name)
        if any(one["state"] == "StandAlone" for one in found["connections"].values()) and any(
            disk["disk"] != "Diskless" for disk in found["disk"].values()
        ):
            raise CommandExecutionError(f"{name} is left as it is: {_is('not_up', found)}")
        before = _is("summary", found)
        if __opts__["test"]:
            return _would(ret, {"state": {"old": before, "new": "up"}}, f"{name} would be up")
        __salt__["drbd.up"](name)
        found = _asked(name)
        if _is("summary", found) != before:
            ret["changes"] = {"state": {"old": before, "new": _is("summary", found)}}
        why = _is("not_up", found)
        if why:
            raise CommandExecutionError(f"There were no errors, but {name} is not up: {why}")
        ret["comment"] = f"{name} is up: {_is('summary', found)}"
    except (CommandExecutionError, SaltInvocationError) as error:
        return _failed(ret, error)
    return ret


def down(name):
    """
    A resource is down; its data, metadata and file stay.

    .. code-block:: yaml

        DRBD resource r0 is down:
          drbd.down:
            - name: r0

    name
        The resource (str). One that is in use is refused by DRBD and stays up.
    """
    ret = _ret(name)
    try:
        found = _asked(name)
        if not found["up"]:
            ret["comment"] = f"{name} is down"
            return ret
        before = _is("summary", found)
        if __opts__["test"]:
            return _would(ret, {"state": {"old": before, "new": "down"}}, f"{name} would be down")
        __salt__["drbd.down"](name)
        if _asked(name)["up"]:
            raise CommandExecutionError(f"There were no errors, but {name} is still up")
        ret.update(changes={"state": {"old": before, "new": "down"}}, comment=f"{name} is down")
    except (CommandExecutionError, SaltInvocationError) as error:
        return _failed(ret, error)
    return ret


def primary(name):
    """
    This node is Primary of a resource. Never by force.

    .. code-block:: yaml

        This node is Primary of r0:
          drbd.primary:
            - name: r0

    name
        The resource (str), which has to be up.
    """
    return _role(name, "Primary")


def secondary(name):
    """
    This node is Secondary of a resource.

    .. code-block:: yaml

        This node is Secondary of r0:
          drbd.secondary:
            - name: r0

    name
        The resource (str), which has to be up.
    """
    return _role(name, "Secondary")


def _role(name, role):
    ret = _ret(name)
    try:
        found = _asked(name)
        if found["role"] == role:
            ret["comment"] = f"{name} is {role} here"
            return ret
        wish = {"role": {"old": found["role"], "new": role}}
        if __opts__["test"]:
            return _would(ret, wish, f"{name} would be {role} here")
        __salt__[f"drbd.{role.lower()}"](name)
        found = _asked(name)
        if found["role"] != role:
            raise CommandExecutionError(f"There were no errors, but {name} is {found['role']}")
        ret.update(changes=wish, comment=f"{name} is {role} here")
    except (CommandExecutionError, SaltInvocationError) as error:
        return _failed(ret, error)
    return ret


def connected(name, timeout=60):
    """
    A resource is connected to its peer. This only waits.

    .. code-block:: yaml

        DRBD resource r0 is connected:
          drbd.connected:
            - name: r0
            - timeout: 60

    name
        The resource (str).
    timeout
        Seconds (int).

    Fails at once when it cannot get there by itself (StandAlone, Diskless, down).
    """
    ret = _ret(name)
    try:
        found = _asked(name, fresh=False)
        if not _is("connected", found):
            if __opts__["test"]:
                return _would(ret, {}, f"{name} would be waited for: {_is('summary', found)}")
            found = __salt__["drbd.wait"](
                name, "connected", timeout=timeout, connect_timeout=timeout
            )
        ret["comment"] = f"{name} is connected: {_is('summary', found)}"
    except (CommandExecutionError, SaltInvocationError) as error:
        return _failed(ret, error)
    return ret


def synced(name, source=False, timeout=3600, connect_timeout=60):
    """
    A resource is UpToDate on both sides. This waits, with progress in events ``slapos_ha/drbd/<name>/sync``.

    .. code-block:: yaml

        DRBD resource r0 is in sync:
          drbd.synced:
            - name: r0
            - source: true
            - timeout: 14400

    name
        The resource (str).
    source
        When both disks are new, this node's becomes the data and every block is copied to the peer (bool). On other disks it does nothing.
    timeout
        Seconds (int) for the synchronisation.
    connect_timeout
        Seconds (int) for which the peer may be away.

    Fails at once on what does not end by itself: StandAlone (a split brain), Diskless, down, paused.
    """
    ret = _ret(name)
    try:
        found = _asked(name, fresh=False)
        if _is("in_sync", found):
            ret["comment"] = f"{name} is in sync: {_is('summary', found)}"
            return ret
        if __opts__["test"]:
            starts = source and _is("nobody_has_data", found)
            return _would(
                ret,
                {"initial sync": {"old": None, "new": "done"}} if starts else {},
                f"{name} would be waited for: {_is('summary', found)}",
            )
        start = time.monotonic()
        if source:
            found = __salt__["drbd.wait"](
                name, "connected", timeout=connect_timeout, connect_timeout=connect_timeout
            )
            if _is("nobody_has_data", found):
                __salt__["drbd.primary"](name, force=True)
                if _is("nobody_has_data", _asked(name)):
                    raise CommandExecutionError(
                        f"There were no errors, but no initial sync of {name} has begun"
                    )
                ret["changes"] = {"initial sync": {"old": None, "new": "started"}}
                # Who is Primary is the cluster's business; the copy goes on from a Secondary.
                __salt__["drbd.secondary"](name)
        found = __salt__["drbd.wait"](name, timeout=timeout, connect_timeout=connect_timeout)
        if ret["changes"]:
            ret["changes"] = {"initial sync": {"old": None, "new": "done"}}
        ret["comment"] = (
            f"{name} is in sync after {time.monotonic() - start:.0f} s: {_is('summary', found)}"
        )
    except (CommandExecutionError, SaltInvocationError) as error:
        return _failed(ret, error)
    return ret


def initial_sync_skipped(name, timeout=3600, connect_timeout=60):
    """
    A resource is UpToDate on both sides; two new disks are declared equal in place of copying every block.

    .. code-block:: yaml

        DRBD resource r0 needs no initial sync:
          drbd.initial_sync_skipped:
            - name: r0

    name
        The resource (str).
    timeout
        Seconds (int) for an ordinary resync, where one runs already.
    connect_timeout
        Seconds (int) for which the peer may be away.

    Refuses when a side may hold data, and says which proof is missing: see ``drbd.skip_initial_sync``. It runs on one node.
    """
    ret = _ret(name)
    try:
        found = _asked(name, fresh=False)
        if _is("in_sync", found):
            ret["comment"] = f"{name} is in sync: {_is('summary', found)}"
            return ret
        wish = {"initial sync": {"old": None, "new": "skipped"}}
        if __opts__["test"]:
            fits = _is("nobody_has_data", found)
            return _would(
                ret,
                wish if fits else {},
                f"The initial sync of {name} would be skipped"
                if fits
                else f"{name} would be waited for: {_is('summary', found)}",
            )
        found = __salt__["drbd.wait"](
            name, "connected", timeout=connect_timeout, connect_timeout=connect_timeout
        )
        if not _is("syncing", found) and __salt__["drbd.skip_initial_sync"](name, force=True):
            if _is("nobody_has_data", _asked(name)):
                raise CommandExecutionError(
                    f"There were no errors, but the disks of {name} are not declared equal"
                )
            ret["changes"] = wish
        found = __salt__["drbd.wait"](name, timeout=timeout, connect_timeout=connect_timeout)
        ret["comment"] = f"{name} is in sync: {_is('summary', found)}"
        if not ret["changes"]:
            ret["comment"] += " (its disks were not new: what differed was copied)"
    except (CommandExecutionError, SaltInvocationError) as error:
        return _failed(ret, error)
    return ret


def resized(name):
    """
    The device of a resource is as large as its disk allows, after the disks have grown on both nodes. Run it on one.

    .. code-block:: yaml

        DRBD resource r0 has the size of its disk:
          drbd.resized:
            - name: r0

    name
        The resource (str), which has to be UpToDate on both sides, and Primary on one of them (8.4 refuses otherwise).

    The smaller disk counts: while the peer's has not grown this fails and says so. The filesystem does not grow by this.
    """
    ret = _ret(name)
    try:
        found = _asked(name)
        if not found["up"]:
            raise CommandExecutionError(f"{name} is down on this node; its size cannot be read")
        before = __salt__["drbd.capacity"](name)
        grown = {v: one for v, one in before.items() if one["possible"] > one["size"]}
        if not grown:
            ret["comment"] = f"{name} has the size of its disk"
            return ret
        if __opts__["test"]:
            wish = {
                f"KiB of volume {v}": {"old": one["size"], "new": one["possible"]}
                for v, one in grown.items()
            }
            return _would(ret, wish, f"{name} would grow")
        __salt__["drbd.resize"](name)
        after = __salt__["drbd.capacity"](name)
        for volume, one in grown.items():
            if after[volume]["size"] != one["size"]:
                ret["changes"][f"KiB of volume {volume}"] = {
                    "old": one["size"],
                    "new": after[volume]["size"],
                }
        short = [v for v in grown if after[v]["size"] < after[v]["possible"]]
        if short:
            one = after[short[0]]
            raise CommandExecutionError(
                f"There were no errors, but volume {short[0]} of {name} has {one['size']} KiB of {one['possible']}: has the peer's disk grown too?"
            )
        ret["comment"] = f"{name} has the size of its disk"
    except (CommandExecutionError, SaltInvocationError) as error:
        return _failed(ret, error)
    return ret


def absent(name):
    """
    A resource is down and its file is gone. The data and the metadata on the disk stay.

    .. code-block:: yaml

        DRBD resource r0 is gone:
          drbd.absent:
            - name: r0

    name
        The resource (str). One that is Primary here is refused: somebody uses it.
    """
    ret = _ret(name)
    try:
        found = __salt__["drbd.status"](name).get(name)
        file = __salt__["drbd.remove_config"](name, test=True)
        if found is None and not file:
            ret["comment"] = f"There is no resource {name}"
            return ret
        if found and found["role"] == "Primary":
            raise CommandExecutionError(
                f"{name} is Primary here, so it may be in use; first: drbdadm secondary {name}"
            )
        if not file:
            raise CommandExecutionError(
                f"{name} is left as it is: /etc/drbd.d has no file {name}.res; it is in another, or in none"
            )
        before = _is("summary", found) if found else "a file that is not understood"
        if __opts__["test"]:
            return _would(
                ret,
                {"resource": {"old": before, "new": None}},
                f"{name} would be taken down and its file removed",
            )
        if found and found["up"]:
            __salt__["drbd.down"](name)
            if _asked(name)["up"]:
                raise CommandExecutionError(f"There were no errors, but {name} is still up")
            ret["changes"] = {"resource": {"old": before, "new": "down"}}
        __salt__["drbd.remove_config"](name)
        ret["changes"] = {"resource": {"old": before, "new": None}}
        if __salt__["drbd.status"](name):
            raise CommandExecutionError(f"There were no errors, but {name} is still there")
        ret["comment"] = f"{name} is gone"
    except (CommandExecutionError, SaltInvocationError) as error:
        return _failed(ret, error)
    return ret
