"""The fake om of these tests and its world."""

import copy

PATH = "slapos/svc/comp1"
# A secret of the minion's pillar, to be looked for where it must not be.
CANARY = "canary0123456789"
# A token of agent 3, and a script with what Salt would make newlines of.
TOKEN = f"eyJhbGciOiJSUzI1NiJ9.c2VjcmV0.{CANARY}"
SCRIPT = "#!/bin/sh\nprintf 'a\\nb\\n'\n"

# Answers come from answers.json: [arguments' beginning, stdout, stderr, code, what becomes of the world, only once]. What becomes of the world: files of
# the configuration folder by name (null removes one), and "status", the daemon's next answers.
OM = """\
#!{python} -ISE
import json, pathlib, sys
world = pathlib.Path({world!r})
args = sys.argv[1:]
if "/dev/stdin" in args:
    (world / "stdin").write_bytes(sys.stdin.buffer.read())
with (world / "calls").open("a") as book:
    book.write(json.dumps(args) + "\\n")
answers = json.loads((world / "answers.json").read_text())
for entry in answers:
    begin, out, err, code, then, once = entry
    if args[: len(begin)] == begin:
        break
else:
    sys.exit("E om was not expected to be told " + " ".join(args))
if once:
    answers.remove(entry)
    (world / "answers.json").write_text(json.dumps(answers))
for name, text in (then or {{}}).items():
    if name == "status":
        (world / "status.json").write_text(json.dumps(text))
    elif name == "config from the arguments":
        (world / "etc" / text).write_text(pathlib.Path(args[args.index("--config") + 1]).read_text())
    elif text is None:
        (world / "etc" / name).unlink()
    else:
        (world / "etc" / name).write_text(text)
if out == "the status":
    document = json.loads((world / "status.json").read_text())
    out = json.dumps(document.pop(0) if isinstance(document, list) and len(document) > 1 else document[0] if isinstance(document, list) else document)
    (world / "status.json").write_text(json.dumps(document))
sys.stdout.write(out)
sys.stderr.write(err)
sys.exit(code)
"""

# DRBD of the kernel here: the recorded text of 8.4, with states of one's choice.
DRBDSETUP = """\
#!/bin/sh
exec cat {world}/drbd
"""


def drbd_says(disk="UpToDate", peer="UpToDate", replication="Established", role="Primary"):
    """What drbdsetup prints of the service's disk on demo1."""
    return (
        f"comp1.slapos.svc.slapos role:{role}\n  disk:{disk}\n  demo2 role:Secondary\n"
        f"    replication:{replication} peer-disk:{peer}\n\n"
    )


def like(document, **changes):
    """
    The status with something else: ``demo1={"avail": …, "state": …}`` for an instance, ``object={…}`` for the aggregate, ``resource={"demo1 fs#0": {…}}``,
    ``node={"demo1": {…}}``.
    """
    changed = copy.deepcopy(document)
    monitor = changed["monitor"]
    for key, values in changes.items():
        if key == "object":
            monitor["services"][PATH].update(values)
        elif key == "resource":
            for where, value in values.items():
                node, rid = where.split()
                known = monitor["nodes"][node]["services"]["status"][PATH]["resources"]
                known.setdefault(rid, {"type": "app.forking", "status": "down"}).update(value)
        elif key == "node":
            for node, value in values.items():
                monitor["nodes"][node].update(value)
        else:
            instance = monitor["nodes"][key]["services"]["status"][PATH]
            for name, value in values.items():
                if name == "state":
                    instance["monitor"]["status"] = value
                elif name in ("global_expect", "local_expect"):
                    instance["monitor"][name] = value
                else:
                    instance[name] = value
    return changed


def like_3(document, **changes):
    """The same for agent 3's answer: ``demo1={"avail": …, "state": …}`` for an instance, ``object={…}`` for the aggregate."""
    changed = copy.deepcopy(document)
    cluster = changed["cluster"]
    for key, values in changes.items():
        if key == "object":
            cluster["object"][PATH].update(values)
            continue
        instance = cluster["node"][key]["instance"][PATH]
        for name, value in values.items():
            kind = "monitor" if name in ("state", "global_expect", "local_expect") else "status"
            instance[kind][name] = value
    return changed
