"""
The calls of ``slapos_node`` that take a site off a node, resource by resource. Each looks first (``slapos_node.remains``), and what is somebody else's stays.

:depends: the ``slapos_ha``, ``opensvc`` and ``drbd`` modules of this formula; Salt's own ``lvm``, ``user`` and ``group``; losetup, systemctl, dpkg-divert

The agent stops the service and forgets it. It does not remove what it has made: its own ``purge`` ends half done, with a loop file, a resource file and a
DRBD device left, and deleting these by hand leaves flags that call them provisioned. Packages stay installed.
"""

import errno
import glob
import os
import shutil
import time

import salt.utils.files
from salt.exceptions import CommandExecutionError

# Another file of the module slapos_node: the loader adds its functions to those of slapos_node.py.
__virtualname__ = "slapos_node"

# Seconds for the agent to bring a removal to the other node, and for the kernel to let a device go.
_AGENT_SECONDS = 180
_KERNEL_SECONDS = 10


def __virtual__():
    return __virtualname__


def _at(path):
    return __utils__["slapos_root.at"](__opts__, path)


def _run(*args):
    done = __salt__["cmd.run_all"](list(args), python_shell=False, ignore_retcode=True, timeout=180)
    if done["retcode"]:
        said = (done["stderr"] or done["stdout"]).strip()
        raise CommandExecutionError(f"{' '.join(args)}: {said}")


def remove(concern, destroy_data=None):
    """
    Remove what is left of this node's site in one part of the node, from the top down, but for what ``slapos_node.remains`` says stays.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_node.remove units

    concern
        The part (str), as for ``slapos_node.remains``. The order of the parts there is the order in which they can go.
    destroy_data
        The name of the service (str): its data, and what keeps them as they are, may go too.

    Returns the list of what was removed. Raises CommandExecutionError as soon as something cannot be: what is mounted, a service that is not stopped, and
    everything below a service that is still in the agent; SaltInvocationError as ``slapos_node.remains`` does.
    """
    site = __salt__["slapos_ha.site"]()
    found = __salt__["slapos_node.remains"](concern, destroy_data)
    if found["problems"]:
        raise CommandExecutionError("; ".join(found["problems"]))
    going = [line for line in found["items"] if not line["stays"]]
    if going and concern not in ("mounts", "service"):
        _needs_no_service(site)
    done = []
    # systemctl and others do several at once, in a fraction of the time.
    while going:
        kind = going[0]["kind"]
        names = []
        while going and going[0]["kind"] == kind:
            names.append(going.pop(0)["name"])
        _REMOVE[kind](site, names)
        done += [f"{kind} {name}" for name in names]
    return done


def _needs_no_service(site):
    if __salt__["opensvc.config_show"](site["path"]) is not None:
        raise CommandExecutionError(
            f"the agent still has {site['path']}: nothing that it uses is removed. Take the whole site down: salt-run state.orch orch.teardown"
        )


def _mounted(_site, names):
    raise CommandExecutionError(
        f"{', '.join(names)} is mounted; the agent unmounts it when the service stops. See what uses it: fuser -vm {names[0]}"
    )


# --- In the agent -----------------------------------------------------------------------------------------------------------------------------


def _forget(_site, paths):
    for path in paths:
        if __salt__["opensvc.config_show"](path) is None:
            continue  # the other node's agent had it removed meanwhile
        if "/cfg/" not in path:
            _needs_stopped(path)
        __salt__["opensvc.delete"](path)
        __salt__["opensvc.wait"](path, "gone", timeout=_AGENT_SECONDS)
        if __salt__["opensvc.config_show"](path) is not None:
            raise CommandExecutionError(
                f"{path} is gone from the daemons and its file is still there"
            )
        _forget_notes(_site, [f"/var/lib/opensvc/namespaces/{path}"])


