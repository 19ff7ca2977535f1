"""Which command each agent gets for each act, and that no secret is ever in one."""

import contextlib
import json
import logging
import pathlib
import stat

import pytest
from salt.exceptions import CommandExecutionError, SaltInvocationError

PATH = "slapos/svc/comp1"
CFG = "slapos/cfg/comp1"
CANARY = "canary0123456789"

# act, what agent 2.1 gets, what agent 3 gets
ACTS = [
    (lambda a: a.provision(PATH), "P provision", "P provision"),
    (
        lambda a: a.provision(PATH, rids=["disk#0", "disk#1"]),
        "P provision --local --rid disk#0,disk#1",
        "P instance provision --rid disk#0,disk#1",
    ),
    (
        lambda a: a.provision(PATH, rids=["fs#0"], leader=True),
        "P provision --local --rid fs#0 --leader",
        "P instance provision --rid fs#0 --leader",
    ),
    (
        lambda a: a.provision(PATH, rids=["disk#3"], state_only=True),
        "P set provisioned --local --rid disk#3",
        "P instance provision --rid disk#3 --state-only",
    ),
    (lambda a: a.provision(PATH, local=True), "P provision --local", "P instance provision"),
    (lambda a: a.start(PATH), "P start", "P start"),
    (lambda a: a.start(PATH, local=True), "P start --local", "P instance start"),
    (
        lambda a: a.start(PATH, rids=["app#0"]),
        "P start --local --rid app#0",
        "P instance start --rid app#0",
    ),
    (lambda a: a.stop(PATH), "P stop", "P stop"),
    (
        lambda a: a.stop(PATH, rids=["app#0"]),
        "P stop --local --rid app#0",
        "P instance stop --rid app#0",
    ),
    (lambda a: a.restart(PATH), "P restart", "P restart"),
    (
        lambda a: a.restart(PATH, rids=["app#1"]),
        "P restart --local --rid app#1",
        "P instance restart --rid app#1",
    ),
    (lambda a: a.switch(PATH, "demo2"), "P switch --to demo2", "P switch --to demo2"),
    (lambda a: a.freeze(PATH), "P freeze", "P freeze"),
    (lambda a: a.thaw(PATH), "P thaw", "P unfreeze"),
    (lambda a: a.clear(PATH), "P clear", "P clear"),
    (lambda a: a.refresh(PATH), "P print status -r", "P instance status -r"),
    (lambda a: a.abort(PATH), "P abort", "P abort"),
    (lambda a: a.delete(PATH), "P delete", "P delete"),
    (lambda a: a.purge(PATH, force=True), "P purge", "P purge"),
    (lambda a: a.unprovision(PATH, force=True), "P unprovision", "P unprovision"),
    (
        lambda a: a.unprovision(PATH, local=True, leader=True, force=True),
        "P unprovision --local --leader",
        "P instance unprovision --leader",
    ),
    (lambda a: a.takeover(PATH), "P takeover", "P takeover"),
    (lambda a: a.giveback(PATH), "P giveback", "P giveback"),
    (lambda a: a.sync(PATH), "P sync nodes", "P instance sync update --target nodes"),
    (
        lambda a: a.sync(PATH, "drpnodes", rids=["sync#i0"]),
        "P sync drp --rid sync#i0",
        "P instance sync update --target drpnodes --rid sync#i0",
    ),
    (lambda a: a.sync(PATH, "all"), "P sync all", "P instance sync update"),
    (
        lambda a: a.enable(PATH, ["app#0", "task#collect"]),
        "P enable --rid app#0,task#collect",
        "P config update --unset app#0.disable --unset task#collect.disable",
    ),
    (
        lambda a: a.disable(PATH, ["app#0"]),
        "P disable --rid app#0",
        "P config update --set app#0.disable=true",
    ),
    (
        lambda a: a.config_set(PATH, {"fs#0.mnt": "/srv/x", "orchestrate": "ha"}),
        "P set --kw fs#0.mnt=/srv/x --kw DEFAULT.orchestrate=ha",
        "P config update --set fs#0.mnt=/srv/x --set DEFAULT.orchestrate=ha",
    ),
    (
        lambda a: a.config_set("cluster", {"hb#1.timeout": 15}),
        "cluster set --kw hb#1.timeout=15",
        "cluster config update --set hb#1.timeout=15",
    ),
    (
        lambda a: a.config_unset(PATH, ["fs#0.mnt", "env.size"]),
        "P unset --kw fs#0.mnt --kw env.size",
        "P config update --unset fs#0.mnt --unset env.size",
    ),
    (
        lambda a: a.config_delete_section(PATH, "task#collect"),
        "P delete --rid task#collect",
        "P config update --delete task#collect",
    ),
    (lambda a: a.node_thaw(), "node thaw --local", "node unfreeze"),
    (lambda a: a.node_freeze(), "node freeze --local", "node freeze"),
    (lambda a: a.node_drain(), "node drain", "node drain"),
    (lambda a: a.cluster_freeze(), "node freeze", "cluster freeze"),
    (lambda a: a.cluster_thaw(), "node thaw", "cluster unfreeze"),
    (
        lambda a: a.cluster_set({"cluster.quorum": True}),
        "cluster set --kw cluster.quorum=true",
        "cluster config update --set cluster.quorum=true",
    ),
]


