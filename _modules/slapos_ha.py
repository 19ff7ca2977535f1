"""
The site of a SlapOS HA pair, as its pillar describes it, and one node's facts and preflight. This module's functions are in four files: this one has the
pillar, ``slapos_ha_facts`` what the node knows and what stands in the way of a deployment, ``slapos_ha_metrics`` the same for Prometheus,
``slapos_ha_split_brain`` the node's side of a split brain.

:depends: jsonschema (Python), the ``opensvc`` module of this formula

The site is described in pillar under ``slapos_ha`` (see ``pillar.example``); ``defaults.yaml`` fills in what the pillar leaves out and
``schema.yaml`` says what is allowed. Nothing in this file changes the node.

.. code-block:: yaml

    slapos_ha:
      site: paris
      cluster: {name: paris, nodes: {demo1: {address: 192.0.2.11}, demo2: {address: 192.0.2.12}}}
"""

import copy
import hashlib
import ipaddress
import os
import re
import time

import salt.utils.dictupdate
import salt.utils.files
import salt.utils.yaml
from salt.exceptions import CommandExecutionError, SaltInvocationError

__virtualname__ = "slapos_ha"

DEFAULTS = "salt://slapos_ha/defaults.yaml"
SCHEMA = "salt://slapos_ha/schema.yaml"
SERVICE = "salt://slapos_ha/files/service.yaml"
SECRETS = (("drbd", "shared_secret"), ("re6st", "token"), ("slapos", "token"))
# What is installed by `method: packages` where the pillar names none.
PACKAGES = {"re6st": "re6st-node", "slapos": "slapos-node"}
# A filesystem needs room for its own tables beside the data: below this nothing of SlapOS fits.
_UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_FILES = "slapos_ha.files"
# Below the minion's cachedir: of which pillar it is known that it is right.
_VALID = "valid_pillar"
# How long calls of one job may share a file of the formula, in seconds.
_SHARED_FOR = 15


def __virtual__():
    return __virtualname__


def _text(uri):
    """A file of the formula. Each look at the master's is two requests, and each SLS wants both files: the calls of one job share them for some seconds."""
    kept = __context__.get(_FILES)
    if not kept or time.monotonic() - kept["at"] > _SHARED_FOR:
        kept = {"at": time.monotonic(), **_texts((DEFAULTS, SCHEMA))}
        __context__[_FILES] = kept
    return kept[uri]


def _texts(uris):
    # Both at once: Salt makes a new client of the master's files for each call (3007).
    paths = __salt__["cp.cache_files"](list(uris), saltenv=__opts__.get("saltenv") or "base")
    found = {}
    for uri, path in zip(uris, paths, strict=True):
        if not path:
            raise CommandExecutionError(
                f"{uri} is not in this master's file_roots. Add the formula's folder to file_roots or gitfs_remotes."
            )
        with salt.utils.files.fopen(path) as handle:
            found[uri] = handle.read()
    return found


def _load(uri):
    return salt.utils.yaml.safe_load(_text(uri))


def _pillar():
    given = __pillar__.get("slapos_ha")
    if not isinstance(given, dict) or not given:
        raise CommandExecutionError(
            f"{__grains__['id']} has no pillar slapos_ha. Target the site's pillar at both of its nodes in the pillar top file, "
            "then: salt '*' saltutil.refresh_pillar"
        )
    return salt.utils.dictupdate.merge(_load(DEFAULTS), _plain(given), merge_lists=False)


def _plain(value):
    """A copy in plain containers: those of Salt 3008's pillar print asterisks for what they hold, in a problem's text as in an answer."""
    if isinstance(value, dict):
        return {key: _plain(held) for key, held in value.items()}
    if isinstance(value, list):
        return [_plain(held) for held in value]
    return value


def bytes_of(size):
    """
    Turn a size with a unit into a number.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_ha.bytes_of 20g

    size
        A whole number and one of k, m, g, t (str, powers of 1024), upper or lower case.

    Returns bytes as an int. Raises SaltInvocationError for anything else.
    """
    text = str(size)
    try:
        return int(text[:-1]) * _UNITS[text[-1:].lower()]
    except (KeyError, ValueError):
        raise SaltInvocationError(
            f"{size!r} is not a size: give a whole number and k, m, g or t, such as 20g"
        ) from None


