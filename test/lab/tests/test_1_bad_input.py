"""What cannot become a site is refused in one clear error before anything is changed on either host."""

import concurrent.futures
import re

import pytest
from slaplab import cli, control, hosts, site
from slaplab.base import HOSTS

# What a refused deployment must leave as it was: the agent's files, DRBD, LVM, loop files, users, environments, mounts.
LOOK = (
    "find /etc/opensvc /etc/drbd.d /opt /srv /etc/opt /etc/re6stnet -xdev -not -path '/opt/salt/*' -not -path '/opt/re6st-lab/*' 2>/dev/null"
    " | LC_ALL=C sort | xargs -r stat -c '%n %s %a %U' 2>/dev/null | grep -v __pycache__ | grep -vE '^/etc/opensvc (4096|[0-9]+) ';"
    " cat /etc/passwd /proc/mounts; lvs --noheadings; losetup -a; cat /proc/drbd 2>&1 | head -3; ls /etc/systemd/system"
)


def look(lab):
    def seen(host):
        return hosts.ssh(lab, host, LOOK, check=False).stdout

    with concurrent.futures.ThreadPoolExecutor() as both:
        return dict(zip(HOSTS, both.map(seen, HOSTS), strict=True))


@pytest.fixture(scope="module")
def before(lab):
    return look(lab)


def change(key, value):
    def spoil(pillar):
        tree = pillar
        *parents, last = key.split(":")
        for part in parents:
            tree = tree.setdefault(part, {})
        tree[last] = value

    return spoil


def nodes(*names):
    return {name: {"address": f"10.98.0.{number}"} for number, name in enumerate(names, 11)}


def stranger(pillar):
    pillar["cluster"]["nodes"] = {**nodes("demo1"), "demo9": {"address": "10.98.0.19"}}
    pillar["drbd"]["addresses"] = {"demo1": "10.98.1.11", "demo9": "10.98.1.19"}


# how the pillar is spoilt, what the error says
PILLARS = [
    ("unknown key", change("drbd:prot", 7289), r"slapos_ha:drbd:prot: unknown key; known here: .*port"),
    ("wrong type", change("drbd:port", "abc"), r"slapos_ha:drbd:port: 'abc' is not right; give a free TCP port"),
    ("one node", change("cluster:nodes", nodes("demo1")), r"slapos_ha:cluster:nodes: \{demo1\} is not right; give exactly two nodes"),
    ("three nodes", change("cluster:nodes", nodes("demo1", "demo2", "demo3")), r"give exactly two nodes"),
    ("a node that is no minion", stranger, r"cluster:nodes:demo9: 'demo9' is no minion of this master \(accepted: demo1, demo2\)"),
    ("two nodes, one address", change("cluster:nodes", {name: {"address": "10.98.0.11"} for name in HOSTS}), r"'10.98.0.11' is given for both nodes; give each node its own"),
    ("address of nobody", change("cluster:nodes:demo2:address", "10.98.0.99"), r"cluster:nodes:demo2:address: '10.98.0.99' is on no interface of demo2"),
    ("name too long", change("service:name", "c" * 40), r"slapos_ha:service:name: .* give a name of 1 to 31"),
    ("size larger than the disk", change("storage:size", "900g"), r"storage:size: '900g' is more than the \d+ MiB free below /opt on demo[12]"),
    ("wrong fingerprint", change("re6st:fingerprint", "sha256:" + "0" * 64), r"re6st:(registry|fingerprint): .*[Ff]ingerprint"),
    ("registry down", change("re6st:registry", "http://10.98.0.1:9299"), r"re6st:registry: .*10\.98\.0\.1:9299"),
    ("master down", change("slapos:master_url", "http://10.98.0.1:5099/"), r"slapos:master_url: .*10\.98\.0\.1:5099"),
]  # fmt: skip


def refused(lab, message, before):
    answer = site.deploy(lab)
    assert answer.retcode != 0, answer.text
    comment = "\n".join(answer.failed.values())
    assert re.search(message, comment), comment
    assert "Nothing was changed." in comment
    assert look(lab) == before


@pytest.mark.parametrize(
    "spoil, message", [case[1:] for case in PILLARS], ids=[case[0] for case in PILLARS]
)
def test_a_bad_pillar(lab, before, spoil, message):
    control.pillar(lab, spoil)
    try:
        refused(lab, message, before)
    finally:
        control.pillar(lab)


def test_no_pillar(lab, before):
    top = lab.home / "salt/pillar/top.sls"
    kept = top.read_text()
    top.write_text("#!json\n{}")
    try:
        # As long as the minions have not noticed, each says it itself.
        refused(lab, r"demo1 has no pillar slapos_ha\. Target the site's pillar at both", before)
        control.salt(lab, "salt", "*", "saltutil.refresh_pillar", "wait=True")
        refused(lab, r"no minion with pillar slapos_ha answered", before)
    finally:
        top.write_text(kept)
        control.salt(lab, "salt", "*", "saltutil.refresh_pillar", "wait=True")


