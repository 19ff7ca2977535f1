"""The survival guide's commands, run in a new lab in the order of the page, and their outputs put into it."""

import datetime
import re

from . import agent, base, cli, runbook
from .base import REPO, LabError
from .image import say

PAGE = REPO / "docs/guide.md"
MARK = re.compile(r"^\*Outputs: .*\*$", re.MULTILINE)


def guide(lab, tree=None, keep=False):
    """Deploy as the guide says, run all that it says, and write its outputs into the page; a command that does not end as printed ends it, with the page as it was."""
    text = PAGE.read_text()
    if not MARK.search(text):
        raise LabError(
            f"{PAGE}: the line '*Outputs: …*' is gone; put it back below the first paragraph"
        )
    at = base.commit()
    cli.up(lab, tree, fresh=True)
    outputs = {}
    try:
        for command in runbook.commands(text):
            if not command.run:
                continue
            say(f"{command.where}: {command.line}")
            ask = runbook.until if command.settle else runbook.run
            outputs[command.number] = ask(lab, command)
    finally:
        if not keep:
            cli.down(lab)
    kind = agent.chosen(tree)[0]
    # What a reader has to know of the agent is whether it was one; where its tree lay is this machine's.
    said = (
        "the agent is the stand-in, a test double" if kind == "standin" else "OpenSVC's own agent"
    )
    PAGE.write_text(recorded(text, outputs, datetime.date.today(), at, said))
    say(f"{PAGE}: {len(outputs)} outputs")


def recorded(text, outputs, day, commit, said):
    """The page with its outputs, and with what they are from."""
    line = f"*Outputs: of `make guide` on {day}, commit {commit}; {said}.*"
    return MARK.sub(lambda _: line, runbook.refill(text, outputs), count=1)
