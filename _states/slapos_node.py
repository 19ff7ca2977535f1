"""
re6st and SlapOS on one node: installed alike on both, registered once, prepared for the cluster to run them.

Nothing here is started for good: the OpenSVC agent does that. What writes to the service's filesystem refuses to where it is not mounted.

.. code-block:: yaml

    re6st is installed in /opt/re6st:
      slapos_node.environment_present:
        - name: /opt/re6st
        - requirements: [re6stnet==0.642, pyOpenSSL==24.2.1]
"""

import os

import salt.utils.files
from salt.exceptions import CommandExecutionError, SaltInvocationError

__virtualname__ = "slapos_node"

_ERRORS = (CommandExecutionError, SaltInvocationError)


def __virtual__():
    if "slapos_node.ids" in __salt__:
        return __virtualname__
    return False, "the execution module slapos_node is not there: salt '*' saltutil.sync_all"


def _ret(name, comment="", result=True, changes=None):
    return {"name": name, "result": result, "changes": changes or {}, "comment": comment}


def _converge(name, read, act, good, would):
    """
    The one way of all states here: read, stop if good, stop if test, act, read again.

    ``read`` returns what differs as {what: {"old", "new"}}; an empty dict is good.
    """
    ret = _ret(name)
    changes, said, acting = {}, "", False
    try:
        changes = read()
        if not changes:
            ret["comment"] = good
            return ret
        if __opts__["test"]:
            ret.update(result=None, changes=changes, comment=would)
            return ret
        acting = True
        said = act(changes)
        left = read()
    except _ERRORS as error:
        ret.update(result=False, comment=str(error))
        if acting:
            # What was done before the failure is done, and belongs into the report.
            try:
                left = read()
            except _ERRORS:
                left = changes
            ret["changes"] = {key: value for key, value in changes.items() if key not in left}
        return ret
    ret["changes"] = {key: value for key, value in changes.items() if key not in left}
    if left:
        ret["result"] = False
        ret["comment"] = "There were no errors, but this is still so: " + "; ".join(
            f"{key} is {value['old']!r}, not {value['new']!r}" for key, value in left.items()
        )
    else:
        ret["comment"] = said or good
    return ret


def _needs_filesystem(path, mount, device=""):
    if not __salt__["slapos_node.on_ha_filesystem"](path, mount, device):
        raise CommandExecutionError(
            f"{mount} is not mounted on this node, and {path} has to lie on it. Run this where the service runs"
        )


def file_allocated(name):
    """
    All of a file has blocks on its disk: nothing that fills the disk later can take them.

    .. code-block:: yaml

        The loop file below DRBD has all of its blocks:
          slapos_node.file_allocated:
            - name: /opt/comp1.slapos.svc.paris.img

    name
        The file (str).

    What is in it stays, also while it is in use. On a filesystem that cannot the comment says so. It fails where there is no such file, or not enough room.
    """
    able = [True]

    def read():
        missing = __salt__["slapos_node.unallocated"](name) if able[0] else 0
        return {"blocks": {"old": f"{missing >> 20} MiB missing", "new": "all"}} if missing else {}

    def act(changes):
        able[0] = __salt__["slapos_node.allocate"](name)
        return (
            ""
            if able[0]
            else "this filesystem cannot give blocks to a file before it is written: see that the disk does not get full"
        )

    ret = _converge(name, read, act, "all of it has blocks", "it would be given all of its blocks")
    if not able[0]:
        ret["changes"] = {}
    return ret


# --- On both nodes, at any time --------------------------------------------------------------------------------------------------------------------


