"""
re6st's launcher on the real thing: re6stnet, openvpn, babeld, a private registry and its node of the mesh, in two network namespaces of the test's own.

The lab makes the programs (test/lab/lab up); without them, or without root, this is skipped.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import signal
import ssl
import subprocess
import time
import urllib.request

import pytest
from support import ROOT

CACHE = pathlib.Path(os.environ.get("SLAPOS_HA_CACHE", "~/.cache/slapos-ha")).expanduser()
PROGRAMS = next((path.parent / "bin" for path in sorted(CACHE.glob("re6st-*/complete"))), None)
BABELD = ROOT / "test/lab/image/opt/re6st-lab/bin"
REGISTRY = "http://10.255.77.1:9201"

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.skipif(PROGRAMS is None, reason="the lab has not made re6st's environment yet"),
    pytest.mark.skipif(
        not all(map(shutil.which, ("openvpn", "babeld", "openssl", "ip"))),
        reason="openvpn, babeld, openssl and iproute2 are needed",
    ),
    pytest.mark.skipif(not os.path.exists("/dev/net/tun"), reason="/dev/net/tun is needed"),
]


def run(*args, **kwargs):
    return subprocess.run(
        [str(arg) for arg in args], check=True, capture_output=True, text=True, timeout=60, **kwargs
    )


def wait(what, condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.2)
    return answer


class Mesh:
    """Two network namespaces: "a" has the registry and its node, "b" is ours."""

    def __init__(self, folder):
        self.folder = folder
        self.names = {"a": f"slaptest-a{os.getpid()}", "b": f"slaptest-b{os.getpid()}"}
        self.started = []

    def inside(self, where, *args):
        return ["ip", "netns", "exec", self.names[where], *map(str, args)]

    def up(self):
        for name in self.names.values():
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
        run("ip", "-n", self.names["a"], "link", "add", "eth0", "type", "veth", "peer", "name", "eth0",
            "netns", self.names["b"])  # fmt: skip
        for index, name in enumerate(self.names.values(), 1):
            run("ip", "-n", name, "addr", "add", f"10.255.77.{index}/24", "dev", "eth0")
            run("ip", "-n", name, "link", "set", "eth0", "up")

    def start(self, where, *args, cwd=None):
        path = f"{BABELD}:/usr/sbin:/usr/bin:/sbin:/bin"
        with open(self.folder / "started.log", "a") as log:
            self.started.append(
                subprocess.Popen(
                    self.inside(where, *args),
                    cwd=cwd,
                    env={"PATH": path},
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )

    def processes(self, where):
        said = run("ip", "netns", "pids", self.names[where]).stdout
        return {int(pid) for pid in said.split()}

    def named(self, where):
        """The processes there by pid; without those that ended meanwhile, as openvpn's scripts do."""
        found = {}
        for pid in self.processes(where):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found[pid] = pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
        return found

    def down(self):
        for where, name in self.names.items():
            if name in run("ip", "netns", "list").stdout:
                for pid in self.processes(where):
                    # openvpn's scripts end by themselves.
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                run("ip", "netns", "del", name)
        for process in self.started:
            process.wait(10)

    def ask(self, path):
        code = f"import urllib.request as u; print(u.urlopen('{REGISTRY}{path}', timeout=5).read().decode())"
        return run(*self.inside("a", "/usr/bin/python3", "-c", code)).stdout

    def registry(self):
        run("openssl", "genpkey", "-out", "ca.key", "-algorithm", "rsa", "-pkeyopt", "rsa_keygen_bits:2048", cwd=self.folder)  # fmt: skip
        run("openssl", "req", "-nodes", "-new", "-x509", "-key", "ca.key", "-set_serial", "0x120010db80077",
            "-days", "2", "-subj", "/CN=test", "-out", "ca.crt", cwd=self.folder)  # fmt: skip
        run("openssl", "dhparam", "-dsaparam", "-out", "dh.pem", "2048", cwd=self.folder)
        options = {"port": 9201, "4": "10.255.77.1", "6": '""', "db": f"{self.folder}/registry.db", "dh": f"{self.folder}/dh.pem"}  # fmt: skip
        options |= {"ca": f"{self.folder}/ca.crt", "key": f"{self.folder}/ca.key", "logfile": f"{self.folder}/registry.log"}  # fmt: skip
        options |= {"run": f"{self.folder}/registry-run", "hello": 2, "client-count": 2, "prefix-length": 16, "encrypt": ""}  # fmt: skip
        options |= {"authorized-origin": "10.255.77.1", "mailhost": f"{self.folder}/mbox"}
        conf = self.folder / "registry.conf"
        conf.write_text("".join(f"{k} {v}".rstrip() + "\n" for k, v in options.items()))
        (self.folder / "registry-run").mkdir()
        self.start("a", PROGRAMS / "re6st-registry", f"@{conf}", cwd=self.folder)
        wait("the registry answers", self.answers)

    def answers(self):
        try:
            return self.ask("/getCa")
        except (subprocess.CalledProcessError, urllib.request.URLError):
            return None

    def node(self, where, *options):
        folder = self.folder / where
        for name in ("etc", "log", "state"):
            (folder / name).mkdir(parents=True)
        self.ask(f"/addToken?email={where}@lab.test&token=token-{where}")
        der = ssl.PEM_cert_to_DER_cert((self.folder / "ca.crt").read_text())
        fingerprint = "sha256:" + hashlib.sha256(der).hexdigest()
        run(*self.inside(where, PROGRAMS / "re6st-conf", "--registry", REGISTRY, "--fingerprint", fingerprint,
                         "--token", f"token-{where}", "-d", folder / "etc", "-r", "title", where))  # fmt: skip
        lines = [f"log {folder}/log", f"state {folder}/state", f"run {folder}/run", *options]
        with open(folder / "etc/re6stnet.conf", "a") as conf:
            conf.write("\n".join(lines) + "\n")
        return folder


