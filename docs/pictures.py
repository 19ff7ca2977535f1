"""
The pictures of the documentation: SVG, light and dark by the reader's own setting, from the code and from recorded text. For docs/generate.py.

- ``nodes``: two nodes, what is replicated and what moves; drawn here.
- ``procedure``: the deployment as states, from ``_STEPS`` of the runner.
- ``deploy``, ``status``: docs/terminal/*.txt, which is what a terminal showed; it is recorded, not written.
- ``performance``: the goals of `make bench`, from the numbers that it measured, where there are some.
"""

import ast
import pathlib
import re
import sys
import textwrap
from xml.sax.saxutils import escape

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "test"))
from bench import report, results  # noqa: E402 the path is set just above

FOLDER = "docs/pictures"
TERMINAL = "docs/terminal"
MEASURED = "test/bench/results.json"
# name: (light, dark); the names are classes: fill_<name>, line_<name>.
COLOURS = {
    "paper": ("#ffffff", "#16191d"),
    "ink": ("#1f2328", "#e6e8eb"),
    "faint": ("#59636e", "#9aa4af"),
    "box": ("#f3f5f7", "#22272e"),
    "copy": ("#d8ecff", "#12385c"),
    "copyline": ("#0b62b0", "#66b3ff"),
    "move": ("#fff0d4", "#4a3410"),
    "moveline": ("#a15c00", "#f0b040"),
    "stop": ("#b3261e", "#ff8a80"),
}
FONT = "system-ui, 'DejaVu Sans', sans-serif"
MONO = "'DejaVu Sans Mono', monospace"


def pictures(root):
    """{path below the root: text} of all pictures as they would be written now."""
    drawn = {"nodes": nodes(), "procedure": procedure(root)}
    for path in sorted((root / TERMINAL).glob("*.txt")):
        drawn[path.stem] = terminal(path.stem, path.read_text())
    measured = results.read(root / MEASURED)
    if measured["parts"]:
        drawn["performance"] = performance(measured)
    return {f"{FOLDER}/{name}.svg": text for name, text in drawn.items()}


# --- Drawing ----------------------------------------------------------------------------------------------------------------------------------


def _styles():
    light = [
        rule
        for name, (colour, _) in COLOURS.items()
        for rule in (f".fill_{name}{{fill:{colour}}}", f".line_{name}{{stroke:{colour};fill:none}}")
    ]
    dark = [
        rule
        for name, (_, colour) in COLOURS.items()
        for rule in (f".fill_{name}{{fill:{colour}}}", f".line_{name}{{stroke:{colour}}}")
    ]
    return "".join(light) + "@media (prefers-color-scheme: dark){" + "".join(dark) + "}"


def _picture(width, height, title, parts):
    arrows = "".join(
        f'<marker id="to_{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto-start-reverse">'
        f'<path d="M0 0L8 4L0 8z" class="fill_{name}"/></marker>'
        for name in ("faint", "copyline", "moveline", "stop")
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title, {chr(34): "&quot;"})}">',
            f"<title>{escape(title)}</title>",
            f"<style>text{{font:14px {FONT}}}.small{{font-size:12px}}.mono{{font-family:{MONO};font-size:12.5px}}.strong{{font-weight:600}}{_styles()}</style>",
            f"<defs>{arrows}</defs>",
            f'<rect width="{width}" height="{height}" rx="8" class="fill_paper"/>',
            *parts,
            "</svg>",
            "",
        ]
    )


def _text(x, y, text, kind="", colour="ink", anchor="start"):
    return f'<text x="{x}" y="{y}" class="{kind} fill_{colour}" text-anchor="{anchor}">{escape(text)}</text>'


def _box(x, y, width, height, fill="box", line="faint", dashed=False):
    dash = ' stroke-dasharray="5 4"' if dashed else ""
    return (
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" class="fill_{fill}"/>'
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" class="line_{line}"{dash}/>'
    )


def _line(x1, y1, x2, y2, colour, both=False, dashed=False, width=1.6):
    dash = ' stroke-dasharray="6 4"' if dashed else ""
    start = f' marker-start="url(#to_{colour})"' if both else ""
    return f'<path d="M{x1} {y1}L{x2} {y2}" class="line_{colour}" stroke-width="{width}" marker-end="url(#to_{colour})"{start}{dash}/>'


