"""Which steps are to do for every way in which a deployment can have stopped, and what is wrong with a site that is deployed."""

import copy
import types

import pytest
import salt.key
from salt.exceptions import CommandExecutionError
from support import ROOT

from .world import STEPS, TASKS, World, gates_util, runner, site_util


@pytest.fixture
def world(defaults, example):
    return World(defaults, example)


def to_do(world):
    return [entry["step"] for entry in runner._plan(world.site()) if not entry["done"]]


def always(*steps):
    return [name for name in STEPS if name in {"software", "verify", *steps}]


def after(step):
    # Until there is a service to run, the node is looked at again.
    provisioned = STEPS.index(step) >= STEPS.index("provision")
    return always(*([] if provisioned else ["base"]), *STEPS[STEPS.index(step) + 1 :])


# How far a run came before it died, and what is left to do then.
STOPPED = [
    (lambda w: w, lambda: STEPS),
    (lambda w: w.cluster(), lambda: after("cluster")),
    (lambda w: w.cluster().service(), lambda: after("service")),
    (lambda w: w.cluster().service().drbd(), lambda: after("storage")),
    (lambda w: w.cluster().service().drbd("UpToDate"), lambda: after("sync")),
    (lambda w: w.cluster().service().drbd("UpToDate").on("demo1"), lambda: after("provision")),
    # The first node was lost before re6st was registered there: the agents moved the service, which has to come back.
    (lambda w: w.cluster().service().drbd("UpToDate").on("demo2"), lambda: always(*STEPS[STEPS.index("provision"):])),
    (lambda w: w.cluster().service().drbd("UpToDate").on("demo1").failed_to_provision("demo2"), lambda: always(*STEPS[STEPS.index("provision"):])),
    (lambda w: w.cluster().service().drbd("UpToDate").on("demo1").failed_to_provision("demo2").cleared("demo2"), lambda: always(*STEPS[STEPS.index("provision"):])),
    (lambda w: w.cluster().service().drbd("UpToDate").on("demo1").registered("re6st"), lambda: after("re6st_first")),
    # Killed on the second node before app#0 was enabled: the move is gone through again, and is none when the service is there.
    (lambda w: w.cluster().service().drbd("UpToDate").on("demo2").registered("re6st"), lambda: after("re6st_first")),
    (lambda w: w.cluster().service().drbd("UpToDate").on("demo2").registered("re6st").enabled("app#0"), lambda: after("re6st_second")),
    (lambda w: w.cluster().service().drbd("UpToDate").on("demo1").registered("re6st").enabled("app#0"), lambda: after("re6st_back")),
    # Registered, and dead before it had run.
    (lambda w: w.cluster().service().drbd("UpToDate").on("demo1").registered("re6st").enabled("app#0").registered("slapos", ran=False), lambda: after("re6st_back")),
    (lambda w: w.cluster().service().drbd("UpToDate").on("demo1").registered("re6st").enabled("app#0").registered("slapos", health=0), lambda: after("re6st_back")),
    (lambda w: w.cluster().service().drbd("UpToDate").on("demo1").registered("re6st").enabled("app#0").registered("slapos", health=2), lambda: after("re6st_back")),
    (lambda w: w.cluster().service().drbd("UpToDate").on("demo1").registered("re6st").enabled("app#0").registered("slapos"), lambda: after("slapos_first")),
    (lambda w: w.cluster().service().drbd("UpToDate").on("demo2").registered("re6st").registered("slapos").enabled("app#0", "app#1"), lambda: after("slapos_second")),
    (lambda w: w.cluster().service().drbd("UpToDate").on("demo1").registered("re6st").registered("slapos").enabled("app#0", "app#1"), lambda: after("slapos_back")),
    (lambda w: w.cluster().service().drbd("UpToDate").on("demo1").enabled("app#0", "app#1", *TASKS), lambda: after("tasks")),
    # Deployed, and moved by an operator since: a second run makes no move.
    (lambda w: w.cluster().service().drbd("UpToDate").on("demo2").enabled("app#0", "app#1", *TASKS), lambda: after("tasks")),
]  # fmt: skip


@pytest.mark.parametrize("build, left", STOPPED, ids=range(len(STOPPED)))
def test_what_is_left_to_do(world, build, left):
    build(world)
    assert to_do(world) == left()


