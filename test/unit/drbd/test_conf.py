"""Resource files: read, refused, compared, written; what is written is what is read."""

import os
import shutil
import subprocess

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from salt.exceptions import CommandExecutionError, SaltInvocationError
from support import ROOT, load_module

CONF = load_module("_utils/drbd_conf.py", "drbd_test_conf_too")
AGENT = (ROOT / "test/fixtures/opensvc-2.1/drbdadm_dump.out").read_text()
NODES = {"demo1": "10.98.1.11", "demo2": "10.98.1.12"}
SECRET = "canary-3cr3t-of-the-peers"


def wish(**changed):
    given = {
        "resource": "r0",
        "nodes": NODES,
        "port": 7289,
        "minor": 0,
        "disk": "/dev/vg/lv",
        "secret": SECRET,
        **changed,
    }
    return CONF.wish(
        given.pop("resource"),
        given.pop("nodes"),
        given.pop("port"),
        given.pop("minor"),
        given.pop("disk"),
        **given,
    )


def test_a_file_of_the_agent_is_read():
    [(name, found)] = CONF.resources(AGENT).items()
    assert name == "comp1.slapos.svc.hyperopenx"
    assert found["on demo2:address"] == "ipv4 10.99.0.12:7289"
    assert found["on demo1:device"] == "minor 0"
    assert CONF.peers(found, "demo1") == ["demo2"]
    assert CONF.volumes(found, "demo1") == {0: 0}
    assert CONF.disk(found, "demo1") == "/dev/comp1.slapos.svc.hyperopenx/comp1"
    assert CONF.disk({}, "demo1") is None


@pytest.mark.parametrize(
    "text",
    [
        "device /dev/drbd7 minor 7;",
        "device minor 7;",
        "device /dev/drbd7;",
        "device /dev/drbd_7 minor 7;",
        "volume 0 { device /dev/drbd7; }",
    ],
)
def test_a_device_in_all_its_spellings(text):
    found = CONF.resources(f"resource r {{ on a {{ {text} }} # why\n }}")["r"]
    assert found == {"on a:device": "minor 7"}


def test_more_volumes_keep_their_numbers():
    found = CONF.resources(
        "resource r { on a { volume 0 { device minor 1; disk /dev/x; } volume 1 { device minor 2; disk /dev/y; } } }"
    )["r"]
    assert CONF.volumes(found, "a") == {0: 1, 1: 2}
    assert CONF.disk(found, "a", 1) == "/dev/y"


@pytest.mark.parametrize(
    "text, line",
    [
        ("resource r {\n net { protocol C; }\n", "ends within"),
        ("resource r { protocol C }", "line 1"),
        ("resource r {}\n}", "line 2"),
        ("resource r {;}", "line 1"),
        ("{ }", "line 1"),
        ('resource r { net { shared-secret "abc\n; } }', "line 1"),
        ("resource r {} resource r {}", "twice"),
    ],
)
def test_a_broken_file_is_refused(text, line):
    with pytest.raises(CommandExecutionError, match=line):
        CONF.resources(text)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(), st.text(alphabet='resource {};"#\n\\ab')))
def test_any_text_is_read_or_refused(text):
    try:
        CONF.resources(text)
    except CommandExecutionError as error:
        assert len(str(error)) < 80 or "twice" in str(error)


# a cut file must never read as a whole one: it is replaced in one step, but operators edit
def test_a_cut_file_is_refused():
    text = CONF.render("r0", wish()).rstrip()
    for length in range(1, len(text)):
        with pytest.raises(CommandExecutionError):
            CONF.resources(text[:length])