def users_present(
    name, slapsoft_id, slapuser_first_id, partition_number, software_root, instance_root
):
    """
    See that SlapOS's users and groups have the site's ids, on both nodes the same.

    .. code-block:: yaml

        Users of SlapOS have the site's ids:
          slapos_node.users_present:
            - slapsoft_id: 5000
            - slapuser_first_id: 5001
            - partition_number: 10
            - software_root: /srv/comp1.slapos.svc.paris/slapos/opt/slapgrid
            - instance_root: /srv/slapgrid

    name
        What is so afterwards, for the report (str).
    slapsoft_id, slapuser_first_id
        Ids of user and group alike (int); slapuser0 has the second, slapuser1 the next.
    partition_number
        How many slapuserN there are (int).
    software_root, instance_root
        Folders below which their homes are (str).

    A user that is there with another id is never changed, and the state fails: its files would change owner.
    """
    wanted = (slapsoft_id, slapuser_first_id, partition_number, software_root, instance_root)

    def read():
        differences = __salt__["slapos_node.user_differences"](*wanted)
        if differences["conflicts"]:
            raise CommandExecutionError(
                "The users differ from the site's, and files would change owner with a switch: "
                + "; ".join(differences["conflicts"])
                + ". Give the user its id (usermod -u, groupmod -g, then chown its files), or choose ids that are free on both nodes: slapos_ha:slapos:users"
            )
        changes = {}
        for kind in ("groups", "users"):
            for user in differences["missing"][kind]:
                number = differences["wanted"][user]["id"]
                changes[f"{kind[:-1]} {user}"] = {"old": None, "new": number}
        return changes

    def act(changes):
        users = __salt__["slapos_node.user_differences"](*wanted)["wanted"]
        for key in changes:
            kind, user = key.split()
            number = users[user]["id"]
            if kind == "group":
                done = __salt__["group.add"](user, gid=number)
            else:
                done = __salt__["user.add"](
                    user,
                    uid=number,
                    gid=number,
                    groups=[] if user == "slapsoft" else ["slapsoft"],
                    home=users[user]["home"],
                    createhome=False,
                    shell="/bin/sh",
                )
            if not done:
                raise CommandExecutionError(f"{kind} {user} with id {number} could not be made")

    return _converge(
        name,
        read,
        act,
        f"slapsoft and {partition_number} partition users have the site's ids",
        "users or groups would be made",
    )


def units_masked(name, units):
    """
    See that units of the distribution neither run nor start by themselves: the cluster owns what they would run.

    .. code-block:: yaml

        re6st is the cluster's to run:
          slapos_node.units_masked:
            - units: [re6stnet.service, re6st-registry.service]

    name
        What is so afterwards, for the report (str).
    units
        Their names, with their suffix (list of str).

    They need not exist yet: masked before its package is installed, a unit is never started by it.
    """

    def read():
        changes = {}
        for unit in units:
            path = f"/etc/systemd/system/{unit}"
            if not (os.path.islink(path) and os.readlink(path) == "/dev/null"):
                changes[unit] = {"old": "not masked", "new": "masked"}
        return changes

    def act(changes):
        # What systemd has not read cannot run, and is found masked when it is wanted; for the rest it has to read all of its units again, seconds of a small host.
        known = _systemctl("list-units", "--all", "--full", "--plain", "--no-legend", *changes)
        again = "--now" if known["retcode"] or known["stdout"].strip() else "--no-reload"
        done = _systemctl("mask", again, *changes)
        # 5 is systemctl's "not loaded": there was nothing to stop. That all are masked is read again.
        if done["retcode"] not in (0, 5):
            raise CommandExecutionError(f"systemctl mask: {done['stderr'] or done['stdout']}")

    return _converge(name, read, act, f"{', '.join(units)}: masked", "units would be masked")


def _systemctl(*words):
    return __salt__["cmd.run_all"](
        ["systemctl", *words], python_shell=False, ignore_retcode=True, timeout=180
    )


