"""
DRBD 8.4 and 9: acts. Part of the ``drbd`` execution module, see there.

Each function returns True when it did something and False when it was so already, and raises CommandExecutionError with DRBD's reason when it was refused.
What can lose data wants ``force=True`` and a proof that it does not; the refusal says which proof is missing. Nothing here answers a question of drbdmeta:
what it would ask an operator about is refused.

8.4's drbdadm hands the shared secret to its own child ``drbdsetup connect`` as an argument: while that runs (milliseconds) it can be read in the list of
processes of this node. No caller can change that; mount /proc with hidepid=2 where other users log in.
"""

from salt.exceptions import CommandExecutionError

# Another file of the module drbd; the loader adds these functions to those of drbd.py.
__virtualname__ = "drbd"


def __virtual__():
    return __virtualname__


def _node():
    return __utils__["drbd_tool.node"](__salt__, __utils__, __opts__, __context__)


def _known(resource):
    """The node and the resource's fresh status; the resource has to be configured."""
    node = _node()
    node.existing(resource)
    return node, __salt__["drbd.status"](resource)[resource]


def _up(resource):
    node, found = _known(resource)
    if not found["up"]:
        raise CommandExecutionError(
            f"DRBD: {resource} is down on {node.name}; first: drbdadm up {resource}"
        )
    return node, found


def _refuse(what, resource, why):
    raise CommandExecutionError(f"DRBD: {what} of {resource} refused: {why}")


def _forced(what, resource, force):
    if force is not True:
        _refuse(
            what,
            resource,
            "it can lose data and needs force=True, besides a proof that it does not",
        )


# --- Up and down --------------------------------------------------------------------------------------------------------------------------------


def load(module="drbd"):
    """
    Load DRBD's module into the kernel.

    CLI Example:

    .. code-block:: bash

        salt demo1 drbd.load

    module
        Its name (str).

    Returns True, or False when it was loaded. Raises CommandExecutionError when the kernel that runs has none.
    """
    node = _node()
    if node.loaded():
        return False
    node.ask("modprobe", [module], f"loading the module {module}")
    if not node.loaded():
        raise CommandExecutionError(
            "DRBD: modprobe drbd returned 0 and there is no /sys/module/drbd/version"
        )
    return True


def up(resource):
    """
    Attach the disk of a resource and connect it.

    CLI Example:

    .. code-block:: bash

        salt demo1 drbd.up comp1.slapos.svc.paris

    resource
        The resource (str).

    Returns True, or False when it was up with its disk and a connection (or the wish for one). One that is up without is made so, as by :py:func:`adjust`.
    Raises CommandExecutionError; 8.4 leaves a Diskless resource behind when there is no metadata, which is taken down again.
    """
    node, found = _known(resource)
    if found["up"]:
        if __utils__["drbd_parse.not_up"](found) is None:
            return False
        return adjust(resource)
    try:
        node.act(["up", resource], f"up of {resource}")
    except CommandExecutionError:
        node.run("drbdadm", ["down", resource])
        raise
    return True


def down(resource):
    """
    Disconnect a resource, detach its disk and forget it in the kernel; its data and metadata stay.

    CLI Example:

    .. code-block:: bash

        salt demo1 drbd.down comp1.slapos.svc.paris

    resource
        The resource (str).

    Returns True, or False when it was down. Raises CommandExecutionError when it is in use: DRBD then leaves it as it is.
    """
    node, found = _known(resource)
    if not found["up"]:
        return False
    node.act(["down", resource], f"down of {resource}")
    return True


def adjust(resource):
    """
    Make the kernel's settings of a resource those of its file. This brings a resource up, attaches a detached disk and connects a StandAlone resource.

    CLI Example:

    .. code-block:: bash

        salt demo1 drbd.adjust comp1.slapos.svc.paris

    resource
        The resource (str).

    Returns True; drbdadm does not say whether there was anything to do. Raises CommandExecutionError.
    """
    node = _node()
    node.existing(resource)
    node.act(["adjust", resource], f"adjust of {resource}")
    return True


