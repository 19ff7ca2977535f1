"""
The sequencing of a teardown: a site is taken off its two nodes, resource by resource. Part of the runner ``slapos_ha``, see there.

``orch/teardown.sls`` is a list of the steps below, one state each. What is still there, and what is somebody else's, each node says itself
(``slapos_node.remains``); what is done to a node is done by the states of ``slapos_ha/removed``. The data stays unless the service's name is given.
"""

# Another file of the runner slapos_ha: the loader adds its functions to those of slapos_ha.py.
__virtualname__ = "slapos_ha"


def __virtual__():
    return __virtualname__


def _stop(*args):
    return __utils__["slapos_site.stop"](*args)


# --- What is left ---------------------------------------------------------------------------------------------------------------------------------


def _remains(site, destroy, concern=None):
    """{node: what slapos_node.remains says}; a node that cannot say it all stops the step."""
    found, problems = site.call(site.nodes, "slapos_node.remains", concern, destroy), []
    for node, answer in found.items():
        if isinstance(answer, dict):
            problems += [f"{node}: {problem}" for problem in answer["problems"]]
        else:
            problems.append(f"{node}: {str(answer).strip().splitlines()[-1:]}")
    if problems:
        raise _stop(
            "\n".join(problems),
            "What cannot be asked is not removed. Correct it and run the orchestration again; if it says 'not available': salt '*' saltutil.sync_all",
        )
    return found


def _items(found, concern=None, stays=None):
    """[(node, item)] of all nodes; ``stays`` picks those that stay (True) or go (False)."""
    return [
        (node, line)
        for node, answer in found.items()
        for line in answer["items"]
        if concern in (None, line["concern"]) and stays in (None, bool(line["stays"]))
    ]


def _said(items):
    """Items as lines, those of one kind and node together: "demo1: user slapuser1, slapuser0"."""
    together = {}
    for node, line in items:
        together.setdefault((node, line["kind"], line["stays"]), []).append(line["name"])
    return [
        f"{node}: {kind} {', '.join(names)}" + (f" stays: {stays}" if stays else "")
        for (node, kind, stays), names in together.items()
    ]


def _refuse(site, found):
    """Why nothing is begun: another's service, or two agents that do not hear each other."""
    services = [(node, line) for node, line in _items(found, "service")]
    for node, line in services:
        if line["kind"] == "service" and line["stays"]:
            raise _stop(
                f"{node}: {line['what']} stays: {line['stays']}",
                "Correct slapos_ha:service in the pillar, or remove that service by hand. Nothing was changed.",
            )
    members = {node.lower() for node in site.nodes}
    for node, answer in found.items():
        silent = sorted(members - set(answer["sees"]))
        if services and silent:
            raise _stop(
                f"the agent of {node} does not hear {', '.join(silent)}: what is removed on one node would come back from the other",
                f"See: om mon on {node}. Start the agents and mend the heartbeats, then run it again. Nothing was changed.",
            )


# --- The steps ------------------------------------------------------------------------------------------------------------------------------------


def _sls(site, on, name, destroy=None):
    """Run an SLS of slapos_ha.removed on nodes, and note what its states say stays."""
    given = {"pillar": {"slapos_ha_destroy_data": destroy}} if destroy else {}
    answers = site.states(on, "state.sls", f"slapos_ha.removed.{name}", **given)
    for node, states in answers.items():
        for tag, state in states.items():
            if tag.startswith("slapos_node_|") and " stays: " in state.get("comment", ""):
                site.notes.append(f"{node}: {state['comment']}")


def _one_by_one(name, order):
    def act(site, _destroy):
        # What the first has done for the cluster the second only has to see.
        for node in order(site):
            _sls(site, [node], name)

    return act


def _at_once(name):
    def act(site, destroy):
        _sls(site, site.nodes, name, destroy)

    return act


def _verify(site, destroy):
    """The last word: both nodes, asked once more."""
    found = _remains(site, destroy)
    left = _said(_items(found, stays=False))
    if left:
        raise _stop("this is still there:\n" + "\n".join(left))
    staying = _said(_items(found, stays=True))
    site.notes += [*staying, _nothing(site, staying), *_where(site, found, destroy), _outside(site)]


def _nothing(site, staying):
    return f"nothing {'else ' if staying else ''}of site {site.shape['site']} is left on {' and '.join(site.nodes)}"