@pytest.mark.parametrize("major", [2, 3])
@pytest.mark.parametrize("index", range(len(ACTS)))
def test_the_command_of_an_act(agent, service, index, major):
    agent.become(major)
    act, *commands = ACTS[index]
    wanted = commands[major - 2].replace("P ", PATH + " ", 1).split()
    agent.om.says(wanted[:2], "committed\n" if major == 3 else "", "W beware\n")
    for path in (PATH, "cluster"):
        agent.om.says([path, "config", "validate"], "LEVEL  PATH\n")
    assert act(agent) == {"warnings": ["beware"]}
    assert [call for call in agent.om.calls if call[1:3] != ["config", "validate"]][-1] == wanted


@pytest.mark.parametrize("code", [0, 1])
def test_what_the_agent_has_written_is_on_the_disk(agent, service, monkeypatch, code):
    order = []
    agent.om.says([PATH, "freeze"], "", "E no\n" if code else "", code)
    settled = lambda *paths: order.append((len(agent.om.calls), *paths))  # noqa: E731
    monkeypatch.setitem(agent.utils, "slapos_disk.settled", settled)
    with contextlib.suppress(CommandExecutionError):
        agent.freeze(PATH)
    assert agent.om.calls[-1] == [PATH, "freeze"]
    assert order == [(len(agent.om.calls), str(agent.etc), "/var/lib/opensvc")]


@pytest.mark.parametrize("index", range(len(ACTS)))
def test_an_act_that_fails_says_what_and_why(agent, service, index):
    act, command, _ = ACTS[index]
    agent.om.says(
        command.replace("P ", PATH + " ", 1).split()[:2],
        "",
        "@ n:demo1 o:slapos/svc/comp1 sc:n\nE the reason\n",
        1,
    )
    with pytest.raises(CommandExecutionError, match=r"^OpenSVC: .+ failed: the reason\. See: .+"):
        act(agent)


@pytest.mark.parametrize(
    "act",
    [
        lambda a: a.start(PATH),
        lambda a: a.start(PATH, rids=["app#0"]),
        lambda a: a.enable(PATH, ["app#0"]),
        lambda a: a.config_set(PATH, {"a.b": "c"}),
        lambda a: a.config_delete_section(PATH, "app#0"),
        lambda a: a.key_remove(PATH, "k"),
        lambda a: a.run_task(PATH, "task#collect"),
        lambda a: a.config_validate(PATH),
        lambda a: a.unprovision(PATH, force=True),
        lambda a: a.takeover(PATH),
        lambda a: a.sync(PATH),
    ],
)
def test_nothing_is_done_to_an_object_that_is_not_there(agent, act):
    with pytest.raises(CommandExecutionError, match="there is no slapos/svc/comp1 on demo1"):
        act(agent)
    assert [call for call in agent.om.calls if call[0] == PATH] == []


