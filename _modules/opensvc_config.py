"""
OpenSVC cluster agent, 2.1 and 3: configurations and keys of objects. Part of the ``opensvc`` execution module, see there.

Configurations are read from the agent's own files under /etc/opensvc, the same for both agents: it is what ``om … print config`` prints, without the three
seconds that ``om`` takes to start. They are changed by the agent only, which checks them and brings them to the other nodes.
"""

import hashlib
import os
import re
import tempfile

import salt.utils.files
from salt.exceptions import CommandExecutionError, SaltInvocationError

# A second file of the module opensvc: the loader adds its functions to those of opensvc.py.
__virtualname__ = "opensvc"

_MASK = "(secret)"
_SECRETS = ("secret", "password", "uuid")
_GROUPS = ("ip", "volume", "disk", "fs", "share", "container", "app", "sync", "task")


def __virtual__():
    return __virtualname__


def _agent():
    return __utils__["opensvc_om.agent"](__salt__, __utils__, __opts__, __context__)


def config_show(path):
    """
    Return the configuration of an object, of the cluster or of this node, as it is written: references in braces are not resolved.

    CLI Example:

    .. code-block:: bash

        salt demo1 opensvc.config_show slapos/svc/comp1

    path
        The object (str), or ``cluster`` or ``node``.

    Returns a dict of sections to dicts of keywords to str, or None when this node has no such object. Values of secrets, of keys of sec objects and of users
    are replaced by "(secret)". Raises CommandExecutionError when the file cannot be read.
    """
    config = _agent().config(path)
    if config is None:
        return None
    hidden = path not in ("cluster", "node") and __utils__["opensvc_agent.split_path"](path)[1] in (
        "sec",
        "usr",
    )
    return {
        section: {
            key: _MASK if _masked(key, value) or (hidden and section == "data") else value
            for key, value in keywords.items()
        }
        for section, keywords in config.items()
    }


def _masked(key, value):
    return key.split("@")[0] in _SECRETS and not __utils__["opensvc_agent.elsewhere"](key, value)


def config_get(path, keyword):
    """
    Return one keyword of a configuration, as it is written.

    CLI Example:

    .. code-block:: bash

        salt demo1 opensvc.config_get slapos/svc/comp1 'fs#0.mnt'

    path
        As for :py:func:`config_show`.
    keyword
        ``section.keyword`` (str); without a section it is one of DEFAULT.

    Returns a str, or None when the keyword is not set or there is no such object: unlike ``om get``, which prints "None" for it. Raises
    CommandExecutionError when the file cannot be read.
    """
    section, key = _keyword(keyword)
    return (config_show(path) or {}).get(section, {}).get(key)


def _keyword(keyword, value=""):
    section, _, key = (
        str(keyword).partition(".") if "." in str(keyword) else ("DEFAULT", "", keyword)
    )
    if section in _GROUPS:
        raise SaltInvocationError(
            f"{keyword!r} means every {section} resource to the agent; name one, such as {section}#0.{key}"
        )
    __utils__["opensvc_agent.words"]({section: {key: value}})
    return section, str(key)


def _config_command(path, action):
    """How the agent wants to be told: the cluster's and the node's configuration have their own nouns."""
    if path not in ("cluster", "node"):
        _agent().existing(path)
    return [path, "config", "update"] if _agent().major >= 3 else [path, action]


def config_set(path, keywords):
    """
    Set keywords of a configuration. The agent brings it to the other nodes.

    CLI Example:

    .. code-block:: bash

        salt demo1 opensvc.config_set slapos/svc/comp1 '{"fs#0.mkfs_opt": "-L comp1"}'

    path
        As for :py:func:`config_show`.
    keywords
        A dict of ``section.keyword`` to its value (str, number, bool or list); secrets are refused, since they would be seen on om's command line.

    Returns ``{"warnings": [...]}``, for instance of a keyword that the agent does not know: agent 3 takes it without a word, so it is asked afterwards what
    it thinks of the configuration. Raises CommandExecutionError when the agent refuses the configuration, SaltInvocationError for a name that is none.
    """
    if not isinstance(keywords, dict) or not keywords:
        raise SaltInvocationError("keywords: a dict of section.keyword to value is wanted")
    flag = "--set" if _agent().major >= 3 else "--kw"
    args = _config_command(path, "set")
    for keyword, value in keywords.items():
        section, key = _keyword(keyword, value)
        args += [flag, f"{section}.{key}=" + __utils__["opensvc_agent.word"](value, keyword)]
    answer = _agent().act(
        args,
        f"setting {', '.join(sorted(keywords))} of {path}",
        f"om {path} {'config validate' if _agent().major >= 3 else 'validate config'}",
    )
    if _agent().major >= 3:
        answer["warnings"] += [
            remark
            for remark in _remarks_3(path)["remarks"]
            if any(
                ".".join(_keyword(keyword, value)) in remark.split()
                for keyword, value in keywords.items()
            )
        ]
    return answer


