"""
What a node's disk and DRBD's handler say of a split brain, as data. Pure functions. For the module ``slapos_ha``.
"""

import struct

# The superblock of ext2 to ext4 is 1 KiB long and begins here, whatever the size of the blocks (Linux, Documentation/filesystems/ext4/super.rst).
SUPERBLOCK = 1024
_MAGIC = 0xEF53
# s_feature_incompat: the journal has to be read before the filesystem can be.
_RECOVER = 0x4


def superblock(data):
    """
    The superblock of an ext4 filesystem, given its 1024 bytes; None when it is none.

    Returns ``{"written", "mounted", "where", "mounts", "journal", "size", "used"}``: seconds since 1970 of its last write and last mount, where that was, how
    often it was mounted, whether the journal holds more than the filesystem, and bytes. It is written at each mount and unmount, and now and then between.
    """
    if len(data) < 1024 or struct.unpack_from("<H", data, 0x38)[0] != _MAGIC:
        return None
    blocks, _, free = struct.unpack_from("<III", data, 0x4)
    shift, mounted, written, mounts = (
        struct.unpack_from("<I", data, 0x18)[0],
        struct.unpack_from("<I", data, 0x2C)[0],
        struct.unpack_from("<I", data, 0x30)[0],
        struct.unpack_from("<H", data, 0x34)[0],
    )
    block = 1024 << shift
    return {
        # Bits 32 to 39 of the times, without which they end in 2038 (2106, as they are read here).
        "written": written | data[0x274] << 32,
        "mounted": mounted | data[0x275] << 32,
        "where": data[0x88:0xC8].split(b"\0")[0].decode("utf-8", "replace"),
        "mounts": mounts,
        "journal": bool(struct.unpack_from("<I", data, 0x60)[0] & _RECOVER),
        "size": blocks * block,
        "used": (blocks - free) * block,
    }


def note(text):
    """What DRBD's handler has noted, ``{"time": …, "DRBD_RESOURCE": …}``; lines of another form are left out."""
    pairs = (line.partition("=") for line in text.splitlines())
    return {key: value for key, equals, value in pairs if equals and key}


def same(one, other):
    """Whether two generations name the same data: the last bit only says that the node was Primary."""
    try:
        return int(one, 16) | 1 == int(other, 16) | 1
    except (TypeError, ValueError):
        return False


def shortage(what, needs, free):
    """Why a copy of so many bytes cannot be made where so many are free, or None."""
    if needs <= free:
        return None
    return f"{what}: {needs >> 20} MiB are needed and {max(free, 0) >> 20} MiB are free"
