"""What the numbers become: ratios pair by pair, goals judged by the median, a page that says what was not measured, and bars of what each goal allows."""

import copy
import xml.etree.ElementTree as ElementTree

import pytest
import yaml
from bench import report, results
from support import ROOT

from ..docs.generator import GENERATE, PICTURES

MACHINE = "2 × a processor, 24 GiB, a system"


def entry(samples, facts=None, failed=None, machine=MACHINE):
    return {
        "date": "2026-11-29T03:10:00Z",
        "commit": "6aa74b9",
        "machine": machine,
        "load": 0.25,
        "agent": "the stand-in",
        "seconds": 840.0,
        "failed": failed,
        "samples": samples,
        "facts": facts or {},
    }


FACT = {"function": "m.parse", "recording": "test/fixtures/opensvc-2.1/devs.out", "bytes": 2000, "reference": "json.loads"}  # fmt: skip
WHOLE = results.checked(
    {
        "format": 1,
        "parts": {
            "deploy": entry(
                {"seconds": [400.0], "agent": [200.0]},
                {"steps": [["preflight", 30.0, 5.0], ["sync", 100.0, 95.0]]},
            ),
            "second": entry({"first": [400.0], "seconds": [30.0, 28.0, 44.0]}),
            "highstate": entry({"ping_active": [2.0, 3.0, 2.5], "highstate_active": [5.0, 5.5, 4.5], "ping_standby": [2.0], "highstate_standby": [6.0]}),
            "processes": entry(
                {"highstate_active": [5, 5], "deploy_active": [200]},
                {"highstate_active": {"drbdsetup": 2, "om": 3}, "deploy_active": {"om": 200}},
            ),
            "ansible": entry({"salt": [5.0, 6.0], "ansible": [150.0, 150.0]}),
            "sync": entry(
                {"skipped": [0.1, 0.2], "tuned": [30.0, 40.0], "default": [4000.0, 4000.0]},
                {"mib": 1024, "share": [0.03, 0.04]},
            ),
            "move": entry({"ours": [140.0, 150.0], "bare": [130.0]}, failed="minion <demo1> | is silent"),
            "parsers": entry({"one": [0.001, 0.002], "one:reference": [0.0005, 0.0005]}, {"one": FACT}),
            "rollout": entry({"sites_1": [10.0, 12.0], "sites_4": [11.0, 15.0], "sites_16": [14.0, 18.0], "memory_1": [100.0], "memory_16": [130.0]}),
        },
    }
)  # fmt: skip
NOTHING = results.empty()


def found(name, numbers=WHOLE):
    (one,) = (one for one in report.outcomes(numbers) if one.row.id == name)
    return one


def with_(part, **samples):
    """The whole results with other samples of a part."""
    numbers = copy.deepcopy(WHOLE)
    numbers["parts"][part]["samples"].update(samples)
    return numbers


@pytest.mark.parametrize(
    "name, values, reached",
    [
        ("deploy", [2.0], False),
        ("second", [7.5, 7.0, 11.0], True),
        ("highstate_active", [3.0, 2.5, 2.0], True),
        ("highstate_standby", [4.0], False),
        ("ansible", [30.0, 25.0], True),
        ("processes_active", [2.5, 2.5], None),
        ("copy_default", [40000.0, 20000.0], None),
        ("copy_tuned", [300.0, 200.0], None),
        ("rollout_4", [1.1, 1.25], None),
        ("rollout_16", [1.4, 1.5], True),
        ("rollout_memory", [2.0], None),
    ],
)
def test_both_sides_are_compared_pair_by_pair_and_judged_by_the_median(name, values, reached):
    one = found(name)
    assert one.values == pytest.approx(values) and one.reached is reached


def test_a_pair_that_was_not_finished_is_left_out():
    assert found("ansible", with_("ansible", salt=[5.0, 6.0, 5.0])).values == [30.0, 25.0]
    assert found("move", with_("move", bare=[100.0, 100.0, 100.0])).values == [1.4, 1.5]


def test_what_took_no_time_is_no_divisor():
    assert found("copy_tuned", with_("sync", skipped=[0.0, 0.2])).values == [200.0]


