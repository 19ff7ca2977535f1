"""The runner under Salt's own loader, synced to a master as `salt-run saltutil.sync_all` does it; only the minions are played."""

import copy

import pytest
import salt.client
import salt.config
import salt.loader
import salt.runner
from support import ROOT
from unit.slapos_ha.world import TASKS, World


def master_opts(folder):
    """The options of a master that has this checkout as its file_roots and keeps what it writes below ``folder``."""
    opts = salt.config.DEFAULT_MASTER_OPTS.copy()
    opts.update(
        id="master_master",
        root_dir=str(folder),
        conf_file=str(folder / "master"),
        cachedir=str(folder / "cache"),
        pki_dir=str(folder / "pki"),
        sock_dir=str(folder / "run"),
        extension_modules=str(folder / "extmods"),
        log_file=str(folder / "master.log"),
        file_roots={"base": [str(ROOT)]},
        file_ignore_glob=[".git/*", "test/*"],
        fileserver_list_cache_time=0,
        __role="master",
    )
    for name in ("cache", "pki/minions", "run"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for minion in ("demo1", "demo2"):
        (folder / "pki/minions" / minion).write_text("a key")
    (folder / "master").write_text("")
    return opts


@pytest.fixture(scope="module")
def opts(tmp_path_factory):
    opts = master_opts(tmp_path_factory.mktemp("master"))
    salt.loader.runner(opts, utils=salt.loader.utils(opts))["saltutil.sync_all"]()
    return opts


class Minions:
    """Answers as LocalClient does for minions that give these facts; what is not asked for facts is noted."""

    def __init__(self, facts):
        self.facts, self.done = facts, []

    def cmd(self, target, function, **kwargs):
        if function == "slapos_ha.facts":
            return {name: {"ret": copy.deepcopy(facts)} for name, facts in self.facts.items()}
        self.done.append((target, function, *kwargs["arg"]))
        return {name: {"ret": {}} for name in target}


@pytest.fixture
def world(defaults, example):
    return (
        World(defaults, example)
        .cluster()
        .service()
        .drbd("UpToDate")
        .on("demo1")
        .enabled("app#0", "app#1", *TASKS)
    )


@pytest.fixture
def minions(world, monkeypatch):
    minions = Minions(world.facts)
    monkeypatch.setattr(salt.client, "get_local_client", lambda *_, **__: minions)
    return minions


@pytest.fixture
def runners(opts, minions):
    with salt.runner.RunnerClient(opts) as client:
        yield client.functions


def test_preflight_plan_and_status_of_a_healthy_site(runners):
    answer = runners["slapos_ha.step"]("preflight")
    assert answer["result"] is True, answer["comment"]
    assert "site paris: demo1 (preferred) and demo2" in answer["comment"]
    assert {entry["step"] for entry in answer["plan"] if not entry["done"]} == {
        "software",
        "verify",
    }
    plan = runners["slapos_ha.plan"]()["data"]
    assert "retcode" not in plan and "Plan of site paris (demo1, demo2)" in plan["paris"]
    status = runners["slapos_ha.status"]()["data"]
    assert "retcode" not in status and "All is well." in status["paris"]


def test_a_step_talks_to_the_minions(runners, minions):
    shape = runners["slapos_ha.step"]("preflight")["shape"]
    answer = runners["slapos_ha.step"]("sync", shape=shape)
    assert answer["result"] is True, answer["comment"]
    assert minions.done == [(["demo1"], "state.sls", "slapos_ha.sync")]


# Each raised in a util, which another loader has loaded than the runner that has to catch it.
def test_what_stops_in_a_util_is_an_answer_of_the_runner(runners, world):
    world.facts["demo2"]["problems"] = ["slapos_ha:drbd:port: 80 is not right"]
    answer = runners["slapos_ha.step"]("preflight")
    assert answer["result"] is False
    assert answer["comment"] == "demo2: slapos_ha:drbd:port: 80 is not right\nNothing was changed."
    for function in ("plan", "status"):
        data = runners[f"slapos_ha.{function}"]()["data"]
        assert data["retcode"] == 1 and data["problems"] == answer["comment"]


def test_a_red_gate_is_an_answer_of_the_runner(runners, world, minions):
    shape = runners["slapos_ha.step"]("preflight")["shape"]
    world.facts["demo1"]["cluster"]["nodes"]["demo2"]["frozen"] = True
    answer = runners["slapos_ha.step"]("re6st_switch", shape=shape)
    assert answer["result"] is False and minions.done == []
    assert "the service is not moved to demo2:" in answer["comment"]
    assert "node demo2 is frozen" in answer["comment"]
    assert "run the orchestration again" in answer["comment"]