def attach(resource):
    """
    Attach the disk of a Diskless resource.

    CLI Example:

    .. code-block:: bash

        salt demo1 drbd.attach comp1.slapos.svc.paris

    resource
        The resource (str).

    Returns True, or False when it has its disk. Raises CommandExecutionError.
    """
    node, found = _up(resource)
    if all(volume["disk"] != "Diskless" for volume in found["disk"].values()):
        return False
    node.act(["attach", resource], f"attach of {resource}")
    return True


def detach(resource):
    """
    Detach the disk of a resource; it goes on over the network while the peer has data.

    CLI Example:

    .. code-block:: bash

        salt demo1 drbd.detach comp1.slapos.svc.paris

    resource
        The resource (str).

    Returns True, or False when it was Diskless. Raises CommandExecutionError; a Primary without a peer that is UpToDate is refused by the kernel.
    """
    node, found = _up(resource)
    if all(volume["disk"] == "Diskless" for volume in found["disk"].values()):
        return False
    node.act(["detach", resource], f"detach of {resource}")
    return True


def connect(resource, discard_my_data=False, force=False, peer=None):
    """
    Connect a StandAlone resource, and on the losing side of a split brain throw its writes away.

    CLI Example:

    .. code-block:: bash

        salt demo2 drbd.connect comp1.slapos.svc.paris

    resource
        The resource (str).
    discard_my_data
        This node's writes since the two parted go (bool): needs ``force``, and as proof ``peer``.
    force
        (bool)
    peer
        :py:func:`generation_ids <drbd.generation_ids>` of the other node, whose data stay (dict).

    Returns True, or False when it was connected or connecting. Raises CommandExecutionError. Proof: this node is Secondary and StandAlone, and the two
    nodes' generations are a split brain, so that the peer's data is what it is compared with.
    """
    node, found = _up(resource)
    standalone = any(one["state"] == "StandAlone" for one in found["connections"].values())
    if not discard_my_data:
        if not standalone:
            return False
        node.act(["connect", resource], f"connect of {resource}")
        return True
    what = "connect with discard_my_data"
    _forced(what, resource, force)
    if not standalone or found["role"] != "Secondary":
        _refuse(
            what,
            resource,
            f"this node is {__utils__['drbd_parse.summary'](found)}; it has to be Secondary and StandAlone (drbdadm secondary, drbdadm disconnect)",
        )
    if peer is None:
        _refuse(
            what,
            resource,
            "give as peer what drbd.generation_ids says on the other node, whose data stay",
        )
    if len(found["disk"]) > 1:
        _refuse(what, resource, "peer proves one volume only, and it has several; see drbdadm(8)")
    relation = __salt__["drbd.split_brain"](resource, peer)
    if relation["relation"] != "split_brain":
        _refuse(
            what,
            resource,
            f"the generations of the two nodes are not a split brain but {relation['relation']}: {relation['why']}",
        )
    node.act(["connect", "--discard-my-data", resource], f"{what} of {resource}")
    return True


def disconnect(resource):
    """
    Disconnect a resource from its peer: it is StandAlone until somebody connects it.

    CLI Example:

    .. code-block:: bash

        salt demo2 drbd.disconnect comp1.slapos.svc.paris

    resource
        The resource (str).

    Returns True, or False when it was StandAlone. Raises CommandExecutionError.
    """
    node, found = _up(resource)
    if all(one["state"] == "StandAlone" for one in found["connections"].values()):
        return False
    node.act(["disconnect", resource], f"disconnect of {resource}")
    return True


# --- Roles --------------------------------------------------------------------------------------------------------------------------------------


def primary(resource, force=False, peer=None):
    """
    Make this node Primary.

    CLI Example:

    .. code-block:: bash

        salt demo1 drbd.primary comp1.slapos.svc.paris

    resource
        The resource (str).
    force
        Declare this node's disk, which is new, to be the data (bool); every block is then copied to the peer. Proof: both sides are new, as
        :py:func:`skip_initial_sync` has it.
    peer
        :py:func:`generation_ids <drbd.generation_ids>` of the other node (dict), as a further proof with ``force``.

    Returns True, or False when it was Primary. Raises CommandExecutionError.
    """
    node, found = _up(resource)
    if found["role"] == "Primary":
        return False
    if force:
        _prove_new("primary with force", resource, found, peer)
    node.act(["primary", *(["--force"] if force else []), resource], f"primary of {resource}")
    return True


