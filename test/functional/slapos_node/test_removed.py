"""
A site taken off a node through Salt's real loader: in test mode, for real, again, after a run that died anywhere, and with somebody else's things in the way.
"""

import os
import subprocess
import types

import pytest
import yaml
from support import ROOT, load_module

from ..variants import PILLARS, chunks
from .removed_world import CFG, FIREWALL_UNIT, FQDN, LVM_LOCAL, SVC, UNITS, VOL, World

CONCERNS = ("mounts", "service", "drbd", "data", "units", "software", "users", "cluster")


def _loop_devices():
    if os.geteuid() or not os.path.exists("/dev/loop-control"):
        return False
    return not subprocess.run(["losetup", "--find"], capture_output=True).returncode


pytestmark = pytest.mark.skipif(not _loop_devices(), reason="needs root and a loop device")


@pytest.fixture(scope="module")
def loaders(make_loaders):
    pillar = yaml.safe_load((ROOT / "pillar.example").read_text())
    site = pillar["slapos_ha"]
    site["slapos"]["partition_number"] = 2
    site["re6st"]["install"]["method"] = "installed"
    site["slapos"]["install"]["prefix"] = "/opt/env"
    return make_loaders("demo1", pillar)


class Functions:
    """The loader's functions, with the world's own in front of them."""

    def __init__(self, real, own):
        self.real, self.own = real, own

    def __getitem__(self, name):
        return self.own.get(name) or self.real[name]


@pytest.fixture
def world(loaders, tmp_path, monkeypatch):
    made = World(tmp_path / "world")
    monkeypatch.setenv("PATH", str(made.base / "bin"), prepend=os.pathsep)
    site = loaders.modules.slapos_ha.site()
    site["storage"]["file"] = str(made.file)
    made.own = {**made.functions(), "slapos_ha.site": lambda: site}
    opts = {**loaders.opts, "slapos_node.root": str(made.root), "test": False}
    # The loader loads a file again when it pleases, and what a test has put into its functions is gone then: these three are loaded here.
    given = {
        "__salt__": Functions(loaders.modules, made.own),
        "__opts__": opts,
        "__utils__": loaders.utils,
    }
    for name in ("remains", "remove"):
        module = load_module(f"_modules/slapos_node_{name}.py", **given)
        for function in ("remains", "remove", "loop_devices"):
            if hasattr(module, function):
                made.own[f"slapos_node.{function}"] = getattr(module, function)
    made.remove = module
    made.state = load_module("_states/slapos_node_remove.py", **given)
    made.attach()
    yield made
    made.down()


@pytest.fixture
def removed(world):
    def run(concern, test=False, destroy="comp1"):
        world.state.__opts__["test"] = test
        ret = world.state.removed(f"{concern} of the site", concern, destroy_data=destroy)
        return types.SimpleNamespace(**ret)

    return run


@pytest.fixture
def remains(world):
    def ask(concern=None, destroy="comp1"):
        found = world.own["slapos_node.remains"](concern, destroy)
        assert found["problems"] == [], found
        return found["items"]

    return ask


def going(items):
    return [line["what"] for line in items if not line["stays"]]


def staying(items):
    return {line["what"]: line["stays"] for line in items if line["stays"]}


def test_test_mode_says_all_and_changes_nothing(world, removed, remains):
    before = world.tree()
    for concern in CONCERNS[1:]:
        ret = removed(concern, test=True)
        assert ret.result is None and list(ret.changes) == going(remains(concern)), ret
    assert removed("mounts", test=True).result is True
    assert world.did == [] and world.tree() == before


