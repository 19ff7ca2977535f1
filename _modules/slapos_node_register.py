"""
The calls of ``slapos_node`` that change something: registering once, preparing partitions. The other half, which only looks, is in slapos_node.py.

:depends: the ``slapos_ha`` module of this formula for the site's values
"""

import contextlib
import grp
import ipaddress
import json
import os
import random
import re
import tempfile

import salt.utils.data
import salt.utils.files
import salt.utils.path
from salt.exceptions import CommandExecutionError, SaltInvocationError

# Salt's loader joins the functions of all files of one virtual name.
__virtualname__ = "slapos_node"

RE6ST_DIR = "/etc/re6stnet"
SLAPOS_CFG = "/etc/opt/slapos/slapos.cfg"
INSTANCE_ROOT = "/srv/slapgrid"

# Bytes that have to be free where a certificate will be.
_ROOM = 1 << 20


def __virtual__():
    return __virtualname__


def _launcher(name):
    return __utils__["slapos_launcher.service"](__salt__, __opts__, name)


def _read(path):
    with salt.utils.files.fopen(path) as handle:
        return __utils__["slapos_text.read_cfg"](handle.read(), path)


def _run(args, what, secret=None, timeout=120, good=(0,), errors=None, **kwargs):
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
        # Without it Salt makes a newline of a backslash with an n.
        stdin_raw_newlines=True,
        **kwargs,
    )
    output = done["stdout"].replace(secret, "(secret)") if secret else done["stdout"]
    if done["retcode"] in good:
        return done["retcode"], output
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    meaning = __utils__["slapos_text.explain"](errors, output) if errors else None
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


def _script(name, prefix, method):
    path = os.path.join(prefix, "bin", name)
    if method != "pip" and not os.path.exists(path):
        path = salt.utils.path.which(name)
    if not path or not os.path.exists(path):
        raise CommandExecutionError(f"{name} is not installed here: apply slapos_ha first")
    return path


def _room(folder):
    """Prove that a folder, or the nearest there is above it, takes a certificate: neither service gives one twice, and both give it before they write it."""
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_ROOM))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise CommandExecutionError(
            f"{folder} does not take {_ROOM >> 20} MiB: {error.strerror}. Nothing was asked for: the certificate is given once and could not be kept"
        ) from None


# re6st-conf takes its token as an argument only. Inside the process the argument list is longer than the one that everybody can see.
_WITH_TOKEN = (
    "import sys, runpy; s = sys.argv[1]; sys.argv = [s] + sys.argv[2:] + ['--token=' + sys.stdin.readline().strip()]; "
    "runpy.run_path(s, run_name='__main__')"
)


def re6st_registered(conf_dir=RE6ST_DIR):
    """
    Say whether a folder holds a re6st registration: key, certificate and CA.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_node.re6st_registered

    conf_dir
        The folder of re6stnet.conf (str).

    Returns True or False. True on the node where the filesystem is mounted only; see :py:func:`on_ha_filesystem`.
    """
    return all(
        os.path.isfile(path) and os.path.getsize(path)
        for path in (os.path.join(conf_dir, name) for name in ("ca.crt", "cert.crt", "cert.key"))
    )


def re6st_register(token_pillar, registry, fingerprint, title, location="", conf_dir=RE6ST_DIR):
    """
    Get this service's certificate, and with it its IPv6 prefix, from a re6st registry; refuses a second time.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_node.re6st_register slapos_ha:re6st:token http://192.0.2.1:9201 sha256:41f2... comp1

    token_pillar
        The pillar key (str) that holds the token; the token itself reaches re6st-conf by its standard input.
    registry, fingerprint
        The registry's address, and its CA's digest as ``sha256:HEX`` (str).
    title
        The node's title in the registry (str).
    location
        Country and continent such as ``FR,EU``, or empty (str).
    conf_dir
        The folder to write to, on the service's filesystem (str).

    Returns the line in which re6st-conf names the subnet. Raises CommandExecutionError with what to do when it fails, and when there is a registration: a
    second token would bring another prefix and change every address. Raises SaltInvocationError when the pillar has no token.
    """
    if re6st_registered(conf_dir):
        raise CommandExecutionError(
            f"{conf_dir} holds a registration. A new token would bring another prefix: every SlapOS address would change"
        )
    install = __salt__["slapos_ha.site"]()["re6st"]["install"]
    script = _script("re6st-conf", install["prefix"], install["method"])
    interpreter = _interpreter(script)
    if not interpreter:
        raise CommandExecutionError(
            f"{script} is no Python script, so it cannot get the token unseen. Register by hand in {conf_dir}, then run again"
        )
    args = [*interpreter, "-c", _WITH_TOKEN, script, "--registry", registry]
    args += ["--fingerprint", fingerprint, "-d", conf_dir, "-r", "title", title]
    if location:
        args += ["--location", location]
    _room(conf_dir)
    _, output = _run(
        args, "re6st-conf", secret=_secret(token_pillar), errors="re6st-conf", umask="077"
    )
    if not re6st_registered(conf_dir):
        raise CommandExecutionError(f"re6st-conf ended well, but {conf_dir} has no certificate")
    return next((line for line in output.splitlines() if line.startswith("Your subnet")), "")


