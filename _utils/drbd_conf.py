"""
Resource files of DRBD: read, compare and write them. Pure functions; what is wrong with a wish raises SaltInvocationError and names the option, what is
wrong with a file raises CommandExecutionError.
"""

import ipaddress
import re

from salt.exceptions import CommandExecutionError, SaltInvocationError

SECRET = "net:shared-secret"
_SECTIONS = ("net", "disk", "handlers", "options", "startup")
_TOKEN = re.compile(r'\s+|#[^\n]*|"((?:[^"\\\n]|\\.)*)"|([{};])|([^\s{};"#]+)')
# Set by arguments of their own, so that what is checked there cannot be undone here.
_OWN = {
    "net": {"protocol": "protocol", "shared-secret": "shared_secret_pillar"},
    "disk": {"resync-rate": "resync_rate"},
    "handlers": {},
    "options": {},
}


# --- Reading ------------------------------------------------------------------------------------------------------------------------------------


def _tokens(text):
    position, line, tokens = 0, 1, []
    while position < len(text):
        match = _TOKEN.match(text, position)
        if not match:
            raise CommandExecutionError(f"line {line} is no DRBD configuration")
        if match[1] is not None:
            tokens.append((match[1], True, line))
        elif match[2] or match[3]:
            tokens.append((match[2] or match[3], False, line))
        line += match[0].count("\n")
        position = match.end()
    return tokens


def parse(text):
    """
    Read a DRBD configuration file as nested statements.

    Returns a list of ``[words, None]`` for ``words;`` and ``[words, [statements]]`` for ``words {…}``. Raises CommandExecutionError with the line, and
    never with its text, which may be the shared secret.
    """
    tokens = _tokens(text)
    stack, words = [[]], []
    for value, quoted, line in tokens:
        if quoted or value not in "{};":
            words.append(value)
        elif value == "}":
            if words or len(stack) == 1:
                raise CommandExecutionError(f"line {line}: a '}}' that closes nothing")
            stack.pop()
        elif not words:
            raise CommandExecutionError(f"line {line}: {value!r} without a word before it")
        elif value == ";":
            stack[-1].append([words, None])
            words = []
        else:
            body = []
            stack[-1].append([words, body])
            stack.append(body)
            words = []
    if words or len(stack) > 1:
        raise CommandExecutionError("the file ends within a statement")
    return stack[0]


def resources(text):
    """
    The resources of a configuration file as flat settings.

    Returns ``{name: {"net:protocol": "C", "on demo1:disk": "/dev/…", …}}``; the secret is in it, so this never leaves the module as it is. A volume that
    is written as ``volume 0 {…}`` reads as the implicit one does.
    """
    found = {}
    for words, body in parse(text):
        if words[0] == "resource" and len(words) == 2 and body is not None:
            if words[1] in found:
                raise CommandExecutionError(f"resource {words[1]} is there twice")
            found[words[1]] = settings = {}
            _flatten(body, "", settings)
            for key in [key for key in settings if key.endswith(":device")]:
                _split_device(settings, key)
    return found


def _flatten(body, prefix, settings):
    for words, inner in body:
        if inner is not None:
            if words == ["volume", "0"]:
                _flatten(inner, prefix, settings)
            else:
                _flatten(inner, f"{prefix}{' '.join(words)}:", settings)
        else:
            settings[prefix + words[0]] = " ".join(words[1:]) or "yes"


def _split_device(settings, key):
    """``device /dev/drbd0 minor 0;``, ``device minor 0;`` and ``device /dev/drbd0;`` mean the same."""
    match = re.fullmatch(r"(?:(/\S+) ?)?(?:minor (\d+))?", settings[key])
    named = re.search(r"/drbd_?(\d+)$", match[1]) if match and match[1] else None
    minor = (match and match[2]) or (named and named[1])
    if minor is not None:
        settings[key] = f"minor {minor}"


def peers(settings, node):
    """The other hosts of a resource's settings."""
    hosts = dict.fromkeys(
        key.split(":")[0][3:] for key in settings if key.startswith("on ") and ":" in key
    )
    return [host for host in hosts if host != node]


def volumes(settings, node):
    """``{volume: minor}`` of a resource on a node, as far as its settings say."""
    found = {}
    for key, value in settings.items():
        match = re.fullmatch(r"(?:on (\S+):)?(?:volume (\d+):)?device", key)
        minor = re.fullmatch(r"minor (\d+)", value)
        if match and match[1] in (None, node) and minor:
            found[int(match[2] or 0)] = int(minor[1])
    return found


def disk(settings, node, volume=0):
    """The block device below a volume on a node, or None when the settings do not say."""
    keys = [f"on {node}:volume {volume}:disk", f"volume {volume}:disk"]
    if not volume:
        keys += [f"on {node}:disk", "disk"]
    return next((settings[key] for key in keys if key in settings), None)


