"""
A rollout at work: sites begin, are followed to their ends, and whoever watches is told. For the runner ``slapos_ha_rollout``.

It knows the world only by an engine (``slapos_rollout_jobs``) and decides only by a schedule (``slapos_rollout``).
"""

import time

from salt.exceptions import CommandExecutionError

# Seconds. How long one wait for an event is, in which a pause or a deadline is not seen; and between two looks at the job cache and at what is held, for
# events that were lost.
_WAIT, _LOOK = 1, 15
# What of a comment goes into an event; the whole of it is in the job cache and in the report.
_SHORT = 400


def rollout(chosen, schedule, engine, sites, tools):
    """
    A rollout that has not begun yet.

    ``sites`` are {name: {"nodes": [str], "wave": int or None, "canary": bool, "state": str, "comment": str}} of all that were chosen, those that are skipped
    among them. ``tools`` are functions: ``request(site)`` and ``verdict(data)`` of ``slapos_rollout``, ``paused()``, ``show(rollout, line)`` and
    ``save(rollout, now)``, which is called each time a site has ended, and with ``now`` when all is over.
    """
    return _Rollout(chosen, schedule, engine, sites, tools)


class _Rollout:
    def __init__(self, chosen, schedule, engine, sites, tools):
        self.chosen, self.schedule, self.engine, self.tools = chosen, schedule, engine, tools
        self.id, self.what = engine.rollout, chosen["what"]
        self.since, self.until = time.time(), None
        # Why the report is not as it should be, said by whoever saves it.
        self.paused = self.stopped = self.unsaved = None
        self.deaf = False
        self.sites = {
            name: {
                "site": name, "jid": None, "since": None, "until": None, "step": None, "steps": [], "to_do": [], "seen": [], "asked": False, **given,
            }
            for name, given in sites.items()
        }  # fmt: skip

    # --- What is told -----------------------------------------------------------------------------------------------------------------------

    def counts(self):
        """{state: number of sites}"""
        found = {}
        for site in self.sites.values():
            found[site["state"]] = found.get(site["state"], 0) + 1
        return found

    def good(self):
        """Whether every chosen site was reached and is as it should be."""
        return all(site["state"] in ("done", "same") for site in self.sites.values())

    def _say(self, name, phase, line, **data):
        heard = self.engine.tell(name, phase, what=self.what, **data)
        self.tools["show"](self, f"{name}: {line}" if name != "-" else line)
        return heard

    # --- The course of it -------------------------------------------------------------------------------------------------------------------

    def go(self, look=_LOOK):
        """Roll it out; ``look`` is in seconds."""
        self.engine.listen()
        number = sum(site["wave"] is not None for site in self.sites.values())
        self._say("-", "begin", self._title(number), waves=self.schedule.waves)
        for name, site in self.sites.items():
            if site["wave"] is None:
                self._say(name, "skipped", f"skipped: {site['comment']}", comment=site["comment"])
        self._found()
        due = time.monotonic() + look
        while not self.schedule.over():
            self._pause()
            if not self.paused:
                self._begin()
            event = self.engine.event(_WAIT)
            self._answered()
            if event:
                self._heard(*event)
            if time.monotonic() >= due:
                self._look()
                due = time.monotonic() + look
            for name in self.schedule.overdue(time.time()):
                if self.sites[name]["asked"]:
                    continue
                self._look_at(name)
                if self.sites[name]["state"] == "running":
                    self._late(name)
            self.tools["show"](self, None)
        self._look()
        self.until = time.time()
        for name in self.schedule.waiting:
            self.sites[name].update(state="left", comment="not begun")
        counts = ", ".join(f"{number} {state}" for state, number in self.counts().items())
        self._say("-", "end", f"over: {counts}", counts=self.counts(), stopped=self.stopped)
        self.tools["save"](self, True)

    def _title(self, number):
        waves = len(self.schedule.waves)
        return f"rollout {self.id}: {self.what} at {number} of {len(self.sites)} chosen sites in {waves} waves, {self.schedule.concurrency} at once"

    def _found(self):
        """What another rollout has begun that died: its runs go on, and those that are over are not begun again."""
        for name, site in self.sites.items():
            if site["state"] == "running":
                self.schedule.begin(name, site["since"])
                self._say(name, "followed", f"runs already, job {site['jid']}", job=site["jid"])
            elif site["state"] == "done" and site["wave"] is not None:
                self.schedule.begin(name, site["since"])
                self.schedule.end(name, True)

    def _pause(self):
        paused = self.tools["paused"]()
        if bool(paused) != bool(self.paused):
            who = (paused or self.paused)["user"]
            if paused:
                self._say(
                    "-",
                    "paused",
                    f"paused by {who}: no site begins until salt-run slapos_ha_rollout.resume",
                    user=who,
                )
            else:
                self._say("-", "resumed", "resumed", user=who)
        self.paused = paused

    def _begin(self):
        for name in self.schedule.ready():
            site = self.sites[name]
            if not self.engine.tell(
                name, "begin", what=self.what, wave=site["wave"], canary=site["canary"]
            ):
                if not self.deaf:
                    self.tools["show"](
                        self, "the Salt master does not answer: no site begins until it does"
                    )
                self.deaf = True
                return
            self.deaf = False
            now = time.time()
            self.schedule.begin(name, now)
            site.update(state="running", since=now)
            try:
                run = self.engine.start(name, *self.tools["request"](name), self.what)
            except CommandExecutionError as error:
                self._ended(name, _bad(str(error)))
                continue
            # Until it is answered there is no run to look for.
            site.update(jid=run["jid"], asked=True)

    def _answered(self):
        """What became of the runs that were asked for."""
        for jid, problem in self.engine.answers():
            name = next(name for name, site in self.sites.items() if site["jid"] == jid)
            self.sites[name]["asked"] = False
            if problem:
                self._ended(name, _bad(f"site {name}: its job did not begin: {problem}"))
            else:
                self._say(name, "started", f"started, job {jid}", job=jid)

    def _heard(self, subject, data):
        if "phase" in data:
            self._step(subject, data)
            return
        for name, site in self.sites.items():
            if site["jid"] == subject and site["state"] in ("running", "late"):
                self._ended(name, self.tools["verdict"](data))

    def _step(self, name, data):
        site = self.sites.get(name)
        if not site or site["state"] not in ("running", "late") or data["run"] != self.what:
            return
        if data["phase"] == "begin":
            site["step"] = data["step"]
            site["seen"].append(
                {"name": data["step"], "at": data["at"], "until": None, "result": None}
            )
            self.tools["show"](self, f"{name}: step {data['step']}")
        elif site["seen"] and site["seen"][-1]["name"] == data["step"]:
            site["seen"][-1].update(until=data["at"], result=data["phase"] == "done")

    def _look(self):
        """See to those whose events may have been lost."""
        for name, site in self.sites.items():
            if site["state"] in ("running", "late") and not site["asked"]:
                self._look_at(name)

    def _look_at(self, name):
        site = self.sites[name]
        said = self.engine.outcome(name, site["jid"])
        if said is None:
            site["step"] = self.engine.step(name, site["jid"]) or site["step"]
        elif said:
            self._ended(name, self.tools["verdict"](said))
        else:
            gone = f"job {site['jid']} has ended without a result: its process was killed, or the job cache does not keep what runners return"
            self._ended(name, _bad(gone))

    def _ended(self, name, found):
        site = self.sites[name]
        late = site["state"] == "late"
        self.engine.forget(site["jid"])
        self.schedule.end(name, found["good"])
        site.update(until=time.time(), steps=found["steps"], to_do=found["to_do"])
        if late:
            how = "well" if found["good"] else "badly"
            site["comment"] = f"{site['comment']}\nIt has ended {how} since: {found['comment']}"
            site["state"] = "failed"
            self._say(
                name, "ended", f"the late run has ended {how}", job=site["jid"], good=found["good"]
            )
        else:
            site["state"], site["comment"] = "done" if found["good"] else "failed", found["comment"]
            first = (found["comment"].strip().splitlines() or [""])[0]
            line = f"{site['state']} after {site['until'] - site['since']:.0f} s: {first}"
            seconds = round(site["until"] - site["since"], 1)
            self._say(
                name,
                site["state"],
                line,
                job=site["jid"],
                seconds=seconds,
                comment=found["comment"][:_SHORT],
            )
        self._spent()

    def _late(self, name):
        site = self.sites[name]
        still = self.engine.halt(name, site["jid"])
        self.schedule.late(name)
        site.update(
            state="late", comment=f"it did not end within {self.schedule.deadline} s: {still}"
        )
        self._say(name, "late", site["comment"], job=site["jid"], comment=site["comment"])
        self._spent()

    def _spent(self):
        stopped = self.schedule.stopped()
        if stopped and not self.stopped:
            self.stopped = stopped
            self._say(
                "-",
                "stopped",
                f"no more site begins: {stopped}; those that run end whole",
                why=stopped,
            )
        self.tools["save"](self)

    # --- What is kept of it -----------------------------------------------------------------------------------------------------------------

    def report(self):
        """All of it as plain data (dict), for a file."""
        sites = []
        for site in self.sites.values():
            steps = site["steps"] or [
                {
                    "name": one["name"], "at": round(one["at"] - site["since"], 1), "seconds": round((one["until"] or time.time()) - one["at"], 1),
                    "result": one["result"], "comment": "", "changed": None,
                }
                for one in site["seen"]
            ]  # fmt: skip
            sites.append({**{key: site[key] for key in _KEPT}, "steps": steps})
        arguments = {key: self.chosen[key] for key in self.chosen if key != "kind"}
        return {
            "rollout": self.id, "what": self.what, "arguments": arguments, "since": self.since, "until": self.until, "stopped": self.stopped,
            "paused": bool(self.paused), "good": self.good(), "counts": self.counts(), "waves": self.schedule.waves, "sites": sites,
        }  # fmt: skip


def _bad(comment):
    return {"good": False, "comment": comment, "steps": [], "to_do": []}


_KEPT = (
    "site", "nodes", "wave", "canary", "state", "jid", "since", "until", "step", "to_do", "comment",
)  # fmt: skip
