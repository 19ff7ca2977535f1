"""
The sequencing of a SlapOS HA site: what is to be done, in which order, and whether it was.

``orch/deploy.sls`` is a list of the steps below, one state each; :py:func:`plan` prints what it would do and :py:func:`status` how the site is.
Decisions are made here from one snapshot of both nodes (``slapos_ha.facts``); what is done to a node is done by states on that node.

Run ``salt-run saltutil.sync_all`` after each change of the formula: orchestrations use the master's own copy.
"""

from salt.exceptions import CommandExecutionError

# A launcher's status of what does not run and has left nothing.
_DOWN = 1
# Seconds after which a heartbeat that is not heard will not be by itself: agents that start hear each other sooner.
_CUT = 60

# --- The steps ------------------------------------------------------------------------------------------------------------------------------------
# Each has a test on the world (`done`) and an act. An act's states read again what they changed, so an act that returns has happened.


def _stop(*args):
    return __utils__["slapos_site.stop"](*args)


def _wrong(site):
    """What is not well, the connection between both nodes first: it is the cause of much else."""
    compare = __utils__["drbd_parse.split_brain"]
    return [
        *__utils__["slapos_site_split.sentences"](site, compare),
        *__utils__["slapos_site_gates.unhealthy"](site),
    ]


def _beating(site):
    return __utils__["slapos_site_gates.beating"](site)


def _based(site):
    return _provisioned(site) and all(
        "error" not in site.facts[node]["cluster"] for node in site.nodes
    )


def _base(site):
    site.states(site.nodes, "state.sls", "slapos_ha.base")
    # Minutes of work beside the next steps. `software` wants re6st's and `slapos_first` SlapOS's: there the states find it done, wait for it, or do it again and say why not.
    site.begin(site.nodes, "slapos_node.environments")
    site.notes.append("agent and DRBD are ready; re6st and SlapOS are being installed")


def _clustered(site):
    return _beating(site) and not any(site.facts[node].get("unset") for node in site.nodes)


def _cluster(site):
    site.states([site.first], "state.sls", "slapos_ha.cluster")
    key = site.public_key(site.second)
    sealed = site.call([site.first], "opensvc.sealed_join_secret", key)[site.first]
    site.states(
        [site.second], "state.sls", "slapos_ha.cluster", pillar={"slapos_ha_sealed": sealed}
    )
    site.notes.append(f"{site.second} is in the cluster of {site.first}")


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


def _up_to_date(site):
    return all(
        site.drbd(node)
        and all(volume["disk"] == "UpToDate" for volume in site.drbd(node)["disk"].values())
        and all(
            v["disk"] == "UpToDate"
            for c in site.drbd(node)["connections"].values()
            for v in c["volumes"].values()
        )
        for node in site.nodes
    )


def _in_sync(site):
    return _up_to_date(site) or bool(_provisioned(site) and site.enabled("app#0"))


def _sync(site):
    site.states([site.first], "state.sls", "slapos_ha.sync")


def _provisioned(site):
    service = site.service()
    return bool(service) and service["provisioned"] is True and site.active() is not None


def _at_first(site):
    """Provisioned, and where re6st is registered next; the agents may have moved it when a run died before that. Nothing is left of a provision that failed."""
    return (
        _provisioned(site)
        and not any(_unfinished(site, node) for node in site.nodes)
        and (site.active() == site.first or _registered("re6st")(site))
    )


def _unfinished(site, node):
    """A provision that failed on a node, or what is up there after one that did."""
    failed = site.instance(node).get("state") == "provision failed"
    return failed or __utils__["opensvc_goal.left_up"](site.service(), node)


def _provision(site):
    if any("failed" in (site.instance(node).get("state") or "") for node in site.nodes):
        # An earlier run failed here. Nothing is lost by trying again: what is there is kept, and what was wrong fails again.
        site.single(site.first, "opensvc.cleared", site.shape["path"])
    if _provisioned(site):
        for node in site.nodes:
            if __utils__["opensvc_goal.left_up"](site.service(), node):
                site.single(node, "opensvc.standby", site.shape["path"])
        if not _registered("re6st")(site):
            _move("first")(site)
        return
    if all(site.drbd(node) and site.drbd(node)["role"] == "Secondary" for node in site.nodes):
        site.states([site.first], "state.sls", "slapos_ha.sync")
    site.sls(site.first, "slapos_ha.provision")


