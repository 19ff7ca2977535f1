"""The stand-in says what the real agent 2.1 said, recording by recording."""

import json
import os
import re
import socket
import threading
import time
from types import SimpleNamespace

import pytest
from standin import env, instance, log, orchestrate, proc, requests, wire
from standin.errors import Failed
from standin.res import app, disk, fs

from .conftest import FIXTURES, write_cluster, write_object

SERVICE = "slapos/svc/comp1"

# Recordings of other tools than the agent: the DRBD piece tests against them.
OTHER_TOOLS = {
    "drbd_cstate", "drbd_dstate", "drbd_role", "drbdadm_dump", "drbdadm_dump_xml", "drbdadm_missing",
    "drbdadm_status", "drbdadm_status_all", "drbdadm_version", "drbdsetup_status", "drbdsetup_status.json",
    "dump_md", "events2", "get_gi", "modinfo", "proc_drbd", "show", "show_gi",
}  # fmt: skip
# Recordings of commands that the formula does not call.
NOT_CALLED = {
    "devs": "the device tree of a host; the formula reads DRBD and LVM themselves",
    "net": "networks of the agent are not used",
    "pool": "pools are chosen by the agent",
    "pool_ls": "pools are chosen by the agent",
    "resinfo.json": "an inventory for a collector",
}
COMPARED = {
    "app_start_failed", "bad_action", "bad_opt", "cfg_decode", "cfg_decode_missing", "cfg_keys", "cluster_config.json",
    "cluster_get_missing", "cluster_get_name", "cluster_get_nodes", "daemon_status.json", "eval", "eval2",
    "full_daemon_status.json", "full_enable_app0", "full_enable_tasks", "full_print_config.json",
    "full_print_schedule", "full_print_schedule.json", "full_print_status", "full_print_status.json",
    "full_start_app0", "full_status_after_switch", "full_sync_nodes", "get", "get_missing", "ls", "ls_json",
    "ls_missing", "mon", "mon.flat", "mon.json", "mon_svc", "node_config.json", "node_get", "print_config",
    "print_config.json", "print_schedule", "print_schedule.json", "print_status", "print_status.flat",
    "print_status.json", "set_bad", "status_cmd", "status_missing", "switch_again_refused", "switch_wait_early",
    "thawed", "validate", "wait_fail",
}  # fmt: skip


def test_every_recording_is_compared_or_has_a_reason_not_to_be():
    names = {re.sub(r"\.(out|err|rc)$", "", path.name) for path in FIXTURES.iterdir()}
    assert names == OTHER_TOOLS | set(NOT_CALLED) | COMPARED


# The cluster and the objects of the recordings ---------------------------------------------------


class Daemon:
    """Answers on the local socket with recorded data, as the real daemon of that moment would have."""

    def __init__(self, data):
        self.data = data
        self.requests = []
        os.makedirs(os.path.dirname(env.socket_path()))
        self.server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.server.bind(env.socket_path())
        self.server.listen(8)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                connection, _ = self.server.accept()
            except OSError:
                return
            with connection:
                request = json.loads(wire.read_all(connection))
                self.requests.append(request)
                connection.sendall(json.dumps(self.answer(request)).encode())

    def answer(self, request):
        if request["action"] == "status":
            return self.data
        if request["action"] == "object":
            monitor = self.data["monitor"]
            path = request["path"]
            local = monitor["nodes"]["demo1"]["services"]["status"].get(path, {})
            return {
                "service": monitor["services"].get(path, {}),
                "monitor": local.get("monitor"),
                "mon_data": monitor,
            }
        if request["action"] == "expect":
            return expect(self.data, request["path"], request["target"])
        if request["action"] == "wait":
            from standin import waits

            return {"satisfied": waits.satisfied(self.data, request["condition"])}
        return {}


def expect(data, path, target):
    """The daemon's own decision on a request, over recorded data."""
    nodes = data["monitor"]["nodes"]
    wanted = []
    monitor = SimpleNamespace(
        view=lambda: orchestrate.View("demo1", nodes, time.time()),
        aggregates=data["monitor"]["services"],
        objects={path: orchestrate.Object(path, ["demo1", "demo2"], orchestrate="ha")},
        set_smon=lambda path, change: wanted.append(change),
    )
    answer = requests.expect(SimpleNamespace(monitor=monitor), path, target)
    assert bool(wanted) == ("target" in answer)
    return answer


