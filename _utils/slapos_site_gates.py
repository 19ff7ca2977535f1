"""
Judgements on a site from what both its nodes say (``slapos_site``): whether the service may be moved, and what is not well. For the runner ``slapos_ha``.
"""


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


def gates(site, target):
    """
    What speaks against moving the service to ``target`` now: a list of sentences, empty when it may move.

    DRBD is read on both nodes: an agent calls a standby whose disk is Inconsistent 'stdby up' (agent 3) or is stopped by a resync (agent 2.1).
    """
    red = []
    for node in site.nodes:
        drbd = site.drbd(node)
        if drbd is None:
            red.append(
                f"DRBD resource {site.shape['fqdn']} cannot be read on {node}: drbdadm status"
            )
            continue
        for volume, disk in drbd["disk"].items():
            if disk["disk"] != "UpToDate":
                red.append(
                    f"volume {volume} on {node} is {disk['disk']}, not UpToDate: wait for the resync, salt {site.minion(node)} drbd.status"
                )
        if not drbd["connections"]:
            red.append(f"{node} has no DRBD connection: drbdadm adjust {site.shape['fqdn']}")
        for peer, connection in drbd["connections"].items():
            if connection["state"] != "Connected":
                red.append(f"{node} is {connection['state']} to {peer}: see the replication link")
    cluster = site.cluster()
    for node in site.nodes:
        known = cluster["nodes"].get(node)
        if not known:
            red.append(f"the agent does not see {node}: om mon")
        elif known["frozen"]:
            red.append(f"node {node} is frozen: om node thaw --node {node}")
        instance = site.instance(node)
        if "failed" in (instance.get("state") or ""):
            red.append(
                f"the instance on {node} is '{instance['state']}': find out why, then om {site.shape['path']} clear"
            )
        if instance.get("frozen"):
            red.append(f"the instance on {node} is frozen: om {site.shape['path']} thaw")
    for name, heartbeat in cluster["heartbeats"].items():
        for peer, state in heartbeat["peers"].items():
            if state.get("beating") is False:
                red.append(f"heartbeat {name} does not hear {peer}: om mon")
    overall = site.instance(target).get("avail")
    if overall not in ("stdby up", "up"):
        red.append(
            f"the standby on {target} is {overall!r}, not 'stdby up': om {site.shape['path']} print status -r"
        )
    return red


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
    for rid in ["app#0", "app#1", *site.tasks()]:
        if not site.enabled(rid):
            wrong.append(f"{rid} is disabled")
    for rid in ("app#0", "app#1"):
        if site.enabled(rid) and site.resource(rid).get("status") != "up":
            wrong.append(
                f"{rid} is {site.resource(rid).get('status')!r}: {'; '.join(site.resource(rid).get('log') or [])}"
            )
    return wrong
