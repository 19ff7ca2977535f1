"""
DRBD 8.4 and 9: what it is doing. The functions that act are in ``drbd_act``, those that write files in ``drbd_config``; the three files are the execution
module ``drbd``, which takes the place of the one in Salt's core (its ``overview`` and ``status`` are here too, and say more).

:depends: the package drbd-utils; the utils ``drbd_tool``, ``drbd_parse`` and ``drbd_conf`` of this formula
:configuration: ``drbd.root`` in the minion's configuration (default ``/``) is the folder below which /etc/drbd.d, /proc/drbd and /sys are read

DRBD 8.4 was run in every state that is parsed here (kernel 6.1, drbd-utils 9.22). DRBD 9 is read by ``drbdsetup status --json`` as its source prints it, and
was not run. "Is not there" is an empty answer; what cannot be asked raises CommandExecutionError. No answer holds the shared secret.
"""

import copy
import time

from salt.exceptions import CommandExecutionError, SaltInvocationError

__virtualname__ = "drbd"

_RELATIONS = {
    "new": "both sides are new and hold no data",
    "equal": "both sides have the same generation of data",
    "local_newer": "this node has the newer data: connected, it is copied to the peer",
    "peer_newer": "the peer has the newer data: connected, it is copied to this node",
    "split_brain": "both were written to after they parted; decide whose writes go, and there: drbd.connect with discard_my_data",
    "unrelated": "the two were never one resource, or have not been for long; see which side has the data that count",
}


def __virtual__():
    return __virtualname__


def _node():
    return __utils__["drbd_tool.node"](__salt__, __utils__, __opts__, __context__)


def version():
    """
    Return the versions of the tools, of the module in the kernel and of the module on disk.

    CLI Example:

    .. code-block:: bash

        salt demo1 drbd.version

    Returns ``{"utils": "9.22.0", "module_loaded": "8.4.11", "module_available": "8.4.11"}``; the last two are None when there is none. They differ
    after an upgrade until the module is loaded again. Raises CommandExecutionError when drbd-utils is not installed. The loaded version comes from
    /sys/module/drbd/version, the other from ``modinfo``: ``drbdadm --version`` says 8.4 for both and loads the module when it is not loaded.
    """
    node = _node()
    return {
        "utils": node.utils_version(),
        "module_loaded": node.loaded(),
        "module_available": node.available(),
    }


def module():
    """
    Return whether DRBD's module is in the kernel, and whether it will be when the node starts.

    CLI Example:

    .. code-block:: bash

        salt demo1 drbd.module

    Returns ``{"loaded": "8.4.11" or None, "at_boot": bool}``, from files only. Raises CommandExecutionError when one cannot be read.
    """
    node = _node()
    return {"loaded": node.loaded(), "at_boot": node.loads_at_boot()}


def status(name="all", fresh=True):
    """
    Return what DRBD's resources are doing.

    CLI Example:

    .. code-block:: bash

        salt demo1 drbd.status
        salt demo1 drbd.status comp1.slapos.svc.paris

    name
        Only this resource (str); all when left out or "all". It is called name as in Salt's core.
    fresh
        False (bool) accepts an answer that another state of the same run got up to 15 seconds ago, if nothing has acted since.

    Returns by resource ``{"up": True, "role": "Secondary", "suspended": False, "disk": {0: {"minor": 0, "disk": "UpToDate", "size": KiB, "quorum": None}},
    "connections": {peer: {"state": "Connected", "role": "Primary", "volumes": {0: {"replication": "Established", "disk": "UpToDate", "percent": None,
    "rate": None, "out_of_sync": KiB, "resync_suspended": "no", "seconds_left": None}}}}}``. ``percent``, ``rate`` (KiB/s) and ``seconds_left`` are those of
    the resync or verify that runs, else None. ``quorum`` is True or False of DRBD 9, None of 8.4, which has none. A resource that is configured and down is
    there with ``up`` False and role and disk "Unconfigured"; an unknown one is not there. Costs one process (none while the module is not loaded). Raises
    CommandExecutionError when DRBD cannot be asked or says something unknown.

    8.4 calls every peer "peer" and does not show the connection of a StandAlone resource at all: the peer's name is taken from the resource's file, and
    the connection is given as "StandAlone", with ``out_of_sync`` being what was written here since. While it resyncs, ``drbdadm cstate`` says SyncSource in
    place of Connected; here ``state`` stays "Connected".
    """
    node = _node()
    resource = None if name in (None, "all") else __utils__["drbd_conf.name_of_resource"](name)
    found = {name: {"up": True, **copy.deepcopy(one)} for name, one in node.status(fresh).items()}
    for one, settings in node.configured().items():
        if one not in found:
            volumes = __utils__["drbd_conf.volumes"](settings, node.name) or {0: None}
            found[one] = {
                "up": False,
                "role": "Unconfigured",
                "suspended": False,
                "disk": {
                    volume: {"minor": minor, "disk": "Unconfigured", "size": None, "quorum": None}
                    for volume, minor in volumes.items()
                },
                "connections": {},
            }
    if resource is None:
        return found
    return {resource: found[resource]} if resource in found else {}


