"""
The calls of ``slapos_ha`` about a split brain: what this node's side of it is, and a copy of its data before they are thrown away.

:depends: the ``drbd`` module of this formula; dd, and for an LVM snapshot lvs and lvcreate
:configuration: optional, in the minion's configuration:

    .. code-block:: yaml

        slapos_ha.notes: /var/lib/slapos_ha    # where DRBD's handler and a recovery leave their notes

A Secondary that is StandAlone cannot be opened as /dev/drbdN (DRBD 8.4), so its filesystem is read from the logical volume below: read-only, its superblock
only, and past the cache of that device, which knows nothing of what DRBD writes. On a mounted side the newest files are looked for, for some seconds at most.
"""

import heapq
import json
import os
import shutil
import stat
import time

import salt.utils.files
from salt.exceptions import CommandExecutionError, SaltInvocationError

# Another file of the module slapos_ha: the loader adds its functions to those of slapos_ha.py.
__virtualname__ = "slapos_ha"

_NOTES = "/var/lib/slapos_ha"
_RECORD = "recovery.json"
_NEWEST = 5
_WALK_SECONDS = 20
# What a filesystem that gets a copy keeps free: others write to it too.
_SPARE = 64 << 20
# An LVM snapshot that can take up all of its origin needs a table of it besides.
_TABLE = 1.02
_COPY_SECONDS = 24 * 3600


def __virtual__():
    return __virtualname__


def _notes(name):
    return os.path.join(__opts__.get("slapos_ha.notes") or _NOTES, name)


def _read(path):
    """The text of a file, or None where there is none."""
    try:
        with salt.utils.files.fopen(path, encoding="utf-8", errors="replace") as handle:
            return handle.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CommandExecutionError(f"{path} cannot be read: {error.strerror}") from None


def split_brain_note(resource=None):
    """
    Return what DRBD's handler noted of the last split brain of a resource. Reads a file.

    CLI Example:

    .. code-block:: bash

        salt '*' slapos_ha.split_brain_note

    resource
        The resource (str); this site's when left out.

    Returns ``{"time": "2026-11-24T10:00:00Z", "DRBD_RESOURCE": …}`` with all that DRBD gave the handler, or None. The note stays until a recovery has ended,
    also where an operator ended the split brain. Raises CommandExecutionError when it cannot be read or the pillar is not valid.
    """
    resource = resource or __salt__["slapos_ha.site"]()["fqdn"]
    text = _read(_notes(f"split-brain.{resource}"))
    return __utils__["slapos_split_brain.note"](text) if text else None


def split_brain_side():
    """
    Return this node's side of what may be a split brain. Changes nothing.

    CLI Example:

    .. code-block:: bash

        salt '*' slapos_ha.split_brain_side

    Returns ``{"node", "status": as of drbd.status, "summary", "ids": as of drbd.generation_ids, "written": KiB, "mounted": bool, "files", "superblock",
    "note", "recovery"}``. ``written`` is what was written here since the nodes parted. ``files`` of a mounted filesystem are ``{"newest": [[path, seconds since
    1970]], "complete": bool}`` (not complete when 20 seconds did not suffice), else None. ``superblock`` says when the filesystem was last written and mounted,
    None where it is no ext4. ``note`` is that of the handler, ``recovery`` what a recovery that has not ended has done. Raises CommandExecutionError when DRBD
    is down here or cannot be asked, or the pillar is not valid.
    """
    site = __salt__["slapos_ha.site"]()
    resource = site["fqdn"]
    known = __salt__["drbd.status"](resource).get(resource)
    if not known or not known["up"]:
        raise CommandExecutionError(
            f"DRBD: {resource} is {'down' if known else 'not configured'} on {site['node']}; "
            + (f"first: drbdadm up {resource}" if known else "see: salt-run slapos_ha.status")
        )
    mounted = os.path.ismount(site["mount"])
    record = _read(_notes(_RECORD))
    return {
        "node": site["node"],
        "status": known,
        "summary": __utils__["drbd_parse.summary"](known),
        "ids": __salt__["drbd.generation_ids"](resource),
        "written": __utils__["drbd_parse.progress"](known)["out_of_sync"],
        "mounted": mounted,
        "files": _newest(site["mount"]) if mounted else None,
        "superblock": __utils__["slapos_split_brain.superblock"](_head(site["storage"]["lv"])),
        "note": split_brain_note(resource),
        "recovery": json.loads(record) if record else None,
    }


def _head(device):
    """The superblock as it is on the disk: what this device's cache holds may be older than what DRBD has written."""
    try:
        handle = os.open(device, os.O_RDONLY)
        try:
            os.posix_fadvise(handle, 0, 8192, os.POSIX_FADV_DONTNEED)
            return os.pread(handle, 1024, 1024)
        finally:
            os.close(handle)
    except OSError as error:
        raise CommandExecutionError(f"{device} cannot be read: {error.strerror}") from None