def _needs_stopped(path):
    """Without its configuration nobody could stop it any more."""
    known = __salt__["opensvc.status"](path)
    found = __salt__["opensvc.check"](path, "stopped", fresh=False)
    if known is None or found["done"]:
        return
    if "/vol/" not in path:
        raise CommandExecutionError(
            f"{path} is not removed before it is stopped: state opensvc.stopped. It is {found['seen']}"
        )
    # The volume of the launchers, which a service that failed to start or to stop may have left so.
    if found["failed"]:
        __salt__["opensvc.clear"](path)
        __salt__["opensvc.wait"](path, "cleared", timeout=_AGENT_SECONDS)
    __salt__["opensvc.stop"](path)
    __salt__["opensvc.wait"](path, "stopped", timeout=_AGENT_SECONDS)


def _forget_notes(_site, folders):
    for folder in folders:
        shutil.rmtree(_at(folder), ignore_errors=True)


def _leave(site, _names):
    here = site["node"].lower()
    # The file, and not the daemon, which may not yet have seen that the other node has left.
    config = __salt__["opensvc.config_show"]("cluster") or {}
    if site["cluster"].get("quorum") and "quorum" in config.get("cluster", {}):
        # Before the nodes part: the one that is left must not take that for a split.
        __salt__["opensvc.config_unset"]("cluster", ["cluster.quorum"])
    if len(config.get("cluster", {}).get("nodes", "").split()) > 1:
        __salt__["opensvc.leave"](timeout=_AGENT_SECONDS)
    else:
        # The last one has nobody to leave. Its own secret and id stay, as of an agent that was never in a cluster.
        for name in [*site["cluster"]["heartbeats"], *site["cluster"]["arbitrators"]]:
            if name in config:
                __salt__["opensvc.config_delete_section"]("cluster", name)
        __salt__["opensvc.config_unset"]("cluster", ["cluster.name"])
    # A node that leaves is frozen by its agent, for what it may still run: nothing, here.
    __salt__["opensvc.wait_nodes"]("idle", nodes=[here], timeout=_AGENT_SECONDS)
    if __salt__["opensvc.cluster_status"]()["nodes"][here]["frozen"]:
        __salt__["opensvc.node_thaw"]()
        __salt__["opensvc.wait_nodes"]("thawed", nodes=[here], timeout=_AGENT_SECONDS)


# --- DRBD and what is below it ------------------------------------------------------------------------------------------------------------------


def _down(_site, names):
    for name in names:
        __salt__["drbd.down"](name)


def _wipe(site, _names):
    known = __salt__["drbd.metadata"](site["fqdn"])["ids"]
    __salt__["drbd.wipe_md"](site["fqdn"], force=True, current=known["current"])


def _remove_file_of_resource(_site, names):
    for name in names:
        __salt__["drbd.remove_config"](name)


def _lvremove(site, _names):
    volume, group = site["service"]["name"], site["storage"]["group"]
    _said_removed(__salt__["lvm.lvremove"](volume, group, force=True), f"{group}/{volume}")


def _vgremove(_site, names):
    for name in names:
        # Not by force: that would take logical volumes along.
        _said_removed(__salt__["lvm.vgremove"](name, force=False), name)


def _said_removed(said, what):
    if "successfully removed" not in str(said):
        raise CommandExecutionError(f"LVM does not remove {what}: {said}")


def _pvremove(_site, names):
    for name in names:
        said = __salt__["lvm.pvremove"](name, force=True)
        if said is not True:
            raise CommandExecutionError(f"LVM does not remove physical volume {name}: {said}")


def _detach(site, devices):
    file = site["storage"]["file"]
    for device in devices:
        # Looked at again: a number that is free is given to the next file.
        if device in __salt__["slapos_node.loop_devices"](file):
            _run("losetup", "-d", device)
    deadline = time.monotonic() + _KERNEL_SECONDS
    # The kernel lets a device go when the last program has closed it, udev's among them.
    while left := __salt__["slapos_node.loop_devices"](file):
        if time.monotonic() > deadline:
            raise CommandExecutionError(
                f"{', '.join(left)} is still on {file}: something has it open. See: lsof {left[0]}"
            )
        time.sleep(0.1)


def _unlink(_site, names):
    for name in names:
        os.unlink(_at(name))


def _unlink_data(_site, names):
    for name in names:
        os.unlink(name)


# --- What kept others off -----------------------------------------------------------------------------------------------------------------------


def _unmask(_site, units):
    _run("systemctl", "unmask", *units)


