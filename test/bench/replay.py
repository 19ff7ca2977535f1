"""
What a simulated minion says and asks: facts of a site that is well, from recorded outputs by the formula's own parsers, and what a real minion asked its
master for (``asked.json``, made by ``scale.py record``).

Nothing here talks to anybody.
"""

import json
import pathlib

import salt.utils.dictupdate
import yaml
from support import ROOT, load_module

HERE = pathlib.Path(__file__).resolve().parent
ASKED = HERE / "asked.json"
AGENT = ROOT / "test/fixtures/opensvc-2.1"
DRBD = ROOT / "test/unit/drbd/recorded"
# Names in the recordings and in pillar.example that are of one site.
_SITE, _NODE, _RECORDED = "paris", "demo", "slapos"
# What was enabled after the recording was taken.
_APPLICATIONS = ("app#0", "app#1")
# Of these there is no recording: {whether the service is on this node: what is said of re6st and of SlapOS}.
_APPLICATION = {
    True: {
        "installed": {"core": "1.0"}, "units": {"unit": "masked"}, "registered": True, "health": {"code": 0, "infos": ["up"], "warnings": []},
    },
    False: {"installed": {"core": "1.0"}, "units": {"unit": "masked"}, "registered": None, "health": None},
}  # fmt: skip
_VERSIONS = {"utils": "9.22.0", "module_loaded": "8.4.11", "module_available": "8.4.11"}


def pillar():
    """The text of a pillar file for any site: pillar.example, with the names of the minion that asks in the place of its own."""
    text = yaml.safe_dump(_example(), sort_keys=False)
    return "{%- set site = grains['id'].rpartition('n')[0] %}\n" + renamed(text, "{{ site }}")


def _example():
    return yaml.safe_load((ROOT / "pillar.example").read_text())


def minions(site):
    """The ids of a site's two minions, the preferred one first."""
    return [f"{site}n1", f"{site}n2"]


def site_of(minion):
    return minion.rpartition("n")[0]


def renamed(text, site):
    """Text of the recorded site as that of another."""
    return text.replace(_SITE, site).replace(_NODE, f"{site}n")


# --- Facts ----------------------------------------------------------------------------------------------------------------------------------------


def facts():
    """{node: slapos_ha.facts} of the site of pillar.example, deployed and well, up on its first node."""
    defaults = yaml.safe_load((ROOT / "slapos_ha/defaults.yaml").read_text())
    given = _example()["slapos_ha"]
    merged = salt.utils.dictupdate.merge(defaults, given, merge_lists=False)
    return {node: _facts(node, given, merged) for node in merged["cluster"]["nodes"]}


def _facts(node, given, merged):
    """What the module itself makes of what its tools say."""
    answers = {
        "cp.cache_files": lambda uris, **_: [
            str(ROOT / uri.removeprefix("salt://")) for uri in uris
        ],
        "opensvc.version": lambda: {"major": 2, "version": "2.1-1890"},
        "opensvc.cluster_status": lambda: _cluster(node, merged),
        "opensvc.config_show": lambda path: json.loads(
            (AGENT / "cluster_config.json.out").read_text()
        ),
        "drbd.version": lambda: _VERSIONS,
        "drbd.status": lambda: _drbd(node, module.derive(merged, node)),
        "slapos_ha.split_brain_note": lambda resource: None,
        "slapos_node.ids": lambda: _ids(module.derive(merged, node)),
        "slapos_node.re6st_facts": lambda: _APPLICATION[_is_first(node)],
        "slapos_node.slapos_facts": lambda: {
            **_APPLICATION[_is_first(node)],
            "ran": _is_first(node),
        },
    }
    around = {
        "__salt__": answers,
        "__pillar__": {"slapos_ha": given},
        "__grains__": {"id": node, "os_family": "Debian"},
        "__opts__": {},
        "__utils__": {
            "slapos_kept.read": lambda *_: {},
            "slapos_kept.keep": lambda *_: None,
        },
        "__context__": {},
    }
    module = load_module("_modules/slapos_ha.py", f"bench_site_{node}", **around)
    answers["slapos_ha.site"] = module.site
    told = load_module("_modules/slapos_ha_facts.py", f"bench_facts_{node}", **around)
    # This machine's own mounts and sources are not the node's.
    told._mounted = lambda path: _is_first(node)
    told._unsigned_sources = list
    return told.facts()