def _newest(mount):
    deadline = time.monotonic() + _WALK_SECONDS
    newest, folders, complete = [], [mount], True
    device = os.lstat(mount).st_dev
    while folders:
        if time.monotonic() > deadline:
            complete = False
            break
        try:
            entries = list(os.scandir(folders.pop()))
        except OSError:
            continue  # gone since
        for entry in entries:
            try:
                about = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            if stat.S_ISDIR(about.st_mode) and about.st_dev == device:
                folders.append(entry.path)
            elif stat.S_ISREG(about.st_mode):
                heapq.heappush(newest, (about.st_mtime, entry.path))
                if len(newest) > _NEWEST:
                    heapq.heappop(newest)
    found = [[os.path.relpath(path, mount), int(moment)] for moment, path in sorted(newest)[::-1]]
    return {"newest": found, "complete": complete}


# --- The copy ---------------------------------------------------------------------------------------------------------------------------------


def split_brain_copy(generation, folder=None, test=False):
    """
    Keep a copy of this node's replicated volume before its writes are thrown away.

    CLI Example:

    .. code-block:: bash

        salt demo2 slapos_ha.split_brain_copy 2320A9EFDEA93744 test=True

    generation
        The current generation of this node's data (str), as ``drbd.generation_ids`` has it: the proof that these data are meant. The copy has it
        in its name.
    folder
        Make a file in this folder (str). Without it a site on a loop file gets a file beside that one (its volume group is full), others an LVM snapshot that
        can take up all of its origin, so that it does not become invalid.
    test
        Only say where the copy would be, and whether there is room (bool).

    Returns ``{"kind": "file" | "snapshot", "where", "needs": bytes, "made": bool}``; ``made`` is False with ``test``, and when the copy of this generation is
    there already. Raises CommandExecutionError: another generation, Primary or connected, no room (with both sizes), a copy of other
    data in its place, or dd or lvcreate failed, which leaves no half copy; SaltInvocationError for a folder that is none.
    """
    site = __salt__["slapos_ha.site"]()
    resource, storage = site["fqdn"], site["storage"]
    found = __salt__["drbd.generation_ids"](resource)["current"]
    if not __utils__["slapos_split_brain.same"](found, generation):
        raise CommandExecutionError(
            f"generation: {generation} is meant and the data of {resource} on {site['node']} are of generation {found}; nothing was copied"
        )
    if folder is not None and not (str(folder).startswith("/") and os.path.isdir(folder)):
        raise SaltInvocationError(
            f"slapos_ha:snapshot: {folder!r} is no folder on {site['node']}; give one with room for {storage['lv']}, as an absolute path"
        )
    if folder or storage["backend"] == "loop":
        plan = _plan_file(site, generation, folder or storage["path"])
    else:
        plan = _plan_snapshot(site, generation)
    lack = plan.pop("lack")
    if plan.pop("there"):
        _same(storage["lv"], plan["where"])
        return {**plan, "made": False}
    if lack:
        raise CommandExecutionError(
            f"{site['node']}: there is no room for a copy of {storage['lv']}: {lack}"
        )
    if test:
        return {**plan, "made": False}
    known = __salt__["drbd.status"](resource)[resource]
    if known["role"] != "Secondary" or __utils__["drbd_parse.connected"](known):
        raise CommandExecutionError(
            f"DRBD: {resource} on {site['node']} may change while it is copied: it is {__utils__['drbd_parse.summary'](known)}, and has to be Secondary "
            "and not connected"
        )
    {"file": _copy_to_file, "snapshot": _take_snapshot}[plan["kind"]](site, plan)
    return {**plan, "made": True}


def _same(volume, copy):
    if _head(volume) != _head(copy):
        raise CommandExecutionError(
            f"{copy} is of the same generation as {volume}, which was mounted since: it is no copy of what there is now. Move it away or remove it, then run "
            "it again"
        )


def _plan_file(site, generation, folder):
    storage = site["storage"]
    where = os.path.join(folder, f"{site['fqdn']}.split-brain-{generation}.img")
    needs = _size(storage["lv"])
    if storage["backend"] == "loop":
        # Of the loop file only what was ever written to has a place on disk, and the copy has holes in the same places.
        needs = min(needs, os.stat(storage["file"]).st_blocks * 512)
    lack = __utils__["slapos_split_brain.shortage"](
        f"below {folder}", needs, shutil.disk_usage(folder).free - _SPARE
    )
    if lack:
        lack += ". Make room, or name another folder on that node: slapos_ha:snapshot: /path"
    return {
        "kind": "file", "where": where, "needs": needs, "there": os.path.exists(where), "lack": lack,
    }  # fmt: skip


def _size(device):
    try:
        handle = os.open(device, os.O_RDONLY)
        try:
            return os.lseek(handle, 0, os.SEEK_END)
        finally:
            os.close(handle)
    except OSError as error:
        raise CommandExecutionError(f"{device} cannot be read: {error.strerror}") from None