def test_the_whole_site_goes_in_its_order(world, removed, remains):
    for concern in CONCERNS:
        ret = removed(concern)
        assert ret.result is True, ret.comment
        again = removed(concern)
        assert again.result is True and again.changes == {}
        assert again.comment == "Nothing is left to remove"
    assert remains() == []
    loop = world.loop
    assert world.did == [
        f"delete {SVC}",
        f"delete {VOL}",
        f"delete {CFG}",
        f"down {FQDN}",
        "wipe-md",
        f"lvremove {FQDN}/comp1",
        f"vgremove {FQDN}",
        f"pvremove {loop}",
        f"remove {FQDN}.res",
        f"remove unit {FIREWALL_UNIT}",
        "remove nftables table inet slapos_ha",
        "remove ruleset /etc/slapos_ha/firewall.nft",
        "passwd slapuser1",
        "group slapuser1",
        "passwd slapuser0",
        "group slapuser0",
        "passwd slapsoft",
        "group slapsoft",
        "leave",
        "thaw",
    ]
    assert not world.file.exists()
    assert (
        world.loop not in subprocess.run(["losetup", "-n"], capture_output=True, text=True).stdout
    )
    assert [call for call in world.calls() if call.startswith("sys")] == [
        f"systemctl unmask {' '.join(UNITS)}"
    ]
    lvm_local = world.root / "etc/lvm/lvmlocal.conf"
    assert lvm_local.read_text() == "local {\n}\n# end\n"
    assert oct(lvm_local.stat().st_mode)[-3:] == "640"
    assert (world.root / "etc/passwd").read_text() == "root:x:0:0::/root:/bin/sh\n"
    assert (world.root / "etc/group").read_text() == "root:x:0:\n"
    assert list((world.root / "srv").iterdir()) == []
    assert (world.root / "home/me").is_dir()
    for path in (SVC, VOL, CFG):
        assert not (world.root / "var/lib/opensvc/namespaces" / path).exists()


def test_what_the_changes_are(world, removed):
    assert removed("service").changes == {
        f"service {SVC}": {"old": "in the agent", "new": None},
        f"volume {VOL}": {"old": "in the agent", "new": None},
        f"launchers {CFG}": {"old": "in the agent", "new": None},
    }
    removed("drbd")
    assert removed("data").changes == {
        f"DRBD metadata on /dev/{FQDN}/comp1": {"old": "generation 2820CDFF103B1748", "new": None},
        f"logical volume /dev/{FQDN}/comp1": {"old": "there", "new": None},
        f"volume group {FQDN}": {"old": "there", "new": None},
        f"physical volume {world.loop}": {"old": "there", "new": None},
        f"loop device {world.loop}": {"old": f"on {world.file}", "new": None},
        f"loop file {world.file}": {"old": "32 MiB", "new": None},
        f"file of DRBD resource {FQDN}": {"old": "there", "new": None},
    }


def test_the_last_node_is_alone_in_its_cluster(world, removed):
    world.configs.clear()
    world.members, world.frozen = ["demo1"], False
    ret = removed("cluster")
    assert ret.result is True and ret.changes
    # A heartbeat that is not in the pillar is somebody's.
    assert world.did == ["delete hb#1 of cluster", "unset cluster.name"]


def test_the_quorum_goes_before_the_nodes_part_and_arbitrators_at_the_end(world, removed):
    world.configs.clear()
    cluster = world.own["slapos_ha.site"]()["cluster"]
    cluster.update(quorum=True, arbitrators={"arbitrator#1": {"address": "demo3"}})
    world.settings = {"quorum": "true"}
    assert removed("cluster").result is True
    assert world.did == ["unset cluster.quorum", "leave", "thaw"]
    world.did.clear()
    world.name, world.members, world.frozen, world.settings = "paris", ["demo1"], False, {}
    assert removed("cluster").result is True
    assert world.did == [
        "delete hb#1 of cluster",
        "delete arbitrator#1 of cluster",
        "unset cluster.name",
    ]


@pytest.mark.parametrize("concern", CONCERNS[2:])
def test_nothing_below_a_service_that_the_agent_has_is_removed(world, removed, concern):
    before = world.tree()
    ret = removed(concern)
    assert ret.result is False and ret.changes == {}
    assert f"the agent still has {SVC}" in ret.comment and "orch.teardown" in ret.comment
    assert world.did == [] and world.tree() == before


