"""What the agents print is read whole or not at all."""

import json
import pathlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from salt.exceptions import CommandExecutionError, SaltInvocationError

STATUS = [
    ("opensvc-2.1", "daemon_status.json", 2),
    ("opensvc-2.1", "full_daemon_status.json", 2),
    ("opensvc-3", "mon.json", 3),
]


@pytest.mark.parametrize("agent, name, major", STATUS)
def test_both_agents_give_one_shape(recorded, parse, agent, name, major):
    status = parse(recorded(agent, name)["stdout"], major)
    assert status["cluster"]["nodes"] == ["demo1", "demo2"]
    assert set(status["nodes"]) == {"demo1", "demo2"}
    assert {node["state"] for node in status["nodes"].values()} == {"idle"}
    assert [node["frozen"] for node in status["nodes"].values()] == [False, False]
    assert status["heartbeats"]["hb#1"]["rx"] == status["heartbeats"]["hb#1"]["tx"] == "running"
    assert all(peer["beating"] for peer in status["heartbeats"]["hb#1"]["peers"].values())
    service = status["objects"]["slapos/svc/comp1"]
    assert (service["avail"], service["provisioned"], service["frozen"]) == ("up", True, "thawed")
    assert set(service["instances"]) == {"demo1", "demo2"}
    for instance in service["instances"].values():
        assert instance["state"] == "idle"
        assert instance["frozen"] is False
        assert instance["provisioned"] is True
        assert instance["global_expect"] is None
        disk = instance["resources"]["disk#3"]
        assert disk["type"] == "disk.drbd"
        assert disk["standby"] is True
        assert disk["provisioned"] is True
        assert all(line.startswith("info: ") for line in disk["log"])
        assert instance["resources"]["fs#0"]["standby"] is False
    json.dumps(status)


def test_details_of_agent_2(two):
    service = two["objects"]["slapos/svc/comp1"]
    assert service["overall"] == "warn"
    assert service["placement"] == "optimal"
    first = service["instances"]["demo1"]
    assert (first["avail"], first["local_expect"], first["leader"]) == ("up", "started", True)
    assert service["instances"]["demo2"]["leader"] is False
    assert first["resources"]["app#0"]["disable"] is True
    assert first["resources"]["app#0"]["provisioned"] is None
    assert first["resources"]["app#0"]["subset"] == "re6st"
    assert first["resources"]["sync#i0"]["log"] == ["warn: demo2 need update"]
    # A configuration object has a monitor and nothing that could be up.
    cfg = two["objects"]["slapos/cfg/comp1"]
    assert (cfg["avail"], cfg["provisioned"], cfg["frozen"]) == ("n/a", "n/a", "n/a")
    assert "cluster" not in two["objects"]


def test_details_of_agent_3(recorded, parse):
    status = parse(recorded("opensvc-3", "mon.json")["stdout"], 3)
    service = status["objects"]["slapos/svc/comp1"]
    assert service["placement"] == "optimal"
    assert service["instances"]["demo1"]["leader"] is True
    assert service["instances"]["demo1"]["local_expect"] == "started"
    assert service["instances"]["demo2"]["local_expect"] is None
    assert service["instances"]["demo2"]["resources"]["volume#0"]["log"] == [
        "info: slapos/vol/comp1-cfg avail down"
    ]


def test_a_daemon_that_starts_knows_less(parse):
    """Recorded half a minute after the start of demo2's daemon: the node is in init and has not looked at its services."""
    text = (pathlib.Path(__file__).parent / "recorded/daemon_status_init.json").read_text()
    status = parse(text, 2)
    assert {name: node["state"] for name, node in status["nodes"].items()} == {
        "demo1": "idle",
        "demo2": "init",
    }
    service = status["objects"]["slapos/svc/comp1"]
    assert set(service["instances"]) == {"demo1"}
    assert service["scope"] == ["demo1", "demo2"]


