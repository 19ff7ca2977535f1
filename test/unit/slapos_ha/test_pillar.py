"""Bad pillars get one sentence each that names the key, the value and what would be right."""

import copy
import re
import stat
import sys

import pytest
from salt.utils.dictupdate import merge
from support import load_module

module = load_module("_modules/slapos_ha.py")
MISSING = object()


@pytest.fixture
def merged(defaults, example):
    return merge(copy.deepcopy(defaults), copy.deepcopy(example["slapos_ha"]), merge_lists=False)


def change(tree, key, value):
    *parents, last = key.split(":")
    for parent in parents:
        tree = tree[parent]
    if value is MISSING:
        del tree[last]
    else:
        tree[last] = value


def test_the_example_is_right(merged, schema):
    assert module.problems_of_pillar(merged, schema) == []


class Masked:
    """Like the containers of a pillar that Salt 3008 got from a master."""

    def __repr__(self):
        return "**********"


class MaskedDict(Masked, dict):
    pass


class MaskedList(Masked, list):
    pass


def masked(value):
    if isinstance(value, dict):
        return MaskedDict({key: masked(held) for key, held in value.items()})
    return MaskedList(map(masked, value)) if isinstance(value, list) else value


def test_a_pillar_that_hides_itself_is_told_of_as_it_is(example, defaults, schema, monkeypatch):
    given = copy.deepcopy(example)
    given["slapos_ha"]["re6st"]["options"] = {"max-clients": [10]}
    monkeypatch.setattr(module, "__pillar__", masked(given), raising=False)
    monkeypatch.setattr(module, "_load", {module.DEFAULTS: defaults, module.SCHEMA: schema}.get)
    assert module.validate() == [
        "slapos_ha:re6st:options: {max-clients} is not right; give a list of lines of re6stnet.conf"
    ]
    given["slapos_ha"]["re6st"]["options"] = [["max-clients", 10]]
    monkeypatch.setattr(module, "__pillar__", masked(given))
    assert module.validate() == [
        "slapos_ha:re6st:options:0: ['max-clients', 10] is not right; give a line of re6stnet.conf without its dashes and without quotes, backslash and #, such as \"max-clients 10\""
    ]


def test_the_calls_of_a_job_ask_the_master_once_for_a_file_of_the_formula(
    example, root, monkeypatch
):
    asked, now = [], [1000.0]

    def cache_files(uris, saltenv):
        asked.append(uris)
        return [str(root / uri.removeprefix("salt://")) for uri in uris]

    monkeypatch.setattr(module, "__salt__", {"cp.cache_files": cache_files})
    monkeypatch.setattr(module, "__context__", {})
    monkeypatch.setattr(module, "__pillar__", example, raising=False)
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    assert module.validate() == module.validate() == []
    assert asked == [[module.DEFAULTS, module.SCHEMA]]
    # What one call does with its copy is not the other's.
    module._load(module.DEFAULTS).clear()
    assert module.validate() == []
    now[0] += module._SHARED_FOR + 1
    assert module.validate() == []
    assert asked == 2 * [[module.DEFAULTS, module.SCHEMA]]


def test_a_file_of_the_formula_that_the_master_does_not_have_is_named(monkeypatch):
    functions = {"cp.cache_files": lambda uris, saltenv: ["/etc/hostname", ""]}
    monkeypatch.setattr(module, "__salt__", functions)
    monkeypatch.setattr(module, "__context__", {})
    monkeypatch.setattr(module, "__pillar__", {"slapos_ha": {"site": "paris"}}, raising=False)
    with pytest.raises(module.CommandExecutionError, match="slapos_ha/schema.yaml is not in this"):
        module.validate()