def overview():
    """
    Return one flat entry per volume, with the keys of the function of this name in Salt's core.

    CLI Example:

    .. code-block:: bash

        salt demo1 drbd.overview

    Returns ``{"comp1/0": {"minor number", "device", "connection state", "local role", "partner role", "local disk state", "partner disk state"}}``, and
    ``synched`` (percent) while a resync runs. Raises CommandExecutionError as :py:func:`status` does. The program drbd-overview, which core runs, is gone
    since drbd-utils 9.6.
    """
    found = {}
    for name, resource in status().items():
        peer = next(iter(resource["connections"].values()), None)
        for volume, disk in resource["disk"].items():
            seen = peer["volumes"].get(volume) if peer else None
            entry = {
                "minor number": disk["minor"],
                "device": f"/dev/drbd{disk['minor']}",
                "connection state": peer["state"] if peer else "Unconfigured",
                "local role": resource["role"],
                "partner role": peer["role"] if peer else "Unknown",
                "local disk state": disk["disk"],
                "partner disk state": seen["disk"] if seen else "DUnknown",
            }
            if seen and seen["percent"] is not None:
                entry["synched"] = seen["percent"]
            found[f"{name}/{volume}"] = entry
    return found


def config(resource=None):
    """
    Return the configuration as drbdadm reads it, all files and inherited sections together.

    CLI Example:

    .. code-block:: bash

        salt demo1 drbd.config
        salt demo1 drbd.config comp1.slapos.svc.paris

    resource
        Only this one (str).

    Returns ``{name: {"file", "hosts": {host: {"address": "10.0.0.1:7289", "volumes": {0: {"device": "/dev/drbd0", "minor": 0, "disk", "meta_disk"}}}},
    "options": {section: {option: value}}}}``; of one resource, its part, or None when there is none. The shared secret reads "(secret)". Raises
    CommandExecutionError when any file is wrong, since drbdadm then reads none.
    """
    if resource is not None:
        __utils__["drbd_conf.name_of_resource"](resource)
    text = _node().ask("drbdadm", ["dump-xml"], "reading the configuration")
    found = __utils__["drbd_parse.dump_xml"](text)
    return found if resource is None else found.get(resource)


