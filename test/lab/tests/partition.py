"""
Two nodes that hear nothing of each other, without an arbitrator: what happens on each, when, and how an operator ends it. By hand, with a real agent:
LAB_AGENT=<tree of agent 2.1> make lab-partition. What it measures is printed.
"""

import json
import time

import pytest
from slaplab import faults, hosts, links, site
from slaplab.base import HOSTS, wait

from .test_4_split_brain import links_of, on, recover

UP = ("up", "warn")


@pytest.fixture(scope="module")
def seer(lab):
    if not on(lab, "demo1", f"om {site.SERVICE} ls"):
        site.deployed(lab)
    wait("both disks are UpToDate", lambda: all(site.in_sync(lab, host) for host in HOSTS), 300, 2)
    seer = faults.Witness(lab)
    seer.start()
    yield seer
    seer.stop()


def instances(lab, host):
    """{host: how the service is there, as the agent of `host` says it}"""
    nodes = json.loads(on(lab, host, "om daemon status --format json"))["monitor"]["nodes"]
    return {
        name: (node["services"]["status"].get(site.SERVICE) or {}).get("avail", "unknown")
        for name, node in nodes.items()
    }


def told(begun, text):
    print(f"{time.monotonic() - begun:6.1f} s  {text}")


@pytest.fixture(scope="module")
def apart(lab, seer):
    """(survivor, victim): the service was up on the first when both networks were cut, and has started on the other."""
    wait("the filesystem is seen", lambda: len(seer.mounted()) == 1, 30)
    (survivor,) = seer.mounted()
    victim = next(host for host in HOSTS if host != survivor)
    begun = time.monotonic()
    links.cut(lab, victim, "replication")
    links.cut(lab, victim, "heartbeat")
    try:
        told(begun, f"both networks are cut, the service is up on {survivor}")
        wait("mounted on both", lambda: sorted(seer.mounted()) == sorted(HOSTS), 300)
        told(begun, f"{victim} has mounted its side of the disk")
        # Of two re6st with one certificate the mesh has a route to one: the other's is a warning.
        wait("up on both", lambda: all(instances(lab, h)[h] in UP for h in HOSTS), 300, 1)
        told(begun, f"the service runs on both: {[instances(lab, host)[host] for host in HOSTS]}")
        for host in HOSTS:
            hosts.ssh(lab, host, f"echo {host} >{site.MOUNT}/after && sync -f {site.MOUNT}/after")
    finally:
        links.mend(lab, victim, "replication")
        links.mend(lab, victim, "heartbeat")
    told(begun, "both networks are whole again")
    wait("DRBD sees the split brain", lambda: "StandAlone" in links_of(lab).values(), 120)
    told(begun, f"DRBD: {links_of(lab)}")
    wait("the agents hear each other", lambda: set(instances(lab, survivor)) == set(HOSTS), 120, 1)
    told(begun, f"{survivor}'s agent: {instances(lab, survivor)}")
    return survivor, victim


def test_each_node_goes_on_with_what_it_wrote_and_status_says_split_brain(lab, seer, apart):
    for host in HOSTS:
        assert on(lab, host, f"cat {site.MOUNT}/after") == host
    said = site.status(lab)
    print(said.stdout)
    assert said.returncode == 1
    words = " ".join(said.stdout.split())
    assert "split brain: both were written to after they parted" in words
    assert "salt-run state.orch orch.recover_split_brain" in words


def test_the_victim_that_is_named_stops_keeps_a_copy_and_follows(lab, seer, apart):
    survivor, victim = apart
    begun = time.monotonic()
    answer = recover(lab, victim=victim)
    for title, state in answer.states.items():
        told(begun, f"{title}: {state['comment']}")
    assert answer.retcode == 0, answer.why
    assert seer.mounted() == [survivor] and all(site.in_sync(lab, host) for host in HOSTS)
    assert on(lab, survivor, f"cat {site.MOUNT}/after") == survivor
    copied = answer.states["A copy of the data of the victim is kept"]["changes"][victim]
    copy = copied["copy"]["new"]
    look = f"mount -o ro,loop -t ext4 {copy} /mnt && cat /mnt/after; umount /mnt; rm {copy}"
    assert on(lab, victim, look) == victim
    wait("the site is whole", lambda: site.status(lab).returncode == 0, 120, 3)
    told(begun, "All is well.")