def re6st_verify(conf_dir=RE6ST_DIR):
    """
    Let re6stnet check its configuration, key and certificates against each other, without starting.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_node.re6st_verify

    conf_dir
        The folder of re6stnet.conf (str).

    Returns True. Raises CommandExecutionError with re6stnet's last line when it does not accept them.
    """
    install = __salt__["slapos_ha.site"]()["re6st"]["install"]
    program = _script("re6stnet", install["prefix"], install["method"])
    args = [program, "@re6stnet.conf", "--test", "0"]
    _run(args, "re6stnet --test", errors="re6stnet", cwd=conf_dir, timeout=60)
    return True


def slapos_registered(config=SLAPOS_CFG):
    """
    Say whether SlapOS is registered: slapos.cfg, and the key and certificate that it names.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_node.slapos_registered

    config
        The path of slapos.cfg (str).

    Returns True or False. True on the node where the filesystem is mounted only; see :py:func:`on_ha_filesystem`.
    """
    if not os.path.isfile(config):
        return False
    parsed = _read(config)
    files = [parsed.get("slapos", {}).get(key) for key in ("key_file", "cert_file")]
    return all(path and os.path.isfile(path) and os.path.getsize(path) for path in files)


def slapos_register(
    token_pillar, master_url, web_master_url, computer_name, interface, partition_number,
    ipv4_local_network, software_root, instance_root=INSTANCE_ROOT, config=SLAPOS_CFG,
):  # fmt: skip
    """
    Register this service as a computer at a SlapOS master; refuses a second time.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_node.slapos_register slapos_ha:slapos:token https://slap.example.com/ https://panel.example.com comp1 lo 10 10.0.0.0/16 /srv/x/opt

    token_pillar
        The pillar key (str) that holds the token; the token itself reaches slapos by its standard input.
    master_url, web_master_url
        The master's REST address, and its panel's, which hands out certificates (str).
    computer_name
        The title at the master (str); it must be free there.
    interface
        The interface that gets the partitions' addresses (str).
    partition_number
        How many partitions (int).
    ipv4_local_network
        From which they get their IPv4 addresses, such as ``10.0.0.0/16`` (str).
    software_root, instance_root
        Folders on the service's filesystem (str).
    config
        The slapos.cfg to write (str).

    Returns the computer's id, such as ``COMP-1``. Raises CommandExecutionError with what to do when it fails, and when there is a slapos.cfg:
    a second registration would become another computer. Raises SaltInvocationError when the pillar has no token.
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
    _room(os.path.dirname(config))
    _run(args, "slapos node register", secret=_secret(token_pillar), errors="register")
    if not slapos_registered(config):
        raise CommandExecutionError(
            f"slapos node register ended well, but {config} names no key and certificate that are there"
        )
    return _read(config)["slapos"].get("computer_id")


def partitions():
    """
    Say what is wrong with this node's partitions.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_node.partitions

    Returns a list of sentences on folders, owners and, while SlapOS runs here, addresses; empty when ``slapos node format`` has nothing to do here. Raises
    CommandExecutionError when the addresses cannot be read.
    """
    number = __salt__["slapos_ha.site"]()["slapos"]["partition_number"]
    module, service = _launcher("slapos")
    if not os.path.isfile(service.computer_xml):
        return [f"{service.computer_xml} is not there yet"]
    wrong = []
    users = __salt__["slapos_node.ids"]()["wanted"]
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
        try:
            given = sum(kind == "addr" for kind, _ in service.given())
        except module.base.Failure as failure:
            raise CommandExecutionError(str(failure)) from None
        if given < 2 * number:
            wrong.append(f"{given} of {2 * number} addresses are on {service.interface}")
    return wrong


def slapos_format(timeout=900):
    """
    Make folders, owners and addresses of the partitions.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_node.slapos_format

    timeout
        Seconds (int). The first time, each partition takes about four where its addresses are left to SlapOS.

    Returns True, or False when it was done and the master could not be told. Raises CommandExecutionError with what to do. Where
    SlapOS does not run, the addresses are taken away again: they belong on the node that runs it.
    """
    return _in_turn(["format"], timeout)["format"] == 0


def slapos_run(timeout=900):
    """
    Run SlapOS as far as it goes by itself: format its partitions where they are not, build its releases, deploy its partitions.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_node.slapos_run

    timeout
        Seconds (int) for each of the three.

    Returns the exit codes as ``{"format": int, "software": int, "instance": int}``, without ``format`` where there was nothing to do. 0 is done; 2 of format and 3
    of instance: done without the master; 10: another run is at work. What was deployed runs on. Raises CommandExecutionError with what to do.
    """
    wrong = partitions()
    return _in_turn([*(["format"] if wrong else []), "software", "instance"], timeout)


# The exit codes of a command that are no failure.
_GOOD = {"format": [0, 2], "software": [0, 10], "instance": [0, 3, 10]}
# slapos takes half a second of a fast machine to import what it needs, and five of the lab's hosts: once for commands that follow each other. Each is a process
# of its own, which ends with this one (prctl's PR_SET_PDEATHSIG), and what it ended with is a line. An interpreter is not taken apart at its end, seconds as well.
_ENDED = "slapos_ha: ended with "
_ONE_INTERPRETER = f"""
import atexit, contextlib, ctypes, importlib, json, os, runpy, sys, traceback
import slapos.cli.entry
for name in ("format", "slapgrid"):
    # What the three commands are in slapos.core 1.25.0; elsewhere each imports its own.
    with contextlib.suppress(ImportError):
        importlib.import_module("slapos.cli." + name)
