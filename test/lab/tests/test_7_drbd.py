"""
Every function and state of the module ``drbd`` on the kernel's DRBD: on a small resource of its own, made, filled, parted, recovered, grown and removed beside
the site's.
"""

import pytest
from slaplab import control, hosts
from slaplab.base import HOSTS
from slaplab.functions import Functions, words

NAME, DISK, PORT, MINOR = "probe", "/opt/probe.img", 7300, 9
WISH = {
    "nodes": {host: f"10.98.1.{number}" for host, number in HOSTS.items()},
    "port": PORT, "minor": MINOR, "disk": "/dev/probe", "shared_secret_pillar": "slapos_ha:drbd:shared_secret",
}  # fmt: skip
DRBD = Functions("drbd")
call, done, refused = DRBD.call, DRBD.done, DRBD.refused


def state(lab, host, function, name=NAME, **kwargs):
    """(result, changes) of a state, the second time it has none."""
    DRBD.used.add(f"state {function}")
    answers = []
    for _ in range(2):
        said = control.salt_json(
            lab, "salt", host, "state.single", f"drbd.{function}", f"name={name}", *words(kwargs)
        )[host]
        (one,) = said.values()
        answers.append(one)
    first, second = answers
    assert first["result"] is True, first["comment"]
    assert second["result"] is True and not second["changes"], second
    return first["changes"]


def both(lab, function, *args, **kwargs):
    return {host: done(lab, host, function, *args, **kwargs) for host in HOSTS}


def disks(lab, host):
    return {v["disk"] for v in done(lab, host, "status", NAME)[NAME]["disk"].values()}


@pytest.fixture(scope="module")
def parts(lab):
    """A disk on each host, and at the end nothing of it, whatever happened in between. By itself this file readies DRBD on the hosts first."""
    for host in HOSTS:
        if not call(lab, host, "version")["module_loaded"]:
            said = control.salt_json(lab, "salt", host, "state.apply", "slapos_ha.drbd")[host]
            assert all(one["result"] for one in said.values()), said
    for host in HOSTS:
        hosts.ssh(
            lab, host, f"truncate -s 64M {DISK} && ln -sfn $(losetup --show -f {DISK}) /dev/probe"
        )
    yield
    for host in HOSTS:
        hosts.ssh(
            lab,
            host,
            f"drbdadm down {NAME}; rm -f /etc/drbd.d/{NAME}.res; losetup -j {DISK} -O NAME --noheadings | xargs -r losetup -d; rm -f /dev/probe {DISK}",
            check=False,
        )


def test_it_is_made_and_its_first_copy_skipped(lab, parts):
    for host in HOSTS:
        assert done(lab, host, "version")["module_loaded"] == done(lab, host, "module")["loaded"]
        assert done(lab, host, "configure", NAME, **WISH, test=True)["changes"]
        assert state(lab, host, "resource_configured", **WISH)
        assert done(lab, host, "metadata", NAME)["metadata"] == "none"
        state(lab, host, "module_loaded", "drbd")
        assert done(lab, host, "load") is False and done(lab, host, "load_at_boot") is False
    assert done(lab, "demo1", "create_md", NAME) is True
    assert done(lab, "demo1", "create_md", NAME) is False
    assert state(lab, "demo2", "metadata_present")
    assert done(lab, "demo1", "up", NAME) is True and state(lab, "demo2", "up")
    assert done(lab, "demo1", "adjust", NAME) is True
    state(lab, "demo1", "connected")
    assert disks(lab, "demo1") == {"Inconsistent"}
    peer = done(lab, "demo2", "generation_ids", NAME)
    assert "force" in refused(lab, "demo1", "skip_initial_sync", NAME, peer=peer)
    assert done(lab, "demo1", "skip_initial_sync", NAME, force=True, peer=peer) is True
    state(lab, "demo1", "initial_sync_skipped")
    state(lab, "demo2", "synced")


def test_it_is_described(lab, parts):
    assert set(done(lab, "demo1", "config", NAME)["hosts"]) == set(HOSTS)
    seen = done(lab, "demo1", "overview")
    assert any(key.startswith(NAME) for key in seen), seen
    one, two = (done(lab, host, "generation_ids", NAME) for host in HOSTS)
    assert done(lab, "demo1", "split_brain", NAME, peer=two)["relation"] == "equal", (one, two)


