"""
The states through Salt's real loader, in both modes, on real mounts, with a registry and a master of a few lines and programs that only have the names
of re6st-conf, re6stnet and slapos. After each test mode the world is looked at: nothing may have changed.
"""

import base64
import hashlib
import http.server
import json
import os
import pathlib
import shlex
import ssl
import subprocess
import sys
import threading
import zipfile

import pytest
import yaml
from support import ROOT, served

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")

TOKEN = "CANARY-3f1c"
DER = b"a certificate authority"
FINGERPRINT = "sha256:" + hashlib.sha256(DER).hexdigest()

# Like the real one it takes its token as an argument; it keeps what the process list would have shown.
FAKE_RE6ST_CONF = """#!{python}
import argparse, os, sys
parser = argparse.ArgumentParser()
for name in ("--registry", "--fingerprint", "-d", "--token", "--location"):
    parser.add_argument(name)
parser.add_argument("-r", nargs=2)
args = parser.parse_args()
seen = open("/proc/self/cmdline").read().replace(chr(0), " ")
open("{folder}/re6st-conf.seen", "a").write(seen + chr(10))
os.chdir(args.d)
open("cert.key", "w").write("key")
if args.token not in open("{folder}/tokens").read().split():
    sys.exit("Error: invalid or expired token")
open("{folder}/tokens", "w").write("")
for name in ("ca.crt", "cert.crt"):
    open(name, "w").write(name)
open("re6stnet.conf", "w").write("registry " + args.registry + chr(10) + "ca ca.crt" + chr(10) + "#verbose 3" + chr(10))
print("Your subnet: 2001:db8:42:7::/64 (CN=7/16)")
"""

FAKE_RE6STNET = """#!{python}
import sys
assert sys.argv[1:] == ["@re6stnet.conf", "--test", "0"]
if "hello" in open("re6stnet.conf").read():
    print("usage: re6stnet")
    sys.exit("re6stnet: error: argument -h/--help: ignored explicit argument 'ello'")
"""

FAKE_SLAPOS = """#!{python}
import os, sys
args = sys.argv[1:]
open("{folder}/slapos.seen", "a").write(" ".join(args) + chr(10))
assert args[:2] == ["node", "register"], args
token = input("Computer security token: ")
if token != "{token}":
    sys.exit("CRITICAL Access denied to the SlapOS Master. Please check the authentication token or require a new one.")
config = args[args.index("--cfg") + 1]
folder = os.path.dirname(config)
os.makedirs(folder + "/ssl")
for name in ("key", "certificate"):
    open(folder + "/ssl/" + name, "w").write(name)
open(config, "w").write(chr(10).join([
    "[slapos]", "computer_id = COMP-9", "key_file = " + folder + "/ssl/key", "cert_file = " + folder + "/ssl/certificate", "",
    "[slapformat]", "computer_xml = /opt/slapos/slapos.xml", "", "[networkcache]", "download-url = http://x", ""]))
"""


def mount(*args):
    subprocess.run(["mount", *map(str, args)], check=True)


class Node:
    """A node with the service's filesystem and its binds, real mounts below a folder of the test's own."""

    def __init__(self, folder, url):
        self.folder, self.url = folder, url
        self.mount = folder / "srv"
        self.conf_dir = folder / "etc/re6stnet"
        self.etc_opt = folder / "etc/opt"
        self.instances = folder / "slapgrid"
        self.config = self.etc_opt / "slapos/slapos.cfg"
        self.private = [folder / "log", folder / "state"]
        for path in (self.mount, self.conf_dir, self.etc_opt, self.instances, *self.private):
            path.mkdir(parents=True)
        (folder / "tokens").write_text(TOKEN)
        self.mounted = []

    def up(self):
        self.put("-t", "tmpfs", "service", self.mount)
        for target in (self.conf_dir, self.etc_opt, self.instances):
            source = self.mount / target.name
            source.mkdir()
            self.put("--bind", source, target)

    def put(self, *args):
        mount(*args)
        self.mounted.append(args[-1])

    def down(self):
        while self.mounted:
            subprocess.run(["umount", self.mounted.pop()], check=True)

    def tree(self):
        """Every file below the node's folder, with its mode and content."""
        found = {}
        for path in sorted(self.folder.rglob("*")):
            if path.is_file():
                found[str(path)] = (oct(path.stat().st_mode), path.read_bytes())
        return found


