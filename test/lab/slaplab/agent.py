"""Which OpenSVC agent the hosts get: the one that LAB_AGENT names, else the package of this machine's repositories, else the stand-in."""

import io
import os
import pathlib
import re
import tarfile
import tempfile

from .base import REPO, LabError, cache, run

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


def packaged():
    """
    Agent 2.1's package from OpenSVC's repository, or None. Only where this machine's apt has that repository: the lab itself goes to no address
    outside of its namespace.
    """
    said = run("apt-cache", "policy", "opensvc", check=False).stdout
    candidate = re.search(r"^\s+Candidate: (\S+)$", said, re.MULTILINE)
    if not candidate or candidate[1] == "(none)":
        return None
    folder = cache() / "agent"
    folder.mkdir(parents=True, exist_ok=True)
    found = sorted(folder.glob(f"opensvc_{candidate[1].replace(':', '%3a')}_*.deb"))
    if not found:
        # Not as apt's own user, who may not write there; and a repository that does not answer is no reason to have no lab.
        done = run("apt-get", "-o", "APT::Sandbox::User=root", "download", "opensvc", cwd=folder, check=False)  # fmt: skip
        if done.returncode:
            print(f"lab: {done.stdout.strip().splitlines()[-1]}")
            return None
        found = sorted(folder.glob("opensvc_*.deb"))
    return found[-1]


def chosen(path=None):
    """(kind, path) of the agent: tree, binary, package or standin. LAB_AGENT=standin does not look for a package."""
    path = path or os.environ.get("LAB_AGENT")
    if not path:
        package = packaged()
        return ("package", package) if package else ("standin", STANDIN)
    if path == "standin":
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
