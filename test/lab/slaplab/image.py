"""The hosts' disk image, made of Debian and PyPI packages and kept by a hash of what it is made of."""

import contextlib
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import time

from .base import REPO, LabError, alone, cache, run

HERE = REPO / "test/lab"
KERNEL_MODULES = pathlib.Path("/usr/lib/uml/modules")
# What the control node's machine needs: the hosts' kernel, the image's builder, and both ends of the mesh.
MACHINE = (
    "user-mode-linux mmdebstrap e2fsprogs iproute2 ethtool openssh-client openvpn babeld openssl kmod gcc python3-dev "
    "python3-venv"
).split()
GUEST = (
    "systemd systemd-sysv dbus udev openssh-server iproute2 iputils-ping ethtool kmod drbd-utils lvm2 e2fsprogs "
    "python3 python3-venv openvpn babeld openssl lm-sensors rsync curl procps less ufw iptables cron psmisc ca-certificates"
).split()
SALT = ("salt==3007.15", "jsonschema==4.25.1")
RE6ST = ("re6stnet==0.642", "pyOpenSSL==24.2.1", "cryptography==43.0.3")
SLAPOS = (
    "slapos.core==1.25.0",
    "slapos.libnetworkcache==0.30",
    "slapos.recipe.build==0.66",
    "slapos.recipe.template==5.1",
    "zc.buildout==6.0.1",
    "setuptools==80.9.0",
)
WHEELS = {"salt": SALT, "re6st": RE6ST, "slapos": (*SLAPOS, "pip", "wheel")}
# Units that would only cost time in a host that lives for minutes; DRBD and LVM are the formula's business.
QUIET = (
    "apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer fstrim.timer dpkg-db-backup.timer e2scrub_reap.service cron.service "
    "systemd-binfmt.service lm-sensors.service"
)
SIZE = "6G"


def say(text):
    print(f"lab: {text}", flush=True)


def making():
    """One lab at a time makes what all share; another one waits for it."""
    return alone(cache() / "image.lock")


def ensure_machine():
    """Install what this machine lacks."""
    have = run("dpkg-query", "-W", "-f", "${Package} ${Status}\n", check=False).stdout
    installed = {
        line.split()[0] for line in have.splitlines() if line.endswith("install ok installed")
    }
    missing = [package for package in MACHINE if package not in installed]
    if missing:
        say(f"apt-get install {' '.join(missing)}")
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        run("apt-get", "update", "-qq", env=env)
        # Without recommendations: openvpn and babeld must not become services of this machine.
        policy = pathlib.Path("/usr/sbin/policy-rc.d")
        ours = not policy.exists()
        if ours:
            policy.write_text("#!/bin/sh\nexit 101\n")
            policy.chmod(0o755)
        try:
            run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing, env=env)
        finally:
            if ours:
                policy.unlink()
    if not pathlib.Path("/usr/bin/python3.11").exists():
        raise LabError(
            "the lab needs /usr/bin/python3.11, Debian 12's: the hosts run Debian 12 and share this machine's wheels"
        )


def kernel():
    versions = sorted(path.name for path in KERNEL_MODULES.iterdir())
    if not versions:
        raise LabError(f"{KERNEL_MODULES} is empty: reinstall user-mode-linux")
    return versions[-1]


def _inputs():
    digest = hashlib.sha256()
    for text in (
        kernel(),
        SIZE,
        QUIET,
        *GUEST,
        *(part for group in WHEELS.values() for part in group),
    ):
        digest.update(text.encode() + b"\0")
    for path in sorted(
        [pathlib.Path(__file__), *(HERE / "image").rglob("*"), *(HERE / "control/web").rglob("*")]
    ):
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def wheels():
    """Folders of wheels, one for each environment, made once."""
    name = hashlib.sha256(repr(sorted(WHEELS.items())).encode()).hexdigest()[:16]
    done = cache() / f"wheels-{name}"
    if done.exists():
        return done
    say("wheels of Salt, re6st and SlapOS from PyPI")
    with tempfile.TemporaryDirectory(dir=cache(), prefix="making-") as folder:
        folder = pathlib.Path(folder)
        run("/usr/bin/python3.11", "-m", "venv", folder / "builder")
        pip = folder / "builder/bin/pip"
        # Some of SlapOS's packages have no wheel and are built by the old way, which needs both of these.
        run(pip, "install", "--quiet", "wheel", "setuptools<81")
        for group, requirements in WHEELS.items():
            run(pip, "wheel", "--quiet", "-w", folder / "wheels" / group, *requirements)
        (folder / "wheels").rename(done)
    return done