@pytest.fixture(scope="module")
def server():
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = ssl.DER_cert_to_PEM_cert(DER).encode()
            self.send_response(200 if self.path == "/getCa" else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    return tmp_path_factory.mktemp("prefix")


@pytest.fixture(scope="module")
def loaders(make_loaders, prefix):
    pillar = yaml.safe_load((ROOT / "pillar.example").read_text())
    site = pillar["slapos_ha"]
    for section in ("re6st", "slapos"):
        site[section]["token"] = TOKEN
        site[section]["install"]["prefix"] = str(prefix)
    return make_loaders("demo1", pillar)


@pytest.fixture
def states(loaders):
    return loaders.states.slapos_node


@pytest.fixture
def node(tmp_path, prefix, server):
    (prefix / "bin").mkdir(exist_ok=True)
    for name, text in (
        ("re6st-conf", FAKE_RE6ST_CONF),
        ("re6stnet", FAKE_RE6STNET),
        ("slapos", FAKE_SLAPOS),
    ):
        path = prefix / "bin" / name
        path.write_text(text.format(python=sys.executable, folder=tmp_path, token=TOKEN))
        path.chmod(0o755)
    node = Node(tmp_path, server)
    yield node
    node.down()


def re6st(node, **more):
    return {
        "name": str(node.conf_dir),
        "mount": str(node.mount),
        "token_pillar": "slapos_ha:re6st:token",
        "registry": node.url,
        "fingerprint": FINGERPRINT,
        "title": "comp1",
        **more,
    }


def slapos(node, **more):
    return {
        "name": str(node.config),
        "mount": str(node.mount),
        "token_pillar": "slapos_ha:slapos:token",
        "master_url": "http://m/",
        "web_master_url": "http://w",
        "computer_name": "comp1",
        "interface": "lo",
        "partition_number": 2,
        "ipv4_local_network": "10.0.0.0/16",
        "software_root": str(node.mount / "soft"),
        "instance_root": str(node.instances),
        **more,
    }


def leaked(ret, node, *paths):
    said = json.dumps([ret.changes, ret.comment])
    seen = "".join(path.read_text() for path in paths if path.exists())
    return TOKEN in said or TOKEN in seen


# --- Registering ---------------------------------------------------------------------------------------------------------------------------


def test_re6st_registers_once(states, node):
    node.up()
    before = node.tree()
    ret = states.re6st_registered(**re6st(node), test=True)
    assert ret.result is None and node.tree() == before
    ret = states.re6st_registered(**re6st(node))
    assert ret.result is True and "2001:db8:42:7::/64" in ret.comment
    assert list(ret.changes) == ["certificate"]
    assert not leaked(ret, node, node.folder / "re6st-conf.seen")
    after = node.tree()
    (node.folder / "tokens").write_text(TOKEN)
    again = states.re6st_registered(**re6st(node))
    assert again.result is True and again.changes == {}
    assert len((node.folder / "re6st-conf.seen").read_text().splitlines()) == 1
    (node.folder / "tokens").write_text("")
    assert node.tree() == after


def test_re6st_with_a_used_token_says_so_and_can_be_run_again(states, node):
    node.up()
    (node.folder / "tokens").write_text("")
    ret = states.re6st_registered(**re6st(node))
    assert ret.result is False and ret.changes == {}
    assert "refused the token" in ret.comment and "slapos_ha:re6st:token" in ret.comment
    assert not leaked(ret, node, node.folder / "re6st-conf.seen")
    (node.folder / "tokens").write_text(TOKEN)
    assert states.re6st_registered(**re6st(node)).result is True


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"fingerprint": "sha256:" + "0" * 64}, "has the fingerprint sha256:"),
        ({"registry": "http://127.0.0.1:1"}, "cannot be reached"),
        ({"token_pillar": "slapos_ha:re6st:no"}, "pillar slapos_ha:re6st:no is missing on demo1"),
        ({"device": "/dev/no-such-device"}, "not on /dev/no-such-device"),
    ],
)
def test_what_is_wrong_is_told_before_the_token_is_spent(states, node, more, text):
    node.up()
    ret = states.re6st_registered(**re6st(node, **more))
    assert ret.result is False and text in ret.comment
    assert (node.folder / "tokens").read_text() == TOKEN
    assert not (node.folder / "re6st-conf.seen").exists()


