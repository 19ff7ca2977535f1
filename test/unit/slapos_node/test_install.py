"""One installation into an environment at a time."""

import fcntl
import os
import threading

import pytest
from support import load_module


@pytest.fixture
def module():
    return load_module(
        "_modules/slapos_node_install.py",
        __salt__={"slapos_node.missing_requirements": lambda prefix, requirements: {}},
        __utils__={"slapos_text.unfinished": load_module("_utils/slapos_text.py").unfinished},
    )


def test_who_asks_waits_for_who_installs(module, tmp_path, monkeypatch):
    opened = []
    real = open

    def remember(path, *args):
        opened.append(str(path))
        return real(tmp_path / os.path.basename(path), *args)

    monkeypatch.setattr(module, "open", remember, raising=False)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").touch()
    assert module.environment_missing(str(tmp_path), []) == {}
    with real(tmp_path / os.path.basename(opened[0])) as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        answers = []
        asking = threading.Thread(
            target=lambda: answers.append(module.environment_missing(str(tmp_path), []))
        )
        asking.start()
        asking.join(0.5)
        assert asking.is_alive() and answers == []
    asking.join(5)
    assert answers == [{}]
    assert opened[0].startswith("/run/slapos_ha-")


def test_both_environments_are_made_as_the_pillar_says(module, monkeypatch):
    install = {
        "method": "pip",
        "requirements": ["a==1"],
        "find_links": "/wheels",
        "no_index": True,
        "hashes": False,
    }
    site = {
        "re6st": {"install": {**install, "prefix": "/opt/re6st"}},
        "slapos": {"install": {**install, "prefix": "/opt/slapos", "method": "packages"}},
    }
    monkeypatch.setitem(module.__salt__, "slapos_ha.site", lambda: site)
    asked = []
    monkeypatch.setattr(
        module, "environment_install", lambda *args: asked.append(args) or {"a": {"new": "1"}}
    )
    assert module.environments() == {"/opt/re6st": {"a": {"new": "1"}}}
    assert asked == [("/opt/re6st", ["a==1"], "/wheels", True, None)]