def changed(text, *steps):
    """The document with one value replaced (the last step) or removed (None)."""
    data = json.loads(text)
    *path, key, value = steps
    here = data
    for step in path:
        here = here[step]
    if value is ...:
        del here[key]
    else:
        here[key] = value
    return json.dumps(data)


FROZEN_2 = ("monitor", "nodes", "demo1", "frozen")
INSTANCE_2 = ("monitor", "nodes", "demo1", "services", "status", "slapos/svc/comp1")
INSTANCE_3 = ("cluster", "node", "demo1", "instance", "slapos/svc/comp1")


def test_frozen_is_an_epoch_for_one_agent_and_a_date_for_the_other(recorded, parse):
    two = recorded("opensvc-2.1", "full_daemon_status.json")["stdout"]
    three = recorded("opensvc-3", "mon.json")["stdout"]
    status = parse(changed(two, *FROZEN_2, 1795427886.4), 2)
    assert status["nodes"]["demo1"]["frozen"] is True
    status = parse(changed(two, *INSTANCE_2, "frozen", 1795427886), 2)
    assert status["objects"]["slapos/svc/comp1"]["instances"]["demo1"]["frozen"] is True
    status = parse(changed(three, *INSTANCE_3, "status", "frozen_at", "2026-11-23T08:08:24Z"), 3)
    assert status["objects"]["slapos/svc/comp1"]["instances"]["demo1"]["frozen"] is True
    status = parse(
        changed(three, "cluster", "node", "demo1", "status", "frozen_at", "2026-11-23T08:08:24Z"), 3
    )
    assert status["nodes"]["demo1"]["frozen"] is True


@pytest.mark.parametrize(
    "value, seen",
    [(True, True), (False, False), ("mixed", "mixed"), ("n/a", "n/a"), (None, "n/a")],
)
def test_provisioned_of_agent_2(recorded, parse, value, seen):
    text = recorded("opensvc-2.1", "full_daemon_status.json")["stdout"]
    text = changed(text, "monitor", "services", "slapos/svc/comp1", "provisioned", value)
    found = parse(text, 2)["objects"]["slapos/svc/comp1"]["provisioned"]
    assert (found, type(found)) == (seen, type(seen))


@pytest.mark.parametrize("value, seen", [("true", True), ("false", False), ("undef", "n/a")])
def test_provisioned_of_agent_3_is_a_word(recorded, parse, value, seen):
    text = recorded("opensvc-3", "mon.json")["stdout"]
    text = changed(text, *INSTANCE_3, "status", "provisioned", value)
    instance = parse(text, 3)["objects"]["slapos/svc/comp1"]["instances"]["demo1"]
    assert instance["provisioned"] == seen


def test_a_wish_of_agent_3_names_its_target(recorded, parse):
    text = recorded("opensvc-3", "mon.json")["stdout"]
    text = changed(text, *INSTANCE_3, "monitor", "global_expect", "placed@")
    text = changed(
        text, *INSTANCE_3, "monitor", "global_expect_options", {"destination": ["demo2"]}
    )
    instance = parse(text, 3)["objects"]["slapos/svc/comp1"]["instances"]["demo1"]
    assert instance["global_expect"] == "placed@demo2"


def test_a_heartbeat_beats_when_both_ways_do(recorded, parse):
    text = recorded("opensvc-2.1", "full_daemon_status.json")["stdout"]
    text = changed(text, "hb#1.tx", "peers", "demo2", "beating", False)
    assert parse(text, 2)["heartbeats"]["hb#1"]["peers"] == {"demo2": {"beating": False}}


def test_an_object_known_by_its_configuration_only_exists(recorded, parse):
    text = recorded("opensvc-2.1", "full_daemon_status.json")["stdout"]
    text = changed(
        text,
        *("monitor", "nodes", "demo2", "services", "config", "slapos/svc/new"),
        {"csum": "x", "scope": [], "updated": 1.0},
    )
    assert parse(text, 2)["objects"]["slapos/svc/new"]["instances"] == {}


