"""The main job: two hosts and a pillar become a site that survives a move and the loss of a host."""

import json
import os
import re
import sys
import time

import pytest
from slaplab import agent, campaigns, cli, control, counter, faults, hosts, site
from slaplab.base import HOSTS, commit, run, wait

# OpenSVC's page "SlapOS Comp1 HA", print status: every resource of the service.
SEED = {
    "app#0", "app#1", "disk#0", "disk#1", "disk#2", "disk#3", "fs#0", "fs#1", "fs#2", "fs#3", "fs#4", "fs#5", "fs#flag", "sync#i0",
    "task#addpart", "task#chkaddip", "task#collect", "task#delpart", "task#software", "volume#0",
}  # fmt: skip


@pytest.fixture(scope="module")
def campaign(lab):
    """What watches the deployment from its first step on, and brings the faults into it."""
    begun, at = time.monotonic(), commit()
    with faults.Campaign(lab) as campaign:
        yield campaign
        if os.environ.get("LAB_REPORT") and campaign.over:
            said, took = agent.describe(agent.chosen()), campaign.over - begun
            campaigns.keep(campaigns.parts(campaign.rows, campaign.wrong, at, said, took))


def fault(campaign, kind, step):
    """The run with one fault of the short set; what it left of the deployment the next run goes on with."""
    assert (kind, step) in faults.SHORT
    campaign.go([(kind, step)])
    row = campaign.rows[-1]
    print(" | ".join(campaigns.cells(row)))
    assert campaign.wrong == [] and row.step == step, campaign.wrong
    return row


def refused(lab, key, title, message, proof):
    """The run as far as the first use of a token that is refused: neither service lets anybody ask before whether it is good."""
    control.pillar(lab, lambda pillar: pillar[key].update(token="used-or-wrong"))
    try:
        answer = site.deploy(lab)
    finally:
        control.pillar(lab)
    assert answer.retcode != 0
    assert set(answer.failed) >= {title}
    assert re.search(message, answer.failed[title]), answer.failed
    assert "run the orchestration again" in answer.failed[title]
    assert hosts.ssh(lab, "demo1", f"test -e {proof}", check=False).returncode == 1
    assert site.mounted(lab) == ["demo1"] and all(site.in_sync(lab, host) for host in HOSTS)
    assert status(lab)["avail"] == "up"


@pytest.mark.parametrize("kind, step", [("master", "cluster"), ("services", "re6st_first")])
def test_a_fault_on_the_way_to_re6st(campaign, kind, step):
    assert fault(campaign, kind, step).outcome == "stopped"


def test_a_re6st_token_that_is_refused_leaves_the_service_whole(lab, campaign):
    refused(
        lab,
        "re6st",
        "re6st is registered on the first node",
        "demo1: re6st is registered: re6st-conf: the registry refused the token: it is wrong, or was used before",
        "/etc/re6stnet/cert.crt",
    )


def test_what_mkfs_wrote_without_the_peer_is_all_that_is_copied(lab, campaign):
    """The agent takes DRBD down and up before its mkfs: a discard of the whole disk would be a resync of the whole disk, in spite of initial_sync: skip."""
    told = hosts.ssh(lab, "demo1", "dmesg").stdout
    (size,) = {int(kib) for kib in re.findall(r"drbd0: size = \d+ MB \((\d+) KB\)", told)}
    copied = [int(kib) for kib in re.findall(r"resync as SyncSource \(will sync (\d+) KB", told)]
    assert sum(copied) < size / 4, (size, copied)


def test_the_kernel_has_a_rate_that_a_resync_keeps_beside_much_writing(lab, campaign):
    for host in HOSTS:
        told = hosts.ssh(lab, host, "drbdsetup show").stdout
        assert re.search(r"c-min-rate\s+25600k;", told), told


@pytest.mark.parametrize("kind, step", [("minion", "re6st_first"), ("host", "re6st_switch")])
def test_a_fault_on_the_way_to_slapos(campaign, kind, step):
    assert fault(campaign, kind, step).outcome == "stopped"


def test_a_slapos_token_that_is_refused_leaves_the_service_whole(lab, campaign):
    refused(
        lab,
        "slapos",
        "SlapOS is registered and booted on the first node",
        "demo1: SlapOS is registered: .*token",
        "/etc/opt/slapos/ssl/certificate",
    )


def test_a_full_disk(campaign):
    row = fault(campaign, "disk", "slapos_first")
    assert row.outcome == "stopped" and "No space left on device" in row.error, row.error


@pytest.mark.parametrize(
    "kind, step, move, gates",
    [
        ("heartbeat", "slapos_first", "slapos_switch", "demo2: (agents|heartbeats)"),
        ("replication", "slapos_second", "slapos_back", "demo1: drbd_connected"),
    ],
    ids=["heartbeat", "replication"],
)
def test_a_link_that_is_cut_stops_the_next_move(campaign, kind, step, move, gates):
    row = fault(campaign, kind, step)
    assert row.outcome == f"went on, stopped at {move}"
    assert re.match(f"the service is not moved to {gates}: ", row.error), row.error


