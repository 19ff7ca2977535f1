"""
Judgements on a site from what both its nodes say (``slapos_site``): whether the service may be moved, and what is not well. For the runner ``slapos_ha``.
"""

# --- Gates before a move ------------------------------------------------------------------------------------------------------------------------
# Each yields the sentences that speak against moving the service to `target` now: what is so, and what to do.


def _other(site, target):
    return next(node for node in site.nodes if node != target)


def _volumes(site, node):
    """(peer, volume, what DRBD on the node says of its replication); nothing is known of a peer that is not connected."""
    for peer, connection in ((site.drbd(node) or {}).get("connections") or {}).items():
        if connection["state"] == "Connected":
            for volume, known in connection["volumes"].items():
                yield peer, volume, known


def _drbd_connected(site, target):
    resource = site.shape["fqdn"]
    for node in site.nodes:
        drbd = site.drbd(node)
        if drbd is None:
            yield f"DRBD resource {resource} cannot be read on {node}: drbdadm status"
            continue
        if not drbd["connections"]:
            yield f"{node} has no DRBD connection: drbdadm adjust {resource}"
        for peer, connection in drbd["connections"].items():
            if connection["state"] != "Connected":
                said = f"{node} is {connection['state']} to {peer}: see the replication link, salt {site.minion(node)} drbd.status"
                if connection["state"] == "StandAlone":
                    said += "; whether it is a split brain says salt-run slapos_ha.status"
                yield said


def _let_go(site, node, volume):
    return (
        f"volume {volume} on {node} is Diskless: DRBD let go of its disk after an error, see dmesg there and whether the filesystem below is full; when the disk "
        f"is well: salt {site.minion(node)} drbd.attach {site.shape['fqdn']}, and wait for the resync"
    )


def _not_up_to_date(site, node):
    for volume, disk in ((site.drbd(node) or {}).get("disk") or {}).items():
        if disk["disk"] == "Diskless":
            yield _let_go(site, node, volume)
        elif disk["disk"] != "UpToDate":
            yield f"volume {volume} on {node} is {disk['disk']}, not UpToDate: wait for the resync, salt {site.minion(node)} drbd.status"


def _drbd_target(site, target):
    own = list(_not_up_to_date(site, target))
    yield from own
    source = _other(site, target)
    for _, volume, known in _volumes(site, source):
        if not own and known["disk"] != "UpToDate":
            yield f"{source} knows volume {volume} on {target} as {known['disk']}, not UpToDate: salt {site.minion(source)} drbd.status"
    apart = {
        volume: known["out_of_sync"]
        for node in site.nodes
        for _, volume, known in _volumes(site, node)
        if not own and known["replication"] == "Established" and known.get("out_of_sync")
    }
    for volume, size in apart.items():
        # A resync would be running: what is left of differences was found by a verify, and is copied at the next connection only.
        yield (
            f"{size} KiB of volume {volume} differ between the nodes: drbdadm disconnect {site.shape['fqdn']} and drbdadm connect {site.shape['fqdn']} "
            f"on {target} copy them from {source}"
        )


def _drbd_source(site, target):
    yield from _not_up_to_date(site, _other(site, target))


def _drbd_sync(site, target):
    for node in site.nodes:
        for peer, volume, known in _volumes(site, node):
            replication, done = known["replication"], known.get("percent")
            at = f" ({done} %)" if done is not None else ""
            if replication in ("VerifyS", "VerifyT"):
                yield f"a verify of volume {volume} runs on {node} ({replication}{at}): wait until it ends, salt {site.minion(node)} drbd.status"
            elif replication not in ("Established", "Off"):
                yield f"volume {volume} on {node} is {replication} with {peer}{at}: wait until it is Established, salt {site.minion(node)} drbd.status"
            elif (known.get("resync_suspended") or "no") != "no":
                yield f"a resync of volume {volume} on {node} is suspended ({known['resync_suspended']}): drbdadm resume-sync {site.shape['fqdn']}"


