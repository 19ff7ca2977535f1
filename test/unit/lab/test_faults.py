"""Faults in the middle of a deployment: what is judged, without a lab."""

import datetime
import os
import pathlib
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slaplab import (
    campaigns,
    cli,
    faults,
    links,
    site,
    witness,
)


def chain(count):
    lines, before = [], ""
    for number in range(1, count + 1):
        before = witness.link(number, before)
        lines.append(before)
    return lines


# --- How many at once -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spans, expected",
    [
        ([], 0),
        ([["demo1", 1, None]], 1),
        ([["demo1", 1, 5], ["demo2", 6, None]], 1),
        # Gone in the moment in which it comes elsewhere.
        ([["demo1", 1, 5], ["demo2", 5, None]], 1),
        ([["demo1", 1, 5], ["demo2", 4.9, None]], 2),
        ([["demo1", 1, None], ["demo2", 4, 5]], 2),
        # The same host twice is one host.
        ([["demo1", 1, 6], ["demo1", 5, 8]], 1),
        # Outside of what is asked for.
        ([["demo1", 50, 60], ["demo2", 50, 60]], 0),
    ],
)
def test_most_at_once(spans, expected):
    assert witness.most(spans, 0, 10) == expected


SPAN = st.tuples(st.sampled_from(["demo1", "demo2"]), st.integers(0, 20), st.integers(1, 5)).map(
    lambda span: [span[0], span[1], span[1] + span[2]]
)


@given(st.lists(SPAN, max_size=6))
def test_most_at_once_is_what_each_moment_shows(spans):
    halves = [moment + 0.5 for moment in range(26)]
    expected = max(len({s[0] for s in spans if s[1] < at < s[2]}) for at in halves)
    assert witness.most(spans, 0, 26) == expected


# --- The chain ------------------------------------------------------------------------------------------------------------------------------------


def test_a_chain_that_is_whole():
    assert witness.broken(chain(5)) == "" and witness.broken([]) == ""


@pytest.mark.parametrize(
    "spoil, where",
    [
        (lambda lines: lines[:2] + lines[3:], "line 3"),
        (lambda lines: [*lines[:2], "3 0000", *lines[3:]], "line 3"),
        (lambda lines: [lines[1], lines[0], *lines[2:]], "line 1"),
        (lambda lines: lines + lines[-1:], "line 6"),
    ],
)
def test_a_chain_that_is_broken(spoil, where):
    assert witness.broken(spoil(chain(5))).startswith(where)


def test_lost_lines():
    lines = chain(5)
    assert witness.lost(lines[:4], lines) == [] and witness.lost(lines, lines[:3]) == lines[3:]


def test_nothing_is_written_into_a_bare_mount_point(tmp_path):
    point = tmp_path / "mount"
    point.mkdir()
    assert witness.append(str(point)) is None and list(point.iterdir()) == []


@pytest.fixture
def mounted(tmp_path, monkeypatch):
    """A folder that counts as a mounted filesystem."""
    stat = os.stat
    other = SimpleNamespace(st_dev=-1)
    monkeypatch.setattr(
        os, "stat", lambda path, **kw: other if path == str(tmp_path) else stat(path, **kw)
    )
    point = tmp_path / "mount"
    point.mkdir()
    return point


def test_lines_are_appended_and_a_torn_one_is_dropped(mounted):
    said = [witness.append(str(mounted)) for _ in range(3)]
    log = mounted / witness.LOG
    assert log.read_text().splitlines() == said == chain(3)
    log.write_text(log.read_text() + "4 0123")
    assert witness.append(str(mounted)) == chain(4)[-1]
    assert witness.broken(log.read_text().splitlines()) == ""


def test_a_long_file_is_gone_on_with(mounted):
    log = mounted / witness.LOG
    log.write_text("".join(f"{line}\n" for line in chain(200)))
    assert witness.append(str(mounted)) == chain(201)[-1]
    assert log.read_text().splitlines() == chain(201)