def metadata(resource, volume=0):
    """
    Return whether the disk of a resource has DRBD's metadata on this node, and whose data it is.

    CLI Example:

    .. code-block:: bash

        salt demo1 drbd.metadata comp1.slapos.svc.paris

    resource
        The resource (str), which has to be configured.
    volume
        Its volume (int).

    Returns ``{"metadata": "exists", "ids": …, "why": None}`` with the ids of :py:func:`generation_ids`, ``{"metadata": "none", …}`` when the disk has
    none, or ``{"metadata": "unknown", "ids": None, "why": "…"}`` when it could not be asked (no such disk, held by another program). Raises
    CommandExecutionError when the resource is not configured here or drbd-utils is missing.
    """
    node = _node()
    volume = __utils__["drbd_conf.number_of_volume"](volume)
    node.existing(resource)
    answer = node.run("drbdadm", ["get-gi", f"{resource}/{volume}"])
    out, err = answer["stdout"], answer["stderr"]
    if answer["retcode"] == 0:
        ids = __utils__["drbd_parse.generations"](out)
        return {"metadata": "exists", "ids": ids, "why": None}
    # A disk without metadata: code 1 and not a word.
    if answer["retcode"] == 1 and not out.strip() and not err.strip():
        return {"metadata": "none", "ids": None, "why": None}
    why = __utils__["drbd_parse.complaint"](out, err)
    return {"metadata": "unknown", "ids": None, "why": why}


def generation_ids(resource, volume=0):
    """
    Return the generations of data in the metadata of this node, up or down.

    CLI Example:

    .. code-block:: bash

        salt '*' drbd.generation_ids comp1.slapos.svc.paris

    resource
        The resource (str).
    volume
        Its volume (int).

    Returns ``{"current", "bitmap", "history": [2], "flags": {"consistent", "up_to_date", "primary", "connected", …}, "new": bool}``, generations as 16
    hexadecimal digits. ``new`` means: just created, and has never held data. Raises CommandExecutionError when there is no metadata or it cannot be read.
    The last bit of a generation only says that the node was primary. Two nodes' answers are compared by :py:func:`split_brain`.
    """
    found = metadata(resource, volume)
    if found["metadata"] != "exists":
        why = found["why"] or "the disk has none; create it: drbd.create_md"
        raise CommandExecutionError(f"DRBD: metadata of {resource}/{volume}: {why}")
    return found["ids"]


def split_brain(resource, peer=None, volume=0):
    """
    Find out whether a resource is in a split brain, from this node's state and both nodes' generations, compared as DRBD's handshake does.

    CLI Example:

    .. code-block:: bash

        salt demo1 drbd.split_brain comp1.slapos.svc.paris '{"current": "2320A9EFDEA93744", …}'

    resource
        The resource (str), up or down.
    peer
        :py:func:`generation_ids` of the other node (dict). Without it only a connected resource can be judged.
    volume
        Its volume (int).

    Returns ``{"split_brain": bool or None, "relation", "full", "written": KiB, "why"}``. ``split_brain`` is None when this node alone cannot tell.
    ``relation`` is ``new`` (both just created), ``equal``, ``local_newer`` or ``peer_newer`` (the other is brought up to date from it), ``split_brain``
    (both were written to after they parted) or ``unrelated`` (they were never together); None without ``peer``. ``full``: a resync would copy every block.
    ``written``: what this node has that the peer has not, to help to choose whose writes go; None when it is down. ``why`` is a sentence with what to do.
    Raises CommandExecutionError when the resource is not configured, its metadata cannot be read, or ``peer`` is no set of generations.
    """
    node = _node()
    node.existing(resource)
    found = status(resource)[resource]
    answer = dict.fromkeys(("split_brain", "relation", "full"))
    answer["written"] = __utils__["drbd_parse.progress"](found)["out_of_sync"]
    if peer is None:
        if __utils__["drbd_parse.connected"](found):
            return {
                **answer,
                "split_brain": False,
                "why": "the nodes are connected: their handshake found none",
            }
        return {
            **answer,
            "why": f"{__utils__['drbd_parse.summary'](found)}; this node alone cannot tell: give as peer what drbd.generation_ids says on the other node",
        }
    compared = __utils__["drbd_parse.split_brain"](
        generation_ids(resource, volume), __utils__["drbd_parse.checked"](peer)
    )
    return {**answer, **compared, "why": _RELATIONS[compared["relation"]]}


