"""
What DRBD's programs print, as data. Pure functions on text: each raises CommandExecutionError on what it does not know and on what is cut off, since a
disk state that is guessed is worse than none.

DRBD 8.4 (drbd-utils 9.22) was recorded in all these states (``test/unit/drbd/recorded``). DRBD 9's forms follow the source of its ``drbdsetup`` and were
not run here.
"""

import json
import re
import xml.etree.ElementTree as ElementTree

from salt.exceptions import CommandExecutionError

ROLES = frozenset("Primary Secondary Unknown".split())
DISKS = frozenset(
    "Diskless Attaching Detaching Failed Negotiating Inconsistent Outdated DUnknown Consistent UpToDate".split()
)
# Below an established connection, in the order in which a connection is made.
CONNECTIONS = frozenset(
    "StandAlone Disconnecting Unconnected Timeout BrokenPipe NetworkFailure ProtocolError TearDown Connecting Connected".split()
)
REPLICATIONS = frozenset(
    "Off Established StartingSyncS StartingSyncT WFBitMapS WFBitMapT WFSyncUUID SyncSource SyncTarget VerifyS VerifyT"
    " PausedSyncS PausedSyncT Ahead Behind".split()
)
VERIFYING = frozenset(("VerifyS", "VerifyT"))
SYNCING = REPLICATIONS - VERIFYING - {"Off", "Established", "Ahead", "Behind"}
JUST_CREATED = (
    "0000000000000004"  # the generation that create-md writes (UUID_JUST_CREATED in drbd.h)
)
_NONE = "0" * 16
# 8.4 calls these states otherwise in /proc/drbd than in drbdsetup status.
_PROC_CONNECTIONS = {"WFConnection": "Connecting", "WFReportParams": "Connected"}

_RESOURCE_KEYS = frozenset("role suspended write-ordering node-id force-io-failures open".split())
_DEVICE_KEYS = frozenset(
    "volume minor disk client open backing_dev quorum size read written al-writes bm-writes upper-pending lower-pending al-suspended"
    " blocked".split()
)
_CONNECTION_KEYS = frozenset(
    "connection role congested node-id tls ap-in-flight rs-in-flight".split()
)
_PEER_KEYS = frozenset(
    "volume replication peer-disk peer-client done eta resync-suspended received sent out-of-sync pending unacked dbdt1".split()
)
_SUSPENDED = frozenset("no user peer dependency".split())
# Of these 8.4's kernel prints a second and a third line of progress; of the others of SYNCING and VERIFYING none.
_PROC_MOVING = frozenset("SyncSource SyncTarget VerifyS VerifyT".split())


def _bad(what, text):
    line = text.strip().splitlines()[0][:120] if text.strip() else "nothing"
    return CommandExecutionError(f"DRBD: {what} is not understood: {line!r}")


def _known(value, values, what):
    if value not in values:
        raise _bad(what, str(value))
    return value


def _number(value, what):
    if not re.fullmatch(r"\d+", str(value)):
        raise _bad(what, str(value))
    return int(value)


def _percent(value):
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise _bad("a percentage", str(value)) from None
    if not -1 <= number <= 101:
        raise _bad("a percentage", str(value))
    return round(min(max(number, 0.0), 100.0), 2)


def _peer_volume(replication, disk, percent, out_of_sync, suspended, mib_per_second=None):
    """The one shape of a volume as seen of a peer. ``percent`` and ``rate`` are about a resync or verify that runs, and None otherwise."""
    replication = _known(replication, REPLICATIONS, "a replication state")
    running = replication in SYNCING | VERIFYING
    for reason in (suspended or "no").split(","):
        _known(reason, _SUSPENDED, "a reason why a resync is suspended")
    return {
        "replication": replication,
        "disk": _known(disk, DISKS, "a peer's disk state"),
        "percent": _percent(percent) if running and percent is not None else None,
        "rate": _rate(mib_per_second) if running and mib_per_second is not None else None,
        "out_of_sync": _number(out_of_sync, "out-of-sync") if out_of_sync is not None else None,
        "resync_suspended": suspended or "no",
        "seconds_left": None,
    }