@pytest.fixture
def judged(example, root, monkeypatch, tmp_path):
    """A minion of the example; how often its pillar was judged."""
    kept, times = load_module("_utils/slapos_kept.py"), []
    files = lambda uris, saltenv: [str(root / uri.removeprefix("salt://")) for uri in uris]  # noqa: E731
    for name, value in {
        "__salt__": {"cp.cache_files": files},
        "__utils__": {"slapos_kept.read": kept.read, "slapos_kept.keep": kept.keep},
        "__opts__": {"cachedir": str(tmp_path)},
        "__grains__": {"id": "demo1"},
        "__context__": {},
        "__pillar__": masked(copy.deepcopy(example)),
    }.items():
        monkeypatch.setattr(module, name, value, raising=False)
    judge = module.problems_of_pillar
    monkeypatch.setattr(
        module, "problems_of_pillar", lambda *args: (times.append(1), judge(*args))[1]
    )
    return times


def test_a_pillar_that_was_found_right_is_not_judged_by_the_next_job(judged, tmp_path, example):
    first = module.site()
    module.__context__.clear()
    assert module.site() == first and len(judged) == 1
    [file] = (tmp_path / "slapos_ha").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert example["slapos_ha"]["re6st"]["token"] not in file.read_text()


@pytest.mark.parametrize(
    ("key", "value", "good"),
    [
        ("re6st:token", "another", True),
        ("drbd:port", 7290, True),
        ("drbd:port", "7289", False),
        ("drbd:port", 7289.5, False),
        ("sites", {}, False),
    ],
)
def test_a_pillar_that_is_another_is_judged(judged, example, key, value, good):
    module.site()
    other = copy.deepcopy(example)
    change(other["slapos_ha"], key, value)
    module.__pillar__ = masked(other)
    for _ in range(2):
        if good:
            module.site()
        else:
            with pytest.raises(module.CommandExecutionError, match="The pillar is not right"):
                module.site()
    # What is wrong is judged each time: its problems are not kept.
    assert len(judged) == (2 if good else 3)


def test_a_pillar_is_judged_by_a_schema_that_is_another(judged, monkeypatch):
    module.site()
    text = module._text
    monkeypatch.setattr(module, "_text", lambda uri: text(uri).replace("7289", "7290") + "\n")
    module.site()
    assert len(judged) == 2


def test_what_was_kept_and_is_spoilt_is_nothing(judged, tmp_path):
    module.site()
    for text in ("", "{", "[]", '"x"', "\0\0\0\0"):
        (tmp_path / "slapos_ha/valid_pillar").write_text(text)
        module.site()
    assert len(judged) == 6


def test_without_jsonschema_the_remedy_is_said(merged, schema, monkeypatch):
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    with pytest.raises(module.CommandExecutionError, match="salt-pip install jsonschema"):
        module.problems_of_pillar(merged, schema)


def test_every_default_has_its_place_in_the_schema(defaults, schema):
    def walk(default, part, path):
        for key, value in default.items():
            known = part.get("properties", {})
            while "$ref" in part:
                part = schema["$defs"][part["$ref"].rsplit("/", 1)[1]]
                known = part.get("properties", {})
            if key not in known:
                assert isinstance(part.get("additionalProperties"), dict), (
                    f"{path}:{key} is not in schema.yaml"
                )
                continue
            if isinstance(value, dict):
                walk(value, known[key], f"{path}:{key}")

    walk(defaults, schema, "slapos_ha")