@pytest.mark.parametrize(
    "act",
    [
        lambda a: a.provision(PATH, state_only=True),
        lambda a: a.start(PATH, rids=["app#9"]),
        lambda a: a.start(PATH, rids="app#0"),
        lambda a: a.enable(PATH, ["app#9"]),
        lambda a: a.disable(PATH, []),
        lambda a: a.run_task(PATH, "app#0"),
        lambda a: a.run_task(PATH, "task#nosuch"),
        lambda a: a.switch(PATH, "--force"),
        lambda a: a.config_set(PATH, {}),
        lambda a: a.config_set(PATH, {"app.disable": True}),
        lambda a: a.config_set(PATH, {"nodes+": "x"}),
        lambda a: a.config_set(PATH, {"nodes[0]": "x"}),
        lambda a: a.config_set(PATH, {"cluster.secret": CANARY}),
        lambda a: a.config_unset(PATH, "fs#0.mnt"),
        lambda a: a.key_set(CFG, "a key", "/etc/hostname"),
        lambda a: a.key_set(CFG, "key"),
        lambda a: a.key_add(CFG, "key", "/etc/hostname", contents_pillar="a"),
        lambda a: a.unprovision(PATH, rids=["app#9"], force=True),
        lambda a: a.sync(PATH, "everybody"),
        lambda a: a.sync(PATH, rids=["sync#9"]),
        lambda a: a.cluster_set(),
        lambda a: a.cluster_set({"cluster.secret": CANARY}),
        lambda a: a.cluster_set(pillars={"secret": "a"}),
        lambda a: a.create("slapos/svc/new", {"a": {"b": 1}}, source="/etc/hostname"),
        lambda a: a.join("demo1"),
        lambda a: a.join("demo1", secret_sealed="x", secret_pillar="y"),
    ],
)
def test_a_wrong_argument_starts_nothing(agent, service, act):
    with pytest.raises(SaltInvocationError) as caught:
        act(agent)
    assert CANARY not in str(caught.value)
    assert [call for call in agent.om.calls if call[0] == PATH] == []


def test_a_busy_instance_is_asked_again_until_it_is_free(agent, service, clock, recorded):
    agent.om.says([PATH, "switch"])
    for _ in range(3):
        agent.om.repeats(
            [PATH, "switch"], recorded("opensvc-2.1", "switch_again_refused"), once=True
        )
    agent.switch(PATH, "demo2")
    assert len(agent.om.asked(PATH, "switch")) == 4


def test_a_busy_instance_is_not_asked_for_ever(agent, service, clock, recorded):
    agent.om.repeats([PATH, "switch"], recorded("opensvc-2.1", "switch_again_refused"))
    with pytest.raises(CommandExecutionError, match="demo1 in stopping state"):
        agent.switch(PATH, "demo2", retry=20)
    assert 20 <= clock.now - 1000 < 25


def test_another_refusal_is_final(agent, service, clock):
    agent.om.says([PATH, "switch"], "", "E destination node demo9 has no instance\n", 1)
    with pytest.raises(CommandExecutionError, match="destination node demo9"):
        agent.switch(PATH, "demo9")
    assert clock.slept == []


def test_a_disabled_task_is_not_silently_skipped(agent, service):
    name = agent.etc / "namespaces/slapos/svc/comp1.conf"
    name.write_text(name.read_text().replace("[task#collect]", "[task#collect]\ndisable = true"))
    with pytest.raises(CommandExecutionError, match="disabled; enable it first"):
        agent.run_task(PATH, "task#collect")


@pytest.mark.parametrize("major, verb", [(2, ["run"]), (3, ["instance", "run"])])
def test_a_task_is_run(agent, service, major, verb):
    agent.become(major)
    agent.om.says([PATH, *verb])
    agent.run_task(PATH, "task#collect")
    assert agent.om.calls[-1] == [PATH, *verb, "--rid", "task#collect"]


# --- Creating ---------------------------------------------------------------------------------------------------------------------------


def test_an_object_is_created_from_a_private_file(agent):
    seen = {}

    def create(args):
        name = pathlib.Path(args[args.index("--config") + 1])
        seen.update(name=name, mode=stat.S_IMODE(name.stat().st_mode), text=name.read_text())
        (agent.etc / "namespaces/slapos/svc/comp1.conf").write_text(seen["text"])

    agent.om.says([PATH, "create"], then=create)
    agent.create(PATH, {"DEFAULT": {"nodes": ["demo1", "demo2"]}, "fs#0": {"shared": True}})
    assert seen["mode"] == 0o600
    assert "[fs#0]\nshared = true" in seen["text"]
    assert not seen["name"].exists()


def test_the_file_is_gone_also_when_creating_fails(agent, tmp_path):
    agent.om.says([PATH, "create"], "", "E no\n", 1)
    with pytest.raises(CommandExecutionError, match="creating slapos/svc/comp1 failed: no"):
        agent.create(PATH, {"DEFAULT": {"nodes": "*"}})
    assert list((tmp_path / "cache").iterdir()) == []