script = sys.argv[1]

def run(*args):
    ctypes.CDLL(None).prctl(1, 9)
    sys.argv = [script, *args]
    # As it is imported it takes the arguments that there are then (slapos.core 1.25.0).
    del sys.modules["slapos.cli.entry"]
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            return 1
        return end.code or 0
    except BaseException:
        traceback.print_exc()
        return 1
    return 0

def leave(code):
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

for args, good in json.loads(sys.argv[2]):
    child = os.fork()
    if not child:
        leave(run(*args))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print("{_ENDED}%d" % code, flush=True)
    if code not in good:
        break
leave(0)
"""


def _in_turn(actions, timeout):
    """Run ``slapos node`` commands one after the other as far as they go well, and return {action: exit code}."""
    module, service = _launcher("slapos")
    os.makedirs(service.ha_run_dir, mode=0o700, exist_ok=True)
    given, file = [], service.file("partitions.cfg")
    try:
        commands = []
        for action in actions:
            more = []
            if action == "format":
                given, more = _format_arguments(module.base, service, file)
            commands.append((["node", action, "--now", *more], _GOOD[action]))
        codes = _codes(module.base, service, commands, timeout)
        _tidied(service)
    except (CommandExecutionError, OSError, module.base.Failure) as error:
        service.batch(f"address delete {one} dev {service.interface}" for one in given)
        with contextlib.suppress(module.base.Failure):
            _tidied(service)
        raise CommandExecutionError(str(error)) from None
    finally:
        if os.path.exists(file):
            os.unlink(file)
    return dict(zip(actions, codes, strict=True))


def _tidied(service):
    """The partitions' addresses belong on the node that runs SlapOS."""
    if not service.supervisord():
        service.take_addresses_away()


def _codes(base, service, commands, timeout):
    """What each of the commands ended with. Where slapos is no Python script each has an interpreter of its own."""
    script = service.command()[0] if len(commands) > 1 else None
    interpreter = script and _interpreter(script)
    if not interpreter:
        return [service.slapos(*args, good=good, seconds=timeout)[0] for args, good in commands]
    whole = json.dumps([[service.command(*args)[1:], good] for args, good in commands])
    program = [*interpreter, "-c", _ONE_INTERPRETER, script, whole]
    try:
        code, output = base.call(*program, env=service.environment, seconds=timeout * len(commands))
    except base.Failure as failure:
        # It has the whole program in it.
        names = ", ".join(args[1] for args, _ in commands)
        told = str(failure).rpartition(whole)[2].strip()
        raise CommandExecutionError(f"slapos node {names}: {told}") from None
    said = re.split(rf"^{_ENDED}(-?\d+)$", output, flags=re.MULTILINE)
    codes = [int(one) for one in said[1::2]]
    if len(codes) == len(commands) and codes[-1] in commands[-1][1]:
        return codes
    number = max(len(codes) - 1, 0)
    raise CommandExecutionError(
        service.report(commands[number][0], codes[-1] if codes else code, said[2 * number])
    )


def _interpreter(script):
    """The interpreter of a Python script, with its options, or None of what is no such."""
    with salt.utils.files.fopen(script, "rb") as handle:
        words = handle.readline().decode(errors="replace").strip().removeprefix("#!").split()
    return words if words and os.path.basename(words[0]).startswith("python") else None