def _agents(site, target):
    for node in site.nodes:
        status = site.facts[node]["cluster"]
        if "error" in status:
            yield f"the agent on {node} cannot be asked: {status['error']}"
            continue
        for other in site.nodes:
            if other not in status["nodes"]:
                yield f"the agent on {node} does not see {other}: om mon"


def _heartbeats(site, target):
    for node in site.nodes:
        status, other = site.facts[node]["cluster"], _other(site, node)
        if "error" in status:
            continue
        for name in sorted({*site.shape["cluster"]["heartbeats"], *status["heartbeats"]}):
            heartbeat = status["heartbeats"].get(name)
            if heartbeat is None:
                yield f"heartbeat {name} is not there on {node}: om mon"
                continue
            for way in ("rx", "tx"):
                if heartbeat[way] != "running":
                    yield f"heartbeat {name}.{way} is {heartbeat[way]} on {node}: om mon"
            if not heartbeat["peers"].get(other, {}).get("beating"):
                yield f"{node} does not hear {other} on heartbeat {name}: om mon"


def _frozen(site, target):
    for node in site.nodes:
        known, instance = site.own(node)
        if known.get("frozen"):
            yield f"node {node} is frozen: om node thaw --node {node}"
        if instance.get("frozen"):
            yield f"the instance on {node} is frozen: om {site.shape['path']} thaw"


def _failed(site, target):
    for node in site.nodes:
        state = site.own(node)[1].get("state") or ""
        if "failed" in state:
            yield f"the instance on {node} is '{state}': find out why, then om {site.shape['path']} clear"


def _standby(site, target):
    avail = site.own(target)[1].get("avail")
    if avail not in ("stdby up", "up"):
        path = site.shape["path"]
        yield f"the standby on {target} is {avail!r}, not 'stdby up': om {path} print status -r; what is left up there: salt {site.minion(target)} state.single opensvc.standby {path}"


def _tasks(site, target):
    for node, busy in site.busy().items():
        if isinstance(busy, list):
            yield f"a task runs on {node} (process {', '.join(map(str, busy))}): wait until it ends, om {site.shape['path']} print status -r"
        elif busy:
            yield f"whether a task runs on {node} cannot be asked: {busy}"


def _versions(site, target):
    for node in site.nodes:
        for what, found in (
            ("the OpenSVC agent", site.facts[node]["agent"]),
            ("DRBD", site.facts[node]["drbd"]["version"]),
        ):
            if "error" in found:
                yield f"the version of {what} on {node} is not known: {found['error']}"
    yield from site.versions_apart()


def _ids(site, target):
    yield from site.ids_apart()


# name, judge, and why it cannot be forced; None where it can by who knows what it means.
_GATES = (
    (
        "drbd_connected",
        _drbd_connected,
        "what was written since the nodes lost touch is on one of them only, and a move would make two versions of the data",
    ),
    (
        "drbd_target",
        _drbd_target,
        "what was written since the disk was UpToDate is not on it, and a move would lose that",
    ),
    ("drbd_source", _drbd_source, None),
    (
        "drbd_sync",
        _drbd_sync,
        "agent 2.1 cannot stop an instance while DRBD copies or verifies: the move would end half done, with the service down",
    ),
    ("agents", _agents, "an agent that does not answer moves nothing"),
    ("heartbeats", _heartbeats, None),
    ("frozen", _frozen, "the agent moves nothing that is frozen"),
    ("failed", _failed, "the agent moves nothing that has failed and was not cleared"),
    ("standby", _standby, None),
    ("tasks", _tasks, None),
    ("versions", _versions, None),
    ("ids", _ids, None),
)


def gates(site, target, only=None):
    """
    What speaks against moving the service to ``target`` now: a list of ``(gate, sentence)``, empty when it may move. Of the gates in ``only``, where that is
    given.
    """
    return list(
        dict.fromkeys(
            (name, sentence)
            for name, judge, _ in _GATES
            if only is None or name in only
            for sentence in judge(site, target)
        )
    )


