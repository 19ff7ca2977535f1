"""What a node decides, from what it knows."""

import pytest
from standin.orchestrate import Object, Run, Smon, View, accepts, adopt, aggregate, decide

PATH = "slapos/svc/comp1"
NOW = 1000.0


def instance(avail, **more):
    smon = {"status": "idle", **more.pop("monitor", {})}
    overall = more.pop("overall", avail)
    return {
        "updated": 1.0,
        "avail": avail,
        "overall": overall,
        "frozen": 0,
        "provisioned": True,
        "resources": {},
        "monitor": smon,
        **more,
    }


def view(me, node="demo1", frozen=(), **instances):
    nodes = {
        name: {
            "frozen": name in frozen,
            "monitor": {"status": "idle"},
            "services": {"status": {PATH: one}},
        }
        for name, one in instances.items()
        if one is not None
    }
    nodes.setdefault(node, {"monitor": {"status": "idle"}, "services": {"status": {}}})
    return View(me, nodes, NOW, node_frozen=me in frozen)


OBJECT = Object(PATH, ["demo1", "demo2"], orchestrate="ha")
LEADER = {"placement": "leader"}


def decided(picture, obj=OBJECT):
    orders = decide(picture, obj)
    return [order.action if isinstance(order, Run) else order for order in orders]


def started(since):
    return {"status": "ready", "status_updated": since}


# Failover ----------------------------------------------------------------------------------------


def test_the_preferred_node_gets_ready_then_starts():
    both = {"demo2": instance("stdby up")}
    assert decided(view("demo1", demo1=instance("stdby up"), **both)) == [Smon(status="ready")]
    ready = instance("stdby up", monitor=started(NOW - 3))
    assert decided(view("demo1", demo1=ready, **both)) == []
    ready = instance("stdby up", monitor=started(NOW - 6))
    assert decided(view("demo1", demo1=ready, **both)) == ["start"]


def test_the_other_node_leaves_it_to_the_preferred_one():
    assert decided(view("demo2", demo1=instance("stdby up"), demo2=instance("stdby up"))) == []


def test_a_peer_that_is_gone_is_failed_over_from():
    """demo1 is stale, so it is not in the picture any more."""
    picture = view("demo2", node="demo2", demo2=instance("stdby up"))
    assert decided(picture) == [Smon(status="ready")]


def test_nothing_is_done_while_the_service_is_up_somewhere():
    assert decided(view("demo1", demo1=instance("stdby up"), demo2=instance("up"))) == []


def test_a_node_in_maintenance_keeps_its_service():
    picture = view("demo1", demo1=instance("stdby up"), demo2=instance("up"))
    picture.nodes["demo2"]["monitor"]["status"] = "maintenance"
    assert decided(picture) == []


def test_nothing_is_decided_while_a_peer_is_in_init():
    picture = view("demo1", demo1=instance("stdby up"), demo2=instance("stdby up"))
    picture.nodes["demo2"]["monitor"]["status"] = "init"
    assert decided(picture) == []


def test_nothing_is_started_before_the_node_has_rejoined():
    picture = view("demo1", demo1=instance("stdby up"), demo2=instance("stdby up"))
    picture.rejoined = False
    assert decided(picture) == []


@pytest.mark.parametrize("where", ["instance", "node"])
def test_what_is_frozen_is_left_alone(where):
    frozen = {"frozen": 5.0} if where == "instance" else {}
    resources = {"disk#0": {"status": "stdby down", "standby": True}}
    picture = view(
        "demo1",
        frozen=("demo1",) if where == "node" else (),
        demo1=instance("stdby down", resources=resources, **frozen),
        demo2=instance("stdby up", **frozen),
    )
    assert decided(picture) == []


def test_the_second_node_starts_what_the_frozen_first_may_not():
    assert decided(
        view("demo2", frozen=("demo1",), demo1=instance("stdby up"), demo2=instance("stdby up"))
    ) == [Smon(status="ready")]


def test_without_ha_nothing_starts_by_itself():
    assert (
        decided(
            view("demo1", demo1=instance("down"), demo2=instance("down")),
            Object(PATH, OBJECT.nodes),
        )
        == []
    )


def test_a_start_that_failed_is_not_tried_again_here():
    failed = instance("stdby up", monitor={"status": "start failed"})
    assert decided(view("demo1", demo1=failed, demo2=instance("stdby up"))) == []
    assert decided(view("demo2", demo1=failed, demo2=instance("stdby up"))) == [
        Smon(status="ready")
    ]


