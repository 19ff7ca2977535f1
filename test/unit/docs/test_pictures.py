"""The pictures are what `make docs` would draw now, are SVG that draws by itself, and have a dark side and words."""

import re
import xml.etree.ElementTree as ElementTree

import pytest
from support import ROOT

from .generator import PICTURES

DRAWN = PICTURES.pictures(ROOT)
NAMES = sorted({*DRAWN, *(str(path.relative_to(ROOT)) for path in (ROOT / PICTURES.FOLDER).iterdir())})  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_is_current(name):
    path = ROOT / name
    current = path.exists() and path.read_text() == DRAWN.get(name)
    assert current, f"{name} is not what its source says. Run: make docs"


@pytest.mark.parametrize("name", sorted(DRAWN))
def test_a_picture_is_svg_with_words_and_a_dark_side_and_asks_nobody(name):
    root = ElementTree.fromstring(DRAWN[name])
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root.find("{http://www.w3.org/2000/svg}title").text and root.get("aria-label")
    assert "@media (prefers-color-scheme: dark)" in DRAWN[name]
    assert re.findall(r"https?://[^\"'\s)]+", DRAWN[name]) == ["http://www.w3.org/2000/svg"]


def test_the_procedure_has_every_step_of_the_runner():
    steps = PICTURES.steps(ROOT)
    text = DRAWN["docs/pictures/procedure.svg"]
    source = (ROOT / "_runners/slapos_ha.py").read_text()
    assert [name for name, *_ in steps] == re.findall(r'^    \(\n?\s*"(\w+)",\s', source, re.M)
    assert len(steps) == 17 and all(f">{name}</text>" in text for name, *_ in steps)
    assert [name for name, _, always in steps if always] == ["software", "verify"]
    assert "[...]" not in text, "a step's sentence is longer than its box"


@pytest.mark.parametrize("name", ["deploy", "status"])
def test_a_terminal_shows_what_was_recorded(name):
    recorded = (ROOT / f"{PICTURES.TERMINAL}/{name}.txt").read_text()
    shown = " ".join(ElementTree.fromstring(DRAWN[f"docs/pictures/{name}.svg"]).itertext())
    shown = shown.replace("\xa0", " ")
    words = set(recorded.split()) - {"─" * 3}
    missing = [word for word in words if word not in shown and not set(word) <= {"─"}]
    assert missing == []


def test_light_and_dark_differ_and_can_be_read():
    def light(colour):
        red, green, blue = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
        linear = [
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (red, green, blue)
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for side in (0, 1):
        for ink in ("ink", "faint", "copyline", "moveline"):
            one, two = sorted(
                (light(PICTURES.COLOURS[ink][side]), light(PICTURES.COLOURS["paper"][side]))
            )
            assert (two + 0.05) / (one + 0.05) >= 4.5, (ink, side)