def _undivert(_site, names):
    for name in names:
        _run("dpkg-divert", "--local", "--rename", "--remove", name)


def _unfirewall(kind):
    def act(_site, names):
        for name in names:
            __salt__["slapos_firewall.remove"](kind, name)

    return act


def _unfilter(_site, names):
    for name in names:
        path = _at(name)
        with salt.utils.files.fopen(path, encoding="utf-8") as handle:
            text = handle.read()
        lines = __utils__["slapos_remains.filter_in"](text)
        mode = os.stat(path).st_mode & 0o7777
        with salt.utils.files.fopen(f"{path}.new", "w", encoding="utf-8") as handle:
            os.fchmod(handle.fileno(), mode)
            handle.write(text.replace(lines, ""))
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(f"{path}.new", path)


# --- Software, folders, users -------------------------------------------------------------------------------------------------------------------


def _remove_environment(site, prefixes):
    for prefix in prefixes:
        for kind in ("re6st", "slapos"):
            install = site[kind]["install"]
            if install["prefix"] == prefix:
                # An installation that a deployment began may still be at work: this waits until it is not.
                __salt__["slapos_node.environment_missing"](prefix, install["requirements"])
        shutil.rmtree(_at(prefix))


def _remove_folder(_site, names):
    for name in names:
        try:
            os.rmdir(_at(name))
        except OSError as error:
            # Not empty below what was mounted there: somebody's, and the next look says so.
            if error.errno != errno.ENOTEMPTY:
                raise CommandExecutionError(
                    f"folder {name} is not removed: {error.strerror}"
                ) from None


def _remove_tree(_site, names):
    for name in names:
        shutil.rmtree(_at(name))


def _processes(number):
    """The processes that a user runs, as texts."""
    found = []
    for path in glob.glob(_at("/proc/[0-9]*/status")):
        try:
            with salt.utils.files.fopen(path, encoding="utf-8", errors="replace") as handle:
                fields = dict(line.split(":", 1) for line in handle if ":" in line)
        except OSError:
            continue  # it has ended meanwhile
        if str(number) in fields["Uid"].split():
            found.append(f"{fields['Pid'].strip()} ({fields['Name'].strip()})")
    return found


def _number(database, name):
    with salt.utils.files.fopen(_at(database), encoding="utf-8", errors="replace") as handle:
        for line in handle:
            fields = line.split(":")
            if fields[0] == name:
                return int(fields[2])
    return None


def _remove_users(_site, names):
    for name in names:
        running = _processes(_number("/etc/passwd", name))
        if running:
            raise CommandExecutionError(
                f"user {name} is not removed: it runs {', '.join(sorted(running)[:5])}, which the service should have stopped. End that first"
            )
    for name in names:
        if not __salt__["user.delete"](name, remove=False, force=False):
            raise CommandExecutionError(f"user {name} is not removed; the minion's log says why")


def _remove_groups(_site, names):
    for name in names:
        # userdel takes along a group of the user's own name, where login.defs says so.
        if _number("/etc/group", name) is not None and not __salt__["group.delete"](name):
            raise CommandExecutionError(f"group {name} is not removed; the minion's log says why")


_REMOVE = {
    "mount": _mounted,
    "service": _forget,
    "volume": _forget,
    "launchers": _forget,
    "agent's notes": _forget_notes,
    "DRBD resource": _down,
    "DRBD metadata on": _wipe,
    "logical volume": _lvremove,
    "volume group": _vgremove,
    "physical volume": _pvremove,
    "loop device": _detach,
    "loop file": _unlink_data,
    "file of DRBD resource": _remove_file_of_resource,
    "mask of": _unmask,
    "diversion of": _undivert,
    "LVM filter in": _unfilter,
    "DRBD's module at boot,": _unlink,
    **{
        kind: _unfirewall(kind)
        for kind in ("unit", "nftables table", "ruleset", "ufw rule", "firewalld policy")
    },
    "environment": _remove_environment,
    "folder": _remove_folder,
    "files in": _remove_tree,
    "user": _remove_users,
    "group": _remove_groups,
    "membership of cluster": _leave,
}
