"""
A longer story of a site's end than CI has time for: refused with a node or an agent down, data kept and read, everything gone but what is somebody's, and a
deployment after it. By hand: make lab-life
"""

import pytest
from slaplab import cli, control, hosts, site
from slaplab.base import HOSTS, wait

from .test_9_teardown import FILE, FQDN, LAST, LOOK, canary, left, look, on, teardown

__all__ = ["canary"]


def test_a_node_that_is_down_is_refused(lab, canary):
    before = look(lab)
    hosts.ssh(lab, "demo2", "systemctl stop salt-minion")
    try:
        answer = teardown(lab, {"destroy_data": "comp1"})
        assert answer.retcode != 0
        assert "minion 'demo2' does not answer" in next(iter(answer.failed.values()))
    finally:
        hosts.ssh(lab, "demo2", "systemctl start salt-minion")
        cli.ready(lab)
    assert look(lab) == before


def test_an_agent_that_is_down_is_refused(lab, canary):
    before, active = look(lab), site.active(lab)
    standby = next(host for host in HOSTS if host != active)
    hosts.ssh(lab, standby, "systemctl stop opensvc-agent")
    try:
        answer = teardown(lab)
        assert answer.retcode != 0
        assert f"{standby}: cluster: " in next(iter(answer.failed.values()))
    finally:
        hosts.ssh(lab, standby, "systemctl start opensvc-agent")
        wait("the site is whole", lambda: site.status(lab).returncode == 0, 300, 3)
    assert site.mounted(lab) == [active] and look(lab) == before


# --- Kept ---------------------------------------------------------------------------------------------------------------------------------------

# Not "at boot": Debian's drbd-utils has DRBD's module loaded at boot, and the formula adds nothing to that.
KEPT = {"resource", "volumes", "loop", "file", "units", "filter", "users"}


@pytest.fixture(scope="module")
def kept(lab, canary):
    """Taken down with the data kept, with an object of somebody else in the agent."""
    hosts.ssh(lab, "demo1", "om other/cfg/theirs create")
    wait(
        "the object is on both nodes", lambda: on(lab, "demo2", "om '*/cfg/*' ls | grep theirs"), 60
    )
    return teardown(lab)


def test_without_the_name_the_data_stays_and_the_report_says_where(lab, kept):
    assert kept.retcode == 0, kept.why
    for host in HOSTS:
        assert left(lab, host) == KEPT | {"cluster", "members"}, look(lab)[host]
        assert on(lab, host, LOOK["units"]).split("/")[-1] == "drbd.service"
        assert "other/cfg/theirs" in on(lab, host, "om '*/*/*' ls").split()
    said = kept.states[LAST]["comment"]
    assert f"is kept in {FILE}, /dev/{FQDN}/comp1 on demo1 and demo2" in said
    assert "membership of cluster lab stays: it has other/cfg/theirs" in said
    assert "packages stay installed" in said


def test_the_data_can_be_read(lab, kept, canary):
    for host in HOSTS:
        hosts.ssh(lab, host, f"drbdadm up {FQDN}")
    try:
        wait("both sides are UpToDate", lambda: all(site.in_sync(lab, host) for host in HOSTS), 60)
        hosts.ssh(lab, "demo2", f"drbdadm primary {FQDN} && mount -o ro /dev/drbd0 /mnt")
        assert on(lab, "demo2", "cat /mnt/canary") == canary
    finally:
        on(lab, "demo2", f"umount /mnt; drbdadm secondary {FQDN}")
        for host in HOSTS:
            hosts.ssh(lab, host, f"drbdadm down {FQDN}")


def test_a_second_run_changes_nothing(lab, kept):
    before = look(lab)
    again = teardown(lab)
    assert again.retcode == 0 and again.changed == [], (again.failed, again.changed)
    assert f"is kept in {FILE}" in again.states[LAST]["comment"] and look(lab) == before


# --- Gone ---------------------------------------------------------------------------------------------------------------------------------------


def test_the_rest_goes_with_the_name_and_what_is_somebodys_stays(lab, kept):
    hosts.ssh(lab, "demo1", "om other/cfg/theirs delete")
    wait("the object is gone", lambda: not on(lab, "demo2", "om '*/cfg/*' ls | grep theirs"), 60)
    hosts.ssh(lab, "demo1", "touch /root/theirs && chown slapuser2:slapuser2 /root/theirs")
    answer = teardown(lab, {"destroy_data": "comp1"})
    assert answer.retcode == 0, answer.why
    assert left(lab, "demo2") == set(), look(lab)["demo2"]
    assert left(lab, "demo1") == {"users"}, look(lab)["demo1"]
    assert on(lab, "demo1", LOOK["users"]).split() == ["slapuser2", "slapsoft", "slapuser2"]
    said = answer.states[LAST]["comment"]
    assert "demo1: user slapuser2 stays: /root/theirs is its" in said
    hosts.ssh(lab, "demo1", "rm /root/theirs")
    assert teardown(lab, {"destroy_data": "comp1"}).changed == ["Users of SlapOS are gone"]
    assert left(lab, "demo1") == set()


def test_a_file_of_somebody_in_the_place_of_the_sites_stays(lab, kept):
    hosts.ssh(lab, "demo2", f"echo theirs >{FILE}")
    try:
        answer = teardown(lab, {"destroy_data": "comp1"})
        assert answer.retcode == 0 and answer.changed == [], (answer.why, answer.changed)
        assert on(lab, "demo2", f"cat {FILE}") == "theirs"
        assert f"demo2: loop file {FILE} stays: it does not hold" in answer.states[LAST]["comment"]
    finally:
        hosts.ssh(lab, "demo2", f"rm {FILE}")


def test_the_next_run_says_that_nothing_is_left(lab, kept):
    before = look(lab)
    answer = teardown(lab, {"destroy_data": "comp1"})
    assert answer.retcode == 0 and answer.changed == [] and look(lab) == before
    states = list(answer.states.values())
    assert "nothing of site lab is left on demo1 and demo2" in states[0]["comment"]
    assert {state["comment"] for state in states[1:-1]} == {"already so"}


# --- And again ------------------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def again(lab, kept):
    """Deployed once more."""
    control.again(lab)
    yield site.deploy(lab)
    control.pillar(lab)


def test_a_deployment_after_it_works(lab, again):
    assert again.retcode == 0, again.why
    assert site.status(lab).returncode == 0
    assert all(site.in_sync(lab, host) for host in HOSTS)
    # A new filesystem: nothing of the first life is in it.
    assert on(lab, site.active(lab), f"ls {site.MOUNT}/canary") == ""
    second = site.deploy(lab)
    assert second.retcode == 0 and second.changed == [], (second.failed, second.changed)


def test_all_of_a_running_site_goes_in_one_run(lab, again):
    site.move(lab, "demo2")
    answer = teardown(lab, {"destroy_data": "comp1"})
    assert answer.retcode == 0, answer.why
    assert {host: left(lab, host) for host in HOSTS} == {host: set() for host in HOSTS}
    assert answer.changed == [
        title
        for title in answer.states
        if title not in (LAST, "Both nodes can be asked what is theirs of the site")
    ]
