"""
Judgements on a site whose DRBD nodes are not connected (``slapos_site``): whether that is a split brain, and what is in the way of ending it. For the runner
``slapos_ha``.

``compare`` is ``drbd_parse.split_brain``, which a util cannot call itself.
"""

import time

_WORDS = {
    "new": "both disks are new and hold no data",
    "equal": "both have the same data",
    "local_newer": "{0} has the newer data",
    "peer_newer": "{1} has the newer data",
    "split_brain": "both were written to after they parted",
    "unrelated": "their generations have nothing in common: they were never one resource, or parted more than twice since",
}
_COMMAND = "salt-run state.orch orch.recover_split_brain"

# Gates of a recovery, and why one cannot be forced; None where it can by who knows what it means.
_GATES = {
    "split_brain": "only in a split brain is it proven that the other side has what both had before they parted",
    "survivor": "what is not UpToDate would be copied over the victim's data",
    "agents": "nodes that do not hear each other would both start the service again, which makes the next split brain",
    "service": None,
}


def command():
    """The orchestration, as it is called."""
    return _COMMAND


def states(site, node):
    """The states of a node's connections, such as ``{"demo2": "StandAlone"}``."""
    connections = (site.drbd(node) or {}).get("connections") or {}
    return {peer: connection["state"] for peer, connection in connections.items()}


def relation(ids, nodes, compare):
    """
    How the data of two nodes are related, as ``compare`` says of the first (``peer_newer``: the second has the newer), from the generations of each by
    name; None where one is not known.
    """
    one, other = (ids.get(node) for node in nodes)
    if not isinstance(one, dict) or not isinstance(other, dict):
        return None
    return compare(one, other)["relation"]


def words(site, related):
    """A relation for people."""
    return _WORDS[related].format(site.first, site.second)


def sentences(site, compare):
    """
    What is not well about the connection of both nodes, as sentences. The nodes are asked for generations only where one is StandAlone: that is where DRBD
    stops in a split brain.
    """
    apart = {node: states(site, node) for node in site.nodes}
    if not any("StandAlone" in known.values() for known in apart.values()):
        return [
            f"{node} is {state} to {peer}: see the replication link, and drbd.status of the other node"
            for node, known in apart.items()
            for peer, state in known.items()
            if state != "Connected"
        ]
    resource = site.shape["fqdn"]
    ids = site.call(site.nodes, "drbd.generation_ids", resource)
    related = relation(ids, site.nodes, compare)
    if related is None:
        why = "; ".join(
            f"{node}: {str(said).strip().splitlines()[-1]}"
            for node, said in ids.items()
            if not isinstance(said, dict)
        )
        return [f"{_alone(apart)}; whether this is a split brain cannot be told: {why}"]
    if related == "split_brain":
        said = [f"split brain: {words(site, related)} ({_written(site)})", *_noted(site)]
        return [f"{'; '.join(said)}. Both sides, and how to end it: {_COMMAND}"]
    if related == "unrelated":
        return [f"{_alone(apart)}, and {words(site, related)}. Both sides: {_COMMAND}"]
    return [
        f"{_alone(apart)}; this is no split brain: {words(site, related)}. Connect it: salt -L {','.join(map(site.minion, site.nodes))} drbd.connect {resource}"
    ]


def _alone(apart):
    return ", ".join(
        f"{node} is StandAlone to {peer}"
        for node, known in apart.items()
        for peer, state in known.items()
        if state == "StandAlone"
    )


def _written(site):
    parts = []
    for node in site.nodes:
        for connection in ((site.drbd(node) or {}).get("connections") or {}).values():
            known = [seen.get("out_of_sync") for seen in connection["volumes"].values()]
            if None not in known:
                parts.append(f"{node} {sum(known)} KiB")
    return ", ".join(parts) or "how much is not known"


def _noted(site):
    return [
        f"noted on {node} at {found['time']}"
        for node in site.nodes
        if isinstance(found := site.facts[node]["drbd"].get("split_brain"), dict)
        and "time" in found
    ]


# --- Both sides -------------------------------------------------------------------------------------------------------------------------------


def connected(sides):
    """A side is connected to the other: their handshake found that they go together."""
    return any(
        connection["state"] == "Connected"
        for side in sides.values()
        for connection in side["status"]["connections"].values()
    )


