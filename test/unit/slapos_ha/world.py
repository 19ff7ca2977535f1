"""A site on paper: both nodes' facts as a deployment builds them up, and the runner with its utils as Salt's loader would join them."""

import copy
import inspect

from salt.utils.dictupdate import merge
from support import load_module

TASKS = ["task#addpart", "task#chkaddip", "task#collect", "task#delpart", "task#software"]

module = load_module("_modules/slapos_ha.py")
site_util = load_module("_utils/slapos_site.py")
gates_util = load_module("_utils/slapos_site_gates.py")
lock_util = load_module("_utils/slapos_site_lock.py")
split_util = load_module("_utils/slapos_site_split.py")
parse_util = load_module("_utils/drbd_parse.py")
show_util = load_module("_utils/slapos_site_show.py")
step_util = load_module("_utils/slapos_site_step.py")
goal_util = load_module("_utils/opensvc_goal.py")

UTILS = {
    f"{name}.{function.rstrip('_')}": getattr(util, function)
    for name, util in (
        ("slapos_site", site_util),
        ("slapos_site_gates", gates_util),
        ("slapos_site_lock", lock_util),
        ("slapos_site_show", show_util),
        ("slapos_site_split", split_util),
        ("slapos_site_step", step_util),
        ("drbd_parse", parse_util),
        ("opensvc_goal", goal_util),
    )
    for function, _ in inspect.getmembers(util, inspect.isfunction)
    if not function.startswith("_")
}

runner = load_module("_runners/slapos_ha.py", __utils__=UTILS)
STEPS = [name for name, *_ in runner._STEPS]


class Tasks:
    """Minions that are asked for the processes of tasks only."""

    def __init__(self, busy):
        self.busy, self.asked = busy, []

    def cmd(self, target, function, arg, kwarg, **kwargs):
        assert function == "ps.pgrep" and kwarg == {"full": True, "pattern_is_regex": True}
        self.asked.append(arg[0])
        return {minion: {"ret": self.busy.get(minion)} for minion in target}


class World:
    """Both nodes' facts, built up the way a deployment builds a site."""

    def __init__(self, defaults, example):
        self.merged = merge(
            copy.deepcopy(defaults), copy.deepcopy(example["slapos_ha"]), merge_lists=False
        )
        self.tasks = Tasks({})
        self.shape = module.derive(self.merged, "demo1")
        self.facts = {
            node: {
                "site": "paris", "node": node, "shape": module.derive(self.merged, node), "problems": [], "mounted": False,
                "agent": {"major": 2, "version": "2.1-1890"},
                "cluster": {"cluster": {"name": "default", "nodes": [node]}, "nodes": {node: {"state": "idle", "frozen": False}}, "heartbeats": {}, "objects": {}},
                "drbd": {"version": {"utils": "9.22.0", "module_loaded": None, "module_available": "8.4.11"}, "status": {}},
                "re6st": {"registered": None}, "slapos": {"registered": None}, "ids": {},
            }
            for node in ("demo1", "demo2")
        }  # fmt: skip

    def site(self):
        return site_util._Site(self.tasks, {}, self.shape, self.facts)

    def cluster(self):
        for node, other in (("demo1", "demo2"), ("demo2", "demo1")):
            self.facts[node]["cluster"] = {
                "cluster": {"name": "paris", "nodes": ["demo1", "demo2"]},
                "nodes": {name: {"state": "idle", "frozen": False} for name in ("demo1", "demo2")},
                "heartbeats": {
                    "hb#1": {
                        "rx": "running",
                        "tx": "running",
                        "peers": {node: {}, other: {"beating": True}},
                    }
                },
                "objects": {},
            }
        return self

    def service(self):
        resources = {
            rid: {"status": "n/a", "disable": True, "log": []} for rid in ["app#0", "app#1", *TASKS]
        }
        service = {
            "avail": "down", "overall": "down", "provisioned": False, "frozen": "frozen", "scope": ["demo1", "demo2"],
            "instances": {n: {"avail": "down", "overall": "down", "state": "idle", "global_expect": None, "frozen": True, "resources": copy.deepcopy(resources)} for n in ("demo1", "demo2")},
        }  # fmt: skip
        for facts in self.facts.values():
            facts["cluster"]["objects"][self.shape["path"]] = service
        self.object = service
        return self

    def drbd(self, disk="Inconsistent"):
        for node, other in (("demo1", "demo2"), ("demo2", "demo1")):
            self.facts[node]["drbd"]["status"] = {
                self.shape["fqdn"]: {
                    "role": "Secondary",
                    "disk": {0: {"minor": 0, "disk": disk}},
                    "connections": {
                        other: {
                            "state": "Connected",
                            "role": "Secondary",
                            "volumes": {0: {"replication": "Established", "disk": disk}},
                        }
                    },
                }
            }
        return self

    def on(self, node):
        self.object.update(avail="up", overall="up", provisioned=True, frozen="thawed")
        for name, instance in self.object["instances"].items():
            avail = "up" if name == node else "stdby up"
            instance.update(avail=avail, overall=avail, frozen=False)
            self.facts[name]["mounted"] = name == node
        return self

    def deployed(self):
        """All that a deployment does, with the service on demo1."""
        self.cluster().service().drbd("UpToDate").on("demo1")
        return self.enabled("app#0", "app#1", *TASKS)

    def registered(self, kind, ran=True, health=1):
        for facts in self.facts.values():
            facts[kind]["registered"] = True if facts["mounted"] else None
            facts[kind]["health"] = {"code": health} if facts["mounted"] else None
            if kind == "slapos":
                facts[kind]["ran"] = ran and facts["mounted"]
        return self

    def enabled(self, *rids):
        for instance in self.object["instances"].values():
            status = "up" if instance["avail"] == "up" else "down"
            for rid in rids:
                instance["resources"][rid] = {"status": status, "disable": False, "log": []}
        return self

    def failed_to_provision(self, node):
        """Provisioned, with what the last act on a node has left up there when it failed."""
        instance = self.object["instances"][node]
        instance.update(avail="warn", overall="warn", state="provision failed", frozen=True)
        instance["resources"]["volume#0"] = {"status": "up", "disable": False, "log": []}
        return self

    def cleared(self, node):
        self.object["instances"][node].update(state="idle", frozen=False)
        return self