@pytest.mark.parametrize("test", [True, False])
@pytest.mark.parametrize("kind", ["re6st", "slapos"])
def test_nothing_is_registered_where_the_filesystem_is_not(states, node, kind, test):
    before = node.tree()
    args = (re6st if kind == "re6st" else slapos)(node)
    ret = getattr(states, f"{kind}_registered")(**args, test=test)
    assert ret.result is False and "is not mounted on this node" in ret.comment
    node.put("-t", "tmpfs", "service", node.mount)
    ret = getattr(states, f"{kind}_registered")(**args, test=test)
    assert ret.result is False and "would stay on this node alone" in ret.comment
    assert node.tree() == before


def test_slapos_registers_once(states, node):
    node.up()
    before = node.tree()
    ret = states.slapos_registered(**slapos(node), test=True)
    assert ret.result is None and node.tree() == before
    ret = states.slapos_registered(**slapos(node))
    assert ret.result is True and ret.comment == "registered as COMP-9"
    assert not leaked(ret, node, node.folder / "slapos.seen")
    after = node.tree()
    again = states.slapos_registered(**slapos(node, computer_name="another"))
    assert again.result is True and again.changes == {} and node.tree() == after


def test_slapos_with_a_wrong_token(states, node, loaders):
    node.up()
    ret = states.slapos_registered(**slapos(node, token_pillar="slapos_ha:drbd:shared_secret"))
    assert ret.result is False and "refused the token" in ret.comment and ret.changes == {}
    assert loaders.opts["pillar"]["slapos_ha"]["drbd"]["shared_secret"] not in ret.comment


# --- Configuring -----------------------------------------------------------------------------------------------------------------------------


def test_re6st_configured(states, node):
    node.up()
    states.re6st_registered(**re6st(node))
    args = {"name": str(node.conf_dir), "mount": str(node.mount), "registry": "http://new"}
    args |= {"options": ["run /run/re6stnet", "ip any"], "location": "FR,EU"}
    args |= {"private": [str(path) for path in node.private]}
    before = node.tree()
    ret = states.re6st_configured(**args, test=True)
    assert ret.result is None and node.tree() == before
    assert str(node.private[0]) in ret.changes
    ret = states.re6st_configured(**args)
    assert ret.result is True and "until its next start" in ret.comment
    text = (node.conf_dir / "re6stnet.conf").read_text()
    assert "registry http://new\n" in text and "country FR\n" in text and "ip any\n" in text
    assert all(oct(path.stat().st_mode)[-3:] == "700" for path in node.private)
    again = states.re6st_configured(**args)
    assert again.result is True and again.changes == {}
    assert states.re6st_valid(name=str(node.conf_dir), mount=str(node.mount)).result is True
    states.re6st_configured(**{**args, "options": ["hello 2"]})
    ret = states.re6st_valid(name=str(node.conf_dir), mount=str(node.mount))
    assert ret.result is False and "slapos_ha:re6st:options" in ret.comment
    states.re6st_configured(**args)
    assert "hello" not in (node.conf_dir / "re6stnet.conf").read_text()


