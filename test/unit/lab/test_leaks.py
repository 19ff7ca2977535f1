"""The lab's search for secrets finds what is planted, says where, and never says the value."""

import io
import json
import os
import subprocess
import sys
import time

import pytest
from slaplab import leaks, sampler
from slaplab.base import wait

CANARY = "canary-1b7e5a90c3"
LINES = "\n".join(sign * 64 for sign in "ABC")
PEM = f"-----BEGIN PRIVATE KEY-----\n{LINES}\n-----END PRIVATE KEY-----\n"


@pytest.fixture
def process():
    """process(argument, environment) -> its pid; a shell that waits for its standard input to end."""
    started = []

    def start(*args, **env):
        one = subprocess.Popen(
            ["sh", "-c", "read line", *args], stdin=subprocess.PIPE, env={**os.environ, **env}
        )
        started.append(one)
        return one.pid

    yield start
    for one in started:
        one.stdin.close()
        one.wait(10)


@pytest.mark.parametrize("where, args, env", [("cmdline", ["x", CANARY], {}), ("environ", [], {"TOKEN": CANARY})])  # fmt: skip
def test_a_secret_of_a_process_is_seen_once_for_each_place(process, where, args, env):
    mine = sampler.Sampler({"token": CANARY})
    assert mine.look() == []
    pid = process(*args, **env)
    found = []
    wait("it is seen", lambda: found.extend(mine.look()) or found, 5, 0.01)
    # Until the program is there, its process is a copy of this one.
    assert found == [{"name": "token", "where": where, "pid": pid, "program": "sh"}]
    assert mine.look() == [] and CANARY not in json.dumps(found)


def test_an_old_process_is_looked_at_again(process, monkeypatch):
    process("x", CANARY)
    mine = sampler.Sampler({})
    wait("it is old", lambda: mine.look() == [], 1)
    monkeypatch.setattr(sampler, "YOUNG", 0)
    mine.canaries = {"token": CANARY.encode()}
    assert mine.look() == []
    mine.again = 0
    assert [finding["name"] for finding in mine.look()] == ["token"]


def test_only_the_namespace_that_was_asked_for_is_looked_at(process):
    process("x", CANARY)
    here = os.readlink("/proc/self/ns/net")
    mine = sampler.Sampler({"token": CANARY}, netns=here)
    wait("it is seen", mine.look, 5, 0.01)
    assert sampler.Sampler({"token": CANARY}, netns="net:[1]").look() == []


def test_a_secret_that_is_made_later_is_learnt_from_its_file(process, tmp_path):
    path = tmp_path / "cluster.conf"
    mine = sampler.Sampler({}, files={"cluster": str(path)})
    process("x", CANARY)
    assert mine.look() == []
    path.write_text(f"[cluster]\nname = x\nsecret = {CANARY}\n")
    mine.again = 0
    assert [finding["name"] for finding in mine.look()] == ["cluster"]


@pytest.mark.parametrize(
    "text, secret",
    [
        (f"[cluster]\n  secret = {CANARY}\n", CANARY.encode()),
        (PEM, b"B" * 64),
        ("[cluster]\nname = x\n", None),
        ("", None),
    ],
)
def test_the_secret_of_a_file(text, secret):
    assert sampler.secret_in(text.encode()) == secret


@pytest.mark.parametrize("chunk", [4, 7, 1 << 20])
def test_a_secret_across_a_border_is_found(monkeypatch, chunk):
    monkeypatch.setattr(sampler, "CHUNK", chunk)
    text = b"x" * 9 + CANARY.encode() + b"y" * 30
    canaries = {"token": CANARY.encode(), "other": b"other"}
    assert sampler.found_in(io.BytesIO(text), canaries) == ["token"]
    assert sampler.found_in(io.BytesIO(b""), canaries) == []


