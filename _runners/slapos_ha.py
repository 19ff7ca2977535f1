"""
The sequencing of a SlapOS HA site: what is to be done, in which order, and whether it was.

``orch/deploy.sls`` is a list of the steps below, one state each; :py:func:`plan` prints what it would do and :py:func:`status` how the site is.
Decisions are made here from one snapshot of both nodes (``slapos_ha.facts``); what is done to a node is done by states on that node.

Run ``salt-run saltutil.sync_all`` after each change of the formula: orchestrations use the master's own copy.
"""

import io
import logging

import salt.client
import salt.key
import salt.utils.event
from salt.exceptions import SaltClientError

log = logging.getLogger(__name__)

# How long the master waits before it asks a silent minion whether the job still runs, and then for that answer, in seconds. A job that runs is
# waited for however long it takes; a node that is busy with it answers late.
_PATIENCE = 30
_BUSY = 60


class _Stop(Exception):
    """A step cannot go on: what happened, where, and what to do."""

    def __init__(
        self, message, remedy="Correct it and run the orchestration again: what is done stays done."
    ):
        super().__init__(message)
        self.remedy = remedy


# --- Talking to the minions -------------------------------------------------------------------------------------------------------------------


class _Site:
    """The two nodes of a site, and what was last heard from them."""

    def __init__(self, client, shape, facts=None):
        self.client = client
        self.shape = shape
        self._facts = facts
        self.nodes = self.shape["nodes"]
        self.first, self.second = self.nodes
        self.changes = {}
        self.notes = []
        self.agent_seconds = 0.0

    @property
    def facts(self):
        """{node: slapos_ha.facts} of both nodes, asked when somebody wants to know: a snapshot is seconds on a busy node."""
        if self._facts is None:
            self.look()
        return self._facts

    def look(self):
        """Ask both nodes now."""
        self._facts, problems = _snapshot(self.client, self.shape["site"])
        if problems:
            raise _Stop("\n".join(problems))

    def minion(self, node):
        return self.shape["cluster"]["nodes"][node]["minion"]

    def call(self, on, function, *args, **kwargs):
        """Run an execution function on nodes at once and return {node: answer}; a silent node stops the step."""
        minions = {self.minion(node): node for node in on}
        said = _call(self.client, list(minions), "list", function, args, kwargs)
        answers = {}
        for minion, node in minions.items():
            if minion not in said:
                raise _Stop(
                    f"minion {minion} did not answer {function}",
                    f"See whether {node} is up and its salt-minion runs, then run the orchestration again.",
                )
            answers[node] = said[minion]
        return answers

    def begin(self, on, function):
        """Start an execution function on nodes without waiting for it."""
        try:
            self.client.cmd_async([self.minion(node) for node in on], function, tgt_type="list")
        except SaltClientError as error:
            raise _Stop(f"the Salt master cannot publish: {error}") from None

    def states(self, on, function, *args, **kwargs):
        """Run states on nodes at once; keep their changes, stop on the first failure."""
        answers = self.call(on, function, *args, queue=True, **kwargs)
        seconds = 0.0
        failures = []
        for node, states in answers.items():
            if not isinstance(states, dict):
                raise _Stop(f"{node}: {function} {' '.join(map(str, args))}: {_line(states)}")
            spent = 0.0
            for tag, state in sorted(
                states.items(), key=lambda item: item[1].get("__run_num__", 0)
            ):
                if tag.startswith("opensvc_|"):
                    spent += float(state.get("duration", 0)) / 1000
                title = state.get("__id__") or tag.split("_|-")[1]
                if state.get("changes"):
                    self.changes.setdefault(node, {})[title] = state["changes"]
                if state.get("result") is False and not _is_follow_up(state):
                    failures.append(f"{node}: {title}: {state.get('comment', '')}".strip())
            seconds = max(seconds, spent)
        self.agent_seconds += seconds
        if failures:
            raise _Stop("\n".join(failures))
        return answers

    def single(self, on, function, name, **kwargs):
        """Run one state on one node and note its comment."""
        self._note(on, self.states([on], "state.single", function, name=name, **kwargs)[on])

    def sls(self, on, name):
        """Run one SLS on one node and note what its states say of the service."""
        self._note(on, self.states([on], "state.sls", name)[on])

    def _note(self, node, states):
        for tag, state in sorted(states.items(), key=lambda item: item[1].get("__run_num__", 0)):
            if tag.startswith("opensvc_|"):
                self.notes.append(f"{node}: {state.get('comment', '')}")

    # What the world says, from the last snapshot.

    def cluster(self):
        for node in self.nodes:
            status = self.facts[node]["cluster"]
            if "error" not in status:
                return status
        return {
            "cluster": {"name": None, "nodes": []},
            "nodes": {},
            "heartbeats": {},
            "objects": {},
        }

    def service(self):
        return self.cluster()["objects"].get(self.shape["path"])

    def instance(self, node):
        return ((self.service() or {}).get("instances") or {}).get(node) or {}

    def resource(self, rid):
        """The resource as its last known on any node, the node where the service is up first."""
        for node in sorted(self.nodes, key=lambda name: name != self.active()):
            found = self.instance(node).get("resources", {}).get(rid)
            if found:
                return found
        return {}

    def enabled(self, rid):
        resource = self.resource(rid)
        return bool(resource) and not resource.get("disable")

    def active(self):
        """The node where the service's filesystem is mounted, or None."""
        return next((node for node in self.nodes if self.facts[node]["mounted"]), None)

    def drbd(self, node):
        status = self.facts[node]["drbd"]["status"]
        return (status or {}).get(self.shape["fqdn"]) if "error" not in (status or {}) else None

    def tasks(self):
        return [f"task#{name}" for name in sorted(self.shape["tasks"])]


