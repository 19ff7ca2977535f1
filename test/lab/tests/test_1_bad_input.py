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


def on_demo2(make, undo):
    """Something that is in the way on demo2, and how it goes away."""
    return make, undo


def other_agent(asked, said, otherwise):
    """An om before the real one, which gives itself out for another version."""
    script = f'#!/bin/sh\n[ "$*" = "{asked}" ] && exec echo "{said}"\n{otherwise}\n'
    return on_demo2(
        f"cat >/usr/local/sbin/om <<'END'\n{script}END\nchmod 755 /usr/local/sbin/om",
        "rm /usr/local/sbin/om",
    )


OTHER_RESOURCE = (
    "resource other {\\n on demo1 { device /dev/drbd0; disk /dev/null; address 10.98.1.11:7999; meta-disk internal; }\\n"
    " on demo2 { device /dev/drbd0; disk /dev/null; address 10.98.1.12:7999; meta-disk internal; }\\n}\\n"
)

# The agent leaves the folders of what it deletes.
DELETE = (
    "om slapos/svc/comp1 delete; while test -e /etc/opensvc/namespaces/slapos/svc/comp1.conf; do :; done;"
    " rmdir -p --ignore-fail-on-non-empty /etc/opensvc/namespaces/slapos/svc"
)

# One run says all that is wrong. Each list is of what can be wrong at the same time: what it is, how the pillar is spoilt or what is in the way on demo2, and
# what the error says.
RUNS = {
    "form": [
        ("unknown key", change("drbd:prot", 7289), r"slapos_ha:drbd:prot: unknown key; known here: .*port"),
        ("wrong type", change("drbd:port", "abc"), r"slapos_ha:drbd:port: 'abc' is not right; give a free TCP port"),
        ("one node", change("cluster:nodes", nodes("demo1")), r"slapos_ha:cluster:nodes: \{demo1\} is not right; give exactly two nodes"),
        ("name too long", change("service:name", "c" * 40), r"slapos_ha:service:name: .* give a name of 1 to 31"),
    ],
    "three": [("three nodes", change("cluster:nodes", nodes("demo1", "demo2", "demo3")), r"give exactly two nodes")],
    "stranger": [("a node that is no minion", stranger, r"cluster:nodes:demo9: 'demo9' is no minion of this master \(accepted: demo1, demo2\)")],
    "address": [("two nodes, one address", change("cluster:nodes", {name: {"address": "10.98.0.11"} for name in HOSTS}), r"'10.98.0.11' is given for both nodes; give each node its own")],
    "world": [
        ("address of nobody", change("cluster:nodes:demo2:address", "10.98.0.99"), r"cluster:nodes:demo2:address: '10.98.0.99' is on no interface of demo2"),
        ("size larger than the disk", change("storage:size", "900g"), r"storage:size: '900g' is more than the \d+ MiB free below /opt on demo[12]"),
        ("wrong fingerprint", change("re6st:fingerprint", "sha256:" + "0" * 64), r"re6st:(registry|fingerprint): .*[Ff]ingerprint"),
        ("master down", change("slapos:master_url", "http://10.98.0.1:5099/"), r"slapos:master_url: .*10\.98\.0\.1:5099"),
    ],
    "obstacles": [
        ("a loop file that holds data", on_demo2("echo data >/opt/comp1.slapos.svc.lab.img", "rm /opt/comp1.slapos.svc.lab.img"), r"storage:path: /opt/comp1.slapos.svc.lab.img is there on demo2 .* may hold data"),
        (
            "a port taken",
            on_demo2(
                "systemd-run --unit taken python3 -m http.server --bind 10.98.1.12 7289; until ss -ltn | grep -q :7289; do :; done",
                "systemctl stop taken",
            ),
            r"drbd:port: something on demo2 listens on 10.98.1.12:7289",
        ),
        ("a minor taken", on_demo2(f"printf '{OTHER_RESOURCE}' >/etc/drbd.d/other.res", "rm /etc/drbd.d/other.res"), r"drbd:minor: 0 is used by resource other"),
        ("IPv6 off", on_demo2("sysctl -qw net.ipv6.conf.all.disable_ipv6=1", "sysctl -qw net.ipv6.conf.all.disable_ipv6=0"), r"re6st: IPv6 is off on demo2"),
        (
            "a foreign cluster",
            on_demo2(
                "cp -a /etc/opensvc/cluster.conf /root/cluster.conf; om cluster set --kw cluster.name=other --kw 'cluster.nodes=demo2 stranger'",
                "cp -a /root/cluster.conf /etc/opensvc/cluster.conf; rm /root/cluster.conf; systemctl restart opensvc-agent;"
                " until om daemon status --format json | grep -q monitor; do :; done",
            ),
            r"cluster:nodes: this node is already in cluster 'other' with stranger; correct the nodes, or take this node out",
        ),
    ],
    "versions": [
        ("no drbd module", on_demo2("modprobe -r drbd; mv /lib/modules /lib/modules.away", "mv /lib/modules.away /lib/modules; modprobe drbd"), r"drbd: kernel 6\.1\S* has no drbd module"),
        ("another agent version", other_agent("node --version", "om node version 2.1-1801", 'exec /usr/bin/om "$@"'), r"the OpenSVC agent is \S+ on demo1 and 2\.1-1801 on demo2; install one version on both"),
        (
            "a foreign service of that name",
            on_demo2("om slapos/svc/comp1 create && om slapos/svc/comp1 set --kw env.owner=somebody", DELETE),
            r"service:name: the cluster has a service slapos/svc/comp1 that is not this site's",
        ),
    ],
    "agent 3": [
        ("agent 3 with DRBD 8.4", other_agent("--version", "om version v3.0.0", "exit 2"), r"cluster:agent:version: agent v?3\.0\.0 needs DRBD 9 and this kernel has 8\.4"),
        ("registry down", change("re6st:registry", "http://10.98.0.1:9299"), r"re6st:registry: .*10\.98\.0\.1:9299"),
        ("a device that holds data", change("storage", {"backend": "device", "device": "/dev/ubda", "size": "600m"}), r"storage:device: '/dev/ubda' on demo[12] is not empty \(.*TYPE=ext4"),
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def refused(lab, before, request):
    """The run of one list, and both hosts right before and after it."""
    rows = RUNS[request.param]
    obstacles = [row[1] for row in rows if isinstance(row[1], tuple)]
    spoils = [row[1] for row in rows if callable(row[1])]
    for make, _ in obstacles:
        hosts.ssh(lab, "demo2", make)
    try:
        control.pillar(lab, lambda pillar: [spoil(pillar) for spoil in spoils] and None)
        obstructed = look(lab)
        answer = site.deploy(lab)
        return answer, obstructed, look(lab)
    finally:
        control.pillar(lab)
        for _, undo in reversed(obstacles):
            hosts.ssh(lab, "demo2", undo)


def says(answer, message):
    assert answer.retcode != 0, answer.text
    (said,) = answer.why.values()
    assert re.search(message, said), said
    assert "Nothing was changed." in said


@pytest.mark.parametrize(
    "refused, message",
    [(name, row[2]) for name, rows in RUNS.items() for row in rows],
    ids=[row[0] for rows in RUNS.values() for row in rows],
    indirect=["refused"],
    scope="module",
)
def test_bad_input_is_refused_before_anything_is_changed(refused, message):
    answer, obstructed, after = refused
    says(answer, message)
    assert after == obstructed


def test_what_was_in_the_way_is_gone(lab, before):
    assert look(lab) == before


def stopped(lab, message):
    before = look(lab)
    says(site.deploy(lab), message)
    assert look(lab) == before


def test_no_pillar(lab):
    top = lab.home / "salt/pillar/top.sls"
    kept = top.read_text()
    top.write_text("#!json\n{}")
    try:
        # As long as the minions have not noticed, each says it itself.
        stopped(lab, r"demo1 has no pillar slapos_ha\. Target the site's pillar at both")
        control.salt(lab, "salt", "*", "saltutil.refresh_pillar", "wait=True")
        stopped(lab, r"no minion with pillar slapos_ha answered")
    finally:
        top.write_text(kept)
        control.salt(lab, "salt", "*", "saltutil.refresh_pillar", "wait=True")


def test_a_minion_that_does_not_answer(lab):
    hosts.ssh(lab, "demo2", "systemctl stop salt-minion")
    try:
        stopped(lab, r"minion 'demo2' does not answer")
    finally:
        hosts.ssh(lab, "demo2", "systemctl start salt-minion")
        cli.ready(lab)


def test_test_mode_prints_the_plan_and_changes_nothing(lab):
    before = look(lab)
    answer = site.deploy(lab, test="True")
    assert answer.retcode == 0, answer.why
    assert [state["result"] for state in answer.states.values()] == [True] + [None] * (
        len(answer.states) - 1
    )
    assert (
        "would see to it that both nodes are one cluster"
        in answer.states["Both nodes are one cluster"]["comment"]
    )
    assert look(lab) == before