def unforceable(force):
    """What is wrong with a list of gates to be forced, as sentences."""
    if not isinstance(force, list):
        return [
            f"slapos_ha:force: {force!r} is no list; give the names of gates, such as [heartbeats]"
        ]
    reasons = {name: why for name, _, why in _GATES}
    can = ", ".join(name for name, why in reasons.items() if why is None)
    wrong = []
    for name in force:
        if name not in reasons:
            wrong.append(
                f"slapos_ha:force: there is no gate {name!r}; those that can be forced are {can}"
            )
        elif reasons[name]:
            wrong.append(f"slapos_ha:force: {name} cannot be forced: {reasons[name]}")
    return wrong


def closed(red, force):
    """
    Divide what :py:func:`gates` found by what is forced: the text and the remedy of the gates that stay closed (None when none does), and the sentences of
    those that are passed by force.
    """
    passed = [
        f"the gate {name} is red and was forced: {sentence}"
        for name, sentence in red
        if name in force
    ]
    left = [(name, sentence) for name, sentence in red if name not in force]
    if not left:
        return None, passed
    reasons = {name: why for name, _, why in _GATES}
    names = list(dict.fromkeys(name for name, _ in left))
    remedy = ["Correct it and run the orchestration again: what is done stays done."]
    can = [name for name in names if reasons[name] is None]
    if can:
        remedy.append(
            f"""Who knows that it does no harm here may force a gate: pillar='{{"slapos_ha": {{"force": ["{'", "'.join(can)}"]}}}}'"""
        )
    remedy += [f"{name} cannot be forced: {reasons[name]}" for name in names if reasons[name]]
    text = "\n".join(f"{name}: {sentence}" for name, sentence in left)
    return (text, "\n".join(remedy)), passed


# --- Health -------------------------------------------------------------------------------------------------------------------------------------


def beating(site):
    """Both nodes are members and each hears the other on every heartbeat."""
    for node in site.nodes:
        status = site.facts[node]["cluster"]
        if (
            "error" in status
            or set(status["cluster"]["nodes"]) != set(site.nodes)
            or status["cluster"]["name"] != site.shape["cluster"]["name"]
        ):
            return False
        if set(status["heartbeats"]) < set(site.shape["cluster"]["heartbeats"]):
            return False
        other = next(name for name in site.nodes if name != node)
        if not all(
            heartbeat["peers"].get(other, {}).get("beating")
            for heartbeat in status["heartbeats"].values()
        ):
            return False
    return True


def unhealthy(site):
    """What is not as a deployed site should be, as sentences."""
    wrong = []
    active = site.active()
    if active is None:
        wrong.append(f"the filesystem {site.shape['mount']} is mounted on neither node")
    mounted = [node for node in site.nodes if site.facts[node]["mounted"]]
    if len(mounted) > 1:
        wrong.append(
            f"the filesystem is mounted on {' and '.join(mounted)}: stop one at once, then look for a split brain"
        )
    if not beating(site):
        wrong.append("the nodes do not hear each other on every heartbeat: om mon")
    for node in site.nodes:
        drbd = site.drbd(node)
        for volume, disk in (drbd or {"disk": {0: {"disk": "unreadable"}}})["disk"].items():
            if disk["disk"] != "UpToDate":
                wrong.append(f"DRBD volume {volume} on {node} is {disk['disk']}")
        avail = site.instance(node).get("avail")
        if avail != ("up" if node == active else "stdby up"):
            wrong.append(f"the instance on {node} is {avail!r}")
    frozen = (site.service() or {}).get("frozen")
    if frozen in ("frozen", "mixed"):
        where = [node for node in site.nodes if site.instance(node).get("frozen")]
        wrong.append(
            f"the service is frozen on {' and '.join(where)} and would not fail over: om {site.shape['path']} thaw"
        )
    for rid in ["app#0", "app#1", *site.tasks()]:
        if not site.enabled(rid):
            wrong.append(f"{rid} is disabled")
    for rid in ("app#0", "app#1"):
        if site.enabled(rid) and site.resource(rid).get("status") != "up":
            wrong.append(
                f"{rid} is {site.resource(rid).get('status')!r}: {'; '.join(site.resource(rid).get('log') or [])}"
            )
    return wrong