BAD = [
    ("re6st:main_interface", "eth0", r"^slapos_ha:slapos:interface_name: 'lo', but re6st's address is on 'eth0'; give the same"),
    # key, value, what the message says
    ("drbd:prot", 7289, r"^slapos_ha:drbd:prot: unknown key; known here: .*\bport\b"),
    ("colour", "blue", r"^slapos_ha:colour: unknown key; known here: .*\bsite\b"),
    ("drbd:port", "abc", r"^slapos_ha:drbd:port: 'abc' is not right; give a free TCP port, 1024 to 65535"),
    ("drbd:port", 80, r"^slapos_ha:drbd:port: 80 is not right; give a free TCP port"),
    ("storage:size", 20, r"^slapos_ha:storage:size: 20 is not right; give a size with a unit, such as 20g"),
    ("storage:size", "1m", r"^slapos_ha:storage:size: '1m' is too small"),
    ("site", MISSING, r"^slapos_ha:site: missing; give a name"),
    ("re6st:token", MISSING, r"^slapos_ha:re6st:token: missing; give one word"),
    ("cluster:nodes", {"demo1": {"address": "192.0.2.11"}}, r"^slapos_ha:cluster:nodes: \{demo1\} is not right; give exactly two nodes"),
    (
        "cluster:nodes",
        {f"demo{n}": {"address": f"192.0.2.1{n}"} for n in (1, 2, 3)},
        r"^slapos_ha:cluster:nodes: \{demo1, demo2, demo3\} is not right; give exactly two nodes",
    ),
    (
        "cluster:nodes",
        {"demo1": {"address": "192.0.2.11"}, "demo2": {"address": "192.0.2.11"}},
        r"^slapos_ha:cluster:nodes: '192.0.2.11' is given for both nodes; give each node its own",
    ),
    ("cluster:nodes:demo1:address", "192.0.2.300", r"^slapos_ha:cluster:nodes:demo1:address: '192.0.2.300' is not right; give an IPv4 address"),
    ("service:preferred", "demo9", r"^slapos_ha:service:preferred: 'demo9' is no node .* give one of demo1, demo2"),
    ("service:name", "a" * 32, r"^slapos_ha:service:name: .* give a name of 1 to 31"),
    ("service:name", "comp1; reboot", r"^slapos_ha:service:name: 'comp1; reboot' is not right"),
    ("drbd:addresses", {"demo1": "198.51.100.11", "demo3": "198.51.100.12"}, r"^slapos_ha:drbd:addresses: names demo1, demo3; give one address each for demo1, demo2"),
    ("re6st:fingerprint", "sha256:12", r"^slapos_ha:re6st:fingerprint: 'sha256:12' is not right; give sha256: and 64 hexadecimal digits"),
    ("re6st:registry", "ftp://x", r"^slapos_ha:re6st:registry: 'ftp://x' is not right; give an http"),
    ("storage:backend", "lvm", r"^slapos_ha:storage:vg: missing; give the name of an existing volume group"),
    ("storage:backend", "zfs", r"^slapos_ha:storage:backend: 'zfs' is not right; give loop"),
    ("firewall", {"backend": "iptables"}, r"^slapos_ha:firewall:backend: 'iptables' is not right; give none"),
    ("firewall:allow", ["192.0.2.1/24"], r"^slapos_ha:firewall:allow: .*host bits set; give addresses and networks such as"),
    ("firewall:allow", ["office"], r"^slapos_ha:firewall:allow:0: 'office' is not right; give an address or network"),
    ("firewall:listener_ports", [0], r"^slapos_ha:firewall:listener_ports:0: 0 is not right; give a port, 1 to 65535"),
    ("cluster:heartbeats", {"hb#2": {"type": "carrier pigeon"}}, r"^slapos_ha:cluster:heartbeats:hb#2:type: 'carrier pigeon' is not right; give unicast, multicast, disk or relay"),
    ("cluster:heartbeats", {"hb#2": {}}, r"^slapos_ha:cluster:heartbeats:hb#2:type: missing; give unicast"),
    ("cluster:heartbeats", {"beat": {"type": "unicast"}}, r"^slapos_ha:cluster:heartbeats: 'beat' is not right; give hb#1, hb#2"),
    ("cluster:heartbeats", {"hb#2": {"type": "unicast", "dev": "/dev/sdx"}}, r"^slapos_ha:cluster:heartbeats:hb#2: 'dev' is not right; give a keyword of a unicast heartbeat: timeout,"),
    ("cluster:heartbeats", {"hb#2": {"type": "unicast", "addr@demo1": "demo1-b"}}, r"^slapos_ha:cluster:heartbeats:hb#2:addr@demo1: 'demo1-b' is not right; give an IPv4 or IPv6 address"),
    ("cluster:heartbeats", {"hb#2": {"type": "unicast", "addr@demo9": "192.0.2.1"}}, r"^slapos_ha:cluster:heartbeats:hb#2:addr@demo9: 'demo9' is no node .*; give one of demo1, demo2"),
    ("cluster:heartbeats", {"hb#2": {"type": "unicast", "timeout": 5}}, r"^slapos_ha:cluster:heartbeats:hb#2:timeout: 5 s, but a node is heard every 5 s only"),
    ("cluster:heartbeats", {"hb#2": {"type": "disk"}}, r"^slapos_ha:cluster:heartbeats:hb#2:dev: missing; give a block device"),
    ("cluster:heartbeats", {"hb#2": {"type": "disk", "dev": "sdx"}}, r"^slapos_ha:cluster:heartbeats:hb#2:dev: 'sdx' is not right; give a block device"),
    ("cluster:heartbeats", {"hb#2": {"type": "disk", "dev": "/dev/sdx", "port": 1}}, r"^slapos_ha:cluster:heartbeats:hb#2: 'port' is not right; give a keyword of a heartbeat by disk"),
    ("cluster:heartbeats", {"hb#2": {"type": "relay", "secret": "x"}}, r"^slapos_ha:cluster:heartbeats:hb#2:relay: missing; give the name of a host"),
    ("cluster:heartbeats", {"hb#2": {"type": "relay", "relay": "demo3", "password": "hunter2"}}, r"^slapos_ha:cluster:heartbeats:hb#2:password: .* is not right; give the path of a sec object"),
    ("cluster:arbitrators", {"demo3": {"address": "demo3"}}, r"^slapos_ha:cluster:arbitrators: 'demo3' is not right; give arbitrator#1"),
    ("cluster:arbitrators", {"arbitrator#1": {}}, r"^slapos_ha:cluster:arbitrators:arbitrator#1:address: missing; give a host that is neither"),
    ("cluster:arbitrators", {"arbitrator#1": {"address": "Demo2"}}, r"^slapos_ha:cluster:arbitrators:arbitrator#1:address: 'Demo2' is one of the two nodes; give a third host"),
    ("cluster:arbitrators", {"arbitrator#1": {"address": "demo3", "uri": "x"}}, r"^slapos_ha:cluster:arbitrators:arbitrator#1:uri: unknown key; known here: address"),
    ("cluster:quorum", True, r"^slapos_ha:cluster:quorum: true, but there is no arbitrator: each node would take itself down"),
    ("cluster:agent", {"source": "package"}, r"^slapos_ha:cluster:agent:url: missing"),
    ("cluster:agent", {"source": "package", "url": "https://x.test/a/"}, r"^slapos_ha:cluster:agent:url: .* ends in the file name of a package"),
    ("cluster:agent", {"source": "package", "url": "https://x.test/opensvc.deb"}, r"^slapos_ha:cluster:agent:sha256: missing, so whatever https://x.test/opensvc.deb gives .*; give the SHA-256 of the package, or knowingly slapos_ha:allow_unverified: true"),
    ("re6st:install:method", "packages", r"^slapos_ha:re6st:install:packages:re6st-node: '' is any version; give the version, or knowingly"),
    ("slapos:install:find_links", "http://wheels.test/", r"^slapos_ha:slapos:install:find_links: 'http://wheels.test/' is not https and there are no hashes; give an https address, or slapos:install:hashes"),
    ("slapos:install:hashes", {"slapos.core": ["sha256:" + "0" * 64]}, r"^slapos_ha:slapos:install:hashes: has none for slapos.libnetworkcache, "),
    ("slapos:install:hashes", True, r"^slapos_ha:slapos:install:hashes: True is not right; give false, or a map"),
    ("re6st:install:requirements", ["re6stnet==0.*"], r"^slapos_ha:re6st:install:requirements:0: 're6stnet==0.\*' is not right; give a pinned"),
    ("allow_unverified", "yes", r"^slapos_ha:allow_unverified: 'yes' is not right; give true"),
    ("drbd:shared_secret", "short", r"^slapos_ha:drbd:shared_secret: \(secret\) is not right; give 8 to 63"),
    ("drbd:options:net", {"shared-secret": "x"}, r"^slapos_ha:drbd:options:net: 'shared-secret' is not right; give an option's name; shared_secret"),
    ("cluster:heartbeats:hb#1:secret", "x", r"^slapos_ha:cluster:heartbeats:hb#1: 'secret' is not right; give a keyword of a unicast heartbeat: timeout"),
    ("slapos:master_url", "https://user:word@slap.test/", r"^slapos_ha:slapos:master_url: .* is not right; give an http:// or https:// address without user"),
    ("slapos:users:slapsoft_id", 5003, r"^slapos_ha:slapos:users:slapsoft_id: 5003 is also one of the ids 5001 to 5010"),
    ("slapos:ipv4_local_network", "10.0.0.1/16", r"^slapos_ha:slapos:ipv4_local_network: .*host bits set; give a network"),
    ("tasks:addpart", {"schedule": "often"}, r"^slapos_ha:tasks:addpart:schedule: 'often' is not right; give an OpenSVC schedule"),
    ("slapos:install:requirements", ["slapos.core"], r"^slapos_ha:slapos:install:requirements:0: 'slapos.core' is not right; give a pinned requirement"),
]  # fmt: skip


