"""
OpenSVC cluster agent, 2.1 and 3: the cluster's settings and its members. Part of the ``opensvc`` execution module, see there.

Secrets: agent 2.1 takes the cluster's secret, and those of arbitrators and relays, from a file of mode 0600; none is ever on a command line. Agent 3 takes
the token of a join only as an argument: it is seen in the joining node's list of processes while ``om cluster join`` runs (about 10 seconds), allows
nothing but to join, and is worthless after 60 seconds.
"""

import os
import re

import salt.utils.data
import salt.utils.files
from salt.exceptions import CommandExecutionError, SaltInvocationError

# A fourth file of the module opensvc: the loader adds its functions to those of opensvc.py.
__virtualname__ = "opensvc"

# Three parts in base64 with dots between: a token of agent 3 (JWT).
_TOKEN = r"[\w-]+\.[\w-]+\.[\w-]+"


def __virtual__():
    return __virtualname__


def _agent():
    return __utils__["opensvc_om.agent"](__salt__, __utils__, __opts__, __context__)


def _pillar(key):
    # Not pillar.get: on Salt 3008 it answers a module with asterisks.
    return salt.utils.data.traverse_dict_and_list(__pillar__, key)


# --- Settings -----------------------------------------------------------------------------------------------------------------------------


def cluster_set(keywords=None, pillars=None):
    """
    Set keywords of the cluster's configuration, also secret ones.

    CLI Example:

    .. code-block:: bash

        salt demo1 opensvc.cluster_set '{"cluster.quorum": true}'
        salt demo1 opensvc.cluster_set pillars='{"arbitrator#1.secret": "opensvc:arbitrator_secret"}'

    keywords
        A dict of ``section.keyword`` to its value (str, number, bool or list), as for :py:func:`config_set`.
    pillars
        A dict of ``section.keyword`` to the pillar key under which its value is (str): for secrets. They are written into this node's cluster.conf, mode
        0600, which the daemons bring to the other nodes like every newer configuration; ``om`` could only take them as arguments.

    Returns ``{"warnings": [...]}``. Raises CommandExecutionError when the agent refuses the configuration or a pillar holds no text, SaltInvocationError
    for a name that is none; then nothing is set.
    """
    if not keywords and not pillars:
        raise SaltInvocationError("give keywords or pillars: dicts of section.keyword")
    secrets = {name: _secret_of(name, pillar) for name, pillar in sorted((pillars or {}).items())}
    answer = {"warnings": []}
    if keywords:
        answer = __salt__["opensvc.config_set"]("cluster", keywords)
    agent = _agent()
    before = text = agent.text("cluster") or ""
    for (section, key), value in secrets.values():
        text = __utils__["opensvc_agent.set_in_text"](text, section, key, value)
    if text != before:
        agent.write("cluster", text)
    return answer


def _secret_of(name, pillar):
    section, _, key = str(name).partition(".")
    if not re.fullmatch(r"[a-z]+(#[\w-]+)?", section) or not re.fullmatch(r"[\w@.-]+", key):
        raise SaltInvocationError(f"pillars: {name!r} is no section.keyword")
    value = _pillar(pillar)
    if not isinstance(value, str) or not value.strip() or "\n" in value.strip():
        raise CommandExecutionError(f"OpenSVC: pillar {pillar} holds no line of text for {name}")
    return (section, key), value.strip()


# --- Nodes ------------------------------------------------------------------------------------------------------------------------------


def node_thaw():
    """
    Let the cluster act on this node's objects again.

    CLI Example:

    .. code-block:: bash

        salt demo1 opensvc.node_thaw

    Returns ``{"warnings": [...]}``. Raises CommandExecutionError when the agent refuses.
    """
    args = ["node", "unfreeze"] if _agent().major >= 3 else ["node", "thaw", "--local"]
    return _agent().act(args, f"thawing node {_agent().here}")


def node_freeze():
    """
    Keep the cluster from acting on this node's objects by itself.

    CLI Example:

    .. code-block:: bash

        salt demo1 opensvc.node_freeze

    Returns ``{"warnings": [...]}``. Raises CommandExecutionError when the agent refuses.
    """
    args = ["node", "freeze"] if _agent().major >= 3 else ["node", "freeze", "--local"]
    return _agent().act(args, f"freezing node {_agent().here}")


def node_drain():
    """
    Freeze this node and have the cluster stop what runs on it, standby resources included. What may run elsewhere is started there.

    CLI Example:

    .. code-block:: bash

        salt demo2 opensvc.node_drain

    Returns ``{"warnings": [...]}`` when the daemon has accepted; it is over when :py:func:`wait_nodes` says drained. Thaw the node when it is back
    (:py:func:`node_thaw`). Raises CommandExecutionError when the agent refuses.
    """
    return _agent().act(["node", "drain"], f"draining node {_agent().here}")


