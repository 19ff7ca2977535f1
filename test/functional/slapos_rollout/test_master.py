"""
Rollouts with a real salt-master: its bus, its job cache, and each site's orchestration as a real job in a process of its own.

Only the minions are played (``estate.py``): 2 for each site would be what the machine does most of the time.
"""

import contextlib
import itertools
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest
import salt.config
import salt.utils.event
import yaml
from pytestshellutils.utils import ports
from support import answers, load_module, served

from .estate import Estate

HERE = pathlib.Path(__file__).resolve().parent
# Of what a busy machine may need, in seconds.
PATIENCE = 120


def until(true, what):
    """Wait until ``true()`` is, and return it."""
    ends = time.monotonic() + PATIENCE
    while time.monotonic() < ends:
        found = true()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"not within {PATIENCE} s: {what}")


class Master:
    """A master of its own below ``folder``, and salt-run on it."""

    def __init__(self, folder):
        self.folder, self.conf = folder, folder / "etc"
        self.conf.mkdir(parents=True)
        # Salt 3008's salt-run notes itself there, and does not make it.
        (folder / "cache/proc").mkdir(parents=True)
        # A socket's path has room for a hundred characters.
        self.sock = pathlib.Path(f"/tmp/rollout-{os.getpid()}")
        config = {
            "id": "master_master", "root_dir": str(folder), "sock_dir": str(self.sock), "cachedir": str(folder / "cache"), "pki_dir": str(folder / "pki"),
            "log_file": str(folder / "master.log"), "log_level_logfile": "warning", "pidfile": str(folder / "master.pid"), "interface": "127.0.0.1",
            "publish_port": ports.get_unused_localhost_port(), "ret_port": ports.get_unused_localhost_port(), "worker_threads": 2, "file_roots": {"base": [served(folder)]},
            "pillar_roots": {"base": [str(folder / "pillar")]}, "extension_modules": str(folder / "extmods"), "fileserver_list_cache_time": 0,
            "enable_ssh_minions": False, "user": "root", "presence_events": False, "loop_interval": 60,
        }  # fmt: skip
        (self.conf / "master").write_text(yaml.safe_dump(config))
        self.opts = salt.config.master_config(str(self.conf / "master"))
        for minion in "abcdef":
            for number in "12":
                path = folder / "pki/minions" / f"{minion}{number}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("a key")

    def command(self, estate, program, *arguments):
        return [
            sys.executable,
            str(HERE / "as_salt.py"),
            str(estate.folder),
            program,
            "-c",
            str(self.conf),
            *arguments,
        ]

    def begin(self, estate, *arguments):
        """A rollout in a process of its own, as salt-run is one."""
        command = self.command(
            estate,
            "salt-run",
            "slapos_ha_rollout.run",
            "deploy",
            "only_differing=false",
            *arguments,
        )
        return subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, estate, *arguments):
        """(exit code, what it says)"""
        process = self.begin(estate, *arguments)
        said, _ = process.communicate(timeout=PATIENCE)
        return process.returncode, said

    def bus(self):
        """The master's bus, to listen and to speak, as a context manager."""
        return salt.utils.event.get_master_event(self.opts, self.opts["sock_dir"], listen=True)

    def holds(self, site):
        """Whether a run of a rollout at the site lives, and what it says."""
        path = self.folder / "cache/slapos_ha/rollout/runs" / site
        return json.loads(path.read_text()) if path.exists() and path.read_text() else None


@pytest.fixture(scope="module")
def master(tmp_path_factory):
    if os.geteuid() != 0:
        pytest.skip("a master's folders are root's")
    master = Master(tmp_path_factory.mktemp("master"))
    nobody = Estate.make(master.folder / "nobody")
    subprocess.run(
        master.command(nobody, "salt-run", "saltutil.sync_all"),
        check=True,
        capture_output=True,
        timeout=PATIENCE,
    )
    log = open(master.folder / "output", "w")  # noqa: SIM115
    daemon = subprocess.Popen(
        master.command(nobody, "salt-master"), stdout=log, stderr=log, start_new_session=True
    )
    try:
        bus = pathlib.Path(master.opts["sock_dir"]) / "master_event_pub.ipc"
        until(lambda: daemon.poll() is None and answers(bus), f"the master's bus, {log.name}")
        yield master
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(daemon.pid, signal.SIGTERM)
        daemon.wait(PATIENCE)
        log.close()


class Bus:
    """Whoever listens to what a master tells of rollouts."""

    def __init__(self, master):
        self._bus = master.bus()
        assert self._bus.connect_pub(timeout=PATIENCE)

    def until_the_end(self):
        """[tag] of what was told of a rollout, which has its end as its last."""
        tags = []

        def ended():
            found = self._bus.get_event(wait=1, tag="slapos_ha/rollout/", full=True)
            if found:
                tags.append(found["tag"])
            return tags[-1:] and tags[-1].endswith("/-/end")

        until(ended, "the rollout says that it has ended")
        return tags


@pytest.fixture
def estate(tmp_path):
    return Estate.make(tmp_path / "estate", a=None, b=None, c=None, d=None, e=None)


def spans(estate):
    """{site: (begin, end)} of what was done there; each site once."""
    found = {}
    for line in estate.log():
        if line["what"] == "begin":
            assert line["site"] not in found, f"{line['site']} was begun twice"
            found[line["site"]] = [line["at"], None]
        elif line["what"] == "end":
            found[line["site"]][1] = line["at"]
    return found


