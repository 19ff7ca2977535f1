"""Who may reach which port, from the pillar, in the words of each firewall."""

import copy
import xml.etree.ElementTree

import pytest
from salt.utils.dictupdate import merge
from support import load_module

FIREWALL = load_module("_utils/slapos_firewall.py")
module = load_module("_modules/slapos_ha.py")


def site(defaults, example, minion="demo1", heartbeats=None, **firewall):
    merged = merge(copy.deepcopy(defaults), copy.deepcopy(example["slapos_ha"]), merge_lists=False)
    merged["firewall"].update(firewall)
    merged["cluster"]["heartbeats"].update(heartbeats or {})
    return module.derive(merged, minion)


def test_by_default_no_firewall_is_touched(defaults):
    assert defaults["firewall"]["backend"] == "none"


@pytest.mark.parametrize(
    "minion, peer",
    [("demo1", ["192.0.2.12", "198.51.100.12"]), ("demo2", ["192.0.2.11", "198.51.100.11"])],
)
def test_the_groups_of_the_example(defaults, example, minion, peer):
    assert FIREWALL.groups(site(defaults, example, minion)) == [
        {"name": "replication", "proto": "tcp", "ports": [7289], "sources": peer[1:]},
        {"name": "agent", "proto": "tcp", "ports": [1214, 1215, 10000], "sources": peer},
    ]


def test_what_the_pillar_says_of_heartbeats_and_others_is_in_the_groups(defaults, example):
    heartbeats = {
        "hb#1": {"type": "unicast", "port": 10001, "port@demo2": 10009, "addr@demo1": "203.0.113.1", "addr@demo2": "2001:db8::2"},
        "hb#2": {"type": "multicast", "addr": "224.3.29.71"},
        "hb#3": {"type": "disk", "dev": "/dev/sdx"},
        "hb#4": {"type": "relay", "relay": "demo3", "secret": "x"},
    }  # fmt: skip
    here = site(
        defaults,
        example,
        heartbeats=heartbeats,
        allow=["192.0.2.0/24", "192.0.2.77", "2001:db8:1::/64"],
        listener_ports=[2214],
    )
    peers = ["192.0.2.0/24", "198.51.100.12", "2001:db8::2", "2001:db8:1::/64"]
    # A multicast comes back from the network to the node that sent it.
    all_ = ["192.0.2.0/24", "198.51.100.11", "198.51.100.12", "203.0.113.1", "2001:db8::2", "2001:db8:1::/64"]  # fmt: skip
    assert FIREWALL.groups(here)[1:] == [
        {"name": "agent", "proto": "tcp", "ports": [2214, 10001], "sources": peers},
        {"name": "agent", "proto": "udp", "ports": [10000], "sources": all_},
    ]
    found = FIREWALL.groups(here)
    for address, open_ in (("192.0.2.200", True), ("2001:db8:1::9", True), ("2001:db8:2::9", False), ("198.51.100.13", False)):  # fmt: skip
        assert FIREWALL.let_in(found, address) is open_
    # The replication is for its peer only, whoever may reach the agent.
    assert found[0]["sources"] == ["198.51.100.12"]


def test_the_table(defaults, example):
    text = FIREWALL.nftables(FIREWALL.groups(site(defaults, example, allow=["2001:db8::/64"])))
    assert (
        text
        == """\
# Written by Salt, SLS slapos_ha.firewall: who may reach the replication and the agent of this node.
table inet slapos_ha
delete table inet slapos_ha
table inet slapos_ha {
	chain input {
		type filter hook input priority filter - 5; policy accept;
		iifname "lo" return
		tcp flags & (syn | ack) != syn return
		tcp dport { 7289 } jump replication
		tcp dport { 1214, 1215, 10000 } jump agent
	}
	chain replication {
		ip saddr { 198.51.100.12 } return
		counter drop
	}
	chain agent {
		ip saddr { 192.0.2.12, 198.51.100.12 } return
		ip6 saddr { 2001:db8::/64 } return
		counter drop
	}
}
"""
    )


