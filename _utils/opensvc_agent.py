"""
What the OpenSVC agent says and how its answers are read: pure functions, no process, no file, no state.

Agents 2.1 (Python) and 3 (Go) print different documents; both become one shape here. A document that is not understood raises: a state that
decided on half an answer would move or format something. Reach them as ``__utils__["opensvc_agent.…"]``; only the ``opensvc`` execution module and
states do.
"""

import base64
import binascii
import configparser
import json
import re

import salt.utils.data
from salt.exceptions import CommandExecutionError, SaltInvocationError

# core/status of both agents. "unknown" is what an aggregate is while an instance has not reported yet.
_WORDS = {"up", "down", "warn", "n/a", "undef", "stdby up", "stdby down", "unknown"}
_TRUTH = {True: True, False: False, "true": True, "false": False, "mixed": "mixed", None: "n/a"}
_TRUTH.update({"n/a": "n/a", "undef": "n/a", "": "n/a"})
_PLACEMENT = {"optimal": "optimal", "non-optimal": "non-optimal", "n/a": "n/a"}
_PLACEMENT.update({"undef": "n/a", "": "n/a", None: "n/a"})
_FROZEN = {"thawed": "thawed", "unfrozen": "thawed", "frozen": "frozen", "mixed": "mixed"}
_FROZEN.update({"n/a": "n/a", None: "n/a", "": "n/a"})
_NOTHING = (None, "", "none", "unset")
# Go's zero time: agent 3 says "never" with it, also in frozen_at.
_NEVER = "0001-01-01T00:00:00Z"
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


# --- Names --------------------------------------------------------------------------------------------------------------------------


def split_path(path):
    """``namespace/kind/name`` as a tuple; short forms are of namespace root and kind svc, as for the agents."""
    if not isinstance(path, str) or not re.fullmatch(
        r"([A-Za-z0-9-]+/)?([a-z]+/)?[A-Za-z0-9][A-Za-z0-9.-]*", path
    ):
        raise SaltInvocationError(
            f"{path!r} is not the path of an object: give namespace/kind/name, such as slapos/svc/comp1"
        )
    parts = path.split("/")
    if len(parts) == 1:
        return ("root", "ccfg" if path == "cluster" else "svc", path)
    if len(parts) == 2:
        return ("root", *parts)
    return tuple(parts)


def config_file(folder, path):
    """The file in which both agents keep the configuration of an object, of the cluster or of the node."""
    if path in ("cluster", "node"):
        return f"{folder}/{path}.conf"
    namespace, kind, name = split_path(path)
    if namespace != "root":
        return f"{folder}/namespaces/{namespace}/{kind}/{name}.conf"
    return f"{folder}/{name}.conf" if kind == "svc" else f"{folder}/{kind}/{name}.conf"


def pillar_text(pillar, key):
    """What the pillar holds under the key, parts of which are divided by ``:``. Not pillar.get: on Salt 3008 that answers a module with asterisks."""
    text = salt.utils.data.traverse_dict_and_list(pillar, key)
    if not isinstance(text, str) or not text:
        raise CommandExecutionError(f"OpenSVC: pillar {key} holds no text")
    return text


# --- What om prints when it fails ------------------------------------------------------------------------------------------------------


# Of agent 2.1's driver of applications.
_NO_REASON = re.compile(r"(?:start|stop|status|info) done in \S+ - ret \d+|exit code \d+")


def complaint(stdout, stderr):
    """The lines that say why, out of what om printed: of those that it marks as errors three, or the first and the last, or else its last one."""
    lines = [
        _ANSI.sub("", line).strip() for line in f"{stdout}\n{stderr}".splitlines() if line.strip()
    ]
    marked = []
    for line in lines:
        match = re.match(r"(?:E \|?\s*|Error: |[\d:.]+ ERR (?:\S+: )?)(.+)", line)
        if match and match.group(1) not in marked:
            marked.append(match.group(1))
    # That a launcher has failed is said by these, and why by what it said itself.
    telling = [line for line in marked if not _NO_REASON.fullmatch(line)] or marked
    if telling:
        # The reason comes first, and after it what it follows from: of a traceback the last line.
        return "; ".join(telling if len(telling) < 4 else [telling[0], telling[-1]])
    plain = [line for line in lines if not line.startswith(("@ ", "W "))]
    # What agent 2.1 says of most requests while its daemon is down.
    return plain[-1] if plain else "it gave no reason; is the daemon running?"