def _plan_snapshot(site, generation):
    group, volume = site["storage"]["group"], site["service"]["name"]
    name = f"{volume}-split-brain-{generation.lower()}"
    said = _run(
        ["lvs", "--reportformat", "json", "--units", "b", "--nosuffix", "-o", "lv_name,lv_size,origin,vg_free,vg_extent_size", group],
        f"asking for the volumes of {group}",
    )  # fmt: skip
    try:
        rows = {row["lv_name"]: row for row in __utils__["slapos_remains.report"](said)}
        mine = rows[volume]
        size, free, extent = (int(mine[key]) for key in ("lv_size", "vg_free", "vg_extent_size"))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CommandExecutionError(
            f"LVM: what lvs says of {group}/{volume} is not understood: {said.strip()[:200]!r}"
        ) from None
    needs = int(size * _TABLE) // extent * extent + extent
    lack = __utils__["slapos_split_brain.shortage"](f"in volume group {group}", needs, free)
    if lack:
        lack += (
            f". Give it a disk (vgextend {group} /dev/…), or name a folder with room for {size >> 20} MiB on that node, where the copy becomes a file: "
            "slapos_ha:snapshot: /path"
        )
    return {
        "kind": "snapshot", "where": f"/dev/{group}/{name}", "needs": needs, "there": name in rows, "lack": lack,
    }  # fmt: skip


def _run(command, doing, timeout=120):
    answer = __salt__["cmd.run_all"](
        command,
        python_shell=False,
        ignore_retcode=True,
        output_loglevel="quiet",
        timeout=timeout,
        env={"LC_ALL": "C", "LVM_SUPPRESS_FD_WARNINGS": "1"},
    )
    if answer["retcode"]:
        said = (answer["stderr"] or answer["stdout"]).strip().splitlines()
        raise CommandExecutionError(f"{doing} failed: {command[0]}: {'; '.join(said[-3:])}")
    return answer["stdout"]


def _take_snapshot(site, plan):
    group, volume = site["storage"]["group"], site["service"]["name"]
    name = plan["where"].rsplit("/", 1)[1]
    # 100%ORIGIN with its table: however much the resync writes, the snapshot holds what was there.
    _run(
        ["lvcreate", "--yes", "--snapshot", "--extents", "100%ORIGIN", "--name", name, f"{group}/{volume}"],
        f"a snapshot of {group}/{volume}",
    )  # fmt: skip


def _copy_to_file(site, plan):
    volume, half = site["storage"]["lv"], f"{plan['where']}.part"
    try:
        # Nobody else may read what is in the service's filesystem.
        os.close(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
        # Direct: past the cache of the volume, which DRBD does not write through.
        _run(
            ["dd", f"if={volume}", f"of={half}", "bs=1M", "iflag=direct", "conv=sparse,fsync", "status=none"],
            f"the copy of {volume}",
            _COPY_SECONDS,
        )  # fmt: skip
        if os.stat(half).st_size != _size(volume):
            raise CommandExecutionError(
                f"the copy of {volume} has {os.stat(half).st_size} bytes of {_size(volume)}"
            )
        os.rename(half, plan["where"])
    except OSError as error:
        raise CommandExecutionError(
            f"the copy of {volume} failed: {half}: {error.strerror}"
        ) from None
    finally:
        if os.path.exists(half):
            os.unlink(half)


# --- What a recovery has done -----------------------------------------------------------------------------------------------------------------


def split_brain_record(done):
    """
    Note on this node what a recovery has done, for the run that goes on after one that died.

    CLI Example:

    .. code-block:: bash

        salt demo2 slapos_ha.split_brain_record '{"victim": "demo2", "written": 12}'

    done
        What is to be noted (dict); what was noted before and is not in it stays.

    Returns all that is noted now (dict). Raises CommandExecutionError when the note cannot be written.
    """
    path = _notes(_RECORD)
    record = {**json.loads(_read(path) or "{}"), **done}
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with (
            salt.utils.files.set_umask(0o077),
            salt.utils.files.fopen(f"{path}.new", "w", encoding="utf-8") as handle,
        ):
            json.dump(record, handle)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(f"{path}.new", path)
    except OSError as error:
        raise CommandExecutionError(f"{path} cannot be written: {error.strerror}") from None
    return record


def split_brain_over():
    """
    Forget this node's notes of a split brain that is over: the handler's and those of the recovery.

    CLI Example:

    .. code-block:: bash

        salt '*' slapos_ha.split_brain_over

    Returns the list of files that were removed. Raises CommandExecutionError while the resource is not connected, and when a file cannot be removed.
    """
    resource = __salt__["slapos_ha.site"]()["fqdn"]
    known = __salt__["drbd.status"](resource).get(resource)
    if not known or not __utils__["drbd_parse.connected"](known):
        raise CommandExecutionError(
            f"DRBD: {resource} is not connected, so that a split brain may not be over; its notes stay"
        )
    removed = []
    for path in (_notes(f"split-brain.{resource}"), _notes(_RECORD)):
        try:
            os.unlink(path)
            removed.append(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise CommandExecutionError(f"{path} cannot be removed: {error.strerror}") from None
    return removed
