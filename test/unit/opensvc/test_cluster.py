"""The cluster's settings, its nodes and who is in it; no secret is on a command line except agent 3's token of a minute."""

import json
import logging
import stat

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from salt.exceptions import CommandExecutionError

PATH = "slapos/svc/comp1"
CANARY = "canary0123456789"
# As long as a real one: RSA alone could not seal it.
TOKEN = f"eyJhbGciOiJSUzI1NiJ9.{'c2VjcmV0' * 700}.{CANARY}"


# --- Joining -------------------------------------------------------------------------------------------------------------------------------


OWN = "[DEFAULT]\nid = 7\n\n[cluster]\nnodes = demo1\nsecret = own\n"


@pytest.fixture
def alone(agent, recorded):
    """A node that is alone in its cluster."""
    document = json.loads(recorded("opensvc-2.1", "full_daemon_status.json")["stdout"])
    document["cluster"]["nodes"] = ["demo1"]
    document["monitor"]["nodes"].pop("demo2")
    agent.om.says(["daemon", "status"], document)
    agent.pillar.update({"opensvc": {"secret": CANARY}, "empty": ""})
    agent.conf = agent.etc / "cluster.conf"
    agent.conf.write_text(OWN)
    agent.conf.chmod(0o644)
    return agent


@pytest.fixture
def keys(alone, tmp_path):
    """The joining minion's key pair: the private one where its minion has it."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    (tmp_path / "pki").mkdir()
    (tmp_path / "pki/minion.pem").write_bytes(private)
    alone.opts["pki_dir"] = str(tmp_path / "pki")
    return (
        key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
    )


@pytest.fixture
def sealed(alone, keys):
    """What lets this node join, as the first node gives it."""
    return alone.module_opensvc_cluster.__utils__["opensvc_seal.seal"](CANARY, keys)


@pytest.mark.parametrize("how", ["secret_sealed", "secret_pillar"])
def test_the_secret_goes_by_a_private_file_and_nowhere_else(alone, how, sealed, caplog):
    seen = {}

    def rejoin(args):
        seen.update(text=alone.conf.read_text(), mode=stat.S_IMODE(alone.conf.stat().st_mode))

    alone.om.says(["daemon", "rejoin"], then=rejoin)
    with caplog.at_level(logging.DEBUG):
        answer = alone.join(
            "demo2", **{how: {"secret_sealed": sealed, "secret_pillar": "opensvc:secret"}[how]}
        )
    assert alone.om.calls[-1] == ["daemon", "rejoin", "--node", "demo2"]
    assert seen == {"text": OWN.replace("own", CANARY), "mode": 0o600}
    assert CANARY not in json.dumps([alone.om.calls, answer]) + caplog.text


@pytest.mark.parametrize("frozen", [False, True])
def test_a_join_that_fails_leaves_the_node_as_it_was(alone, frozen, sealed):
    document = json.loads(alone.om.answers[0][1]["stdout"])
    document["monitor"]["nodes"]["demo1"]["frozen"] = 1795427886.0 if frozen else 0
    alone.om.says(["daemon", "status"], document)
    alone.om.says(["daemon", "rejoin"], "", f"E refused with {CANARY}\n", 1)
    alone.om.says(["node", "thaw"])
    with pytest.raises(
        CommandExecutionError, match="joining the cluster of demo2 failed"
    ) as caught:
        alone.join("demo2", secret_sealed=sealed)
    assert CANARY not in str(caught.value)
    assert alone.conf.read_text() == OWN
    # rejoin froze the node: what was not frozen before is thawed again
    assert len(alone.om.asked("node", "thaw")) == (0 if frozen else 1)


def test_a_file_that_the_agent_has_replaced_is_not_put_back(alone, sealed):
    new = "[cluster]\nnodes = demo1 demo2\n"
    alone.om.says(
        ["daemon", "rejoin"], "", "E late\n", 1, then=lambda args: alone.conf.write_text(new)
    )
    with pytest.raises(CommandExecutionError):
        alone.join("demo2", secret_sealed=sealed)
    assert alone.conf.read_text() == new
    assert alone.om.asked("node", "thaw") == []


@pytest.mark.parametrize("key", ["empty", "missing"])
def test_no_secret_is_said_before_anything_is_written(alone, key):
    with pytest.raises(CommandExecutionError, match=f"no cluster secret in pillar {key}"):
        alone.join("demo2", secret_pillar=key)
    assert alone.conf.read_text() == OWN


# --- Joining, agent 3 ----------------------------------------------------------------------------------------------------------------------


def test_a_token_travels_sealed_and_is_shown_to_om_alone(alone, keys, recorded, caplog):
    alone.become(3)
    alone.om.says(["daemon", "auth"], TOKEN + "\n")
    alone.om.repeats(["cluster", "join"], recorded("opensvc-3", "join"))
    with caplog.at_level(logging.DEBUG):
        sealed = alone.sealed_join_secret(keys)
        answer = alone.join("demo2", secret_sealed=sealed, timeout=60)
    assert ["daemon", "auth", "--role", "join", "--duration", "60s"] in alone.om.calls
    assert alone.om.calls[-1] == [
        *("cluster", "join", "--node", "demo2", "--token", TOKEN, "--timeout", "60s")
    ]
    # It begins with a verb of 60 s; the process itself is given longer, since it restarts the daemon.
    assert alone.om.kwargs[-1]["timeout"] == 120
    assert "\n" not in sealed
    assert CANARY not in json.dumps([sealed, answer]) + caplog.text
    assert alone.conf.read_text() == OWN


def test_a_join_that_agent_3_refuses_does_not_show_the_token(alone, keys):
    alone.become(3)
    alone.pillar["token"] = TOKEN
    alone.om.says(["cluster", "join"], "", f"Error: command cluster join: bad {TOKEN}\n", 1)
    with pytest.raises(CommandExecutionError, match="joining the cluster of demo2") as caught:
        alone.join("demo2", secret_pillar="token")
    assert "bad (secret)" in str(caught.value)


@pytest.mark.parametrize("answer", ["", "Usage:\n", "not a token", f"{TOKEN}\n{TOKEN}"])
def test_an_answer_that_is_no_token_is_not_sealed(alone, keys, answer):
    alone.become(3)
    alone.om.says(["daemon", "auth"], answer)
    with pytest.raises(CommandExecutionError, match="returned no token") as caught:
        alone.sealed_join_secret(keys)
    assert CANARY not in str(caught.value)


def test_agent_3_does_not_join_with_a_secret_of_agent_2(alone, sealed):
    alone.become(3)
    with pytest.raises(CommandExecutionError, match="no token of agent 3.*sealed_join_secret"):
        alone.join("demo2", secret_sealed=sealed)
    with pytest.raises(CommandExecutionError, match="has no rejoin"):
        alone.rejoin("demo2")
    assert alone.om.asked("cluster", "join") == []
    assert alone.conf.read_text() == OWN


def test_the_secret_of_agent_2_travels_sealed_too(alone, keys):
    alone.conf.write_text(OWN.replace("own", CANARY))
    sealed = alone.sealed_join_secret(keys)
    assert CANARY not in sealed
    seen = {}
    alone.conf.write_text(OWN)
    alone.om.says(["daemon", "rejoin"], then=lambda args: seen.update(text=alone.conf.read_text()))
    alone.join("demo2", secret_sealed=sealed)
    assert seen["text"] == OWN.replace("own", CANARY)


def test_what_was_sealed_for_another_is_not_opened(alone, keys, tmp_path):
    sealed = alone.sealed_join_secret(keys)
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    (tmp_path / "pki/minion.pem").write_bytes(
        other.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    for text in (sealed, sealed[:-9], "opensvc:1:x", "opensvc:1:"):
        with pytest.raises(CommandExecutionError, match="not made for this minion"):
            alone.join("demo2", secret_sealed=text)
    with pytest.raises(CommandExecutionError, match="no sealed value"):
        alone.join("demo2", secret_sealed=CANARY)
    (tmp_path / "pki/minion.pem").unlink()
    with pytest.raises(CommandExecutionError, match="private key cannot be read"):
        alone.join("demo2", secret_sealed=sealed)
    with pytest.raises(CommandExecutionError, match="no public key"):
        alone.sealed_join_secret("ssh-rsa AAAA")
    assert alone.conf.read_text() == OWN


# --- Leaving -------------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def member(agent, recorded):
    """demo1 in a cluster with demo2, the service down and unprovisioned here."""
    document = json.loads(recorded("opensvc-2.1", "full_daemon_status.json")["stdout"])
    document["monitor"]["nodes"]["demo1"]["services"]["status"][PATH]["avail"] = "down"
    agent.om.says(["daemon", "status"], document)
    agent.document = document
    agent.conf = agent.etc / "cluster.conf"
    agent.conf.write_text("[cluster]\nnodes = demo1 demo2\nsecret = s\n")
    return agent


@pytest.mark.parametrize(
    "major, command",
    [(2, ["daemon", "leave"]), (3, ["cluster", "leave", "--timeout", "100s"])],
)
def test_a_node_leaves(member, recorded, major, command):
    member.become(major)
    status = json.loads(recorded("opensvc-3", "mon.json")["stdout"])
    status["cluster"]["node"]["demo1"]["instance"][PATH]["status"]["avail"] = "down"
    member.om.says(["cluster", "status"], status)
    member.om.says(command, then=lambda args: member.conf.write_text("[DEFAULT]\n"))
    member.leave(timeout=100)
    assert member.om.calls[-1] == command


@pytest.mark.parametrize(
    "avail, force, left",
    [
        ("up", False, False),
        ("up", True, True),
        ("stdby up", False, False),
        ("stdby down", False, True),
    ],
)
def test_a_node_with_services_leaves_only_by_force(member, avail, force, left):
    member.document["monitor"]["nodes"]["demo1"]["services"]["status"][PATH]["avail"] = avail
    member.om.says(["daemon", "status"], member.document)
    member.om.says(["daemon", "leave"], then=lambda args: member.conf.unlink())
    if left:
        member.leave(force=force)
    else:
        with pytest.raises(CommandExecutionError, match=f"{PATH} {avail}, idle"):
            member.leave(force=force)
    assert len(member.om.asked("daemon", "leave")) == left


def test_a_member_that_could_not_be_told_is_a_failure(member):
    """Agent 2.1 prints it and returns 0."""
    member.om.says(["daemon", "leave"], "", "@ n:demo1 sc:n\nE leave node demo2 failed\n")
    with pytest.raises(CommandExecutionError, match="leave node demo2 failed"):
        member.leave()


def test_a_leave_that_did_nothing_is_an_error(member):
    member.om.says(["daemon", "leave"])
    with pytest.raises(CommandExecutionError, match="still is in it with demo2"):
        member.leave()


def test_a_node_alone_has_nothing_to_leave(alone):
    with pytest.raises(CommandExecutionError, match="demo1 is alone"):
        alone.leave()
    assert alone.om.asked("daemon", "leave") == []


# --- Settings ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("major", [2, 3])
def test_secret_settings_go_by_the_file(alone, major, caplog):
    alone.become(major)
    alone.pillar["arbitrator"] = CANARY
    with caplog.at_level(logging.DEBUG):
        answer = alone.cluster_set(pillars={"arbitrator#1.secret": "arbitrator"})
    assert answer == {"warnings": []}
    assert alone.conf.read_text() == f"{OWN}[arbitrator#1]\nsecret = {CANARY}\n"
    assert stat.S_IMODE(alone.conf.stat().st_mode) == 0o600
    assert CANARY not in json.dumps(alone.om.calls) + caplog.text
    assert CANARY not in str(alone.config_show("cluster"))
    digest = alone.module_opensvc_config.hashlib.sha256(CANARY.encode()).hexdigest()
    assert alone.config_hash("cluster", "arbitrator#1.secret") == digest
    assert alone.config_hash("cluster", "arbitrator#2.secret") is None
    # What is there already is not written again.
    alone.conf.chmod(0o640)
    alone.cluster_set(pillars={"arbitrator#1.secret": "arbitrator"})
    assert stat.S_IMODE(alone.conf.stat().st_mode) == 0o640


@pytest.mark.parametrize("value", [None, "", " ", "two\nlines", 7, {"a": "b"}])
def test_a_secret_setting_that_is_no_line_sets_nothing(alone, value):
    alone.pillar["arbitrator"] = value
    with pytest.raises(CommandExecutionError, match="pillar arbitrator holds no line of text"):
        alone.cluster_set({"cluster.quorum": True}, {"arbitrator#1.secret": "arbitrator"})
    assert alone.conf.read_text() == OWN
    assert alone.om.asked("cluster", "set") == []


# --- Nodes ---------------------------------------------------------------------------------------------------------------------------------


def document_of(recorded, *steps):
    document = json.loads(recorded("opensvc-2.1", "full_daemon_status.json")["stdout"])
    for node, changes in steps:
        known = document["monitor"]["nodes"][node]
        for key, value in changes.items():
            if key == "state":
                known["monitor"]["status"] = value
            elif key == "avail":
                known["services"]["status"][PATH]["avail"] = value
            elif key == "arbitrators":
                known["arbitrators"] = value
            else:
                known[key] = value
    return document


FROZEN = {"frozen": 1795427886.0}


def test_a_drain_is_waited_for(agent, recorded, clock):
    drained = document_of(recorded, ("demo2", {**FROZEN, "avail": "down"}))
    agent.om.says(["daemon", "status"], drained)
    for changes in ({}, {**FROZEN, "state": "draining"}, {**FROZEN, "avail": "stdby up"}):
        agent.om.says(["daemon", "status"], document_of(recorded, ("demo2", changes)), once=True)
    found = agent.wait_nodes("drained", ["demo2"], timeout=60)
    assert found["value"] == {"demo2": "idle, frozen"}
    assert len(clock.slept) == 3


def test_a_wait_for_nodes_ends(agent, recorded, clock):
    agent.om.says(["daemon", "status"], document_of(recorded, ("demo2", FROZEN)))
    with pytest.raises(
        CommandExecutionError, match="the cluster is not frozen after 30 s: demo1 is idle, thawed"
    ):
        agent.wait_nodes("frozen", timeout=30)
    assert 30 <= clock.now - 1000 < 33
    agent.om.says(["daemon", "status"], "", "E comm error while connecting\n", 1)
    with pytest.raises(
        CommandExecutionError, match="demo2 is not idle after 0 s: .*does not answer"
    ):
        agent.wait_nodes("idle", ["demo2"], timeout=0)


def test_a_drain_that_failed_ends_the_wait_at_once(agent, recorded, clock):
    document = document_of(recorded, ("demo1", {**FROZEN, "avail": "up"}))
    one = document["monitor"]["nodes"]["demo1"]["services"]["status"][PATH]
    one["monitor"]["status"] = "shutdown failed"
    agent.om.says(["daemon", "status"], document)
    with pytest.raises(
        CommandExecutionError, match="demo1 cannot become drained: .*shutdown failed"
    ):
        agent.wait_nodes("drained", ["demo1"], timeout=600)
    assert clock.slept == []


def test_an_arbitrator_is_waited_for(agent, recorded, clock):
    up, down = (
        document_of(
            recorded,
            ("demo1", {"arbitrators": {"arbitrator#1": {"name": "demo3", "status": word}}}),
        )
        for word in ("up", "down")
    )
    agent.om.says(["daemon", "status"], up)
    agent.om.says(["daemon", "status"], down, once=True)
    assert agent.wait_arbitrator("arbitrator#1") == {"address": "demo3", "status": "up"}
    assert len(clock.slept) == 1
    agent.om.says(["daemon", "status"], down)
    with pytest.raises(CommandExecutionError, match="after 60 s: demo3 is down"):
        agent.wait_arbitrator("arbitrator#1", timeout=60)
    agent.om.says(["daemon", "status"], document_of(recorded))
    with pytest.raises(CommandExecutionError, match="the daemon asks none"):
        agent.wait_arbitrator("arbitrator#1", timeout=0)
    agent.om.says(["daemon", "status"])
    with pytest.raises(CommandExecutionError, match="does not answer"):
        agent.wait_arbitrator("arbitrator#1", timeout=0)
