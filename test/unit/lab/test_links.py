"""Which of the lab's links are cut, by commands that name nothing outside of its namespace."""

import types

import pytest
from slaplab import links
from slaplab.base import LabError


class Lab:
    def __init__(self):
        self.told = []

    def ip(self, *words):
        self.told.append(" ".join(words))
        return types.SimpleNamespace(stdout="… flood on isolated on locked off …")


@pytest.mark.parametrize("which, number", [("heartbeat", 0), ("replication", 1)])
@pytest.mark.parametrize("host", ["demo1", "demo2"])
@pytest.mark.parametrize("act, word", [(links.cut, "on"), (links.mend, "off")])
def test_both_ends_of_a_link_are_marked(host, which, number, act, word):
    lab = Lab()
    act(lab, host, which)
    assert sorted(lab.told) == [
        f"link set dev demo{n}-{number} type bridge_slave isolated {word}" for n in (1, 2)
    ]


def test_what_is_cut_is_seen():
    lab = Lab()
    assert links.is_cut(lab, "replication") is True
    assert lab.told == ["-d link show dev demo1-1"]


@pytest.mark.parametrize("host, which", [("demo3", "replication"), ("demo1", "power")])
def test_a_link_that_there_is_not(host, which):
    lab = Lab()
    with pytest.raises(LabError, match="there is no link"):
        links.cut(lab, host, which)
    assert lab.told == []
