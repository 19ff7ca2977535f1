"""
The suites of kitchen.yml on a host of the lab, converged and verified as kitchen would, without Docker and Ruby. By hand: make lab-kitchen

What the lab cannot give is named here: its kernel has no nftables (docs/limits.md), and there is no package index but the folders of wheels.
"""

import io
import os
import shlex
import subprocess
import sys
import tarfile

import pytest
import yaml
from slaplab import hosts
from slaplab.base import HOSTS, REPO

KITCHEN = yaml.safe_load((REPO / "kitchen.yml").read_text())
# kitchen-salt's folders, with the cache beside them: the host's own minion keeps its own.
BASE = "/tmp/kitchen"
CONFIG = f"{BASE}/etc/salt"
MINION = KITCHEN["provisioner"]["salt_minion_id"]
PEER = next(host for host in HOSTS if host != MINION)
NOT_HERE = "test/integration/configuration/test_configuration.py::test_the_firewalls_table_is_loaded_now_and_at_boot"


def pillar(suite):
    """The suite's pillar, with what is the lab's."""
    (path,) = suite["provisioner"]["pillars_from_files"].values()
    data = yaml.safe_load((REPO / path).read_text())
    site = data["slapos_ha"]
    for kind in ("re6st", "slapos"):
        site[kind]["install"] = {
            "find_links": f"/usr/share/slapos-ha-lab/wheels/{kind}",
            "no_index": True,
        }
    # A compiler is in the distribution's packages, which the lab's hosts cannot reach.
    site["slapos"]["offline"] = True
    # Kitchen's machine knows no address of its peer; here it has one that is not the pillar's.
    site["firewall"] = {"backend": "ufw", "allow": [f"10.98.0.{HOSTS[PEER]}"]}
    return data


def tree(suite):
    """What kitchen-salt copies to its machine, as a tar."""
    minion = {
        "id": MINION,
        "file_client": "local",
        "file_roots": {"base": [f"{BASE}/srv/salt"]},
        "pillar_roots": {"base": [f"{BASE}/srv/pillar"]},
        "cachedir": f"{BASE}/var/cache",
        "pki_dir": f"{BASE}/etc/pki",
        "log_file": f"{BASE}/minion.log",
    }
    texts = {
        "etc/salt/minion": minion,
        "srv/salt/top.sls": suite["provisioner"]["state_top"],
        "srv/pillar/top.sls": KITCHEN["provisioner"]["pillars"]["top.sls"],
        "srv/pillar/site.sls": pillar(suite),
    }
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for folder in ("_modules", "_states", "_utils", KITCHEN["provisioner"]["formula"]):
            skip = lambda entry: None if "__pycache__" in entry.name else entry  # noqa: E731
            tar.add(REPO / folder, f"srv/salt/{folder}", filter=skip)
        for name, data in texts.items():
            text = yaml.safe_dump(data).encode()
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text), 0o600
            tar.addfile(entry, io.BytesIO(text))
    return out.getvalue()


def converge(lab, suite):
    """A machine's first converge: kitchen's folders, its command before it, and the highstate."""
    unpack = f"rm -rf {BASE} && mkdir -p {BASE} && tar -xf - -C {BASE} && ln -sf /opt/salt/bin/salt-call /usr/local/bin/"
    command = hosts.ssh_command(lab, MINION, unpack)
    subprocess.run([str(word) for word in command], input=tree(suite), check=True)
    call = f"salt-call --local --config-dir={CONFIG} --retcode-passthrough"
    hosts.ssh(lab, MINION, f"{call} -l quiet saltutil.sync_all")
    return hosts.ssh(lab, MINION, f"{call} state.highstate", check=False)


def verify(lab, suite):
    """What kitchen's verifier runs, with the lab's host in the place of the container."""
    config = lab.home / "ssh_config"
    config.write_text(
        "\n  ".join(["Host *", f"IdentityFile {lab.home}/keys/ssh", *hosts.SSH[1::2]])
    )
    program, *words = shlex.split(suite["verifier"]["command"])
    machine = f"ssh://root@10.98.0.{HOSTS[MINION]}?ssh_config={config}"
    return subprocess.run(
        [str(word) for word in lab.inside(sys.executable, "-m", program, *words, "--deselect", NOT_HERE)],
        cwd=REPO,
        env={**os.environ, "SLAPOS_HA_MACHINE": machine},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )  # fmt: skip


@pytest.mark.parametrize("suite", KITCHEN["suites"], ids=lambda suite: suite["name"])
def test_a_suite_converges_and_is_verified(lab, suite):
    first = converge(lab, suite)
    assert first.returncode == 0, first.stdout[-4000:]
    verified = verify(lab, suite)
    print(verified.stdout[-3000:])
    assert verified.returncode == 0, verified.stdout[-6000:]
    # Each test of its folders ran: none was skipped, and what is left out is what is named above.
    assert " passed" in verified.stdout and " skipped" not in verified.stdout