def test_a_service_that_was_moved_before_its_first_registration_comes_back(world, monkeypatch):
    asked = []
    world.cluster().service().drbd("UpToDate").on("demo2")
    site = world.site()
    monkeypatch.setattr(site, "look", lambda applications: None)
    monkeypatch.setattr(site, "single", lambda on, what, *_, **__: asked.append((on, what)))
    runner._provision(site)
    assert asked == [("demo1", "opensvc.placed")]


# Agent 2.1 says "provision failed" when what it does at its end fails, and an operator may have cleared it.
@pytest.mark.parametrize("cleared", [False, True])
def test_what_a_failed_provision_left_on_the_second_node_is_stopped(world, monkeypatch, cleared):
    asked = []
    world.cluster().service().drbd("UpToDate").on("demo1").failed_to_provision("demo2")
    if cleared:
        world.cleared("demo2")
    site = world.site()
    monkeypatch.setattr(site, "look", lambda applications: None)
    monkeypatch.setattr(site, "single", lambda on, what, *_, **__: asked.append((on, what)))
    runner._provision(site)
    first = [] if cleared else [("demo1", "opensvc.cleared")]
    assert asked == [*first, ("demo2", "opensvc.standby")]


def test_a_node_whose_agent_is_gone_is_made_ready_again(world):
    world.cluster().service().drbd("UpToDate").on("demo1").enabled("app#0", "app#1", *TASKS)
    world.facts["demo2"]["cluster"] = {"error": "The OpenSVC agent is not installed"}
    assert to_do(world)[0] == "base"


@pytest.mark.parametrize("node", ["demo1", "demo2"])
def test_votes_that_the_pillar_has_since_are_set_without_a_move(world, node):
    world.cluster().service().drbd("UpToDate").on("demo1").enabled("app#0", "app#1", *TASKS)
    done = to_do(world)
    world.facts[node]["unset"] = ["arbitrator#1", "cluster.quorum"]
    assert to_do(world) == ["cluster", *done]


def test_the_orchestration_has_exactly_these_steps():
    text = (ROOT / "orch/deploy.sls").read_text()
    positions = [text.index(f"('{name}', ") for name in ["preflight", *STEPS]]
    assert positions == sorted(positions)
    assert text.count("\n  ('") == len(STEPS) + 1


@pytest.fixture
def healthy(world):
    return world.cluster().service().drbd("UpToDate").on("demo1").enabled("app#0", "app#1", *TASKS)


def test_nothing_is_wrong_on_a_healthy_site(healthy):
    assert gates_util.unhealthy(healthy.site()) == []


def resource(world, node="demo1"):
    return world.facts[node]["drbd"]["status"][world.shape["fqdn"]]


WRONG = [
    (lambda w: w.facts["demo1"].update(mounted=False), "mounted on neither node"),
    (lambda w: w.facts["demo2"].update(mounted=True), "mounted on demo1 and demo2"),
    (lambda w: resource(w, "demo2")["disk"][0].update(disk="Outdated"), "DRBD volume 0 on demo2 is Outdated"),
    (lambda w: w.object["instances"]["demo1"]["resources"]["app#1"].update(status="down", log=["error: watchdog is not RUNNING"]), "app#1 is 'down': error: watchdog is not RUNNING"),
    (lambda w: [i["resources"]["task#collect"].update(disable=True) for i in w.object["instances"].values()], "task#collect is disabled"),
    (lambda w: (w.object.update(frozen="mixed"), w.object["instances"]["demo2"].update(frozen=True)), "frozen on demo2 and would not fail over: om slapos/svc/comp1 thaw"),
    (lambda w: w.facts["demo2"]["cluster"]["heartbeats"]["hb#1"]["peers"]["demo1"].update(beating=False), "do not hear each other"),
]  # fmt: skip


@pytest.mark.parametrize("spoil, sentence", WRONG, ids=[sentence for _, sentence in WRONG])
def test_what_is_wrong_is_said(healthy, spoil, sentence):
    spoil(healthy)
    assert [line for line in gates_util.unhealthy(healthy.site()) if sentence in line]