def test_a_link_in_the_place_of_the_file_is_not_followed(mounted, tmp_path):
    (mounted / witness.LOG).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError):
        witness.append(str(mounted))
    assert not (tmp_path / "elsewhere").exists()


# --- What became of a run ---------------------------------------------------------------------------------------------------------------------------

TITLES = {"one": "First", "two": "Second", "three": "Third"}


def state(result, comment):
    return {"result": result, "comment": comment, "changes": {}}


def test_the_steps_are_those_of_the_orchestration():
    steps = list(faults.orchestration())
    assert steps[0] == "preflight" and steps[-1] == "verify" and len(steps) == 18
    assert {step for _, step in faults.SHORT} <= set(steps)
    assert {kind for kind, _ in faults.SHORT} == set(faults.FAULTS)
    assert faults.acting("re6st_second") == "demo2" and faults.acting("re6st_back") == "demo1"


def test_what_became_of_a_run():
    states = {
        "First": state(True, "already so"),
        "Second": state(True, "demo1: done"),
        "Third": state(False, "demo1: no\nmore"),
    }
    expected = [("one", "done before"), ("two", "went on"), ("three", "stopped")]
    assert faults.judge("one", states, TITLES) == expected
    assert faults.judge("two", states, TITLES) == expected[1:]
    # A run that said nothing stopped where it was.
    assert faults.judge("two", {}, TITLES) == [("two", "stopped")]


def test_the_first_line_of_an_error():
    answer = site.Run(1, "", 1.0)
    assert faults.complaint(answer) == ("nothing was said", False)
    answer = site.Run(1, "Traceback (most recent call last):\nStreamClosedError: closed\n", 1.0)
    assert faults.complaint(answer) == ("StreamClosedError: closed", False)
    answer.text = "[ERROR   ] slapos_ha: step sync stopped: no master\nStart it\n" + answer.text
    assert faults.complaint(answer) == ("step sync stopped: no master", True)
    answer.states = {"Second": state(False, "\nminion demo1 did not answer\nSee whether")}
    assert faults.complaint(answer) == ("minion demo1 did not answer", True)
    answer.states = {"Second": state(False, "not moved to demo2:\nagents: demo1 is deaf\nmore")}
    assert faults.complaint(answer) == ("not moved to demo2: agents: demo1 is deaf", True)
    answer.states = {"Second": state(False, "Traceback (most recent call last): …")}
    assert faults.complaint(answer)[1] is False


# --- The campaign on a world of its own -------------------------------------------------------------------------------------------------------------


class World:
    """A deployment that does its steps in turn, and a fault that stops it or not."""

    def __init__(self, monkeypatch):
        self.done, self.faults, self.undone, self.at = [], [], [], {}
        self.passes = ()
        self.campaign = faults.Campaign(SimpleNamespace())
        self.campaign.titles = TITLES
        self.hurt = None
        world = self

        class Kind(faults.Fault):
            what = "it hurts"

            def inject(self, step):
                world.faults.append(step)
                world.hurt = step

            def repair(self):
                world.undone.append(world.hurt)
                world.hurt = None

        monkeypatch.setitem(faults.FAULTS, "kind", Kind)
        monkeypatch.setattr(faults, "settle", lambda *_: [])
        monkeypatch.setattr(site, "deploy", self.deploy)

    def deploy(self, lab, report, begun=None, overdue=None):
        answer = site.Run(0, "", 1.0)
        if begun:
            begun()
        for step, title in TITLES.items():
            if step in self.done:
                answer.states[title] = state(True, "already so")
                continue
            report({"phase": "begin", "step": step})
            if self.hurt and step not in self.passes:
                answer.states[title], answer.retcode = state(False, f"{step} is hurt"), 1
                return answer
            report({"phase": "done", "step": step})
            self.done.append(step)
            answer.states[title] = state(True, f"{step} is done")
        return answer


@pytest.fixture
def world(monkeypatch):
    return World(monkeypatch)


