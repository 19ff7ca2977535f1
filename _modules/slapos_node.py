"""
re6st and SlapOS on one node: what is installed, registered and healthy, and the calls that register and prepare them.

:depends: openssl, iproute2; the ``slapos_ha`` module of this formula for the site's values

What starts, stops and judges the two is in the launchers ``slapos_ha/files/re6st`` and ``slapos``, which the OpenSVC agent runs; this module imports
those same files, so that Salt and the agent never disagree. Where nothing is mounted, nothing is known: "registered" is None there, not False.
"""

import configparser
import glob
import hashlib
import http.client
import importlib.machinery
import importlib.util
import io
import ipaddress
import os
import re
import shutil
import socket
import ssl
import sys
import urllib.error
import urllib.parse
import urllib.request

import salt.utils.data
import salt.utils.files
from salt.exceptions import CommandExecutionError, SaltInvocationError

__virtualname__ = "slapos_node"

RE6ST_DIR = "/etc/re6stnet"
SLAPOS_CFG = "/etc/opt/slapos/slapos.cfg"
INSTANCE_ROOT = "/srv/slapgrid"
# What distributions start by themselves, and the cluster owns.
UNITS = {
    "re6st": ("re6stnet.service", "re6st-registry.service"),
    "slapos": ("slapos-node.service", "slapos-node-boot.service"),
}
CRON = "/etc/cron.d/slapos-node"
_BLOCK_BEGIN, _BLOCK_END = "# slapos_ha begins", "# slapos_ha ends"
_LAUNCHERS = "salt://slapos_ha/files"
_SHELL = "/bin/sh"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# What re6st-conf prints when it fails (0.642, each seen) -> what is wrong and what to do.
RE6ST_CONF_ERRORS = (
    (
        r"invalid or expired token",
        "the registry refused the token: it is wrong, or was used before (one token, one certificate), or the registry itself failed (see its log). "
        "Ask for a new token, put it into pillar slapos_ha:re6st:token, refresh the pillar and run again",
    ),
    (
        r"CA fingerprint doesn't match",
        "the registry's CA is not the one of slapos_ha:re6st:fingerprint: correct the fingerprint, or somebody is in between",
    ),
    (
        r"invalid fingerprint",
        "slapos_ha:re6st:fingerprint is not sha256: and 64 hexadecimal digits",
    ),
    (
        r"no start line",
        "the registry cannot be reached, or what answers is none: see slapos_ha:re6st:registry",
    ),
    (
        r"\(40[13], |EOFError",
        "the registry wants a token and got none: give slapos_ha:re6st:token",
    ),
    (
        r"has no attribute '(X509Req|verify)'",
        "pyOpenSSL is too new for this re6stnet: pin pyOpenSSL==24.2.1 in slapos_ha:re6st:install:requirements",
    ),
    (
        r"KeyError: '",
        "slapos_ha:re6st:registry has to begin with http:// or https://",
    ),
    (
        r"FileNotFoundError",
        "the folder for the certificate is not there: is the service's filesystem mounted?",
    ),
)

# The same for `re6stnet --test`.
RE6STNET_ERRORS = (
    (
        r"re6stnet: error: ",
        "a line of slapos_ha:re6st:options is no option of re6stnet: correct it, run again",
    ),
    (
        r"VerifyError|PEM routines",
        "certificate, key and CA do not belong together: restore them from a backup. A new registration would be another prefix",
    ),
)

# The same for `slapos node register` (1.25.0).
REGISTER_ERRORS = (
    (
        r"Access denied to the SlapOS Master",
        "the master refused the token: ask for a new one, put it into pillar slapos_ha:slapos:token, refresh the pillar and run again",
    ),
    (
        r"is already in use",
        "the name slapos_ha:slapos:computer_name is in use at the master: choose another, or revoke its certificate there",
    ),
    (
        r"Max retries exceeded|ConnectionError|Connection refused|Name or service not known",
        "the master's web service cannot be reached: see slapos_ha:slapos:web_master_url",
    ),
    (r"404 Client Error", "what answers at slapos_ha:slapos:web_master_url is no SlapOS panel"),
    (r"5\d\d Server Error", "the master's web service failed: try again later, or see its log"),
    (r"EOFError", "the token in slapos_ha:slapos:token is empty"),
    (
        r"the command .* does not exist",
        "this slapos does not fit its Python: install the pinned versions (slapos:install:requirements)",
    ),
)


def __virtual__():
    return __virtualname__


