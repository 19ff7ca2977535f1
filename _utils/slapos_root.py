"""
Files of the node, looked for below ``slapos_node.root`` of the minion's configuration, which is / but for tests. For the modules that look at what is there and
remove it.

Each function takes the caller's ``__opts__``, which a util does not have itself.
"""

import os

import salt.utils.files


def at(opts, path):
    """Where a path of the node is."""
    return os.path.join(opts.get("slapos_node.root") or "/", path.lstrip("/"))


def text(opts, path):
    """The text of a file, "" where there is none."""
    try:
        with salt.utils.files.fopen(at(opts, path), encoding="utf-8", errors="replace") as handle:
            return handle.read()
    except (FileNotFoundError, NotADirectoryError):
        return ""
