#!/usr/bin/env python3
"""
Write docs/reference and docs/pictures (`make docs`): a page per module from its docstrings, the pillar's page from its schema and defaults, those of
tree_pages.py, the pictures of pictures.py, docs/performance.md where `make bench` has measured something, and the tables of docs/scale.md, from what `make scale` measured.

The sources are read, not imported: nothing of Salt has to be there. Docstrings have the small part of reStructuredText that ``blocks`` knows; whatever
else they hold is an error here, and not a page that reads badly.
"""

import ast
import collections
import functools
import inspect
import json
import pathlib
import re
import sys

import pictures
import tree_pages
import yaml
from bench import report, results, tables

ROOT = pathlib.Path(__file__).resolve().parent.parent
KINDS = {
    "modules": ("_modules", "execution module"),
    "states": ("_states", "state module"),
    "runners": ("_runners", "runner"),
}
REFERENCE = "docs/reference"

# first: the name with which it is called. arguments: {name: default or None}, without the stars of *args and **kwargs.
Function = collections.namedtuple("Function", "name signature arguments doc line")
# A key of the pillar: keys from the top, meaning, type, unit or form of its value, default.
Row = collections.namedtuple("Row", "keys meaning type form default")
# One file of a virtual name.
Source = collections.namedtuple("Source", "kind virtual path doc functions")


class DocError(Exception):
    """A docstring that cannot become a page: where, and what about it."""


# --- Reading the sources ----------------------------------------------------------------------------------------------------------------------


def read_source(root, kind, path):
    """What a module file says of itself: its virtual name, its docstring and its public functions."""
    tree = ast.parse(path.read_text(), str(path))
    constants = {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }

    def constant(name, default):
        return ast.literal_eval(constants[name]) if name in constants else default

    virtual = constant("__virtualname__", path.stem)
    aliases = constant("__func_alias__", {})
    functions = []
    for node in tree.body:
        # mod_watch and its like are Salt's to call.
        if not isinstance(node, ast.FunctionDef) or node.name.startswith(("_", "mod_")):
            continue
        for default in (*node.args.defaults, *node.args.kw_defaults):
            if isinstance(default, ast.Name) and default.id in constants:
                default.id = ast.unparse(constants[default.id])
        args = node.args
        plain = [arg.arg for arg in (*args.posonlyargs, *args.args, *args.kwonlyargs)]
        name = aliases.get(node.name, node.name)
        functions.append(
            Function(
                name,
                f"{virtual}.{name}({ast.unparse(args)})",
                plain,
                inspect.cleandoc(ast.get_docstring(node, clean=False) or ""),
                node.lineno,
            )
        )
    relative = path.relative_to(root).as_posix()
    return Source(kind, virtual, relative, ast.get_docstring(tree) or "", functions)


def read_sources(root=ROOT):
    """{(kind, virtual name): its files}; the file that has the name comes first, as it introduces the others."""
    found = collections.defaultdict(list)
    for kind, (folder, _) in KINDS.items():
        for path in sorted((root / folder).glob("*.py")):
            source = read_source(root, kind, path)
            found[kind, source.virtual].append(source)
    for (_, virtual), sources in found.items():
        sources.sort(key=lambda source: (not source.path.endswith(f"/{virtual}.py"), source.path))
    return dict(found)


# --- Docstrings -------------------------------------------------------------------------------------------------------------------------------