def explain(errors, output):
    """
    Say what a tool's output means, by a table of ``(regular expression, meaning)``.

    CLI Example:

    .. code-block:: bash

        salt demo1 sys.doc slapos_node.explain

    errors
        The table, searched in its order.
    output
        What the tool printed (str).

    Returns the meaning (str), or None when the output is not known.
    """
    return next((meaning for pattern, meaning in errors if re.search(pattern, output)), None)


# --- Running things -------------------------------------------------------------------------------------------------------------------------


def _run(args, what, secret=None, timeout=120, good=(0,), errors=(), **kwargs):
    """
    Run a program and return (exit code, output). The secret goes to its standard input and is struck out of all that comes back.
    """
    done = __salt__["cmd.run_all"](
        args,
        python_shell=False,
        ignore_retcode=True,
        output_loglevel="quiet",
        redirect_stderr=True,
        timeout=timeout,
        stdin=f"{secret}\n" if secret else None,
        **kwargs,
    )
    output = done["stdout"].replace(secret, "(secret)") if secret else done["stdout"]
    if done["retcode"] in good:
        return done["retcode"], output
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    meaning = explain(errors, output)
    last = lines[-1] if lines else "no output"
    raise CommandExecutionError(
        f"{what}: {meaning} (exit code {done['retcode']}: {last})"
        if meaning
        else f"{what} failed with exit code {done['retcode']}: {' / '.join(lines[-3:]) or 'no output'}"
    )


def _secret(pillar_key):
    value = salt.utils.data.traverse_dict_and_list(__pillar__, pillar_key, None)
    if not isinstance(value, str) or not value.strip():
        raise SaltInvocationError(
            f"pillar {pillar_key} is missing on {__grains__['id']}: put the token there and refresh: salt {__grains__['id']} saltutil.refresh_pillar"
        )
    return value.strip()


def _launcher(name):
    """The launcher as an object, made from this formula's files and the same settings that the agent's volume has."""
    paths = {}
    for file in ("re6st", "slapos"):
        paths[file] = __salt__["cp.cache_file"](
            f"{_LAUNCHERS}/{file}", saltenv=__opts__.get("saltenv") or "base"
        )
        if not paths[file]:
            raise CommandExecutionError(
                f"{_LAUNCHERS}/{file} is not in this master's file_roots. Add the formula's folder."
            )
    written = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    try:
        loader = importlib.machinery.SourceFileLoader(f"slapos_ha_{name}_launcher", paths[name])
        module = importlib.util.module_from_spec(
            importlib.util.spec_from_loader(loader.name, loader)
        )
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = written
    settings = __salt__["slsutil.renderer"](
        f"{_LAUNCHERS}/settings.json", default_renderer="jinja|json"
    )
    if name == "re6st":
        return module, module.Re6st(settings["re6st"])
    return module, module.Slapos(settings["slapos"], settings["re6st"])


def launch(name, verb):
    """
    Do what the agent's launcher would do, by the same code.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_node.launch re6st status

    name
        ``re6st`` or ``slapos``.
    verb
        ``start``, ``stop``, ``status`` or ``info``.

    Returns for start and stop a list of sentences, for status ``{"code": 0 up | 1 down | 2 warn, "infos": [...], "warnings": [...]}``, for info a dict.
    Raises CommandExecutionError when it fails, SaltInvocationError for another name or verb. The agent is not told: use it only for what the agent
    does not run (its application disabled).
    """
    if name not in ("re6st", "slapos") or verb not in ("start", "stop", "status", "info"):
        raise SaltInvocationError(
            f"there is no {name} {verb}: re6st or slapos, and start, stop, status or info"
        )
    module, service = _launcher(name)
    try:
        if verb == "status":
            code, infos, warnings = service.status()
            return {"code": code, "infos": infos, "warnings": warnings}
        if verb in ("start", "stop"):
            os.makedirs(service.ha_run_dir, mode=0o700, exist_ok=True)
        return getattr(service, verb)()
    except module.Failure as failure:
        raise CommandExecutionError(f"{name} {verb}: {failure}") from None


# --- The filesystem ---------------------------------------------------------------------------------------------------------------------------


def _mounts():
    """{mount point: (major:minor, root within the filesystem, source)}, the topmost mount of each point."""
    mounts = {}
    with salt.utils.files.fopen("/proc/self/mountinfo") as handle:
        for line in handle:
            before, _, after = line.partition(" - ")
            fields = before.split()
            mounts[fields[4].replace("\\040", " ")] = (fields[2], fields[3], after.split()[1])
    return mounts