def cron_diverted(name):
    """
    See that a cron file of a package is not there, and does not come with the package's next version.

    .. code-block:: yaml

        SlapOS's cron jobs are the cluster's:
          slapos_node.cron_diverted:
            - name: /etc/cron.d/slapos-node

    name
        The file (str). On systems without dpkg it is removed.

    The cluster runs these jobs, where the service is.
    """
    # cron does not read files with a dot in their name.
    aside = f"{name}.slapos_ha"
    database = "/var/lib/dpkg/diversions"

    def diverted():
        if not os.path.exists(database):
            return not os.path.exists("/usr/bin/dpkg-divert")
        with salt.utils.files.fopen(database) as handle:
            return f"{name}\n" in handle

    def read():
        changes = {}
        if not diverted():
            changes["diversion"] = {"old": None, "new": aside}
        if os.path.lexists(name):
            changes["file"] = {"old": name, "new": None}
        return changes

    def act(changes):
        if "diversion" in changes:
            args = ["dpkg-divert", "--local", "--rename", "--divert", aside, "--add", name]
            done = __salt__["cmd.run_all"](args, python_shell=False, ignore_retcode=True)
            if done["retcode"]:
                raise CommandExecutionError(f"dpkg-divert {name}: {done['stderr']}")
        if os.path.lexists(name):
            os.remove(name)

    return _converge(name, read, act, f"{name} is diverted", f"{name} would be diverted")


def environment_present(
    name, requirements, find_links="", no_index=False, hashes=None, python="/usr/bin/python3"
):
    """
    See that a Python environment holds packages of given versions.

    .. code-block:: yaml

        re6st is installed in /opt/re6st:
          slapos_node.environment_present:
            - name: /opt/re6st
            - requirements: [re6stnet==0.642, pyOpenSSL==24.2.1, cryptography==43.0.3]
            - find_links: /usr/share/wheels
            - no_index: true

    name
        The environment's folder (str). Users of SlapOS's build run its interpreter: the path has to be readable for everybody.
    requirements
        A list of ``name==version`` (list of str). With hashes, of everything that is to be installed.
    find_links
        A folder or an address with wheels, or empty (str).
    no_index
        Ask no package index (bool): what is not in find_links is missing.
    hashes
        ``{name: ["sha256:HEX", ...]}`` (dict); what does not match is not installed. Empty: not checked.
    python
        The interpreter that the environment is made of (str).

    When the environment has them already, no process is started.
    """

    def read():
        return __salt__["slapos_node.environment_missing"](name, requirements)

    def act(changes):
        __salt__["slapos_node.environment_install"](
            name, requirements, find_links, no_index, hashes, python
        )

    return _converge(
        name,
        read,
        act,
        f"{name} has {', '.join(requirements)}",
        f"packages would be installed into {name}",
    )


def programs_present(name, programs, path="", packages=()):
    """
    See that programs are there.

    .. code-block:: yaml

        What re6st runs is there:
          slapos_node.programs_present:
            - programs: [openvpn, openssl, ip]
            - packages: [openvpn, openssl, iproute2]

    name
        What is so afterwards, for the report (str).
    programs
        Names to look up, or absolute paths in which shell patterns are allowed (list of str).
    path
        Folders to look in before the system's, separated by colons (str).
    packages
        The distribution's packages that bring them (list of str); empty when somebody else installs them.

    When they are there, the package manager is not asked, which costs processes.
    """

    def read():
        missing = __salt__["slapos_node.missing_programs"](programs, path)
        return {program: {"old": None, "new": "installed"} for program in missing}

    def act(changes):
        if not packages:
            raise CommandExecutionError(
                f"{', '.join(changes)} missing: install it, or give its folder in the pillar (install:path)"
            )
        __salt__["pkg.install"](pkgs=list(packages), refresh=True)

    would = f"would install {', '.join(packages)}" if packages else "missing as yet"
    return _converge(name, read, act, f"{', '.join(programs)} found", would)


# --- Where the service runs ---------------------------------------------------------------------------------------------------------------------


