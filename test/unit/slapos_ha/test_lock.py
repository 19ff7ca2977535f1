"""The site's lock: one has it, the kernel frees it, and who loses it gets to know."""

import json
import multiprocessing
import os
import signal
import time

import pytest
from salt.exceptions import CommandExecutionError

from .world import lock_util

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def opts(tmp_path):
    return {"cachedir": str(tmp_path)}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "slapos_ha/paris.lock"


def take(opts, user="alice", expires=3600, **kwargs):
    owner = {"user": user, "jid": "20260101", "run": "orch.deploy"}
    return lock_util.take(opts, kwargs.pop("site", "paris"), owner, expires, **kwargs)


def in_a_process(opts, then):
    """Another process takes the lock, says so, and does ``then``; returns it when it has the lock."""
    here, there = FORK.Pipe()

    def run():
        lock = take(opts, "bob")
        lock.renew("sync")
        there.send(lock.id)
        then(lock)

    process = FORK.Process(target=run)
    process.start()
    assert here.poll(30)
    process.lock_id = here.recv()
    return process


def wait_for_ever(lock):
    signal.pause()


@pytest.fixture
def bob(opts):
    process = in_a_process(opts, wait_for_ever)
    yield process
    process.kill()
    process.join()


def test_nobody_has_a_site_that_nobody_took(opts, path):
    assert lock_util.holders(opts) == [] and not path.parent.exists()


def test_taken_and_given_back(opts, path):
    lock = take(opts)
    assert lock.notes == []
    (owner,) = lock_util.holders(opts)
    assert owner["id"] == lock.id and owner["pid"] == os.getpid()
    assert owner["user"] == "alice" and owner["step"] == "preflight"
    lock.renew("sync")
    assert lock_util.holders(opts)[0]["step"] == "sync"
    lock.release()
    lock.release()
    assert lock_util.holders(opts) == [] and not path.exists()
    assert take(opts, "bob").notes == []


def test_nothing_is_writable_by_others(opts, path):
    lock = take(opts)
    assert path.stat().st_mode & 0o777 == 0o644 and path.parent.stat().st_mode & 0o022 == 0
    lock.release()


def test_who_comes_second_is_told_who_has_it_since_when_and_what_to_do(opts, bob):
    with pytest.raises(CommandExecutionError) as raised:
        take(opts)
    text, remedy = str(raised.value), raised.value.remedy
    assert f"orch.deploy of bob on {os.uname().nodename} (process {bob.pid}, job 20260101)" in text
    assert "site paris is in use" in text and " UTC (" in text and "at step sync" in text
    assert f"end process {bob.pid}" in remedy and '{"site": "paris", "steal": true}' in remedy
    assert [owner["id"] for owner in lock_util.holders(opts)] == [bob.lock_id]


def test_one_site_is_not_in_the_way_of_another(opts, bob):
    lyon = take(opts, site="lyon")
    assert [owner["site"] for owner in lock_util.holders(opts)] == ["lyon", "paris"]
    lyon.release()


def test_a_process_that_is_killed_has_it_no_more(opts, bob):
    os.kill(bob.pid, signal.SIGKILL)
    bob.join()
    assert lock_util.holders(opts) == []
    lock = take(opts)
    assert len(lock.notes) == 1
    assert (
        "of bob" in lock.notes[0] and "at step sync without giving the lock back" in lock.notes[0]
    )
    lock.release()


def test_an_object_that_is_dropped_has_it_no_more(opts):
    lock = take(opts)
    assert lock_util.holders(opts)
    del lock
    assert lock_util.holders(opts) == []


def test_a_child_that_was_forked_meanwhile_does_not_keep_it(opts):
    lock = take(opts)
    child = FORK.Process(target=signal.pause)
    child.start()
    lock.release()
    assert lock_util.holders(opts) == []
    take(opts).release()
    child.kill()
    child.join()


def test_stealing(opts):
    bob = take(opts, "bob")
    bob.renew("sync")
    lock = take(opts, steal=True)
    assert "took the lock over from orch.deploy of bob" in lock.notes[0]
    assert "at step sync" in lock.notes[0]
    with pytest.raises(CommandExecutionError) as raised:
        bob.renew("provision")
    text = str(raised.value)
    assert "this run has lost the lock of site paris" in text
    assert "the step provision is not begun" in text and "orch.deploy of alice" in text
    # What is not his any more is not his to give back.
    bob.release()
    assert [owner["id"] for owner in lock_util.holders(opts)] == [lock.id]
    lock.renew("sync")
    lock.release()


def test_stealing_what_nobody_has(opts):
    lock = take(opts, steal=True)
    assert lock.notes == []
    lock.release()


def test_a_step_that_takes_longer_than_all_timeouts_may_be_taken_over(opts, monkeypatch):
    bob = take(opts, "bob", expires=3600)
    bob.renew("sync")
    now = time.time()
    monkeypatch.setattr(lock_util.time, "time", lambda: now + 3590)
    with pytest.raises(CommandExecutionError, match="in use"):
        take(opts)
    # It counts from the beginning of the step, not of the run.
    bob.renew("provision")
    monkeypatch.setattr(lock_util.time, "time", lambda: now + 3590 + 3590)
    with pytest.raises(CommandExecutionError, match=r"at step provision \(59 min ago\)"):
        take(opts)
    monkeypatch.setattr(lock_util.time, "time", lambda: now + 3590 + 3610)
    lock = take(opts)
    assert "its step provision began 60 min ago, longer than the 60 min" in lock.notes[0]
    with pytest.raises(CommandExecutionError, match="lost the lock"):
        bob.renew("software")
    lock.release()


def test_a_lock_whose_file_was_removed_is_lost(opts, path):
    lock = take(opts)
    path.unlink()
    with pytest.raises(CommandExecutionError, match="its file .*paris.lock is gone"):
        lock.renew("sync")
    lock.release()
    take(opts).release()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"user": "bob"'])
def test_half_a_file_of_somebody_who_was_killed(opts, path, text):
    path.parent.mkdir()
    path.write_text(text)
    lock = take(opts)
    assert "unknown" in lock.notes[0]
    lock.release()


def test_the_file_is_whole_after_each_step(opts, path):
    lock = take(opts)
    for step in ("a step with a long name", "sync"):
        lock.renew(step)
        assert json.loads(path.read_text())["step"] == step
    lock.release()


@pytest.mark.parametrize("site", ["", None, "../paris", ".", "a/b"])
def test_a_site_without_a_name_for_a_file(opts, site):
    with pytest.raises(CommandExecutionError, match="is no name of a site"):
        take(opts, site=site)


def test_a_folder_that_cannot_be_had(tmp_path):
    (tmp_path / "slapos_ha").write_text("")
    with pytest.raises(CommandExecutionError, match="the site's lock: ") as raised:
        take({"cachedir": str(tmp_path)})
    assert "belongs to the user as whom salt-master runs" in raised.value.remedy


def test_of_many_at_once_one_gets_it(opts):
    start, results = FORK.Event(), FORK.Queue()
    hold = FORK.Event()

    def run():
        start.wait()
        try:
            lock = take(opts)
        except CommandExecutionError:
            results.put(False)
            return
        results.put(True)
        hold.wait()
        lock.release()

    processes = [FORK.Process(target=run) for _ in range(12)]
    for process in processes:
        process.start()
    start.set()
    try:
        assert sorted(results.get(timeout=60) for _ in processes) == [False] * 11 + [True]
    finally:
        hold.set()
        for process in processes:
            process.join()
    assert lock_util.holders(opts) == []