@pytest.mark.parametrize(
    "key, value, message",
    BAD,
    ids=lambda value: value if isinstance(value, str) and ":" in value and value[0] != "^" else "",
)
def test_bad_pillar(merged, schema, key, value, message):
    change(merged, key, value)
    problems = module.problems_of_pillar(merged, schema)
    assert [problem for problem in problems if re.search(message, problem)], problems


def test_what_is_not_verified_is_allowed_knowingly_and_stays_named(merged, schema):
    merged["cluster"]["agent"] = {"source": "package", "url": "https://x.test/opensvc.deb"}
    merged["re6st"]["install"]["method"] = "packages"
    merged["allow_unverified"] = True
    assert module.problems_of_pillar(merged, schema) == []
    site = module.derive(merged, "demo1")
    assert site["unverified"] == [
        "slapos_ha:cluster:agent:sha256: missing, so whatever https://x.test/opensvc.deb gives would be installed",
        "slapos_ha:re6st:install:packages:re6st-node: '' is any version",
    ]
    assert site["re6st"]["install"]["packages"] == {"re6st-node": ""}


def test_the_shipped_defaults_and_the_example_are_verified(merged):
    assert module.derive(merged, "demo1")["unverified"] == []


@pytest.mark.parametrize("value", ["canary", ["canary"], 7])
@pytest.mark.parametrize("section", ["drbd", "re6st", "slapos"])
def test_a_section_of_secrets_that_is_no_map_is_not_shown(merged, schema, section, value):
    merged[section] = value
    problems = module.problems_of_pillar(merged, schema)
    assert problems == [
        f"slapos_ha:{section}: (secret) is not right; give what pillar.example shows"
    ]