def test_an_object_that_exists_is_not_wiped(agent, service):
    """create without a configuration makes agent 2.1 write an empty one over an object that exists."""
    with pytest.raises(CommandExecutionError, match="exists already"):
        agent.create(PATH)
    assert agent.om.calls == []


def test_a_create_that_made_nothing_is_an_error(agent):
    agent.om.says([CFG, "create"])
    with pytest.raises(CommandExecutionError, match="returned no error"):
        agent.create(CFG)


# --- Reading configurations -----------------------------------------------------------------------------------------------------------------


def test_a_configuration_costs_no_process(agent, service):
    config = agent.config_show(PATH)
    assert config["disk#0"]["file"] == "/opt/{fqdn}.img"
    assert agent.config_get(PATH, "orchestrate") == "ha"
    assert agent.config_get(PATH, "fs#0.mnt") == "/srv/{fqdn}"
    assert agent.config_get(PATH, "fs#0.nosuch") is None
    assert agent.config_show("slapos/svc/other") is None
    assert agent.om.calls == []


def test_what_cannot_be_read_is_not_absent(agent, service):
    name = agent.etc / "namespaces/slapos/svc/comp1.conf"
    name.write_bytes(b"\xff\xfe")
    with pytest.raises(CommandExecutionError, match="cannot be read"):
        agent.config_show(PATH)
    name.write_text("no section\n")
    with pytest.raises(CommandExecutionError, match=PATH):
        agent.config_show(PATH)


def test_secrets_are_not_shown(agent):
    (agent.etc / "cluster.conf").write_text(
        f"[cluster]\nname = x\nsecret = {CANARY}\nsecret@demo1 = {CANARY}\n"
    )
    (agent.etc / "namespaces/slapos/sec").mkdir()
    (agent.etc / "namespaces/slapos/sec/s.conf").write_text(f"[data]\nkey = literal:{CANARY}\n")
    assert CANARY not in str(agent.config_show("cluster"))
    assert agent.config_show("cluster")["cluster"]["name"] == "x"
    assert CANARY not in str(agent.config_show("slapos/sec/s"))
    with pytest.raises(SaltInvocationError, match="secret=True"):
        agent.decode("slapos/sec/s", "key")
    assert agent.decode("slapos/sec/s", "key", secret=True) == CANARY


def test_the_cluster_secret_is_not_for_jobs(agent):
    (agent.etc / "cluster.conf").write_text(f"[cluster]\nsecret = {CANARY}\n")
    assert agent.cluster_secret() == CANARY
    with pytest.raises(SaltInvocationError):
        agent.cluster_secret(__pub_fun="opensvc.cluster_secret")
    (agent.etc / "cluster.conf").unlink()
    (agent.etc / "node.conf").write_text("[cluster]\nsecret = other\n")
    assert agent.cluster_secret() == "other"
    (agent.etc / "node.conf").unlink()
    with pytest.raises(CommandExecutionError, match="no secret"):
        agent.cluster_secret()


def test_validation(agent, service, recorded):
    agent.om.says([PATH, "validate"], "", "", 0)
    assert agent.config_validate(PATH) == {"valid": True, "remarks": []}
    agent.om.says([PATH, "validate"], "", "@ n:demo1\nW ignored section x\n", 1)
    assert agent.config_validate(PATH) == {"valid": True, "remarks": ["ignored section x"]}
    agent.om.says([PATH, "validate"], "", "E bad value\n", 1)
    assert agent.config_validate(PATH) == {"valid": False, "remarks": ["bad value"]}
    agent.om.says([PATH, "validate"], "", "Traceback\n", 1)
    with pytest.raises(CommandExecutionError):
        agent.config_validate(PATH)


def test_validation_by_agent_3(agent, service, recorded):
    agent.become(3)
    table = recorded("opensvc-3", "config_bad_kw")["stdout"].split("\n", 1)[1]
    agent.om.says([PATH, "config", "validate"], table)
    found = agent.config_validate(PATH)
    assert found["valid"] is True
    assert "unknown keyword" in found["remarks"][0]


# --- Keys ----------------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def cfg(agent):
    name = agent.etc / "namespaces/slapos/cfg/comp1.conf"
    name.write_text(
        "[DEFAULT]\nid = 1\n\n[data]\nre6st = base64:IyEvYmluL3NoCg==\nword = literal:a b\nraw = base64:_w==\n"
    )
    return name