@pytest.fixture
def small(fake_root, recording):
    """The first recorded cluster: a small service, demo2 holds it."""
    write_cluster(fake_root, "hyperopenx")
    write_object(fake_root, SERVICE, recording("print_config.json").data)
    return Daemon(recording("daemon_status.json").data)


@pytest.fixture
def full(fake_root, recording):
    """The second recorded cluster: the whole SlapOS service."""
    write_cluster(fake_root, "slapos")
    write_object(fake_root, SERVICE, recording("full_print_config.json").data)
    return Daemon(recording("full_daemon_status.json").data)


def cache_status(fake_root, data):
    """Leave a status where the daemon's children leave it."""
    folder = fake_root / "var/lib/opensvc/namespaces/slapos/svc/comp1"
    folder.mkdir(parents=True, exist_ok=True)
    kept = {key: value for key, value in data.items() if key not in ("monitor", "cluster")}
    (folder / "status.json").write_text(json.dumps(kept))


def same(result, recorded, err=True):
    code, out, said = result
    assert out == recorded.out
    if err:
        assert said == recorded.err
    assert code == recorded.code


# The command line itself -------------------------------------------------------------------------


def test_version_is_printed_in_the_agents_form(om):
    code, out, err = om("node", "--version")
    assert (code, err) == (0, "")
    assert re.fullmatch(r"om node version 2\.1-\d+standin\n", out)


def test_it_refuses_to_run_outside_the_lab(om, monkeypatch):
    if os.path.exists(env.LAB_MARKER):
        pytest.skip("this machine is a host of the lab")
    monkeypatch.delenv("STANDIN_ROOT")
    code, out, err = om("node", "--version")
    assert (code, out) == (1, "")
    assert "stand-in" in err and env.LAB_MARKER in err


def test_under_a_fake_root_no_command_is_run(fake_root):
    with pytest.raises(Failed, match="no command is run"):
        proc.run(["true"])
    with pytest.raises(Failed, match="no command is run"):
        proc.script(log.Log(), "true")


def test_unknown_action(om, small, recording):
    same(om("svc", "frobnicate"), recording("bad_action"))
    same(om(SERVICE, "frobnicate"), recording("bad_action"))


def test_unknown_option(om, small, recording):
    same(om(SERVICE, "print", "status", "--frob"), recording("bad_opt"))


def test_missing_object(om, small, recording):
    same(om("slapos/svc/nope", "print", "status"), recording("status_missing"))


def test_ls(om, small, recording):
    same(om("ls"), recording("ls"))
    same(om("svc", "ls"), recording("ls"))
    same(om("ls", "--format", "json"), recording("ls_json"))
    same(om("slapos/svc/nope", "ls"), recording("ls_missing"))


# Configuration -----------------------------------------------------------------------------------


def test_get_and_eval(om, small, recording):
    same(om(SERVICE, "get", "--kw", "fs#0.mnt"), recording("get"))
    same(om(SERVICE, "get", "--kw", "fs#0.nope"), recording("get_missing"))
    same(om(SERVICE, "eval", "--kw", "fs#0.mnt"), recording("eval"))
    same(om(SERVICE, "get", "--eval", "--kw", "fs#0.mnt"), recording("eval2"))


def test_print_config(om, small, recording):
    same(om(SERVICE, "print", "config"), recording("print_config"))
    same(om(SERVICE, "print", "config", "--format", "json"), recording("print_config.json"))
    same(om(SERVICE, "validate", "config"), recording("validate"))


def test_print_config_of_the_full_service(om, full, recording):
    same(om(SERVICE, "print", "config", "--format", "json"), recording("full_print_config.json"))


def test_set_in_a_section_no_driver_reads(om, small, recording):
    same(om(SERVICE, "set", "--kw", "badsection#x.y=z"), recording("set_bad"))
    assert om(SERVICE, "get", "--kw", "badsection#x.y") == (0, "z\n", "")


def test_cluster_keywords(om, small, recording):
    same(om("cluster", "get", "--kw", "cluster.name"), recording("cluster_get_name"))
    same(om("cluster", "get", "--kw", "cluster.nodes"), recording("cluster_get_nodes"))
    same(om("cluster", "get", "--kw", "cluster.nope"), recording("cluster_get_missing"))