def test_a_service_that_runs_is_not_taken_out_of_the_agent(world, removed):
    world.avail[SVC] = "up"
    ret = removed("service")
    assert ret.result is False and world.did == []
    assert f"{SVC} is not removed before it is stopped" in ret.comment


@pytest.mark.parametrize("failed", [[], ["provision failed"]])
def test_a_volume_that_a_failed_service_has_left_is_stopped(world, removed, failed):
    del world.configs[SVC]
    world.avail[VOL], world.failed = "up", failed
    assert removed("service").result is True
    assert world.did == [
        *([f"clear {VOL}"] if failed else []),
        f"stop {VOL}",
        f"delete {VOL}",
        f"delete {CFG}",
    ]


def test_mounts_are_the_agents_to_unmount(world, removed):
    world.mounts(
        f"147:0 / /srv/{FQDN} ext4 /dev/drbd0",
        "147:0 /slapos/srv/slapgrid /srv/slapgrid ext4 /dev/drbd0",
        "147:1 / /srv/other ext4 /dev/drbd1",
    )
    ret = removed("mounts")
    assert ret.result is False and ret.changes == {}
    assert f"/srv/{FQDN}, /srv/slapgrid is mounted" in ret.comment
    assert f"fuser -vm /srv/{FQDN}" in ret.comment
    # A bind that is left without the filesystem is one too.
    world.mounts("147:0 /slapos/srv/slapgrid /srv/slapgrid ext4 /dev/drbd0")
    assert "/srv/slapgrid is mounted" in removed("mounts").comment


# --- Without the word --------------------------------------------------------------------------------------------------------------------------


def test_the_data_is_kept_without_the_services_name(world, removed, remains):
    for concern in CONCERNS:
        ret = removed(concern, destroy=None)
        assert ret.result is True, ret.comment
    kept = staying(remains(destroy=None))
    assert going(remains(destroy=None)) == []
    assert set(kept) == {
        f"DRBD metadata on /dev/{FQDN}/comp1",
        f"logical volume /dev/{FQDN}/comp1",
        f"volume group {FQDN}",
        f"physical volume {world.loop}",
        f"loop device {world.loop}",
        f"loop file {world.file}",
        f"file of DRBD resource {FQDN}",
        # What guards the resource, and whose the files in it are.
        "mask of drbd.service",
        "LVM filter in /etc/lvm/lvmlocal.conf",
        "DRBD's module at boot, /etc/modules-load.d/drbd.conf",
        *(f"{kind} {name}" for kind in ("user", "group") for name in ("slapsoft", "slapuser0", "slapuser1")),
    }  # fmt: skip
    assert kept[f"loop file {world.file}"] == "kept: destroy_data is not 'comp1'"
    assert f"loop file {world.file} stays: kept" in removed("data", destroy=None).comment
    assert not world.drbd[FQDN]["up"] and world.drbd[FQDN]["metadata"] and world.file.exists()
    assert world.name == "default" and world.configs == {}
    # A later run with the name finishes it.
    for concern in CONCERNS:
        assert removed(concern).result is True
    assert remains() == [] and not world.file.exists()


@pytest.mark.parametrize("concern", CONCERNS[1:])
def test_another_name_is_refused(world, removed, concern):
    before = world.tree()
    ret = removed(concern, destroy="comp2")
    assert ret.result is False and ret.changes == {}
    assert "destroy_data: 'comp2' is not the name of this site's service, 'comp1'" in ret.comment
    assert world.did == [] and world.tree() == before


# --- Somebody else's ----------------------------------------------------------------------------------------------------------------------------


def bare(world):
    """The agent has forgotten the service, and DRBD is down."""
    world.configs.clear()
    world.drbd[FQDN]["up"] = False