def blocks(text):
    """
    The parts of a docstring: ("text", str), ("code", language, str), ("field", name, blocks), ("item", blocks), ("term", [name, ...], blocks).

    Raises DocError for a directive that is not code-block, and for an indented part that belongs to nothing.
    """
    lines = text.splitlines()
    found, at = [], 0

    def indented(start):
        """The indented lines from ``start`` on without their indentation, and where they end."""
        end = start
        while end < len(lines) and (not lines[end].strip() or lines[end].startswith(" ")):
            end += 1
        part = inspect.cleandoc("\n" + "\n".join(lines[start:end]))
        return part, end

    while at < len(lines):
        line = lines[at]
        field = re.fullmatch(r":([A-Za-z]+): *(.*)", line)
        code = re.fullmatch(r"\.\. code-block:: *(\w+)", line)
        if not line.strip():
            at += 1
        elif code:
            body, at = indented(at + 1)
            if not body:
                raise DocError(f"nothing is below {line!r}: a blank line and an indented example")
            found.append(("code", code[1], body))
        elif line.startswith(".."):
            raise DocError(f"{line!r}: only .. code-block:: is known (docs/generate.py)")
        elif line.startswith(" "):
            raise DocError(f"{line.strip()!r} is indented and belongs to nothing above it")
        elif field or line.startswith("- "):
            first = field[2] if field else line[2:]
            below = "\n" if at + 1 < len(lines) and lines[at + 1].strip() else "\n\n"
            body, at = indented(at + 1)
            kind = ("field", field[1]) if field else ("item",)
            found.append((*kind, blocks(f"{first}{below}{body}".strip())))
        elif at + 1 < len(lines) and lines[at + 1].startswith(" "):
            names = re.split(r",? ", line)
            if not all(re.fullmatch(r"\*{0,2}\w+", name) for name in names):
                raise DocError(
                    f"{line!r} is followed by an indented line and is no list of arguments"
                )
            body, at = indented(at + 1)
            found.append(("term", [name.lstrip("*") for name in names], blocks(body)))
        else:
            end = at
            while end < len(lines) and lines[end].strip():
                end += 1
            if any(line.startswith((" ", "..")) for line in lines[at:end]):
                raise DocError(f"a blank line is missing below {line!r}")
            found.append(("text", " ".join(lines[at:end])))
            at = end
    return found


def inline(text, link):
    """Markdown of a line of reStructuredText. ``link`` turns the target of a :py:func: into an address."""

    def one(match):
        double, role, single, plain = match.groups()
        if role:
            title, target = re.fullmatch(r"(.+?)(?: <(.+)>)?", role).groups()
            return f"[`{title}`]({link(target or title)})"
        if double or single:
            return f"`{double or single}`"
        plain = plain.replace("<", "&lt;").replace("*", r"\*")
        # An underscore between letters is no emphasis.
        return re.sub(r"(?<!\w)_|_(?!\w)", r"\_", plain)

    return re.sub(r"``(.+?)``|:py:func:`(.+?)`|`(.+?)`|([^`:]+|[:`])", one, text)


def markdown(parts, link):
    """The lines of a page for the blocks of a docstring."""
    lines, in_list = [], False
    for part in parts:
        was_in_list, in_list = in_list, part[0] in ("term", "item", "field")
        if lines and not (was_in_list and in_list):
            lines.append("")
        if part[0] == "text":
            lines.append(inline(part[1], link))
        elif part[0] == "code":
            lines += [f"```{part[1]}", *part[2].splitlines(), "```"]
        else:
            head = ""
            if part[0] == "term":
                head = ", ".join(f"`{name}`" for name in part[1]) + ": "
            elif part[0] == "field":
                head = f"**{part[1]}**: "
            body = markdown(part[-1], link)
            lines.append(f"- {head}{body[0]}")
            lines += [f"  {line}" if line else "" for line in body[1:]]
    return lines


def summary(function):
    """The first line of a docstring as one sentence."""
    return function.doc.split("\n", 1)[0]


# --- Pages of modules -------------------------------------------------------------------------------------------------------------------------


def _folded(signature):
    """The lines of a signature, folded between its arguments when it is long."""
    if len(signature) <= 100:
        return [signature]
    head, _, arguments = signature.removesuffix(")").partition("(")
    # A default may hold blanks: only those after a comma are places to fold at, and of these only where an argument begins.
    places = re.split(r"(?<=,) (?=\*{0,2}\w+(?:=|,|$))", arguments)
    lines = [""]
    for place in places:
        if lines[-1] and len(lines[-1]) + 1 + len(place) > 90:
            lines.append("")
        lines[-1] = f"{lines[-1]} {place}".strip()
    return [f"{head}(", *(f"    {line}" for line in lines), ")"]


