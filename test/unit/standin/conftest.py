"""A fake root for the stand-in, its modules, and the recordings it is compared with."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
STANDIN = ROOT / "test/lab/standin"
FIXTURES = ROOT / "test/fixtures/opensvc-2.1"
sys.path.insert(0, str(STANDIN))


class Recording:
    """One recorded command: what it printed and how it ended."""

    def __init__(self, name):
        self.name = name

    def _read(self, kind):
        path = FIXTURES / f"{self.name}.{kind}"
        return path.read_text() if path.exists() else ""

    @property
    def out(self):
        return self._read("out")

    @property
    def err(self):
        return self._read("err")

    @property
    def code(self):
        return int(self._read("rc"))

    @property
    def data(self):
        return json.loads(self.out)


@pytest.fixture
def recording():
    return Recording


@pytest.fixture
def fake_root(tmp_path, monkeypatch):
    """A root of its own for node demo1: whatever is tried on the system is refused."""
    monkeypatch.setenv("STANDIN_ROOT", str(tmp_path))
    monkeypatch.setenv("STANDIN_NODE", "demo1")
    (tmp_path / "etc/opensvc").mkdir(parents=True)
    return tmp_path


@pytest.fixture
def om(fake_root):
    """Run the stand-in's command line under the fake root -> (exit code, stdout, stderr)."""

    def run(*argv, data=None):
        done = subprocess.run(
            [sys.executable, "-E", str(STANDIN / "om"), *argv],
            input=data,
            capture_output=True,
            text=True,
            timeout=60,
            env=dict(os.environ),
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    return run


def write_cluster(fake_root, name="slapos", nodes="demo1 demo2", **heartbeat):
    """A cluster configuration as the recordings were taken with."""
    text = f"[DEFAULT]\nid = 1\n\n[cluster]\nid = 2\nnodes = {nodes}\nsecret = {'0' * 32}\nname = {name}\n"
    for keyword, value in {"type": "unicast", "timeout": "30s", **heartbeat}.items():
        text += f"{chr(10) + '[hb#1]' + chr(10) if keyword == 'type' else ''}{keyword} = {value}\n"
    path = fake_root / "etc/opensvc/cluster.conf"
    path.write_text(text)
    return path


def write_object(fake_root, path, data):
    """An object's configuration from the JSON of a recording."""
    namespace, kind, name = path.split("/")
    folder = fake_root / "etc/opensvc/namespaces" / namespace / kind
    folder.mkdir(parents=True, exist_ok=True)
    blocks = [
        f"[{section}]\n" + "".join(f"{key} = {value}\n" for key, value in keywords.items())
        for section, keywords in data.items()
        if section != "metadata"
    ]
    (folder / f"{name}.conf").write_text("\n".join(blocks))
    return folder / f"{name}.conf"
