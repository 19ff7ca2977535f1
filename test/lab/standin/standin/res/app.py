"""Applications and tasks: the commands of a configuration."""

import os

from .. import conf, env, proc
from ..errors import Failed
from .base import Resource

DEFAULT_CODES = "0:up 1:down"


class App(Resource):
    group = "app"

    @property
    def label(self):
        start = self.get("start")
        return f"{self.kind}: {os.path.basename(start.split()[0])}" if start else self.kind

    def command(self, verb):
        """The command of a verb, or None when the configuration has none or it cannot be known yet."""
        value = self.get(verb)
        if value is None or value.lower() in ("false", "no"):
            return None
        program = value.split()[0]
        if not os.path.exists(program):
            raise Failed(f"{program} does not exist")
        return value

    def seconds(self, verb):
        return conf.duration(self.get(f"{verb}_timeout"), conf.duration(self.get("timeout")))

    def surroundings(self):
        import pwd
        import shlex

        user = self.get("user")
        kwargs = {
            "cwd": self.get("cwd") or "/",
            "env": {
                **os.environ,
                "OPENSVC_RID": self.rid,
                "OPENSVC_NAME": self.instance.name,
                "OPENSVC_KIND": self.instance.kind,
                "OPENSVC_NAMESPACE": self.instance.namespace or "",
                "LOGNAME": user or "root",
                "HOME": pwd.getpwnam(user).pw_dir if user else "/root",
                **dict(
                    word.split("=", 1)
                    for word in shlex.split(self.get("environment") or "")
                    if "=" in word
                ),
            },
        }
        if user:
            kwargs["user"] = user
        return kwargs

    def check(self):
        """The state the check command tells: up, down, warn or n/a."""
        if self.get("check") is None:
            self.say("check is not set", "info")
            return "n/a"
        try:
            command = self.command("check")
        except Failed as error:
            self.say(str(error))
            return "n/a"
        if command is None:
            return "n/a"
        try:
            code, text = proc.script(
                self.log, command, self.seconds("check"), quiet=True, **self.surroundings()
            )
        except OSError as error:
            self.say(str(error))
            return "warn"
        if conf.boolean(self.get("status_log")):
            self.say(text, "info")
        for pair in (self.get("retcodes") or DEFAULT_CODES).split():
            expected, _, state = pair.partition(":")
            if str(code) == expected:
                return state
        self.say(f"check reports errors ({code})")
        return "warn"

    def state(self):
        if self.instance.ground_state() not in ("up", "n/a"):
            self.say("not evaluated (instance not up)", "info")
            return "n/a"
        return self.check()

    def start(self):
        command = self.command("start")
        if command is None:
            return
        if self.check() == "up":
            self.log.info(f"{self.label} is already started")
            return
        code = self.execute("start", command)
        if code:
            raise Failed(f"exit code {code}")
        self.can_rollback = True
        limit = conf.duration(self.get("start_timeout"))
        if limit is not None:
            self.log.info("wait for resource status up")
            self.wait_for(
                lambda: self.check() in ("up", "n/a"), limit, "Waited too long for startup"
            )

    def stop(self):
        try:
            command = self.command("stop")
        except Failed:
            # The volume that holds the program is gone: nothing of it can run.
            return
        if command is None:
            return
        if self.check() == "down":
            self.log.info(f"{self.label} is already stopped")
            return
        self.execute("stop", command)

    def execute(self, verb, command):
        import datetime

        began = datetime.datetime.now()
        self.log.info(f"exec {command} as user {self.get('user') or 'root'}")
        try:
            code, _ = proc.script(self.log, command, self.seconds(verb), **self.surroundings())
        except OSError as error:
            self.log.error(f"execution error ({error.strerror})")
            return 1
        message = f"{verb} done in {datetime.datetime.now() - began} - ret {code}"
        self.log.error(message) if code else self.log.info(message)
        return code


class Task(App):
    """A command the scheduler runs where the instance is up."""

    group = "task"
    always_optional = True

    @property
    def label(self):
        return f"task.{self.kind}"

    def last_code(self):
        try:
            with open(self.var("last_run_retcode"), encoding="ascii") as stream:
                return int(stream.read())
        except (OSError, ValueError):
            return None

    def running(self):
        """Whether a run is under way; the mark of a dead one counts for nothing."""
        try:
            with open(self.var("running"), encoding="ascii") as stream:
                return os.path.exists(f"/proc/{int(stream.read())}")
        except (OSError, ValueError):
            return False

    def unmet(self):
        """The first requirement of a run that is not met, as a message, or None."""
        for element in (self.get("run_requires") or "").split():
            rid, _, states = element.rstrip(")").partition("(")
            wanted = states.split(",") if states else ["up", "stdby up"]
            resource = self.instance.resources.get(rid)
            if resource is None:
                self.log.warning(f"ignore requires on {rid}: resource not found")
            elif resource.status() not in wanted:
                return f"requires on resource {rid} in state {' or '.join(wanted)}, current state {resource.status()}"
        return None

    def state(self):
        if self.get("check") != "last_run" or self.unmet():
            return "n/a"
        code = self.last_code()
        if code is None:
            return "n/a"
        if code:
            self.say("last run failed", "error")
            return "down"
        return "up"

    def start(self):
        """Tasks are run, not started."""

    def stop(self):
        self.boot()

    def boot(self):
        try:
            os.unlink(self.var("last_run_retcode"))
        except FileNotFoundError:
            pass

    def run(self):
        reason = self.unmet()
        if reason:
            raise Failed(reason)
        if self.running():
            raise Failed("task is already running 1 times")
        env.write_atomic(self.var("running"), str(os.getpid()))
        command = self.get("command")
        try:
            if not command:
                raise Failed(f"{self.rid}.command is not valid")
            self.log.info(f"exec {command} as user {self.get('user') or 'root'}")
            try:
                code, _ = proc.script(
                    self.log, command, conf.duration(self.get("timeout")), **self.surroundings()
                )
            except OSError as error:
                self.log.error(f"{command}: {error}")
                code = 1
            env.write_atomic(self.var("last_run_retcode"), "1" if code else "0")
            if code:
                raise Failed(f"{self.rid}: command returned {code}")
        finally:
            os.unlink(self.var("running"))
