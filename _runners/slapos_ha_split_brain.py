"""
The sequencing of a recovery from a split brain: both sides are shown, and the writes of the node that was named go. Part of the runner ``slapos_ha``.

``orch/recover_split_brain.sls`` is a list of the steps below, one state each. Whose writes go is said by a person, never decided here; that it is a split
brain is proven from both nodes' generations, once more right before it is done (``drbd.connect``); a copy of the data is kept first.
"""

# Another file of the runner slapos_ha: the loader adds its functions to those of slapos_ha.py.
__virtualname__ = "slapos_ha"


def __virtual__():
    return __virtualname__


def _stop(*args):
    return __utils__["slapos_site.stop"](*args)


def _ask(site, on, function, *args, **kwargs):
    """Run a function on nodes and return {node: answer}; an answer that is an error stops the step."""
    answers = site.call(on, function, *args, **kwargs)
    wrong = [
        f"{node}: {said.strip().splitlines()[-1] if said.strip() else 'no answer'}"
        for node, said in answers.items()
        if isinstance(said, str)
    ]
    if wrong:
        raise _stop(
            "\n".join(wrong),
            "Correct it and run the orchestration again; if it says 'not available': salt '*' saltutil.sync_all",
        )
    return answers


class _Case:
    """What there is between the two nodes now, and what is wanted of them."""

    def __init__(self, site, victim, snapshot):
        self.site, self.victim, self.snapshot = site, victim, snapshot
        self.sides = _ask(site, site.nodes, "slapos_ha.split_brain_side")
        self.related = __utils__["slapos_site_split.relation"](
            {node: side["ids"] for node, side in self.sides.items()},
            site.nodes,
            __utils__["drbd_parse.split_brain"],
        )
        self.connected = __utils__["slapos_site_split.connected"](self.sides)
        # While a resync runs the generations are in between; that the nodes are connected says it all.
        self.split = self.related in ("split_brain", "unrelated") and not self.connected
        # Of a run that died: what it had done. Another's victim may have been given up for this one.
        nodes = sorted(site.nodes, key=lambda node: node != victim)
        begun = [record for node in nodes if (record := self.sides[node]["recovery"])]
        self.begun = begun[0] if begun else None

    @property
    def survivor(self):
        return next(node for node in self.site.nodes if node != self.victim)

    def same_run(self):
        """What was noted is about the data that the victim has now."""
        return bool(
            self.begun
            and self.begun["victim"] == self.victim
            and self.begun.get("generation") == self.generation()
        )

    def idle(self):
        """The victim does not use the resource."""
        side = self.sides[self.victim]
        return not side["mounted"] and side["status"]["role"] == "Secondary"

    def generation(self):
        """Of the victim's data; the last bit only says that it was Primary, and would differ after it is stopped."""
        return f"{int(self.sides[self.victim]['ids']['current'], 16) & ~1:016X}"

    def copy(self, **kwargs):
        """What slapos_ha.split_brain_copy says on the victim; None where no copy is wanted."""
        if self.snapshot is False:
            return None
        folder = self.snapshot if isinstance(self.snapshot, str) else None
        answer = _ask(
            self.site,
            [self.victim],
            "slapos_ha.split_brain_copy",
            self.generation(),
            folder=folder,
            **kwargs,
        )
        return answer[self.victim]

    def table(self):
        title = f"Site {self.site.shape['site']}: {__utils__['slapos_site_split.words'](self.site, self.related)}"
        rows = __utils__["slapos_site_split.rows"](self.site, self.sides)
        return __utils__["slapos_site_show.sides"](self.site, title, rows)

    def well(self):
        return all(__utils__["drbd_parse.in_sync"](side["status"]) for side in self.sides.values())

    def record(self, **done):
        _ask(self.site, [self.victim], "slapos_ha.split_brain_record", done)


# --- The steps ------------------------------------------------------------------------------------------------------------------------------------


def _proven(case):
    """Between two steps somebody else may have ended it, or begun another."""
    if not case.split or case.related != "split_brain":
        raise _stop(
            "this is no split brain any more: "
            + "; ".join(f"{node}: {side['summary']}" for node, side in case.sides.items()),
            "Look again: salt-run slapos_ha.status",
        )