def on_ha_filesystem(path, mount):
    """
    Prove that a folder is a mount of the service's filesystem, and that this filesystem is mounted on this node.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_node.on_ha_filesystem /etc/re6stnet /srv/comp1.slapos.svc.paris

    path
        The folder, a bind mount of the agent.
    mount
        Where the filesystem itself is mounted.

    Returns True, or False when the filesystem is not mounted here. Raises CommandExecutionError when it is and the folder is not one of its binds: what
    is written there would stay on this node alone.
    """
    mounts = _mounts()
    if mount not in mounts:
        return False
    if path not in mounts or mounts[path][0] != mounts[mount][0]:
        raise CommandExecutionError(
            f"{mount} is mounted here, but {path} is {'another filesystem' if path in mounts else 'no mount'} and not its bind: "
            "what is written there would stay on this node. Start the service's fs:binds"
        )
    return True


# --- Facts ------------------------------------------------------------------------------------------------------------------------------------


def _normal(name):
    return re.sub(r"[-_.]+", "_", name).lower()


def installed_versions(prefix):
    """
    Read the versions of the Python packages below an environment, from the names of their metadata folders. No process is started.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_node.installed_versions /opt/re6st

    prefix
        The environment's folder.

    Returns ``{name: version}``, names in lower case with underscores; empty when there is no environment.
    """
    found = {}
    lib = os.path.join(prefix, "lib")
    for python in sorted(os.listdir(lib)) if os.path.isdir(lib) else ():
        packages = os.path.join(lib, python, "site-packages")
        for entry in os.listdir(packages) if os.path.isdir(packages) else ():
            # name-version.dist-info, and name-version-py3.11.egg-info of what has no wheel
            match = re.fullmatch(r"(.+?)-([^-]+)(?:\.dist-info|(?:-py[\d.]+)?\.egg-info)", entry)
            if match:
                found[_normal(match[1])] = match[2]
    return found


def missing_requirements(prefix, requirements):
    """
    Compare an environment with pinned requirements. No process is started.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_node.missing_requirements /opt/re6st '["re6stnet==0.642"]'

    prefix
        The environment's folder.
    requirements
        A list of ``name==version``.

    Returns ``{name: {"old": version or None, "new": version}}`` of those that differ.
    """
    have = installed_versions(prefix)
    differing = {}
    for requirement in requirements:
        name, _, version = requirement.partition("==")
        if not version:
            raise SaltInvocationError(f"{requirement!r} is not pinned: give name==version")
        # "1.0" and "1.0.0" are one version to pip, and metadata folders may have either.
        old = have.get(_normal(name))
        if old is None or _release(old) != _release(version):
            differing[name] = {"old": old, "new": version}
    return differing


def _release(version):
    return re.sub(r"(\.0)+$", "", version.replace("_", "-").lower())


def missing_programs(programs, path=""):
    """
    Look up programs. No process is started.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_node.missing_programs '["openvpn", "babeld", "/usr/lib/python3*/ensurepip"]' /opt/re6st/bin

    programs
        Names, or absolute paths in which shell patterns are allowed.
    path
        Folders to look in before the system's, separated by colons.

    Returns the list of those that are not there.
    """
    where = f"{path}:{_PATH}".lstrip(":")
    return [
        program
        for program in programs
        if not (
            glob.glob(program) if program.startswith("/") else shutil.which(program, path=where)
        )
    ]


def _unit_facts(kind):
    masked = {}
    for unit in UNITS[kind]:
        path = f"/etc/systemd/system/{unit}"
        masked[unit] = (
            "masked" if os.path.islink(path) and os.readlink(path) == "/dev/null" else "not masked"
        )
    return masked


def _facts(kind, package, folder):
    site = __salt__["slapos_ha.site"]()
    install = site[kind]["install"]
    facts = {
        "installed": {},
        "units": _unit_facts(kind),
        "registered": None,
        "health": None,
    }
    version = installed_versions(install["prefix"]).get(_normal(package))
    if version:
        facts["installed"] = {package: version}
    try:
        here = on_ha_filesystem(folder, site["mount"])
    except CommandExecutionError as error:
        return {**facts, "problem": str(error)}, None
    if not here:
        return facts, None
    _, service = _launcher(kind)
    facts["registered"] = not service.missing()
    facts["health"] = launch(kind, "status")
    return facts, service