def test_roles_and_the_refusal_of_a_second_primary(lab, parts):
    assert state(lab, "demo1", "primary")
    assert "Multiple primaries" in refused(lab, "demo2", "primary", NAME)
    assert "primary with force" in refused(lab, "demo2", "primary", NAME, force=True)
    hosts.ssh(lab, "demo1", f"dd if=/dev/urandom of=/dev/drbd{MINOR} bs=64k count=4 oflag=direct")
    assert state(lab, "demo1", "secondary")
    assert done(lab, "demo1", "primary", NAME) is True
    assert done(lab, "demo1", "secondary", NAME) is True


def test_link_disk_and_resource_are_taken_away_and_come_back(lab, parts):
    for away, back in (("disconnect", "connect"), ("detach", "attach"), ("down", "up")):
        assert done(lab, "demo2", away, NAME) is True
        assert done(lab, "demo2", away, NAME) is False
        assert done(lab, "demo2", back, NAME) is True
        done(lab, "demo2", "wait", NAME, timeout=120)
        assert done(lab, "demo2", back, NAME) is False


def test_every_block_is_compared_and_one_side_copied_anew(lab, parts):
    assert done(lab, "demo1", "verify", NAME) is True
    done(lab, "demo1", "wait", NAME, timeout=120)
    assert "force" in refused(lab, "demo2", "invalidate", NAME)
    assert done(lab, "demo2", "invalidate", NAME, force=True) is True
    done(lab, "demo2", "wait", NAME, timeout=300)
    assert disks(lab, "demo2") == {"UpToDate"}
    assert "it is up" in refused(lab, "demo2", "wipe_md", NAME, force=True)


def test_a_split_brain_is_told_and_ended(lab, parts):
    both(lab, "disconnect", NAME)
    for host in HOSTS:
        hosts.ssh(
            lab,
            host,
            f"drbdadm primary {NAME} && dd if=/dev/urandom of=/dev/drbd{MINOR} bs=64k count=2 oflag=direct && drbdadm secondary {NAME}",
        )
    one, two = both(lab, "generation_ids", NAME).values()
    assert done(lab, "demo2", "split_brain", NAME, peer=one)["relation"] == "split_brain", (one, two)  # fmt: skip
    assert "peer" in refused(lab, "demo2", "connect", NAME, discard_my_data=True, force=True)
    assert done(lab, "demo2", "connect", NAME, discard_my_data=True, force=True, peer=one) is True
    assert done(lab, "demo1", "connect", NAME) is True
    done(lab, "demo1", "wait", NAME, timeout=120)
    sums = [hosts.ssh(lab, h, f"drbdadm primary {NAME} && md5sum </dev/drbd{MINOR}; drbdadm secondary {NAME}").stdout for h in HOSTS]  # fmt: skip
    assert sums[0] == sums[1] and sums[0]


def test_it_grows(lab, parts):
    for host in HOSTS:
        hosts.ssh(lab, host, f"truncate -s 96M {DISK} && losetup -c $(readlink -f /dev/probe)")
    before = done(lab, "demo1", "capacity", NAME)["0"]
    assert before["possible"] > before["size"]
    assert "Need one Primary" in refused(lab, "demo1", "resize", NAME)
    hosts.ssh(lab, "demo1", f"drbdadm primary {NAME}")
    changes = state(lab, "demo1", "resized")
    assert changes == {"KiB of volume 0": {"old": before["size"], "new": before["possible"]}}
    done(lab, "demo1", "wait", NAME, timeout=120)
    assert done(lab, "demo1", "resize", NAME) is False
    hosts.ssh(lab, "demo1", f"drbdadm secondary {NAME}")


def test_it_goes_and_the_proof_of_its_data_is_asked_for(lab, parts):
    assert state(lab, "demo2", "down") and done(lab, "demo1", "down", NAME) is True
    peer = done(lab, "demo1", "generation_ids", NAME)
    assert "has held data" in refused(lab, "demo2", "wipe_md", NAME, force=True)
    assert done(lab, "demo2", "wipe_md", NAME, force=True, peer=peer) is True
    assert done(lab, "demo2", "metadata", NAME)["metadata"] == "none"
    assert done(lab, "demo2", "remove_config", NAME)
    assert state(lab, "demo1", "absent")
    assert NAME not in done(lab, "demo1", "status")


def test_nothing_was_left_out(lab, parts):
    wanted = DRBD.listed(lab) | {f"state {name}" for name in DRBD.listed(lab, "state_functions")}
    assert wanted - DRBD.used == set()
