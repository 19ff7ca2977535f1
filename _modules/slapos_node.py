"""
re6st and SlapOS on one node: what is installed, registered and healthy, and the calls that register and prepare them.

:depends: openssl, iproute2; the ``slapos_ha`` module of this formula for the site's values

What starts, stops and judges the two is in the launchers ``slapos_ha/files/re6st`` and ``slapos``, which the OpenSVC agent runs; this module imports
those same files, so that Salt and the agent never disagree. Where nothing is mounted, nothing is known: "registered" is None there, not False.
"""

import glob
import hashlib
import http.client
import os
import re
import shutil
import socket
import ssl
import urllib.error
import urllib.parse
import urllib.request

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
_SHELL = "/bin/sh"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def __virtual__():
    return __virtualname__


def launch(name, verb):
    """
    Do what the agent's launcher would do, by the same code.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_node.launch re6st status

    name
        ``re6st`` or ``slapos`` (str).
    verb
        ``start``, ``stop``, ``status`` or ``info`` (str).

    Returns for start and stop a list of sentences, for status ``{"code": 0 up | 1 down | 2 warn, "infos": [...], "warnings": [...]}``, for info a dict.
    Raises CommandExecutionError when it fails, SaltInvocationError for another name or verb. The agent is not told: use it only for what the agent
    does not run (its application disabled).
    """
    if name not in ("re6st", "slapos") or verb not in ("start", "stop", "status", "info"):
        raise SaltInvocationError(
            f"there is no {name} {verb}: re6st or slapos, and start, stop, status or info"
        )
    module, service = __utils__["slapos_launcher.service"](__salt__, __opts__, name)
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


def on_ha_filesystem(path, mount, device=""):
    """
    Prove that a folder is a mount of the service's filesystem, and that this filesystem is mounted on this node.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_node.on_ha_filesystem /etc/re6stnet /srv/comp1.slapos.svc.paris /dev/drbd0

    path
        The folder, a bind mount of the agent (str).
    mount
        Where the filesystem itself is mounted (str).
    device
        The block device that it has to be on (str); empty: any.

    Returns True, or False when the filesystem is not mounted here. Raises CommandExecutionError when it is and the folder is not one of its binds, or it
    is on another device: what is written there would stay on this node alone.
    """
    mounts = _mounts()
    if mount not in mounts:
        return False
    wrong = ""
    if path not in mounts:
        wrong = f"{path} is no mount"
    elif mounts[path][0] != mounts[mount][0]:
        wrong = f"{path} is another filesystem ({mounts[path][2]})"
    elif device and mounts[mount][0] != _number(device):
        wrong = f"{mount} is on {mounts[mount][2]}, not on {device}"
    if wrong:
        raise CommandExecutionError(
            f"{mount} is mounted here, but {wrong}: what is written to {path} would stay on this node alone. See the service's fs resources: "
            "om print status"
        )
    return True


def unallocated(path):
    """
    Return how much of a file has no blocks on its disk yet.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_node.unallocated /opt/comp1.slapos.svc.paris.img

    path
        The file (str).

    Returns bytes (int), 0 when all of it is there. Raises CommandExecutionError where there is no such file.
    """
    try:
        found = os.stat(path)
    except OSError as error:
        raise CommandExecutionError(f"{path}: {error.strerror}") from None
    return max(0, found.st_size - found.st_blocks * 512)