@pytest.mark.parametrize(
    "major, steps",
    [
        (2, ("monitor", ...)),
        (2, ("cluster", ...)),
        (2, ("cluster", "nodes", "demo1 demo2")),
        (2, (*FROZEN_2, "thawed")),
        (2, (*FROZEN_2, True)),
        (2, (*INSTANCE_2, "avail", "superb")),
        (2, (*INSTANCE_2, "frozen", ...)),
        (2, (*INSTANCE_2, "provisioned", "maybe")),
        (2, (*INSTANCE_2, "monitor", "status", 7)),
        (2, (*INSTANCE_2, "resources", "fs#0", "status", ...)),
        (2, (*INSTANCE_2, "resources", "fs#0", "standby", "yes")),
        (2, (*INSTANCE_2, "resources", "fs#0", "log", "text")),
        (2, (*INSTANCE_2, "resources", "fs#0", "provisioned", {"state": "perhaps"})),
        (2, ("hb#1.rx", "peers", "demo2", {"last": 1.0})),
        (2, ("monitor", "services", "slapos/svc/comp1", "frozen", "icy")),
        (3, ("cluster", "object", ...)),
        (3, ("cluster", "object", {})),
        (3, (*INSTANCE_3, "status", "frozen_at", 0)),
        (3, (*INSTANCE_3, "status", "provisioned", ...)),
        (3, (*INSTANCE_3, "monitor", "state", ...)),
        (3, ("cluster", "node", "demo1", "daemon", "heartbeat", "streams", {})),
        (3, (*INSTANCE_3, "status", "resources", "fs#0", "provisioned", "state", "perhaps")),
    ],
)
def test_what_is_not_understood_raises(recorded, parse, major, steps):
    name = ("opensvc-2.1", "full_daemon_status.json") if major == 2 else ("opensvc-3", "mon.json")
    text = recorded(*name)["stdout"]
    parse(text, major)
    with pytest.raises(CommandExecutionError):
        parse(changed(text, *steps), major)


