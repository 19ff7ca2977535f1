"""
The steps of an orchestration as states. They run on the master; see ``orch/deploy.sls``, ``orch/teardown.sls`` and ``orch/recover_split_brain.sls``.

.. code-block:: yaml

    The two nodes can become a site:
      slapos_ha.step:
        - step: preflight
"""

import salt.runner
import salt.utils.user
from salt.exceptions import CommandExecutionError

__virtualname__ = "slapos_ha"

_KNOWN = "slapos_ha.preflight"
_LOCK = "slapos_ha.lock"
_CLIENT = "slapos_ha.runners"


def __virtual__():
    return __virtualname__


def step(name, step, site=None, steal=False, runner="slapos_ha.step", options=None):
    """
    Do one step of an orchestration, or say that it is done.

    .. code-block:: yaml

        DRBD is UpToDate on both nodes:
          slapos_ha.step:
            - step: sync

    name
        What is so afterwards, for the report (str).
    step
        ``preflight`` or a step of the runner, of a deployment one of ``salt-run slapos_ha.plan`` (str). The preflight asks both nodes once; later steps that it found done are skipped.
    site
        The site's name (str); needed when this master has several.
    steal
        Take the site over from whoever is at work on it (bool), whose run stops at its next step. For the preflight; otherwise it is refused while another
        run has the site's lock.
    runner
        The runner's function that knows the steps (str): ``slapos_ha.step``, ``slapos_ha.teardown_step`` or ``slapos_ha.split_brain_step``.
    options
        More arguments of that function (dict): ``force`` of a deployment, ``destroy_data`` of a teardown, ``victim`` of a recovery; see ``salt-run -d slapos_ha``.

    Returns a state result; in test mode steps that are not done have the result None and nothing is asked or changed beyond the preflight. The lock is
    given back after the last step, after a step that failed, and by the kernel when the process ends in any other way.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    key, options = f"{_KNOWN}.{runner}.{site}", {"site": site, **(options or {})}
    known = __context__.get(key)
    if step == "preflight":
        return _preflight(ret, site, steal, runner, options, key)
    if known is None:
        ret.update(
            result=False, comment="the step preflight has to come first in this orchestration"
        )
        return ret
    planned = next((entry for entry in known["plan"] if entry["step"] == step), None)
    if __opts__["test"]:
        ret["comment"] = "already so"
        if not planned or not planned["done"]:
            ret.update(
                result=None, comment=f"would see to it that {planned['what'] if planned else step}"
            )
        return ret
    over = True
    try:
        # Also of a step that is done: a run that was taken over stops.
        lock = _lock(site, known["shape"], step)
        if planned and planned["done"]:
            ret["comment"] = "already so"
        else:
            _run(ret, runner, step, {**options, "shape": known["shape"], "lock": lock.id})
        over = ret["result"] is False or step == known["plan"][-1]["step"]
    except CommandExecutionError as error:
        ret.update(result=False, comment=__utils__["slapos_site.told"](error))
    finally:
        if over:
            _unlock(site)
    return ret


def rolled_out(name, options=None):
    """
    Do one thing at many sites, as ``orch.rollout`` does.

    .. code-block:: yaml

        The sites are rolled out:
          slapos_ha.rolled_out:
            - options: {what: deploy, sites: '*', canary: paris}

    name
        What is so afterwards, for the report (str).
    options
        The arguments (dict) of :py:func:`slapos_ha_rollout.run`.

    Returns a state result; its changes are the sites that were begun. In test mode it is None, each site is asked what it would do, and nothing is changed.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    given = {"options": {} if options is None else options, "test": bool(__opts__["test"])}
    answer = __salt__["saltutil.runner"]("slapos_ha_rollout.step", kwarg=given, full_return=True)
    _take(ret, answer)
    if __opts__["test"] and ret["result"]:
        ret["result"] = None
    return ret


def _preflight(ret, site, steal, runner, options, key):
    _unlock(site)
    done = _run(ret, runner, "preflight", options)
    __context__[key] = None
    # A preflight after which there is no step has only looked.
    if ret["result"] and not __opts__["test"] and done["plan"]:
        try:
            # Made before the lock was ours, the plan may be as old as the end of another run: each step looks for itself before it acts.
            notes = _lock(site, done["shape"], "preflight", steal).notes
            ret["comment"] = "\n".join([ret["comment"], *notes])
        except CommandExecutionError as error:
            ret.update(result=False, comment=__utils__["slapos_site.told"](error))
    if ret["result"]:
        __context__[key] = done
    return ret


def _run(ret, runner, step, arguments):
    """Have the runner do a step, put what it says into ``ret``, and return it."""
    try:
        answer = _called(runner, {"arg": [step], "kwarg": arguments, "full_return": True})
    except CommandExecutionError:
        raise
    except Exception as error:  # which one depends on transport and release
        # What a runner raises it returns. This is Salt, which tells the master's bus of each runner and finds no master; so salt-run will at its end.
        ret.update(
            result=False,
            comment=f"the step {step} was begun, and the Salt master does not answer ({error!r})\n"
            "Start salt-master and run the orchestration again: what is done stays done.",
        )
        return {}
    done = _take(ret, answer)
    seconds = done.get("agent_seconds")
    if seconds:
        ret["comment"] += f" (the agent's own commands: {seconds} s)"
    return done


def _take(ret, answer):
    """Put what a runner's function has returned into ``ret`` and return it, {} where it raised."""
    done = answer.get("return")
    if not isinstance(done, dict) or "result" not in done:
        ret.update(result=False, comment=str(done))
        return {}
    ret.update(result=done["result"], comment=done["comment"], changes=done["changes"])
    return done


def _called(runner, arguments):
    """
    What a runner's function returns.

    ``saltutil.runner`` has a new client, with new modules and grains, for each call: half a second of processor for a step that has nothing to do. One client
    serves all steps here, except where that function would be another user, or read a master's configuration that is not the caller's.
    """
    if "master_job_cache" not in __opts__ or __opts__.get("user") != salt.utils.user.get_user():
        return __salt__["saltutil.runner"](runner, **arguments)
    if _CLIENT not in __context__:
        __context__[_CLIENT] = salt.runner.RunnerClient(dict(__opts__))
    user = {"user": __opts__["user"]}
    return __context__[_CLIENT].cmd(runner, print_event=False, pub_data=user, **arguments)


def _lock(site, shape, step, steal=False):
    """This run's lock of the site, taken if need be. It lives in the context, which ends with the orchestration even where the process goes on."""
    lock = __context__.get(f"{_LOCK}.{site}")
    if lock is None:
        owner = {
            "user": __opts__.get("user"),
            "jid": __low__.get("__orchestration_jid__"),
            "run": __low__.get("__sls__") or "a state",
        }
        lock = __utils__["slapos_site_lock.take"](
            __opts__, shape["site"], owner, sum(shape["timeouts"].values()), steal
        )
        __context__[f"{_LOCK}.{site}"] = lock
    lock.renew(step)
    return lock


def _unlock(site):
    lock = __context__.pop(f"{_LOCK}.{site}", None)
    if lock is not None:
        lock.release()