def test_keys_are_read_without_a_process(agent, cfg):
    assert agent.keys(CFG) == ["raw", "re6st", "word"]
    assert agent.keys("slapos/cfg/other") is None
    assert agent.decode(CFG, "re6st") == "#!/bin/sh\n"
    assert agent.decode(CFG, "word") == "a b"
    assert agent.decode(CFG, "nope") is None
    assert agent.key_hash(CFG, "nope") is None
    assert (
        agent.key_hash(CFG, "word")
        == agent.module_opensvc_config.hashlib.sha256(b"a b").hexdigest()
    )
    with pytest.raises(CommandExecutionError, match="not text"):
        agent.decode(CFG, "raw")
    assert agent.om.calls == []


@pytest.mark.parametrize(
    "major, verb", [(2, ["decode", "--key"]), (3, ["key", "decode", "--name"])]
)
def test_an_encrypted_key_is_decoded_by_the_agent(agent, major, verb):
    agent.become(major)
    (agent.etc / "namespaces/slapos/sec").mkdir()
    (agent.etc / "namespaces/slapos/sec/s.conf").write_text("[data]\nkey = crypt:abc\n")
    agent.om.says(["slapos/sec/s", *verb, "key"], CANARY)
    assert agent.decode("slapos/sec/s", "key", secret=True) == CANARY


@pytest.mark.parametrize(
    "major, key, command",
    [
        (2, "re6st", "change --key re6st --from"),
        (2, "new", "add --key new --from"),
        (3, "re6st", "key change --name re6st --from"),
        (3, "new", "key add --name new --from"),
    ],
)
def test_a_key_is_set_from_a_file(agent, cfg, tmp_path, major, key, command):
    agent.become(major)
    source = tmp_path / "source"
    source.write_text(CANARY)
    agent.om.says([CFG])
    agent.key_set(CFG, key, str(source))
    assert agent.om.calls[-1] == [CFG, *command.split(), str(source)]
    assert CANARY not in json.dumps(agent.om.calls)


def test_a_key_needs_its_object_and_its_file(agent, cfg, tmp_path):
    with pytest.raises(CommandExecutionError, match="is no file"):
        agent.key_set(CFG, "re6st", str(tmp_path / "missing"))
    with pytest.raises(CommandExecutionError, match="there is no slapos/cfg/other"):
        agent.key_set("slapos/cfg/other", "re6st", str(cfg))
    with pytest.raises(CommandExecutionError, match="has no key nope"):
        agent.key_remove(CFG, "nope")


@pytest.mark.parametrize("major, command", [(2, "remove --key"), (3, "key remove --name")])
def test_a_key_is_removed(agent, cfg, major, command):
    agent.become(major)
    agent.om.says([CFG])
    agent.key_remove(CFG, "word")
    assert agent.om.calls[-1] == [CFG, *command.split(), "word"]


@pytest.mark.parametrize("major", [2, 3])
@pytest.mark.parametrize("gone", [True, False])
def test_a_key_is_removed_whatever_the_exit_code_of_agent_2_says(agent, cfg, major, gone):
    """2.1 from its source, by hand: `om lab/sec/p remove --key k` removes it, prints nothing and ends with 1."""
    agent.become(major)
    conf = agent.etc / "namespaces/slapos/cfg/comp1.conf"

    def remove(args):
        if gone:
            lines = conf.read_text().splitlines(keepends=True)
            conf.write_text("".join(line for line in lines if not line.startswith("word")))

    agent.om.says([CFG], retcode=1, then=remove)
    if gone and major == 2:
        assert agent.key_remove(CFG, "word") == {"warnings": []}
    else:
        with pytest.raises(CommandExecutionError, match="removing key word"):
            agent.key_remove(CFG, "word")


def test_a_key_is_added_or_changed_and_nothing_else(agent, cfg, tmp_path):
    source = tmp_path / "source"
    source.write_text("x")
    agent.om.says([CFG])
    with pytest.raises(CommandExecutionError, match="has a key re6st already"):
        agent.key_add(CFG, "re6st", str(source))
    with pytest.raises(CommandExecutionError, match="has no key new"):
        agent.key_change(CFG, "new", str(source))
    assert agent.om.asked(CFG) == []
    agent.key_add(CFG, "new", str(source))
    agent.key_change(CFG, "re6st", str(source))
    assert [call[1:4] for call in agent.om.asked(CFG)] == [
        ["add", "--key", "new"],
        ["change", "--key", "re6st"],
    ]