def _call(client, target, target_type, function, args=(), kwargs=None):
    try:
        said = client.cmd(
            target,
            function,
            arg=list(args),
            kwarg=kwargs or {},
            tgt_type=target_type,
            timeout=_PATIENCE,
            gather_job_timeout=_BUSY,
            full_return=True,
        )
    except SaltClientError as error:
        raise _Stop(
            f"the Salt master cannot publish: {error}",
            "See that salt-master runs and that this user may publish.",
        ) from None
    answers = {}
    for minion, answer in said.items():
        if isinstance(answer, dict) and "ret" in answer:
            answers[minion] = answer["ret"]
    return answers


def _line(answer):
    text = "; ".join(map(str, answer)) if isinstance(answer, list) else str(answer)
    return text.strip() or "no answer"


def _is_follow_up(state):
    return "One or more requisite failed" in str(state.get("comment", ""))


def _snapshot(client, site, preflight=False):
    """Ask every minion that has the pillar, and return the facts of the chosen site's two nodes by node name, with all problems found."""
    said = _call(client, "slapos_ha:*", "pillar", "slapos_ha.facts", (), {"preflight": preflight})
    broken = {minion: answer for minion, answer in said.items() if not isinstance(answer, dict)}
    if broken:
        raise _Stop(
            "\n".join(
                f"{minion}: {_line(answer).splitlines()[-1]}" for minion, answer in broken.items()
            ),
            "If it says 'not available': salt '*' saltutil.sync_all",
        )
    if not said:
        raise _Stop(
            "no minion with pillar slapos_ha answered",
            "Target the site's pillar at both nodes in the pillar top file, then: salt '*' saltutil.refresh_pillar; salt '*' test.ping",
        )
    sites = sorted({str(answer["site"]) for answer in said.values() if answer["site"]})
    if site is None and len(sites) > 1:
        raise _Stop(
            f"there are {len(sites)} sites: {', '.join(sites)}",
            f"""Choose one: pillar='{{"slapos_ha": {{"site": "{sites[0]}"}}}}'""",
        )
    chosen = site or (sites[0] if sites else None)
    # A node whose pillar is too broken to name its site belongs to the only site there is.
    mine = {
        minion: answer
        for minion, answer in said.items()
        if answer["site"] == chosen or (not answer["site"] and len(sites) <= 1)
    }
    if not mine:
        raise _Stop(
            f"slapos_ha:site: {site!r} is not among the sites {', '.join(sites)}",
            "Give one of these.",
        )
    problems = [
        f"{minion}: {problem}"
        for minion, answer in sorted(mine.items())
        for problem in answer["problems"]
    ]
    facts = {answer["node"]: answer for answer in mine.values() if "node" in answer}
    wanted = {}
    for answer in facts.values():
        wanted.update(
            {name: node["minion"] for name, node in answer["shape"]["cluster"]["nodes"].items()}
        )
    accepted = _accepted_minions()
    for name, minion in sorted(wanted.items()):
        if name in facts or minion in said:
            continue
        if minion not in accepted:
            problems.append(
                f"slapos_ha:cluster:nodes:{name}: {minion!r} is no minion of this master (accepted: {', '.join(accepted) or 'none'}); "
                "give its id as nodes:…:minion, or accept its key: salt-key"
            )
        else:
            problems.append(
                f"slapos_ha:cluster:nodes:{name}: minion {minion!r} does not answer, or has no pillar slapos_ha; start its salt-minion, see the pillar top file"
            )
    if not facts and not problems:
        problems.append("no node of the site answered")
    return facts, problems + (_differences(facts) if preflight and len(facts) == 2 else [])


