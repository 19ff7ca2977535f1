"""The runner under Salt's own loader; the minions are played, and the sites' jobs are too."""

import json
import pathlib
import stat
import time

import pytest
import salt.client
import salt.loader
import salt.runner
import salt.utils.event
import yaml

from ..slapos_ha.test_runner import master_opts, orchestrate
from .estate import Estate

JOBS = "slapos_rollout_jobs"


class Jobs:
    """
    An engine whose jobs end as they are told: {site: how many waits for an event it takes, "hang", or what is returned}.

    ``events`` is what happens at a wait: functions, each called once, in their order.
    """

    def __init__(self, rollout, held, ways, before):
        self.rollout, self.changing, self.ways = rollout, held is not None, ways
        self.started, self.told, self.running, self.most, self.halted = [], [], {}, 0, []
        self.before, self.waits, self.deaf_until = before, {}, 0
        # Jobs that nobody has answered for yet.
        self.at, self.asked = {}, []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def listen(self):
        pass

    def run(self, site):
        return self.before.get(site, ({}, False))

    def result(self, jid):
        return self.ways.get(jid)

    def start(self, site, function, given, what):
        self.started.append((site, function, given))
        self.running[site] = self.ways.get(site, 1)
        self.most = max(self.most, len(self.running))
        self.asked.append(f"2026{site}")
        return {"jid": f"2026{site}"}

    def answers(self):
        asked, self.asked = self.asked, []
        return [(jid, None) for jid in asked]

    def event(self, wait):
        self.waits["all"] = self.waits.get("all", 0) + 1
        if self.waits["all"] in self.at:
            self.at.pop(self.waits["all"])()
        for site, way in self.running.items():
            if isinstance(way, int):
                self.running[site] -= 1
                if way == 1:
                    del self.running[site]
                    return f"2026{site}", ended(True)
                return site, {"run": "deploy", "step": "sync", "phase": "begin", "at": 5.0}
            if isinstance(way, dict):
                del self.running[site]
                return f"2026{site}", way
        return None

    def outcome(self, site, jid):
        return (
            None if self.running.get(site) == "hang" or jid == "alive" else self.ways.get(jid, None)
        )

    def step(self, site, jid):
        return "sync"

    def halt(self, site, jid):
        self.halted.append((site, jid))
        # It hangs on in its place, but no more in ours.
        del self.running[site]
        return f"job {jid} still runs its step sync"

    def forget(self, jid):
        pass

    def tell(self, site, phase, **data):
        self.told.append((site, phase))
        return self.waits.get("all", 0) >= self.deaf_until


def ended(good, comment="all is well"):
    state = {
        "__id__": "The site is whole", "__run_num__": 0, "result": good, "comment": comment, "changes": {"x": "hunter2"}, "start_time": "10:00:00.0", "duration": 2000,
    }  # fmt: skip
    return {
        "return": {
            "data": {"master_master": {"slapos_ha_|-a_|-a_|-step": state}},
            "retcode": int(not good),
        }
    }


@pytest.fixture(scope="module")
def opts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("master")
    opts = master_opts(folder)
    opts["pillar_roots"] = {"base": [str(folder / "pillar")]}
    (folder / "pillar").mkdir()
    (folder / "pillar/top.sls").write_text(yaml.safe_dump({"base": {"d*": ["site"]}}))
    (folder / "pillar/site.sls").write_text(yaml.safe_dump({"slapos_ha": {"site": "d"}}))
    salt.loader.runner(opts, utils=salt.loader.utils(opts))["saltutil.sync_all"]()
    return opts


@pytest.fixture
def estate(tmp_path, monkeypatch):
    estate = Estate.make(tmp_path / "estate", a=None, b=None, c=None, d=None)
    monkeypatch.setattr(salt.client, "get_local_client", lambda *_, **__: estate)
    monkeypatch.setattr(salt.utils.event.SaltEvent, "fire_event", lambda *_, **__: True)
    return estate


