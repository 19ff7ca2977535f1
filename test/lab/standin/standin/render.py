"""Tables and trees as the agent prints them. Pure: data in, text out."""

import json

GROUPS = ("ip", "volume", "disk", "fs", "share", "container", "app", "sync", "task")
TERMINAL = 78


def to_json(data, sort=True):
    return json.dumps(data, indent=4, sort_keys=sort)


def flatten(data, prefix=""):
    """Nested data -> lines ``.a.'b#0'[1] = value``, sorted by path."""
    lines = []
    if isinstance(data, dict):
        for key in sorted(data):
            name = f"'{key}'" if any(char in key for char in "#./: ") else key
            lines += flatten(data[key], f"{prefix}.{name}")
    elif isinstance(data, list):
        for index, value in enumerate(data):
            lines += flatten(value, f"{prefix}[{index}]")
    else:
        lines.append(f"{prefix} = {data}")
    return lines


class Node:
    """A line of a tree: columns, each of one or more texts, and lines below it."""

    def __init__(self, *columns):
        self.columns = [column if isinstance(column, list) else [column] for column in columns]
        self.children = []

    def add(self, *columns):
        child = Node(*columns)
        self.children.append(child)
        return child


def tree(head, separator="  ", widths=None):
    """Draw a tree whose columns are aligned and wrapped to fit the terminal."""
    total = TERMINAL - 4
    count = _columns(head)
    widths = list(widths or []) + [None] * count
    pads = [0] * count
    depth = _measure(head, pads, widths, 0)
    _squeeze(pads, total, depth, separator)
    lines = []
    _draw(head, pads, depth, separator, [], lines)
    return "\n".join(lines) + "\n"


def _columns(node):
    return max([len(node.columns), *(_columns(child) for child in node.children)])


def _measure(node, pads, widths, depth):
    for index, texts in enumerate(node.columns):
        width = widths[index]
        if isinstance(width, int):
            pads[index] = width
            continue
        longest = max(len(text) for text in texts)
        if longest > pads[index]:
            pads[index] = max(longest, width[0]) if width else longest
    return max([depth, *(_measure(child, pads, widths, depth + 1) for child in node.children)])


def _squeeze(pads, total, depth, separator):
    count = len(pads)
    gaps = (count - 1) * len(separator)
    if sum(pads) + gaps + (depth - 1) * 3 <= total:
        return
    average = (total - gaps) // count
    wide = [index for index, pad in enumerate(pads) if pad > average]
    left = total - depth * 3 - sum(pad + len(separator) for pad in pads if pad <= average)
    for index in wide:
        pads[index] = left // len(wide)


def _draw(node, pads, depth, separator, lasts, lines):
    from textwrap import wrap

    cells = [
        [line for text in texts for line in wrap(text, width=pads[index])] if pads[index] else []
        for index, texts in enumerate(node.columns)
    ]
    for row in range(max([len(cell) for cell in cells], default=0)):
        prefix = _prefix(lasts, bool(node.children), row)
        text = prefix
        for index, cell in enumerate(cells):
            width = pads[index] + (depth * 3 - len(prefix) if index == 0 else 0)
            text += (cell[row] if row < len(cell) else "").ljust(width) + separator
        lines.append(text)
    for child in node.children:
        _draw(child, pads, depth, separator, [*lasts, child is node.children[-1]], lines)


def _prefix(lasts, has_children, row):
    if not lasts:
        return ""
    if row == 0:
        return "".join("   " if last else "|  " for last in lasts[:-1]) + (
            "`- " if lasts[-1] else "|- "
        )
    return "".join("   " if last else "|  " for last in lasts) + ("|  " if has_children else "   ")


def flags(resource):
    """The vector of a resource's properties, one character each."""
    provisioned = resource.get("provisioned", {}).get("state")
    return "".join(
        (
            "R" if resource.get("running") else ".",
            "M" if resource.get("monitor") else ".",
            "D" if resource.get("disable") else ".",
            "O" if resource.get("optional") else ".",
            "E" if resource.get("encap") else ".",
            "." if provisioned else ("P" if provisioned is False else "/"),
            "S" if resource.get("standby") else ".",
            str(min(resource["restart"], 9)) if resource.get("restart") else ".",
        )
    )