def _accepted_minions():
    return sorted(salt.key.get_key(__opts__).list_keys().get("minions", []))


def _differences(facts):
    """What must be equal on both nodes and is not."""
    (one, here), (two, there) = sorted(facts.items())
    problems = []
    for what, read in (
        ("the OpenSVC agent", lambda f: f["agent"].get("version")),
        (
            "DRBD's module",
            lambda f: f["drbd"]["version"].get("module_loaded")
            or f["drbd"]["version"].get("module_available"),
        ),
    ):
        left, right = read(here), read(there)
        if left and right and left != right:
            problems.append(
                f"{what} is {left} on {one} and {right} on {two}; install one version on both"
            )
    if (
        here["shape"]["fqdn"] != there["shape"]["fqdn"]
        or here["shape"]["nodes"] != there["shape"]["nodes"]
    ):
        problems.append(
            f"{one} and {two} see different pillars of site {here['site']}; target one file at both, then: salt '*' saltutil.refresh_pillar"
        )
    return problems


# --- Gates before a move ------------------------------------------------------------------------------------------------------------------------


def _gates(site, target):
    """
    What speaks against moving the service to ``target`` now: a list of sentences, empty when it may move.

    DRBD is read on both nodes: an agent calls a standby whose disk is Inconsistent 'stdby up' (agent 3) or is stopped by a resync (agent 2.1).
    """
    red = []
    for node in site.nodes:
        drbd = site.drbd(node)
        if drbd is None:
            red.append(
                f"DRBD resource {site.shape['fqdn']} cannot be read on {node}: drbdadm status"
            )
            continue
        for volume, disk in drbd["disk"].items():
            if disk["disk"] != "UpToDate":
                red.append(
                    f"volume {volume} on {node} is {disk['disk']}, not UpToDate: wait for the resync, salt {site.minion(node)} drbd.status"
                )
        if not drbd["connections"]:
            red.append(f"{node} has no DRBD connection: drbdadm adjust {site.shape['fqdn']}")
        for peer, connection in drbd["connections"].items():
            if connection["state"] != "Connected":
                red.append(f"{node} is {connection['state']} to {peer}: see the replication link")
    cluster = site.cluster()
    for node in site.nodes:
        known = cluster["nodes"].get(node)
        if not known:
            red.append(f"the agent does not see {node}: om mon")
        elif known["frozen"]:
            red.append(f"node {node} is frozen: om node thaw --node {node}")
        instance = site.instance(node)
        if "failed" in (instance.get("state") or ""):
            red.append(
                f"the instance on {node} is '{instance['state']}': find out why, then om {site.shape['path']} clear"
            )
        if instance.get("frozen"):
            red.append(f"the instance on {node} is frozen: om {site.shape['path']} thaw")
    for name, heartbeat in cluster["heartbeats"].items():
        for peer, state in heartbeat["peers"].items():
            if state.get("beating") is False:
                red.append(f"heartbeat {name} does not hear {peer}: om mon")
    overall = site.instance(target).get("avail")
    if overall not in ("stdby up", "up"):
        red.append(
            f"the standby on {target} is {overall!r}, not 'stdby up': om {site.shape['path']} print status -r"
        )
    return red