class Launcher:
    def __init__(self, mesh, folder):
        self.mesh, self.folder = mesh, folder
        for name in ("re6st", "slapos"):
            shutil.copy(ROOT / "slapos_ha/files" / name, folder / name)
        settings = {"program": str(PROGRAMS / "re6stnet"), "path": [str(BABELD)], "conf_dir": f"{folder}/etc"}  # fmt: skip
        settings |= {"ha_run_dir": f"{folder}/ha", "start_seconds": 60, "stop_seconds": 20, "mesh_seconds": 120}  # fmt: skip
        (folder / "settings.json").write_text(json.dumps({"re6st": settings}))

    def __call__(self, verb):
        command = self.mesh.inside("b", self.folder / "re6st", verb)
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        return done.returncode, done.stdout, done.stderr

    def pid(self):
        return json.loads((self.folder / "ha/re6stnet.pid").read_text())["pid"]

    def network(self):
        name = self.mesh.names["b"]
        return run("ip", "-n", name, "-6", "route").stdout + run("ip", "-n", name, "-6", "addr", "show", "dev", "lo").stdout  # fmt: skip


@pytest.fixture(scope="module")
def mesh(tmp_path_factory):
    mesh = Mesh(tmp_path_factory.mktemp("mesh"))
    try:
        mesh.up()
        mesh.registry()
        folder = mesh.node("a", "ip 10.255.77.1")
        mesh.start("a", PROGRAMS / "re6stnet", "@re6stnet.conf", cwd=folder / "etc")
        yield mesh
    finally:
        mesh.down()


def test_a_real_mesh_from_start_to_stop(mesh):
    launcher = Launcher(mesh, mesh.node("b", "ip any"))
    whole = {"re6st-registry", "re6stnet", "openvpn", "babeld"}
    wait("the registry's own node is whole", lambda: whole <= set(mesh.named("a").values()))
    others = {pid: name for pid, name in mesh.named("a").items() if name in ("re6stnet", "babeld")}
    assert launcher("status")[0] == 1
    code, out, err = launcher("start")
    assert code == 0 and "started, pid" in out, err
    assert launcher("status")[0] == 0
    assert "2001:db8:77:1::1/64" in launcher.network()
    # hello 2 on the registry: seconds, not the minute that hello 15 takes.
    wait("a route into the mesh", lambda: launcher("status") == (0, "", ""), 90)
    assert "already running" in launcher("start")[1]

    os.kill(launcher.pid(), signal.SIGKILL)
    code, _, err = wait(
        "the crash is seen", lambda: (said := launcher("status"))[0] == 2 and said, 10
    )
    assert "its children go on" in err
    code, out, err = launcher("start")
    assert code == 0 and "ended orphans" in out and "removed 2001:db8:77:1::1/64" in out, err
    assert launcher("status")[0] == 0

    pid = launcher.pid()
    babeld = next(
        int(p)
        for p in run("ps", "-o", "pid=", "--ppid", pid).stdout.split()
        if pathlib.Path(f"/proc/{p}/comm").read_text().strip() == "babeld"
    )
    os.kill(babeld, signal.SIGKILL)
    wait("the loss of babeld is seen", lambda: launcher("status")[0] != 0, 10)
    assert launcher("start")[0] == 0 and launcher("status")[0] == 0

    code, out, err = launcher("stop")
    assert code == 0 and "stopped" in out, err
    assert launcher("status")[0] == 1 and mesh.processes("b") == set()
    left = launcher.network()
    assert "2001:db8:77" not in left and "babel" not in left
    assert launcher("stop")[0] == 0
    assert others.items() <= mesh.named("a").items(), "the other node of this machine goes on"