def _rate(mib_per_second):
    """KiB per second. More can be written than is copied: that is no speed."""
    try:
        return max(int(float(mib_per_second) * 1024), 0)
    except (TypeError, ValueError, OverflowError):
        raise _bad("a rate", str(mib_per_second)) from None


# --- drbdsetup status ---------------------------------------------------------------------------------------------------------------------------


def status_text(text):
    """
    Parse ``drbdsetup status [--verbose --statistics]`` (8.4; also what 9 prints without --json).

    A resource begins in the first column and ends with an empty line; its devices and connections are indented by 2, a connection's volumes by 4, and
    what did not fit into a line goes on deeper::

        t0 role:Secondary suspended:no
            write-ordering:flush
          volume:0 minor:3 disk:Inconsistent
              size:131032 read:0 …
          peer connection:Connected role:Primary congested:no
            volume:0 replication:SyncTarget peer-disk:UpToDate done:60.66
                resync-suspended:no

    Returns resources by name in the shape of ``drbd.status``. In 8.4 the connection of a StandAlone resource is not printed at all.
    """
    if text.strip() and not text.endswith("\n"):
        raise _bad("the end of drbdsetup status", text.splitlines()[-1])
    resources, block = {}, []
    for line in text.splitlines():
        if line.strip():
            block.append(line)
        elif block:
            _add(resources, _resource_text(block))
            block = []
    if block:
        raise _bad("drbdsetup status, which is cut off,", block[-1])
    return resources


def _add(resources, found):
    name, resource = found
    if name in resources:
        raise _bad("drbdsetup status, with a resource twice,", name)
    resources[name] = resource


def _resource_text(lines):
    """One block of lines as ``(name, resource)``."""
    sections = []  # [kind, name, {key: value}]
    for line in lines:
        indent = len(line) - len(line.lstrip(" "))
        words = line.split()
        first = words[0]
        if not sections:
            if indent or ":" in first:
                raise _bad("drbdsetup status", line)
            sections.append(["resource", first, {}])
            words = words[1:]
        elif indent == 2:
            if ":" in first:
                sections.append(["device", None, {}])
            else:
                sections.append(["connection", first, {}])
                words = words[1:]
        elif (
            indent == 4
            and sections[-1][0] in ("connection", "peer_device")
            and (re.match(r"(volume|replication|peer-disk):", first))
        ):
            sections.append(["peer_device", None, {}])
        elif indent < 4:
            raise _bad("drbdsetup status", line)
        values = sections[-1][2]
        for word in words:
            key, colon, value = word.partition(":")
            if not colon or not value or key in values:
                raise _bad("drbdsetup status", line)
            values[key] = value
    return _resource(sections)


def _resource(sections):
    name = sections[0][1]
    resource, connection = {"disk": {}, "connections": {}}, None
    for kind, label, values in sections:
        allowed = {
            "resource": _RESOURCE_KEYS,
            "device": _DEVICE_KEYS,
            "connection": _CONNECTION_KEYS,
            "peer_device": _PEER_KEYS,
        }[kind]
        strange = sorted(set(values) - allowed)
        if strange:
            raise _bad(f"in drbdsetup status, {strange[0]!r} of a {kind}", values[strange[0]])
        if kind == "resource":
            resource["role"] = _known(values.get("role"), ROLES, f"the role of {name}")
            resource["suspended"] = values.get("suspended", "no") != "no"
        elif kind == "device":
            volume = _number(values.get("volume", "0"), "a volume")
            resource["disk"][volume] = {
                "minor": _number(values["minor"], "a minor") if "minor" in values else None,
                "disk": _known(values.get("disk"), DISKS, "a disk state"),
                "size": _number(values["size"], "a size") if "size" in values else None,
                "quorum": _quorum(values.get("quorum")),
            }
        elif kind == "connection":
            state = values.get("connection", "Connected" if "role" in values else None)
            connection = {
                "state": _known(state, CONNECTIONS, "a connection state"),
                "role": _known(values.get("role", "Unknown"), ROLES, "a peer's role"),
                "volumes": {},
            }
            resource["connections"][label] = connection
        else:
            # Without --verbose an Established replication is not printed.
            connection["volumes"][_number(values.get("volume", "0"), "a volume")] = _peer_volume(
                values.get("replication", "Established"),
                values.get("peer-disk", "DUnknown"),
                values.get("done"),
                values.get("out-of-sync"),
                values.get("resync-suspended"),
                values.get("dbdt1"),
            )
    if not resource["disk"]:
        raise _bad(f"drbdsetup status: {name} has no volume, it", name)
    return name, resource


