"""
Pages of docs/reference on what is no module: orchestrations, events, metrics, exit codes, and what is touched on a node. For docs/generate.py.

What the code says itself is read from it: steps and uses from orch/, tags of events and paths of files from where they are written down. What it does not say
is in docs/reference.yaml. Neither may have what the other has not: the unit tests ask for both.
"""

import ast
import re

import yaml

DATA = "docs/reference.yaml"
# A path of a node in a source: below one of these folders, and no part of another path or address.
_PATH = re.compile(r"(?<![\w/.:}>*-])/(?:dev|etc|opt|proc|run|srv|sys|usr|var)(?:/[\w.*-]+)+")


def data(root):
    """docs/reference.yaml."""
    return yaml.safe_load((root / DATA).read_text())


def generated(*paths):
    """The line below the title of a page."""
    named = ", ".join(f"`{path}`" for path in paths)
    return f"*Generated from {named}: edit there, then `make docs`.*"


def cell(text):
    """A text as it stands in a table."""
    return (
        str(text).replace("|", r"\|").replace("<", "&lt;") if "`" not in str(text) else _cell(text)
    )


def _cell(text):
    # What is between backticks is shown as it is.
    parts = str(text).replace("|", r"\|").split("`")
    return "`".join(
        part if index % 2 else part.replace("<", "&lt;") for index, part in enumerate(parts)
    )


# --- Orchestrations ---------------------------------------------------------------------------------------------------------------------------


def orchestrations(root):
    """{name: {"head": [line of the comment at its head], "steps": [(step, titles)], "runner": function}} of orch/*.sls."""
    found = {}
    for path in sorted((root / "orch").glob("*.sls")):
        text = path.read_text()
        head = re.match(r"(?:#.*\n)+", text)
        runner = re.search(r"- runner: (\S+)", text)
        steps = [
            (step, " / ".join(re.findall(r"'([^']+)'", titles)))
            for step, titles in re.findall(r"^ *\(?(?:.*\[\()?'(\w+)', (.+)\)[],]", text, re.M)
        ]
        found[path.stem] = {
            "head": [line.removeprefix("#") for line in head[0].splitlines()] if head else [],
            "steps": steps,
            "runner": runner[1] if runner else "slapos_ha.step",
        }
    return found


def _with_code(text):
    """A comment's text, with the files that it names as code."""
    return re.sub(r"[\w./-]+\.(?:py|md|sls)\b", r"`\g<0>`", text)


def orchestrations_page(root):
    lines = [
        "# Orchestrations",
        "",
        generated("orch/*.sls"),
        "",
        "Each is `salt-run state.orch orch.<name>`, runs on the master and is a list of steps of the [runner `slapos_ha`](runners/slapos_ha.md). A step looks at "
        "the world first and is skipped when it is done; the first that stops ends the run, with exit code 1. What each step does and when it is done: "
        "[design.md](../design.md).",
    ]
    for name, one in orchestrations(root).items():
        lines += ["", f"## orch.{name}", ""]
        prose, uses = [], []
        for line in one["head"]:
            # Uses are indented by three blanks below the comment's sign.
            (uses if line.startswith("   ") else prose).append(line.strip())
        split = next((i for i, line in enumerate(prose) if line.endswith(":")), None)
        before = prose if split is None else prose[: split + 1]
        lines.append(_with_code(" ".join(before)))
        if uses:
            lines += ["", "| command | |", "|---|---|"]
            for use in uses:
                command, _, meaning = re.sub(r"  +", "  ", use).partition("  ")
                lines.append(f"| `{command}` | {cell(meaning.strip())} |")
        if split is not None and prose[split + 1 :]:
            lines += ["", _with_code(" ".join(prose[split + 1 :]))]
        if one["steps"]:
            lines += ["", f"Steps, by `{one['runner']}`:", "", "| step | state |", "|---|---|"]
            lines += [f"| {step} | {cell(title)} |" for step, title in one["steps"]]
    return "\n".join(lines) + "\n"


# --- Events -----------------------------------------------------------------------------------------------------------------------------------


def _placeholder(name):
    return f"<{name.split('.')[-1]}>"


def tags(root):
    """{tag: the files that fire it}; a value that is put into a tag stands there as ``<name>``."""
    found = {}

    def add(tag, path):
        if re.fullmatch(r"slapos_ha/[^ ]*/[^ ]+", tag):
            found.setdefault(tag, set()).add(path.relative_to(root).as_posix())

    for folder in ("_modules", "_states", "_runners", "_utils"):
        for path in sorted((root / folder).glob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.JoinedStr):
                    parts = [
                        part.value
                        if isinstance(part, ast.Constant)
                        else _placeholder(ast.unparse(part.value))
                        for part in node.values
                    ]
                    add("".join(parts), path)
    for path in sorted((root / "slapos_ha/files").iterdir()):
        for tag in re.findall(r'event\.send "(slapos_ha/[^"]+)"', path.read_text()):
            add(re.sub(r"\$(\w+)", lambda match: _placeholder(match[1]), tag), path)
    return found


def events_page(root):
    lines = [
        "# Events",
        "",
        generated(DATA),
        "",
        "`salt-run state.event pretty=True` shows them as they come. None holds a secret. `<run>` is the orchestration's name: "
        + ", ".join(f"`{run}`" for run in runs(root))
        + ".",
        "",
        "| tag | when | data | by |",
        "|---|---|---|---|",
    ]
    for tag, one in data(root)["events"].items():
        lines.append(f"| `{tag}` | {cell(one['when'])} | {cell(one['data'])} | {cell(one['by'])} |")
    return "\n".join(lines) + "\n"