def secondary(resource):
    """
    Make this node Secondary.

    CLI Example:

    .. code-block:: bash

        salt demo1 drbd.secondary comp1.slapos.svc.paris

    resource
        The resource (str).

    Returns True, or False when it was Secondary. Raises CommandExecutionError, for instance while the device is mounted.
    """
    node, found = _up(resource)
    if found["role"] == "Secondary":
        return False
    node.act(["secondary", resource], f"secondary of {resource}")
    return True


# --- Metadata and data --------------------------------------------------------------------------------------------------------------------------


def _disk(node, resource, volume):
    volume = __utils__["drbd_conf.number_of_volume"](volume)
    disk = __utils__["drbd_conf.disk"](node.existing(resource), node.name, volume)
    if not disk:
        raise CommandExecutionError(
            f"DRBD: the file of {resource} gives no disk of volume {volume} on {node.name}"
        )
    return disk


def create_md(resource, force=False, volume=0):
    """
    Write DRBD's metadata on the disk of a resource.

    CLI Example:

    .. code-block:: bash

        salt demo1 drbd.create_md comp1.slapos.svc.paris

    resource
        The resource (str), which has to be down.
    force
        Also on a disk with bytes that nothing recognises (bool), such as a disk that was used before. Proof: no filesystem, volume group, RAID or
        partition table is found on it (``blkid -p``). A disk with one of these is refused with force too.
    volume
        Its volume (int).

    Returns True, or False when there is metadata. Raises CommandExecutionError: no such disk, not empty, too small, or cannot be asked.
    """
    node = _node()
    disk = _disk(node, resource, volume)
    what = "create_md"
    if node.size_of_disk(disk) is None:
        _refuse(what, resource, f"{disk} is no block device on {node.name}")
    known = __salt__["drbd.metadata"](resource, volume)
    if known["metadata"] == "exists":
        return False
    if known["metadata"] == "unknown":
        _refuse(what, resource, f"whether {disk} has metadata cannot be asked: {known['why']}")
    held = __salt__["drbd.status"](resource)[resource]
    if held["up"]:
        if any(volume["disk"] != "Diskless" for volume in held["disk"].values()) or any(
            one["state"] != "StandAlone" for one in held["connections"].values()
        ):
            _refuse(
                what,
                resource,
                f"it is up ({__utils__['drbd_parse.summary'](held)}); take it down first",
            )
        # What 8.4 leaves behind of an up without metadata.
        node.act(["down", resource], f"down of {resource}")
    found = _signature(node, disk)
    if found:
        _refuse(
            what,
            resource,
            f"{disk} is not empty ({found}), with force neither. If that may go, on {node.name}: wipefs -a {disk}",
        )
    if not force:
        answer = node.run("drbdadm", ["create-md", f"{resource}/{volume}"])
        if answer["retcode"]:
            if "Found some data" in answer["stdout"]:
                _refuse(
                    what,
                    resource,
                    f"{disk} holds bytes that are neither metadata nor a known filesystem; if they may go, give force=True",
                )
            why = __utils__["drbd_parse.complaint"](answer["stdout"], answer["stderr"])
            _refuse(what, resource, why)
    else:
        node.act(["--", "--force", "create-md", f"{resource}/{volume}"], f"{what} of {resource}")
    node.forget()
    return True


def _signature(node, disk):
    """What blkid finds on a disk, or None when it finds nothing. Its code 2 is also that of a disk that is not there."""
    answer = node.run("blkid", ["-p", "-o", "export", disk])
    if answer["retcode"] == 2 and not answer["stdout"].strip() and not answer["stderr"].strip():
        return None
    types = [line for line in answer["stdout"].splitlines() if "TYPE=" in line]
    return ", ".join(types) or f"blkid: {answer['stderr'].strip() or answer['retcode']}"