def _where(site, found, destroy):
    """Where the data is that was kept, and how to look at it or be rid of it."""
    shape, kinds = site.shape, {}
    for _, line in _items(found, "data", True):
        kinds.setdefault(line["kind"], line["name"])
    places = [kinds[kind] for kind in ("loop file", "logical volume") if kind in kinds]
    if destroy or not places:
        return []
    steps = [f"drbdadm up {shape['fqdn']}", f"drbdadm primary {shape['fqdn']}"]
    steps.append(f"mount /dev/drbd{shape['drbd']['minor']} /mnt")
    if "loop file" in kinds and "loop device" not in kinds:
        steps[:0] = [
            f"losetup --find {kinds['loop file']}",
            f"vgchange -ay {shape['storage']['group']}",
        ]
    word = f"""pillar='{{"slapos_ha": {{"destroy_data": "{shape["service"]["name"]}"}}}}'"""
    return [
        f"the data of {shape['path']} is kept in {', '.join(places)} on {' and '.join(site.nodes)}. To look at it, on one of them: {'; '.join(steps)}. "
        f"To remove it: salt-run state.orch orch.teardown {word}"
    ]


def _outside(site):
    shape = site.shape
    return (
        f"packages stay installed; the certificate at {shape['re6st']['registry']} and computer {shape['slapos']['computer_name']} at "
        f"{shape['slapos']['web_master_url']} are not revoked: a new deployment needs a new re6st token, and another computer_name unless that computer is "
        "revoked"
    )


# name, concern, what a person reads, act(site, destroy_data)
_STEPS = (
    ("stopped", "mounts", "the service is stopped and unmounted on both nodes", _one_by_one("stopped", lambda site: site.nodes)),
    ("service", "service", "the service is out of the agent", _one_by_one("service", lambda site: site.nodes)),
    ("drbd", "drbd", "DRBD is down on both nodes", _at_once("drbd")),
    ("data", "data", "the data is gone from both nodes", _at_once("data")),
    ("units", "units", "units, cron and LVM are as without a site", _at_once("units")),
    ("software", "software", "re6st's and SlapOS's environments and folders are gone", _at_once("software")),
    ("users", "users", "SlapOS's users are gone", _at_once("users")),
    # The second leaves the first; then the first is alone, and forgets the cluster.
    ("cluster", "cluster", "the nodes are no cluster any more", _one_by_one("cluster", lambda site: site.nodes[::-1])),
    ("verify", None, "nothing of the site is left, as both nodes say", _verify),
)  # fmt: skip


def _plan(found, destroy):
    """[{step, what, done, always}], with what would go in ``what``."""
    plan = []
    for name, concern, what, _ in _STEPS:
        going = _items(found, concern, False) if concern else []
        if name == "stopped":
            going += [one for one in _items(found, "service", False) if one[1]["kind"] == "service"]
        if name == "data" and not destroy:
            what = "the data is kept"
        if going:
            what = f"{what} ({'; '.join(_said(going))})"
        done = bool(concern and not going)
        plan.append({"step": name, "what": what, "done": done, "always": concern is None})
    return plan


def _preflight(site, destroy):
    """What would be done, said to a person, and the plan; raises when nothing can be begun."""
    name = site.shape["service"]["name"]
    if destroy is not None and destroy != name:
        raise _stop(
            f"slapos_ha:destroy_data: {destroy!r} is not the name of this site's service, {name!r}",
            "Give that name to have its data removed, or leave the key out to keep it. Nothing was changed.",
        )
    found = _remains(site, destroy)
    _refuse(site, found)
    going, staying = _said(_items(found, stays=False)), _said(_items(found, stays=True))
    said = [
        f"site {site.shape['site']}: {' and '.join(site.nodes)}, service {site.shape['path']}, its data {'INCLUDED' if destroy else 'kept'}",
        *(f"goes: {line}" for line in going),
        *staying,
    ]
    if not going:
        said.append(_nothing(site, staying))
    return "\n".join(said), _plan(found, destroy)


def teardown_step(name, site=None, shape=None, lock=None, destroy_data=None):
    """
    Do one step of the teardown; the orchestration calls this for each.

    CLI Example:

    .. code-block:: bash

        salt-run slapos_ha.teardown_step preflight

    name
        preflight, stopped, service, drbd, data, units, software, users, cluster or verify (str).
    site
        The site's name (str); needed when this master has several.
    shape
        The site's names and settings (dict) as the step ``preflight`` returned them. Without it the nodes are asked for them first.
    lock
        The id (str) of the site's lock, which the calling orchestration holds. Without it the step has to get the lock for itself; the preflight needs none.
    destroy_data
        The name of the service (str): its data goes. Without it the data stays where it is.

    Returns ``{"result": bool, "comment": str, "changes": dict, "plan": [...], "shape": dict, "agent_seconds": float}``; a failure is a result,
    nothing is raised.
    """
    steps = __utils__["slapos_site_step.steps"](__opts__, __utils__, "teardown")
    known = {
        step: (what, lambda here, act=act: act(here, destroy_data)) for step, _, what, act in _STEPS
    }
    return steps.call(
        name,
        known,
        lambda: steps.site(name, shape, site),
        lambda here: _preflight(here, destroy_data),
        site,
        lock,
    )
