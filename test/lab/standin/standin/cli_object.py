"""``om <object>``."""

import json
import os
import sys
import time

from . import conf, env, paths, render, sched, status, wire
from .cli_node import comm_error, wait_for
from .errors import Failed
from .instance import Instance, new_id, tell_daemon
from .log import Log

# Action -> the state the cluster is asked to bring the object to.
TARGETS = {
    "abort": "aborted",
    "delete": "deleted",
    "freeze": "frozen",
    "giveback": "placed",
    "move": "placed@",
    "provision": "provisioned",
    "purge": "purged",
    "restart": "restarted",
    "shutdown": "shutdown",
    "start": "started",
    "stop": "stopped",
    "switch": "placed@",
    "takeover": "placed@",
    "thaw": "thawed",
    "unprovision": "unprovisioned",
}
# What `--wait` waits for. `~` searches: `up` is found in `stdby up`, which is why a switch seems done at once.
CONDITIONS = {
    "frozen": ["monitor.services.'{path}'.frozen=frozen"],
    "thawed": ["monitor.services.'{path}'.frozen=thawed"],
    "purged": ["!monitor.services.'{path}'"],
    "deleted": ["!monitor.services.'{path}'"],
    "aborted": ["!monitor.services.'{path}'.global_expect"],
    "provisioned": ["monitor.services.'{path}'.provisioned=true"],
    "unprovisioned": ["monitor.services.'{path}'.provisioned=false"],
    "shutdown": ["monitor.services.'{path}'.avail~(down|n/a)"],
    "stopped": ["monitor.services.'{path}'.avail~(down|stdby up|n/a)"],
    "started": ["monitor.services.'{path}'.avail~(up|n/a)"],
    "placed": [
        "monitor.services.'{path}'.avail~(up|n/a)",
        "monitor.services.'{path}'.placement=optimal",
    ],
    "placed@": ["monitor.nodes.'{node}'.services.status.'{path}'.avail~(up|n/a)"],
}


def run(path, action, options):
    """Do an action on one object; return its exit code."""
    here = options.local or options.rid or options.subsets or options.tags
    if action in TARGETS and not here:
        return orchestrate(path, action, options)
    handler = HANDLERS.get(action)
    if handler is None:
        Log(path).info(
            f"action '{action}' is not applicable to '{paths.split(path)[1]}' kind objects"
        )
        return 0
    return handler(path, options)


# Orchestrated actions ---------------------------------------------------------------------------


def orchestrate(path, action, options):
    """Ask the daemon for a target state; it is not reached yet when this returns."""
    log = Log(path)
    target = TARGETS[action]
    if action == "delete" and options.unprovision:
        target = "purged"
    if action == "move" and not options.to:
        raise Failed("the --to <node>[,<node>,...] option is required")
    if target == "placed@":
        target += env.nodename() if action == "takeover" else options.to or "<peer>"
    try:
        answer = wire.local({"action": "expect", "path": path, "target": target})
    except OSError as error:
        comm_error(error)
        return 1
    for line in answer.get("error", []):
        log.error(line)
    for line in answer.get("info", []):
        log.info(line)
    if answer.get("error"):
        return 1
    # Without --time the real one does not wait at all, and neither does this.
    if not options.wait or not options.time or "target" not in answer:
        return 0
    return wait_target(path, answer["target"], conf.duration(options.time))


def wait_target(path, target, seconds):
    base, separator, node = target.partition("@")
    deadline = time.monotonic() + seconds
    for condition in CONDITIONS.get(base + separator, []):
        code = wait_for(
            condition.format(path=path, node=node), max(0.0, deadline - time.monotonic())
        )
        if code:
            return code
    return 0


def _clear(path, options):
    instance = Instance(path)
    for node in [env.nodename()] if options.local else instance.nodes:
        request = {"action": "clear", "path": path}
        try:
            if node == env.nodename():
                answer = wire.local(request)
            else:
                answer = wire.remote(
                    *instance.cluster.listener_target(node), instance.cluster.secret, request
                )
        except (OSError, Failed) as error:
            sys.stderr.write(f"{node}: {error}\n")
            return 1
        print(f"{node}: {answer['info']}")
    return 0


