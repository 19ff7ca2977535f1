"""
Helpers of ``slapos_node``: what tools print and what their files hold, text to data. Nothing here runs anything, or changes it.
"""

import configparser
import os
import re

from salt.exceptions import CommandExecutionError

BLOCK_BEGIN, BLOCK_END = "# slapos_ha begins", "# slapos_ha ends"

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


TABLES = {
    "re6st-conf": RE6ST_CONF_ERRORS,
    "re6stnet": RE6STNET_ERRORS,
    "register": REGISTER_ERRORS,
}


def explain(table, output):
    """Return what a tool's output means by the named table, searched in its order; None when it is not known."""
    return next((meaning for pattern, meaning in TABLES[table] if re.search(pattern, output)), None)


def merge_conf(text, lines, options):
    """
    Put the site's lines into the text of a re6stnet.conf.

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
        if stripped in (BLOCK_BEGIN, BLOCK_END):
            inside = stripped == BLOCK_BEGIN
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
        result += [BLOCK_BEGIN, *options, BLOCK_END]
    return "\n".join(result) + "\n"


def read_cfg(text, path):
    """Return a slapos.cfg as ``{section: {key: value}}``; ``path`` is for the error, a CommandExecutionError."""
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise CommandExecutionError(f"{path} cannot be read: {error}") from None
    return {section: dict(parser[section]) for section in parser.sections()}


def merge_cfg(text, values, absent=()):
    """
    Put values into the text of a slapos.cfg and take sections out of it; comments and all else stay.

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

    for line in text.splitlines():
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


def wanted_users(slapsoft_id, slapuser_first_id, partition_number, software_root, instance_root):
    """
    List the users that SlapOS is to find, in the order of their making.

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


def normal(name):
    return re.sub(r"[-_.]+", "_", name).lower()


def release(version):
    return re.sub(r"(\.0)+$", "", version.replace("_", "-").lower())


def has_run(instance_root):
    """SlapOS has run on this filesystem, here or on the other node: supervisord writes its log in its first second, and it moves with the data."""
    return os.path.exists(os.path.join(instance_root, "var/log/supervisord.log"))


def unfinished(prefix):
    """The mark of a Python environment to which something is being done: left by what was killed, of which neither pip nor anybody else can say what it lacks."""
    return os.path.join(prefix, "slapos_ha.unfinished")


def is_environment(prefix):
    """Whether a folder is a Python environment, or was to become one: what else is in a folder of that name is somebody else's."""
    return any(
        os.path.exists(path) for path in (os.path.join(prefix, "pyvenv.cfg"), unfinished(prefix))
    )
