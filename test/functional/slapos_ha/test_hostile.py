"""
Hostile values in the pillar: for every text that the schema knows, the schema refuses the value and names the key, or Salt's own renderers give it back whole in
the service's configuration, the launchers' settings and the states.
"""

import copy
import functools
import json
import pathlib

import pytest
import salt.loader
import salt.template
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from salt.utils.dictupdate import merge
from support import ROOT, load_module

from ..conftest import minion_opts

module = load_module("_modules/slapos_ha.py")
SCHEMA = yaml.safe_load((ROOT / "slapos_ha/schema.yaml").read_text())
DEFAULTS = yaml.safe_load((ROOT / "slapos_ha/defaults.yaml").read_text())
EXAMPLE = yaml.safe_load((ROOT / "pillar.example").read_text())["slapos_ha"]
# Where the pillar chooses the names: one of each.
NAMES = {
    "cluster:nodes": "demo1", "drbd:addresses": "demo1", "cluster:heartbeats": "hb#1", "cluster:heartbeats:hb#1": "name", "cluster:arbitrators": "arbitrator#1",
    "drbd:options:net": "ping-int", "drbd:options:disk": "on-io-error", "drbd:options:handlers": "split-brain",
    "re6st:install:packages": "re6st-node", "slapos:install:packages": "slapos-node",
    "re6st:install:hashes": "re6stnet", "slapos:install:hashes": "slapos.core",
}  # fmt: skip


# The type whose keyword it is, with what that type needs.
DISK, RELAY = {"type": "disk", "dev": "/dev/sdz"}, {"type": "relay", "relay": "192.0.2.98"}
HEARTBEATS = {None: {"type": "unicast"}, "dev": DISK} | dict.fromkeys(
    ("relay", "secret", "username", "password"), RELAY
)


def resolved(part):
    while "$ref" in part:
        part = SCHEMA["$defs"][part["$ref"].rsplit("/", 1)[1]]
    return part


def texts(part, path=()):
    """(key, its part of the schema) of every text."""
    part = resolved(part)
    for name, inner in part.get("properties", {}).items():
        yield from texts(inner, (*path, name))
    if isinstance(part.get("additionalProperties"), dict):
        yield from texts(part["additionalProperties"], (*path, NAMES[":".join(path)]))
    if "items" in part:
        yield from texts(part["items"], (*path, 0))
    types = part.get("type", [])
    if "string" in ([types] if isinstance(types, str) else types) or "enum" in part:
        yield path, part


TEXTS = dict(texts(SCHEMA))
WORDS = [
    "", " ", "no", "null", "~", "1", "1e3", "0x1f", "1:30", "2026-11-24", "true", "-x", "--help", "a b", "a\n", "a\nb: c", "a\r", "a\t", "a\0", "a\x1b[0m", "a\x85",
    "é", "naïve-ß", "日本", "😀", "\ufeffa", "\u2028", "\ud800", "'", '"', "a'b", 'a"b', "a: b", "a #b", "#a", "%d", "%(x)s", "${x}", "$(id)", "`id`", "a;b", "a&b", "a|b", "a>b", "*", "&a", "!a",
    "{{ 1 }}", "{% raw %}", "{#", "{fqdn}", "[a]", "{a: b}", "\\n", "a\\", "../../etc/passwd", "/etc/../etc", "/a/b", "/a b", "https://x.test/a", "https://x.test/a'b", "https://x.test/%2e", "https://u:p@x.test/",
    "demo1", "192.0.2.77", "a" * 200, "@1m", "~00:00-06:00", "20g", "10.9.0.0/16",
]  # fmt: skip


def values(part):
    """Words that some tool would not take as they are, texts of their signs, and what the schema's own pattern allows."""
    signs = st.text(
        st.sampled_from("ab1-./:@ '\"\\#%$;&|{}()[]<>*?!~`,=+^_\n\r\té😀\0"),
        min_size=1,
        max_size=12,
    )
    patterns = [st.from_regex(part["pattern"])] if "pattern" in part else []
    return st.one_of(st.sampled_from(WORDS), signs, *patterns, *patterns)


