"""test/functional under the other releases of Salt: begun as soon as the tests begin, beside which it runs at a low priority, and looked at after them."""

import os
import pathlib
import signal
import subprocess
import tempfile

import pytest
from support import ROOT

# What the Makefile gives: the folder with an environment for each release, and the releases.
CACHE = pathlib.Path(os.environ.get("SLAPOS_HA_CACHE") or pathlib.Path.home() / ".cache/slapos-ha")
RELEASES = os.environ.get("OTHER_SALTS", "").split()
BEGUN = pytest.StashKey()


class Suite:
    """The functional tests under one release, as a process group of their own."""

    def __init__(self, release):
        python = CACHE / f"salt-{release}/bin/python"
        if not python.exists():
            raise pytest.UsageError(f"{python} is not there: make other-salts")
        # The formula's own release is built with the pinned Salt only.
        command = f"nice -n 15 {python} -m pytest -q test/functional --ignore test/functional/test_release.py"
        self._output = tempfile.TemporaryFile("w+")  # noqa: SIM115 it lives as long as the suite
        self._process = subprocess.Popen(
            command.split(),
            cwd=ROOT,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def passed(self):
        """Whether all passed, when it is over."""
        return self._process.wait() == 0

    def output(self):
        self._output.seek(0)
        return self._output.read()

    def end(self):
        # As from a terminal: it ends by way of its tests' own cleaning up.
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGINT)
            self._process.wait()


def pytest_generate_tests(metafunc):
    if "release" in metafunc.fixturenames:
        metafunc.parametrize("release", RELEASES)


def pytest_collection_finish(session):
    asked = [item.callspec.params for item in session.items if hasattr(item, "callspec")]
    releases = [params["release"] for params in asked if params.get("release") in RELEASES]
    if not session.config.option.collectonly:
        session.config.stash[BEGUN] = {release: Suite(release) for release in releases}


def pytest_terminal_summary(terminalreporter, config):
    for release, suite in config.stash.get(BEGUN, {}).items():
        lines = suite.output().strip().splitlines() or ["nothing was printed"]
        terminalreporter.write_line(f"Salt {release}: {lines[-1]}")


def pytest_sessionfinish(session):
    for suite in session.config.stash.get(BEGUN, {}).values():
        suite.end()


@pytest.fixture(scope="session")
def suites(request):
    return request.config.stash[BEGUN]
