"""
Facts and preflight of one node of a SlapOS HA pair. Part of the ``slapos_ha`` execution module, see there.

:depends: the ``opensvc``, ``drbd``, ``slapos_node`` and ``slapos_firewall`` modules of this formula

What cannot be asked is an answer here, too: the orchestration decides on what both nodes know, also when one of them is broken. Nothing in this file changes
the node.
"""

import contextlib
import glob
import os
import re
import shutil
import socket

import salt.pillar
import salt.utils.files
import salt.utils.network
from salt.exceptions import CommandExecutionError, SaltInvocationError

# Another file of the module slapos_ha: the loader adds its functions to those of slapos_ha.py.
__virtualname__ = "slapos_ha"

# sources.list(5): `deb [trusted=yes] …`, and `Trusted: yes` in a .sources file; allow-insecure takes a repository without any signature.
_UNSIGNED = re.compile(
    r"^\s*(?:deb\S*\s+\[[^\]]*\b(?:trusted|allow-insecure)\+?=yes|(?:Trusted|Allow-Insecure):\s*yes\b)",
    re.I,
)

# The priority (nice) of a look.
_AHEAD = -10


def __virtual__():
    return __virtualname__


# --- Facts --------------------------------------------------------------------------------------------------------------------------------


def _asked(function, *args, **kwargs):
    """What the function says, or {"error": …}: one dead tool must not hide what the others know."""
    try:
        return __salt__[function](*args, **kwargs)
    except (CommandExecutionError, SaltInvocationError) as error:
        return {"error": str(error)}
    except KeyError:
        return {
            "error": f"{function} is not on this minion: salt '{__grains__['id']}' saltutil.sync_all",
            "unsynced": True,
        }


def _damaged_modules():
    """
    Whether a synced module is empty, or holds zeros.

    A host that loses its power within seconds of a sync keeps the names of the files that it was writing, perhaps their sizes, and not yet what is in them
    (ext4 with delalloc and dioread_nolock, its defaults). What is missed then may be a state that no fact asks for.
    """
    for name in glob.glob(os.path.join(__opts__["extension_modules"], "*", "*.py")):
        with salt.utils.files.fopen(name, "rb") as handle:
            data = handle.read()
        if b"\0" in data or not data and os.path.basename(name) != "__init__.py":
            return True
    return False


def _mounted(path):
    with salt.utils.files.fopen("/proc/self/mountinfo") as handle:
        return any(line.split()[4] == path for line in handle)


def _compiled_pillar():
    """What ``pillar.items`` compiles. On Salt 3008 that answers a module with asterisks in the place of all values."""
    from_saltenv = __opts__.get("pillarenv_from_saltenv")
    environment = __opts__.get("saltenv" if from_saltenv else "pillarenv")
    pillar = salt.pillar.get_pillar(
        __opts__, dict(__grains__), __opts__["id"], pillarenv=environment
    )
    return pillar.compile_pillar()


def _renewed_pillar():
    """
    Take the pillar as the master has it now; return what is wrong with it.

    A minion's own copy is as old as its last refresh, and states are compiled from the pillar as it is now: who has just corrected a key is judged, and
    deployed, by what the file says.
    """
    fresh = _compiled_pillar()
    if "_errors" in fresh:
        # Salt's text quotes the lines around the error: it may hold a secret, and stays in the master's log.
        return [
            f"the master cannot compile the pillar of {__grains__['id']}: see its log, and correct the file that it names"
        ]
    if fresh.get("slapos_ha") != __pillar__.get("slapos_ha"):
        __pillar__["slapos_ha"] = fresh.get("slapos_ha")
        # For the jobs that follow. The master compiles it once more for that, which costs it more than all else that a preflight asks of it.
        __salt__["saltutil.refresh_pillar"]()
    return []


@contextlib.contextmanager
def _ahead():
    """
    Before what else runs here while a look lasts: on a node that its tasks fill it would take three times as long, and a move waits for it. Its programs are
    ahead with it.
    """
    before = os.getpriority(os.PRIO_PROCESS, 0)
    # Where this may not be it takes as long as it takes.
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, min(before, _AHEAD))
    try:
        yield
    finally:
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, before)


def facts(preflight=False, applications=True):
    """
    Return what this node knows of the site: the one snapshot on which the orchestration decides.

    CLI Example:

    .. code-block:: bash

        salt '*' slapos_ha.facts

    preflight
        Also list what stands in the way of a deployment (bool).
    applications
        Also ask the launchers of re6st and SlapOS (bool), which takes seconds where both run. A preflight asks them in any case: what is registered needs no
        registry.

    Returns a dict with ``site`` and ``problems``, and when the pillar is valid ``node shape agent cluster drbd re6st slapos ids unset
    mounted unverified agent_seconds``, of which ``re6st`` and ``slapos`` are only there when the launchers were asked; ``agent_seconds`` (float) is what the
    processes of ``om`` took. What could not be asked is ``{"error": why}`` in its place, with ``"unsynced": True`` where the minion lacks the function; a preflight has that in the dict itself when a synced module is an empty or a damaged file. Raises nothing: a node that is broken still answers.
    """
    with _ahead():
        return _facts(preflight, applications)