def _is_first(node):
    return node.endswith("1")


def _cluster(node, merged):
    parse = load_module("_utils/opensvc_agent.py", "bench_agent").parse_status
    text = (AGENT / "full_daemon_status.json.out").read_text()
    document = json.loads(text.replace(f"svc.{_RECORDED}", f"svc.{_SITE}"))
    if not _is_first(node):
        # What demo1 hears of demo2 is recorded; the other node hears the same of it.
        other = {"demo1": "demo2", "demo2": "demo1"}
        for key in [key for key in document if key.startswith("hb#")]:
            peers = document[key]["peers"]
            document[key]["peers"] = {other[peer]: seen for peer, seen in peers.items()}
    status = parse(json.dumps(document), 2)
    status["cluster"]["name"] = _SITE
    service = status["objects"][f"{merged['service']['namespace']}/svc/{merged['service']['name']}"]
    service["overall"] = "up"
    for name, instance in service["instances"].items():
        instance["overall"] = instance["avail"]
        for rid in (*_APPLICATIONS, *(f"task#{name}" for name in merged["tasks"])):
            up = _is_first(name) and rid in _APPLICATIONS
            instance["resources"][rid].update(disable=False, status="up" if up else "n/a")
    return status


def _drbd(node, site):
    parse = load_module("_utils/drbd_parse.py", "bench_drbd")
    found = parse.status_text((DRBD / node / "primary.status.out").read_text())
    proc = parse.proc_drbd((DRBD / node / "primary.proc.out").read_text())
    (known,) = parse.with_proc(found, proc, dict.fromkeys(found, [site["peer"]])).values()
    return {site["fqdn"]: {"up": True, **known}}


def _ids(site):
    users = {"slapsoft": site["slapos"]["users"]["slapsoft_id"]}
    first = site["slapos"]["users"]["slapuser_first_id"]
    users.update({f"slapuser{n}": first + n for n in range(site["slapos"]["partition_number"])})
    wanted = {name: {"id": number, "home": "/srv/slapgrid"} for name, number in users.items()}
    return {"users": {name: [number, number] for name, number in users.items()}, "wanted": wanted, "missing": {}, "conflicts": []}  # fmt: skip


# --- Answers --------------------------------------------------------------------------------------------------------------------------------------


def asked():
    """{function or function:argument: [[command, path]]} that a real minion asked its master meanwhile, and {…: tags of the states of it}."""
    recorded = json.loads(ASKED.read_text())
    return recorded["asked"], recorded["states"]


class Replay:
    """
    The answers of any site's minions.

    ``answer(minion, function, arguments, keywords)`` is what it returns; ``questions(…)`` what it asks the master for meanwhile, as [command, path].
    """

    def __init__(self):
        self._facts = {number: json.dumps(said) for number, said in zip("12", facts().values(), strict=True)}  # fmt: skip
        self._asked, self._states = asked()

    def answer(self, minion, function, arguments=(), keywords=None):
        """What the minion's function returns; None for one that is not played."""
        if function == "slapos_ha.facts":
            said = json.loads(renamed(self._facts[minion[-1]], site_of(minion)))
            if not (keywords or {}).get("applications", True):
                del said["re6st"], said["slapos"]
            return said
        if function in ("match.pillar", "match.grain", "test.ping"):
            return True
        if function == "ps.pgrep":
            return None
        if function == "state.sls":
            return {
                tag: _state(tag, number)
                for number, tag in enumerate(self._states[_name(function, arguments)])
            }
        raise KeyError(function)

    def questions(self, function, arguments=(), keywords=None):
        """What a real minion asks its master while it does this."""
        found = self._asked.get(_name(function, arguments), [])
        if function == "slapos_ha.facts" and (keywords or {}).get("preflight"):
            # It judges the pillar as the master has it now.
            return [*self._asked["pillar.items"], *found]
        return found


def _name(function, arguments):
    return f"{function}:{arguments[0]}" if function.startswith("state.") else function


def _state(tag, number):
    """A state that found all as it should be."""
    kind, name, title, function = tag.split("_|-")
    return {
        "name": title, "__id__": name, "__sls__": "slapos_ha", "__run_num__": number, "result": True, "changes": {}, "start_time": "06:45:43.123456",
        "duration": 12.5, "comment": f"{kind}.{function}: {title} is as it should be",
    }  # fmt: skip