def cluster_freeze():
    """
    Keep the cluster from acting on any object of any node by itself.

    CLI Example:

    .. code-block:: bash

        salt demo1 opensvc.cluster_freeze

    Returns ``{"warnings": [...]}`` when the daemons have accepted (:py:func:`wait_nodes`, condition frozen). Raises CommandExecutionError when the agent
    refuses. Agent 2.1 calls it ``om node freeze``: without ``--local`` that is about all nodes.
    """
    args = ["cluster", "freeze"] if _agent().major >= 3 else ["node", "freeze"]
    return _agent().act(args, "freezing the cluster")


def cluster_thaw():
    """
    Let the cluster act on the objects of all nodes again. An object that is frozen itself stays so.

    CLI Example:

    .. code-block:: bash

        salt demo1 opensvc.cluster_thaw

    Returns ``{"warnings": [...]}`` when the daemons have accepted (:py:func:`wait_nodes`, condition thawed). Raises CommandExecutionError when the agent
    refuses.
    """
    args = ["cluster", "unfreeze"] if _agent().major >= 3 else ["node", "thaw"]
    return _agent().act(args, "thawing the cluster")


# --- Membership -----------------------------------------------------------------------------------------------------------------------------


def cluster_secret(**kwargs):
    """
    Return the secret with which the members of this node's cluster prove themselves. For states and runners; asked for as a job it refuses.

    CLI Example:

    .. code-block:: bash

        salt demo1 sys.doc opensvc.cluster_secret

    Returns a str. Raises CommandExecutionError when there is none (the agent makes one at its first start), SaltInvocationError when called as a job,
    since what a job returns stays in the job cache.
    """
    if kwargs.get("__pub_fun", "").startswith("opensvc."):
        raise SaltInvocationError(
            "opensvc.cluster_secret is not for jobs: the secret would stay in the job cache. opensvc.sealed_join_secret gives it sealed."
        )
    for name in ("cluster", "node"):
        secret = (_agent().config(name) or {}).get("cluster", {}).get("secret")
        if secret:
            return secret
    raise CommandExecutionError(
        "OpenSVC: this node's cluster.conf has no secret. Start the agent once: systemctl start opensvc-agent"
    )


def sealed_join_secret(key, duration=60):
    """
    Return what another node needs to join this node's cluster, readable by the owner of ``key`` only.

    CLI Example:

    .. code-block:: bash

        salt demo1 opensvc.sealed_join_secret key="$(cat demo2.pub)"

    key
        The joining minion's public key (str, PEM): its minion.pub, or what ``slapos_ha.public_key`` says.
    duration
        Seconds (int) for which a token of agent 3 is good; agent 2.1 gives the cluster's secret, which stays good.

    Returns one line of text for :py:func:`join` and the state ``opensvc.member``. Raises CommandExecutionError when there is no secret, the daemon gives no
    token, or the key is none.
    """
    agent = _agent()
    if agent.major < 3:
        return __utils__["opensvc_seal.seal"](cluster_secret(), key)
    answer = agent.ask(
        ["daemon", "auth", "--role", "join", "--duration", f"{int(duration)}s"],
        "asking the daemon for a token to join",
        f"systemctl status {agent.unit}",
        content=True,
    )
    token = answer["stdout"].strip()
    if not re.fullmatch(_TOKEN, token):
        raise CommandExecutionError(
            "OpenSVC: asking the daemon for a token to join returned no token. See: om daemon auth --role join"
        )
    return __utils__["opensvc_seal.seal"](token, key)


def rejoin(node, timeout=180):
    """
    Take this node into the cluster of ``node``, with the secret in this node's own cluster.conf (agent 2.1).

    CLI Example:

    .. code-block:: bash

        salt demo2 opensvc.rejoin demo1

    node
        A member of the cluster (str).
    timeout
        Seconds (int) after which the agent's command is ended.

    Returns ``{"warnings": [...]}``. Raises CommandExecutionError when the member cannot be reached or refuses the secret, and with agent 3, which has no
    such command.
    """
    __utils__["opensvc_agent.split_path"](node)
    if _agent().major >= 3:
        raise CommandExecutionError(
            f"OpenSVC: agent 3 has no rejoin; it joins with a token: opensvc.sealed_join_secret on {node}, opensvc.join here"
        )
    return _agent().act(
        ["daemon", "rejoin", "--node", node],
        f"joining the cluster of {node}",
        f"om mon on {node}, port 1214 between the nodes, and whether the secret is that cluster's",
        timeout=timeout,
    )


