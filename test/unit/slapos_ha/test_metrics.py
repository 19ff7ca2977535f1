"""What a node knows of the site, as Prometheus reads it: every value has its place, what is not known has none, and nothing is said twice."""

import json
import re

import pytest
import yaml
from salt.exceptions import CommandExecutionError, SaltInvocationError
from support import ROOT, load_module

from .world import World

UTIL = load_module("_utils/slapos_metrics.py")
NOW = 1764400000.5
LINE = re.compile(r'^(\w+)(\{(?:\w+="(?:[^"\\]|\\[\\"n])*",?)*\})? (\d+)$')


@pytest.fixture
def world(defaults, example):
    """A site that is deployed, with the service on demo1."""
    world = World(defaults, example).deployed()
    for node, facts in world.facts.items():
        facts["unverified"] = []
        facts["drbd"]["split_brain"] = None
        role = "Primary" if node == "demo1" else "Secondary"
        facts["drbd"]["status"][world.shape["fqdn"]]["role"] = role
    return world


def values(facts):
    return {
        (name, *labels.values()): int(value) for name, labels, value in UTIL.samples(facts, NOW)
    }


def seen(world, node="demo1"):
    site = world.shape["site"]
    return {
        key[0].removeprefix("slapos_ha_") + "".join(f" {label}" for label in key[2:]): value
        for key, value in values(world.facts[node]).items()
        if key[1] == site
    }


def test_a_site_that_is_well(world):
    for node, here in (("demo1", 1), ("demo2", 0)):
        known = seen(world, node)
        other = "demo2" if node == "demo1" else "demo1"
        assert known["asked_timestamp_seconds"] == int(NOW) and known["problems"] == 0
        assert known["agent_up"] == known["service_up"] == 1
        assert known["service_here"] == known["drbd_primary"] == here
        assert known["drbd_up_to_date 0"] == 1
        assert known[f"drbd_connected {other}"] == known[f"drbd_peer_up_to_date {other} 0"] == 1
        assert known[f"heartbeat_beating hb#1 {other}"] == 1
        assert known["service_frozen"] == known["instance_failed"] == known["split_brain"] == 0
    assert seen(world)["resource_up app#0"] == 1


def test_each_sample_is_described_with_its_labels(world):
    for name, labels, _ in UTIL.samples(world.facts["demo1"], NOW):
        assert list(labels) == ["site", *UTIL.METRICS[name][0]], name


def test_what_is_not_well_has_its_value(world):
    facts = world.facts["demo1"]
    path, fqdn = world.shape["path"], world.shape["fqdn"]
    service = facts["cluster"]["objects"][path]
    service["avail"] = "down"
    service["instances"]["demo1"]["state"] = "start failed"
    service["instances"]["demo1"]["resources"]["app#0"]["status"] = "warn"
    facts["cluster"]["nodes"]["demo1"]["frozen"] = True
    facts["cluster"]["heartbeats"]["hb#1"]["peers"]["demo2"]["beating"] = False
    facts["drbd"]["split_brain"] = {"time": "2026-11-24T10:00:00Z"}
    disk = facts["drbd"]["status"][fqdn]
    disk["disk"][0]["disk"] = "Inconsistent"
    (connection,) = disk["connections"].values()
    connection["state"] = "StandAlone"
    connection["volumes"][0].update(disk="DUnknown", out_of_sync=3)
    known = seen(world)
    assert {name for name, value in known.items() if value} == {
        "asked_timestamp_seconds",
        "agent_up",
        "service_frozen",
        "service_here",
        "instance_failed",
        "drbd_primary",
        "drbd_out_of_sync_bytes demo2 0",
        "split_brain",
        *(name for name in known if name.startswith("resource_up") and name != "resource_up app#0"),
    }
    assert known["drbd_out_of_sync_bytes demo2 0"] == 3072


def test_a_frozen_service_is_frozen_on_every_node(world):
    world.facts["demo1"]["cluster"]["objects"][world.shape["path"]]["frozen"] = "mixed"
    assert seen(world)["service_frozen"] == 1


