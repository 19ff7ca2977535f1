"""The implicit synchronisation of an object's files to its other nodes: rsync over ssh, as root."""

import os
import time

from .. import proc
from ..errors import Skipped
from .base import Resource

MAX_DELAY = 1500
SHELL = "/usr/bin/ssh -q -o StrictHostKeyChecking=no -o ForwardX11=no -o BatchMode=yes -o ConnectTimeout=10"


class Rsync(Resource):
    group = "sync"
    always_optional = True

    @property
    def type(self):
        return "sync.rsync"

    @property
    def label(self):
        return "rsync svc config to nodes"

    def stamp_file(self, node):
        return self.var(f"last_sync_{node}")

    def late(self, node):
        try:
            return time.time() - os.stat(self.stamp_file(node)).st_mtime > MAX_DELAY
        except OSError:
            return True

    def targets(self):
        return [node for node in self.instance.nodes if node != self.instance.node]

    def state(self):
        if self.instance.running_action in ("stop", "shutdown"):
            return "n/a"
        if not self.targets():
            self.say("no destination nodes", "info")
            return "n/a"
        if not self.instance.running_action and self.instance.cluster_avail() not in ("up", None):
            self.say("paused, service not up", "info")
            return "n/a"
        if self.instance.reference_state() != "up":
            if self.late(self.instance.node):
                self.say("passive node needs update")
                return "warn"
            return "up"
        late = sorted(node for node in self.targets() if self.late(node))
        if late:
            self.say(f"{', '.join(late)} need update")
            return "down"
        return "up"

    def sync(self):
        """Send the files to every other node; a node that cannot be reached is said, and is no failure."""
        if self.disabled:
            return
        if self.instance.reference_state() != "up":
            self.log.info(
                f"skip: reference resources aggregated status is {self.instance.reference_state()}"
            )
            raise Skipped
        if not self.targets():
            self.log.info("no nodes to sync")
            return
        sources = [self.instance.config_file]
        for resource in self.instance.resources.values():
            sources += resource.files_to_sync()
        for node in self.targets():
            destination = f"root@{node}:/"
            options = [
                "-HAXpogDtrlvx",
                "--stats",
                "--delete",
                "--force",
                "--timeout=3600",
                "-e",
                SHELL,
            ]
            code, _, err = proc.run(["rsync", *options, "-R", *sources, destination], timeout=3600)
            if code:
                for line in err.splitlines():
                    self.log.error(f"| {line}")
                self.log.error(f"node {node} synchronization failed ({sources} => {destination})")
                continue
            os.makedirs(os.path.dirname(self.stamp_file(node)), exist_ok=True)
            for name in (node, self.instance.node):
                with open(self.stamp_file(name), "w", encoding="ascii") as stream:
                    stream.write(f"{time.time()}\n")
            proc.run(["rsync", *options, "-R", self.stamp_file(node), destination], timeout=60)
