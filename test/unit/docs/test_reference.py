"""docs/reference is what `make docs` would write now, and what it writes can be read."""

import re

import pytest
from markdown_it import MarkdownIt
from support import ROOT

from . import prose
from .generator import GENERATE

FOLDER = ROOT / GENERATE.REFERENCE
try:
    PAGES = GENERATE.pages()
    NAMES = sorted(
        {*PAGES, *(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.md"))}
    )
except GENERATE.DocError:
    # Told by the first test, with its place, and not as an error that ends the collection of all tests.
    PAGES, NAMES = {}, []


def test_the_pages_can_be_written():
    assert GENERATE.pages()


@pytest.mark.parametrize("name", NAMES)
def test_a_page_says_what_its_sources_say(name):
    path = FOLDER / name
    written = path.read_text() if path.exists() else None
    # Compared outside of the assertion: the remedy is to be read, not a hundred lines of difference.
    current = written == PAGES.get(name)
    assert current, f"{GENERATE.REFERENCE}/{name} is not what its sources say. Run: make docs"


@pytest.mark.parametrize("name", sorted(PAGES))
def test_a_page_renders_without_stray_markup_and_its_links_lead_somewhere(name):
    def walk(tokens):
        for token in tokens:
            yield token
            yield from walk(token.children or ())

    tokens = list(walk(MarkdownIt("commonmark").enable("table").parse(PAGES[name])))
    assert [token.content for token in tokens if token.type in ("html_inline", "html_block")] == []
    text = " ".join(token.content for token in tokens if token.type == "text")
    assert not re.search(r"``|:py:|\.\. |\*\*|^\||---", text)
    for token in tokens:
        if token.type != "link_open":
            continue
        target, _, anchor = token.attrs["href"].partition("#")
        path = ((FOLDER / name).parent / target).resolve() if target else FOLDER / name
        page = PAGES.get(str(path.relative_to(FOLDER))) if path.is_relative_to(FOLDER) else None
        assert page or path.exists(), token.attrs["href"]
        assert not anchor or anchor in prose.anchors(page), token.attrs["href"]


def test_every_public_function_is_on_a_page_with_its_signature():
    pages = GENERATE.pages()
    for (kind, virtual), sources in GENERATE.read_sources().items():
        page = pages[f"{kind}/{virtual}.md"]
        for source in sources:
            assert source.path in page
            for function in source.functions:
                assert f"\n### {function.name}\n" in page
    assert "opensvc.status(path, fresh=True)" in pages["modules/opensvc.md"]
    # A constant of the file is shown as its value.
    assert "conf_dir='/etc/re6stnet'" in pages["modules/slapos_node.md"]


def test_every_key_of_the_pillar_has_a_meaning(schema, defaults):
    rows = GENERATE.pillar_rows(schema, defaults)
    assert [":".join(row.keys) for row in rows if not row.meaning] == []


@pytest.mark.parametrize(
    "keys, default",
    [
        ("drbd:port", "`7289`"),
        ("cluster:nodes:<name>:address", "**required**"),
        ("storage:vg", "**required** with `backend: lvm`"),
        ("slapos:users", ""),
        ("re6st:title", ""),
        ("tasks:chkaddip:schedule", "`'@60m'`"),
    ],
)
def test_a_row_shows_what_is_used_when_a_key_is_not_given(schema, defaults, keys, default):
    rows = {":".join(row.keys): row for row in GENERATE.pillar_rows(schema, defaults)}
    assert rows[keys].default == default


@pytest.mark.parametrize(
    "text, parts",
    [
        ("One.\nTwo.", [("text", "One. Two.")]),
        ("a, b\n    Both.\n*c*", None),
        ("a, *args\n    Both.", [("term", ["a", "args"], [("text", "Both.")])]),
        (":depends: x\n    and y", [("field", "depends", [("text", "x and y")])]),
        ("- one\n- two\n  more", [("item", [("text", "one")]), ("item", [("text", "two more")])]),
        (
            ".. code-block:: bash\n\n    a\n\n      b\n\nText.",
            [("code", "bash", "a\n\n  b"), ("text", "Text.")],
        ),
        (
            ":x: y:\n\n    .. code-block:: yaml\n\n        a: 1",
            [("field", "x", [("text", "y:"), ("code", "yaml", "a: 1")])],
        ),
    ],
)
def test_a_docstring_is_read_in_parts(text, parts):
    if parts is None:
        assert GENERATE.blocks(text)[-1] == ("text", "*c*")
    else:
        assert GENERATE.blocks(text) == parts


@pytest.mark.parametrize(
    "text, why",
    [
        (".. note::\n\n    Not known.", "only .. code-block::"),
        (".. code-block:: bash\nnothing", "nothing is below"),
        ("Text.\n\n    Indented.", "belongs to nothing"),
        ("Two words:\n    that go on.", "no list of arguments"),
        ("One.\nTwo:\n    three", "a blank line is missing"),
    ],
)
def test_a_docstring_that_would_read_badly_is_refused(text, why):
    with pytest.raises(GENERATE.DocError, match=why):
        GENERATE.blocks(text)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("``a*b`` is *not* <b>", r"`a*b` is \*not\* &lt;b>"),
        ("see :py:func:`up`.", "see [`up`](#up)."),
        (":py:func:`the ids <x.y>`", "[`the ids`](#x.y)"),
        ("`uname -n`: it is", "`uname -n`: it is"),
        ("_private and in_word", r"\_private and in_word"),
    ],
)
def test_a_line_becomes_markdown(text, expected):
    assert GENERATE.inline(text, "#{}".format) == expected


def test_a_reference_to_nothing_is_refused_with_its_place(tmp_path):
    (tmp_path / "_modules").mkdir()
    (tmp_path / "_modules/x.py").write_text(
        '"""X."""\n\n\ndef one():\n    """See :py:func:`two`."""\n'
    )
    everything = GENERATE.read_sources(tmp_path)
    with pytest.raises(GENERATE.DocError, match=r"^_modules/x.py:4 \(one\): :py:func:`two` names"):
        GENERATE.module_page(everything["modules", "x"], everything)
