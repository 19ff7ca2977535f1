"""
Tables of a site for people. For the runner ``slapos_ha``.
"""

import io


def plan(site, steps, remarks):
    """What ``orch.deploy`` would do now; ``steps`` as of ``slapos_ha.step preflight``, ``remarks`` are lines: what is not verified, who is at work."""
    rows = []
    for number, step in enumerate(steps, 1):
        always = "always" if step["always"] else "to do"
        rows.append((number, step["step"], "done" if step["done"] else always, step["what"]))
    return _text(
        _table(
            f"Plan of site {site.shape['site']} ({site.first}, {site.second})",
            ("", "step", "", "what is so afterwards"),
            rows,
        ),
        *remarks,
    )


def status(site, wrong, remarks):
    """How a site is; ``wrong`` are the sentences that say what is not well, ``remarks`` lines: what is not verified, who is at work."""
    cluster, active = site.cluster(), site.active()
    beats = [
        (name, peer, "beating" if state.get("beating") else "silent")
        for name, heartbeat in sorted(cluster["heartbeats"].items())
        for peer, state in sorted(heartbeat["peers"].items())
        if "beating" in state
    ]
    return _text(
        _table(
            f"Site {site.shape['site']}: {site.shape['path']} on cluster {cluster['cluster']['name']}",
            ("node", "state", "service", "DRBD", "disk", "link", "data", "agent"),
            [_node(site, cluster, node) for node in site.nodes],
        ),
        _table("Heartbeats", ("heartbeat", "peer", ""), beats),
        _table(
            "Resources",
            ("resource", "type", *site.nodes),
            [
                _resource(site, rid)
                for rid in sorted(site.instance(active or site.first).get("resources", {}))
            ],
        ),
        *remarks,
        "All is well."
        if not wrong
        else "Not well:\n" + "\n".join(f"- {sentence}" for sentence in wrong),
    )


def sides(site, title, rows):
    """What is on either side of a split brain; ``rows`` as of ``slapos_site_split.rows``."""
    return _text(_table(title, ("", *site.nodes), rows))


def rollout(rollout, remarks):
    """What came of each site of a rollout (of ``slapos_rollout_loop``), those first that want somebody's attention; ``remarks`` are lines."""
    order = ("late", "failed", "skipped", "left", "running", "waiting", "done", "same")
    sites = sorted(rollout.sites.values(), key=lambda one: (order.index(one["state"]), one["site"]))
    rows = [
        (
            one["site"],
            "canary" if one["canary"] else one["wave"] or "-",
            _ROLLOUT[one["state"]],
            duration(one["since"], one["until"]),
            one["jid"] or "-",
            "to do: " + ", ".join(one["to_do"]) if one["to_do"] else brief(one["comment"]),
        )
        for one in sites
    ]
    title = f"Rollout {rollout.id} of {rollout.what}"
    return _text(_table(title, ("site", "wave", "", "time", "job", ""), rows), *remarks)


def words():
    """{state: what a person reads of a site in that state of a rollout}"""
    return dict(_ROLLOUT)


_ROLLOUT = {
    "late": "LATE", "failed": "FAILED", "skipped": "not reached", "left": "not begun", "running": "runs", "waiting": "waits", "done": "done", "same": "nothing to do",
}  # fmt: skip


def duration(since, until):
    """The time between two moments in seconds as text: "12 s", "3 min 05 s", "2 h 04 min"; "-" where one is not known."""
    if since is None or until is None:
        return "-"
    seconds = max(int(until - since), 0)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02} s"
    return f"{seconds // 3600} h {seconds // 60 % 60:02} min"


def brief(comment, lines=4):
    """The first lines of a comment."""
    found = [line for line in str(comment).splitlines() if line.strip()]
    more = (
        [f"({len(found) - lines} more lines: the job, or the report)"] if len(found) > lines else []
    )
    return "\n".join([*found[:lines], *more])


def _node(site, cluster, node):
    facts, drbd = site.facts[node], site.drbd(node)
    return (
        node + (" (preferred)" if node == site.first else ""),
        (cluster["nodes"].get(node) or {}).get("state", "unknown"),
        site.instance(node).get("avail", "-"),
        (drbd or {}).get("role", "-"),
        "/".join(volume["disk"] for volume in drbd["disk"].values()) if drbd else "-",
        ", ".join(connection["state"] for connection in drbd["connections"].values())
        if drbd
        else "-",
        "mounted" if facts["mounted"] else "",
        facts["agent"].get("version", "-"),
    )


def _resource(site, rid):
    cells = [site.instance(node).get("resources", {}).get(rid, {}) for node in site.nodes]
    return (
        rid,
        cells[0].get("type") or cells[1].get("type", ""),
        *(
            f"{cell.get('status', '-')}{' (disabled)' if cell.get('disable') else ''}"
            for cell in cells
        ),
    )


def _text(*renderables):
    from rich.console import Console

    out = io.StringIO()
    console = Console(file=out, width=110, force_terminal=False)
    for renderable in renderables:
        console.print(renderable)
    return out.getvalue().rstrip()


def _table(title, columns, rows):
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        # As text: brackets in what an agent said are no markup.
        table.add_row(*(Text(str(cell)) for cell in row))
    return table