def config_hash(path, keyword):
    """
    Return the SHA-256 of one keyword of a configuration, to compare a secret without showing it.

    CLI Example:

    .. code-block:: bash

        salt demo1 opensvc.config_hash cluster 'arbitrator#1.secret'

    path keyword
        As for :py:func:`config_get`.

    Returns hexadecimal digits, or None when the keyword is not set. Raises CommandExecutionError when the file cannot be read.
    """
    section, _, key = str(keyword).partition(".")
    value = (_agent().config(path) or {}).get(section, {}).get(key)
    return None if value is None else hashlib.sha256(value.encode()).hexdigest()


def config_unset(path, keywords):
    """
    Remove keywords from a configuration.

    CLI Example:

    .. code-block:: bash

        salt demo1 opensvc.config_unset slapos/svc/comp1 '["fs#0.mkfs_opt"]'

    path
        As for :py:func:`config_show`.
    keywords
        A list of ``section.keyword`` (str).

    Returns ``{"warnings": [...]}``. Raises CommandExecutionError when the agent refuses, SaltInvocationError for a name that is none.
    """
    if not isinstance(keywords, list) or not keywords:
        raise SaltInvocationError("keywords: a list of section.keyword is wanted")
    flag = "--unset" if _agent().major >= 3 else "--kw"
    args = _config_command(path, "unset")
    for keyword in keywords:
        args += [flag, ".".join(_keyword(keyword))]
    return _agent().act(args, f"removing {', '.join(keywords)} from {path}")


def config_delete_section(path, section):
    """
    Remove a section from a configuration: the agent forgets the resource, and what the resource had made stays on the nodes.

    CLI Example:

    .. code-block:: bash

        salt demo1 opensvc.config_delete_section slapos/svc/comp1 'task#old'

    path
        The object (str).
    section
        The section's name, such as ``task#old`` (str).

    Returns ``{"warnings": [...]}``. Raises CommandExecutionError when there is no such section or the agent refuses.
    """
    if section not in _agent().existing(path) or section == "DEFAULT":
        raise CommandExecutionError(f"OpenSVC: {path} has no section {section} to remove")
    args = [path, "delete", "--rid", section]
    if _agent().major >= 3:
        args = [path, "config", "update", "--delete", section]
    return _agent().act(args, f"removing section {section} from {path}")


def config_validate(path):
    """
    Have the agent check the configuration of an object.

    CLI Example:

    .. code-block:: bash

        salt demo1 opensvc.config_validate slapos/svc/comp1

    path
        The object (str).

    Returns ``{"valid": bool, "remarks": [str]}``: remarks are what the agent finds wrong or does not know. Raises CommandExecutionError when the object
    does not exist or the agent cannot be asked.
    """
    _agent().existing(path)
    if _agent().major >= 3:
        return _remarks_3(path)
    answer = _agent().run([path, "validate", "config"], 60)
    lines = [
        line[2:].strip()
        for line in answer["stderr"].splitlines()
        if line.startswith(("W ", "E ")) and line[2:].strip()
    ]
    if answer["retcode"] and not lines:
        raise CommandExecutionError(
            f"OpenSVC: checking the configuration of {path} failed: "
            + __utils__["opensvc_agent.complaint"](answer["stdout"], answer["stderr"])
        )
    return {
        "valid": not any(line.startswith("E ") for line in answer["stderr"].splitlines()),
        "remarks": lines,
    }


def _remarks_3(path):
    answer = _agent().ask([path, "config", "validate"], f"checking the configuration of {path}")
    rows = [line.split() for line in answer["stdout"].splitlines()[1:] if line.strip()]
    return {
        "valid": not any(row[0] == "error" for row in rows),
        "remarks": [" ".join(row) for row in rows],
    }


# --- Keys of cfg and sec objects ----------------------------------------------------------------------------------------------------------------