def notice(instance, node_frozen):
    """What is worth saying of an instance."""
    words = []
    if instance.get("overall") == "warn":
        words.append("warn")
    if instance.get("frozen"):
        words.append("frozen")
    if node_frozen:
        words.append("node frozen")
    provisioned = instance.get("provisioned")
    if provisioned is False:
        words.append("not provisioned")
    elif provisioned == "mixed":
        words.append("part-provisioned")
    monitor = instance.get("monitor")
    if not monitor:
        words.append("daemon down")
        return ", ".join(words)
    words.append(monitor.get("status", "unknown"))
    if monitor.get("local_expect"):
        words.append(monitor["local_expect"])
    if monitor.get("global_expect"):
        words.append(f">{monitor['global_expect']}")
    return ", ".join(words)


def instance_tree(path, data, monitor, nodename):
    """``print status``: the object, its instances, the local one in detail."""
    cluster = data.get("cluster", {})
    words = []
    if cluster.get("overall") == "warn":
        words.append("warn")
    if cluster.get("placement") not in (None, "optimal", "n/a"):
        words.append(f"{cluster['placement']} placement")
    top = Node(path, "", cluster.get("avail", "n/a") if cluster else "", ", ".join(words))
    instances = top.add("instances")
    nodes = monitor.get("nodes", {}) if monitor else {}
    scope = next(
        (
            n["services"]["config"][path]["scope"]
            for n in nodes.values()
            if path in n["services"]["config"]
        ),
        [nodename],
    )
    for name in sorted(scope):
        if name == nodename:
            continue
        other = nodes.get(name, {}).get("services", {}).get("status", {}).get(path)
        if other is None:
            instances.add(name, "", "undef", "daemon down")
        else:
            instances.add(
                name, "", other.get("avail", "n/a"), notice(other, nodes[name].get("frozen"))
            )
    if nodename in scope:
        local = instances.add(
            nodename,
            "",
            data.get("avail", "n/a"),
            notice(data, nodes.get(nodename, {}).get("frozen")),
        )
        _resources(local, data)
    for title in ("parents", "children"):
        if data.get(title):
            head = top.add(title)
            for other in data[title]:
                avail = (
                    monitor.get("services", {}).get(other, {}).get("avail", "undef")
                    if monitor
                    else "undef"
                )
                head.add(other, "", avail)
    return tree(top, " ", [(14,), None, 10, None])


def _resources(local, data):
    resources = data.get("resources", {})
    for group in (*GROUPS, *sorted({rid.split("#")[0] for rid in resources} - set(GROUPS))):
        subsets = {}
        for rid in sorted(resources):
            if resources[rid]["type"].split(".")[0] == group:
                subset = resources[rid].get("subset")
                subsets.setdefault(f"{group}:{subset}" if subset else group, []).append(rid)
        for subset in sorted(subsets):
            parent = local
            if subset != group:
                parallel = data.get("subsets", {}).get(subset, {}).get("parallel")
                parent = local.add(*([subset, "", "", "//"] if parallel else [subset]))
            for rid in subsets[subset]:
                resource = {**resources[rid], "running": rid in data.get("running", [])}
                parent.add(
                    rid,
                    flags(resource),
                    resource["status"],
                    [resource["label"], *resource.get("log", [])],
                )


def schedule(rows):
    """``print schedule``."""
    head = Node("Action", "Last Run", "Next Run", "Config Parameter", "Schedule Definition")
    for row in rows:
        head.add(
            row["action"],
            _date(row["last_run"]),
            _date(row["next_run"]),
            row["config_parameter"],
            row["schedule_definition"],
        )
    return tree(head)


def _date(stamp):
    import datetime

    return (
        "-"
        if stamp is None
        else datetime.datetime.fromtimestamp(stamp).strftime("%Y-%m-%d %H:%M:%S")
    )


ICONS = {
    "up": "O",
    "down": "X",
    "warn": "!",
    "n/a": "/",
    "undef": "?",
    "stdby up": "S",
    "stdby down": "x",
    "unknown": "?",
}