def usable(kib, bitmaps=1):
    """
    KiB of a disk that internal metadata leaves: 4 KiB of superblock, 32 of activity log, and a bitmap with 512 bytes for each 16 MiB, rounded up to 4 KiB
    (128 MiB leave 131032 KiB, as recorded).
    """
    bitmap = -(-kib // (16 * 1024))  # in sectors
    bitmap = -(-bitmap // 8) * 4 * bitmaps
    return max(kib - 36 - bitmap, 0) // 4 * 4


def claims(settings):
    """What a resource takes that no other may have: ``{"minor 0 of demo1": …, "10.0.0.1:7289": …}`` as a set of words."""
    taken = set()
    for key, value in settings.items():
        host = key[3:].split(":")[0] if key.startswith("on ") else ""
        if key.endswith(":device") or key == "device":
            taken.add(f"{value} of {host}")
        elif key.endswith(":address") or key == "address":
            taken.add("address " + value.split()[-1])
        elif key.endswith(":disk") and value not in ("none",):
            taken.add(f"disk {value} of {host}")
    return taken


# --- Writing ------------------------------------------------------------------------------------------------------------------------------------


def name_of_resource(name):
    """A name that is safe as DRBD's, as a file's and as an argument."""
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,126}", name):
        raise SaltInvocationError(
            f"resource: {name!r} is no name for a DRBD resource; letters, digits, '.', '_' and '-' are, up to 127"
        )
    if name in ("all", "resource", "common", "global"):
        raise SaltInvocationError(f"resource: {name!r} is a word of DRBD's own; give another name")
    return name


def _integer(key, value, low, high):
    if isinstance(value, str) and re.fullmatch(r"\d{1,9}", value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise SaltInvocationError(
            f"{key}: {value!r} is not right; give a number from {low} to {high}"
        )
    return value


def number_of_volume(volume):
    """A volume's number; as text it comes from the command line."""
    return _integer("volume", volume, 0, 65534)


def _quarter(number, unit):
    """A quarter of a rate of DRBD's, whose unit is KiB where it has none."""
    kib = int(number) * {"m": 1024, "g": 1024**2}.get(unit.lower(), 1)
    return f"{max(1, kib // 4)}k"


def wish(
    resource,
    nodes,
    port,
    minor,
    disk,
    *,
    protocol="C",
    resync_rate="100M",
    net=None,
    disk_options=None,
    handlers=None,
    options=None,
    secret=None,
    major=8,
):
    """
    What the settings of a resource are to be, as :py:func:`resources` reads them. Refuses every value that is not right, by its argument's name.
    """
    name_of_resource(resource)
    port, minor = _integer("port", port, 1, 65535), _integer("minor", minor, 0, 1048575)
    if minor > 254 and major < 9:
        raise SaltInvocationError(f"minor: {minor} is not right; DRBD 8.4 has 0 to 254")
    if not isinstance(nodes, dict) or len(nodes) < 2 or (len(nodes) != 2 and major < 9):
        raise SaltInvocationError("nodes: give the two nodes and the address of each")
    if not isinstance(disk, str) or not re.fullmatch(r"/[A-Za-z0-9/._:+@=-]+", disk):
        raise SaltInvocationError(f"disk: {disk!r} is not right; give the path of a block device")
    if protocol not in ("A", "B", "C"):
        raise SaltInvocationError(f"protocol: {protocol!r} is not right; give A, B or C")
    rate = re.fullmatch(r"([1-9]\d{0,9})([kKmMgG]?)", str(resync_rate))
    if not rate:
        raise SaltInvocationError(
            f"resync_rate: {resync_rate!r} is not right; give bytes per second such as 100M"
        )
    settings = {"net:protocol": protocol}
    if secret is not None:
        settings["net:cram-hmac-alg"] = "sha256"
        # The same algorithm of the kernel: who can authenticate the peer can compare its blocks (drbd.verify).
        settings["net:verify-alg"] = "sha256"
        settings[SECRET] = secret
    settings.update(
        {
            # Nobody's writes are thrown away without an operator: only where one side has none is a split brain solved by itself.
            "net:after-sb-0pri": "discard-zero-changes",
            "net:after-sb-1pri": "disconnect",
            "net:after-sb-2pri": "disconnect",
            # 8.4's own controller starts at 250 KB/s and stays there for long.
            "disk:c-plan-ahead": "0",
            "disk:resync-rate": str(resync_rate),
            # By default what is written meanwhile slows a resync down to 250 KB/s, and the standby stays without whole data for hours.
            "disk:c-min-rate": _quarter(*rate.groups()),
        }
    )
    for section, given in (
        ("net", net),
        ("disk", disk_options),
        ("handlers", handlers),
        ("options", options),
    ):
        argument = "disk_options" if section == "disk" else section
        for option, value in _options(argument, section, given).items():
            settings[f"{section}:{option}"] = value
    addresses = set()
    for number, (node, address) in enumerate(nodes.items()):
        if not isinstance(node, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]{0,63}", node):
            raise SaltInvocationError(f"nodes: {node!r} is no node's name (uname -n)")
        try:
            ip = ipaddress.ip_address(str(address))
        except ValueError:
            raise SaltInvocationError(
                f"nodes:{node}: {address!r} is no IP address; give the node's address for the replication"
            ) from None
        if ip in addresses:
            raise SaltInvocationError(f"nodes:{node}: {address} is given for another node too")
        addresses.add(ip)
        where = f"ipv4 {ip}:{port}" if ip.version == 4 else f"ipv6 [{ip}]:{port}"
        settings[f"on {node}:device"] = f"minor {minor}"
        settings[f"on {node}:disk"] = disk
        settings[f"on {node}:meta-disk"] = "internal"
        settings[f"on {node}:address"] = where
        if major >= 9:
            settings[f"on {node}:node-id"] = str(number)
    if len(nodes) > 2:
        # Of two nodes it is implied, and 8.4 does not know the word.
        settings["connection-mesh:hosts"] = " ".join(nodes)
    return settings


def _options(argument, section, given):
    if not isinstance(given or {}, dict):
        raise SaltInvocationError(f"{argument}: a mapping of options to values is wanted")
    found = {}
    for option, value in (given or {}).items():
        if not isinstance(option, str) or not re.fullmatch(r"[a-z][a-z0-9-]*", option):
            raise SaltInvocationError(f"{argument}: {option!r} is no option's name")
        if option in _OWN[section]:
            raise SaltInvocationError(
                f"{argument}:{option}: is set by {_OWN[section][option]}; give it there"
            )
        if isinstance(value, bool):
            value = "yes" if value else "no"
        elif isinstance(value, int):
            value = str(value)
        if not isinstance(value, str) or not value or re.search(r'["\\\x00-\x1f\x7f]', value):
            raise SaltInvocationError(
                f"{argument}:{option}: the value is not right; give a text in one line without quotes, a number, or yes or no"
            )
        found[option] = value
    return found


def secret_is_right(secret, key):
    """Refuse a shared secret that DRBD or its file cannot hold; its value is in no message."""
    if not isinstance(secret, str) or not re.fullmatch(r"[!-~]{8,63}", secret):
        raise SaltInvocationError(
            f"shared_secret_pillar: pillar {key} is to hold 8 to 63 visible ASCII characters without blanks"
        )
    if re.search(r"""["'\\;{}#]""", secret):
        raise SaltInvocationError(
            f"shared_secret_pillar: pillar {key} is to hold no quote, backslash, semicolon, brace or #"
        )
    return secret


def render(resource, settings):
    """The text of a resource's file."""
    lines = [f"resource {resource} {{"]
    for section in _SECTIONS:
        options = [
            (key.partition(":")[2], value)
            for key, value in settings.items()
            if key.startswith(section + ":")
        ]
        if options:
            lines.append(f"    {section} {{")
            lines += [f"        {option} {_quoted(value)};" for option, value in options]
            lines.append("    }")
    for key in settings:
        match = re.fullmatch(r"on (\S+):device", key)
        if not match:
            continue
        host = match[1]
        minor = settings[key].split()[1]
        lines.append(f"    on {host} {{")
        lines.append(f"        device /dev/drbd{minor} minor {minor};")
        lines += [
            f"        {name} {settings[f'on {host}:{name}']};"
            for name in ("disk", "meta-disk", "address", "node-id")
            if f"on {host}:{name}" in settings
        ]
        lines.append("    }")
    if "connection-mesh:hosts" in settings:
        lines.append(f"    connection-mesh {{ hosts {settings['connection-mesh:hosts']}; }}")
    return "\n".join([*lines, "}", ""])


def _quoted(value):
    return value if re.fullmatch(r"[A-Za-z0-9_./:-]+", value) else f'"{value}"'


def difference(old, new):
    """What differs between two sets of settings: ``{key: {"old", "new"}}``, with the secret masked."""
    changes = {}
    for key in [*new, *(key for key in old if key not in new)]:
        if old.get(key) != new.get(key):
            before, after = old.get(key), new.get(key)
            if key == SECRET:
                before = "(secret)" if before is not None else None
                after = "(another secret)" if before and after is not None else after and "(secret)"
            changes[key] = {"old": before, "new": after}
    return changes