def test_what_cannot_be_asked_has_no_value(world):
    facts = world.facts["demo1"]
    facts["cluster"] = {"error": "the daemon is down"}
    facts["drbd"].update(status={"error": "no module"}, split_brain={"error": "not readable"})
    assert set(seen(world)) == {
        "asked_timestamp_seconds", "problems", "agent_up", "service_here", "unverified",
    }  # fmt: skip
    assert seen(world)["agent_up"] == 0


def test_a_resource_that_is_not_to_run_here_has_no_value(world):
    facts = world.facts["demo1"]
    resources = facts["cluster"]["objects"][world.shape["path"]]["instances"]["demo1"]["resources"]
    resources["app#0"]["disable"] = True
    resources["app#1"]["status"] = "n/a"
    assert not {"resource_up app#0", "resource_up app#1"} & set(seen(world))


def test_a_pillar_that_is_not_right_is_a_number():
    found = UTIL.samples({"site": None, "problems": ["one", "two"]}, NOW)
    assert found == [
        ("slapos_ha_asked_timestamp_seconds", {}, NOW),
        ("slapos_ha_problems", {}, 2),
    ]
    assert UTIL.text(found).splitlines()[-1] == "slapos_ha_problems 2"


def test_the_text_is_what_prometheus_reads(world):
    text = UTIL.text(UTIL.samples(world.facts["demo1"], NOW))
    assert text.endswith("\n") and "\n\n" not in text
    kinds = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")]
    assert len(kinds) == len(set(kinds))
    for line in text.splitlines():
        if not line.startswith("#"):
            name = LINE.match(line)[1]
            # A metric's values stand below its own head.
            assert kinds.index(name) >= 0
    order = [LINE.match(line)[1] for line in text.splitlines() if not line.startswith("#")]
    assert order == sorted(order, key=kinds.index)


def test_a_label_holds_any_text():
    text = UTIL.text([("slapos_ha_problems", {"site": 'a"b\\c\nd'}, 1)])
    (line,) = [line for line in text.splitlines() if not line.startswith("#")]
    assert line == 'slapos_ha_problems{site="a\\"b\\\\c\\nd"} 1' and LINE.match(line)


@pytest.fixture
def module(world):
    asked = []

    def facts(**kwargs):
        asked.append(kwargs)
        return world.facts["demo1"]

    module = load_module(
        "_modules/slapos_ha_metrics.py",
        __salt__={"slapos_ha.facts": facts},
        __utils__={"slapos_metrics.samples": UTIL.samples, "slapos_metrics.text": UTIL.text},
    )
    module.asked = asked
    return module


def test_the_launchers_are_not_asked(module):
    assert "slapos_ha_agent_up" in module.metrics()
    assert module.asked == [{"applications": False}]


def test_the_file_is_replaced_as_a_whole_and_others_may_read_it(module, tmp_path):
    path = tmp_path / "slapos_ha.prom"
    path.write_text("old")
    path.chmod(0o600)
    number = module.metrics(path=str(path))
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    assert len(lines) == number > 10
    assert path.stat().st_mode & 0o777 == 0o644
    assert [one.name for one in tmp_path.iterdir()] == ["slapos_ha.prom"]


@pytest.mark.parametrize("path", ["slapos_ha.prom", "/tmp/slapos_ha.txt"])
def test_a_path_that_the_collector_would_not_read(module, path):
    with pytest.raises(SaltInvocationError, match=re.escape(repr(path))):
        module.metrics(path=path)
    assert module.asked == []


def test_a_folder_that_is_not_there(module, tmp_path):
    with pytest.raises(CommandExecutionError, match="No such file or directory; make its folder"):
        module.metrics(path=str(tmp_path / "none/slapos_ha.prom"))


def test_the_rules_for_alerts_ask_for_metrics_that_there_are():
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/monitoring.md").read_text(), re.S)
    schedule, rules = map(yaml.safe_load, blocks)
    named = set(re.findall(r"\bslapos_ha_\w+", json.dumps([r["expr"] for g in rules["groups"] for r in g["rules"]])))  # fmt: skip
    assert len(named) > 5 and named <= set(UTIL.METRICS)
    (job,) = schedule["schedule"].values()
    assert job["function"] == "slapos_ha.metrics" and job["kwargs"]["path"].endswith(".prom")