@pytest.mark.parametrize(
    "major, command", [(2, "add --key token --from"), (3, "key add --name token --from")]
)
def test_a_key_from_the_pillar_goes_by_standard_input(agent, cfg, major, command, tmp_path, caplog):
    agent.become(major)
    agent.pillar.update({"comp1": {"token": CANARY}, "empty": ""})
    agent.om.says([CFG])
    with caplog.at_level(logging.DEBUG):
        agent.key_set(CFG, "token", contents_pillar="comp1:token")
    assert agent.om.calls[-1] == [CFG, *command.split(), "/dev/stdin"]
    assert agent.om.kwargs[-1]["stdin"] == CANARY
    assert CANARY not in json.dumps(agent.om.calls) + caplog.text
    kept = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert [path.name for path in kept] == ["opensvc_version"]
    assert set(json.loads(kept[0].read_text())) == {"key", "answer", "at"}
    assert CANARY not in kept[0].read_text()
    for missing in ("empty", "comp1:nothing", "nothing"):
        with pytest.raises(CommandExecutionError, match=f"pillar {missing} holds no text"):
            agent.key_set(CFG, "token", contents_pillar=missing)


# --- What cannot be undone ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "act",
    [
        lambda a, **force: a.purge(PATH, **force),
        lambda a, **force: a.unprovision(PATH, **force),
        lambda a, **force: a.unprovision(PATH, rids=["disk#3"], **force),
    ],
)
@pytest.mark.parametrize("force", [{}, {"force": False}, {"force": "yes"}, {"force": 1}])
def test_data_is_removed_only_by_force(agent, service, act, force):
    with pytest.raises(CommandExecutionError, match="data included; give force=True"):
        act(agent, **force)
    assert agent.om.calls == []


@pytest.mark.parametrize("avail, refused", [("up", True), ("warn", True), ("stdby up", False)])
def test_a_resource_in_use_is_not_unprovisioned(agent, service, recorded, avail, refused):
    document = json.loads(recorded("opensvc-2.1", "full_daemon_status.json")["stdout"])
    document["monitor"]["nodes"]["demo1"]["services"]["status"][PATH]["avail"] = avail
    agent.om.says(["daemon", "status"], document)
    agent.om.says([PATH, "unprovision"])
    if refused:
        with pytest.raises(CommandExecutionError, match=f"is {avail} on demo1 and may use disk#3"):
            agent.unprovision(PATH, rids=["disk#3"], force=True)
    else:
        agent.unprovision(PATH, rids=["disk#3"], force=True)
    told = [[PATH, "unprovision", "--local", "--rid", "disk#3"]]
    assert agent.om.asked(PATH) == ([] if refused else told)


# --- Objects from files -----------------------------------------------------------------------------------------------------------------------


def test_an_object_is_created_from_a_file_without_its_old_identity(agent, recorded, tmp_path):
    source = tmp_path / "comp1.conf"
    source.write_text(recorded("opensvc-2.1", "print_config")["stdout"])
    assert "id = " in source.read_text()
    seen = {}

    def create(args):
        seen["text"] = pathlib.Path(args[args.index("--config") + 1]).read_text()
        (agent.etc / "namespaces/slapos/svc/comp1.conf").write_text(seen["text"])

    agent.om.says([PATH, "create"], then=create)
    agent.create(PATH, source=str(source))
    wanted = agent.config_read(str(source))
    assert "id" not in wanted["DEFAULT"]
    assert agent.config_show(PATH) == wanted


@pytest.mark.parametrize(
    "text, error",
    [
        (None, "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        (b"no section = 1\n", "comp1.conf"),
        (b"[fs 0]\na = 1\n", "no name of a section"),
        (b"[cluster]\nsecret = canary0123456789\n", "is a secret"),
    ],
)
def test_a_file_that_is_no_configuration_creates_nothing(agent, tmp_path, text, error):
    source = tmp_path / "comp1.conf"
    if text is not None:
        source.write_bytes(text)
    with pytest.raises((CommandExecutionError, SaltInvocationError), match=error) as caught:
        agent.create(PATH, source=str(source))
    assert CANARY not in str(caught.value)
    assert agent.om.calls == []
