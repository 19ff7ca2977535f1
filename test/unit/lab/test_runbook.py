"""The console blocks of the documentation as commands: where each runs, what it ends with, and its output put in place."""

import pytest
from slaplab import runbook
from slaplab.base import LabError
from support import ROOT

PAGE = """# Title

Text with `$ no command`.

## What to look at

```console
$ salt-run slapos_ha.status     # exit code 1
Not well:
- it burns
demo2# drbdadm status   # as root
```

## What to do

```console no-run tail=2
demo1# om slapos/svc/comp1 edit config
```
```
$ not a console block
```
"""


def test_commands_have_a_place_a_section_and_an_exit_code():
    found = runbook.commands(PAGE)
    assert [(one.where, one.section, one.code, one.run) for one in found] == [
        ("master", "What to look at", 1, True),
        ("demo2", "What to look at", 0, True),
        ("demo1", "What to do", 0, False),
    ]
    assert found[0].output == ["Not well:", "- it burns"] and found[2].tail == 2
    # A comment is the shell's to leave out.
    assert found[1].line == "drbdadm status   # as root"
    assert PAGE.splitlines()[found[1].number - 1].endswith(found[1].line)


def test_commands_below_one_heading():
    assert [one.where for one in runbook.commands(PAGE, "What to do")] == ["demo1"]
    with pytest.raises(LabError, match="no command below 'Nowhere'"):
        runbook.commands(PAGE, "Nowhere")


@pytest.mark.parametrize(
    "line, why", [("demo3# ls", "there is no host demo3"), ("stray", "output without a command")]
)
def test_what_cannot_be_run_is_refused(line, why):
    with pytest.raises(LabError, match=why):
        runbook.commands(f"## A\n```console\n{line}\n```\n")


def test_outputs_are_put_in_the_place_of_old_ones_and_nothing_else_changes():
    known = runbook.commands(PAGE)
    filled = runbook.refill(PAGE, {known[0].number: "All is well.\n\n", known[2].number: "a\nb\nc"})
    assert (
        "status     # exit code 1\nAll is well.\ndemo2# drbdadm status   # as root\n```" in filled
    )
    assert "edit config\n…\nb\nc\n```" in filled
    assert filled.replace("All is well.\n", "").replace("…\nb\nc\n", "") == runbook.refill(PAGE, {})
    assert "$ not a console block" in filled
    # What is filled is read back as the same commands.
    assert [one.line for one in runbook.commands(filled)] == [one.line for one in known]


def test_an_output_that_looks_like_a_prompt_or_a_fence_stays_output():
    page = "## A\n```console\n$ true\n```\n"
    filled = runbook.refill(page, {3: "$ rm\n```\nroot# x"})
    (only,) = runbook.commands(filled)
    assert only.output == ["    $ rm", "    ```", "    root# x"]


def test_a_command_runs_where_its_prompt_says(monkeypatch):
    asked = []

    class Lab:
        home = ROOT

        def inside(self, *words):
            return ["true", *words]

    monkeypatch.setattr(runbook.hosts, "ssh_command", lambda lab, host, line: ["ssh", host, line])

    def done(words, **kwargs):
        asked.append((words, (kwargs["env"] or {}).get("SALT_CONFIG_DIR")))
        return runbook.subprocess.CompletedProcess(words, 1, "said")

    monkeypatch.setattr(runbook.subprocess, "run", done)
    status, drbd, _ = runbook.commands(PAGE)
    assert runbook.run(Lab(), status) == "said"
    with pytest.raises(
        LabError, match="line 11, demo2: drbdadm status .*: exit code 1, not 0: said"
    ):
        runbook.run(Lab(), drbd)
    assert asked == [
        (["true", "bash", "-c", status.line], str(ROOT / "salt")),
        (["ssh", "demo2", drbd.line], None),
    ]