def re6st_registered(
    name, mount, token_pillar, registry, fingerprint, title, location="", device=""
):
    """
    See that this service has its re6st certificate; registers it when there is none.

    .. code-block:: yaml

        re6st is registered:
          slapos_node.re6st_registered:
            - name: /etc/re6stnet
            - mount: /srv/comp1.slapos.svc.paris
            - token_pillar: slapos_ha:re6st:token
            - registry: http://192.0.2.1:9201
            - fingerprint: sha256:41f2...
            - title: comp1

    name
        The folder of certificate and configuration, a bind mount of the service's filesystem (str).
    mount
        Where that filesystem is mounted (str); elsewhere nothing is registered.
    token_pillar
        The pillar key (str) of the token.
    registry, fingerprint, title, location
        As for ``slapos_node.re6st_register`` (str).
    device
        The block device (str) that the filesystem has to be on, so that what is registered is replicated; empty: any.

    Never registers twice: another token is another prefix.
    """

    def read():
        _needs_filesystem(name, mount, device)
        if __salt__["slapos_node.re6st_registered"](name):
            return {}
        return {"certificate": {"old": None, "new": f"{name}/cert.crt from {registry}"}}

    def act(changes):
        # A wrong address or fingerprint is told before the token, which works once, is on its way.
        __salt__["slapos_node.registry_check"](registry, fingerprint)
        return __salt__["slapos_node.re6st_register"](
            token_pillar, registry, fingerprint, title, location, name
        )

    return _converge(
        name, read, act, f"{name} holds a certificate", f"{title} would be registered at {registry}"
    )


def re6st_configured(
    name, mount, registry, options, location="", private=("/var/log/re6stnet", "/var/lib/re6stnet")
):
    """
    See that re6stnet.conf has the site's options, and that the log, which holds the mesh's key, is root's alone.

    .. code-block:: yaml

        re6st is configured:
          slapos_node.re6st_configured:
            - name: /etc/re6stnet
            - mount: /srv/comp1.slapos.svc.paris
            - registry: http://192.0.2.1:9201
            - options: [run /run/re6stnet, ip any]

    name
        The folder of re6stnet.conf, a bind mount of the service's filesystem (str).
    mount
        Where that filesystem is mounted (str).
    registry
        The registry's address (str).
    options
        Lines of re6stnet.conf that are the site's (list of str). One that is no longer among them leaves the file.
    location
        Country and continent such as ``FR,EU``, or empty (str).
    private
        Folders that are root's alone (list of str): the log and the state of re6st hold the mesh's key.

    Lines that it does not name stay. A running daemon keeps its options until its next start.
    """
    path = os.path.join(name, "re6stnet.conf")
    lines = [f"registry {registry}", "ca ca.crt", "cert cert.crt", "key cert.key"]
    lines += [f"country {location.split(',')[0]}"] if location else []

    def current():
        if not os.path.exists(path):
            return ""
        with salt.utils.files.fopen(path) as handle:
            return handle.read()

    def read():
        _needs_filesystem(name, mount)
        changes = {}
        old = current()
        new = __utils__["slapos_text.merge_conf"](old, lines, options)
        if old != new:
            gone = [line for line in old.splitlines() if line not in new.splitlines()]
            come = [line for line in new.splitlines() if line not in old.splitlines()]
            changes[path] = {"old": gone, "new": come}
        for folder in private:
            mode = f"{os.stat(folder).st_mode & 0o777:o}" if os.path.isdir(folder) else None
            if mode != "700":
                changes[folder] = {"old": mode, "new": "700"}
        return changes

    def act(changes):
        for folder in private:
            os.makedirs(folder, exist_ok=True)
            os.chmod(folder, 0o700)
        if path in changes:
            _replace(path, __utils__["slapos_text.merge_conf"](current(), lines, options))

    ret = _converge(name, read, act, f"{path} has the site's options", f"{path} would be changed")
    if ret["result"] and path in ret["changes"]:
        ret["comment"] += "; a running daemon keeps its own until its next start"
    return ret


def _replace(path, text):
    """Write a file at once: a crash leaves the old or the new one."""
    mode = os.stat(path).st_mode & 0o777 if os.path.exists(path) else 0o644
    with salt.utils.files.fopen(path + ".new", "w") as handle:
        handle.write(text)
        os.fchmod(handle.fileno(), mode)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(path + ".new", path)


