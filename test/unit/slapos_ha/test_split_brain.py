"""What is said of a split brain, what is in the way of ending it, and in which order it is ended."""

import json

import pytest
import yaml
from salt.exceptions import CommandExecutionError
from support import ROOT, load_module

from .parted import COPY, RESOURCE, Parted, ids
from .world import TASKS, UTILS, World, parse_util, site_util, split_util
from .world import runner as main

RUNNER = load_module("_runners/slapos_ha_split_brain.py", __utils__=UTILS)
MINION = load_module("_utils/slapos_split_brain.py")


@pytest.fixture
def world(defaults, example):
    world = World(defaults, example).cluster().service().drbd("UpToDate").on("demo1")
    return world.enabled("app#0", "app#1", *TASKS)


@pytest.fixture
def parted(world):
    return Parted(world)


@pytest.fixture
def site(world, parted, monkeypatch):
    monkeypatch.setattr(site_util, "_accepted_minions", lambda _opts: ["demo1", "demo2"])
    return lambda: site_util._Site(parted, {}, world.shape, world.facts)


# --- Seen by status ---------------------------------------------------------------------------------------------------------------------------------


def test_a_site_that_is_connected_is_not_asked_for_generations(world):
    here = world.site()
    here.call = None
    assert split_util.sentences(here, parse_util.split_brain) == []


def test_a_link_that_is_down_is_no_split_brain_yet(world):
    connection = world.facts["demo2"]["drbd"]["status"][RESOURCE]["connections"]["demo1"]
    connection["state"] = "Connecting"
    here = world.site()
    here.call = None
    (said,) = split_util.sentences(here, parse_util.split_brain)
    assert said.startswith("demo2 is Connecting to demo1: see the replication link")


def test_status_names_a_split_brain_and_what_to_run(site, parted):
    parted.facts["demo1"]["drbd"]["split_brain"] = {"time": "2026-11-24T10:00:00Z"}
    said = main._wrong(site())[0]
    assert said == (
        "split brain: both were written to after they parted (demo1 1024 KiB, demo2 1024 KiB); noted on demo1 at 2026-11-24T10:00:00Z. "
        "Both sides, and how to end it: salt-run state.orch orch.recover_split_brain"
    )
    assert parted.done == []


def test_one_side_that_is_standalone_is_enough(site, parted):
    parted.link("demo1")["state"] = "Connecting"
    assert "split brain: both were written to" in main._wrong(site())[0]


@pytest.mark.parametrize(
    "mine, theirs, words",
    [
        (ids("sb", "demo1"), ids("sb", "demo1"), "this is no split brain: both have the same data. Connect it: salt -L demo1,demo2 drbd.connect"),
        (ids("peer_gone", "demo1"), ids("standalone", "demo2"), "this is no split brain: demo1 has the newer data"),
        (ids("standalone", "demo2"), ids("peer_gone", "demo1"), "this is no split brain: demo2 has the newer data"),
        ({**ids("sb", "demo1"), "bitmap": "0" * 16, "history": []}, ids("sb", "demo2"), "their generations have nothing in common"),
        ("ERROR: no disk", ids("sb", "demo2"), "whether this is a split brain cannot be told: demo1: ERROR: no disk"),
    ],
)  # fmt: skip
def test_what_else_may_be_standalone(site, parted, mine, theirs, words):
    parted.ids.update(demo1=mine, demo2=theirs)
    (said,) = split_util.sentences(site(), parse_util.split_brain)
    assert said.startswith("demo1 is StandAlone to demo2, demo2 is StandAlone to demo1")
    assert words in said


def test_a_note_that_cannot_be_read_does_not_hide_the_rest(site, parted):
    parted.facts["demo1"]["drbd"]["split_brain"] = {"error": "no such module"}
    assert "noted" not in main._wrong(site())[0]


# --- Both sides -------------------------------------------------------------------------------------------------------------------------------------


def preflight(site, victim=None, force=(), snapshot=True):
    said, plan = RUNNER._preflight(site, victim, list(force), snapshot)
    return said, {entry["step"]: entry["done"] for entry in plan}


