"""The volume: an object of its own, a tmpfs here, with keys of a configuration object installed in it."""

import os

from .. import conf, paths
from ..errors import Failed
from .base import Resource


class Volume(Resource):
    group = "volume"

    @property
    def type(self):
        return "volume"

    @property
    def name(self):
        return self.get("name") or f"{self.instance.name}-vol-{self.rid.split('#')[-1]}"

    @property
    def label(self):
        return self.name

    @property
    def path(self):
        return paths.join(self.instance.namespace, "vol", self.name)

    @property
    def point(self):
        namespace = self.instance.namespace or "root"
        return f"/srv/{self.name}.{namespace}.vol.{self.instance.cluster_name}"

    def object(self, **options):
        """The volume's own instance on this node."""
        return self.instance.other(self.path, **options)

    def state(self):
        if not paths.exists(self.path):
            self.say(f"volume {self.path} does not exist", "info")
            return "down"
        data = self.object().status_data(write=False)
        if data["overall"] == "warn":
            self.say(f"{self.path} has warnings")
        if not os.path.exists(self.var("flag")):
            self.say(
                f"{self.path} avail {data['avail']}", "warn" if data["avail"] == "warn" else "info"
            )
            return "down"
        return data["avail"]

    def start(self):
        if not paths.exists(self.path):
            raise Failed(f"volume {self.path} does not exist")
        volume = self.object()
        if volume.action("start", nested=True):
            raise Failed("")
        mode = self.get("dirperm")
        if mode:
            os.chmod(self.point, int(mode, 8))
        os.makedirs(os.path.dirname(self.var("flag")), exist_ok=True)
        with open(self.var("flag"), "w", encoding="ascii"):
            pass
        self.can_rollback = True
        self.install()

    def boot(self):
        try:
            os.unlink(self.var("flag"))
        except FileNotFoundError:
            pass

    def stop(self):
        self.boot()
        if not paths.exists(self.path):
            self.log.info(f"volume {self.path} does not exist")
            return
        self.log.info(f"last user of {self.path} on this node: stop the volume instance")
        if self.object(force=self.instance.options.get("force")).action("stop", nested=True):
            raise Failed("")

    def mappings(self):
        """[(configuration object, key pattern, folder or file in the volume)]"""
        found = []
        for word in (self.get("configs") or "").split():
            source, _, target = word.partition(":")
            name, separator, key = source.removeprefix("cfg/").strip("/").partition("/")
            if separator:
                found.append(
                    (
                        paths.join(self.instance.namespace, "cfg", name),
                        key,
                        target.split(":")[0] or "/",
                    )
                )
        return found

    def install(self):
        """Write the keys the mappings name; return whether any file changed."""
        import fnmatch

        changed = False
        for path, pattern, target in self.mappings():
            if not paths.exists(path):
                self.log.warning(
                    f"referenced cfg {path} does not exist: expected data {pattern} can not be installed in the volume"
                )
                continue
            source = self.instance.other(path)
            for key in source.data_keys():
                if key != pattern and not fnmatch.fnmatchcase(key, pattern):
                    continue
                name = os.path.join(self.point, target.strip("/"))
                if target.endswith("/"):
                    name = os.path.join(name, os.path.basename(key))
                changed |= self.install_key(source, key, name)
        return changed

    def install_key(self, source, key, name):
        data = source.decode(key)
        mode = int(self.get("perm") or "644", 8)
        try:
            with open(name, "rb") as stream:
                if stream.read() == data:
                    os.chmod(name, mode)
                    return False
        except OSError:
            pass
        self.log.info(f"install {source.name}/{key} in {name}")
        os.makedirs(os.path.dirname(name), exist_ok=True)
        # A running program keeps the old file: the new one takes its name.
        temporary = f"{name}.{os.getpid()}"
        with open(temporary, "wb") as stream:
            stream.write(data)
        os.chmod(temporary, mode)
        os.replace(temporary, name)
        return True

    def provisioned(self):
        if not paths.exists(self.path):
            return False
        volume = self.object()
        if self.instance.path not in (volume.get("DEFAULT", "children") or "").split():
            return False
        return volume.status_data(write=False).get("provisioned")

    trust_flag_on_provision = False

    def provisioner(self):
        leader = self.instance.options.get("leader")
        if paths.exists(self.path):
            self.log.info(f"volume {self.name} already exists")
        elif not leader:
            self.log.info(
                f"volume {self.name} does not exist, we are not leader: wait its propagation"
            )
            self.wait_for(
                lambda: paths.exists(self.path),
                10,
                "non leader instance waited for too long for the volume to appear",
            )
        else:
            self.create()
        volume = self.object(leader=leader, disable_rollback=True)
        children = (volume.get("DEFAULT", "children") or "").split()
        if self.instance.path in children:
            self.log.info(f"volume {self.path} is already claimed by {self.instance.path}")
        else:
            self.log.info(f"claim volume {self.name}")
            volume.set([f"children+={self.instance.path}"])
        self.log.info(f"provision the {self.name} volume service instance")
        if volume.action("provision", nested=True):
            raise Failed("volume provision returned 1")
        self.can_rollback = True

    def create(self):
        if self.kind not in ("shm", ""):
            raise Failed(f"could not find a pool matching criteria: type {self.kind}")
        if not self.get("size"):
            raise Failed("missing provisioning keywords required to create the volume object: size")
        size = conf.size(self.get("size"))
        self.log.info(
            f"create new volume {self.name} (pool name: None, pool type: shm, access: rwo, "
            f"size: {self.get('size')}, format: True, shared: {self.shared})"
        )
        self.instance.create_other(
            self.path,
            {
                "DEFAULT": {
                    "pool": "shm",
                    "size": str(size),
                    "access": "rwo",
                    "nodes": self.instance.conf.raw("DEFAULT", "nodes") or "*",
                },
                "fs#1": {
                    "type": "tmpfs",
                    "dev": "shmfs",
                    "mnt": self.point,
                    "mnt_opt": f"size={max(size // 1024**2, 1)}m",
                },
                "sync#i0": {"disable": "true"},
            },
        )

    def unprovisioner(self):
        if not paths.exists(self.path):
            return
        self.log.info(f"unclaim volume {self.name}")
        volume = self.object()
        children = [
            child
            for child in (volume.get("DEFAULT", "children") or "").split()
            if child != self.instance.path
        ]
        volume.set([f"children={' '.join(children)}"])

    def mount_point(self):
        """Known before there is a volume: its place follows from its name."""
        return self.point