# --- The pillar: validation -----------------------------------------------------------------------------------------------------------


def _key(parts):
    return ":".join(["slapos_ha", *(str(part) for part in parts)])


def _shown(parts, value):
    # A section with secrets that is no map may hold them as well; a dict is shown by its keys.
    within = [section for section, _ in SECRETS if list(parts) == [section]]
    if (
        tuple(parts[:2]) in SECRETS
        or parts[-1:] == ["secret"]
        or (within and not isinstance(value, dict))
    ):
        return "(secret)"
    text = (
        repr(value)
        if not isinstance(value, dict)
        else "{" + ", ".join(sorted(map(str, value))) + "}"
    )
    return text if len(text) <= 60 else text[:57] + "..."


def _wanted(schema, parts):
    """What schema.yaml says that the key should be, "" where it says nothing."""
    here = schema
    for part in parts:
        here = here.get("properties", {}).get(part) or here.get("additionalProperties") or {}
        if "$ref" in here:
            here = schema["$defs"][here["$ref"].rsplit("/", 1)[1]]
    return here.get("description", "")


def _schema_problems(error, schema):
    parts = list(error.absolute_path)
    if error.validator == "required":
        missing = [key for key in error.validator_value if key not in error.instance]
        remedies = [_wanted(schema, [*parts, key]) for key in missing]
        return [
            f"{_key([*parts, key])}: missing; "
            + (f"give {remedy}" if remedy else "see pillar.example")
            for key, remedy in zip(missing, remedies, strict=True)
        ]
    if error.validator == "additionalProperties" and error.validator_value is False:
        known = sorted(error.schema["properties"])
        unknown = sorted(set(error.instance) - set(known), key=str)
        return [
            f"{_key([*parts, key])}: unknown key; known here: {', '.join(known)}" for key in unknown
        ]
    wanted = (
        error.schema.get("description") or _wanted(schema, parts) or "what pillar.example shows"
    )
    return [f"{_key(parts)}: {_shown(parts, error.instance)} is not right; give {wanted}"]


def _validator(schema):
    # Loaded here: what is known to be right needs none of it, and it takes a job as long as all else of its pillar.
    try:
        import jsonschema
    except ImportError:
        raise CommandExecutionError(
            "The Python package jsonschema is missing: salt-pip install jsonschema"
        ) from None

    def matches(validator, pattern, instance, schema):
        """The keyword `pattern` as the standard has it: Python's ``$`` also matches before a line end, which would come to the tools with the value."""
        if isinstance(instance, str) and (
            instance.endswith("\n") or not re.search(pattern, instance)
        ):
            yield jsonschema.ValidationError(f"does not match {pattern}")

    validator = jsonschema.validators.extend(jsonschema.Draft202012Validator, {"pattern": matches})
    return validator(schema, format_checker=jsonschema.FormatChecker())


def problems_of_pillar(merged, schema):
    """
    Compare a merged site with the schema and with itself.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_ha.validate

    merged
        The dict below ``slapos_ha``, defaults merged in.
    schema
        The JSON schema as a dict.

    Returns a list of sentences, each naming the key, the value and what would be right; empty when all is well. Secret values are not shown.
    """
    checker = _validator(schema)
    unnamed = list(_unnamed(merged))
    if unnamed:
        return unnamed
    errors = sorted(checker.iter_errors(merged), key=lambda e: [str(p) for p in e.absolute_path])
    # `required` is reported once for each missing key, and each report knows them all.
    problems = list(
        dict.fromkeys(line for error in errors for line in _schema_problems(error, schema))
    )
    return problems or _contradictions(merged)


def _unnamed(value, path=()):
    """What YAML has made of a name that is no text, such as `1` or `no`: jsonschema takes texts only."""
    held = value.items() if isinstance(value, dict) else ()
    for key, inner in held:
        if not isinstance(key, str):
            yield f"{_key(path)}: the name {key!r} is no text; put it in quotes"
        yield from _unnamed(inner, (*path, key))
    for place, inner in enumerate(value if isinstance(value, list) else ()):
        yield from _unnamed(inner, (*path, place))


