"""What is asked of om, how often, and what is said when it cannot answer."""

import json
import os
import pathlib

import pytest
from salt.exceptions import CommandExecutionError, SaltInvocationError

PATH = "slapos/svc/comp1"
STATUS_2 = ["daemon", "status", "--format", "json"]
STATUS_3 = ["cluster", "status", "-o", "json"]


@pytest.fixture
def running(agent, recorded):
    """The daemon of agent 2.1 answers with the whole service."""
    agent.om.repeats(STATUS_2, recorded("opensvc-2.1", "full_daemon_status.json"))
    return agent


def moved(text, to, **instance):
    """The recorded answer with the service up on another node, or with the first instance changed."""
    document = json.loads(text)
    nodes = document["monitor"]["nodes"]
    for node, known in nodes.items():
        known["services"]["status"][PATH]["avail"] = "up" if node == to else "stdby up"
    nodes["demo1"]["services"]["status"][PATH]["monitor"].update(instance)
    return json.dumps(document)


# --- Which agent ----------------------------------------------------------------------------------------------------------------------


def test_agent_2_is_known_by_one_process_for_the_whole_job(agent):
    assert agent.version() == {"major": 2, "version": "2.1-1890"}
    assert agent.version() == {"major": 2, "version": "2.1-1890"}
    assert agent.om.calls == [["node", "--version"]]


def test_the_next_job_knows_the_agent_too(agent):
    agent.version()
    agent.context.clear()
    assert agent.version() == {"major": 2, "version": "2.1-1890"}
    assert agent.om.calls == [["node", "--version"]]


def rewritten(agent):
    """As a package does it: another file of the same name."""
    new = agent.program.with_name("new")
    new.write_text(agent.program.read_text())
    new.chmod(0o755)
    new.rename(agent.program)


def aged(agent):
    file = pathlib.Path(agent.opts["cachedir"]) / "slapos_ha/opensvc_version"
    kept = json.loads(file.read_text())
    file.write_text(json.dumps({**kept, "at": kept["at"] - 86401}))


def spoilt(agent):
    (pathlib.Path(agent.opts["cachedir"]) / "slapos_ha/opensvc_version").write_text("{")


@pytest.mark.parametrize("happens", [rewritten, aged, spoilt])
def test_the_next_job_asks_when_it_cannot_know(agent, happens):
    agent.version()
    happens(agent)
    agent.context.clear()
    agent.become(3)
    assert agent.version() == {"major": 3, "version": "3.0.0-rc21"}


def test_what_cannot_be_kept_is_asked_again(agent):
    agent.opts["cachedir"] = "/proc/no/such"
    for _ in range(2):
        agent.context.clear()
        assert agent.version()["major"] == 2
    assert len(agent.om.calls) == 2


def test_agent_3_is_known_by_its_refusal_and_its_own_way(agent):
    agent.become(3)
    assert agent.version() == {"major": 3, "version": "3.0.0-rc21"}
    assert agent.om.calls == [["node", "--version"], ["--version"]]


def test_an_agent_that_is_replaced_is_asked_again(agent):
    agent.version()
    os.utime(agent.program, (1, 1))
    agent.become(3)
    assert agent.version()["major"] == 3


def test_agent_2_run_from_its_source(agent):
    agent.om.says(["node", "--version"], "om node version dev\n")
    assert agent.version() == {"major": 2, "version": "dev"}


def test_no_agent_is_said_so(agent):
    agent.program.unlink()
    with pytest.raises(CommandExecutionError, match="not installed"):
        agent.version()
    with pytest.raises(CommandExecutionError, match="not installed"):
        agent.status(PATH)
    assert agent.om.calls == []


def test_some_other_om_is_refused(agent, recorded):
    help_text = recorded("opensvc-3", "version")
    agent.om.repeats(["node", "--version"], help_text)
    agent.om.repeats(["--version"], help_text)
    with pytest.raises(CommandExecutionError, match="no OpenSVC agent"):
        agent.version()


# --- The snapshot -----------------------------------------------------------------------------------------------------------------------


def test_each_question_asks_the_world(running):
    running.cluster_status()
    running.cluster_status()
    assert len(running.om.asked(*STATUS_2)) == 2


def test_states_of_one_run_share_an_answer(running):
    running.cluster_status(fresh=False)
    running.status(PATH, fresh=False)
    running.check(PATH, "started", fresh=False)
    assert running.om.calls == [["node", "--version"], STATUS_2]