def runs(root):
    """The names of the runs whose steps fire events, as the runner's files give them to slapos_site_step.steps."""
    found = []
    for path in sorted((root / "_runners").glob("*.py")):
        found += re.findall(
            r'slapos_site_step\.steps"\]\(__opts__, __utils__, "(\w+)"\)', path.read_text()
        )
    return sorted(set(found))


# --- Metrics ----------------------------------------------------------------------------------------------------------------------------------

METRICS = "_utils/slapos_metrics.py"


def metrics(root):
    """{metric: (its labels beside the site's, what it is)}."""
    for node in ast.parse((root / METRICS).read_text()).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "METRICS":
            return ast.literal_eval(node.value)
    raise LookupError(f"{METRICS} has no METRICS")


def metrics_page(root):
    lines = [
        "# Metrics",
        "",
        generated(METRICS),
        "",
        "Of one node, by [`slapos_ha.metrics`](modules/slapos_ha.md); each has the label `site`. How Prometheus comes to them, and rules for alerts: "
        "[monitoring.md](../monitoring.md).",
        "",
        "| metric | labels | what it is |",
        "|---|---|---|",
    ]
    for name, (labels, meaning) in metrics(root).items():
        lines.append(f"| `{name}` | {', '.join(f'`{one}`' for one in labels)} | {cell(meaning)} |")
    return "\n".join(lines) + "\n"


# --- Exit codes -------------------------------------------------------------------------------------------------------------------------------


def exit_codes_page(root):
    lines = [
        "# Exit codes",
        "",
        generated(DATA),
        "",
        "| program | code | meaning |",
        "|---|---|---|",
    ]
    for one in data(root)["exit_codes"]:
        of = cell(one["of"])
        for code, meaning in one["codes"].items():
            lines.append(f"| {of} | {code} | {cell(meaning)} |")
            of = ""
    return "\n".join(lines) + "\n"


# --- Files and ports --------------------------------------------------------------------------------------------------------------------------


def paths(root):
    """{path: the sources that name it} of absolute paths in the SLS, in what is installed on a node, and in modules and states outside of docstrings."""
    found = {}

    def add(text, path):
        for name in _PATH.findall(text):
            found.setdefault(name.rstrip("."), set()).add(path.relative_to(root).as_posix())

    for pattern in ("*.sls", "*/*.sls", "*.jinja", "files/*.yaml", "files/*.json"):
        for path in sorted((root / "slapos_ha").glob(pattern)):
            # Comments of Salt's and of Jinja's are for readers; a path in them is none that is touched.
            text = re.sub(r"{#.*?#}", "", path.read_text(), flags=re.S)
            add(re.sub(r"^ *#.*$", "", text, flags=re.M), path)
    for folder in ("_modules", "_states"):
        for path in sorted((root / folder).glob("*.py")):
            tree = ast.parse(path.read_text())
            docs = {
                id(node.body[0].value)
                for node in ast.walk(tree)
                if isinstance(node, (ast.Module, ast.FunctionDef, ast.ClassDef))
                and node.body
                and isinstance(node.body[0], ast.Expr)
            }
            for node in ast.walk(tree):
                value = node.value if isinstance(node, ast.Constant) and id(node) not in docs else 0
                # Sentences for people name what to do with a path; what is touched is a path by itself.
                if isinstance(value, str) and _PATH.fullmatch(value.rstrip("/")):
                    add(value, path)
    return found


def covered(path, files):
    """Whether a path of a source is an entry of ``files``, below one, or its beginning where the source puts a value after it."""
    for entry in files:
        for known in entry["path"].split(", "):
            stem = known.split("<")[0]
            if path == known or path.startswith(known.rstrip("/") + "/"):
                return True
            if (
                stem != known
                and stem not in ("", "/")
                and (path + "/").startswith(stem.rstrip("/"))
            ):
                return True
    return False


def files_page(root):
    known = data(root)
    lines = [
        "# Files and ports touched on a node",
        "",
        generated(DATA),
        "",
        "`<fqdn>` is `<service:name>.<service:namespace>.svc.<cluster:name>`. Packages that the formula installs stay at a teardown.",
        "",
        "| path | what it is | by | at a teardown |",
        "|---|---|---|---|",
    ]
    for one in known["files"]:
        named = ", ".join(f"`{path}`" for path in one["path"].split(", "))
        lines.append(
            f"| {named} | {cell(one['what'])} | {cell(one['by'])} | {cell(one.get('teardown', ''))} |"
        )
    lines += ["", "On the Salt master:", "", "| path | what it is |", "|---|---|"]
    lines += [f"| `{one['path']}` | {cell(one['what'])} |" for one in known["master_files"]]
    lines += [
        "",
        "## Ports",
        "",
        'With `firewall:backend` the first three are limited to the pairs named here: [design.md](../design.md), "Who may reach a node".',
        "",
        "| port | what | who has to reach it | key of the pillar |",
        "|---|---|---|---|",
    ]
    for one in known["ports"]:
        key = f"`{one['key']}`" if one["key"] else ""
        lines.append(f"| {one['port']} | {cell(one['what'])} | {cell(one['from'])} | {key} |")
    return "\n".join(lines) + "\n"


PAGES = {
    "orchestrations.md": (
        orchestrations_page,
        "each `salt-run state.orch orch.…`, its uses and steps",
    ),
    "events.md": (events_page, "tags on Salt's event bus, and their data"),
    "metrics.md": (metrics_page, "what `slapos_ha.metrics` says of a node, for Prometheus"),
    "exit-codes.md": (exit_codes_page, "of commands, launchers and handlers"),
    "files.md": (
        files_page,
        "files and ports of a node: who writes them, and what goes at a teardown",
    ),
}
