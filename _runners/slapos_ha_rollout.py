"""
Many sites at once: each site's orchestration as a job of its own, canaries first, then in waves, until too many have failed.

``docs/rollout.md`` tells it to an operator. Which site may begin is decided by ``_utils/slapos_rollout.py``; jobs are started and followed by
``_utils/slapos_rollout_jobs.py``. What is kept of a rollout is what its sites' runs hold, and its own note below ``<cachedir>/slapos_ha/rollout``.
"""

import functools
import os
import time

import salt.utils.jid
import salt.utils.user
from salt.exceptions import CommandExecutionError

_SLS = "slapos_ha"


def run(
    what="deploy",
    sites=None,
    pillar=None,
    grain=None,
    arguments=None,
    site_arguments=None,
    canary=None,
    waves=None,
    concurrency=None,
    budget=None,
    deadline=None,
    only_differing=None,
    skip_unreachable=None,
    report=None,
    test=False,
    **unknown,
):
    """
    Do one thing at many sites. A rollout that died or was interrupted is run again, and goes on.

    CLI Example:

    .. code-block:: bash

        salt-run slapos_ha_rollout.run deploy sites='*' canary=paris waves='[1, 10%, 50%]' budget=5% report=/srv/reports
        salt-run slapos_ha_rollout.run status sites='*'

    what
        deploy, teardown, recover_split_brain, status or plan (str).
    sites
        Names or globs (list, or str with commas); ``'*'`` is every site of this master. With ``pillar`` or ``grain`` it may be left out.
    pillar
        A key of the minions' pillar and its value (str), with which both nodes of a site have to agree: ``slapos_ha:slapos:master_url:https://…``.
    grain
        A grain of the minions and its value (str): ``os:Debian``.
    arguments
        Arguments (dict) for all sites: of deploy ``force``.
    site_arguments
        Arguments (dict) site by site, ``{site: {…}}``: of deploy ``force``, of teardown ``destroy_data``, of recover_split_brain ``victim``, ``snapshot`` and ``force``.
    canary
        Names or globs (list, or str with commas) of those among the chosen sites that come first; when one fails, nothing else begins.
    waves
        Sizes (list of int or str) of the waves after the canaries, the last for all further ones; ``10%`` is a share of the sites. One wave when left out.
    concurrency
        How many sites run at once (int), by default 5.
    budget
        How many sites may fail (int, or str as a share of the sites: ``5%``), by default 0; after one more no site begins, and those that run end whole.
    deadline
        Seconds (int) that one site may take, by default 18000. After that it counts as failed, its place is free, and its run stops at its next step.
    only_differing
        Leave out sites where nothing is to do and all is well (bool), by default true; for deploy only.
    skip_unreachable
        Leave out sites that cannot be asked, or whose pillar is not right (bool). Otherwise nothing is started while there is one.
    report
        A folder that is there, or a file in one (str, an absolute path), for a report as JSON and as a page of HTML.
    test
        Only say what would be done (bool), as :py:func:`plan`.
    unknown
        Nothing: an argument that is not known is named (dict).

    Returns a table of the sites with what came of each; exit code 1 when any failed or was not reached, and when the arguments are not right.
    """
    given = _given(locals())
    return _answer(*_rolled(what, {**given, **unknown}, bool(test))[:2])


def plan(
    what="deploy",
    sites=None,
    pillar=None,
    grain=None,
    arguments=None,
    site_arguments=None,
    canary=None,
    waves=None,
    concurrency=None,
    budget=None,
    deadline=None,
    only_differing=None,
    skip_unreachable=None,
    report=None,
    **unknown,
):
    """
    Print in which waves the sites would come, and what each would do. Changes nothing; each site is asked by a job of its own.

    CLI Example:

    .. code-block:: bash

        salt-run slapos_ha_rollout.plan deploy sites='*' canary=paris waves='[1, 10%]'

    what, sites, pillar, grain, arguments, site_arguments, canary, waves, concurrency, budget, deadline, only_differing, skip_unreachable, report
        As of :py:func:`run` (str, list, dict, int or bool).
    unknown
        Nothing: an argument that is not known is named (dict).

    Returns a table of the sites with what each would do; exit code 1 when any could not be begun, or was not reached.
    """
    given = _given(locals())
    return _answer(*_rolled(what, {**given, **unknown}, True)[:2])