def _stopped(case):
    """The victim's instance is stopped by its agent, which freezes it: else it would start what is stopped."""
    site, victim, path = case.site, case.victim, case.site.shape["path"]
    _proven(case)
    frozen = any(site.own(node)[1].get("frozen") for node in site.nodes)
    if not case.same_run() or "thaw" not in case.begun:
        # What a run that died while it stopped the instance has frozen is not an operator's.
        case.record(victim=victim, generation=case.generation(), copy=None, thaw=not frozen)
    if case.sides[victim]["mounted"]:
        timeout = site.shape["timeouts"]["switch"]
        _ask(site, [victim], "opensvc.stop", path, local=True, timeout=timeout)
        site.changes.setdefault(victim, {})["service"] = {"old": "up", "new": "stopped"}
        site.notes.append(f"{path} is stopped on {victim} and frozen there")
    after = _Case(site, victim, case.snapshot)
    if after.sides[victim]["mounted"]:
        raise _stop(
            f"{site.shape['mount']} is still mounted on {victim}, though its agent has stopped the service there",
            f"See what uses it: fuser -vm {site.shape['mount']}; om {path} print status -r. Then run the orchestration again.",
        )
    if not after.idle():
        _ask(site, [victim], "drbd.secondary", site.shape["fqdn"])
        site.changes.setdefault(victim, {})["role"] = {"old": "Primary", "new": "Secondary"}
        site.notes.append(f"{victim} is Secondary")


def _copied(case):
    site, victim = case.site, case.victim
    _proven(case)
    copy = case.copy()
    if copy["made"]:
        site.changes.setdefault(victim, {})["copy"] = {"old": None, "new": copy["where"]}
    case.record(victim=victim, generation=case.generation(), copy=copy)
    site.notes.append(f"{victim}: its data are kept as {copy['kind']} {copy['where']}")


def _discarded(case):
    site, victim, resource = case.site, case.victim, case.site.shape["fqdn"]
    _proven(case)
    noted = {"written": case.sides[victim]["written"], "generation": case.generation()}
    if case.snapshot is False:
        noted["copy"] = None
    case.record(victim=victim, **noted)
    _ask(site, [victim], "drbd.disconnect", resource)
    # It proves again, from its own generations and these, that this is a split brain, and that the victim is Secondary.
    _ask(
        site,
        [victim],
        "drbd.connect",
        resource,
        discard_my_data=True,
        force=True,
        peer=case.sides[case.survivor]["ids"],
    )
    _ask(site, [case.survivor], "drbd.connect", resource)
    old = f"generation {case.generation()}, {case.sides[victim]['written']} KiB of its own"
    site.changes.setdefault(victim, {})["data"] = {"old": old, "new": f"those of {case.survivor}"}
    site.notes.append(f"{victim} takes the data of {case.survivor}")


def _synced(case):
    site = case.site
    # Each waits for itself and tells how far it is: events slapos_ha/drbd/<resource>/sync. A failed handshake is StandAlone, which ends the wait at once.
    site.states(
        site.nodes,
        "state.single",
        "drbd.synced",
        name=site.shape["fqdn"],
        timeout=site.shape["timeouts"]["sync"],
    )
    site.notes.append(f"UpToDate on {' and '.join(site.nodes)}")


def _agent(case):
    site, path = case.site, case.site.shape["path"]
    if site.service() is None:
        site.notes.append(f"the agent has no {path}")
        return
    # What it says of DRBD may be minutes old: from when the nodes were apart.
    _ask(site, site.nodes, "opensvc.refresh", path)
    site.look()
    if any("failed" in (site.own(node)[1].get("state") or "") for node in site.nodes):
        site.single(site.first, "opensvc.cleared", path)
    frozen = [node for node in site.nodes if site.own(node)[1].get("frozen")]
    if not frozen:
        site.notes.append("nothing is frozen")
    elif case.begun and case.begun.get("thaw"):
        site.single(site.first, "opensvc.thawed", path)
    else:
        site.notes.append(
            f"the instance on {' and '.join(frozen)} stays frozen, as it was before: om {path} thaw"
        )


def _verify(case):
    """The last word: both nodes, asked once more, and what became of the victim's data."""
    site, path = case.site, case.site.shape["path"]
    if not case.well():
        raise _stop(
            "; ".join(f"{node}: {side['summary']}" for node, side in case.sides.items()),
            "It is not UpToDate on both nodes. See: salt-run slapos_ha.status",
        )
    service = site.service()
    if service and not any(site.own(node)[1].get("frozen") for node in site.nodes):
        site.single(site.first, "opensvc.healthy", path, timeout=site.shape["timeouts"]["start"])
        site.look()
    _ask(site, site.nodes, "slapos_ha.split_brain_over")
    site.notes += [*(_report(case.begun) if case.begun else []), _where(site)]


