"""A node's facts through Salt's own loader: the module's files are loaded one by one, and share the pillar that the loader gives them."""

import copy
import pathlib

import pytest
import yaml
from support import ROOT

EXAMPLE = yaml.safe_load((ROOT / "pillar.example").read_text())


def test_a_preflight_validates_the_pillar_that_it_has_just_taken(make_loaders):
    wrong = copy.deepcopy(EXAMPLE)
    wrong["slapos_ha"]["re6st"]["registry"] = "ftp://x"
    modules = make_loaders(pillar=wrong).modules
    modules.pack["__pillar__"]["slapos_ha"] = copy.deepcopy(EXAMPLE["slapos_ha"])
    remembered = modules.slapos_ha.facts(applications=False)
    assert (remembered["node"], remembered["problems"]) == ("demo1", [])
    # One problem: the other values are as the pillar has them, also on Salt 3008, whose pillar.items masks them.
    [problem] = modules.slapos_ha.facts(preflight=True)["problems"]
    assert problem.startswith("slapos_ha:re6st:registry: 'ftp://x' is not right")


@pytest.mark.parametrize(
    "lost, left, asked",
    [("modules/slapos_node.py", "", True), ("states/drbd.py", "", False), ("states/drbd.py", "\0" * 4000, False)],
    ids=["empty", "empty and not asked for", "zeros"],
)  # fmt: skip
def test_a_preflight_says_what_a_loss_of_power_left_damaged(make_loaders, lost, left, asked):
    loaders = make_loaders(pillar=copy.deepcopy(EXAMPLE))
    path = pathlib.Path(loaders.opts["extension_modules"], lost)
    text = path.read_text()
    path.write_text(left)
    facts = loaders.modules.slapos_ha.facts(preflight=True)
    assert facts["unsynced"] is True
    # Only some of what is damaged is missed by what a fact asks for.
    assert any(isinstance(part, dict) and part.get("unsynced") for part in facts.values()) is asked
    path.write_text(text)
    assert "unsynced" not in loaders.modules.slapos_ha.facts(preflight=True)


def test_metrics_of_a_node_without_agent_and_module(make_loaders, tmp_path):
    modules = make_loaders(pillar=copy.deepcopy(EXAMPLE)).modules
    path = tmp_path / "slapos_ha.prom"
    number = modules.slapos_ha.metrics(path=str(path))
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    assert number == len(lines)
    assert {'slapos_ha_agent_up{site="paris"} 0', 'slapos_ha_problems{site="paris"} 0'} <= set(lines)  # fmt: skip