def step(options, test=False):
    """
    Do a rollout for the orchestration ``orch.rollout``, which calls this.

    CLI Example:

    .. code-block:: bash

        salt-run slapos_ha_rollout.step '{"sites": "*"}' test=True

    options
        The arguments (dict) of :py:func:`run`, ``what`` among them.
    test
        Only say what would be done (bool).

    Returns ``{"result": bool, "comment": str, "changes": {site: {"old": None, "new": str}}}``; a failure is a result, nothing is raised.
    """
    if not isinstance(options, dict):
        comment = f"slapos_ha_rollout: {options!r} is not right; give a map of arguments"
        return {"result": False, "comment": comment, "changes": {}}
    given = dict(options)
    good, text, done = _rolled(given.pop("what", "deploy"), given, bool(test))
    changes = {
        name: {"old": None, "new": site["state"]}
        for name, site in (done.sites if done else {}).items()
        if site["jid"] and done.engine.changing
    }
    return {"result": good, "comment": text, "changes": changes}


def pause():
    """
    Let no more site of this master's rollout begin; those that run go on.

    CLI Example:

    .. code-block:: bash

        salt-run slapos_ha_rollout.pause

    Returns what is paused (str). It stays so until :py:func:`resume`, also for a rollout that begins later.
    """
    user = salt.utils.user.get_specific_user()
    __utils__["slapos_rollout_jobs.pause"](__opts__, {"user": user, "since": time.time()})
    return f"paused: {_current()}; no site begins until: salt-run slapos_ha_rollout.resume"


def resume():
    """
    Let sites of this master's rollout begin again.

    CLI Example:

    .. code-block:: bash

        salt-run slapos_ha_rollout.resume

    Returns what goes on (str).
    """
    before = __utils__["slapos_rollout_jobs.pause"](__opts__)
    return f"{'resumed' if before else 'was not paused'}: {_current()}"


def _current():
    said, lives = __utils__["slapos_rollout_jobs.current"](__opts__)
    if lives:
        return f"rollout {said.get('id')} of {said.get('what')}"
    if said:
        return f"rollout {said['id']} of {said['what']}, which has died and is to be run again"
    return "no rollout is at work"


# --- How a rollout is made ------------------------------------------------------------------------------------------------------------------------


def _given(names):
    return {key: value for key, value in names.items() if key not in ("what", "test", "unknown")}


def _answer(good, text):
    # As in the runner slapos_ha: an orchestration sees __context__, the shell sees retcode in data.
    data = {"rollout": text}
    if not good:
        __context__["retcode"] = data["retcode"] = 1
    return {"data": data, "outputter": "nested"}


def _rolled(what, given, look):
    """(whether all is well, the text for a person, the rollout or None); ``look`` only says what would be done."""
    given = {key: value for key, value in given.items() if not key.startswith("__")}
    try:
        chosen = __utils__["slapos_rollout.options"](what, given)
        # What changes nothing is in nobody's way, and can be had beside a rollout that does.
        changing = not look and "look" in chosen["kind"]
        note = _note(chosen)
        held, before = (None, None)
        if changing:
            held, before = __utils__["slapos_rollout_jobs.take"](__opts__, note)
            if before and __utils__["slapos_rollout_jobs.same"](before, note):
                note["id"] = before["id"]
            else:
                before = None
        done = None
        try:
            done = _prepared(chosen, note, look, held, before)
            return _go(chosen, done, look)
        finally:
            if held:
                _let_go(held, before, done)
    except CommandExecutionError as error:
        return False, __utils__["slapos_site.told"](error), None


def _note(chosen):
    keys = ("what", "sites", "pillar", "grain", "arguments", "site_arguments")
    return {
        "id": salt.utils.jid.gen_jid(__opts__),
        "user": salt.utils.user.get_specific_user(),
        "pid": os.getpid(),
        "since": time.time(),
        **{key: chosen[key] for key in keys},
    }


