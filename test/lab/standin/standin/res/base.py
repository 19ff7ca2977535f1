"""What all resources share: properties, status with its messages, provisioned flag, triggers."""

import json
import os
import time

from .. import conf, env, proc, status
from ..errors import Failed

TRIGGERS = ("provision", "unprovision", "start", "startstandby", "stop", "shutdown", "run")


class Resource:
    """One section of an object's configuration on this node.

    A subclass implements ``state()`` and as much of start, stop, provisioner, unprovisioner and
    provisioned as its kind of thing has; a resource without a provisioner has no provisioned flag.
    """

    group = ""
    always_optional = False
    rollback_standby = False
    trust_flag_on_provision = True

    def __init__(self, rid, kind, instance):
        self.rid = rid
        self.kind = kind
        self.instance = instance
        self.subset = self.get("subset")
        self.standby = conf.boolean(self.get("standby"))
        self.shared = conf.boolean(self.get("shared"))
        self.optional = conf.boolean(self.get("optional"), self.always_optional)
        self.monitor = conf.boolean(self.get("monitor"))
        self.disabled = conf.boolean(self.get("disable")) or conf.boolean(
            instance.get("DEFAULT", "disable")
        )
        self.restart = int(self.get("restart") or 0)
        self.messages = []
        self.can_rollback = False
        self.log = instance.log.child(rid, self.subset)
        self._state = None

    def get(self, keyword, default=None):
        return self.instance.get(self.rid, keyword, default)

    @property
    def type(self):
        return f"{self.group}.{self.kind}" if self.kind else self.group

    @property
    def label(self):
        return self.type

    @property
    def set_id(self):
        return f"{self.group}:{self.subset}" if self.subset else self.group

    def var(self, name):
        return os.path.join(self.instance.var_dir, self.rid, name)

    def say(self, text, level="warn"):
        """A message that goes with the status."""
        for line in text.splitlines():
            if line and (level, line) not in self.messages:
                self.messages.append((level, line))

    def status(self, refresh=False):
        """The state as shown: of a disabled resource nothing is known, a standby one says so."""
        if self.disabled:
            return "n/a"
        if self._state is None or refresh:
            self.messages = []
            try:
                self._state = self.state()
            except (Failed, OSError) as error:
                self.say(str(error), "error")
                self._state = "undef"
        return status.standby(self._state) if self.standby else self._state

    def state(self):
        raise NotImplementedError

    def data(self):
        """What ``print status`` says of the resource."""
        data = {"status": self.status(), "type": self.type, "label": self.label}
        provisioned = self.provisioned_data()
        if provisioned:
            data["provisioned"] = provisioned
        for name, value in (
            ("disable", self.disabled),
            ("standby", self.standby),
            ("optional", self.optional),
            ("monitor", self.monitor),
            ("restart", self.restart),
            ("subset", self.subset),
        ):
            if value:
                data[name] = value
        if self.messages:
            data["log"] = [f"{level}: {text}" for level, text in self.messages]
        return data

    def sort_key(self):
        return ("", self.rid)

    def files_to_sync(self):
        return []

    def exposed_devs(self):
        return []

    def start(self):
        """Most kinds of resource that have nothing to start are simply there."""

    def stop(self):
        """The reverse of start."""

    def start_standby(self):
        self.start()

    def stop_standby(self):
        self.log.info("skip 'stop' on standby resource (--force to override)")

    def shutdown(self):
        self.stop()

    def boot(self):
        """Clean up after a reboot, before the daemon decides anything."""

    # Provisioning ------------------------------------------------------------------------------

    def provisioned_flag(self):
        try:
            with open(self.var("provisioned"), encoding="ascii") as stream:
                return json.load(stream)
        except (OSError, ValueError):
            return None

    def set_provisioned(self, value, mtime=None):
        if not hasattr(self, "provisioner") or value is None:
            return
        env.write_atomic(self.var("provisioned"), json.dumps(value), mtime=mtime)

    def is_provisioned(self, refresh=False):
        if not hasattr(self, "provisioner"):
            return True
        flag = self.provisioned_flag()
        if flag is not None and not refresh:
            return flag
        if hasattr(self, "provisioned"):
            value = self.provisioned()
        else:
            value = False if flag is None else None
        if not self.shared or self.instance.options.get("leader"):
            self.set_provisioned(value)
        return value

    def provisioned_data(self):
        if not hasattr(self, "provisioner"):
            return {}
        data = {}
        try:
            value = self.is_provisioned()
        except (Failed, OSError) as error:
            self.say(f"provisioned: {error}", "error")
            value = False
        if value is not None:
            data["state"] = value
        try:
            data["mtime"] = os.stat(self.var("provisioned")).st_mtime
        except OSError:
            pass
        return data

    def provision(self):
        if self.shared and not self.instance.options.get("leader"):
            self.log.info("non leader shared resource provisioning")
            # The stamp of 1970 tells a flag set by deduction from one set by work done.
            self.set_provisioned(True, mtime=1)
            return
        if not hasattr(self, "provisioner"):
            return
        if self.is_provisioned(refresh=not self.trust_flag_on_provision) is True:
            self.log.info(f"{self.label} already provisioned")
        else:
            self.provisioner()
        self.set_provisioned(True)
        self.after_provision()

    def after_provision(self):
        self.start()

    def unprovision(self):
        self.before_unprovision()
        if not hasattr(self, "provisioner"):
            return
        if self.shared and not self.instance.options.get("leader"):
            self.log.info("non leader shared resource unprovisioning")
        elif self.is_provisioned() is False:
            self.log.info(f"{self.label} already unprovisioned")
        else:
            self.unprovisioner()
        self.set_provisioned(False)

    def before_unprovision(self):
        self.stop()

    def unprovisioner(self):
        """Undo the provisioner."""

    # Actions -----------------------------------------------------------------------------------

    def act(self, action):
        """Do one action, its triggers around it."""
        force = self.instance.options.get("force")
        if action == "stop" and self.standby and not force:
            self.stop_standby()
            return
        self.triggers("pre", action)
        {
            "start": self.start,
            "stop": self.stop,
            "startstandby": self.start_standby,
            "shutdown": self.shutdown,
            "boot": self.boot,
            "provision": self.provision,
            "unprovision": self.unprovision,
            "rollback": self.rollback,
            "run": self.run,
        }[action]()
        self.triggers("post", action)
        self._state = None

    def rollback(self):
        if self.can_rollback and not self.standby:
            self.stop()

    def run(self):
        """Only tasks run."""

    def triggers(self, when, action):
        if action not in TRIGGERS:
            return
        non_leader = self.shared and not self.instance.options.get("leader")
        if action == "provision" and when == "post" and non_leader:
            return
        for prefix, blocking in (("", False), ("blocking_", True)):
            command = self.get(f"{prefix}{when}_{action}")
            if not command:
                continue
            self.log.info(f"exec trigger {prefix}{when}_{action}")
            try:
                code, _ = proc.script(self.log, command)
            except OSError as error:
                self.log.error(f"{command}: {error}")
                code = 1
            if code and blocking:
                raise Failed(f"{prefix}{when}_{action} trigger returned {code}")

    def wait_for(self, condition, timeout, message):
        """Poll a condition until it holds; fail after ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() >= deadline:
                raise Failed(message)
            time.sleep(0.25)
