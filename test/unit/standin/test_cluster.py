"""Two daemons on this machine, each under a fake root: heartbeats, replication, orchestration, failover."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from .conftest import STANDIN

PATH = "slapos/svc/flag"
ADDRESSES = {"demo1": "127.98.7.11", "demo2": "127.98.7.12"}
CONFIG = "[DEFAULT]\nnodes = *\norchestrate = ha\n\n[fs#flag]\ntype = flag\n\n[sync#i0]\ndisable = true\n"


class Node:
    def __init__(self, name, folder):
        self.name = name
        self.root = folder / name
        self.env = {
            **os.environ,
            "STANDIN_ROOT": str(self.root),
            "STANDIN_NODE": name,
            "STANDIN_REJOIN_DELAY": "0.5",
            "STANDIN_TICK": "0.1",
        }
        self.etc = self.root / "etc/opensvc"
        self.etc.mkdir(parents=True)
        (self.etc / "node.conf").write_text("[node]\nready_period = 1\nrejoin_grace_period = 60\n")

    def om(self, *argv, data=None, check=True):
        done = subprocess.run(
            [sys.executable, "-E", str(STANDIN / "om"), *argv],
            input=data,
            capture_output=True,
            text=True,
            env=self.env,
            timeout=60,
            check=False,
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    def start(self):
        self.om("daemon", "start")

    def crash(self):
        """Kill the daemon as a dead machine would: no word to anybody; what is in volatile storage is lost."""
        pid = int((self.root / "var/lib/opensvc/osvcd.pid").read_text())
        os.kill(pid, signal.SIGKILL)
        for flag in (self.root / "dev/shm").rglob("*.flag"):
            flag.unlink()
        (self.root / "var/lib/opensvc/node/boot_id").write_text("another boot")

    def status(self):
        return json.loads(self.om("daemon", "status", "--format", "json").stdout)

    def instance(self, node):
        status = (
            self.status()["monitor"]["nodes"].get(node, {}).get("services", {}).get("status", {})
        )
        return status.get(PATH, {})

    def service(self):
        return self.status()["monitor"]["services"].get(PATH, {})


def until(condition, what, timeout=30):
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.1)
    pytest.fail(f"not within {timeout} s: {what}")


def stays(condition, what, seconds):
    """Nothing happens, which only a while of looking can show."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert condition(), what
        time.sleep(0.1)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    """demo1 and demo2, their daemons running, each in a cluster of its own."""
    folder = tmp_path_factory.mktemp("cluster")
    pair = {name: Node(name, folder) for name in ADDRESSES}
    for node in pair.values():
        node.start()
        for name, address in ADDRESSES.items():
            node.om("cluster", "set", "--kw", f"listener.addr@{name}={address}")
    yield pair
    for node in pair.values():
        node.om("daemon", "stop", check=False)


def idle(node):
    return all(
        one["monitor"]["status"] == "idle" for one in node.status()["monitor"]["nodes"].values()
    )


def test_a_new_node_has_a_cluster_of_its_own_with_a_secret_for_root_only(nodes):
    path = nodes["demo1"].etc / "cluster.conf"
    assert path.stat().st_mode & 0o777 == 0o600
    first = nodes["demo1"].om("cluster", "get", "--kw", "cluster.secret").stdout.strip()
    assert len(first) == 32 and int(first, 16)
    assert first != nodes["demo2"].om("cluster", "get", "--kw", "cluster.secret").stdout.strip()


def test_a_wrong_secret_is_refused(nodes):
    done = nodes["demo2"].om("daemon", "rejoin", "--node", "demo1", check=False)
    assert done.returncode == 1
    assert "join node demo1 failed: authentication refused" in done.stderr
    assert nodes["demo2"].om("node", "ls").stdout == "demo2\n"
    assert not (nodes["demo2"].root / "var/lib/opensvc/node/frozen").exists()


