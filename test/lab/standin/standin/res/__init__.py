"""The drivers: which class stands for which section of a configuration."""

from . import app, disk, fs, sync, volume

DRIVERS = {
    "disk.loop": disk.Loop,
    "disk.vg": disk.VolumeGroup,
    "disk.lv": disk.LogicalVolume,
    "disk.drbd": disk.Drbd,
    "fs.flag": fs.Flag,
    "fs": fs.Mount,
    "volume": volume.Volume,
    "app": app.App,
    "task": app.Task,
    "sync": sync.Rsync,
}

# What a driver assumes for a keyword that is not set; references can see these.
DEFAULTS = {
    "disk.loop.size": "100m",
    "volume.access": "rwo",
    "app.type": "forking",
    "task.type": "host",
}


def build(rid, keywords, instance):
    """The resource of a section, or None when the section is none."""
    family = rid.split("#")[0]
    kind = instance.get(rid, "type") or ("drbd" if family == "drbd" else "")
    driver = DRIVERS.get(f"{family}.{kind}") or DRIVERS.get(family)
    return driver(rid, kind, instance) if driver else None
