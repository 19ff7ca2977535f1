"""
What of a site may be removed from a node, and what belongs to somebody else: pure judgement of what was read there. For the ``slapos_node`` module.

All functions that judge return items ``{"kind", "name", "now", "stays"}`` in the order in which they can be removed. ``stays`` is why something is not removed,
or None.
"""

import json
import re

# What has a place on disk of a file that the agent only gave its size by the byte at its end.
_UNTOUCHED = 64 << 10


def item(kind, name, now="there", stays=None):
    """One thing that is there."""
    return {"kind": kind, "name": name, "now": now, "stays": stays}


def filter_in(text):
    """The lines that the formula has put into a file of LVM, with their marks; "" when there are none."""
    found = re.search(
        r"^# slapos_ha begins.*?^# slapos_ha ends[^\n]*\n?", text, re.MULTILINE | re.DOTALL
    )
    return found.group(0) if found else ""


# --- What is below the filesystem -----------------------------------------------------------------------------------------------------------------


def report(text):
    """The rows of what ``pvs`` or ``lvs`` print with ``--reportformat json``."""
    # {"report": [{"pv": [{"pv_name": "/dev/loop7", "vg_name": "comp1.slapos.svc.lab"}]}]}
    return [row for part in json.loads(text)["report"] for rows in part.values() for row in rows]


def held(begin, group, written=None):
    """
    Why a file or disk is not this site's, from its first MiB; None when it is.

    LVM writes a volume group's metadata as text into the first MiB of each of its disks, and that text stays when group and disk are removed from LVM. A file
    to which nothing was ever written is the site's too: ``written`` is how many bytes of it have a place on disk, where that is known.
    """
    if re.search(rb"(?:^|\n|\0)" + re.escape(group.encode()) + rb' \{\nid = "', begin):
        return None
    if not begin.strip(b"\0") and written is not None and written <= _UNTOUCHED:
        return None
    return f"it does not hold volume group {group}, so it is not this site's"


def data(seen, site, keep=None):
    """
    The layers below the service's filesystem, from the top down: each stays while what is on it does.

    ``seen`` is what was read: ``resource`` (``{"disk"}`` of the site's DRBD resource, or None), ``metadata`` (its generation, or None), ``lvs`` and ``pvs``
    (rows of :py:func:`report`), ``devices`` (the loop devices on the site's file, or its disk), ``file`` (its size in bytes, or None), ``held`` (as by the
    function), and ``mounted`` (devices with a mounted filesystem). ``keep`` is why nothing of it is to be removed, or None.
    """
    storage, found = site["storage"], []
    lv, resource = storage["lv"], seen["resource"]
    stranger = other_disk(resource, lv)
    there = any(
        row["vg_name"] == storage["group"] and row["lv_name"] == site["service"]["name"]
        for row in seen["lvs"]
    )
    why = _why_volume(seen, storage, site["service"]["name"], bool(resource and not stranger))
    why = why if there else None
    if seen["metadata"]:
        found.append(item("DRBD metadata on", lv, f"generation {seen['metadata']}", why))
    if there:
        found.append(item("logical volume", lv, stays=why))
    if storage["backend"] != "lvm":
        found += _below(seen, storage, site["service"]["name"], why)
    if resource:
        # The last to go: on an operator's volume group it is what proves that the volume is this site's.
        stays = stranger or (why and f"logical volume {lv} stays")
        found.append(item("file of DRBD resource", site["fqdn"], stays=stays))
    return [{**one, "stays": one["stays"] or keep} for one in found]


def other_disk(resource, lv):
    """Why a DRBD resource of the site's name is not the site's, or None."""
    if not resource or resource["disk"] == lv:
        return None
    return f"its disk is {resource['disk']}, not {lv}"


def _why_volume(seen, storage, volume, proven):
    group = storage["group"]
    where = {row["pv_name"] for row in seen["pvs"] if row["vg_name"] == group}
    if storage["backend"] == "lvm" and not proven:
        return f"no DRBD resource of this site has it as its disk, so nothing proves that it is this site's; if it is: lvremove {group}/{volume}"
    if storage["backend"] != "lvm" and not where & set(seen["devices"]):
        return f"volume group {group} is on {', '.join(sorted(where))}, so it is not this site's"
    for row in seen["lvs"]:
        if row["vg_name"] == group and row["origin"].strip("[]") == volume:
            name = row["lv_name"].strip("[]")
            return f"{name} is a snapshot of it, which is not this site's: lvremove {group}/{name}"
    return None


def _below(seen, storage, volume, why_volume):
    """Volume group, physical volumes, loop devices and file."""
    group, devices, found = storage["group"], seen["devices"], []
    mine = sorted(row["pv_name"] for row in seen["pvs"] if row["vg_name"] == group)
    why_group = _why_group(seen, group, volume, mine, why_volume)
    if mine:
        found.append(item("volume group", group, stays=why_group))
    staying = None
    for device in devices:
        held_by = {row["pv_name"]: row["vg_name"] for row in seen["pvs"]}.get(device)
        why = seen["held"]
        if held_by and held_by != group:
            why = f"it is of volume group {held_by}, which is not this site's"
        elif held_by and why_group:
            why = f"volume group {group} stays"
        elif held_by is None and device in seen["mounted"]:
            why = "a filesystem on it is mounted, which is not this site's"
        if storage["backend"] == "loop":
            if held_by is not None:
                found.append(item("physical volume", device, stays=why))
            found.append(item("loop device", device, f"on {storage['file']}", why))
            staying = staying or (why and f"loop device {device} stays")
        elif held_by is not None and not seen["held"]:
            # A disk that never was the site's is no leftover of it.
            found.append(item("physical volume", device, stays=why))
    if seen["file"] is not None:
        size = f"{seen['file'] >> 20} MiB"
        found.append(item("loop file", storage["file"], size, seen["held"] or staying))
    return found


