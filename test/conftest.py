"""Fixtures that all layers of the tests share."""

import os
import sys
import threading
import traceback

import pytest
import salt._logging
import yaml
from hypothesis import settings
from support import ROOT

# Salt's import keeps early log records for a standard error that is closed when it writes them, after pytest's count.
salt._logging.shutdown_temp_handler()

# The same examples in each run: a commit passes or it does not. New ones are looked for by hand, HYPOTHESIS=explore make unit, and what they find becomes a test.
settings.register_profile("same", derandomize=True)
settings.register_profile("explore", max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS", "same"))


@pytest.fixture(scope="session")
def root():
    return ROOT


@pytest.fixture
def defaults():
    return yaml.safe_load((ROOT / "slapos_ha/defaults.yaml").read_text())


@pytest.fixture
def schema():
    return yaml.safe_load((ROOT / "slapos_ha/schema.yaml").read_text())


@pytest.fixture
def example():
    return yaml.safe_load((ROOT / "pillar.example").read_text())


@pytest.fixture(scope="module", autouse=True)
def no_thread_stays():
    """A thread that is no daemon and does not end keeps this process from ending after its last test: the file that left it is named."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        if not thread.daemon:
            thread.join(10)
    left = [t for t in threading.enumerate() if t not in before and not t.daemon]
    stacks = ["".join(traceback.format_stack(sys._current_frames()[t.ident])) for t in left]
    assert not left, f"{left} stay after these tests:\n" + "\n".join(stacks)