def _let_go(held, before, done):
    """A rollout that has come to its end leaves nothing to go on with; one that could not begin leaves what was there."""
    if done is None and before:
        held.write(before)
        held.close()
    elif done is None or done.until is not None:
        __utils__["slapos_rollout_jobs.over"](held)
    else:
        held.close()


def _prepared(chosen, note, look, held, before):
    """The rollout, ready to go; raises with everything that is in its way, before anything is started."""
    sites, stray = _census(chosen)
    canaries, others, remarks = __utils__["slapos_rollout.choose"](chosen, sites)
    meant = [*canaries, *others]
    places = __utils__["slapos_rollout_page.place"](chosen["report"], note["id"])
    engine = __utils__["slapos_rollout_jobs.engine"](__opts__, __utils__, note["id"], held)
    alive, states, problems = {}, {}, []
    for name in meant:
        record, lives = engine.run(name) if held else ({}, False)
        if lives and record.get("what") != chosen["what"]:
            problems.append(
                f"site {name}: a run of {record.get('what')} that another rollout has begun still runs, job {record.get('jid')}"
            )
        elif lives:
            alive[name] = {"state": "running", "jid": record["jid"], "since": record["since"]}
        elif (
            before and record.get("rollout") == note["id"] and record.get("what") == chosen["what"]
        ):
            said = engine.result(record["jid"])
            found = said and __utils__["slapos_rollout.verdict"](said)
            if found and found["good"]:
                steps = found["steps"]
                states[name] = {
                    "state": "done",
                    "jid": record["jid"],
                    "since": record["since"],
                    # When it ended is nowhere but in its steps.
                    "until": record["since"]
                    + max([step["at"] + step["seconds"] for step in steps], default=0),
                    "steps": steps,
                    "comment": f"done before this rollout was run again, by job {record['jid']}",
                }
    unreachable = {name: sites[name]["problems"] for name in meant if sites[name]["problems"]}
    problems += [
        f"site {name}: {one}"
        for name, wrong in unreachable.items()
        if not chosen["skip_unreachable"]
        for one in wrong
    ]
    by_name = bool(chosen["sites"]) and not any(set(one) & set("*?[") for one in chosen["sites"])
    if not (by_name or chosen["skip_unreachable"]):
        problems += stray
    else:
        remarks += stray
    if problems:
        error = CommandExecutionError("\n".join([*problems, *remarks]))
        error.remedy = (
            "Correct it, or leave these sites out: skip_unreachable=true. Nothing was started."
        )
        raise error
    for name, wrong in unreachable.items():
        if name not in alive:
            states[name] = {"state": "skipped", "comment": "; ".join(wrong)}
    if chosen["only_differing"]:
        for name in _same(
            {
                name: sites[name]["facts"]
                for name in meant
                if name not in states and name not in alive
            }
        ):
            states[name] = {"state": "same", "comment": "nothing is to do, and all is well"}
    states.update(alive)
    return _rollout(chosen, sites, canaries, others, states, engine, look, places, remarks)


def _census(chosen):
    """What the master's minions say, as sites; the master's own pillar says of those that say nothing whose they are."""
    tests = {f"match.{kind}": chosen[kind] for kind in ("pillar", "grain") if chosen[kind]}
    heard = __utils__["slapos_site.everyone"](__opts__, tests)
    compiled = {}
    for minion in (*heard["silent"], *heard["broken"]):
        site = __salt__["pillar.show_pillar"](minion).get("slapos_ha")
        compiled[minion] = site.get("site") if isinstance(site, dict) else None
    return __utils__["slapos_rollout.census"](
        heard, compiled, __utils__["slapos_site.of_site"], __utils__["slapos_site.pillars_apart"]
    )


