"""
How fast the parsers are, each on the largest recording that there is of what it reads: seconds of a call, and of the least that can be done with the same text,
`json.loads` where it is JSON and `str.splitlines` where it is not.
"""

import gc
import json
import sys
import time
from dataclasses import dataclass

from slaplab.base import REPO

sys.path.append(str(REPO / "test"))
from support import load_module  # noqa: E402 the path is set just above

# A sample lasts so long: the clock is then no part of it.
SECONDS = 0.1


@dataclass(frozen=True)
class Parser:
    """A function of _utils, what it is given besides the text, and where its recordings are."""

    id: str
    function: str
    more: tuple
    recordings: tuple
    reference: str = "splitlines"

    def text(self):
        """(path below the checkout, text) of the largest recording."""
        paths = sorted(path for pattern in self.recordings for path in REPO.glob(pattern))
        path = max(paths, key=lambda path: path.stat().st_size)
        return path.relative_to(REPO).as_posix(), path.read_text()

    def calls(self):
        """The two functions of a text that are compared."""
        module, name = self.function.split(".")
        parse = getattr(load_module(f"_utils/{module}.py", f"bench_{module}"), name)
        least = json.loads if self.reference == "json.loads" else str.splitlines
        return (lambda text: parse(text, *self.more)), least


def _recorded(kind):
    return f"test/unit/drbd/recorded/*/*.{kind}.out"


_OM2, _OM3 = "test/fixtures/opensvc-2.1", "test/fixtures/opensvc-3"
PARSERS = (
    Parser("status_2", "opensvc_agent.parse_status", (2,), (f"{_OM2}/*daemon_status.json.out",), "json.loads"),
    Parser("status_3", "opensvc_agent.parse_status", (3,), (f"{_OM3}/mon.json.out",), "json.loads"),
    Parser("schedule_2", "opensvc_agent.parse_schedule", (2, "demo1"), (f"{_OM2}/*print_schedule.json.out",), "json.loads"),
    Parser("schedule_3", "opensvc_agent.parse_schedule", (3, "demo1"), (f"{_OM3}/schedule.json.out",), "json.loads"),
    Parser("config", "opensvc_agent.parse_config", (), (f"{_OM2}/print_config.out",)),
    Parser("drbd_status", "drbd_parse.status_text", (), (f"{_OM2}/drbdsetup_status.out", _recorded("status"))),
    Parser("drbd_proc", "drbd_parse.proc_drbd", (), (f"{_OM2}/proc_drbd.out", _recorded("proc"))),
    Parser("drbd_generations", "drbd_parse.generations", (), (f"{_OM2}/get_gi.out", _recorded("gi"))),
    Parser("drbd_dump_xml", "drbd_parse.dump_xml", (), (f"{_OM2}/drbdadm_dump_xml.out",)),
    Parser("drbd_conf", "drbd_conf.resources", (), (f"{_OM2}/drbdadm_dump.out",)),
)  # fmt: skip


def measure(record, repetitions):
    """Put the seconds of each parser and of its reference into a part's record, in each repetition one after the other."""
    runs = []
    for parser in PARSERS:
        path, text = parser.text()
        calls = parser.calls()
        if not calls[0](text):
            raise ValueError(f"{parser.function} finds nothing in {path}")
        fact = {"function": parser.function, "recording": path, "bytes": len(text.encode()), "reference": parser.reference}  # fmt: skip
        record.fact(parser.id, fact)
        for name, call in zip((parser.id, f"{parser.id}:reference"), calls, strict=True):
            runs.append((name, call, text, _times(call, text)))
    for number in range(repetitions):
        for name, call, text, times in runs:
            record.sample(name, _seconds(call, text, times), told=False)
        record.say(f"{record.name}: {number + 1} of {repetitions}")


def _times(call, text):
    """How often a call has to be made to last long enough."""
    number = 1
    while (spent := _seconds(call, text, number) * number) < SECONDS:
        number = max(number * 2, int(number * SECONDS / max(spent, 1e-6)))
    return number


def _seconds(call, text, number):
    """Seconds of one of so many calls."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        begun = time.perf_counter()
        for _ in range(number):
            call(text)
        return (time.perf_counter() - begun) / number
    finally:
        if collecting:
            gc.enable()