def test_a_minion_that_does_not_answer(lab, before):
    hosts.ssh(lab, "demo2", "systemctl stop salt-minion")
    try:
        answer = site.deploy(lab)
        assert answer.retcode != 0
        assert re.search(r"minion 'demo2' does not answer", "\n".join(answer.failed.values())), (
            answer.text
        )
    finally:
        hosts.ssh(lab, "demo2", "systemctl start salt-minion")
        cli.ready(lab)
    assert look(lab) == before


def other_agent(asked, said, otherwise):
    """A command that puts an om before the real one which gives itself out for another version."""
    script = f'#!/bin/sh\n[ "$*" = "{asked}" ] && exec echo "{said}"\n{otherwise}\n'
    return f"cat >/usr/local/sbin/om <<'END'\n{script}END\nchmod 755 /usr/local/sbin/om"


# what is in the way on demo2, how it goes away, what the error says
OBSTACLES = [
    ("a loop file that holds data", "echo data >/opt/comp1.slapos.svc.lab.img", "rm /opt/comp1.slapos.svc.lab.img", r"storage:path: /opt/comp1.slapos.svc.lab.img is there on demo2 .* may hold data"),
    ("a port taken", "systemd-run --unit taken python3 -m http.server --bind 10.98.1.12 7289; until ss -ltn | grep -q :7289; do :; done", "systemctl stop taken", r"drbd:port: something on demo2 listens on 10.98.1.12:7289"),
    (
        "a minor taken",
        "printf 'resource other {\\n on demo1 { device /dev/drbd0; disk /dev/null; address 10.98.1.11:7999; meta-disk internal; }\\n"
        " on demo2 { device /dev/drbd0; disk /dev/null; address 10.98.1.12:7999; meta-disk internal; }\\n}\\n' >/etc/drbd.d/other.res",
        "rm /etc/drbd.d/other.res",
        r"drbd:minor: 0 is used by resource other",
    ),
    ("no drbd module", "modprobe -r drbd; mv /lib/modules /lib/modules.away", "mv /lib/modules.away /lib/modules", r"drbd: kernel 6\.1\S* has no drbd module"),
    ("IPv6 off", "sysctl -qw net.ipv6.conf.all.disable_ipv6=1", "sysctl -qw net.ipv6.conf.all.disable_ipv6=0", r"re6st: IPv6 is off on demo2"),
    ("another agent version", other_agent("node --version", "om node version 2.1-1801", 'exec /usr/bin/om "$@"'), "rm /usr/local/sbin/om", r"the OpenSVC agent is \S+ on demo1 and 2\.1-1801 on demo2; install one version on both"),
    ("agent 3 with DRBD 8.4", other_agent("--version", "om version v3.0.0", "exit 2"), "rm /usr/local/sbin/om", r"cluster:agent:version: agent v?3\.0\.0 needs DRBD 9 and this kernel has 8\.4"),
    (
        "a foreign cluster",
        "cp -a /etc/opensvc/cluster.conf /root/cluster.conf; om cluster set --kw cluster.name=other --kw 'cluster.nodes=demo2 stranger'",
        "cp -a /root/cluster.conf /etc/opensvc/cluster.conf; rm /root/cluster.conf; systemctl restart opensvc-agent; until om daemon status --format json | grep -q monitor; do :; done",
        r"cluster:nodes: this node is already in cluster 'other' with stranger; correct the nodes, or take this node out",
    ),
    (
        "a foreign service of that name",
        "om slapos/svc/comp1 create && om slapos/svc/comp1 set --kw env.owner=somebody",
        "om slapos/svc/comp1 delete",
        r"service:name: the cluster has a service slapos/svc/comp1 that is not this site's",
    ),
    ("a device that holds data", None, None, r"storage:device: '/dev/ubda' on demo[12] is not empty \(.*TYPE=ext4"),
]  # fmt: skip


@pytest.mark.parametrize(
    "make, undo, message", [case[1:] for case in OBSTACLES], ids=[case[0] for case in OBSTACLES]
)
def test_an_obstacle_on_a_node(lab, make, undo, message):
    if make:
        hosts.ssh(lab, "demo2", make)
    else:
        control.pillar(
            lab, change("storage", {"backend": "device", "device": "/dev/ubda", "size": "600m"})
        )
    try:
        refused(lab, message, look(lab))
    finally:
        if undo:
            hosts.ssh(lab, "demo2", undo)
        else:
            control.pillar(lab)


def test_test_mode_prints_the_plan_and_changes_nothing(lab):
    before = look(lab)
    answer = site.deploy(lab, test="True")
    assert answer.retcode == 0, answer.text
    assert [state["result"] for state in answer.states.values()] == [True] + [None] * (
        len(answer.states) - 1
    )
    assert (
        "would see to it that both nodes are one cluster"
        in answer.states["Both nodes are one cluster"]["comment"]
    )
    assert look(lab) == before
