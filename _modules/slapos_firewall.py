"""
Who may reach the ports of replication and agent on this node, as nftables, ufw or firewalld have it.

:depends: for the backend that the pillar names: nft and unshare, ufw, or firewall-cmd; the ``slapos_ha`` module of this formula
:configuration: optional, in the minion's configuration:

    .. code-block:: yaml

        slapos_node.root: /    # below which files are looked for, for tests

Salt's own ``nftables`` adds one rule after the other, with the peer cut off in between, looks for each with its text as a regular expression in what nft
prints, which a flag or a set does not match, and takes none away that is not wanted any more. Its ``firewalld`` knows zones only, where a rule of ours for an
address of yesterday cannot be told from somebody else's, and for ufw it has nothing. So what is kept here is a table, a policy, or rules with a mark, that are
this formula's own and are compared as a whole.
"""

import os
import socket
import time

import salt.utils.files
import salt.utils.path
from salt.exceptions import CommandExecutionError, SaltInvocationError

__virtualname__ = "slapos_firewall"

BACKENDS = ("nftables", "ufw", "firewalld")
TABLE = "slapos_ha"
RULESET = "/etc/slapos_ha/firewall.nft"
UNIT = "/etc/systemd/system/slapos-ha-firewall.service"
POLICY = "/etc/firewalld/policies/slapos_ha.xml"
_UFW_DEFAULTS = "/etc/default/ufw"
_UFW_RULES = ("/etc/ufw/user.rules", "/etc/ufw/user6.rules")
# Seconds for which states of one run may share what ufw has said, until something is done.
_SHARED_FOR = 15
_UFW = "slapos_firewall.ufw"


def __virtual__():
    return __virtualname__


def _at(path):
    return __utils__["slapos_root.at"](__opts__, path)


def _text(path):
    return __utils__["slapos_root.text"](__opts__, path)


def _ask(*args, **kwargs):
    program = salt.utils.path.which(args[0])
    if not program:
        raise CommandExecutionError(f"{args[0]} is not installed")
    return __salt__["cmd.run_all"](
        [program, *args[1:]],
        python_shell=False,
        ignore_retcode=True,
        output_loglevel="quiet",
        timeout=60,
        env={"LC_ALL": "C"},
        **kwargs,
    )


def _run(*args, **kwargs):
    done = _ask(*args, **kwargs)
    if done["retcode"]:
        said = (done["stderr"] or done["stdout"]).strip()
        raise CommandExecutionError(f"{' '.join(args)}: {said}")
    return done["stdout"]


def _groups():
    return __utils__["slapos_firewall.groups"](__salt__["slapos_ha.site"]())


def rules(backend):
    """
    Say what of the site would be given to a firewall.

    CLI Example:

    .. code-block:: bash

        salt '*' slapos_firewall.rules nftables

    backend
        The firewall (str): nftables, ufw or firewalld.

    Returns the text of a file for nftables, the list of rules for ufw, and for firewalld ``{"policy": text of a file, "rules": [rich rule]}``. Raises
    CommandExecutionError when the pillar is not valid.
    """
    found = _groups()
    if backend == "firewalld":
        return {
            "policy": __utils__["slapos_firewall.firewalld_policy"](found),
            "rules": __utils__["slapos_firewall.firewalld"](found),
        }
    return __utils__[f"slapos_firewall.{backend}"](found)


# --- nftables -----------------------------------------------------------------------------------------------------------------------------------


def nftables_table():
    """
    Return the site's table as the kernel has it.

    CLI Example:

    .. code-block:: bash

        salt '*' slapos_firewall.nftables_table

    Returns the text of ``nft list table inet slapos_ha`` without what its counters have counted, or None when there is no such table. Raises
    CommandExecutionError when nft is not installed or cannot be asked.
    """
    done = _ask("nft", "-s", "list", "table", "inet", TABLE)
    if done["retcode"] == 0:
        return done["stdout"]
    if "No such file or directory" in done["stderr"]:
        return None
    raise CommandExecutionError(f"nft list table inet {TABLE}: {done['stderr'].strip()}")


def nftables_wanted(ruleset):
    """
    Return the table that a ruleset makes, in the words of this node's nft: it is loaded into a network namespace that nothing uses and that is gone afterwards.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_firewall.nftables_wanted "$(cat /etc/slapos_ha/firewall.nft)"

    ruleset
        The text of a file for ``nft -f`` (str).

    Returns text as :py:func:`nftables_table` does. Raises CommandExecutionError when nft or unshare is not installed, when the kernel has no tables of family
    inet, and with what nft says when it does not accept the ruleset.
    """
    if not salt.utils.path.which("nft"):
        raise CommandExecutionError("nft is not installed")
    both = f"nft -f - && exec nft -s list table inet {TABLE}"
    try:
        return _run("unshare", "--net", "sh", "-c", both, stdin=ruleset)
    except CommandExecutionError as error:
        if "Operation not supported" not in str(error):
            raise
        # What nft 1.0 says of any line of the ruleset, with a picture of it: the kernel is meant (Debian's user-mode Linux 6.1, for one).
        raise CommandExecutionError(
            f"kernel {os.uname().release} has no tables of family inet (CONFIG_NF_TABLES_INET)"
        ) from error