# Actions on this node ---------------------------------------------------------------------------


def _local(name):
    def action(path, options):
        instance = _instance(path, options)
        return instance.action(name)

    return action


def _instance(path, options):
    instance = Instance(
        path,
        {
            "leader": options.leader,
            "force": options.force,
            "disable_rollback": options.disable_rollback,
            "waitlock": conf.duration(options.waitlock),
        },
    )
    rids = [word for word in (options.rid or "").split(",") if word]
    if options.subsets:
        wanted = options.subsets.split(",")
        rids += [rid for rid, one in instance.resources.items() if one.subset in wanted]
    if options.rid or options.subsets:
        try:
            instance.options["rids"] = instance.expand_rids(rids or ["-"])
        except Failed as error:
            instance.log.error(str(error))
            raise Failed("") from None
    return instance


def _freeze(path, options):
    Instance(path).freeze()
    tell_daemon({"action": "wake"})
    return 0


def _thaw(path, options):
    Instance(path).thaw()
    tell_daemon({"action": "wake"})
    return 0


def _run(path, options):
    if not options.rid:
        options["rid"] = "task"
    instance = _instance(path, options)
    code = instance.unlocked("run")
    for rid in instance.options["rids"]:
        sched.ran(instance, "run", rid)
    return code


def _sync(name):
    def action(path, options):
        return Instance(path).unlocked(name)

    return action


def _delete(path, options):
    if options.rid:
        instance = Instance(path)
        for rid in options.rid.split(","):
            instance.sections.pop(rid, None)
        instance.save()
        return 0
    if options.unprovision and Instance(path, {"leader": options.leader}).action("unprovision"):
        return 1
    Instance(path).delete()
    tell_daemon({"action": "wake"})
    return 0


def _purge(path, options):
    options["unprovision"] = True
    return _delete(path, options)


def _disable(path, options, disable=True):
    instance = _instance(path, options)
    for rid in instance.options.get("rids") or ["DEFAULT"]:
        if disable:
            instance.log.info(f"set {rid}.disable = true")
            instance.sections.setdefault(rid, {})["disable"] = "true"
        elif "disable" in instance.sections.get(rid, {}):
            instance.log.info(f"remove {rid}.disable")
            del instance.sections[rid]["disable"]
        for keyword in [
            name for name in instance.sections.get(rid, {}) if name.startswith("disable@")
        ]:
            instance.log.info(f"remove {rid}.{keyword}")
            del instance.sections[rid][keyword]
    instance.save()
    return 0


def _enable(path, options):
    return _disable(path, options, False)


def _set_provisioned(value):
    def action(path, options):
        instance = _instance(path, options)
        for rid in instance.options.get("rids") or instance.resources:
            resource = instance.resources[rid]
            resource.log.info(f"set {'' if value else 'un'}provisioned")
            resource.set_provisioned(value)
        instance.status_data(refresh=True)
        return 0

    return action


# Status -----------------------------------------------------------------------------------------


def _status_data(path, options):
    instance = Instance(path)
    data = None if options.refresh else instance.cached_status()
    return instance, data or instance.status_data(refresh=True)


def _print_status(path, options):
    instance, data = _status_data(path, options)
    monitor = None
    try:
        answer = wire.local({"action": "object", "path": path}, 5)
        monitor = answer["mon_data"]
        data["cluster"] = {
            "compat": monitor["compat"],
            **{
                key: value
                for key, value in answer["service"].items()
                if key in ("avail", "overall", "placement")
            },
        }
        data["monitor"] = answer["monitor"] or {"status": "idle"}
    except (OSError, KeyError):
        pass
    if options.format:
        print(render.to_json(data) if options.format == "json" else "\n".join(render.flatten(data)))
    else:
        print(render.instance_tree(path, data, monitor, env.nodename()))
    return 0


def _status(path, options):
    """The state is the exit code; nothing is printed."""
    return status.CODES[_status_data(path, options)[1].get("overall", "n/a")]


def _print_schedule(path, options):
    rows = sched.table(Instance(path))
    if options.format:
        print(render.to_json(rows) if options.format == "json" else "\n".join(render.flatten(rows)))
    else:
        print(render.schedule(rows))
    return 0