def _facts(preflight, applications):
    broken = _renewed_pillar() if preflight else []
    given = __pillar__.get("slapos_ha")
    answer = {"site": given.get("site") if isinstance(given, dict) else None, "problems": broken}
    if preflight and _damaged_modules():
        answer["unsynced"] = True
    if broken:
        return answer
    try:
        here = __salt__["slapos_ha.site"]()
    except (CommandExecutionError, SaltInvocationError) as error:
        answer["problems"] = [
            line for line in str(error).splitlines() if line != "The pillar is not right:"
        ]
        return answer
    answer.update(
        {
            "node": here["node"],
            "shape": here,
            "agent": _asked("opensvc.version"),
            "cluster": _asked("opensvc.cluster_status"),
            "drbd": {
                "version": _asked("drbd.version"),
                "status": _asked("drbd.status"),
                "split_brain": _asked("slapos_ha.split_brain_note", here["fqdn"]),
            },
            "ids": _asked("slapos_node.ids"),
            "unset": _unset(here),
            "mounted": _mounted(here["mount"]),
            "unverified": here["unverified"] + (_unsigned_sources() if _uses_apt(here) else []),
        }
    )
    if applications or preflight:
        answer["re6st"] = _asked("slapos_node.re6st_facts")
        answer["slapos"] = _asked("slapos_node.slapos_facts")
    if preflight:
        answer["problems"] = _problems_of_node(here, answer)
    # Where _utils/opensvc_om.py adds it up: what could not be loaded of the formula must not be missed here.
    answer["agent_seconds"] = __context__.get("opensvc.spent", 0.0)
    return answer


def _unset(here):
    """What of the pillar's arbitrators and quorum the cluster does not have, as its configuration's names."""
    wanted, config = here["cluster"], _asked("opensvc.config_show", "cluster") or {}
    if "error" in config:
        return []
    missing = [
        name
        for name, arbitrator in wanted["arbitrators"].items()
        if arbitrator["address"]
        not in (config.get(name, {}).get("name"), config.get(name, {}).get("uri"))
    ]
    given = str(config.get("cluster", {}).get("quorum", "false")).lower() == "true"
    if wanted.get("quorum", given) != given:
        missing.append("cluster.quorum")
    return missing


# --- Preflight ----------------------------------------------------------------------------------------------------------------------------


def _problems_of_node(here, known):
    problems = []
    for check in (
        _check_node,
        _check_agent,
        _check_votes,
        _check_drbd,
        _check_storage,
        _check_network,
        _check_firewall,
        _check_sources,
    ):
        problems += check(here, known)
    return problems


def _service_exists(here, known):
    if "error" in known["cluster"]:
        # While the daemon does not answer its files know: what is the site's own must not be taken for somebody else's.
        return _asked("opensvc.config_show", here["path"]) is not None
    return here["path"] in (known["cluster"].get("objects") or {})


def _check_node(here, known):
    problems = []
    hostname = socket.gethostname()
    if hostname.lower() != here["node"].lower():
        problems.append(
            f"slapos_ha:cluster:nodes:{here['node']}: this node calls itself {hostname!r}, and the agent and DRBD know nodes by that name; "
            f"name it {hostname} in the pillar, or rename the host"
        )
    local = salt.utils.network.ip_addrs(include_loopback=True)
    for key, address in (
        (
            f"cluster:nodes:{here['node']}:address",
            here["cluster"]["nodes"][here["node"]]["address"],
        ),
        (f"drbd:addresses:{here['node']}", here["drbd"]["addresses"][here["node"]]),
    ):
        if address not in local:
            problems.append(
                f"slapos_ha:{key}: {address!r} is on no interface of {here['node']} (it has {', '.join(local)}); correct it"
            )
    return problems


