"""The command: a part that fails is recorded and the others go on, an interruption keeps what was measured, and nothing of this machine's paths is kept."""

import argparse
import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest
from bench import parts, results, run
from slaplab.base import REPO, Lab, LabError, cache


class World:
    """A lab that is none; `did` is what was done to it."""

    def __init__(self, lab):
        self.lab, self.did = lab, []

    def ready(self):
        self.did.append("ready")

    def agent(self):
        return "an agent"


def good(bench, record):
    """It goes well."""
    bench.did.append("good")
    record.sample("ours", 1.5)


def bad(bench, record):
    """It does not."""
    record.sample("ours", 2.5)
    raise LabError(f"{bench.lab.home}/logs and {REPO}/test:\n  no answer")


def stopped(bench, record):
    """Somebody stops it."""
    record.sample("ours", 3.5)
    raise KeyboardInterrupt


def stopped_at_once(bench, record):
    """Somebody stops it before there is a number."""
    raise SystemExit(143)


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A bench whose parts are those above; `kept` is what was stored."""
    functions = (("parsers", good), ("bad", bad), ("good", good), ("stopped", stopped), ("at_once", stopped_at_once), ("last", good))  # fmt: skip
    monkeypatch.setattr(parts, "PARTS", {name: (name != "parsers", function) for name, function in functions})  # fmt: skip
    world = World(Lab(tmp_path / "lab"))
    world.kept = results.empty()

    def store(new):
        world.kept = results.checked(results.merged(world.kept, new))

    world.go = lambda *names: run.measure(world, names, store, "abc1234")
    return world


def test_a_part_that_fails_is_recorded_with_its_reason_and_the_others_go_on(world, capsys):
    assert world.go("last", "bad", "good") is False
    entries = world.kept["parts"]
    assert list(entries) == ["bad", "good", "last"]
    assert entries["bad"]["failed"] == "LAB_HOME/logs and CHECKOUT/test: no answer"
    assert entries["bad"]["samples"] == {"ours": [2.5]}
    assert entries["good"]["failed"] is None and entries["good"]["agent"] == "an agent"
    assert "bad: FAILED: LAB_HOME/logs" in capsys.readouterr().out


def test_all_that_goes_well_is_well_and_the_lab_is_asked_for_where_it_is_needed(world):
    assert world.go("parsers", "good") is True
    assert world.did == ["good", "ready", "good"]
    assert world.kept["parts"]["parsers"]["agent"] == ""


def test_a_lab_that_cannot_be_had_fails_the_part(world):
    def ready():
        raise LabError("no lab")

    world.ready = ready
    assert world.go("parsers", "good") is False
    assert {name: entry["failed"] for name, entry in world.kept["parts"].items()} == {"parsers": None, "good": "no lab"}  # fmt: skip


def test_an_interruption_keeps_what_was_measured_until_then(world):
    with pytest.raises(KeyboardInterrupt):
        world.go("good", "stopped", "last")
    assert list(world.kept["parts"]) == ["good", "stopped"]
    entry = world.kept["parts"]["stopped"]
    assert entry["failed"] == "interrupted" and entry["samples"] == {"ours": [3.5]}


def test_what_was_stopped_before_a_number_leaves_the_former_results(world):
    with pytest.raises(SystemExit):
        world.go("at_once", "last")
    assert world.kept == results.empty()


def test_what_is_whole_does_not_give_way_to_what_was_interrupted(world):
    world.go("good")
    whole = {"stopped": world.kept["parts"]["good"]}
    world.kept["parts"] = dict(whole)
    with pytest.raises(KeyboardInterrupt):
        world.go("stopped")
    assert world.kept["parts"] == whole


def test_a_reason_has_no_path_of_this_machine_and_an_end(tmp_path):
    lab = Lab(tmp_path / "lab")
    text = f"{lab.home}/x {cache()}/y {REPO}/z {pathlib.Path.home()}/w"
    assert run.reason(LabError(text), lab) == "LAB_HOME/x CACHE/y CHECKOUT/z ~/w"
    assert run.reason(KeyError(), lab) == "KeyError"
    long = run.reason(LabError("a" * 9000 + "the end"), lab)
    assert len(long) < 500 and long.endswith("the end")


def test_the_machine_is_one_line_with_processors_memory_and_system():
    line = results.machine()
    assert "\n" not in line and f"{os.cpu_count()} × " in line and " GiB, " in line
    assert f"Linux {os.uname().release}" in line


@pytest.mark.parametrize(
    "words, said",
    [
        (["--only", "lunch"], "unknown: lunch; known: parsers, deploy,"),
        (["--repetitions", "0"], "'0' is no number from 1 on"),
        (["--sync-mib", "x"], "'x' is no number"),
    ],
)
def test_what_is_wrong_with_an_argument_is_said(words, said, capsys):
    with pytest.raises(SystemExit) as ended:
        run.main(words)
    assert ended.value.code == 2 and said in capsys.readouterr().err


def test_parts_are_measured_without_the_lab_merged_and_kept(tmp_path, monkeypatch, capsys):
    """The whole command, with the parsers' samples made short."""
    from bench import parsers

    monkeypatch.setattr(parsers, "SECONDS", 0.001)
    # Handlers are the process's: pytest has its own.
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    entry = {"date": "d", "commit": "c", "machine": "m", "failed": None, "samples": {"sites_1": [1.0], "sites_16": [1.25]}, "facts": {}}  # fmt: skip
    other, path, home = tmp_path / "other.json", tmp_path / "results.json", tmp_path / "lab"
    results.write(other, {"format": 1, "parts": {"rollout": entry}})
    common = ["--results", str(path), "--home", str(home)]
    assert run.main(["--only", "parsers", "--repetitions", "2", *common]) == 0
    assert run.main(["--merge", str(other), *common]) == 0
    kept = json.loads(path.read_text())["parts"]
    assert set(kept) == {"parsers", "rollout"} and kept["rollout"]["samples"] == entry["samples"]
    assert len(kept["parsers"]["samples"]) == 2 * len(parsers.PARSERS)
    assert all(len(values) == 2 and min(values) > 0 for values in kept["parsers"]["samples"].values())  # fmt: skip
    assert "a rollout of 16 sites" in capsys.readouterr().out
    assert run.main(["--merge", str(tmp_path / "none.json"), *common]) == 1
    other.write_text("{}")
    assert run.main(["--merge", str(other), *common]) == 1
    assert "other.json: is not of format 1" in capsys.readouterr().err


