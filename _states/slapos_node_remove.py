"""
The state of ``slapos_node`` that takes a site off a node; see ``slapos_ha/removed``. Part of the state module ``slapos_node``, see there.

.. code-block:: yaml

    Users of SlapOS are gone:
      slapos_node.removed:
        - concern: users
"""

from salt.exceptions import CommandExecutionError, SaltInvocationError

# Another file of the state module slapos_node: the loader adds its functions to those of slapos_node.py.
__virtualname__ = "slapos_node"


def __virtual__():
    if "slapos_node.remove" in __salt__:
        return __virtualname__
    return False, "the execution module slapos_node is not there: salt '*' saltutil.sync_all"


def removed(name, concern, destroy_data=None):
    """
    One part of a node has nothing of its site any more, but for what is somebody else's, which the comment names.

    .. code-block:: yaml

        Data of the service is gone:
          slapos_node.removed:
            - concern: data
            - destroy_data: comp1

    name
        What is so afterwards, for the report (str).
    concern
        The part (str), in this order: mounts, service, drbd, data, units, software, users, cluster. See ``slapos_node.remains``.
    destroy_data
        The name of the service (str): without it its data stays, and the state says where.

    A part is left alone while the service is in the agent; a service that runs is not removed, and nothing is unmounted. In test mode it lists what
    would be removed.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    before = {}
    try:
        before, staying = _look(concern, destroy_data)
        if before and __opts__["test"]:
            ret.update(result=None, changes=before, comment=f"{'; '.join(before)} would go")
            return ret
        if before:
            __salt__["slapos_node.remove"](concern, destroy_data)
            left, staying = _look(concern, destroy_data)
            ret["changes"] = {
                what: change for what, change in before.items() if what not in {**left, **staying}
            }
            if left:
                raise CommandExecutionError(
                    f"There were no errors, but this is still there: {'; '.join(left)}"
                )
        ret["comment"] = "; ".join(
            [
                "Removed" if ret["changes"] else "Nothing is left to remove",
                *(f"{what} stays: {why}" for what, why in staying.items()),
            ]
        )
    except (CommandExecutionError, SaltInvocationError, OSError) as error:
        ret.update(result=False, comment=str(error))
        if before and not ret["changes"]:
            ret["changes"] = _gone(concern, destroy_data, before)
    return ret


def _look(concern, destroy_data):
    """``{what: change}`` of what is to go, and ``{what: why}`` of what stays."""
    found = __salt__["slapos_node.remains"](concern, destroy_data)
    if found["problems"]:
        raise CommandExecutionError("; ".join(found["problems"]))
    going = {
        line["what"]: {"old": line["now"], "new": None}
        for line in found["items"]
        if not line["stays"]
    }
    return going, {line["what"]: line["stays"] for line in found["items"] if line["stays"]}


def _gone(concern, destroy_data, before):
    """What was removed before something failed."""
    try:
        found = __salt__["slapos_node.remains"](concern, destroy_data)
    except (CommandExecutionError, SaltInvocationError):
        return {}
    if found["problems"]:
        return {}
    left = {line["what"] for line in found["items"]}
    return {what: change for what, change in before.items() if what not in left}