def _quorum(word):
    """DRBD 9 says yes or no; 8.4 has no quorum and says nothing."""
    return None if word is None else _known(word, ("yes", "no"), "quorum") == "yes"


def status_json(text):
    """
    Parse ``drbdsetup status --json`` (DRBD 9; 8.4 has no such option). Not run here: written from what ``drbdsetup.c`` of drbd-utils 9 prints.

    Returns resources by name in the shape of ``drbd.status``.
    """
    try:
        given = json.loads(text)
        resources = {}
        for one in given:
            resource = {
                "role": _known(one["role"], ROLES, "a role"),
                "suspended": _bool(one["suspended"]),
                "disk": {},
                "connections": {},
            }
            for device in one["devices"]:
                resource["disk"][_number(device["volume"], "a volume")] = {
                    "minor": _number(device["minor"], "a minor"),
                    "disk": _known(device["disk-state"], DISKS, "a disk state"),
                    "size": _number(device["size"], "a size") if "size" in device else None,
                    "quorum": _bool(device["quorum"]) if "quorum" in device else None,
                }
            for connection in one["connections"]:
                resource["connections"][connection["name"]] = {
                    "state": _known(
                        connection["connection-state"], CONNECTIONS, "a connection state"
                    ),
                    "role": _known(connection["peer-role"], ROLES, "a peer's role"),
                    "volumes": {
                        _number(volume["volume"], "a volume"): _volume_json(volume)
                        for volume in connection["peer_devices"]
                    },
                }
            if not isinstance(one["name"], str) or not resource["disk"]:
                raise _bad("drbdsetup status --json", text)
            _add(resources, (one["name"], resource))
        return resources
    except (ValueError, TypeError, KeyError, AttributeError):
        raise _bad("drbdsetup status --json", text) from None


def _bool(value):
    if not isinstance(value, bool):
        raise _bad("a truth value", str(value))
    return value


def _volume_json(volume):
    found = _peer_volume(
        volume["replication-state"],
        volume["peer-disk-state"],
        volume.get("percent-resync-done", volume.get("percent-in-sync")),
        volume["out-of-sync"],
        volume["resync-suspended"],
        # Of the last seconds, as the estimate of the time that is left.
        volume.get("db1/dt1 [MiB/s]"),
    )
    # 987654321 is its way to say "unknown".
    left = volume.get("estimated-seconds-to-finish")
    if found["percent"] is not None and isinstance(left, (int, float)) and left < 987654321:
        found["seconds_left"] = int(left)
    return found


