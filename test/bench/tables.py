"""The tables of docs/scale.md from the raw numbers of scale.json: `make docs` puts them between the page's marks. Nothing here measures or reads anything."""

import re
import statistics

from bench import fit

# Sizes of which the page tells, in sites.
SIZES = (2, 50, 500, 5000)
_MARK = re.compile(r"(<!-- scale: (\w+) -->\n).*?(<!-- /scale -->)", re.S)
_MI, _GI = 2**20, 2**30


def filled(page, raw):
    """The page with what the raw numbers say between its marks; raises KeyError for a mark that is none of ``parts``."""
    made = parts(raw)
    return _MARK.sub(lambda found: f"{found[1]}{made[found[2]]}\n{found[3]}", page)


def parts(raw):
    """{name of a mark: Markdown}"""
    return {
        "machine": f"{raw['date']}, commit {raw['commit']}: {raw['machine']}.",
        "sizing": sizing(raw["estates"]),
        "slopes": slopes(raw["estates"]),
        "events": events(raw["estates"]),
        "rollout": rollout(raw["rollout"]),
        "without": rollout(raw["rollout_without_nodes"]),
    }


# --- What was measured ----------------------------------------------------------------------------------------------------------------------------


def _cpu(cost):
    return cost["cpu_run"] + cost["cpu_daemon"]


def _events(cost):
    return sum(cost["events"].values())


def each(estate, of, value):
    """
    What one site more costs in a rollout of ``of`` (status or deploy) on an estate of this size, ``value`` being a function of a run's costs.

    Each rollout begins with a question to all sites: that is what a status of one site is, but for that one site.
    """
    one, some = value(estate["one"]), value(estate["status"])
    status = (some - one) / (estate["some"] - 1)
    if of == "status":
        return status
    return (value(estate["deploy"]) - (one - status)) / estate["some"]


# What one site more costs is the difference of two rollouts: of fewer sites than these it is not seen.
_ENOUGH = 8
# name: (value of an estate, text of a number)
_METRICS = {
    "memory of the daemon, all minions connected": (lambda e: e["memory_all"], lambda v: f"{v / _MI:.0f} MiB"),
    "all minions start: processor": (lambda e: e["start"]["cpu"], lambda v: _seconds(v)),
    "look at all sites: time": (lambda e: e["look"]["seconds"], lambda v: _seconds(v)),
    "look at all sites: processor": (lambda e: _cpu(e["look"]), lambda v: _seconds(v)),
    "look at all sites: memory of salt-run": (lambda e: e["look"]["memory_run"], lambda v: f"{v / _MI:.0f} MiB"),
    "look at all sites: events": (lambda e: _events(e["look"]), lambda v: f"{v:.0f}"),
    "look at all sites: job cache": (lambda e: e["look"]["cache_bytes"], lambda v: f"{v / _MI:.1f} MiB"),
    "one more site's status: processor": (lambda e: each(e, "status", _cpu), lambda v: f"{v:.2f} s"),
    "one more site's deployment: processor": (lambda e: each(e, "deploy", _cpu), lambda v: f"{v:.2f} s"),
}  # fmt: skip


def _seconds(value):
    return f"{value:.0f} s" if value < 600 else f"{value / 60:.0f} min"


def points(estates, name):
    """[(sites, value)] of a metric."""
    value, _ = _METRICS[name]
    least = _ENOUGH if name.startswith("one more") else 1
    return [(one["sites"], value(one)) for one in estates if one["some"] >= least]


def sizing(estates):
    """A row for each metric, a column for each size; what was not measured is in italics."""
    lines = [
        "| | " + " | ".join(f"{size} sites" for size in SIZES) + " |",
        "|---|" + "---|" * len(SIZES),
    ]
    for name, (_, text) in _METRICS.items():
        cells = []
        for size in SIZES:
            value, known = fit.at(points(estates, name), size)
            cells.append(text(value) if known else f"*{text(value)}*")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def slopes(estates):
    """A row for each metric: the measured sizes, and the line through them."""
    lines = [
        "| | measured: sites: value | at 0 sites | each site more | farthest from the line |",
        "|---|---|---|---|---|",
    ]
    for name, (_, text) in _METRICS.items():
        known = points(estates, name)
        start, slope, worst = fit.line(known)
        measured = ", ".join(f"{size}: {text(value)}" for size, value in known)
        lines.append(
            f"| {name} | {measured} | {text(max(start, 0))} | {_small(slope, text)} | {worst:.0%} |"
        )
    return "\n".join(lines)


def _small(slope, text):
    unit = text(0).partition(" ")[2]
    if unit == "MiB":
        return f"{slope / 1024:.1f} KiB"
    return f"{slope * 1000:.2f} ms" if unit == "s" else f"{slope:.1f}"


def events(estates):
    """Events of one more site by kind, from the largest estate; they are the same in each."""
    estate = max(estates, key=lambda one: one["sites"])
    kinds = sorted({kind for key in ("one", "status", "deploy") for kind in estate[key]["events"]})
    lines = ["| events | status of a site | deployment where nothing is to do |", "|---|---|---|"]
    totals = []
    for kind in kinds:
        row = [each(estate, of, lambda cost: cost["events"].get(kind, 0)) for of in ("status", "deploy")]  # noqa: B023  # fmt: skip
        totals.append(row)
        lines.append(f"| {kind} | {row[0]:.0f} | {row[1]:.0f} |")
    sums = [sum(column) for column in zip(*totals, strict=True)]
    lines.append(f"| **together** | **{sums[0]:.0f}** | **{sums[1]:.0f}** |")
    size = [each(estate, of, lambda cost: cost["cache_bytes"]) / 1024 for of in ("status", "deploy")]  # fmt: skip
    lines.append(f"| in the job cache | {size[0]:.0f} KiB | {size[1]:.0f} KiB |")
    return "\n".join(lines)


def rollout(rows):
    """A row for each number of sites at once."""
    lines = [
        "| sites, all at once | time: least, median, most | ÷ one site | processor: jobs, daemon, minions played | memory of the jobs |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        times = row["seconds"]
        lines.append(
            f"| {row['n']} | {min(times):.1f}, {statistics.median(times):.1f}, {max(times):.1f} s | {row['ratio']:.2f} | "
            f"{row['cpu_run']:.1f}, {row['cpu_daemon']:.1f}, {row['cpu_players']:.1f} s | {row['memory_run'] / _MI:.0f} MiB |"
        )
    return "\n".join(lines)
