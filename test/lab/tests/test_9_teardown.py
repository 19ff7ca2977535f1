"""The end of a site's life: refused with another name, foreseen, gone, and nothing left. The longer story is in life_after_teardown.py."""

import json
import secrets
import subprocess
import time

import pytest
from slaplab import control, hosts, site
from slaplab.base import HOSTS

FQDN = "comp1.slapos.svc.lab"
FILE = f"/opt/{FQDN}.img"
GONE = "The data is gone from both nodes"
LAST = "Nothing of the site is left, as both nodes say"


def teardown(lab, pillar=None, **options):
    """Run the orchestration and return its result, read from its own output."""
    given = [f"{key}={value}" for key, value in options.items()]
    if pillar is not None:
        given.append("pillar=" + json.dumps({"slapos_ha": pillar}))
    begun = time.monotonic()
    said = control.salt(
        lab, "salt-run", "--out=json", "--out-indent=1", "state.orch", "orch.teardown", *given, check=False
    )  # fmt: skip
    answer = site.Run(said.returncode, said.stdout, time.monotonic() - begun)
    print(f"teardown {pillar} {options}: {answer.seconds:.0f} s, exit code {answer.retcode}")
    return answer


def on(lab, host, command):
    return hosts.ssh(lab, host, command, check=False, stderr=subprocess.DEVNULL).stdout.strip()


# What a teardown must not change where it is refused, and what is left of a site where it is not: "" for nothing.
LOOK = {
    "mounts": f"grep -c -e /srv/{FQDN} -e /etc/re6stnet -e /srv/slapgrid /proc/mounts | grep -v ^0",
    "service": "om '*/*/*' ls | grep comp1",
    "drbd": "drbdadm status | grep role",
    "resource": f"ls /etc/drbd.d/{FQDN}.res",
    "volumes": "lvs --noheadings -o vg_name,lv_name; vgs --noheadings -o vg_name; pvs --noheadings -o pv_name",
    "loop": f"losetup -n -O NAME,BACK-FILE -l | grep {FQDN}",
    "file": f"ls {FILE}",
    "units": "find /etc/systemd/system -lname /dev/null | grep -e drbd -e re6st -e slapos-node",
    "cron": "dpkg-divert --list '*slapos*'",
    "filter": "grep -c 'slapos_ha begins' /etc/lvm/lvmlocal.conf | grep -v ^0",
    "at boot": "cat /etc/modules-load.d/drbd.conf",
    "software": "ls -d /opt/re6st /opt/slapos",
    "folders": f"ls -d /srv/{FQDN} /srv/slapgrid /srv/comp1-cfg.* /etc/re6stnet /run/slapos-ha /run/re6stnet-ha /var/lib/slapos_ha /usr/local/lib/slapos_ha",
    "users": "getent passwd | cut -d: -f1 | grep slap; getent group | cut -d: -f1 | grep slap",
    "cluster": "om cluster get --kw cluster.name | grep -v -e default -e None; grep hb# /etc/opensvc/cluster.conf",
    "members": "om cluster get --kw cluster.nodes | grep ' '",
    "notes of the agent": "ls -d /var/lib/opensvc/namespaces/slapos/*/comp1*",
}  # fmt: skip


def seen(lab, host):
    """What each command of LOOK says on a host; one connection for all, which costs a second."""
    script = "\n".join(f"echo '=={name}'\n{{ {command}; }}" for name, command in LOOK.items())
    parts = on(lab, host, script).split("==")[1:]
    return {name: part.partition("\n")[2].strip() for name, part in zip(LOOK, parts, strict=True)}


def look(lab):
    return {host: seen(lab, host) for host in HOSTS}


def left(lab, host):
    """The names of what is left of the site on a host."""
    return {name for name, said in seen(lab, host).items() if said}


@pytest.fixture(scope="module")
def canary(lab):
    """The site as the tests before have left it, deployed; this file run by itself deploys it."""
    if not on(lab, "demo1", LOOK["service"]):
        site.deployed(lab)
    host = site.active(lab)
    text = secrets.token_hex(8)
    hosts.ssh(lab, host, f"echo {text} >{site.MOUNT}/canary && sync -f {site.MOUNT}/canary")
    assert all(site.in_sync(lab, host) for host in HOSTS)
    return text


def test_another_name_than_the_services_is_refused_before_anything(lab, canary):
    before = look(lab)
    answer = teardown(lab, {"destroy_data": "comp2"})
    assert answer.retcode != 0
    first = next(iter(answer.failed.values()))
    assert "'comp2' is not the name of this site's service, 'comp1'" in first
    assert "Nothing was changed." in first and look(lab) == before


def test_test_mode_says_what_would_go_and_changes_nothing(lab, canary):
    before = look(lab)
    answer = teardown(lab, {"destroy_data": "comp1"}, test=True)
    assert answer.retcode == 0, answer.why
    first, *others = answer.states.values()
    assert first["result"] is True and [state["result"] for state in others] == [None] * 9
    assert "its data INCLUDED" in first["comment"]
    for host in HOSTS:
        assert f"goes: {host}: loop file {FILE}" in first["comment"]
        assert f"{host}: loop file {FILE}" in answer.states[GONE]["comment"]
    assert look(lab) == before


def test_all_of_a_running_site_goes_in_one_run(lab, canary):
    answer = teardown(lab, {"destroy_data": "comp1"})
    assert answer.retcode == 0, answer.why
    assert {host: left(lab, host) for host in HOSTS} == {host: set() for host in HOSTS}


def test_the_next_run_says_that_nothing_is_left(lab, canary):
    answer = teardown(lab, {"destroy_data": "comp1"})
    assert answer.retcode == 0 and answer.changed == [], (answer.why, answer.changed)
    assert (
        "nothing of site lab is left on demo1 and demo2"
        in next(iter(answer.states.values()))["comment"]
    )
