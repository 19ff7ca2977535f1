"""The algebra of states, and what a wait is satisfied with."""

import os
import pathlib

import pytest
from standin import instance, status, waits

from .conftest import write_cluster, write_object


@pytest.mark.parametrize(
    ("states", "merged"),
    [
        ([], "n/a"),
        (["up", "n/a"], "up"),
        (["up", "down"], "warn"),
        (["up", "stdby up", "up"], "up"),
        (["down", "stdby up", "down"], "stdby up"),
        (["stdby up", "stdby up"], "stdby up"),
        (["stdby up", "up", "down"], "warn"),
        (["stdby up", "down", "up"], "warn"),
        (["stdby up", "stdby down"], "warn"),
        (["down", "stdby down"], "stdby down"),
        (["up", "stdby down"], "warn"),
        (["warn", "n/a"], "warn"),
        (["undef", "up"], "up"),
    ],
)
def test_merge(states, merged):
    assert status.settle(status.aggregate(states)) == merged


DATA = {
    "monitor": {
        "services": {"a/svc/b": {"avail": "down", "provisioned": True}},
        "nodes": {"n": {"x": "stdby up"}},
    }
}


@pytest.mark.parametrize(
    ("condition", "answer"),
    [
        ("monitor.services.'a/svc/b'.avail=down", True),
        ("monitor.services.'a/svc/b'.avail=up", False),
        ("monitor.services.'a/svc/b'.provisioned=true", True),
        ("!monitor.services.'a/svc/b'", False),
        ("!monitor.services.'a/svc/c'", True),
        ("!monitor.services.'a/svc/b'.global_expect", True),
        # A search, not a comparison: this is how a switch seems done while the target is a standby.
        ("monitor.nodes.'n'.x~(up|n/a)", True),
        ("monitor.services.'a/svc/c'.avail~(up|n/a)", False),
    ],
)
def test_waits(condition, answer):
    assert waits.satisfied(DATA, condition) is answer


def test_a_slow_evaluation_does_not_hide_what_an_action_left(fake_root, monkeypatch):
    """It began before the action, and ends after it."""
    write_cluster(fake_root)
    write_object(fake_root, "slapos/svc/comp1", {"fs#flag": {"type": "flag"}})
    monkeypatch.setattr(instance, "tell_daemon", lambda request: None)
    slow = instance.Instance("slapos/svc/comp1", console=False)
    later = instance.time.time() + 60
    slow._write({"updated": later, "avail": "stdby up"})
    slow._write({"updated": later - 5, "avail": "warn"})
    assert slow.cached_status()["avail"] == "stdby up"
    slow._write({"updated": later + 5, "avail": "down"})
    assert slow.cached_status()["avail"] == "down"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("osvcd.pid.args", "another-boot 1\n"),
        ("osvcd.pid.args", ""),
        ("osvcd.pid", "1\n"),
        ("osvcd.pid", "999999999\n"),
        ("osvcd.pid", "\0\0\0\0\0"),
    ],
)
def test_a_pid_file_of_before_a_loss_of_power_is_no_daemon(fake_root, name, text):
    """Its number is somebody else's after the boot: the agent was then taken for started, and was not (the lab's fault "host" at "verify")."""
    from standin import env

    env.write_pid_file()
    assert env.daemon_pid() == os.getpid()
    (pathlib.Path(env.pid_file()).parent / name).write_text(text)
    assert env.daemon_pid() is None
