"""Filesystems: mounts of a device, binds, tmpfs of a volume, and the flag file."""

import os
import stat
import time

from .. import env, paths, proc
from ..errors import Failed
from .base import Resource

EXT_MAGIC_OFFSET = 1024 + 56
EXT_MAGIC = b"\x53\xef"


def mounts():
    """[(device, mount point, type)] as the kernel tells, the latest mount last."""
    found = []
    with open("/proc/self/mounts", encoding="utf-8") as stream:
        for line in stream:
            device, point, kind = line.split()[:3]
            found.append((_unescape(device), _unescape(point), kind))
    return found


def _unescape(text):
    return text.encode().decode("unicode_escape") if "\\" in text else text


class Flag(Resource):
    """A file in volatile storage that says where the instance is up."""

    group = "fs"

    @property
    def label(self):
        return "fs.flag"

    @property
    def file(self):
        namespace, kind, name = paths.split(self.instance.path)
        return env.run_dir(*([namespace] if namespace else []), kind, name, f"{self.rid}.flag")

    def sort_key(self):
        return None

    def state(self):
        return "up" if os.path.exists(self.file) else "down"

    def start(self):
        if os.path.exists(self.file):
            return
        self.log.info(f"create flag {self.file}")
        env.makedirs(os.path.dirname(self.file), 0o700)
        with open(self.file, "a", encoding="ascii"):
            pass
        self.can_rollback = True

    def stop(self):
        if os.path.exists(self.file):
            self.log.info(f"unlink flag {self.file}")
            os.unlink(self.file)

    def provisioned(self):
        return self.provisioned_flag() or False

    def provisioner(self):
        """Nothing to prepare."""