def _print_devs(path, options):
    data = {}
    for rid, resource in Instance(path).resources.items():
        exposed = resource.exposed_devs()
        if exposed:
            data[rid] = {"exposed": list(exposed), "type": resource.type}
    print(render.to_json(data))
    return 0


# Configuration ----------------------------------------------------------------------------------


def create(names, options):
    """Create objects from a file, from keywords, or empty."""
    for path in names:
        if path.count("/") not in (0, 2) or not path.split("/")[-1]:
            sys.stderr.write(f"invalid path {path}\n")
            return 1
        sections = _source(options.config) if options.config else {}
        sections.pop("metadata", None)
        if not options.config and paths.exists(path):
            sections = conf.load(paths.config_file(path))
        conf.apply_expressions(sections, options.kw or [])
        default = sections.setdefault("DEFAULT", {})
        if not options.restore:
            default["id"] = new_id()
        default.setdefault("id", new_id())
        if paths.split(path)[1] == "svc" and "nodes" not in default:
            default["nodes"] = env.nodename()
        if paths.split(path)[1] == "svc" and not paths.exists(path):
            # Before the configuration is there: the daemon must not act on an object half made.
            Instance(path).freeze()
        conf.save(paths.config_file(path), sections)
        instance = Instance(path)
        for section in conf.ignored_sections(sections):
            instance.log.warning(f"ignored section {section}")
        if instance.kind in ("svc", "vol"):
            instance.status_data()
        tell_daemon({"action": "wake"})
        if options.provision:
            orchestrate(path, "provision", options)
    return 0


def _source(name):
    try:
        if name in ("-", "stdin", "/dev/stdin"):
            text = sys.stdin.read()
        else:
            with open(name, encoding="utf-8") as stream:
                text = stream.read()
    except OSError as error:
        raise Failed(f"{name}: {error.strerror}") from None
    if text.lstrip().startswith("{"):
        return {
            section: {
                key: value if isinstance(value, str) else json.dumps(value)
                for key, value in keywords.items()
            }
            for section, keywords in json.loads(text).items()
            if section != "metadata"
        }
    return conf.parse(text)


def _keyword(options):
    if options.kw and len(options.kw) == 1:
        return options.kw[0]
    if options.param:
        return options.param
    raise Failed("no parameter. set --param")


def _get(path, options):
    section, option = conf.split_keyword(_keyword(options))
    instance = Instance(path)
    if options.eval:
        print(instance.get(section, option, node=options.impersonate))
    else:
        print(instance.sections.get(section, {}).get(option))
    return 0


def _eval(path, options):
    options["eval"] = True
    return _get(path, options)


def _set(path, options):
    expressions = options.kw or ([f"{options.param}={options.value}"] if options.param else None)
    if not expressions:
        sys.stderr.write("no parameter. set --param\n")
        return 1
    Instance(path).set(expressions)
    return 0


def _unset(path, options):
    keywords = options.kw or ([options.param] if options.param else None)
    if not keywords:
        sys.stderr.write("no keyword specified. set --kw <keyword>\n")
        return 1
    Instance(path).unset(keywords)
    return 0


def _print_config(path, options):
    instance = Instance(path)
    if not options.format:
        with open(instance.config_file, encoding="utf-8") as stream:
            print(stream.read().rstrip("\n"))
        return 0
    data = {
        name: {
            key: instance.get(name, key) if options.eval else value
            for key, value in keywords.items()
        }
        for name, keywords in instance.sections.items()
    }
    data["metadata"] = {
        "name": instance.name,
        "kind": instance.kind,
        "namespace": instance.namespace,
    }
    print(
        render.to_json(data, sort=False)
        if options.format == "json"
        else "\n".join(render.flatten(data))
    )
    return 0


def _print_config_mtime(path, options):
    print(conf.mtime(paths.config_file(path)))
    return 0