# --- Refusals -------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"resource": "../etc/passwd"}, "resource: '../etc/passwd'"),
        ({"resource": "a b"}, "resource: 'a b'"),
        ({"resource": "-c"}, "resource: '-c'"),
        ({"resource": "all"}, "resource: 'all'"),
        ({"resource": 7}, "resource: 7"),
        ({"port": 0}, "port: 0"),
        ({"port": 65536}, "port: 65536"),
        ({"port": "http"}, "port: 'http'"),
        ({"port": True}, "port: True"),
        ({"minor": -1}, "minor: -1"),
        ({"minor": 255}, "minor: 255"),
        ({"nodes": {"demo1": "10.0.0.1"}}, "nodes: "),
        ({"nodes": {**NODES, "demo3": "10.98.1.13"}}, "nodes: "),
        ({"nodes": ["demo1", "demo2"]}, "nodes: "),
        (
            {"nodes": {"demo1": "10.0.0.1", "demo2": "demo2.example"}},
            "nodes:demo2: 'demo2.example' is no IP address",
        ),
        (
            {"nodes": {"demo1": "10.0.0.1", "demo2": "10.0.0.1"}},
            "nodes:demo2: 10.0.0.1 is given for another node too",
        ),
        ({"nodes": {"demo1": "10.0.0.1", "x{": "10.0.0.2"}}, "nodes: 'x{'"),
        ({"disk": "vg/lv"}, "disk: 'vg/lv'"),
        ({"disk": "/dev/vg/lv; }"}, "disk: "),
        ({"protocol": "D"}, "protocol: 'D'"),
        ({"resync_rate": "fast"}, "resync_rate: 'fast'"),
        ({"resync_rate": 0}, "resync_rate: 0"),
        ({"net": ["ping-int"]}, "net: a mapping"),
        ({"net": {"Ping-Int": 1}}, "net: 'Ping-Int'"),
        ({"net": {"protocol": "A"}}, "net:protocol: is set by protocol"),
        ({"net": {"shared-secret": SECRET}}, "net:shared-secret: is set by shared_secret_pillar"),
        (
            {"disk_options": {"resync-rate": "1M"}},
            "disk_options:resync-rate: is set by resync_rate",
        ),
        ({"handlers": {"split-brain": 'mail "x"'}}, "handlers:split-brain: the value"),
        ({"handlers": {"split-brain": "a\nb"}}, "handlers:split-brain: the value"),
        ({"handlers": {"split-brain": {}}}, "handlers:split-brain: the value"),
        ({"options": {"cpu-mask": ""}}, "options:cpu-mask: the value"),
    ],
)
def test_a_wrong_wish_is_refused_by_its_name(changed, message):
    with pytest.raises(SaltInvocationError) as error:
        wish(**changed)
    assert message in str(error.value)
    assert SECRET not in str(error.value)


@pytest.mark.parametrize(
    "secret",
    [
        None,
        "",
        "short",
        "with blank inside",
        "x" * 64,
        'quo"ted-secret',
        "semi;colon",
        "back\\slash",
        12345678,
        "ünïcödé-secret",
    ],
)
def test_a_secret_that_does_not_fit_is_refused_unsaid(secret):
    with pytest.raises(SaltInvocationError) as error:
        CONF.secret_is_right(secret, "drbd:secret")
    assert "pillar drbd:secret" in str(error.value)
    assert str(secret or "no such") not in str(error.value)


def test_a_secret_that_fits():
    assert CONF.secret_is_right("0123-abc_DEF.~+=", "k") == "0123-abc_DEF.~+="


@settings(max_examples=150, deadline=None, database=None)
@given(secret=st.one_of(st.text(max_size=70), st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=6, max_size=66)))  # fmt: skip
def test_a_shared_secret_is_refused_by_the_schema_or_written_and_read_as_it_is(schema_of_secret, secret):  # fmt: skip
    """The pillar's schema and this file agree, and with them what the resource's file says."""
    if not schema_of_secret(secret):
        with pytest.raises(SaltInvocationError):
            CONF.secret_is_right(secret, "k")
        return
    wanted = wish(secret=CONF.secret_is_right(secret, "k"))
    assert CONF.resources(CONF.render("r0", wanted)) == {"r0": wanted}
    assert secret in wanted.values()


@pytest.fixture(scope="module")
def schema_of_secret():
    """Whether the pillar's schema takes a shared secret."""
    module = load_module("_modules/slapos_ha.py", "slapos_ha_of_secrets")
    schema = yaml.safe_load((ROOT / "slapos_ha/schema.yaml").read_text())
    part = schema["properties"]["drbd"]["properties"]["shared_secret"]

    checker = module._validator(part)
    return checker.is_valid