def keys(path):
    """
    Return the keys of a cfg or sec object.

    CLI Example:

    .. code-block:: bash

        salt demo1 opensvc.keys slapos/cfg/comp1

    path
        The object (str).

    Returns a sorted list of str, or None when this node has no such object. Raises CommandExecutionError when its file cannot be read.
    """
    config = _agent().config(path)
    return None if config is None else sorted(config.get("data", {}))


def _key_bytes(path, key):
    value = (_agent().config(path) or {}).get("data", {}).get(key)
    if value is None:
        return None
    if not value.startswith("crypt:"):
        return __utils__["opensvc_agent.key_bytes"](value)
    args = [path, "decode", "--key", key]
    if _agent().major >= 3:
        args = [path, "key", "decode", "--name", key]
    return _agent().ask(args, f"decoding {key} of {path}", content=True)["stdout"].encode()


def decode(path, key, secret=False):
    """
    Return the content of a key of a cfg object, or of a sec object where that is asked for.

    CLI Example:

    .. code-block:: bash

        salt demo1 opensvc.decode slapos/cfg/comp1 settings.json

    path
        The object (str).
    key
        The key (str).
    secret
        True (bool) shows the keys of sec and usr objects too. As a job: what it returns goes over the event bus and stays in the job cache for a day.

    Returns a str, or None when there is no such key. Raises CommandExecutionError when the content is not text, SaltInvocationError for a secret that was
    not asked for.
    """
    if __utils__["opensvc_agent.split_path"](path)[1] in ("sec", "usr") and secret is not True:
        raise SaltInvocationError(
            f"{key} of {path} is a secret: opensvc.key_hash compares it unseen, secret=True shows it"
        )
    data = _key_bytes(path, key)
    try:
        return None if data is None else data.decode()
    except UnicodeDecodeError:
        raise CommandExecutionError(f"OpenSVC: key {key} of {path} is not text") from None


def key_hash(path, key):
    """
    Return the SHA-256 of the content of a key, to compare it without showing it.

    CLI Example:

    .. code-block:: bash

        salt demo1 opensvc.key_hash slapos/cfg/comp1 re6st

    path
        The object (str).
    key
        The key (str).

    Returns hexadecimal digits, or None when there is no such key. Raises CommandExecutionError when it cannot be decoded.
    """
    data = _key_bytes(path, key)
    return None if data is None else hashlib.sha256(data).hexdigest()


def key_add(path, key, source=None, contents_pillar=None):
    """
    Add a key to a cfg or sec object.

    CLI Example:

    .. code-block:: bash

        salt demo1 opensvc.key_add slapos/cfg/comp1 re6st /root/re6st

    path key source contents_pillar
        As for :py:func:`key_set`.

    Returns ``{"warnings": [...]}``. Raises CommandExecutionError when there is such a key, or as :py:func:`key_set` does.
    """
    return _key_write("add", path, key, source, contents_pillar)


def key_change(path, key, source=None, contents_pillar=None):
    """
    Change a key of a cfg or sec object; volumes that install the key are refreshed by the agent.

    CLI Example:

    .. code-block:: bash

        salt demo1 opensvc.key_change slapos/cfg/comp1 re6st /root/re6st

    path key source contents_pillar
        As for :py:func:`key_set`.

    Returns ``{"warnings": [...]}``. Raises CommandExecutionError when there is no such key (agent 3 would add it), or as :py:func:`key_set` does.
    """
    return _key_write("change", path, key, source, contents_pillar)


def key_set(path, key, source=None, contents_pillar=None):
    """
    Set a key of a cfg or sec object, whether it is there or not; volumes that install the key are refreshed by the agent.

    CLI Example:

    .. code-block:: bash

        salt demo1 opensvc.key_set slapos/cfg/comp1 re6st /root/re6st
        salt demo1 opensvc.key_set slapos/sec/comp1 token contents_pillar=comp1:token

    path
        The object (str), which has to exist.
    key
        The key's name (str): letters, digits, ``. _ / -``.
    source
        A file on this node (str) that holds the content.
    contents_pillar
        Or the pillar key under which the content is (str); om gets it by standard input. The content is never on a command line.

    Returns ``{"warnings": [...]}``. Raises CommandExecutionError when the object or the content is not there or the agent refuses, SaltInvocationError for a
    name that is none.
    """
    return _key_write(None, path, key, source, contents_pillar)


