"""When a site may begin: whatever happens in whatever order, what a rollout promises holds."""

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support import load_module

rollout = load_module("_utils/slapos_rollout.py")
ENDED = ("done", "failed", "late")


class Rollout(RuleBasedStateMachine):
    """Sites begin when they may, and end, fail or are late as the example has it."""

    @initialize(
        number=st.integers(1, 12),
        canaries=st.integers(0, 2),
        sizes=st.lists(st.integers(1, 5), min_size=1, max_size=3),
        concurrency=st.integers(1, 4),
        budget=st.integers(0, 4),
    )
    def begin_with(self, number, canaries, sizes, concurrency, budget):
        sites = [f"s{one}" for one in range(number)]
        self.canaries = sites[:canaries]
        planned = rollout.waves(self.canaries, sites[canaries:], sizes)
        self.concurrency, self.budget = concurrency, budget
        self.plan = rollout.schedule(planned, self.canaries, concurrency, budget, 100)
        self.now, self.began, self.reported = 0, [], []

    @precondition(lambda self: self.plan.ready())
    @rule()
    def begin(self):
        ready = self.plan.ready()
        # What is promised of those that begin, looked at where it is decided.
        assert len(self.plan.running) + len(ready) <= self.concurrency
        assert len(self.plan.failed) <= self.budget
        unfinished = [one for one in self.canaries if self.plan.state[one] != "done"]
        assert not unfinished or set(ready) <= set(self.canaries)
        before = {name for wave in self.plan.waves[: self.plan.wave(ready[0]) - 1] for name in wave}
        assert all(self.plan.state[name] in ENDED for name in before)
        self.plan.begin(ready[0], self.now)
        self.began.append(ready[0])

    @precondition(lambda self: self.plan.running)
    @rule(data=st.data(), good=st.booleans())
    def end(self, data, good):
        site = data.draw(st.sampled_from(self.plan.running))
        self.plan.end(site, good)
        self.reported.append(site)

    @rule(seconds=st.integers(1, 60))
    def wait(self, seconds):
        self.now += seconds
        for site in self.plan.overdue(self.now):
            assert self.now - self.plan.since[site] >= 100
            self.plan.late(site)
            self.reported.append(site)

    @rule(data=st.data(), good=st.booleans())
    def a_late_one_ends(self, data, good):
        late = [site for site, state in self.plan.state.items() if state == "late"]
        if late:
            site = data.draw(st.sampled_from(late))
            self.plan.end(site, good)
            assert self.plan.state[site] == "late"

    @invariant()
    def never_more_than_concurrency_at_once(self):
        if hasattr(self, "plan"):
            assert len(self.plan.running) <= self.concurrency

    @invariant()
    def each_begins_once_and_is_reported_once(self):
        if hasattr(self, "plan"):
            assert len(self.began) == len(set(self.began))
            assert sorted(self.reported) == sorted(set(self.began) - set(self.plan.running))

    @invariant()
    def it_is_over_or_something_can_happen(self):
        if hasattr(self, "plan"):
            moves = bool(self.plan.running or self.plan.ready())
            assert self.plan.over() != moves


TestRollout = Rollout.TestCase


@given(st.integers(1, 20), st.integers(1, 5), st.integers(0, 3), st.sets(st.integers(0, 19)))
def test_after_the_budget_is_used_no_new_site_begins(number, concurrency, budget, bad):
    sites = [f"s{one}" for one in range(number)]
    plan = rollout.schedule([sites], [], concurrency, budget, 100)
    began = []
    while not plan.over():
        for site in plan.ready():
            plan.begin(site, 0)
            began.append(site)
        site = plan.running[0]
        plan.end(site, int(site[1:]) not in bad)
        if len(plan.failed) > budget:
            # Those that run end whole, and no other begins.
            assert plan.ready() == []
    failed = [site for site in began if int(site[1:]) in bad]
    assert plan.failed == failed
    assert len(failed) <= budget + concurrency
    if len(failed) <= budget:
        assert began == sites and plan.stopped() is None
    else:
        assert f"{len(failed)} sites failed" in plan.stopped()


def test_a_canary_that_fails_stops_it_whatever_the_budget():
    plan = rollout.schedule([["c"], ["a", "b"]], ["c"], 2, 9, 100)
    plan.begin("c", 0)
    assert plan.ready() == []
    plan.end("c", False)
    assert plan.over() and plan.waiting == ["a", "b"]
    assert plan.stopped() == "the canary c failed"


def test_a_late_site_costs_only_itself():
    plan = rollout.schedule([["a", "b"], ["c"]], [], 1, 1, 100)
    plan.begin("a", 0)
    assert plan.overdue(99) == [] and plan.ready() == []
    assert plan.overdue(100) == ["a"]
    plan.late("a")
    assert plan.ready() == ["b"] and plan.failed == ["a"]
    plan.begin("b", 100)
    plan.end("b", True)
    assert plan.ready() == ["c"]
    plan.end("a", True)
    assert plan.failed == ["a"]


def test_those_that_run_already_count():
    plan = rollout.schedule([["a", "b", "c"]], [], 1, 0, 100)
    for site in ("a", "b"):
        plan.begin(site, 0)
    assert plan.ready() == []
    plan.end("a", True)
    assert plan.ready() == []
    plan.end("b", True)
    assert plan.ready() == ["c"]
