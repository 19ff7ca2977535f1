"""
The calls of ``slapos_node`` that say what of a site is left on a node: every resource asked of the world, with why it is not removed where it is
somebody else's. They change nothing; what removes is in ``slapos_node_remove``.

:depends: the ``slapos_ha``, ``opensvc`` and ``drbd`` modules of this formula; pvs and lvs where LVM is installed
:configuration: optional, in the minion's configuration:

    .. code-block:: yaml

        slapos_node.root: /    # below which files are looked for, for tests
"""

import glob
import os
import stat
import time

import salt.utils.files
import salt.utils.path
from salt.exceptions import CommandExecutionError, SaltInvocationError

# Another file of the module slapos_node: the loader adds its functions to those of slapos_node.py.
__virtualname__ = "slapos_node"

# In the order in which they are removed.
CONCERNS = ("mounts", "service", "drbd", "data", "units", "software", "users", "cluster")
# What units.sls masks; the first is DRBD's.
UNITS = (
    "drbd.service",
    "re6stnet.service",
    "re6st-registry.service",
    "slapos-node.service",
    "slapos-node-boot.service",
)
_LOCAL = ("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs")
_PASSING = ("/tmp", "/var/tmp")
_SEARCH_SECONDS = 600
# Where a volume group's name can be read on its disks, see slapos_remains.held.
_FIRST = 1 << 20
_MASKED = "/etc/systemd/system/{}"
_LVM_LOCAL = "/etc/lvm/lvmlocal.conf"
_AT_BOOT = "/etc/modules-load.d/drbd.conf"
_DIVERSIONS = "/var/lib/dpkg/diversions"


def __virtual__():
    return __virtualname__


def _at(path):
    return __utils__["slapos_root.at"](__opts__, path)


def _text(path):
    return __utils__["slapos_root.text"](__opts__, path)


def _item(*args, **kwargs):
    return __utils__["slapos_remains.item"](*args, **kwargs)


def remains(concern=None, destroy_data=None):
    """
    Say what of this node's site is still there, and what of it would not be removed and why.

    CLI Example:

    .. code-block:: bash

        salt '*' slapos_node.remains
        salt demo1 slapos_node.remains data destroy_data=comp1

    concern
        Only this part (str): mounts, service, drbd, data, units, software, users or cluster.
    destroy_data
        The name of the service (str), to say that its data may go. Without it the data, and what keeps them as they are, stays.

    Returns ``{"node": name, "items": [{"concern", "kind", "name", "what", "now", "stays"}], "problems": [sentence], "sees": [nodes]}``: ``what`` is kind and
    name, ``stays`` is why it is not removed, or None; ``problems`` is what could not be asked; ``sees`` are the nodes whose agent answers this one's. An
    agent, DRBD or LVM that is not installed has nothing of the site. Raises CommandExecutionError when the pillar is not valid, SaltInvocationError for another concern, or another name than the service's.
    """
    if concern is not None and concern not in CONCERNS:
        raise SaltInvocationError(f"concern: {concern!r} is none of {', '.join(CONCERNS)}")
    site = __salt__["slapos_ha.site"]()
    if destroy_data and destroy_data != site["service"]["name"]:
        raise SaltInvocationError(
            f"destroy_data: {destroy_data!r} is not the name of this site's service, {site['service']['name']!r}; nothing is removed"
        )
    answer = {"node": site["node"], "items": [], "problems": [], "sees": []}
    look = _Look(site, bool(destroy_data))
    for one in (concern,) if concern else CONCERNS:
        try:
            found = _ASK[one](look)
        except (CommandExecutionError, OSError) as error:
            answer["problems"].append(f"{one}: {error}")
            continue
        answer["items"] += [
            {"concern": one, "what": f"{line['kind']} {line['name']}", **line} for line in found
        ]
    if concern in (None, "cluster") and _has_agent():
        try:
            answer["sees"] = sorted(__salt__["opensvc.cluster_status"](fresh=False)["nodes"])
        except CommandExecutionError:
            pass  # is among the problems already
    return answer