def proc_drbd(text):
    """
    Parse ``/proc/drbd`` of DRBD 8.4, which knows minors but no names of resources::

        version: 8.4.11 (api:1/proto:86-101)
        srcversion: 059B1B470318F053F5077D5

         3: cs:SyncTarget ro:Secondary/Primary ds:Inconsistent/UpToDate C r-----
            ns:0 nr:12360 dw:12360 dr:0 al:8 bm:0 lo:0 pe:0 ua:0 ap:0 ep:1 wo:f oos:49080
                [=====>..............] sync'ed: 31.3% (49080/61440)K
                finish: 0:00:11 speed: 4,120 (4,120) want: 4,096 K/sec

    Older kernels print both in one line when more than 4 GiB are to be copied: ``… 0.7% (5088/5116)Mfinish: 0:02:42 …``.

    Returns ``{"version", "devices": {minor: {"state", "percent", "rate", "seconds_left", …}}}``. Its percentages are those of the resync or verify that
    runs; ``done`` of drbdsetup status is the part of the whole device that is in sync, and 100 throughout a verify.
    """
    match = re.match(r"version: (\d+\.\d+\.\d+\S*) \(api:", text)
    if not match or not text.endswith("\n"):
        raise _bad("/proc/drbd", text)
    devices, current = {}, None
    for line in text.splitlines()[1:]:
        head = re.match(r"\s*(\d+): cs:(\S+)(.*)$", line)
        if head:
            current = dict.fromkeys(("percent", "rate", "seconds_left"))
            current["state"] = _proc_state(head[2])
            devices[int(head[1])] = current
            if current["state"] == "Unconfigured":
                continue
            rest = re.match(r" ro:(\w+)/(\w+) ds:(\w+)/(\w+) ", head[3])
            if not rest:
                raise _bad("/proc/drbd", line)
            current.update(
                role=_known(rest[1], ROLES, "a role"),
                peer_role=_known(rest[2], ROLES, "a role"),
                disk=_known(rest[3], DISKS, "a disk state"),
                peer_disk=_known(rest[4], DISKS, "a disk state"),
            )
        elif re.match(r"\s+\[[=>.]*\] (sync'ed|verified):", line) and current:
            done = re.search(r": *([\d.]+)% \(\d+/\d+\)[KM](\s*finish: .*)?$", line)
            if not done:
                raise _bad("/proc/drbd", line)
            current["percent"] = _percent(done[1])
            if done[2]:
                current.update(_proc_speed(done[2]))
        elif re.match(r"\s+finish: ", line) and current:
            current.update(_proc_speed(line))
        elif re.match(r"\s+ns:\d+ ", line) and current:
            out = re.search(r" oos:(\d+)\s*$", line)
            if not out:
                raise _bad("/proc/drbd", line)
            current["out_of_sync"] = int(out[1])
        elif line.strip() and not re.match(
            r"(srcversion|GIT-hash|built-in)\b|\s+[\w-]+:|\s+\d+%? |\s+stalled", line
        ):
            raise _bad("/proc/drbd", line)
    for minor, device in devices.items():
        moving = device["state"] in _PROC_MOVING
        if (device["state"] != "Unconfigured" and "out_of_sync" not in device) or (
            moving and None in (device["percent"], device["rate"])
        ):
            raise _bad("/proc/drbd, which is cut off,", f"minor {minor}")
    return {"version": match[1], "devices": devices}


def _proc_speed(line):
    found = re.match(r"\s*finish: (\d+):(\d\d):(\d\d) speed: (-?\d[\d,]*) \(.*K/sec", line)
    if not found:
        raise _bad("/proc/drbd", line)
    return {
        "seconds_left": int(found[1]) * 3600 + int(found[2]) * 60 + int(found[3]),
        "rate": max(int(found[4].replace(",", "")), 0),
    }


def _proc_state(word):
    state = _PROC_CONNECTIONS.get(word, word)
    return _known(state, CONNECTIONS | REPLICATIONS | {"Unconfigured"}, "a connection state")


def with_proc(resources, proc, peers):
    """
    Complete what 8.4's ``drbdsetup status`` leaves out, in place: progress of a resync or verify, the connection of a StandAlone resource with what was
    written since, and the peer's name, which is always "peer" there. ``peers`` has the names of the other hosts by resource, as its file has them.
    """
    for name, resource in resources.items():
        others = peers.get(name, [])
        known = others[0] if len(others) == 1 else "peer"
        connections = resource["connections"]
        if "peer" in connections:
            connections[known] = connections.pop("peer")
        elif not connections:
            connections[known] = {
                "state": "StandAlone",
                "role": "Unknown",
                "volumes": {
                    volume: _peer_volume("Off", "DUnknown", None, None, None)
                    for volume in resource["disk"]
                },
            }
        for volume, disk in resource["disk"].items():
            device = proc["devices"].get(disk["minor"]) if proc else None
            seen = connections[known]["volumes"].get(volume) if known in connections else None
            if not device or not seen:
                continue
            if seen["replication"] in SYNCING | VERIFYING:
                if device["percent"] is not None:
                    seen["percent"] = device["percent"]
                elif seen["replication"] in VERIFYING:
                    seen["percent"] = None
                seen["seconds_left"], seen["rate"] = device["seconds_left"], device["rate"]
            if seen["out_of_sync"] is None:
                seen["out_of_sync"] = device.get("out_of_sync")
    return resources


# --- Generations --------------------------------------------------------------------------------------------------------------------------------

_FLAGS_8 = "consistent up_to_date primary connected full_sync peer_outdated crashed_primary".split()
_FLAGS_9 = (
    "consistent up_to_date primary crashed_primary al_clean al_disabled lost_quorum connected peer_outdated fencing full_sync device_seen"
).split()