def test_cluster_print_config(om, small, recording):
    _, out, _ = om("cluster", "print", "config", "--format", "json")
    shown, recorded = json.loads(out), recording("cluster_config.json").data
    for data in (shown, recorded):
        data["DEFAULT"]["id"] = data["cluster"]["id"] = data["cluster"]["secret"] = "volatile"
    assert json.dumps(shown) == json.dumps(recorded)


def test_node_keywords(om, small, recording):
    same(om("node", "get", "--kw", "node.nope"), recording("node_get"))
    same(om("node", "print", "config", "--format", "json"), recording("node_config.json"))


def test_keys(om, small, recording, tmp_path):
    source = tmp_path / "re6st"
    source.write_text(recording("cfg_decode").out)
    assert om("slapos/cfg/comp1", "create")[0] == 0
    assert om("slapos/cfg/comp1", "add", "--key", "re6st", "--from", str(source))[0] == 0
    same(om("slapos/cfg/comp1", "keys"), recording("cfg_keys"))
    same(om("slapos/cfg/comp1", "decode", "--key", "re6st"), recording("cfg_decode"))
    same(om("slapos/cfg/comp1", "decode", "--key", "nope"), recording("cfg_decode_missing"))


def test_enable(om, full, recording):
    assert om(SERVICE, "disable", "--rid", "app#0")[0] == 0
    same(om(SERVICE, "enable", "--rid", "app#0"), recording("full_enable_app0"))
    rids = ",".join(
        f"task#{name}" for name in ("addpart", "chkaddip", "collect", "delpart", "software")
    )
    assert om(SERVICE, "disable", "--rid", rids)[0] == 0
    code, out, err = om(SERVICE, "enable", "--rid", rids)
    recorded = recording("full_enable_tasks")
    assert (code, out) == (recorded.code, recorded.out)
    # The real agent goes through a set, in any order.
    assert sorted(err.splitlines()) == sorted(recorded.err.splitlines())


# Status ------------------------------------------------------------------------------------------


def test_print_status(om, small, fake_root, recording):
    cache_status(fake_root, recording("print_status.json").data)
    same(om(SERVICE, "print", "status"), recording("print_status"))
    same(om(SERVICE, "print", "status", "--format", "flat_json"), recording("print_status.flat"))
    _, out, _ = om(SERVICE, "print", "status", "--format", "json")
    assert out == recording("print_status.json").out
    same(om(SERVICE, "status"), recording("status_cmd"))


def test_print_status_of_the_full_service(om, full, fake_root, recording):
    cache_status(fake_root, recording("full_print_status.json").data)
    same(om(SERVICE, "print", "status"), recording("full_print_status"))
    same(om(SERVICE, "print", "status", "--format", "json"), recording("full_print_status.json"))


def test_print_status_after_a_switch(om, full, fake_root, recording, monkeypatch):
    """The picture from demo2 after the move, made from the recorded one of before it."""
    nodes = full.data["monitor"]["nodes"]
    before = {node: nodes[node]["services"]["status"].pop(SERVICE) for node in ("demo1", "demo2")}
    up, standby = before["demo1"], before["demo2"]
    up["resources"]["app#0"].update(status="up")
    up["resources"]["app#0"].pop("disable")
    for rid, resource in up["resources"].items():
        if rid.startswith("task#"):
            resource.pop("disable")
    up["resources"]["sync#i0"]["log"] = ["warn: demo1 need update"]
    standby["overall"] = "stdby up"
    standby["monitor"] = {"status": "idle", "placement": "leader"}
    nodes["demo2"]["services"]["status"][SERVICE] = up
    nodes["demo1"]["services"]["status"][SERVICE] = standby
    full.data["monitor"]["services"][SERVICE]["placement"] = "non-optimal"
    full.answer = lambda request: {
        "service": full.data["monitor"]["services"][SERVICE],
        "monitor": {"status": "idle", "local_expect": "started"},
        "mon_data": full.data["monitor"],
    }
    monkeypatch.setenv("STANDIN_NODE", "demo2")
    cache_status(fake_root, up)
    same(om(SERVICE, "print", "status"), recording("full_status_after_switch"))


def test_mon(om, small, recording):
    same(om("mon"), recording("mon"))
    same(om("mon", "--format", "json"), recording("mon.json"))
    same(om("mon", "--format", "flat_json"), recording("mon.flat"))