def _format_arguments(base, service, file):
    """([addresses that are put on the interface now], more arguments) of a format; what it is to find out of the partitions is in ``file``."""
    given = []
    try:
        given, definition = _first_addresses(base, service)
        if not definition:
            return [], ["--alter_user=True"]
        base.write_private(file, definition)
        service.batch(f"address add {one} dev {service.interface}" for one in given)
        service.settle()
        made = _users_made(service)
    except (OSError, base.Failure) as error:
        service.batch(f"address delete {one} dev {service.interface}" for one in given)
        raise CommandExecutionError(f"SlapOS's partitions: {error}") from None
    return given, [f"--alter_user={not made}", f"--input_definition_file={file}"]


def _first_addresses(base, service):
    """
    ``([address with its length], definition)`` of partitions that were never formatted, or ``([], "")`` where their addresses are left to SlapOS.

    ``slapos node format`` (1.25.0) adds the addresses that it chooses one by one and sleeps two seconds after each, 40 for ten partitions. Those that its
    definition file names and the interface has it takes as they are. IPv6 are those that it would choose; IPv4 it draws by lot, and so do we, but from the
    computer's name: who tries again after a crash gets the same.
    """
    if os.path.exists(service.computer_xml):
        return [], ""
    option = service.option
    network = ipaddress.ip_network(option("ipv4_local_network") or "0.0.0.0/32", strict=False)
    number = int(option("partition_amount") or 0)
    own = base.addresses(service.interface)
    taken = {word.partition("/")[0] for word in base.ip("-o", "address", "show").split()}
    usual = (
        len(own) == 1
        and own[0].network.prefixlen <= 112
        # The partitions have those that follow.
        and own[0].ip <= own[0].network.network_address + 1
        and network.num_addresses > 2 * (number + len(taken))
        and option("create_tun") in (None, "false")
        and option("ipv6_interface") in (None, service.interface)
    )
    if not usual:
        return [], ""
    user = option("user_base_name") or "slapuser"
    tap = option("tap_base_name") or "slaptap"
    folder = option("partition_base_name") or "slappart"
    lot, six = random.Random(option("computer_id")), own[0].network
    given, lines = [], ["[computer]"]
    for index in range(number):
        address = six.network_address + index + 2
        four = None
        while four is None or str(four) in taken:
            four = network.network_address + lot.randrange(1, network.num_addresses - 1)
        taken.add(str(four))
        given += [f"{four}/32", f"{address}/{six.prefixlen}"]
        lines += [
            f"[partition_{index}]",
            f"user = {user}{index}",
            f"network_interface = {tap}{index}",
            f"pathname = {folder}{index}",
            f"address = {four}/255.255.255.255 {address}/{six.netmask}",
        ]
    return given, "\n".join([*lines, ""])


def _users_made(service):
    """
    Whether there is nothing left for the first format to do to users and their folders. Those get their owners here.

    ``slapos node format`` (1.25.0) has usermod and passwd look at each user: twenty processes for ten partitions whose users ``users_present`` has just made. The
    formats that follow, such as the task chkaddip's, are left to see to them.
    """
    known = __salt__["slapos_node.ids"]()
    users, number = known["wanted"], int(service.option("partition_amount") or 0)
    partitions = {f"slapuser{index}" for index in range(number)}
    made = (
        not known["conflicts"]
        and not any(known["missing"].values())
        and set(users) == {"slapsoft", *partitions}
        and partitions <= set(grp.getgrnam("slapsoft").gr_mem)
        and service.option("software_root") == users["slapsoft"]["home"]
        and service.option("user_base_name") in (None, "slapuser")
        and service.option("partition_base_name") in (None, "slappart")
    )
    if made:
        for name, user in users.items():
            os.makedirs(user["home"], 0o755 if name == "slapsoft" else 0o750, exist_ok=True)
            os.chown(user["home"], user["id"], user["id"])
    return made


def slapos_node(action, args=(), good=(0,), timeout=600):
    """
    Run a ``slapos node`` command that ends by itself.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_node.slapos_node format '["--now"]' '[0, 2]'

    action
        ``format``, ``software``, ``instance``, ``report`` or ``collect`` (str).
    args
        More arguments (list of str).
    good
        Exit codes (list of int) that are no failure: format's 2 and instance's 3 mean done without the master, 10 that another run is at work.
    timeout
        Seconds (int) until it is ended.

    Returns the exit code (int). Raises CommandExecutionError with what to do, SaltInvocationError for another action.
    """
    if action not in ("format", "software", "instance", "report", "collect"):
        raise SaltInvocationError(f"slapos node {action} does not end by itself, or is no command")
    module, service = _launcher("slapos")
    os.makedirs(service.ha_run_dir, mode=0o700, exist_ok=True)
    try:
        return service.slapos("node", action, *args, good=tuple(good), seconds=timeout)[0]
    except module.base.Failure as failure:
        raise CommandExecutionError(str(failure)) from None
