"""SlapOS's launcher: exit codes made sense of, supervisord asked without being started, what belongs to us. supervisord is a small server here."""

import fcntl
import ipaddress
import json
import os
import pathlib
import signal
import socketserver
import subprocess
import threading
import time
import xmlrpc.server

import pytest

from .conftest import FILES, load

RECORDED = pathlib.Path(__file__).parent / "slapos.xml"
OWN = "2001:db8:42:1::1/64"
GIVEN = [
    "10.98.64.251/32",
    "10.98.64.53/32",
    "2001:db8:42:1::2/64",
    "2001:db8:42:1::3/64",
    "2001:db8:42:1:4001::/80",
    "2001:db8:42:1:4002::/80",
]

# Prints what it was called with, ends with the code that the test wants; `boot` goes on for ever, as the real one without a master.
SLAPOS = """
    import json, os, sys, time
    here = os.path.dirname(os.path.dirname(sys.argv[0]))
    with open(here + "/calls", "a") as calls:
        calls.write(" ".join(sys.argv[1:]) + chr(10))
    with open(here + "/niceness", "a") as niceness:
        niceness.write(sys.argv[2] + " " + str(os.nice(0)) + chr(10))
    plan = json.load(open(here + "/plan.json"))
    step = plan.get(sys.argv[2], {})
    if sys.argv[2] == "boot":
        time.sleep(600)
    if step.get("watchdog"):
        open(here + "/watchdog", "w").write(step["watchdog"])
    time.sleep(step.get("seconds", 0))
    print(step.get("print", ""))
    sys.exit(step.get("code", 0))
"""


