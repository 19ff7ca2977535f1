"""Two nodes in a split brain, on paper: generations and progress as DRBD 8.4 was recorded, and what is told them takes effect."""

import copy

from support import ROOT

from .world import parse_util

RECORDED = ROOT / "test/unit/drbd/recorded"
RESOURCE = "comp1.slapos.svc.paris"
COPY = f"/opt/{RESOURCE}.split-brain-1036D694B8247862.img"


def ids(state, node):
    return parse_util.generations((RECORDED / node / f"{state}.gi.out").read_text())


class Parted:
    """
    Minions of a site whose DRBD is parted: demo1 is Primary with the service, demo2 was promoted by hand. ``done`` has what was told them, in its order.
    """

    def __init__(self, world):
        self.facts, self.done, self.record, self.copies = world.facts, [], {}, []
        self.path, self.refused = world.shape["path"], {}
        self.ids = {node: ids("sb", node) for node in self.facts}
        self.ids["demo2"]["current"] = "1036D694B8247862"  # a Secondary's
        for node in self.facts:
            self.status(node).update(role="Primary" if node == "demo1" else "Secondary", up=True)
            for connection in self.status(node)["connections"].values():
                connection.update(state="StandAlone", role="Unknown")
                connection["volumes"][0] = {
                    "replication": "Off", "disk": "DUnknown", "percent": None, "rate": None, "out_of_sync": 1024,
                    "resync_suspended": "no", "seconds_left": None,
                }  # fmt: skip

    def status(self, node):
        return self.facts[node]["drbd"]["status"][RESOURCE]

    def link(self, node):
        return next(iter(self.status(node)["connections"].values()))

    def resolved(self):
        """Both connected and in sync, as recorded after `connect --discard-my-data` on demo2."""
        for node in self.facts:
            self.ids[node] = ids("sb_resolved", node)
            self.link(node).update(state="Connected")
            self.link(node)["volumes"][0].update(
                replication="Established", disk="UpToDate", out_of_sync=0
            )
        return self

    def side(self, node):
        mounted = self.facts[node]["mounted"]
        return {
            "node": node, "status": copy.deepcopy(self.status(node)), "summary": parse_util.summary(self.status(node)),
            "ids": self.ids[node], "written": self.link(node)["volumes"][0]["out_of_sync"], "mounted": mounted,
            "files": {"newest": [["slapos/page", 1795687200]], "complete": True} if mounted else None,
            "superblock": {"written": 1795690000 if mounted else 1795686000, "mounted": 1795680000},
            "note": {"time": "2026-11-24T10:00:00Z"} if node == "demo1" else None,
            "recovery": copy.deepcopy(self.record.get(node)),
        }  # fmt: skip

    def cmd(self, target, function, **kwargs):
        if function == "slapos_ha.facts":
            return {node: {"ret": copy.deepcopy(facts)} for node, facts in self.facts.items()}
        arg, kwarg = kwargs.get("arg", []), kwargs.get("kwarg", {})
        asks = function in ("slapos_ha.split_brain_side", "drbd.generation_ids", "ps.pgrep")
        if not asks and not kwarg.get("test"):
            self.done.append((list(target), function, *arg))
        answer = getattr(self, function.replace(".", "_"))
        return {
            node: {"ret": self.refused.get((node, function)) or answer(node, *arg, **kwarg)}
            for node in target
        }

    # What is asked and told, by the name of its function.

    def slapos_ha_split_brain_side(self, node):
        return self.side(node)

    def drbd_generation_ids(self, node, resource):
        return self.ids[node]

    def slapos_ha_split_brain_copy(self, node, generation, folder=None, test=False):
        if self.status(node)["role"] != "Secondary" and not test:
            return "it may change while it is copied"
        made = not test and COPY not in self.copies
        self.copies += [COPY] * made
        return {
            "kind": "file",
            "where": f"{folder}/x.img" if folder else COPY,
            "needs": 1 << 20,
            "made": made,
        }

    def slapos_ha_split_brain_record(self, node, done):
        self.record[node] = {**self.record.get(node, {}), **copy.deepcopy(done)}
        return self.record[node]

    def slapos_ha_split_brain_over(self, node):
        self.record.pop(node, None)
        return []

    def opensvc_stop(self, node, path, local, timeout):
        self.facts[node]["mounted"] = False
        self.status(node)["role"] = "Secondary"
        self.ids[node]["current"] = f"{int(self.ids[node]['current'], 16) & ~1:016X}"
        self.instance(node).update(avail="stdby up", frozen=True)
        return {"warnings": []}

    def opensvc_refresh(self, node, path):
        return {"warnings": []}

    def instance(self, node):
        return self.facts[node]["cluster"]["objects"][self.path]["instances"][node]

    def drbd_secondary(self, node, resource):
        self.status(node)["role"] = "Secondary"
        return True

    def drbd_disconnect(self, node, resource):
        return self.link(node)["state"] != "StandAlone"

    def drbd_connect(self, node, resource, discard_my_data=False, force=False, peer=None):
        if discard_my_data:
            assert force is True and peer == self.ids[next(n for n in self.facts if n != node)]
            self.link(node)["state"] = "Connecting"
        else:
            self.resolved()
        return True

    def state_single(self, node, function, name, **kwargs):
        if function == "opensvc.thawed":
            for one in self.facts:
                self.instance(one).update(frozen=False)
        kind = function.split(".")[0]
        return {
            f"{kind}_|-x_|-x_|-x": {
                "result": True,
                "changes": {},
                "comment": function,
                "__run_num__": 0,
            }
        }
