"""
A node with a deployed site, for the tests of its removal: real files, a real loop device, fake programs, and the agent, DRBD and LVM as far as these tests
ask them. They refuse what the real ones refuse, so that a wrong order fails.
"""

import json
import os
import pathlib
import subprocess
import sys

FQDN = "comp1.slapos.svc.paris"
SVC, VOL, CFG = "slapos/svc/comp1", "slapos/vol/comp1-cfg", "slapos/cfg/comp1"
UNITS = (
    "drbd.service",
    "re6stnet.service",
    "re6st-registry.service",
    "slapos-node.service",
    "slapos-node-boot.service",
)
FIREWALL_UNIT = "/etc/systemd/system/slapos-ha-firewall.service"
HEAD = (
    b"\0" * 4608
    + FQDN.encode()
    + b' {\nid = "CZ0vX3-5FPk-PiJR-Gu7z-UUDl-PGql-OHR1Cq"\nseqno = 2\n}\n'
)
PASSWD = (
    "root:x:0:0::/root:/bin/sh\nslapsoft:x:5000:5000::/srv/comp1.slapos.svc.paris/slapos/opt/slapgrid:/bin/sh\n"
    + "".join(
        f"slapuser{n}:x:{5001 + n}:{5001 + n}::/srv/slapgrid/slappart{n}:/bin/sh\n"
        for n in range(2)
    )
)
GROUP = "root:x:0:\nslapsoft:x:5000:slapuser0,slapuser1\nslapuser0:x:5001:\nslapuser1:x:5002:\n"
DIVERSIONS = "/bin/sh\n/bin/sh.distrib\ndash\n/etc/cron.d/slapos-node\n/etc/cron.d/slapos-node.slapos_ha\n:\n"
LVM_LOCAL = 'local {\n}\n# slapos_ha begins -DO-NOT-EDIT-\ndevices { global_filter = [ "r|^/dev/drbd.*|" ] }\n# slapos_ha ends\n# end\n'

# What the programs do is done by the world's own files: each call is in the book, in its order.
PROGRAM = """\
#!{python} -ISE
import json, pathlib, sys
world, name, args = pathlib.Path({world!r}), {name!r}, sys.argv[1:]
with (world / "calls").open("a") as book:
    book.write(" ".join([name, *args]) + "\\n")
if name in ("pvs", "lvs"):
    state = json.loads((world / "lvm.json").read_text())
    if state.get("broken"):
        sys.exit("  Failed to read devices")
    print(json.dumps({{"report": [{{name[:-1]: state[name]}}]}}))
elif name == "systemctl":
    for unit in args[1:]:
        (world / "root/etc/systemd/system" / unit).unlink()
elif name == "dpkg-divert":
    (world / "root/var/lib/dpkg/diversions").write_text("/bin/sh\\n/bin/sh.distrib\\ndash\\n")
"""