@pytest.mark.parametrize("cut", [False, True])
def test_the_last_look_asks_drbd_before_it_waits_for_the_agents(healthy, monkeypatch, cut):
    asked = []
    healthy.object["overall"] = "warn"
    if cut:
        [connection] = resource(healthy)["connections"].values()
        connection.update(
            state="Connecting", volumes={0: {"replication": "Off", "disk": "DUnknown"}}
        )
    site = healthy.site()
    monkeypatch.setattr(site, "look", lambda: None)
    monkeypatch.setattr(site, "single", lambda on, what, *_, **__: asked.append((on, what)))
    monkeypatch.setattr(site, "call", lambda on, what, *_, **__: asked.append((on, what)))
    if cut:
        with pytest.raises(CommandExecutionError, match="demo1 is not connected|Connecting"):
            runner._verify(site)
    else:
        runner._verify(site)
    # A standby's warning that is over is ten minutes old at most, unless its agent looks now.
    look = (["demo1", "demo2"], "opensvc.refresh")
    assert asked == [
        *([("demo1", "drbd.synced")] if cut else []),
        look,
        ("demo1", "opensvc.healthy"),
    ]


@pytest.mark.parametrize("again", [False, True])
def test_the_last_look_gives_an_agent_a_minute_to_be_heard(healthy, monkeypatch, again):
    asked = []
    beat = healthy.facts["demo1"]["cluster"]["heartbeats"]["hb#1"]["peers"]["demo2"]
    beat["beating"] = False
    site = healthy.site()

    def call(on, function, *args, **kwargs):
        asked.append((on, function, args, kwargs))
        beat["beating"] = again
        return {"demo1": "whatever it says"}

    monkeypatch.setattr(site, "call", call)
    monkeypatch.setattr(site, "look", lambda applications=True: None)
    monkeypatch.setattr(site, "single", lambda on, what, *_, **__: asked.append((on, what)))
    if again:
        runner._verify(site)
    else:
        with pytest.raises(CommandExecutionError, match="do not hear each other"):
            runner._verify(site)
    first = (["demo1"], "opensvc.wait_member", ("demo2",), {"timeout": 60})
    look = (["demo1", "demo2"], "opensvc.refresh", ("slapos/svc/comp1",), {})
    assert asked == [first, *([look, ("demo1", "opensvc.healthy")] if again else [])]


# --- Finding the site --------------------------------------------------------------------------------------------------------------------


class Client:
    """Answers like LocalClient.cmd(full_return=True), which says of a minion that was expected and is silent what is below."""

    def __init__(self, answers, silent=()):
        self.answers, self.silent, self.asked = answers, silent, []

    def cmd(self, target, function, tgt_type, expect_minions, **kwargs):
        self.asked.append((target, tgt_type))
        said = {
            minion: {"ret": copy.deepcopy(answer), "retcode": 0}
            for minion, answer in self.answers.items()
        }
        for minion in self.silent if expect_minions else ():
            ret = "Minion did not return. [No response]\nThe minions may not have all finished running"
            said[minion] = {"out": "no_return", "ret": ret, "retcode": 1}
        return said


def snapshot(monkeypatch, answers, site=None, accepted=("demo1", "demo2")):
    monkeypatch.setattr(site_util, "_accepted_minions", lambda opts: list(accepted))
    return site_util._snapshot(Client(answers), {}, site, preflight=True)


def test_both_nodes_answer(monkeypatch, world):
    facts, problems = snapshot(monkeypatch, world.facts)
    assert sorted(facts) == ["demo1", "demo2"] and problems == []


def test_no_minion_has_the_pillar(monkeypatch):
    with pytest.raises(CommandExecutionError, match="no minion with pillar slapos_ha answered"):
        snapshot(monkeypatch, {})


def test_several_sites_and_none_chosen(monkeypatch, world):
    other = {**world.facts["demo2"], "site": "lyon"}
    with pytest.raises(CommandExecutionError, match="there are 2 sites: lyon, paris"):
        snapshot(monkeypatch, {"demo1": world.facts["demo1"], "demo2": other})


def test_a_site_that_is_not_there(monkeypatch, world):
    with pytest.raises(CommandExecutionError, match="'lyon' is not among the sites paris"):
        snapshot(monkeypatch, world.facts, site="lyon")


