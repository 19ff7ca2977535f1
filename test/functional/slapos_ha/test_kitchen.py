"""The suites of kitchen.yml render with their pillars, as kitchen's machine would render them."""

import pytest
import yaml
from support import ROOT

KITCHEN = yaml.safe_load((ROOT / "kitchen.yml").read_text())


@pytest.mark.parametrize("suite", KITCHEN["suites"], ids=lambda suite: suite["name"])
def test_a_suite_renders(make_loaders, suite):
    provisioner = suite["provisioner"]
    (path,) = provisioner["pillars_from_files"].values()
    pillar = yaml.safe_load((ROOT / path).read_text())
    loaders = make_loaders(KITCHEN["provisioner"]["salt_minion_id"], pillar)
    assert loaders.modules.slapos_ha.validate() == []
    for sls in provisioner["state_top"]["base"]["*"]:
        low = loaders.modules.state.show_low_sls(sls)
        assert low and all(isinstance(chunk, dict) for chunk in low), low
        for chunk in low:
            assert f"{chunk['state']}.{chunk['fun']}" in loaders.states
        # Nothing that needs an agent, DRBD or the other node.
        assert {chunk["state"] for chunk in low} <= {"slapos_node", "slapos_firewall", "file", "pkg", "service"}  # fmt: skip
