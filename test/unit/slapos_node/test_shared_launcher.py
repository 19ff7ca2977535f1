"""The launchers in Salt: read once for the states of a run, and anew for what comes later."""

import pytest
from salt.exceptions import CommandExecutionError
from support import ROOT, load_module

RE6ST = {
    "program": "re6stnet", "path": [], "conf_dir": "/etc/re6stnet", "ha_run_dir": "/run/re6stnet-ha", "start_seconds": 1, "stop_seconds": 1, "mesh_seconds": 1,
}  # fmt: skip


class Minion:
    """What a minion says of the formula's files, and what it was asked."""

    def __init__(self):
        self.asked, self.program, self.there = [], "re6stnet", True

    def cache_file(self, url, saltenv):
        self.asked.append(url)
        return str(ROOT / url.removeprefix("salt://")) if self.there else ""

    def renderer(self, url, default_renderer):
        self.asked.append(url)
        return {"re6st": {**RE6ST, "program": self.program}}


@pytest.fixture
def minion():
    return Minion()


@pytest.fixture
def read(minion, monkeypatch):
    """read(seconds later) -> re6st's launcher, as it is then."""
    util, now = load_module("_utils/slapos_launcher.py"), [1000.0]
    monkeypatch.setattr(util.time, "monotonic", lambda: now[0])
    salt = {"cp.cache_file": minion.cache_file, "slsutil.renderer": minion.renderer}

    def read(later=0):
        now[0] += later
        return util.service(salt, {"saltenv": None}, "re6st")

    return read


def test_the_states_of_a_run_share_what_was_read(minion, read):
    module, one = read()
    names = [url.rpartition("/")[2] for url in minion.asked]
    assert sorted(names) == ["re6st", "settings.json", "slapos"]
    again, two = read(59)
    # What a launcher remembers of its service is not shared.
    assert again is module and two is not one and two.program == "re6stnet"
    assert len(minion.asked) == 3


def test_what_comes_later_reads_anew(minion, read):
    read()
    minion.program = "/opt/re6st/bin/re6stnet"
    assert read(61)[1].program == "/opt/re6st/bin/re6stnet"
    assert len(minion.asked) == 6


def test_files_that_the_master_lacks_are_named_each_time(minion, read):
    minion.there = False
    for _ in range(2):
        with pytest.raises(CommandExecutionError, match="salt://slapos_ha/files/re6st is not in"):
            read()
    minion.there = True
    assert read()[1].program == "re6stnet"
