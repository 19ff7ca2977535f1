"""Configuration files, keyword expressions, references. Pure, but for reading and writing the file itself."""

import os
import re

from . import env
from .errors import Failed

REFERENCE = re.compile(r"\{(#?[A-Za-z0-9_][\w#.\[\]:/]*)\}")
# Answered by a resource, not by the configuration: unknown until the resource can tell.
DEFERRED = ("exposed_devs", "sub_devs", "base_devs")
MAX_DEPTH = 20
# Sections that a validation accepts, besides DEFAULT.
FAMILIES = (
    "ip volume disk fs share container app sync task subset env labels data expose vhost route "
    "hashpolicy certificate cluster hb arbitrator pool network stonith node listener syslog"
).split()
DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhdwMy]?)")
DURATION_UNITS = {
    "": 1,
    "s": 1,
    "m": 60,
    "h": 3600,
    "d": 86400,
    "w": 604800,
    "M": 2592000,
    "y": 31536000,
}
SIZE_UNITS = {"": 1, "b": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4, "p": 1024**5}


def parse(text):
    """Text of a configuration file -> {section: {keyword: value}}, in the order of the file."""
    sections = {}
    current = None
    last = None
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped[0] in "#;":
            continue
        if line[0].isspace() and last is not None:
            current[last] += "\n" + stripped
            continue
        if stripped.startswith("[") and stripped.endswith("]"):
            current = sections.setdefault(stripped[1:-1], {})
            last = None
            continue
        key, separator, value = stripped.partition("=")
        if current is None or not separator:
            raise Failed(f"line {number} of the configuration is neither a section nor a keyword")
        last = key.strip()
        current[last] = value.strip()
    return sections


def render(sections):
    """{section: {keyword: value}} -> text of a configuration file; DEFAULT leads."""
    names = sorted(sections, key=lambda name: name != "DEFAULT")
    blocks = []
    for name in names:
        lines = [f"[{name}]"]
        for key, value in sections[name].items():
            lines.append(f"{key} = " + str(value).replace("\n", "\n\t"))
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def load(path):
    """The sections of a file; an absent file has none."""
    try:
        with open(path, encoding="utf-8") as stream:
            return parse(stream.read())
    except FileNotFoundError:
        return {}


def save(path, sections, mtime=None):
    """Write a configuration for root's eyes only: the cluster's holds the secret."""
    env.write_atomic(path, render(sections), mode=0o600, mtime=mtime)


def csum(path):
    """The checksum of a configuration file, of nothing when it is absent."""
    import hashlib

    digest = hashlib.md5(usedforsecurity=False)
    try:
        with open(path, "rb") as stream:
            digest.update(stream.read())
    except FileNotFoundError:
        pass
    return digest.hexdigest()


def mtime(path):
    try:
        return os.stat(path).st_mtime
    except FileNotFoundError:
        return 0.0


def boolean(value, default=False):
    if value is None:
        return default
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in ("true", "t", "yes", "y", "1"):
        return True
    if text in ("false", "f", "no", "n", "0", "0.0", "", "none"):
        return False
    raise Failed(f"convert to boolean error: {value}")


def duration(value, default=None):
    """A duration (``90``, ``1m30s``) in seconds."""
    if value in (None, ""):
        return default
    if isinstance(value, (int, float)):
        return value
    text = str(value).strip()
    if not re.fullmatch(r"(\d+(\.\d+)?[smhdwMy]?)+", text):
        raise Failed(f"convert duration error: {value}")
    return sum(float(number) * DURATION_UNITS[unit] for number, unit in DURATION.findall(text))


def size(value):
    """A size (``200m``, ``1GiB``, ``4096``) in bytes."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([bkmgtp]?)(?:i?b)?", str(value).strip().lower())
    if match is None:
        raise Failed(f"convert size error: {value}")
    return int(float(match.group(1)) * SIZE_UNITS[match.group(2)])


def split_keyword(keyword):
    """``disk#0.size@demo1`` -> (``disk#0``, ``size@demo1``); a bare keyword is DEFAULT's."""
    section, separator, option = keyword.partition(".")
    return (section, option) if separator else ("DEFAULT", keyword)