@pytest.mark.parametrize("section, key", module.SECRETS)
def test_a_wrong_secret_is_not_shown(merged, schema, section, key):
    merged[section][key] = "canary with blanks"
    problems = module.problems_of_pillar(merged, schema)
    assert len(problems) == 1
    assert (
        "canary" not in problems[0]
        and f"slapos_ha:{section}:{key}: (secret) is not right" in problems[0]
    )


GOOD = {
    "hb#1": {"type": "unicast", "timeout": 15, "interval": 3, "addr@demo1": "192.0.2.1", "addr@demo2": "2001:db8::2", "port": 10001, "intf": "eth1", "timeout@demo2": 20},
    "hb#2": {"type": "multicast", "addr": "224.3.29.72", "intf@demo1": "eth0", "port": 10002},
    "hb#3": {"type": "disk", "dev": "/dev/disk/by-id/x", "dev@demo2": "/dev/sdx"},
    "hb#4": {"type": "relay", "relay": "demo3", "secret": "canary"},
    "hb#5": {"type": "relay", "relay": "demo3:1215", "username": "relay", "password": "system/sec/relay", "insecure": True},
}  # fmt: skip


def test_every_kind_of_heartbeat_and_arbitrators_are_right_and_their_secrets_go_no_further(merged, schema):  # fmt: skip
    merged["cluster"].update(
        heartbeats=GOOD,
        quorum=True,
        arbitrators={"arbitrator#1": {"address": "demo4", "secret": "canary", "timeout": 5}},
    )
    assert module.problems_of_pillar(merged, schema) == []
    cluster = module.derive(merged, "demo1")["cluster"]
    assert "canary" not in repr(cluster)
    assert cluster["secret_pillars"] == {
        "hb#4": "slapos_ha:cluster:heartbeats:hb#4:secret",
        "arbitrator#1": "slapos_ha:cluster:arbitrators:arbitrator#1:secret",
    }
    assert cluster["arbitrators"] == {"arbitrator#1": {"address": "demo4", "timeout": 5}}