def _where(site):
    active = site.active()
    return (
        f"{site.shape['path']} is up on {active}"
        if active
        else f"{site.shape['path']} is up on neither node: salt-run slapos_ha.status"
    )


def _report(done):
    """What was discarded, and where it is kept."""
    victim, copy = done["victim"], done.get("copy")
    said = []
    if done.get("generation"):
        amount = done.get("written")
        said.append(
            f"discarded on {victim}: generation {done['generation']}, "
            + (
                "how much is not known"
                if amount is None
                else f"{amount} KiB written since the nodes parted"
            )
        )
    if not copy:
        said.append("NO COPY of it was made (snapshot: false)")
        return said
    if copy["kind"] == "file":
        look, remove = f"mount -o ro,loop -t ext4 {copy['where']} /mnt", f"rm {copy['where']}"
    else:
        look = f"mount -o ro -t ext4 {copy['where']} /mnt"
        remove = f"lvremove {copy['where'].removeprefix('/dev/')}"
    said.append(
        f"it is kept on {victim} as {copy['kind']} {copy['where']}. To look into it, there: {look}. To remove it, when nobody misses anything: umount /mnt; {remove}"
    )
    if copy["kind"] == "snapshot":
        said.append(f"until it is removed it makes each write on {victim} slower")
    return said


# name, what a person reads, done(case), act(case)
_STEPS = (
    ("stopped", "the victim does not use the resource", lambda case: case.idle(), _stopped),
    ("copied", "a copy of the victim's data is kept", lambda case: case.snapshot is False, _copied),
    ("discarded", "the victim's writes are discarded, and it is connected", None, _discarded),
    ("synced", "DRBD is UpToDate on both nodes", lambda case: case.well(), _synced),
    ("agent", "the agent acts on the service", None, _agent),
    ("verify", "the split brain is over, as both nodes say", None, _verify),
)
# What is there to do only as long as both nodes' data are apart.
_APART = ("stopped", "copied", "discarded")


def _plan(case):
    """[{step, what, done, always}]; of a site that is well each is done."""
    plan = []
    for name, what, done, _ in _STEPS:
        over = not case.split if name in _APART else not case.split and not case.begun
        plan.append(
            {"step": name, "what": what, "done": over or bool(done and done(case)), "always": False}
        )
    return plan


def _choose(case):
    site = case.site
    service = [node for node in site.nodes if case.sides[node]["mounted"]]
    # An example only, and never the side that works for somebody.
    example = next((node for node in site.nodes[::-1] if node not in service), site.second)
    word = f"""pillar='{{"slapos_ha": {{"victim": "{example}"}}}}'"""
    return [
        __utils__["slapos_site_split.last_primary"](site, case.sides),
        "Nothing was changed. Choose the victim, the node whose writes since the two parted are thrown away: commonly the one that has the older files, where "
        "nobody worked with the service. Look into an unmounted side only through a copy of it: DRBD's device cannot be opened there.",
        f"To throw away what {example} has written, with a copy of it kept: {__utils__['slapos_site_split.command']()} {word}",
    ]


def _preflight(site, victim, force, snapshot):
    """What there is, said to a person, and the plan; raises when it cannot be begun."""
    wrong = __utils__["slapos_site_split.unforceable"](force)
    if victim is not None and victim not in site.nodes:
        wrong.append(
            f"slapos_ha:victim: {victim!r} is no node of site {site.shape['site']}; give {' or '.join(site.nodes)}, or leave it out to see both sides"
        )
    if not (isinstance(snapshot, bool) or (isinstance(snapshot, str) and snapshot.startswith("/"))):
        wrong.append(
            f"slapos_ha:snapshot: {snapshot!r} is not right; give true, false (no copy is kept), or an absolute path of a folder on the victim"
        )
    if wrong:
        raise _stop("\n".join(wrong), "Nothing was changed.")
    case = _Case(site, victim, snapshot)
    if not case.split and case.begun:
        return _unfinished(case)
    if case.connected or (not case.split and case.related == "equal" and case.well()):
        summary = "; ".join(f"{node}: {side['summary']}" for node, side in case.sides.items())
        return f"there is no split brain, and nothing to do: {summary}", _plan(
            case
        ) if victim else []
    if victim is None:
        said = [case.table()]
        if case.related == "split_brain":
            said += _choose(case)
        else:
            said += [_other(case), "Nothing was changed."]
        return "\n".join(said), []
    return _begin(case, force)