@pytest.fixture(scope="module")
def first(lab, campaign):
    """The run that completes it, with the steps that were announced while it went on."""
    heard = []
    answer = site.deploy(lab, heard.append)
    answer.heard = heard
    return answer


def status(lab, host="demo1"):
    return json.loads(
        hosts.ssh(lab, host, f"om {site.SERVICE} print status --format json", stderr=None).stdout
    )


def test_every_step_succeeds_and_says_so(lab, first):
    assert first.retcode == 0, first.why
    assert len(first.states) == 18 and not first.failed
    assert all(state["comment"] for state in first.states.values())
    begun = [data["step"] for data in first.heard if data["phase"] == "begin"]
    done = [data["step"] for data in first.heard if data["phase"] == "done"]
    assert begun == done
    # What the runs before had done stays done.
    assert begun[:2] == ["software", "slapos_back"] and begun[-1] == "verify"


def test_partitions_kept_the_addresses_that_were_there_before_their_first_format(lab, first):
    """SlapOS would have slept two seconds for each."""
    log = hosts.ssh(lab, "demo1", f"cat {site.MOUNT}/slapos/log/slapos-node-format.log").stdout
    assert "Using definition file" in log
    assert "Adding 3 new partitions" not in log and "Impossible to add" not in log


def test_no_acknowledged_write_was_lost_and_one_host_at_most_had_the_filesystem(campaign, first):
    campaign.complete(first)
    campaign.seer.stop()
    assert campaign.wrong == []
    assert all(row.mounts <= 1 and row.lost == 0 for row in campaign.rows)
    assert len(campaign.seer.acknowledged) > 100


def test_the_service_has_every_resource_of_the_page(lab, first):
    seen = status(lab)
    assert set(seen["resources"]) == SEED
    assert seen["avail"] == "up" and seen["topology"] == "failover" and seen["orchestrate"] == "ha"
    assert {rid for rid, resource in seen["resources"].items() if resource.get("standby")} == {
        f"disk#{n}" for n in range(4)
    }
    assert {rid: r.get("subset") for rid, r in seen["resources"].items() if r.get("subset")} == {
        **{f"fs#{n}": "binds" for n in range(1, 6)},
        "app#0": "re6st",
        "app#1": "slapos",
        **{rid: "admin" for rid in SEED if rid.startswith("task#")},
    }
    assert seen["subsets"]["task:admin"]["parallel"] is True
    for rid in ("app#0", "app#1", "fs#0", "fs#flag", "volume#0"):
        assert seen["resources"][rid]["status"] == "up", (rid, seen["resources"][rid])


def test_the_schedules_are_those_of_the_page(lab, first):
    # As data: the table for people breaks its columns where they are narrow.
    said = hosts.ssh(lab, "demo1", f"om {site.SERVICE} print schedule --format json", stderr=None)
    schedules = {
        row["config_parameter"]: row["schedule_definition"] for row in json.loads(said.stdout)
    }
    assert {key: value for key, value in schedules.items() if key.startswith("task#")} == {
        "task#addpart.schedule": "@1m",
        "task#software.schedule": "@1m",
        "task#collect.schedule": "@1m",
        "task#chkaddip.schedule": "@60m",
        "task#delpart.schedule": "@60m",
    }


def test_drbd_is_up_to_date_on_both_hosts(lab, first):
    assert [
        hosts.ssh(lab, host, "drbdadm dstate all; drbdadm cstate all").stdout.split()
        for host in HOSTS
    ] == [["UpToDate/UpToDate", "Connected"]] * 2
    for host in HOSTS:
        assert (
            hosts.ssh(
                lab, host, "stat -c '%a %U' /etc/drbd.d/comp1.slapos.svc.lab.res"
            ).stdout.strip()
            == "600 root"
        )


def test_a_host_stays_below_a_gigabyte(lab, first):
    for host in HOSTS:
        assert 0 < hosts.resident(lab, host) < 1000


def test_distribution_units_and_cron_stay_off(lab, first):
    for host in HOSTS:
        units = hosts.ssh(
            lab,
            host,
            "systemctl is-enabled re6stnet.service re6st-registry.service drbd.service",
            check=False,
        ).stdout.split()
        assert units == ["masked"] * 3
        assert hosts.ssh(lab, host, "test -e /etc/cron.d/slapos-node", check=False).returncode == 1


def test_users_have_the_same_ids(lab, first):
    ids = [
        hosts.ssh(lab, host, "getent passwd slapsoft slapuser0 slapuser1 slapuser2").stdout
        for host in HOSTS
    ]
    assert ids[0] == ids[1] and ids[0].count("\n") == 4


def test_status_is_a_table_and_all_is_well(lab, first):
    said = site.status(lab)
    assert said.returncode == 0, said.stdout
    assert "All is well." in said.stdout and re.search(
        r"demo1 \(preferred\)\s+idle\s+up\s+Primary\s+UpToDate", said.stdout
    ), said.stdout