class _Look:
    """One look at the node: what several concerns ask of DRBD and LVM is asked once."""

    def __init__(self, site, destroy):
        self.site, self._known = site, {}
        # Why the data stays.
        self.keep = None if destroy else f"kept: destroy_data is not {site['service']['name']!r}"

    def _once(self, name, ask):
        if name not in self._known:
            self._known[name] = ask(self)
        return self._known[name]

    @property
    def resources(self):
        """The status of all DRBD resources, {} where DRBD is not installed."""
        return self._once("resources", _resources)

    @property
    def resource(self):
        """``{"up", "disk", "summary"}`` of the site's DRBD resource, None when it is not configured."""
        return self._once("resource", _resource)

    @property
    def data(self):
        """The items of the concern data."""
        return self._once("data", _below)


# --- Service and cluster ------------------------------------------------------------------------------------------------------------------


def _has_agent():
    return bool(__opts__.get("opensvc.om") or salt.utils.path.which("om"))


def _mount_lines():
    """[(device number, root within the filesystem, mount point, type, source)] of all mounts."""
    lines = []
    for line in _text("/proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split()
        point = fields[4].replace("\\040", " ").removesuffix("//deleted")
        lines.append((fields[2], fields[3], point, after.split()[0], after.split()[1]))
    return lines


def _mounts(look):
    """The service's filesystem and its binds; they are the agent's to unmount."""
    site, lines = look.site, _mount_lines()
    numbers = {line[0] for line in lines if line[2] == site["mount"]}
    if look.resource and look.resource["up"]:
        # A bind may be left when the filesystem itself is unmounted. 147 is DRBD's major number.
        numbers.add(f"147:{site['drbd']['minor']}")
    return [
        _item("mount", point, source) for number, _, point, _, source in lines if number in numbers
    ]


def _service(look):
    site = look.site
    paths = __utils__["slapos_remains.paths"](site)
    configs = {path: __salt__["opensvc.config_show"](path) for path in paths}
    found = __utils__["slapos_remains.objects"](site, configs)
    for path in paths:
        folder = f"/var/lib/opensvc/namespaces/{path}"
        if configs[path] is None and os.path.isdir(_at(folder)):
            # In it are the flags that call a resource provisioned: the next service of this name would believe them.
            found.append(_item("agent's notes", folder))
    return found


def _cluster(look):
    if not _has_agent():
        return []
    return __utils__["slapos_remains.cluster"](
        look.site, __salt__["opensvc.cluster_status"](fresh=False)
    )


# --- DRBD and what is below it ------------------------------------------------------------------------------------------------------------------


def _resources(_look):
    return __salt__["drbd.status"]() if salt.utils.path.which("drbdadm") else {}


def _resource(look):
    site = look.site
    known = look.resources.get(site["fqdn"])
    if known is None:
        return None
    config = __salt__["drbd.config"](site["fqdn"]) or {}
    mine = config.get("hosts", {}).get(site["node"], {}).get("volumes", {})
    disks = [one["disk"] for one in mine.values()]
    return {
        "up": known["up"],
        "disk": disks[0] if len(disks) == 1 else ", ".join(disks) or "none",
        "summary": __utils__["drbd_parse.summary"](known),
    }


def _drbd(look):
    site, resource = look.site, look.resource
    if not resource or not resource["up"]:
        return []
    why = __utils__["slapos_remains.other_disk"](resource, site["storage"]["lv"])
    return [_item("DRBD resource", site["fqdn"], resource["summary"], why)]


def _lvm(program, *args):
    """What pvs or lvs print of everything, as rows; none where LVM is not installed."""
    found = salt.utils.path.which(program)
    if not found:
        return []
    answer = __salt__["cmd.run_all"](
        [found, "--reportformat", "json", *args],
        python_shell=False,
        ignore_retcode=True,
        output_loglevel="quiet",
        timeout=120,
        env={"LC_ALL": "C", "LVM_SUPPRESS_FD_WARNINGS": "1"},
    )
    if answer["retcode"]:
        why = (answer["stderr"] or answer["stdout"]).strip().splitlines()
        raise CommandExecutionError(f"LVM cannot be asked: {program}: {why[-1:]}")
    try:
        return __utils__["slapos_remains.report"](answer["stdout"])
    except (ValueError, KeyError, AttributeError):
        raise CommandExecutionError(
            f"LVM cannot be asked: what {program} says is not understood"
        ) from None


def loop_devices(file):
    """
    List the loop devices that are on a file. Starts no process.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_node.loop_devices /opt/comp1.slapos.svc.paris.img

    file
        The file (str); it may have been removed since.

    Returns a sorted list of devices such as ``/dev/loop0``.
    """
    found = []
    for name in glob.glob(_at("/sys/block/loop*/loop/backing_file")):
        backing = _text(f"/{os.path.relpath(name, _at('/'))}").rstrip("\n")
        if backing.removesuffix(" (deleted)") == file:
            found.append(f"/dev/{name.split(os.sep)[-3]}")
    return sorted(found)


def _loop_file(storage, devices):
    """The size of the loop file, and why it is not the site's; of a file that was removed while a loop device is on it, the device tells."""
    try:
        about = os.lstat(storage["file"])
    except FileNotFoundError:
        return None, _held(storage, devices[0]) if devices else None
    if not stat.S_ISREG(about.st_mode):
        return about.st_size, "it is no regular file, so the agent did not make it"
    return about.st_size, _held(storage, storage["file"], about.st_blocks * 512)


def _held(storage, path, written=None):
    try:
        with salt.utils.files.fopen(path, "rb") as handle:
            begin = handle.read(_FIRST)
    except FileNotFoundError:
        return None
    return __utils__["slapos_remains.held"](begin, storage["group"], written)


def _data(look):
    return look.data


def _below(look):
    site, resource = look.site, look.resource
    storage = site["storage"]
    seen = {
        "resource": resource,
        "metadata": None,
        "lvs": _lvm("lvs", "-a", "-o", "vg_name,lv_name,origin"),
        "pvs": _lvm("pvs", "-o", "pv_name,vg_name"),
        "devices": [],
        "file": None,
        "held": None,
        "mounted": {line[4] for line in _mount_lines()},
    }
    if resource and resource["disk"] == storage["lv"]:
        known = __salt__["drbd.metadata"](site["fqdn"])
        seen["metadata"] = known["ids"] and known["ids"]["current"]
    if storage["backend"] == "loop":
        seen["devices"] = loop_devices(storage["file"])
        seen["file"], seen["held"] = _loop_file(storage, seen["devices"])
    elif storage["backend"] == "device":
        # LVM names a disk by its own path, the pillar perhaps by another.
        seen["devices"] = [os.path.realpath(storage["device"])]
        seen["held"] = _held(storage, seen["devices"][0])
    return __utils__["slapos_remains.data"](seen, site, look.keep)


# --- Units, cron, LVM's filter, firewall ----------------------------------------------------------------------------------------------------------------


def _units(look):
    found = []
    mine = look.site["fqdn"]
    others = sorted(set(look.resources) - {mine})
    guarded = None
    if others:
        guarded = f"DRBD resource {', '.join(others)} is configured"
    elif look.resource and any(
        line["stays"] for line in look.data if line["kind"] == "file of DRBD resource"
    ):
        guarded = f"DRBD resource {mine} stays"
    for unit in UNITS:
        path = _at(_MASKED.format(unit))
        if os.path.islink(path) and os.readlink(path) == "/dev/null":
            found.append(_item("mask of", unit, stays=guarded if unit == UNITS[0] else None))
    lines = _text(_DIVERSIONS).splitlines()
    for original, aside, owner in zip(lines[::3], lines[1::3], lines[2::3], strict=False):
        # ":" is dpkg's word for a diversion by the administrator.
        if aside == f"{original}.slapos_ha" and owner == ":":
            found.append(_item("diversion of", original, aside))
    if __utils__["slapos_remains.filter_in"](_text(_LVM_LOCAL)):
        found.append(_item("LVM filter in", _LVM_LOCAL, stays=guarded))
    if _text(_AT_BOOT) == "drbd\n":
        found.append(_item("DRBD's module at boot,", _AT_BOOT, stays=guarded))
    return found + [_item(**one) for one in __salt__["slapos_firewall.left"]()]


# --- Software and folders ---------------------------------------------------------------------------------------------------------------------


def _software(look):
    site, found = look.site, []
    for kind in ("re6st", "slapos"):
        install = site[kind]["install"]
        prefix = install["prefix"]
        if install["method"] == "pip" and os.path.isdir(_at(prefix)):
            why = None
            if not __utils__["slapos_text.is_environment"](_at(prefix)):
                why = "it is no Python environment, so it is not this formula's"
            found.append(_item("environment", prefix, stays=why))
    points = {line[2] for line in _mount_lines()}
    for folder in _folders(site):
        path = _at(folder)
        if not os.path.isdir(path) or os.path.islink(path):
            continue
        # What is mounted there is the agent's to unmount, before this is looked at again.
        why = "it is not empty" if folder not in points and os.listdir(path) else None
        found.append(_item("folder", folder, stays=why))
    for folder in (
        "/run/re6stnet-ha",
        "/run/slapos-ha",
        "/var/cache/slapos_ha",
        "/var/lib/slapos_ha",
        "/usr/local/lib/slapos_ha",
    ):
        if os.path.isdir(_at(folder)):
            found.append(_item("files in", folder))
    return found


def _folders(site):
    """Where the agent made folders to mount on. Packages bring some of these with them, and keep them."""
    service, name = site["service"], site["cluster"]["name"]
    folders = [site["mount"], f"/srv/{service['name']}-cfg.{service['namespace']}.vol.{name}"]
    if site["re6st"]["install"]["method"] == "pip":
        folders += ["/etc/re6stnet", "/var/log/re6stnet", "/var/lib/re6stnet"]
    if site["slapos"]["install"]["method"] == "pip":
        folders += ["/srv/slapgrid"]
    return folders


# --- Users ------------------------------------------------------------------------------------------------------------------------------------


def _lines(path):
    """The fields of /etc/passwd or /etc/group by name, as they are now."""
    rows = [line.split(":") for line in _text(path).splitlines()]
    return {fields[0]: fields for fields in rows if len(fields) > 3 and fields[2].isdigit()}


def _users(look):
    site = look.site
    users = site["slapos"]["users"]
    wanted = __utils__["slapos_text.wanted_users"](
        users["slapsoft_id"],
        users["slapuser_first_id"],
        site["slapos"]["partition_number"],
        f"{site['mount']}/slapos/opt/slapgrid",
        "/srv/slapgrid",
    )
    passwd, groups = _lines("/etc/passwd"), _lines("/etc/group")
    if not set(wanted) & (set(passwd) | set(groups)):
        return []
    keep = None
    if any(line["stays"] == look.keep for line in look.data if line["stays"]):
        keep = "the files in the data that is kept are theirs"
        owned = {"uid": {}, "gid": {}}
    else:
        owned = _owned(site, {one["id"] for one in wanted.values()})
    return __utils__["slapos_remains.users"](wanted, passwd, groups, owned, keep)


def _owned(site, ids):
    """Of each id one file on this node's own filesystems, without the service's, or a text when the search takes too long."""
    lines = _mount_lines()
    points = {line[2] for line in lines}
    mine = {line[0] for line in lines if line[2] == site["mount"]}
    starts, seen = [], set()
    for number, root, point, kind, _ in sorted(lines, key=lambda line: (len(line[1]), line[2])):
        local = kind in _LOCAL or point == "/"
        if local and number not in mine and not _covered(root, number, seen):
            seen.add((number, root))
            starts.append(point)
    found = {"uid": {}, "gid": {}}
    deadline = time.monotonic() + _SEARCH_SECONDS
    skip = points | {*_PASSING}
    for start in starts:
        if not _walk(start, skip, ids, found, deadline):
            return f"what it owns was not found out in {_SEARCH_SECONDS} s"
    return found


def _covered(root, number, seen):
    """Whether a mount shows a part of a filesystem that another mount shows whole."""
    return any(
        number == one and (root + "/").startswith(base.rstrip("/") + "/") for one, base in seen
    )


def _walk(start, skip, ids, found, deadline):
    folders = [start]
    while folders:
        folder = folders.pop()
        if time.monotonic() > deadline:
            return False
        try:
            entries = list(os.scandir(_at(folder)))
        except OSError:
            continue  # gone since, or not to be read by anybody
        for entry in entries:
            path = os.path.join(folder, entry.name)
            try:
                about = entry.stat(follow_symlinks=False)
                inside = entry.is_dir(follow_symlinks=False)
            except OSError:
                continue
            if about.st_uid in ids:
                found["uid"].setdefault(about.st_uid, path)
            if about.st_gid in ids:
                found["gid"].setdefault(about.st_gid, path)
            if inside and path not in skip:
                folders.append(path)
    return True


_ASK = {
    "mounts": _mounts,
    "service": _service,
    "drbd": _drbd,
    "data": _data,
    "units": _units,
    "software": _software,
    "users": _users,
    "cluster": _cluster,
}