def test_a_service_of_another_site_stays(world, removed):
    world.configs[SVC]["env"]["slapos_ha_site"] = "rome"
    ret = removed("service")
    assert ret.result is True and ret.changes == {} and world.did == []
    assert f"service {SVC} stays: it is not this site's" in ret.comment


def test_a_loop_file_of_somebody_stays(world, removed):
    bare(world)
    world.down()
    world.lvm(pvs=[], lvs=[])
    world.drbd.clear()
    world.file.write_bytes(b"data")
    ret = removed("data")
    assert ret.result is True and ret.changes == {} and world.file.read_bytes() == b"data"
    assert "so it is not this site's" in ret.comment


def test_a_volume_of_somebody_keeps_its_group_and_file(world, removed):
    bare(world)
    world.lvm(lvs=[*world.lvm()["lvs"], {"vg_name": FQDN, "lv_name": "backup", "origin": ""}])
    ret = removed("data")
    assert ret.result is True, ret.comment
    assert f"lvremove {FQDN}/comp1" in world.did and f"vgremove {FQDN}" not in world.did
    assert "it also holds backup" in ret.comment and world.file.exists()


def test_a_link_in_place_of_the_loop_file_stays(world, removed):
    bare(world)
    world.down()
    world.lvm(pvs=[], lvs=[])
    precious = world.base / "precious"
    world.file.rename(precious)
    world.file.symlink_to(precious)
    ret = removed("data")
    assert ret.result is True and "no regular file" in ret.comment
    assert world.file.is_symlink() and precious.exists()


def test_another_drbd_resource_keeps_what_guards_it(world, removed):
    bare(world)
    removed("data")
    world.drbd["other"] = {"up": True, "disk": "/dev/sdz", "metadata": True}
    ret = removed("units")
    assert ret.result is True
    assert "mask of drbd.service stays: DRBD resource other is configured" in ret.comment
    assert (world.root / "etc/lvm/lvmlocal.conf").read_text() == LVM_LOCAL
    assert [path.name for path in (world.root / "etc/systemd/system").iterdir()] == [UNITS[0]]


def test_users_that_own_files_elsewhere_stay(world, removed):
    bare(world)
    removed("data")
    mine = world.root / "home/me/notes"
    mine.write_text("")
    os.chown(mine, 5001, 0)
    # What lies in /tmp passes.
    (world.root / "tmp").mkdir()
    (world.root / "tmp/x").write_text("")
    os.chown(world.root / "tmp/x", 5002, 5002)
    ret = removed("users")
    assert ret.result is True
    assert set(ret.changes) == {"user slapuser1", "user slapsoft", "group slapuser1"}
    assert "user slapuser0 stays: /home/me/notes is its" in ret.comment
    assert "group slapsoft stays: user slapuser0 stays" in ret.comment


def test_files_on_other_filesystems_count_and_those_of_a_network_do_not(world, removed):
    bare(world)
    removed("data")
    for name, number in (("data", 5001), ("nfs", 5002)):
        (world.root / name).mkdir()
        (world.root / name / "x").write_text("")
        os.chown(world.root / name / "x", number, number)
    world.mounts("8:2 / /data xfs /dev/sda2", "0:50 / /nfs nfs4 server:/home")
    ret = removed("users")
    assert "user slapuser0 stays: /data/x is its" in ret.comment
    assert "user slapuser1" in ret.changes


def test_a_user_that_runs_something_is_an_error(world, removed):
    bare(world)
    removed("data")
    (world.root / "proc/77").mkdir()
    (world.root / "proc/77/status").write_text(
        "Name:\tmariadbd\nPid:\t77\nUid:\t5001\t5001\t5001\t5001\n"
    )
    ret = removed("users")
    assert ret.result is False and ret.changes == {} and "passwd slapuser1" not in world.did
    assert "user slapuser0 is not removed: it runs 77 (mariadbd)" in ret.comment


def test_a_folder_that_is_no_environment_stays(world, removed):
    bare(world)
    (world.prefix / "pyvenv.cfg").unlink()
    ret = removed("software")
    assert ret.result is True and (world.prefix / "lib").is_dir()
    assert "environment /opt/env stays" in ret.comment