def test_mon_of_one_service(om, small, recording):
    for node, load, free in (("demo1", 0.5, 94), ("demo2", 0.1, 95)):
        small.data["monitor"]["nodes"][node]["stats"].update(load_15m=load, mem_avail=free)
    same(om("mon", "-s", SERVICE), recording("mon_svc"))


@pytest.mark.parametrize(
    ("name", "cluster"), [("print_schedule", "small"), ("full_print_schedule", "full")]
)
def test_print_schedule(om, recording, name, cluster, request):
    request.getfixturevalue(cluster)
    if cluster == "full":
        assert om(SERVICE, "unset", "--kw", "sync#i0.disable")[0] == 0
    _, out, _ = om(SERVICE, "print", "schedule", "--format", "json")
    shown, recorded = json.loads(out), recording(f"{name}.json").data
    stable = ("action", "config_parameter", "schedule_definition")
    assert [[row[key] for key in stable] for row in shown] == [
        [row[key] for key in stable] for row in recorded
    ]
    assert [list(row) for row in shown] == [list(row) for row in recorded]
    code, text, err = om(SERVICE, "print", "schedule")
    assert (code, err) == (0, "")
    assert text.splitlines()[0].split() == recording(name).out.splitlines()[0].split()


def test_the_schedule_is_drawn_as_recorded(recording):
    """Dates are volatile, and the two recordings of a schedule were not taken in the same second."""
    from standin import render

    for name in ("print_schedule", "full_print_schedule"):
        recorded = recording(name).out
        drawn = render.schedule(recording(f"{name}.json").data) + "\n"
        dates = re.compile(r"\d\d(:\d\d:\d\d|\d\d-\d\d-\d\d)")
        assert dates.sub("#", drawn) == dates.sub("#", recorded)


@pytest.mark.parametrize("name", ["daemon_status.json", "full_daemon_status.json"])
def test_daemon_status_is_printed_as_recorded(om, fake_root, recording, name):
    write_cluster(fake_root)
    Daemon(recording(name).data)
    same(om("daemon", "status", "--format", "json"), recording(name))


def test_daemon_that_cannot_be_asked(om, fake_root):
    write_cluster(fake_root)
    code, out, err = om("daemon", "status", "--format", "json")
    assert (code, out) == (0, "")
    assert "comm error while connecting: [Errno 2] No such file or directory" in err
    assert om("daemon", "running")[0] == 1


def test_wait_runs_out_of_time(om, small, recording):
    condition = f"monitor.services.'{SERVICE}'.avail=nope"
    same(om("node", "wait", "--filter", condition, "--duration", "1s"), recording("wait_fail"))


# Orchestration requests --------------------------------------------------------------------------


def test_thaw_is_deferred(om, small, recording):
    same(om(SERVICE, "thaw"), recording("thawed"))


def test_switch_returns_before_it_is_done(om, full, recording):
    recorded = recording("switch_wait_early")
    code, _, err = om(SERVICE, "switch", "--wait", "--time", "60")
    assert (code, err) == (recorded.code, recorded.err)
    # What it waited for is met at once: ``up`` is found in ``stdby up``.
    assert [request["action"] for request in full.requests] == ["expect", "wait"]


def test_switch_is_refused_while_one_is_under_way(om, full, recording):
    monitor = full.data["monitor"]["nodes"]["demo1"]["services"]["status"][SERVICE]["monitor"]
    monitor.update(status="stopping", global_expect="placed@demo2")
    same(
        om(SERVICE, "switch", "--to", "demo1", "--wait", "--time", "60"),
        recording("switch_again_refused"),
    )


# Evaluation of the resources ---------------------------------------------------------------------