def re6st_valid(name, mount):
    """
    See that re6stnet accepts its configuration, key and certificates; starts nothing and changes nothing.

    .. code-block:: yaml

        re6st accepts its configuration:
          slapos_node.re6st_valid:
            - name: /etc/re6stnet
            - mount: /srv/comp1.slapos.svc.paris

    name
        The folder of re6stnet.conf (str).
    mount
        Where the service's filesystem is mounted (str).
    """
    try:
        _needs_filesystem(name, mount)
        if __opts__["test"] and not __salt__["slapos_node.re6st_registered"](name):
            return _ret(name, "would be tried once it is registered", None)
        __salt__["slapos_node.re6st_verify"](name)
    except _ERRORS as error:
        return _ret(name, str(error), False)
    return _ret(name, f"re6stnet accepts {name}")


def slapos_registered(
    name, mount, token_pillar, master_url, web_master_url, computer_name, interface,
    partition_number, ipv4_local_network, software_root, instance_root, device="",
):  # fmt: skip
    """
    See that this service is a computer of a SlapOS master; registers it when it is none.

    .. code-block:: yaml

        SlapOS is registered:
          slapos_node.slapos_registered:
            - name: /etc/opt/slapos/slapos.cfg
            - mount: /srv/comp1.slapos.svc.paris
            - token_pillar: slapos_ha:slapos:token
            - master_url: https://slap.example.com/
            - web_master_url: https://panel.example.com
            - computer_name: comp1
            - interface: lo
            - partition_number: 10
            - ipv4_local_network: 10.0.0.0/16
            - software_root: /srv/comp1.slapos.svc.paris/slapos/opt/slapgrid
            - instance_root: /srv/slapgrid

    name
        The path of slapos.cfg, below /etc/opt, which is a bind mount of the service's filesystem (str).
    mount
        Where that filesystem is mounted (str); elsewhere nothing is registered.
    token_pillar
        The pillar key (str) of the token.
    master_url, web_master_url, computer_name, interface, partition_number, ipv4_local_network, software_root, instance_root
        As for ``slapos_node.slapos_register`` (str, partition_number int).
    device
        The block device (str) that the filesystem has to be on, so that what is registered is replicated; empty: any.

    Never registers twice: that would be another computer.
    """

    def read():
        _needs_filesystem(os.path.dirname(os.path.dirname(name)), mount, device)
        _needs_filesystem(instance_root, mount, device)
        if __salt__["slapos_node.slapos_registered"](name):
            return {}
        return {"computer": {"old": None, "new": f"{computer_name} at {web_master_url}"}}

    def act(changes):
        computer = __salt__["slapos_node.slapos_register"](
            token_pillar, master_url, web_master_url, computer_name, interface, partition_number,
            ipv4_local_network, software_root, instance_root, name,
        )  # fmt: skip
        return f"registered as {computer}"

    return _converge(
        name,
        read,
        act,
        f"{name} and the certificate that it names are there",
        f"{computer_name} would be registered at {web_master_url}",
    )


def slapos_configured(name, mount, values, absent=()):
    """
    See that slapos.cfg has the site's values.

    .. code-block:: yaml

        SlapOS is configured:
          slapos_node.slapos_configured:
            - name: /etc/opt/slapos/slapos.cfg
            - mount: /srv/comp1.slapos.svc.paris
            - values:
                slapformat: {computer_xml: /srv/comp1.slapos.svc.paris/slapos/slapos.xml}
            - absent: [networkcache]

    name
        The path of slapos.cfg, below /etc/opt, which is a bind mount of the service's filesystem (str).
    mount
        Where that filesystem is mounted (str).
    values
        ``{section: {key: value}}`` (dict).
    absent
        Sections that go (list of str).

    What it does not name stays. What has to follow the service lies on its filesystem, what belongs to a node below /run.
    """

    def current():
        with salt.utils.files.fopen(name) as handle:
            return handle.read()

    def read():
        _needs_filesystem(os.path.dirname(os.path.dirname(name)), mount)
        if not os.path.exists(name):
            if __opts__["test"]:
                return {name: {"old": None, "new": values}}
            raise CommandExecutionError(f"{name} is not there: SlapOS is not registered")
        have = __utils__["slapos_text.read_cfg"](current(), name)
        changes = {}
        for section, keys in values.items():
            for key, value in keys.items():
                old = have.get(section, {}).get(key)
                if old != str(value):
                    changes[f"{section}:{key}"] = {"old": old, "new": str(value)}
        for section in absent:
            if section in have:
                changes[section] = {"old": sorted(have[section]), "new": None}
        return changes

    def act(changes):
        _replace(name, __utils__["slapos_text.merge_cfg"](current(), values, absent))

    return _converge(name, read, act, f"{name} has the site's values", f"{name} would be changed")


