"""
A rollout on paper: its arguments, which sites are meant, in which waves, and when a site may begin. For the runner ``slapos_ha_rollout``.

Nothing here asks, starts or waits for anything. A stop is made as in ``slapos_site``.
"""

import fnmatch
import math
import re

from salt.exceptions import CommandExecutionError

# What can be rolled out. run: the name in step events. call: the runner's function. look: the function that says what would be done, called with the step
# "preflight". each: arguments that may be the same for all sites. one: those that are said site by site, as they are dangerous or a site's own.
_WHAT = {
    "deploy": {"call": "orch.deploy", "look": "slapos_ha.step", "each": ("force",), "one": ("force",)},
    "teardown": {"call": "orch.teardown", "look": "slapos_ha.teardown_step", "each": (), "one": ("destroy_data",)},
    "recover_split_brain": {
        "call": "orch.recover_split_brain", "look": "slapos_ha.split_brain_step", "each": (), "one": ("victim", "snapshot", "force"),
    },
    "status": {"call": "slapos_ha.status", "each": (), "one": ()},
    "plan": {"call": "slapos_ha.plan", "each": (), "one": ()},
}  # fmt: skip

# Five hours: longer than all timeouts of a deployment by default, a full first synchronisation among them.
_DEADLINE = 18000
_PERCENT = re.compile(r"(\d{1,3})%")


def _names(value):
    """A list of names from a list, or from text with commas."""
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, list):
        return None
    names = [str(name).strip() for name in value]
    return names if names and all(names) else None


