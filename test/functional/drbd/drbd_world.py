"""Programs of DRBD that replay recordings: what a kernel with the resource t0 said in some state, and to which state an act leads."""

import json
import os
import pathlib
import sys
import textwrap

from support import ROOT, load_module

RECORDED = ROOT / "test/unit/drbd/recorded"
PROGRAMS = ("drbdadm", "drbdsetup", "modprobe", "modinfo", "blkid")
# What may be seen nowhere: the recordings' secret and those of these tests have it in common.
CANARY = "canary-secret"
SECRET, NEW_SECRET = f"{CANARY}-of-t0", f"another-{CANARY}"
PROC = "version: 8.4.11 (api:1/proto:86-101)\nsrcversion: 059B1B470318F053F5077D5 \n"

PROGRAM = """\
    #!{python} -SE
    import json, os, sys
    world, call = {world!r}, [os.path.basename(sys.argv[0]), *sys.argv[1:]]
    with open(world + "/calls", "a") as book:
        book.write(json.dumps(call) + "\\n")
    if os.environ.get("LC_ALL") != "C" or sys.stdin.read():
        sys.exit("to be asked in the C locale and without an operator")
    rules = json.load(open(world + "/rules.json"))
    now = json.load(open(world + "/now.json"))
    out, err, code = "", "", 0
    for rule in rules:
        if call[: len(rule["call"])] == rule["call"]:
            out, err, code = rule["said"]
            now = rule["then"] or now
            if rule["once"]:
                rules.remove(rule)
                json.dump(rules, open(world + "/rules.json", "w"))
            break
    else:
        if call[:2] == ["drbdsetup", "status"]:
            out = now["status"]
        elif call[:2] == ["drbdadm", "get-gi"]:
            out, code = now["gi"], 0 if now["gi"] else 1
        elif call[0] == "blkid":
            code = 2
    json.dump(now, open(world + "/now.json", "w"))
    open({root!r} + "/proc/drbd", "w").write(now["proc"]) if now["proc"] else None
    sys.stdout.write(out)
    sys.stderr.write(err)
    sys.exit(code)
"""


def said(host, name):
    """A recorded answer: output, errors, code."""
    base = RECORDED / host
    err = base / f"{name}.err"
    return [
        (base / f"{name}.out").read_text(),
        err.read_text() if err.exists() else "",
        int((base / f"{name}.rc").read_text()),
    ]


def ids(name, host="demo1"):
    """What drbd.generation_ids says on a host in a recorded state."""
    parse = load_module("_utils/drbd_parse.py", "drbd_world_parse")
    return parse.generations(said(host, f"{name}.gi")[0])


def state(name, host="demo1"):
    """What is asked in a recorded state. ``down`` is down without metadata, ``down:STATE`` down with the metadata of that state."""
    if name.startswith("down"):
        kept = name.partition(":")[2]
        return {"status": "", "gi": said(host, f"{kept}.gi")[0] if kept else "", "proc": PROC}
    gi = "" if name in ("diskless", "nodev") else said(host, f"{name}.gi")[0]
    return {
        "status": said(host, f"{name}.status")[0],
        "gi": gi,
        "proc": said(host, f"{name}.proc")[0],
    }


def grown(kib=262100):
    """In sync, with a larger device."""
    found = state("skipped")
    return {**found, "status": found["status"].replace("size:131032", f"size:{kib}")}