class Supervisord(socketserver.ThreadingUnixStreamServer):
    """supervisord's XML-RPC as far as the launcher asks it."""

    daemon_threads = True

    def __init__(self, path, pid, state):
        self.asked = []
        self.dispatcher = xmlrpc.server.SimpleXMLRPCDispatcher(allow_none=True)
        for name, answer in (
            ("getPID", lambda: pid),
            ("getAllProcessInfo", lambda: [{"name": "watchdog", "statename": state()}]),
            ("shutdown", lambda: os.kill(pid, signal.SIGTERM) or True),
        ):
            self.dispatcher.register_function(answer, f"supervisor.{name}")
        server = self

        class Handler(xmlrpc.server.SimpleXMLRPCRequestHandler):
            disable_nagle_algorithm = False
            rpc_paths = ()

            def _dispatch(self, method, params):
                server.asked.append(method)
                return server.dispatcher._dispatch(method, params)

            def address_string(self):
                return "unix"

            def log_request(self, *args):
                pass

            def do_POST(self):
                length = int(self.headers["content-length"])
                body = server.dispatcher._marshaled_dispatch(
                    self.rfile.read(length), self._dispatch
                )
                self.send_response(200)
                self.send_header("Content-type", "text/xml")
                self.send_header("Content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        super().__init__(str(path), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class World:
    def __init__(self, module, folder, program, monkeypatch):
        self.module, self.folder, self.program = module, folder, program
        self.root = folder / "slapgrid"
        (self.root / "etc").mkdir(parents=True)
        (folder / "key").write_text("k")
        (folder / "cert").write_text("c")
        self.config = folder / "slapos.cfg"
        self.config.write_text(
            f"[slapos]\nkey_file = {folder}/key\ncert_file =  {folder}/cert\ncomputer_id = COMP-1\n"
            f"pidfile_software = {folder}/sr.pid\npidfile_instance = {folder}/cp.pid\n"
        )
        (folder / "slapos.xml").write_text(RECORDED.read_text())
        self.given, self.refused = [], []
        self.own = [OWN]
        self.plan()
        program("slapos", SLAPOS)
        monkeypatch.setattr(
            module.base,
            "addresses",
            lambda interface, family="-6": [
                address
                for address in map(ipaddress.ip_interface, self.own + self.given)
                if address.version == int(family[1]) and "/80" not in str(address)
            ],
        )
        monkeypatch.setattr(
            module.base, "ip", lambda *args: "" if "tentative" in args else self.routes()
        )
        monkeypatch.setattr(
            module.base.Re6st,
            "identity",
            lambda service: module.base.prefix(1, 16, "0120010DB80042"),
        )
        real = module.base.call

        def call(*args, **kwargs):
            if args[0] == "sysctl":
                self.sysctl = args[1:]
                return 0, ""
            if args[0] != "ip":
                return real(*args, **kwargs)
            assert args[:3] == ("ip", "-force", "-batch")
            for line in pathlib.Path(args[3]).read_text().splitlines():
                change = {"add": self.given.append, "delete": self.given.remove}
                words = line.split()
                verb = next(word for word in words if word in change)
                what = next(word for word in words if "/" in word)
                if what not in self.refused:
                    change[verb](what)
            return 0, ""

        monkeypatch.setattr(module.base, "call", call)
        re6st = {"program": "re6stnet", "path": [], "conf_dir": str(folder), "stop_seconds": 1}
        re6st |= {"ha_run_dir": str(folder / "run-re6st"), "start_seconds": 1, "mesh_seconds": 1}
        self.service = module.Slapos(
            {
                "program": str(folder / "bin/slapos"),
                "path": [],
                "config": str(self.config),
                "instance_root": str(self.root),
                "computer_xml": str(folder / "slapos.xml"),
                "interface": "lo",
                "user_ids": [],
                "ha_run_dir": str(folder / "run"),
                "start_seconds": 20,
                "stop_seconds": 2,
                "task_seconds": 1,
                "boot_seconds": 30,
                "promise_seconds": 20,
            },
            re6st,
        )
        self.server = self.supervisor = None

    def plan(self, **steps):
        (self.folder / "plan.json").write_text(json.dumps(steps))

    def calls(self):
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def routes(self):
        lines = ["local ::1 dev lo proto kernel metric 0 pref medium"]
        lines += ["local 2001:db8:7:1::/80 dev lo metric 1024 pref medium"]
        return "\n".join(
            lines + [f"local {n} dev lo metric 1024" for n in self.given if "/80" in n]
        )

    def supervisord(self, state="RUNNING"):
        """A process with supervisord's command line, and the server for it."""
        script = self.program("supervisord", "import sys, time; time.sleep(600)")
        self.supervisor = subprocess.Popen([script, "-c", f"{self.root}/etc/supervisord.conf"])
        assert self.module.base.wait_for(self.service.supervisord, 5)
        self.server = Supervisord(
            self.root / "sv.sock",
            self.supervisor.pid,
            lambda: state() if callable(state) else state,
        )
        return self.supervisor.pid


@pytest.fixture
def world(tmp_path, program, monkeypatch):
    world = World(load("slapos"), tmp_path, program, monkeypatch)
    yield world
    if world.server:
        world.server.shutdown()
        world.server.server_close()
    for process in world.module.base.processes():
        if any(str(tmp_path) in arg for arg in process.args):
            process.signal(signal.SIGKILL)


BUSY = "skipped: another run is at work"


@pytest.mark.parametrize(
    ("task", "command", "code", "printed", "result", "says"),
    [
        ("addpart", "node instance --now --promise-timeout 20", 0, "", 0, "done"),
        ("addpart", "node instance --now --promise-timeout 20", 3, "", 0, "master cannot be reached"),
        ("addpart", "node instance --now --promise-timeout 20", 10, "", 0, BUSY),
        ("addpart", "node instance --now --promise-timeout 20", 2, "promise x failed", 2, "exit code 2"),
        ("software", "node software --now", 0, "", 0, "done"),
        ("software", "node software --now", 10, "", 0, BUSY),
        ("software", "node software --now", 3, "", 3, "exit code 3"),
        ("software", "node software --now", 1, "Not enough space, required 1000.0 MB", 1, "min_free_space"),
        ("delpart", "node report --now", 0, "", 0, "done"),
        ("delpart", "node report --now", 10, "", 0, BUSY),
        ("delpart", "node report --now", 1, "ConnectionError: Max retries exceeded", 1, "master_url"),
        ("chkaddip", "node format --now", 2, "", 0, "could not be told"),
        ("chkaddip", "node format --now", 1, "NoAddressOnInterface: No IPv6 found on interface lo", 1, "is re6st up"),
        ("collect", "node collect", 0, "", 0, "done"),
        ("collect", "node collect", 1, "FileNotFoundError: [Errno 2] ... 'sensors'", 1, "lm-sensors"),
        ("collect", "node collect", 2, "", 2, "exit code 2"),
    ],
)  # fmt: skip
def test_exit_codes_of_tasks(world, capfd, task, command, code, printed, result, says):
    world.plan(**{command.split()[1]: {"code": code, "print": printed}})
    assert world.service.run(task) == result
    assert world.calls() == [f"{command} --cfg {world.config}"]
    out, err = capfd.readouterr()
    assert says in (err if result else out)
    assert not (world.folder / f"run/task-{task}.pid").exists()


def test_what_nothing_waits_for_is_run_after_everything_else(world):
    """A failover on a busy node would wait for builds; what it waits for itself is not put behind."""
    own = os.nice(0)
    behind = min(own + 10, 19)
    world.service.run("software")
    with pytest.raises(world.module.Failure, match="watchdog"):
        world.service.start_seconds = 1
        world.service.start()
    world.service.boot()
    niceness = world.folder / "niceness"
    assert world.module.base.wait_for(lambda: "boot" in niceness.read_text(), 5)
    assert niceness.read_text().splitlines() == [
        f"software {behind}",
        f"start {own}",
        f"boot {behind}",
    ]


def test_an_unknown_task_and_one_too_many_words(world, capfd):
    assert world.service.run("everything") == 64
    assert "addpart, software, collect, chkaddip, delpart" in capfd.readouterr().err
    assert world.calls() == []


def test_a_task_before_the_registration_or_during_a_stop(world, capfd):
    world.module.base.write_private(world.service.stopping, "")
    assert world.service.run("addpart") == 0 and world.calls() == []
    assert "being stopped" in capfd.readouterr().out
    world.config.unlink()
    with pytest.raises(world.module.Failure, match="not registered.*mounted"):
        world.service.run("addpart")


def test_a_second_run_of_the_same_task_is_skipped(world, capfd):
    os.makedirs(world.folder / "run")
    with open(world.folder / "run/task-addpart.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert world.service.run("addpart") == 0
    assert BUSY in capfd.readouterr().out and world.calls() == []


def test_status_asks_and_never_starts_supervisord(world):
    assert world.service.status() == (1, [], [])
    world.supervisord()
    assert world.service.status() == (0, [], [])
    assert world.calls() == [], "`slapos node status` would have started one"
    assert set(world.server.asked) == {"supervisor.getPID", "supervisor.getAllProcessInfo"}


@pytest.mark.parametrize("state", ["BACKOFF", "FATAL", "STARTING", "STOPPED"])
def test_status_without_a_running_watchdog(world, state):
    world.supervisord(state)
    code, _, warnings = world.service.status()
    assert code == 2 and state in warnings[0]


def test_status_of_a_stale_socket_and_of_what_a_crash_left(world):
    world.supervisord()
    world.server.shutdown()
    world.server.server_close()
    assert (world.root / "sv.sock").exists(), "as after a power cut: the socket's file is there"
    code, _, warnings = world.service.status()
    assert code == 2 and "this is left: supervisord[" in warnings[0]
    world.supervisor.kill()
    world.supervisor.wait()
    assert world.service.status() == (1, [], [])
    world.given = GIVEN[:1]
    code, _, warnings = world.service.status()
    assert code == 2 and "10.98.64.251/32" in warnings[0]


def test_status_before_a_registration(world):
    (world.folder / "key").unlink()
    code, infos, warnings = world.service.status()
    assert (code, warnings) == (1, []) and "not registered" in infos[0]
    world.supervisord()
    assert world.service.status()[0] == 2


@pytest.mark.parametrize("refused", [[], GIVEN[:1], GIVEN[-1:]])
def test_start_formats_what_is_missing_starts_and_boots_in_the_background(
    world, monkeypatch, refused
):
    """Where every address and route is back, format has nothing that a start would have to wait for."""

    def state():
        path = world.folder / "watchdog"
        return path.read_text() if path.exists() else "STOPPED"

    world.refused = refused
    world.plan(format={"code": 2}, start={"watchdog": "RUNNING"})
    ask = world.service.ask
    monkeypatch.setattr(
        world.service, "ask", lambda *a, **k: ask(*a, **k) if state() == "RUNNING" else None
    )
    world.supervisord(state)
    monkeypatch.setattr(world.service, "ours", lambda: [])
    begun = time.monotonic()
    said = world.service.start()
    assert time.monotonic() - begun < 15
    assert said[-1].startswith("started")
    assert [line for line in said if "master cannot be reached" in line] == said[:-1]
    assert world.module.base.wait_for(lambda: "node boot" in "".join(world.calls()), 5)
    begun = ["format", "start", "boot"] if refused else ["start", "boot"]
    assert [call.split()[1] for call in world.calls()] == begun
    assert bool(said[:-1]) == bool(refused)
    assert world.sysctl == ("-q", "net.ipv6.ip_nonlocal_bind=1")
    boot = world.module.base.remembered(world.service.file("boot.pid"))
    assert boot.args[:3] == ["timeout", "--kill-after=5", "30"]
    assert world.service.start()[0].startswith("already running")


def test_start_without_ipv6_without_registration_and_with_a_failing_format(world, monkeypatch):
    world.plan(format={"code": 1, "print": "Invalid user id 995 in section"})
    world.refused = GIVEN
    with pytest.raises(world.module.Failure, match="ids differ"):
        world.service.start()
    world.own, world.given = [], []
    monkeypatch.setattr(world.service, "start_seconds", 1)
    monkeypatch.setattr(world.module.base, "wait_for", lambda condition, *_: condition())
    with pytest.raises(world.module.Failure, match="no global IPv6 address on lo.*is re6st up"):
        world.service.start()
    world.config.unlink()
    with pytest.raises(world.module.Failure, match="not registered"):
        world.service.start()
    assert [call.split()[1] for call in world.calls()] == ["format"]


def test_start_ends_a_watchdog_that_never_runs_in_time(world, monkeypatch):
    world.service.start_seconds = 1
    monkeypatch.setattr(world.module.base, "end", lambda *_: [])
    with pytest.raises(world.module.Failure, match="watchdog is None, not RUNNING"):
        world.service.start()


def test_stop_waits_for_tasks_ends_supervisord_and_takes_addresses_away(world):
    world.given = list(GIVEN)
    foreign = "10.98.65.1/32"
    world.given.append(foreign)
    pid = world.supervisord()
    world.plan(software={"seconds": 600})
    task = threading.Thread(target=world.service.run, args=("software",))
    task.start()
    assert world.module.base.wait_for(lambda: world.calls() and world.service.at_work(), 5)
    said = world.service.stop()
    task.join(5)
    assert "supervisor.shutdown" in world.server.asked
    assert said[0].startswith("waited for tasks slapos[") and "ended the task" in said[1]
    assert f"stopped, pid {pid}" in said
    assert said[-1] == f"took from lo: {', '.join(GIVEN)}"
    assert world.given == [foreign], "an address that we did not give stays"
    assert os.path.exists(world.service.stopping)
    world.server.shutdown()
    world.server.server_close()
    assert world.service.status()[0] == 1


def test_stop_ends_a_slapgrid_that_somebody_else_started(world):
    world.plan(instance={"seconds": 600})
    program = world.folder / "bin/slapos"
    mine = subprocess.Popen([program, "node", "instance"])
    (world.folder / "cp.pid").write_text(str(mine.pid))
    innocent = subprocess.Popen(["sleep", "600"])
    (world.folder / "sr.pid").write_text(str(innocent.pid))
    assert [p.pid for p in world.service.at_work()] == [mine.pid]
    world.service.stop()
    assert mine.wait(5) == -signal.SIGTERM and innocent.poll() is None
    innocent.kill()
    innocent.wait()


def test_stop_of_a_supervisord_that_does_not_answer_is_bounded(world):
    pid = world.supervisord()
    world.server.shutdown()
    world.server.server_close()
    os.kill(pid, signal.SIGSTOP)
    world.service.stop_seconds = 1
    begun = time.monotonic()
    said = world.service.stop()
    assert any("killed" in line for line in said) and time.monotonic() - begun < 15
    assert world.supervisor.wait(5) == -signal.SIGKILL


def test_stop_says_what_is_left(world, monkeypatch):
    world.given = list(GIVEN)
    monkeypatch.setattr(world.service, "take_addresses_away", lambda: [])
    with pytest.raises(world.module.Failure, match="still there: 10.98.64.251/32"):
        world.service.stop()


def test_orphans_are_known_by_our_user_ids_in_our_network_only(world):
    child = subprocess.Popen(["sleep", "600"], user=64123)
    elsewhere = subprocess.Popen(["unshare", "-n", "setpriv", "--reuid=64123", "sleep", "600"])
    world.service.user_ids = {64123}
    module = world.module.base
    assert module.wait_for(lambda: module.Process(elsewhere.pid).uid == 64123, 5)
    assert [p.pid for p in world.service.ours()] == [child.pid]
    world.service.stop()
    assert child.wait(5) == -signal.SIGTERM and elsewhere.poll() is None
    elsewhere.kill()
    elsewhere.wait()


def test_another_supervisord_is_not_ours(world):
    script = world.program("supervisord", "import time; time.sleep(600)")
    other = subprocess.Popen([script, "-c", f"{world.root}/slappart0/etc/supervisord.conf"])
    assert world.module.base.wait_for(lambda: world.module.base.Process(other.pid).args[1:], 5)
    assert world.service.supervisord() is None
    world.service.stop()
    assert other.poll() is None
    other.kill()
    other.wait()


def test_addresses_are_known_without_the_filesystem(world):
    world.given = list(GIVEN)
    assert [what for _, what in world.service.given()] == GIVEN
    (world.folder / "slapos.xml").unlink()
    assert [what for _, what in world.service.given()] == GIVEN


def test_a_start_puts_all_addresses_and_routes_back(world):
    """Each one that format had to add would cost two seconds of the failover."""
    assert world.service.give_addresses_back() is True
    assert sorted(world.given) == sorted(GIVEN)
    assert world.service.give_addresses_back() is True
    assert sorted(world.given) == sorted(GIVEN), "once is enough"
    (world.folder / "slapos.xml").unlink()
    (world.folder / "run/addresses.json").unlink()
    world.given = []
    assert world.service.give_addresses_back() is False, "a computer that was never formatted"


@pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace needs root")
def test_the_kernel_takes_what_ip_is_told(world):
    """The real ip, in a network namespace of its own: it refuses options within a batch."""
    batch = world.folder / "run/ip.batch"
    world.service.give_addresses_back()
    given = batch.read_text()
    world.given = list(GIVEN)
    world.service.take_addresses_away()
    (world.folder / "give").write_text(given)
    show = "{ ip -o address show scope global; ip route show table local; ip -6 route show table local; } | grep -E '2001|10[.]98' | wc -l"
    done = subprocess.run(
        ["unshare", "--net", "sh", "-ec", f"ip link set lo up; ip -batch {world.folder}/give; {show}; ip -batch {batch}; {show}"],
        capture_output=True,
        text=True,
    )  # fmt: skip
    before, after = map(int, done.stdout.split())
    assert done.returncode == 0 and before >= len(GIVEN) and after == 0, done


def test_addresses_of_another_prefix_are_left_to_format(world, monkeypatch):
    monkeypatch.setattr(
        world.module.base.Re6st,
        "identity",
        lambda service: world.module.base.prefix(2, 16, "0120010DB80042"),
    )
    assert world.service.give_addresses_back() is False
    assert world.given and all("." in what for what in world.given)


def test_re6sts_own_address_is_never_taken(world):
    world.given = list(GIVEN)
    world.service.take_addresses_away()
    assert world.own == [OWN] and world.given == []


@pytest.mark.parametrize(
    ("output", "meaning"),
    [
        ("slapos.format.NoAddressOnInterface: No IPv6 found on interface lo to construct IPv6 with.", "is re6st up"),
        ("Invalid user id 995 in section 'program:slappart0_web'", "ids differ"),
        ("slapos: the command 'node instance' does not exist", "pinned versions"),
        ("File '/etc/opt/slapos/ssl/nokey' does not exist.", "mounted"),
        ("ConfigError: Configuration file does not exist", "mounted"),
        ("Couldn't connect to the server", "master_url"),
        ("something new", None),
    ],
)  # fmt: skip
def test_explain(output, meaning):
    found = load("slapos").explain(output)
    assert found is None if meaning is None else meaning in found


def test_each_line_of_info_has_a_colon_and_nothing_is_started(world):
    world.supervisord()
    info = world.service.info()
    assert info["watchdog"] == "RUNNING" and info["computer"] == "COMP-1" and world.calls() == []


def test_the_launcher_needs_its_neighbour_only(tmp_path):
    for name in ("re6st", "slapos"):
        (tmp_path / name).write_bytes((FILES / name).read_bytes())
        (tmp_path / name).chmod(0o755)
    done = subprocess.run([tmp_path / "slapos", "run"], capture_output=True, text=True)
    assert done.returncode == 1 and "settings.json cannot be used" in done.stderr


def test_a_watchdog_that_is_about_to_run_is_waited_for(world):
    states = iter(["STARTING"] * 3)
    world.supervisord(lambda: next(states, "RUNNING"))
    assert world.service.start()[0].startswith("already running")
    assert world.calls() == []