def gates(site, sides, related, victim, red):
    """
    What speaks against throwing the victim's writes away, as (gate, sentence). ``sides`` are both nodes' ``slapos_ha.split_brain_side``, ``red`` those of the
    gates before a move that are red.
    """
    survivor = next(node for node in site.nodes if node != victim)
    found = []
    if related != "split_brain":
        found.append(
            ("split_brain", f"this is no split brain: {words(site, related)} (generations of both)")
        )
    for volume, disk in sides[survivor]["status"]["disk"].items():
        if disk["disk"] != "UpToDate":
            found.append(
                ("survivor", f"volume {volume} on {survivor} is {disk['disk']}, not UpToDate")
            )
    found += [("agents", sentence) for name, sentence in red if name in ("agents", "heartbeats")]
    if sides[victim]["mounted"] and not sides[survivor]["mounted"]:
        found.append(
            ("service", f"the service is up on {victim} and not on {survivor}: what its users see now would be thrown away, and the service stopped on {victim}")
        )  # fmt: skip
    return found


def unforceable(force):
    """What is wrong with a list of gates to be forced, as sentences."""
    if not isinstance(force, list):
        return [
            f"slapos_ha:force: {force!r} is no list; give the names of gates, such as [service]"
        ]
    can = ", ".join(name for name, why in _GATES.items() if why is None)
    return [
        f"slapos_ha:force: {name} cannot be forced: {_GATES[name]}"
        if name in _GATES
        else f"slapos_ha:force: there is no gate {name!r}; those that can be forced: {can}"
        for name in force
        if _GATES.get(name, name)
    ]


def closed(red, force):
    """The text and the remedy of the gates that stay closed (None when none does), and sentences about those that are passed by force."""
    passed = [
        f"the gate {name} is red and was forced: {text}" for name, text in red if name in force
    ]
    left = [(name, text) for name, text in red if name not in force]
    if not left:
        return None, passed
    remedy = []
    for name in dict.fromkeys(name for name, _ in left):
        if _GATES[name]:
            remedy.append(f"{name} cannot be forced: {_GATES[name]}")
        else:
            remedy.append(
                f"""Who wants that all the same forces it by its name: pillar='{{"slapos_ha": {{"force": ["{name}"], …}}}}'"""
            )
    return ("\n".join(f"{name}: {text}" for name, text in left), "\n".join(remedy)), passed


def rows(site, sides):
    """Both sides line by line, for a table: [(what, first node's, second node's)]."""

    def line(what, say):
        return (what, *(say(sides[node]) for node in site.nodes))

    return [
        line("service's filesystem", lambda s: "mounted" if s["mounted"] else "not mounted"),
        line("role now", lambda s: s["status"]["role"]),
        line(
            "crashed",
            lambda s: "as Primary" if s["ids"]["flags"].get("crashed_primary") else "-",
        ),
        line("disk", lambda s: "/".join(one["disk"] for one in s["status"]["disk"].values())),
        line(
            "link",
            lambda s: ", ".join(one["state"] for one in s["status"]["connections"].values()) or "-",
        ),
        line("written since parting", lambda s: "-" if s["written"] is None else f"{s['written']} KiB"),
        line("current generation", lambda s: s["ids"]["current"]),
        line("generation at parting", lambda s: s["ids"]["bitmap"]),
        line("generations before", lambda s: "\n".join(s["ids"]["history"])),
        line("filesystem last written", lambda s: _when((s["superblock"] or {}).get("written"))),
        line("filesystem last mounted", lambda s: _when((s["superblock"] or {}).get("mounted"))),
        line("newest files", _files),
        line("noted by DRBD's handler", lambda s: (s["note"] or {}).get("time", "-")),
    ]  # fmt: skip


def last_primary(site, sides):
    """Who was Primary last, as a sentence."""
    now = [node for node in site.nodes if sides[node]["status"]["role"] == "Primary"]
    if now:
        return f"Primary now: {' and '.join(now)}"
    known = {node: (sides[node]["superblock"] or {}).get("written") or 0 for node in site.nodes}
    last = max(known, key=known.get)
    if not known[last]:
        return "neither is Primary now, and which was last is not known"
    return (
        f"neither is Primary now; the filesystem of {last} was written last, {_when(known[last])}"
    )


def _when(moment):
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(moment)) if moment else "-"


def _files(side):
    found = side["files"]
    if not found:
        return "not mounted"
    lines = [f"{_when(moment)} {path}" for path, moment in found["newest"]]
    if not found["complete"]:
        lines.append("(not all were looked at)")
    return "\n".join(lines) or "none"
