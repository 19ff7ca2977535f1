"""
Ansible's side of the comparison: `ansible-core` in an environment of its own in the cache, and test/bench/ansible/converge.yml, what a highstate does as plain
modules over ssh, run inside of the lab's network namespace with the lab's key.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import time

from slaplab import hosts, image, site
from slaplab.base import HOSTS, REPO, LabError, cache, run

HERE = pathlib.Path(__file__).parent / "ansible"
REQUIREMENTS = HERE / "requirements.txt"
PREFERRED = next(iter(HOSTS))
FQDN = pathlib.PurePosixPath(site.MOUNT).name
# What a highstate wrote, and the name that the playbook knows it by; the others are where the service is.
EVERYWHERE = {"drbd.res": f"/etc/drbd.d/{FQDN}.res"}
WHERE_IT_RUNS = {
    "re6stnet.conf": "/etc/re6stnet/re6stnet.conf",
    "slapos.cfg": "/etc/opt/slapos/slapos.cfg",
}
USERS = "for user in $(getent passwd | grep -oE '^slap(soft|user[0-9]+)'); do getent passwd $user; id -nG $user; done"
# A run that takes longer than this will not end.
SECONDS = 3600


def version():
    return re.search(r"^ansible-core==(\S+)$", REQUIREMENTS.read_text(), re.MULTILINE)[1]


def environment():
    """The folder of ansible-core's programs, made once for each requirements.txt."""
    mark = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:8]
    done = cache() / f"ansible-{version()}-{mark}"
    if not (done / "complete").exists():
        image.say(f"ansible-core {version()} from PyPI")
        shutil.rmtree(done, ignore_errors=True)
        run("/usr/bin/python3.11", "-m", "venv", done)
        run(done / "bin/pip", "install", "--quiet", "--disable-pip-version-check", "-r", REQUIREMENTS)  # fmt: skip
        (done / "complete").touch()
    return done / "bin"


def users(text):
    """The users as the playbook's `user` wants them, of what USERS prints: a line of passwd and a line of groups for each."""
    lines = text.splitlines()
    found = []
    for entry, groups in zip(lines[::2], lines[1::2], strict=True):
        name, _, uid, gid, _, home, shell = entry.split(":")
        others = [group for group in groups.split() if group != name]
        found.append({"name": name, "uid": int(uid), "gid": int(gid), "home": home, "shell": shell, "groups": others})  # fmt: skip
    return found


def inventory(lab, active, known):
    """The inventory as data; `known` are the users of each host."""
    return {
        "nodes": {
            "hosts": {
                host: {
                    "ansible_host": f"10.98.0.{number}",
                    "active": host == active,
                    "preferred": host == PREFERRED,
                    "users": known[host],
                }
                for host, number in HOSTS.items()
            },
            "vars": {
                "ansible_user": "root",
                "ansible_ssh_private_key_file": str(lab.home / "keys/ssh"),
                "ansible_ssh_common_args": " ".join(hosts.SSH),
                "sources": str(REPO / "slapos_ha/files"),
                "files": str(lab.home / "ansible/files"),
                "fqdn": FQDN,
                "service": site.SERVICE,
                "re6st": list(image.RE6ST),
                "slapos": list(image.SLAPOS),
            },
        }
    }


def problems(text):
    """What keeps a run from being a no-op, as sentences, by what `ansible-playbook` printed: a host that is not there, a task that failed or changed something."""
    found, task = [], "?"
    for line in text.splitlines():
        if named := re.match(r"TASK \[(.*)\] \*", line):
            task = named[1]
        elif outcome := re.match(r"(changed|fatal|failed): \[([^\]]+)\]", line):
            why = "" if outcome[1] == "changed" else f": {line[outcome.end() :][:300]}"
            found.append(f"{outcome[2]}: {task}: {outcome[1]}{why}")
    recap = {
        host: dict(re.findall(r"(\w+)=(\d+)", counts))
        for host, counts in re.findall(r"^(\S+) +: (ok=.*)$", text, re.MULTILINE)
    }
    found += [f"{host}: no answer" for host in HOSTS if int(recap.get(host, {}).get("ok", 0)) == 0]
    for host, counts in recap.items():
        if any(int(counts[key]) for key in ("changed", "unreachable", "failed")):
            found.append(f"{host}: {counts}")
    return found


def tasks(text):
    """(tasks of a run, calls of a module: a loop is one for each of its items and host)."""
    return (
        len(re.findall(r"^TASK \[", text, re.MULTILINE)),
        len(re.findall(r"^(?:ok|changed): \[", text, re.MULTILINE)),
    )


@contextlib.contextmanager
def prepared(lab):
    """A function that converges both hosts and returns (seconds, what was printed); it raises LabError where that was no no-op."""
    program = environment() / "ansible-playbook"
    folder = lab.home / "ansible"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    active = site.active(lab)
    known = {}
    for host in HOSTS:
        known[host] = users(hosts.ssh(lab, host, USERS).stdout)
        (folder / "files" / host).mkdir(parents=True)
        for name, path in {**EVERYWHERE, **(WHERE_IT_RUNS if host == active else {})}.items():
            (folder / "files" / host / name).write_text(hosts.ssh(lab, host, f"cat {path}").stdout)
    (folder / "inventory.json").write_text(json.dumps(inventory(lab, active, known), indent=1))
    command = lab.inside(program, "-i", folder / "inventory.json", HERE / "converge.yml")
    # Sockets have short names: those of connections that stay open are not below the lab's folder.
    with tempfile.TemporaryDirectory(prefix="bench-") as sockets:
        env = {
            **os.environ,
            "ANSIBLE_CONFIG": str(HERE / "ansible.cfg"),
            "ANSIBLE_HOME": str(folder / "home"),
            "ANSIBLE_SSH_CONTROL_PATH_DIR": sockets,
            "LC_ALL": "C.UTF-8",
        }

        def converge():
            begun = time.monotonic()
            said = run(*command, check=False, env=env, stdin=subprocess.DEVNULL, timeout=SECONDS)
            seconds = time.monotonic() - begun
            (lab.logs / "ansible.log").write_text(said.stdout)
            wrong = problems(said.stdout)
            if wrong or said.returncode:
                raise LabError(
                    f"Ansible's run is no no-op: {'; '.join(wrong[:5]) or said.stdout[-500:]}"
                )
            return seconds, said.stdout

        yield converge