def test_a_second_bench_in_a_lab_is_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    lab = Lab(tmp_path / "lab")
    with run.alone(lab):
        words = ["--only", "parsers", "--home", str(lab.home), "--results", str(tmp_path / "r.json")]  # fmt: skip
        assert run.main(words) == 1
    assert "another bench is at work" in capsys.readouterr().err
    assert not (tmp_path / "r.json").exists()


def test_an_interrupt_from_outside_ends_it_with_its_code_and_keeps_the_numbers(tmp_path):
    path = tmp_path / "results.json"
    words = ["--only", "parsers", "--repetitions", "99999", "--results", str(path), "--home", str(tmp_path / "lab")]  # fmt: skip
    program = "import sys; from bench import parsers, run; parsers.SECONDS = 0.001; sys.exit(run.main(sys.argv[1:]))"
    process = subprocess.Popen(
        [sys.executable, "-c", program, *words],
        env={**os.environ, "PYTHONPATH": f"{REPO}/test:{REPO}/test/lab"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout.readline().startswith("bench: parsers: Each parser")
        assert process.stdout.readline().startswith("bench: parsers: 1 of 99999")
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130, said
    entry = results.read(path)["parts"]["parsers"]
    assert entry["failed"] == "interrupted" and entry["samples"]


def test_the_defaults_are_five_repetitions_and_one_deployment():
    options = run.parser().parse_args([])
    assert isinstance(options, argparse.Namespace)
    assert (options.repetitions, options.deploys, options.sync_mib, options.results) == (5, 1, 1024, results.FILE)  # fmt: skip
