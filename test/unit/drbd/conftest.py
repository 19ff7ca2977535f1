"""DRBD's utils from the tree, and the recordings."""

import types

import pytest
from support import ROOT, load_module

RECORDED = ROOT / "test/unit/drbd/recorded"


@pytest.fixture(scope="session")
def parse():
    return load_module("_utils/drbd_parse.py", "drbd_test_parse")


@pytest.fixture(scope="session")
def conf():
    return load_module("_utils/drbd_conf.py", "drbd_test_conf")


@pytest.fixture(scope="session")
def utils(parse, conf):
    """``__utils__`` as the loader would give it."""
    return {
        f"{name}.{key}": value
        for name, module in (("drbd_parse", parse), ("drbd_conf", conf))
        for key, value in vars(module).items()
        if isinstance(value, types.FunctionType) and not key.startswith("_")
    }


@pytest.fixture(scope="session")
def said():
    """A recorded text: ``said("demo1", "skipped.gi")``."""
    return lambda host, name, kind="out": (RECORDED / host / f"{name}.{kind}").read_text()
