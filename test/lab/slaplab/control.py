"""The control node: Salt master, private re6st registry with its own mesh node, slapproxy, web master."""

import base64
import hashlib
import json
import os
import pathlib
import secrets
import shutil
import sqlite3
import sys
import time

from . import image
from .base import CONTROL, HOSTS, REPO, LabError, run, wait

HERE = REPO / "test/lab"
BIN = pathlib.Path(sys.executable).parent
# Where the master has the formula.
ROOTS = [REPO]
# "1" and the prefix in hexadecimal: re6st takes a network from its CA's serial number. This one is 2001:db8:42::/48.
SERIAL = "0x120010db80042"
SERVICE_MARK = "slapos-ha-lab page"


def keys(lab):
    """Salt's and ssh's keys, made once, so that nothing has to be accepted or confirmed."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    folder = lab.home / "keys"
    if folder.exists():
        return
    making = lab.home / "keys.making"
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True, mode=0o700)
    for host in HOSTS:
        key = rsa.generate_private_key(65537, 2048)
        (making / f"{host}.pem").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.TraditionalOpenSSL,
                serialization.NoEncryption(),
            )
        )
        (making / f"{host}.pub").write_bytes(
            key.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", making / "ssh")
    making.rename(folder)


# --- Salt ------------------------------------------------------------------------------------------------------------


def salt_config(lab):
    """Write the master's configuration and the pillar; return the secrets that the pillar holds."""
    folder = lab.home / "salt"
    for name in ("pki/minions", "cache", "run", "pillar"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for host in HOSTS:
        shutil.copy(lab.home / "keys" / f"{host}.pub", folder / "pki/minions" / host)
    (folder / "master").write_text(
        json.dumps(
            {
                "interface": CONTROL,
                "user": "root",
                "id": "control_master",
                "root_dir": str(lab.home),
                "pki_dir": str(folder / "pki"),
                "cachedir": str(folder / "cache"),
                "sock_dir": str(folder / "run"),
                "pidfile": str(folder / "run/master.pid"),
                "log_file": str(lab.logs / "master.log"),
                "log_level_logfile": "info",
                "file_roots": {"base": [str(root) for root in ROOTS]},
                "fileserver_ignoresymlinks": True,
                "file_ignore_glob": [".git/*", "test/*"],
                "pillar_roots": {"base": [str(folder / "pillar")]},
                "fileserver_list_cache_time": 0,
                "worker_threads": 3,
                "timeout": 10,
                # A host that is busy with tasks is slow to say that it is, on a slow machine more so.
                "gather_job_timeout": 90,
            },
            indent=1,
        )
    )
    os.chmod(folder / "pillar", 0o700)


def pillar(lab, change=None):
    """Write the site's pillar; `change(site)` may spoil it for a test."""
    known = json.loads(_secrets(lab).read_text())
    site = {
        "site": "lab",
        "service": {"preferred": "demo1"},
        "cluster": {
            "name": "lab",
            "nodes": {host: {"address": f"10.98.0.{number}"} for host, number in HOSTS.items()},
            "heartbeats": {"hb#1": {"type": "unicast", "timeout": 15}},
            "agent": {"source": "installed"},
        },
        "storage": {"size": "600m"},
        "drbd": {
            "addresses": {host: f"10.98.1.{number}" for host, number in HOSTS.items()},
            "initial_sync": "skip",
            "shared_secret": known["drbd"],
        },
        "firewall": {"backend": "ufw"},
        "re6st": {
            "registry": f"http://{CONTROL}:9201",
            "fingerprint": known["fingerprint"],
            "token": known["re6st"],
            "install": {
                "find_links": "/usr/share/slapos-ha-lab/wheels/re6st",
                "no_index": True,
                "path": ["/opt/re6st-lab/bin"],
            },
        },
        "slapos": {
            "master_url": f"http://{CONTROL}:5000/",
            "web_master_url": f"http://{CONTROL}:5001",
            "computer_name": "comp1",
            "token": known["slapos"],
            "partition_number": 3,
            "ipv4_local_network": "10.98.64.0/24",
            "min_free_space": "10M",
            "offline": True,
            "install": {
                "find_links": "/usr/share/slapos-ha-lab/wheels/slapos",
                "no_index": True,
            },
        },
    }
    if change:
        site = change(site) or site
    folder = lab.home / "salt/pillar"
    top = {"base": {host: ["site"] for host in HOSTS}}
    for name, data in (("top.sls", top), ("site.sls", {"slapos_ha": site})):
        making = folder / f".{name}"
        making.write_text("#!json\n" + json.dumps(data, indent=1))
        making.chmod(0o600)
        making.rename(folder / name)


def salt(lab, program, *args, check=True, **kwargs):
    """Run one of Salt's commands against the lab's master."""
    return run(*lab.inside(BIN / program, "-c", lab.home / "salt", *args), check=check, **kwargs)


def salt_json(lab, program, *args):
    """What one of Salt's commands answers, as data."""
    said = (
        salt(lab, program, "--out=json", "--static", *args, check=False)
        if program == "salt"
        else salt(lab, program, "--out=json", *args, check=False)
    )
    try:
        return json.loads(said.stdout[said.stdout.index("{") :])
    except ValueError:
        raise LabError(f"{program} {' '.join(map(str, args))}: {said.stdout[-2000:]}") from None


def answering(lab):
    """The hosts whose minions answer now. One that does not is waited for six seconds, not for as long as a busy one may take in a deployment: what a
    minion answers in its first seconds is lost (Salt 3007.15), and it is asked again."""
    said = salt(
        lab, "salt-run", "--log-level=quiet", "--out=json", "manage.up", "timeout=3",
        "gather_job_timeout=3", check=False,
    ).stdout  # fmt: skip
    try:
        return set(json.loads(said[said.index("[") :]))
    except ValueError:
        raise LabError(f"salt-run manage.up: {said[-2000:]}") from None


# --- re6st -------------------------------------------------------------------------------------------------------------


def registry(lab):
    """A private registry, its CA, and its own node of the mesh."""
    bin_ = image.environment("re6st")
    folder = lab.home / "registry"
    if not (folder / "ca.crt").exists():
        for name in ("", "run", "log", "node", "node-run", "node-log", "node-state"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        run(
            "openssl",
            "genpkey",
            "-out",
            folder / "ca.key",
            "-algorithm",
            "rsa",
            "-pkeyopt",
            "rsa_keygen_bits:2048",
        )
        run("openssl", "dhparam", "-dsaparam", "-out", folder / "dh.pem", "2048")
        run(
            "openssl", "req", "-nodes", "-new", "-x509", "-key", folder / "ca.key", "-set_serial", SERIAL, "-days", "3650",
            "-subj", "/CN=lab/emailAddress=ca@lab.test", "-out", folder / "ca.crt",
        )  # fmt: skip
    options = {
        "port": 9201, "4": CONTROL, "6": '""', "db": folder / "registry.db", "dh": folder / "dh.pem", "ca": folder / "ca.crt",
        "key": folder / "ca.key", "logfile": folder / "log/registry.log", "run": folder / "run", "hello": 2, "client-count": 2,
        "prefix-length": 16, "authorized-origin": CONTROL, "mailhost": folder / "mbox", "verbose": 3, "encrypt": "",
    }  # fmt: skip
    (folder / "registry.conf").write_text(
        "".join(f"{key} {value}".rstrip() + "\n" for key, value in options.items())
    )
    lab.start("re6st-registry", [bin_ / "re6st-registry", f"@{folder}/registry.conf"], cwd=folder)
    wait("the registry answers", lambda: _get(lab, f"http://{CONTROL}:9201/getCa"), 30)


def fingerprint(lab):
    lines = (lab.home / "registry/ca.crt").read_text().split("-----")[2]
    return "sha256:" + hashlib.sha256(base64.b64decode("".join(lines.split()))).hexdigest()


def add_token(lab, token):
    """Let the registry accept a new token, once."""
    with sqlite3.connect(lab.home / "registry/registry.db", timeout=10) as database:
        database.execute(
            "INSERT INTO token VALUES (?, ?, 16, ?)",
            (token, f"{secrets.token_hex(4)}@lab.test", int(time.time())),
        )


def mesh(lab):
    """The registry's own node: without it no other can join the mesh."""
    bin_ = image.environment("re6st")
    folder = lab.home / "registry"
    node = folder / "node"
    if not (node / "cert.crt").exists():
        token = secrets.token_hex(8)
        add_token(lab, token)
        run(
            *lab.inside(
                bin_ / "re6st-conf", "--registry", f"http://{CONTROL}:9201", "--fingerprint", fingerprint(lab),
                "--token", token, "-d", node, "-r", "title", "registry",
            )
        )  # fmt: skip
        with open(node / "re6stnet.conf", "a") as conf:
            conf.write(
                f"run {folder}/node-run\nlog {folder}/node-log\nstate {folder}/node-state\nip {CONTROL}\nmain-interface br0\n"
            )
    path = f"{HERE}/image/opt/re6st-lab/bin:{os.environ['PATH']}:/usr/sbin"
    lab.start("re6stnet", [bin_ / "re6stnet", "@re6stnet.conf"], env={"PATH": path}, cwd=node)


def again(lab):
    """Write the pillar of a site that is deployed once more: a teardown revokes neither the certificate nor the computer of its first life."""
    token = secrets.token_hex(8)
    add_token(lab, token)

    def change(site):
        site["re6st"]["token"] = token
        site["slapos"]["computer_name"] = "comp1-again"

    pillar(lab, change)


# --- SlapOS ------------------------------------------------------------------------------------------------------------


def slapos(lab, token):
    """A slapproxy, and beside it the one call of the web master that it lacks."""
    bin_ = image.environment("slapos")
    folder = lab.home / "slapproxy"
    folder.mkdir(exist_ok=True)
    (folder / "proxy.cfg").write_text(
        f"[slapos]\ninstance_root = {folder}/instance\nsoftware_root = {folder}/software\ncomputer_id = local_computer\n"
        f"master_url = http://{CONTROL}:5000/\n\n[slapproxy]\nhost = {CONTROL}\nport = 5000\ndatabase_uri = {folder}/slapproxy.db\n"
    )
    (folder / "client.cfg").write_text(
        f"[slapos]\nmaster_url = http://{CONTROL}:5000/\n\n[slapconsole]\n"
    )
    (folder / "token").write_text(token)
    (folder / "token").chmod(0o600)
    lab.start("slapproxy", [bin_ / "slapos", "proxy", "start", "--cfg", folder / "proxy.cfg"])
    lab.start("webmaster", [sys.executable, HERE / "control/webmaster.py", CONTROL, "5001", folder])
    wait("the slapproxy answers", lambda: _get(lab, f"http://{CONTROL}:5000/"), 30)


def request(lab):
    """Ask the master for the page's software and one instance of it, as the owner of a SlapOS account does."""
    bin_ = image.environment("slapos")
    env = {**os.environ, "SLAPOS_CLIENT_CONFIGURATION": str(lab.home / "slapproxy/client.cfg")}
    software = "/usr/share/slapos-ha-lab/web/software.cfg"
    run(*lab.inside(bin_ / "slapos", "supply", software, "COMP-1"), env=env)
    run(
        *lab.inside(bin_ / "slapos", "request", "page", software, "--node", "computer_guid=COMP-1"),
        env=env,
    )


def _get(lab, url):
    """The status of a page as the control node gets it: 0 when there is no answer."""
    said = run(
        *lab.inside(
            sys.executable,
            "-c",
            f"import urllib.request as u; print(u.urlopen({url!r}, timeout=3).status)",
        ),
        check=False,
    )
    return said.returncode == 0


def start(lab):
    """Everything but the hosts; returns when each service answers."""
    registry(lab)
    known = _secrets(lab)
    if not known.exists():
        made = {name: f"{name}-{secrets.token_hex(12)}" for name in ("drbd", "re6st", "slapos")}
        add_token(lab, made["re6st"])
        known.write_text(json.dumps({**made, "fingerprint": fingerprint(lab)}))
        known.chmod(0o600)
    slapos(lab, json.loads(known.read_text())["slapos"])
    mesh(lab)
    salt_config(lab)
    pillar(lab)
    master(lab)


def _secrets(lab):
    return lab.home / "secrets.json"


def services(lab):
    """Start registry and SlapOS master again."""
    registry(lab)
    slapos(lab, json.loads(_secrets(lab).read_text())["slapos"])


def master(lab):
    lab.start("master", [BIN / "salt-master", "-c", lab.home / "salt"])
