"""One lab for the tests of this folder; they run in the order of their files, as a site's life goes. With `-n` those that do not need the first one's story have a second one."""

import os
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from slaplab import cli, control, hosts, leaks, site  # noqa: E402 the path is set just above
from slaplab.base import Lab  # noqa: E402
from support import SECOND_LAB  # noqa: E402

# The file of tests that the state of the hosts was last shown for.
TOLD = pytest.StashKey()


def pytest_collection_modifyitems(items):
    for item in items:
        if pathlib.Path(__file__).parent in pathlib.Path(item.path).parents:
            item.add_marker(pytest.mark.lab)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    """The first failure of a file shows the state of both hosts: those after it have its cause, mostly."""
    report = yield
    lab = getattr(item, "funcargs", {}).get("lab")
    if report.failed and lab and item.config.stash.get(TOLD, None) != item.path:
        item.config.stash[TOLD] = item.path
        report.sections.append(("stdout: the hosts", hosts.evidence(lab)))
    return report


@pytest.fixture(scope="session")
def roots():
    """Where the lab's master has the formula: this checkout, unless a file of tests says otherwise."""
    return control.ROOTS


@pytest.fixture(scope="package")
def lab(roots):
    """
    A fresh lab with both hosts up, for all tests of a worker; it is gone after the last of them, whatever else the worker has to do. LAB_KEEP=1 leaves it up afterwards, for a look; LAB_REUSE=1 takes the one that is up, as it is: for tests by hand.
    """
    assert os.geteuid() == 0, "the lab needs root: it makes a network namespace"
    control.ROOTS = roots
    lab = Lab()
    # The first test that asks for it is the one that runs.
    here = os.environ["PYTEST_CURRENT_TEST"].split("::")[0]
    if "PYTEST_XDIST_WORKER" in os.environ and here in SECOND_LAB:
        lab = lab.second()
    cli.up(lab, fresh=not os.environ.get("LAB_REUSE"))
    yield lab
    if not os.environ.get("LAB_KEEP"):
        cli.clean(lab)
        assert not lab.exists() and not lab.home.exists()


@pytest.fixture(scope="package", autouse=True)
def recorder(lab):
    """Listens to all that the tests do, until test_5_leaks.py, and in the second lab test_8_second_lab.py, asks what was heard."""
    recorder = leaks.Recorder(lab)
    recorder.start()
    yield recorder
    recorder.stop()


@pytest.fixture(scope="module")
def known(lab):
    """{name: value} of every secret of the deployed site."""
    if len(leaks.canaries(lab)) < 5:
        site.deployed(lab)
    found = leaks.canaries(lab)
    assert set(found) == {"drbd", "re6st", "slapos", "cluster", "re6st key", "slapos key"}
    return found