def test_a_registration_that_died_before_its_configuration_is_completed(states, node):
    node.up()
    states.re6st_registered(**re6st(node))
    (node.conf_dir / "re6stnet.conf").unlink()
    args = {"name": str(node.conf_dir), "mount": str(node.mount), "registry": "http://r"}
    states.re6st_configured(**args, options=[], private=[])
    text = (node.conf_dir / "re6stnet.conf").read_text()
    assert text == "registry http://r\nca ca.crt\ncert cert.crt\nkey cert.key\n"


def test_slapos_configured(states, node):
    node.up()
    args = {"name": str(node.config), "mount": str(node.mount), "absent": ["networkcache"]}
    args["values"] = {"slapformat": {"computer_xml": "/srv/x.xml", "partition_amount": 3}}
    ret = states.slapos_configured(**args)
    assert ret.result is False and "not registered" in ret.comment
    assert states.slapos_configured(**args, test=True).result is None
    states.slapos_registered(**slapos(node))
    before = node.tree()
    ret = states.slapos_configured(**args, test=True)
    assert ret.result is None and node.tree() == before
    assert ret.changes["slapformat:computer_xml"] == {
        "old": "/opt/slapos/slapos.xml",
        "new": "/srv/x.xml",
    }
    ret = states.slapos_configured(**args)
    assert ret.result is True and "networkcache" in ret.changes
    assert "networkcache" not in node.config.read_text()
    assert states.slapos_configured(**args).changes == {}


# --- Installing --------------------------------------------------------------------------------------------------------------------------------