@pytest.fixture
def master(opts, estate):
    """The master's runners; ``ways`` is how jobs end, ``before`` what an earlier rollout left, ``jobs`` the last engine."""
    with salt.runner.RunnerClient(opts) as client:
        client.ways, client.before, client.at, client.jobs, client.deaf_until = {}, {}, {}, None, 0

        def engine(opts, utils, rollout, held):
            client.jobs = Jobs(rollout, held, client.ways, client.before)
            client.jobs.at, client.jobs.deaf_until = client.at, client.deaf_until
            return client.jobs

        assert client.functions["slapos_ha_rollout.run"]
        client.utils[f"{JOBS}.take"]
        client.utils[f"{JOBS}.engine"] = engine
        yield client
        client.functions["slapos_ha_rollout.resume"]()


def rolled(master, *what, function="run", **given):
    """(exit code, text) as salt-run has it."""
    data = master.functions[f"slapos_ha_rollout.{function}"](*what, **given)["data"]
    return data.get("retcode", 0), " ".join(data["rollout"].split())


def everything(master, **given):
    return rolled(master, sites="*", only_differing=False, **given)


# --- The course of it -----------------------------------------------------------------------------------------------------------------------


def test_canary_then_waves_and_never_more_than_concurrency(master):
    master.ways.update(a=2, b=3, c=1, d=2)
    code, text = everything(master, canary="c", waves=[1, 2], concurrency=2)
    assert code == 0, text
    assert [site for site, *_ in master.jobs.started] == ["c", "a", "b", "d"]
    assert master.jobs.started[0][1:] == (
        "state.orch",
        {"mods": "orch.deploy", "pillar": {"slapos_ha": {"site": "c"}}},
    )
    assert master.jobs.most == 2
    assert text.count("all is well") == 4 and "2026c" in text
    phases = [phase for site, phase in master.jobs.told if site == "c"]
    assert phases == ["begin", "started", "done"]
    assert master.jobs.told[0] == ("-", "begin") and master.jobs.told[-1] == ("-", "end")


def test_the_first_that_fails_stops_new_ones_and_those_that_run_end_whole(master):
    master.ways.update(a=ended(False, "no room [on] <disk>"), b=3)
    code, text = everything(master, concurrency=2)
    assert code == 1
    assert [site for site, *_ in master.jobs.started] == ["a", "b"]
    assert "FAILED" in text and "no room [on] <disk>" in text and text.count("not begun") >= 2
    assert "no more site was begun: 1 sites failed (a), and 0 may" in text
    assert ("b", "done") in master.jobs.told and ("-", "stopped") in master.jobs.told


def test_a_budget_lets_it_go_on_and_the_exit_code_says_so(master):
    master.ways["a"] = ended(False)
    code, text = everything(master, budget="25%")
    assert code == 1 and len(master.jobs.started) == 4 and "no more site" not in text


def test_a_site_that_hangs_costs_only_itself(master):
    master.ways["a"] = "hang"
    code, text = everything(master, concurrency=1, deadline=1, budget=1)
    assert code == 1 and master.jobs.halted == [("a", "2026a")]
    assert [site for site, *_ in master.jobs.started] == ["a", "b", "c", "d"]
    assert (
        "LATE" in text and "it did not end within 1 s: job 2026a still runs its step sync" in text
    )


def test_a_job_that_died_is_seen_without_an_event(master):
    master.ways.update({"a": "gone", "2026a": {}})
    code, text = everything(master, deadline=1, budget=1)
    assert code == 1 and "job 2026a has ended without a result" in text


def test_pause_and_resume(master):
    resume = master.functions["slapos_ha_rollout.resume"]
    assert "paused: no rollout is at work" in master.functions["slapos_ha_rollout.pause"]()
    master.at[3] = resume
    code, text = everything(master)
    assert code == 0, text
    told = [phase for site, phase in master.jobs.told if site == "-"]
    assert told == ["begin", "paused", "resumed", "end"]
    assert master.jobs.told.index(("-", "resumed")) < master.jobs.told.index(("a", "begin"))
    assert resume() == "was not paused: no rollout is at work"


def test_no_site_begins_while_the_master_does_not_answer(master, capsys):
    master.deaf_until = 3
    code, _ = everything(master)
    assert code == 0
    said = capsys.readouterr().err
    assert said.count("the Salt master does not answer") == 1
    assert len(master.jobs.started) == 4