def test_a_node_that_is_no_minion(monkeypatch, world):
    _, problems = snapshot(monkeypatch, {"demo1": world.facts["demo1"]}, accepted=["demo1"])
    assert problems == [
        "slapos_ha:cluster:nodes:demo2: 'demo2' is no minion of this master (accepted: demo1); give its id as nodes:…:minion, or accept its key: salt-key"
    ]


def test_a_minion_that_does_not_answer(monkeypatch, world):
    _, problems = snapshot(monkeypatch, {"demo1": world.facts["demo1"]})
    assert len(problems) == 1 and "minion 'demo2' does not answer" in problems[0]


def test_a_silent_minion_of_a_site_that_was_named_is_waited_for_once(monkeypatch, world):
    monkeypatch.setattr(site_util, "_accepted_minions", lambda opts: ["demo1", "demo2"])
    client = Client({"demo1": world.facts["demo1"]}, silent=["demo2"])
    facts, problems = site_util._snapshot(client, {}, "paris")
    assert list(facts) == ["demo1"] and "minion 'demo2' does not answer" in problems[0]
    assert client.asked == [("slapos_ha:site:paris", "pillar")]


def test_a_site_of_which_nobody_answers_is_no_reason_to_ask_all_others():
    client = Client({}, silent=["demo2", "demo1"])
    with pytest.raises(CommandExecutionError) as error:
        site_util._snapshot(client, {}, "paris")
    assert str(error.value).splitlines() == [
        "site paris: minion 'demo1' does not answer",
        "site paris: minion 'demo2' does not answer",
    ]
    assert error.value.remedy.endswith("salt -L demo1,demo2 test.ping")
    assert client.asked == [("slapos_ha:site:paris", "pillar")]


def test_modules_that_are_not_synced(monkeypatch):
    with pytest.raises(CommandExecutionError, match="demo1: 'slapos_ha.facts' is not available"):
        snapshot(monkeypatch, {"demo1": "'slapos_ha.facts' is not available."})


class Lacking(Client):
    """Minions of which some lack functions until they are synced and have loaded what came."""

    def __init__(self, answers, lacking):
        super().__init__(answers)
        self.lacking, self.said = lacking, []

    def cmd(self, target, function, **kwargs):
        self.said.append((function, target, kwargs["kwarg"]))
        if function == "saltutil.refresh_modules" and kwargs["kwarg"] == {"async": False}:
            self.lacking = {}
        said = super().cmd(target, function, **kwargs)
        for minion, answer in self.lacking.items():
            said[minion] = {"ret": answer, "retcode": 0}
        return {
            minion: said[minion]
            for minion in said
            if kwargs["tgt_type"] != "list" or minion in target
        }


@pytest.mark.parametrize(
    "lacks",
    ["'slapos_ha.facts' is not available.", {"agent": {"error": "opensvc.version is not on this minion", "unsynced": True}}, {"drbd": {"version": {"error": "x", "unsynced": True}, "status": None}}, {"unsynced": True}],
    ids=["everything", "a module", "a module below drbd", "what no fact asks for"],
)  # fmt: skip
def test_a_minion_that_lacks_modules_is_given_them_by_the_preflight(monkeypatch, world, lacks):
    monkeypatch.setattr(site_util, "_accepted_minions", lambda opts: ["demo1", "demo2"])
    if isinstance(lacks, dict):
        problem = {"problems": ["opensvc.version is not on this minion"]}
        lacks = {**world.facts["demo2"], **problem, **lacks}
    client = Lacking(world.facts, {"demo2": lacks})
    facts, problems = site_util._snapshot(client, {}, "paris", preflight=True)
    assert problems == [] and "synced" not in facts["demo1"] and facts["demo2"]["synced"] is True
    asked = {"preflight": True, "applications": True}
    assert client.said == [
        ("slapos_ha.facts", "slapos_ha:site:paris", asked),
        ("saltutil.sync_all", ["demo2"], {}),
        ("saltutil.refresh_modules", ["demo2"], {"async": False}),
        ("slapos_ha.facts", ["demo2"], asked),
    ]


