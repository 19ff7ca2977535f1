"""
The raw numbers: test/bench/results.json.

``{"format": 1, "parts": {name: entry}}``, an entry being ``{"date", "commit", "machine", "load", "agent", "seconds", "failed", "samples", "facts"}``: ``samples``
are lists of numbers by name, in the order in which they were taken (the two sides of a ratio pair by pair), ``facts`` what else a reader has to know, and
``failed`` why the part ended early, or None. What was measured before that is kept.
"""

import datetime
import json
import math
import os
import pathlib
import platform
import re
import time

FORMAT = 1
FILE = pathlib.Path(__file__).with_name("results.json")
# Why a part ended early that somebody ended.
INTERRUPTED = "interrupted"
# Besides samples, facts and failed.
_TEXTS = ("date", "commit", "machine")


def machine():
    """What it is measured on, in one line."""
    text = pathlib.Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    memory = re.search(r"^MemTotal: +(\d+) kB$", pathlib.Path("/proc/meminfo").read_text(), re.M)
    system = platform.freedesktop_os_release()["PRETTY_NAME"]
    return (
        f"{os.cpu_count()} × {model[1] if model else platform.machine()}, {round(int(memory[1]) / 2**20)} GiB, {system}, "
        f"Linux {platform.release()}"
    )


class BadResults(ValueError):
    """A file that is no results: which part of it, and why."""


class Record:
    """What one part has measured so far."""

    def __init__(self, name, commit, machine, say=None):
        self.name, self.say = name, say or (lambda text: None)
        self.samples, self.facts, self.failed, self.agent = {}, {}, None, ""
        self._begun = time.monotonic()
        self._where = {
            "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "commit": commit,
            "machine": machine,
            # Of the last minute: what else was at work on the machine when it began.
            "load": os.getloadavg()[0],
        }

    def sample(self, name, value, told=True):
        """Keep a number, and tell it to who waits."""
        self.samples.setdefault(name, []).append(value)
        if told:
            self.say(f"{self.name}: {name} {value:.4g}")

    def fact(self, name, value):
        self.facts[name] = value

    def results(self):
        """The results that this part is."""
        entry = {
            **self._where,
            "agent": self.agent,
            "seconds": time.monotonic() - self._begun,
            "failed": self.failed,
            "samples": self.samples,
            "facts": self.facts,
        }
        return {"format": FORMAT, "parts": {self.name: entry}}


def empty():
    return {"format": FORMAT, "parts": {}}


def read(path):
    """The results of a file; those of a file that is not there are empty. Raises BadResults."""
    path = pathlib.Path(path)
    if not path.exists():
        return empty()
    try:
        return checked(json.loads(path.read_text()))
    except ValueError as error:
        raise BadResults(f"{path.name}: {error}") from None


def checked(found):
    """The results, when they are some. Raises BadResults."""
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise BadResults(f"is not of format {FORMAT}")
    if not isinstance(found.get("parts"), dict):
        raise BadResults("has no parts")
    for name, entry in found["parts"].items():
        if not isinstance(entry, dict):
            raise BadResults(f"part {name} is no mapping")
        for key in _TEXTS:
            if not isinstance(entry.get(key), str):
                raise BadResults(f"part {name} has no {key}")
        if not isinstance(entry.get("failed"), str | None):
            raise BadResults(f"part {name}: failed is a reason or null")
        for key in ("samples", "facts"):
            if not isinstance(entry.get(key), dict):
                raise BadResults(f"part {name} has no {key}")
        for sample, values in entry["samples"].items():
            if not isinstance(values, list) or not all(map(_number, values)):
                raise BadResults(f"part {name}: sample {sample} is no list of numbers from 0 on")
    return found


def _number(value):
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and value >= 0
    )


def merged(old, new):
    """The old results with the parts of the new ones in place of theirs; but what is whole stays where the new was only interrupted."""
    parts = dict(old["parts"])
    for name, entry in new["parts"].items():
        whole = name in parts and parts[name]["failed"] is None
        if not (whole and entry["failed"] == INTERRUPTED):
            parts[name] = entry
    return {"format": FORMAT, "parts": parts}


def write(path, results):
    """Put the results into the file, all of them or nothing."""
    path = pathlib.Path(path)
    making = path.with_name(f".{path.name}.{os.getpid()}")
    making.write_text(json.dumps(rounded(checked(results)), indent=1, sort_keys=True) + "\n")
    making.replace(path)


def rounded(value):
    """Raw numbers with the digits that mean something."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return value