# --- The steps ------------------------------------------------------------------------------------------------------------------------------------
# Each has a test on the world (`done`) and an act. An act's states read again what they changed, so an act that returns has happened.


def _beating(site):
    """Both nodes are members and each hears the other on every heartbeat."""
    for node in site.nodes:
        status = site.facts[node]["cluster"]
        if (
            "error" in status
            or set(status["cluster"]["nodes"]) != set(site.nodes)
            or status["cluster"]["name"] != site.shape["cluster"]["name"]
        ):
            return False
        if set(status["heartbeats"]) < set(site.shape["cluster"]["heartbeats"]):
            return False
        other = next(name for name in site.nodes if name != node)
        if not all(
            heartbeat["peers"].get(other, {}).get("beating")
            for heartbeat in status["heartbeats"].values()
        ):
            return False
    return True


def _based(site):
    return _provisioned(site) and all(
        "error" not in site.facts[node]["cluster"] for node in site.nodes
    )


def _base(site):
    site.states(site.nodes, "state.sls", "slapos_ha.base")
    # Minutes of work that nothing waits for before the step `software`: there the states find it done, wait for it, or do it again and say why not.
    site.begin(site.nodes, "slapos_node.environments")
    site.notes.append("agent and DRBD are ready; re6st and SlapOS are being installed")


def _cluster(site):
    site.states([site.first], "state.sls", "slapos_ha.cluster")
    key = site.call([site.second], "slapos_ha.public_key")[site.second]
    sealed = site.call([site.first], "slapos_ha.sealed_cluster_secret", key)[site.first]
    site.states(
        [site.second], "state.sls", "slapos_ha.cluster", pillar={"slapos_ha_sealed": sealed}
    )
    site.notes.append(f"{site.second} joined {site.first}")


def _service(site):
    site.states([site.first], "state.sls", "slapos_ha.service")


def _disks_ready(site):
    return all(
        site.drbd(node)
        and any(c["state"] == "Connected" for c in site.drbd(node)["connections"].values())
        for node in site.nodes
    ) or (_provisioned(site))


def _storage(site):
    site.states(site.nodes, "state.sls", "slapos_ha.storage")


def _in_sync(site):
    return all(
        site.drbd(node)
        and all(volume["disk"] == "UpToDate" for volume in site.drbd(node)["disk"].values())
        and all(
            v["disk"] == "UpToDate"
            for c in site.drbd(node)["connections"].values()
            for v in c["volumes"].values()
        )
        for node in site.nodes
    ) or bool(_provisioned(site) and site.enabled("app#0"))


def _sync(site):
    site.states([site.first], "state.sls", "slapos_ha.sync")


def _provisioned(site):
    service = site.service()
    return bool(service) and service["provisioned"] is True and site.active() is not None


def _provision(site):
    if all(site.drbd(node) and site.drbd(node)["role"] == "Secondary" for node in site.nodes):
        site.states([site.first], "state.sls", "slapos_ha.sync")
    if any("failed" in (site.instance(node).get("state") or "") for node in site.nodes):
        # An earlier run failed here. Nothing is lost by trying again: what is there is kept, and what was wrong fails again.
        site.single(site.first, "opensvc.cleared", site.shape["path"])
    site.sls(site.first, "slapos_ha.provision")


def _move(target):
    def act(site):
        node = getattr(site, target)
        site.look()
        if site.active() == node:
            site.notes.append(f"already on {node}")
            return
        red = _gates(site, node)
        if red:
            raise _Stop(f"the service is not moved to {node}:\n" + "\n".join(red))
        site.single(
            node,
            "opensvc.placed",
            site.shape["path"],
            node=node,
            timeout=site.shape["timeouts"]["switch"],
        )

    return act


def _registered(kind):
    def done(site):
        return site.enabled("app#0" if kind == "re6st" else "app#1") or any(
            site.facts[node][kind].get("registered") for node in site.nodes
        )

    return done


def _first_install(kind):
    def act(site):
        site.states([site.first], "state.sls", f"slapos_ha.{kind}.registered")

    return act


def _second_install(kind):
    def act(site):
        site.sls(site.second, f"slapos_ha.{kind}.enabled")

    return act