def _move(target):
    def act(site):
        node = getattr(site, target)
        site.look(applications=False)
        if site.active() == node:
            site.notes.append(f"already on {node}")
            return
        red = __utils__["slapos_site_gates.gates"](site, node)
        closed, site.forced = __utils__["slapos_site_gates.closed"](red, site.force)
        if closed:
            text, remedy = closed
            raise _stop(f"the service is not moved to {node}:\n{text}", remedy)
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
        if site.enabled("app#0" if kind == "re6st" else "app#1"):
            return True
        # A run may have died between SlapOS's registration and its first run, or before what ran was stopped: the filesystem could not leave that node.
        return any(
            one.get("registered")
            and one.get("ran", True)
            and (one.get("health") or {}).get("code") == _DOWN
            for one in (site.facts[node][kind] for node in site.nodes)
        )

    return done


def _re6st_first(site):
    site.states([site.first], "state.sls", "slapos_ha.re6st.registered")


def _slapos_first(site):
    site.states(site.nodes, "state.sls", "slapos_ha.slapos.registered")


def _second_install(kind):
    def act(site):
        site.sls(site.second, f"slapos_ha.{kind}.enabled")

    return act


def _tasks(site):
    site.single(site.first, "opensvc.enabled", site.shape["path"], rids=site.tasks())


def _wait_until_well(site):
    """
    Wait for what may be on its way: an agent that comes back, DRBD's resync, the service. A link that is cut is known after a minute; waiting for the
    agents' view of the service would take ten to find it, and end in the middle of a resync.
    """
    timeouts = site.shape["timeouts"]
    if not _beating(site):
        site.call([site.first], "opensvc.wait_member", site.second, timeout=_CUT)
        site.look(applications=False)
        if not _beating(site):
            return
    if not _up_to_date(site):
        site.single(site.first, "drbd.synced", site.shape["fqdn"], timeout=timeouts["sync"])
    # Of a warning that is over: by itself an agent looks again after ten minutes (2.1).
    site.call(site.nodes, "opensvc.refresh", site.shape["path"])
    site.single(site.first, "opensvc.healthy", site.shape["path"], timeout=timeouts["start"])


