"""Which steps of a teardown are to do, in which order they talk to the nodes, what is refused before anything, and what is said in the end."""

import copy
import re

import pytest
import yaml
from salt.exceptions import CommandExecutionError
from support import ROOT, load_module

from .world import UTILS, World

RUNNER = load_module("_runners/slapos_ha_teardown.py", __utils__=UTILS)
FILE = "/opt/comp1.slapos.svc.paris.img"
LV = "/dev/comp1.slapos.svc.paris/comp1"


def line(concern, kind, name, stays=None):
    return {
        "concern": concern, "kind": kind, "name": name, "what": f"{kind} {name}", "now": "there", "stays": stays,
    }  # fmt: skip


EVERYTHING = [
    line("mounts", "mount", "/srv/comp1.slapos.svc.paris"),
    line("service", "service", "slapos/svc/comp1"),
    line("service", "launchers", "slapos/cfg/comp1"),
    line("drbd", "DRBD resource", "comp1.slapos.svc.paris"),
    line("data", "logical volume", LV),
    line("data", "loop device", "/dev/loop0"),
    line("data", "loop file", FILE),
    line("units", "mask of", "drbd.service"),
    line("software", "environment", "/opt/re6st"),
    line("users", "user", "slapuser1"),
    line("users", "user", "slapuser0"),
    line("cluster", "membership of cluster", "paris"),
]


class Site:
    """Two nodes that say what is left on them, and note what is done to them."""

    def __init__(self, shape, left):
        self.shape, self.nodes, self.left = shape, shape["nodes"], left
        self.changes, self.notes, self.agent_seconds = {}, [], 0.0
        self.done = []
        self.sees = {node: list(self.nodes) for node in self.nodes}
        self.problems = {node: [] for node in self.nodes}
        self.comment = "Removed"

    def call(self, on, function, concern, destroy):
        assert function == "slapos_node.remains"
        return {
            node: {
                "node": node,
                "items": copy.deepcopy(self.left[node]),
                "problems": self.problems[node],
                "sees": self.sees[node],
            }
            for node in on
        }

    def states(self, on, function, sls, pillar=None):
        self.done.append((on, sls, (pillar or {}).get("slapos_ha_destroy_data")))
        return {node: {"slapos_node_|-x_|-x_|-removed": {"comment": self.comment}} for node in on}


@pytest.fixture
def site(defaults, example):
    shape = World(defaults, example).shape
    return Site(shape, {node: copy.deepcopy(EVERYTHING) for node in ("demo1", "demo2")})


def preflight(site, destroy=None):
    said, plan = RUNNER._preflight(site, destroy)
    return said, {entry["step"]: entry for entry in plan}


def test_everything_is_to_do_on_a_deployed_site(site):
    said, plan = preflight(site, "comp1")
    assert [name for name, entry in plan.items() if entry["done"]] == []
    assert [name for name, entry in plan.items() if entry["always"]] == ["verify"]
    assert said.startswith(
        "site paris: demo1 and demo2, service slapos/svc/comp1, its data INCLUDED"
    )
    assert "goes: demo2: user slapuser1, slapuser0" in said.splitlines()
    assert plan["data"]["what"] == (
        f"the data is gone from both nodes (demo1: logical volume {LV}; demo1: loop device /dev/loop0; demo1: loop file {FILE}; "
        f"demo2: logical volume {LV}; demo2: loop device /dev/loop0; demo2: loop file {FILE})"
    )


def test_a_step_that_one_node_needs_is_to_do(site):
    site.left["demo1"] = []
    site.left["demo2"] = [line("users", "user", "slapsoft")]
    _, plan = preflight(site)
    assert [name for name, entry in plan.items() if not entry["done"]] == ["users", "verify"]


def test_a_service_that_is_down_already_is_stopped_all_the_same(site):
    """Whether it is really down only the agent can say, and the step says it of itself."""
    site.left = {node: [EVERYTHING[1]] for node in site.nodes}
    assert preflight(site)[1]["stopped"]["done"] is False
    site.left = {node: [line("service", "agent's notes", "/var/lib/x")] for node in site.nodes}
    plan = preflight(site)[1]
    assert plan["stopped"]["done"] is True and plan["service"]["done"] is False


def test_a_second_run_says_that_nothing_is_left(site):
    site.left = {node: [] for node in site.nodes}
    site.sees = {node: [node] for node in site.nodes}
    said, plan = preflight(site, "comp1")
    assert said.splitlines()[1:] == ["nothing of site paris is left on demo1 and demo2"]
    assert [name for name, entry in plan.items() if not entry["done"]] == ["verify"]


def test_data_that_is_kept_is_said_and_is_no_step(site):
    for node in site.nodes:
        for one in site.left[node]:
            if one["concern"] == "data":
                one["stays"] = "kept: destroy_data is not 'comp1'"
    said, plan = preflight(site)
    assert "its data kept" in said
    assert f"demo1: loop file {FILE} stays: kept: destroy_data is not 'comp1'" in said
    assert plan["data"] == {
        "step": "data", "what": "the data is kept", "done": True, "always": False,
    }  # fmt: skip


# --- Refused before anything ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["comp2", "", "slapos/svc/comp1", True])
def test_another_name_is_refused(site, name):
    with pytest.raises(CommandExecutionError) as error:
        preflight(site, name)
    assert f"destroy_data: {name!r} is not the name of this site's service, 'comp1'" in str(
        error.value
    )
    assert "Nothing was changed." in error.value.remedy and site.done == []


def test_a_service_of_another_site_is_refused(site):
    site.left["demo2"][1]["stays"] = "it is not this site's (env.slapos_ha_site is 'rome')"
    with pytest.raises(CommandExecutionError, match="demo2: service slapos/svc/comp1 stays: it is"):
        preflight(site)