def _tasks(site):
    site.single(site.first, "opensvc.enabled", site.shape["path"], rids=site.tasks())


def _verify(site):
    """The last word: both nodes, asked once more."""
    path = site.shape["path"]
    site.single(site.first, "opensvc.healthy", path, timeout=site.shape["timeouts"]["start"])
    site.look()
    wrong = _unhealthy(site)
    if wrong:
        raise _Stop("\n".join(wrong), f"salt-run slapos_ha.status; om {path} print status -r")
    active = site.active()
    site.notes.append(
        f"{path} is up on {active}, standby on {next(n for n in site.nodes if n != active)}, UpToDate on both"
    )
    if active != site.first:
        site.notes.append(
            f"not on the preferred node {site.first}; move it when you like: om {path} giveback"
        )


def _unhealthy(site):
    """What is not as a deployed site should be, as sentences."""
    wrong = []
    active = site.active()
    if active is None:
        wrong.append(f"the filesystem {site.shape['mount']} is mounted on neither node")
    mounted = [node for node in site.nodes if site.facts[node]["mounted"]]
    if len(mounted) > 1:
        wrong.append(
            f"the filesystem is mounted on {' and '.join(mounted)}: stop one at once, then look for a split brain"
        )
    if not _beating(site):
        wrong.append("the nodes do not hear each other on every heartbeat: om mon")
    for node in site.nodes:
        drbd = site.drbd(node)
        for volume, disk in (drbd or {"disk": {0: {"disk": "unreadable"}}})["disk"].items():
            if disk["disk"] != "UpToDate":
                wrong.append(f"DRBD volume {volume} on {node} is {disk['disk']}")
        avail = site.instance(node).get("avail")
        if avail != ("up" if node == active else "stdby up"):
            wrong.append(f"the instance on {node} is {avail!r}")
    for rid in ["app#0", "app#1", *site.tasks()]:
        if not site.enabled(rid):
            wrong.append(f"{rid} is disabled")
    for rid in ("app#0", "app#1"):
        if site.enabled(rid) and site.resource(rid).get("status") != "up":
            wrong.append(
                f"{rid} is {site.resource(rid).get('status')!r}: {'; '.join(site.resource(rid).get('log') or [])}"
            )
    return wrong


def _second_done(rid):
    return lambda site: site.enabled(rid)


def _back_done(rid):
    # The next thing enabled proves that the service was brought back; until then it has to be on the first node.
    return lambda site: site.enabled(rid) or (
        site.active() == site.first and site.enabled({"app#1": "app#0"}.get(rid, "app#1"))
    )


# name, what a person reads, done(site) or None (always runs), act(site)
_STEPS = (
    (
        "base",
        "agent and DRBD are ready on both nodes",
        _based,
        _base,
    ),
    (
        "cluster",
        "both nodes are one cluster and hear each other on every heartbeat",
        _beating,
        _cluster,
    ),
    (
        "service",
        "the service is defined, with its launchers",
        lambda site: site.service() is not None,
        _service,
    ),
    ("storage", "disks and DRBD are there on both nodes and connected", _disks_ready, _storage),
    ("sync", "DRBD is UpToDate on both nodes", _in_sync, _sync),
    ("provision", "the service is provisioned, and up on the first node", _provisioned, _provision),
    (
        "software",
        "what is local is installed and configured on both nodes",
        None,
        lambda site: site.states(site.nodes, "state.sls", "slapos_ha"),
    ),
    (
        "re6st_first",
        "re6st is registered, once, on the first node",
        _registered("re6st"),
        _first_install("re6st"),
    ),
    (
        "re6st_switch",
        "the service moves to the second node",
        _second_done("app#0"),
        _move("second"),
    ),
    (
        "re6st_second",
        "re6st runs on the second node, app#0 is enabled and up",
        _second_done("app#0"),
        _second_install("re6st"),
    ),
    ("re6st_back", "the service moves back, with re6st", _back_done("app#1"), _move("first")),
    (
        "slapos_first",
        "SlapOS is registered, formatted and booted on the first node",
        _registered("slapos"),
        _first_install("slapos"),
    ),
    (
        "slapos_switch",
        "the service moves to the second node",
        _second_done("app#1"),
        _move("second"),
    ),
    (
        "slapos_second",
        "SlapOS runs on the second node, app#1 is enabled and up",
        _second_done("app#1"),
        _second_install("slapos"),
    ),
    (
        "slapos_back",
        "the service moves back, with SlapOS",
        lambda site: all(map(site.enabled, site.tasks()))
        or site.active() == site.first
        and site.enabled("app#1"),
        _move("first"),
    ),
    (
        "tasks",
        "the five tasks are enabled",
        lambda site: all(map(site.enabled, site.tasks())),
        _tasks,
    ),
    ("verify", "the service is up and its standby healthy, as seen from both nodes", None, _verify),
)