def test_the_second_node_joins_with_the_secret_of_the_first(nodes):
    first, second = nodes.values()
    keywords = ["cluster.name=lab", "hb#1.type=unicast", "hb#1.timeout=3", "hb#1.interval=1"]
    keywords += [f"hb#1.addr@{name}={address}" for name, address in ADDRESSES.items()]
    first.om("cluster", "set", *(word for keyword in keywords for word in ("--kw", keyword)))
    secret = first.om("cluster", "get", "--kw", "cluster.secret").stdout.strip()
    (second.etc / "cluster.conf").write_text(
        f"[cluster]\nsecret = {secret}\n\n[listener]\n"
        + "".join(f"addr@{name} = {address}\n" for name, address in ADDRESSES.items())
    )
    done = second.om("daemon", "rejoin", "--node", "demo1")
    assert done.stderr.splitlines()[-2:] == ["  join node demo1", "  thaw local node"]
    assert second.om("node", "ls").stdout == "demo1\ndemo2\n"
    for me, peer in ((first, "demo2"), (second, "demo1")):
        until(
            lambda me=me, peer=peer: all(
                me.status()[f"hb#1.{side}"]["peers"][peer]["beating"] for side in ("rx", "tx")
            ),
            f"{me.name} and {peer} beat",
        )
    until(lambda: idle(first) and idle(second), "both nodes are idle")
    assert second.status()["cluster"]["name"] == "lab"


def test_a_second_heartbeat_is_taken_up_by_both(nodes):
    first, second = nodes.values()
    first.om("cluster", "set", "--kw", "hb#2.type=unicast", "--kw", "hb#2.port=10001", "--kw", "hb#2.timeout=2", "--kw", "hb#2.interval=1",
             "--kw", "hb#2.addr@demo1=127.98.8.11", "--kw", "hb#2.addr@demo2=127.98.8.12")  # fmt: skip
    for me, peer in ((first, "demo2"), (second, "demo1")):
        until(
            lambda me=me, peer=peer: me.status()
            .get("hb#2.rx", {})
            .get("peers", {})
            .get(peer, {})
            .get("beating"),
            f"{me.name} hears {peer} on hb#2",
        )
    first.om("cluster", "unset", "--kw", "hb#2.type", "--kw", "hb#2.port", "--kw", "hb#2.timeout", "--kw", "hb#2.interval",
             "--kw", "hb#2.addr@demo1", "--kw", "hb#2.addr@demo2")  # fmt: skip
    until(lambda: "hb#2.rx" not in second.status(), "hb#2 is gone")


def test_objects_and_keys_reach_the_peer_and_the_newest_wins(nodes):
    first, second = nodes.values()
    first.om("slapos/cfg/flag", "create")
    first.om("slapos/cfg/flag", "add", "--key", "a", "--value", "one")
    until(
        lambda: second.om("slapos/cfg/flag", "decode", "--key", "a", check=False).stdout == "one",
        "key a on demo2",
    )
    second.om("slapos/cfg/flag", "change", "--key", "a", "--value", "two")
    until(
        lambda: first.om("slapos/cfg/flag", "decode", "--key", "a").stdout == "two",
        "the newer a on demo1",
    )


def test_a_new_service_is_frozen_and_not_started(nodes):
    first, second = nodes.values()
    first.om(PATH, "create", "--config", "-", data=CONFIG)
    until(
        lambda: first.service().get("frozen") == "frozen"
        and "demo2" in first.om("node", "ls").stdout,
        "frozen",
    )
    until(lambda: first.instance("demo2").get("frozen"), "the instance on demo2 is frozen")
    assert first.service()["avail"] == "down" and first.service()["provisioned"] is False


def test_provision_thaws_and_starts_on_the_preferred_node(nodes):
    first, _ = nodes.values()
    done = first.om(PATH, "provision", "--wait", "--time", "30s")
    assert done.stderr.endswith(f"  {PATH} defer target state set to provisioned\n")
    until(lambda: first.instance("demo1").get("avail") == "up", "up on demo1")
    until(
        lambda: first.service()["frozen"] == "thawed" and first.service()["placement"] == "optimal",
        "thawed",
    )
    assert first.instance("demo2")["avail"] == "down"