def environment(group):
    """A Python environment of the control node from the hosts' own wheels; returns its bin folder."""
    source = wheels()
    done = cache() / f"{group}-{source.name.removeprefix('wheels-')}"
    if not (done / "complete").exists():
        say(f"environment of {group} for the control node")
        shutil.rmtree(done, ignore_errors=True)
        run("/usr/bin/python3.11", "-m", "venv", done)
        run(
            done / "bin/pip",
            "install",
            "--quiet",
            "--no-index",
            "--find-links",
            source / group,
            *WHEELS[group],
        )
        (done / "complete").touch()
    return done / "bin"


def image():
    """The path of the hosts' base image, made when there is none of these inputs."""
    done = cache() / f"image-{_inputs()}.ext4"
    if done.exists():
        # Its age by use, for the pruning below. Its time of change has to stay: the hosts' disks (COW) know their base by it.
        os.utime(done, (time.time(), done.stat().st_mtime))
        return done
    cache().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache(), prefix="making-") as folder:
        folder = pathlib.Path(folder)
        root = folder / "root"
        say("image: Debian 12 packages (about a minute)")
        with _debian(folder / "root.tar"):
            source = wheels()
        root.mkdir()
        run("tar", "-xf", folder / "root.tar", "-C", root)
        (folder / "root.tar").unlink()
        say("image: kernel modules, Salt, wheels")
        _fill(root, source)
        run("truncate", "-s", SIZE, folder / "image")
        run("mke2fs", "-q", "-t", "ext4", "-d", root, folder / "image")
        (folder / "image").rename(done)
        # Held open by a host that runs, an older image stays readable until that host ends.
        for old in sorted(cache().glob("image-*.ext4"), key=lambda path: path.stat().st_atime)[:-2]:
            old.unlink()
    return done


@contextlib.contextmanager
def _debian(tar):
    """Have the packages in a tar at the end of the context: what is done in it waits for other servers, and the second processor for work."""
    packages = f"--include={','.join(GUEST)}"
    command = ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", packages, "bookworm", str(tar)]  # fmt: skip
    with open(tar.with_suffix(".log"), "w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            yield
            if process.wait():
                log.seek(0)
                said = "".join(log.readlines()[-15:])
                raise LabError(f"mmdebstrap ended with {process.returncode}: {said}")
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()


def _fill(root, source):
    version = kernel()
    shutil.copytree(KERNEL_MODULES / version, root / "lib/modules" / version, symlinks=True)
    run("depmod", "-b", root, version)
    share = root / "usr/share/slapos-ha-lab"
    shutil.copytree(HERE / "control/web", share / "web")
    for group in ("re6st", "slapos"):
        shutil.copytree(source / group, share / "wheels" / group)
    shutil.copytree(source / "salt", root / "wheels")
    run("chroot", root, "python3", "-m", "venv", "/opt/salt")
    run(
        "chroot",
        root,
        "/opt/salt/bin/pip",
        "install",
        "--quiet",
        "--no-index",
        "--find-links",
        "/wheels",
        *SALT,
    )
    shutil.rmtree(root / "wheels")
    for path in sorted((HERE / "image").rglob("*")):
        if path.is_file():
            target = root / path.relative_to(HERE / "image")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)
    (root / "etc/machine-id").write_text("")
    (root / "etc/fstab").write_text("/dev/ubda / ext4 defaults,noatime 0 1\n")
    (root / "var/log/journal").mkdir(exist_ok=True)
    _filter(root)
    # Kept for the tests: what a package would bring and the formula has to mask.
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "quiet": False}
    run(
        "chroot",
        root,
        "systemctl",
        "enable",
        "lab-boot.service",
        "salt-minion.service",
        "ssh.service",
        **quiet,
    )
    run("chroot", root, "systemctl", "mask", *QUIET.split(), **quiet)
    run(
        "chroot",
        root,
        "systemctl",
        "disable",
        "drbd.service",
        "openvpn.service",
        "babeld.service",
        **quiet,
    )
    run("chroot", root, "systemctl", "set-default", "multi-user.target", **quiet)


def _filter(root):
    """
    A firewall that filters already, and lets in what no rule is about: that of the pillar's `firewall:backend: ufw`.

    User-mode Linux's kernel has nftables for bridges only, so the iptables below ufw have to be the kernel's old ones.
    """
    for name in ("iptables", "ip6tables"):
        run(
            "chroot",
            root,
            "update-alternatives",
            "--quiet",
            "--set",
            name,
            f"/usr/sbin/{name}-legacy",
        )
    defaults = root / "etc/default/ufw"
    text = re.sub(
        r"^(DEFAULT_(INPUT|FORWARD)_POLICY)=.*$", r'\1="ACCEPT"', defaults.read_text(), flags=re.M
    )
    defaults.write_text(text)
    settings = root / "etc/ufw/ufw.conf"
    text = re.sub(r"^ENABLED=.*$", "ENABLED=yes", settings.read_text(), flags=re.M)
    settings.write_text(re.sub(r"^LOGLEVEL=.*$", "LOGLEVEL=off", text, flags=re.M))
