"""
What the raw numbers say: rows with a ratio, a goal and whether it is reached; docs/performance.md; and the bars of its picture. Pure: numbers in, text out.

The part `rollout` is measured by scale.py and comes in with `run.py --merge scale.json`: samples `sites_1`, `sites_2`, … are seconds of a rollout of so many sites,
`memory_1`, … the MiB that the master took in it.
"""

import re
import statistics
from dataclasses import dataclass

GOAL_OF_ROLLOUT = 16


@dataclass(frozen=True)
class Row:
    """A comparison: samples `top` and `bottom` of a part, pair by pair; one of something stands against all of the other."""

    id: str
    part: str
    title: str
    top: str
    bottom: str
    # What both sides are called.
    sides: tuple
    unit: str = "s"
    # ratio, percent, or difference.
    how: str = "ratio"
    at_most: float | None = None
    at_least: float | None = None
    # A difference is of so many sites.
    sites: int = 1


_ROLES = (("active", "the active node"), ("standby", "the standby"))
ROWS = (
    Row("deploy", "deploy", "a full deployment", "seconds", "agent", ("all of it", "the agent's own commands in it"), at_most=1.15),
    Row("second", "second", "a second run", "seconds", "first", ("second", "first"), how="percent", at_most=8),
    *(
        Row(f"highstate_{role}", "highstate", f"no-op highstate, {words}", f"highstate_{role}", f"ping_{role}", ("`state.apply slapos_ha`", "`test.ping`"), how="difference", at_most=3)
        for role, words in _ROLES
    ),
    Row("move", "move", "a move there and back", "ours", "bare", ("`opensvc.placed`", "`om … switch`, until it is done"), at_most=1.1),
    Row("ansible", "ansible", "no-op run of Ansible, both nodes", "ansible", "salt", ("`ansible-playbook`", "`state.apply slapos_ha`"), at_least=20),
    *(
        Row(f"processes_{role}", "processes", f"processes that Salt starts, {words}", f"highstate_{role}", f"deploy_{role}", ("a no-op highstate", "a deployment"), unit="", how="percent")
        for role, words in _ROLES
    ),
    Row("copy_default", "sync", "DRBD's first copy, with DRBD's defaults", "default", "skipped", ("copied", "skipped")),
    Row("copy_tuned", "sync", "DRBD's first copy, with the formula's tuning", "tuned", "skipped", ("copied", "skipped")),
    Row("tuning", "sync", "what the tuning does to DRBD's first copy", "default", "tuned", ("DRBD's defaults", "the formula's tuning")),
)  # fmt: skip
HOW = {
    "deploy": "`salt-run state.orch orch.deploy` on two new hosts; each step reports what the agent's own commands took in it: those of its states, and `om` of its looks at both nodes.",
    "second": "The same command again, by the first: no change, no move.",
    "highstate": "`salt demo1 test.ping` and `salt demo1 state.apply slapos_ha` in turns; that nothing was changed is looked at each time. The first run is not counted.",
    "processes": "Programs that a process of Salt's starts by name (`om`, DRBD's, `systemctl`, `ufw` and a few more), counted by programs of the same names before them in PATH.",
    "move": "Each time there and back, who begins alternates. Bare is the agent's own command, on the host, and its daemon asked each second until the service is up there, idle and "
    "wanted nowhere else, since `--wait` returns early. Salt's side has its own start and answer in it.",
    "ansible": "`salt '*' state.apply slapos_ha`, and test/bench/ansible/converge.yml: files, packages, units, users and checks as plain modules over ssh, with pipelining, "
    "connections that stay open and no facts gathered. Both work on both hosts at once.",
    "sync": "A new disk on both hosts, the time from the command until both are UpToDate, by the host's clock. The two files of the resource differ in the resync's options only.",
    "parsers": "Each parser on the largest recording of what it reads, and the least that can be done with the same text.",
    "rollout": "`salt-run slapos_ha_rollout.run deploy` of so many sites at once with nothing to do, on a real master whose minions are played: [scale.md](scale.md).",
}  # fmt: skip


