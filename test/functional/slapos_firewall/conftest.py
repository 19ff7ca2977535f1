"""Salt's own loader over this checkout, with a pillar whose addresses are those of the network of these tests."""

import pytest
import yaml
from support import ROOT

# demo1 is the node, demo2 its peer; .3 is a third host.
FRONT, BACK, SIX = "10.255.78.{}", "10.255.79.{}", "fd78::{}"


@pytest.fixture(scope="module")
def loaders(make_loaders):
    pillar = yaml.safe_load((ROOT / "pillar.example").read_text())
    site = pillar["slapos_ha"]
    for number, name in enumerate(("demo1", "demo2"), 1):
        site["cluster"]["nodes"][name]["address"] = FRONT.format(number)
        site["drbd"]["addresses"][name] = BACK.format(number)
    site["cluster"]["heartbeats"] = {
        "hb#2": {"type": "multicast", "port": 10002},
        "hb#3": {"type": "unicast", "port": 10003},
    }
    site["firewall"] = {"backend": "nftables", "allow": [SIX.format(2)]}
    made = make_loaders("demo1", pillar)
    made.opts["slapos_node.root"] = f"{made.opts['root_dir']}/root"
    return made
