"""The monitor: this node's state, the peers' as heard, and the carrying out of what is decided from both."""

import json
import os
import time

from . import VERSION, conf, env, orchestrate, paths, sched, wire
from .instance import Instance
from .orchestrate import Object, Run, Smon, View

MAINTENANCE_GRACE = 60.0
REJOIN_GRACE = 90.0
READY_PERIOD = 5.0
# How long the target of a deleted object is kept, for the peers to hear of it.
AFTERLIFE = 5.0
# How long a deleted object is not fetched back from a peer that is slower to delete it.
TOMBSTONE = 60.0
SCHEDULE_EVERY = 1.0
REFRESH_RETRY = 10.0


class Monitor:
    def __init__(self, daemon):
        self.daemon = daemon
        self.node = daemon.node
        self.nodes = {}
        self.aggregates = {}
        self.woken = False
        self.version = 0
        self.objects = {}
        self.configs = {}
        self.smons = {}
        self.statuses = {}
        self.deleted = {}
        self.rejoined = False
        self.begun = time.time()
        self.nmon = {"status": "init", "status_updated": time.time()}
        self.waiting = set()
        self.running = set()
        self.refresh_after = {}
        # As configured, for their keywords only: what they know of states is old.
        self.instances = {}
        self.csums = {}
        self.stats_at = 0.0
        self.stats_data = {}
        self.schedule_at = 0.0
        self.settings_from_node = conf.load(env.node_conf()).get("node", {})

    def wake(self):
        self.woken = True

    def frozen(self):
        try:
            return os.stat(env.var("node", "frozen")).st_mtime
        except OSError:
            return 0

    def period(self, keyword, default):
        return conf.duration(self.settings_from_node.get(keyword), default)

    # The node ----------------------------------------------------------------------------------

    def begin(self):
        """First look: after a reboot what was up is cleaned up, then every status is evaluated."""
        self.scan()
        stamp = env.var("node", "boot_id")
        try:
            with open(stamp, encoding="ascii") as stream:
                booted = stream.read().strip() != env.boot_id()
        except OSError:
            booted = True
        env.write_atomic(stamp, env.boot_id())
        for path in [path for path, obj in self.objects.items() if obj.kind in ("svc", "vol")]:
            self.waiting.add(path)
            self.refresh(path, boot=booted)
        self.log(f"node {self.node} in init state, {len(self.waiting)} objects to evaluate")

    def log(self, message):
        self.daemon.log.info(message)

    def set_node(self, status=None, global_expect=None):
        if status and status != self.nmon["status"]:
            self.log(f"node monitor status change: {self.nmon['status']} => {status}")
            self.nmon.update(status=status, status_updated=time.time())
        if global_expect:
            value = None if global_expect == "unset" else global_expect
            self.nmon.update(global_expect=value, global_expect_updated=time.time())
        self.wake()

    def age(self):
        """Leave init, then rejoin, when it is time."""
        status = self.nmon["status"]
        if status == "init" and not self.waiting:
            self.set_node(status="rejoin")
        if self.nmon["status"] != "rejoin":
            return
        nodes = self.daemon.cluster.nodes
        if len(nodes) == 1:
            self.settle("single node cluster")
            return
        spent = time.time() - self.begun
        states = [self.nodes.get(node, {}).get("monitor", {}).get("status") for node in nodes]
        if all(state in ("idle", "rejoin") for state in states):
            if spent >= self.daemon.cluster.settings["rejoin_delay"]:
                self.settle("now rejoined")
        elif spent >= self.period("rejoin_grace_period", REJOIN_GRACE):
            self.settle("expired, but some nodes are still unreacheable. freeze node.")
            self.freeze_node()

    def settle(self, reason):
        self.log(f"end of rejoin grace period: {reason}")
        self.rejoined = True
        self.set_node(status="idle")
        self.merge_frozen()

    def merge_frozen(self):
        """What was frozen while we were away stays so: a node that comes back takes nothing over."""
        for path, obj in self.objects.items():
            if obj.orchestrate == "no" or self.smon(path).get("global_expect") == "thawed":
                continue
            for node in obj.nodes:
                instance = (
                    self.nodes.get(node, {}).get("services", {}).get("status", {}).get(path, {})
                )
                if node != self.node and instance.get("frozen"):
                    self.log(f"freeze {path}: frozen on {node}")
                    self.daemon.instance(path).freeze()

    def freeze_node(self):
        if not self.frozen():
            env.write_atomic(env.var("node", "frozen"), "")
            self.log("freeze node")

    def thaw_node(self):
        if self.frozen():
            os.unlink(env.var("node", "frozen"))
            self.log("thaw node")

    def target_node(self):
        """Follow the cluster-wide wish to freeze or thaw nodes."""
        for node, data in self.nodes.items():
            theirs = data.get("monitor", {})
            newer = theirs.get("global_expect_updated", 0) > self.nmon.get(
                "global_expect_updated", 0
            )
            if node != self.node and theirs.get("global_expect") and newer:
                self.nmon.update(
                    global_expect=theirs["global_expect"],
                    global_expect_updated=theirs["global_expect_updated"],
                )
        target = self.nmon.get("global_expect")
        if not target:
            return
        self.freeze_node() if target == "frozen" else self.thaw_node()
        if all(bool(data.get("frozen")) == (target == "frozen") for data in self.nodes.values()):
            self.set_node(global_expect="unset")

    # Peers -------------------------------------------------------------------------------------

    def hear(self, node, data):
        if self.nodes.get(node) != data:
            if node not in self.nodes:
                self.log(f"peer {node} is now heard")
            self.nodes[node] = data
            self.wake()

    def forget_stale(self):
        for node in [node for node in self.nodes if node != self.node]:
            if node not in self.daemon.cluster.nodes:
                self.log(f"purge left node {node} data")
            elif self.daemon.heartbeats.alive(node):
                continue
            elif self.nodes[node].get("monitor", {}).get("status") in ("maintenance", "upgrade"):
                # It said that it leaves for a moment: its instances are still its own.
                since = self.nodes[node]["monitor"].get("status_updated", 0)
                if time.time() - since < MAINTENANCE_GRACE:
                    continue
                self.log(f"maintenance of {node} lasts too long")
            else:
                self.log(f"peer {node} is stale: no heartbeat hears it")
            del self.nodes[node]
            self.version += 1

    # Objects -----------------------------------------------------------------------------------

    def smon(self, path):
        return self.smons.setdefault(path, {"status": "idle"})

    def set_smon(self, path, change):
        smon = self.smon(path)
        now = time.time()
        for name in ("status", "local_expect", "global_expect"):
            value = getattr(change, name)
            if value is None:
                continue
            value = None if value == "unset" else value
            if value == "restarted":
                value = f"restarted@{now}"
            if value != smon.get(name):
                self.log(f"{path} monitor {name} change: {smon.get(name)} => {value}")
                smon[name] = value
                smon[f"{name}_updated"] = now
        if change.retries:
            rid, count = change.retries
            restart = smon.setdefault("restart", {})
            if count:
                restart[rid] = {"retries": count, "updated": now}
            else:
                restart.pop(rid, None)
            if not restart:
                del smon["restart"]
        self.wake()

    def clear(self, path):
        """Forget a failure; an action under way is no failure."""
        smon = self.smon(path)
        if smon["status"].endswith("ing"):
            return f"skip clear on {smon['status']} instance"
        smon.pop("restart", None)
        self.set_smon(path, Smon(status="idle"))
        return f"{path} instance cleared"

    def scan(self):
        """Read what changed in the configurations of this node."""
        found = set(paths.listed())
        for path in found:
            stamp = conf.mtime(paths.config_file(path))
            known = self.configs.get(path)
            if known and known["updated"] == stamp and known["nodes"] == self.daemon.cluster.nodes:
                continue
            if path in self.deleted:
                # Made anew: what its predecessor was asked for is none of its business.
                self.smons.pop(path, None)
            instance = self.instances[path] = self.daemon.instance(path)
            self.objects[path] = describe(instance)
            self.configs[path] = {
                "csum": conf.csum(instance.config_file),
                "scope": sorted(self.objects[path].nodes),
                "updated": stamp,
                "nodes": self.daemon.cluster.nodes,
            }
            self.version += 1
        for path in set(self.objects) - found:
            self.log(f"{path} is deleted here")
            self.deleted[path] = time.time()
            del self.objects[path]
            del self.instances[path]
            del self.configs[path]
            self.statuses.pop(path, None)
            self.version += 1

    def load_statuses(self):
        """Take in the statuses the actions left, and evaluate those that are older than their configuration."""
        for path, obj in self.objects.items():
            if obj.kind not in ("svc", "vol"):
                if path not in self.statuses:
                    self.statuses[path] = {
                        "csum": self.configs[path]["csum"],
                        "kind": obj.kind,
                        "updated": time.time(),
                    }
                continue
            name = os.path.join(paths.var_dir(path), "status.json")
            stamp = conf.mtime(name)
            known = self.statuses.get(path)
            if stamp and (known is None or known["updated"] != stamp):
                try:
                    with open(name, encoding="utf-8") as stream:
                        self.statuses[path] = {**json.load(stream), "updated": stamp}
                    self.version += 1
                except (OSError, ValueError):
                    continue
            old = stamp < self.configs[path][
                "updated"
            ] or stamp < time.time() - self.status_interval(path)
            if old and not self.smon(path)["status"].endswith("ing"):
                self.refresh(path)

    def status_interval(self, path):
        """Seconds after which a status is old: sooner where resources that are started again have a schedule to be looked at."""
        usual = self.daemon.cluster.settings["status_interval"]
        schedule = self.instances[path].get("DEFAULT", "monitor_schedule")
        return min(usual, sched.period(schedule) or usual) if schedule else usual

    def refresh(self, path, boot=False):
        """Evaluate an instance's status in a child; one at a time, and no flood of them when it fails."""
        now = time.monotonic()
        if self.node not in self.objects[path].nodes:
            self.waiting.discard(path)
            return
        if self.daemon.jobs.busy("status", path) or now < self.refresh_after.get(path, 0):
            return

        def work():
            instance = self.daemon.instance(path)
            if boot:
                instance.action("boot")
            else:
                instance.status_data(refresh=True)

        def done(code):
            self.waiting.discard(path)
            self.refresh_after[path] = time.monotonic() + (REFRESH_RETRY if code else 0)

        self.daemon.jobs.start("status", path, work, done)

    def publish(self):
        """This node's part of the cluster data."""
        now = time.time()
        status = {}
        for path, data in self.statuses.items():
            if path not in self.objects:
                continue
            smon = self.smon(path)
            obj = self.objects[path]
            if obj.kind in ("svc", "vol"):
                data = {**data, "frozen": self.daemon_frozen(path)}
            status[path] = {**data, "monitor": {"placement": "", **smon}}
        for path, when in list(self.deleted.items()):
            if path in self.objects or now - when > TOMBSTONE:
                del self.deleted[path]
            elif now - when > AFTERLIFE:
                self.smons.pop(path, None)
            elif self.smons.get(path, {}).get("global_expect"):
                status[path] = {"monitor": self.smons[path], "resources": {}}
        csum = self.csum(env.cluster_conf())
        status["cluster"] = {
            "csum": csum,
            "kind": "ccfg",
            "monitor": {"placement": "", "status": "idle"},
            "updated": self.begun,
        }
        config = {
            path: {key: one[key] for key in ("csum", "scope", "updated")}
            for path, one in self.configs.items()
        }
        config["cluster"] = {
            "csum": csum,
            "scope": self.daemon.cluster.nodes,
            "updated": conf.mtime(env.cluster_conf()),
        }
        data = {
            "agent": VERSION,
            "api": 7,
            "compat": 10,
            "config": {"csum": self.csum(env.node_conf())},
            "env": "TST",
            "frozen": self.frozen(),
            "gen": {node: self.version for node in (self.node, *self.nodes)},
            "labels": {},
            "locks": {},
            "min_avail_mem": 2,
            "min_avail_swap": 0,
            "monitor": dict(self.nmon),
            "services": {"config": config, "status": status},
            "speaker": False,
            "stats": self.stats(),
            "targets": [],
        }
        before = self.nodes.get(self.node, {})
        volatile = ("updated", "gen", "stats")
        if {k: v for k, v in before.items() if k not in volatile} != {
            k: v for k, v in data.items() if k not in volatile
        }:
            self.version += 1
            data["updated"] = now
        else:
            data["updated"] = before.get("updated", now)
        data["gen"][self.node] = self.version
        self.nodes[self.node] = data

    def csum(self, name):
        """The checksum of a file, computed again when the file has changed."""
        stamp = conf.mtime(name)
        if self.csums.get(name, (None,))[0] != stamp:
            self.csums[name] = (stamp, conf.csum(name))
        return self.csums[name][1]

    def daemon_frozen(self, path):
        try:
            return os.stat(os.path.join(paths.var_dir(path), "frozen")).st_mtime
        except OSError:
            return 0

    def stats(self):
        if time.monotonic() - self.stats_at < 30 and self.stats_data:
            return self.stats_data
        self.stats_at = time.monotonic()
        memory = {}
        with open("/proc/meminfo", encoding="ascii") as stream:
            for line in stream:
                name, _, value = line.partition(":")
                memory[name] = int(value.split()[0])
        total, swap = memory["MemTotal"], memory.get("SwapTotal", 0)
        self.stats_data = {
            "load_15m": round(os.getloadavg()[2], 1),
            "mem_avail": 100 * memory["MemAvailable"] // total,
            "mem_total": total // 1024,
            "score": 70,
            "swap_avail": 100 * memory.get("SwapFree", 0) // swap if swap else 0,
            "swap_total": swap // 1024,
        }
        return self.stats_data

    def view(self):
        return View(
            self.node,
            self.nodes,
            time.time(),
            bool(self.frozen()),
            self.rejoined,
            self.period("ready_period", READY_PERIOD),
        )

    # One turn ----------------------------------------------------------------------------------

    def turn(self):
        self.scan()
        self.load_statuses()
        self.forget_stale()
        self.age()
        self.target_node()
        self.publish()
        self.follow_configs()
        self.update_aggregates()
        if self.nmon["status"] in ("init", "maintenance"):
            return
        self.woken = False
        for path in sorted(self.objects):
            self.object_turn(path)
        for path in self.deleted:
            self.end_afterlife(path)
        if time.monotonic() - self.schedule_at >= SCHEDULE_EVERY:
            self.schedule_at = time.monotonic()
            self.schedule()
        if self.woken:
            # Something was decided: the peers and the user are to see it now, not a turn later.
            self.publish()
            self.update_aggregates()

    def known_objects(self):
        """Every object of the cluster, those with no instance here too."""
        known = dict(self.objects)
        for data in self.nodes.values():
            for path in data.get("services", {}).get("status", {}):
                if path not in known and path != "cluster":
                    kind = paths.split(path)[1]
                    known[path] = Object(path, self.daemon.cluster.nodes, kind)
        return known

    def update_aggregates(self):
        view = self.view()
        live = {
            path: obj
            for path, obj in self.known_objects().items()
            if any("updated" in one for one in view.instances(path).values())
        }
        self.aggregates = {path: orchestrate.aggregate(view, obj) for path, obj in live.items()}

    def object_turn(self, path):
        obj, smon = self.objects[path], self.smon(path)
        if self.node not in obj.nodes:
            return
        instance = self.statuses.get(path)
        if instance is None:
            return
        view = self.view()
        if obj.kind in ("svc", "vol"):
            placement = "leader" if orchestrate.is_leader(view, obj) else ""
            if smon.get("placement", "") != placement or "placement" not in smon:
                smon["placement"] = placement
                self.publish()
            self.expect_started(path, instance, smon)
        since = self.configs[path]["updated"]
        target = orchestrate.adopt(view, obj, self.aggregates.get(path, {}), since)
        if target:
            self.log(f"a peer wants {path} {target}")
            self.set_smon(path, Smon(global_expect=target))
            self.publish()
        if smon["status"].endswith("ing"):
            return
        if instance["updated"] < self.configs[path]["updated"] and obj.kind in ("svc", "vol"):
            return
        for order in orchestrate.decide(self.view(), obj, self.aggregates):
            if isinstance(order, Run):
                self.run(path, order)
            else:
                self.set_smon(path, order)

    def expect_started(self, path, instance, smon):
        if (
            instance.get("avail") == "up"
            and smon["status"] == "idle"
            and smon.get("local_expect") != "started"
            and smon.get("global_expect") is None
        ):
            self.set_smon(path, Smon(local_expect="started"))
        if instance.get("avail") == "up" and smon["status"] in ("start failed", "place failed"):
            self.set_smon(path, Smon(status="idle"))

    def end_afterlife(self, path):
        target = self.smons.get(path, {}).get("global_expect")
        left = any("updated" in one for one in self.view().instances(path).values())
        if target in ("purged", "deleted") and not left:
            self.smons[path] = {"status": "idle"}

    def run(self, path, order):
        """Start an action decided upon."""
        self.set_smon(path, Smon(status=order.progress))
        self.log(f"execute {order.action} {path} {order.options or ''}".rstrip())

        def work():
            instance = self.daemon.instance(path, **order.options)
            if order.action == "delete":
                instance.delete()
                return 0
            if order.action == "purge":
                code = instance.action("unprovision")
                if not code:
                    instance.delete()
                return code
            code = instance.action(order.action)
            if order.action == "provision" and not code:
                instance.thaw()
            return code

        def done(code):
            self.log(f"{order.action} {path} ended with {code}")
            self.scan()
            self.load_statuses()
            self.set_smon(path, Smon(status=order.failed) if code else order.success)

        self.daemon.jobs.start("action", path, work, done)

    # Configurations ----------------------------------------------------------------------------

    def follow_configs(self):
        """Fetch from the peers what they have newer, or at all."""
        for node, data in self.nodes.items():
            if node == self.node:
                continue
            theirs = data.get("services", {}).get("config", {})
            for path, config in theirs.items():
                if self.node not in config["scope"] or self.daemon.jobs.busy("fetch", path):
                    continue
                mine = self.nodes[self.node]["services"]["config"].get(path)
                if mine is None:
                    smon = data["services"]["status"].get(path, {}).get("monitor", {})
                    gone = self.deleted.get(path)
                    if smon.get("global_expect") in ("deleted", "purged") or (
                        gone and config["updated"] <= gone[0]
                    ):
                        continue
                elif config["csum"] == mine["csum"] or config["updated"] <= mine["updated"]:
                    continue
                self.fetch(path, node)

    def fetch(self, path, node):
        self.log(f"fetch the configuration of {path} from {node}")

        def work():
            cluster = self.daemon.cluster
            request = {"action": "config_get", "path": path}
            answer = wire.remote(*cluster.listener_target(node), cluster.secret, request)
            if not answer.get("data"):
                return 1
            namespace, kind, _ = paths.split(path)
            if kind == "svc" and not paths.exists(path):
                # A new service is left alone until somebody provisions or thaws it.
                self.daemon.instance(path).freeze()
            conf.save(paths.config_file(path), conf.parse(answer["data"]), answer["mtime"])
            if kind == "cfg":
                install(self.daemon, namespace)
            return 0

        self.daemon.jobs.start("fetch", path, work, lambda code: self.wake())

    # Scheduler ---------------------------------------------------------------------------------

    def schedule(self):
        """Run the tasks and synchronisations that are due, where their instance is up."""
        for path in self.objects:
            data = self.statuses.get(path, {})
            if (
                data.get("avail") != "up"
                or data.get("provisioned") is not True
                or self.smon(path)["status"] != "idle"
            ):
                continue
            instance = self.instances[path]
            due = []
            for action, rid in sched.due(instance, time.time()):
                if (path, rid) in self.running or (
                    action == "run" and not ready(data, instance, rid)
                ):
                    continue
                sched.ran(instance, action, rid)
                if action == "run":
                    due.append(rid)
                else:
                    self.run_scheduled(path, action, [rid])
            if due:
                self.run_scheduled(path, "run", due)

    def run_scheduled(self, path, action, rids):
        """Run tasks that are due together in one child; each may outlast its next turn, which is then skipped."""
        marks = {(path, rid) for rid in rids}
        self.running |= marks

        def work():
            return self.daemon.instance(path, rids=rids).unlocked(action)

        def done(code):
            self.running -= marks

        self.daemon.jobs.start("run", path, work, done)

    # What is shown -----------------------------------------------------------------------------

    def status(self):
        services = {path: dict(one) for path, one in self.aggregates.items()}
        services["cluster"] = {}
        frozen = [bool(data.get("frozen")) for data in self.nodes.values()]
        return {
            "compat": True,
            "frozen": "frozen" if frozen and all(frozen) else "mixed" if any(frozen) else "thawed",
            "nodes": self.nodes,
            "services": services,
            "transitions": sum(1 for smon in self.smons.values() if smon["status"].endswith("ing")),
        }


def describe(instance):
    """The configuration of an object, as far as decisions go."""
    restart = {rid: one.restart for rid, one in instance.resources.items() if one.restart}
    nodes = instance.nodes if instance.kind in ("svc", "vol") else instance.cluster.nodes
    return Object(
        instance.path,
        nodes,
        instance.kind,
        instance.topology,
        instance.orchestrate,
        instance.placement_policy,
        conf.boolean(instance.get("DEFAULT", "disable")),
        (instance.get("DEFAULT", "children") or "").split(),
        restart,
    )


def ready(data, instance, rid):
    """Whether the requirements of a task's run are met, by the status as last seen."""
    for element in (instance.get(rid, "run_requires") or "").split():
        name, _, states = element.rstrip(")").partition("(")
        wanted = states.split(",") if states else ["up", "stdby up"]
        if data["resources"].get(name, {}).get("status", "undef") not in wanted:
            return False
    return True


def install(daemon, namespace):
    """Refresh the keys installed in the volumes of a namespace."""
    for path in paths.select(f"{namespace or 'root'}/svc/*"):
        instance = daemon.instance(path) if daemon else Instance(path)
        instance.do_install()