def wipe_md(resource, force=False, peer=None, current=None, volume=0):
    """
    Remove DRBD's metadata from the disk of a resource that is down. The data below stays readable on this node, and stops being a side of the resource.

    CLI Example:

    .. code-block:: bash

        salt demo1 drbd.wipe_md comp1.slapos.svc.paris force=True peer='{"current": "2820CDFF103B1748", …}'

    resource
        The resource (str).
    force
        (bool)
    peer
        As proof that nothing newer is here: :py:func:`generation_ids <drbd.generation_ids>` of the other node (dict), which is UpToDate with the same data
        or newer. Not needed for new metadata.
    current
        In place of ``peer`` where no other node has the data any more, and nobody needs them: ``current`` of ``generation_ids`` on this node (str, quoted),
        to say that this one is meant.
    volume
        Its volume (int).

    Returns True, or False when there is none. Raises CommandExecutionError.
    """
    node, found = _known(resource)
    what = "wipe_md"
    known = __salt__["drbd.metadata"](resource, volume)
    if known["metadata"] == "none":
        return False
    if known["metadata"] == "unknown":
        _refuse(what, resource, known["why"])
    _forced(what, resource, force)
    if found["up"]:
        _refuse(what, resource, f"it is up on {node.name}; first: drbdadm down {resource}")
    ids = known["ids"]
    if not ids["new"] and not (peer is None and str(current).upper() == ids["current"]):
        _prove_survival(what, resource, ids, peer)
    node.act(["--", "--force", "wipe-md", f"{resource}/{volume}"], f"{what} of {resource}")
    return True


def _prove_survival(what, resource, ids, peer):
    """Refuse unless the other node has the same data or newer."""
    if peer is None:
        _refuse(
            what,
            resource,
            f"this disk has held data of generation {ids['current']}; give as peer what drbd.generation_ids says on the other node, to prove that it has them "
            "(or, where nobody needs them, this generation as current)",
        )
    peer = __utils__["drbd_parse.checked"](peer)
    relation = __utils__["drbd_parse.split_brain"](ids, peer)["relation"]
    if relation not in ("equal", "peer_newer"):
        _refuse(
            what,
            resource,
            f"the peer's generation {peer['current']} does not prove that it has the data of {ids['current']} here: {relation}",
        )
    if not peer["flags"]["consistent"] or not peer["flags"]["up_to_date"]:
        _refuse(what, resource, "the peer's metadata does not say that its disk is UpToDate")


def _prove_new(what, resource, found, peer=None):
    """Refuse unless both sides' metadata is new, so that no side has data."""
    if not __utils__["drbd_parse.connected"](found):
        _refuse(what, resource, f"it is not connected ({__utils__['drbd_parse.summary'](found)})")
    why = __utils__["drbd_parse.obstacle"](found)
    if why:
        _refuse(what, resource, why)
    if found["role"] != "Secondary" or any(
        one["role"] != "Secondary" for one in found["connections"].values()
    ):
        _refuse(what, resource, "a side is Primary")
    # Connected, at rest, Inconsistent on both sides: a peer with a generation of its own would be source or target of a resync now.
    if not __utils__["drbd_parse.nobody_has_data"](found):
        _refuse(
            what,
            resource,
            f"a side has or had data ({__utils__['drbd_parse.summary'](found)}); both have to be Inconsistent and at rest",
        )
    for volume in found["disk"]:
        ids = __salt__["drbd.generation_ids"](resource, volume)
        if not ids["new"]:
            _refuse(
                what,
                resource,
                f"the metadata of volume {volume} here is not new (generation {ids['current']}): it may have held data",
            )
    if peer is not None:
        peer = __utils__["drbd_parse.checked"](peer)
        if not peer["new"]:
            _refuse(
                what, resource, f"the peer's metadata is not new (generation {peer['current']})"
            )