def test_without_a_victim_both_sides_are_shown_and_nothing_is_done(site, parted):
    said, plan = preflight(site())
    assert plan == {} and parted.done == []
    lines = {line[:22].strip(): line[22:].split() for line in said.splitlines()}
    assert "Site paris: both were written to after they parted" in said
    assert lines["role now"] == ["Primary", "Secondary"]
    assert lines["service's filesystem"] == ["mounted", "not", "mounted"]
    assert lines["written since parting"] == ["1024", "KiB", "1024", "KiB"]
    assert lines["current generation"] == ["2820CDFF103B1749", "1036D694B8247862"]
    assert lines["generation at parting"] == ["21E2F0742509B193", "21E2F0742509B192"]
    assert "slapos/page" in said and "2026-11-24T10:00:00Z" in said
    assert "Primary now: demo1" in said and "Nothing was changed. Choose the victim" in said
    # The example never is the side that works for somebody.
    assert """orch.recover_split_brain pillar='{"slapos_ha": {"victim": "demo2"}}'""" in said
    parted.facts["demo1"]["mounted"], parted.facts["demo2"]["mounted"] = False, True
    assert '{"victim": "demo1"}' in preflight(site())[0]


def test_who_was_primary_last_is_the_side_whose_filesystem_was_written_last(site, parted):
    parted.status("demo1")["role"] = "Secondary"
    said = split_util.last_primary(site(), {n: parted.side(n) for n in ("demo1", "demo2")})
    assert said == (
        "neither is Primary now; the filesystem of demo1 was written last, 2026-11-26 10:46:40 UTC"
    )


@pytest.mark.parametrize("victim", [None, "demo2"])
def test_there_is_none(site, parted, victim):
    parted.resolved()
    said, plan = preflight(site(), victim)
    assert said.startswith("there is no split brain, and nothing to do: demo1: Primary UpToDate")
    assert set(plan.values()) == ({True} if victim else set()) and parted.done == []


def test_a_parting_that_is_no_split_brain_is_shown(site, parted):
    parted.ids.update(demo1=ids("peer_gone", "demo1"), demo2=ids("standalone", "demo2"))
    said, plan = preflight(site())
    assert "Site paris: demo1 has the newer data" in said and plan == {}
    assert "Nothing has to be discarded. Mend the link" in said
    with pytest.raises(CommandExecutionError) as error:
        preflight(site(), "demo2")
    assert "split_brain: this is no split brain: demo1 has the newer data" in str(error.value)
    assert "split_brain cannot be forced: only in a split brain is it proven" in error.value.remedy


def test_unrelated_data_are_nobodys_to_discard(site, parted):
    parted.ids["demo1"] = {**ids("sb", "demo1"), "bitmap": "0" * 16, "history": []}
    assert "does not end that" in preflight(site())[0]
    with pytest.raises(CommandExecutionError, match="split_brain: this is no split brain"):
        preflight(site(), "demo2", snapshot=False)


# --- Refused before anything ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given, words",
    [
        ({"victim": "demo3"}, "slapos_ha:victim: 'demo3' is no node of site paris; give demo1 or demo2"),
        ({"victim": True}, "slapos_ha:victim: True is no node"),
        ({"snapshot": "spare"}, "slapos_ha:snapshot: 'spare' is not right"),
        ({"snapshot": None}, "slapos_ha:snapshot: None is not right"),
        ({"force": ["split_brain"]}, "slapos_ha:force: split_brain cannot be forced: only in a split brain"),
        ({"force": ["all"]}, "slapos_ha:force: there is no gate 'all'; those that can be forced: service"),
    ],
)  # fmt: skip
def test_wrong_words_are_refused(site, parted, given, words):
    with pytest.raises(CommandExecutionError) as error:
        preflight(site(), **{"victim": "demo2", **given})
    assert words in str(error.value) and error.value.remedy == "Nothing was changed."


def test_force_is_a_list():
    assert split_util.unforceable("service") == [
        "slapos_ha:force: 'service' is no list; give the names of gates, such as [service]"
    ]