def module_page(sources, everything):
    """The page of one virtual name."""
    kind, virtual = sources[0].kind, sources[0].virtual
    functions = {
        function.name: (f"{source.path}:{function.line} ({function.name})", function)
        for source in sources
        for function in source.functions
    }

    def link(target):
        name = target.removeprefix(f"{virtual}.")
        if name in functions:
            return f"#{name}"
        other, _, name = name.partition(".")
        for where in dict.fromkeys((kind, *KINDS)):
            for source in everything.get((where, other), ()):
                if any(function.name == name for function in source.functions):
                    folder = "" if where == kind else f"../{where}/"
                    return f"{folder}{other}.md#{name}"
        raise DocError(f":py:func:`{target}` names no public function")

    lines = [
        f"# salt.{kind}.{virtual}",
        "",
        tree_pages.generated(*(source.path for source in sources)),
        "",
    ]
    here = sources[0].path
    try:
        lines += markdown(blocks(sources[0].doc), link)
        lines += ["", "| function | |", "|---|---|"]
        for name in sorted(functions):
            here, function = functions[name]
            text = inline(summary(function), link).replace("|", r"\|")
            lines.append(f"| [`{name}`](#{name}) | {text} |")
        for source in sources:
            here = source.path
            if len(sources) > 1:
                lines += ["", f"## {pathlib.PurePath(here).name}"]
                if source is not sources[0]:
                    lines += ["", *markdown(blocks(source.doc), link)]
            for function in source.functions:
                here, _ = functions[function.name]
                lines += ["", f"### {function.name}", ""]
                lines += ["```python", *_folded(function.signature), "```", ""]
                lines += markdown(blocks(function.doc), link)
    except DocError as error:
        raise DocError(f"{here}: {error}") from None
    return "\n".join(lines) + "\n"


def index_page(everything):
    """The list of all pages."""
    lines = [
        "# Reference",
        "",
        "*Generated by `make docs` from the docstrings, the pillar's schema and defaults, the orchestrations and `docs/reference.yaml`.*",
        "",
        "| | what it is for |",
        "|---|---|",
        "| [pillar `slapos_ha`](pillar.md) | every key of the pillar, its default and its meaning, and the Ansible variable in whose place it is |",
    ]
    for page, (_, text) in tree_pages.PAGES.items():
        title = page.removesuffix(".md").replace("-", " ")
        lines.append(f"| [{title}]({page}) | {text} |")
    for (kind, virtual), sources in everything.items():
        page = f"{kind}/{virtual}.md"
        first = next(part[1] for part in blocks(sources[0].doc) if part[0] == "text")
        sentence = re.split(r"(?<=\.) (?=[A-Z])", first)[0]
        text = inline(sentence, functools.partial("{}#{}".format, page)).replace("|", r"\|")
        lines.append(f"| [{KINDS[kind][1]} `{virtual}`]({page}) | {text} |")
    return "\n".join(lines) + "\n"


# --- The pillar's page ------------------------------------------------------------------------------------------------------------------------


def _flow(value):
    """A value as one would write it in the pillar, on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=1 << 20, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...").strip()


def _resolved(schema, node):
    """A node of the schema with what its $ref says; what stands beside the $ref wins."""
    if "$ref" not in node:
        return node
    return {**schema["$defs"][node["$ref"].rsplit("/", 1)[1]], **node}


def _required(node):
    """{key: the condition under which it has to be given, "" for always}"""
    needed = {}
    for rule in (node, *node.get("allOf", ())):
        if "if" in rule:
            ((key, value),) = rule["if"]["properties"].items()
            for name in rule["then"].get("required", ()):
                needed[name] = f"with `{key}: {value['const']}`"
    needed.update((name, "") for name in node.get("required", ()))
    return needed


def pillar_rows(schema, defaults):
    """One Row for each key, in the schema's order."""
    nothing = object()
    rows = []

    def walk(node, keys, default):
        needed = _required(node)
        for name, child in node.get("properties", {}).items():
            child = _resolved(schema, child)
            value = default.get(name, nothing) if isinstance(default, dict) else nothing
            here = (*keys, name)
            inner = "properties" in child
            shown = "" if value is nothing or inner else f"`{_flow(value)}`"
            if value is nothing and name in needed and not inner:
                shown = f"**required** {needed[name]}".strip()
            rows.append(Row(here, child.get("title", ""), *_kind(child), shown))
            walk(child, here, value)
            more = child.get("additionalProperties")
            if isinstance(more, dict):
                more = _resolved(schema, more)
                if "properties" in more:
                    walk(more, (*here, "<name>"), nothing)

    walk(schema, (), defaults)
    return rows


def _kind(node):
    """(type, what a right value is: its unit, form or words)"""
    text = node.get("description", "")
    if "enum" in node:
        return "word", text or ", ".join(f"`{_flow(word)}`" for word in node["enum"])
    types = node.get("type", "string")
    types = [types] if isinstance(types, str) else types
    names = {"object": "map", "array": "list", "boolean": "true/false"}
    named = " or ".join(names.get(kind, kind) for kind in types)
    return named, "" if text == "true or false" else text