def _plan(site):
    """[{step, what, done}] as of the last snapshot."""
    return [
        {"step": name, "what": what, "done": bool(done and done(site))}
        for name, what, done, _ in _STEPS
    ]


def _client():
    return salt.client.get_local_client(__opts__["conf_file"])


def _open(site, preflight=False):
    client = _client()
    facts, problems = _snapshot(client, site, preflight)
    if problems:
        raise _Stop("\n".join(problems), "Nothing was changed.")
    return _Site(client, next(iter(facts.values()))["shape"], facts)


def _event(site, step, phase, **data):
    with salt.utils.event.get_master_event(__opts__, __opts__["sock_dir"], listen=False) as bus:
        bus.fire_event(
            {"step": step, "phase": phase, **data}, f"slapos_ha/{site}/deploy/{step}/{phase}"
        )


def step(name, site=None, shape=None):
    """
    Do one step of the deployment; the orchestration calls this for each.

    CLI Example:

    .. code-block:: bash

        salt-run slapos_ha.step preflight

    name
        ``preflight``, or the name of a step as :py:func:`plan` lists them (str).
    site
        The site's name (str); needed when this master has several.
    shape
        The site's names and settings (dict) as the step ``preflight`` returned them. Without it the nodes are asked for them first. What a step
        decides on is asked by the step itself in either case.

    Returns ``{"result": bool, "comment": str, "changes": dict, "plan": [...], "shape": dict, "agent_seconds": float}``; a failure is a result,
    nothing is raised.
    """
    known = {step_name: (what, act) for step_name, what, _, act in _STEPS}
    if name != "preflight" and name not in known:
        return {
            "result": False,
            "comment": f"there is no step {name!r}; the steps: preflight, {', '.join(known)}",
            "changes": {},
            "plan": [],
        }
    here = None
    try:
        here = (
            _Site(_client(), shape)
            if shape and name != "preflight"
            else _open(site, preflight=name == "preflight")
        )
        if name == "preflight":
            return {
                "result": True,
                "comment": _preflight_report(here),
                "changes": {},
                "plan": _plan(here),
                "shape": here.shape,
                "agent_seconds": 0.0,
            }
        _event(here.shape["site"], name, "begin", what=known[name][0])
        known[name][1](here)
    except _Stop as stop:
        comment = f"{stop}\n{stop.remedy}"
        _event(here.shape["site"] if here else site or "-", name, "failed", comment=comment)
        return {
            "result": False,
            "comment": comment,
            "changes": here.changes if here else {},
            "plan": [],
            "agent_seconds": here.agent_seconds if here else 0.0,
        }
    comment = "; ".join(here.notes) or known[name][0]
    _event(here.shape["site"], name, "done", comment=comment)
    return {
        "result": True,
        "comment": comment,
        "changes": here.changes,
        "plan": [],
        "agent_seconds": round(here.agent_seconds, 1),
    }


def _preflight_report(here):
    said = [
        f"site {here.shape['site']}: {here.first} (preferred) and {here.second}, service {here.shape['path']}"
    ]
    for node in here.nodes:
        facts = here.facts[node]
        modules = facts["drbd"]["version"]
        said.append(
            f"{node}: agent {facts['agent'].get('version', 'to be installed')}, DRBD {modules.get('module_loaded') or modules.get('module_available')}"
            + (", filesystem mounted" if facts["mounted"] else "")
        )
    return "\n".join(said)


# --- Tables for people --------------------------------------------------------------------------------------------------------------------------