RED = [
    (lambda p: p.status("demo1")["disk"][0].update(disk="Inconsistent"), "survivor: volume 0 on demo1 is Inconsistent, not UpToDate"),
    (lambda p: p.facts["demo1"]["cluster"]["nodes"].pop("demo2"), "agents: the agent on demo1 does not see demo2"),
    (lambda p: p.facts["demo1"]["cluster"]["heartbeats"]["hb#1"]["peers"]["demo2"].update(beating=False), "agents: demo1 does not hear demo2"),
    (lambda p: (p.facts["demo1"].update(mounted=False), p.facts["demo2"].update(mounted=True)), "service: the service is up on demo2 and not on demo1"),
]  # fmt: skip


@pytest.mark.parametrize("spoil, words", RED)
def test_a_closed_gate_changes_nothing_and_shows_both_sides(site, parted, spoil, words):
    spoil(parted)
    with pytest.raises(CommandExecutionError) as error:
        preflight(site(), "demo2")
    assert words in str(error.value) and "current generation" in str(error.value)
    gate = words.partition(":")[0]
    forcing = '"force": ["service"]' in error.value.remedy
    assert forcing == (gate == "service") and (f"{gate} cannot be forced" in error.value.remedy) != forcing  # fmt: skip
    assert error.value.remedy.endswith("Nothing was changed.") and parted.done == []


def test_the_only_node_with_the_service_is_a_victim_by_force_only(site, parted):
    parted.facts["demo1"]["mounted"], parted.facts["demo2"]["mounted"] = False, True
    said, plan = preflight(site(), "demo2", ["service"])
    assert "the gate service is red and was forced: the service is up on demo2" in said
    assert plan["stopped"] is False


def test_no_room_for_the_copy_is_known_before_anything(site, parted):
    parted.refused["demo2", "slapos_ha.split_brain_copy"] = "no room for a copy of /dev/x"
    with pytest.raises(CommandExecutionError, match="demo2: no room for a copy of /dev/x"):
        preflight(site(), "demo2")
    assert parted.done == []


@pytest.mark.parametrize(
    "snapshot, words",
    [(True, f"its data are kept as file {COPY}"), ("/srv/spare", "kept as file /srv/spare/x.img"), (False, "its data are NOT KEPT (snapshot: false)")],
)  # fmt: skip
def test_the_preflight_says_where_the_data_are_kept(site, snapshot, words):
    said, plan = preflight(site(), "demo2", snapshot=snapshot)
    assert words in said
    assert plan == {
        "stopped": True, "copied": snapshot is False, "discarded": False, "synced": False, "agent": False, "verify": False,
    }  # fmt: skip


# --- What is done -----------------------------------------------------------------------------------------------------------------------------------


def run(site, parted, victim="demo2", snapshot=True, force=()):
    """All steps that the plan has to do, as the orchestration calls them; returns (what was told, notes)."""
    plan = preflight(site(), victim, force, snapshot)[1]
    notes = []
    for name, _, _, act in RUNNER._STEPS:
        if not plan[name]:
            here = site()
            act(RUNNER._Case(here, victim, snapshot))
            notes += here.notes
    return [(*on, function) for on, function, *_ in parted.done], notes


def test_the_victims_writes_go_after_they_were_copied(site, parted):
    told, notes = run(site, parted)
    assert told == [
        ("demo2", "slapos_ha.split_brain_copy"),
        ("demo2", "slapos_ha.split_brain_record"),
        ("demo2", "slapos_ha.split_brain_record"),
        ("demo2", "drbd.disconnect"),
        ("demo2", "drbd.connect"),
        ("demo1", "drbd.connect"),
        ("demo1", "demo2", "state.single"),
        ("demo1", "demo2", "opensvc.refresh"),
        ("demo1", "state.single"),
        ("demo1", "demo2", "slapos_ha.split_brain_over"),
    ]
    said = "\n".join(notes)
    assert "discarded on demo2: generation 1036D694B8247862, 1024 KiB written since the nodes parted" in said  # fmt: skip
    assert f"it is kept on demo2 as file {COPY}. To look into it, there: mount -o ro,loop" in said
    assert f"rm {COPY}" in said and "slapos/svc/comp1 is up on demo1" in said
    assert parted.record == {}
    parted.done.clear()
    assert run(site, parted) == ([], [])