def test_ready_is_given_up_when_the_peer_starts():
    ready = instance("stdby up", monitor=started(NOW - 1))
    starting = instance("stdby up", monitor={"status": "starting"})
    assert decided(view("demo1", demo1=ready, demo2=starting)) == [Smon(status="idle")]


# Standby resources -------------------------------------------------------------------------------


def test_standby_resources_that_are_down_are_started():
    down = {"disk#0": {"status": "stdby down", "standby": True}, "fs#0": {"status": "down"}}
    picture = view("demo2", demo1=instance("up"), demo2=instance("stdby down", resources=down))
    orders = decide(picture, OBJECT)
    assert [one for one in orders if isinstance(one, Smon)] == [Smon(retries=("disk#0", 1))]
    (run,) = [one for one in orders if isinstance(one, Run)]
    assert (run.action, run.options) == ("startstandby", {"rids": ["disk#0"]})


def test_standby_resources_are_not_started_for_ever():
    down = {"disk#0": {"status": "stdby down", "standby": True}}
    tried = {"restart": {"disk#0": {"retries": 3}}}
    picture = view(
        "demo2", demo1=instance("up"), demo2=instance("stdby down", resources=down, monitor=tried)
    )
    assert decided(picture) == []


def test_a_resource_not_provisioned_is_not_started():
    down = {"disk#0": {"status": "stdby down", "standby": True, "provisioned": {"state": False}}}
    assert (
        decided(view("demo2", demo1=instance("up"), demo2=instance("stdby down", resources=down)))
        == []
    )


# Targets -----------------------------------------------------------------------------------------


def moving(target="placed@demo2", **more):
    return {"global_expect": target, "global_expect_updated": NOW, **more}


def test_a_switch_stops_here_then_starts_there():
    up, standby = instance("up", monitor=moving()), instance("stdby up", monitor=moving())
    assert decided(view("demo1", demo1=up, demo2=standby)) == ["stop"]
    assert decided(view("demo2", demo1=up, demo2=standby)) == []
    stopped = instance("stdby up", monitor=moving())
    assert decided(view("demo2", demo1=stopped, demo2=standby)) == ["start"]


def test_a_switch_is_done_when_the_target_is_up():
    done = view("demo1", demo1=instance("stdby up", monitor=moving()), demo2=instance("up"))
    assert decided(done) == [Smon(global_expect="unset")]


def test_a_switch_waits_for_a_stop_that_failed():
    failed = instance("up", monitor=moving(status="stop failed"))
    standby = instance("stdby up", monitor=moving())
    assert decided(view("demo1", demo1=failed, demo2=standby)) == []
    assert decided(view("demo2", demo1=failed, demo2=standby)) == []


def test_a_switch_whose_start_failed_is_given_up():
    failed = instance("stdby up", monitor=moving(status="start failed"))
    picture = view("demo2", demo1=instance("stdby up", monitor=moving()), demo2=failed)
    assert decided(picture) == [Smon(global_expect="unset")]


def test_a_switch_thaws_first():
    frozen = instance("up", frozen=4.0, monitor=moving())
    assert decided(view("demo1", demo1=frozen, demo2=instance("stdby up"))) == ["thaw"]


def test_the_target_of_a_peer_is_adopted_where_there_is_something_to_do():
    picture = view("demo2", demo1=instance("up", monitor=moving()), demo2=instance("stdby up"))
    assert adopt(picture, OBJECT, aggregate(picture, OBJECT)) == "placed@demo2"
    picture = view("demo2", demo1=instance("stdby up", monitor=moving()), demo2=instance("up"))
    assert adopt(picture, OBJECT, aggregate(picture, OBJECT)) is None


def test_an_older_target_does_not_replace_a_newer_one():
    newer = moving("placed@demo1", global_expect_updated=NOW + 5)
    picture = view(
        "demo2",
        demo1=instance("stdby up", monitor=moving()),
        demo2=instance("stdby up", monitor=newer),
    )
    assert adopt(picture, OBJECT, aggregate(picture, OBJECT)) is None


def test_a_purge_meant_for_a_predecessor_of_the_same_name_is_not_adopted():
    purge = moving("purged")
    picture = view("demo1", demo1=instance("down"), demo2={"monitor": purge})
    agg = aggregate(picture, OBJECT)
    assert adopt(picture, OBJECT, agg, since=NOW - 1) == "purged"
    assert adopt(picture, OBJECT, agg, since=NOW + 1) is None