def capacity(resource):
    """
    Return how large the device of a resource is on this node, and how large its disk would let it be.

    CLI Example:

    .. code-block:: bash

        salt demo1 drbd.capacity comp1.slapos.svc.paris

    resource
        The resource (str), which has to be up.

    Returns ``{0: {"size": KiB, "possible": KiB}}``. The peer's disk is not counted here: the smaller of the two decides. Raises CommandExecutionError.
    Internal metadata is counted as DRBD does; of DRBD 9, whose metadata may have room for 31 peers, for the most (not run here).
    """
    node = _node()
    settings = node.existing(resource)
    found = status(resource)[resource]
    answer = {}
    for volume, known in found["disk"].items():
        disk = __utils__["drbd_conf.disk"](settings, node.name, volume)
        kib = node.size_of_disk(disk) if disk else None
        if not known["size"] or not kib:
            raise CommandExecutionError(
                f"DRBD: the size of volume {volume} of {resource} cannot be read: it is {known['disk']}, its disk {disk}"
            )
        bitmaps = 1 if node.major() < 9 else 31
        answer[volume] = {
            "size": known["size"],
            "possible": __utils__["drbd_conf.usable"](kib, bitmaps),
        }
    return answer


def wait(resource, goal="in_sync", timeout=3600, connect_timeout=60):
    """
    Wait until a resource is connected, or in sync with its peer.

    CLI Example:

    .. code-block:: bash

        salt demo1 drbd.wait comp1.slapos.svc.paris timeout=7200

    resource
        The resource (str).
    goal
        ``in_sync`` (UpToDate on both sides) or ``connected`` (str).
    timeout
        Seconds (int) until it gives up.
    connect_timeout
        Seconds (int) for which it may be without connection, at the start or later.

    Returns the resource's part of :py:func:`status`. Tells how far it is by events ``slapos_ha/drbd/<resource>/sync``, when that has changed and not more
    often than every 5 seconds. Raises CommandExecutionError with the last state at the deadline, and at once when it cannot get there: StandAlone (a split
    brain ends there), Diskless, down, paused by an operator; after ``connect_timeout`` when both sides are Inconsistent and no resync begins.
    """
    goals = {"in_sync": "drbd_parse.in_sync", "connected": "drbd_parse.connected"}
    if goal not in goals:
        raise SaltInvocationError(f"goal: {goal!r} is not right; give in_sync or connected")
    start = moving = time.monotonic()
    told, told_at, pause = None, start - 5, 0.5
    while True:
        found = status(resource).get(resource)
        now = time.monotonic()
        if found is None:
            raise CommandExecutionError(f"DRBD: there is no resource {resource} on this node")
        state = __utils__["drbd_parse.summary"](found)
        reached = __utils__[goals[goal]](found)
        if state != told and (now - told_at >= 5 or (reached and told)):
            _tell(resource, goal, found, state)
            told, told_at = state, now
        if reached:
            return found
        lost = not __utils__["drbd_parse.connected"](found)
        idle = __utils__["drbd_parse.nobody_has_data"](found)
        if not lost and not idle:
            moving = now
        why = __utils__["drbd_parse.obstacle"](found)
        if not why and now - moving >= connect_timeout:
            if idle:
                why = "both sides are Inconsistent and no resync begins: none has data to copy from (drbd.synced with source, or drbd.initial_sync_skipped)"
            else:
                why = (
                    f"no connection for {connect_timeout} s: see that the resource is up on the peer, the replication addresses, the port in firewalls, "
                    "and that both sides have one shared secret"
                )
        if not why and now - start >= timeout:
            why = f"not there after {timeout} s"
        if why:
            raise CommandExecutionError(
                f"DRBD: {resource} is not {goal.replace('_', ' ')}: {why}. Now: {state}"
            )
        time.sleep(min(pause, max(start + timeout - now, 0.05)))
        pause = min(pause * 1.5, 5)


def _tell(resource, goal, found, state):
    if "event.send" in __salt__:
        data = {"resource": resource, "node": _node().name, "goal": goal, "state": state}
        data.update(__utils__["drbd_parse.progress"](found))
        __salt__["event.send"](f"slapos_ha/drbd/{resource}/sync", data)
