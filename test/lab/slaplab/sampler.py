"""
Look for secrets where others could see them. A program of its own: it runs on a host as `python3 -c <this text>`, with the standard library only.

Standard input begins with a line of JSON: {"mode": "sample" or "scan", "canaries": {name: value}, "files": {name: path}, "netns": link or null, "roots": [folder]}.
Each finding is a line of JSON with the name of what was found; a value is never printed. "sample" looks at processes until standard input ends; "scan" reads
files and the journal once.

Sampled are the command line and the environment of every process (of the given network namespace, where one is given): of a process that is younger than
YOUNG seconds at each pass, a pass every INTERVAL, and of the older ones every AGAIN seconds, since a process may change both. What lives for less than
INTERVAL may be missed. `files` are secrets that do not exist yet when the sampling begins: they are looked for once their file is there.
"""

import json
import os
import re
import select
import stat
import subprocess
import sys
import time

INTERVAL, YOUNG, AGAIN = 0.1, 2, 10
CHUNK = 1 << 20
# Disk images are judged by their mode alone, and what only holds programs is not read.
BIG = 64 << 20
PROGRAMS = {"site-packages", "dist-packages", "dpkg", "wheels"}


def read(path):
    try:
        with open(path, "rb") as handle:
            return handle.read()
    except OSError:
        return b""


def secret_in(text):
    """The secret that a file holds, as bytes or None: a cluster's, or a line from the middle of a private key."""
    found = re.findall(rb"^\s*secret\s*=\s*(\S+)", text, re.MULTILINE)
    found = found or re.findall(rb"^[A-Za-z0-9+/]{60,}$", text, re.MULTILINE)
    return found[len(found) // 2] if found else None


class Sampler:
    """What is seen of processes; :py:meth:`look` is one pass and returns what is new."""

    def __init__(self, canaries, files=None, netns=None, proc="/proc"):
        self.canaries = {name: value.encode() for name, value in canaries.items()}
        self.files, self.netns, self.proc = files or {}, netns, proc
        self.born, self.seen, self.modified = {}, set(), {}
        self.again, self.passes = 0, 0

    def look(self):
        now = time.monotonic()
        all_of_them = now >= self.again
        if all_of_them:
            self.again = now + AGAIN
            self._learn()
        pids = {name for name in os.listdir(self.proc) if name.isdigit()}
        self.born = {pid: self.born.get(pid, now) for pid in pids}
        found = []
        for pid, born in self.born.items():
            if all_of_them or now - born < YOUNG:
                found += self._judge(pid)
        self.passes += 1
        return found

    def _learn(self):
        for name, path in self.files.items():
            try:
                modified = os.stat(path).st_mtime_ns
            except OSError:
                continue
            if self.modified.get(name) != modified:
                self.modified[name] = modified
                value = secret_in(read(path))
                if value:
                    self.canaries[name] = value

    def _judge(self, pid):
        folder = os.path.join(self.proc, pid)
        if self.netns:
            try:
                if os.readlink(folder + "/ns/net") != self.netns:
                    return
            except OSError:
                return
        for where in ("cmdline", "environ"):
            data = read(f"{folder}/{where}")
            for name, value in self.canaries.items():
                if value in data and (pid, where, name) not in self.seen:
                    self.seen.add((pid, where, name))
                    program = self._program(folder, where, data)
                    yield {"name": name, "where": where, "pid": int(pid), "program": program}

    def _program(self, folder, where, data):
        """Its name: by what was just read, since the process may be over by now, unless that is the secret itself."""
        first = data.split(b"\0")[0] if where == "cmdline" else b""
        if not first or any(value in first for value in self.canaries.values()):
            first = read(folder + "/comm")
        return os.path.basename(first.decode(errors="replace").strip())


def found_in(stream, canaries):
    """The names of what a stream of bytes holds, also across the borders of its chunks."""
    longest = max(map(len, canaries.values()), default=1)
    names, kept = set(), b""
    while chunk := stream.read(CHUNK):
        data = kept + chunk
        names |= {name for name, value in canaries.items() if value in data}
        kept = data[-longest:]
    return sorted(names)


def scan(roots, canaries):
    """Findings in files below the roots; a disk image that others than its owner can read is one as well."""
    for root in roots:
        for folder, folders, names in os.walk(root):
            folders[:] = [name for name in folders if name not in PROGRAMS]
            for name in names:
                path = os.path.join(folder, name)
                try:
                    status = os.lstat(path)
                    if not stat.S_ISREG(status.st_mode):
                        continue
                    mode = stat.S_IMODE(status.st_mode)
                    if status.st_size > BIG:
                        if name.endswith(".img"):
                            yield {"name": "disk image", "path": path, "mode": f"{mode:o}"}
                        continue
                    with open(path, "rb") as stream:
                        held = found_in(stream, canaries)
                except OSError:
                    continue
                for canary in held:
                    yield {"name": canary, "path": path, "mode": f"{mode:o}"}


def journal(canaries, program="journalctl"):
    """Findings in the journal, which keeps long lines compressed."""
    try:
        process = subprocess.Popen(
            [program, "--all", "--output=export", "--no-pager"], stdout=subprocess.PIPE
        )
    except OSError:
        return
    with process:
        for name in found_in(process.stdout, canaries):
            yield {"name": name, "path": "(journal)", "mode": "-"}


def main():
    def tell(line):
        print(json.dumps(line), flush=True)

    asked = json.loads(sys.stdin.buffer.readline())
    if asked["mode"] == "scan":
        canaries = {name: value.encode() for name, value in asked["canaries"].items()}
        for finding in (*scan(asked["roots"], canaries), *journal(canaries)):
            tell(finding)
        tell({"end": True})
        return
    sampler = Sampler(asked["canaries"], asked["files"], asked["netns"])
    tell({"begin": True})
    told = 0
    # Standard input is readable when it ends.
    while not select.select([sys.stdin], [], [], INTERVAL)[0]:
        for finding in sampler.look():
            tell(finding)
        if sampler.passes >= told + 100:
            told = sampler.passes
            tell({"passes": told})
    tell({"passes": sampler.passes})


if __name__ == "__main__":
    main()
