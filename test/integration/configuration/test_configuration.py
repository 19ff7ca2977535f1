"""Masks, users and firewall of a node."""

import pytest


@pytest.mark.parametrize(
    "number, name", [(5000, "slapsoft"), (5001, "slapuser0"), (5003, "slapuser2")]
)
def test_a_user_has_the_sites_id(host, number, name):
    user = host.user(name)
    assert (user.uid, user.gid) == (number, number)


def test_there_are_as_many_users_as_partitions(host):
    assert host.user("slapuser2").exists and not host.user("slapuser3").exists


def test_drbds_unit_is_masked(host):
    assert host.file("/etc/systemd/system/drbd.service").linked_to == "/dev/null"


def test_the_firewalls_table_is_loaded_now_and_at_boot(host):
    table = host.check_output("nft list table inet slapos_ha")
    assert "7289" in table and "192.0.2.12" in table
    assert host.service("slapos-ha-firewall").is_enabled
    ruleset = host.file("/etc/slapos_ha/firewall.nft")
    assert (ruleset.user, ruleset.mode) == ("root", 0o644)