def changed(path, value):
    """A pillar that uses the key, with this value."""
    given = copy.deepcopy(EXAMPLE)
    given["cluster"]["nodes"]["demo1"]["minion"] = "demo1"
    given["cluster"]["heartbeats"] = {"hb#1": dict(HEARTBEATS.get(path[-1], HEARTBEATS[None]))}
    if "arbitrators" in path:
        given["cluster"]["arbitrators"] = {"arbitrator#1": {"address": "192.0.2.99"}}
    for key, backend in (("vg", "lvm"), ("device", "device")):
        if path == ("storage", key):
            given["storage"].update(backend=backend)
    if path[:2] == ("cluster", "agent"):
        given["cluster"]["agent"] = {"source": "package", "url": "https://x.test/a.deb", "sha256": "0" * 64}  # fmt: skip
    if {"packages", "repository"} & {*path}:
        given[path[0]]["install"].update(method="packages", packages={"p": "1"})
    if "repository" in path:
        given[path[0]]["install"]["repository"] = {
            "url": "https://x.test/", "suite": "x", "components": ["main"], "key": "https://x.test/k.gpg", "key_sha256": "0" * 64,
        }  # fmt: skip
    if "hashes" in path:
        given[path[0]]["install"]["requirements"] = [f"{path[3]}==1"]
    if path == ("re6st", "main_interface"):
        given["slapos"]["interface_name"] = value or "lo"
    if path == ("slapos", "interface_name"):
        given["re6st"]["main_interface"] = value
    tree = given
    *parents, last = path
    for name, inner in zip(parents, path[1:], strict=True):
        tree = tree.setdefault(name, [None] if inner == 0 else {})
    tree[last] = value
    return merge(copy.deepcopy(DEFAULTS), given, merge_lists=False)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """rendered(site) -> {file: data} of the service's configuration, the launchers' settings and every SLS, by Salt's renderers."""
    opts = minion_opts(tmp_path_factory.mktemp("hostile"))
    now = {}
    functions = {
        "slapos_ha.site": lambda: now["site"],
        "slapos_ha.service_config": lambda: {},
        "opensvc.config_show": lambda path: {},
        "pillar.get": lambda key: None,
        "file.search": lambda *_, **__: False,
    }
    renderers = salt.loader.render(opts, functions)

    def run(site, files):
        now["site"] = site
        return {
            name: salt.template.compile_template(
                str(ROOT / "slapos_ha" / name), renderers, "jinja|json" if name.endswith("json") else "jinja|yaml", [], [],
                saltenv="base", sls="x", site=site,
            )
            for name in files
        }  # fmt: skip

    return run


FILES = [
    "files/service.yaml",
    "files/settings.json",
    *(
        path.relative_to(ROOT / "slapos_ha").as_posix()
        for path in sorted((ROOT / "slapos_ha").rglob("*.sls"))
        if "removed" not in path.parts and path.name not in ("init.sls", "base.sls")
    ),
]


# Names that are part of other names.
DERIVED = {
    ("service", "name"), ("service", "namespace"), ("cluster", "name"),
}  # fmt: skip


def files(path):
    """The files that use the key."""
    if path in DERIVED:
        return ["files/service.yaml", "files/settings.json", "drbd.sls", "cluster.sls"]
    if {"heartbeats", "arbitrators"} & {*path}:
        return ["cluster.sls"]
    key = [name for name in path if isinstance(name, str) and name not in NAMES.values()][-1]
    if "repository" in path:
        return [f"{path[0]}/install.sls"]
    using = [name for name in FILES if f".{key}" in (ROOT / "slapos_ha" / name).read_text()]
    return using or ["files/service.yaml", "drbd.sls"]


def leaves(data):
    if isinstance(data, dict):
        for key, value in data.items():
            yield key
            yield from leaves(value)
    elif isinstance(data, list):
        for value in data:
            yield from leaves(value)
    else:
        yield data