# --- Two nodes --------------------------------------------------------------------------------------------------------------------------------

NODES_TITLE = (
    "Two nodes. The Salt master reaches both. Each has an OpenSVC agent, the agents hear each other by heartbeats. DRBD replicates the disk from demo1 to demo2. On "
    "demo1 the service has the filesystem, re6st, SlapOS and five tasks; they move to demo2."
)
# What the service is made of, from the top.
SERVICE = (
    ("task#…", "five periodic jobs of SlapOS"),
    ("app#1", "SlapOS: partitions, software"),
    ("app#0", "re6st: IPv6 prefix, mesh"),
    ("fs#0 … #5", "ext4 and its binds"),
)


def nodes():
    """Two nodes: what is replicated, what moves, and what Salt makes equal."""
    width, left, right, column = 900, 40, 520, 340
    parts = [
        _box(300, 20, 300, 50),
        _text(450, 41, "Salt master", "strong", anchor="middle"),
        _text(450, 60, "orch.deploy, slapos_ha.status, the pillar", "small", "faint", "middle"),
        _line(320, 70, 150, 104, "faint"),
        _line(580, 70, 750, 104, "faint"),
        _text(
            450, 92, "software, users and configuration: equal by Salt", "small", "faint", "middle"
        ),
    ]
    for x, name, role in ((left, "demo1", "primary"), (right, "demo2", "standby")):
        parts += [
            _box(x, 106, column, 434, "paper"),
            _text(x + 16, 130, name, "strong"),
            _text(x + 80, 130, role, "", "faint"),
            _box(x + 16, 144, column - 32, 36),
            _text(x + 30, 167, "OpenSVC agent", ""),
        ]
    parts += [
        _line(left + column - 14, 162, right + 14, 162, "faint", both=True),
        _text(450, 153, "heartbeats", "small", "faint", "middle"),
    ]
    top, step = 206, 40
    for x, there in ((left, True), (right, False)):
        parts.append(
            _box(
                x + 16,
                top - 8,
                column - 32,
                step * len(SERVICE) + 32,
                "move" if there else "paper",
                "moveline",
                not there,
            )
        )
        colour = "ink" if there else "faint"
        for row, (rid, what) in enumerate(SERVICE):
            y = top + 16 + row * step
            parts.append(_text(x + 30, y, rid, "mono", colour))
            parts.append(_text(x + 124, y, what, "", colour))
        y = top + 16 + len(SERVICE) * step
        parts.append(
            _text(x + 30, y - 6, "slapos/svc/comp1", "mono strong" if there else "mono", colour)
        )
    parts += [
        _line(left + column - 14, top + 76, right + 14, top + 76, "moveline", width=2.2),
        _text(450, top + 66, "moves", "strong", "moveline", "middle"),
        _text(450, top + 96, "switch, or a crash", "small", "faint", "middle"),
    ]
    for x, role in ((left, "Primary"), (right, "Secondary")):
        parts += [
            _box(x + 16, 412, column - 32, 44, "copy", "copyline"),
            _text(x + 30, 439, "disk#3 DRBD", "mono"),
            _text(x + 124, 439, f"{role}, UpToDate"),
            _box(x + 16, 470, column - 32, 56),
            _text(x + 30, 492, "disk#0 … #2", "mono"),
            _text(x + 124, 492, "loop file or disk, LVM"),
            _text(x + 124, 512, "up on both nodes all the time", "small", "faint"),
        ]
    parts += [
        _line(left + column - 14, 434, right + 14, 434, "copyline", width=2.2),
        _text(450, 424, "replicated", "strong", "copyline", "middle"),
        _text(450, 454, "protocol C:", "small", "faint", "middle"),
        _text(450, 472, "data, certificates,", "small", "faint", "middle"),
        _text(450, 488, "configuration", "small", "faint", "middle"),
    ]
    return _picture(width, 560, NODES_TITLE, parts)


# --- The procedure ----------------------------------------------------------------------------------------------------------------------------


def steps(root):
    """[(name, what is so afterwards, whether it is always run)] of the deployment, as the runner has them."""
    tree = ast.parse((root / "_runners/slapos_ha.py").read_text())
    (table,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_STEPS"
    )
    found = []
    for entry in table.elts:
        name, what, done, _ = entry.elts
        always = isinstance(done, ast.Constant) and done.value is None
        found.append((ast.literal_eval(name), ast.literal_eval(what), always))
    return found