def _text(*renderables):
    from rich.console import Console

    out = io.StringIO()
    console = Console(file=out, width=110, force_terminal=False)
    for renderable in renderables:
        console.print(renderable)
    return out.getvalue().rstrip()


def _table(title, columns, rows):
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    return table


def _answer(title, text, good):
    # An orchestration sees __context__, the shell sees retcode in data: both are needed (Salt 3006 to 3008, cli/run.py), and exactly these two
    # keys make salt-run print the text as it is.
    data = {title: text}
    if not good:
        __context__["retcode"] = data["retcode"] = 1
    return {"data": data, "outputter": "nested"}


def plan(site=None):
    """
    Print what ``orch.deploy`` would do now. Changes nothing.

    CLI Example:

    .. code-block:: bash

        salt-run slapos_ha.plan
        salt-run slapos_ha.plan site=paris

    site
        The site's name (str); needed when this master has several.

    Returns a table of the steps, each done or to do; exit code 1 and every problem with its remedy when the preflight is red.
    """
    try:
        here = _open(site, preflight=True)
    except _Stop as stop:
        return _answer("problems", f"{stop}\n{stop.remedy}", False)
    rows = [
        (
            number,
            step_["step"],
            "done"
            if step_["done"]
            else ("always" if step_["step"] in ("software", "verify") else "to do"),
            step_["what"],
        )
        for number, step_ in enumerate(_plan(here), 1)
    ]
    return _answer(
        here.shape["site"],
        _text(
            _table(
                f"Plan of site {here.shape['site']} ({here.first}, {here.second})",
                ("", "step", "", "what is so afterwards"),
                rows,
            )
        ),
        True,
    )


def status(site=None):
    """
    Print how a site is: cluster, service, DRBD and applications, from both nodes.

    CLI Example:

    .. code-block:: bash

        salt-run slapos_ha.status
        salt-run slapos_ha.status site=paris

    site
        The site's name (str); needed when this master has several.

    Returns tables, and below them what is wrong; exit code 1 when anything is.
    """
    try:
        here = _open(site)
    except _Stop as stop:
        return _answer("problems", f"{stop}\n{stop.remedy}", False)
    cluster, active = here.cluster(), here.active()
    nodes = []
    for node in here.nodes:
        facts, instance, drbd = here.facts[node], here.instance(node), here.drbd(node)
        disk = "/".join(volume["disk"] for volume in drbd["disk"].values()) if drbd else "-"
        link = (
            ", ".join(connection["state"] for connection in drbd["connections"].values())
            if drbd
            else "-"
        )
        nodes.append(
            (
                node + (" (preferred)" if node == here.first else ""),
                (cluster["nodes"].get(node) or {}).get("state", "unknown"),
                instance.get("avail", "-"),
                (drbd or {}).get("role", "-"),
                disk,
                link,
                "mounted" if facts["mounted"] else "",
                facts["agent"].get("version", "-"),
            )
        )
    beats = [
        (name, peer, "beating" if state.get("beating") else "silent")
        for name, heartbeat in sorted(cluster["heartbeats"].items())
        for peer, state in sorted(heartbeat["peers"].items())
        if "beating" in state
    ]
    resources = []
    for rid in sorted(here.instance(active or here.first).get("resources", {})):
        cells = [here.instance(node).get("resources", {}).get(rid, {}) for node in here.nodes]
        resources.append(
            (
                rid,
                cells[0].get("type") or cells[1].get("type", ""),
                *(
                    f"{cell.get('status', '-')}{' (disabled)' if cell.get('disable') else ''}"
                    for cell in cells
                ),
            )
        )
    wrong = _unhealthy(here)
    return _answer(
        here.shape["site"],
        _text(
            _table(
                f"Site {here.shape['site']}: {here.shape['path']} on cluster {cluster['cluster']['name']}",
                ("node", "state", "service", "DRBD", "disk", "link", "data", "agent"),
                nodes,
            ),
            _table("Heartbeats", ("heartbeat", "peer", ""), beats),
            _table("Resources", ("resource", "type", *here.nodes), resources),
            "All is well."
            if not wrong
            else "Not well:\n" + "\n".join(f"- {sentence}" for sentence in wrong),
        ),
        not wrong,
    )
