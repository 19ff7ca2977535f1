"""Each functional test passes under every release of Salt that is supported, not only under the pinned one that all else runs on."""

import os
import signal
import subprocess

from support import ROOT


def test_the_functional_tests_pass(python, release, record_property):
    # The formula's own release is built with the pinned Salt only.
    command = (
        f"nice -n 15 {python} -m pytest -q test/functional --ignore test/functional/test_release.py"
    )
    process = subprocess.Popen(
        command.split(),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate()
    finally:
        # As from a terminal: it ends by way of its tests' own cleaning up.
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
            process.communicate()
    record_property(f"Salt {release}", (said.strip().splitlines() or ["nothing was printed"])[-1])
    assert process.returncode == 0, said
