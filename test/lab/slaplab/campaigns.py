"""
The command `lab faults`: campaigns of faults, and what they have shown: test/lab/faults.json, and docs/reliability.md written from it.

``{"format": 1, "parts": {fault: part}}``: a campaign takes most of an hour, so each kind of fault is a part of its own, run when there is time for it. A part is
``{"date", "commit", "agent", "minutes", "whole", "rows", "wrong"}``: ``whole`` says whether the fault came at every step, ``rows`` are texts under HEADINGS,
``wrong`` are sentences. Where it took several campaigns of some steps each the part is the last one, and has the others under ``beside``: ``whole`` is said of all of them.
"""

import datetime
import json
import os
import re
import sys
import time

from . import agent, base, cli, faults
from .base import REPO, LabError

FORMAT = 1
DATA = REPO / "test/lab/faults.json"
PAGE = REPO / "docs/reliability.md"
HEADINGS = (
    "step", "fault", "outcome", "seconds", "error", "undone", "passed again", "mounted at once", "writes", "lost",
)  # fmt: skip


def cells(row):
    """A row as texts, under HEADINGS."""
    return (
        row.step,
        row.fault,
        row.outcome,
        f"{row.seconds:.0f}",
        row.error,
        ("-" if row.mended is None else f"{row.mended:.0f}")
        + "".join(f"; {note}" for note in row.notes),
        "-" if row.again is None else f"{row.again:.0f}",
        str(row.mounts),
        str(row.acknowledged),
        str(row.lost),
    )


def parts(rows, wrong, commit, agent, seconds, today=None):
    """A campaign as parts, one for each of its kinds of fault."""
    today = today or datetime.datetime.now(datetime.timezone.utc).date()
    steps = set(faults.orchestration())
    # Where it lay on the machine that had the lab is nobody's business.
    agent = re.sub(r" from /\S+", ", its own program", agent)
    found = {}
    for kind in dict.fromkeys(row.fault for row in rows):
        own = [row for row in rows if row.fault == kind]
        found[kind] = {
            "date": str(today),
            "commit": commit,
            "agent": agent,
            "minutes": round(seconds / 60),
            "whole": {row.step for row in own} == steps,
            "rows": [list(cells(row)) for row in own],
            "wrong": list(wrong),
        }
    return found


def read(path=DATA):
    """The parts that were kept; none where there is no file yet."""
    if not path.exists():
        return {}
    kept = json.loads(path.read_text())
    if kept.get("format") != FORMAT:
        raise ValueError(f"{path}: format {kept.get('format')!r}, not {FORMAT}")
    return kept["parts"]


def keep(new, data=DATA, page_=PAGE):
    """
    Put parts in the place of older ones, and write the page of all of them. One of some steps takes the place of these steps, and none in that of a fault that
    was at every step already.
    """
    kept = read(data)
    for kind, part in new.items():
        if part["whole"] or kind not in kept:
            kept[kind] = part
        elif not kept[kind]["whole"]:
            kept[kind] = _beside(part, kept[kind])
    ordered = {kind: kept[kind] for kind in faults.FAULTS if kind in kept}
    data.write_text(
        json.dumps({"format": FORMAT, "parts": ordered}, indent=1, ensure_ascii=False) + "\n"
    )
    page_.write_text(page(ordered))


def _runs(part):
    """The campaigns of a part, the oldest first."""
    return [*part.get("beside", []), {key: part[key] for key in part if key != "beside"}]


def _beside(part, old):
    """A campaign of some steps, with what older ones have shown of the others."""
    steps = {row[0] for row in part["rows"]}
    runs = [
        {**run, "rows": [row for row in run["rows"] if row[0] not in steps]} for run in _runs(old)
    ]
    runs = [run for run in runs if run["rows"]]
    known = steps.union(row[0] for run in runs for row in run["rows"])
    return {**part, "whole": known == set(faults.orchestration()), "beside": runs}