LANES = ("no service yet", "it is on the first node", "it is on the second node")


def _lane(name, begun):
    """Where the service is after a step: the column of its state."""
    if name.endswith(("_switch", "_second")):
        return 2
    return 1 if begun else 0


def procedure(root):
    """The deployment as a diagram of states: where the service is after each step."""
    width, box, height, gap, top = 900, 260, 46, 14, 92
    found = [("preflight", "every obstacle on both nodes is known, or there is none", True)]
    found += steps(root)
    parts = []
    for lane, title in enumerate(LANES):
        x = 30 + lane * 290
        parts.append(_text(x + box / 2, 34, title, "strong", anchor="middle"))
    parts.append(
        _text(
            450,
            58,
            "A step that is done is passed over. One that stops ends the run with exit code 1; the service stays where it is, whole, and the",
            "small",
            "faint",
            "middle",
        )
    )
    parts.append(_text(450, 74, "next run begins there.", "small", "faint", "middle"))
    places, begun = [], False
    for row, (name, what, always) in enumerate(found):
        begun = begun or name == "provision"
        places.append(
            (30 + _lane(name, begun) * 290, top + row * (height + gap), name, what, always)
        )
    bottom = places[-1][1] + height
    for lane in (1, 2):
        x = 15 + lane * 290
        parts.append(
            f'<path d="M{x} 84L{x} {bottom}" class="line_faint" stroke-width="0.6" stroke-dasharray="2 4"/>'
        )
    for (x, y, *_), (to_x, to_y, *_) in zip(places, places[1:], strict=False):
        moving = x != to_x and x > 30
        colour = "moveline" if moving else "faint"
        if x == to_x:
            parts.append(_line(x + box / 2, y + height, to_x + box / 2, to_y, colour))
        else:
            # To the side and down, into the top of the next state.
            parts.append(
                f'<path d="M{x + (box if to_x > x else 0)} {y + height / 2}L{to_x + box / 2} {y + height / 2}L{to_x + box / 2} {to_y}" class="line_{colour}" '
                f'stroke-width="{2.2 if moving else 1.6}" marker-end="url(#to_{colour})"/>'
            )
    for x, y, name, what, always in places:
        moves = name.endswith(("_switch", "_back"))
        parts.append(
            _box(
                x,
                y,
                box,
                height,
                "move" if moves else "box",
                "moveline" if moves else "faint",
                always,
            )
        )
        parts.append(_text(x + 10, y + 16, name, "mono strong"))
        if always:
            parts.append(_text(x + box - 10, y + 16, "always run", "small", "faint", "end"))
        # More than two lines would not be inside of the box.
        for line, text in enumerate(textwrap.wrap(what, 37, max_lines=2)):
            parts.append(_text(x + 10, y + 29 + 13 * line, text, "small", "faint"))
    title = "The deployment as states, from top to bottom: " + "; ".join(
        f"{name}: {what}" for name, what, _ in found
    )
    return _picture(width, bottom + 24, title, parts)


# --- Performance ------------------------------------------------------------------------------------------------------------------------------

# How far a bar may go beyond its goal; what is longer ends there with an arrow.
_LONGEST = 1.5


