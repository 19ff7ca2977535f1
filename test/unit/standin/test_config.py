"""Configuration files, references and scopes as the agent reads them."""

import pytest
from standin import conf
from standin.errors import Failed

FULL = """
[DEFAULT]
nodes = *
id = 1
size@demo2 = 3g

# a comment
[disk#0]
type = loop
file = /opt/{fqdn}.img
size = {env.size}
size@demo2 = 2g

[disk#3]
type = drbd
res = {fqdn}
disk@nodes = /dev/{disk#1.name}

[disk#1]
name = {svcname}-{rid}-{rindex}

[fs#0]
dev = {disk#3.exposed_devs[0]}
mnt = /srv/{fqdn}
blocking_post_provision = mkdir -p /srv/{fqdn}/a
  /srv/{fqdn}/b

[app#0]
start = {volume#0.mnt}/re6st start
environment = A={nope} B={nope.nope}

[env]
size = 200m
"""


def resolver(deferred=None, node="demo1"):
    builtins = {"fqdn": "comp1.slapos.svc.c", "svcname": "comp1", "name": "comp1", "nodename": node}
    return conf.Resolver(conf.parse(FULL), builtins, node, ["demo1", "demo2"], deferred)


def test_a_file_survives_being_read_and_written():
    sections = conf.parse(FULL)
    assert conf.parse(conf.render(sections)) == sections
    assert conf.render(sections).startswith("[DEFAULT]\n")


def test_references():
    get = resolver().get
    assert get("disk#0", "file") == "/opt/comp1.slapos.svc.c.img"
    assert get("disk#0", "size") == "200m"
    assert get("disk#1", "name") == "comp1-disk#1-1"


def test_rid_is_the_section_a_value_is_written_in():
    assert resolver().get("disk#3", "disk") == "/dev/comp1-disk#1-1"


def test_scopes():
    assert resolver().get("disk#0", "size") == "200m"
    assert resolver(node="demo2").get("disk#0", "size") == "2g"
    assert resolver().get("disk#0", "size", node="demo2") == "2g"


def test_a_deferred_reference_is_unknown_until_its_resource_tells():
    assert resolver().get("fs#0", "dev") is None
    assert resolver(lambda rid, what: []).get("fs#0", "dev") is None
    assert resolver(lambda rid, what: ["/dev/drbd0"]).get("fs#0", "dev") == "/dev/drbd0"
    assert resolver(lambda rid, what: "/srv/vol").get("app#0", "start") == "/srv/vol/re6st start"
    assert resolver(lambda rid, what: None).get("app#0", "start") is None


def test_an_unknown_reference_stays_as_it_is():
    assert resolver().get("app#0", "environment") == "A={nope} B={nope.nope}"


def test_a_value_over_lines_is_one_value():
    assert resolver().get("fs#0", "blocking_post_provision").split() == [
        "mkdir",
        "-p",
        "/srv/comp1.slapos.svc.c/a",
        "/srv/comp1.slapos.svc.c/b",
    ]


def test_a_reference_to_itself_ends():
    sections = {"DEFAULT": {"a": "{DEFAULT.b}", "b": "{DEFAULT.a}"}}
    with pytest.raises(Failed, match="recursion"):
        conf.Resolver(sections, {}, "demo1").get("DEFAULT", "a")


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("nodes=b", "b"),
        ("nodes+=b", "a b"),
        ("nodes|=a", "a"),
        ("nodes|=a b", "a b"),
        ("nodes-=a", ""),
    ],
)
def test_expressions(expression, value):
    sections = {"DEFAULT": {"nodes": "a"}}
    conf.apply_expressions(sections, [expression])
    assert sections["DEFAULT"]["nodes"] == value


def test_expressions_tell_whether_anything_changed():
    sections = {"hb#1": {"type": "unicast"}}
    assert not conf.apply_expressions(sections, ["hb#1.type=unicast"])
    assert conf.apply_expressions(sections, ["hb#1.timeout=15"])
    assert conf.unset(sections, ["hb#1.timeout"])
    assert not conf.unset(sections, ["hb#1.timeout"])
    with pytest.raises(Failed, match="no '='"):
        conf.apply_expressions(sections, ["hb#1.timeout"])


@pytest.mark.parametrize(
    ("text", "seconds"), [("15", 15), ("30s", 30), ("1m30s", 90), ("2h", 7200), ("", None)]
)
def test_durations(text, seconds):
    assert conf.duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"), [("1m", 1048576), ("200M", 209715200), ("1GiB", 1 << 30), ("42", 42)]
)
def test_sizes(text, size):
    assert conf.size(text) == size


@pytest.mark.parametrize("text", ["x", "1x2", "-3"])
def test_what_is_no_size_or_duration_is_refused(text):
    with pytest.raises(Failed):
        conf.size(text)
    with pytest.raises(Failed):
        conf.duration(text)