def test_one_deployment_takes_a_fault_at_every_step(world):
    world.campaign.go([("kind", step) for step in TITLES])
    rows = world.campaign.rows
    assert [(row.step, row.outcome, row.error) for row in rows] == [
        (step, "stopped", f"{step} is hurt") for step in TITLES
    ]
    assert world.faults == world.undone == list(TITLES) and world.campaign.wrong == []
    assert rows[0].again is not None and rows[1].again is not None and rows[2].again is None


def test_a_fault_that_lasts_proves_the_steps_that_it_lets_pass(world):
    world.passes = ("two",)
    world.campaign.go([("kind", "two"), ("kind", "three")])
    rows = world.campaign.rows
    assert [(row.step, row.outcome) for row in rows] == [
        ("two", "went on, stopped at three"),
        ("three", "stopped"),
    ]
    assert world.faults == ["two"] and world.campaign.wrong == []


def test_a_step_that_is_done_takes_no_fault(world):
    world.done = ["one"]
    world.campaign.go([("kind", "one")])
    # The first step is hurt when the run begins.
    assert world.campaign.rows[0].outcome.startswith("done before")
    world.done = list(TITLES)
    world.campaign.go([("kind", "two")])
    assert world.campaign.rows[1].outcome == "done before" and world.faults == ["one"]


def test_a_plain_run_that_stops_is_told(world):
    world.hurt = "one"
    world.campaign.go([("kind", "three")])
    assert world.campaign.rows[0].outcome == "not reached"
    assert world.campaign.wrong == ["kind at three: a plain run stopped: one is hurt"]


# --- Links, command, page -----------------------------------------------------------------------------------------------------------------------------


def test_a_link_is_cut_between_the_hosts_only():
    calls = []
    lab = SimpleNamespace(ip=lambda *words: calls.append(" ".join(words)))
    links.cut(lab, "demo1", "replication")
    links.mend(lab, "demo1", "heartbeat")
    assert calls == [
        "link set dev demo1-1 type bridge_slave isolated on",
        "link set dev demo2-1 type bridge_slave isolated on",
        "link set dev demo1-0 type bridge_slave isolated off",
        "link set dev demo2-0 type bridge_slave isolated off",
    ]


def test_an_unknown_kind_or_step_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert cli.main(["faults", "--faults", "master,fire"]) == 1
    assert "--faults: unknown: fire; known: master, minion" in capsys.readouterr().err
    assert cli.main(["faults", "--steps", "lunch"]) == 1
    assert "--steps: unknown: lunch; known: preflight, base" in capsys.readouterr().err


def test_each_kind_has_a_deployment_and_the_short_set_one():
    assert campaigns.plans(["disk", "host"], ["one", "two"]) == [
        [("disk", "one"), ("disk", "two")],
        [("host", "one"), ("host", "two")],
    ]
    assert campaigns.plans([], [], short=True) == [list(faults.SHORT)]


def part(row, wrong=(), **options):
    return campaigns.parts(
        [row], wrong, "abc1234", "agent: the stand-in", 600, datetime.date(2026, 1, 2), **options
    )


def test_the_page_says_what_was_run():
    row = faults.Row(
        "disk", "base", 0.0, "stopped", "demo1: no | room", 12.4, mended=3.0, again=9.0
    )
    row.acknowledged, row.mounts = 7, 1
    text = campaigns.page(part(row))
    what = faults.FAULTS["disk"].what
    assert f"| disk | {what} | base | 2026-01-02 | abc1234 | the stand-in | 10 |\n" in text
    assert (
        "| base | disk | stopped | 12 | demo1: no \\| room | 3 | 9 | 1 | 7 | 0 |\n" in text
        and "| base | stopped, 12 s, 0 lost |\n" in text
        and faults.FAULTS["host"].what not in text
    )
    assert "every acknowledged write was there" in text
    text = campaigns.page(part(row, ["3 writes are lost"]))
    assert "Not as it should be:\n\n- 3 writes are lost\n" in text
    assert "every acknowledged write was there" not in text


