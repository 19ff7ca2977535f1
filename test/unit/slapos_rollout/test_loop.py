"""A rollout at work, with an engine that is played: what is asked for, and not answered yet."""

import pytest
from support import load_module

loop = load_module("_utils/slapos_rollout_loop.py")
rules = load_module("_utils/slapos_rollout.py")

JID = "20261126000000000002"


class Engine:
    """One job, whose beginning is answered for at the third wait; the world knows nothing of it until then."""

    rollout = "20261126000000000001"

    def __init__(self, problem):
        self.problem, self.waits, self.looked = problem, 0, []

    def listen(self):
        pass

    def tell(self, site, phase, **data):
        return True

    def start(self, site, function, given, what):
        return {"jid": JID}

    def answers(self):
        return [(JID, self.problem)] if self.waits == 3 else []

    def event(self, wait):
        self.waits += 1

    def outcome(self, site, jid):
        self.looked.append(self.waits)
        return {"return": {"data": {}}} if self.waits >= 3 else {}

    def forget(self, jid):
        pass


@pytest.mark.parametrize(
    "problem, state, comment",
    [(None, "done", ""), ("no room", "failed", "site paris: its job did not begin: no room")],
)
def test_a_run_that_is_not_answered_for_is_not_looked_for(problem, state, comment):
    engine = Engine(problem)
    tools = {
        "request": lambda name: ("state.orch", {}), "verdict": rules.verdict, "paused": lambda: None, "show": lambda *_: None, "save": lambda *_: None,
    }  # fmt: skip
    # A deadline that is over at once does not take for late what has not begun.
    schedule = rules.schedule([["paris"]], [], 1, 0, 0)
    sites = {
        "paris": {"nodes": ["p1", "p2"], "wave": 1, "canary": False, "state": "waiting", "comment": ""}
    }  # fmt: skip
    done = loop.rollout({"what": "deploy"}, schedule, engine, sites, tools)
    done.go(look=0)
    assert (done.sites["paris"]["state"], done.sites["paris"]["comment"]) == (state, comment)
    assert engine.looked == ([] if problem else [3])