def generations(text):
    """
    Parse a line of ``drbdadm get-gi``: current, bitmap and two history generations, then flags (8.4 prints 7; 9 prints 12, not run here)::

        2320A9EFDEA93744:0000000000000000:C5F095AA55CF5AA3:C5EF95AA55CF5AA3:1:1:0:1:0:0:0

    Returns ``{"current", "bitmap", "history": [2], "flags": {name: bool}, "new": bool}``. ``new`` is metadata that has never held data: just created,
    never consistent, never primary.
    """
    lines = text.split()
    if len(lines) != 1:
        raise _bad("drbdadm get-gi", text)
    match = re.fullmatch(r"((?:[0-9A-F]{16}:){4})((?:[01]:){6}[01]|(?:[01]:){11}[01])", lines[0])
    if not match or not text.endswith("\n"):
        raise _bad("drbdadm get-gi", text)
    current, bitmap, *history = match[1].rstrip(":").split(":")
    values = match[2].split(":")
    names = _FLAGS_8 if len(values) == len(_FLAGS_8) else _FLAGS_9
    found = {
        "current": current,
        "bitmap": bitmap,
        "history": history,
        "flags": {name: value == "1" for name, value in zip(names, values, strict=True)},
    }
    found["new"] = is_new(found)
    return found


def is_new(ids):
    flags = ids["flags"]
    return (
        [ids["current"], ids["bitmap"], *ids["history"]] == [JUST_CREATED, _NONE, _NONE, _NONE]
        and not flags["consistent"]
        and not flags["up_to_date"]
        and not flags["primary"]
    )


def checked(ids):
    """The generations that were given as those of another node, in full, or CommandExecutionError; ``new`` is found out again and not believed."""
    try:
        found = {
            "current": ids["current"],
            "bitmap": ids["bitmap"],
            "history": list(ids["history"]),
            "flags": dict(ids["flags"]),
        }
        values = [found["current"], found["bitmap"], *found["history"]]
        right = len(values) == 4 and all(
            isinstance(value, str) and re.fullmatch(r"[0-9A-F]{16}", value) for value in values
        )
        for flag in ("consistent", "up_to_date", "primary"):
            right = right and isinstance(found["flags"][flag], bool)
    except (KeyError, TypeError, ValueError, AttributeError):
        right = False
    if not right:
        raise _bad("a set of generations", str(ids))
    found["new"] = is_new(found)
    return found


def _generation(value):
    # The last bit only says that the node was primary when it was written.
    return int(value, 16) & ~1


def split_brain(local, peer):
    """
    Compare the generations of two nodes as DRBD's handshake does (uuid_compare in drbd_receiver.c of 8.4).

    Returns ``{"relation", "full", "split_brain"}``. ``relation`` is one of ``new`` (both just created), ``equal``, ``local_newer``, ``peer_newer`` (the
    other can be brought up to date from it), ``split_brain`` (both were written to after they were together), ``unrelated`` (they were never together).
    ``full`` is True when a resync would copy every block.
    """
    mine, theirs = _uuids(local), _uuids(peer)
    relation, full = _relation(mine, theirs)
    return {
        "relation": relation,
        "full": full,
        "split_brain": relation in ("split_brain", "unrelated"),
    }


def _uuids(ids):
    try:
        current, bitmap, *history = (
            _generation(value) for value in (ids["current"], ids["bitmap"], *ids["history"])
        )
    except (KeyError, TypeError, ValueError):
        raise _bad("a set of generations", str(ids)) from None
    return current, bitmap, [value for value in history if value]


def _relation(mine, theirs):
    (current, bitmap, history), (peer, peer_bitmap, peer_history) = mine, theirs
    created = int(JUST_CREATED, 16)
    blank = (created, 0)
    if current in blank and peer in blank:
        return "new", False
    if current in blank:
        return "peer_newer", True
    if peer in blank:
        return "local_newer", True
    if current == peer:
        return "equal", False
    if bitmap == peer:
        return "local_newer", False
    if current == peer_bitmap:
        return "peer_newer", False
    if peer in history:
        return "local_newer", True
    if current in peer_history:
        return "peer_newer", True
    ours = {value for value in (bitmap, *history) if value}
    if ours & {value for value in (peer_bitmap, *peer_history) if value}:
        return "split_brain", bitmap != peer_bitmap
    return "unrelated", True