def _verify(site):
    """The last word: both nodes, asked once more, and waited for when something is still on its way."""
    path = site.shape["path"]
    site.look()
    seen = __utils__["opensvc_goal.verdict"]("healthy", site.service(), nodes=site.nodes)
    if _wrong(site) or not seen["done"]:
        _wait_until_well(site)
        site.look()
    wrong = _wrong(site)
    if wrong:
        raise _stop("\n".join(wrong), f"salt-run slapos_ha.status; om {path} print status -r")
    active = site.active()
    site.notes.append(
        f"{path} is up on {active}, standby on {next(n for n in site.nodes if n != active)}, UpToDate on both"
    )
    if active != site.first:
        site.notes.append(
            f"not on the preferred node {site.first}; move it when you like: om {path} giveback"
        )


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
        _clustered,
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
    ("provision", "the service is provisioned, and up on the first node", _at_first, _provision),
    (
        "software",
        "what is local is installed and configured on both nodes",
        None,
        lambda site: site.states(site.nodes, "state.sls", "slapos_ha.software"),
    ),
    (
        "re6st_first",
        "re6st is registered, once, on the first node",
        _registered("re6st"),
        _re6st_first,
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
        _slapos_first,
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
    """[{step, what, done, always}] as of the last snapshot."""
    return [
        {"step": name, "what": what, "done": bool(done and done(site)), "always": done is None}
        for name, what, done, _ in _STEPS
    ]


def _open(site, preflight=False, force=()):
    return __utils__["slapos_site.open"](__opts__, site, preflight, force)


def _steps():
    return __utils__["slapos_site_step.steps"](__opts__, __utils__, "deploy")


def _in_use(site):
    return _steps().in_use(site)


def _obstacles(error, site):
    return _steps().obstacles(__utils__["slapos_site.told"](error), site)


def step(name, site=None, shape=None, lock=None, force=None):
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
    lock
        The id (str) of the site's lock, which the calling orchestration holds. Without it the step has to get the lock for itself; the preflight needs none.
    force
        Gates (list of str) that do not stop a move when they are red, each by its name: drbd_source, heartbeats, standby, tasks, versions, ids. The gates
        drbd_connected, drbd_target, drbd_sync, agents, frozen and failed cannot be forced.

    Returns ``{"result": bool, "comment": str, "changes": dict, "plan": [...], "shape": dict, "agent_seconds": float}``; a failure is a result,
    nothing is raised.
    """
    steps = _steps()

    def here():
        wrong = __utils__["slapos_site_gates.unforceable"](force or [])
        if wrong:
            raise _stop("\n".join(wrong), "Nothing was changed.")
        found = steps.site(name, shape, site, name == "preflight", force or [])
        found.force = force or []
        return found

    known = {step_name: (what, act) for step_name, what, _, act in _STEPS}
    return steps.call(
        name, known, here, lambda found: (_preflight_report(found), _plan(found)), site, lock
    )


def _preflight_report(here):
    gates = [("versions", sentence) for sentence in here.versions_apart()]
    _, forced = __utils__["slapos_site_gates.closed"](gates, here.force)
    said = [
        *forced,
        *here.unverified(),
        f"site {here.shape['site']}: {here.first} (preferred) and {here.second}, service {here.shape['path']}",
    ]
    for node in here.nodes:
        facts = here.facts[node]
        modules = facts["drbd"]["version"]
        said.append(
            f"{node}: agent {facts['agent'].get('version', 'to be installed')}, DRBD {modules.get('module_loaded') or modules.get('module_available')}"
            + (", filesystem mounted" if facts["mounted"] else "")
            + (", given modules of the formula that it lacked" if facts.get("synced") else "")
        )
    return "\n".join(said)


def judged(sites):
    """
    Say of sites that were heard already what ``orch.deploy`` would do there, and what is not well.

    CLI Example:

    .. code-block:: bash

        salt-run slapos_ha.judged '{}'

    sites
        ``{site: {node: facts}}`` (dict) with what ``slapos_ha.facts`` returned on both nodes of each.

    Returns ``{site: {"plan": [{"step": str, "what": str, "done": bool, "always": bool}], "wrong": [str]}}``. Nothing is raised.
    """
    found = {}
    for name, here in __utils__["slapos_site.heard"](__opts__, sites).items():
        try:
            found[name] = {"plan": _plan(here), "wrong": _wrong(here)}
        except CommandExecutionError as error:
            found[name] = {"plan": [], "wrong": [str(error)]}
    return found


def rollout(what="deploy", sites=None, **options):
    """
    Do one thing at many sites: what ``salt-run slapos_ha_rollout.run`` does.

    CLI Example:

    .. code-block:: bash

        salt-run slapos_ha.rollout deploy sites='paris*' canary=paris1

    what
        What is rolled out (str), see :py:func:`slapos_ha_rollout.run`.
    sites
        Names or globs (list or str) of the sites.
    options
        The other arguments of :py:func:`slapos_ha_rollout.run` (dict).

    Returns a table of the sites with what came of each; exit code 1 when any failed or was not reached.
    """
    answer = __salt__["slapos_ha_rollout.run"](what, sites, **options)
    if "retcode" in answer["data"]:
        __context__["retcode"] = 1
    return answer


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

    Returns a table of the steps, each done or to do, what is not verified, and who is at work on the site; exit code 1 and every problem with its remedy when the preflight is red.
    """
    try:
        here = _open(site, preflight=True)
    except CommandExecutionError as error:
        return _answer("problems", _obstacles(error, site), False)
    remarks = [*here.unverified(), *_in_use(here.shape["site"])]
    text = __utils__["slapos_site_show.plan"](here, _plan(here), remarks)
    return _answer(here.shape["site"], text, True)


def status(site=None):
    """
    Print how a site is: cluster, service, DRBD and applications, from both nodes.

    CLI Example:

    .. code-block:: bash

        salt-run slapos_ha.status
        salt-run slapos_ha.status site=paris

    site
        The site's name (str); needed when this master has several.

    Returns tables, and below them what is not verified, who is at work on the site and what is wrong; exit code 1 when anything is wrong.
    """
    try:
        here = _open(site)
    except CommandExecutionError as error:
        return _answer("problems", _obstacles(error, site), False)
    wrong = _wrong(here)
    remarks = [*here.unverified(), *_in_use(here.shape["site"])]
    text = __utils__["slapos_site_show.status"](here, wrong, remarks)
    return _answer(here.shape["site"], text, not wrong)
