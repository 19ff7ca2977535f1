"""Fixtures that all layers of the tests share."""

import contextlib
import os
import sys
import threading
import traceback

import pytest
import salt._logging
import yaml
from hypothesis import settings
from support import LAB, ROOT, SECOND_LAB
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import NodeManager

# Salt's import keeps early log records for a standard error that is closed when it writes them, after pytest's count.
salt._logging.shutdown_temp_handler()

# The same examples in each run: a commit passes or it does not. New ones are looked for by hand, HYPOTHESIS=explore make unit, and what they find becomes a test.
settings.register_profile("same", derandomize=True)
settings.register_profile("explore", max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS", "same"))


class Scheduling(LoadScopeScheduling):
    """
    With `-n`: the lab's tests are one worker's, in their order, as a site's life goes, and those of the second lab another one's; of the others each file is
    whole, and each release of Salt by itself.
    """

    def _split_scope(self, nodeid):
        file = nodeid.split("::")[0]
        if file.startswith(LAB):
            return f"{LAB}second" if file in SECOND_LAB else LAB
        return nodeid if file.startswith("test/releases/") else file


def pytest_xdist_make_scheduler(config, log):
    return Scheduling(config, log)


def pytest_configure():
    # Seconds. An interrupted worker takes its lab down, which is ten and more; it is killed where it takes longer than this.
    NodeManager.EXIT_TIMEOUT = 60


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Beside the lab, whose hosts are idle for half of the time and late when they are not, the longest of the others takes what is left."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        niceness = 15 if item.nodeid.startswith("test/functional/") else 0
        if os.getpriority(os.PRIO_PROCESS, 0) != niceness:
            # Back to 0 takes root, as the lab does.
            with contextlib.suppress(PermissionError):
                os.setpriority(os.PRIO_PROCESS, 0, niceness)


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


# Those of pytest and its plugins that are there before any test.
OTHERS = set(threading.enumerate())


@pytest.fixture(scope="module", autouse=True)
def no_thread_stays():
    """A thread that is no daemon and does not end keeps this process from ending after its last test: the file that left it is named."""
    yield
    left = [t for t in threading.enumerate() if t not in OTHERS and not t.daemon]
    for thread in left:
        thread.join(10)
    left = [t for t in left if t.is_alive()]
    stacks = ["".join(traceback.format_stack(sys._current_frames()[t.ident])) for t in left]
    assert not left, f"{left} stay after these tests:\n" + "\n".join(stacks)
