"""re6st's launcher: which processes are ours, what counts as up, what is cleaned away. The network is a table; the processes are real."""

import ipaddress
import json
import os
import pathlib
import signal
import socket
import subprocess
import time

import pytest

from .conftest import FILES, load

OWN = "2001:db8:42:7::1/64"
MESH = "2001:db8:42::/64 via fe80::1 dev re6stnet1 proto babel src 2001:db8:42:7::1 metric 1024 onlink pref medium"
DEAD = "unreachable 2001:db8:42:9::/64 dev lo proto babel metric 4294967295 pref medium"
UNREACHABLE = "unreachable 2001:db8:42::/48 dev lo metric 1024 pref medium"
FOREIGN = "2001:db8:99::/64 via fe80::2 dev wg0 proto babel metric 1024 pref medium"

DAEMON = """
    import os, signal, socket, subprocess, sys, time
    conf = open("re6stnet.conf").read()
    assert sys.argv[1:] == ["@re6stnet.conf"]
    if "broken" in conf:
        sys.exit("re6stnet: this is broken, key 00112233445566778899aabbccddeeff")
    here = os.path.dirname(sys.argv[0])
    state = next(line.split()[1] for line in conf.splitlines() if line.startswith("state "))
    children = [subprocess.Popen([here + "/babeld", "-S", state + "/babeld.state"])]
    children.append(subprocess.Popen([here + "/openvpn", "--dev", "re6stnet-tcp"]))
    def ended(*_):
        for child in children:
            child.terminate()
        for child in children:
            child.wait()
        sys.exit(0)
    if "stubborn" in conf:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, ended)
    port = next(int(line.split()[1]) for line in conf.splitlines() if line.startswith("#port "))
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    s.bind(("::1", port))
    open("address", "w").write("x")
    while True:
        data, peer = s.recvfrom(1024)
        if "mute" not in conf:
            s.sendto(data + b"0.642", peer)
"""
SLEEPER = "import time; time.sleep(600)"


class World:
    """A node: certificates, a network that is a table, and programs that are only called re6stnet, babeld and openvpn."""

    def __init__(self, module, folder, monkeypatch):
        self.module, self.folder = module, folder
        self.conf_dir = folder / "etc"
        self.conf_dir.mkdir()
        (folder / "state").mkdir()
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
            self.port = probe.getsockname()[1]
        self.conf()
        self.routes = [FOREIGN]
        self.extra = []
        self.removed = []
        monkeypatch.setattr(module, "PORT", self.port)
        monkeypatch.setattr(module, "ip", lambda *args: "\n".join(self.routes))
        everything = module.processes

        def processes():
            """This world's, and the dead, who have no arguments any more: a re6st of the machine itself, or of another test, would be this node's."""
            return [
                process
                for process in everything()
                if not process.alive or any(str(folder) in arg for arg in process.args)
            ]

        monkeypatch.setattr(module, "processes", processes)
        monkeypatch.setattr(module, "addresses", lambda *args: self.addresses())
        real = module.call

        def call(*args, **kwargs):
            if args[0] != "ip":
                return real(*args, **kwargs)
            assert "del" in args
            self.removed.append(" ".join(args[1:]))
            target = next(word for word in args if "/" in word)
            self.routes = [line for line in self.routes if target not in line]
            (self.conf_dir / "address").unlink(missing_ok=True)
            return 0, ""

        monkeypatch.setattr(module, "call", call)
        for name in ("ca.crt", "cert.crt", "cert.key"):
            (self.conf_dir / name).write_text(name)
        monkeypatch.setattr(
            module.Re6st,
            "identity",
            lambda service: module.prefix(7, 16, "0120010DB80042"),
        )
        self.service = module.Re6st(
            {
                "program": str(folder / "bin/re6stnet"),
                "path": [],
                "conf_dir": str(self.conf_dir),
                "ha_run_dir": str(folder / "run"),
                "start_seconds": 5,
                "stop_seconds": 1,
                "mesh_seconds": 60,
            }
        )

    def conf(self, *words):
        lines = [f"state {self.folder}/state", f"run {self.folder}/run-re6st", f"#port {self.port}"]
        lines += [f"log {self.folder}", *(f"# {word}" for word in words)]
        (self.conf_dir / "re6stnet.conf").write_text("\n".join(lines) + "\n")

    def addresses(self):
        own = [ipaddress.ip_interface(OWN)] if (self.conf_dir / "address").exists() else []
        return own + self.extra

    def child(self, name):
        daemon = self.service.daemon()
        return next(p for p in self.module.descendants(daemon.pid) if p.name == name)


