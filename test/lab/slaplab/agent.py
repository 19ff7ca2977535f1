"""Which OpenSVC agent the hosts get: the one that LAB_AGENT names, or the stand-in."""

import io
import os
import pathlib
import tarfile
import tempfile

from .base import REPO, LabError, run

STANDIN = REPO / "test/lab/standin"
UNIT = """[Unit]
Description=OpenSVC agent of the lab
After=network.target

[Service]
Type={type}
ExecStart={start}
ExecStop={stop}
KillMode=process
TimeoutStopSec=120
{more}

[Install]
WantedBy=multi-user.target
"""


def chosen(path=None):
    """(kind, path) of the agent: tree, binary, package or standin."""
    path = path or os.environ.get("LAB_AGENT")
    if not path:
        return "standin", STANDIN
    path = pathlib.Path(path).resolve()
    if (path / "opensvc").is_dir():
        return "tree", path
    if path.suffix == ".deb":
        return "package", path
    if path.is_file() and os.access(path, os.X_OK):
        return "binary", path
    raise LabError(
        f"LAB_AGENT={path}: give the tree of an agent 2.1 (the folder that holds opensvc/), an om binary of agent 3, or a .deb"
    )


def describe(tree):
    kind, path = tree
    if kind == "standin":
        return "agent: the stand-in of test/lab/standin, a TEST DOUBLE of OpenSVC 2.1 (LAB_AGENT names a real one)"
    return f"agent: OpenSVC from {path}"


def add(tar, tree):
    """Put the agent's files into a host's tar."""
    kind, path = tree
    if kind == "standin":
        # The same name on every machine, whatever folder the checkout lies in.
        tar.add(path, "usr/lib/slapos-ha-standin", filter=_plain)
        _link(tar, "usr/bin/om", "/usr/lib/slapos-ha-standin/om")
        tar.add(
            path / "opensvc-agent.service",
            "etc/systemd/system/opensvc-agent.service",
            filter=_plain,
        )
    elif kind == "tree":
        tar.add(path, "usr/share/opensvc", filter=_plain)
        # Agent 2.1's own launchers read where it lies and which python runs it from here.
        _text(
            tar, "etc/default/opensvc", "OSVC_ROOT_PATH=/usr/share/opensvc\nOSVC_PYTHON=python3\n"
        )
        _link(tar, "usr/bin/om", "/usr/share/opensvc/bin/om")
        for folder in (
            "etc/opensvc",
            *(f"var/lib/opensvc/{name}" for name in ("node", "lock", "lsnr", "tmp", "services")),
        ):
            _folder(tar, folder)
        _text(
            tar,
            "etc/systemd/system/opensvc-agent.service",
            UNIT.format(
                type="forking",
                start="/usr/bin/om daemon start",
                stop="/usr/bin/om daemon stop",
                more="",
            ),
        )
    elif kind == "binary":
        tar.add(path, "usr/bin/om", filter=_plain)
        _text(
            tar,
            "etc/systemd/system/opensvc-server.service",
            UNIT.format(
                type="simple",
                start="/usr/bin/om daemon run",
                stop="/usr/bin/om daemon stop",
                more="",
            ),
        )
    else:
        with tempfile.TemporaryDirectory() as folder:
            run("dpkg-deb", "-x", path, folder)
            for entry in sorted(pathlib.Path(folder).iterdir()):
                tar.add(entry, entry.name, filter=_plain)


def _plain(entry):
    if "__pycache__" in entry.name or "/.git" in entry.name or "/tests" in entry.name:
        return None
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return entry


def _text(tar, name, text):
    entry = tarfile.TarInfo(name)
    entry.mode, entry.size = 0o644, len(text)
    tar.addfile(entry, io.BytesIO(text.encode()))


def _link(tar, name, target):
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.SYMTYPE, target
    tar.addfile(entry)


def _folder(tar, name):
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, 0o755
    tar.addfile(entry)
