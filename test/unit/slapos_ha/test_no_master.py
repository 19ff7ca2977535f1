"""The Salt master dies while a step runs: what went wrong is said, although nobody hears the bus."""

import contextlib
import logging

import pytest
import salt.utils.event
import salt.utils.user
from salt.exceptions import CommandExecutionError
from support import load_module

from .world import step_util

SITE = type("Site", (), {"shape": {"site": "paris"}, "forced": [], "notes": [], "changes": {}, "agent_seconds": 0.0})  # fmt: skip
UTILS = {
    "slapos_site.told": lambda error: f"{error}\nStart it.",
    "slapos_site_lock.holders": lambda opts: [{"id": "mine"}],
}


OPTS = {"sock_dir": "/nowhere"}


class Bus(contextlib.nullcontext):
    def __init__(self, fire):
        super().__init__()
        self.fire_event = fire


def silent(*_):
    return False


def closed(*_):
    raise OSError("Stream is closed")


@pytest.fixture
def put(monkeypatch):
    """Give the master's bus this way of taking an event."""
    return lambda fire: monkeypatch.setattr(
        salt.utils.event, "get_master_event", lambda *_, **__: Bus(fire)
    )


@pytest.mark.parametrize("fire", [silent, closed])
def test_a_step_that_stops_is_logged_where_the_bus_is_dead(put, caplog, fire):
    put(fire)

    def act(site):
        raise CommandExecutionError("the Salt master cannot publish")

    steps = step_util.steps(OPTS, UTILS, "deploy")
    caplog.set_level(logging.ERROR)
    answer = steps.do("sync", "DRBD is in sync", act, SITE(), "mine")
    assert answer["result"] is False and "cannot publish" in answer["comment"]
    assert [record.getMessage() for record in caplog.records] == [
        "slapos_ha: step sync stopped: the Salt master cannot publish\nStart it."
    ]


def test_a_step_that_nobody_hears_of_is_done_all_the_same(put, caplog):
    put(closed)
    caplog.set_level(logging.ERROR)
    steps = step_util.steps(OPTS, UTILS, "deploy")
    answer = steps.do("sync", "DRBD is in sync", lambda site: None, SITE(), "mine")
    assert answer["result"] is True and caplog.records == []


def test_where_it_is_heard_nothing_is_logged(put, caplog):
    put(lambda *_: True)
    caplog.set_level(logging.ERROR)
    steps = step_util.steps(OPTS, UTILS, "deploy")
    assert steps.stopped(CommandExecutionError("no"), "sync", "paris")["result"] is False
    assert caplog.records == []


def test_a_runner_that_salt_cannot_announce_is_a_failed_state():
    def runner(*_, **__):
        raise OSError("Stream is closed")

    state = load_module(
        "_states/slapos_ha.py",
        __salt__={"saltutil.runner": runner},
        __opts__={"user": "another"},
    )
    ret = {}
    assert state._run(ret, "slapos_ha.step", "sync", {}) == {}
    assert ret["result"] is False and "the step sync was begun" in ret["comment"]
    assert "Start salt-master and run the orchestration again" in ret["comment"]


def test_one_client_serves_the_steps_of_a_run(monkeypatch):
    made = []

    class Client:
        def __init__(self, opts):
            made.append(opts)

        def cmd(self, runner, arg, kwarg, pub_data, print_event, full_return):
            assert full_return and not print_event and pub_data == {"user": "me"}
            return {"return": {"result": True, "comment": f"{runner} {arg} {kwarg}", "changes": {}}}

    opts = {"user": "me", "master_job_cache": "local_cache"}
    monkeypatch.setattr(salt.utils.user, "get_user", lambda: "me")
    state = load_module("_states/slapos_ha.py", __opts__=opts)
    monkeypatch.setattr(state.salt.runner, "RunnerClient", Client)
    for step in ("sync", "tasks"):
        ret = {}
        state._run(ret, "slapos_ha.step", step, {"site": "paris"})
        assert ret["comment"] == f"slapos_ha.step ['{step}'] {{'site': 'paris'}}"
    assert made == [opts]