def test_an_environment_that_was_killed_at_its_beginning_goes(world, removed):
    bare(world)
    (world.prefix / "pyvenv.cfg").unlink()
    (world.prefix / "slapos_ha.unfinished").touch()
    assert removed("software").result is True and not world.prefix.exists()


def test_a_mount_point_with_something_below_stays(world, removed):
    bare(world)
    (world.root / "srv/slapgrid/theirs").mkdir()
    ret = removed("software")
    assert ret.result is True and "folder /srv/slapgrid stays: it is not empty" in ret.comment
    assert (world.root / "srv/slapgrid/theirs").is_dir()


def test_other_services_keep_the_cluster(world, removed):
    world.configs.clear()
    world.others = ["web/svc/shop"]
    ret = removed("cluster")
    assert ret.result is True and ret.changes == {} and world.did == []
    assert "membership of cluster paris stays: it has web/svc/shop" in ret.comment


# --- Half done, and what cannot be asked ---------------------------------------------------------------------------------------------------------


def test_what_was_done_before_a_failure_is_in_the_changes_and_the_next_run_goes_on(world, removed):
    bare(world)
    good = world.own["lvm.vgremove"]
    world.own["lvm.vgremove"] = lambda name, force: "  Cannot process volume group"
    ret = removed("data")
    assert ret.result is False
    assert f"LVM does not remove {FQDN}:   Cannot process volume group" in ret.comment
    assert set(ret.changes) == {
        f"DRBD metadata on /dev/{FQDN}/comp1",
        f"logical volume /dev/{FQDN}/comp1",
    }
    assert world.file.exists() and FQDN in world.drbd
    world.own["lvm.vgremove"] = good
    ret = removed("data")
    assert ret.result is True and not world.file.exists() and world.drbd == {}


def test_lvm_that_does_not_answer_is_not_taken_for_one_without_volumes(world, removed):
    bare(world)
    world.lvm(broken=True)
    ret = removed("data")
    assert ret.result is False and world.did == []
    assert "LVM cannot be asked: lvs: ['Failed to read devices']" in ret.comment


def test_a_loop_device_that_is_open_is_said(world, removed, monkeypatch):
    monkeypatch.setattr(world.remove, "_KERNEL_SECONDS", 0.2)
    bare(world)
    with open(world.loop, "rb"):
        ret = removed("data")
    assert ret.result is False, ret.comment
    assert f"{world.loop} is still on {world.file}" in ret.comment
    assert f"pvremove {world.loop}" in world.did and world.file.exists()
    assert removed("data").result is True and not world.file.exists()


def test_a_node_without_agent_drbd_and_lvm_has_nothing(world, remains, monkeypatch):
    world.configs.clear()
    world.down()
    world.file.unlink()
    for name in ("om", "drbdadm", "pvs", "lvs"):
        (world.base / "bin" / name).unlink()
    monkeypatch.setenv("PATH", str(world.base / "bin"))
    concerns = {line["concern"] for line in remains()}
    assert concerns == {"service", "units", "software", "users"}


@pytest.mark.parametrize("concern", ["all", ""])
def test_another_concern(loaders, concern):
    ret = loaders.states.slapos_node.removed("x", concern=concern)
    assert ret.result is False and "is none of mounts, service, drbd" in ret.comment


# --- The SLS ------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [None, "comp1"])
def test_the_sls_hand_the_word_on(loaders, given):
    pillar = {"slapos_ha_destroy_data": given} if given else None
    for path in sorted((ROOT / "slapos_ha/removed").glob("*.sls")):
        low = loaders.modules.state.show_low_sls(f"slapos_ha.removed.{path.stem}", pillar=pillar)
        (chunk,) = [one for one in low if one["fun"] == "removed"]
        assert chunk["concern"] == {"stopped": "mounts"}.get(path.stem, path.stem)
        assert chunk.get("destroy_data") == (
            given if path.stem in ("data", "units", "users") else None
        )