def _same(facts):
    """The sites where nothing is to do: no step, nothing that is not well, and nothing that a highstate would change."""
    judged = __salt__["slapos_ha.judged"](facts)
    whole = [
        name
        for name, said in judged.items()
        if said["plan"]
        and not said["wrong"]
        and all(one["done"] or one["always"] for one in said["plan"])
    ]
    minions = {}
    for name in whole:
        shape = next(iter(facts[name].values()))["shape"]
        minions[name] = [node["minion"] for node in shape["cluster"]["nodes"].values()]
    if not minions:
        return []
    every = [minion for mine in minions.values() for minion in mine]
    differing = __utils__["slapos_site.differing"](__opts__, every, _SLS)
    return [name for name, mine in minions.items() if not set(mine) & set(differing)]


def _rollout(chosen, sites, canaries, others, states, engine, look, places, remarks):
    going = {
        name
        for name in (*canaries, *others)
        if states.get(name, {}).get("state") not in ("skipped", "same")
    }
    canaries = [name for name in canaries if name in going]
    planned = __utils__["slapos_rollout.waves"](
        canaries, [name for name in others if name in going], chosen["waves"]
    )
    budget = __utils__["slapos_rollout.allowed"](chosen["budget"], len(going))
    if look:
        # What one site would not do is no reason to hear nothing of the others.
        budget = len(going)
    schedule = __utils__["slapos_rollout.schedule"](
        planned, [] if look else canaries, chosen["concurrency"], budget, chosen["deadline"]
    )
    given = {
        name: {
            "nodes": sorted(sites[name]["facts"]),
            "wave": schedule.wave(name) if name in going else None,
            "canary": name in canaries,
            "state": "waiting",
            "comment": "",
            **states.get(name, {}),
        }
        for name in (
            *(one for wave in planned for one in wave),
            *(one for one in states if one not in going),
        )
    }
    words, duration = __utils__["slapos_site_show.words"](), __utils__["slapos_site_show.duration"]

    due = 0

    def save(rollout, now=False):
        nonlocal due
        # All of it is written anew each time: at many sites that takes a twentieth of the rollout's time at most.
        begun = time.monotonic()
        if begun < due and not now:
            return
        try:
            __utils__["slapos_rollout_page.write"](rollout.report(), places, words, duration)
        except OSError as error:
            # What is begun is followed to its end, also with a full disk.
            rollout.unsaved = f"the report is not as of the end: {error}"
        else:
            rollout.unsaved = None
        due = time.monotonic() + 19 * (time.monotonic() - begun)

    tools = {
        "request": functools.partial(__utils__["slapos_rollout.request"], chosen, look=look),
        "verdict": __utils__["slapos_rollout.verdict"],
        "paused": functools.partial(__utils__["slapos_rollout_jobs.paused"], __opts__)
        if engine.changing
        else lambda: None,
        "show": lambda rollout, line: None,
        "save": save,
    }
    done = __utils__["slapos_rollout_loop.rollout"](chosen, schedule, engine, given, tools)
    done.remarks = [*remarks, *(f"report: {path}" for path in places.values())]
    return done


def _go(chosen, done, look):
    """Roll it out and say what came of it."""
    words, duration = __utils__["slapos_site_show.words"](), __utils__["slapos_site_show.duration"]
    interrupted = None
    with done.engine, __utils__["slapos_rollout_live.display"](words, duration) as screen:
        done.tools["show"] = screen.show
        try:
            done.go()
        except (KeyboardInterrupt, SystemExit):
            done.tools["save"](done, True)
            interrupted = "interrupted: the runs that were begun go on, each to its end. The same command again follows them and goes on"
    remarks = list(done.remarks)
    if look:
        title = "what would be done; nothing was changed"
        remarks += [
            f"wave {number}: {', '.join(wave)}"
            for number, wave in enumerate(done.schedule.waves, 1)
        ]
        remarks.append(
            f"{chosen['concurrency']} sites at once, {__utils__['slapos_rollout.allowed'](chosen['budget'], len(done.sites))} may fail; {title}"
        )
    if done.stopped:
        remarks.append(f"no more site was begun: {done.stopped}")
    remarks += [one for one in (interrupted, done.unsaved) if one]
    if not done.good():
        remarks.append(
            "Run the same again when what is wrong is corrected: what is done stays done."
        )
    return (
        done.good() and not interrupted,
        __utils__["slapos_site_show.rollout"](done, remarks),
        done,
    )