def _check_agent(here, known):
    wanted = here["cluster"]["agent"]
    agent, problems = known["agent"], []
    if "error" in agent:
        if wanted["source"] == "installed":
            problems.append(
                f"slapos_ha:cluster:agent:source: 'installed', but {agent['error']} Install the OpenSVC agent, or give source: package"
            )
        return problems
    if wanted.get("version") and not agent["version"].startswith(wanted["version"]):
        problems.append(
            f"slapos_ha:cluster:agent:version: {wanted['version']!r} is wanted and {agent['version']!r} is installed; install that version, or change the key"
        )
    modules = known["drbd"]["version"]
    running = modules.get("module_loaded") or modules.get("module_available") or ""
    if agent["major"] >= 3 and running.startswith("8."):
        problems.append(
            f"slapos_ha:cluster:agent:version: agent {agent['version']} needs DRBD 9 and this kernel has {running}: after a crash the survivor "
            "would not start the service. Install DRBD 9's module, or agent 2.1"
        )
    if _service_exists(here, known):
        config = _asked("opensvc.config_show", here["path"]) or {}
        owner = config.get("env", {}).get("slapos_ha_site")
        if "error" in config:
            problems.append(
                f"slapos_ha:service:name: {config['error']}; where the other node has that file whole, remove it here: the agents bring it back"
            )
        elif owner != here["site"]:
            problems.append(
                f"slapos_ha:service:name: the cluster has a service {here['path']} that is not this site's (env.slapos_ha_site is {owner!r}); "
                "give another name or namespace"
            )
    cluster = known["cluster"]
    if "error" in cluster:
        return problems
    name, members = cluster["cluster"]["name"], cluster["cluster"]["nodes"]
    strangers = sorted(set(members) - set(here["nodes"]))
    if strangers:
        problems.append(
            f"slapos_ha:cluster:nodes: this node is already in cluster {name!r} with {', '.join(strangers)}; correct the nodes, or take this node out "
            "first: om daemon leave"
        )
    elif len(members) > 1 and name != here["cluster"]["name"]:
        problems.append(
            f"slapos_ha:cluster:name: {here['cluster']['name']!r}, but these nodes are already cluster {name!r}; give that name (it is part of the "
            "names of the volume group and the resource)"
        )
    return problems


def _check_votes(here, known):
    """Secrets and passwords that this agent's version needs, and the disks of heartbeats."""
    cluster, problems = here["cluster"], []
    old = known["agent"].get("major", 2) < 3
    for name in cluster["arbitrators"]:
        if old and name not in cluster["secret_pillars"]:
            problems.append(
                f"slapos_ha:cluster:arbitrators:{name}:secret: missing, and agent 2.1 needs it; give the secret of that host's agent (om cluster get --kw "
                "cluster.secret there)"
            )
    for name, heartbeat in cluster["heartbeats"].items():
        key = f"slapos_ha:cluster:heartbeats:{name}"
        if heartbeat["type"] == "relay" and old and name not in cluster["secret_pillars"]:
            problems.append(
                f"{key}:secret: missing, and agent 2.1 needs it; give the secret of the relay's agent (om cluster get --kw cluster.secret there)"
            )
        if heartbeat["type"] == "relay" and not old and "password" not in heartbeat:
            problems.append(
                f"{key}:password: missing, and agent 3 needs it; give the sec object that holds the relay's password"
            )
        if heartbeat["type"] == "disk":
            device = heartbeat.get(f"dev@{here['node']}", heartbeat["dev"])
            if not os.path.exists(device):
                problems.append(f"{key}:dev: {device!r} is not there on {here['node']}; correct it")
    return problems


def _check_firewall(here, known):
    backend = here["firewall"]["backend"]
    if backend == "none":
        return []
    said = _asked("slapos_firewall.problems", backend)
    return [f"slapos_ha:firewall:backend: {said['error']}"] if isinstance(said, dict) else said


def _check_drbd(here, known):
    version = known["drbd"]["version"]
    if "error" in version:
        return [f"slapos_ha:drbd: {version['error']}"]
    problems = []
    if not version.get("module_loaded") and not version.get("module_available"):
        problems.append(
            f"slapos_ha:drbd: kernel {os.uname().release} has no drbd module; install it (Debian and Ubuntu: the kernel's modules-extra package, or drbd-dkms)"
        )
    for name, resource in (_asked("drbd.config") or {}).items():
        if name in (here["fqdn"], "error") or not isinstance(resource, dict):
            continue
        text = str(resource)
        for key, value, needle in (
            ("port", here["drbd"]["port"], f":{here['drbd']['port']}'"),
            ("minor", here["drbd"]["minor"], f"drbd{here['drbd']['minor']}'"),
        ):
            if needle in text:
                problems.append(
                    f"slapos_ha:drbd:{key}: {value} is used by resource {name}; give a free one"
                )
    configured = here["fqdn"] in (known["drbd"]["status"] or {})
    if not configured and not any(p.startswith("slapos_ha:drbd:port") for p in problems):
        address = here["drbd"]["addresses"][here["node"]]
        if _listening(address, here["drbd"]["port"]):
            problems.append(
                f"slapos_ha:drbd:port: something on {here['node']} listens on {address}:{here['drbd']['port']} already; give a free port"
            )
    return problems


