"""
The steps of an orchestration: their lock, their events on the master's bus, and their results, whatever happens. For the runner ``slapos_ha``.

Each of its files builds the same ``steps`` from its own ``__opts__`` and ``__utils__``, which a util does not have itself.
"""

import logging

import salt.utils.event
import salt.utils.user
from salt.exceptions import CommandExecutionError

log = logging.getLogger(__name__)


def steps(opts, utils, run):
    """What the steps of ``run``, deploy or teardown, have in common."""
    return _Steps(opts, utils, run)


class _Steps:
    def __init__(self, opts, utils, run):
        self._opts, self._utils, self.run = dict(opts), utils, run

    def _event(self, site, step, phase, **data):
        """
        Tell the master's bus of a step: ``slapos_ha/<site>/<run>/<step>/<phase>``. Where the master is dead nobody hears it, nor what salt-run would print at
        its end: it fails then to tell the bus of that. So what went wrong is said at once.
        """
        tag, heard = f"slapos_ha/{site}/{self.run}/{step}/{phase}", False
        try:
            bus = salt.utils.event.get_master_event(
                self._opts, self._opts["sock_dir"], listen=False
            )
            with bus:
                heard = bus.fire_event({"step": step, "phase": phase, **data}, tag)
        except Exception as error:  # which one depends on transport and release
            log.debug("%s is not heard: %r", tag, error)
        if phase == "failed" and not heard:
            log.error("slapos_ha: step %s stopped: %s", step, data["comment"])

    def site(self, step, shape, *asked):
        """The site that a step works on: of known ``shape``, or else its nodes are asked first; ``asked`` is what ``slapos_site.open`` is given."""
        if shape and step != "preflight":
            return self._utils["slapos_site.known"](self._opts, shape)
        return self._utils["slapos_site.open"](self._opts, *asked)

    def call(self, step, known, site, preflight, title=None, lock=None):
        """
        One call of a runner's function: ``preflight``, or a step of ``known``, {name: (what, act)}. Returns its result, whatever happens.

        ``site()`` gives the site, ``preflight(site)`` what is said of it and the plan; both raise CommandExecutionError where nothing can be begun.
        ``title`` is the site's name, if it is known.
        """
        if step != "preflight" and step not in known:
            return self._failed(
                f"there is no step {step!r}; the steps: preflight, {', '.join(known)}"
            )
        try:
            here = site()
            if step == "preflight":
                return self.ready(*preflight(here), here)
        except CommandExecutionError as error:
            return self.stopped(error, step, title)
        return self.do(step, *known[step], here, lock)

    def ready(self, comment, plan, site):
        """The result of a preflight that found nothing in the way; the calling orchestration hands ``shape`` to the other steps."""
        comment = "\n".join([comment, *self.in_use(site.shape["site"])])
        return {**self._done(comment, site), "plan": plan, "shape": site.shape}

    def obstacles(self, comment, title):
        """What a look found in the way, and who is at work: what another run is in the middle of looks like obstacles too."""
        return "\n".join([comment, *self.in_use(title)])

    def stopped(self, error, step, title):
        """The result of what could not even be begun; ``title`` is the site's name, if it is known."""
        comment = self._utils["slapos_site.told"](error)
        if step == "preflight":
            if "Nothing was changed." not in comment:
                comment += "\nNothing was changed."
            comment = self.obstacles(comment, title)
        self._event(title or "-", step, "failed", comment=comment)
        return self._failed(comment)

    def do(self, step, what, act, site, lock=None):
        """
        Do a step for a site (of ``slapos_site``) and return its result; what stops it is a result.

        ``what`` is so afterwards, ``act(site)`` does it. ``lock`` is the id of the lock that the calling orchestration has of the site: without it one is
        taken for the step alone.
        """
        title, claimed = site.shape["site"], None
        try:
            claimed = self._claimed(site.shape, step, lock)
            self._event(title, step, "begin", what=what)
            act(site)
        except CommandExecutionError as error:
            comment = "\n".join([*site.forced, self._utils["slapos_site.told"](error)])
            self._event(title, step, "failed", comment=comment)
            return self._failed(comment, site)
        finally:
            if claimed:
                claimed.release()
        comment = "; ".join([*site.forced, *site.notes]) or what
        self._event(title, step, "done", comment=comment)
        return self._done(comment, site)

    def _done(self, comment, site):
        return {
            "result": True,
            "comment": comment,
            "changes": site.changes,
            "plan": [],
            "agent_seconds": round(site.agent_seconds, 1),
        }

    def _failed(self, comment, site=None):
        return {
            "result": False,
            "comment": comment,
            "changes": site.changes if site else {},
            "plan": [],
            "agent_seconds": round(site.agent_seconds, 1) if site else 0.0,
        }

    def in_use(self, title=None):
        """Who is at work on a site, or on any when it is None, as lines."""
        return [
            self._utils["slapos_site_lock.sentence"](owner)
            for owner in self._utils["slapos_site_lock.holders"](self._opts)
            if title in (None, owner["site"])
        ]

    def _claimed(self, shape, step, lock):
        """The site's lock, taken for this step alone; None when the orchestration that called it has it."""
        holders = self._utils["slapos_site_lock.holders"](self._opts)
        if any(owner["id"] == lock for owner in holders):
            return None
        owner = {
            "user": salt.utils.user.get_specific_user(),
            "run": f"one step of orch.{self.run}",
        }
        expires = sum(shape["timeouts"].values())
        taken = self._utils["slapos_site_lock.take"](self._opts, shape["site"], owner, expires)
        taken.renew(step)
        return taken