# --- Versions and configuration -----------------------------------------------------------------------------------------------------------------


def utils_version(text):
    """The version of drbd-utils in ``drbdadm --version``."""
    match = re.search(r"^DRBDADM_VERSION=(\d+\.\d+\.\d+\S*)$", text, re.MULTILINE)
    if not match:
        raise _bad("drbdadm --version", text)
    return match[1]


def dump_xml(text):
    """
    Parse ``drbdadm dump-xml``, of all resources (8.4: below ``<config>``; with one resource only, that resource).

    Returns ``{name: {"file", "hosts": {host: {"address", "volumes": {0: {"device", "minor", "disk", "meta_disk"}}}}, "options": {section: {name: value}}}}``
    with the shared secret masked.
    """
    try:
        root = ElementTree.fromstring(text)
        found = {}
        for resource in [root] if root.tag == "resource" else root.iter("resource"):
            found[resource.attrib["name"]] = {
                "file": resource.attrib["conf-file-line"].rpartition(":")[0],
                "hosts": {host.attrib["name"]: _host(host) for host in resource.findall("host")},
                "options": {
                    section.attrib["name"]: {
                        option.attrib["name"]: "(secret)"
                        if option.attrib["name"] == "shared-secret"
                        else option.attrib.get("value", "yes")
                        for option in section.findall("option")
                    }
                    for section in resource.findall("section")
                },
            }
        if root.tag not in ("config", "resource"):
            raise _bad("drbdadm dump-xml", root.tag)
        return found
    except (ElementTree.ParseError, KeyError, AttributeError):
        # Not with its text: that holds the shared secret.
        raise CommandExecutionError(
            "DRBD: the output of drbdadm dump-xml is not understood"
        ) from None


def _host(host):
    address = host.find("address")
    ip = address.text if ":" not in address.text else f"[{address.text}]"
    return {
        "address": f"{ip}:{_number(address.attrib['port'], 'a port')}",
        "volumes": {
            _number(volume.attrib["vnr"], "a volume"): {
                "device": volume.find("device").text,
                "minor": _number(volume.find("device").attrib["minor"], "a minor"),
                "disk": volume.find("disk").text,
                "meta_disk": volume.find("meta-disk").text,
            }
            for volume in host.findall("volume")
        },
    }


# --- What goes wrong ----------------------------------------------------------------------------------------------------------------------------


def scrub(text):
    """Text of a tool without secrets: on a failure drbdadm prints the whole drbdsetup command, with --shared-secret in it."""
    text = re.sub(r"(?s)\bCommand '.*?' terminated with exit code \d+", "", text)
    text = re.sub(
        r"""(--shared-secret[= ]|\bshared-secret\s+)("[^"]*"|\S+?)(?=[\s;'>]|$)""",
        r"\1(secret)",
        text,
    )
    return re.sub(r'(name="shared-secret"\s+value=)"[^"]*"', r'\1"(secret)"', text)


def complaint(out, err):
    """The useful line of a failure: ``3: State change failed: (-12) Device is held open by someone, failed to demote``."""
    lines = []
    for line in scrub(err or "").splitlines() or []:
        line = line.strip().rstrip(",")
        if line and not line.startswith(
            (
                "additional info from kernel",
                "stdin not a TTY",
                "try 'drbdadm help",
                "Do you want",
                "Exclusive open failed",
            )
        ):
            lines.append(line)
    if not lines:
        lines = [line.strip() for line in scrub(out or "").splitlines() if line.strip()][:3]
    return ", ".join(dict.fromkeys(lines[:6])) or "it says nothing"