def test_a_goal_that_is_just_reached_is_reached_and_one_beyond_is_not():
    assert found("move", with_("move", ours=[110.0], bare=[100.0])).reached is True
    assert found("move", with_("move", ours=[110.2], bare=[100.0])).reached is False
    assert found("ansible", with_("ansible", ansible=[100.0], salt=[5.0])).reached is True
    assert found("ansible", with_("ansible", ansible=[99.0], salt=[5.0])).reached is False


def test_every_goal_is_on_the_page_also_without_a_number():
    page = report.page(NOTHING)
    goals = [row for row in report.rows(NOTHING) if report.goal(row)]
    assert [report.goal(row) for row in goals] == ["≤ 1.15 ×", "≤ 8 %", "≤ 3 s above", "≤ 3 s above", "≤ 1.1 ×", "≥ 20 ×", "≤ 1.5 ×"]  # fmt: skip
    assert page.count("| not measured |") == len(goals)


@pytest.mark.parametrize(
    "line",
    [
        "| a full deployment | all of it: 400 s | the agent's own commands in it: 200 s | 1 | 2.00 × | ≤ 1.15 × | **no** |",
        "| a second run | second: 28.0 / 30.0 / 44.0 s | first: 400 s | 3 | 7.00 / 7.50 / 11.0 % | ≤ 8 % | yes |",
        "| no-op highstate, the active node | `state.apply slapos_ha`: 4.50 / 5.00 / 5.50 s | `test.ping`: 2.00 / 2.50 / 3.00 s | 3 | 2.00 / 2.50 / 3.00 s above | ≤ 3 s above | yes |",
        "| processes that Salt starts, the active node | a no-op highstate: 5 | a deployment: 200 | 2 | 2.50 % |",
        "| memory of the master in a rollout | 16 sites: 130 MiB | 1 site: 100 MiB | 1 | 2.00 MiB more a site |",
        "| `m.parse` | `test/fixtures/opensvc-2.1/devs.out`, 2000 bytes | 2 | 1.00 / 1.50 / 2.00 MB/s | 2.00 / 3.00 / 4.00 × `json.loads` |",
        "| a deployment | the active node | `om` 200 |",
        "| a no-op highstate | the active node | `om` 3, `drbdsetup` 2 |",
        "| `sync` | 100 | 95.0 | 5.00 |",
        "| between the steps | 270 |  | 270 |",
        "| all of it | 400 | 100 | 300 |",
        "| move | 2026-11-29T03:10:00Z | 6aa74b9 | the stand-in | 14 | 0.2 | ended early: minion &lt;demo1> \\| is silent |",
    ],
)
def test_a_line_of_the_page(line):
    assert line in report.page(WHOLE).splitlines()


def test_the_page_says_how_much_was_reckoned_and_not_measured():
    assert "The disk that is copied has 1024 MiB. With DRBD's defaults the end was not waited for: 3.00 / 3.50 / 4.00 % of it" in report.page(WHOLE)  # fmt: skip
    numbers = copy.deepcopy(WHOLE)
    numbers["parts"]["sync"]["facts"] = {"mib": 64, "share": [1, 1]}
    assert "The disk that is copied has 64 MiB.\n" in report.page(numbers)


def test_each_part_says_how_it_is_measured():
    page = report.page(WHOLE)
    assert set(report.HOW) == set(WHOLE["parts"]) and all(f"- {name}: " in page for name in report.HOW)  # fmt: skip


def test_runs_of_two_machines_are_told_apart():
    numbers = copy.deepcopy(WHOLE)
    numbers["parts"]["rollout"]["machine"] = "8 × another"
    page = report.page(numbers)
    assert f"\n1. {MACHINE}\n2. 8 × another\n" in page and "| 14 | 0.2 | 2 | whole |" in page
    assert "| machine |" not in report.page(WHOLE)


def test_why_a_goal_is_missed_is_told_and_not_of_a_goal_that_is_reached():
    page = report.page(WHOLE, {"deploy": "Salt's start.\n"})
    assert "- **a full deployment**, 2.00 ×: Salt's start.\n" in page
    assert "## What falls short" not in report.page(WHOLE)
    for wrong in ("ansible", "processes_active", "nothing"):
        with pytest.raises(report.BadExplanation, match=wrong):
            report.page(WHOLE, {wrong: "because"})