@pytest.mark.parametrize("agent, name, major", STATUS)
def test_a_cut_answer_raises(recorded, parse, agent, name, major):
    text = recorded(agent, name)["stdout"]
    whole = len(text.rstrip())
    for length in (0, 1, whole // 3, whole - 1):
        with pytest.raises(CommandExecutionError):
            parse(text[:length], major)


def test_the_recording_that_was_cut_raises(recorded, parse):
    with pytest.raises(CommandExecutionError):
        parse(recorded("opensvc-3", "mon_json")["stdout"], 3)


@pytest.mark.parametrize("name, major", [("daemon_status.json", 3), ("mon.json", 2)])
def test_the_other_agents_answer_raises(recorded, parse, name, major):
    agent = "opensvc-2.1" if major == 3 else "opensvc-3"
    with pytest.raises(CommandExecutionError):
        parse(recorded(agent, name)["stdout"], major)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(document=JSON, major=st.sampled_from([2, 3]))
def test_no_document_gives_half_a_truth(parse, document, major):
    """Whatever is printed: the one shape, or CommandExecutionError; never another exception, never less."""
    try:
        status = parse(json.dumps(document), major)
    except CommandExecutionError:
        return
    assert set(status) == {"cluster", "nodes", "heartbeats", "objects"}


def small(agent, text):
    """A real answer without what is not read, so that damage falls on what is."""
    document = json.loads(text)
    if agent == "opensvc-3":
        for node in document["cluster"]["node"].values():
            node["config"] = node["pool"] = {}
            node["instance"]["slapos/svc/comp1"]["config"] = {}
    return document


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_no_damage_to_a_real_answer_gives_half_a_truth(recorded, parse, data):
    """Any one value of a real answer replaced by anything: understood whole, or refused."""
    agent, name, major = data.draw(st.sampled_from(STATUS[1:]))
    document = small(agent, recorded(agent, name)["stdout"])
    here, parent, key = document, None, None
    for _ in range(data.draw(st.integers(1, 9))):
        if not isinstance(here, dict) or not here:
            break
        parent, key = here, data.draw(st.sampled_from(sorted(here)))
        here = here[key]
    parent[key] = data.draw(JSON)
    try:
        status = parse(json.dumps(document), major)
    except CommandExecutionError:
        return
    for service in status["objects"].values():
        for instance in service["instances"].values():
            assert isinstance(instance["state"], str)
            assert instance["frozen"] in (True, False)
            for resource in instance["resources"].values():
                assert isinstance(resource["status"], str)


# --- Schedules ------------------------------------------------------------------------------------------------------------------------


def test_the_schedule_of_both_agents(recorded, utils):
    parse = utils["opensvc_agent.parse_schedule"]
    plan = parse(recorded("opensvc-2.1", "full_print_schedule.json")["stdout"], 2, "demo1")
    tasks = {item["rid"]: item for item in plan if item["rid"]}
    names = ("addpart", "chkaddip", "collect", "delpart", "software")
    assert set(tasks) == {"sync#i0", *(f"task#{name}" for name in names)}
    assert tasks["task#delpart"]["schedule"] == "@60m"
    assert tasks["task#delpart"]["last_run"] is None
    assert tasks["task#delpart"]["next_run"] == 1795427966.0
    assert [item["last_run"] for item in plan if item["action"] == "status"] == [1795427748.459357]
    plan = parse(recorded("opensvc-3", "schedule.json")["stdout"], 3, "demo1")
    status = next(item for item in plan if item["action"] == "status")
    assert (status["rid"], status["schedule"]) == (None, "@10m")
    assert status["last_run"] == pytest.approx(1795420862.6136, abs=0.001)
    assert next(item for item in plan if item["action"] == "compliance_auto")["last_run"] is None
    assert parse(recorded("opensvc-3", "schedule.json")["stdout"], 3, "nobody") == []


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[{"action": "run"}]', '{"items": [{}]}'])
@pytest.mark.parametrize("major", [2, 3])
def test_a_strange_schedule_raises(utils, text, major):
    with pytest.raises(CommandExecutionError):
        utils["opensvc_agent.parse_schedule"](text, major, "demo1")


# --- Words of om ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "agent, name, reason",
    [
        ("opensvc-2.1", "status_missing", "no match"),
        ("opensvc-2.1", "wait_fail", "timeout"),
        ("opensvc-2.1", "bad_opt", "om svc: no such option: --frob"),
        (
            "opensvc-2.1",
            "switch_again_refused",
            "slapos/svc/comp1 instance on node demo1 in stopping state",
        ),
        (
            "opensvc-2.1",
            "cfg_decode_missing",
            "configuration key nope does not exist or has no value",
        ),
        ("opensvc-3", "bad_opt", "unknown flag: --nosuch"),
        (
            "opensvc-3",
            "missing_obj",
            "expand object selection: local expand object selection: object not found",
        ),
        (
            "opensvc-3",
            "provision_84_nomd",
            "wait expectation provisioned failed on object slapos/svc/comp1: object status provisioned 'mixed' is not one of [true n/a]",
        ),
    ],
)
def test_the_reason_is_found_in_what_om_printed(recorded, utils, agent, name, reason):
    answer = recorded(agent, name)
    assert utils["opensvc_agent.complaint"](answer["stdout"], answer["stderr"]) == reason


def test_a_launcher_that_failed_is_told_in_its_own_words(recorded, utils):
    answer = recorded("opensvc-2.1", "app_start_failed")
    assert utils["opensvc_agent.complaint"](answer["stdout"], answer["stderr"]) == (
        "re6st: re6stnet is not well 90 s after its start: no babeld yet; the registry http://10.98.0.1:9201 cannot be reached (Connection refused), "
        "which a first start needs; TypeError: a bytes-like object is required"
    )
    # Where it has said nothing, that it failed is all there is.
    bare = "@ n:demo1 r:app#0 sc:n\nE start done in 0:00:00.417187 - ret 1\nE exit code 1\n"
    assert utils["opensvc_agent.complaint"]("", bare) == "start done in 0:00:00.417187 - ret 1; exit code 1"  # fmt: skip