def test_a_failed_stop_refuses_to_be_asked_again():
    failed = instance("up", monitor={"status": "stop failed"})
    picture = view("demo1", demo1=failed, demo2=instance("stdby up"))
    assert not accepts(picture, OBJECT, aggregate(picture, OBJECT), "placed")


def test_provisioning_goes_leader_first():
    def fresh(provisioned=False, **more):
        return instance(
            "down", frozen=1.0, provisioned=provisioned, monitor=moving("provisioned", **more)
        )

    (run,) = decide(view("demo1", demo1=fresh(), demo2=fresh()), OBJECT)
    assert (run.action, run.options) == ("provision", {"leader": True, "disable_rollback": True})
    assert decided(view("demo2", demo1=fresh(), demo2=fresh())) == [Smon(status="wait leader")]
    (run,) = decide(view("demo2", demo1=fresh(True), demo2=fresh(status="wait leader")), OBJECT)
    assert (run.action, run.options["leader"]) == ("provision", False)


def test_provisioning_ends_thawed_or_started():
    both = {node: instance("stdby up", monitor=moving("provisioned")) for node in OBJECT.nodes}
    assert decided(view("demo1", **both)) == [Smon(global_expect="started")]
    both["demo1"] = instance("up", monitor=moving("provisioned"))
    assert decided(view("demo1", **both)) == [Smon(global_expect="thawed")]


def test_a_provision_that_failed_is_given_up():
    failed = instance(
        "down", provisioned="mixed", monitor=moving("provisioned", status="provision failed")
    )
    assert decided(view("demo1", demo1=failed, demo2=instance("down", provisioned=False))) == [
        Smon(global_expect="unset")
    ]


def test_stopping_freezes_everywhere_before_it_stops():
    stop = moving("stopped")
    up, standby = instance("up", monitor=stop), instance("stdby up", monitor=stop)
    assert decided(view("demo1", demo1=up, demo2=standby)) == ["freeze"]
    up["frozen"] = 1.0
    assert decided(view("demo1", demo1=up, demo2=standby)) == []
    standby["frozen"] = 1.0
    assert decided(view("demo1", demo1=up, demo2=standby)) == ["stop"]


def test_giveback_moves_to_the_preferred_node():
    target = moving("placed")
    here, there = (
        instance("stdby up", monitor={**target, **LEADER}),
        instance("up", monitor={**target, "placement": ""}),
    )
    assert decided(view("demo2", demo1=here, demo2=there)) == ["stop"]
    assert decided(view("demo1", demo1=here, demo2=there)) == []
    there["avail"] = there["overall"] = "stdby up"
    assert decided(view("demo1", demo1=here, demo2=there)) == [Smon(status="ready")]


def test_an_action_under_way_is_waited_for():
    stopping = instance("warn", monitor=moving(status="stopping"))
    assert decided(view("demo1", demo1=stopping, demo2=instance("stdby up"))) == []


def test_purge_goes_leader_last():
    def gone(avail="down", **more):
        return instance(avail, monitor=moving("purged"), **more)

    assert decided(view("demo1", demo1=gone("up"), demo2=gone("stdby up"))) == ["stop"]
    assert decided(view("demo1", demo1=gone(), demo2=gone())) == [Smon(status="wait non-leader")]
    (run,) = decide(view("demo2", demo1=gone(), demo2=gone()), OBJECT)
    assert (run.action, run.options) == ("purge", {"leader": False})
    (run,) = decide(view("demo1", demo1=gone()), OBJECT)
    assert (run.action, run.options) == ("purge", {"leader": True})


# Aggregates --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("up", "stdby up", ("up", "up", "optimal")),
        ("stdby up", "up", ("up", "up", "non-optimal")),
        ("stdby up", "stdby up", ("down", "down", "n/a")),
        ("down", "down", ("down", "down", "n/a")),
        ("up", "up", ("warn", "up", "non-optimal")),
        ("warn", "stdby up", ("warn", "warn", "optimal")),
    ],
)
def test_aggregates(first, second, expected):
    picture = view(
        "demo1",
        demo1=instance(first, monitor=LEADER),
        demo2=instance(second, monitor={"placement": ""}),
    )
    agg = aggregate(picture, OBJECT)
    assert (agg["avail"], agg["overall"], agg["placement"]) == expected


def test_aggregate_of_mixed_instances():
    picture = view(
        "demo1", demo1=instance("up", frozen=1.0), demo2=instance("down", provisioned=False)
    )
    agg = aggregate(picture, OBJECT)
    assert (agg["frozen"], agg["provisioned"]) == ("mixed", "mixed")