def _contradictions(merged):
    problems = []
    nodes = merged["cluster"]["nodes"]
    names = list(nodes)
    preferred = merged["service"].get("preferred", names[0])
    if preferred not in nodes:
        problems.append(
            f"slapos_ha:service:preferred: {preferred!r} is no node of slapos_ha:cluster:nodes; give one of {', '.join(names)}"
        )
    addresses = merged["drbd"].get("addresses") or {}
    if addresses and set(addresses) != set(names):
        problems.append(
            f"slapos_ha:drbd:addresses: names {', '.join(addresses)}; give one address each for {', '.join(names)}"
        )
    for key, values in (
        ("cluster:nodes", [node["address"] for node in nodes.values()]),
        ("cluster:nodes", [node.get("minion", name) for name, node in nodes.items()]),
        ("drbd:addresses", list(addresses.values())),
    ):
        if len(values) == 2 and values[0] == values[1]:
            problems.append(
                f"slapos_ha:{key}: {values[0]!r} is given for both nodes; give each node its own"
            )
    fqdn = _fqdn(merged)
    # LVM allows 127 characters for a group and DRBD 127 for a resource; a host name, which {fqdn} also is, has 63 for each label.
    if len(fqdn) > 100:
        problems.append(
            f"slapos_ha:service:name: {fqdn!r} has {len(fqdn)} characters; shorten name, namespace or cluster name to 100 in all"
        )
    mesh = merged["re6st"]["main_interface"] or "lo"
    if mesh != merged["slapos"]["interface_name"]:
        # re6st puts its address there and SlapOS makes the partitions' addresses from what it finds there.
        problems.append(
            f"slapos_ha:slapos:interface_name: {merged['slapos']['interface_name']!r}, but re6st's address is on {mesh!r}; "
            "give the same as re6st:main_interface"
        )
    problems += _contradictions_of_votes(merged["cluster"])
    for network in merged["firewall"]["allow"]:
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            problems.append(
                f"slapos_ha:firewall:allow: {error}; give addresses and networks such as 192.0.2.0/24"
            )
    users, partitions = merged["slapos"]["users"], merged["slapos"]["partition_number"]
    first = users["slapuser_first_id"]
    if first <= users["slapsoft_id"] < first + partitions:
        problems.append(
            f"slapos_ha:slapos:users:slapsoft_id: {users['slapsoft_id']} is also one of the ids {first} to {first + partitions - 1} of slapuser0..; "
            "give an id outside"
        )
    try:
        ipaddress.ip_network(merged["slapos"]["ipv4_local_network"])
    except ValueError as error:
        problems.append(
            f"slapos_ha:slapos:ipv4_local_network: {error}; give a network such as 10.0.0.0/16"
        )
    if bytes_of(merged["storage"]["size"]) < 128 << 20:
        problems.append(
            f"slapos_ha:storage:size: {merged['storage']['size']!r} is too small for a filesystem and DRBD's metadata; give 128m or more"
        )
    for kind in PACKAGES:
        hashes = merged[kind]["install"]["hashes"] or {}
        bare = [
            name
            for name in (one.partition("==")[0] for one in merged[kind]["install"]["requirements"])
            if hashes and name not in hashes
        ]
        if bare:
            problems.append(
                f"slapos_ha:{kind}:install:hashes: has none for {', '.join(bare)}; give those of every package that is installed, or of none"
            )
    return problems + _unpinned(merged)


def _unpinned(merged):
    """What would be installed without a pinned version or digest, as sentences; none where that is allowed."""
    if merged["allow_unverified"]:
        return []
    return [
        f"slapos_ha:{key}: {why}; {remedy}, or knowingly slapos_ha:allow_unverified: true"
        for key, why, remedy in _unverified(merged)
    ]