@pytest.fixture
def tree(tmp_path):
    """Files that hold the secret, and others."""
    for name, text, mode in (
        ("etc/drbd.d/r0.res", f'shared-secret "{CANARY}";', 0o600),
        ("etc/drbd.d/open.res", f'shared-secret "{CANARY}";', 0o644),
        ("var/log/minion", f"[DEBUG   ] {CANARY}\n", 0o600),
        ("tmp/note", CANARY, 0o644),
        ("tmp/other", "nothing", 0o644),
        ("opt/x/site-packages/a.py", CANARY, 0o644),
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
    (tmp_path / "tmp/link").symlink_to(tmp_path / "tmp/note")
    os.mkfifo(tmp_path / "tmp/fifo")
    return tmp_path


def test_files_and_logs_with_a_secret_are_found_by_what_they_hold(tree):
    found = list(sampler.scan([str(tree)], {"drbd": CANARY.encode()}))
    assert {(item["path"].removeprefix(f"{tree}/"), item["mode"]) for item in found} == {
        ("etc/drbd.d/r0.res", "600"),
        ("etc/drbd.d/open.res", "644"),
        ("var/log/minion", "600"),
        ("tmp/note", "644"),
    }
    holders = {"drbd": rf"{tree}/etc/drbd\.d/[^/]+\.res"}
    # Its own place is no excuse for a file that others can read, nor the mode for another place.
    assert {item["path"].removeprefix(f"{tree}/") for item in leaks.strays(found, holders)} == {
        "etc/drbd.d/open.res",
        "var/log/minion",
        "tmp/note",
    }
    assert CANARY not in json.dumps(found)


def test_a_disk_image_is_judged_by_its_mode(tmp_path):
    image = tmp_path / "comp1.img"
    with open(image, "wb") as handle:
        handle.truncate(sampler.BIG + 1)
    for mode, stray in ((0o644, True), (0o600, False)):
        image.chmod(mode)
        found = list(sampler.scan([str(tmp_path)], {}))
        assert found == [{"name": "disk image", "path": str(image), "mode": f"{mode:o}"}]
        assert bool(leaks.strays(found, {"disk image": r".+\.img"})) is stray


def test_the_journal_is_searched(tmp_path):
    program = tmp_path / "journalctl"
    program.write_text(f"#!/bin/sh\necho MESSAGE={CANARY}\n")
    program.chmod(0o755)
    found = list(sampler.journal({"token": CANARY.encode()}, str(program)))
    assert found == [{"name": "token", "path": "(journal)", "mode": "-"}]
    assert leaks.strays(found, leaks.HOLDERS) == found
    assert list(sampler.journal({}, str(tmp_path / "none"))) == []


def test_the_program_samples_until_its_input_ends_and_prints_no_value(process):
    begin = {"mode": "sample", "canaries": {"token": CANARY}, "files": {}, "netns": None}
    with subprocess.Popen(
        [sys.executable, "-c", leaks.PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as program:  # fmt: skip
        program.stdin.write(json.dumps(begin) + "\n")
        program.stdin.flush()
        assert json.loads(program.stdout.readline()) == {"begin": True}
        pid = process("x", CANARY)
        assert json.loads(program.stdout.readline())["pid"] == pid
        begun = time.monotonic()
        program.stdin.close()
        said = program.stdout.read()
    assert json.loads(said)["passes"] > 0 and CANARY not in said
    assert time.monotonic() - begun < 5 and program.returncode == 0


def test_the_program_scans_and_says_that_it_is_done(tree):
    asked = {"mode": "scan", "canaries": {"drbd": CANARY}, "roots": [str(tree)]}
    done = subprocess.run(
        [sys.executable, "-c", leaks.PROGRAM], input=json.dumps(asked) + "\n", capture_output=True, text=True, check=True,
        env={"PATH": str(tree)},
    )  # fmt: skip
    *found, end = map(json.loads, done.stdout.splitlines())
    assert end == {"end": True} and len(found) == 4


def recorder(lines, events, known):
    """A recorder that has heard this, without a lab."""
    mine = leaks.Recorder.__new__(leaks.Recorder)
    mine.programs, mine.events, mine.known, mine.lab = dict.fromkeys(lines), events, known, None
    mine._said = lines.get
    return mine


def test_what_a_recorder_tells(monkeypatch):
    monkeypatch.setattr(leaks, "canaries", lambda lab: {"cluster": "made-later"})
    hit = {"name": "token", "where": "cmdline", "pid": 7, "program": "om"}
    window = {"name": "drbd", "where": "cmdline", "pid": 8, "program": "drbdsetup-84"}
    mine = recorder(
        {
            "demo1": [{"begin": True}, hit, window, {"passes": 100}, {"passes": 120}],
            "control": [],
        },
        [("salt/job/1/ret", repr({"return": [f"x{CANARY}"]})), ("salt/x", "made-later"), ("y", "")],
        {"token": CANARY},
    )
    assert mine.findings() == [
        "demo1: token in cmdline of process 7 (om)",
        "bus: token in event salt/job/1/ret",
        "bus: cluster in event salt/x",
    ]
    assert mine.passes() == {"demo1": 120, "control": 0}