def skip_initial_sync(resource, force=False, peer=None):
    """
    Declare two new, connected disks to be equal: both are UpToDate at once, and what is in unused blocks may differ between the nodes.

    CLI Example:

    .. code-block:: bash

        salt demo1 drbd.skip_initial_sync comp1.slapos.svc.paris force=True

    resource
        The resource (str).
    force
        (bool)
    peer
        :py:func:`generation_ids <drbd.generation_ids>` of the other node (dict), as a further proof; they have to be new too.

    Returns True, or False when both sides are UpToDate. Raises CommandExecutionError. Proof, taken from both sides: connected, both Secondary, both
    Inconsistent, at rest, this node's metadata just created (a peer that is not new would resync, or refuse the connection). ``drbd.verify`` reports such
    unused blocks as out of sync; a filesystem never reads them.
    """
    node, found = _up(resource)
    if __utils__["drbd_parse.in_sync"](found):
        return False
    what = "skip_initial_sync"
    _forced(what, resource, force)
    _prove_new(what, resource, found, peer)
    for volume in sorted(found["disk"]):
        words = ["new-current-uuid", "--clear-bitmap", f"{resource}/{volume}"]
        if node.major() < 9:
            words = ["--", "--clear-bitmap", "new-current-uuid", f"{resource}/{volume}"]
        node.act(words, f"{what} of {resource}")
    return True


def invalidate(resource, force=False):
    """
    Throw this node's data away and copy the peer's.

    CLI Example:

    .. code-block:: bash

        salt demo2 drbd.invalidate comp1.slapos.svc.paris force=True

    resource
        The resource (str).
    force
        (bool)

    Returns True: the resync has begun. Raises CommandExecutionError. Proof: this node is Secondary, and the peer is connected, UpToDate and at rest.
    (drbdadm takes it for a resource that is down, too, without a word: the next connection would then copy whatever the peer has.)
    """
    node, found = _up(resource)
    what = "invalidate"
    _forced(what, resource, force)
    good = found["role"] == "Secondary" and __utils__["drbd_parse.connected"](found)
    for connection in found["connections"].values():
        for seen in connection["volumes"].values():
            good = good and seen["disk"] == "UpToDate" and seen["replication"] == "Established"
    if not good:
        _refuse(
            what,
            resource,
            f"the peer has to be connected, UpToDate and at rest, and this node Secondary; it is {__utils__['drbd_parse.summary'](found)}",
        )
    node.act(["invalidate", resource], f"{what} of {resource}")
    return True


def verify(resource):
    """
    Start the comparison of every block with the peer's, online.

    CLI Example:

    .. code-block:: bash

        salt demo1 drbd.verify comp1.slapos.svc.paris

    resource
        The resource (str); its net options need a ``verify-alg``, which ``resource_configured`` sets with a secret.

    Returns True: it has begun (``percent`` of drbd.status), or False when one runs. At its end ``out_of_sync`` of :py:func:`status <drbd.status>` is what
    differs in KiB; 8.4 copies these blocks when the resource is disconnected and connected again. Raises CommandExecutionError.
    """
    node, found = _up(resource)
    if any(
        seen["replication"] in ("VerifyS", "VerifyT")
        for connection in found["connections"].values()
        for seen in connection["volumes"].values()
    ):
        return False
    node.act(["verify", resource], f"verify of {resource}")
    return True


def resize(resource):
    """
    Let a resource grow to the size of its disks, which are to have grown on both nodes. What is new is copied from the Primary.

    CLI Example:

    .. code-block:: bash

        salt demo1 drbd.resize comp1.slapos.svc.paris

    resource
        The resource (str).

    Returns True when the device is larger than before, else False. Raises CommandExecutionError unless both sides are UpToDate and one is Primary (8.4). The smaller of the two
    disks counts. The filesystem on it does not grow by this.
    """
    node, found = _up(resource)
    if not __utils__["drbd_parse.in_sync"](found):
        _refuse("resize", resource, f"it is {__utils__['drbd_parse.summary'](found)}")
    node.act(["resize", resource], f"resize of {resource}")
    after = __salt__["drbd.status"](resource)[resource]
    return any(after["disk"][v]["size"] != found["disk"][v]["size"] for v in found["disk"])