class World:
    def __init__(self, base):
        self.base, self.root = pathlib.Path(base), pathlib.Path(base) / "root"
        self.prefix = self.root / "opt/env"
        self.file = self.base / "opt" / f"{FQDN}.img"
        self.loop = None
        self.did = []
        self.node, self.members, self.frozen = "demo1", ["demo1", "demo2"], False
        self.name, self.others, self.settings = "paris", [], {}
        self.configs = {
            SVC: {"env": {"slapos_ha_site": "paris"}},
            VOL: {"DEFAULT": {"children": SVC}},
            CFG: {"data": {"re6st": "", "slapos": "", "settings.json": ""}},
        }
        self.avail = {SVC: "stdby up", VOL: "down"}
        self.drbd = {FQDN: {"up": True, "disk": f"/dev/{FQDN}/comp1", "metadata": True}}
        self.failed = []
        self.firewall = [
            {"kind": "unit", "name": FIREWALL_UNIT, "now": "there"},
            {"kind": "nftables table", "name": "inet slapos_ha", "now": "loaded"},
            {"kind": "ruleset", "name": "/etc/slapos_ha/firewall.nft", "now": "there"},
        ]
        self._files()

    def _files(self):
        for folder in (
            "opt", "bin", "root/etc/systemd/system", "root/var/lib/dpkg", "root/etc/lvm", "root/etc/modules-load.d", "root/srv/slapgrid", "root/etc/re6stnet",
            f"root/srv/{FQDN}", "root/proc/self", "root/run/slapos-ha", "root/sys/block", "root/var/lib/opensvc/namespaces", "root/home/me",
            "root/var/lib/slapos_ha", "root/usr/local/lib/slapos_ha",
        ):  # fmt: skip
            (self.base / folder).mkdir(parents=True, exist_ok=True)
        for unit in UNITS:
            (self.root / "etc/systemd/system" / unit).symlink_to("/dev/null")
        texts = {
            "etc/passwd": PASSWD,
            "etc/group": GROUP,
            "var/lib/dpkg/diversions": DIVERSIONS,
            "etc/lvm/lvmlocal.conf": LVM_LOCAL,
            "etc/modules-load.d/drbd.conf": "drbd\n",
            "run/slapos-ha/addresses.json": "[]",
            "var/lib/slapos_ha/recovery.json": "{}",
            "usr/local/lib/slapos_ha/split-brain": "#!/bin/sh",
            "usr/local/lib/slapos_ha/may-promote": "#!/bin/sh",
        }
        for name, text in texts.items():
            (self.root / name).write_text(text)
        (self.root / "etc/lvm/lvmlocal.conf").chmod(0o640)
        self.mounts()
        for path in (SVC, VOL, CFG):
            (self.root / "var/lib/opensvc/namespaces" / path / "disk#0").mkdir(parents=True)
        (self.prefix / "lib").mkdir(parents=True)
        (self.prefix / "pyvenv.cfg").write_text("")
        for name in ("pvs", "lvs", "systemctl", "dpkg-divert"):
            self.program(name)
        # Looked for, and never run.
        for name in ("drbdadm", "om"):
            (self.base / "bin" / name).write_text("#!/bin/sh\nexit 99\n")
            (self.base / "bin" / name).chmod(0o755)
        with open(self.file, "wb") as stream:
            stream.write(HEAD)
            stream.truncate(32 << 20)

    def program(self, name):
        path = self.base / "bin" / name
        path.write_text(PROGRAM.format(python=sys.executable, world=str(self.base), name=name))
        path.chmod(0o755)

    def mounts(self, *lines):
        """The mounts of this node: its root, and lines such as "147:0 / /srv/x ext4 /dev/drbd0"."""
        rows = ["8:1 / / ext4 /dev/sda1", "0:5 / /proc proc proc", *lines]
        text = ""
        for number, row in enumerate(rows):
            device, root, point, kind, source = row.split()
            text += f"{number} 1 {device} {root} {point} rw shared:1 - {kind} {source} rw\n"
        (self.root / "proc/self/mountinfo").write_text(text)

    def attach(self):
        """Put the loop file on a real loop device, and LVM's volumes on that."""
        done = subprocess.run(
            ["losetup", "--find", "--show", self.file], check=True, capture_output=True, text=True
        )
        self.loop = done.stdout.strip()
        block = self.root / "sys/block" / pathlib.Path(self.loop).name
        block.symlink_to(f"/sys/block/{block.name}")
        self.lvm(
            pvs=[{"pv_name": self.loop, "vg_name": FQDN}],
            lvs=[{"vg_name": FQDN, "lv_name": "comp1", "origin": ""}],
        )

    def down(self):
        """End what is left of the loop device, if it is still on this world's file."""
        if self.loop:
            backing = pathlib.Path(f"/sys/block/{self.loop[5:]}/loop/backing_file")
            if backing.exists() and backing.read_text().startswith(str(self.file)):
                subprocess.run(["losetup", "-d", self.loop], check=True)

    def lvm(self, **parts):
        path = self.base / "lvm.json"
        state = json.loads(path.read_text()) if path.exists() else {"pvs": [], "lvs": []}
        state.update(parts)
        path.write_text(json.dumps(state))
        return state

    def calls(self):
        book = self.base / "calls"
        return book.read_text().splitlines() if book.exists() else []

    def tree(self):
        """Everything below the world's folder, but the book of calls."""
        found = {}
        for path in sorted(self.base.rglob("*")):
            if path.name != "calls" and "sys/block" not in str(path):
                about = path.lstat()
                found[str(path)] = (
                    oct(about.st_mode),
                    os.readlink(path) if path.is_symlink() else about.st_mtime_ns,
                )
        return found

    # --- What Salt's loader would find as functions ---

    def functions(self):
        return {
            name.replace("__", "."): getattr(self, name)
            for name in dir(self)
            if name.startswith(
                ("opensvc__", "drbd__", "lvm__", "user__", "group__", "slapos_firewall__")
            )
        }

    def opensvc__config_show(self, path):
        if path == "cluster":
            members = " ".join(self.members)
            cluster = {"name": self.name, "nodes": members, **self.settings}
            return {"cluster": cluster, "hb#1": {}, "hb#9": {}, "arbitrator#1": {}}
        return self.configs.get(path)

    def opensvc__cluster_status(self, fresh=True):
        return {
            "cluster": {"name": self.name, "nodes": self.members},
            "nodes": {one: {"frozen": self.frozen, "state": "idle"} for one in self.members},
            "objects": {path: {} for path in [*self.configs, *self.others]},
        }

    def opensvc__status(self, path, fresh=True):
        return {"avail": self.avail.get(path, "n/a")} if path in self.configs else None

    def opensvc__check(self, path, condition, fresh=True):
        assert condition == "stopped"
        return {
            "done": self.avail.get(path) in ("down", "stdby up") and not self.failed,
            "failed": self.failed,
            "seen": f"{self.avail.get(path)}; {', '.join(self.failed)}",
        }

    def opensvc__clear(self, path):
        self.did.append(f"clear {path}")
        self.failed = []

    def opensvc__stop(self, path):
        self.did.append(f"stop {path}")
        self.avail[path] = "down"

    def opensvc__delete(self, path):
        self.did.append(f"delete {path}")
        del self.configs[path]

    def opensvc__wait(self, path, condition, timeout):
        assert (path in self.configs) is (condition != "gone") and not self.failed

    def opensvc__leave(self, timeout):
        self.did.append("leave")
        self.members, self.frozen, self.name = [self.node], True, "default"

    def opensvc__config_delete_section(self, path, section):
        self.did.append(f"delete {section} of {path}")

    def opensvc__config_unset(self, path, keywords):
        self.did.append(f"unset {keywords[0]}")
        if keywords == ["cluster.name"]:
            self.name = "default"

    def opensvc__wait_nodes(self, condition, nodes, timeout):
        assert nodes == [self.node]

    def opensvc__node_thaw(self):
        self.did.append("thaw")
        self.frozen = False

    def drbd__status(self, name="all", fresh=True):
        return {
            one: {"up": known["up"], "role": "Secondary", "disk": {}, "connections": {}}
            for one, known in self.drbd.items()
        }

    def drbd__config(self, resource=None):
        known = self.drbd.get(resource)
        return known and {"hosts": {self.node: {"volumes": {0: {"disk": known["disk"]}}}}}

    def drbd__metadata(self, resource, volume=0):
        known = self.drbd[resource]["metadata"]
        return {
            "metadata": "exists" if known else "none",
            "ids": {"current": "2820CDFF103B1748"} if known else None,
        }

    def drbd__down(self, resource):
        self.did.append(f"down {resource}")
        self.drbd[resource]["up"] = False

    def drbd__wipe_md(self, resource, force, current):
        assert force and current == "2820CDFF103B1748" and not self.drbd[resource]["up"]
        self.did.append("wipe-md")
        self.drbd[resource]["metadata"] = False

    def drbd__remove_config(self, resource):
        assert not self.drbd[resource]["up"]
        self.did.append(f"remove {resource}.res")
        del self.drbd[resource]

    def slapos_firewall__left(self):
        return list(self.firewall)

    def slapos_firewall__remove(self, kind, name):
        assert self.firewall[0]["kind"] == kind and self.firewall[0]["name"] == name
        self.did.append(f"remove {kind} {name}")
        self.firewall.pop(0)

    def lvm__lvremove(self, lvname, vgname, force):
        if self.drbd.get(FQDN, {}).get("up"):
            return f"  Logical volume {vgname}/{lvname} in use."
        self.did.append(f"lvremove {vgname}/{lvname}")
        rows = [row for row in self.lvm()["lvs"] if row["lv_name"] != lvname]
        self.lvm(lvs=rows)
        return f'Logical volume "{lvname}" successfully removed'

    def lvm__vgremove(self, vgname, force):
        if any(row["vg_name"] == vgname for row in self.lvm()["lvs"]) or force:
            return f"  Volume group {vgname} is not removed"
        self.did.append(f"vgremove {vgname}")
        self.lvm(pvs=[{**row, "vg_name": ""} for row in self.lvm()["pvs"]])
        return f'Volume group "{vgname}" successfully removed'

    def lvm__pvremove(self, devices, force):
        if any(row["pv_name"] == devices and row["vg_name"] for row in self.lvm()["pvs"]):
            return f"  PV {devices} is used by VG"
        self.did.append(f"pvremove {devices}")
        self.lvm(pvs=[])
        return True

    def user__delete(self, name, remove, force):
        assert not remove and not force
        return self._drop("passwd", name) and self._drop("group", name, only=name != "slapsoft")

    def group__delete(self, name):
        return self._drop("group", name)

    def _drop(self, file, name, only=True):
        """Without ``only`` nothing is done: userdel leaves a group that others are in."""
        path = self.root / "etc" / file
        lines = path.read_text().splitlines(keepends=True)
        if only:
            path.write_text("".join(line for line in lines if not line.startswith(f"{name}:")))
            self.did.append(f"{file} {name}")
        return True