def allocate(path):
    """
    Give all of a file blocks on its disk. What is in it stays, also while it is in use.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_node.allocate /opt/comp1.slapos.svc.paris.img

    path
        The file (str).

    Returns True, or False on a filesystem that cannot (``fallocate`` of util-linux 2.38: Operation not supported). Raises CommandExecutionError when there is
    not enough room.
    """
    missing = unallocated(path)
    # Before it is tried: what fallocate has given it keeps when it fails, and the disk would be full.
    about = os.statvfs(path)
    free = about.f_bavail * about.f_frsize
    if missing > free:
        raise CommandExecutionError(
            f"{path}: {missing >> 20} MiB of it have no blocks yet, and {free >> 20} MiB are free. Make room on that filesystem"
        )
    done = __salt__["cmd.run_all"](
        ["fallocate", "--length", str(os.path.getsize(path)), path],
        python_shell=False,
        ignore_retcode=True,
        output_loglevel="quiet",
        env={"LC_ALL": "C"},
    )
    if done["retcode"] == 0:
        return True
    if "not supported" in done["stderr"]:
        return False
    raise CommandExecutionError(
        f"{path}: {missing >> 20} MiB of it have no blocks yet, and cannot get them: {done['stderr'].strip()}"
    )


def _number(device):
    try:
        number = os.stat(device).st_rdev
    except OSError:
        return None
    return f"{os.major(number)}:{os.minor(number)}"


# --- Facts ------------------------------------------------------------------------------------------------------------------------------------


def installed_versions(prefix):
    """
    Read the versions of the Python packages of an environment, without starting a process.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_node.installed_versions /opt/re6st

    prefix
        The environment's folder (str).

    Returns ``{name: version}`` from the names of the packages' metadata folders, in lower case with underscores; empty when there is no environment.
    """
    found = {}
    lib = os.path.join(prefix, "lib")
    for python in sorted(os.listdir(lib)) if os.path.isdir(lib) else ():
        packages = os.path.join(lib, python, "site-packages")
        for entry in os.listdir(packages) if os.path.isdir(packages) else ():
            # name-version.dist-info, and name-version-py3.11.egg-info of what has no wheel
            match = re.fullmatch(r"(.+?)-([^-]+)(?:\.dist-info|(?:-py[\d.]+)?\.egg-info)", entry)
            if match:
                found[__utils__["slapos_text.normal"](match[1])] = match[2]
    return found


def missing_requirements(prefix, requirements):
    """
    Compare an environment with pinned requirements, without starting a process.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_node.missing_requirements /opt/re6st '["re6stnet==0.642"]'

    prefix
        The environment's folder (str).
    requirements
        A list of ``name==version`` (list of str).

    Returns ``{name: {"old": version or None, "new": version}}`` of those that differ. Raises SaltInvocationError for a requirement
    that is not pinned.
    """
    have = installed_versions(prefix)
    release = __utils__["slapos_text.release"]
    differing = {}
    for requirement in requirements:
        name, _, version = requirement.partition("==")
        if not version:
            raise SaltInvocationError(f"{requirement!r} is not pinned: give name==version")
        # "1.0" and "1.0.0" are one version to pip, and metadata folders may have either.
        old = have.get(__utils__["slapos_text.normal"](name))
        if old is None or release(old) != release(version):
            differing[name] = {"old": old, "new": version}
    return differing