def test_only_the_preflight_gives_modules(monkeypatch, world):
    monkeypatch.setattr(site_util, "_accepted_minions", lambda opts: ["demo1", "demo2"])
    client = Lacking(world.facts, {"demo2": {**world.facts["demo2"], "agent": {"error": "x", "unsynced": True}}})  # fmt: skip
    site_util._snapshot(client, {}, "paris")
    assert [function for function, *_ in client.said] == ["slapos_ha.facts"]


# As Salt 3007 answers on a host whose disk is full, shortened.
CRASHED = """The minion function caused an exception: Traceback (most recent call last):
  File "/opt/salt/lib/python3.11/site-packages/salt/utils/files.py", line 362, in wait_lock
    yield
OSError: [Errno 28] No space left on device

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/opt/salt/lib/python3.11/site-packages/salt/minion.py", line 2970, in _thread_return
OSError: [Errno 28] No space left on device: '/var/cache/salt/minion/files/base/top.sls'
"""


def test_what_salt_itself_could_not_do_is_said_without_its_traceback(world, monkeypatch):
    site = world.site()
    monkeypatch.setattr(site, "call", lambda *_, **__: {"demo1": CRASHED})
    with pytest.raises(CommandExecutionError) as error:
        site.states(["demo1"], "state.sls", "slapos_ha.base")
    assert str(error.value) == (
        "demo1: state.sls slapos_ha.base: OSError: [Errno 28] No space left on device: '/var/cache/salt/minion/files/base/top.sls' (see the minion's log)"
    )


def test_different_agents(monkeypatch, world):
    world.facts["demo2"]["agent"] = {"major": 2, "version": "2.1-1880"}
    _, problems = snapshot(monkeypatch, world.facts)
    assert problems == [
        "the OpenSVC agent is 2.1-1890 on demo1 and 2.1-1880 on demo2; install one version on both"
    ]


def test_different_agents_by_force(monkeypatch, world):
    world.facts["demo2"]["agent"] = {"major": 2, "version": "2.1-1880"}
    monkeypatch.setattr(site_util, "_accepted_minions", lambda opts: [])
    answer = site_util._snapshot(Client(world.facts), {}, None, True, ["versions"])
    assert answer[1] == []


def test_problems_of_a_node_are_named_by_minion(monkeypatch, world):
    _, problems = snapshot(
        monkeypatch,
        {**world.facts, "demo2": {"site": None, "problems": ["slapos_ha:colour: unknown key"]}},
    )
    assert problems == ["demo2: slapos_ha:colour: unknown key"]


def test_what_both_nodes_say_is_one_problem(monkeypatch, world):
    same = {"site": "paris", "problems": ["slapos_ha:colour: unknown key"]}
    other = {"site": "paris", "problems": [*same["problems"], "IPv6 is off"]}
    _, problems = snapshot(monkeypatch, {"demo1": same, "demo2": other})
    assert problems == ["demo1 and demo2: slapos_ha:colour: unknown key", "demo2: IPv6 is off"]


def test_what_om_takes_for_a_look_is_the_agents_time(world, monkeypatch):
    """Of both nodes, which are asked at once, the longer."""
    world.facts["demo1"]["agent_seconds"], world.facts["demo2"]["agent_seconds"] = 3.0, 2.0
    assert world.site().agent_seconds == 3.0
    monkeypatch.setattr(site_util, "_snapshot", lambda *_, **__: (world.facts, []))
    site = site_util._Site(None, {}, world.shape)
    assert site.agent_seconds == 0.0
    site.look()
    site.look()
    assert site.agent_seconds == 6.0


def test_the_key_to_seal_for_is_the_masters_copy(world, monkeypatch):
    """Whose key was not accepted has not answered the preflight; should it be taken away meanwhile, nothing is sealed for anybody else."""
    accepted = {"demo2": "-----BEGIN PUBLIC KEY-----"}
    keys = types.SimpleNamespace(key_str=lambda match: {"minions": accepted, "minions_pre": {match: "another"}})  # fmt: skip
    monkeypatch.setattr(salt.key, "get_key", lambda opts: keys)
    site = site_util._Site(None, {}, world.shape)
    assert site.public_key("demo2") == "-----BEGIN PUBLIC KEY-----"
    del accepted["demo2"]
    with pytest.raises(CommandExecutionError, match="minion demo2 has no accepted key"):
        site.public_key("demo2")