@pytest.fixture
def world(full, fake_root, monkeypatch):
    """The two hosts of the recording as the drivers see them: only the probes of the system are replaced."""
    state = SimpleNamespace(role="Primary", up=True)
    domain = "comp1.slapos.svc.slapos"
    monkeypatch.setattr(
        disk, "loops_of", lambda path: ["/dev/loop0"] if path == f"/opt/{domain}.img" else []
    )
    monkeypatch.setattr(disk, "active_volumes", lambda: {f"{domain}-comp1"})
    monkeypatch.setattr(disk.Drbd, "role", lambda self: state.role)
    monkeypatch.setattr(disk.Drbd, "disk_state", lambda self: "UpToDate/UpToDate")
    monkeypatch.setattr(disk.Drbd, "exposed_devs", lambda self: ["/dev/drbd0"])
    monkeypatch.setattr(disk.os.path, "exists", os.path.exists)
    monkeypatch.setattr(fs.Mount, "is_up", lambda self: state.up)
    monkeypatch.setattr(fs.Mount, "writable", lambda self: True)
    for rid in (
        "app#0",
        "task#addpart",
        "task#chkaddip",
        "task#collect",
        "task#delpart",
        "task#software",
    ):
        instance.Instance(SERVICE).set([f"{rid}.disable=true"])
    write_object(
        fake_root,
        "slapos/vol/comp1-cfg",
        {
            "DEFAULT": {"nodes": "*", "pool": "shm", "size": "1048576", "children": SERVICE},
            "fs#1": {"type": "tmpfs", "dev": "shmfs", "mnt": "/srv/comp1-cfg.slapos.vol.slapos"},
            "sync#i0": {"disable": "true"},
        },
    )
    for path in (SERVICE, "slapos/vol/comp1-cfg"):
        for resource in instance.Instance(path, console=False).resources.values():
            resource.set_provisioned(True)
    monkeypatch.setattr(disk.Loop, "is_provisioned", lambda self, refresh=False: True)
    monkeypatch.setattr(
        disk.os.path,
        "exists",
        lambda path: True if path.endswith(".img") else os.path.lexists(path),
    )
    return state


def evaluated(path, avail="up"):
    data = instance.Instance(path, avail=avail, console=False).status_data(
        refresh=True, write=False
    )
    return comparable(data)


def comparable(data):
    data = json.loads(json.dumps(data))
    for key in ("cluster", "monitor", "csum", "updated"):
        data.pop(key, None)
    for resource in data["resources"].values():
        resource.get("provisioned", {}).pop("mtime", None)
    return data


def test_the_instance_that_is_up_evaluates_as_recorded(world, recording):
    item = instance.Instance(SERVICE, console=False)
    item.resources["fs#flag"].start()
    volume = item.resources["volume#0"]
    os.makedirs(os.path.dirname(volume.var("flag")), exist_ok=True)
    open(volume.var("flag"), "w").close()
    assert evaluated(SERVICE) == comparable(recording("full_print_status.json").data)
    nodes = recording("full_daemon_status.json").data["monitor"]["nodes"]
    recorded = nodes["demo1"]["services"]["status"]["slapos/vol/comp1-cfg"]
    assert evaluated("slapos/vol/comp1-cfg") == comparable(recorded)


def test_the_standby_evaluates_as_recorded(world, recording, monkeypatch):
    monkeypatch.setenv("STANDIN_NODE", "demo2")
    world.role, world.up = "Secondary", False
    nodes = recording("full_daemon_status.json").data["monitor"]["nodes"]
    recorded = nodes["demo2"]["services"]["status"]
    assert evaluated(SERVICE) == comparable(recorded[SERVICE])
    assert evaluated("slapos/vol/comp1-cfg") == comparable(recorded["slapos/vol/comp1-cfg"])


def test_daemon_status_has_every_key_a_client_may_read(fake_root, recording):
    """The daemon's own data, made by it, against the recording: the same keys with the same kinds of values."""
    from standin.daemon import Daemon as Real

    write_cluster(fake_root)
    daemon = Real()
    daemon.heartbeats.config = daemon.cluster.heartbeats()
    daemon.heartbeats.stats = {"hb#1": {"rx": [0, 0, 0], "tx": [0, 0, 0], "since": 0.0}}
    daemon.heartbeats.configured = 0.0
    daemon.monitor.publish()
    daemon.monitor.update_aggregates()
    recorded = recording("full_daemon_status.json").data
    for node in recorded["monitor"]["nodes"].values():
        # Objects are compared one by one above.
        node["services"] = {
            name: {"cluster": part["cluster"]} for name, part in node["services"].items()
        }
    recorded["monitor"]["nodes"].pop("demo2")
    recorded["monitor"]["services"] = {"cluster": {}}
    recorded["scheduler"]["delayed"] = []
    recorded["listener"]["stats"]["sessions"].update(alive={}, clients={})
    recorded["monitor"]["nodes"]["demo1"]["gen"] = {"demo1": 1}
    assert shape(json.loads(json.dumps(daemon.status()))) == shape(recorded)