def warnings(stderr):
    """What om warned of (lines marked W), for instance a keyword that it does not know and ignores."""
    return [
        line[2:].strip()
        for line in _ANSI.sub("", stderr).splitlines()
        if line.startswith("W ") and line[2:].strip()
    ]


def busy(text):
    """True when om refused because an instance is in the middle of something: the same request succeeds later."""
    return bool(re.search(r"instance on node \S+ in \S*ing state", text))


def failures(stdout, stderr):
    """What om marked as errors, for the actions of agent 2.1 that fail with the code 0: sync nodes, daemon leave."""
    text = _ANSI.sub("", f"{stdout}\n{stderr}")
    if not re.search(r"^E ", text, re.MULTILINE):
        return None
    return complaint(stdout, stderr)


def version(text):
    """The version in the answer to ``--version``, or None when the text is no such answer."""
    match = re.search(r"^om(?: node)? version v?(\S+)\s*$", _ANSI.sub("", text), re.MULTILINE)
    return match.group(1) if match else None


# --- Configuration files ----------------------------------------------------------------------------------------------------------------


def parse_config(text):
    """Sections and keywords of a configuration file, raw: references in braces stay as they are."""
    parser = configparser.RawConfigParser(strict=False, default_section="\0", delimiters=("=",))
    parser.optionxform = str
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise CommandExecutionError(
            f"the agent's configuration cannot be read: {str(error).splitlines()[0]}"
        ) from None
    return {
        section: {key: _unquote(value) for key, value in parser.items(section)}
        for section in parser.sections()
    }


def _unquote(value):
    # Agent 3 quotes a value that holds a comment sign in backquotes and one of several lines in triple quotes.
    for quote in ('"""', "`"):
        if len(value) >= 2 * len(quote) and value.startswith(quote) and value.endswith(quote):
            return value[len(quote) : -len(quote)]
    return value


def words(config):
    """A configuration from YAML as the strings that the agent's file will hold."""
    if not isinstance(config, dict):
        raise SaltInvocationError("config: sections are wanted, each a dict of keywords")
    answer = {}
    for section, keywords in config.items():
        if not isinstance(keywords, dict):
            raise SaltInvocationError(f"config: section {section!r} is not a dict of keywords")
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_#:.-]*", str(section)):
            raise SaltInvocationError(f"config: {section!r} is no name of a section")
        answer[section] = {}
        for key, value in keywords.items():
            # Agent 2.1 takes a sign at the end for an operator: nodes- removes from the list.
            if not re.fullmatch(
                r"[A-Za-z][A-Za-z0-9_.-]*(?<!-)(@[A-Za-z0-9_.-]+(?<!-))?", str(key)
            ):
                raise SaltInvocationError(f"config: {section}.{key} is no name of a keyword")
            if str(key).split("@")[0] in ("secret", "password") and not elsewhere(key, value):
                raise SaltInvocationError(
                    f"config: {section}.{key} is a secret, which om and its logs would show; keep it in a sec object"
                )
            answer[section][key] = word(value, f"{section}.{key}")
    return answer


def elsewhere(key, value):
    """Whether a password is the path of the sec object that holds it, as agent 3 has it for a relay, and so no secret itself."""
    path = re.fullmatch(r"([a-z0-9-]+/)?sec/[a-z0-9.-]+", str(value))
    return bool(path) and str(key).split("@")[0] == "password"


