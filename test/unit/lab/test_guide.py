"""The survival guide is refilled from a run as a whole or not at all, and says what it is from."""

import datetime

import pytest
from slaplab import guide
from slaplab.base import LabError
from support import ROOT

PAGE = """# Guide

*Outputs: not recorded yet.*

```console settle
$ salt-run slapos_ha.status
```

```console no-run
$ salt-pip install rich
```
"""


@pytest.fixture
def page(tmp_path, monkeypatch):
    path = tmp_path / "guide.md"
    path.write_text(PAGE)
    monkeypatch.setattr(guide, "PAGE", path)
    monkeypatch.setattr(guide.agent, "chosen", lambda tree: ("standin", ROOT))
    monkeypatch.setattr(guide.base, "commit", lambda: "abc1234")
    monkeypatch.setattr(guide, "say", lambda text: None)
    calls = []
    monkeypatch.setattr(guide.cli, "up", lambda lab, tree, fresh: calls.append(("up", fresh)))
    monkeypatch.setattr(guide.cli, "down", lambda lab: calls.append("down"))
    return path, calls


def test_a_run_fills_the_page(page, monkeypatch):
    path, calls = page
    monkeypatch.setattr(guide.runbook, "until", lambda lab, command: "All is well.\n")
    monkeypatch.setattr(guide.runbook, "run", lambda lab, command: pytest.fail(command.line))
    guide.guide(None)
    text = path.read_text()
    assert "$ salt-run slapos_ha.status\nAll is well.\n```" in text
    assert "$ salt-pip install rich\n```" in text
    day = datetime.date.today()
    assert f"*Outputs: of `make guide` on {day}, commit abc1234; the agent is the stand-in, a test double.*" in text  # fmt: skip
    assert calls == [("up", True), "down"]
    # Filled again it stays one page.
    guide.guide(None)
    assert path.read_text() == text


def test_a_command_that_fails_leaves_the_page_as_it_was(page, monkeypatch):
    path, calls = page

    def until(lab, command):
        raise LabError("no")

    monkeypatch.setattr(guide.runbook, "until", until)
    with pytest.raises(LabError):
        guide.guide(None)
    assert path.read_text() == PAGE and calls[-1] == "down"


def test_a_page_without_its_mark_is_refused_before_a_lab_is_made(page):
    path, calls = page
    path.write_text("# Guide\n")
    with pytest.raises(LabError, match="put it back"):
        guide.guide(None)
    assert calls == []


def test_the_real_page_has_the_mark_and_commands_for_the_lab():
    text = (ROOT / "docs/guide.md").read_text()
    assert len(guide.MARK.findall(text)) == 1
    assert any(command.settle for command in guide.runbook.commands(text))