def _key_write(action, path, key, source, contents_pillar):
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/-]*", str(key)):
        raise SaltInvocationError(f"{key!r} is no name of a key: letters, digits, . _ / and -")
    if bool(source) == bool(contents_pillar):
        raise SaltInvocationError("give source or contents_pillar, one of them")
    content = None
    if contents_pillar:
        content = __utils__["opensvc_agent.pillar_text"](__pillar__, contents_pillar)
        source = "/dev/stdin"
    elif not os.path.isabs(str(source)) or not os.path.isfile(source):
        raise CommandExecutionError(
            f"OpenSVC: key {key} of {path} is to come from {source}, which is no file on {_agent().here}"
        )
    there = key in _agent().existing(path).get("data", {})
    if action and there is (action == "add"):
        raise CommandExecutionError(
            f"OpenSVC: {path} has {'a' if there else 'no'} key {key}{' already' if there else ''}"
        )
    verb = "change" if there else "add"
    args = [path, verb, "--key", key, "--from", source]
    if _agent().major >= 3:
        args = [path, "key", verb, "--name", key, "--from", source]
    return _agent().act(args, f"setting key {key} of {path}", stdin=content)


def key_remove(path, key):
    """
    Remove a key from a cfg or sec object.

    CLI Example:

    .. code-block:: bash

        salt demo1 opensvc.key_remove slapos/cfg/comp1 old

    path
        The object (str).
    key
        The key (str).

    Returns ``{"warnings": [...]}``. Raises CommandExecutionError when there is no such key or the agent refuses. Agent 2.1 ends with exit code 1 when it has
    removed a key, and with 0 when there was none: what the object has afterwards is believed.
    """
    agent = _agent()
    if key not in agent.existing(path).get("data", {}):
        raise CommandExecutionError(f"OpenSVC: {path} has no key {key}")
    args = [path, "remove", "--key", key]
    if agent.major >= 3:
        args = [path, "key", "remove", "--name", key]
    try:
        return agent.act(args, f"removing key {key} from {path}")
    except CommandExecutionError:
        if agent.major < 3 and key not in agent.existing(path).get("data", {}):
            return {"warnings": []}
        raise


def config_read(source):
    """
    Return the configuration that a file on this node holds, in the agent's own notation.

    CLI Example:

    .. code-block:: bash

        salt demo1 opensvc.config_read /root/comp1.conf

    source
        An absolute path (str).

    Returns a dict of sections to dicts of keywords to str, without the object's id. Raises CommandExecutionError when the file cannot be read,
    SaltInvocationError for a name that the agents do not allow, or a secret.
    """
    try:
        with salt.utils.files.fopen(source, encoding="utf-8") as stream:
            text = stream.read()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandExecutionError(f"OpenSVC: {source} cannot be read: {error}") from None
    try:
        return __utils__["opensvc_agent.read_config"](text)
    except CommandExecutionError as error:
        raise CommandExecutionError(f"OpenSVC: {source}: {error}") from None


def create(path, config=None, source=None):
    """
    Create an object. A service is frozen and nothing of it is made until it is provisioned.

    CLI Example:

    .. code-block:: bash

        salt demo1 opensvc.create slapos/cfg/comp1

    path
        The object (str), which must not exist: agent 2.1 would wipe it.
    config
        A dict of sections to dicts of keywords (dict).
    source
        Or a file on this node (str) in the agent's own notation, as ``om PATH print config`` prints it; an ``id`` in it is not taken over. Without both the
        object is empty.

    Returns ``{"warnings": [...]}``. Raises CommandExecutionError when the object exists, the file cannot be read or the agent refuses the configuration,
    SaltInvocationError for a configuration that is none.
    """
    agent = _agent()
    if config and source:
        raise SaltInvocationError("give config or source, one of them")
    if source:
        config = config_read(source)
    if agent.config(path) is not None:
        raise CommandExecutionError(f"OpenSVC: {path} exists already")
    args, name = [path, "create"], None
    try:
        if config:
            wanted = __utils__["opensvc_agent.words"](config)
            handle, name = tempfile.mkstemp(prefix="opensvc.", dir=__opts__.get("cachedir"))
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(__utils__["opensvc_agent.render_config"](wanted))
            args += ["--config", name]
        answer = agent.act(args, f"creating {path}", "the configuration that was given")
    finally:
        if name:
            os.unlink(name)
    if agent.config(path) is None:
        raise CommandExecutionError(
            f"OpenSVC: creating {path} returned no error, and there is no {path}. See: om '*/*/*' ls"
        )
    return answer