def nftables_load(ruleset):
    """
    Load a ruleset into the kernel, all of it or nothing.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_firewall.nftables_load "$(cat /etc/slapos_ha/firewall.nft)"

    ruleset
        The text of a file for ``nft -f`` (str).

    Returns True. Raises CommandExecutionError with what nft says when it does not accept it; then nothing is changed.
    """
    _run("nft", "-f", "-", stdin=ruleset)
    return True


# --- ufw ------------------------------------------------------------------------------------------------------------------------------------------


def _ufw(*words):
    """What ufw says of itself: half a second of Python, several times in a state run."""
    kept = __context__.setdefault(_UFW, {})
    if words not in kept or time.monotonic() - kept[words][0] > _SHARED_FOR:
        kept[words] = (time.monotonic(), _run("ufw", *words))
    return kept[words][1]


def _ufw_act(*words):
    __context__.pop(_UFW, None)
    try:
        _run("ufw", *words)
    finally:
        # ufw does not see to that: the rules of the host's owner would be gone as well.
        folder = os.path.dirname(_UFW_RULES[0])
        __utils__["slapos_disk.settled"](__utils__["slapos_root.at"](__opts__, folder))


def ufw_in_place(rules):
    """
    Say whether ufw filters with the rules, before those of anybody else.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_firewall.ufw_in_place '["deny 7289/tcp"]'

    rules
        The rules (list of str), first to last, as :py:func:`rules` returns them.

    Returns a bool. Raises CommandExecutionError when ufw is not installed or not active.
    """
    status = _ufw("status")
    if not __utils__["slapos_firewall.ufw_active"](status):
        raise CommandExecutionError("ufw is not active")
    return __utils__["slapos_firewall.ufw_in_place"](status, rules, _ufw_ipv6())


def _ufw_ipv6():
    return "ipv6=no" not in _text(_UFW_DEFAULTS).lower().split()


def ufw_added():
    """
    List the rules that ufw has from this formula, also while it is not active.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_firewall.ufw_added

    Returns a list of rules (str) as :py:func:`rules` returns them. Raises CommandExecutionError when ufw is not installed or fails.
    """
    return __utils__["slapos_firewall.ufw_added"](_ufw("show", "added"))


def ufw_put(rules):
    """
    Put rules before all others of ufw, and take away those of this formula that are not among them.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_firewall.ufw_put '["allow from 192.0.2.12 to any port 7289 proto tcp", "deny 7289/tcp"]'

    rules
        The rules (list of str), first to last, as :py:func:`rules` returns them.

    Returns True. Raises CommandExecutionError with what ufw says. For the second that it takes, a new connection from the peer may be refused; one that is
    under way goes on.
    """
    old = ufw_added()
    for rule in [rule for rule in old if rule not in rules]:
        _ufw_act("delete", *rule.split())
    for rule in reversed(rules):
        if ":" in rule and not _ufw_ipv6():
            continue
        if rule in old:
            # ufw leaves a rule that it has where it is.
            _ufw_act("delete", *rule.split())
        _ufw_act("prepend", *rule.split(), "comment", TABLE)
    return True


# --- firewalld ------------------------------------------------------------------------------------------------------------------------------------


def firewalld_rules():
    """
    List the rich rules of the site's policy with which firewalld filters now.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_firewall.firewalld_rules

    Returns a list of rules (str), or None when it has no such policy. Raises CommandExecutionError when firewall-cmd is not installed or firewalld does not
    run.
    """
    if _ask("firewall-cmd", "--state")["retcode"]:
        raise CommandExecutionError("firewalld does not run")
    if TABLE not in _run("firewall-cmd", "--get-policies").split():
        return None
    return _run("firewall-cmd", f"--policy={TABLE}", "--list-rich-rules").splitlines()


def firewalld_reload():
    """
    Have firewalld read its files again. What others have changed at run time only is lost by it.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_firewall.firewalld_reload

    Returns True. Raises CommandExecutionError with what firewalld says.
    """
    _run("firewall-cmd", "--reload")
    return True


# --- What stands in the way, and what is there ----------------------------------------------------------------------------------------------------