def test_what_was_run_is_kept_by_kind_and_a_whole_one_longer_than_a_short_one(tmp_path):
    data, page = tmp_path / "faults.json", tmp_path / "page.md"
    steps = list(faults.orchestration())
    rows = [faults.Row("disk", step, 0.0, "stopped", "no room") for step in steps]
    whole = campaigns.parts(rows, [], "aaa1111", "agent: the stand-in", 2400)
    campaigns.keep(part(faults.Row("disk", "base", 0.0, "stopped")), data, page)
    campaigns.keep(part(faults.Row("host", "base", 0.0, "went on to the end")), data, page)
    assert set(campaigns.read(data)) == {"disk", "host"}
    campaigns.keep(whole, data, page)
    campaigns.keep(part(faults.Row("disk", "base", 0.0, "stopped")), data, page)
    kept = campaigns.read(data)
    assert kept["disk"]["commit"] == "aaa1111" and len(kept["disk"]["rows"]) == len(steps)
    assert page.read_text() == campaigns.page(kept)
    assert "| every step | " in page.read_text() and "| abc1234 |" in page.read_text()
    campaigns.keep(part(faults.Row("disk", "base", 0.0, "stopped")), data, page)
    assert campaigns.read(data) == kept
    data.write_text('{"format": 2, "parts": {}}')
    with pytest.raises(ValueError, match="format 2, not 1"):
        campaigns.read(data)


def test_campaigns_of_some_steps_are_one_fault_with_each_its_commit_and_agent(tmp_path):
    data, page = tmp_path / "faults.json", tmp_path / "page.md"
    steps = list(faults.orchestration())

    def run(some, commit, agent, outcome="stopped", wrong=()):
        rows = [faults.Row("host", step, 0.0, outcome, "gone") for step in some]
        return campaigns.parts(rows, wrong, commit, f"agent: {agent}", 600)

    campaigns.keep(
        run(steps[:10], "aaa1111", "the stand-in", wrong=["7 writes are lost"]), data, page
    )
    campaigns.keep(run(steps[8:-1], "bbb2222", "OpenSVC from /tmp/agent"), data, page)
    assert campaigns.read(data)["host"]["whole"] is False
    campaigns.keep(run(steps[-2:], "ccc3333", "OpenSVC", "went on"), data, page)
    kept = campaigns.read(data)["host"]
    assert kept["whole"] is True
    assert [[row[0] for row in one["rows"]] for one in (*kept["beside"], kept)] == [
        steps[:8], steps[8:-2], steps[-2:],
    ]  # fmt: skip
    text = page.read_text()
    assert "| bbb2222 | OpenSVC, its own program |" in text and "/tmp" not in data.read_text()
    assert f"| {', '.join(steps[:8])} | " in text and f"| {', '.join(steps[-2:])} | " in text
    assert text.count("| aaa1111 |") == text.count("| bbb2222 |") == text.count("| ccc3333 |") == 1
    assert f"| {steps[-2]} | host | went on | " in text and "- 7 writes are lost\n" in text
    # At every step by now: a short set of later does not take its place.
    campaigns.keep(run(steps[:1], "ddd4444", "the stand-in"), data, page)
    assert campaigns.read(data)["host"] == kept
    campaigns.keep(run(steps, "eee5555", "the stand-in"), data, page)
    assert "beside" not in campaigns.read(data)["host"] and "7 writes" not in page.read_text()


def test_the_page_that_is_there_is_that_of_what_was_kept():
    assert campaigns.PAGE.read_text() == campaigns.page(campaigns.read())


def test_a_host_that_was_killed_has_nothing_mounted():
    seer = faults.Witness(SimpleNamespace())
    seer._heard("demo1", "mounted")
    seer._heard("demo1", "mounted")
    seer._heard("demo1", "ack 1 abc")
    assert seer.mounted() == ["demo1"] and len(seer.spans) == 1
    seer.dead("demo1")
    assert seer.mounted() == [] and seer.spans[0][2] is not None and seer.seen()
    assert [line for _, line in seer.acknowledged] == ["1 abc"]


def test_the_program_needs_nothing_but_the_standard_library():
    text = pathlib.Path(witness.__file__).read_text()
    assert "from ." not in text
