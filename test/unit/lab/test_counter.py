"""The counter of the lab notes what a process of Salt's starts, and nothing else, and the program does what it does."""

import os
import subprocess

import pytest
from slaplab import counter


@pytest.fixture
def counted(tmp_path):
    """counted(words) -> (what was printed, what was noted): a shell with these words as its command line starts `om` twice, with the counter before it."""
    real, before, record = tmp_path / "real", tmp_path / "before", tmp_path / "record"
    for folder in (real, before):
        folder.mkdir()
    program = real / "om"
    program.write_text('#!/bin/sh\necho "om $#: $2"\n')
    program.chmod(0o755)
    env = {**os.environ, "PATH": f"{before}:{real}:{os.environ['PATH']}"}
    lines = counter.script(("om", "drbdadm-that-is-nowhere"), str(before), str(record))
    subprocess.run(["sh", "-c", lines], env=env, check=True)
    # A second time it does not find itself as the real one.
    subprocess.run(["sh", "-c", lines], env=env, check=True)

    def run(*words):
        command = ["sh", "-c", "om x 'a  b'; om; true", *words]
        said = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
        assert said.stderr == ""
        return said.stdout.splitlines(), record.read_text().split()

    run.before = before
    return run


def test_what_salt_starts_is_noted_each_time_and_answers_as_it_would(counted):
    assert counted("/opt/salt/bin/salt-minion") == (["om 2: a  b", "om 0: "], ["om", "om"])


def test_what_others_start_is_not_noted(counted):
    assert counted("opensvc") == (["om 2: a  b", "om 0: "], [])


def test_a_program_that_is_not_there_is_left_out(counted):
    assert sorted(os.listdir(counted.before)) == ["om"]


def test_the_counter_starts_no_process_of_its_own():
    lines = counter.script().split("'")[1].replace("\\n", "\n").splitlines()
    assert [line.split()[0] for line in lines] == ["#!/bin/sh", "{", "case", "exec"]