def test_a_service_that_is_there_is_cleared_stopped_and_looked_after(make_loaders, tmp_path):
    loaders = make_loaders("demo1", yaml.safe_load((ROOT / "pillar.example").read_text()))
    loaders.opts["opensvc.etc"] = str(tmp_path)
    folder = tmp_path / "namespaces/slapos/svc"
    folder.mkdir(parents=True)
    (folder / "comp1.conf").write_text("[env]\nslapos_ha_site = paris\n")
    low = loaders.modules.state.show_low_sls("slapos_ha.removed.stopped")
    order = sorted(low, key=lambda chunk: chunk["order"])
    assert [chunk["fun"] for chunk in order] == ["cleared", "stopped", "removed"]
    for before, chunk in zip(order, order[1:], strict=False):
        assert chunk["require"] == [{"opensvc": before["__id__"]}]


# Which part of a teardown undoes what a state of the formula has made; None is what stays: packages, and what leaves nothing behind.
UNDONE = {
    "drbd.initial_sync_skipped": None,
    "drbd.metadata_present": "data",
    "drbd.module_loaded": "units",
    "drbd.primary": None,
    "drbd.resource_configured": "data",
    "drbd.synced": None,
    "drbd.up": "drbd",
    "file.blockreplace": "units",
    # DRBD's handler, the loop file's mode, and what the firewall is made of; the agent's package goes with the folder in which it is, with the software. A
    # repository's files stay as packages do.
    "file.managed": ("software", "data", "units"),
    "opensvc.arbitrator_present": "cluster",
    "opensvc.cluster_present": "cluster",
    "opensvc.enabled": None,
    "opensvc.heartbeat_present": "cluster",
    "opensvc.key_present": "service",
    "opensvc.member": "cluster",
    "opensvc.object_present": "service",
    "opensvc.placed": "mounts",
    "opensvc.provisioned": "data",
    "opensvc.quorum_present": "cluster",
    "opensvc.resource_started": "mounts",
    "pkg.installed": None,
    "service.running": None,
    "slapos_firewall.absent": None,
    "slapos_firewall.firewalld_loaded": "units",
    "slapos_firewall.nftables_loaded": "units",
    "slapos_firewall.ready": None,
    "slapos_firewall.ufw_ruled": "units",
    # Its file is the agent's, of opensvc.provisioned.
    "slapos_node.file_allocated": "data",
    "slapos_node.cron_diverted": "units",
    "slapos_node.environment_present": "software",
    "slapos_node.programs_present": None,
    "slapos_node.re6st_configured": "data",
    "slapos_node.re6st_registered": "data",
    "slapos_node.re6st_valid": None,
    "slapos_node.slapos_configured": "data",
    "slapos_node.slapos_formatted": "data",
    "slapos_node.slapos_proven": "data",
    "slapos_node.slapos_registered": "data",
    "slapos_node.units_masked": "units",
    "slapos_node.users_present": "users",
    "test.nop": None,
}


def test_every_state_of_the_formula_is_undone_or_leaves_nothing(loaders):
    """A new state of the formula needs a line above, and what it makes a place in slapos_node_remains.py."""
    used = {
        f"{chunk['state']}.{chunk['fun']}"
        for pillar in PILLARS
        for sls, chunk in chunks(loaders, pillar)
        if ".removed." not in sls
    }
    assert used <= set(UNDONE)
    undoing = {part for by in UNDONE.values() for part in (by if isinstance(by, tuple) else (by,))}
    assert undoing <= {None, *CONCERNS}


def test_the_units_are_those_that_the_formula_masks(loaders):
    (chunk,) = loaders.modules.state.show_low_sls("slapos_ha.units")
    assert tuple(chunk["units"]) == UNITS
    world_of = load_module("_modules/slapos_node_remains.py")
    assert world_of.UNITS == UNITS
