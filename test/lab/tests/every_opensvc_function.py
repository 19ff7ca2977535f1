"""
Every function of the module ``opensvc`` on the lab's agent, which is to be a real one: LAB_AGENT=<tree of agent 2.1> make lab-agent

By hand, and without a site: the agents become a cluster, and what is tried is tried on small objects of its own. The stand-in has only what the formula needs.
"""

import json

import pytest
from slaplab import control, hosts
from slaplab.base import HOSTS
from slaplab.functions import Functions

SERVICE, SECRET, CONFIG = "lab/svc/probe", "lab/sec/probe", "lab/cfg/probe"
SECTIONS = {
    "DEFAULT": {"nodes": "demo1 demo2", "orchestrate": "ha"},
    "fs#flag": {"type": "flag"},
    "task#t": {"type": "host", "command": "/bin/true", "schedule": "@60m"},
    "env": {"hard": "a b # 'c' \"d\" %e"},
}
OPENSVC = Functions("opensvc")
done, refused = OPENSVC.done, OPENSVC.refused


@pytest.fixture(scope="module")
def cluster(lab):
    for step in ("base", "cluster"):
        said = control.salt_json(lab, "salt-run", "slapos_ha.step", step)
        assert said["result"] is True, said["comment"]


@pytest.fixture(scope="module")
def service(lab, cluster):
    done(lab, "demo1", "create", SERVICE, config=SECTIONS)
    return SERVICE


def test_the_cluster_is_described(lab, cluster):
    assert done(lab, "demo1", "version")["major"] >= 2
    assert done(lab, "demo1", "daemon_running") is True
    assert set(done(lab, "demo1", "nodes")) == set(HOSTS)
    assert done(lab, "demo2", "heartbeats")["hb#1"]["peers"]["demo1"]["beating"] is True
    assert done(lab, "demo2", "cluster_status")["cluster"]["nodes"] == sorted(HOSTS)
    assert done(lab, "demo1", "check_nodes", "idle")["done"] is True
    assert "demo2" in json.dumps(done(lab, "demo1", "wait_member", "demo2", timeout=60))


def test_a_service_is_defined_and_changed(lab, service):
    assert "exists already" in refused(lab, "demo1", "create", service, config={})
    assert service in done(lab, "demo1", "objects")
    assert done(lab, "demo1", "config_show", service)["env"] == SECTIONS["env"]
    assert done(lab, "demo1", "config_get", service, "env.hard") == SECTIONS["env"]["hard"]
    assert done(lab, "demo1", "config_hash", service, "env.hard")
    done(lab, "demo1", "config_set", service, {"env.y": "1", "gone.k": "1"})
    done(lab, "demo1", "config_unset", service, ["env.y"])
    done(lab, "demo1", "config_delete_section", service, "gone")
    assert done(lab, "demo1", "config_show", service)["env"] == SECTIONS["env"]
    assert done(lab, "demo1", "config_validate", service)["valid"] is True
    hosts.ssh(lab, "demo1", f"om {service} print config >/root/probe.conf")
    assert done(lab, "demo1", "config_read", "/root/probe.conf")["env"] == SECTIONS["env"]


def test_a_service_is_started_moved_and_stopped(lab, service):
    def reached(goal, host="demo1"):
        return done(lab, "demo1", "wait", service, goal, node=host, timeout=120)

    done(lab, "demo1", "provision", service)
    reached("started")
    assert done(lab, "demo1", "status", service)["avail"] == "up"
    assert done(lab, "demo1", "instance_status", service)["avail"] == "up"
    assert done(lab, "demo1", "resource_status", service, "fs#flag")["status"] == "up"
    assert done(lab, "demo1", "check", service, "started")["done"] is True
    assert done(lab, "demo1", "replicas", service) == {}
    done(lab, "demo1", "refresh", service)
    assert [row for row in done(lab, "demo1", "schedule", service) if row["rid"] == "task#t"]
    done(lab, "demo1", "run_task", service, "task#t")
    for host, function, args, target in (
        ("demo1", "switch", ["demo2"], "demo2"),
        ("demo1", "takeover", [], "demo1"),
        ("demo2", "takeover", [], "demo2"),
        ("demo2", "giveback", [], "demo1"),
    ):
        done(lab, host, function, service, *args)
        reached("placed", target)
    done(lab, "demo1", "disable", service, ["task#t"])
    done(lab, "demo1", "enable", service, ["task#t"])
    done(lab, "demo1", "freeze", service)
    reached("frozen")
    done(lab, "demo1", "stop", service)
    reached("stopped")
    done(lab, "demo1", "start", service)
    done(lab, "demo1", "restart", service)
    done(lab, "demo1", "thaw", service)
    reached("thawed")
    done(lab, "demo1", "clear", service)
    done(lab, "demo1", "abort", service)
    done(lab, "demo1", "sync", service)