def cluster(data, paths=None, selector="*/svc/*"):
    """``mon``: threads, nodes and objects side by side."""
    nodes = sorted(data["cluster"]["nodes"])
    monitor = data["monitor"]
    rows = [["Threads", "", "", "", *nodes]]
    rows.append([" daemon", "running", "", "|", *("" for _ in nodes)])
    for name in sorted(key for key in data if key not in ("cluster", "daemon")):
        thread = data[name]
        if name.startswith("hb#"):
            config = thread["config"]
            where = f"[{config['addr']}]:{config['port']}" if config else ""
            beats = [thread["peers"].get(node, {}).get("beating") for node in nodes]
            marks = ["/" if beat is None else "O" if beat else "X" for beat in beats]
            rows.append([f" {name}", thread["state"], where, "|", *marks])
        elif name == "listener":
            rows.append([f" {name}", thread["state"], f":{thread['config']['port']}"])
        else:
            count = thread.get("transitions", 0)
            rows.append([f" {name}", thread["state"], f"{count} transition" if count else ""])
    rows += [[], ["Nodes", "", "", "", *nodes]]
    states = [monitor["nodes"].get(node, {}) for node in nodes]
    stats = [state.get("stats", {}) for state in states]
    rows.append([" score", "", "", "|", *(str(one.get("score", "")) for one in stats)])
    rows.append(["  load 15m", "", "", "|", *(str(one.get("load_15m", "")) for one in stats)])
    for key in ("mem", "swap"):
        rows.append(
            [
                f"  {key}",
                "",
                "",
                "|",
                *(_usage(one, key, state) for one, state in zip(stats, states, strict=True)),
            ]
        )
    rows.append([" state", "", "", "|", *(_node_state(state) for state in states)])
    title = selector if len(selector) <= 15 else f"{selector[:12]}..."
    rows += [[], [title, "", "", "", *nodes]]
    for path in sorted(monitor["services"]):
        if (paths is None and "/svc/" not in f"/{path}") or (
            paths is not None and path not in paths
        ):
            continue
        rows.append(_object_row(path, monitor, nodes))
    rows.append([])
    return _align(rows)


def _usage(stats, key, state):
    total, avail = stats.get(f"{key}_total"), stats.get(f"{key}_avail")
    if not total or avail is None:
        return "-"
    limit = 100 - state.get(f"min_avail_{key}", 0)
    return f"{100 - avail}/{limit}%:{total / 1024:.2f}g"


def _node_state(state):
    status = state.get("monitor", {}).get("status", "")
    expect = state.get("monitor", {}).get("global_expect")
    return (
        ("" if status == "idle" else status)
        + ("*" if state.get("frozen") else "")
        + (f" >{expect}" if expect else "")
    )


def _object_row(path, monitor, nodes):
    summary = monitor["services"][path]
    mark = summary.get("avail", "n/a")
    if summary.get("overall") == "warn":
        mark += "!"
    if summary.get("placement") == "non-optimal":
        mark += "^"
    instances = {
        node: monitor["nodes"][node]["services"]["status"][path]
        for node in nodes
        if path in monitor["nodes"].get(node, {}).get("services", {}).get("status", {})
    }
    up = sum(1 for instance in instances.values() if instance.get("avail") == "up")
    orchestrate = next((i["orchestrate"] for i in instances.values() if i.get("orchestrate")), "")
    cells = []
    for node in nodes:
        instance = instances.get(node)
        if instance is None:
            cells.append("")
            continue
        smon = instance.get("monitor", {})
        cell = ICONS.get(instance.get("avail", "undef"), "?")
        cell += "!" if instance.get("overall") == "warn" else ""
        cell += "^" if smon.get("placement") == "leader" else ""
        cell += "*" if instance.get("frozen") else ""
        cell += "P" if instance.get("provisioned") in (False, "mixed") else ""
        if smon.get("status") != "idle":
            cell += f" {smon.get('status')}"
        elif smon.get("global_expect"):
            cell += f" >{smon['global_expect'].split('@')[0] + ('@' if '@' in smon['global_expect'] else '')}"
        cells.append(cell)
    return [f" {path}", mark, f"{orchestrate:<5} {f'{up}/1':<5}", "|", *cells]


def _align(rows):
    widths = [
        max([len(row[index]) for row in rows if index < len(row)], default=0)
        for index in range(max(map(len, rows)))
    ]
    lines = []
    for row in rows:
        cells = [
            text.rjust(widths[index]) if index == 2 else text.ljust(widths[index])
            for index, text in enumerate(row)
            if widths[index]
        ]
        lines.append(" ".join(cells))
    return "\n".join(lines) + "\n"
