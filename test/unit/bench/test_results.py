"""The file of raw numbers: what is no results is refused by name, parts are merged whole, and it is written all or not at all."""

import copy
import json

import pytest
from bench import results

ENTRY = {
    "date": "2026-11-29T03:10:00Z",
    "commit": "6aa74b9",
    "machine": "2 × a processor",
    "load": 0.1,
    "agent": "",
    "seconds": 12.3456789,
    "failed": None,
    "samples": {"ours": [1.23456789, 2], "theirs": [0.000123456]},
    "facts": {"size": 1024},
}


def of(**parts):
    return {"format": 1, "parts": {name: copy.deepcopy(entry) for name, entry in parts.items()}}


def test_what_is_written_is_read_with_the_digits_that_mean_something(tmp_path):
    path = tmp_path / "results.json"
    results.write(path, of(one=ENTRY))
    found = results.read(path)["parts"]["one"]
    assert found["samples"] == {"ours": [1.235, 2], "theirs": [0.0001235]}
    assert found["seconds"] == 12.35 and found["facts"] == ENTRY["facts"]
    assert [one.name for one in tmp_path.iterdir()] == ["results.json"]


def test_what_cannot_be_written_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "results.json"
    results.write(path, of(one=ENTRY))
    before = path.read_text()
    with pytest.raises(results.BadResults):
        results.write(path, of(one={**ENTRY, "samples": {"ours": [float("nan")]}}))
    assert path.read_text() == before and len(list(tmp_path.iterdir())) == 1


def test_a_file_that_is_not_there_is_empty(tmp_path):
    assert results.read(tmp_path / "none.json") == results.empty()


def test_a_part_takes_the_place_of_the_part_of_its_name_only():
    new = {**ENTRY, "commit": "later"}
    found = results.merged(of(one=ENTRY, two=ENTRY), of(two=new, three=new))
    assert {name: entry["commit"] for name, entry in found["parts"].items()} == {
        "one": "6aa74b9",
        "two": "later",
        "three": "later",
    }


@pytest.mark.parametrize(
    "change, why",
    [
        ({"samples": {"ours": [1, "2"]}}, "sample ours is no list of numbers"),
        ({"samples": {"ours": [True]}}, "sample ours"),
        ({"samples": {"ours": [-1]}}, "sample ours"),
        ({"samples": {"ours": 3}}, "sample ours"),
        ({"samples": []}, "has no samples"),
        ({"facts": None}, "has no facts"),
        ({"commit": None}, "has no commit"),
        ({"failed": True}, "failed is a reason or null"),
    ],
)
def test_what_is_no_entry_is_refused_by_name(change, why):
    with pytest.raises(results.BadResults, match=why) as error:
        results.checked(of(one={**ENTRY, **change}))
    assert "part one" in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 2, "parts": {}}', '{"format": 1}', '{"format": 1, "parts": {"one": 1}}'])  # fmt: skip
def test_what_is_no_results_is_refused_by_its_name(tmp_path, text):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(results.BadResults, match="^other.json: "):
        results.read(path)


def test_the_file_of_the_tree_is_whole():
    assert results.checked(json.loads(json.dumps(results.read(results.FILE))))
