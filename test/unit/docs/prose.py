"""The Markdown of this checkout as its readers have it: links, code blocks and commands."""

import re
import shlex
import subprocess
from dataclasses import dataclass

from markdown_it import MarkdownIt
from support import ROOT

_MARKDOWN = MarkdownIt("commonmark").enable("table")


def pages():
    """The paths of all pages that belong to the repository."""
    known = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    return sorted(known)


def tokens(text):
    """All tokens of a page, those inside of others too."""

    def walk(some):
        for token in some:
            yield token
            yield from walk(token.children or ())

    return list(walk(_MARKDOWN.parse(text)))


def links(text):
    """The targets of links and pictures."""
    for token in tokens(text):
        if token.type in ("link_open", "image"):
            yield token.attrs.get("href") or token.attrs.get("src")


def anchors(text):
    """What a link may name of a page, as GitHub makes it of the headings."""
    found = set()
    for line in re.sub(r"```.*?```", "", text, flags=re.S).splitlines():
        heading = re.match(r"#+ (.*)", line)
        if heading:
            words = re.sub(r"[^\w\- ]", "", heading[1].lower())
            found.add(words.strip().replace(" ", "-"))
    return found


def yaml_blocks(text):
    return [
        token.content
        for token in tokens(text)
        if token.type == "fence" and token.info.strip() == "yaml"
    ]


@dataclass(frozen=True)
class Line:
    """A command as printed somewhere: its words."""

    words: tuple
    text: str


_PROGRAMS = ("salt", "salt-run", "salt-call", "om", "make", "drbdadm", "test/lab/lab", "LAB_KEEP=1")


def commands(text):
    """The commands of a page that begin with a program of ours, from blocks and from code in the text."""
    for token in tokens(text):
        if token.type == "code_inline":
            yield from _split(token.content)
        elif token.type == "fence" and token.info.split()[:1] in (
            ["console"],
            ["bash"],
            ["sh"],
            [],
        ):
            for line in token.content.splitlines():
                yield from _split(re.sub(r"^(\$|[a-z0-9]+#) ", "", line))


def _split(line):
    for part in re.split(r" *(?:;|&&|\|\|?(?= )) *", line):
        try:
            words = shlex.split(part, comments=True)
        except ValueError:
            # A quotation mark of the prose, or of a text with several lines.
            words = part.split()
        while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            words = words[1:]
        if words and words[0] in _PROGRAMS:
            yield Line(tuple(words), part.strip())