def slapos_formatted(name, mount, timeout=900):
    """
    See that this node's partitions have their folders and owners, and addresses where SlapOS runs.

    .. code-block:: yaml

        SlapOS's partitions are formatted:
          slapos_node.slapos_formatted:
            - name: /srv/slapgrid
            - mount: /srv/comp1.slapos.svc.paris

    name
        The folder of the partitions, a bind mount of the service's filesystem (str).
    mount
        Where that filesystem is mounted (str).
    timeout
        Seconds (int). The first time, each partition takes about four.

    The master need not answer; when it does not, the comment says so.
    """
    notes = []

    def read():
        _needs_filesystem(name, mount)
        wrong = __salt__["slapos_node.partitions"]()
        return {"partitions": {"old": wrong, "new": "formatted"}} if wrong else {}

    def act(changes):
        if not __salt__["slapos_node.slapos_format"](timeout):
            notes.append("the master could not be told: it cannot be reached")

    ret = _converge(
        name, read, act, "the partitions are formatted", "the partitions would be formatted"
    )
    ret["comment"] = "; ".join([ret["comment"], *notes])
    return ret


def slapos_proven(name, mount, cluster_runs_it=False, timeout=900):
    """
    See that SlapOS has run on this service's filesystem: releases built, partitions deployed, supervisord's watchdog RUNNING.

    .. code-block:: yaml

        SlapOS has run once:
          slapos_node.slapos_proven:
            - name: /srv/slapgrid
            - mount: /srv/comp1.slapos.svc.paris
            - cluster_runs_it: false

    name
        The folder of the partitions, a bind mount of the service's filesystem (str).
    mount
        Where that filesystem is mounted (str).
    cluster_runs_it
        True (bool) when the agent's application for SlapOS is enabled: what runs is left alone.
    timeout
        Seconds (int) for each of format, software and instance.

    Partitions that are not formatted are before the first run. As long as the cluster does not run it (app#1 disabled) it is stopped again, or the filesystem could
    not leave this node.
    """
    notes = []

    def read():
        _needs_filesystem(name, mount)
        if not __utils__["slapos_text.has_run"](name):
            return {"first run": {"old": None, "new": "done, with the watchdog RUNNING"}}
        code = 1 if cluster_runs_it else __salt__["slapos_node.launch"]("slapos", "status")["code"]
        return {} if code == 1 else {"running": {"old": True, "new": False}}

    def act(changes):
        if "first run" in changes:
            codes = __salt__["slapos_node.slapos_run"](timeout)
            if codes.get("format") == 2 or codes["instance"] == 3:
                notes.append("the master cannot be reached")
            __salt__["slapos_node.launch"]("slapos", "start")
            state = __salt__["slapos_node.launch"]("slapos", "status")
            if state["code"]:
                raise CommandExecutionError(
                    f"SlapOS ran, but is not well: {'; '.join(state['warnings'])}"
                )
            notes.append("SlapOS ran with its watchdog RUNNING")
        if not cluster_runs_it:
            __salt__["slapos_node.launch"]("slapos", "stop")
            notes.append("stopped for the cluster to start it")
        return "; ".join(notes)

    return _converge(
        name, read, act, "SlapOS has run on this filesystem", "SlapOS would be run, and stopped"
    )
