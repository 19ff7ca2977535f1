"""
DRBD 8.4 and 9: the files of its resources and of its module. Part of the ``drbd`` execution module, see there.

A resource's file holds the peers' shared secret: it has mode 0600, is replaced in one step, and what is read from it is compared here and not returned.
"""

import os
import tempfile

import salt.utils.data
import salt.utils.files
from salt.exceptions import CommandExecutionError, SaltInvocationError

# Another file of the module drbd; the loader adds these functions to those of drbd.py.
__virtualname__ = "drbd"


def __virtual__():
    return __virtualname__


def _node():
    return __utils__["drbd_tool.node"](__salt__, __utils__, __opts__, __context__)


def configure(
    resource,
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
    test=False,
):
    """
    Write the file of a resource, and make the kernel's settings equal when the resource is up.

    CLI Example:

    .. code-block:: bash

        salt demo1 drbd.configure r0 '{"demo1": "10.0.0.1", "demo2": "10.0.0.2"}' 7289 0 /dev/vg/r0 test=True

    resource
        Its name (str).
    nodes
        The replication address of each node by ``uname -n`` (dict).
    port
        TCP port (int) on both nodes.
    minor
        The number of /dev/drbdN (int).
    disk
        The block device below (str), the same path on both nodes.
    protocol
        A, B or C (str).
    resync_rate
        Bytes per second (str), such as 100M. A quarter of it is c-min-rate, which is kept when much is written at the same time: DRBD 8.4's default, 250 KB/s,
        leaves the standby without whole data for hours.
    shared_secret_pillar
        The *name* of the pillar key that holds the secret with which the peers authenticate each other (str); its value is read here.
    net
        Further options of that section (dict).
    disk_options, handlers, options
        The same of the sections disk, handlers and options (dict).
    test
        Only say what would change (bool).

    Returns ``{"changes": {setting: {"old", "new"}}, "file": path, "running": "adjusted" | "down" | "left alone" | None}``. The file has mode 0600; the
    secret is in no answer. Raises SaltInvocationError for a wrong value or one that another resource has, before anything is written; an option that
    DRBD does not know is found by drbdadm itself on a file beside. Raises CommandExecutionError when the kernel refuses the new settings; then the file
    is as before. A StandAlone resource is left alone: somebody disconnected it, or it is a split brain.
    """
    node = _node()
    major = node.major()
    secret = None
    if shared_secret_pillar:
        # Not pillar.get: on Salt 3008 it answers a module with asterisks.
        secret = __utils__["drbd_conf.secret_is_right"](
            salt.utils.data.traverse_dict_and_list(__pillar__, shared_secret_pillar),
            shared_secret_pillar,
        )
    wish = __utils__["drbd_conf.wish"](
        resource,
        nodes,
        port,
        minor,
        disk,
        protocol=protocol,
        resync_rate=resync_rate,
        net=net,
        disk_options=disk_options,
        handlers=handlers,
        options=options,
        secret=secret,
        major=major,
    )
    if node.name not in nodes:
        raise SaltInvocationError(
            f"nodes: this node calls itself {node.name!r} (uname -n), and nodes has {', '.join(nodes)}"
        )
    file = node.path("etc/drbd.d", f"{resource}.res")
    old, mode = _current(node, resource, file, wish)
    changes = __utils__["drbd_conf.difference"](old, wish)
    if mode not in (None, "0600"):
        changes["mode"] = {"old": mode, "new": "0600"}
    answer = {"changes": changes, "file": file, "running": None}
    if not changes:
        return answer
    found = __salt__["drbd.status"](resource).get(resource)
    running = bool(found and found["up"])
    moved = [
        key
        for key in changes
        if key.startswith(f"on {node.name}:")
        and key.split(":")[-1] in ("device", "disk", "meta-disk", "node-id")
    ]
    if running and moved:
        raise SaltInvocationError(
            f"{moved[0].split(':')[-1]}: {resource} is up with another; take it down first: drbdadm down {resource}"
        )
    if test:
        return answer
    answer["running"] = _write(node, resource, file, wish, found if running else None)
    return answer