class World:
    """This node is demo1, the resource t0 is a loop device of 128 MiB."""

    def __init__(self, base):
        self.base, self.root = pathlib.Path(base), pathlib.Path(base) / "root"
        self.bin, self.etc = self.base / "bin", self.root / "etc/drbd.d"
        for folder in (
            self.bin,
            self.etc,
            self.root / "proc",
            self.root / "sys/module/drbd",
            self.root / "sys/class/block/loop7",
        ):
            folder.mkdir(parents=True)
        self.install(*PROGRAMS)
        (self.base / "rules.json").write_text("[]")
        self.now("down")
        self.module("8.4.11")
        self.size(131072)
        self.says("drbdadm", "--version", said=said("demo1", "version"))
        self.says("modinfo", said=["8.4.11\n", "", 0])

    def install(self, *programs):
        text = textwrap.dedent(PROGRAM).format(
            python=sys.executable, world=str(self.base), root=str(self.root)
        )
        for name in programs:
            (self.bin / name).write_text(text)
            (self.bin / name).chmod(0o755)

    def module(self, version):
        file = self.root / "sys/module/drbd/version"
        if version:
            file.write_text(version + "\n")
        else:
            file.unlink(missing_ok=True)
            (self.root / "proc/drbd").unlink(missing_ok=True)
            now = json.loads((self.base / "now.json").read_text())
            (self.base / "now.json").write_text(json.dumps({**now, "proc": ""}))

    def size(self, kib):
        (self.root / "sys/class/block/loop7/size").write_text(f"{kib * 2}\n")

    def now(self, name, host="demo1"):
        found = state(name, host)
        (self.base / "now.json").write_text(json.dumps(found))
        (self.root / "proc/drbd").write_text(found["proc"])

    def says(self, *call, said=("", "", 0), then=None, once=False, host="demo1"):
        """A call that begins so is answered so, and then the world is in another state: a recorded one, or one of one's own (dict)."""
        file = self.base / "rules.json"
        rule = {
            "call": list(call),
            "said": list(said),
            "then": state(then, host) if isinstance(then, str) else then,
            "once": once,
        }
        file.write_text(json.dumps([rule, *json.loads(file.read_text())]))

    def calls(self):
        book = self.base / "calls"
        return [json.loads(line) for line in book.read_text().splitlines()] if book.exists() else []

    def acts(self):
        """What was told to a program that could change something."""
        asking = (
            ["drbdsetup", "status"],
            ["drbdadm", "get-gi"],
            ["drbdadm", "--version"],
            ["drbdadm", "dump-xml"],
            ["drbdadm", "-c"],  # its check of a file beside the one that is meant
            ["blkid", "-p"],
            ["modinfo", "-F"],
        )
        return [call for call in self.calls() if call[:2] not in asking]

    def forget(self):
        (self.base / "calls").unlink(missing_ok=True)

    def files(self):
        """Every file that the formula may write, with its text and mode."""
        return {
            str(path.relative_to(self.root)): (
                path.read_text(),
                f"{path.stat().st_mode & 0o7777:04o}",
            )
            for path in sorted((self.root / "etc").rglob("*"))
            if path.is_file()
        }

    @property
    def file(self):
        return self.etc / "t0.res"

    def configured(self, text=None):
        self.file.write_text(text or RES)
        os.chmod(self.file, 0o600)


RES = f"""\
resource t0 {{
    net {{
        protocol C;
        cram-hmac-alg sha256;
        verify-alg sha256;
        shared-secret {SECRET};
        after-sb-0pri discard-zero-changes;
        after-sb-1pri disconnect;
        after-sb-2pri disconnect;
    }}
    disk {{
        c-plan-ahead 0;
        resync-rate 100M;
        c-min-rate 25600k;
    }}
    on demo1 {{
        device /dev/drbd3 minor 3;
        disk /dev/loop7;
        meta-disk internal;
        address ipv4 10.98.1.11:7399;
    }}
    on demo2 {{
        device /dev/drbd3 minor 3;
        disk /dev/loop7;
        meta-disk internal;
        address ipv4 10.98.1.12:7399;
    }}
}}
"""
WISH = {
    "nodes": {"demo1": "10.98.1.11", "demo2": "10.98.1.12"},
    "port": 7399,
    "minor": 3,
    "disk": "/dev/loop7",
    "shared_secret_pillar": "drbd:secret",
}
