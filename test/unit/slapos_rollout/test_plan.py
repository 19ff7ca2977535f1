"""A rollout on paper: arguments, sites, waves and budget."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st
from salt.exceptions import CommandExecutionError
from support import load_module

rollout = load_module("_utils/slapos_rollout.py")
site_util = load_module("_utils/slapos_site.py")


def options(what="deploy", **given):
    return rollout.options(what, {"sites": "*", **given})


# --- Arguments ------------------------------------------------------------------------------------------------------------------------------


def test_defaults():
    chosen = options()
    assert chosen["only_differing"] is True and chosen["concurrency"] == 5
    assert chosen["waves"] == ["100%"] and chosen["budget"] == 0 and chosen["report"] is None
    assert options("teardown")["only_differing"] is False
    # Text with commas, as a shell gives it.
    assert rollout.options("orch.deploy", {"sites": "paris, lyon"})["sites"] == ["paris", "lyon"]


@pytest.mark.parametrize(
    ("what", "given", "said"),
    [
        ("reboot", {}, "what: 'reboot' cannot be rolled out; give one of deploy, teardown, recover_split_brain, status, plan"),
        ("deploy", {"concurency": 3}, "concurency: there is no such argument; there are sites, pillar,"),
        ("deploy", {"concurrency": 0}, "concurrency: 0 is not right; give how many sites at once, a whole number of at least 1"),
        ("deploy", {"concurrency": True}, "concurrency: True is not right"),
        ("deploy", {"budget": "120%"}, "budget: '120%' is not right; give how many sites may fail, a number or a share of them from 0% to 100%"),
        ("deploy", {"budget": -1}, "budget: -1 is not right"),
        ("deploy", {"waves": [1, "0%"]}, "waves: [1, '0%'] is not right"),
        ("deploy", {"waves": []}, "waves: [] is not right"),
        ("deploy", {"deadline": "1h"}, "deadline: '1h' is not right; give seconds"),
        ("deploy", {"only_differing": "yes"}, "only_differing: 'yes' is not right; give true or false"),
        ("deploy", {"report": "reports"}, "report: 'reports' is not right; give an absolute path"),
        ("deploy", {"grain": "Debian"}, "grain: 'Debian' is not right; give a grain and its value: os:Debian"),
        ("deploy", {"sites": None}, "sites: missing; name them, or give '*' for all"),
        ("teardown", {"only_differing": True}, "only_differing: true is for deploy; leave it out for teardown"),
        ("teardown", {"arguments": {"destroy_data": "c"}}, "arguments: destroy_data is said site by site: site_arguments: {<site>: {destroy_data: …}}"),
        ("recover_split_brain", {"arguments": {"victim": "a"}}, "arguments: victim is said site by site"),
        ("deploy", {"arguments": {"token": "x"}}, "arguments: deploy takes no token; it takes force"),
        ("status", {"site_arguments": {"paris": {"x": 1}}}, "site_arguments:paris: status takes no x; it takes none"),
    ],
)  # fmt: skip
def test_what_is_not_right_is_one_clear_error(what, given, said):
    with pytest.raises(CommandExecutionError) as error:
        options(what, **given)
    assert len(str(error.value).splitlines()) == 1
    assert str(error.value).startswith(said)
    assert error.value.remedy == "Nothing was started."


def test_several_that_are_not_right_are_told_at_once():
    with pytest.raises(CommandExecutionError) as error:
        options(concurrency=0, budget="120%")
    assert [line.split(":")[0] for line in str(error.value).splitlines()] == [
        "concurrency",
        "budget",
    ]


def test_what_is_started_for_a_site():
    chosen = options("teardown", site_arguments={"paris": {"destroy_data": "comp1"}})
    assert rollout.request(chosen, "paris") == (
        "state.orch",
        {
            "mods": "orch.teardown",
            "pillar": {"slapos_ha": {"site": "paris", "destroy_data": "comp1"}},
        },
    )
    assert rollout.request(chosen, "lyon", look=True) == (
        "slapos_ha.teardown_step",
        {"name": "preflight", "site": "lyon"},
    )
    assert rollout.request(options("status"), "lyon", look=True) == (
        "slapos_ha.status",
        {"site": "lyon"},
    )


# --- Sites ----------------------------------------------------------------------------------------------------------------------------------


def facts(site, node, nodes, **changed):
    shape = {
        "site": site,
        "nodes": nodes,
        "fqdn": site,
        "cluster": {"nodes": {name: {"minion": name} for name in nodes}},
    }
    return {"site": site, "node": node, "problems": [], "shape": shape, **changed}


def heard(**sites):
    """What all minions say: {site: number of nodes that do}."""
    found = {"facts": {}, "matches": {}, "broken": {}, "silent": [], "accepted": []}
    for site, number in sites.items():
        nodes = [f"{site}1", f"{site}2"]
        found["accepted"] += nodes
        found["silent"] += nodes[number:]
        for node in nodes[:number]:
            found["facts"][node] = facts(site, node, nodes)
            found["matches"][node] = True
    return found


def census(said, **compiled):
    return rollout.census(said, compiled, site_util.of_site, site_util.pillars_apart)


def test_minions_become_sites():
    sites, stray = census(heard(paris=2, lyon=2))
    assert {name: sorted(site["facts"]) for name, site in sites.items()} == {
        "lyon": ["lyon1", "lyon2"],
        "paris": ["paris1", "paris2"],
    }
    assert not stray and not any(site["problems"] for site in sites.values())
    assert {site["matches"] for site in sites.values()} == {True}


def test_a_silent_node_is_named_once():
    sites, _ = census(heard(paris=1), paris2="paris")
    (problem,) = sites["paris"]["problems"]
    assert "minion 'paris2' does not answer" in problem


def test_a_site_of_which_nothing_is_heard_is_known_from_the_masters_pillar():
    sites, stray = census(heard(paris=0, lyon=2), paris1="paris", paris2="paris")
    assert sites["paris"]["problems"] == [
        "minion paris1: does not answer",
        "minion paris2: does not answer",
    ]
    assert sites["paris"]["facts"] == {} and stray == []


def test_a_silent_minion_of_somebody_else_is_in_nobodys_way():
    said = heard(paris=2)
    said["silent"].append("mail")
    sites, stray = census(said, mail=None)
    assert list(sites) == ["paris"] and not sites["paris"]["problems"] and not stray


def test_other_sites_with_something_wrong():
    said = heard(paris=2, lyon=2, nice=2)
    said["facts"]["paris2"]["problems"] = ["slapos_ha:drbd:port: 80 is not right"]
    said["broken"]["lyon2"] = "'slapos_ha.facts' is not available."
    del said["facts"]["lyon2"]
    extra = facts("nice", "nice1", ["nice1", "nice2"])
    said["facts"]["nice3"], said["matches"]["nice3"] = extra, True
    said["facts"]["odd"] = {"site": None, "problems": ["slapos_ha: missing"]}
    sites, stray = census(said, lyon2="lyon")
    assert sites["paris"]["problems"] == ["paris2: slapos_ha:drbd:port: 80 is not right"]
    assert "minion lyon2: 'slapos_ha.facts' is not available." in sites["lyon"]["problems"]
    assert sites["nice"]["problems"] == [
        "3 minions have this site in their pillar: nice1, nice2, nice3; a site has two"
    ]
    assert stray == ["minion odd: slapos_ha: missing"]


def test_a_node_whose_pillar_names_another_site():
    said = heard(paris=2)
    said["facts"]["paris2"] = facts("pariss", "paris2", ["paris1", "paris2"])
    sites, _ = census(said)
    assert sites["paris"]["problems"] == [
        "only paris1 has this site in its pillar; target it at both nodes"
    ]
    assert sites["pariss"]["problems"] == [
        "only paris2 has this site in its pillar; target it at both nodes"
    ]


@given(st.dictionaries(st.sampled_from(["a", "b", "c", "d", "e"]), st.integers(0, 2)))
def test_every_minion_is_counted_once(numbers):
    said = heard(**numbers)
    sites, stray = census(said, **{minion: minion[:-1] for minion in said["silent"]})
    assert set(sites) == set(numbers) and not stray
    for name, number in numbers.items():
        assert len(sites[name]["facts"]) == number
        assert bool(sites[name]["problems"]) == (number < 2)


def test_sites_are_chosen_by_name_glob_and_test():
    said = heard(paris=2, lyon=2, nice=2)
    said["matches"].update(lyon1=False, lyon2=False, nice2=False)
    sites, _ = census(said)
    canaries, others, remarks = rollout.choose(options(canary="par*"), sites)
    assert (canaries, others, remarks) == (["paris"], ["lyon", "nice"], [])
    assert rollout.choose(options(sites="[ln]*"), sites)[1] == ["lyon", "nice"]
    canaries, others, remarks = rollout.choose(options(sites=None, grain="os:Debian"), sites)
    assert others == ["paris"]
    assert remarks == [
        "site nice is left out: one of its nodes fits the pillar or grain, and the other does not"
    ]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"sites": "mars*"}, "sites: 'mars*' is no site, and fits none; the sites of this master: lyon, paris"),
        ({"sites": "lyon", "canary": "paris"}, "canary: 'paris' is not among the chosen sites: lyon"),
        ({"sites": "lyon", "site_arguments": {"paris": {}}}, "site_arguments: 'paris' is not among the chosen sites: lyon"),
        ({"sites": None, "grain": "os:Plan9"}, "pillar, grain: both nodes of no site fit; the sites of this master: lyon, paris"),
    ],
)  # fmt: skip
def test_what_chooses_nothing_is_one_clear_error(given, said):
    heard_of = heard(paris=2, lyon=2)
    if given.get("grain"):
        heard_of["matches"] = dict.fromkeys(heard_of["matches"], False)
    sites, _ = census(heard_of)
    with pytest.raises(CommandExecutionError) as error:
        rollout.choose(options(**given), sites)
    assert str(error.value) == said


# --- Waves and budget -----------------------------------------------------------------------------------------------------------------------

SIZES = st.lists(st.one_of(st.integers(1, 9), st.integers(1, 100).map("{}%".format)), min_size=1)
NAMES = st.integers(0, 40).map(lambda number: [f"s{one}" for one in range(number)])


@given(NAMES, st.integers(0, 3), SIZES)
def test_every_site_is_in_one_wave_and_canaries_are_the_first(sites, canaries, sizes):
    first, others = sites[:canaries], sites[canaries:]
    waves = rollout.waves(first, others, sizes)
    assert [name for wave in waves for name in wave] == sites
    assert all(waves)
    if first:
        assert waves[0] == first


@pytest.mark.parametrize(
    ("sizes", "lengths"), [([1, "10%"], [1, 1] + 18 * [2]), (["100%"], [38]), ([5], 7 * [5] + [3])]
)
def test_sizes_of_waves(sizes, lengths):
    sites = [f"s{one}" for one in range(40 if sizes == [1, "10%"] else 38)]
    expected = {"[1, '10%']": [1, *9 * [4], 3], "['100%']": [38], "[5]": [*7 * [5], 3]}[str(sizes)]
    assert [len(wave) for wave in rollout.waves([], sites, sizes)] == expected


@pytest.mark.parametrize(
    ("budget", "sites", "number"),
    [(0, 50, 0), (3, 50, 3), ("5%", 50, 2), ("100%", 7, 7), ("5%", 10, 0)],
)
def test_budget(budget, sites, number):
    assert rollout.allowed(budget, sites) == number


# --- What came of a site --------------------------------------------------------------------------------------------------------------------


def states(*results):
    found = {}
    for number, (name, result, comment) in enumerate(results):
        found[f"slapos_ha_|-{name}_|-{name}_|-step"] = {
            "__id__": name, "__run_num__": number, "result": result, "comment": comment, "changes": {"secret": "hunter2"} if result else {},
            "start_time": f"23:59:5{number}.500000", "duration": 1500.0,
        }  # fmt: skip
    return {
        "data": {"master_master": found},
        "outputter": "highstate",
        "retcode": int(any(one[1] is False for one in results)),
    }


def test_a_run_that_went_well():
    said = rollout.verdict(
        {"success": True, "return": states(("a", True, "x"), ("b", True, "all is well"))}
    )
    assert said["good"] is True and said["comment"] == "all is well"
    assert [(one["name"], one["at"], one["seconds"], one["changed"]) for one in said["steps"]] == [
        ("a", 0.0, 1.5, True),
        ("b", 1.0, 1.5, True),
    ]
    assert "hunter2" not in str(said)


def test_a_run_past_midnight():
    data = states(("a", True, "x"), ("b", True, "y"))
    *_, last = data["data"]["master_master"].values()
    last["start_time"] = "00:00:10.500000"
    assert rollout.verdict({"return": data})["steps"][1]["at"] == 20.0


def test_a_run_that_failed_says_its_own_failure_only():
    follow = "One or more requisite failed: b"
    said = rollout.verdict(
        {"return": states(("a", True, "x"), ("b", False, "no room"), ("c", False, follow))}
    )
    assert said["good"] is False and said["comment"] == "b: no room"


@pytest.mark.parametrize(
    ("data", "good", "comment"),
    [
        ({"success": False, "return": {"data": {"paris": "table\nAll is well."}, "outputter": "nested"}}, True, "All is well."),
        ({"return": {"data": {"paris": "table\nNot well:\n- a\n- b", "retcode": 1}, "outputter": "nested"}}, False, "- a\n- b"),
        ({"return": {"data": {"m": ["Rendering SLS failed"]}, "retcode": 1}}, False, "Rendering SLS failed"),
        ({"return": "Exception occurred in runner x: Traceback\n  ValueError: y\n", "success": False}, False, "ValueError: y"),
        ({}, False, "None"),
    ],
)  # fmt: skip
def test_what_other_functions_return(data, good, comment):
    said = rollout.verdict(copy.deepcopy(data))
    assert (said["good"], said["comment"]) == (good, comment)


def test_what_a_look_says():
    plan = [
        {"step": "base", "done": True, "always": False},
        {"step": "sync", "done": False, "always": False},
        {"step": "verify", "done": False, "always": True},
    ]
    said = rollout.verdict(
        {"return": {"result": True, "comment": "ok", "plan": plan, "changes": {}}}
    )
    assert said["good"] and said["to_do"] == ["sync", "verify (always)"]