class BadExplanation(ValueError):
    """An explanation of what there is not."""


@dataclass(frozen=True)
class Outcome:
    """What a row has come to: lists of numbers, and whether its goal is reached, or None without a goal or numbers."""

    row: Row
    tops: list
    bottoms: list
    values: list
    reached: bool | None
    failed: str | None


def rows(results):
    """All rows: those with a goal, measured or not, the others where there are numbers."""
    parts = results["parts"]
    found = [row for row in ROWS if row.part in parts or goal(row)]
    samples = parts.get("rollout", {}).get("samples", {})

    def sizes(kind):
        names = (re.fullmatch(rf"{kind}_([1-9]\d*)", name) for name in samples)
        return sorted(int(name[1]) for name in names if name)

    sites = {1, GOAL_OF_ROLLOUT, *sizes("sites")}
    found += [_rollout(size) for size in sorted(sites) if size > 1]
    memory = sizes("memory")
    return found + ([_memory(memory[0], memory[-1])] if len(memory) > 1 else [])


def _rollout(size):
    at_most = 1.5 if size == GOAL_OF_ROLLOUT else None
    return Row(f"rollout_{size}", "rollout", f"a rollout of {size} sites", f"sites_{size}", "sites_1", (f"{size} sites", "one site"), at_most=at_most)  # fmt: skip


def _memory(first, last):
    sides = (f"{last} sites", f"{first} site{'s' * (first > 1)}")
    return Row("rollout_memory", "rollout", "memory of the master in a rollout", f"memory_{last}", f"memory_{first}", sides, unit="MiB", how="difference", sites=last - first)  # fmt: skip


def outcome(row, results):
    """What a row has come to."""
    entry = results["parts"].get(row.part, {"samples": {}, "failed": None})
    tops, bottoms = (entry["samples"].get(name, []) for name in (row.top, row.bottom))
    length = max(len(tops), len(bottoms))
    if tops and bottoms:
        tops, bottoms = (side * length if len(side) == 1 else side for side in (tops, bottoms))
    pairs = list(zip(tops, bottoms, strict=False))
    if row.how == "difference":
        values = [(top - bottom) / row.sites for top, bottom in pairs]
    else:
        times = 100 if row.how == "percent" else 1
        values = [times * top / bottom for top, bottom in pairs if bottom]
    reached = None
    if values and row.at_most is not None:
        reached = statistics.median(values) <= row.at_most
    elif values and row.at_least is not None:
        reached = statistics.median(values) >= row.at_least
    samples = entry["samples"]
    return Outcome(row, samples.get(row.top, []), samples.get(row.bottom, []), values, reached, entry["failed"])  # fmt: skip


def outcomes(results):
    return [outcome(row, results) for row in rows(results)]


# --- Numbers as text ------------------------------------------------------------------------------------------------------------------------------


def number(value):
    """Three digits that mean something, and no exponent; a count as it is."""
    if isinstance(value, int) or value == 0:
        return str(int(value))
    size = abs(value)
    places = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3 if size >= 0.1 else 4
    return f"{value:.{places}f}"


def spread(values, unit=""):
    """Minimum, median and maximum; one number by itself."""
    if not values:
        return "–"
    three = [min(values), statistics.median(values), max(values)]
    text = " / ".join(map(number, three if len(set(values)) > 1 else three[:1]))
    return f"{text} {unit}".rstrip()


# What stands behind what a row has come to.
_MARKS = {"ratio": "×", "percent": "%"}


def mark(row):
    return _MARKS.get(row.how) or f"{row.unit} {'more a site' if row.sites > 1 else 'above'}"


def compared(found):
    """What a row has come to."""
    return spread(found.values, mark(found.row) if found.values else "")


def goal(row):
    if row.at_most is not None:
        return f"≤ {row.at_most:g} {mark(row)}"
    return "" if row.at_least is None else f"≥ {row.at_least:g} {mark(row)}"


def verdict(found):
    if found.reached is None:
        return "not measured" if goal(found.row) else ""
    return "yes" if found.reached else "**no**"