def test_switch_there_and_back(nodes):
    first, second = nodes.values()
    for target in ("demo2", "demo1"):
        assert first.om(PATH, "switch", "--to", target).returncode == 0
        until(lambda target=target: second.instance(target).get("avail") == "up", f"up on {target}")
        until(
            lambda: all(
                one.instance(one.name)["monitor"].get("global_expect") is None
                for one in nodes.values()
            ),
            "the target is forgotten",
        )
        flags = [
            name for name, node in nodes.items() if list((node.root / "dev/shm").rglob("*.flag"))
        ]
        assert flags == [target]


def test_a_frozen_instance_does_not_fail_over(nodes):
    first, second = nodes.values()
    first.om(PATH, "freeze")
    until(lambda: first.service()["frozen"] == "frozen", "frozen")
    first.om(PATH, "stop", "--local")
    until(lambda: second.instance("demo1").get("avail") == "down", "down on demo1")
    stays(lambda: second.service()["avail"] == "down", "a frozen instance is left alone", 2.5)
    first.om(PATH, "thaw")
    until(lambda: first.service()["avail"] == "up", "up again")


def test_what_ended_by_itself_is_started_again_as_often_as_configured(nodes):
    first, second = nodes.values()
    (flag,) = (first.root / "dev/shm").rglob("*.flag")
    flag.unlink()
    stays(lambda: not flag.exists(), "nothing starts it again", 2)
    words = ("fs#flag.restart=2", "monitor_schedule=@1s")
    first.om(PATH, "set", *(word for keyword in words for word in ("--kw", keyword)))
    until(flag.exists, "started again")
    until(lambda: idle(first) and second.instance("demo1").get("avail") == "up", "up where it was")
    assert second.instance("demo2")["avail"] == "down"
    first.om(PATH, "unset", "--kw", "fs#flag.restart", "--kw", "monitor_schedule")
    theirs = second.etc / "namespaces" / f"{PATH}.conf"
    until(lambda: "restart" not in theirs.read_text() and idle(second), "the peer knows it, too")


def test_a_restart_of_the_daemon_moves_nothing(nodes):
    first, second = nodes.values()
    first.om("daemon", "stop")
    # Longer than the heartbeat's timeout: the peer trusts the node that said it comes back.
    stays(
        lambda: second.service()["avail"] == "up" and second.instance("demo2")["avail"] == "down",
        "no failover",
        4.5,
    )
    first.start()
    until(lambda: idle(second) and second.instance("demo1").get("avail") == "up", "as before")


def test_a_crash_is_failed_over_and_the_node_comes_back_as_standby(nodes):
    first, second = nodes.values()
    first.crash()
    until(lambda: "demo1" not in second.status()["monitor"]["nodes"], "demo1 is stale")
    until(lambda: second.instance("demo2")["avail"] == "up", "up on demo2")
    first.start()
    until(
        lambda: idle(second) and idle(first) and first.instance("demo1").get("avail") == "down",
        "demo1 is back",
    )
    stays(lambda: first.instance("demo2")["avail"] == "up", "demo2 keeps it", 1.5)
    assert first.service() == {
        "avail": "up",
        "frozen": "thawed",
        "overall": "up",
        "placement": "non-optimal",
        "provisioned": True,
    }
    first.om(PATH, "giveback")
    until(lambda: second.instance("demo1").get("avail") == "up", "given back")


def test_purge_leaves_nothing(nodes):
    first, second = nodes.values()
    first.om(PATH, "purge")
    until(
        lambda: all(PATH not in node.om("svc", "ls").stdout for node in nodes.values()),
        "no configuration",
    )
    until(
        lambda: all(PATH not in node.status()["monitor"]["services"] for node in nodes.values()),
        "no status",
    )
    stays(
        lambda: all(PATH not in node.om("svc", "ls").stdout for node in nodes.values()),
        "it does not come back",
        1,
    )