def missing_programs(programs, path=""):
    """
    Look up programs, without starting a process.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_node.missing_programs '["openvpn", "babeld", "/usr/lib/python3*/ensurepip"]' /opt/re6st/bin

    programs
        Names, or absolute paths in which shell patterns are allowed (list of str).
    path
        Folders to look in before the system's, separated by colons (str).

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


def _facts(kind, package, folder, more):
    site = __salt__["slapos_ha.site"]()
    version = installed_versions(site[kind]["install"]["prefix"]).get(
        __utils__["slapos_text.normal"](package)
    )
    facts = {
        "installed": {package: version} if version else {},
        "units": _unit_facts(kind),
        "registered": None,
        "health": None,
    }
    try:
        if not on_ha_filesystem(folder, site["mount"]):
            return facts
    except CommandExecutionError as error:
        return {**facts, "problem": str(error)}
    module, service = __utils__["slapos_launcher.service"](__salt__, __opts__, kind)
    facts["registered"] = not service.missing()
    try:
        facts.update(more(service) if facts["registered"] else {})
        code, infos, warnings = service.status()
        facts["health"] = {"code": code, "infos": infos, "warnings": warnings}
    except module.Failure as failure:
        facts["problem"] = str(failure)
    return facts


def re6st_facts():
    """
    Say how re6st is on this node, changing nothing.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_node.re6st_facts

    Returns ``{"installed": {"re6stnet": version}, "units": {unit: "masked" | "not masked"}, "registered": bool or None where the filesystem is not
    mounted, "prefix": network or None, "health": None or {"code", "infos", "warnings"}}``, and "problem" when a bind is missing or a certificate spoiled.
    """

    def prefix(service):
        return {"prefix": str(service.own().network)}

    return {"prefix": None, **_facts("re6st", "re6stnet", RE6ST_DIR, prefix)}


def slapos_facts():
    """
    Say how SlapOS is on this node, changing nothing and starting no supervisord.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_node.slapos_facts

    Returns ``{"installed": {"slapos.core": version}, "units": {unit: "masked" | "not masked"}, "cron": bool, "registered": bool or None where the
    filesystem is not mounted, "computer": id or None, "ran": bool, "health": None or {"code", "infos", "warnings"}}``, and "problem" when a bind is missing or
    supervisord does not answer.
    """

    def computer(service):
        return {"computer": service.option("computer_id")}

    facts = {
        "computer": None,
        "cron": os.path.exists(CRON),
        "ran": __utils__["slapos_text.has_run"](INSTANCE_ROOT),
    }
    return {
        **facts,
        **_facts("slapos", "slapos.core", os.path.dirname(os.path.dirname(SLAPOS_CFG)), computer),
    }


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
    Compare this node's own users and groups with those that SlapOS is to find.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_node.user_differences 5000 5001 3 /opt/slapgrid /srv/slapgrid

    slapsoft_id, slapuser_first_id
        Ids of user and group alike (int); slapuser0 has the second, slapuser1 the next.
    partition_number
        How many slapuserN there are (int).
    software_root, instance_root
        Folders below which the users' homes are (str).

    Returns ``{"wanted": {...}, "missing": {"users": [...], "groups": [...]}, "conflicts": [sentence, ...]}``. Only local files are
    read: a directory service must not know these names.
    """
    wanted = __utils__["slapos_text.wanted_users"](
        slapsoft_id, slapuser_first_id, partition_number, software_root, instance_root
    )
    passwd, groups = _names()
    missing, conflicts = __utils__["slapos_text.compare_users"](wanted, passwd, groups)
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

    Returns ``{"users": {name: [user id, group id or None]}, "wanted": {name: {"id", "home"}}, "missing": {...}, "conflicts": [sentence, ...]}``.
    """
    differences = user_differences(**_site_users())
    passwd, groups = _names()
    return {
        "users": {
            name: [passwd[name], groups.get(name)]
            for name in differences["wanted"]
            if name in passwd
        },
        "wanted": differences["wanted"],
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
    Ask a re6st registry for its CA and compare the digest; this costs no token.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_node.registry_check http://192.0.2.1:9201 sha256:41f2...

    url
        The registry, ``http://`` or ``https://`` (str).
    fingerprint
        ``algorithm:hexadecimal digest`` of the CA certificate in DER (str).
    timeout
        Seconds (int) to wait for the answer.

    Returns ``{"reachable": True, "fingerprint": what the CA has}``. Raises CommandExecutionError when the registry does not answer, is none, or its CA
    is another, SaltInvocationError for a fingerprint that is none.
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
    See whether something answers at a SlapOS master's address.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_node.master_check https://slap.example.com/

    url
        The master or its panel, ``http://`` or ``https://`` (str).
    timeout
        Seconds (int) to wait for the answer.

    Returns ``{"reachable": True, "status": HTTP status}``; ``{"reachable": None, "why": ...}`` when the address is IPv6 only, which may need re6st to be
    up first. Raises CommandExecutionError when it does not answer. Any HTTP answer will do: the master refuses whom it does not know.
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
