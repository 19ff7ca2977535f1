"""What a rollout hears of the process that starts its jobs, also where that is late or dies."""

import multiprocessing

import pytest
from salt.exceptions import CommandExecutionError
from support import load_module

jobs = load_module("_utils/slapos_rollout_jobs.py")


JID = "20261126000000000002"


class Starter:
    """Stands for the process: its end of the pipe, and whether it lives."""

    def __init__(self):
        self.pipe, self.theirs = multiprocessing.Pipe()
        self.lives = True

    def is_alive(self):
        return self.lives


@pytest.fixture
def starter():
    return Starter()


@pytest.fixture
def engine(starter, tmp_path, monkeypatch):
    monkeypatch.setattr(jobs.salt.utils.jid, "gen_jid", lambda opts: JID)
    engine = jobs.engine({"cachedir": str(tmp_path)}, {}, "20261126000000000001", None)
    engine._pipe, engine._starter = starter.pipe, starter
    return engine


def begin(engine):
    return engine.start("paris", "state.orch", {"mods": "orch.deploy"}, "deploy")


def test_a_job_that_began_is_recorded(engine, starter):
    assert begin(engine)["jid"] == JID
    # Others need not wait for it.
    assert engine.answers() == []
    starter.theirs.send((JID, None))
    assert engine.answers() == [(JID, None)]
    assert engine.answers() == []


def test_what_the_starter_says_is_told(engine, starter):
    begin(engine)
    starter.theirs.send((JID, "another run of a rollout has the site"))
    assert engine.answers() == [(JID, "another run of a rollout has the site")]


def test_an_answer_that_came_too_late_is_not_that_of_the_next_job(engine, starter):
    begin(engine)
    starter.theirs.send(("20261126000000000000", "no room"))
    starter.theirs.send((JID, None))
    assert engine.answers() == [(JID, None)]


def test_a_starter_that_is_slow_is_given_up(engine, starter, monkeypatch):
    monkeypatch.setattr(jobs, "_START", -1)
    begin(engine)
    assert engine.answers() == [(JID, "not within -1 s")]
    # And knows by when: it begins no job that nobody follows.
    *_, ends = starter.theirs.recv()
    assert ends <= jobs.time.monotonic()
    starter.theirs.send((JID, None))
    assert engine.answers() == []


@pytest.mark.parametrize("inherited", [True, False])
def test_a_starter_that_died_is_noticed(engine, starter, inherited):
    begin(engine)
    starter.lives = False
    if not inherited:
        starter.theirs.close()
    assert engine.answers() == [(JID, "the process that starts jobs has died")]
    if not inherited:
        with pytest.raises(CommandExecutionError, match="paris: its job did not begin: .* has died"):  # fmt: skip
            begin(engine)


def test_what_a_starter_said_before_it_died_counts(engine, starter):
    begin(engine)
    starter.theirs.send((JID, None))
    starter.lives = False
    starter.theirs.close()
    assert engine.answers() == [(JID, None)]


def test_two_looks_may_tidy_up_at_once(engine, tmp_path, monkeypatch):
    look = tmp_path / "slapos_ha/rollout/looks/one"
    look.mkdir(parents=True)
    listed = jobs.os.listdir
    monkeypatch.setattr(
        jobs.os, "listdir", lambda path: [*listed(path), "gone"] if path == engine._looks else listed(path)
    )  # fmt: skip
    engine._tidy()
    assert not look.exists()