def re6st_facts():
    """
    Say how re6st is on this node. Changes nothing.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_node.re6st_facts

    Returns ``{"installed": {"re6stnet": version}, "units": {unit: "masked" | "not masked"}, "registered": bool or None where the filesystem is not
    mounted, "prefix": network or None, "health": None or {"code", "infos", "warnings"}}``, and "problem" when a bind is missing.
    """
    facts, service = _facts("re6st", "re6stnet", RE6ST_DIR)
    facts["prefix"] = None
    if service and facts["registered"]:
        known = service.identity()
        facts["prefix"] = str(
            ipaddress.ip_interface(f"{known['address']}/{known['length']}").network
        )
    return facts


def slapos_facts():
    """
    Say how SlapOS is on this node. Changes nothing, and starts no supervisord.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_node.slapos_facts

    Returns ``{"installed": {"slapos.core": version}, "units": {unit: "masked" | "not masked"}, "cron": bool, "registered": bool or None where the
    filesystem is not mounted, "computer": id or None, "health": None or {"code", "infos", "warnings"}}``, and "problem" when a bind is missing.
    """
    facts, service = _facts("slapos", "slapos.core", "/etc/opt")
    facts["cron"] = os.path.exists(CRON)
    facts["computer"] = service.option("computer_id") if service else None
    return facts


def wanted_users(slapsoft_id, slapuser_first_id, partition_number, software_root, instance_root):
    """
    List the users that SlapOS is to find, in the order of their making.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_node.wanted_users 5000 5001 3 /opt/slapgrid /srv/slapgrid

    slapsoft_id, slapuser_first_id
        Ids of user and group alike (int); slapuser0 has the second, slapuser1 the next.
    partition_number
        How many slapuserN there are.
    software_root, instance_root
        Folders below which the users' homes are.

    Returns ``{name: {"id": int, "home": path}}``.
    """
    users = {"slapsoft": {"id": slapsoft_id, "home": software_root}}
    for number in range(partition_number):
        users[f"slapuser{number}"] = {
            "id": slapuser_first_id + number,
            "home": os.path.join(instance_root, f"slappart{number}"),
        }
    return users


def compare_users(wanted, passwd, groups):
    """
    Compare wanted users with those of a node.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_node.ids

    wanted
        See :py:func:`wanted_users`.
    passwd, groups
        ``{name: id}`` of the node's users and groups.

    Returns ``(missing, conflicts)``: missing is ``{"users": [...], "groups": [...]}``, conflicts a list of sentences that name both sides.
    """
    missing = {"users": [], "groups": []}
    conflicts = []
    for kind, have in (("user", passwd), ("group", groups)):
        by_id = {}
        for name, number in have.items():
            by_id.setdefault(number, []).append(name)
        for name, user in wanted.items():
            number = user["id"]
            if name in have and have[name] != number:
                conflicts.append(
                    f"{kind} {name} has the id {have[name]} here, and the site's is {number}"
                )
            others = [other for other in by_id.get(number, ()) if other != name]
            if others:
                conflicts.append(
                    f"the id {number} of {kind} {name} belongs to {kind} {', '.join(others)} here"
                )
            if name not in have and not others:
                missing[f"{kind}s"].append(name)
    return missing, conflicts


def _names():
    passwd = {name: int(entry["uid"]) for name, entry in _database("/etc/passwd", "uid").items()}
    groups = {name: int(entry["gid"]) for name, entry in _database("/etc/group", "gid").items()}
    return passwd, groups


def _database(path, key):
    """Local users or groups, as they are now: the loader's own list is kept for a whole job."""
    entries = {}
    with salt.utils.files.fopen(path) as handle:
        for line in handle:
            fields = line.rstrip("\n").split(":")
            if len(fields) > 3 and fields[2].isdigit():
                entries[fields[0]] = {key: fields[2], "fields": fields}
    return entries


def user_differences(
    slapsoft_id, slapuser_first_id, partition_number, software_root, instance_root
):
    """
    Compare this node's users and groups with those that SlapOS is to find. Local files only: a directory service must not know these names.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_node.user_differences 5000 5001 3 /opt/slapgrid /srv/slapgrid

    slapsoft_id, slapuser_first_id, partition_number, software_root, instance_root
        See :py:func:`wanted_users`.

    Returns ``{"wanted": {...}, "missing": {"users": [...], "groups": [...]}, "conflicts": [sentence, ...]}``.
    """
    wanted = wanted_users(
        slapsoft_id, slapuser_first_id, partition_number, software_root, instance_root
    )
    passwd, groups = _names()
    missing, conflicts = compare_users(wanted, passwd, groups)
    for name, entry in _database("/etc/passwd", "uid").items():
        if name in wanted and not conflicts:
            home, shell = entry["fields"][5], entry["fields"][6]
            if home != wanted[name]["home"] or shell != _SHELL:
                conflicts.append(
                    f"user {name} has home {home} and shell {shell} here, and the site's are {wanted[name]['home']} and {_SHELL}: "
                    f"usermod -d {wanted[name]['home']} -s {_SHELL} {name}"
                )
    return {"wanted": wanted, "missing": missing, "conflicts": conflicts}