def _why_group(seen, group, volume, mine, why_volume):
    strange = sorted(set(mine) - set(seen["devices"]))
    others = sorted(
        row["lv_name"].strip("[]")
        for row in seen["lvs"]
        if row["vg_name"] == group and row["lv_name"] != volume
    )
    if strange == mine:
        return f"it is on {', '.join(mine)}, so it is not this site's"
    if strange:
        return f"it is also on {', '.join(strange)}: vgreduce {group} {strange[0]}"
    if others:
        return f"it also holds {', '.join(others)}, which is not this site's"
    return why_volume and f"logical volume {volume} stays"


# --- Users ------------------------------------------------------------------------------------------------------------------------------------


def users(wanted, passwd, groups, owned, keep=None):
    """
    The site's users and groups on a node.

    ``wanted`` is that of ``slapos_text.wanted_users``; ``passwd`` and ``groups`` are the fields of the node's own lines by name; ``owned`` is ``{"uid": {id:
    path}, "gid": {id: path}}`` of files that are theirs and not on the service's filesystem, or a sentence that says why that is not known. ``keep`` is why
    they stay in any case, or None.
    """
    found, staying = [], set()
    # slapsoft is the group of all others, so it is the last to go.
    for name in reversed(wanted):
        if name in passwd:
            why = _why_user(wanted[name], passwd[name], owned) or keep
            staying |= {name} if why else set()
            found.append(item("user", name, f"id {passwd[name][2]}", why))
    for name in reversed(wanted):
        if name in groups:
            why = _why_group_of(name, wanted, passwd, groups[name], owned, staying) or keep
            found.append(item("group", name, f"id {groups[name][2]}", why))
    return found


def _why_user(wanted, fields, owned):
    number = wanted["id"]
    if [fields[2], fields[3], fields[5]] != [str(number), str(number), wanted["home"]]:
        return f"it has id {fields[2]}, group {fields[3]} and home {fields[5]}, so it is not this site's"
    if isinstance(owned, str):
        return owned
    if number in owned["uid"]:
        return f"{owned['uid'][number]} is its"
    return f"{owned['gid'][number]} is of its group" if number in owned["gid"] else None


def _why_group_of(name, wanted, passwd, fields, owned, staying):
    number = wanted[name]["id"]
    members = {member for member in fields[3].split(",") if member}
    members |= {user for user, line in passwd.items() if line[3] == fields[2]}
    if fields[2] != str(number):
        return f"it has id {fields[2]}, so it is not this site's"
    if members - set(wanted):
        return f"user {', '.join(sorted(members - set(wanted)))} is in it"
    if members & staying:
        return f"user {', '.join(sorted(members & staying))} stays"
    if isinstance(owned, str):
        return owned
    return f"{owned['gid'][number]} is of it" if number in owned["gid"] else None


# --- The agent's objects and cluster ------------------------------------------------------------------------------------------------------------


def paths(site):
    """The service, the volume of its launchers, and the object that holds them."""
    service = site["service"]
    return site["path"], f"{service['namespace']}/vol/{service['name']}-cfg", site["cfg_path"]


def objects(site, configs):
    """
    The site's objects in the agent; ``configs`` is ``{path: configuration or None}``.

    The names of volume and launchers follow from the service's. They are the site's unless something of them is somebody's.
    """
    path, volume, launchers = paths(site)
    owner = (configs[path] or {}).get("env", {}).get("slapos_ha_site")
    strange = None
    if configs[path] is not None and owner != site["site"]:
        strange = f"it is not this site's (env.slapos_ha_site is {owner!r})"
    users_ = set((configs[volume] or {}).get("DEFAULT", {}).get("children", "").split()) - {path}
    keys = set((configs[launchers] or {}).get("data", {})) - {"re6st", "slapos", "settings.json"}
    why = {
        path: strange,
        volume: f"{', '.join(sorted(users_))} uses it" if users_ else strange,
        launchers: f"it also holds {', '.join(sorted(keys))}" if keys else strange,
    }
    return [
        item(kind, one, "in the agent", why[one])
        for kind, one in zip(("service", "volume", "launchers"), why, strict=True)
        if configs[one] is not None
    ]


def cluster(site, status):
    """What of the agent's cluster configuration is the site's, as one node sees it."""
    name, members = status["cluster"]["name"], status["cluster"]["nodes"]
    if name != site["cluster"]["name"]:
        return []
    others = sorted(
        path
        for path in status["objects"]
        if path not in paths(site) and path != "cluster" and not path.startswith("system/")
    )
    strange = sorted(set(members) - {node.lower() for node in site["nodes"]})
    why = None
    if others:
        why = f"it has {', '.join(others)}, which is not this site's"
    elif strange:
        why = f"{', '.join(strange)} is a member of it, and no node of this site"
    return [item("membership of cluster", name, f"members {', '.join(members)}", why)]