def page(kept):
    """docs/reliability.md: what was run and what it showed."""
    steps = list(faults.orchestration())
    runs = [(kind, run) for kind, part in kept.items() for run in _runs(part)]
    rows = sorted(
        (row for _, run in runs for row in run["rows"]), key=lambda row: steps.index(row[0])
    )
    text = f"""# Faults in the middle of a deployment

Written by `make faults` (or by the lab's tests, with LAB_REPORT) from `test/lab/faults.json`, not by hand. Each kind of fault has a deployment of its own, with
the fault at every step, and can be run by itself (`make faults FAULTS='--faults host'`), or some steps of it (`--steps tasks,verify`). `make test` has one fault of each
kind, in one deployment.

Each fault comes in the moment in which its step begins. After it the run has to end within {faults.LIMIT} s with a clear error, or to go on; then the fault is undone as
an operator would, and the same command is run again, which goes on. A link, a disk or a service stays as it is for as long as the run goes on: one run may
be the proof for several steps. Two programs on the hosts, heard from outside, say when the filesystem comes and goes and write a chain of lines with
fsync, one each second.

"""
    text += _markdown(
        ("fault", "what is done", "at", "date", "commit", "agent", "minutes"),
        [
            (
                kind,
                faults.FAULTS[kind].what,
                _at([row[0] for row in run["rows"]], steps),
                run["date"],
                run["commit"],
                # Which agent, without what may be done about it.
                re.sub(r"^agent: | \(.*\)$", "", run["agent"]),
                run["minutes"],
            )
            for kind, run in runs
        ],
    )  # fmt: skip
    text += "\n## Step by fault\n\nThe outcome, the seconds from the fault to the end of the run, and the acknowledged writes that were lost.\n\n"
    found = {(row[0], row[1]): f"{row[2]}, {row[3]} s, {row[9]} lost" for row in rows}
    text += _markdown(
        ("step", *kept), [(step, *(found.get((step, kind), "") for kind in kept)) for step in steps]
    )
    text += "\n## Each run\n\nseconds: from the fault to the end of the run; undone: seconds until the site was still, and what had to be cleared by hand; passed again: seconds of "
    text += "the next run until the step at which this one stopped was done; writes: acknowledged from the fault to then.\n\n"
    text += _markdown(HEADINGS, rows) + "\n"
    wrong = dict.fromkeys(line for _, run in runs for line in run["wrong"])
    if wrong:
        return text + "Not as it should be:\n\n" + "".join(f"- {line}\n" for line in wrong)
    return text + (
        "Every run ended in time with a clear error, the filesystem was mounted on one host at most, and every acknowledged write was there at the end.\n"
    )


def _at(own, steps):
    return "every step" if own == steps else ", ".join(own)


def _markdown(headings, rows):
    lines = [headings, ["---"] * len(headings), *rows]
    return "".join(
        "| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |\n" for line in lines
    )


def plans(kinds, steps, short=False):
    """The deployments to be made, each a list of (fault, step): one for each kind, or the short set in one."""
    if short:
        return [list(faults.SHORT)]
    return [[(kind, step) for step in steps] for kind in kinds]


def campaigns(lab, tree=None, kinds=None, steps=None, short=False, report=False):
    """Make the campaigns, a fresh lab for each, and return whether nothing was wrong. With `report` what each has shown is kept as soon as it is over."""
    from rich.console import Console
    from rich.live import Live

    # A log is as wide as its lines.
    console = Console(width=None if sys.stdout.isatty() else 200)
    kinds, steps = kinds or list(faults.FAULTS), steps or list(faults.orchestration())
    rows, wrong = [], []
    begun, at = time.monotonic(), base.commit()
    said = agent.describe(agent.chosen(tree))
    with Live(console=console, auto_refresh=False) as live:

        def show(campaign):
            live.update(_table([*rows, *campaign.rows]), refresh=True)
            if not console.is_terminal and campaign.rows:
                # A log has no table that grows.
                console.print(" | ".join(cells(campaign.rows[-1])), soft_wrap=True)

        for plan in plans(kinds, steps, short):
            since = time.monotonic()
            cli.up(lab, tree, fresh=True)
            try:
                with faults.Campaign(lab, show) as campaign:
                    try:
                        campaign.go(plan)
                        campaign.complete()
                    except LabError as error:
                        campaign.wrong.append(f"{plan[0][0]}: {error}")
                rows += campaign.rows
                wrong += campaign.wrong
                # One that ended early was not judged.
                if report and campaign.over:
                    took = campaign.over - since
                    keep(parts(campaign.rows, campaign.wrong, at, said, took))
            finally:
                if not os.environ.get("LAB_KEEP"):
                    cli.down(lab)
    for line in wrong:
        console.print(f"[red]✘[/red] {line}")
    console.print(f"{len(rows)} faults in {(time.monotonic() - begun) / 60:.0f} min")
    return not wrong


def _table(rows):
    from rich import box
    from rich.table import Table

    table = Table(*HEADINGS, box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*(text[:60] for text in cells(row)))
    return table
