"""Disks: loop, volume group, logical volume, DRBD."""

import glob
import os
import re
import time

from .. import conf, proc
from ..errors import Failed
from .base import Resource


def loops_of(path):
    """The loop devices backed by a file, read from sysfs: no process is started."""
    found = []
    for name in glob.glob("/sys/block/loop*/loop/backing_file"):
        try:
            with open(name, encoding="utf-8") as stream:
                if stream.read().strip() == path:
                    found.append("/dev/" + name.split("/")[3])
        except OSError:
            continue
    return sorted(found)


def active_volumes():
    """Names of the active device mapper devices."""
    names = set()
    for path in glob.glob("/sys/block/dm-*/dm/name"):
        try:
            with open(path, encoding="ascii") as stream:
                names.add(stream.read().strip())
        except OSError:
            continue
    return names


def mapper_name(group, volume=""):
    return f"{group.replace('-', '--')}-{volume.replace('-', '--')}"


class Disk(Resource):
    group = "disk"


class Loop(Disk):
    @property
    def file(self):
        return self.get("file")

    @property
    def label(self):
        return f"loop {self.file}"

    def state(self):
        if self.is_provisioned() and not os.path.exists(self.file):
            self.say(f"{self.file} does not exist")
        return "up" if loops_of(self.file) else "down"

    def exposed_devs(self):
        return loops_of(self.file)

    def start(self):
        if loops_of(self.file):
            self.log.info(f"{self.label} is already up")
            return
        proc.must(self.log, ["losetup", "-f", self.file])
        self.wait_for(lambda: loops_of(self.file), 5, "loop device did not appear or disappeared")
        self.log.info(f"{', '.join(loops_of(self.file))} now loops to {self.file}")
        self.can_rollback = True

    def stop(self):
        devices = loops_of(self.file)
        if not devices:
            self.log.info(f"{self.label} is already down")
        for device in devices:
            proc.must(self.log, ["losetup", "-d", device])

    def provisioned(self):
        return os.path.exists(self.file)

    def provisioner(self):
        size = conf.size(self.get("size"))
        os.makedirs(os.path.dirname(self.file), exist_ok=True)
        self.log.info(f"create file {self.file}, size {self.get('size')}")
        descriptor = os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.ftruncate(descriptor, size // 512 * 512)
        finally:
            os.close(descriptor)

    def unprovisioner(self):
        if os.path.exists(self.file):
            self.log.info(f"unlink {self.file}")
            os.unlink(self.file)


class VolumeGroup(Disk):
    trust_flag_on_provision = False

    @property
    def name(self):
        return self.get("name")

    @property
    def label(self):
        return f"vg {self.name}"

    def state(self):
        return "up" if self.is_up() else "down"

    def is_up(self):
        prefix = mapper_name(self.name)
        if any(name.startswith(prefix) for name in active_volumes()):
            return True
        # Without a logical volume, which is how it is born, a group is up as soon as it is ours.
        facts = self.facts()
        return facts is not None and facts["volumes"] == 0 and self.instance.node in facts["tags"]

    def facts(self, fresh=False):
        """Tags and number of volumes, None when there is no such group; asked once until it changes."""
        if fresh or not hasattr(self, "_facts"):
            argv = ["vgs", "--noheadings", "--separator=;", "-o", "vg_tags,lv_count", self.name]
            code, out, _ = proc.run(argv)
            tags, _, volumes = out.strip().partition(";")
            found = {"tags": tags.split(",") if tags else [], "volumes": int(volumes or 0)}
            self._facts = None if code else found
        return self._facts

    def change(self, *argv):
        self.__dict__.pop("_facts", None)
        proc.must(self.log, list(argv))

    def exposed_devs(self):
        return sorted(glob.glob(f"/dev/{self.name}/*"))

    def start(self):
        facts = self.facts(fresh=True)
        if facts is None:
            proc.call(self.log, ["pvscan", "--cache"])
            facts = self.facts(fresh=True)
        if facts is None:
            raise Failed(f"vg {self.name} not found")
        for tag in facts["tags"]:
            if tag != self.instance.node:
                self.change("vgchange", "--deltag", f"@{tag}", self.name)
        if self.instance.node not in facts["tags"]:
            self.change("vgchange", "--addtag", f"@{self.instance.node}", self.name)
        if self.is_up():
            self.log.info(f"{self.label} is already up")
            return
        self.can_rollback = True
        self.change("vgchange", "-a", "y", self.name)

    def stop(self):
        facts = self.facts(fresh=True)
        up = self.is_up()
        if up:
            self.change("vgchange", "-a", "n", self.name)
        if facts and self.instance.node in facts["tags"]:
            self.change("vgchange", "--deltag", f"@{self.instance.node}", self.name)
        elif not up:
            self.log.info(f"vg {self.name} is already down")

    def boot(self):
        if any(name.startswith(mapper_name(self.name)) for name in active_volumes()):
            self.stop()

    def provisioned(self):
        return self.facts() is not None

    def provisioner(self):
        devices = []
        for pattern in (self.get("pvs") or "").split():
            found = sorted(glob.glob(pattern))
            self.log.info(f"expand {pattern} to {', '.join(found)}")
            for path in map(os.path.realpath, found):
                if os.path.isfile(path):
                    loops = loops_of(path)
                    if not loops:
                        raise Failed(f"pv {path} is a regular file but not a loop")
                    path = loops[0]
                devices.append(path)
        if not devices:
            raise Failed(
                f"{self.rid}.pvs value is not valid" if not self.get("pvs") else "no pvs specified"
            )
        if self.facts() is not None:
            self.log.info(f"vg {self.name} already exists")
            return
        options = (self.get("options") or "").split()
        # One command labels the devices and tags the group too: in the lab each of them takes a second.
        self.change(
            "vgcreate", "-y", "--addtag", f"@{self.instance.node}", *options, self.name, *devices
        )
        self.can_rollback = True

    def after_provision(self):
        """Made active and ours by its creation; one that was there before is started like any other."""
        if not self.can_rollback:
            self.start()

    def unprovisioner(self):
        if self.facts(fresh=True) is not None:
            self.change("vgremove", "-ff", self.name)


class LogicalVolume(Disk):
    trust_flag_on_provision = False

    @property
    def full_name(self):
        return f"{self.get('vg')}/{self.get('name')}"

    @property
    def label(self):
        return f"lv {self.full_name}"

    @property
    def device(self):
        return f"/dev/{self.full_name}"

    def state(self):
        return "up" if self.is_up() else "down"

    def is_up(self):
        return mapper_name(self.get("vg") or "", self.get("name") or "") in active_volumes()

    def exposed_devs(self):
        return [self.device] if os.path.exists(self.device) else []

    def start(self):
        if self.is_up():
            self.log.info(f"{self.label} is already up")
            return
        proc.must(self.log, ["lvchange", "-a", "y", self.full_name])
        self.can_rollback = True

    def stop(self):
        if not self.is_up():
            self.log.info(f"{self.label} is already down")
            return
        proc.must(self.log, ["lvchange", "-a", "n", self.full_name])

    def boot(self):
        if self.is_up():
            self.stop()

    def provisioned(self):
        return self.is_up() or proc.run(["lvs", self.full_name])[0] == 0

    def provisioner(self):
        group, size = self.get("vg"), str(self.get("size")).upper()
        extent = ["-l", size] if "%" in size else ["-L", f"{conf.size(size) // 1024**2}M"]
        # Answers yes to the signature of a former life on the device.
        proc.must(
            self.log,
            [
                "lvcreate",
                "-y",
                "-n",
                self.get("name"),
                *extent,
                *(self.get("create_options") or "").split(),
                group,
            ],
        )
        self.can_rollback = True
        self.wait_for(
            lambda: os.path.exists(self.device), 5, f"timed out waiting for {self.device} to appear"
        )

    def unprovisioner(self):
        if self.provisioned():
            if os.path.exists(self.device):
                proc.call(self.log, ["wipefs", "-a", self.device])
            proc.must(self.log, ["lvremove", "-f", self.full_name])


RES_FOLDER = "/etc/drbd.d"
RESOURCE_HEADER = re.compile(r"^\s*resource\s+(\"[^\"]+\"|\S+)\s*\{", re.M)


def allocations():
    """The DRBD minors and ports the configuration of this node uses."""
    code, out, err = proc.run(["drbdadm", "dump"])
    if code:
        raise Failed(err)
    return {
        "minors": sorted({int(minor) for minor in re.findall(r"/dev/drbd(\d+)", out)}),
        "ports": sorted({int(port) for port in re.findall(r"address\s[^;]*:(\d+)\s*;", out)}),
    }


class Drbd(Disk):
    """DRBD as the agent drives it: up and Secondary on the standby, Primary where the instance is up."""

    rollback_standby = True

    @property
    def name(self):
        return self.get("res")

    @property
    def file(self):
        return f"{RES_FOLDER}/{self.name}.res"

    @property
    def label(self):
        return f"drbd {self.name}"

    def command(self, *words):
        return ["drbdadm", *words, self.name]

    def change(self, *words):
        """Change the state; another change under way elsewhere (exit 11) is waited for."""
        argv = self.command(*words)
        self.log.info(" ".join(argv))
        for _ in range(10):
            code, out, err = proc.run(argv)
            if code == 11:
                time.sleep(1)
                continue
            for line in (err if code else out).splitlines():
                self.log.error(f"| {line}") if code else self.log.info(f"| {line}")
            if code:
                raise Failed("")
            return
        raise Failed("timeout waiting for action non-denied by peer")

    def defined(self):
        return "not defined" not in proc.run(["drbdadm", "--", "status", self.name])[2]

    def configured(self):
        """Whether there is anything to drive; an absent resource is skipped, which is a success."""
        if not os.path.exists(self.file):
            self.log.info("skip: resource not configured")
            return False
        if not self.defined():
            self.log.info("skip: resource not defined (for this host)")
            return False
        return True

    def connection_state(self):
        if not os.path.exists("/proc/drbd"):
            proc.must(self.log, ["modprobe", "drbd"])
        code, out, err = proc.run(self.command("cstate"))
        if code:
            if "Device minor not allocated" in err or code == 10:
                return "Unattached"
            raise Failed("")
        return out.split("\n")[0].strip()

    def role(self):
        code, out, err = proc.run(self.command("role"))
        if code:
            raise Failed(err.strip())
        first = out.strip().split("\n")[0]
        if first in ("Primary", "Secondary"):
            return first
        local, separator, _ = first.partition("/")
        if not separator:
            raise Failed(first)
        return local

    def disk_state(self):
        code, out, _ = proc.run(self.command("dstate"))
        if code:
            raise Failed(f"drbdadm dstate {self.name} failed")
        return out.strip().split("\n")[0]

    def state(self):
        try:
            role = self.role()
        except Failed as error:
            self.say(str(error))
            return "down"
        self.say(role, "info")
        try:
            disks = self.disk_state()
        except Failed as error:
            self.say(str(error))
            return "warn"
        if disks != "UpToDate/UpToDate":
            self.say(f"unexpected drbd resource {self.name}/0 state: {disks}")
            if disks.split("/")[0] in ("Diskless", "DUnknown", "Unconfigured"):
                return "down"
        if role == "Primary" or self.standby:
            return "up"
        return "warn"

    def exposed_devs(self):
        """The device this host's part of the resource file names."""
        try:
            with open(self.file, encoding="utf-8") as stream:
                text = stream.read()
        except OSError:
            return []
        hosts = re.split(r"^\s*on\s+", text, flags=re.M)
        mine = [host for host in hosts[1:] if host.split()[0].strip('"{') == self.instance.node]
        for part in (*mine, hosts[0]):
            match = re.search(
                r"\bdevice\s+(?:(/dev/\S+?)(?:\s+minor\s+\d+)?|minor\s+(\d+))\s*;", part
            )
            if match:
                return [match.group(1) or f"/dev/drbd{match.group(2)}"]
        return []

    def files_to_sync(self):
        return [self.file] if os.path.exists(self.file) else []

    def start_connection(self):
        state = self.connection_state()
        if state in ("Connecting", "Connected"):
            self.log.info(f"drbd resource {self.name} is already {state}")
        elif state in (
            "Unconnected",
            "Timeout",
            "BrokenPipe",
            "NetworkFailure",
            "ProtocolError",
            "TearDown",
        ):
            self.log.info(
                f"drbd resource {self.name} cstate is {state}: wait for Connecting or Connected"
            )
            self.wait_for(
                lambda: self.connection_state() in ("Connected", "Connecting"),
                5,
                "waited too long for cstate in ['Connected', 'Connecting']",
            )
        elif state == "StandAlone":
            self.change("down")
            self.up()
        elif state == "Disconnecting":
            self.wait_for(
                lambda: self.connection_state() == "StandAlone",
                5,
                "waited too long for cstate in ['StandAlone']",
            )
            self.change("down")
            self.up()
        elif state == "WFConnection":
            self.log.info(f"drbd resource {self.name} peer node is not listening")
        else:
            # SyncSource and SyncTarget land here, as in the real agent: `up` of what is up fails.
            self.log.info(f"cstate before connect: {state}")
            self.up()

    def up(self):
        self.change("up")
        self.wait_for(
            lambda: not self.disk_state().startswith("Diskless/"),
            10,
            "waited too long for a known dstate",
        )
        self.can_rollback = True

    def become(self, role, *extra):
        if self.role() == role:
            self.log.info(f"drbd resource {self.name} is already {role}")
            return
        self.change(role.lower(), *extra)
        self.can_rollback = True

    def start(self):
        if self.configured():
            self.start_connection()
            self.become("Primary")

    def start_standby(self):
        self.start_connection()
        if self.role() != "Primary":
            self.become("Secondary")

    def stop(self):
        if not self.configured():
            return
        if self.standby and not self.instance.options.get("force"):
            self.stop_standby()
        else:
            self.change("down")

    def stop_standby(self):
        if self.configured():
            self.start_connection()
            if self.role() != "Secondary":
                self.become("Secondary")

    def shutdown(self):
        if self.configured():
            self.change("down")

    def rollback(self):
        if self.can_rollback:
            self.stop_standby() if self.standby else self.stop()

    def has_metadata(self):
        return (
            "No valid meta data found"
            not in proc.run(["drbdadm", "--", "--force", "dump-md", self.name])[2]
        )

    def provisioner(self):
        leader = self.instance.options.get("leader")
        if leader:
            self.write_config()
        elif not os.path.exists(self.file):
            self.write_config_from_peer()
        if self.has_metadata():
            self.log.info(f"resource {self.name} already has metadata")
        else:
            peers = max(len(self.instance.nodes) * 2 - 1, 1)
            # DRBD 8.4 has no such option and refuses: metadata has to be made beforehand there.
            proc.must(
                self.log, ["drbdadm", "create-md", "--force", "--max-peers", str(peers), self.name]
            )
        self.change("down")
        self.up()
        if leader:
            self.become("Primary", "--force")
        else:
            proc.must(self.log, ["drbdadm", "disconnect", self.name])
            proc.must(self.log, ["drbdadm", "--", "connect", self.name])

    def after_provision(self):
        """The role was set while provisioning."""

    def before_unprovision(self):
        """Taken down by the unprovisioner."""

    def unprovisioner(self):
        if not os.path.exists(self.file):
            self.log.info("skip: resource not configured")
            return
        if self.defined():
            self.change("down")
            if self.has_metadata():
                self.log.info(f"drbdadm -- --force wipe-md {self.name}")
                code, _, err = proc.run(
                    ["drbdadm", "--", "--force", "wipe-md", self.name], data=b"yes\n"
                )
                if code not in (0, 20):
                    raise Failed(err)
        self.log.info(f"delete {self.file}")
        os.unlink(self.file)

    def write_config(self):
        if os.path.exists(self.file):
            self.log.info(f"{self.file} already exists")
            return
        used = [allocations(), *self.instance.ask_peers({"action": "drbd_allocations"}).values()]
        minor = next(n for n in range(512) if all(n not in one["minors"] for one in used))
        port = next(n for n in range(7289, 7489) if all(n not in one["ports"] for one in used))
        blocks = [
            f"    on {node} {{\n"
            f"        device    /dev/drbd{minor};\n"
            f"        disk      {self.instance.get(self.rid, 'disk', node=node)};\n"
            "        meta-disk internal;\n"
            f"        address   {self.instance.address(node)}:{port};\n"
            "    }\n"
            for node in self.instance.nodes
        ]
        self._save(f"resource {self.name} {{\n{''.join(blocks)}}}\n")
        self.instance.ask_peers(
            {"action": "drbd_config_set", "res": self.name, "data": self._text()}
        )

    def write_config_from_peer(self):
        for answer in self.instance.ask_peers(
            {"action": "drbd_config_get", "res": self.name}
        ).values():
            if answer.get("data"):
                self._save(answer["data"])
                return
        raise Failed("couldn't fetch the resource config from any peer")

    def _text(self):
        with open(self.file, encoding="utf-8") as stream:
            return stream.read()

    def _save(self, text):
        with open(self.file, "w", encoding="utf-8") as stream:
            stream.write(text)
        self.log.info(f"{self.file} created")