def test_three_errors_are_told_once_each(recorded, utils):
    answer = recorded("opensvc-2.1", "full_sync_nodes")
    text = utils["opensvc_agent.complaint"](answer["stdout"], answer["stderr"])
    assert text.startswith("rsync: connection unexpectedly closed")
    assert "node demo2 synchronization failed" in text
    assert "\x1b" not in utils["opensvc_agent.complaint"]("", "\x1b[31mE broken\x1b[0m\nE broken\n")
    assert utils["opensvc_agent.complaint"]("", "E broken\nE broken\n") == "broken"
    assert utils["opensvc_agent.complaint"]("@ n:demo1 sc:n\n", "").startswith("it gave no reason")


def test_only_a_passing_refusal_is_asked_again(recorded, utils):
    busy = utils["opensvc_agent.busy"]
    assert busy(recorded("opensvc-2.1", "switch_again_refused")["stderr"])
    assert not busy("E slapos/svc/comp1 instance on node demo1 in stop failed state")
    assert not busy(recorded("opensvc-2.1", "wait_fail")["stderr"])


def test_warnings_are_told(recorded, utils):
    answer = recorded("opensvc-2.1", "set_bad")
    assert utils["opensvc_agent.warnings"](answer["stderr"]) == ["ignored section badsection#x"]
    answer = recorded("opensvc-2.1", "full_enable_tasks")
    assert utils["opensvc_agent.warnings"](answer["stderr"]) == []


@pytest.mark.parametrize(
    "text, version",
    [
        ("om node version 2.1-1890\n", "2.1-1890"),
        ("om node version dev\n", "dev"),
        ("om version v3.0.0-rc21\n", "3.0.0-rc21"),
        ("Service objects subsystem.\n\nUsage:\n  om svc [command]\n", None),
        ("", None),
    ],
)
def test_the_version(utils, text, version):
    assert utils["opensvc_agent.version"](text) == version


# --- Names and configurations ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path, name",
    [
        ("slapos/svc/comp1", "namespaces/slapos/svc/comp1.conf"),
        ("slapos/cfg/comp1", "namespaces/slapos/cfg/comp1.conf"),
        ("comp1", "comp1.conf"),
        ("cfg/comp1", "cfg/comp1.conf"),
        ("root/sec/cert-1.2", "sec/cert-1.2.conf"),
        ("cluster", "cluster.conf"),
        ("node", "node.conf"),
    ],
)
def test_where_a_configuration_is(utils, path, name):
    assert utils["opensvc_agent.config_file"]("/e", path) == f"/e/{name}"


@pytest.mark.parametrize(
    "path", ["", "a/b/c/d", "../etc", "slapos/svc/*", "a,b", "--help", "x y", None, "slapos/svc/"]
)
def test_what_is_no_path(utils, path):
    with pytest.raises(SaltInvocationError):
        utils["opensvc_agent.config_file"]("/e", path)


@pytest.mark.parametrize("name", ["print_config", "full_print_config"])
def test_a_file_reads_as_the_agent_reads_it(recorded, utils, name):
    """print config prints the file; print config --format json is what the agent reads in it."""
    wanted = json.loads(recorded("opensvc-2.1", f"{name}.json")["stdout"])
    wanted.pop("metadata", None)
    if name == "print_config":
        text = recorded("opensvc-2.1", name)["stdout"]
    else:
        text = utils["opensvc_agent.render_config"](wanted)
    assert utils["opensvc_agent.parse_config"](text) == wanted