def test_a_service_that_is_up_on_both_is_stopped_on_the_victim_first_and_thawed(site, parted):
    parted.facts["demo2"]["mounted"] = True
    parted.status("demo2")["role"] = "Primary"
    parted.ids["demo2"] = ids("sb", "demo2")
    told, notes = run(site, parted)
    assert told[:3] == [
        ("demo2", "slapos_ha.split_brain_record"),
        ("demo2", "opensvc.stop"),
        ("demo2", "slapos_ha.split_brain_copy"),
    ]
    assert "slapos/svc/comp1 is stopped on demo2 and frozen there" in notes
    assert "demo1: opensvc.thawed" in notes
    assert "discarded on demo2: generation 1036D694B8247862" in "\n".join(notes)


def test_what_an_operator_has_frozen_stays_so(site, parted):
    parted.instance("demo1").update(frozen=True)
    told, notes = run(site, parted)
    assert "the instance on demo1 stays frozen, as it was before: om slapos/svc/comp1 thaw" in notes
    assert not any("opensvc." in note for note in notes)


def test_a_victim_that_stays_mounted_is_left_as_it_is(site, parted):
    parted.facts["demo2"]["mounted"] = True
    parted.opensvc_stop = lambda *args, **kwargs: {"warnings": []}
    with pytest.raises(CommandExecutionError, match="is still mounted on demo2"):
        run(site, parted)
    assert not any(call[1].startswith("drbd.") for call in parted.done)


def test_a_victim_that_was_promoted_by_hand_is_demoted(site, parted):
    parted.status("demo2")["role"] = "Primary"
    told, _ = run(site, parted)
    assert told[:2] == [("demo2", "slapos_ha.split_brain_record"), ("demo2", "drbd.secondary")]


def test_without_a_copy_the_report_says_so(site, parted):
    told, notes = run(site, parted, snapshot=False)
    assert ("demo2", "slapos_ha.split_brain_copy") not in told
    assert "NO COPY of it was made (snapshot: false)" in notes


def test_what_was_copied_before_is_not_copied_again(site, parted):
    parted.copies.append(COPY)
    _, notes = run(site, parted)
    assert f"demo2: its data are kept as file {COPY}" in notes and parted.copies == [COPY]


def test_a_run_that_died_after_the_discard_is_ended_by_the_next(site, parted):
    parted.record["demo2"] = {
        "victim": "demo2", "generation": "1036D694B8247862", "written": 1024, "thaw": True,
        "copy": {"kind": "file", "where": COPY, "made": True},
    }  # fmt: skip
    parted.resolved().instance("demo2").update(frozen=True)
    said, plan = preflight(site())
    assert "a recovery with victim demo2 has not ended" in said and plan == {}
    assert '{"victim": "demo2"}' in said
    with pytest.raises(CommandExecutionError, match="a recovery with victim demo2 has not ended"):
        preflight(site(), "demo1")
    _, plan = preflight(site(), "demo2")
    assert plan == {
        "stopped": True, "copied": True, "discarded": True, "synced": True, "agent": False, "verify": False,
    }  # fmt: skip
    told, notes = run(site, parted)
    assert "demo1: opensvc.thawed" in notes and COPY in "\n".join(notes)
    assert preflight(site(), "demo1")[0].startswith("there is no split brain")


def test_what_a_dead_run_has_frozen_while_it_stopped_the_victim_is_thawed(site, parted):
    """It died between the agent's freeze and the end of its stop."""
    parted.record["demo2"] = {
        "victim": "demo2", "generation": "1036D694B8247862", "copy": None, "thaw": True,
    }  # fmt: skip
    parted.facts["demo2"]["mounted"] = True
    parted.instance("demo2").update(frozen=True)
    assert "demo1: opensvc.thawed" in run(site, parted)[1]


def test_a_victim_that_was_given_up_for_another_is_not_reported(site, parted):
    copy = {"kind": "file", "where": "/opt/of-demo1.img", "made": True}
    parted.record["demo1"] = {"victim": "demo1", "generation": "2820CDFF103B1748", "copy": copy}
    _, notes = run(site, parted)
    said = "\n".join(notes)
    assert COPY in said and "of-demo1" not in said and parted.record == {}


