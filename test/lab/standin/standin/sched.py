"""Schedules: what is due when, and what ``print schedule`` shows."""

import os
import re
import time

from . import conf, env

EVERY = re.compile(r"@(\d+)([smhd]?)$")
NODE_WIDE = (
    ("compliance_auto", "DEFAULT.comp_schedule", "~00:00-06:00"),
    ("push_resinfo", "DEFAULT.resinfo_schedule", "@60"),
    ("status", "DEFAULT.status_schedule", "@10"),
)
DAY = 86400


def period(definition):
    """Seconds between two runs of an ``@`` schedule, None for one that is no such; a bare number is minutes."""
    match = EVERY.fullmatch(definition.strip())
    if match is None:
        return None
    number, unit = match.groups()
    return int(number) * (conf.DURATION_UNITS[unit] if unit else 60)


def entries(instance):
    """[(action, rid or None, keyword, definition)] of an object."""
    found = [(action, None, keyword, definition) for action, keyword, definition in NODE_WIDE]
    resources = instance.resources
    for rid in sorted(resources):
        if resources[rid].group == "task" and not resources[rid].disabled:
            definition = resources[rid].get("schedule")
            if definition:
                found.append(("run", rid, f"{rid}.schedule", definition))
    for rid in sorted(resources):
        if resources[rid].group == "sync" and not resources[rid].disabled:
            found.append(
                ("sync_all", rid, f"{rid}.schedule", resources[rid].get("schedule") or "@60")
            )
    return found


def stamp_file(instance, action, rid):
    return os.path.join(
        instance.var_dir, "scheduler", f"last_{action}_{rid}" if rid else f"last_{action}"
    )


def last(instance, action, rid):
    path = instance.status_file if action == "status" else stamp_file(instance, action, rid)
    try:
        return os.stat(path).st_mtime
    except OSError:
        return None


def ran(instance, action, rid):
    env.write_atomic(stamp_file(instance, action, rid), "")


def following(definition, previous, now):
    """When a schedule comes next."""
    seconds = period(definition)
    if seconds is None:
        # The windows of the night: the next midnight stands for them all.
        return float((int(now) // DAY + 1) * DAY)
    return max(now, previous + seconds) if previous is not None else now


def table(instance):
    """The rows of ``print schedule``."""
    now = time.time()
    rows = []
    for action, rid, keyword, definition in entries(instance):
        previous = last(instance, action, rid)
        rows.append(
            {
                "action": action,
                "config_parameter": keyword,
                "last_run": previous,
                "next_run": following(definition, previous, now),
                "schedule_definition": definition,
            }
        )
    return rows


def due(instance, now):
    """The (action, rid) pairs whose time has come, tasks and synchronisations only."""
    found = []
    for action, rid, _, definition in entries(instance):
        seconds = period(definition)
        if rid is None or seconds is None:
            continue
        previous = last(instance, action, rid)
        if previous is None or previous + seconds <= now:
            found.append((action, rid))
    return found