def test_the_file_of_agent_3(recorded, utils):
    text = recorded("opensvc-3", "cluster_show")["stdout"]
    config = utils["opensvc_agent.parse_config"](text)
    assert config["hb#1"] == {"type": "unicast", "timeout": "30s"}
    quoted = utils["opensvc_agent.parse_config"]("[disk#1]\npvs = `{disk#0.file}`\n")
    assert quoted == {"disk#1": {"pvs": "{disk#0.file}"}}


@pytest.mark.parametrize("text", ["no section = 1\n", "[a]\nwhat is this\n", "[a\nx = 1\n"])
def test_a_damaged_file_raises(utils, text):
    with pytest.raises(CommandExecutionError):
        utils["opensvc_agent.parse_config"](text)


NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
VALUES = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x24F, exclude_characters="`\x7f\x85\xa0"),
    max_size=20,
).map(str.strip)


@settings(max_examples=60, deadline=None)
@given(config=st.dictionaries(NAMES, st.dictionaries(NAMES, VALUES, min_size=1), min_size=1))
def test_what_is_written_is_what_is_read(utils, config):
    wanted = utils["opensvc_agent.words"](
        {
            s: {k: v for k, v in d.items() if k not in ("secret", "password")}
            for s, d in config.items()
        }
    )
    text = utils["opensvc_agent.render_config"](wanted)
    assert utils["opensvc_agent.parse_config"](text) == wanted
    assert (
        utils["opensvc_agent.difference"](utils["opensvc_agent.parse_config"](text), wanted) == {}
    )


ANY = st.one_of(
    st.text(max_size=60), st.text(st.sampled_from("ab [=]#;\"'`\\\n\t{}$%é😀\x1b"), max_size=60)
)


@settings(max_examples=150, deadline=None)
@given(text=ANY)
def test_any_text_is_read_or_refused(utils, text):
    for name in ("parse_config", "read_config"):
        try:
            utils[f"opensvc_agent.{name}"](text)
        except (CommandExecutionError, SaltInvocationError) as error:
            assert "\n" not in str(error)
    for major in (2, 3):
        try:
            # An empty list is one.
            assert utils["opensvc_agent.parse_schedule"](text, major, "demo1") == json.loads(text)
        except CommandExecutionError as error:
            assert "\n" not in str(error)
    assert isinstance(utils["opensvc_agent.complaint"](text, text), str)
    for name in ("version", "warnings", "busy"):
        utils[f"opensvc_agent.{name}"](text)
    utils["opensvc_agent.failures"](text, text)


@settings(max_examples=50, deadline=None)
@given(config=st.dictionaries(NAMES, st.dictionaries(NAMES, VALUES, max_size=2), max_size=2), secret=st.from_regex(r"[!-~]{1,20}", fullmatch=True))  # fmt: skip
def test_a_secret_is_set_in_a_file_as_it_is_and_nothing_else_changes(utils, config, secret):
    before = utils["opensvc_agent.render_config"](config)
    text = utils["opensvc_agent.set_in_text"](before, "cluster", "secret", secret)
    was = utils["opensvc_agent.parse_config"](before)
    now = utils["opensvc_agent.parse_config"](text)
    assert now == {**was, "cluster": {**was.get("cluster", {}), "secret": now["cluster"]["secret"]}}
    # Agent 3 reads a value in backquotes without them, and so do we.
    assert now["cluster"]["secret"] == secret or secret[0] == secret[-1] in ("`", '"')


@settings(max_examples=4, deadline=None)
@given(text=st.text(max_size=200))
def test_what_is_sealed_opens_as_it_was_and_no_other_way(keypair, utils, text):
    public, private = keypair
    sealed = utils["opensvc_seal.seal"](text, public)
    assert "\n" not in sealed
    assert utils["opensvc_seal.unseal"](sealed, private) == text
    for damaged in (sealed[:-3], sealed[:-3] + "AAA", sealed.replace(":1:", ":1:A"), "opensvc:1:"):
        with pytest.raises(CommandExecutionError):
            utils["opensvc_seal.unseal"](damaged, private)