def _validate(path, options):
    """Warnings for what no driver reads, errors for what cannot be resolved; their number is the exit code."""
    instance = Instance(path)
    count = 0
    for section in conf.ignored_sections(instance.sections):
        instance.log.warning(f"ignored section {section}")
        count += 1
    for section, keywords in instance.sections.items():
        for keyword in keywords:
            try:
                instance.get(section, keyword.split("@")[0])
            except Failed as error:
                instance.log.error(str(error))
                count += 1
    return count


# Keys -------------------------------------------------------------------------------------------


def _keys(path, options):
    keys = Instance(path).data_keys()
    if options.format:
        print(render.to_json(keys))
    elif keys:
        print("\n".join(keys))
    return 0


def _decode(path, options):
    data = Instance(path).decode(options.key or "")
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
    return 0


def _data(options):
    """[(key, bytes)] of --from or --value; None when neither is given."""
    if options.value is not None:
        return [(options.key, options.value.encode())]
    source = options.value_from
    if source is None:
        return None
    if source in ("-", "/dev/stdin"):
        return [(options.key, sys.stdin.buffer.read())]
    if os.path.isdir(source):
        names = [os.path.join(base, name) for base, _, files in os.walk(source) for name in files]
        prefix = options.key or os.path.basename(source.rstrip("/"))
        found = [
            (os.path.join(prefix, os.path.relpath(name, source)), name) for name in sorted(names)
        ]
    else:
        found = [(options.key or os.path.basename(source), source)]
    try:
        return [(key, _read(name)) for key, name in found]
    except OSError as error:
        raise Failed(f"not data could be found at {error.filename}") from None


def _read(name):
    with open(name, "rb") as stream:
        return stream.read()


def _store(path, instance, pairs, did):
    for key, data in pairs:
        if not key:
            raise Failed("configuration key name can not be empty")
        if key in instance.data_keys() and instance.decode(key) == data:
            continue
        size = instance.set_key(key, data)
        instance.log.info(f"configuration key '{key}' {did} ({size}b)")
    from .monitor import install

    install(None, instance.namespace)
    return 0


def _add(path, options):
    instance = Instance(path)
    pairs = _data(options)
    if options.key and options.key in instance.data_keys():
        if pairs is None:
            return 0
        raise _named(
            instance,
            f"key '{options.key}' already exists. use the 'change' action to change the current value.",
        )
    return _store(path, instance, pairs if pairs is not None else [(options.key, b"")], "added")


def _change(path, options):
    instance = Instance(path)
    if options.key not in instance.data_keys():
        raise _named(
            instance, f"key '{options.key}' does not exist. use the 'add' action to add it."
        )
    pairs = _data(options)
    if pairs is None:
        raise _named(instance, "a value or value source mut be specified for a change action.")
    return _store(path, instance, pairs, "changed")


def _named(instance, message):
    instance.log.error(message)
    return Failed("")


def _remove(path, options):
    instance = Instance(path)
    if options.key not in instance.data_keys():
        return 0
    # The agent's exit code is the number of keywords that went.
    instance.unset([f"data.{options.key}"])
    return 1


HANDLERS = {
    "add": _add,
    "boot": _local("boot"),
    "change": _change,
    "clear": _clear,
    "decode": _decode,
    "delete": _delete,
    "disable": _disable,
    "enable": _enable,
    "eval": _eval,
    "freeze": _freeze,
    "get": _get,
    "install data": _local("install"),
    "keys": _keys,
    "print config": _print_config,
    "print config mtime": _print_config_mtime,
    "print devs": _print_devs,
    "print exposed devs": _print_devs,
    "print schedule": _print_schedule,
    "print status": _print_status,
    "provision": _local("provision"),
    "purge": _purge,
    "remove": _remove,
    "restart": _local("restart"),
    "run": _run,
    "set": _set,
    "set provisioned": _set_provisioned(True),
    "set unprovisioned": _set_provisioned(False),
    "shutdown": _local("shutdown"),
    "start": _local("start"),
    "startstandby": _local("startstandby"),
    "status": _status,
    "stop": _local("stop"),
    "sync all": _sync("sync_all"),
    "sync nodes": _sync("sync_nodes"),
    "thaw": _thaw,
    "unprovision": _local("unprovision"),
    "unset": _unset,
    "validate config": _validate,
}
