"""Salt's own loader over this checkout, and programs of DRBD that replay recordings and keep a book of what they were told."""

import os
import shutil
import types
from unittest import mock

import pytest

from .drbd_world import CANARY, NEW_SECRET, SECRET, World


@pytest.fixture(scope="module")
def loaders(make_loaders):
    pillar = {"drbd": {"secret": SECRET, "short": "abc", "new": NEW_SECRET}}
    made = make_loaders(pillar=pillar)
    made.opts["pillar"] = pillar
    made.opts["drbd.root"] = os.path.join(made.opts["root_dir"], "world/root")
    return made


@pytest.fixture
def world(loaders, monkeypatch, caplog):
    base = os.path.dirname(loaders.opts["drbd.root"])
    shutil.rmtree(base, ignore_errors=True)
    made = World(base)
    loaders.context.clear()
    caplog.set_level(0)
    monkeypatch.setenv("PATH", str(made.bin))
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    real = os.uname()
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((real[0], "demo1", *real[2:])))
    yield made
    # The secret's place is the resource's file: neither an argument of a program nor a line of a log. (A masterless minion logs the pillar that it renders.)
    assert CANARY not in str(made.calls())
    logged = [record for record in caplog.get_records("call") if record.name != "salt.template"]
    assert not [record for record in logged if CANARY in record.getMessage()]


@pytest.fixture
def states(loaders, world):
    return loaders.states


@pytest.fixture
def modules(loaders, world):
    return loaders.modules


@pytest.fixture
def drbd(modules):
    """The functions of the module drbd, as Salt's loader has them."""

    class Functions:
        def __getattr__(self, name):
            return modules[f"drbd.{name}"]

    return Functions()


@pytest.fixture
def namespace(modules):
    """The names that the code of drbd.wait sees."""
    return modules["drbd.wait"].func.__globals__


@pytest.fixture
def fast(namespace, monkeypatch):
    """Time goes by the second, at once, for drbd.wait and for nothing else; what the kernel says can be set for each second."""
    clock, then = [1000.0], []

    def sleep(seconds):
        clock[0] += max(seconds, 0.05)
        if then:
            then.pop(0)()

    monkeypatch.setitem(
        namespace, "time", types.SimpleNamespace(monotonic=lambda: clock[0], sleep=sleep)
    )
    return then


@pytest.fixture
def told(namespace, modules, monkeypatch):
    """The events of drbd.wait, as (tag, data)."""
    send = mock.create_autospec(modules["event.send"].func)
    salt = namespace["__salt__"]

    class Salt:
        def __contains__(self, name):
            return name in salt

        def __getitem__(self, name):
            return send if name == "event.send" else salt[name]

    monkeypatch.setitem(namespace, "__salt__", Salt())
    return lambda: [call.args for call in send.call_args_list]