def test_a_run_that_does_not_begin_costs_its_site_only_and_keeps_nobody_waiting(master, monkeypatch):  # fmt: skip
    def answers(self):
        # That of a comes when all others are over; until then there is nothing of a to look for.
        due = [jid for jid in self.asked if jid != "2026a" or ("d", "done") in self.told]
        self.asked = [jid for jid in self.asked if jid not in due]
        return [(jid, "not within 120 s" if jid == "2026a" else None) for jid in due]

    monkeypatch.setattr(Jobs, "answers", answers)
    monkeypatch.setattr(Jobs, "outcome", lambda self, site, jid: {} if site == "a" else None)
    master.ways["a"] = "hang"
    code, text = everything(master, concurrency=2, budget=1)
    assert code == 1 and "site a: its job did not begin: not within 120 s" in text
    assert [phase for site, phase in master.jobs.told if site == "a"] == ["begin", "failed"]
    assert {site for site, phase in master.jobs.told if phase == "done"} == {"b", "c", "d"}


def test_a_line_for_each_change_where_there_is_no_terminal(master, capsys):
    master.ways["a"] = 2
    everything(master)
    lines = [line.partition(" ")[2] for line in capsys.readouterr().err.splitlines()]
    assert [line for line in lines if line.startswith("a: ")] == [
        "a: started, job 2026a",
        "a: step sync",
        "a: done after 0 s: all is well",
    ]


# --- Which sites ----------------------------------------------------------------------------------------------------------------------------


def test_all_minions_are_asked_in_one_job_and_once_for_each_test(master, estate):
    estate.grains({"a1": True, "a2": True, "b1": True})
    code, text = rolled(master, grain="os:Debian", only_differing=False)
    assert code == 0 and [site for site, *_ in master.jobs.started] == ["a"]
    # Each is of one function: beside a job of several no state run begins on its minion.
    assert [(one["site"], one["what"], one["more"]) for one in estate.log()] == [
        ("everyone", "slapos_ha.facts", []),
        ("match.grain", "a1 a2 b1 b2 c1 c2 d1 d2", ["os:Debian"]),
    ]
    assert (
        "site b is left out: one of its nodes fits the pillar or grain, and the other does not"
        in text
    )


def test_who_does_not_say_whether_it_fits_is_named(master, estate):
    estate.grains({"a1": True, "a2": True, "d1": None, "d2": "TypeError: no"})
    code, text = rolled(master, grain="os:Debian", only_differing=False)
    assert code == 1 and not master.jobs.started
    assert "site d: minion d1: does not answer" in text
    assert "site d: minion d2: TypeError: no" in text


def test_where_nobody_answers_nobody_is_asked_whether_it_fits(master, estate):
    estate.say(dict.fromkeys(estate.facts))
    code, text = rolled(master, grain="os:Debian", only_differing=False)
    assert code == 1 and not master.jobs.started
    assert "site d: minion d1: does not answer" in text
    assert [one["site"] for one in estate.log()] == ["everyone"]


def test_only_what_differs(master, estate):
    said = estate.facts
    for node in ("b1", "b2"):
        said[node]["mounted"] = False
    estate.say(said)
    (estate.folder / "differs/c2").touch()
    code, text = rolled(master, sites="*")
    assert code == 0, text
    assert [site for site, *_ in master.jobs.started] == ["b", "c"]
    # All that look whole are asked in one job whether a highstate would change anything.
    assert [one["what"] for one in estate.log() if one["site"] == "differing"] == [
        "a1 a2 c1 c2 d1 d2"
    ]
    assert text.count("nothing is to do, and all is well") == 2


def silent(estate, *minions):
    estate.say({**estate.facts, **dict.fromkeys(minions)})


def test_who_is_silent_is_named_before_anything_starts(master, estate, opts):
    silent(estate, "a2", "d1", "d2", "e1")
    code, text = everything(master)
    assert code == 1 and not master.jobs.started
    assert "site a: slapos_ha:cluster:nodes:a2: " in text
    assert "site d: minion d1: does not answer" in text and "site d: minion d2" in text
    assert "e1" not in text and text.endswith("skip_unreachable=true. Nothing was started.")
    # Those that were not chosen are in nobody's way.
    assert rolled(master, sites="b,c", only_differing=False)[0] == 0


