"""
Which ports of a node only its peer may reach, and the same in the words of nftables, ufw and firewalld: pure functions. For the ``slapos_firewall`` module.

A group is ``{"name", "proto", "ports", "sources"}``: one protocol's ports (sorted numbers) and who may begin to talk to them (networks, IPv4 first).
"""

import ipaddress
from xml.sax.saxutils import quoteattr

# Where both agents' heartbeats listen unless the configuration says otherwise.
HEARTBEAT_PORT = 10000
MARK = "slapos_ha"


def _networks(addresses):
    """Networks that do not overlap, in one order: older nft refuses a set with overlaps, and what is compared must not change by itself."""
    found = [ipaddress.ip_network(address, strict=False) for address in addresses]
    return [
        str(network.network_address) if network.num_addresses == 1 else str(network)
        for version in (4, 6)
        for network in ipaddress.collapse_addresses(n for n in found if n.version == version)
    ]


def groups(site):
    """
    The groups of a site, as one of its nodes sees them; ``site`` is that of ``slapos_ha.site``.

    The replication is for the peer's replication address alone. The agent's ports are for every address of the peer that the pillar knows and for
    ``firewall:allow``. What a node says to its own addresses comes in by its loopback, which all three firewalls leave alone; only the agent's multicasts come
    back from the network to the node that sent them.
    """
    node, peer, cluster = site["node"], site["peer"], site["cluster"]
    ports = {"tcp": {*site["firewall"]["listener_ports"]}, "udp": set()}
    addresses = {
        one: {site["drbd"]["addresses"][one], cluster["nodes"][one]["address"]}
        for one in (node, peer)
    }
    for heartbeat in cluster["heartbeats"].values():
        if heartbeat["type"] in ("unicast", "multicast"):
            port = heartbeat.get(f"port@{node}", heartbeat.get("port", HEARTBEAT_PORT))
            ports["tcp" if heartbeat["type"] == "unicast" else "udp"].add(port)
        if heartbeat["type"] == "unicast":
            for one, known in addresses.items():
                known |= {
                    value for key, value in heartbeat.items() if key in ("addr", f"addr@{one}")
                }
    replication = {"name": "replication", "proto": "tcp", "ports": [site["drbd"]["port"]]}
    found = [{**replication, "sources": _networks([site["drbd"]["addresses"][peer]])}]
    sources = {"tcp": addresses[peer], "udp": addresses[peer] | addresses[node]}
    return found + [
        {
            "name": "agent",
            "proto": proto,
            "ports": sorted(numbers),
            "sources": _networks({*sources[proto], *site["firewall"]["allow"]}),
        }
        for proto, numbers in ports.items()
        if numbers
    ]


def let_in(found, address):
    """Whether the agent's ports are open for an address."""
    one = ipaddress.ip_address(address)
    return any(
        one in ipaddress.ip_network(source)
        for group in found
        for source in group["sources"]
        if group["name"] == "agent"
    )


# --- nftables -----------------------------------------------------------------------------------------------------------------------------------


def nftables(found):
    """
    A file for ``nft -f`` with one table of our own, which takes the place of its former self in one transaction and touches nobody else's.

    Only what begins a connection is judged, so that one that is under way is not cut, and the answers to what this node asks of others come in whichever port
    they are for. What is let in here is still everybody else's to drop.
    """
    lines = [
        "# Written by Salt, SLS slapos_ha.firewall: who may reach the replication and the agent of this node.",
        f"table inet {MARK}",
        f"delete table inet {MARK}",
        f"table inet {MARK} {{",
        "\tchain input {",
        "\t\ttype filter hook input priority filter - 5; policy accept;",
        '\t\tiifname "lo" return',
        "\t\ttcp flags & (syn | ack) != syn return",
    ]
    chains = {}
    for group in found:
        ports = ", ".join(map(str, group["ports"]))
        chain = group["name"] if group["proto"] == "tcp" else f"{group['name']}_{group['proto']}"
        lines.append(f"\t\t{group['proto']} dport {{ {ports} }} jump {chain}")
        chains[chain] = group["sources"]
    lines.append("\t}")
    for name, sources in chains.items():
        lines.append(f"\tchain {name} {{")
        for family, six in (("ip", False), ("ip6", True)):
            mine = ", ".join(source for source in sources if (":" in source) is six)
            if mine:
                lines.append(f"\t\t{family} saddr {{ {mine} }} return")
        lines += ["\t\tcounter drop", "\t}"]
    return "\n".join([*lines, "}", ""])


# --- ufw ------------------------------------------------------------------------------------------------------------------------------------------