def test_a_shared_answer_does_not_grow_old(running, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    running.cluster_status()
    now[0] += 14
    running.cluster_status(fresh=False)
    assert len(running.om.asked(*STATUS_2)) == 1
    now[0] += 2
    running.cluster_status(fresh=False)
    assert len(running.om.asked(*STATUS_2)) == 2


@pytest.mark.parametrize(
    "act",
    [
        lambda agent: agent.freeze(PATH),
        lambda agent: agent.start(PATH, rids=["app#0"]),
        lambda agent: agent.enable(PATH, ["app#0"]),
        lambda agent: agent.config_set(PATH, {"env.x": 1}),
        lambda agent: agent.node_thaw(),
        lambda agent: agent.rejoin("demo2"),
    ],
)
@pytest.mark.parametrize("code", [0, 1])
def test_after_an_act_nothing_is_shared(running, service, act, code):
    running.cluster_status()
    running.om.says([PATH], retcode=code)
    running.om.says(["node", "thaw"], retcode=code)
    running.om.says(["daemon", "rejoin"], retcode=code)
    try:
        act(running)
    except CommandExecutionError:
        assert code
    running.cluster_status(fresh=False)
    assert len(running.om.asked(*STATUS_2)) == 2


def test_agent_3_is_asked_in_its_own_way(agent, recorded):
    agent.become(3)
    agent.om.repeats(STATUS_3, recorded("opensvc-3", "mon.json"))
    assert agent.status(PATH)["avail"] == "up"
    assert agent.om.calls[-1] == STATUS_3


def test_absent_is_proven_and_silence_is_not_absence(running):
    assert running.status("slapos/svc/nosuch") is None
    assert running.instance_status(PATH, "demo3") is None
    assert running.resource_status(PATH, "nosuch#0") is None
    # Recorded with the daemon of agent 2.1 stopped: nothing at all, and 0.
    running.om.says(STATUS_2)
    with pytest.raises(CommandExecutionError, match="does not answer.*opensvc-agent"):
        running.status("slapos/svc/nosuch")
    running.om.says(
        STATUS_2,
        "",
        "E /var/lib/opensvc/lsnr/lsnr.sock comm error while connecting: [Errno 111]\n",
        1,
    )
    with pytest.raises(CommandExecutionError, match="the daemon does not answer.*systemctl start"):
        running.status("slapos/svc/nosuch")


def test_the_small_questions(running):
    assert running.instance_status(PATH)["avail"] == "up"
    assert running.instance_status(PATH, "demo2")["avail"] == "stdby up"
    assert running.resource_status(PATH, "fs#0")["status"] == "up"
    assert running.objects() == ["slapos/cfg/comp1", PATH, "slapos/vol/comp1-cfg"]
    assert running.heartbeats()["hb#1"]["rx"] == "running"
    assert set(running.nodes()) == {"demo1", "demo2"}


def test_a_member_that_does_not_answer_is_listed(agent, recorded):
    document = json.loads(recorded("opensvc-2.1", "full_daemon_status.json")["stdout"])
    del document["monitor"]["nodes"]["demo2"]
    agent.om.says(STATUS_2, document)
    assert agent.nodes()["demo2"] is None


@pytest.mark.parametrize(
    "major, out, code, runs",
    [(2, "", 0, True), (2, "", 1, False), (3, "demo1\n", 0, True), (3, "demo2\n", 0, False)],
)
def test_whether_the_daemon_runs(agent, major, out, code, runs):
    agent.become(major)
    agent.om.says(["daemon", "running"], out, "", code)
    assert agent.daemon_running() is runs


def test_a_daemon_question_that_fails_is_no_answer(agent):
    agent.om.says(["daemon", "running"], "", "Traceback\nImportError: x\n", 2)
    with pytest.raises(CommandExecutionError, match="ImportError: x"):
        agent.daemon_running()


def test_the_schedule(agent, service, recorded):
    agent.om.repeats(
        [PATH, "print", "schedule"], recorded("opensvc-2.1", "full_print_schedule.json")
    )
    assert any(item["rid"] == "task#collect" for item in agent.schedule(PATH))
    with pytest.raises(CommandExecutionError, match="there is no slapos/svc/other"):
        agent.schedule("slapos/svc/other")


# --- What om answers when it does not like the question --------------------------------------------------------------------------------------


def test_a_help_text_with_code_0_is_a_refusal(agent, recorded):
    agent.become(3)
    agent.om.repeats(STATUS_3, recorded("opensvc-3", "bad_action"))
    with pytest.raises(CommandExecutionError, match="does not know the action"):
        agent.cluster_status()


def test_a_command_that_hangs_is_ended(running):
    running.om.says(STATUS_2, "['/usr/bin/om', 'daemon'] : Timed out after 120 seconds", "", 1)
    with pytest.raises(CommandExecutionError, match="did not come back in 120 s"):
        running.cluster_status()


def test_om_speaks_english_and_keeps_out_of_the_log(running):
    running.cluster_status()
    for kwargs in running.om.kwargs:
        assert kwargs["env"] == {"LANG": "C", "LC_ALL": "C.UTF-8"}
        assert kwargs["output_loglevel"] == "quiet"
        assert "raise_err" not in kwargs
        assert kwargs["timeout"]


# --- Waiting ------------------------------------------------------------------------------------------------------------------------------


def test_a_goal_that_is_reached_costs_one_question_and_no_sleep(running, clock):
    assert running.wait(PATH, "placed", node="demo1")["done"] is True
    assert clock.slept == []


def test_it_waits_until_the_move_is_over(running, clock, recorded):
    text = recorded("opensvc-2.1", "full_daemon_status.json")["stdout"]
    running.om.says(STATUS_2, moved(text, "demo2"))
    for state in ("stopping", "stopping", "idle"):
        step = moved(text, "demo1", status=state, global_expect="placed@demo2")
        running.om.says(STATUS_2, step, once=True)
    found = running.wait(PATH, "placed", node="demo2", timeout=60)
    assert found["value"] == "demo2"
    assert len(clock.slept) == 3


def test_a_failure_ends_the_wait_at_once(running, clock, recorded):
    text = recorded("opensvc-2.1", "full_daemon_status.json")["stdout"]
    running.om.says(STATUS_2, moved(text, "demo1", status="stop failed"))
    with pytest.raises(CommandExecutionError, match="'stop failed'.*om slapos/svc/comp1 clear"):
        running.wait(PATH, "placed", node="demo2", timeout=600)
    assert clock.slept == []


def test_an_agent_that_has_given_up_is_not_waited_for(running, clock):
    with pytest.raises(CommandExecutionError, match="idle for 45 s"):
        running.wait(PATH, "placed", node="demo2", timeout=600)
    assert 45 <= clock.now - 1000 < 60


def test_the_deadline_ends_the_wait_with_what_was_seen(running, clock, recorded):
    text = recorded("opensvc-2.1", "full_daemon_status.json")["stdout"]
    running.om.says(STATUS_2, moved(text, "demo1", status="stopping"))
    with pytest.raises(
        CommandExecutionError, match="after 300 s. Seen last: up; demo1 up, stopping"
    ):
        running.wait(PATH, "placed", node="demo2", timeout=300)
    assert 300 <= clock.now - 1000 < 303


def test_a_daemon_that_restarts_is_waited_for(running, clock):
    running.om.says(STATUS_2, "", "E comm error while connecting: refused\n", 1, once=True)
    assert running.wait(PATH, "placed", node="demo1", timeout=60)["done"] is True
    assert len(clock.slept) == 1


def test_a_daemon_that_stays_away_is_said(running, clock):
    running.om.says(STATUS_2, "", "E comm error while connecting: refused\n", 1)
    with pytest.raises(CommandExecutionError, match="after 60 s.*does not answer"):
        running.wait(PATH, "placed", node="demo1", timeout=60)


def test_health_is_waited_for_with_patience(running, clock):
    """A check of an application is done every minute: an idle agent is no reason to give up."""
    with pytest.raises(CommandExecutionError, match="after 120 s"):
        running.wait(PATH, "healthy", timeout=120)


def test_a_nonsense_condition_is_not_waited_for(running, clock):
    with pytest.raises(SaltInvocationError):
        running.wait(PATH, "nice", timeout=600)
    assert clock.slept == []


def test_members_in_touch(running, clock):
    known = running.wait_member("demo2", ["hb#1"], "slapos", timeout=30)
    assert known["cluster"]["nodes"] == ["demo1", "demo2"]
    assert clock.slept == []
    with pytest.raises(CommandExecutionError, match="after 30 s: .*demo3 is no member"):
        running.wait_member("demo3", timeout=30)