def apply_expressions(sections, expressions):
    """Apply ``key=value``, ``key+=``, ``key|=`` and ``key-=`` in place; return whether anything changed."""
    changed = False
    for expression in expressions:
        keyword, separator, value = expression.partition("=")
        if not separator:
            raise Failed(f"malformed kw expression: {expression}: no '='")
        operator = keyword[-1:] if keyword[-1:] in ("+", "|", "-") else ""
        keyword = keyword[: len(keyword) - len(operator)]
        section, option = split_keyword(keyword)
        current = sections.get(section, {}).get(option)
        words = (current or "").split()
        if operator == "-":
            if value not in words:
                continue
            words.remove(value)
            value = " ".join(words)
        elif operator == "+":
            value = " ".join([*words, value])
        elif operator == "|":
            value = " ".join([*words, *(word for word in value.split() if word not in words)])
        if current != value:
            sections.setdefault(section, {})[option] = value
            changed = True
    return changed


def unset(sections, keywords):
    """Remove keywords in place; return whether anything was there."""
    changed = False
    for keyword in keywords:
        section, option = split_keyword(keyword)
        if option in sections.get(section, {}):
            del sections[section][option]
            changed = True
            if not sections[section] and section != "DEFAULT":
                del sections[section]
    return changed


def ignored_sections(sections):
    """The sections no driver reads: accepted, with a warning."""
    return [name for name in sections if name != "DEFAULT" and name.split("#")[0] not in FAMILIES]


class Resolver:
    """The values of a configuration as one node sees them: scopes first, then references."""

    def __init__(self, sections, builtins, node, nodes=(), deferred=None, defaults=None):
        self.sections = sections
        self.builtins = builtins
        self.node = node
        self.nodes = tuple(nodes)
        self.deferred = deferred
        self.defaults = defaults or {}

    def raw(self, section, option, node=None):
        """The scoped, unresolved value, or None."""
        keywords = self.sections.get(section, {})
        node = node or self.node
        for name in (f"{option}@{node}", f"{option}@nodes" if node in self.nodes else None, option):
            if name and name in keywords:
                return keywords[name]
        return None

    def get(self, section, option, default=None, node=None, _stack=()):
        """The resolved value; ``default`` when the keyword is absent; None while a reference is unknown."""
        if len(_stack) > MAX_DEPTH:
            raise Failed(f"recursion exceeds {MAX_DEPTH}: {' => '.join(_stack)}")
        value = self.raw(section, option, node)
        if value is None:
            value = default if default is not None else self.default(section, option)
        if not isinstance(value, str):
            return value
        return self.expand(value, section, node, (*_stack, f"{section}.{option}"))

    def default(self, section, option):
        """What the driver assumes when a keyword is absent."""
        family = section.split("#")[0]
        kind = self.sections.get(section, {}).get("type")
        for name in (f"{family}.{kind}.{option}", f"{family}.{option}"):
            if name in self.defaults:
                return self.defaults[name]
        return None

    def expand(self, text, section="DEFAULT", node=None, _stack=()):
        """Replace every known reference; an unknown one stays as it is, a deferred one gives None."""
        done = ""
        while True:
            match = REFERENCE.search(text)
            if match is None:
                return done + text
            value, known = self.reference(match.group(1), section, node, _stack)
            if not known:
                done += text[: match.end()]
                text = text[match.end() :]
                continue
            if value is None:
                return None
            text = f"{text[: match.start()]}{value}{text[match.end() :]}"

    def reference(self, name, section, node, _stack):
        """One reference -> (value, known)."""
        index = None
        if name.endswith("]") and "[" in name:
            name, _, index = name[:-1].partition("[")
            index = int(index)
        count = name.startswith("#")
        name = name.lstrip("#")
        value, known = self.lookup(name, section, node, _stack)
        if not known or value is None:
            return value, known
        if count or index is not None:
            words = value.split() if isinstance(value, str) else list(value)
            if count:
                return str(len(words)), True
            return (words[index], True) if index < len(words) else (None, True)
        return (" ".join(value) if isinstance(value, (list, tuple)) else value), True

    def lookup(self, name, section, node, _stack):
        if name == "rid":
            return section, True
        if name == "rindex":
            return section.split("#")[-1], True
        if name in self.builtins:
            return (node if name == "nodename" and node else self.builtins[name]), True
        target, _, option = name.rpartition(".")
        if not target:
            candidates = [section, "DEFAULT"] if section != "DEFAULT" else ["DEFAULT"]
            for candidate in candidates:
                if self.raw(candidate, name, node) is not None:
                    return self.get(candidate, name, node=node, _stack=_stack), True
            return None, False
        if target == "env" and option.upper() in os.environ:
            return os.environ[option.upper()], True
        if option in DEFERRED or (target.startswith("volume#") and option == "mnt"):
            return (self.deferred(target, option) if self.deferred else None), True
        if target not in self.sections:
            return None, False
        value = self.get(target, option, node=node, _stack=_stack)
        return value, value is not None