def _listening(address, port):
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex((address, port)) == 0


def _check_storage(here, known):
    if _service_exists(here, known):
        return []
    storage, node = here["storage"], here["node"]
    size, problems = __salt__["slapos_ha.bytes_of"](storage["size"]), []
    if storage["backend"] == "loop":
        if os.path.exists(storage["file"]):
            problems.append(
                f"slapos_ha:storage:path: {storage['file']} is there on {node} and no service of ours owns it: it may hold data. "
                "Move it away, or give another path"
            )
        elif not os.path.isdir(storage["path"]):
            problems.append(
                f"slapos_ha:storage:path: {storage['path']!r} is no folder on {node}; make it, or give another"
            )
        else:
            free = shutil.disk_usage(storage["path"]).free
            if size > free:
                problems.append(
                    f"slapos_ha:storage:size: {storage['size']!r} is more than the {free >> 20} MiB free below {storage['path']} on {node}; give less, or make room"
                )
    elif storage["backend"] == "device":
        if not os.path.exists(storage["device"]):
            problems.append(
                f"slapos_ha:storage:device: {storage['device']!r} is not there on {node}; correct it"
            )
        else:
            found = __salt__["cmd.run_all"](
                ["blkid", "-p", "-o", "export", storage["device"]],
                python_shell=False,
                ignore_retcode=True,
                output_loglevel="quiet",
            )
            # blkid's 2 is "no signature found" (util-linux 2.38, blkid(8)).
            if found["retcode"] != 2:
                kind = next(
                    (line for line in found["stdout"].splitlines() if "TYPE=" in line),
                    found["stderr"],
                )
                problems.append(
                    f"slapos_ha:storage:device: {storage['device']!r} on {node} is not empty ({kind}). Give another; or, if it may go: wipefs -a {storage['device']}"
                )
    else:
        groups = __salt__["lvm.vgdisplay"](storage["vg"], quiet=True)
        if storage["vg"] not in groups:
            problems.append(
                f"slapos_ha:storage:vg: there is no volume group {storage['vg']!r} on {node}; make it, or give another"
            )
        elif os.path.exists(storage["lv"]):
            problems.append(
                f"slapos_ha:storage:vg: {storage['lv']} is there on {node} and no service of ours owns it: it may hold data; rename or remove it"
            )
    return problems


def _check_network(here, known):
    problems = []
    try:
        with salt.utils.files.fopen("/proc/sys/net/ipv6/conf/all/disable_ipv6") as handle:
            off = handle.read().strip() == "1"
    except OSError:
        off = True
    if off:
        problems.append(
            f"slapos_ha:re6st: IPv6 is off on {here['node']} and both re6st and SlapOS need it: sysctl net.ipv6.conf.all.disable_ipv6=0"
        )
    if not known["re6st"].get("registered"):
        problems += _asked_problem(
            "re6st:registry",
            "slapos_node.registry_check",
            here["re6st"]["registry"],
            here["re6st"]["fingerprint"],
        )
    if not known["slapos"].get("registered"):
        problems += _asked_problem(
            "slapos:master_url", "slapos_node.master_check", here["slapos"]["master_url"]
        )
        problems += _asked_problem(
            "slapos:web_master_url", "slapos_node.master_check", here["slapos"]["web_master_url"]
        )
    return problems


def _asked_problem(key, function, *args):
    said = _asked(function, *args)
    return (
        [f"slapos_ha:{key}: {said['error']}"]
        if isinstance(said, dict) and said.get("error")
        else []
    )


def _uses_apt(here):
    """Whether the formula may have the distribution's packages installed: pip's environments need some too."""
    return any(here[kind]["install"]["method"] != "installed" for kind in ("re6st", "slapos"))


def _unsigned_sources(root="/"):
    """Sentences on apt's sources that are trusted without a signature; what cannot be read is none."""
    found = []
    for pattern in ("etc/apt/sources.list", "etc/apt/sources.list.d/*"):
        for name in sorted(glob.glob(os.path.join(root, pattern))):
            if not name.endswith((".list", ".sources")):
                continue
            try:
                with salt.utils.files.fopen(name, errors="replace") as handle:
                    lines = handle.read().splitlines()
            except OSError:
                continue
            found += [
                f"{name}: line {number} has apt install from there without a signature"
                for number, line in enumerate(lines, 1)
                if _UNSIGNED.search(line)
            ]
    return found


def _check_sources(here, known):
    if here["allow_unverified"]:
        return []
    return [
        f"{sentence}: give the repository's key as signed-by instead, or knowingly slapos_ha:allow_unverified: true"
        for sentence in known.get("unverified", [])
        if sentence not in here["unverified"]
    ]