@pytest.fixture
def world(tmp_path, program, monkeypatch):
    program("re6stnet", DAEMON)
    program("babeld", SLEEPER)
    program("openvpn", SLEEPER)
    world = World(load("re6st"), tmp_path, monkeypatch)
    yield world
    for process in world.module.processes():
        if any(str(tmp_path) in arg for arg in process.args):
            process.signal(signal.SIGKILL)


@pytest.mark.parametrize(
    ("number", "length", "serial", "address", "bits", "prefix_length", "network"),
    [
        (7, 16, "0120010DB80042", "2001:db8:42:7::1", "0000000000000111", 64, "2001:db8:42::/48"),
        (0, 16, "0120010DB80042", "2001:db8:42::1", "0" * 16, 64, "2001:db8:42::/48"),
        (5, 32, "0120010DB80042", "2001:db8:42:0:5::1", "0" * 29 + "101", 80, "2001:db8:42::/48"),
        (1, 4, "120010DB8", "2001:db8:1000::1", "0001", 36, "2001:db8::/32"),
    ],
)
def test_the_certificate_is_the_prefix(
    number, length, serial, address, bits, prefix_length, network
):
    known = load("re6st").prefix(number, length, serial)
    assert known == {
        "address": address,
        "bits": bits,
        "length": prefix_length,
        "network": network,
    }


def test_identity_is_read_from_real_certificates_once(tmp_path, monkeypatch):
    module = load("re6st")
    serial = ["-set_serial", "0x120010db80042", "-subj", "/CN=lab"]
    for name, extra in (("ca", serial), ("cert", ["-subj", "/CN=7\\/16/title=comp1"])):
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
        command += ["-keyout", tmp_path / f"{name}.key", "-out", tmp_path / f"{name}.crt", *extra]
        subprocess.run(command, check=True, capture_output=True)
    settings = {"program": "re6stnet", "path": [], "conf_dir": str(tmp_path)}
    settings |= {"start_seconds": 1, "stop_seconds": 1, "mesh_seconds": 1}
    service = module.Re6st({**settings, "ha_run_dir": str(tmp_path / "run")})
    known = service.identity()
    assert (known["address"], known["network"]) == ("2001:db8:42:7::1", "2001:db8:42::/48")

    def call(*args, **kwargs):
        raise AssertionError(f"the same certificates need no {args[0]}")

    monkeypatch.setattr(module, "call", call)
    assert service.identity() == known
    (tmp_path / "cert.crt").unlink()
    (tmp_path / "ca.crt").unlink()
    assert service.identity() == known, "without the filesystem it is still known who we were"
    (tmp_path / "ca.crt").write_text("another")
    with pytest.raises(AssertionError):
        service.identity()


def test_start_status_stop(world):
    assert world.service.status() == (1, [], [])
    said = world.service.start()
    assert said[-1].startswith("started, pid ")
    daemon = world.service.daemon()
    assert os.getsid(daemon.pid) == daemon.pid, "it has a session of its own"
    assert oct((world.folder / "run/re6stnet.pid").stat().st_mode)[-3:] == "600"
    code, infos, warnings = world.service.status()
    assert (code, warnings) == (0, []) and "no route into the mesh yet" in infos[0]
    world.routes.append(MESH)
    assert world.service.status() == (0, [], [])
    assert world.service.start() == [f"already running, pid {daemon.pid}"]
    (world.conf_dir / "address").unlink()
    world.routes.remove(MESH)
    assert world.service.stop() == [f"stopped, pid {daemon.pid}"]
    assert not daemon.still() and world.service.orphans() == []
    assert world.service.status()[0] == 1
    assert world.service.stop() == ["not running"]


def test_an_unreachable_babel_route_is_no_mesh_and_grace_ends(world):
    world.routes.append(DEAD)
    world.service.start()
    assert world.service.status()[0] == 0
    world.service.mesh_seconds = 0
    code, _, warnings = world.service.status()
    assert code == 2 and "no route into the mesh" in warnings[0]
    world.routes.append(MESH)
    assert world.service.status()[0] == 0


