"""The lab's command for a user who is not root."""

import multiprocessing
import os

import pytest
from slaplab import cli


def _as_nobody(answer):
    os.setgroups([])
    os.setuid(65534)
    answer.put(cli.main(["status"]))


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming somebody else needs root")
def test_the_command_says_why_it_needs_root(capfd):
    # A fork: what is imported already needs not be readable for nobody.
    context = multiprocessing.get_context("fork")
    answer = context.SimpleQueue()
    process = context.Process(target=_as_nobody, args=[answer])
    process.start()
    process.join(30)
    assert process.exitcode == 0 and answer.get() == 1
    assert "needs root: it makes a network namespace" in capfd.readouterr().err