# --- Writing --------------------------------------------------------------------------------------------------------------------------------

TEXTS = st.text(
    alphabet=st.characters(min_codepoint=32, max_codepoint=126, exclude_characters='"\\'),
    min_size=1,
    max_size=30,
).filter(lambda text: text.strip() == text)


@settings(max_examples=200, deadline=None)
@given(
    net=st.dictionaries(
        st.sampled_from(["ping-int", "verify-alg", "after-sb-0pri", "cram-hmac-alg"]),
        st.one_of(st.integers(0, 99), st.booleans(), TEXTS),
    ),
    handlers=st.dictionaries(st.sampled_from(["split-brain", "fence-peer"]), TEXTS),
    port=st.integers(1, 65535),
    minor=st.integers(0, 254),
    six=st.booleans(),
    major=st.sampled_from([8, 9]),
)
def test_what_is_written_is_what_is_read(net, handlers, port, minor, six, major):
    nodes = {"a.example": "fd00::1", "b": "fd00::2"} if six else NODES
    wanted = wish(nodes=nodes, port=port, minor=minor, net=net, handlers=handlers, major=major)
    assert CONF.resources(CONF.render("r0", wanted)) == {"r0": wanted}
    assert CONF.difference(wanted, CONF.resources(CONF.render("r0", wanted))["r0"]) == {}


def test_defaults_lose_no_writes_without_an_operator_and_resync_fast():
    wanted = wish()
    assert wanted["net:after-sb-0pri"] == "discard-zero-changes"
    assert wanted["net:after-sb-1pri"] == wanted["net:after-sb-2pri"] == "disconnect"
    assert wanted["disk:c-plan-ahead"] == "0" and wanted["disk:resync-rate"] == "100M"
    assert wanted["disk:c-min-rate"] == "25600k"
    assert wish(resync_rate="1G")["disk:c-min-rate"] == "262144k"
    assert (
        wish(resync_rate="2")["disk:c-min-rate"]
        == wish(resync_rate="4k")["disk:c-min-rate"]
        == "1k"
    )
    assert wish(disk_options={"c-min-rate": "0"})["disk:c-min-rate"] == "0"
    assert wanted["net:cram-hmac-alg"] == wanted["net:verify-alg"] == "sha256"
    assert wish(net={"after-sb-1pri": "consensus"})["net:after-sb-1pri"] == "consensus"
    assert "net:cram-hmac-alg" not in wish(secret=None)


def test_only_drbd_9_gets_node_ids():
    assert "node-id" not in CONF.render("r0", wish())
    assert "        node-id 1;\n" in CONF.render("r0", wish(major=9))


def test_a_difference_is_told_option_by_option_without_the_secret():
    old, new = (
        wish(),
        wish(secret="another-canary-secret", protocol="A", net={"verify-alg": "sha1"}),
    )
    changes = CONF.difference(old, new)
    assert changes == {
        "net:protocol": {"old": "C", "new": "A"},
        "net:shared-secret": {"old": "(secret)", "new": "(another secret)"},
        "net:verify-alg": {"old": "sha256", "new": "sha1"},
    }
    gone = CONF.difference(new, wish(secret=None))
    assert gone["net:shared-secret"] == {"old": "(secret)", "new": None}
    assert "canary" not in str(changes) + str(gone)


def test_what_is_taken():
    mine = CONF.claims(wish())
    assert mine & CONF.claims(wish(minor=5, disk="/dev/x", port=7289)) == {
        "address 10.98.1.11:7289",
        "address 10.98.1.12:7289",
    }
    assert mine & CONF.claims(wish(port=1, disk="/dev/x")) == {
        "minor 0 of demo1",
        "minor 0 of demo2",
    }
    assert mine & CONF.claims(wish(port=1, minor=5)) == {
        "disk /dev/vg/lv of demo1",
        "disk /dev/vg/lv of demo2",
    }
    assert not mine & CONF.claims(wish(port=1, minor=5, disk="/dev/x"))


@pytest.mark.parametrize("kib, left", [(131072, 131032), (262144, 262100), (1048576, 1048508)])
def test_what_metadata_leaves(kib, left):
    """128 MiB as recorded; the others by the same rule."""
    assert CONF.usable(kib) == left