# --- The page -------------------------------------------------------------------------------------------------------------------------------------


def _table(head, lines):
    return [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *(f"| {' | '.join(map(_cell, line))} |" for line in lines), ""]  # fmt: skip


def _cell(text):
    return str(text).replace("|", r"\|").replace("<", "&lt;").replace("\n", " ")


def _line(found):
    row = found.row
    return [
        row.title,
        f"{row.sides[0]}: {spread(found.tops, row.unit)}",
        f"{row.sides[1]}: {spread(found.bottoms, row.unit)}",
        len(found.values),
        compared(found),
    ]


def text(results):
    """What there is, for a terminal: a line for each row."""
    lines = [[*_line(one), goal(one.row), verdict(one)] for one in outcomes(results) if one.tops]
    lines += _speeds(results["parts"].get("parsers"))
    lines += [[name, entry["failed"]] for name, entry in results["parts"].items() if entry["failed"]]  # fmt: skip
    return "\n".join("  ".join(str(cell) for cell in line if cell != "") for line in lines)


def page(results, explained=None):
    """
    docs/performance.md. `explained` has for the id of a row why its goal is not reached; an id that is none, and one whose goal is reached, is refused
    (BadExplanation): it would say what is not so any more.
    """
    found = outcomes(results)
    parts = results["parts"]
    explained = explained or {}
    missed = {one.row.id: one for one in found if one.reached is False}
    if wrong := sorted(set(explained) - set(missed)):
        raise BadExplanation(f"explained, and not missed: {', '.join(wrong)}")
    lines = [
        "# Performance",
        "",
        "*Written by `make bench` from `test/bench/results.json`, not by hand.*",
        "",
        "Each line compares two things that were measured in turns, in one run, on one machine: the ratio is what can be compared with another machine's. Three numbers are the "
        "minimum, the median and the maximum of *n*; a goal is judged by the median. No test asserts a time.",
        "",
        f"![{alt(results)}](pictures/performance.svg)",
        "",
        "## Against the goals",
        "",
        *_table(
            ("what", "this", "that", "n", "this by that", "goal", "reached"),
            [[*_line(one), goal(one.row), verdict(one)] for one in found if goal(one.row)],
        ),
    ]
    others = [_line(one) for one in found if not goal(one.row)]
    if others:
        lines += ["## Without a goal", ""]
        lines += _table(("what", "this", "that", "n", "this by that"), others)
        lines += _of_the_copy(parts.get("sync"))
    lines += _parsers(parts.get("parsers"))
    lines += _programs(parts.get("processes"))
    lines += _steps(parts.get("deploy"))
    if explained:
        lines += ["## What falls short, and why", ""]
        for name, why in explained.items():
            one = missed[name]
            lines.append(f"- **{one.row.title}**, {compared(one)}: {why.strip()}")
        lines.append("")
    lines += ["## How it is measured", ""]
    lines += [f"- {name}: {HOW[name]}" for name in HOW if name in parts]
    lines += ["", "## The runs", ""]
    lines += _runs(parts)
    return "\n".join(lines).rstrip("\n") + "\n"


def _of_the_copy(entry):
    if not entry or "mib" not in entry["facts"]:
        return []
    said = f"The disk that is copied has {entry['facts']['mib']} MiB."
    shares = entry["facts"].get("share", [])
    if shares and min(shares) < 1:
        said += (
            f" With DRBD's defaults the end was not waited for: {spread([100 * share for share in shares], '%')} of it were copied in the time that was given, "
            "and the rest is reckoned at the same speed."
        )
    return [said, ""]


def _speeds(entry):
    lines = []
    for name, fact in entry["facts"].items() if entry else ():
        ours, least = (entry["samples"].get(f"{name}{end}", []) for end in ("", ":reference"))
        speed = [fact["bytes"] / seconds / 1e6 for seconds in ours if seconds]
        ratios = [one / other for one, other in zip(ours, least, strict=False) if other]
        lines.append(
            [
                f"`{fact['function']}`",
                f"`{fact['recording']}`, {fact['bytes']} bytes",
                len(ratios),
                spread(speed, "MB/s"),
                f"{spread(ratios, '×')} `{fact['reference']}`",
            ]
        )
    return lines


