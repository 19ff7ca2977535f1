"""
A rollout while it runs, on the standard error of who started it: a live table on a terminal, a line for each change elsewhere. For the runner ``slapos_ha_rollout``.
"""

import sys
import time

# What is shown first where not every site has room.
_FIRST = ("running", "late", "failed", "waiting", "done", "skipped", "same", "left")
_STYLE = {
    "running": "cyan",
    "late": "bold red",
    "failed": "red",
    "skipped": "yellow",
    "done": "green",
}


def display(words, duration):
    """
    Where a rollout is shown, as a context manager with ``show(rollout, line)``: the line is something that happened, or None.

    ``words`` are {state: text}, ``duration`` is a function; both of ``slapos_site_show``.
    """
    return _Screen(words, duration) if sys.stderr.isatty() else _Lines()


class _Lines:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def show(self, _rollout, line):
        if line is not None:
            first = line.splitlines()[0]
            sys.stderr.write(f"{time.strftime('%H:%M:%S')} {first}\n")
            sys.stderr.flush()


class _Screen:
    def __init__(self, words, duration):
        from rich.console import Console
        from rich.live import Live

        self._words, self._duration = words, duration
        self._console = Console(stderr=True)
        # No thread of its own: jobs are forked while it shows.
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._drawn = 0.0

    def __enter__(self):
        self._live.start()
        return self

    def __exit__(self, *_):
        self._live.stop()

    def show(self, rollout, line):
        if line is None and time.monotonic() - self._drawn < 0.5:
            return
        self._drawn = time.monotonic()
        self._live.update(self._table(rollout), refresh=True)

    def _table(self, rollout):
        from rich import box
        from rich.table import Table
        from rich.text import Text

        counts = ", ".join(
            f"{count} {self._words[state]}" for state, count in rollout.counts().items()
        )
        state = "paused" if rollout.paused else "no more site begins" if rollout.stopped else "runs"
        if rollout.deaf:
            state = "waits for the Salt master"
        title = f"rollout {rollout.id} of {rollout.what}, {self._duration(rollout.since, time.time())}, {state}: {counts}"
        table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for column in ("site", "wave", "", "time", "step", ""):
            table.add_column(column, no_wrap=True, overflow="ellipsis")
        room = max(self._console.height - 6, 3)
        sites = sorted(rollout.sites.values(), key=lambda one: _FIRST.index(one["state"]))
        for one in sites[:room]:
            cells = (
                one["site"],
                "canary" if one["canary"] else one["wave"] or "-",
                self._words[one["state"]],
                self._duration(one["since"], one["until"] or time.time()),
                one["step"] or "",
                (one["comment"].splitlines() or [""])[0],
            )
            # As text: brackets in what an agent said are no markup.
            table.add_row(
                *(Text(str(cell)) for cell in cells), style=_STYLE.get(one["state"], "dim")
            )
        if len(sites) > room:
            table.caption = f"and {len(sites) - room} more"
        return table