def test_what_was_noted_of_other_data_is_not_believed(site, parted):
    parted.record["demo2"] = {"victim": "demo2", "generation": "AAAAAAAAAAAAAAA2", "thaw": True}
    parted.facts["demo2"]["mounted"] = True
    parted.instance("demo2").update(frozen=True)
    assert "demo1: opensvc.thawed" not in run(site, parted)[1]


@pytest.mark.parametrize("name", ["stopped", "copied", "discarded"])
def test_each_step_proves_the_split_brain_again(site, parted, name):
    parted.resolved()
    act = {step: one for step, _, _, one in RUNNER._STEPS}[name]
    with pytest.raises(CommandExecutionError, match="this is no split brain any more"):
        act(RUNNER._Case(site(), "demo2", True))
    assert parted.done == []


def test_the_end_is_not_reached_while_a_disk_is_not_up_to_date(site, parted):
    parted.resolved().status("demo2")["disk"][0].update(disk="Inconsistent")
    with pytest.raises(CommandExecutionError, match="demo2: Secondary Inconsistent"):
        RUNNER._verify(RUNNER._Case(site(), "demo2", True))


def test_a_snapshot_of_lvm_is_told_with_what_it_costs():
    copy = {"kind": "snapshot", "where": "/dev/data/comp1-split-brain-1", "made": True}
    said = RUNNER._report({"victim": "demo2", "generation": "1", "written": None, "copy": copy})
    assert "how much is not known" in said[0]
    assert "mount -o ro -t ext4 /dev/data/comp1-split-brain-1 /mnt" in said[1]
    assert "lvremove data/comp1-split-brain-1" in said[1] and "slower" in said[2]


def test_unknown_step_and_unknown_victim():
    assert "there is no step 'x'" in RUNNER.split_brain_step("x")["comment"]


# --- What a node reads ------------------------------------------------------------------------------------------------------------------------------


def test_a_note_is_read_as_the_handler_writes_it():
    text = "time=2026-11-24T10:00:00Z\nDRBD_PEER=a=b\nbroken\n=x\n"
    assert MINION.note(text) == {"time": "2026-11-24T10:00:00Z", "DRBD_PEER": "a=b"}


@pytest.mark.parametrize(
    "one, other, same",
    [("1036D694B8247863", "1036D694B8247862", True), ("1036D694B8247864", "1036D694B8247862", False), ("x", "x", False), (None, "1", False)],
)  # fmt: skip
def test_the_last_bit_of_a_generation_names_no_other_data(one, other, same):
    assert MINION.same(one, other) is same


def test_what_is_no_ext4_has_no_superblock():
    assert MINION.superblock(bytes(1024)) is None and MINION.superblock(b"short") is None


def test_a_shortage_names_both_sizes():
    assert MINION.shortage("below /opt", 300 << 20, 100 << 20) == (
        "below /opt: 300 MiB are needed and 100 MiB are free"
    )
    assert MINION.shortage("below /opt", 1, -5) is not None
    assert MINION.shortage("below /opt", 1, 1) is None


# --- The orchestration's list -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"victim": "demo2", "site": "paris", "steal": True},
        {"victim": "demo2", "snapshot": False, "force": ["service"]},
    ],
)
def test_the_orchestration_has_the_runners_steps_in_its_order(given):
    jinja2 = pytest.importorskip("jinja2")
    env = jinja2.Environment(extensions=["jinja2.ext.do"])
    env.filters["json"] = json.dumps
    text = env.from_string((ROOT / "orch/recover_split_brain.sls").read_text()).render(
        salt={"pillar.get": lambda key, default=None: given}
    )
    steps = list(yaml.safe_load(text).values())
    told = [{k: v for part in one["slapos_ha.step"] for k, v in part.items()} for one in steps]
    wanted = [name for name, *_ in RUNNER._STEPS] if "victim" in given else []
    assert [one["step"] for one in told] == ["preflight", *wanted]
    assert {one["runner"] for one in told} == {"slapos_ha.split_brain_step"}
    assert told[0]["options"] == {
        "victim": given.get("victim"), "force": given.get("force", []), "snapshot": given.get("snapshot", True),
    }  # fmt: skip
    titles = list(yaml.safe_load(text))
    for before, one in zip(titles, told[1:], strict=False):
        assert one["require"] == [{"slapos_ha": before}]
