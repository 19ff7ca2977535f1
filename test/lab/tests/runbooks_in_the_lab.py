"""
The runbooks, as printed: each situation is made, what its page says to look at is looked at, what it says to do is done, and what good looks like has to be so. By
hand: make lab-runbooks
"""

import re
import subprocess

import pytest
from slaplab import cli, control, hosts, links, runbook, site
from slaplab.base import HOSTS, REPO, wait

FQDN = "comp1.slapos.svc.lab"
LOOK, DO, GOOD = "What to look at", "What to do", "What good looks like"


def on(lab, host, command):
    return hosts.ssh(lab, host, command, check=False, stderr=subprocess.DEVNULL).stdout.strip()


class Page:
    """A runbook, used on the lab; which of its sections were is counted."""

    def __init__(self, lab, name):
        self.lab, self.text = lab, (REPO / "docs/runbooks" / name).read_text()

    def look(self):
        return "\n".join(runbook.section(self.lab, self.text, LOOK))

    def do(self):
        return "\n".join(runbook.section(self.lab, self.text, DO))

    def good(self, seconds=600):
        return "\n".join(runbook.section(self.lab, self.text, GOOD, seconds))


@pytest.fixture
def page(lab, request):
    return Page(lab, request.param)


def runs(name):
    return pytest.mark.parametrize("page", [name], indirect=True, ids=[name.removesuffix(".md")])


def well(lab, active="demo1"):
    """The site deployed, whole, and on one host, as each page begins."""
    wait("the site is whole", lambda: site.status(lab).returncode == 0, 600, 3)
    if site.active(lab) != active:
        site.move(lab, active)
        wait("the site is whole", lambda: site.status(lab).returncode == 0, 600, 3)


@runs("token-used.md")
def test_a_token_that_was_used(lab, page):
    control.pillar(lab, lambda pillar: pillar["re6st"].update(token="used-or-wrong"))
    answer = site.deploy(lab)
    assert answer.retcode != 0 and "token" in next(iter(answer.failed.values())), answer.failed
    said = page.look()
    assert re.search(r"re6st_first +to do", said) and "registered:\n        False" in said, said
    control.pillar(lab)
    said = page.do()
    assert re.search(r"Failed: +0", said), said[-3000:]
    assert "registered:\n        True" in page.good()


@runs("node-dead.md")
def test_a_node_that_is_dead(lab, page):
    well(lab)
    hosts.crash(lab, "demo1")
    wait("the service is on demo2", lambda: site.mounted(lab) == ["demo2"], 300, 2)
    said = page.look()
    assert "minion 'demo1' does not answer" in said and site.MOUNT in said
    cli.boot(lab, "demo1")
    assert "All is well." in page.good()
    assert site.active(lab) == "demo1"


@runs("network-split.md")
def test_heartbeats_that_are_not_heard(lab, page):
    well(lab)
    links.cut(lab, "demo2", "heartbeat")
    try:
        wait("the agents miss each other", lambda: "hear each other" in site.status(lab).stdout, 120, 3)  # fmt: skip
        said = page.look()
        assert "the nodes do not hear each other on every heartbeat" in said
        assert site.mounted(lab) == ["demo1"]
    finally:
        links.mend(lab, "demo2", "heartbeat")
    # Cleared before they hear each other again, the standby would start once more.
    wait("the agents hear each other", lambda: "hear each other" not in site.status(lab).stdout, 120, 3)  # fmt: skip
    page.do()
    assert "All is well." in page.good()


@runs("network-split.md")
def test_a_replication_that_is_cut(lab, page):
    well(lab)
    links.cut(lab, "demo2", "replication")
    try:
        hosts.ssh(lab, "demo1", f"echo x >{site.MOUNT}/cut && sync -f {site.MOUNT}/cut")
        assert "see the replication link" in page.look()
    finally:
        links.mend(lab, "demo2", "replication")
    page.do()
    assert "All is well." in page.good()