@pytest.mark.parametrize("kind, name", [("heartbeats", "hb#4"), ("arbitrators", "arbitrator#1")])
def test_a_wrong_secret_of_the_cluster_is_not_shown(merged, schema, kind, name):
    merged["cluster"].update(heartbeats=copy.deepcopy(GOOD), arbitrators={"arbitrator#1": {"address": "x"}})  # fmt: skip
    merged["cluster"][kind][name]["secret"] = "canary with blanks"
    (problem,) = module.problems_of_pillar(merged, schema)
    assert "canary" not in problem
    assert f"slapos_ha:cluster:{kind}:{name}:secret: (secret) is not right" in problem


def test_all_problems_are_reported_at_once(merged, schema):
    merged["drbd"]["port"] = "x"
    merged["storage"]["size"] = "y"
    del merged["site"], merged["re6st"]["token"], merged["re6st"]["registry"]
    keys = [problem.split(": ")[0] for problem in module.problems_of_pillar(merged, schema)]
    assert sorted(keys) == [
        "slapos_ha:drbd:port",
        "slapos_ha:re6st:registry",
        "slapos_ha:re6st:token",
        "slapos_ha:site",
        "slapos_ha:storage:size",
    ]


def test_derived_names_and_no_secret(merged):
    site = module.derive(merged, "demo2")
    assert site["fqdn"] == "comp1.slapos.svc.paris"
    assert site["path"] == "slapos/svc/comp1" and site["mount"] == "/srv/comp1.slapos.svc.paris"
    assert (site["node"], site["peer"], site["nodes"]) == ("demo2", "demo1", ["demo1", "demo2"])
    assert site["storage"]["lv"] == "/dev/comp1.slapos.svc.paris/comp1"
    for section, key in module.SECRETS:
        assert merged[section][key] not in repr(site)


def test_preferred_comes_first(merged):
    merged["service"]["preferred"] = "demo2"
    assert module.derive(merged, "demo1")["nodes"] == ["demo2", "demo1"]


def test_a_minion_that_is_no_node(merged):
    with pytest.raises(
        module.SaltInvocationError, match="minion 'other' is no node of site 'paris'.*demo1, demo2"
    ):
        module.derive(merged, "other")


@pytest.mark.parametrize("size, number", [("1k", 1024), ("20g", 20 << 30), ("3M", 3 << 20)])
def test_sizes(size, number):
    assert module.bytes_of(size) == number


@pytest.mark.parametrize("size", ["", "g", "1", "1.5g", "1x", None])
def test_bad_sizes(size):
    with pytest.raises(module.SaltInvocationError, match="is not a size"):
        module.bytes_of(size)