@pytest.fixture(scope="module")
def keypair():
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(65537, 2048)
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode(),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


def test_values_become_the_agents_words(utils):
    given = {
        "DEFAULT": {"nodes": ["demo1", "demo2"], "parallel": True, "n": 3},
        "fs#0": {"x": " a\n  b\n"},
    }
    assert utils["opensvc_agent.words"](given) == {
        "DEFAULT": {"nodes": "demo1 demo2", "parallel": "true", "n": "3"},
        "fs#0": {"x": "a\nb"},
    }


@pytest.mark.parametrize(
    "config",
    [
        [],
        {"DEFAULT": "x"},
        {"DEFAULT": {"x": None}},
        {"DEFAULT": {"x": {"y": 1}}},
        {"DEFAULT": {"x y": 1}},
        {"DEFAULT": {"x+": 1}},
        {"DEFAULT": {"nodes-": 1}},
        {"DEFAULT": {"nodes@demo1-": 1}},
        {"DEFAULT": {"x[0]": 1}},
        {"fs 0": {"x": 1}},
        {"fs#0": {"x": "a\n# b"}},
        {"cluster": {"secret": "s"}},
        {"cluster": {"secret@demo1": "s"}},
    ],
)
def test_what_cannot_be_a_configuration(utils, config):
    with pytest.raises(SaltInvocationError):
        utils["opensvc_agent.words"](config)


def test_a_keyword_is_set_in_the_text_and_nothing_else_changes(utils):
    set_in_text, parse = utils["opensvc_agent.set_in_text"], utils["opensvc_agent.parse_config"]
    text = "[DEFAULT]\nid = 1\n# why\n\n[cluster]\nname = a\nsecret = old\n\n[hb#1]\nsecret = its own\n"
    changed = set_in_text(text, "cluster", "secret", "new")
    assert changed == text.replace("secret = old", "secret = new")
    assert parse(set_in_text("", "cluster", "secret", "new")) == {"cluster": {"secret": "new"}}
    assert parse(set_in_text("[hb#1]\na = b\n", "cluster", "secret", "new")) == {
        "hb#1": {"a": "b"},
        "cluster": {"secret": "new"},
    }
    added = parse(set_in_text("[cluster]\nname = a\n[hb#1]\na = b\n", "cluster", "secret", "new"))
    assert added == {"cluster": {"secret": "new", "name": "a"}, "hb#1": {"a": "b"}}


def test_difference_and_surplus(utils):
    current = {
        "DEFAULT": {"id": "1", "nodes": "*"},
        "fs#0": {"type": "ext4", "old": "x"},
        "data": {"re6st": "literal:x"},
    }
    wanted = {"DEFAULT": {"nodes": "demo1"}, "fs#0": {"type": "ext4"}, "env": {"size": "1g"}}
    assert utils["opensvc_agent.difference"](current, wanted) == {
        "DEFAULT.nodes": {"old": "*", "new": "demo1"},
        "env.size": {"old": None, "new": "1g"},
    }
    assert utils["opensvc_agent.difference"](None, {"a": {"b": "c"}}) == {
        "a.b": {"old": None, "new": "c"}
    }
    assert utils["opensvc_agent.surplus"](current, wanted) == ["fs#0.old"]


@pytest.mark.parametrize(
    "value, content",
    [
        ("literal:a = b # c", b"a = b # c"),
        ("literal:", b""),
        ("base64:w7wKIyE_Pg==", "ü\n#!?>".encode()),
        ("plain", b"plain"),
    ],
)
def test_the_content_of_a_key(utils, value, content):
    assert utils["opensvc_agent.key_bytes"](value) == content


@pytest.mark.parametrize("value", ["base64:a", "crypt:abc"])
def test_a_key_that_cannot_be_read_raises(utils, value):
    with pytest.raises(CommandExecutionError):
        utils["opensvc_agent.key_bytes"](value)