@pytest.mark.parametrize(
    ("break_it", "code", "text"),
    [
        (lambda w: w.child("babeld").signal(signal.SIGKILL), 2, "babeld is dead"),
        (lambda w: w.child("openvpn").signal(signal.SIGKILL), 0, "openvpn is dead"),
        (lambda w: (w.conf_dir / "address").unlink(), 2, "2001:db8:42:7::1 is not on lo"),
        (lambda w: w.service.daemon().signal(signal.SIGSTOP), 2, "does not answer"),
        (lambda w: (w.conf_dir / "cert.key").unlink(), 2, "has no cert.key"),
        (lambda w: w.service.daemon().signal(signal.SIGKILL), 2, "its children go on: "),
    ],
    ids=["babeld", "openvpn", "address", "loop", "key", "daemon"],
)
def test_what_status_says_of_a_broken_instance(world, break_it, code, text):
    world.service.start()
    world.routes.append(MESH)
    assert world.service.status() == (0, [], [])
    break_it(world)

    def seen():
        found, _, warnings = world.service.status()
        return found == code and any(text in warning for warning in warnings)

    assert world.module.wait_for(seen, 8), world.service.status()


def test_start_after_a_crash_cleans_its_own_and_only_its_own(world, program):
    world.service.start()
    world.routes += [UNREACHABLE, MESH, DEAD]
    foreign = program("openvpn", SLEEPER, folder="other")
    stranger = subprocess.Popen([foreign, "--dev", "tun0"])
    other_babel = subprocess.Popen(
        [program("babeld", SLEEPER, folder="other"), "-S", "/var/lib/babel-state"]
    )
    daemon = world.service.daemon()
    orphans = [p.pid for p in world.module.descendants(daemon.pid)]
    daemon.signal(signal.SIGKILL)
    assert world.module.wait_for(lambda: not daemon.still(), 5) is True
    said = world.service.start()
    assert said[0].startswith("ended orphans ") and str(orphans[0]) in said[0]
    assert said[-1].startswith("started")
    assert not any(world.module.Process(pid).alive for pid in orphans)
    assert stranger.poll() is None and other_babel.poll() is None
    assert world.removed == [
        f"-6 addr del {OWN} dev lo",
        "-6 route del unreachable 2001:db8:42::/48 metric 1024",
        "-6 route del 2001:db8:42::/64 dev re6stnet1 proto babel",
        "-6 route del unreachable 2001:db8:42:9::/64 metric 4294967295",
    ]
    assert world.routes == [FOREIGN], "another's babel route stays"
    for process in (stranger, other_babel):
        process.kill()
        process.wait()


def test_start_replaces_a_daemon_that_is_not_well(world):
    world.service.start()
    old = world.service.daemon()
    world.child("babeld").signal(signal.SIGKILL)
    assert world.module.wait_for(lambda: world.service.ailments(old, ask=False)[0], 5)
    said = world.service.start()
    assert said[0].startswith("restarted: babeld is dead")
    assert world.service.daemon().pid != old.pid and not old.still()


def test_a_pid_that_was_given_away_is_not_ours(world):
    world.service.start()
    daemon = world.service.daemon()
    world.service.stop()
    bystander = subprocess.Popen(["sleep", "600"])
    world.module.write_private(
        world.service.pid_file, json.dumps({"pid": bystander.pid, "began": 1, "at": 0})
    )
    assert world.service.daemon() is None
    assert world.service.stop() == ["not running"] and bystander.poll() is None
    assert daemon.still() is None
    bystander.kill()
    bystander.wait()


def test_a_daemon_that_a_unit_started_on_our_configuration_is_adopted(world):
    child = subprocess.Popen([world.service.program, "@re6stnet.conf"], cwd=world.conf_dir)
    assert world.module.wait_for(lambda: (world.conf_dir / "address").exists(), 5)
    assert world.service.daemon().pid == child.pid
    assert world.service.start() == [f"already running, pid {child.pid}"]
    (world.conf_dir / "address").unlink()
    assert world.service.stop() == [f"stopped, pid {child.pid}"]
    child.wait()


def test_a_stubborn_daemon_is_killed_within_bounds(world):
    world.conf("stubborn")
    world.service.start()
    (world.conf_dir / "address").unlink()
    begun = time.monotonic()
    assert world.service.stop()[0].startswith("stopped")
    assert 1 <= time.monotonic() - begun < 5
    assert world.service.orphans() == []


def test_a_failed_start_says_why_and_leaves_nothing(world):
    world.conf("broken")
    with pytest.raises(world.module.Failure) as failure:
        world.service.start()
    assert "exit code 1" in str(failure.value) and "this is broken" in str(failure.value)
    assert "00112233445566778899aabbccddeeff" not in str(failure.value), "the mesh's key"
    assert world.service.status()[0] == 1