def not_up(resource):
    """Why a resource is not up here, as a sentence, or None when it has its disk, and a connection or the wish for one."""
    for volume, disk in resource["disk"].items():
        if disk["disk"] in ("Diskless", "Failed"):
            return f"volume {volume} is {disk['disk']}: see the kernel's log for errors of the disk below, or a full filesystem, then drbdadm attach"
        if disk["disk"] == "Unconfigured":
            return "the resource is down: drbdadm up"
    if not resource["connections"]:
        return "there is no connection: drbdadm adjust"
    for peer, connection in resource["connections"].items():
        if connection["state"] == "StandAlone":
            return (
                f"it is StandAlone towards {peer}: an operator disconnected it, the peer's authentication failed, or this is a split brain "
                "(the kernel's log says which; compare drbd.generation_ids of both nodes)"
            )
        if connection["state"] == "ProtocolError":
            return (
                f"{peer} speaks another protocol: compare both nodes' resource files and versions"
            )
    return None


def obstacle(resource):
    """Why a resource cannot get in sync by itself, as a sentence, or None: what ends a wait early."""
    why = not_up(resource)
    if why:
        return why
    for peer, connection in resource["connections"].items():
        for volume, seen in connection["volumes"].items():
            if "user" in seen["resync_suspended"].split(","):
                return (
                    f"the resync of volume {volume} is paused by an operator: drbdadm resume-sync"
                )
            if connection["state"] == "Connected" and seen["disk"] in ("Diskless", "Failed"):
                return f"volume {volume} of {peer} is {seen['disk']}: see the kernel's log there for errors of the disk below, or a full filesystem, then drbdadm attach there"
    return None


def nobody_has_data(resource):
    """Connected, Inconsistent on both sides and at rest: no side has data to copy from, as with metadata that is new on both."""
    return connected(resource) and all(
        seen["replication"] == "Established"
        and seen["disk"] == "Inconsistent"
        and resource["disk"].get(volume, {}).get("disk") == "Inconsistent"
        for connection in resource["connections"].values()
        for volume, seen in connection["volumes"].items()
    )


def connected(resource):
    """Every peer is connected and knows the volumes."""
    return bool(resource["connections"]) and all(
        connection["state"] == "Connected"
        and set(connection["volumes"]) == set(resource["disk"])
        and all(seen["replication"] != "Off" for seen in connection["volumes"].values())
        for connection in resource["connections"].values()
    )


def in_sync(resource):
    """UpToDate here and on every peer, connected, no resync."""
    return (
        connected(resource)
        and all(volume["disk"] == "UpToDate" for volume in resource["disk"].values())
        and all(
            seen["disk"] == "UpToDate" and seen["replication"] in {"Established"} | VERIFYING
            for connection in resource["connections"].values()
            for seen in connection["volumes"].values()
        )
    )


def syncing(resource):
    """A resync runs, or is about to."""
    return any(
        seen["replication"] in SYNCING
        for connection in resource["connections"].values()
        for seen in connection["volumes"].values()
    )


def progress(resource):
    """
    How far a resync is: of the volumes the least ``percent``, all ``out_of_sync`` (KiB), the sum of ``rate`` (KiB/s) and the longest ``seconds_left``; None
    for what is not known.
    """
    volumes = [
        seen
        for connection in resource["connections"].values()
        for seen in connection["volumes"].values()
    ]
    percents = [seen["percent"] for seen in volumes if seen["percent"] is not None]
    rates = [seen["rate"] for seen in volumes if seen["rate"] is not None]
    seconds = [seen["seconds_left"] for seen in volumes if seen["seconds_left"] is not None]
    blocks = [seen["out_of_sync"] for seen in volumes if seen["out_of_sync"] is not None]
    return {
        "percent": min(percents, default=None),
        "out_of_sync": sum(blocks) if blocks else None,
        "rate": sum(rates) if rates else None,
        "seconds_left": max(seconds, default=None),
    }


def summary(resource):
    """One line for people: ``Secondary UpToDate, demo2 Connected SyncSource Inconsistent 60.66 % (4120 KiB/s)``."""
    words = [resource["role"]]
    for _, disk in sorted(resource["disk"].items()):
        words.append(disk["disk"] + (" without quorum" if disk.get("quorum") is False else ""))
    for peer, connection in resource["connections"].items():
        part = [peer, connection["state"]]
        for seen in connection["volumes"].values():
            part += [seen["replication"], seen["disk"]]
            if seen["percent"] is not None:
                part.append(f"{seen['percent']:g} %")
            if seen["rate"] is not None:
                part.append(f"({seen['rate']} KiB/s)")
        words[-1] += ","
        words.append(" ".join(part))
    return " ".join(words)
