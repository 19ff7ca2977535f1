"""
One node's facts (``slapos_ha.facts``) as metrics in Prometheus' text format. Pure functions: no process, no file. For ``slapos_ha.metrics``.
"""

# Name: its labels beside the site's name, and what it is. All are gauges; what is yes or no is 1 or 0. docs/reference/metrics.md is made of this.
METRICS = {
    "slapos_ha_asked_timestamp_seconds": ((), "when the node was asked, seconds since 1970"),
    "slapos_ha_problems": ((), "what is wrong with the site's pillar, as a number of sentences; where it is not 0, only this and the time are known"),
    "slapos_ha_agent_up": ((), "the OpenSVC agent of this node answers"),
    "slapos_ha_service_up": ((), "the service is available somewhere, as this node's agent sees it"),
    "slapos_ha_service_frozen": ((), "the service or this node is frozen: it would not fail over"),
    "slapos_ha_service_here": ((), "the service's filesystem is mounted on this node"),
    "slapos_ha_instance_failed": ((), "an action of the agent failed on this node and was not cleared"),
    "slapos_ha_resource_up": (("resource",), "a resource of this node's instance is up or, on a standby, stdby up; what is not to run here has no value"),
    "slapos_ha_heartbeat_beating": (("heartbeat", "peer"), "the peer is heard and reached on a heartbeat"),
    "slapos_ha_drbd_primary": ((), "this node's role of the DRBD resource is Primary"),
    "slapos_ha_drbd_up_to_date": (("volume",), "this node's disk of a volume is UpToDate"),
    "slapos_ha_drbd_connected": (("peer",), "this node is connected to the peer"),
    "slapos_ha_drbd_peer_up_to_date": (("peer", "volume"), "the peer's disk of a volume is UpToDate, as this node sees it"),
    "slapos_ha_drbd_out_of_sync_bytes": (("peer", "volume"), "how much of a volume differs from the peer's, as far as this node knows"),
    "slapos_ha_split_brain": ((), "DRBD's handler has noted a split brain that no recovery has ended yet"),
    "slapos_ha_unverified": ((), "what may be installed though nothing proves it, as a number of sentences"),
}  # fmt: skip
_UP, _NOT_HERE = ("up", "stdby up"), ("n/a", "undef", None)


def samples(facts, now):
    """``[(name, labels, value)]`` of the facts of one node; what the node could not say has no sample."""
    found = [
        ("slapos_ha_asked_timestamp_seconds", {}, now),
        ("slapos_ha_problems", {}, len(facts["problems"])),
    ]
    if "shape" in facts:
        found += [
            ("slapos_ha_service_here", {}, facts["mounted"]),
            ("slapos_ha_unverified", {}, len(facts["unverified"])),
            *_agent(facts["cluster"], facts["node"], facts["shape"]["path"]),
            *_drbd(facts["drbd"], facts["shape"]["fqdn"]),
        ]
    site = {"site": facts["site"]} if facts["site"] else {}
    return [(name, {**site, **labels}, value) for name, labels, value in found]


def _agent(cluster, node, path):
    answers = "error" not in cluster
    yield "slapos_ha_agent_up", {}, answers
    if not answers:
        return
    for name, heartbeat in sorted(cluster["heartbeats"].items()):
        for peer, known in sorted(heartbeat["peers"].items()):
            if peer != node:
                labels = {"heartbeat": name, "peer": peer}
                yield "slapos_ha_heartbeat_beating", labels, known["beating"]
    service = cluster["objects"].get(path)
    if service is None:
        return
    here = service["instances"].get(node) or {}
    frozen = cluster["nodes"].get(node, {}).get("frozen") or here.get("frozen")
    yield "slapos_ha_service_up", {}, service["avail"] == "up"
    yield "slapos_ha_service_frozen", {}, bool(frozen) or service["frozen"] in ("frozen", "mixed")
    yield "slapos_ha_instance_failed", {}, "failed" in (here.get("state") or "")
    for rid, resource in sorted((here.get("resources") or {}).items()):
        if not resource["disable"] and resource["status"] not in _NOT_HERE:
            yield "slapos_ha_resource_up", {"resource": rid}, resource["status"] in _UP


def _drbd(drbd, resource):
    note, status = drbd["split_brain"], drbd["status"] or {}
    if not (isinstance(note, dict) and "error" in note):
        yield "slapos_ha_split_brain", {}, bool(note)
    known = None if "error" in status else status.get(resource)
    if known is None:
        return
    yield "slapos_ha_drbd_primary", {}, known["role"] == "Primary"
    for volume, disk in sorted(known["disk"].items()):
        yield "slapos_ha_drbd_up_to_date", {"volume": volume}, disk["disk"] == "UpToDate"
    for peer, connection in sorted(known["connections"].items()):
        connected = connection["state"] == "Connected"
        yield "slapos_ha_drbd_connected", {"peer": peer}, connected
        for volume, there in sorted(connection["volumes"].items()):
            labels = {"peer": peer, "volume": volume}
            yield "slapos_ha_drbd_peer_up_to_date", labels, there["disk"] == "UpToDate"
            if there.get("out_of_sync") is not None:
                yield "slapos_ha_drbd_out_of_sync_bytes", labels, there["out_of_sync"] << 10


def text(found):
    """The samples as Prometheus reads them: those of a metric together, below its help."""
    lines = []
    for name, (_, meaning) in METRICS.items():
        own = [(labels, value) for sample, labels, value in found if sample == name]
        if own:
            lines += [f"# HELP {name} {meaning}", f"# TYPE {name} gauge"]
            lines += [f"{name}{_labels(labels)} {int(value)}" for labels, value in own]
    return "\n".join(lines) + "\n"


def _labels(labels):
    pairs = ",".join(f'{key}="{_escaped(value)}"' for key, value in labels.items())
    return f"{{{pairs}}}" if pairs else ""


def _escaped(value):
    return str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