def test_unreachable_sites_are_left_out_and_listed_and_not_forgotten(master, estate):
    silent(estate, "a2")
    code, text = everything(master, skip_unreachable=True)
    assert code == 1 and [site for site, *_ in master.jobs.started] == ["b", "c", "d"]
    assert "not reached" in text and ("a", "skipped") in master.jobs.told


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"sites": "mars*"}, "sites: 'mars*' is no site, and fits none; the sites of this master: a, b, c, d Nothing was started."),
        ({"sites": "a", "concurrency": 0}, "concurrency: 0 is not right"),
        ({"sites": "a", "canary": "b"}, "canary: 'b' is not among the chosen sites: a"),
        ({"sites": "a", "colour": "red"}, "colour: there is no such argument"),
        ({"sites": "a", "report": "/nowhere/at/all"}, "report: '/nowhere/at' is no folder"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_one_clear_error(master, given, said):
    code, text = rolled(master, **given)
    assert code == 1 and text.startswith(said) and master.jobs is None


# --- After a rollout that died --------------------------------------------------------------------------------------------------------------


def test_a_rollout_that_died_is_continued(master, opts, monkeypatch):
    monkeypatch.setattr(Jobs, "event", lambda *_: (_ for _ in ()).throw(SystemExit))
    code, text = everything(master, concurrency=2)
    assert code == 1 and "The same command again follows them and goes on" in text
    first = master.jobs.rollout
    monkeypatch.undo()
    record = {"what": "deploy", "rollout": first, "since": 1.0}
    master.before.update(
        a=({**record, "jid": "old"}, False), b=({**record, "jid": "2026b", "since": 9e9}, True), c=({**record, "rollout": "7", "jid": "older"}, False),
    )  # fmt: skip
    master.ways.update(
        {"old": ended(True), "older": ended(True), "2026b": ended(True, "b has ended")}
    )
    monkeypatch.setattr(Jobs, "outcome", lambda self, site, jid: self.ways.get(jid))
    monkeypatch.setattr(
        salt.client,
        "get_local_client",
        lambda *_, **__: Estate(pathlib.Path(opts["root_dir"]) / "again"),
    )
    Estate.make(pathlib.Path(opts["root_dir"]) / "again", a=None, b=None, c=None, d=None)
    master.at[1] = lambda: master.jobs.running.update(b=1)
    code, text = everything(master, concurrency=2)
    assert code == 0, text
    assert master.jobs.rollout == first
    assert [site for site, *_ in master.jobs.started] == ["c", "d"]
    assert ("b", "followed") in master.jobs.told
    assert "done before this rollout was run again, by job old" in text
    # As long as its steps took.
    assert " a 1 done 2 s old " in text


def test_a_site_where_another_rollout_runs_is_named(master):
    master.before["a"] = ({"what": "teardown", "rollout": "7", "jid": "8", "since": 1.0}, True)
    code, text = everything(master)
    assert code == 1 and not master.jobs.started
    assert "site a: a run of teardown that another rollout has begun still runs, job 8" in text


def test_one_rollout_at_a_time_but_looking_is_free(master, opts):
    jobs = master.utils
    held, _ = jobs[f"{JOBS}.take"](
        opts, {"what": "deploy", "user": "bob", "pid": 7, "id": "5", "since": 0}
    )
    try:
        code, text = everything(master)
        assert code == 1 and "a rollout is at work on this master: deploy of bob since 1970" in text
        assert everything(master, function="plan")[0] == 0
        assert "paused: rollout 5 of deploy" in master.functions["slapos_ha_rollout.pause"]()
        assert "resumed: rollout 5 of deploy" in master.functions["slapos_ha_rollout.resume"]()
    finally:
        jobs[f"{JOBS}.over"](held)


# --- What else is rolled out, and looked at -------------------------------------------------------------------------------------------------


def test_dangerous_things_are_said_site_by_site(master):
    code, text = rolled(
        master, "teardown", sites="a,b", site_arguments={"a": {"destroy_data": "comp1"}}
    )
    assert code == 0, text
    assert [given["pillar"]["slapos_ha"] for *_, given in master.jobs.started] == [
        {"site": "a", "destroy_data": "comp1"},
        {"site": "b"},
    ]


def test_a_status_of_many_sites(master):
    fine = {"return": {"data": {"a": "table\nAll is well."}, "outputter": "nested"}}
    bad = {"return": {"data": {"b": "table\nNot well:\n- demo2 is frozen", "retcode": 1}}}
    master.ways.update(a=fine, b=bad)
    code, text = rolled(master, "status", sites="a,b", budget=2)
    assert code == 1 and "All is well." in text and "- demo2 is frozen" in text
    assert {function for _, function, _ in master.jobs.started} == {
        "slapos_ha.status"
    } and not master.jobs.changing


LOOK = {
    "return": {
        "result": True,
        "comment": "site a",
        "changes": {},
        "plan": [{"step": "sync", "done": False, "always": False}],
    }
}


def test_a_plan_shows_waves_and_what_each_site_would_do(master):
    refused = {
        "return": {**LOOK["return"], "result": False, "comment": "port 80 is not right", "plan": []}
    }
    master.ways.update(a=LOOK, b=refused, c=LOOK, d=LOOK)
    code, text = everything(master, function="plan", canary="a", waves=[2], budget="50%")
    assert code == 1 and not master.jobs.changing
    assert {(function, given["name"]) for _, function, given in master.jobs.started} == {
        ("slapos_ha.step", "preflight")
    }
    assert text.count("to do: sync") == 3 and "port 80 is not right" in text
    assert "wave 1: a wave 2: b, c wave 3: d" in text and "5 sites at once, 2 may fail" in text


def test_the_orchestration(master):
    (state,) = orchestrate(
        master.functions,
        "orch.rollout",
        pillar={"slapos_ha_rollout": {"sites": "a,b", "only_differing": False}},
    )
    assert state["result"] is True, state["comment"]
    assert state["changes"] == {name: {"old": None, "new": "done"} for name in "ab"}


def test_the_entry_that_hands_over(master):
    answer = master.functions["slapos_ha.rollout"]("status", "a", concurrency=0)
    assert answer["data"]["retcode"] == 1 and "concurrency: 0" in answer["data"]["rollout"]


# --- The report -----------------------------------------------------------------------------------------------------------------------------


def test_a_report_is_written_for_its_owner_only_and_has_no_secrets(master, tmp_path):
    master.ways["a"] = ended(False, "no room")
    code, text = everything(master, report=str(tmp_path), budget=4)
    assert code == 1
    files = sorted(tmp_path.glob("rollout-*"))
    assert [path.suffix for path in files] == [".html", ".json"] and all(
        str(path) in text for path in files
    )
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert not any(
        "hunter2" in path.read_text() or "change-me" in path.read_text() for path in files
    )
    said = json.loads(files[1].read_text())
    assert said["counts"] == {"failed": 1, "done": 3} and said["good"] is False
    assert said["sites"][0]["steps"][0] == {
        "name": "The site is whole", "at": 0.0, "seconds": 2.0, "result": False, "comment": "no room", "changed": True,
    }  # fmt: skip


def test_a_report_is_not_written_all_the_time_and_at_the_end_always(master, tmp_path, monkeypatch):
    written = []

    def slow(report, places, words, duration):
        now[0] += 10
        written.append(dict(report["counts"]))

    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    assert master.functions["slapos_ha_rollout.run"]
    master.utils["slapos_rollout_page.write"] = slow
    # One after the other; the second ends within the first's twentyfold, the third after it.
    master.ways.update(b=2, c=3, d=4)
    master.at[4] = lambda: now.__setitem__(0, now[0] + 200)
    assert everything(master, report=str(tmp_path))[0] == 0
    assert written == [{"done": 1, "running": 3}, {"done": 3, "running": 1}, {"done": 4}]


def test_a_report_that_cannot_be_written_any_more_stops_nothing(master, tmp_path):
    folder = tmp_path / "reports"
    folder.mkdir()
    master.at[1] = folder.rmdir
    code, text = everything(master, report=str(folder / "night"))
    assert code == 0 and "the report is not as of the end" in text and len(master.jobs.started) == 4