def test_the_explanations_of_the_tree_are_of_goals_that_are_missed():
    missed = {one.row.id for one in report.outcomes(results.read(results.FILE)) if one.reached is False}  # fmt: skip
    assert set(yaml.safe_load((ROOT / GENERATE.EXPLAINED).read_text())) <= missed


@pytest.mark.parametrize(
    "value, text",
    [
        (0, "0"), (0.0, "0"), (5, "5"), (12345.6, "12346"), (120.0, "120"), (99.95, "100.0"), (12.34, "12.3"), (1.0, "1.00"), (0.1234, "0.123"), (0.0123456, "0.0123"), (-2.5, "-2.50"),
    ],
)  # fmt: skip
def test_a_number_as_text(value, text):
    assert report.number(value) == text


def test_a_terminal_is_told_what_there_is_and_what_failed():
    said = report.text(WHOLE)
    assert "a full deployment  all of it: 400 s" in said and said.endswith("move  minion <demo1> | is silent")  # fmt: skip
    assert "MB/s" in said and report.text(NOTHING) == ""


# --- The picture ----------------------------------------------------------------------------------------------------------------------------------


def test_a_bar_is_a_part_of_what_the_goal_allows():
    bars = {bar.title: bar for bar in report.chart(WHOLE)}
    assert bars["a second run"].lengths == pytest.approx((7 / 8, 7.5 / 8, 11 / 8))
    assert bars["no-op run of Ansible, both nodes"].lengths == pytest.approx((20 / 30, 20 / 27.5, 20 / 25), abs=0.01)  # fmt: skip
    assert bars["a full deployment"].reached is False
    assert all((bar.lengths[1] <= 1) is bar.reached for bar in bars.values())
    assert len(report.chart(NOTHING)) == 7 and not any(bar.lengths for bar in report.chart(NOTHING))


@pytest.mark.parametrize("numbers", [WHOLE, NOTHING], ids=["whole", "nothing"])
def test_the_picture_has_every_goal_in_its_bounds_and_words(numbers):
    drawn = PICTURES.performance(numbers)
    root = ElementTree.fromstring(drawn)
    width, height = map(float, root.get("viewBox").split()[2:])
    said = list(root.itertext())
    for bar in report.chart(numbers):
        assert bar.title in said and f"{bar.value}, goal {bar.goal}" in said
        assert f"{bar.title} {bar.value} (goal {bar.goal}" in root.get("aria-label")
    space = "{http://www.w3.org/2000/svg}"
    for rect in root.iter(f"{space}rect"):
        x, y = float(rect.get("x", 0)), float(rect.get("y", 0))
        assert x + float(rect.get("width")) <= width and y + float(rect.get("height")) <= height
    assert ("not reached" in said) is any(bar.reached is False for bar in report.chart(numbers))


# --- What `make docs` writes ----------------------------------------------------------------------------------------------------------------------


def test_the_page_of_the_tree_is_what_its_numbers_say():
    wanted = GENERATE.performance(ROOT)
    path = ROOT / GENERATE.PERFORMANCE
    now = {GENERATE.PERFORMANCE: path.read_text()} if path.exists() else {}
    assert now == wanted, (
        "docs/performance.md is not what test/bench/results.json says. Run: make docs"
    )


def test_page_and_picture_are_written_where_there_are_numbers(tmp_path):
    assert GENERATE.performance(tmp_path) == {}
    (tmp_path / "test/bench").mkdir(parents=True)
    (tmp_path / GENERATE.EXPLAINED).write_text("deploy: because\n")
    results.write(tmp_path / PICTURES.MEASURED, WHOLE)
    assert "- **a full deployment**, 2.00 ×: because" in GENERATE.performance(tmp_path)[GENERATE.PERFORMANCE]  # fmt: skip
    (tmp_path / GENERATE.EXPLAINED).write_text("ansible: because\n")
    with pytest.raises(
        GENERATE.DocError, match="explained.yaml: explained, and not missed: ansible"
    ):
        GENERATE.performance(tmp_path)