def _unverified(merged):
    """(key, what is so, what would be right) of each thing that is to be installed and that nothing proves to be what was meant."""
    agent = merged["cluster"]["agent"]
    if agent["source"] == "package" and not agent.get("sha256"):
        yield (
            "cluster:agent:sha256",
            f"missing, so whatever {agent['url']} gives would be installed",
            "give the SHA-256 of the package",
        )
    for kind, default in PACKAGES.items():
        install = merged[kind]["install"]
        if install["method"] == "pip":
            links = install["find_links"]
            if links.startswith("http://") and not install["hashes"]:
                yield (
                    f"{kind}:install:find_links",
                    f"{links!r} is not https and there are no hashes",
                    f"give an https address, or {kind}:install:hashes",
                )
        elif install["method"] == "packages":
            for package, version in sorted((install["packages"] or {default: ""}).items()):
                if not version:
                    yield (
                        f"{kind}:install:packages:{package}",
                        "'' is any version",
                        "give the version",
                    )


def _contradictions_of_votes(cluster):
    """What heartbeats and arbitrators would not do as they are."""
    names, problems = list(cluster["nodes"]), []
    for name, heartbeat in cluster["heartbeats"].items():
        key = f"slapos_ha:cluster:heartbeats:{name}"
        if heartbeat.get("interval", 5) >= heartbeat.get("timeout", 15):
            problems.append(
                f"{key}:timeout: {heartbeat.get('timeout', 15)} s, but a node is heard every {heartbeat.get('interval', 5)} s only (interval); "
                "give more, such as three times that"
            )
        for scoped in heartbeat:
            node = scoped.partition("@")[2]
            if node and node not in names:
                problems.append(
                    f"{key}:{scoped}: {node!r} is no node of slapos_ha:cluster:nodes; give one of {', '.join(names)}"
                )
    arbitrators = cluster.get("arbitrators", {})
    for name, arbitrator in arbitrators.items():
        if arbitrator["address"].lower() in {node.lower() for node in names}:
            problems.append(
                f"slapos_ha:cluster:arbitrators:{name}:address: {arbitrator['address']!r} is one of the two nodes; give a third host"
            )
    if cluster.get("quorum") and not arbitrators:
        problems.append(
            "slapos_ha:cluster:quorum: true, but there is no arbitrator: each node would take itself down when it does not hear the other; "
            "give cluster:arbitrators"
        )
    return problems


def validate():
    """
    Check this minion's own pillar before anything uses it.

    CLI Example:

    .. code-block:: bash

        salt '*' slapos_ha.validate

    Returns a list of sentences, empty when all is well. Raises CommandExecutionError when there is no pillar, no formula in file_roots, or no
    jsonschema.
    """
    return problems_of_pillar(_pillar(), _load(SCHEMA))


# --- The site -------------------------------------------------------------------------------------------------------------------------


def _fqdn(merged):
    return f"{merged['service']['name']}.{merged['service']['namespace']}.svc.{merged['cluster']['name']}"


