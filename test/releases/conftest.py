"""test/functional under the other releases of Salt, each in the environment that `make other-salts` made."""

import os
import pathlib

import pytest

# What the Makefile gives: the folder with an environment for each release, and the releases.
CACHE = pathlib.Path(os.environ.get("SLAPOS_HA_CACHE") or pathlib.Path.home() / ".cache/slapos-ha")
RELEASES = os.environ.get("OTHER_SALTS", "").split()


def pytest_generate_tests(metafunc):
    if "release" in metafunc.fixturenames:
        metafunc.parametrize("release", RELEASES)


def pytest_terminal_summary(terminalreporter):
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", []):
                if name.startswith("Salt "):
                    terminalreporter.write_line(f"{name}: {value}")


@pytest.fixture
def python(release):
    """The interpreter of the release's environment."""
    python = CACHE / f"salt-{release}/bin/python"
    if not python.exists():
        raise pytest.UsageError(f"{python} is not there: make other-salts")
    return python
