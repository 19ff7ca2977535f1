"""
States of what only the peer of this node may reach, by nftables, ufw or firewalld: a table, rules with a mark, or a policy that are this formula's own.

What others have put into the same firewall is left as it is.
"""

import difflib

from salt.exceptions import CommandExecutionError, SaltInvocationError

__virtualname__ = "slapos_firewall"


def __virtual__():
    if "slapos_firewall.rules" in __salt__:
        return __virtualname__
    return False, "the execution module slapos_firewall is not there: salt '*' saltutil.sync_all"


def _begin(name):
    return {"name": name, "result": True, "changes": {}, "comment": ""}


def _converge(name, read, act, good, would):
    """``read`` says what differs, ``act`` does something about it, and it is read again: a program that returned 0 is no proof."""
    ret = _begin(name)
    try:
        changes = read()
        if not changes:
            ret["comment"] = good
        elif __opts__["test"]:
            ret.update(result=None, changes=changes, comment=would)
        else:
            act()
            if read():
                raise CommandExecutionError(
                    "It reported no error, and what it has is not what it was given. See whether something else sets it at the same time"
                )
            ret.update(changes=changes, comment=good)
    except (CommandExecutionError, SaltInvocationError, OSError) as error:
        # In test mode what an earlier state would have installed is no failure.
        missing = __opts__["test"] and "is not installed" in str(error)
        ret.update(result=None if missing else False, comment=str(error))
    return ret


def ready(name, backend):
    """
    A firewall can be given the site's rules, and would not cut the peer off. Nothing is changed by it.

    .. code-block:: yaml

        The firewall of this node can be set:
          slapos_firewall.ready:
            - backend: nftables

    name
        What is so, for the report (str).
    backend
        The firewall (str): nftables, ufw or firewalld.

    It fails with every problem that ``slapos_firewall.problems`` lists: a firewall that does not run, a name of the peer's that stands for an address which is
    not let in.
    """
    ret = _begin(name)
    try:
        problems = __salt__["slapos_firewall.problems"](backend)
    except (CommandExecutionError, SaltInvocationError) as error:
        problems = [str(error)]
    ret.update(result=not problems, comment="\n".join(problems) or f"{backend} can be set")
    return ret


def nftables_loaded(name, ruleset):
    """
    The kernel has this formula's table, as a ruleset has it; one that somebody has flushed or changed is put back.

    .. code-block:: yaml

        Only the peer reaches replication and agent:
          slapos_firewall.nftables_loaded:
            - ruleset: "table inet slapos_ha\\ndelete table inet slapos_ha\\ntable inet slapos_ha { … }\\n"

    name
        What is so afterwards, for the report (str).
    ruleset
        The text of a file for ``nft -f`` (str). It may touch the table ``inet slapos_ha`` only.

    What is compared is the kernel's own table with the one that the ruleset makes in a network namespace of its own. It is loaded in one transaction.
    """

    def read():
        old = __salt__["slapos_firewall.nftables_table"]()
        new = __salt__["slapos_firewall.nftables_wanted"](ruleset)
        if old == new:
            return {}
        if old is None:
            return {"inet slapos_ha": {"old": None, "new": new}}
        lines = difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=1)
        return {"inet slapos_ha": {"diff": "\n".join(list(lines)[2:])}}

    def act():
        __salt__["slapos_firewall.nftables_load"](ruleset)

    return _converge(
        name, read, act, "The table inet slapos_ha is loaded", "It would be loaded by nft"
    )


def ufw_ruled(name, rules):
    """
    The rules of ufw begin with this formula's; an address that is not among them any more is taken away.

    .. code-block:: yaml

        Only the peer reaches the replication:
          slapos_firewall.ufw_ruled:
            - rules: [allow from 192.0.2.12 to any port 7289 proto tcp, deny 7289/tcp]

    name
        What is so afterwards, for the report (str).
    rules
        The rules (list of str), first to last, in the words of ``ufw show added``. They get the comment slapos_ha, by which they are known again.

    It fails when ufw is not installed or not active: to switch on a firewall that lets nothing in is the operator's decision.
    """

    def read():
        if __salt__["slapos_firewall.ufw_in_place"](rules):
            return {}
        return {"ufw": {"old": __salt__["slapos_firewall.ufw_added"](), "new": list(rules)}}

    def act():
        __salt__["slapos_firewall.ufw_put"](rules)

    return _converge(name, read, act, "The rules of ufw begin with ours", "They would be given to ufw")  # fmt: skip


def firewalld_loaded(name, rules):
    """
    firewalld filters with the rules of this formula's policy, whose file is there already.

    .. code-block:: yaml

        Only the peer reaches the replication:
          slapos_firewall.firewalld_loaded:
            - rules: ['rule priority="-1" port port="7289" protocol="tcp" drop']

    name
        What is so afterwards, for the report (str).
    rules
        The rich rules (list of str) that the file holds, in the words of ``firewall-cmd --list-rich-rules``.

    When it does not, firewalld is reloaded, by which what others have changed at run time only is lost. It fails when firewalld does not run.
    """

    def read():
        old = __salt__["slapos_firewall.firewalld_rules"]()
        if old is not None and sorted(old) == sorted(rules):
            return {}
        return {"policy slapos_ha": {"old": old, "new": list(rules)}}

    def act():
        __salt__["slapos_firewall.firewalld_reload"]()

    return _converge(
        name, read, act, "firewalld filters with policy slapos_ha", "firewalld would be reloaded"
    )


def absent(name, keep=None):
    """
    Nothing of this formula is in any firewall of this node.

    .. code-block:: yaml

        No firewall has rules of the site:
          slapos_firewall.absent: []

    name
        What is so afterwards, for the report (str).
    keep
        A firewall (str) that is left as it is: nftables, ufw or firewalld.
    """
    found = []

    def read():
        found[:] = __salt__["slapos_firewall.left"](keep)
        return {f"{one['kind']} {one['name']}": {"old": one["now"], "new": None} for one in found}

    def act():
        for one in list(found):
            __salt__["slapos_firewall.remove"](one["kind"], one["name"])

    return _converge(name, read, act, "Nothing is there", "What is there would go")
