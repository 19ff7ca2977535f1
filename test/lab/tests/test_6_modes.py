"""Whose the things are that the formula has made on the hosts, and that nobody else may write them or read what is secret. Between deployment and teardown."""

import pytest
from slaplab import hosts, site
from slaplab.base import HOSTS

FQDN = "comp1.slapos.svc.lab"
# Everything that slapos_node_remains.py may find of a site, and where the agent keeps what the formula gave it. A pattern is the shell's.
MADE = (
    f"/etc/drbd.d/{FQDN}.res", f"/opt/{FQDN}.img", "/etc/lvm/lvmlocal.conf", "/etc/modules-load.d/drbd.conf", "/etc/slapos_ha",
    "/etc/systemd/system/slapos-ha-firewall.service", "/etc/firewalld/policies/slapos_ha.xml", "/opt/re6st", "/opt/slapos", "/run/re6stnet-ha",
    "/run/slapos-ha", "/var/cache/slapos_ha", "/etc/re6stnet", "/var/log/re6stnet", "/var/lib/re6stnet", "/etc/opt/slapos", "/srv/slapgrid",
    f"/srv/{FQDN}", "/srv/comp1-cfg.*", "/etc/opensvc/cluster.conf", "/etc/opensvc/namespaces/slapos/*/comp1*.conf",
)  # fmt: skip
# What holds a secret: where it is, nobody but its owner reads it.
SECRET = (
    f"/etc/drbd.d/{FQDN}.res", f"/opt/{FQDN}.img", "/etc/opensvc/cluster.conf", "/etc/re6stnet/*.key", "/etc/opt/slapos/ssl/*key*",
)  # fmt: skip
# SlapOS makes these for its users, in folders that only they enter.
USERS = ("slapsoft", "slapuser0", "slapuser1", "slapuser2")
THEIRS = ("/srv/slapgrid", f"/srv/{FQDN}/slapos/", "/etc/opt/slapos/ssl/partition_pki/")


def listed(lab, host, *patterns, depth=""):
    """[(mode, owner, group, kind, path)] of what is there; a link has the mode of what it leads to, so it is left out."""
    script = f"there=$(ls -d {' '.join(patterns)} 2>/dev/null); [ -z \"$there\" ] || find $there -xdev {depth} ! -type l -printf '%m %u %g %y %p\\n'"
    said = hosts.ssh(lab, host, script).stdout
    rows = [line.split(" ", 4) for line in said.splitlines()]
    return [(int(mode, 8), *more) for mode, *more in rows]


@pytest.fixture(scope="module")
def deployed(lab):
    """The site as the tests before have left it; this file run by itself deploys it."""
    if hosts.ssh(lab, "demo1", f"test -e /etc/drbd.d/{FQDN}.res", check=False).returncode:
        site.deployed(lab)
    return site.active(lab)


@pytest.mark.parametrize("host", HOSTS)
def test_nothing_of_ours_is_for_everybody_to_write(lab, deployed, host):
    found = listed(lab, host, *MADE)
    paths = {path for *_, path in found}
    assert {f"/etc/drbd.d/{FQDN}.res", f"/opt/{FQDN}.img", "/opt/re6st", "/opt/slapos", "/etc/opensvc/cluster.conf"} <= paths  # fmt: skip
    # Sockets are reached through their folders; a folder with the sticky bit is one where each owns his own.
    open_ = [
        (oct(mode), owner, path)
        for mode, owner, _, kind, path in found
        if mode & 0o002 and kind != "s" and not (kind == "d" and mode & 0o1000)
    ]
    assert open_ == []


@pytest.mark.parametrize("host", HOSTS)
def test_what_is_ours_belongs_to_root_and_what_is_slapos_users_to_them(lab, deployed, host):
    strange = [
        (owner, path)
        for _, owner, _, _, path in listed(lab, host, *MADE)
        if owner != "root" and not (owner in USERS and path.startswith(THEIRS))
    ]
    assert strange == []
    for _, owner, _, _, path in listed(lab, host, "/srv/slapgrid/slappart*", depth="-maxdepth 0"):
        assert owner == f"slapuser{path.rpartition('slappart')[2]}", path


@pytest.mark.parametrize("host", HOSTS)
def test_what_holds_a_secret_is_its_owners_alone(lab, deployed, host):
    found = listed(lab, host, *SECRET, depth="-maxdepth 0")
    assert {f"/etc/drbd.d/{FQDN}.res", "/etc/opensvc/cluster.conf"} <= {path for *_, path in found}
    assert [(oct(mode), path) for mode, *_, path in found if mode & 0o077] == []
    if host == deployed:
        assert any(path.endswith(".key") for *_, path in found), "re6st's key is on the filesystem"
