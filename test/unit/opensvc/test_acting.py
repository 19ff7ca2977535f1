"""Which command each agent gets for each act, and that no secret is ever in one."""

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
    (lambda a: a.abort(PATH), "P abort", "P abort"),
    (lambda a: a.delete(PATH), "P delete", "P delete"),
    (lambda a: a.purge(PATH), "P purge", "P purge"),
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
]


@pytest.mark.parametrize("major", [2, 3])
@pytest.mark.parametrize("index", range(len(ACTS)))
def test_the_command_of_an_act(agent, service, index, major):
    agent.become(major)
    act, *commands = ACTS[index]
    wanted = commands[major - 2].replace("P ", PATH + " ", 1).split()
    agent.om.says(wanted[:2], "committed\n" if major == 3 else "", "W beware\n")
    assert act(agent) == {"warnings": ["beware"]}
    assert agent.om.calls[-1] == wanted


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
        lambda a: a.validate(PATH),
    ],
)
def test_nothing_is_done_to_an_object_that_is_not_there(agent, act):
    with pytest.raises(CommandExecutionError, match="there is no slapos/svc/comp1 on demo1"):
        act(agent)
    assert [call for call in agent.om.calls if call[0] == PATH] == []


@pytest.mark.parametrize(
    "act",
    [
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
    with pytest.raises(SaltInvocationError):
        agent.decode("slapos/sec/s", "key", __pub_fun="opensvc.decode")


def test_the_cluster_secret_is_not_for_jobs(agent):
    (agent.etc / "cluster.conf").write_text(f"[cluster]\nsecret = {CANARY}\n")
    assert agent.cluster_secret() == CANARY
    assert agent.cluster_secret(__pub_fun="slapos_ha.sealed_cluster_secret") == CANARY
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
    assert agent.validate(PATH) == {"valid": True, "remarks": []}
    agent.om.says([PATH, "validate"], "", "@ n:demo1\nW ignored section x\n", 1)
    assert agent.validate(PATH) == {"valid": True, "remarks": ["ignored section x"]}
    agent.om.says([PATH, "validate"], "", "E bad value\n", 1)
    assert agent.validate(PATH) == {"valid": False, "remarks": ["bad value"]}
    agent.om.says([PATH, "validate"], "", "Traceback\n", 1)
    with pytest.raises(CommandExecutionError):
        agent.validate(PATH)


def test_validation_by_agent_3(agent, service, recorded):
    agent.become(3)
    table = recorded("opensvc-3", "config_bad_kw")["stdout"].split("\n", 1)[1]
    agent.om.says([PATH, "config", "validate"], table)
    found = agent.validate(PATH)
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
    assert agent.decode("slapos/sec/s", "key") == CANARY


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


# --- Joining -------------------------------------------------------------------------------------------------------------------------------


OWN = "[DEFAULT]\nid = 7\n\n[cluster]\nnodes = demo1\nsecret = own\n"


@pytest.fixture
def alone(agent, recorded):
    """A node that is alone in its cluster."""
    document = json.loads(recorded("opensvc-2.1", "full_daemon_status.json")["stdout"])
    document["cluster"]["nodes"] = ["demo1"]
    document["monitor"]["nodes"].pop("demo2")
    agent.om.says(["daemon", "status"], document)
    agent.functions["slapos_ha.unseal"] = {"sealed": CANARY}.__getitem__
    agent.pillar.update({"opensvc": {"secret": CANARY}, "empty": ""})
    agent.conf = agent.etc / "cluster.conf"
    agent.conf.write_text(OWN)
    agent.conf.chmod(0o644)
    return agent


@pytest.mark.parametrize("how", [{"secret_sealed": "sealed"}, {"secret_pillar": "opensvc:secret"}])
def test_the_secret_goes_by_a_private_file_and_nowhere_else(alone, how, caplog):
    seen = {}

    def rejoin(args):
        seen.update(text=alone.conf.read_text(), mode=stat.S_IMODE(alone.conf.stat().st_mode))

    alone.om.says(["daemon", "rejoin"], then=rejoin)
    with caplog.at_level(logging.DEBUG):
        answer = alone.join("demo2", **how)
    assert alone.om.calls[-1] == ["daemon", "rejoin", "--node", "demo2"]
    assert seen == {"text": OWN.replace("own", CANARY), "mode": 0o600}
    assert CANARY not in json.dumps([alone.om.calls, answer]) + caplog.text


@pytest.mark.parametrize("frozen", [False, True])
def test_a_join_that_fails_leaves_the_node_as_it_was(alone, frozen):
    document = json.loads(alone.om.answers[0][1]["stdout"])
    document["monitor"]["nodes"]["demo1"]["frozen"] = 1795427886.0 if frozen else 0
    alone.om.says(["daemon", "status"], document)
    alone.om.says(["daemon", "rejoin"], "", f"E refused with {CANARY}\n", 1)
    alone.om.says(["node", "thaw"])
    with pytest.raises(
        CommandExecutionError, match="joining the cluster of demo2 failed"
    ) as caught:
        alone.join("demo2", secret_sealed="sealed")
    assert CANARY not in str(caught.value)
    assert alone.conf.read_text() == OWN
    # rejoin froze the node: what was not frozen before is thawed again
    assert len(alone.om.asked("node", "thaw")) == (0 if frozen else 1)


def test_a_file_that_the_agent_has_replaced_is_not_put_back(alone):
    new = "[cluster]\nnodes = demo1 demo2\n"
    alone.om.says(
        ["daemon", "rejoin"], "", "E late\n", 1, then=lambda args: alone.conf.write_text(new)
    )
    with pytest.raises(CommandExecutionError):
        alone.join("demo2", secret_sealed="sealed")
    assert alone.conf.read_text() == new
    assert alone.om.asked("node", "thaw") == []


@pytest.mark.parametrize("key", ["empty", "missing"])
def test_no_secret_is_said_before_anything_is_written(alone, key):
    with pytest.raises(CommandExecutionError, match=f"no cluster secret in pillar {key}"):
        alone.join("demo2", secret_pillar=key)
    assert alone.conf.read_text() == OWN


def test_agent_3_is_not_joined_by_a_token_on_a_command_line(alone):
    alone.become(3)
    with pytest.raises(CommandExecutionError, match="By hand"):
        alone.join("demo2", secret_sealed="sealed")
    assert alone.conf.read_text() == OWN
