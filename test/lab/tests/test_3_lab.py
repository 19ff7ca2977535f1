"""The lab itself: what is interrupted leaves nothing, and two labs on one machine do not meet."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest
from slaplab import control, hosts
from slaplab.base import HOSTS, REPO, Lab, LabError, run, wait


def left(second):
    """What is still there of a lab: processes, namespace, mounts, loop devices."""
    home = str(second.home)
    return {
        "processes": [
            line
            for line in run("ps", "-ww", "-eo", "pid,args").stdout.splitlines()
            if home in line or second.namespace in line
        ],
        "namespace": second.exists(),
        "mounts": [line for line in pathlib.Path("/proc/mounts").read_text().splitlines() if home in line],
        "loops": [line for line in run("losetup", "-a").stdout.splitlines() if home in line],
    }  # fmt: skip


@pytest.mark.parametrize("moment", ["hosts boot", "master runs"])
def test_an_interrupted_up_leaves_nothing_and_disturbs_nobody(lab, tmp_path, moment):
    second = Lab(tmp_path / "second")
    before = {host: len(hosts.pids(lab, host)) for host in HOSTS}
    process = subprocess.Popen(
        [sys.executable, str(REPO / "test/lab/lab"), "up"],
        env={**os.environ, "LAB_HOME": str(second.home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    condition = {
        "hosts boot": lambda: second.exists() and hosts.pids(second, "demo1"),
        "master runs": lambda: second.pid("master"),
    }[moment]
    wait(f"the second lab: {moment}", condition, 120)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "not up: taking down what was started" in said
    nothing = {"processes": [], "namespace": False, "mounts": [], "loops": []}
    # What was on its way into the namespace finds none, says so and ends.
    with contextlib.suppress(LabError):
        wait("nothing is left", lambda: left(second) == nothing, 10)
    assert left(second) == nothing
    assert all(len(hosts.pids(lab, host)) >= 1 for host in before)
    assert control.salt_json(lab, "salt", "*", "test.ping") == {host: True for host in HOSTS}


def test_status_and_logs_of_a_host(lab, monkeypatch):
    monkeypatch.setenv("LAB_HOME", str(lab.home))
    said = run(sys.executable, REPO / "test/lab/lab", "info")
    known = json.loads(said.stdout)
    assert known["up"] is True and all(known["hosts"][host]["pids"] > 10 for host in HOSTS)
    console = run(sys.executable, REPO / "test/lab/lab", "logs", "demo1").stdout
    assert "Linux version" in console and "salt-minion" in console