def resync(lab, rate):
    """demo2 has missed 24 MiB, which it begins to copy at this rate."""
    for host in HOSTS:
        hosts.ssh(lab, host, f"drbdadm disk-options --c-plan-ahead=0 --resync-rate={rate} {FQDN}")
    hosts.ssh(lab, "demo2", f"drbdadm disconnect {FQDN}")
    file = f"{site.MOUNT}/missed"
    hosts.ssh(lab, "demo1", f"dd if=/dev/urandom of={file} bs=1M count=24 conv=fsync && rm {file}")
    hosts.ssh(lab, "demo2", f"drbdadm connect {FQDN}")
    wait("the resync begins", lambda: "Sync" in on(lab, "demo2", f"drbdadm cstate {FQDN}"), 30)


def at_the_pillars_rate(lab):
    for host in HOSTS:
        hosts.ssh(lab, host, f"drbdadm adjust {FQDN}")


@runs("resync-stuck.md")
def test_a_resync_that_was_paused(lab, page):
    well(lab)
    resync(lab, "1M")
    hosts.ssh(lab, "demo2", f"drbdadm pause-sync {FQDN}")
    assert "user" in page.look()
    page.do()
    assert "All is well." in page.good()
    at_the_pillars_rate(lab)


@runs("stop-failed.md")
def test_an_instance_that_could_not_stop(lab, page):
    well(lab)
    resync(lab, "100K")
    hosts.ssh(lab, "demo1", f"om {site.SERVICE} switch --to demo2", check=False)
    wait("the stop fails", lambda: "stop failed" in on(lab, "demo1", "om daemon status --format json"), 300, 2)  # fmt: skip
    page.look()
    page.do()
    assert "All is well." in page.good()
    at_the_pillars_rate(lab)


@runs("split-brain.md")
def test_a_split_brain(lab, page):
    well(lab)
    links.cut(lab, "demo2", "replication")
    try:
        hosts.ssh(lab, "demo1", f"echo one >{site.MOUNT}/split && sync -f {site.MOUNT}/split")
        wait("the link is seen to be down", lambda: "Connected" not in on(lab, "demo1", f"drbdadm cstate {FQDN}"), 60)  # fmt: skip
        hosts.ssh(
            lab,
            "demo2",
            f"set -e; drbdadm primary {FQDN}; mount /dev/drbd0 /mnt; echo two >/mnt/split; umount /mnt; drbdadm secondary {FQDN}",
        )
    finally:
        links.mend(lab, "demo2", "replication")
    wait("DRBD sees the split brain", lambda: "StandAlone" in on(lab, "demo1", f"drbdadm cstate {FQDN}") + on(lab, "demo2", f"drbdadm cstate {FQDN}"), 60)  # fmt: skip
    assert "split brain: both were written to after they parted" in " ".join(page.look().split())
    page.do()
    assert "there is no split brain" in page.good()
    assert on(lab, "demo1", f"cat {site.MOUNT}/split") == "one"


@runs("remove.md")
def test_removing_it_all(lab, page):
    well(lab)
    page.look()
    assert site.mounted(lab) == ["demo1"]
    page.do()
    page.good(60)
    assert on(lab, "demo1", "om '*/*/*' ls | grep comp1") == ""
    assert on(lab, "demo2", f"ls /opt/{FQDN}.img") == ""


@runs("stopped-at-step.md")
def test_a_run_that_stopped_on_the_way_to_the_next_site(lab, page):
    def kill(data):
        if (data["step"], data["phase"]) == ("service", "begin"):
            hosts.ssh(lab, "demo1", "systemctl kill -s KILL salt-minion")

    control.again(lab)
    stopped = site.deploy(lab, kill)
    assert stopped.retcode != 0
    assert "minion demo1 did not answer" in next(iter(stopped.failed.values())), stopped.failed
    # The remedy that the error names.
    hosts.ssh(lab, "demo1", "systemctl restart salt-minion")
    cli.ready(lab)
    assert re.search(r"verify +always", page.look())
    page.do()
    assert "All is well." in page.good()
