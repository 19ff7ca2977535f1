"""A split brain for real: the replication link is cut, both hosts write, and the one that is named loses its writes, but for the copy of them."""

import json
import subprocess

import pytest
from slaplab import control, faults, hosts, links, site, witness
from slaplab.base import HOSTS, LabError, wait

FQDN = "comp1.slapos.svc.lab"
NOTE = f"/var/lib/slapos_ha/split-brain.{FQDN}"


def on(lab, host, command):
    return hosts.ssh(lab, host, command, check=False, stderr=subprocess.DEVNULL).stdout.strip()


def recover(lab, **pillar):
    """Run the orchestration and return its result, read from its own output."""
    given = ["pillar=" + json.dumps({"slapos_ha": pillar})] if pillar else []
    said = control.salt(
        lab, "salt-run", "--out=json", "--out-indent=1", "state.orch", "orch.recover_split_brain", *given, check=False
    )  # fmt: skip
    return site.Run(said.returncode, said.stdout, 0)


def links_of(lab):
    return {host: on(lab, host, f"drbdadm cstate {FQDN}") for host in HOSTS}


def generations(lab):
    return {host: on(lab, host, f"drbdadm get-gi {FQDN}") for host in HOSTS}


def placed(lab):
    """(host with the service, the other), of a site that is deployed and in sync."""
    if not on(lab, "demo1", "om '*/*/*' ls | grep comp1"):
        site.deployed(lab)
    here = site.active(lab)
    wait("both disks are UpToDate", lambda: all(site.in_sync(lab, host) for host in HOSTS), 300)
    return here, next(host for host in HOSTS if host != here)


def test_a_link_that_is_cut_in_the_moment_of_a_move_loses_no_write(lab):
    """The target has nothing of what the source wrote until it had stopped: it is not promoted, though DRBD alone would do it."""
    source, target = placed(lab)
    seer = faults.Witness(lab)
    seer.start()
    try:
        wait("the canary writes", lambda: seer.acknowledged, 60)
        links.cut(lab, target, "replication")
        try:
            with pytest.raises(LabError, match=f"{target}.*start failed"):
                site.move(lab, target)
            assert on(lab, target, f"drbdadm role {FQDN}").startswith("Secondary/")
            assert target not in seer.mounted()
            log = on(lab, target, f"cat /var/log/opensvc/namespaces/{site.SERVICE}.log")
            assert f"{FQDN} is not promoted here: {source} is alive" in log
        finally:
            links.mend(lab, target, "replication")
        wait("both disks are UpToDate", lambda: all(site.in_sync(lab, host) for host in HOSTS), 120)
        hosts.ssh(lab, target, f"om {site.SERVICE} clear --local")
        wait("the service is up again", seer.mounted, 180)
        said = hosts.ssh(lab, site.active(lab), f"cat {site.MOUNT}/{witness.LOG}").stdout
        assert witness.lost([line for _, line in seer.acknowledged], said.splitlines()) == []
        assert witness.most(seer.spans, 0, float("inf")) == 1
    finally:
        seer.stop()
    wait("the site is whole", lambda: site.status(lab).returncode == 0, 300, 3)


@pytest.fixture(scope="module")
def apart(lab):
    """(survivor, victim): the service stays up on the first; the second was promoted by hand while nobody heard it, and both have a file of their own."""
    survivor, victim = placed(lab)
    hosts.ssh(lab, survivor, f"echo both >{site.MOUNT}/before && sync -f {site.MOUNT}/before")
    # The heartbeat goes over the other network: both agents hear each other, and nothing moves.
    links.cut(lab, victim, "replication")
    try:
        # The write waits until DRBD gives the peer up.
        hosts.ssh(lab, survivor, f"echo survivor >{site.MOUNT}/after && sync -f {site.MOUNT}/after")
        wait("the link is seen to be down", lambda: "Connected" not in links_of(lab).values(), 60)
        hosts.ssh(
            lab,
            victim,
            f"set -e; drbdadm primary {FQDN}; mount /dev/drbd0 /mnt; echo victim >/mnt/after; umount /mnt; drbdadm secondary {FQDN}",
        )
    finally:
        links.mend(lab, victim, "replication")
    wait("DRBD sees the split brain", lambda: "StandAlone" in links_of(lab).values(), 60)
    return survivor, victim


def test_status_names_it_and_its_remedy(lab, apart):
    said = site.status(lab)
    assert said.returncode == 1
    words = " ".join(said.stdout.split())
    assert "split brain: both were written to after they parted" in words, said.stdout
    assert "salt-run state.orch orch.recover_split_brain" in words


def test_drbds_handler_has_noted_it(lab, apart):
    notes = wait("a note", lambda: [note for h in HOSTS if (note := on(lab, h, f"cat {NOTE}"))], 20)
    assert any(f"DRBD_RESOURCE={FQDN}" in note and "time=2" in note for note in notes)


def test_without_a_victim_both_sides_are_shown_and_nothing_changes(lab, apart):
    survivor, victim = apart
    before = links_of(lab), generations(lab)
    answer = recover(lab)
    assert answer.retcode == 0 and answer.changed == [], (answer.why, answer.changed)
    (only,) = answer.states.values()
    for host in HOSTS:
        # A Primary's generation has its last bit set.
        assert before[1][host].split(":")[0] in only["comment"]
    assert f"Primary now: {survivor}" in only["comment"]
    assert f'"victim": "{victim}"' in only["comment"] and "after" in only["comment"]
    assert (links_of(lab), generations(lab)) == before


def test_the_side_with_the_service_is_not_thrown_away_unforced(lab, apart):
    answer = recover(lab, victim=apart[0])
    assert answer.retcode != 0 and answer.changed == []
    first = next(iter(answer.failed.values()))
    assert f"service: the service is up on {apart[0]}" in first and "Nothing was changed." in first
    assert site.mounted(lab) == [apart[0]]


@pytest.fixture(scope="module")
def recovered(lab, apart):
    return recover(lab, victim=apart[1])


def test_the_victims_writes_go_and_a_copy_of_them_is_kept(lab, apart, recovered):
    survivor, victim = apart
    assert recovered.retcode == 0, recovered.why
    assert all(site.in_sync(lab, host) for host in HOSTS) and site.mounted(lab) == [survivor]
    assert on(lab, survivor, f"cat {site.MOUNT}/before {site.MOUNT}/after") == "both\nsurvivor"
    kept = recovered.states["A copy of the data of the victim is kept"]["changes"][victim]
    copy = kept["copy"]["new"]
    assert copy in recovered.states["The split brain is over, as both nodes say"]["comment"]
    look = f"mount -o ro,loop -t ext4 {copy} /mnt && cat /mnt/before /mnt/after; umount /mnt"
    assert on(lab, victim, look) == "both\nvictim"
    assert on(lab, victim, f"stat -c %a {copy}; rm {copy}") == "600"
    assert [on(lab, host, f"ls {NOTE}") for host in HOSTS] == ["", ""]


def test_the_site_is_well_again(lab, recovered):
    wait("the site is whole", lambda: site.status(lab).returncode == 0, 300, 3)


def test_a_second_run_finds_no_split_brain_and_changes_nothing(lab, apart, recovered):
    answer = recover(lab, victim=apart[1])
    assert answer.retcode == 0 and answer.changed == [], (answer.why, answer.changed)
    assert "there is no split brain" in next(iter(answer.states.values()))["comment"]