def performance(measured):
    """What each goal allows as a line, and what was measured as a bar, with its minimum and maximum."""
    bars = report.chart(measured)
    width, left, goal, row, top = 900, 330, 640, 44, 84
    scale = goal - left
    end = left + scale * _LONGEST
    bottom = top + row * len(bars)
    parts = [
        _text(30, 34, "What was measured, as a part of what the goal allows", "strong"),
        _text(30, 54, "Bar: the median; thin line: minimum to maximum. Shorter than the line is reached.", "small", "faint"),
        _text(goal, top - 10, "goal", "small", "faint", "middle"),
    ]  # fmt: skip
    for number, bar in enumerate(bars):
        y = top + number * row
        parts.append(_text(30, y + 18, bar.title))
        parts.append(_text(30, y + 34, f"{bar.value}, goal {bar.goal}", "small", "faint"))
        if not bar.lengths:
            parts.append(_text(left, y + 24, "not measured", "small", "faint"))
            continue
        least, median, most = (left + scale * min(part, _LONGEST) for part in bar.lengths)
        fill = "copyline" if bar.reached else "stop"
        parts.append(
            f'<rect x="{left}" y="{y + 10}" width="{max(median - left, 2):.1f}" height="18" rx="3" class="fill_{fill}"/>'
        )
        if most > least:
            parts.append(
                f'<path d="M{least:.1f} {y + 33}L{most:.1f} {y + 33}" class="line_faint" stroke-width="2"/>'
            )
        if bar.lengths[1] > _LONGEST:
            parts.append(_line(end - 8, y + 19, end + 20, y + 19, "stop"))
            parts.append(_text(end + 26, y + 23, f"{bar.lengths[1]:.1f} ×", "small"))
        if not bar.reached:
            parts.append(_text(width - 20, y + 40, "not reached", "small", "stop", "end"))
    parts.append(
        f'<path d="M{goal} {top - 4}L{goal} {bottom}" class="line_ink" stroke-width="1.6" stroke-dasharray="4 3"/>'
    )
    return _picture(width, bottom + 20, report.alt(measured), parts)


# --- Terminals --------------------------------------------------------------------------------------------------------------------------------

TERMINAL_TITLES = {
    "deploy": "A terminal with a finished deployment: each step with its second, and how long all of it took",
    "status": "A terminal with salt-run slapos_ha.status: both nodes, heartbeats and resources in tables, and the line All is well.",
}
# What is coloured in a terminal's text: pattern and Rich's style.
HIGHLIGHTS = (
    (r"^salt-run \S+( \S+)?", "bold"),
    (r"✔|All is well\.|\bUpToDate\b|\bbeating\b|\bConnected\b", "green"),
    (r"^ +\d+ s\b|\(disabled\)", "bright_black"),
)
_SVG = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">
<style>.{unique_id}-matrix{{font-family:MONO;font-size:{char_height}px;line-height:{line_height}px}}
{styles}</style>
<defs><clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}</defs>
<rect width="{width}" height="{height}" rx="8" class="paper"/>
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}<g class="{unique_id}-matrix">
{matrix}
</g></g>
</svg>
"""


def terminal(name, text):
    """A terminal's text as a picture."""
    light, dark = (_exported(name, text, dark) for dark in (False, True))
    # Both have the same classes: only their colours differ.
    styles = re.search(r"<style>(.*?)</style>", dark, re.S)[1]
    rules = "".join(re.findall(rf"^\s*(\.{name}-r\d+ .*)$", styles, re.M))
    paper = ".paper{fill:PAPER}"
    both = "\n" + paper.replace("PAPER", COLOURS["paper"][0])
    both += f"@media (prefers-color-scheme: dark){{{paper.replace('PAPER', COLOURS['paper'][1])}{rules}}}</style>"
    title = TERMINAL_TITLES[name]
    light = light.replace("</style>", both).replace("MONO", MONO)
    light = light.replace(
        'role="img">', f'role="img" aria-label="{escape(title)}">\n<title>{escape(title)}</title>'
    )
    return "\n".join(line.rstrip() for line in light.splitlines()) + "\n"


def _exported(name, text, dark):
    import io

    from rich.console import Console
    from rich.terminal_theme import TerminalTheme
    from rich.text import Text

    def colour(hexadecimal):
        return tuple(int(hexadecimal[at : at + 2], 16) for at in (1, 3, 5))

    paper, ink, faint = (colour(COLOURS[key][dark]) for key in ("paper", "ink", "faint"))
    green = colour(("#116329", "#6fdd8b")[dark])
    theme = TerminalTheme(paper, ink, [ink, ink, green, *[ink] * 5], [faint, *[ink] * 7])
    lines = text.splitlines()
    console = Console(
        record=True,
        file=io.StringIO(),
        width=max(map(len, lines)) + 2,
        force_terminal=True,
        color_system="standard",
        legacy_windows=False,
    )
    for line in lines:
        shown = Text(line)
        for pattern, style in HIGHLIGHTS:
            shown.highlight_regex(pattern, style)
        console.print(shown, soft_wrap=True)
    return console.export_svg(theme=theme, code_format=_SVG, unique_id=name, clear=False)