# What no file shows: the programs are started without it, or it only chooses.
UNSEEN = {
    ("drbd", "shared_secret"), ("re6st", "token"), ("slapos", "token"), ("cluster", "agent", "version"), ("re6st", "location"), ("storage", "backend"),
    ("cluster", "agent", "source"), ("drbd", "initial_sync"), ("cluster", "nodes", "demo1", "address"), ("cluster", "nodes", "demo1", "minion"),
    ("re6st", "install", "method"), ("slapos", "install", "method"), ("service", "preferred"),
    ("cluster", "heartbeats", "hb#1", "secret"), ("cluster", "arbitrators", "arbitrator#1", "secret"),
}  # fmt: skip


@functools.lru_cache
def _names(path):
    return ":".join(map(str, ("slapos_ha", *path)))


def test_every_text_is_known():
    assert len(TEXTS) > 50 and {"site", "drbd", "re6st", "slapos"} <= {path[0] for path in TEXTS}
    assert set(TEXTS) >= UNSEEN


@pytest.mark.parametrize("path", TEXTS, ids=_names)
def test_a_hostile_value_is_refused_by_its_key_or_comes_through_whole(path, rendered):
    accepted = []

    @settings(max_examples=12, deadline=None, database=None, suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(value=values(TEXTS[path]))
    def judged(value):
        merged = changed(path, value)
        problems = module.problems_of_pillar(merged, SCHEMA)
        if problems:
            # A value that is right by itself may contradict another key, which then is the one that is named.
            assert all(problem.startswith("slapos_ha:") for problem in problems)
            assert not any("\n" in problem for problem in problems)
            return
        assert "\n" not in value and "\0" not in value
        accepted.append((value, module.derive(merged, merged["cluster"]["nodes"]["demo1"].get("minion", "demo1"))))  # fmt: skip

    judged()
    accepted.sort(key=lambda pair: (len(pair[0]), pair[0]))
    for value, site in accepted[:: max(1, len(accepted) - 1)]:
        documents = rendered(site, files(path))
        assert all(isinstance(document, dict) for document in documents.values())
        if path not in UNSEEN and value:
            found = [leaf for leaf in leaves(documents) if isinstance(leaf, str) and value in leaf]
            assert found, (value, "is in no file")


def test_a_name_that_yaml_takes_for_something_else_stays_text(rendered):
    for word in ("no", "null", "true", "y1e3"):
        merged = changed(("site",), word)
        assert module.problems_of_pillar(merged, SCHEMA) == []
        service = rendered(module.derive(merged, "demo1"), ["files/service.yaml"])
        assert service["files/service.yaml"]["env"]["slapos_ha_site"] == word


@pytest.mark.parametrize("name", [1, None, "a b", "a\n", "-a", "a{"])
@pytest.mark.parametrize("where", ["cluster:nodes", "cluster:heartbeats", "cluster:heartbeats:hb#1", "drbd:options:net", "re6st:install:packages"])  # fmt: skip
def test_a_hostile_name_is_refused_by_its_map(where, name):
    path = where.split(":")
    merged = changed((*path, NAMES[where]), "x")
    tree = functools.reduce(lambda tree, key: tree[key], path, merged)
    value = tree.pop(NAMES[where])
    tree[name] = {"address": "192.0.2.77"} if where == "cluster:nodes" else value
    if where == "cluster:heartbeats":
        tree[name] = {"type": "unicast"}
    problems = module.problems_of_pillar(merged, SCHEMA)
    assert [p for p in problems if p.startswith(f"slapos_ha:{where}")], problems


def test_settings_are_read_back_by_the_launchers_as_they_are(rendered, tmp_path):
    """Through the file that the agent's volume has: JSON, whatever is in it."""
    merged = changed(("re6st", "install", "path", 0), "/opt/x-._/y")
    document = rendered(module.derive(merged, "demo1"), ["files/settings.json"])
    path = pathlib.Path(tmp_path / "settings.json")
    path.write_text(json.dumps(document["files/settings.json"]))
    assert json.loads(path.read_text())["re6st"]["path"] == ["/opt/x-._/y", "/opt/re6st/bin"]