def _parsers(entry):
    lines = _speeds(entry)
    head = ("parser", "its largest recording", "n", "speed", "time")
    return ["## Parsers", "", *_table(head, lines)] if lines else []


def _programs(entry):
    if not entry or not entry["facts"]:
        return []
    lines = []
    for name, counts in entry["facts"].items():
        what, _, role = name.partition("_")
        words = "a deployment" if what == "deploy" else "a no-op highstate"
        named = ", ".join(f"`{program}` {count}" for program, count in sorted(counts.items(), key=lambda one: (-one[1], one[0])))  # fmt: skip
        lines.append([words, dict(_ROLES)[role], named or "none"])
    return ["## What Salt starts on a node", "", *_table(("in", "node", "programs"), lines)]


def _steps(entry):
    steps = entry["facts"].get("steps") if entry else None
    if not steps:
        return []
    lines = [
        [f"`{step}`", number(seconds), number(agent), number(max(seconds - agent, 0))]
        for step, seconds, agent in steps
    ]
    total = entry["samples"]["seconds"][-1]
    inside, agents = (sum(step[index] for step in steps) for index in (1, 2))
    lines.append(["between the steps", number(max(total - inside, 0)), "", number(max(total - inside, 0))])  # fmt: skip
    lines.append(["all of it", number(total), number(agents), number(max(total - agents, 0))])
    return [
        "## Where the time of a deployment goes",
        "",
        *_table(("step", "seconds", "the agent's own commands", "what is not theirs"), lines),
    ]


def _runs(parts):
    machines = list(dict.fromkeys(entry["machine"] for entry in parts.values()))
    lines = []
    for name, entry in parts.items():
        minutes = f"{entry['seconds'] / 60:.0f}" if "seconds" in entry else ""
        load = f"{entry['load']:.1f}" if "load" in entry else ""
        on = str(machines.index(entry["machine"]) + 1) if len(machines) > 1 else ""
        state = f"ended early: {entry['failed']}" if entry["failed"] else "whole"
        lines.append([name, entry["date"], entry["commit"], entry.get("agent", ""), minutes, load, on, state])  # fmt: skip
    head = ["part", "date", "commit", "agent", "minutes", "load at its begin", "machine", "state"]
    if len(machines) < 2:
        head.remove("machine")
        lines = [[*line[:6], line[7]] for line in lines]
    numbered = [f"{index}. {machine}" for index, machine in enumerate(machines, 1)]
    shown = numbered if len(machines) > 1 else machines
    return [*_table(head, lines), *shown]


# --- The picture ----------------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bar:
    """A row with a goal, for the picture: parts of the goal, 1 being just reached and less better; none where it was not measured."""

    title: str
    value: str
    goal: str
    lengths: tuple
    reached: bool | None


def chart(results):
    """The bars of the picture: each row that has a goal, as a part of what the goal allows."""
    bars = []
    for found in outcomes(results):
        row = found.row
        if not goal(row):
            continue
        if not found.values:
            bars.append(Bar(row.title, "not measured", goal(row), (), None))
            continue
        if row.at_most is not None:
            parts = [max(value, 0) / row.at_most for value in found.values]
        else:
            parts = [row.at_least / value for value in found.values if value > 0]
        median = statistics.median(found.values)
        lengths = (min(parts), statistics.median(parts), max(parts))
        value = f"{number(median)} {mark(row)}"
        bars.append(Bar(row.title, value, goal(row), lengths, found.reached))
    return bars


def alt(results):
    """The picture in words."""
    said = [
        f"{bar.title} {bar.value} (goal {bar.goal}{', not reached' if bar.reached is False else ''})"
        for bar in chart(results)
    ]
    return "Bars of what each goal allows: " + ("; ".join(said) or "nothing was measured")