def word(value, name):
    """One value as the agent's file holds it: booleans small, lists by spaces, lines without indentation."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return " ".join(word(item, name) for item in value)
    if value is None or isinstance(value, dict):
        raise SaltInvocationError(f"config: {name} needs text or a number, not {value!r}")
    lines = [line.strip() for line in str(value).strip().splitlines()]
    if any(line.startswith(("#", ";")) for line in lines[1:]):
        raise SaltInvocationError(
            f"config: {name} has a line that begins with a comment sign; the agent would drop it"
        )
    return "\n".join(lines)


def read_config(text):
    """A configuration from a file that people keep, as the strings that the agent's file will hold. Its identity is the agent's to give."""
    config = parse_config(text)
    config.get("DEFAULT", {}).pop("id", None)
    return words(config)


def render_config(config):
    """The text of a configuration file."""
    lines = []
    for section, keywords in config.items():
        lines.append(f"[{section}]")
        lines += [f"{key} = " + value.replace("\n", "\n\t") for key, value in keywords.items()]
        lines.append("")
    return "\n".join(lines)


def set_in_text(text, section, key, value):
    """The same text with one keyword set; everything else, comments too, stays as it is."""
    lines, inside, at = text.splitlines(), False, None
    for index, line in enumerate(lines):
        if re.match(r"\s*\[.*\]\s*$", line):
            inside = line.strip() == f"[{section}]"
            if inside:
                at = index + 1
        elif inside and re.match(rf"{re.escape(key)}\s*=", line):
            lines[index] = f"{key} = {value}"
            return "\n".join(lines) + "\n"
    if at is None:
        lines += [f"[{section}]"]
        at = len(lines)
    lines.insert(at, f"{key} = {value}")
    return "\n".join(lines) + "\n"


def difference(current, wanted):
    """``{section.keyword: {old, new}}`` of the wanted keywords that are not so. What is not wanted is left alone."""
    changes = {}
    for section, keywords in wanted.items():
        for key, value in keywords.items():
            old = (current or {}).get(section, {}).get(key)
            if old != value:
                changes[f"{section}.{key}"] = {"old": old, "new": value}
    return changes


def surplus(current, wanted):
    """Keywords that the object has and nobody asked for, except its identity and the data of its keys."""
    return [
        f"{section}.{key}"
        for section, keywords in (current or {}).items()
        for key in keywords
        if section != "data"
        and (section, key) != ("DEFAULT", "id")
        and key not in wanted.get(section, {})
    ]


def key_bytes(value):
    """The content of a key of a cfg object, from its value in the file (the same notation in both agents)."""
    if value.startswith("literal:"):
        return value[8:].encode()
    if value.startswith("base64:"):
        try:
            return base64.urlsafe_b64decode("".join(value[7:].split()))
        except (binascii.Error, ValueError) as error:
            raise CommandExecutionError(f"a key's value is damaged: {error}") from None
    if value.startswith("crypt:"):
        raise CommandExecutionError("the key is encrypted: only the agent can decode it")
    return value.encode()


# --- Cluster status ----------------------------------------------------------------------------------------------------------------------


def _load(text, what):
    try:
        return json.loads(text)
    except ValueError as error:
        raise CommandExecutionError(f"{what} is not whole JSON ({error})") from None


class _Reader:
    """Steps into a document and knows where it is, so that what is missing or strange can be named."""

    def __init__(self, data, where):
        self.data, self.where = data, where
        if not isinstance(data, dict):
            raise CommandExecutionError(f"{where} is not an object in the agent's answer")

    def _wrong(self, key, value):
        raise CommandExecutionError(
            f"{self.where}.{key} is {value!r} in the agent's answer, which is not understood"
        )

    def into(self, key, optional=False):
        value = self.data.get(key)
        if value is None and optional:
            value = {}
        if not isinstance(value, dict):
            self._wrong(key, value)
        return _Reader(value, f"{self.where}.{key}")

    def each(self):
        return [(key, _Reader(value, f"{self.where}.{key}")) for key, value in self.data.items()]

    def text(self, key, default=...):
        value = self.data.get(key, default)
        if value is not default and not isinstance(value, str):
            if value is None and default is not ...:
                return default
            self._wrong(key, value)
        if value is ...:
            self._wrong(key, None)
        return value

    def pick(self, key, table, default=...):
        value = self.data.get(key, default)
        try:
            return table[value]
        except (KeyError, TypeError):
            return self._wrong(key, None if value is ... else value)

    def status(self, key, default=...):
        value = self.data.get(key, default)
        if not isinstance(value, str) or value not in _WORDS:
            self._wrong(key, None if value is ... else value)
        return value

    def flag(self, key):
        value = self.data.get(key, False)
        if value not in (True, False):
            self._wrong(key, value)
        return bool(value)

    def epoch(self, key):
        value = self.data.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            self._wrong(key, value)
        return value > 0

    def moment(self, key):
        value = self.text(key)
        if not re.match(r"\d{4}-\d\d-\d\dT", value):
            self._wrong(key, value)
        return value != _NEVER

    def names(self, key):
        value = self.data.get(key)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self._wrong(key, value)
        return value


def parse_status(text, major):
    """The answer of ``om daemon status`` (2.1) or ``om cluster status`` (3) in the one shape of ``opensvc.cluster_status``."""
    data = _load(text, "the agent's cluster status")
    return (_status_2 if major < 3 else _status_3)(_Reader(data, "status"))


def _expectation(value):
    return None if value in _NOTHING else value


def _status_2(status):
    monitor, cluster = status.into("monitor"), status.into("cluster")
    answer = {
        "cluster": {
            "name": cluster.text("name"),
            "id": cluster.text("id"),
            "nodes": cluster.names("nodes"),
        },
        "nodes": {},
        "heartbeats": {},
        "objects": {},
    }
    for key in status.data:
        match = re.fullmatch(r"(hb#[^.]+)\.(rx|tx)", key)
        if match:
            _heartbeat(answer, *match.groups(), status.into(key))
    for path, aggregate in monitor.into("services").each():
        if path != "cluster":
            answer["objects"][path] = _object(
                aggregate, aggregate.pick("placement", _PLACEMENT, None)
            )
    for node, known in monitor.into("nodes").each():
        answer["nodes"][node] = {
            "state": known.into("monitor").text("status"),
            "frozen": known.epoch("frozen"),
            "agent": known.text("agent"),
            # Agent 2.1 asks its arbitrators only while cluster.quorum is true.
            "arbitrators": {
                name: {"address": one.text("name"), "status": one.status("status")}
                for name, one in known.into("arbitrators", optional=True).each()
            },
        }
        services = known.into("services")
        for path, config in services.into("config", optional=True).each():
            if path != "cluster":
                one = answer["objects"].setdefault(path, _object(_Reader({}, path), "n/a"))
                one["scope"] = sorted({*one["scope"], *config.names("scope")})
        for path, instance in services.into("status", optional=True).each():
            if path != "cluster" and instance.data:
                answer["objects"].setdefault(path, _object(_Reader({}, path), "n/a"))
                answer["objects"][path]["instances"][node] = _instance_2(instance)
    return answer


def _heartbeat(answer, name, way, stream):
    """A peer beats when it is heard and reached: with one way only the two sides would not agree on who is there."""
    known = answer["heartbeats"].setdefault(name, {"rx": "missing", "tx": "missing", "peers": {}})
    known[way] = stream.text("state")
    for peer, seen in stream.into("peers").each():
        if not seen.data:
            continue  # agent 2.1 lists the node itself, with nothing
        beating = seen.data.get("beating", seen.data.get("is_beating"))
        if beating not in (True, False):
            raise CommandExecutionError(f"{seen.where} does not say whether it beats")
        entry = known["peers"].setdefault(peer, {"beating": True})
        entry["beating"] = entry["beating"] and bool(beating)


def _object(aggregate, placement, scope=()):
    return {
        "scope": list(scope),
        "avail": aggregate.status("avail", "n/a"),
        "overall": aggregate.status("overall", "n/a"),
        "provisioned": aggregate.pick("provisioned", _TRUTH, None),
        "frozen": aggregate.pick("frozen", _FROZEN, None),
        "placement": placement,
        "instances": {},
    }


def _instance_2(instance):
    monitor = instance.into("monitor", optional=True)
    # The agent's cfg, sec and usr objects have a monitor and nothing to be available.
    actor = "avail" in instance.data
    return {
        "avail": instance.status("avail", "n/a"),
        "overall": instance.status("overall", "n/a"),
        "optional": instance.status("optional", "n/a"),
        "frozen": instance.epoch("frozen") if actor else False,
        "provisioned": instance.pick("provisioned", _TRUTH, None),
        "state": monitor.text("status", "unknown"),
        "global_expect": _expectation(monitor.text("global_expect", None)),
        "local_expect": _expectation(monitor.text("local_expect", None)),
        "leader": monitor.text("placement", "") == "leader",
        "resources": {
            rid: _resource(
                resource,
                resource.into("provisioned", optional=True).data.get("state"),
                resource.data.get("log", []),
            )
            for rid, resource in instance.into("resources", optional=True).each()
        },
    }


def _resource(resource, provisioned, log):
    truth = _TRUTH.get(provisioned) if not isinstance(provisioned, list | dict) else "?"
    if truth not in (True, False, "n/a", "mixed"):
        raise CommandExecutionError(f"{resource.where}.provisioned is {provisioned!r}")
    if not isinstance(log, list) or not all(isinstance(line, str) for line in log):
        raise CommandExecutionError(f"{resource.where}.log is {log!r}")
    return {
        "status": resource.status("status"),
        "type": resource.text("type"),
        "label": resource.text("label", ""),
        "disable": resource.flag("disable"),
        "optional": resource.flag("optional"),
        "standby": resource.flag("standby"),
        "subset": resource.text("subset", None),
        "provisioned": truth if isinstance(truth, bool) else None,
        "log": list(log),
    }


def _status_3(status):
    cluster = status.into("cluster")
    config = cluster.into("config")
    answer = {
        "cluster": {
            "name": config.text("name"),
            "id": config.text("id"),
            "nodes": config.names("nodes"),
        },
        "nodes": {},
        "heartbeats": {},
        "objects": {},
    }
    for path, aggregate in cluster.into("object").each():
        answer["objects"][path] = _object(
            aggregate,
            aggregate.pick("placement_state", _PLACEMENT, None),
            aggregate.names("scope"),
        )
    # The node that answers is the only one whose streams are its own view; the answer does not say which it is, so a peer beats when every node
    # that knows of it hears it.
    for node, known in cluster.into("node").each():
        state = known.into("status")
        answer["nodes"][node] = {
            "state": known.into("monitor").text("state"),
            "frozen": state.moment("frozen_at"),
            "agent": state.text("agent"),
            "arbitrators": {
                f"arbitrator#{name}": {"address": one.text("url"), "status": one.status("status")}
                for name, one in state.into("arbitrators", optional=True).each()
            },
        }
        streams = known.into("daemon").into("heartbeat").data.get("streams")
        if not isinstance(streams, list):
            raise CommandExecutionError(f"{known.where}.daemon.heartbeat.streams is {streams!r}")
        for entry in streams:
            stream = _Reader(entry, f"{known.where}.daemon.heartbeat.streams")
            match = re.fullmatch(r"(hb#[^.]+)\.(rx|tx)", stream.text("id"))
            if not match:
                raise CommandExecutionError(f"{stream.where} has no heartbeat's id")
            _heartbeat(answer, *match.groups(), stream)
        for path, instance in known.into("instance").each():
            if "status" not in instance.data:
                continue
            if path not in answer["objects"]:
                raise CommandExecutionError(f"{instance.where} is of an object that is not listed")
            answer["objects"][path]["instances"][node] = _instance_3(instance)
    return answer


def _instance_3(instance):
    status, monitor = instance.into("status"), instance.into("monitor")
    wish = _expectation(monitor.text("global_expect", None))
    if wish == "placed@":
        wish += ",".join(monitor.into("global_expect_options").names("destination"))
    return {
        "avail": status.status("avail"),
        "overall": status.status("overall"),
        "optional": status.status("optional", "n/a"),
        "frozen": status.moment("frozen_at"),
        "provisioned": status.pick("provisioned", _TRUTH),
        "state": monitor.text("state"),
        "global_expect": wish,
        "local_expect": _expectation(monitor.text("local_expect", None)),
        "leader": monitor.flag("is_leader"),
        "resources": {
            rid: _resource(
                resource,
                resource.into("provisioned", optional=True).data.get("state"),
                _log_3(resource),
            )
            for rid, resource in status.into("resources", optional=True).each()
        },
    }


def _log_3(resource):
    lines = resource.data.get("log") or []
    if not isinstance(lines, list):
        raise CommandExecutionError(f"{resource.where}.log is {lines!r}")
    return [
        "{}: {}".format(line.text("level"), line.text("message"))
        for line in (_Reader(item, f"{resource.where}.log") for item in lines)
    ]


def parse_schedule(text, major, node):
    """The agent's plan for the node: a list of ``{rid, action, schedule, last_run, next_run}``, times in seconds since 1970 or None."""
    data = _load(text, "the agent's schedule")
    if major >= 3:
        data = data.get("items") if isinstance(data, dict) else None
    if not isinstance(data, list):
        raise CommandExecutionError("the agent's schedule is not a list")
    plan = []
    for item in data:
        entry = _Reader(item, "schedule")
        if major >= 3:
            if entry.into("meta").text("node") != node:
                continue
            entry = entry.into("data")
            keyword, last, after = entry.text("key"), "last_run_at", "next_run_at"
            times = [_seconds(entry, last), _seconds(entry, after)]
        else:
            keyword = entry.text("config_parameter")
            times = [entry.data.get("last_run"), entry.data.get("next_run")]
            if not all(
                moment is None or isinstance(moment, int | float) and not isinstance(moment, bool)
                for moment in times
            ):
                raise CommandExecutionError(f"schedule of {keyword} has times {times!r}")
        section = keyword.rsplit(".", 1)[0] if "." in keyword else "DEFAULT"
        plan.append(
            {
                "rid": section if "#" in section else None,
                "action": entry.text("action"),
                "schedule": entry.text("schedule" if major >= 3 else "schedule_definition"),
                "last_run": times[0],
                "next_run": times[1],
            }
        )
    return plan


def _seconds(entry, key):
    import datetime

    if not entry.moment(key):
        return None
    stamp = re.sub(r"(\.\d{6})\d*", r"\1", entry.text(key)).replace("Z", "+00:00")
    try:
        return datetime.datetime.fromisoformat(stamp).timestamp()
    except ValueError:
        raise CommandExecutionError(f"{entry.where}.{key} is {stamp!r}, no time") from None
