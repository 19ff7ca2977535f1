"""Salt's own loader over this checkout, and an om that replays recordings and keeps a book of what it was told."""

import json
import os
import pathlib
import sys
import textwrap
import types

import pytest
from support import ROOT

from .opensvc_world import CANARY, DRBDSETUP, OM, PATH, SCRIPT, TOKEN, drbd_says


@pytest.fixture(scope="module")
def loaders(make_loaders):
    made = make_loaders(
        pillar={
            "opensvc": {"cluster_secret": CANARY, "join_token": TOKEN},
            "token": CANARY,
            "script": SCRIPT,
        }
    )
    world = pathlib.Path(made.opts["root_dir"]) / "world"
    (world / "etc").mkdir(parents=True)
    made.opts.update(
        {
            "opensvc.om": str(world / "om"),
            "opensvc.etc": str(world / "etc"),
            "drbd.root": str(world / "root"),
        }
    )
    return made


@pytest.fixture
def world(loaders, monkeypatch):
    """Two nodes, this one demo1, with the recorded whole service, healthy and up on demo1."""
    base = pathlib.Path(loaders.opts["opensvc.om"]).parent
    for folder in ("svc", "cfg"):
        (base / "etc/namespaces/slapos" / folder).mkdir(parents=True, exist_ok=True)
    for left in [*base.glob("etc/**/*.conf"), *base.glob("calls"), *base.glob("stdin")]:
        left.unlink()
    om = base / "om"
    om.write_text(textwrap.dedent(OM.format(python=sys.executable, world=str(base))))
    om.chmod(0o755)
    for folder in ("root/proc", "root/sys/module/drbd", "bin"):
        (base / folder).mkdir(parents=True, exist_ok=True)
    (base / "root/sys/module/drbd/version").write_text("8.4.11\n")
    (base / "bin/drbdsetup").write_text(DRBDSETUP.format(world=str(base)))
    (base / "bin/drbdsetup").chmod(0o755)
    (base / "drbd").write_text(drbd_says())
    monkeypatch.setenv("PATH", str(base / "bin"), prepend=os.pathsep)
    monkeypatch.setattr("socket.gethostname", lambda: "demo1")
    loaders.context.clear()
    fixtures = ROOT / "test/fixtures/opensvc-2.1"
    status = json.loads((fixtures / "full_daemon_status.json.out").read_text())
    status["monitor"]["services"][PATH]["overall"] = "up"
    for known, word in zip(status["monitor"]["nodes"].values(), ("up", "stdby up"), strict=True):
        known["services"]["status"][PATH]["overall"] = word
        known["services"]["status"][PATH]["resources"].pop("sync#i0")
    config = json.loads((fixtures / "full_print_config.json.out").read_text())
    config.pop("metadata", None)
    answers = [
        [["node", "--version"], "om node version 2.1-1890\n", "", 0, None, False],
        [["daemon", "status"], "the status", "", 0, None, False],
    ]

    def says(*begin, out="", err="", code=0, then=None, once=False):
        answers.insert(0, [list(begin), out, err, code, then, once])
        (base / "answers.json").write_text(json.dumps(answers))

    def is_now(document):
        (base / "status.json").write_text(json.dumps(document))
        loaders.context.clear()

    def calls(*begin):
        book = base / "calls"
        told = [json.loads(line) for line in book.read_text().splitlines()] if book.exists() else []
        return [call for call in told if call[: len(begin)] == list(begin)]

    def forget():
        (base / "calls").unlink(missing_ok=True)
        loaders.context.clear()

    def acts():
        """What om was told that could change something."""
        return [
            call
            for call in calls()
            if call[:2]
            not in (
                ["node", "--version"],
                ["--version"],
                ["daemon", "status"],
                ["cluster", "status"],
            )
        ]

    says("nothing of the kind")
    is_now(status)
    (base / "etc/namespaces/slapos/svc/comp1.conf").write_text(
        "\n".join(
            f"[{section}]\n" + "".join(f"{key} = {value}\n" for key, value in keywords.items())
            for section, keywords in config.items()
        )
    )
    return types.SimpleNamespace(
        drbd=lambda **states: (base / "drbd").write_text(drbd_says(**states)),
        base=base,
        etc=base / "etc",
        status=status,
        config=config,
        says=says,
        is_now=is_now,
        calls=calls,
        acts=acts,
        forget=forget,
    )


@pytest.fixture
def third(world, loaders):
    """The same two nodes with agent 3: its configuration file is the same, its answers and its command line are not."""
    fixtures = ROOT / "test/fixtures/opensvc-3"
    world.says("node", "--version", err="Error: unknown flag: --version\n", code=1)
    world.says("--version", out="om version v3.0.0-rc21\n")
    world.says("cluster", "status", out="the status")
    world.status = json.loads((fixtures / "mon.json.out").read_text())
    world.is_now(world.status)
    return world


@pytest.fixture
def states(loaders, world):
    return loaders.states


@pytest.fixture
def modules(loaders, world):
    return loaders.modules
