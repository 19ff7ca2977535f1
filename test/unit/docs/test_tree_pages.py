"""The pages on what is no module are complete: what the code has is on them, and what is on them is in the code."""

import re

import pytest
import yaml
from support import ROOT

from .generator import GENERATE, TREE_PAGES

DATA = TREE_PAGES.data(ROOT)
TAGS = TREE_PAGES.tags(ROOT)
PATHS = TREE_PAGES.paths(ROOT)
REMEDY = f"Describe it in {TREE_PAGES.DATA}, then: make docs"


@pytest.mark.parametrize("tag", sorted({*TAGS, *DATA["events"]}))
def test_an_event_is_fired_and_described(tag):
    assert tag in DATA["events"], f"{tag} is fired by {TAGS[tag]} and not described. {REMEDY}"
    assert tag in TAGS, f"{tag} is described in {TREE_PAGES.DATA} and fired by nothing"


def test_the_runs_of_the_events_are_those_of_the_runner():
    assert {"deploy", "teardown"} <= set(TREE_PAGES.runs(ROOT))
    page = TREE_PAGES.events_page(ROOT)
    assert all(f"`{run}`" in page for run in TREE_PAGES.runs(ROOT))


@pytest.mark.parametrize("path", sorted(PATHS))
def test_a_file_that_is_touched_is_on_the_page(path):
    found = TREE_PAGES.covered(path, DATA["files"])
    assert found, f"{path}, named by {', '.join(sorted(PATHS[path]))}, is not described. {REMEDY}"


def test_the_files_found_are_those_of_states_modules_and_templates():
    assert PATHS["/etc/lvm/lvmlocal.conf"] == {
        "_modules/slapos_node_remains.py",
        "slapos_ha/drbd.sls",
    }
    assert "/etc/apt/sources.list.d/slapos_ha-" in PATHS and "/run/slapgrid-sr.pid" in PATHS
    # A path in a sentence or a docstring is none that is touched.
    assert "/opt/comp1.slapos.svc.paris.img" not in PATHS


@pytest.mark.parametrize(
    "path, known",
    [
        ("/run/x/y", True),
        ("/run/x", True),
        ("/run/xy", False),
        ("/etc/units", True),
        ("/etc/other", False),
        ("/proc/drbd", True),
    ],
)
def test_an_entry_covers_itself_what_is_below_and_its_beginning(path, known):
    files = [{"path": "/run/x"}, {"path": "/etc/units/<unit>"}, {"path": "/proc, /sys"}]
    assert TREE_PAGES.covered(path, files) is known


@pytest.mark.parametrize("entry", DATA["files"], ids=lambda entry: entry["path"])
def test_an_entry_of_the_files_is_whole(entry):
    assert entry["what"] and entry["by"]
    if "teardown" not in entry:
        assert "read" in entry["what"] or entry["path"].startswith("/dev/")


def test_every_step_of_every_orchestration_is_on_the_page():
    page = TREE_PAGES.orchestrations_page(ROOT)
    for path in (ROOT / "orch").glob("*.sls"):
        assert f"\n## orch.{path.stem}\n" in page
        assert TREE_PAGES.orchestrations(ROOT)[path.stem]["head"], (
            f"{path.name} begins without a comment"
        )
        section = page.split(f"\n## orch.{path.stem}\n")[1].split("\n## ")[0]
        for step in re.findall(r"\('(\w+)', '", path.read_text()):
            assert f"\n| {step} | " in section, step
        # The commands at its head, as they are.
        assert f"`salt-run state.orch orch.{path.stem}" in section


def test_the_exit_codes_are_those_of_the_code():
    codes = {one["of"]: one["codes"] for one in DATA["exit_codes"]}
    launcher = (ROOT / "slapos_ha/files/re6st").read_text()
    up, down, warn = map(int, re.search(r"UP, DOWN, WARN = (\d), (\d), (\d)", launcher).groups())
    status = next(found for of, found in codes.items() if "`status`" in of and "launchers" in of)
    assert (status[up], status[down][:4], warn in status) == ("up", "down", True)
    assert "return 64" in launcher and all(
        64 in codes[of] for of in codes if "no such verb" in str(codes[of])
    )
    functions = {
        function.name
        for source in GENERATE.read_sources()["runners", "slapos_ha"]
        for function in source.functions
    }
    missing = [name for name in functions if f"slapos_ha.{name}`" not in " ".join(codes)]
    assert missing == [], f"no exit code of the runner's {missing}. {REMEDY}"


def test_an_ansible_variable_stands_in_one_place_only():
    names = [name for found in DATA["ansible"].values() for name in found]
    names += [name for one in DATA["ansible_without_key"] for name in one["variables"]]
    assert len(names) == len(set(names))
    page = (ROOT / "docs/reference/pillar.md").read_text()
    assert [name for name in names if f"`{name}`" not in page] == []


def test_a_key_that_is_not_in_the_schema_is_refused(tmp_path):
    for name in ("slapos_ha/schema.yaml", "slapos_ha/defaults.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text((ROOT / name).read_text())
    (tmp_path / "docs").mkdir()
    (tmp_path / TREE_PAGES.DATA).write_text(yaml.safe_dump({"ansible": {"no:key": ["x"]}}))
    with pytest.raises(GENERATE.DocError, match="no key of the pillar: no:key"):
        GENERATE.pillar_page(tmp_path)
