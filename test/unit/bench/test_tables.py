"""The tables of docs/scale.md are those of its raw numbers, and say which of them were not measured."""

import copy
import json

import pytest
from bench import tables
from support import ROOT

PAGE, RAW = ROOT / "docs/scale.md", ROOT / "test/bench/scale.json"


def cost(base, **more):
    return {
        "seconds": base, "cpu_run": base, "cpu_daemon": base, "cpu_players": 1.0, "memory_run": base * 2**20, "memory_daemon": 2**20, "processes": 1,
        "events": {"runners": base}, "events_bytes": {"runners": base}, "asked": {}, "cache_bytes": base * 1024, "cache_files": base, **more,
    }  # fmt: skip


def estate(sites):
    """A question to all sites costs 10 and one for each of them, a status 2, a deployment 5; processor twice that."""
    question, some = 10 + sites, min(sites, 8)
    return {
        "sites": sites, "some": some, "memory_idle": 2**20, "memory_all": 2**20 * (100 + sites), "start": {"seconds": 1.0, "cpu": float(sites)},
        "look": cost(question), "one": cost(question + 2), "status": cost(question + some * 2), "deploy": cost(question + some * 5),
    }  # fmt: skip


ESTATES = [estate(2), estate(20), estate(500)]
ROWS = [{"n": 1, "seconds": [2.0, 1.0, 3.0], "cpu_run": 1.0, "cpu_daemon": 2.0, "cpu_players": 0.5, "memory_run": 2**20, "ratio": 1.0}]  # fmt: skip


def test_a_site_costs_what_the_question_to_all_sites_does_not():
    for one in ESTATES:
        assert tables.each(one, "status", lambda run: run["seconds"]) == pytest.approx(2)
        assert tables.each(one, "deploy", lambda run: run["seconds"]) == pytest.approx(5)


def test_what_was_not_measured_is_in_italics():
    (row,) = [line for line in tables.sizing(ESTATES).splitlines() if "look at all sites: time" in line]  # fmt: skip
    assert row == "| look at all sites: time | 12 s | *60 s* | 510 s | *84 min* |"
    (row,) = [line for line in tables.sizing(ESTATES).splitlines() if "memory of the daemon" in line]  # fmt: skip
    assert row.endswith("| 102 MiB | *150 MiB* | 600 MiB | *5100 MiB* |")


def test_a_slope_has_its_unit():
    table = tables.slopes(ESTATES)
    assert (
        "| look at all sites: time | 2: 12 s, 20: 30 s, 500: 510 s | 10 s | 1000.00 ms | 0% |"
        in table
    )
    assert "| 2: 102 MiB, 20: 120 MiB, 500: 600 MiB | 100 MiB | 1024.0 KiB | 0% |" in table
    assert "| look at all sites: events | 2: 12, 20: 30, 500: 510 | 10 | 1.0 | 0% |" in table


def test_what_one_site_more_costs_is_not_taken_from_two():
    sizes = {name: [size for size, _ in tables.points(ESTATES, name)] for name in tables._METRICS}
    assert sizes["one more site's status: processor"] == [20, 500]
    assert sizes["look at all sites: time"] == [2, 20, 500]


def test_events_are_those_of_one_site():
    assert "| runners | 2 | 5 |" in tables.events(ESTATES)
    assert "| **together** | **2** | **5** |" in tables.events(ESTATES)


def test_a_row_has_its_least_and_its_most():
    assert "| 1 | 1.0, 2.0, 3.0 s | 1.00 | 1.0, 2.0, 0.5 s | 1 MiB |" in tables.rollout(ROWS)


def test_a_page_is_filled_between_its_marks_only():
    raw = {"date": "2026-01-01", "commit": "abc", "machine": "a machine", "estates": ESTATES, "rollout": ROWS, "rollout_without_nodes": ROWS}  # fmt: skip
    page = "before\n<!-- scale: machine -->\nold\n<!-- /scale -->\nafter\n"
    filled = tables.filled(page, raw)
    assert filled == "before\n<!-- scale: machine -->\n2026-01-01, commit abc: a machine.\n<!-- /scale -->\nafter\n"  # fmt: skip
    assert tables.filled(filled, copy.deepcopy(raw)) == filled
    with pytest.raises(KeyError):
        tables.filled("<!-- scale: nothing -->\n<!-- /scale -->", raw)


def test_the_page_is_that_of_the_raw_numbers():
    page = PAGE.read_text()
    if not RAW.exists():
        pytest.skip("many sites were not measured yet: make scale")
    assert page == tables.filled(page, json.loads(RAW.read_text())), "Run: make docs"
    assert set(tables._MARK.findall(page)) and page.count("<!-- scale:") == page.count("<!-- /scale -->")  # fmt: skip