def ufw(found):
    """
    The rules, first to last, in ufw's own words as ``ufw show added`` prints them: one for all that a source may reach, since each is a process or two of ufw's.
    """
    rules = []
    for proto in dict.fromkeys(group["proto"] for group in found):
        own = [group for group in found if group["proto"] == proto]
        closed = {port for group in own for port in group["ports"]}
        reached = {}
        for group in own:
            for source in group["sources"]:
                reached.setdefault(source, set()).update(group["ports"])
        rules += [
            f"allow from {source} to any port {listed} proto {proto}"
            for source, ports in reached.items()
            for listed in _listed(ports)
        ]
        rules += [f"deny {listed}/{proto}" for listed in _listed(closed)]
    return rules


def _listed(ports):
    # The most that one rule takes (ufw 0.36).
    some = sorted(ports)
    while some:
        yield ",".join(map(str, some[:15]))
        some = some[15:]


def ufw_added(text):
    """Those rules in what ``ufw show added`` prints that are ours."""
    # ufw allow from 192.0.2.12 to any port 1214,1215,10000 proto tcp comment 'slapos_ha'
    ending = f" comment '{MARK}'"
    return [
        line.removeprefix("ufw ").removesuffix(ending)
        for line in text.splitlines()
        if line.startswith("ufw ") and line.endswith(ending)
    ]


def ufw_contrary(text, rules):
    """Rules of somebody else's in ``ufw show added`` that are one of these but for what they do: ufw would keep them, and leave ours out."""
    mine = {rule.partition(" ")[2]: rule for rule in rules}
    said = [line.removeprefix("ufw ").partition(" comment ")[0] for line in text.splitlines()]
    return [rule for rule in said if mine.get(rule.partition(" ")[2], rule) != rule]


def ufw_active(text):
    """Whether ``ufw status`` says that it filters."""
    return text.startswith("Status: active")


def ufw_in_place(text, rules, ipv6=True):
    """
    Whether ``ufw status`` has the rules before all others, for each of IPv4 and IPv6: a rule of somebody else's before them would open what they close.
    """
    # To                         Action      From
    # 1214,1215,10000/tcp        ALLOW       192.0.2.12                 # slapos_ha
    # 1214,1215,10000/tcp (v6)   DENY        Anywhere (v6)              # slapos_ha
    rows = {4: [], 6: []}
    for line in text.splitlines():
        words, _, comment = line.partition("# ")
        words = words.split()
        if (
            len(words) > 2
            and not words[0].startswith("-")
            and ("ALLOW" in words or "DENY" in words)
        ):
            six = "(v6)" in words or ":" in words[-1]
            plain = [word for word in words if word != "(v6)"]
            rows[6 if six else 4].append((*plain, comment.strip()))
    wanted = {4: [], 6: []}
    for rule in rules:
        words = rule.split()
        if words[0] == "deny":
            for version in (4, 6):
                wanted[version].append((words[1], "DENY", "Anywhere", MARK))
        else:
            row = (f"{words[6]}/{words[8]}", "ALLOW", words[2], MARK)
            wanted[6 if ":" in words[2] else 4].append(row)
    versions = (4, 6) if ipv6 else (4,)
    ours = sum(row[-1] == MARK for version in (4, 6) for row in rows[version])
    return ours == sum(len(wanted[version]) for version in versions) and all(
        rows[version][: len(wanted[version])] == wanted[version] for version in versions
    )


# --- firewalld ------------------------------------------------------------------------------------------------------------------------------------


def firewalld(found):
    """The rich rules of a policy of our own, as ``firewall-cmd --list-rich-rules`` prints them."""
    rules = []
    for group in found:
        for port in group["ports"]:
            element = f'port port="{port}" protocol="{group["proto"]}"'
            for source in group["sources"]:
                family = "ipv6" if ":" in source else "ipv4"
                rules.append(
                    f'rule priority="-2" family="{family}" source address="{source}" {element} accept'
                )
            rules.append(f'rule priority="-1" {element} drop')
    return rules


def firewalld_policy(found):
    """The file of that policy: for what arrives from any zone for this node itself, before the rules of the zones."""
    lines = ['<?xml version="1.0" encoding="utf-8"?>', '<policy target="CONTINUE" priority="-1">']
    lines += [
        "  <short>slapos_ha</short>",
        "  <description>Written by Salt, SLS slapos_ha.firewall: who may reach the replication and the agent of this node.</description>",
        '  <ingress-zone name="ANY"/>',
        '  <egress-zone name="HOST"/>',
    ]
    for group in found:
        for port in group["ports"]:
            element = f'    <port port="{port}" protocol="{group["proto"]}"/>'
            for source in group["sources"]:
                family = "ipv6" if ":" in source else "ipv4"
                lines += [
                    f'  <rule family="{family}" priority="-2">',
                    f"    <source address={quoteattr(source)}/>",
                    element,
                    "    <accept/>",
                    "  </rule>",
                ]
            lines += ['  <rule priority="-1">', element, "    <drop/>", "  </rule>"]
    return "\n".join([*lines, "</policy>", ""])
