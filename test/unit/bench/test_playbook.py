"""Ansible's side: the playbook is what a highstate is, changes nothing by its commands, and a run that was no no-op is seen."""

import json
import pathlib
import re
import types

import pytest
import yaml
from bench import playbook
from slaplab.base import HOSTS, Lab, LabError
from support import ROOT

PLAY = yaml.safe_load((playbook.HERE / "converge.yml").read_text())[0]
# What ansible-core 2.19.14 printed for two hosts, with everything in it that a no-op has not.
SAID = """
PLAY [A converged node of slapos_ha] *******************************************

TASK [LVM does not look at DRBD devices] ***************************************
ok: [demo1]
ok: [demo2]

TASK [Loop file is root's alone] ***********************************************
skipping: [demo2]
changed: [demo1]

TASK [Users of SlapOS have the site's ids] *************************************
ok: [demo1] => (item=a)
ok: [demo2] => (item=a)
changed: [demo2] => (item=b)
ok: [demo1] => (item=b)

TASK [DRBD module is loaded now] ***********************************************
ok: [demo1]
[ERROR]: Task failed: Module failed: non-zero return code
Origin: converge.yml:38:7

fatal: [demo2]: FAILED! => {"changed": false, "msg": "non-zero return code", "rc": 1}

PLAY RECAP *********************************************************************
demo1                      : ok=4    changed=1    unreachable=0    failed=0    skipped=0    rescued=0    ignored=0   
demo2                      : ok=2    changed=1    unreachable=0    failed=1    skipped=1    rescued=0    ignored=0   
"""  # noqa: W291 as it was printed
QUIET = re.sub(r"(?ms)^\[ERROR\].*?^fatal: \[demo2\].*?$", "ok: [demo2]", SAID).replace("changed:", "ok:").replace("changed=1", "changed=0").replace("failed=1", "failed=0")  # fmt: skip


def test_a_run_that_changes_something_or_fails_is_named_by_host_and_task():
    found = playbook.problems(SAID)
    assert found[:3] == [
        "demo1: Loop file is root's alone: changed",
        "demo2: Users of SlapOS have the site's ids: changed",
        'demo2: DRBD module is loaded now: fatal: : FAILED! => {"changed": false, "msg": "non-zero return code", "rc": 1}',
    ]
    assert [line.split(":")[0] for line in found[3:]] == ["demo1", "demo2"]


def test_a_no_op_has_no_problem():
    assert playbook.problems(QUIET) == []


@pytest.mark.parametrize("host", ["demo1", "demo2"])
def test_a_host_that_did_not_answer_is_no_no_op(host):
    gone = re.sub(rf"(?m)^{host} .*\n", "", QUIET)
    assert playbook.problems(gone) == [f"{host}: no answer"]
    silent = re.sub(rf"(?m)^({host} .*)ok=\d+", r"\1ok=0", QUIET).replace(
        "unreachable=0", "unreachable=1", 1
    )
    assert f"{host}: no answer" in playbook.problems(silent)


def test_nothing_printed_is_no_no_op():
    assert playbook.problems("") == ["demo1: no answer", "demo2: no answer"]


def test_tasks_and_calls_of_modules_are_counted():
    assert playbook.tasks(QUIET) == (4, 9)


def test_users_are_read_with_their_other_groups():
    text = "slapsoft:x:5000:5000::/srv/x:/bin/sh\nslapsoft\nslapuser0:x:5001:5001::/srv/y:/bin/sh\nslapuser0 slapsoft\n"
    assert playbook.users(text) == [
        {"name": "slapsoft", "uid": 5000, "gid": 5000, "home": "/srv/x", "shell": "/bin/sh", "groups": []},
        {"name": "slapuser0", "uid": 5001, "gid": 5001, "home": "/srv/y", "shell": "/bin/sh", "groups": ["slapsoft"]},
    ]  # fmt: skip


def module(task):
    return next(key for key in task if key.startswith("ansible.builtin."))


def test_only_plain_modules_are_used_and_no_command_counts_as_a_change():
    for task in PLAY["tasks"]:
        used = module(task)
        if used.endswith((".command", ".shell")):
            assert task["changed_when"] is False, task["name"]
    assert "ansible.builtin.shell" not in map(module, PLAY["tasks"])


def states(*names):
    """The SLS's states: the lines that begin a block, without Jinja's."""
    text = "\n".join((ROOT / f"slapos_ha/{name}.sls").read_text() for name in names)
    return set(re.findall(r"^([A-Z_a-z][^{}\n]*):$", text, re.MULTILINE)) - {"include", "extend"}


def test_what_a_highstate_looks_after_without_a_name_from_the_pillar_has_a_task_of_its_name():
    wanted = states("agent", "units", "drbd", "users", "re6st/install", "slapos/install", "re6st/config", "slapos/config")  # fmt: skip
    # Where the pillar names a package or an environment by another method.
    absent = {"OpenSVC agent package is here and is the pinned one", "OpenSVC agent is installed", "re6st is installed from packages", "SlapOS is installed from packages"}  # fmt: skip
    # Two states are one task, or one is two.
    other = {"DRBD module is loaded now and at boot", "Packages that re6st needs are installed", "Packages that SlapOS needs are installed"}  # fmt: skip
    assert absent | other <= wanted
    named = {task["name"] for task in PLAY["tasks"]}
    assert wanted - absent - other <= named