def test_sites_run_as_jobs_of_their_own_never_more_than_concurrency(master, estate, tmp_path):
    bus = Bus(master)
    for site in "abcde":
        estate.hang(site)
    process = master.begin(estate, "sites=*", "canary=c", "concurrency=2", f"report={tmp_path}")
    # The canary works alone until it has ended.
    until(lambda: "c" in spans(estate), "the canary works")
    assert list(spans(estate)) == ["c"]
    estate.let_go("c")
    until(lambda: len(spans(estate)) == 3, "two more work")
    pids = {line["pid"] for line in estate.log() if line["what"] == "begin"}
    assert len(pids) == 3 and process.pid not in pids
    for site in "abde":
        estate.let_go(site)
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said
    times = spans(estate)
    assert set(times) == set("abcde")
    most = max(sum(begin <= at < end for begin, end in times.values()) for at, _ in times.values())
    assert most == 2
    assert all(times["c"][1] <= times[site][0] for site in "abde")
    assert re.search(r"^\d\d:\d\d:\d\d a: step software$", said, re.M), said
    assert re.search(r"^\d\d:\d\d:\d\d a: done after \d+ s", said, re.M), said
    tags = bus.until_the_end()
    (rollout,) = {tag.split("/")[2] for tag in tags}
    told = [tag.removeprefix(f"slapos_ha/rollout/{rollout}/") for tag in tags]
    for site in "abcde":
        assert [one for one in told if one.startswith(f"{site}/")] == [
            f"{site}/begin",
            f"{site}/started",
            f"{site}/done",
        ]
    (report,) = tmp_path.glob("rollout-*.json")
    names = {
        one["name"] for site in json.loads(report.read_text())["sites"] for one in site["steps"]
    }
    assert "The site is whole, as seen from both nodes" in names


def test_a_site_that_hangs_costs_only_itself_and_stops_at_its_next_step(master, estate):
    estate.hang("a")
    process = master.begin(estate, "sites=a,b,c", "concurrency=1", "deadline=20", "budget=1")
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    jid = master.holds("a")["jid"]
    words = " ".join(said.split())
    assert f"job {jid} still runs its step software in process" in words
    times = spans(estate)
    assert set(times) == set("abc") and times["a"][1] is None
    assert "no more site" not in words
    # The run that hung finds at its next step that the site is not its own any more.
    estate.let_go("a")
    until(lambda: spans(estate)["a"][1], "what hung has ended")
    command = master.command(estate, "salt-run", "jobs.lookup_jid", jid)
    result = until(
        lambda: subprocess.run(command, capture_output=True, text=True).stdout.strip(),
        "the job's result",
    )
    assert "lost the lock of site a" in " ".join(result.split())


def test_a_rollout_that_was_killed_is_continued(master, estate):
    for site in "bc":
        estate.hang(site)
    process = master.begin(estate, "sites=*", "concurrency=2")
    # Whoever is done gives its place to the next.
    until(lambda: "c" in spans(estate) and spans(estate)["a"][1], "a is done, b and c work")
    until(lambda: master.holds("c"), "c is noted")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    again = master.begin(estate, "sites=*", "concurrency=2")
    lines = []
    for line in again.stdout:
        lines.append(line)
        if "c: runs already" in line:
            break
    assert any("b: runs already, job" in line for line in lines), lines
    assert not {"d", "e"} & set(spans(estate))
    for site in "bc":
        estate.let_go(site)
    said, _ = again.communicate(timeout=PATIENCE)
    assert again.returncode == 0, said
    # Each site's work was begun once, by whichever rollout.
    assert set(spans(estate)) == set("abcde")
    assert "done before this rollout was run again" in " ".join(said.split())
    assert json.loads((master.folder / "cache/slapos_ha/rollout/rollout").read_text()) == {}


def test_lost_events_do_not_hang_it(master, estate, monkeypatch, tmp_path):
    """Where the bus is not heard at all the job cache says what has ended."""
    (tmp_path / "sitecustomize.py").write_text(
        "import salt.utils.event\nsalt.utils.event.SaltEvent.get_event = lambda *_, **__: None\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    code, said = master.run(estate, "sites=a,b", "concurrency=2")
    assert code == 0, said
    assert set(spans(estate)) == {"a", "b"}


# --- Waiting for answers --------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def waiting(master):
    """(the bus, the events of job 1 as a step of an orchestration waits for them)"""
    client = load_module("_utils/slapos_site.py")._client(
        {"conf_file": str(master.conf / "master")}
    )
    with client, master.bus() as bus:
        assert client.event.connect_pub(timeout=PATIENCE)
        yield bus, client.get_returns_no_block("salt/job/1/")


def test_answers_that_come_together_are_heard_when_nothing_comes_after_them(waiting):
    bus, events = waiting
    for minion in ("a1", "a2"):
        # As long as the facts of a node.
        bus.fire_event({"return": "x" * 16000}, f"salt/job/1/ret/{minion}")
    found = [event["tag"] for event in itertools.islice(events, 20) if event]
    assert found == ["salt/job/1/ret/a1", "salt/job/1/ret/a2"]


def test_whoever_waits_for_an_answer_sleeps(waiting):
    bus, events = waiting
    begun = time.process_time()
    for _ in range(8):
        assert next(events) is None
    assert time.process_time() - begun < 0.2
    bus.fire_event({"return": True}, "salt/job/1/ret/a1")
    assert any(itertools.islice(events, 8))


def test_what_others_say_meanwhile_keeps_nobody_from_his_timeouts(waiting):
    bus, events = waiting
    for _ in range(50):
        bus.fire_event({}, "salt/job/2/ret/b1")
    assert next(events) is None