def test_a_service_goes(lab, service):
    assert "force=True" in refused(lab, "demo1", "unprovision", service)
    done(lab, "demo1", "unprovision", service, force=True)
    done(lab, "demo1", "delete", service)
    done(lab, "demo1", "create", SERVICE, config=SECTIONS)
    done(lab, "demo1", "provision", SERVICE)
    assert "force=True" in refused(lab, "demo1", "purge", service)
    done(lab, "demo1", "purge", service, force=True)
    done(lab, "demo1", "wait", service, "gone", timeout=120)
    assert service not in done(lab, "demo1", "objects")


def test_keys_and_what_is_shown_of_them(lab, cluster):
    hosts.ssh(lab, "demo1", "umask 077; printf 'one #1\\n' >/root/one; echo two >/root/two")
    done(lab, "demo1", "create", SECRET)
    done(lab, "demo1", "create", CONFIG)
    done(lab, "demo1", "key_add", SECRET, "k", source="/root/one")
    assert done(lab, "demo1", "keys", SECRET) == ["k"]
    before = done(lab, "demo1", "key_hash", SECRET, "k")
    assert "secret=True" in refused(lab, "demo1", "decode", SECRET, "k")
    assert done(lab, "demo1", "decode", SECRET, "k", secret=True) == "one #1\n"
    done(lab, "demo1", "key_change", SECRET, "k", source="/root/two")
    assert done(lab, "demo1", "key_hash", SECRET, "k") != before
    done(lab, "demo1", "key_set", CONFIG, "k", source="/root/one")
    assert done(lab, "demo1", "decode", CONFIG, "k") == "one #1\n"
    done(lab, "demo1", "key_remove", SECRET, "k")
    assert done(lab, "demo1", "keys", SECRET) == []
    for path in (SECRET, CONFIG):
        done(lab, "demo1", "delete", path)


def test_nodes_and_cluster_are_frozen_drained_and_thawed(lab, cluster):
    def reached(goal, nodes):
        done(lab, "demo1", "wait_nodes", goal, nodes=nodes, timeout=120)

    done(lab, "demo2", "node_freeze")
    reached("frozen", ["demo2"])
    done(lab, "demo2", "node_thaw")
    reached("thawed", ["demo2"])
    done(lab, "demo1", "cluster_freeze")
    reached("frozen", None)
    done(lab, "demo1", "cluster_thaw")
    reached("thawed", None)
    done(lab, "demo2", "node_drain")
    reached("drained", ["demo2"])
    done(lab, "demo2", "node_thaw")
    reached("thawed", ["demo2"])


def test_an_arbitrator_that_does_not_answer_is_named(lab, cluster):
    secret = {"arbitrator#1.secret": "slapos_ha:drbd:shared_secret"}
    done(lab, "demo1", "cluster_set", {"arbitrator#1.name": "10.98.0.1"}, pillars=secret)
    assert "(secret)" in json.dumps(done(lab, "demo1", "config_show", "cluster"))
    assert "10.98.0.1" in refused(lab, "demo1", "wait_arbitrator", "10.98.0.1", timeout=20)
    done(lab, "demo1", "config_delete_section", "cluster", "arbitrator#1")


def test_a_node_leaves_and_joins_again(lab, cluster):
    assert "not for jobs" in refused(lab, "demo1", "cluster_secret")
    done(lab, "demo2", "leave")
    assert set(done(lab, "demo2", "nodes")) == {"demo2"}
    done(lab, "demo2", "node_thaw")
    key = control.salt_json(lab, "salt", "demo2", "slapos_ha.public_key")["demo2"]
    sealed = done(lab, "demo1", "sealed_join_secret", key=key)
    done(lab, "demo2", "join", "demo1", secret_sealed=sealed)
    for host, other in (("demo1", "demo2"), ("demo2", "demo1")):
        done(lab, host, "wait_member", other, timeout=180)
    done(lab, "demo2", "rejoin", "demo1")
    done(lab, "demo2", "wait_member", "demo1", timeout=180)


def test_nothing_was_left_out(lab, cluster):
    assert OPENSVC.listed(lab) - OPENSVC.used == set()