def shape(value):
    if isinstance(value, dict):
        return {key: shape(one) for key, one in value.items()}
    if isinstance(value, list):
        return [shape(one) for one in value]
    return (
        "number"
        if isinstance(value, (int, float)) and not isinstance(value, bool)
        else type(value).__name__
    )


# Actions on resources ----------------------------------------------------------------------------


def test_start_of_an_application_says_what_the_agent_says(world, recording, monkeypatch, capsys):
    monkeypatch.setattr(log, "_shown", None)
    monkeypatch.setattr(app.App, "command", lambda self, verb: self.get(verb))
    monkeypatch.setattr(app.App, "check", lambda self: "down")
    monkeypatch.setattr(proc, "script", lambda *args, **kwargs: (0, ""))
    instance.Instance(SERVICE, console=False).unset(["app#0.disable"])
    item = instance.Instance(SERVICE, {"rids": ["app#0"]})
    capsys.readouterr()
    item.walk(instance.START_GROUPS, "start")
    recorded = recording("full_start_app0").err.splitlines()
    # The real agent makes process groups first; the stand-in has none.
    position = max(
        number for number, line in enumerate(recorded) if line.endswith("cgroup.subtree_control")
    )
    done = re.compile(r"\d:\d\d:\d\d\.\d+")
    said = [done.sub("#", line) for line in capsys.readouterr().err.splitlines()]
    assert said[0] == recorded[position - 1]
    assert said[1:] == [done.sub("#", line) for line in recorded[position + 1 :]]


def test_an_application_that_does_not_start_is_told_as_the_agent_tells_it(
    world, recording, monkeypatch, capsys, tmp_path
):
    recorded = recording("app_start_failed")
    lines = recorded.err.splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith("  exec "))
    own = lines[
        begin + 1 : next(n for n, line in enumerate(lines) if line.startswith("E start done"))
    ]
    program = tmp_path / "prog"
    told = [f"echo '{line[4:]}'" + (" >&2" if line.startswith("E") else "") for line in own]
    program.write_text("\n".join(["#!/bin/sh", *told, f"exit {recorded.code}", ""]))
    program.chmod(0o755)
    monkeypatch.setattr(log, "_shown", None)
    monkeypatch.setattr(app.App, "command", lambda self, verb: str(program))
    monkeypatch.setattr(app.App, "check", lambda self: "down")
    real = SimpleNamespace(fake=lambda: False, makedirs=env.makedirs, var=env.var)
    monkeypatch.setattr(proc, "env", real)
    instance.Instance(SERVICE, console=False).unset(["app#0.disable"])
    item = instance.Instance(SERVICE, {"rids": ["app#0"]})
    capsys.readouterr()
    with pytest.raises(Failed) as failure:
        item.resources["app#0"].start()
    said = capsys.readouterr().err.splitlines()
    done = re.compile(r"\d:\d\d:\d\d\.\d+")
    # Two streams, one after the other: only the agent reads both at once.
    assert sorted(done.sub("#", line) for line in said[2:]) == sorted(
        done.sub("#", line) for line in lines[begin + 1 : -3]
    )
    assert f"E {failure.value}" == lines[-3]


def test_a_synchronisation_that_fails_is_said_and_is_no_failure(
    world, recording, monkeypatch, capsys
):
    recorded = recording("full_sync_nodes")
    lines = [
        line.removeprefix("E | ") for line in recorded.err.splitlines() if line.startswith("E | ")
    ]
    monkeypatch.setattr(log, "_shown", None)
    monkeypatch.setattr(proc, "run", lambda argv, **kwargs: (12, "", "\n".join(lines)))
    monkeypatch.setattr(instance.Instance, "reference_state", lambda self: "up")
    item = instance.Instance(SERVICE)
    capsys.readouterr()
    item.config_file = "/etc/opensvc/namespaces/slapos/svc/comp1.conf"
    item.resources["disk#3"].files_to_sync = lambda: ["/etc/drbd.d/comp1.slapos.svc.slapos.res"]
    code = item._attempt("sync_nodes", True)
    assert capsys.readouterr().err == recorded.err
    assert code == recorded.code
