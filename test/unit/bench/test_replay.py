"""What simulated minions say is what a site that is well says, and what they ask is what this tree has."""

import json
import types

import jinja2
import pytest
import yaml
from bench import replay
from support import ROOT, load_module

from unit.slapos_ha.world import module, runner, site_util

REPLAY = replay.Replay()


@pytest.fixture
def heard():
    return {minion: REPLAY.answer(minion, "slapos_ha.facts") for minion in replay.minions("s00042")}


def test_the_formula_finds_the_site_well_and_nothing_to_do(heard):
    shape = heard["s00042n1"]["shape"]
    here = site_util._Site(None, {}, shape, heard)
    assert runner._wrong(here) == []
    to_do = {one["step"] for one in runner._plan(here) if not (one["done"] or one["always"])}
    assert to_do == set()
    assert here.active() == "s00042n1" and here.versions_apart() == here.ids_apart() == []
    assert site_util.pillars_apart(heard) == []


def test_nothing_of_the_recorded_site_is_left(heard):
    text = json.dumps(heard)
    assert "paris" not in text and "demo" not in text and "svc.slapos" not in text
    assert "s00042n2" in text


def test_its_pillar_is_right_for_each_of_its_minions(defaults, schema):
    for minion in replay.minions("s00042"):
        text = jinja2.Template(replay.pillar()).render(grains={"id": minion})
        given = yaml.safe_load(text)["slapos_ha"]
        merged = module.salt.utils.dictupdate.merge(defaults, given, merge_lists=False)
        assert module.problems_of_pillar(merged, schema) == []
        assert module.derive(merged, minion)["node"] == minion


def test_a_look_without_the_applications_says_nothing_of_them():
    said = REPLAY.answer("an1", "slapos_ha.facts", (), {"applications": False})
    assert "re6st" not in said and "slapos" not in said and said["node"] == "an1"


def test_a_highstate_finds_every_state_as_it_should_be():
    states = REPLAY.answer("an1", "state.sls", ["slapos_ha"], {"test": True})
    assert len(states) > 10 and all(state["result"] is True for state in states.values())
    site = load_module("_utils/slapos_site.py", "bench_test_site")
    site._call = lambda *_: {"an1": states}
    site._client = lambda opts: None
    assert site.differing({}, ["an1"], "slapos_ha") == {}


def test_what_a_deployed_site_is_asked_for_at_each_run_is_played():
    """Where a step that is never skipped applies another SLS, the played minions are silent at it and no run ends: scale.py record."""
    always = {name: act for name, _, done, act in runner._STEPS if done is None}
    assert set(always) == {"software", "verify"}
    asked = [load_module("_runners/slapos_ha_rollout.py", "bench_rollout")._SLS]
    always["software"](
        types.SimpleNamespace(nodes=["an1"], states=lambda nodes, function, sls: asked.append(sls))
    )
    assert len(asked) == 2
    for sls in asked:
        assert REPLAY.answer("an1", "state.sls", [sls]) and REPLAY.questions("state.sls", [sls])


def test_what_is_not_played_is_an_error():
    with pytest.raises(KeyError):
        REPLAY.answer("an1", "cmd.run", ["rm"])


def test_a_preflight_asks_for_the_pillar_and_another_look_does_not():
    def commands(**keywords):
        return [command for command, _ in REPLAY.questions("slapos_ha.facts", (), keywords)]

    assert commands(preflight=True) == ["_pillar", *commands()]
    assert set(commands()) == {"_file_hash", "_file_find"}


@pytest.mark.parametrize("function", replay.asked()[0])
def test_what_a_real_minion_asked_for_is_still_there(function):
    """Otherwise the recording is of another tree: scale.py record."""
    paths = {path for _, path in replay.asked()[0][function] if path}
    # Salt looks for both, and one of them is there.
    missing = {
        path
        for path in paths
        if not (ROOT / path).exists()
        and not (ROOT / path.removesuffix(".sls") / "init.sls").exists()
    }
    assert missing == set()