def join(node, secret_sealed=None, secret_pillar=None, timeout=180):
    """
    Take this node into the cluster of ``node`` without showing the secret to anyone.

    CLI Example:

    .. code-block:: bash

        salt demo2 opensvc.join demo1 secret_pillar=opensvc:cluster_secret

    node
        A member of the cluster (str).
    secret_sealed
        The cluster's secret, or a token of agent 3, sealed for this minion (str from :py:func:`sealed_join_secret`).
    secret_pillar
        Or the pillar key under which it is (str).
    timeout
        Seconds (int) after which the agent's command is ended.

    Returns ``{"warnings": [...]}``; the nodes hear each other some seconds later (:py:func:`wait_member`). Raises CommandExecutionError when there is no
    secret, the member cannot be reached or refuses.

    Agent 2.1: the secret goes into this node's cluster.conf, mode 0600. When the join fails, the file is put back and a node that was not frozen is thawed
    again. Agent 3: the token is an argument of ``om cluster join``, see this module's head; the agent puts this node's own configurations into a backup folder.
    """
    if bool(secret_sealed) == bool(secret_pillar):
        raise SaltInvocationError("give secret_sealed or secret_pillar, one of them")
    __utils__["opensvc_agent.split_path"](node)
    agent = _agent()
    token = agent.major >= 3
    secret = _unsealed(secret_sealed) if secret_sealed else _pillar(secret_pillar)
    if not isinstance(secret, str) or not re.fullmatch(_TOKEN if token else r"\S+", secret):
        what = "token of agent 3 (opensvc.sealed_join_secret)" if token else "cluster secret"
        raise CommandExecutionError(
            f"OpenSVC: there is no {what} {'in what was sealed' if secret_sealed else 'in pillar ' + secret_pillar}"
        )
    try:
        return (_join_3 if token else _join_2)(agent, node, secret, timeout)
    except CommandExecutionError as error:
        raise CommandExecutionError(str(error).replace(secret, "(secret)")) from None


def _unsealed(sealed):
    name = os.path.join(__opts__["pki_dir"], "minion.pem")
    try:
        with salt.utils.files.fopen(name, "rb") as stream:
            key = stream.read()
    except OSError as error:
        raise CommandExecutionError(f"This minion's private key cannot be read: {error}") from None
    return __utils__["opensvc_seal.unseal"](sealed, key)


def _join_2(agent, node, secret, timeout):
    was_frozen = agent.status()["nodes"].get(agent.here, {}).get("frozen", False)
    # The daemon may go on running: it takes the file's new secret at its next look, and rejoin replaces the file by the cluster's.
    before = agent.text("cluster") or ""
    ours = __utils__["opensvc_agent.set_in_text"](before, "cluster", "secret", secret)
    agent.write("cluster", ours)
    try:
        return rejoin(node, timeout)
    except CommandExecutionError:
        # Only a file that the agent has not replaced meanwhile is ours to put back.
        if agent.text("cluster") == ours:
            agent.write("cluster", before)
            if not was_frozen:
                node_thaw()
        raise


def _join_3(agent, node, token, timeout):
    return agent.act(
        ["cluster", "join", "--node", node, "--token", token, "--timeout", f"{int(timeout)}s"],
        f"joining the cluster of {node}",
        f"om mon on {node}, port 1215 between the nodes; the token is good for 60 s only",
        # Beyond its own deadline it stops and starts the daemon.
        timeout=timeout + 60,
    )


def leave(force=False, timeout=180):
    """
    Take this node out of its cluster. Take it out of the objects' ``nodes`` first: the others may start what they believe to be down here.

    CLI Example:

    .. code-block:: bash

        salt demo2 opensvc.leave

    force
        Leave also while services hold something here (bool): nobody watches over them afterwards.
    timeout
        Seconds (int) after which the agent's command is ended.

    Returns ``{"warnings": [...]}``. Agent 2.1 leaves the node frozen, and its services' configurations where they are; agent 3 drains the node and puts its
    configurations into a backup folder. Raises CommandExecutionError when services hold something here, when this node is alone, when the agent fails or a
    member could not be told (2.1 returns 0 then).
    """
    agent = _agent()
    known = agent.status()
    others = [node for node in known["cluster"]["nodes"] if node != agent.here]
    if not others:
        raise CommandExecutionError(f"OpenSVC: {agent.here} is alone in its cluster already")
    left = __utils__["opensvc_goal.left"](known, agent.here)
    if left and not force:
        raise CommandExecutionError(
            f"OpenSVC: {agent.here} does not leave its cluster: {', '.join(left)}. Move or stop them first (opensvc.node_drain), or force=True"
        )
    args = ["daemon", "leave"]
    if agent.major >= 3:
        args = ["cluster", "leave", "--timeout", f"{int(timeout)}s"]
    answer = agent.act(
        args,
        f"taking {agent.here} out of its cluster",
        f"om mon on {others[0]}",
        timeout=timeout + 60,
        strict=True,
    )
    members = (agent.config("cluster") or {}).get("cluster", {}).get("nodes", "").split()
    still = sorted({*members} & {*others})
    if still:
        raise CommandExecutionError(
            f"OpenSVC: leaving the cluster returned no error, and {agent.here} still is in it with {', '.join(still)}"
        )
    return answer
