"""The command line: what was asked, of what, with which options."""

import os
import sys

from . import VERSION, env, paths
from .errors import Failed, NoMatch

# Options with a value, and whether they can be given more than once.
VALUED = {
    "--kw": "kw",
    "--format": "format",
    "--rid": "rid",
    "--node": "node",
    "--to": "to",
    "--time": "time",
    "--timeout": "time",
    "--duration": "duration",
    "--config": "config",
    "--template": "config",
    "--key": "key",
    "--from": "value_from",
    "--value": "value",
    "--param": "param",
    "--secret": "secret",
    "--waitlock": "waitlock",
    "--match": "match",
    "--filter": "filter",
    "--namespace": "namespace",
    "--color": "color",
    "--env": "env",
    "--impersonate": "impersonate",
    "--subsets": "subsets",
    "--tags": "tags",
    "--service": "service",
    "-s": "service",
    "--server": "server",
}
REPEATED = ("kw", "env")
FLAGS = {
    "--eval": "eval",
    "--local": "local",
    "--leader": "leader",
    "--wait": "wait",
    "--refresh": "refresh",
    "-r": "refresh",
    "--force": "force",
    "--disable-rollback": "disable_rollback",
    "--provision": "provision",
    "--unprovision": "unprovision",
    "--interactive": "interactive",
    "--cron": "cron",
    "--foreground": "foreground",
    "-f": "foreground",
    "--restore": "restore",
    "--verbose": "verbose",
    "--version": "version",
    "--help": "help",
    "-h": "help",
    "--master": "master",
    "--slaves": "slaves",
}

# Section title of the help -> actions of it.
SVC_ACTIONS = {
    "Collector management": (
        "collector ack action|collector ack unavailability|collector alerts|collector asset|collector checks|"
        "collector disks|collector events|collector list actions|collector list unavailability ack|collector log|"
        "collector networks|collector show actions|collector tag attach|collector tag create|collector tag detach|"
        "collector tag list|collector tag show"
    ),
    "Common object actions": "deploy|logs|ls|monitor|print config mtime|print status|purge|status",
    "Compliance": (
        "compliance attach|compliance auto|compliance check|compliance detach|compliance env|compliance fix|"
        "compliance fixable|compliance list moduleset|compliance list ruleset|compliance show moduleset|"
        "compliance show ruleset|compliance show status"
    ),
    "Object configuration": "create|delete|edit config|eval|get|print config|set|unset|update|validate config",
    "Service and volume object actions": (
        "abort|boot|clear|disable|dns update|docker|enable|enter|freeze|frozen|giveback|install data|migrate|move|"
        "oci|pg freeze|pg kill|pg pids|pg remove|pg stats|pg thaw|pg update|podman|postsync|presync|"
        "print base devs|print devs|print exposed devs|print resinfo|print resource status|print schedule|"
        "print sub devs|provision|prstatus|pull|push config|push encap config|push resinfo|push status|"
        "resource monitor|restart|resync|run|scale|set provisioned|set unprovisioned|shutdown|snooze|start|"
        "startstandby|stop|support|switch|sync all|sync break|sync drp|sync establish|sync full|sync nodes|"
        "sync quiesce|sync restore|sync resume|sync resync|sync revert|sync split|sync update|sync verify|"
        "takeover|thaw|toc|unprovision|unsnooze"
    ),
}
CFG_ACTIONS = {
    "Common object actions": "deploy|logs|ls|monitor|print config mtime|print status|purge|status",
    "Configuration object actions": "add|append|change|decode|edit|install|keys|remove",
    "Object configuration": SVC_ACTIONS["Object configuration"],
}
CLUSTER_ACTIONS = {
    "Object configuration": SVC_ACTIONS["Object configuration"] + "|ls|status|print status"
}
NODE_ACTIONS = {
    "Node actions": "freeze|thaw|ls|wait|print schedule|print devs|pushasset|checks",
    "Node configuration": "get|set|unset|eval|print config|validate config",
}
DAEMON_ACTIONS = {
    "Daemon management actions": "join|leave|rejoin|restart|running|shutdown|start|stats|status|stop",
}
TABLES = {"svc": SVC_ACTIONS, "vol": SVC_ACTIONS, "cfg": CFG_ACTIONS, "ccfg": CLUSTER_ACTIONS}

HELP = """Usage:

  om mon                      Monitor the cluster
  om node                     Manage Cluster Nodes
  om cluster                  Manage Cluster Configuration
  om daemon                   Manage Agent Daemon
  om <selector> <options>     Manage the selected objects
"""


class Options(dict):
    """The options of a command line; one that was not given is None."""

    def __getattr__(self, name):
        return self.get(name)