def test_metrics_say_the_same(lab, first):
    said = control.salt_json(lab, "salt", "*", "slapos_ha.metrics")
    for host, other, here in (("demo1", "demo2", 1), ("demo2", "demo1", 0)):
        own = dict(line.rsplit(" ", 1) for line in said[host].splitlines())
        for name, labels, value in (
            ("service_up", "", 1),
            ("service_here", "", here),
            ("drbd_primary", "", here),
            ("drbd_connected", f',peer="{other}"', 1),
            ("drbd_peer_up_to_date", f',peer="{other}",volume="0"', 1),
            ("heartbeat_beating", f',heartbeat="hb#1",peer="{other}"', 1),
            ("split_brain", "", 0),
        ):
            key = f'slapos_ha_{name}{{site="lab"{labels}}}'
            assert own[key] == str(value), said[host]


def test_a_second_run_makes_no_move_and_no_change(lab, first):
    before = hosts.ssh(lab, "demo1", "pgrep -f supervisord").stdout
    second = site.deploy(lab)
    print(f"second run {second.seconds:.0f} s")
    assert second.retcode == 0 and second.changed == [], (second.failed, second.changed)
    assert [
        state["comment"]
        for title, state in second.states.items()
        if "switch" in title.lower() or "is on the" in title
    ] == ["already so"] * 2
    assert hosts.ssh(lab, "demo1", "pgrep -f supervisord").stdout == before


@pytest.mark.parametrize("host", HOSTS)
def test_a_highstate_changes_nothing_and_asks_little(lab, first, host):
    with counter.counting(lab, host) as started:
        said = control.salt_json(lab, "salt", host, "state.apply", "slapos_ha")[host]
        counted = started()
        # The counting itself: these two start one process at least.
        control.salt(lab, "salt", host, "opensvc.cluster_status")
        control.salt(lab, "salt", host, "drbd.status")
        proof = started()[len(counted) :]
    assert isinstance(said, dict), said
    assert {
        title: state["comment"]
        for title, state in said.items()
        if state["result"] is not True or state["changes"]
    } == {}
    assert "om" in proof and "drbdsetup" in proof, proof
    assert counted.count("om") <= 3, counted
    assert len([program for program in counted if program != "om"]) <= 3, counted


CONNECT = """
import socket, sys
for target in sys.argv[1:]:
    try:
        socket.create_connection(target.rsplit(":", 1), 3).close()
        print("reached")
    except TimeoutError:
        print("dropped")
    except ConnectionRefusedError:
        print("refused")
"""


def heard(lab, host):
    """What of a host answers to the control node, to the ports of replication, heartbeat, agent's listener and ssh."""
    number = HOSTS[host]
    ports = ["10.98.1.%d:7289", "10.98.0.%d:10000", "10.98.0.%d:1214", "10.98.0.%d:22"]
    said = run(*lab.inside(sys.executable, "-c", CONNECT, *(port % number for port in ports)))
    return said.stdout.split()


def test_a_third_address_reaches_neither_replication_nor_agent(lab, first):
    for host in HOSTS:
        # Both nodes reach each other's: they are connected, and beat.
        assert heard(lab, host) == ["dropped", "dropped", "dropped", "reached"]


@pytest.fixture(scope="module")
def page(lab, first):
    return site.request_page(lab)


def test_a_page_is_built_and_served(lab, page):
    assert site.page(lab) == page


def test_a_file_written_on_the_first_host_is_read_on_the_second(lab, page):
    hosts.ssh(lab, "demo1", f"echo canary >{site.MOUNT}/canary && sync -f {site.MOUNT}/canary")
    site.move(lab, "demo2")
    assert site.active(lab) == "demo2"
    assert hosts.ssh(lab, "demo2", f"cat {site.MOUNT}/canary").stdout.strip() == "canary"
    wait("the same page is answered", lambda: site.page(lab) == page, 300, 2)


def test_a_second_run_leaves_a_service_where_the_operator_moved_it(lab, page):
    answer = site.deploy(lab)
    assert answer.retcode == 0 and answer.changed == [], (answer.why, answer.changed)
    assert site.active(lab) == "demo2"
    assert (
        "not on the preferred node demo1"
        in answer.states["The site is whole, as seen from both nodes"]["comment"]
    )


def test_the_survivor_of_a_crash_serves_the_same_data(lab, page):
    hosts.ssh(
        lab, "demo2", f"echo acknowledged >{site.MOUNT}/canary && sync -f {site.MOUNT}/canary"
    )
    hosts.crash(lab, "demo2")
    wait("the same page is answered", lambda: site.page(lab) == page, 600, 2)
    assert site.active(lab) == "demo1"
    assert hosts.ssh(lab, "demo1", f"cat {site.MOUNT}/canary").stdout.strip() == "acknowledged"


def test_the_crashed_host_comes_back_in_sync(lab, page):
    cli.boot(lab, "demo2")
    wait("both disks are UpToDate", lambda: all(site.in_sync(lab, host) for host in HOSTS), 300, 2)
    wait("the site is whole", lambda: site.status(lab).returncode == 0, 600, 3)
    assert site.mounted(lab) == ["demo1"]
    # The rules are there from the boot on, which no highstate had a part in.
    assert heard(lab, "demo2") == ["dropped", "dropped", "dropped", "reached"]