def test_three_nodes_of_drbd_9_are_all_connected():
    """Not run here, but for drbdadm's own check of such a file, below."""
    nodes = {**NODES, "demo3": "10.98.1.13"}
    wanted = wish(nodes=nodes, major=9)
    text = CONF.render("r0", wanted)
    assert "    connection-mesh { hosts demo1 demo2 demo3; }\n" in text
    assert CONF.resources(text) == {"r0": wanted}
    assert CONF.peers(wanted, "demo2") == ["demo1", "demo3"]
    assert "connection-mesh" not in CONF.render("r0", wish(major=9))


# What the acts tell drbdadm, and what it then tells the program below.
WORDS = {
    "up r0": "drbdsetup{} attach",
    "down r0": "drbdsetup{} down r0",
    "adjust r0": "drbdsetup{}",
    "attach r0": "drbdsetup{} attach",
    "detach r0": "drbdsetup{} detach",
    "connect r0": "drbdsetup{} connect",
    "connect --discard-my-data r0": "--discard-my-data",
    "disconnect r0": "drbdsetup{} disconnect",
    "primary r0": "drbdsetup{} primary",
    "primary --force r0": "--force",
    "secondary r0": "drbdsetup{} secondary",
    "create-md r0/0": "create-md",
    "-- --force create-md r0/0": "--force",
    "-- --force wipe-md r0/0": "wipe-md --force",
    "invalidate r0": "drbdsetup{} invalidate",
    "verify r0": "drbdsetup{} verify",
    "resize r0": "drbdsetup{} resize",
    "get-gi r0/0": "get-gi",
}
SKIP_SYNC = {
    8: "-- --clear-bitmap new-current-uuid r0/0",
    9: "new-current-uuid --clear-bitmap r0/0",
}


@pytest.mark.skipif(not shutil.which("drbdadm"), reason="drbd-utils is not installed here")
@pytest.mark.parametrize("major, driver, suffix", [(8, "8.4.11", "-84"), (9, "9.2.0", "")])
def test_drbdadm_knows_the_words_of_the_acts(tmp_path, major, driver, suffix):
    """Told with --dry-run; of DRBD 9 nothing more than this was run here."""
    file = tmp_path / "r0.res"
    nodes = {os.uname().nodename: "127.0.0.1", "another": "10.98.1.12"}
    file.write_text(CONF.render("r0", wish(major=major, nodes=nodes)))
    environment = {**os.environ, "DRBD_DRIVER_VERSION_OVERRIDE": driver}
    for words, below in {**WORDS, SKIP_SYNC[major]: "--clear-bitmap"}.items():
        answer = subprocess.run(
            ["drbdadm", "-c", str(file), "--dry-run", *words.split()],
            capture_output=True,
            text=True,
            timeout=30,
            env=environment,
        )
        assert answer.returncode == 0, (words, answer.stderr)
        assert below.format(suffix) in answer.stdout, (words, answer.stdout)


@pytest.mark.skipif(not shutil.which("drbdadm"), reason="drbd-utils is not installed here")
@pytest.mark.parametrize(
    "major, driver, nodes",
    [
        (8, "8.4.11", NODES),
        (9, "9.2.0", NODES),
        (9, "9.2.0", {**NODES, "demo3": "10.98.1.13"}),
    ],
)
def test_drbdadm_takes_what_is_written(tmp_path, major, driver, nodes):
    """With the grammar of either driver; of DRBD 9 nothing more than this was run here."""
    file = tmp_path / "r0.res"
    options = {
        "net": {"verify-alg": "sha1"},
        "handlers": {"split-brain": "/usr/lib/drbd/notify-split-brain.sh root"},
        "options": {"auto-promote": False} if major > 8 else {},
    }
    file.write_text(CONF.render("r0", wish(major=major, nodes=nodes, **options)))
    environment = {**os.environ, "DRBD_DRIVER_VERSION_OVERRIDE": driver}
    answer = subprocess.run(
        ["drbdadm", "-c", str(file), "sh-nop"],
        capture_output=True,
        text=True,
        timeout=30,
        env=environment,
    )
    assert answer.returncode == 0, answer.stderr