def test_agents_that_do_not_hear_each_other_are_refused(site):
    site.sees["demo1"] = ["demo1"]
    with pytest.raises(CommandExecutionError) as error:
        preflight(site)
    assert "the agent of demo1 does not hear demo2" in str(error.value)
    assert "Nothing was changed" in error.value.remedy


def test_what_cannot_be_asked_is_refused_all_at_once(site):
    site.problems = {"demo1": ["data: LVM cannot be asked"], "demo2": ["cluster: no answer"]}
    with pytest.raises(CommandExecutionError) as error:
        preflight(site)
    assert str(error.value).splitlines() == [
        "demo1: data: LVM cannot be asked", "demo2: cluster: no answer",
    ]  # fmt: skip


def test_an_answer_that_is_an_error_is_refused(site):
    site.call = lambda *_: {"demo1": "ERROR: x\n'slapos_node.remains' is not available."}
    with pytest.raises(CommandExecutionError) as error:
        preflight(site)
    assert "'slapos_node.remains' is not available" in str(error.value)
    assert "saltutil.sync_all" in error.value.remedy


# --- What is done ---------------------------------------------------------------------------------------------------------------------------------


def act(site, name, destroy=None):
    {step: one for step, _, _, one in RUNNER._STEPS}[name](site, destroy)
    return site.done


@pytest.mark.parametrize(
    "name, order",
    [
        ("stopped", [["demo1"], ["demo2"]]),
        ("service", [["demo1"], ["demo2"]]),
        ("drbd", [["demo1", "demo2"]]),
        ("data", [["demo1", "demo2"]]),
        ("units", [["demo1", "demo2"]]),
        ("software", [["demo1", "demo2"]]),
        ("users", [["demo1", "demo2"]]),
        ("cluster", [["demo2"], ["demo1"]]),
    ],
)
def test_in_which_order_the_nodes_are_told(site, name, order):
    assert act(site, name) == [(on, f"slapos_ha.removed.{name}", None) for on in order]
    assert (ROOT / f"slapos_ha/removed/{name}.sls").exists()


@pytest.mark.parametrize("name", ["data", "units", "users"])
def test_the_word_reaches_what_needs_it(site, name):
    assert act(site, name, "comp1")[0][2] == "comp1"


def test_what_stays_is_in_the_steps_comment(site):
    site.comment = "Nothing is left to remove; user slapsoft stays: /home/x is its"
    act(site, "users")
    assert site.notes == [f"{node}: {site.comment}" for node in site.nodes]


def test_the_end_of_a_destroying_teardown(site):
    site.left = {node: [] for node in site.nodes}
    act(site, "verify", "comp1")
    assert site.notes[0] == "nothing of site paris is left on demo1 and demo2"
    assert len(site.notes) == 2
    assert "packages stay installed" in site.notes[1]
    assert "computer comp1 at https://panel.rapid.space/ are not revoked" in site.notes[1]


def kept(*kinds):
    return [line("data", kind, name, "kept") for kind, name in kinds]


@pytest.mark.parametrize(
    "left, words",
    [
        (kept(("loop device", "/dev/loop0"), ("loop file", FILE), ("logical volume", LV)), f"is kept in {FILE}, {LV} on demo1 and demo2. To look at it, on one of them: drbdadm up comp1.slapos.svc.paris; "),
        (kept(("loop file", FILE)), f"on one of them: losetup --find {FILE}; vgchange -ay comp1.slapos.svc.paris; drbdadm up"),
        (kept(("logical volume", "/dev/data/comp1")), "is kept in /dev/data/comp1 on"),
    ],
)  # fmt: skip
def test_the_end_of_one_that_keeps_the_data(site, left, words):
    site.left = {node: copy.deepcopy(left) for node in site.nodes}
    act(site, "verify")
    said = "\n".join(site.notes)
    assert words in said and "mount /dev/drbd0 /mnt" in said
    assert """orch.teardown pillar='{"slapos_ha": {"destroy_data": "comp1"}}'""" in said
    assert "nothing else of site paris is left" in said


def test_the_end_is_not_reached_with_something_left(site):
    site.left = {"demo1": [], "demo2": [line("users", "user", "slapsoft")]}
    with pytest.raises(CommandExecutionError, match="still there:\ndemo2: user slapsoft"):
        act(site, "verify")


def test_an_unknown_step():
    answer = RUNNER.teardown_step("destroyed")
    assert answer["result"] is False
    assert "the steps: preflight, stopped, service, drbd, data" in answer["comment"]


# --- The orchestration's list ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [{}, {"destroy_data": "comp1", "site": "paris", "steal": True}])
def test_the_orchestration_has_the_runners_steps_in_its_order(given):
    jinja2 = pytest.importorskip("jinja2")
    import json

    env = jinja2.Environment(extensions=["jinja2.ext.do"])
    env.filters["json"] = json.dumps
    text = env.from_string((ROOT / "orch/teardown.sls").read_text()).render(
        salt={"pillar.get": lambda key, default=None: given}
    )
    steps = list(yaml.safe_load(text).values())
    told = [{k: v for part in one["slapos_ha.step"] for k, v in part.items()} for one in steps]
    assert [one["step"] for one in told] == ["preflight", *(name for name, *_ in RUNNER._STEPS)]
    assert {one["runner"] for one in told} == {"slapos_ha.teardown_step"}
    assert all(one["options"] == {"destroy_data": given.get("destroy_data")} for one in told)
    titles = list(yaml.safe_load(text))
    assert any(re.match("The data is gone", title) for title in titles) is bool(given)
    for before, one in zip(titles, told[1:], strict=False):
        assert one["require"] == [{"slapos_ha": before}]