def derive(merged, minion_id):
    """
    Add the derived names to a merged site and take its secrets away.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_ha.site

    merged
        The dict below ``slapos_ha``, defaults merged in and valid.
    minion_id
        The minion's id (str); it must be that of one of the two nodes.

    Returns a new dict with ``fqdn path cfg_path vol mount node peer nodes minions unverified`` added, and ``cluster:secret_pillars``, the pillar key of
    the secret of each heartbeat and arbitrator that has one. Raises SaltInvocationError when the minion is no node.
    """
    site = copy.deepcopy(merged)
    for section, key in SECRETS:
        site[section].pop(key, None)
    secrets = site["cluster"]["secret_pillars"] = {}
    for kind in ("heartbeats", "arbitrators"):
        for name, keywords in site["cluster"].setdefault(kind, {}).items():
            if keywords.pop("secret", None) is not None:
                secrets[name] = f"slapos_ha:cluster:{kind}:{name}:secret"
    nodes = site["cluster"]["nodes"]
    for name, node in nodes.items():
        node.setdefault("minion", name)
    service = site["service"]
    service.setdefault("preferred", next(iter(nodes)))
    site["drbd"].setdefault("addresses", {name: node["address"] for name, node in nodes.items()})
    site["re6st"].setdefault("title", service["name"])
    mine = [name for name, node in nodes.items() if node["minion"] == minion_id]
    if not mine:
        raise SaltInvocationError(
            f"minion {minion_id!r} is no node of site {site['site']!r}: slapos_ha:cluster:nodes has the minions "
            f"{', '.join(node['minion'] for node in nodes.values())}. Correct the nodes, or the target in the pillar top file."
        )
    site["fqdn"] = _fqdn(site)
    site["unverified"] = [f"slapos_ha:{key}: {why}" for key, why, _ in _unverified(site)]
    for kind, default in PACKAGES.items():
        install = site[kind]["install"]
        if install["method"] == "packages" and not install["packages"]:
            install["packages"] = {default: ""}
    site["path"] = f"{service['namespace']}/svc/{service['name']}"
    site["cfg_path"] = f"{service['namespace']}/cfg/{service['name']}"
    site["mount"] = f"/srv/{site['fqdn']}"
    site["node"] = mine[0]
    site["peer"] = next(name for name in nodes if name != mine[0])
    # Preferred first: with `placement = nodes order` this is what the agent calls the leader.
    site["nodes"] = sorted(nodes, key=lambda name: name != service["preferred"])
    storage = site["storage"]
    storage["rids"] = {
        "loop": ["disk#0", "disk#1", "disk#2"],
        "device": ["disk#1", "disk#2"],
        "lvm": ["disk#2"],
    }[storage["backend"]]
    storage["file"] = (
        f"{storage['path']}/{site['fqdn']}.img" if storage["backend"] == "loop" else None
    )
    storage["group"] = storage["vg"] if storage["backend"] == "lvm" else site["fqdn"]
    storage["lv"] = f"/dev/{storage['group']}/{service['name']}"
    return site


def site():
    """
    Return this node's site: pillar over defaults, derived names added, secrets left out.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_ha.site

    Returns a dict (see ``pillar.example`` and :py:func:`derive`). Raises CommandExecutionError naming every problem when the pillar is not valid. One that was
    found valid is not looked at again as long as it, schema and this file are the same: that would take each job longer than all else of its rendering.
    """
    merged = _pillar()
    mark = _mark(merged)
    if __utils__["slapos_kept.read"](__opts__, _VALID).get("mark") != mark:
        problems = problems_of_pillar(merged, _load(SCHEMA))
        if problems:
            raise CommandExecutionError("The pillar is not right:\n" + "\n".join(problems))
        __utils__["slapos_kept.keep"](__opts__, _VALID, {"mark": mark})
    return derive(merged, __grains__["id"])


def _mark(merged):
    """A digest of all that makes a pillar right or wrong. By repr, which tells 1 from "1"; where the order of keys is another it is judged again."""
    with salt.utils.files.fopen(__file__) as handle:
        parts = [repr(merged), _text(SCHEMA), handle.read()]
    return hashlib.sha256("\0".join(parts).encode(errors="surrogatepass")).hexdigest()


def service_config():
    """
    Return the OpenSVC configuration that the service of this site is to have.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_ha.service_config

    Returns a dict of sections, each a dict of keywords to strings, from ``files/service.yaml``. For a service that does not exist yet the
    applications and tasks are disabled in it: the orchestration enables each once its software runs on both nodes.
    """
    here = site()
    rendered = __salt__["slsutil.renderer"](SERVICE, default_renderer="jinja|yaml", site=here)
    if __salt__["opensvc.config_show"](here["path"]) is None:
        for section, keywords in rendered.items():
            if section.startswith(("app#", "task#")):
                keywords["disable"] = True
    return {
        section: {
            key: str(value).lower() if isinstance(value, bool) else str(value)
            for key, value in keywords.items()
        }
        for section, keywords in rendered.items()
    }


def public_key():
    """
    Return this minion's public key, for which other nodes can seal values (``opensvc.sealed_join_secret``).

    CLI Example:

    .. code-block:: bash

        salt demo2 slapos_ha.public_key

    Returns PEM text. Raises CommandExecutionError when the minion has no key.
    """
    path = os.path.join(__opts__["pki_dir"], "minion.pub")
    try:
        with salt.utils.files.fopen(path) as handle:
            return handle.read()
    except OSError as error:
        raise CommandExecutionError(f"This minion's public key cannot be read: {error}") from None