def _current(node, resource, file, wish):
    """The settings and the mode of the resource's file as it is, after refusing what another file claims."""
    files = node.files()
    mine = files.pop(file, None)
    claims = __utils__["drbd_conf.claims"](wish)
    for other, resources in files.items():
        if isinstance(resources, str):
            raise CommandExecutionError(
                f"DRBD: {other} is not understood, and drbdadm would read it too: {resources}"
            )
        for name, settings in resources.items():
            if name == resource:
                raise SaltInvocationError(
                    f"resource: {resource} is in {other} already; remove it there"
                )
            both = sorted(claims & __utils__["drbd_conf.claims"](settings))
            if both:
                raise SaltInvocationError(
                    f"{_argument(both[0])}: {both[0]} is used by resource {name} in {other}; give a free one"
                )
    if mine is None:
        return {}, None
    mode = f"{os.stat(file).st_mode & 0o7777:04o}"
    if isinstance(mine, str):
        return {"file": f"not understood: {mine}"}, mode
    strangers = sorted(set(mine) - {resource})
    if strangers:
        raise SaltInvocationError(
            f"resource: {file} also holds {', '.join(strangers)}; give each a file of its own"
        )
    return mine.get(resource, {}), mode


def _argument(claim):
    return {"minor": "minor", "address": "port", "disk": "disk"}[claim.split()[0]]


def _write(node, resource, file, wish, running):
    text = __utils__["drbd_conf.render"](resource, wish)
    folder = os.path.dirname(file)
    if not os.path.isdir(folder):
        raise CommandExecutionError(f"DRBD: there is no {folder}: install the package drbd-utils")
    before = node.read(file)
    handle, beside = tempfile.mkstemp(prefix=f".{resource}.", dir=folder)  # mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        answer = node.run("drbdadm", ["-c", beside, "sh-nop"])
        if answer["retcode"]:
            why = __utils__["drbd_parse.complaint"](answer["stdout"], answer["stderr"])
            raise SaltInvocationError(
                f"DRBD does not take the options of {resource}: {why.replace(beside, file)}"
            )
        os.replace(beside, file)
    finally:
        if os.path.exists(beside):
            os.unlink(beside)
    if running is None:
        return "down"
    if any(one["state"] == "StandAlone" for one in running["connections"].values()):
        return "left alone"
    try:
        __salt__["drbd.adjust"](resource)
    except CommandExecutionError:
        _restore(node, resource, file, before)
        raise
    return "adjusted"


def _restore(node, resource, file, before):
    """What the kernel does not take must not be what the file says: the next run would call it configured."""
    if before is None:
        os.unlink(file)
        return
    with (
        salt.utils.files.set_umask(0o077),
        salt.utils.files.fopen(file, "w", encoding="utf-8") as stream,
    ):
        stream.write(before)
    node.run("drbdadm", ["adjust", resource])


def remove_config(resource, test=False):
    """
    Remove the file of a resource that is down.

    CLI Example:

    .. code-block:: bash

        salt demo1 drbd.remove_config comp1.slapos.svc.paris

    resource
        The resource (str).
    test
        Only say whether there is one that may be removed once the resource is down (bool).

    Returns True, or False when :py:func:`configure` has not written one; a file that is not understood is one. The metadata on the disk stays. Raises
    CommandExecutionError while the resource is up, and when the file also holds another resource.
    """
    __utils__["drbd_conf.name_of_resource"](resource)
    node = _node()
    file = node.path("etc/drbd.d", f"{resource}.res")
    held = node.files().get(file)
    if held is None:
        return False
    others = sorted(set(held) - {resource}) if isinstance(held, dict) else []
    if others:
        raise CommandExecutionError(
            f"DRBD: {file} also holds {', '.join(others)}; move that to a file of its own"
        )
    if test:
        return True
    if (__salt__["drbd.status"](resource).get(resource) or {}).get("up"):
        raise CommandExecutionError(f"DRBD: {resource} is up; first: drbdadm down {resource}")
    try:
        os.unlink(file)
    except OSError as error:
        raise CommandExecutionError(f"DRBD: {file} cannot be removed: {error.strerror}") from None
    return True


def load_at_boot():
    """
    Have DRBD's module loaded when the node starts.

    CLI Example:

    .. code-block:: bash

        salt demo1 drbd.load_at_boot

    Returns True, or False when a file of /etc/modules-load.d names it already. Raises CommandExecutionError when the file cannot be written.
    """
    node = _node()
    if node.loads_at_boot():
        return False
    file = node.path("etc/modules-load.d/drbd.conf")
    try:
        os.makedirs(os.path.dirname(file), exist_ok=True)
        with salt.utils.files.fopen(file, "a", encoding="utf-8") as stream:
            stream.write("drbd\n")
    except OSError as error:
        raise CommandExecutionError(f"DRBD: {file} cannot be written: {error.strerror}") from None
    return True