def problems(backend):
    """
    Say why the site's rules cannot be given to a firewall, or would cut the peer off. Nothing is changed.

    CLI Example:

    .. code-block:: bash

        salt '*' slapos_firewall.problems nftables

    backend
        The firewall (str): nftables, ufw or firewalld.

    Returns a list of sentences, each with the pillar's key, its value and a remedy. What the formula installs by itself, nft, is no problem. Raises
    CommandExecutionError when the pillar is not valid.
    """
    site = __salt__["slapos_ha.site"]()
    found, node, peer = _groups(), site["node"], site["peer"]
    answer = []
    try:
        {"nftables": _nftables_works, "ufw": _ufw_works, "firewalld": firewalld_rules}[backend]()
    except CommandExecutionError as error:
        remedy = {
            "nftables": "mend it",
            "ufw": "where it is off, let in ssh and what else you need, then: ufw enable",
            "firewalld": "where it is off, let in ssh and what else you need, then: systemctl enable --now firewalld",
        }[backend]
        answer.append(
            f"slapos_ha:firewall:backend: {backend!r}, but on {node} {error}; {remedy}; or give another backend"
        )
    strange = [
        address
        for address in _addresses(peer)
        if not __utils__["slapos_firewall.let_in"](found, address)
    ]
    if strange:
        # The agents know each other by name: from such an address the peer's heartbeats may come.
        answer.append(
            f"slapos_ha:firewall:allow: {peer} is also {', '.join(strange)} for {node} (getent ahosts {peer}), from where its heartbeats would be dropped; "
            "add that address, or correct /etc/hosts"
        )
    return answer


def _nftables_works():
    if salt.utils.path.which("nft"):
        nftables_wanted(rules("nftables"))


def _ufw_works():
    for path in _UFW_RULES:
        if "\0" in _text(path):
            raise CommandExecutionError(
                f"ufw cannot read {path}: there are zeros in it, as a loss of power leaves them. Restore it from a backup, or begin with an empty one "
                f"and give ufw its rules again: cp /usr/share/ufw/iptables/{os.path.basename(path)} {path}; ufw reload"
            )
    wanted = rules("ufw")
    if ufw_in_place(wanted):
        return
    contrary = __utils__["slapos_firewall.ufw_contrary"](_ufw("show", "added"), wanted)
    if contrary:
        raise CommandExecutionError(
            f"ufw has {', '.join(contrary)}, for which it would leave out ours: ufw delete {contrary[0]}"
        )


def _addresses(name):
    """What this node takes a name for; nothing when it does not know it."""
    try:
        known = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return sorted({address[0].partition("%")[0] for *_, address in known})


def left(keep=None):
    """
    List what of the site's rules is on this node.

    CLI Example:

    .. code-block:: bash

        salt '*' slapos_firewall.left

    keep
        A firewall (str) of which nothing is listed: nftables, ufw or firewalld.

    Returns a list of ``{"kind", "name", "now"}`` in the order in which :py:func:`remove` can take them away. A firewall that is not installed has nothing.
    Raises CommandExecutionError when one that is cannot be asked.
    """
    found = []
    for backend in BACKENDS:
        if backend != keep:
            found += {"nftables": _left_nftables, "ufw": _left_ufw, "firewalld": _left_firewalld}[
                backend
            ]()
    return found


def _there(kind, path):
    return [{"kind": kind, "name": path, "now": "there"}] if os.path.lexists(_at(path)) else []


def _left_nftables():
    unit, ruleset, table = _there("unit", UNIT), _there("ruleset", RULESET), []
    try:
        if salt.utils.path.which("nft") and nftables_table() is not None:
            table = [{"kind": "nftables table", "name": f"inet {TABLE}", "now": "loaded"}]
    except CommandExecutionError:
        # A kernel without nftables has no table, and is no reason to fail where nobody has ever asked for one.
        if unit or ruleset:
            raise
    return unit + table + ruleset


def _left_ufw():
    # Its files first, in which comments are hexadecimal: ufw itself takes half a second to say so.
    if not any(TABLE.encode().hex() in _text(path) for path in _UFW_RULES):
        return []
    return [{"kind": "ufw rule", "name": rule, "now": "there"} for rule in ufw_added()]


def _left_firewalld():
    return _there("firewalld policy", POLICY)


def remove(kind, name):
    """
    Take away one thing that :py:func:`left` lists.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_firewall.remove 'nftables table' 'inet slapos_ha'

    kind
        Its kind (str), as listed.
    name
        Its name (str), as listed.

    Returns True. Raises CommandExecutionError with what the firewall says, SaltInvocationError for another kind.
    """
    if kind == "unit":
        _run("systemctl", "disable", "--now", os.path.basename(name))
        os.unlink(_at(name))
        _run("systemctl", "daemon-reload")
    elif kind == "nftables table":
        _run("nft", "delete", "table", *name.split())
    elif kind == "ufw rule":
        _ufw_act("delete", *name.split())
    elif kind == "firewalld policy":
        os.unlink(_at(name))
        if not _ask("firewall-cmd", "--state")["retcode"]:
            firewalld_reload()
    elif kind == "ruleset":
        os.unlink(_at(name))
        folder = os.path.dirname(_at(name))
        if not os.listdir(folder):
            os.rmdir(folder)
    else:
        raise SaltInvocationError(f"kind: {kind!r} is none of those that left lists")
    return True