def _begin(case, force):
    site, victim = case.site, case.victim
    red = __utils__["slapos_site_gates.gates"](site, case.survivor, only=("agents", "heartbeats"))
    found = __utils__["slapos_site_split.gates"](site, case.sides, case.related, victim, red)
    closed, forced = __utils__["slapos_site_split.closed"](found, force)
    if closed:
        text, remedy = closed
        if case.related != "split_brain":
            remedy = f"{remedy}\n{_other(case)}"
        raise _stop(
            f"{case.table()}\nThe writes of {victim} are not discarded:\n{text}",
            f"{remedy}\nNothing was changed.",
        )
    copy = case.copy(test=True)
    kept = f"kept as {copy['kind']} {copy['where']}" if copy else "NOT KEPT (snapshot: false)"
    said = [
        case.table(),
        *forced,
        f"{victim} is the victim: what it has written since the nodes parted ({case.sides[victim]['written']} KiB) goes, its data are {kept}",
    ]
    return "\n".join(said), _plan(case)


def _unfinished(case):
    """An earlier run died after the writes were discarded: what is left is not a choice any more."""
    victim = case.begun["victim"]
    said = f"a recovery with victim {victim} has not ended: " + "; ".join(
        f"{node}: {side['summary']}" for node, side in case.sides.items()
    )
    if case.victim == victim:
        return said, _plan(case)
    command = __utils__["slapos_site_split.command"]()
    end = f"""To end it: {command} pillar='{{"slapos_ha": {{"victim": "{victim}"}}}}'"""
    if case.victim is None:
        return f"{said}\n{end}. Nothing was changed.", []
    raise _stop(said, f"{end}. Nothing was changed.")


def _other(case):
    """What to do where the generations are no split brain."""
    site, resource = case.site, case.site.shape["fqdn"]
    if case.related == "unrelated":
        return "This orchestration does not end that: which side's data are the service's is not to be seen from the generations. See docs/runbooks/split-brain.md"
    return f"Nothing has to be discarded. Mend the link, and where a node is StandAlone: salt -L {','.join(map(site.minion, site.nodes))} drbd.connect {resource}"


def split_brain_step(
    name, site=None, shape=None, lock=None, victim=None, force=None, snapshot=True
):
    """
    Do one step of a recovery from a split brain; the orchestration calls this for each.

    CLI Example:

    .. code-block:: bash

        salt-run slapos_ha.split_brain_step preflight

    name
        preflight, stopped, copied, discarded, synced, agent or verify (str). The preflight shows both sides.
    site
        The site's name (str); needed when this master has several.
    shape
        The site's names and settings (dict) as the step ``preflight`` returned them. Without it the nodes are asked for them first.
    lock
        The id (str) of the site's lock, which the calling orchestration holds. Without it the step has to get the lock for itself; the preflight needs none.
    victim
        The node (str) whose writes since the two parted are thrown away. Without it there is only the preflight, which changes nothing.
    force
        Gates (list of str) that do not stop it when they are red, each by its name: service. The gates split_brain, survivor and agents cannot be forced.
    snapshot
        False (bool) keeps no copy of the victim's data; a folder on the victim (str) gets it as a file. True makes an LVM snapshot, or of a site on a loop
        file a file beside that one.

    Returns ``{"result": bool, "comment": str, "changes": dict, "plan": [...], "shape": dict, "agent_seconds": float}``; a failure is a result,
    nothing is raised.
    """
    steps = __utils__["slapos_site_step.steps"](__opts__, __utils__, "recover_split_brain")

    def here():
        found = steps.site(name, shape, site)
        if name != "preflight" and victim not in found.nodes:
            raise _stop(
                f"slapos_ha:victim: {victim!r} is no node of site {found.shape['site']}",
                f"Give {' or '.join(found.nodes)}. Nothing was changed.",
            )
        return found

    known = {
        step: (what, lambda one, act=act: act(_Case(one, victim, snapshot)))
        for step, what, _, act in _STEPS
    }
    return steps.call(
        name,
        known,
        here,
        lambda one: _preflight(one, victim, force or [], snapshot),
        site,
        lock,
    )