def parse(program, argv):
    """Arguments -> (words of the action, Options)."""
    words, options = [], Options()
    position = 0
    while position < len(argv):
        word = argv[position]
        position += 1
        name, separator, value = word.partition("=")
        if word in FLAGS:
            options[FLAGS[word]] = True
        elif name in VALUED and name.startswith("-"):
            if not separator:
                if position >= len(argv):
                    raise Failed(f"{program}: {name} option requires 1 argument")
                value = argv[position]
                position += 1
            key = VALUED[name]
            if key in REPEATED:
                options.setdefault(key, []).append(value)
            else:
                options[key] = value
        elif word.startswith("-") and word != "-":
            raise Failed(f"{program}: no such option: {name}")
        else:
            words.append(word)
    return words, options


def actions(table):
    return [action for names in table.values() for action in names.split("|")]


def action_of(program, table, words):
    """The action that words mean; words can be cut short as long as they are clear."""
    known = actions(table)
    wanted = " ".join(words)
    if wanted in known:
        return wanted
    matches = [
        action
        for action in known
        if len(action.split()) == len(words)
        and all(full.startswith(short) for full, short in zip(action.split(), words, strict=True))
    ]
    if len(matches) == 1:
        return matches[0]
    raise Failed(usage(program, table, "_".join(words)))


def usage(program, table, wanted):
    """The digest of actions that start like the one that is not known, of all when none does."""
    lines = [
        f"{program} {wanted}...",
        "",
        "  --help   display action description and supported options.",
        "",
    ]
    for everything in (False, True):
        sections = []
        for title in sorted(table):
            names = [
                name
                for name in table[title].split("|")
                if everything or name.replace(" ", "_").startswith(wanted)
            ]
            if names:
                sections.append("\n".join([title, "", *(f"  {name}" for name in names)]))
        if sections:
            return "\n".join(lines) + "\n" + "\n\n".join(sections)
    return "\n".join(lines)


def main(argv):
    """Run a command line; return its exit code."""
    env.guard()
    try:
        return run(argv) or 0
    except NoMatch:
        sys.stderr.write("no match\n")
        return 1
    except Failed as error:
        if str(error):
            sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 1
    except BrokenPipeError:
        return 1


def run(argv):
    if not argv:
        sys.stderr.write(HELP)
        return 1
    first, rest = argv[0], argv[1:]
    if first in ("node", "daemon"):
        return _manager(first, rest)
    if first == "mon":
        from .cli_node import mon

        return mon(parse("om mon", rest)[1])
    if first in ("svc", "vol", "cfg"):
        return _kind(first, rest)
    if first == "ls":
        return _kind("svc", argv)
    if first == "cluster":
        return _objects("cluster", rest)
    return _objects(first, rest)


def _manager(name, argv):
    from . import cli_daemon, cli_node

    program = f"om {name}"
    words, options = parse(program, argv)
    if options.version:
        print(f"{program} version {VERSION}")
        return 0
    table = NODE_ACTIONS if name == "node" else DAEMON_ACTIONS
    action = action_of(program, table, words)
    module = cli_node if name == "node" else cli_daemon
    return module.run(action, options)


def _kind(kind, argv):
    """``om svc …``: the objects are named by --service, all of the kind without it."""
    program = f"om {kind}"
    words, options = parse(program, argv)
    if options.version:
        print(f"{program} version {VERSION}")
        return 0
    selector = options.service or f"*/{kind}/*"
    if words[:1] == ["ls"]:
        return _ls(selector, options, kind)
    if options.service is None:
        action_of(program, TABLES[kind], words)
        raise Failed("no object selected.")
    return _act(selector, words, options)


def _objects(selector, argv):
    """``om <selector> …``."""
    if selector.startswith("-"):
        sys.stderr.write(HELP)
        return 1
    kind = paths.split(selector)[1] if selector.count("/") in (0, 2) else "svc"
    words, options = parse(f"om {kind if kind in TABLES else 'svc'}", argv)
    if words[:1] == ["ls"]:
        return _ls(selector, options)
    return _act(selector, words, options)


def _ls(selector, options, kind="svc"):
    from . import render

    found = [path for path in paths.select(selector, kind) if path != "cluster"]
    if options.format == "json":
        print(render.to_json(found))
    elif found:
        print("\n".join(found))
    return 0


def _act(selector, words, options):
    from . import cli_object

    if words[:1] in (["create"], ["deploy"]):
        return cli_object.create(selector.split(","), options)
    found = paths.select(selector)
    if not found:
        raise NoMatch
    code = 0
    for path in found:
        kind = paths.split(path)[1]
        table = TABLES.get(kind, CFG_ACTIONS)
        code += cli_object.run(path, action_of(f"om {kind}", table, words), options) or 0
    return code


def entry():
    """The program: standard streams flushed, a closed one no reason for a traceback."""
    code = main(sys.argv[1:])
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        os._exit(1)
    # Nothing is left to tidy up, and in the lab's hosts an interpreter's farewell takes a tenth of a second.
    os._exit(code if code < 256 else 1)