def wheel(folder, name, version):
    """The smallest wheel that pip installs."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"version = '{version}'\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for file, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=")
        record += f"{file},sha256={digest.decode()},{len(text)}\n"
    files[f"{info}/RECORD"] = record + f"{info}/RECORD,,\n"
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
    return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheels")
    return folder, {v: wheel(folder, "one", v) for v in ("1.0", "2.0")}


def test_environment_present(states, wheels, tmp_path):
    folder, digests = wheels
    name = tmp_path / "env"
    args = {"name": str(name), "find_links": str(folder), "no_index": True}
    args["python"] = "/usr/bin/python3"
    ret = states.environment_present(**args, requirements=["one==1.0"], test=True)
    assert ret.result is None and not name.exists()
    assert ret.changes["one"] == {"old": None, "new": "1.0"}
    umask = os.umask(0o077)
    try:
        ret = states.environment_present(
            **args, requirements=["one==1.0"], hashes={"one": ["sha256:" + "0" * 64]}
        )
    finally:
        os.umask(umask)
    assert ret.result is False and "one" not in ret.changes
    ret = states.environment_present(
        **args, requirements=["one==1.0"], hashes={"one": [digests["1.0"]]}
    )
    assert ret.result is True and ret.changes == {"one": {"old": None, "new": "1.0"}}
    # Others run this interpreter: whatever the minion's umask is.
    assert [oct(path.stat().st_mode)[-3:] for path in (name, name / "bin")] == ["755", "755"]
    ret = states.environment_present(**args, requirements=["one==2.0"])
    assert ret.changes == {"one": {"old": "1.0", "new": "2.0"}}
    ret = states.environment_present(**args, requirements=["one==9.0"])
    assert ret.result is False and "one==9.0" in ret.comment and ret.changes == {}


def test_an_environment_whose_installation_was_killed_is_made_anew(states, wheels, tmp_path):
    """Killed in venv there is no pip; killed in pip there is metadata without the files, which pip takes for installed."""
    folder, _ = wheels
    name = tmp_path / "env"
    args = {"name": str(name), "find_links": str(folder), "no_index": True}
    args["requirements"] = ["one==1.0"]
    program = tmp_path / "python3"
    seen = tmp_path / "seen"
    program.write_text(f'#!/bin/sh\nls {name} >>{seen}\nexec /usr/bin/python3 "$@"\n')
    program.chmod(0o755)
    mark = name / "slapos_ha.unfinished"
    site = next(pathlib.Path("/usr/lib").glob("python3.*")).name
    (name / f"lib/{site}/site-packages/one-1.0.dist-info").mkdir(parents=True)
    (name / f"lib/{site}/site-packages/one-1.0.dist-info/METADATA").write_text("Name: one\nVersion: 1.0\n")  # fmt: skip
    (name / "bin").mkdir()
    (name / "bin/python").symlink_to("/usr/bin/python3")
    mark.touch()
    ret = states.environment_present(**args, test=True)
    assert ret.result is None and "environment" in ret.changes and mark.exists()
    ret = states.environment_present(**args, python=str(program))
    assert ret.result is True and "environment" in ret.changes, ret.comment
    assert not mark.exists() and (name / "bin/pip").exists()
    # While it is made it has the mark, and nothing of what was there.
    assert seen.read_text().split() == ["slapos_ha.unfinished"]
    assert states.environment_present(**args).changes == {}


def test_a_folder_that_is_somebody_elses_is_not_emptied_for_an_environment(
    states, wheels, tmp_path
):
    folder, _ = wheels
    name = tmp_path / "opt"
    name.mkdir()
    (name / "theirs").write_text("data")
    args = {"name": str(name), "find_links": str(folder), "no_index": True}
    ret = states.environment_present(**args, requirements=["one==1.0"])
    assert ret.result is False and ret.changes == {}
    assert f"{name} is no Python environment and holds theirs: nothing was changed" in ret.comment
    assert [path.name for path in name.iterdir()] == ["theirs"]


def test_a_pip_that_gives_up_costs_nobody_his_environment(states, wheels, tmp_path):
    folder, _ = wheels
    name = tmp_path / "env"
    args = {"name": str(name), "find_links": str(folder), "no_index": True}
    assert states.environment_present(**args, requirements=["one==1.0"]).result is True
    before = (name / "pyvenv.cfg").stat().st_ino
    assert states.environment_present(**args, requirements=["one==9.0"]).result is False
    assert states.environment_present(**args, requirements=["one==1.0"]).changes == {}
    assert (name / "pyvenv.cfg").stat().st_ino == before


def test_an_environment_that_is_right_costs_no_process(states, wheels, tmp_path, monkeypatch):
    folder, _ = wheels
    args = {"name": str(tmp_path / "env"), "find_links": str(folder), "no_index": True}
    args["requirements"] = ["one==1.0"]
    assert states.environment_present(**args).result is True

    def no(*args, **kwargs):
        raise AssertionError(f"a process was started: {args}")

    monkeypatch.setattr(subprocess, "Popen", no)
    assert states.environment_present(**args).changes == {}
    assert states.environment_present(**args, test=True).result is True


def test_programs_present(states, tmp_path):
    args = {"name": "x", "programs": ["no-such-program", "sh"]}
    assert states.programs_present(**args, test=True).result is None
    ret = states.programs_present(**args)
    assert ret.result is False and "no-such-program missing" in ret.comment
    (tmp_path / "no-such-program").write_text("")
    (tmp_path / "no-such-program").chmod(0o755)
    assert states.programs_present(**args, path=str(tmp_path)).result is True


# --- What belongs to the whole host: in a mount namespace over copies -------------------------------------------------------------------------

NAMESPACE = """
set -e
mount --make-rprivate /
for folder in /etc /var/lib/dpkg; do
    mkdir -p "$WORK$folder"
    cp -a "$folder/." "$WORK$folder/"
    mount --bind "$WORK$folder" "$folder"
done
mount --bind "$WORK/bin" /usr/local/sbin
"""

# Stands for systemd, which this namespace has not: it does to files what the real one does. Of the units in /etc/known, and of no others, it knows already.
SYSTEMCTL = """#!/bin/sh
echo "$*" >> /etc/systemctl.calls
if [ "$1" = list-units ]; then
    shift 5
    for unit; do grep -s "^$unit" /etc/known; done
    exit 0