def _site_users():
    site = __salt__["slapos_ha.site"]()
    users = site["slapos"]["users"]
    return {
        "slapsoft_id": users["slapsoft_id"],
        "slapuser_first_id": users["slapuser_first_id"],
        "partition_number": site["slapos"]["partition_number"],
        "software_root": f"{site['mount']}/slapos/opt/slapgrid",
        "instance_root": INSTANCE_ROOT,
    }


def ids():
    """
    Say which of the site's users are on this node, for a comparison of both nodes.

    CLI Example:

    .. code-block:: bash

        salt '*' slapos_node.ids

    Returns ``{"users": {name: [user id, group id or None]}, "missing": {...}, "conflicts": [sentence, ...]}``.
    """
    differences = user_differences(**_site_users())
    passwd, groups = _names()
    return {
        "users": {
            name: [passwd[name], groups.get(name)]
            for name in differences["wanted"]
            if name in passwd
        },
        "missing": differences["missing"],
        "conflicts": differences["conflicts"],
    }


# --- Reaching registry and master ---------------------------------------------------------------------------------------------------------------


def _get(url, timeout):
    """(status, body) of any answer. Proxies are left out, because re6st-conf does not use any; certificates are not checked: nothing is sent."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *args):
            return None

    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context), Stay
    )
    try:
        with opener.open(url, timeout=timeout) as answer:
            return answer.status, answer.read(1 << 20)
    except urllib.error.HTTPError as error:
        return error.code, b""


def _why(error):
    reason = getattr(error, "reason", error)
    if isinstance(reason, socket.gaierror):
        return "its name cannot be resolved"
    if isinstance(reason, TimeoutError):
        return "no answer in time"
    return str(getattr(reason, "strerror", None) or reason) or type(reason).__name__


def registry_check(url, fingerprint, timeout=10):
    """
    Ask a re6st registry for its CA and compare the digest. Costs no token.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_node.registry_check http://192.0.2.1:9201 sha256:41f2...

    url
        The registry, ``http://`` or ``https://``.
    fingerprint
        ``algorithm:hexadecimal digest`` of the CA certificate (DER).
    timeout
        Seconds to wait for the answer.

    Returns ``{"reachable": True, "fingerprint": what the CA has}``. Raises CommandExecutionError when the registry does not answer, is none, or its CA
    is another.
    """
    try:
        status, body = _get(url.rstrip("/") + "/getCa", timeout)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise CommandExecutionError(
            f"the registry {url} cannot be reached: {_why(error)}. Correct the address, or start it"
        ) from None
    try:
        der = ssl.PEM_cert_to_DER_cert(body.decode("ascii").strip())
    except (ValueError, UnicodeDecodeError):
        raise CommandExecutionError(
            f"what answers at {url} is no re6st registry (HTTP status {status}, no certificate). Correct the address"
        ) from None
    algorithm, _, wanted = fingerprint.partition(":")
    try:
        found = hashlib.new(algorithm, der).hexdigest()
    except ValueError:
        raise SaltInvocationError(
            f"{fingerprint!r} is no fingerprint: give sha256: and 64 hexadecimal digits"
        ) from None
    if found != wanted.lower():
        raise CommandExecutionError(
            f"the CA of {url} has the fingerprint {algorithm}:{found}, not {fingerprint}. Correct slapos_ha:re6st:fingerprint once its owner has "
            "confirmed it, or somebody is in between"
        )
    return {"reachable": True, "fingerprint": f"{algorithm}:{found}"}


def master_check(url, timeout=10):
    """
    See whether something answers at a SlapOS master's address. Any HTTP answer will do: the master refuses whom it does not know.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_node.master_check https://slap.example.com/

    url
        The master or its panel, ``http://`` or ``https://``.
    timeout
        Seconds to wait for the answer.

    Returns ``{"reachable": True, "status": HTTP status}``; ``{"reachable": None, "why": ...}`` when the address is IPv6 only, which may need re6st to be
    up first. Raises CommandExecutionError when it does not answer.
    """
    try:
        return {"reachable": True, "status": _get(url, timeout)[0]}
    except (OSError, http.client.HTTPException, ValueError) as error:
        why = _why(error)
    parts = urllib.parse.urlsplit(url)
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port or 80, type=socket.SOCK_STREAM)
    except (OSError, ValueError):
        found = []
    if found and all(entry[0] == socket.AF_INET6 for entry in found):
        return {
            "reachable": None,
            "why": f"{url} has IPv6 only, which re6st may have to bring: {why}",
        }
    raise CommandExecutionError(f"{url} cannot be reached: {why}. Correct the address, or start it")


# --- re6st --------------------------------------------------------------------------------------------------------------------------------------


def _script(name, prefix, method):
    path = f"{prefix}/bin:{_PATH}"
    found = os.path.join(prefix, "bin", name) if method == "pip" else shutil.which(name, path=path)
    if not found or not os.path.exists(found):
        raise CommandExecutionError(
            f"{name} is not installed here ({found or path}): apply slapos_ha first"
        )
    return found


# re6st-conf takes its token as an argument only. Inside the process the argument list is longer than the one that everybody can see.
_WITH_TOKEN = (
    "import sys, runpy; s = sys.argv[1]; sys.argv = [s] + sys.argv[2:] + ['--token', sys.stdin.readline().strip()]; "
    "runpy.run_path(s, run_name='__main__')"
)


def re6st_registered(conf_dir=RE6ST_DIR):
    """
    Say whether a folder holds a re6st registration: key, certificate and CA.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_node.re6st_registered

    conf_dir
        The folder of re6stnet.conf.

    Returns True or False. True on the node where the filesystem is mounted only; see :py:func:`on_ha_filesystem`.
    """
    return all(
        os.path.isfile(path) and os.path.getsize(path)
        for path in (os.path.join(conf_dir, name) for name in ("ca.crt", "cert.crt", "cert.key"))
    )


def re6st_register(token_pillar, registry, fingerprint, title, location="", conf_dir=RE6ST_DIR):
    """
    Get this service's certificate, which is its IPv6 prefix. Once: a second token brings another prefix and changes every address.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_node.re6st_register slapos_ha:re6st:token http://192.0.2.1:9201 sha256:41f2... comp1

    token_pillar
        The pillar key that holds the token; the token itself reaches re6st-conf by its standard input.
    registry, fingerprint
        The registry's address, and its CA's digest as ``sha256:HEX``.
    title
        The node's title in the registry.
    location
        Country and continent such as ``FR,EU``, or empty.
    conf_dir
        The folder to write to, on the service's filesystem.

    Returns the line in which re6st-conf names the subnet. Raises CommandExecutionError with what to do when it fails, and when there is a registration.
    """
    if re6st_registered(conf_dir):
        raise CommandExecutionError(
            f"{conf_dir} holds a registration. A new token would bring another prefix: every SlapOS address would change"
        )
    install = __salt__["slapos_ha.site"]()["re6st"]["install"]
    script = _script("re6st-conf", install["prefix"], install["method"])
    with salt.utils.files.fopen(script, "rb") as handle:
        interpreter = handle.readline().decode(errors="replace").strip().removeprefix("#!").split()
    if not interpreter or not os.path.basename(interpreter[0]).startswith("python"):
        raise CommandExecutionError(
            f"{script} is no Python script, so it cannot get the token unseen. Register by hand in {conf_dir}, then run again"
        )
    args = [*interpreter, "-c", _WITH_TOKEN, script, "--registry", registry]
    args += ["--fingerprint", fingerprint, "-d", conf_dir, "-r", "title", title]
    if location:
        args += ["--location", location]
    _, output = _run(
        args, "re6st-conf", secret=_secret(token_pillar), errors=RE6ST_CONF_ERRORS, umask="077"
    )
    if not re6st_registered(conf_dir):
        raise CommandExecutionError(f"re6st-conf ended well, but {conf_dir} has no certificate")
    return next((line for line in output.splitlines() if line.startswith("Your subnet")), "")


def re6st_verify(conf_dir=RE6ST_DIR):
    """
    Let re6stnet load configuration, key and certificates and check them against each other, without starting.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_node.re6st_verify

    conf_dir
        The folder of re6stnet.conf.

    Returns True. Raises CommandExecutionError with re6stnet's last line when it does not accept them.
    """
    install = __salt__["slapos_ha.site"]()["re6st"]["install"]
    program = _script("re6stnet", install["prefix"], install["method"])
    args = [program, "@re6stnet.conf", "--test", "0"]
    _run(args, "re6stnet --test", errors=RE6STNET_ERRORS, cwd=conf_dir, timeout=60)
    return True


def merge_conf(text, lines, options):
    """
    Put the site's lines into the text of a re6stnet.conf.

    CLI Example:

    .. code-block:: bash

        salt demo1 sys.doc slapos_node.merge_conf

    text
        The file as it is.
    lines
        ``option value`` lines that have to be there, each in the place of a former line of the same option.
    options
        Lines that are kept in a block between two marks: what leaves the site's options leaves the file. The same options outside of it go.

    Returns the new text. What neither list names stays as it is.
    """

    def key(line):
        # Lines that begin with O are words for openvpn: each stands for itself.
        return line if line.startswith("O") else line.split(None, 1)[0]

    wanted = {key(line): line for line in lines}
    blocked = {key(line) for line in options}
    result, inside = [], False
    for line in text.splitlines():
        stripped = line.strip()
        if stripped in (_BLOCK_BEGIN, _BLOCK_END):
            inside = stripped == _BLOCK_BEGIN
        elif inside:
            continue
        elif not stripped or stripped.startswith("#"):
            result.append(line)
        elif key(stripped) in wanted:
            result.append(wanted.pop(key(stripped)))
        elif key(stripped) not in blocked:
            result.append(line)
    result += wanted.values()
    if options:
        result += [_BLOCK_BEGIN, *options, _BLOCK_END]
    return "\n".join(result) + "\n"


# --- SlapOS -------------------------------------------------------------------------------------------------------------------------------------


def slapos_registered(config=SLAPOS_CFG):
    """
    Say whether SlapOS is registered: slapos.cfg, and the key and certificate that it names.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_node.slapos_registered

    config
        The path of slapos.cfg.

    Returns True or False. True on the node where the filesystem is mounted only; see :py:func:`on_ha_filesystem`.
    """
    if not os.path.isfile(config):
        return False
    parsed = read_cfg(config)
    files = [parsed.get("slapos", {}).get(key) for key in ("key_file", "cert_file")]
    return all(path and os.path.isfile(path) and os.path.getsize(path) for path in files)


def slapos_register(
    token_pillar, master_url, web_master_url, computer_name, interface, partition_number,
    ipv4_local_network, software_root, instance_root=INSTANCE_ROOT, config=SLAPOS_CFG,
):  # fmt: skip
    """
    Register this service as a computer at a SlapOS master. Once: a second registration becomes another computer.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_node.slapos_register slapos_ha:slapos:token https://slap.example.com/ https://panel.example.com comp1 lo 10 10.0.0.0/16 /srv/x/opt

    token_pillar
        The pillar key that holds the token; the token itself reaches slapos by its standard input.
    master_url, web_master_url
        The master's REST address, and its panel's, which hands out certificates.
    computer_name
        The title at the master; it must be free there.
    interface
        The interface that gets the partitions' addresses.
    partition_number
        How many partitions (int).
    ipv4_local_network
        From which they get their IPv4 addresses, such as ``10.0.0.0/16``.
    software_root, instance_root
        Folders on the service's filesystem.
    config
        The slapos.cfg to write.

    Returns the computer's id, such as ``COMP-1``. Raises CommandExecutionError with what to do when it fails, and when there is a slapos.cfg.
    """
    if os.path.exists(config):
        raise CommandExecutionError(
            f"{config} is there. Registering over it would move it away and make another computer of this service"
        )
    install = __salt__["slapos_ha.site"]()["slapos"]["install"]
    program = _script("slapos", install["prefix"], install["method"])
    args = [program, "node", "register", "--cfg", config, "--master-url", master_url]
    args += ["--master-url-web", web_master_url.rstrip("/"), "--interface-name", interface]
    args += [
        "--partition-number",
        str(partition_number),
        "--ipv4-local-network",
        ipv4_local_network,
    ]
    args += ["--software-root", software_root, "--instance-root", instance_root, computer_name]
    _run(args, "slapos node register", secret=_secret(token_pillar), errors=REGISTER_ERRORS)
    if not slapos_registered(config):
        raise CommandExecutionError(
            f"slapos node register ended well, but {config} names no key and certificate that are there"
        )
    return read_cfg(config)["slapos"].get("computer_id")


def read_cfg(path):
    """
    Read a slapos.cfg.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_node.read_cfg /etc/opt/slapos/slapos.cfg

    path
        The file.

    Returns ``{section: {key: value}}``. Raises CommandExecutionError when it cannot be read.
    """
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        with salt.utils.files.fopen(path) as handle:
            parser.read_file(handle)
    except (OSError, configparser.Error) as error:
        raise CommandExecutionError(f"{path} cannot be read: {error}") from None
    return {section: dict(parser[section]) for section in parser.sections()}


def merge_cfg(text, values, absent=()):
    """
    Put values into the text of a slapos.cfg and take sections out of it; comments and all else stay.

    CLI Example:

    .. code-block:: bash

        salt demo1 sys.doc slapos_node.merge_cfg

    text
        The file as it is.
    values
        ``{section: {key: value}}``.
    absent
        Names of sections that go, with all that is in them.

    Returns the new text.
    """
    wanted = {section: {k: str(v) for k, v in keys.items()} for section, keys in values.items()}
    out, section, skipping = [], None, False

    def rest():
        # What the section did not have goes to its end, before the blank lines that part it from the next.
        lines = [f"{key} = {value}" for key, value in wanted.pop(section, {}).items()]
        blank = len(out)
        while blank and not out[blank - 1].strip():
            blank -= 1
        out[blank:blank] = lines

    for line in io.StringIO(text).read().splitlines():
        header = re.match(r"\[([^\]]+)\]", line)
        if header:
            rest()
            section = header[1]
            skipping = section in absent
        if skipping:
            continue
        found = re.match(r"([A-Za-z0-9_-]+)\s*[=:]", line)
        if found and found[1] in wanted.get(section, {}):
            out.append(f"{found[1]} = {wanted[section].pop(found[1])}")
        else:
            out.append(line)
    rest()
    for section, keys in wanted.items():
        out += ["", f"[{section}]", *(f"{key} = {value}" for key, value in keys.items())]
    return "\n".join(out).rstrip("\n") + "\n"


def partitions():
    """
    Say what is wrong with this node's partitions: folders, owners, and while SlapOS runs here also addresses.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_node.partitions

    Returns a list of sentences, empty when `slapos node format` has nothing to do here.
    """
    number = __salt__["slapos_ha.site"]()["slapos"]["partition_number"]
    _, service = _launcher("slapos")
    if not os.path.isfile(service.computer_xml):
        return [f"{service.computer_xml} is not there yet"]
    wrong = []
    users = wanted_users(**_site_users())
    for index in range(number):
        folder = os.path.join(INSTANCE_ROOT, f"slappart{index}")
        try:
            found = os.stat(folder)
        except OSError:
            wrong.append(f"{folder} is not there")
            continue
        wanted = users[f"slapuser{index}"]["id"]
        if (found.st_uid, found.st_gid) != (wanted, wanted):
            wrong.append(f"{folder} belongs to {found.st_uid}:{found.st_gid}, not {wanted}")
        if found.st_mode & 0o777 != 0o750:
            wrong.append(f"{folder} has the mode {found.st_mode & 0o777:o}, not 750")
    if service.supervisord():
        given = sum(kind == "addr" for kind, _ in service.given())
        if given < 2 * number:
            wrong.append(f"{given} of {2 * number} addresses are on {service.interface}")
    return wrong


def slapos_format(timeout=900):
    """
    Make folders, owners and addresses of the partitions. Where SlapOS does not run, the addresses are taken away again: they are on the node that runs it.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_node.slapos_format

    timeout
        Seconds. The first time, each partition takes about four.

    Returns True, or False when it was done and the master could not be told. Raises CommandExecutionError with what to do.
    """
    code = slapos_node("format", ["--now", "--alter_user=True"], [0, 2], timeout)
    _, service = _launcher("slapos")
    if not service.supervisord():
        service.take_addresses_away()
    return code == 0


def slapos_node(action, args=(), good=(0,), timeout=600):
    """
    Run a ``slapos node`` command that ends by itself.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_node.slapos_node format '["--now"]' '[0, 2]'

    action
        ``format``, ``software``, ``instance``, ``report`` or ``collect``.
    args
        More arguments (list).
    good
        Exit codes that are no failure: format's 2 and instance's 3 mean done without the master, 10 that another run is at work.
    timeout
        Seconds until it is ended.

    Returns the exit code. Raises CommandExecutionError with what to do.
    """
    if action not in ("format", "software", "instance", "report", "collect"):
        raise SaltInvocationError(f"slapos node {action} does not end by itself, or is no command")
    module, service = _launcher("slapos")
    os.makedirs(service.ha_run_dir, mode=0o700, exist_ok=True)
    try:
        return service.slapos("node", action, *args, good=tuple(good), seconds=timeout)[0]
    except module.base.Failure as failure:
        raise CommandExecutionError(str(failure)) from None
