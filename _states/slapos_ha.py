"""
The steps of the deployment as states of an orchestration. They run on the master; see ``orch/deploy.sls``.

.. code-block:: yaml

    The two nodes can become a site:
      slapos_ha.step:
        - step: preflight
"""

__virtualname__ = "slapos_ha"

_KNOWN = "slapos_ha.preflight"


def __virtual__():
    return __virtualname__


def step(name, step, site=None):
    """
    Do one step of the deployment, or say that it is done.

    .. code-block:: yaml

        DRBD is UpToDate on both nodes:
          slapos_ha.step:
            - step: sync

    name
        What is so afterwards, for the report (str).
    step
        ``preflight`` or a step of ``salt-run slapos_ha.plan`` (str). The preflight asks both nodes once; later steps that it found done are skipped.
    site
        The site's name (str); needed when this master has several.

    Returns a state result; in test mode steps that are not done have the result None and nothing is asked or changed beyond the preflight.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    known = __context__.get(f"{_KNOWN}.{site}")
    if step != "preflight":
        if known is None:
            ret.update(
                result=False, comment="the step preflight has to come first in this orchestration"
            )
            return ret
        planned = next((entry for entry in known["plan"] if entry["step"] == step), None)
        if planned and planned["done"]:
            ret["comment"] = "already so"
            return ret
        if __opts__["test"]:
            ret.update(
                result=None, comment=f"would see to it that {planned['what'] if planned else step}"
            )
            return ret
    answer = __salt__["saltutil.runner"](
        "slapos_ha.step",
        arg=[step],
        kwarg={"site": site, "shape": (known or {}).get("shape")},
        full_return=True,
    )
    done = answer.get("return")
    if not isinstance(done, dict) or "result" not in done:
        ret.update(result=False, comment=str(done))
        return ret
    if step == "preflight":
        __context__[f"{_KNOWN}.{site}"] = done if done["result"] else None
    ret.update(result=done["result"], comment=done["comment"], changes=done["changes"])
    seconds = done.get("agent_seconds")
    if seconds:
        ret["comment"] += f" (the agent's own commands: {seconds} s)"
    return ret