def _share(value, least):
    """An int of at least ``least``, or a share as text: "10%"."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value >= least
    found = _PERCENT.fullmatch(value) if isinstance(value, str) else None
    return bool(found) and least <= int(found[1]) <= 100


def _is_path(value):
    return isinstance(value, str) and value.startswith("/")


def _is_target(value):
    key, _, rest = str(value).partition(":")
    return isinstance(value, str) and bool(key and rest)


def _is_whole(value):
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


# name: (default, whether a value is right, what would be right)
_OPTIONS = {
    "sites": (None, _names, "names or globs of sites, as a list or with commas between them"),
    "pillar": (None, _is_target, "a key of the pillar and its value: slapos_ha:slapos:master_url:https://…"),
    "grain": (None, _is_target, "a grain and its value: os:Debian"),
    "arguments": ({}, lambda value: isinstance(value, dict), "a map of arguments for all sites"),
    "site_arguments": (
        {}, lambda value: isinstance(value, dict) and all(isinstance(one, dict) for one in value.values()), "a map of a map for each site",
    ),
    "canary": ([], _names, "names or globs of sites, as a list or with commas between them"),
    "waves": (
        ["100%"],
        lambda value: isinstance(value, list) and bool(value) and all(_share(one, 1) for one in value) or _share(value, 1),
        "a size or a list of sizes of at least 1, each a number of sites or a share of them: [1, 10%, 50%]",
    ),
    "concurrency": (5, _is_whole, "how many sites at once, a whole number of at least 1"),
    "budget": (0, lambda value: _share(value, 0), "how many sites may fail, a number or a share of them from 0% to 100%"),
    "deadline": (_DEADLINE, _is_whole, "seconds, a whole number of at least 1"),
    "only_differing": (None, lambda value: isinstance(value, bool), "true or false"),
    "skip_unreachable": (False, lambda value: isinstance(value, bool), "true or false"),
    "report": (None, _is_path, "an absolute path of a folder that is there, or of a file in one"),
}  # fmt: skip

# --- Arguments ------------------------------------------------------------------------------------------------------------------------------------


def options(what, given):
    """
    The rollout's arguments with their defaults, and with ``what`` and ``kind`` (its entry of what can be rolled out).

    Raises CommandExecutionError that names every argument that is not right, its value and what would be.
    """
    what = str(what).removeprefix("orch.").removeprefix("slapos_ha.")
    if what not in _WHAT:
        raise _stop(f"what: {what!r} cannot be rolled out; give one of {', '.join(_WHAT)}")
    kind, problems = _WHAT[what], []
    known = {key: value for key, value in given.items() if value is not None}
    for key in sorted(set(known) - set(_OPTIONS)):
        problems.append(f"{key}: there is no such argument; there are {', '.join(_OPTIONS)}")
    for key, (_, right, would_be) in _OPTIONS.items():
        if key in known and not right(known[key]):
            problems.append(f"{key}: {known[key]!r} is not right; give {would_be}")
    if problems:
        raise _stop("\n".join(problems))
    found = {key: known.get(key, default) for key, (default, *_) in _OPTIONS.items()}
    found.update(what=what, kind=kind)
    for key in ("sites", "canary"):
        found[key] = _names(found[key]) if found[key] else []
    if not isinstance(found["waves"], list):
        found["waves"] = [found["waves"]]
    if not (found["sites"] or found["pillar"] or found["grain"]):
        problems.append(
            "sites: missing; name them, or give '*' for all, or choose by pillar or grain"
        )
    if found["only_differing"] is None:
        found["only_differing"] = what == "deploy"
    elif found["only_differing"] and what != "deploy":
        problems.append(f"only_differing: true is for deploy; leave it out for {what}")
    for where, arguments, allowed in (
        ("arguments", found["arguments"], kind["each"]),
        *(
            (f"site_arguments:{site}", one, kind["one"])
            for site, one in found["site_arguments"].items()
        ),
    ):
        for key in sorted(set(map(str, arguments)) - set(allowed)):
            problems.append(_not_allowed(where, key, what, kind, allowed))
    if problems:
        raise _stop("\n".join(problems))
    return found


def _not_allowed(where, key, what, kind, allowed):
    if key in kind["one"]:
        return f"{where}: {key} is said site by site: site_arguments: {{<site>: {{{key}: …}}}}"
    return f"{where}: {what} takes no {key}; it takes {', '.join(allowed) or 'none'}"


def request(chosen, site, look=False):
    """
    What is started for a site: (the runner's function, its keyword arguments).

    ``look`` asks what would be done instead of doing it.
    """
    kind = chosen["kind"]
    given = {**chosen["arguments"], **chosen["site_arguments"].get(site, {})}
    if look and "look" in kind:
        return kind["look"], {"name": "preflight", "site": site, **given}
    if kind["call"].startswith("orch."):
        return "state.orch", {
            "mods": kind["call"],
            "pillar": {"slapos_ha": {"site": site, **given}},
        }
    return kind["call"], {"site": site}


# --- Which sites ----------------------------------------------------------------------------------------------------------------------------------


def census(heard, compiled, of_site, pillars_apart):
    """
    The sites of what all minions said: {site: {"facts": {node: …}, "matches": bool or None, "problems": [sentences]}}, and sentences of what belongs to no site.

    ``heard`` is of ``slapos_site.everyone``; ``compiled`` {minion: its site or None} of those that were not heard, as the master's own pillar has it;
    ``of_site`` and ``pillars_apart`` are those of ``slapos_site``.
    """
    answered, lost, stray = {}, {}, []
    for minion, facts in heard["facts"].items():
        if facts["site"]:
            answered.setdefault(str(facts["site"]), {})[minion] = facts
        else:
            said = "; ".join(facts["problems"]) or "its pillar names no site"
            stray.append(f"minion {minion}: {said}")
    wrong = {minion: "does not answer" for minion in heard["silent"]}
    wrong.update(heard["broken"])
    for minion, why in sorted(wrong.items()):
        if compiled.get(minion):
            lost.setdefault(str(compiled[minion]), {})[minion] = why
    sites = {}
    for site in sorted({*answered, *lost}):
        mine = answered.get(site, {})
        facts, problems = of_site(mine, {*heard["facts"], *heard["broken"]}, heard["accepted"])
        named = [f"minion {minion}: {why}" for minion, why in lost.get(site, {}).items()]
        if mine:
            problems += [one for one in named if not any(_about(one, said) for said in problems)]
            problems += _count(mine, facts, problems)
        else:
            problems = named
        if len(facts) == 2 and not problems:
            problems += pillars_apart(facts)
        matches = {heard["matches"][minion] for minion in mine}
        sites[site] = {
            "facts": facts,
            "matches": next(iter(matches)) if len(matches) == 1 else None,
            "problems": problems,
        }
    return sites, stray


def _about(named, said):
    minion = named.split(": ")[0].removeprefix("minion ")
    return f"minion {minion!r} does not answer" in said


def _count(mine, facts, problems):
    if len(mine) > 2:
        return [
            f"{len(mine)} minions have this site in their pillar: {', '.join(sorted(mine))}; a site has two"
        ]
    if len(mine) == 2 and len(facts) < 2 and not problems:
        return [
            f"{' and '.join(sorted(mine))} say that they are one node; see slapos_ha:cluster:nodes"
        ]
    if len(mine) == 1 and not problems:
        return [f"only {next(iter(mine))} has this site in its pillar; target it at both nodes"]
    return []


def choose(chosen, sites):
    """
    (names of the sites that are meant, canaries first; remarks). Raises CommandExecutionError that names what matches nothing.

    A site is meant when its name fits one of ``sites``, and both its minions have ``pillar`` and ``grain``; one that could not be asked is.
    """
    problems, remarks, meant = [], [], []
    there = f"the sites of this master: {', '.join(sites) or 'none'}"
    for pattern in chosen["sites"]:
        if not fnmatch.filter(sites, pattern):
            problems.append(f"sites: {pattern!r} is no site, and fits none; {there}")
    for name in sites:
        if chosen["sites"] and not any(fnmatch.fnmatchcase(name, one) for one in chosen["sites"]):
            continue
        if chosen["pillar"] or chosen["grain"]:
            asked = bool(sites[name]["facts"])
            if asked and sites[name]["matches"] is None:
                remarks.append(
                    f"site {name} is left out: one of its nodes fits the pillar or grain, and the other does not"
                )
                continue
            if asked and not sites[name]["matches"]:
                continue
        meant.append(name)
    if not problems and not meant:
        problems.append(f"pillar, grain: both nodes of no site fit; {there}")
    canaries = []
    for pattern in chosen["canary"]:
        found = fnmatch.filter(meant, pattern)
        if not found and not problems:
            problems.append(
                f"canary: {pattern!r} is not among the chosen sites: {', '.join(meant)}"
            )
        canaries += [name for name in found if name not in canaries]
    for name in chosen["site_arguments"]:
        if name not in meant and not problems:
            problems.append(
                f"site_arguments: {name!r} is not among the chosen sites: {', '.join(meant)}"
            )
    if problems:
        raise _stop("\n".join(problems))
    return canaries, [name for name in meant if name not in canaries], remarks


def waves(canaries, others, sizes):
    """The sites as a list of waves, the canaries first; the last of ``sizes`` is that of all further waves, a share is one of ``others``."""
    found = [canaries] if canaries else []
    left, sizes = list(others), list(sizes)
    while left:
        size = _amount(sizes[0], len(others), math.ceil)
        found.append(left[:size])
        left = left[size:]
        sizes = sizes[1:] or sizes
    return found


def _amount(value, whole, rounded):
    if isinstance(value, int):
        return value
    return rounded(whole * int(value.removesuffix("%")) / 100)


def allowed(budget, sites):
    """How many of so many sites may fail; a share is rounded down."""
    return _amount(budget, sites, math.floor)


# --- When a site may begin ------------------------------------------------------------------------------------------------------------------------


def schedule(planned, canaries, concurrency, budget, deadline):
    """The order of a rollout as a state machine that is told what happens; ``planned`` are its waves, ``budget`` the number of sites that may fail."""
    return _Schedule(planned, canaries, concurrency, budget, deadline)


class _Schedule:
    """
    Each site is waiting, running, done, failed, or late: past its deadline, failed, and still running.

    Times are seconds of whatever clock the caller has.
    """

    def __init__(self, planned, canaries, concurrency, budget, deadline):
        self.waves, self.canaries = planned, set(canaries)
        self.concurrency, self.budget, self.deadline = concurrency, budget, deadline
        self.state = {site: "waiting" for wave in planned for site in wave}
        self.since = {}

    def _in(self, *states):
        return [site for site, state in self.state.items() if state in states]

    @property
    def running(self):
        return self._in("running")

    @property
    def waiting(self):
        return self._in("waiting")

    @property
    def failed(self):
        return self._in("failed", "late")

    def wave(self, site):
        """The number of a site's wave, from 1 on."""
        return next(number for number, wave in enumerate(self.waves, 1) if site in wave)

    def stopped(self):
        """Why no more site begins, or None."""
        failed = self.failed
        lost = [site for site in failed if site in self.canaries]
        if lost:
            return f"the canary {', '.join(lost)} failed"
        if len(failed) > self.budget:
            return f"{len(failed)} sites failed ({', '.join(failed)}), and {self.budget} may"
        return None

    def ready(self):
        """The sites that may begin now: of the first wave that is not over, as many as there is room for."""
        if self.stopped():
            return []
        for wave in self.waves:
            unfinished = [site for site in wave if self.state[site] in ("waiting", "running")]
            if unfinished:
                room = max(self.concurrency - len(self.running), 0)
                return [site for site in unfinished if self.state[site] == "waiting"][:room]
        return []

    def begin(self, site, now):
        """The site runs, since ``now``; of one that ran before this rollout looked, since then."""
        self._expect(site, "waiting")
        self.state[site], self.since[site] = "running", now

    def end(self, site, good):
        """The site's run has ended; one that was late stays failed."""
        if self.state[site] != "late":
            self._expect(site, "running")
            self.state[site] = "done" if good else "failed"

    def overdue(self, now):
        """The sites that run longer than the deadline."""
        return [site for site in self.running if now - self.since[site] >= self.deadline]

    def late(self, site):
        """The site is given up: it has failed, and another may begin in its place though it runs."""
        self._expect(site, "running")
        self.state[site] = "late"

    def over(self):
        """Whether nothing runs and nothing more will."""
        return not self.running and (not self.waiting or bool(self.stopped()))

    def _expect(self, site, state):
        if self.state[site] != state:
            raise ValueError(f"site {site} is {self.state[site]}, and not {state}")


# --- What came of a site --------------------------------------------------------------------------------------------------------------------------


def verdict(data):
    """
    What the return of a site's job (dict, as in the event ``salt/run/<jid>/ret``) says: ``good``, ``comment``, ``steps`` [{name, at, seconds, result,
    comment, changed}] in their order and ``to_do`` [names of steps] of a look at it.

    Changes themselves are left out: what a state has changed is not for a report that is handed around.
    """
    # Not by "success": Salt has it false for whatever is text, as a status is.
    said = data.get("return")
    found = {"good": True, "comment": "", "steps": [], "to_do": []}
    if isinstance(said, dict) and {"result", "comment", "plan"} <= set(said):
        to_do = [
            f"{one['step']}{' (always)' if one['always'] else ''}"
            for one in said["plan"]
            if not one["done"]
        ]
        found.update(good=bool(said["result"]), comment=said["comment"], to_do=to_do)
        return found
    if not isinstance(said, dict) or not isinstance(said.get("data"), dict):
        return {**found, "good": False, "comment": _last(said)}
    found["good"] = not (said.get("retcode") or said["data"].get("retcode"))
    for value in said["data"].values():
        if isinstance(value, dict):
            found.update(_states(value, found["good"]))
        elif isinstance(value, list):
            found.update(good=False, comment="; ".join(map(str, value)))
        elif isinstance(value, str):
            found["comment"] = _told(value)
    return found


def _states(states, good):
    ordered = sorted(states.values(), key=lambda state: state.get("__run_num__", 0))
    begun = [_clock(state.get("start_time")) for state in ordered]
    steps = []
    for state, clock in zip(ordered, begun, strict=True):
        at = 0.0 if clock is None or begun[0] is None else (clock - begun[0]) % 86400
        steps.append(
            {
                "name": state.get("__id__") or state.get("name", ""),
                "at": round(at, 1),
                "seconds": round(float(state.get("duration") or 0) / 1000, 1),
                "result": state.get("result"),
                "comment": str(state.get("comment", "")),
                "changed": bool(state.get("changes")),
            }
        )
    wrong = [one for one in steps if one["result"] is False]
    own = [one for one in wrong if "One or more requisite failed" not in one["comment"]]
    if wrong:
        comment = "\n".join(f"{one['name']}: {one['comment']}" for one in own or wrong)
    else:
        comment = steps[-1]["comment"] if steps else "nothing was to do"
    return {"good": good and not wrong, "comment": comment, "steps": steps}


def _clock(text):
    """Seconds of the day of a state's start_time, "06:45:43.123456"."""
    found = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", str(text))
    return int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3]) if found else None


def _told(text):
    """What a status says in the end, or the last line."""
    _, found, wrong = text.partition("Not well:")
    return wrong.strip() if found else _last(text)


def _last(said):
    lines = [line for line in str(said).splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no answer"


def _stop(message):
    error = CommandExecutionError(message)
    error.remedy = "Nothing was started."
    return error