def pillar_page(root=ROOT):
    """The page of the pillar."""
    paths = ["slapos_ha/schema.yaml", "slapos_ha/defaults.yaml"]
    schema, defaults = (yaml.safe_load((root / path).read_text()) for path in paths)
    known = tree_pages.data(root)
    replaced = known["ansible"]
    lines = [
        "# Pillar `slapos_ha`",
        "",
        tree_pages.generated(*paths, tree_pages.DATA),
        "",
        "A pillar is merged over the defaults and checked against the schema before anything is done; every problem is reported at once, with its key, its "
        "value and what would be right. [pillar.example](../../pillar.example) is a whole one. `<name>` stands for a name of your choice. The last column "
        "has the variables of [OpenSVC's Ansible collection](#variables-of-the-ansible-collection) in whose place a key is.",
    ]
    rows = pillar_rows(schema, defaults)
    unknown = sorted(set(replaced) - {":".join(row.keys) for row in rows})
    if unknown:
        raise DocError(f"{tree_pages.DATA}: ansible: no key of the pillar: {', '.join(unknown)}")
    for row in rows:
        # inline is for reStructuredText: Markdown's own emphasis comes through it escaped.
        cells = [
            inline(text, str).replace("|", r"\|").replace(r"\*\*required\*\*", "**required**")
            for text in (row.meaning, row.type, row.form, row.default)
        ]
        if len(row.keys) == 1:
            lines += ["", f"## {row.keys[0]}", "", f"{cells[0][:1].upper()}{cells[0][1:]}."]
            lines += [
                "",
                "| key | meaning | type | unit or form | default | Ansible |",
                "|---|---|---|---|---|---|",
            ]
        if len(row.keys) > 1 or row.type != "map":
            names = ", ".join(f"`{name}`" for name in replaced.get(":".join(row.keys), ()))
            key = ":".join(row.keys[1:] or row.keys)
            lines.append(f"| `{key}` | {' | '.join(cells)} | {names} |")
    lines += [
        "",
        "## Variables of the Ansible collection",
        "",
        "Those of `opensvc.cluster`, `opensvc.cluster_v3` and `opensvc.app` (commit fcf8027, May 2026) that have no key of their own here. In release 1.0.0 of "
        "`opensvc.app` the names began with `osvc_slapos_comp1_`, `osvc_re6st_` and `osvc_slapos_`.",
        "",
        "| variable | why there is no key |",
        "|---|---|",
    ]
    for one in known["ansible_without_key"]:
        names = ", ".join(f"`{name}`" for name in one["variables"])
        lines.append(f"| {names} | {tree_pages.cell(one['why'])} |")
    return "\n".join(lines) + "\n"


# --- What was measured ------------------------------------------------------------------------------------------------------------------------

PERFORMANCE = "docs/performance.md"
EXPLAINED = "test/bench/explained.yaml"


def performance(root=ROOT):
    """{docs/performance.md: text} of what was measured; nothing where nothing was."""
    measured = results.read(root / pictures.MEASURED)
    if not measured["parts"]:
        return {}
    try:
        return {PERFORMANCE: report.page(measured, yaml.safe_load((root / EXPLAINED).read_text()))}
    except report.BadExplanation as error:
        raise DocError(f"{EXPLAINED}: {error}") from None


SCALE, SCALED = "docs/scale.md", "test/bench/scale.json"


def scale(root=ROOT):
    """{docs/scale.md: text}: the tables of what was measured last, its prose is written by hand; nothing where nothing was."""
    if not (root / SCALED).exists():
        return {}
    measured = json.loads((root / SCALED).read_text())
    return {SCALE: tables.filled((root / SCALE).read_text(), measured)}


# --- Writing ----------------------------------------------------------------------------------------------------------------------------------


def pages(root=ROOT):
    """{path below docs/reference: text} of all pages as they would be written now."""
    everything = read_sources(root)
    written = {"README.md": index_page(everything), "pillar.md": pillar_page(root)}
    written.update({page: make(root) for page, (make, _) in tree_pages.PAGES.items()})
    for (kind, virtual), sources in everything.items():
        written[f"{kind}/{virtual}.md"] = module_page(sources, everything)
    return written


def main():
    folder = ROOT / REFERENCE
    try:
        wanted = pages()
        drawn = {**pictures.pictures(ROOT), **performance(), **scale()}
    except (DocError, results.BadResults) as error:
        print(f"docs: {error}", file=sys.stderr)
        return 1
    for path in sorted(folder.rglob("*.md")):
        if path.relative_to(folder).as_posix() not in wanted:
            path.unlink()
    written = {f"{REFERENCE}/{name}": text for name, text in wanted.items()}
    for name, text in {**written, **drawn}.items():
        path = ROOT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            print(f"docs: {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