# Printed by ufw 0.36.2 on Debian 12.
STATUS = """\
Status: active

To                         Action      From
--                         ------      ----
7289/tcp                   ALLOW       198.51.100.12              # slapos_ha
1214,1215,10000/tcp        ALLOW       192.0.2.12                 # slapos_ha
1214,1215,7289,10000/tcp   DENY        Anywhere                   # slapos_ha
22/tcp                     ALLOW       Anywhere                  
1214,1215,10000/tcp        ALLOW       2001:db8::/64              # slapos_ha
1214,1215,7289,10000/tcp (v6) DENY        Anywhere (v6)              # slapos_ha
22/tcp (v6)                ALLOW       Anywhere (v6)             

"""  # noqa: W291 as ufw prints it
ADDED = """\
Added user rules (see 'ufw status' for running firewall):
ufw deny 10000/udp comment 'slapos_ha'
ufw allow from 192.0.2.12 to any port 1214,1215,10000 proto tcp comment 'slapos_ha'
ufw allow 22/tcp
ufw allow 80/tcp comment 'web'
"""
RULES = [
    "allow from 198.51.100.12 to any port 7289 proto tcp",
    "allow from 192.0.2.12 to any port 1214,1215,10000 proto tcp",
    "allow from 2001:db8::/64 to any port 1214,1215,10000 proto tcp",
    "deny 1214,1215,7289,10000/tcp",
]


def test_ufw_in_its_own_words():
    groups = [
        {"name": "replication", "proto": "tcp", "ports": [7289], "sources": ["198.51.100.12"]},
        {"name": "agent", "proto": "tcp", "ports": [1214, 1215, 10000], "sources": ["192.0.2.12", "2001:db8::/64"]},
    ]  # fmt: skip
    assert FIREWALL.ufw(groups) == RULES
    groups[1]["sources"] = ["198.51.100.12"]
    both = "allow from 198.51.100.12 to any port 1214,1215,7289,10000 proto tcp"
    assert FIREWALL.ufw(groups) == [both, "deny 1214,1215,7289,10000/tcp"]
    groups[0] |= {"sources": [], "ports": [*range(1, 17)]}
    groups[1]["ports"] = [53]
    # ufw takes 15 ports in one rule.
    assert FIREWALL.ufw(groups)[1:] == [
        "deny 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15/tcp", "deny 16,53/tcp",
    ]  # fmt: skip
    assert FIREWALL.ufw_added(ADDED) == [
        "deny 10000/udp",
        "allow from 192.0.2.12 to any port 1214,1215,10000 proto tcp",
    ]
    assert FIREWALL.ufw_contrary(ADDED, RULES) == []
    assert FIREWALL.ufw_contrary(ADDED, ["deny 22/tcp", "deny 10000/udp"]) == ["allow 22/tcp"]
    assert FIREWALL.ufw_active(STATUS) and not FIREWALL.ufw_active("Status: inactive\n")


def without(text):
    return "".join(line for line in STATUS.splitlines(keepends=True) if text not in line)


SIX = "".join(line for line in STATUS.splitlines(keepends=True) if "v6" in line or "2001" in line)


@pytest.mark.parametrize(
    "status, ipv6, good",
    [
        (STATUS, True, True),
        (STATUS.replace("22/tcp  ", "0/tcp  "), True, True),
        (without("198.51.100.12"), True, False),
        (without("2001:db8"), True, False),
        (without("10000/tcp (v6)"), True, False),
        (STATUS.replace(SIX, ""), True, False),
        # Where ufw has no IPv6 it cannot have the rules for it.
        (STATUS.replace(SIX, ""), False, True),
        (STATUS.replace("192.0.2.12 ", "192.0.2.99 "), True, False),
        (
            STATUS.replace("----\n7289", "----\n7289/tcp  ALLOW  Anywhere\n7289", 1),
            True,
            False,
        ),
        ("Status: active\n\n", True, False),
    ],
)
def test_rules_of_ufw_are_in_place_when_nothing_comes_before_them(status, ipv6, good):
    assert FIREWALL.ufw_in_place(status, RULES, ipv6) is good


def test_the_policy_of_firewalld_says_what_its_rules_say(defaults, example):
    found = FIREWALL.groups(site(defaults, example, allow=["2001:db8::/64"]))
    root = xml.etree.ElementTree.fromstring(FIREWALL.firewalld_policy(found).encode())
    assert root.attrib == {"target": "CONTINUE", "priority": "-1"}
    assert [(root.find(f"{way}-zone").get("name")) for way in ("ingress", "egress")] == ["ANY", "HOST"]  # fmt: skip
    said = []
    for rule in root.iter("rule"):
        source, port = rule.find("source"), rule.find("port")
        words = [f'rule priority="{rule.get("priority")}"']
        if source is not None:
            words.append(f'family="{rule.get("family")}" source address="{source.get("address")}"')
        words.append(f'port port="{port.get("port")}" protocol="{port.get("protocol")}"')
        said.append(" ".join([*words, rule[-1].tag]))
    assert said == FIREWALL.firewalld(found)
    assert 'rule priority="-1" port port="1215" protocol="tcp" drop' in said
    assert 'rule priority="-2" family="ipv6" source address="2001:db8::/64" port port="1215" protocol="tcp" accept' in said  # fmt: skip