fi
[ "$1" = mask ] || exit 1
# The real one says 5 where there was nothing to stop.
[ "$2" = --now ] && code=5 || code=0
shift 2
for unit; do ln -s /dev/null "/etc/systemd/system/$unit"; done
exit $code
"""


@pytest.fixture
def host(tmp_path):
    """host(step, …): run shell lines, and lists of state.single's arguments, in a namespace whose /etc and dpkg are copies. Returns the states' results."""
    for folder in ("bin", "salt/pillar"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "bin/systemctl").write_text(SYSTEMCTL)
    (tmp_path / "bin/systemctl").chmod(0o755)
    minion = {"id": "demo1", "file_client": "local", "root_dir": str(tmp_path / "salt/root")}
    minion["file_roots"] = {"base": [served(tmp_path / "salt")]}
    (tmp_path / "salt/minion").write_text(yaml.safe_dump(minion))
    salt_call = [str(pathlib.Path(sys.executable).parent / "salt-call"), "--local", "-l", "quiet"]
    salt_call += ["-c", str(tmp_path / "salt"), "--out=json", "--out-indent=-1"]

    def run(*steps):
        lines = [shlex.join([*salt_call, "saltutil.sync_all"]) + " >/dev/null"]
        for step in steps:
            lines.append(step if isinstance(step, str) else shlex.join([*salt_call, "state.single", *step]) + " || true")  # fmt: skip
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", NAMESPACE + "\n".join(lines)],
            env={**os.environ, "WORK": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return [
            next(iter(json.loads(line)["local"].values()))
            for line in done.stdout.splitlines()
            if line.startswith("{")
        ]

    return run


USERS = ["slapos_node.users_present", "users", "slapsoft_id=61000", "slapuser_first_id=61001",
         "partition_number=1", "software_root=/soft", "instance_root=/srv/slapgrid"]  # fmt: skip
UNITS = ["slapos_node.units_masked", "units", "units=[x-one.service, x-two.service]"]
CRON = ["slapos_node.cron_diverted", "/etc/cron.d/x-slapos-node"]


def test_users_of_a_host_and_drift(host):
    own = {name: pathlib.Path(f"/etc/{name}").read_bytes() for name in ("passwd", "group")}
    dry, wet, again, taken, drifted = host(
        [*USERS, "test=True"],
        USERS,
        USERS,
        "groupadd -g 61002 alice",
        [*(word.replace("=1", "=2") if "number" in word else word for word in USERS)],
        "usermod -u 61009 slapuser0",
        USERS,
    )
    assert dry["result"] is None and wet["result"] is True
    assert dry["changes"] == wet["changes"] == {
        "group slapsoft": {"old": None, "new": 61000},
        "user slapsoft": {"old": None, "new": 61000},
        "group slapuser0": {"old": None, "new": 61001},
        "user slapuser0": {"old": None, "new": 61001},
    }  # fmt: skip
    assert again["result"] is True and again["changes"] == {}
    assert taken["result"] is False and taken["changes"] == {}
    assert "the id 61002 of group slapuser1 belongs to group alice here" in taken["comment"]
    assert drifted["result"] is False
    assert "user slapuser0 has the id 61009 here, and the site's is 61001" in drifted["comment"]
    for name, content in own.items():
        assert pathlib.Path(f"/etc/{name}").read_bytes() == content, "the test's own host"


@pytest.mark.parametrize("known", [[], ["x-two.service loaded inactive dead Two"]], ids=str)
def test_systemd_reads_its_units_again_only_where_it_knows_one(host, known, tmp_path):
    """Seconds of a small host; but what it has read it would start, masked or not (systemd 252, seen on a host of the lab)."""
    (wet,) = host(f"printf '%s\\n' {shlex.join(known)} > /etc/known", UNITS)
    assert wet["result"] is True, wet
    calls = (tmp_path / "etc/systemctl.calls").read_text().splitlines()
    how = "--now" if known else "--no-reload"
    # Salt's grains have asked for its version before.
    assert [call for call in calls if call != "--version"] == [
        "list-units --all --full --plain --no-legend x-one.service x-two.service",
        f"mask {how} x-one.service x-two.service",
    ]


def test_units_and_cron_of_a_host(host):
    dry, wet, again, cron_dry, cron, cron_again, back = host(
        [*UNITS, "test=True"],
        "test ! -e /etc/systemd/system/x-one.service",
        UNITS,
        UNITS,
        "echo '* * * * * root slapos' > /etc/cron.d/x-slapos-node",
        [*CRON, "test=True"],
        "test -e /etc/cron.d/x-slapos-node",
        CRON,
        "test ! -e /etc/cron.d/x-slapos-node",
        "grep -q x-slapos-node /var/lib/dpkg/diversions",
        CRON,
        "echo new > /etc/cron.d/x-slapos-node",
        CRON,
        "test ! -e /etc/cron.d/x-slapos-node",
    )
    masked = {"old": "not masked", "new": "masked"}
    assert dry["result"] is None and dry["changes"] == {
        "x-one.service": masked,
        "x-two.service": masked,
    }
    assert wet["result"] is True and wet["changes"] == dry["changes"]
    assert again["result"] is True and again["changes"] == {}
    assert cron_dry["result"] is None and set(cron["changes"]) == {"diversion", "file"}
    assert cron["result"] is True and cron_again["changes"] == {}
    assert back["result"] is True and set(back["changes"]) == {"file"}
    assert not pathlib.Path("/etc/systemd/system/x-one.service").exists(), "the test's own host"


# --- A file's blocks ----------------------------------------------------------------------------------------------------------------------


def test_a_sparse_file_gets_its_blocks_and_keeps_what_is_in_it(loaders, tmp_path):
    path = tmp_path / "disk.img"
    path.write_bytes(b"data")
    os.truncate(path, 3 << 20)
    state = loaders.states.slapos_node.file_allocated
    would = state(str(path), test=True)
    assert would.result is None and would.changes == {
        "blocks": {"old": "2 MiB missing", "new": "all"}
    }
    assert path.stat().st_blocks * 512 < 3 << 20
    done = state(str(path))
    assert done.result is True and done.changes == would.changes
    assert path.stat().st_blocks * 512 >= path.stat().st_size == 3 << 20
    assert path.read_bytes() == b"data".ljust(3 << 20, b"\0")
    again = state(str(path))
    assert (again.result, again.changes, again.comment) == (True, {}, "all of it has blocks")


@pytest.mark.parametrize(
    "said, result, comment",
    [
        ("fallocate: fallocate failed: No space left on device", False, "3 MiB of it have no blocks yet, and cannot get them: fallocate: fallocate failed: No space left on device"),
        ("fallocate: fallocate failed: Operation not supported", True, "this filesystem cannot give blocks to a file before it is written"),
    ],
)  # fmt: skip
def test_blocks_that_a_file_cannot_get(loaders, tmp_path, monkeypatch, said, result, comment):
    path = tmp_path / "disk.img"
    path.touch()
    os.truncate(path, 3 << 20)
    program = tmp_path / "bin/fallocate"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho '{said}' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    ret = loaders.states.slapos_node.file_allocated(str(path))
    assert (ret.result, ret.changes) == (result, {}) and comment in ret.comment


def test_a_file_for_which_there_is_no_room_is_not_begun(loaders, tmp_path):
    path = tmp_path / "disk.img"
    path.touch()
    os.truncate(path, 1 << 43)
    ret = loaders.states.slapos_node.file_allocated(str(path))
    assert (ret.result, ret.changes, path.stat().st_blocks) == (False, {}, 0)
    assert "8388608 MiB of it have no blocks yet, and " in ret.comment and ret.comment.endswith("MiB are free. Make room on that filesystem")  # fmt: skip


def test_a_file_that_is_not_there_gets_no_blocks(loaders, tmp_path):
    ret = loaders.states.slapos_node.file_allocated(str(tmp_path / "nosuch"))
    assert (ret.result, ret.comment) == (False, f"{tmp_path}/nosuch: No such file or directory")