def test_a_start_that_never_gets_well_ends_in_time(world):
    world.conf("mute")
    world.service.start_seconds = 2
    begun = time.monotonic()
    with pytest.raises(world.module.Failure, match="does not answer"):
        world.service.start()
    assert time.monotonic() - begun < 15
    assert world.service.daemon() is None and world.service.orphans() == []


def test_a_start_that_never_gets_well_names_a_registry_that_does_not_answer(world):
    world.conf("mute")
    world.service.start_seconds = 1
    with socket.create_server(("127.0.0.1", 0)) as registry:
        url = f"http://127.0.0.1:{registry.getsockname()[1]}"
        conf = world.conf_dir / "re6stnet.conf"
        conf.write_text(conf.read_text() + f"registry {url}\n")
        with pytest.raises(world.module.Failure) as failure:
            world.service.start()
        assert "registry" not in str(failure.value)
    with pytest.raises(world.module.Failure) as failure:
        world.service.start()
    [first, *_] = str(failure.value).splitlines()
    assert first.endswith(f"the registry {url} cannot be reached (Connection refused), which a first start needs")  # fmt: skip


@pytest.mark.parametrize(
    "url", ["", "http://", "ftp://x", "http://127.0.0.1:99999999", "http://[::1"]
)
def test_a_registry_that_is_no_address_is_no_reason_to_fail(world, url):
    conf = world.conf_dir / "re6stnet.conf"
    conf.write_text(f"registry {url}\n")
    assert isinstance(world.service.unreached(), list)


@pytest.mark.parametrize("gone", ["cert.crt", "cert.key", "ca.crt", "re6stnet.conf"])
def test_nothing_starts_before_a_registration(world, gone):
    (world.conf_dir / gone).unlink()
    with pytest.raises(world.module.Failure, match=f"not registered: .* {gone}.*mounted"):
        world.service.start()
    assert world.service.status()[:1] == (1,)
    assert world.service.stop() == ["not running"]


def test_stop_says_what_is_left(world, monkeypatch):
    world.service.start()
    monkeypatch.setattr(world.service, "clean", lambda: ([], []))
    with pytest.raises(world.module.Failure, match=f"still there: {OWN}"):
        world.service.stop()


@pytest.mark.parametrize(
    ("line", "within"),
    [("2001:db8:42:9::/64", True), ("default", False), ("2001:db8:43::/48", False), ("x", False)],
)
def test_within(line, within):
    assert load("re6st").within(line, ipaddress.ip_network("2001:db8:42::/48")) is within


def run(*args, settings=None, folder=None):
    for name in ("re6st", "slapos"):
        (folder / name).write_bytes((FILES / name).read_bytes())
        (folder / name).chmod(0o755)
    if settings is not None:
        (folder / "settings.json").write_text(settings)
    return subprocess.run(args, cwd=folder, capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize("name", ["re6st", "slapos"])
@pytest.mark.parametrize(
    ("settings", "text"),
    [(None, "No such file"), ("{", "settings.json cannot be used"), ("{}", "KeyError"),
     ('{"re6st": {}, "slapos": {}}', "settings.json has no 'program'")],
)  # fmt: skip
def test_settings_that_are_missing_or_spoiled_are_named(tmp_path, name, settings, text):
    done = run(f"./{name}", "start", settings=settings, folder=tmp_path)
    assert done.returncode == 1 and text in done.stderr and "Traceback" not in done.stderr


def test_an_unknown_verb(tmp_path):
    done = run("./re6st", "explode", settings="{}", folder=tmp_path)
    assert done.returncode == 64 and "start | stop | restart | status | info" in done.stderr


def test_as_the_agent_calls_it_before_anything_is_registered(tmp_path):
    settings = {"program": "re6stnet", "path": [], "conf_dir": str(tmp_path / "none"), "start_seconds": 5}  # fmt: skip
    settings |= {"stop_seconds": 5, "mesh_seconds": 5, "ha_run_dir": str(tmp_path / "run")}
    text = json.dumps({"re6st": settings})
    status = run("./re6st", "status", settings=text, folder=tmp_path)
    assert status.returncode == 1 and "not registered" in status.stdout and not status.stderr
    start = run("./re6st", "start", settings=text, folder=tmp_path)
    assert start.returncode == 1 and "not registered" in start.stderr
    assert run("./re6st", "stop", settings=text, folder=tmp_path).returncode == 0
    info = run("./re6st", "info", settings=text, folder=tmp_path)
    # The agent splits each line at its colon, and dies where there is none.
    assert info.returncode == 0 and all(":" in line for line in info.stdout.splitlines())
    assert not pathlib.Path(tmp_path / "__pycache__").exists()