class Mount(Resource):
    """A mount. The keyword ``type`` is the filesystem's, and ``bind`` or ``tmpfs`` are types too."""

    group = "fs"

    @property
    def type(self):
        return "fs"

    @property
    def device(self):
        return self.get("dev")

    @property
    def point(self):
        return self.get("mnt")

    @property
    def label(self):
        device = self.device or self.instance.conf.raw(self.rid, "dev")
        text = f"{device}@{self.point}"
        return text if self.kind in ("tmpfs", "shm", "shmfs", "none", "") else f"{self.kind} {text}"

    def sort_key(self):
        return (os.path.dirname(self.point or ""), self.rid)

    def is_up(self):
        device, point = self.device, self.point
        if not device or not point:
            self.say("dev is not defined" if not device else "mnt is not defined", "info")
            return False
        real = os.path.realpath(point)
        names = {device, os.path.realpath(device)}
        here = [mount for mount in mounts() if mount[1] == real]
        if any(mount[0] in names for mount in here):
            return True
        if self.kind != "bind" or not here:
            return False
        # The kernel shows a bind under the device of the filesystem it is a part of.
        try:
            source, target = os.stat(device), os.stat(point)
        except OSError:
            return False
        return (source.st_dev, source.st_ino) == (target.st_dev, target.st_ino)

    def state(self):
        if not self.is_up():
            return "down"
        if self.kind != "tmpfs" and not self.writable():
            self.say("fs is not writable")
            return "warn"
        return "up"

    def writable(self):
        try:
            os.setxattr(self.point, "user.opensvc", str(time.time()).encode())
        except OSError:
            return False
        return True

    def start(self):
        if self.kind not in ("bind", "tmpfs"):
            if not self.device:
                raise Failed("device keyword not set or evaluates to None")
            if not os.path.exists(self.device):
                raise Failed(f"device does not exist {self.device}")
        if not os.path.exists(self.point):
            os.makedirs(self.point)
            self.log.info(f"create missing mountpoint {self.point}")
        if self.is_up():
            self.log.info(f"{self.label} is already mounted")
            return
        if self.kind.startswith("ext"):
            code, _, _ = proc.call(self.log, ["e2fsck", "-p", self.device])
            if code not in (0, 1, 32, 33):
                raise Failed("")
        options = [word for word in (self.get("mnt_opt") or "").split(",") if word]
        if self.kind == "bind" and "bind" not in options:
            options.append("bind")
        kind = [] if self.kind in ("", "bind") else ["-t", self.kind]
        proc.must(
            self.log,
            [
                "mount",
                *kind,
                *(["-o", ",".join(options)] if options else []),
                self.device,
                self.point,
            ],
        )
        self.can_rollback = True

    def stop(self):
        if not self.is_up():
            self.log.info(f"{self.label} is already umounted")
            return
        real = os.path.realpath(self.point)
        for mount in sorted(
            {mount[1] for mount in mounts() if mount[1].startswith(real + "/")}, reverse=True
        ):
            self.unmount(mount)
        for _ in range(3):
            if self.unmount(self.point):
                return
        raise Failed(f"failed to umount {self.point}")

    def unmount(self, point):
        code, _, err = proc.call(self.log, ["umount", point])
        if code == 0 or "not mounted" in err:
            return True
        # Priority is given to the move: what keeps the filesystem busy is killed.
        proc.call(self.log, ["sync"])
        for _ in range(4):
            self.kill_users(point)
            self.log.info(f"umount {point}")
            if proc.run(["umount", point])[0] == 0:
                return True
            time.sleep(0.25)
        return False

    def kill_users(self, point):
        """Kill what has an open file, a working folder, a program or a mapping below a mount point."""
        for pid in filter(str.isdigit, os.listdir("/proc")):
            if int(pid) in (os.getpid(), 1):
                continue
            if self.uses(pid, point):
                self.log.info(f"kill -9 {pid}")
                try:
                    os.kill(int(pid), 9)
                except ProcessLookupError:
                    pass

    @staticmethod
    def uses(pid, point):
        names = [f"/proc/{pid}/cwd", f"/proc/{pid}/exe", f"/proc/{pid}/root"]
        try:
            names += [f"/proc/{pid}/fd/{name}" for name in os.listdir(f"/proc/{pid}/fd")]
            with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as stream:
                if f" {point}/" in stream.read():
                    return True
        except OSError:
            pass
        for name in names:
            try:
                target = os.readlink(name)
            except OSError:
                continue
            if target == point or target.startswith(point + "/"):
                return True
        return False

    def provisioned(self):
        if self.kind in ("bind", "tmpfs"):
            return None
        if not self.device or not self.point:
            return None
        if not os.path.exists(self.point) or not os.path.exists(self.device):
            return False
        return self.formatted()

    def formatted(self):
        """Whether the device carries a filesystem; on a Secondary it cannot be read, which is no."""
        if not self.kind.startswith("ext"):
            return proc.run(["blkid", "-p", self.device])[0] == 0
        try:
            with open(self.device, "rb") as stream:
                stream.seek(EXT_MAGIC_OFFSET)
                return stream.read(2) == EXT_MAGIC
        except OSError:
            return False

    def provisioner(self):
        if self.kind in ("bind", "tmpfs"):
            return
        if not self.device:
            raise Failed(f"device {self.device} not found. parent resource is down ?")
        if not os.path.exists(self.point):
            os.makedirs(self.point)
            self.log.info(f"{self.point} mount point created")
        try:
            block = stat.S_ISBLK(os.stat(self.device).st_mode)
        except OSError:
            raise Failed(f"abort fs provisioning: {self.device} does not exist") from None
        if not block:
            raise Failed(f"abort fs provisioning: {self.device} is not a block device")
        if self.formatted():
            self.log.info("already provisioned")
            return
        self.log.info(f"{self.device} is not formatted")
        force = ["-F", "-q"] if self.kind.startswith("ext") else ["-f"]
        code, _, _ = proc.call(
            self.log,
            [f"mkfs.{self.kind}", *force, *(self.get("mkfs_opt") or "").split(), self.device],
        )
        if code:
            raise Failed(f"Failed to format {self.device}")

    def unprovisioner(self):
        if self.kind in ("bind", "tmpfs"):
            return
        if os.path.isdir(self.point) and not os.path.ismount(self.point):
            try:
                os.rmdir(self.point)
            except OSError as error:
                self.log.warning(str(error))
