"""An object on this node: its configuration, its resources, its status, the actions on it.

Modules that few commands need are imported where they are used: in the lab's hosts an import is dear.
"""

import contextlib
import fcntl
import json
import os
import time

from . import conf, env, paths, res, status, wire
from .cluster import Cluster
from .errors import Failed, Skipped
from .log import Log

START_GROUPS = ("volume", "disk", "fs", "app", "task")
STOP_GROUPS = tuple(reversed(START_GROUPS))
PROGRESS = {
    "start": "starting",
    "stop": "stopping",
    "shutdown": "shutting",
    "provision": "provisioning",
    "unprovision": "unprovisioning",
    "restart": "restarting",
}
# Every section the agent has a status for, with or without resources.
STATUS_GROUPS = (
    "DEFAULT app certificate container disk expose fs hashpolicy ip route share subset sync task vhost volume"
).split()


class Instance:
    """``options``: rids, leader, force, disable_rollback, origin (daemon or user)."""

    def __init__(self, path, options=None, avail=None, console=True, cluster=None):
        self.path = path
        self.namespace, self.kind, self.name = paths.split(path)
        self.options = options or {}
        self.node = env.nodename()
        self.config_file = paths.config_file(path)
        self.var_dir = paths.var_dir(path)
        self.console = console
        self.log = Log(path, console=console, file=paths.log_path(path))
        self.cluster = cluster or Cluster()
        self.cluster_name = self.cluster.name
        self.running_action = None
        self._avail = avail
        self.reload()

    def reload(self):
        self.sections = conf.load(self.config_file)
        builtins = {
            "nodename": self.node,
            "short_nodename": self.node.split(".")[0],
            "namespace": self.namespace or "root",
            "kind": self.kind,
            "path": self.path,
            "svcpath": self.path,
            "name": self.name,
            "svcname": self.name,
            "short_name": self.name.split(".")[0],
            "fqdn": f"{self.name}.{self.namespace or 'root'}.{self.kind}.{self.cluster_name}",
            "domain": f"{self.namespace or 'root'}.{self.kind}.{self.cluster_name}",
            "clustername": self.cluster_name,
            "clusterid": self.cluster.id or "",
            "clusternodes": " ".join(self.cluster.nodes),
            "etc": env.etc(),
            "var": env.var(),
            "private_var": self.var_dir,
            "id": self.sections.get("DEFAULT", {}).get("id", ""),
        }
        self.conf = conf.Resolver(
            self.sections, builtins, self.node, deferred=self._deferred, defaults=res.DEFAULTS
        )
        self.conf.nodes = tuple(self.nodes)
        self._resources = None

    # Configuration -----------------------------------------------------------------------------

    def get(self, section, keyword, default=None, node=None):
        return self.conf.get(section, keyword, default, node=node)

    def _deferred(self, rid, attribute):
        resource = self.resources.get(rid)
        if resource is None:
            return None
        if attribute == "mnt":
            return resource.mount_point()
        return list(resource.exposed_devs()) if attribute == "exposed_devs" else None

    @property
    def nodes(self):
        """The nodes of the object, the preferred one first."""
        value = self.conf.get("DEFAULT", "nodes")
        if not value:
            return [self.node]
        return self.cluster.nodes if value == "*" else value.split()

    @property
    def topology(self):
        return self.get("DEFAULT", "topology") or "failover"

    @property
    def orchestrate(self):
        return self.get("DEFAULT", "orchestrate") or "no"

    @property
    def placement_policy(self):
        return self.get("DEFAULT", "placement") or "nodes order"

    def save(self):
        conf.save(self.config_file, self.sections)
        self.reload()
        tell_daemon({"action": "wake"})

    def set(self, expressions):
        if conf.apply_expressions(self.sections, expressions):
            for section in conf.ignored_sections(self.sections):
                self.log.warning(f"ignored section {section}")
            self.save()

    def unset(self, keywords):
        if conf.unset(self.sections, keywords):
            self.save()

    # Keys --------------------------------------------------------------------------------------

    def data_keys(self):
        return sorted(self.sections.get("data", {}))

    def decode(self, key):
        value = self.sections.get("data", {}).get(key)
        if not value:
            raise Failed(f"configuration key {key} does not exist or has no value")
        if value.startswith("base64:"):
            import base64

            return base64.urlsafe_b64decode(value[7:])
        return value.removeprefix("literal:").encode()

    def set_key(self, key, data):
        """Store bytes; return the number of characters they take."""
        import base64

        try:
            text = data.decode()
        except UnicodeDecodeError:
            text = None
        if text is None or "\n" in text or text != text.strip() or not text:
            value = "base64:" + base64.urlsafe_b64encode(data).decode()
        else:
            value = "literal:" + text
        self.sections.setdefault("data", {})[key] = value
        self.save()
        return len(value)

    # Resources ---------------------------------------------------------------------------------

    @property
    def resources(self):
        if self._resources is None:
            self._resources = {}
            if self.kind in ("svc", "vol"):
                rids = [
                    section
                    for section in self.sections
                    if "#" in section and not section.startswith("subset#")
                ]
                if "sync#i0" not in rids:
                    rids.append("sync#i0")
                for rid in rids:
                    resource = res.build(rid, self.sections.get(rid, {}), self)
                    if resource is not None:
                        self._resources[rid] = resource
        return self._resources

    def expand_rids(self, words):
        """``app#0,task`` -> the resources meant."""
        rids = [
            rid
            for word in words
            for rid in self.resources
            if rid == word or ("#" not in word and rid.split("#")[0] == word)
        ]
        if words and not rids:
            raise Failed("no resource match the given --rid, --subset and --tags specifiers")
        return list(dict.fromkeys(rids))

    def parallel(self, set_id):
        return conf.boolean(self.get(f"subset#{set_id}", "parallel"))

    def other(self, path, **options):
        return Instance(
            path,
            {**options, "origin": self.options.get("origin")},
            None,
            self.console,
            self.cluster,
        )

    def create_other(self, path, sections):
        sections["DEFAULT"]["id"] = new_id()
        conf.save(paths.config_file(path), sections)
        tell_daemon({"action": "wake"})

    def address(self, node):
        import socket

        return self.get("disk#drbd", "addr", node=node) or socket.getaddrinfo(node, None)[0][4][0]

    def ask_peers(self, request):
        """Ask the daemons of the object's other nodes -> {node: answer}."""
        return {
            node: wire.remote(*self.cluster.listener_target(node), self.cluster.secret, request)
            for node in self.nodes
            if node != self.node
        }

    # Status ------------------------------------------------------------------------------------

    def cluster_avail(self):
        """The object's availability in the cluster as the daemon knows it, None when it cannot be asked."""
        if self._avail is not None:
            return self._avail
        try:
            return (
                wire.local({"action": "object", "path": self.path}, 5)
                .get("service", {})
                .get("avail")
            )
        except OSError:
            return None

    def _aggregate(self, skip):
        return status.settle(
            status.aggregate(
                resource.status()
                for resource in self.resources.values()
                if not resource.optional and not resource.disabled and not skip(resource)
            )
        )

    def ground_state(self):
        """What an application stands on: everything below it, DRBD aside, which is up on the standby too."""
        return self._aggregate(
            lambda one: one.group in ("app", "sync", "task") or one.type == "disk.drbd"
        )

    def reference_state(self):
        return self._aggregate(lambda one: one.group in ("app", "sync", "task"))

    def frozen(self):
        try:
            return os.stat(os.path.join(self.var_dir, "frozen")).st_mtime
        except OSError:
            return 0

    def freeze(self):
        if not self.frozen():
            env.write_atomic(os.path.join(self.var_dir, "frozen"), "")

    def thaw(self):
        try:
            os.unlink(os.path.join(self.var_dir, "frozen"))
        except FileNotFoundError:
            pass

    @property
    def status_file(self):
        return os.path.join(self.var_dir, "status.json")

    def cached_status(self):
        """The status as last evaluated, None when the configuration is newer."""
        try:
            if os.stat(self.status_file).st_mtime < conf.mtime(self.config_file):
                return None
            with open(self.status_file, encoding="utf-8") as stream:
                return {
                    **json.load(stream),
                    **({"frozen": self.frozen()} if self.kind in ("svc", "vol") else {}),
                }
        except (OSError, ValueError):
            return None

    def status_data(self, refresh=False, write=True):
        """Evaluate the status of the instance, resources in the order they stand on each other."""
        now = time.time()
        data = {"updated": now, "kind": self.kind}
        if self.kind not in ("svc", "vol"):
            return self._write(data) if write else data
        for resource in self.resources.values():
            resource.status(refresh)
        groups = dict.fromkeys(STATUS_GROUPS, "n/a")
        avail = optional = overall = "n/a"
        for resource in self.resources.values():
            if resource.disabled:
                continue
            state = resource.status()
            if resource.group == "sync":
                state = {"up": "n/a", "down": "warn"}.get(state, state)
            groups[resource.group] = status.merge(groups[resource.group], state)
            if resource.optional:
                optional = status.merge(optional, state)
            else:
                avail = status.merge(avail, state)
            if any(level in ("warn", "error") for level, _ in resource.messages):
                overall = status.merge(overall, "warn")
        avail, optional = status.settle(avail), status.settle(optional)
        overall = status.settle(status.merge(status.merge(overall, avail), optional))
        data.update(
            {
                "app": self.get("DEFAULT", "app") or "default",
                "env": self.get("DEFAULT", "env") or "TST",
                "placement": self.placement_policy,
                "topology": self.topology,
                "frozen": self.frozen(),
                "subsets": {
                    resource.set_id: {"parallel": True}
                    for resource in self.resources.values()
                    if resource.subset and self.parallel(resource.set_id)
                },
                "resources": {rid: resource.data() for rid, resource in self.resources.items()},
                "avail": avail,
                "overall": overall,
                "optional": optional,
                "status_group": {group: status.settle(state) for group, state in groups.items()},
            }
        )
        running = sorted(
            rid for rid, one in self.resources.items() if one.group == "task" and one.running()
        )
        if running:
            data["running"] = running
        if self.orchestrate != "no":
            data["orchestrate"] = self.orchestrate
        for keyword in ("children", "parents"):
            value = self.get("DEFAULT", keyword)
            if value:
                data[keyword] = value.split()
        if self.get("DEFAULT", "pool"):
            data["pool"] = self.get("DEFAULT", "pool")
            data["size"] = int(self.get("DEFAULT", "size") or 0)
        states = {
            data["resources"][rid].get("provisioned", {}).get("state")
            for rid, resource in self.resources.items()
            if not resource.disabled
        }
        if states:
            data["provisioned"] = (
                True if states <= {True, None} else False if states <= {False, None} else "mixed"
            )
        return self._write(data) if write else data

    def _write(self, data):
        data["csum"] = _csum(data)
        env.makedirs(self.var_dir)
        with open(os.path.join(self.var_dir, "status.lock"), "a+", encoding="utf-8") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            # A slow evaluation that began before an action must not hide what the action left.
            if conf.mtime(self.status_file) <= data["updated"]:
                env.write_atomic(self.status_file, json.dumps(data), mtime=data["updated"])
        if self.options.get("origin") != "daemon":
            tell_daemon({"action": "status", "path": self.path})
        return data

    # Actions -----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def locked(self, action):
        """One action at a time on an instance."""
        env.makedirs(self.var_dir)
        limit = self.options.get("waitlock") or self.cluster.settings["lock_timeout"]
        deadline = time.monotonic() + limit
        with open(os.path.join(self.var_dir, "lock"), "a+", encoding="utf-8") as stream:
            while True:
                try:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        stream.seek(0)
                        holder = stream.read().strip()
                        raise Failed(
                            f"timed out waiting for lock (timeout {limit:g}, action {action}, held for: {holder})"
                        ) from None
                    time.sleep(0.1)
            stream.truncate(0)
            stream.write(action)
            stream.flush()
            yield

    def action(self, name, nested=False):
        """Do an action on this node; return 0 or 1. ``nested``: as a part of another object's action."""
        scoped = bool(self.options.get("rids"))
        tells = self.options.get("origin") != "daemon" and not nested and name in PROGRESS
        try:
            with self.locked(name):
                if tells:
                    self._announce(name, scoped)
                self.running_action = name
                code = self._attempt(name, scoped)
                if name not in ("freeze", "thaw") and paths.exists(self.path):
                    code = self._conclude(name, scoped, code)
                self.running_action = None
                if tells:
                    expect = "started" if name == "start" and not scoped and not code else None
                    self._monitor(f"{name} failed" if code else "idle", expect)
                return code
        except Failed as error:
            if str(error):
                self.log.error(str(error))
            return 1

    def unlocked(self, name):
        """A task or a synchronisation of the scheduler: it does not keep other actions out."""
        self.running_action = name
        code = self._attempt(name, True)
        if paths.exists(self.path):
            self.status_data(refresh=True)
        self.running_action = None
        return code

    def _announce(self, name, scoped):
        ending = name in ("stop", "shutdown", "unprovision")
        if ending and not scoped and self.orchestrate in ("ha", "start"):
            # Else the daemon would start what the user stops.
            self.freeze()
        self._monitor(PROGRESS[name], "unset" if ending and not scoped else None)

    def _monitor(self, state, local_expect=None):
        tell_daemon(
            {"action": "monitor", "path": self.path, "status": state, "local_expect": local_expect}
        )

    def _attempt(self, name, scoped):
        try:
            getattr(self, f"do_{name}")()
            return 0
        except Skipped:
            return 0
        except Failed as error:
            if str(error):
                self.log.error(str(error))
            if name == "start" and not self.options.get("disable_rollback"):
                self._rollback(name)
            return 1

    def _conclude(self, name, scoped, code):
        data = self.status_data(refresh=True)
        if (
            name == "start"
            and not scoped
            and not code
            and data.get("avail") not in ("up", "stdby up", "n/a")
        ):
            self.log.error(
                f"start action returned 0 but instance avail status is {data.get('avail')}"
            )
            return 1
        return code

    def _rollback(self, name):
        rids = [
            rid
            for rid, resource in self.resources.items()
            if resource.can_rollback and (resource.rollback_standby or not resource.standby)
        ]
        if not rids:
            self.log.info(f"skip rollback {name}: no resource activated")
            return
        self.log.info(f"trying to rollback {name} on {', '.join(rids)}")
        try:
            self.walk(STOP_GROUPS, "rollback", rids)
        except Failed as error:
            self.log.error(f"rollback {name} failed: {error}")

    def walk(self, groups, action, rids=None):
        """Do an action on resources, group by group, subset by subset, in or against the order."""
        rids = rids if rids is not None else self.options.get("rids") or list(self.resources)
        upwards = groups is START_GROUPS
        for group in groups:
            subsets = {}
            for rid in rids:
                resource = self.resources[rid]
                if resource.group == group:
                    subsets.setdefault(resource.set_id, []).append(resource)
            for set_id in sorted(subsets, reverse=not upwards):
                members = subsets[set_id]
                disabled = [one.rid for one in members if one.disabled]
                if disabled:
                    self.log.child(subset=members[0].subset).info(f"{','.join(disabled)} disabled")
                members = _ordered([one for one in members if not one.disabled], upwards)
                if action == "startstandby":
                    members = [one for one in members if one.standby]
                if self.parallel(set_id) and len(members) > 1:
                    self._together(members, action)
                else:
                    for one in members:
                        self._one(one, action)

    def _one(self, resource, action):
        try:
            resource.act(action)
        except Failed as error:
            if str(error):
                resource.log.error(str(error))
            if not resource.optional or action == "run":
                raise Failed("") from None
            resource.log.info(f"ignore {action} error on optional resource")

    def _together(self, members, action):
        import threading

        failed = []

        def work(resource):
            try:
                self._one(resource, action)
            except Failed:
                failed.append(resource.rid)

        threads = [threading.Thread(target=work, args=(one,)) for one in members]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failed:
            raise Failed(
                f"{','.join(sorted(failed))} non-optional resources jobs returned with error"
            )

    def do_start(self):
        self.walk(START_GROUPS, "start")

    def do_startstandby(self):
        self.walk(START_GROUPS, "startstandby")

    def do_stop(self):
        self.walk(STOP_GROUPS, "stop")

    def do_shutdown(self):
        self.options["force"] = True
        self.walk(STOP_GROUPS, "shutdown")

    def do_restart(self):
        self.do_stop()
        self.log.info("instance stopped, ready for restart.")
        self.do_start()

    def do_boot(self):
        self.options["force"] = True
        # Against the order: what lies on top is taken off first.
        self.walk(STOP_GROUPS, "boot")

    def do_provision(self):
        self.walk(START_GROUPS, "provision")
        if not self.options.get("disable_rollback") and len(self.nodes) > 1:
            # A standby goes back to being one.
            self.walk(STOP_GROUPS, "rollback")

    def do_unprovision(self):
        self.walk(STOP_GROUPS, "unprovision")

    def do_run(self):
        self.walk(("task",), "run")

    def do_sync_nodes(self):
        self.resources["sync#i0"].sync()

    do_sync_all = do_sync_nodes

    def do_freeze(self):
        self.freeze()

    def do_thaw(self):
        self.thaw()

    def do_install(self):
        """Refresh the keys installed in the volumes that are up here."""
        for resource in self.resources.values():
            if resource.group == "volume" and not resource.disabled and resource.status() == "up":
                resource.install()

    def delete(self):
        """Forget the object on this node."""
        import shutil

        for name in (self.config_file, paths.log_path(self.path)):
            if os.path.exists(name):
                self.log.info(f"remove {name}")
                os.unlink(name)
        self.log.file = None
        if os.path.isdir(self.var_dir):
            self.log.info(f"remove {self.var_dir}")
            shutil.rmtree(self.var_dir)


def _ordered(members, upwards):
    """The order of a set's members: by mount point where all have one, else by name."""
    if all(one.sort_key() for one in members):
        return sorted(members, key=lambda one: one.sort_key(), reverse=not upwards)
    return sorted(members, key=lambda one: one.rid, reverse=not upwards)


def _csum(data):
    """A checksum that changes with the meaning of a status, not with its time."""
    import hashlib

    digest = hashlib.md5(usedforsecurity=False)

    def feed(value):
        if isinstance(value, dict):
            for key in sorted(value):
                if key not in ("status_updated", "updated", "mtime", "csum"):
                    feed(value[key])
        elif isinstance(value, list):
            for one in value:
                feed(one)
        else:
            digest.update(repr(value).encode())

    feed(data)
    return digest.hexdigest()


def new_id():
    """An identifier for an object."""
    import uuid

    return str(uuid.uuid4())


def tell_daemon(request):
    """Tell the local daemon something it would find out later by itself."""
    try:
        wire.local(request, 5)
    except OSError:
        pass