def test_variables_are_those_of_the_inventory():
    lab = Lab("/nowhere")
    given = playbook.inventory(lab, "demo1", {"demo1": [], "demo2": []})["nodes"]
    have = {*given["vars"], *given["hosts"]["demo2"], "item", "inventory_hostname", "mark"}
    text = (playbook.HERE / "converge.yml").read_text()
    used = set(re.findall(r"{{ (\w+)", text)) | set(
        re.findall(r"^ +when: (\w+)$", text, re.MULTILINE)
    )
    assert used <= have and {"users", "fqdn", "active", "preferred"} <= used
    assert given["hosts"]["demo1"]["active"] is True and given["hosts"]["demo2"]["active"] is False
    files = set(re.findall(r"{{ files }}/{{ inventory_hostname }}/(\S+)\"", text))
    assert files == {*playbook.EVERYWHERE, *playbook.WHERE_IT_RUNS}
    sources = set(re.findall(r"{{ sources }}/(\S+)\"", text))
    assert sources and all((ROOT / "slapos_ha/files" / name).is_file() for name in sources)


def test_the_release_of_ansible_is_pinned_with_all_that_it_needs():
    lines = [line for line in playbook.REQUIREMENTS.read_text().splitlines() if line[:1] != "#"]
    assert all(re.fullmatch(r"[\w.-]+==[\d.]+", line) for line in lines)
    assert playbook.version() == "2.19.14"


@pytest.fixture
def converge(tmp_path, monkeypatch):
    """prepared() over a lab that is played: (the lab, what was run, a function that says what Ansible prints from then on)."""
    lab, ran, said = Lab(tmp_path / "lab"), [], {"text": QUIET, "code": 0}
    lab.logs.mkdir(parents=True)

    def ssh(lab, host, line):
        text = "slapsoft:x:5000:5000::/srv/x:/bin/sh\nslapsoft\n" if line == playbook.USERS else f"{line} of {host}\n"  # fmt: skip
        return types.SimpleNamespace(stdout=text)

    def run(*command, **kwargs):
        ran.append((command, kwargs))
        return types.SimpleNamespace(stdout=said["text"], returncode=said["code"])

    monkeypatch.setattr(playbook.hosts, "ssh", ssh)
    monkeypatch.setattr(playbook.site, "active", lambda lab: "demo2")
    monkeypatch.setattr(playbook, "environment", lambda: tmp_path / "bin")
    monkeypatch.setattr(playbook, "run", run)
    return lab, ran, said.update


def test_both_hosts_get_the_files_that_the_highstate_wrote_there(converge):
    lab, ran, _ = converge
    with playbook.prepared(lab) as go:
        seconds, text = go()
    assert seconds >= 0 and text == QUIET == (lab.logs / "ansible.log").read_text()
    files = lab.home / "ansible/files"
    known = {host: {path.name: path.read_text() for path in (files / host).iterdir()} for host in HOSTS}  # fmt: skip
    assert set(known["demo1"]) == set(playbook.EVERYWHERE)
    assert set(known["demo2"]) == {*playbook.EVERYWHERE, *playbook.WHERE_IT_RUNS}
    assert known["demo2"]["slapos.cfg"] == "cat /etc/opt/slapos/slapos.cfg of demo2\n"
    inventory = json.loads((lab.home / "ansible/inventory.json").read_text())["nodes"]
    assert inventory["hosts"]["demo2"]["active"] is True
    assert inventory["hosts"]["demo1"]["users"][0]["name"] == "slapsoft"
    # A resource's file holds the peers' secret.
    assert (lab.home / "ansible").stat().st_mode & 0o77 == 0


def test_ansible_runs_in_the_namespace_of_the_lab_with_its_own_configuration(converge):
    lab, ran, _ = converge
    with playbook.prepared(lab) as go:
        go()
        ((command, kwargs),) = ran
        sockets = pathlib.Path(kwargs["env"]["ANSIBLE_SSH_CONTROL_PATH_DIR"])
        assert sockets.is_dir()
    assert not sockets.exists()
    assert command[:4] == ("ip", "netns", "exec", lab.namespace)
    assert command[4].endswith("/bin/ansible-playbook") and command[-1].endswith("converge.yml")
    assert kwargs["env"]["ANSIBLE_CONFIG"] == str(ROOT / "test/bench/ansible/ansible.cfg")
    assert (ROOT / "test/bench/ansible/ansible.cfg").is_file()


@pytest.mark.parametrize("text, code, why", [(SAID, 2, "Loop file is root's alone: changed"), (QUIET, 4, "ok: \\[demo1\\]"), ("", 0, "demo1: no answer")])  # fmt: skip
def test_a_run_that_was_no_no_op_is_no_measurement(converge, text, code, why):
    lab, _, says = converge
    says(text=text, code=code)
    with playbook.prepared(lab) as go, pytest.raises(LabError, match=why):
        go()
