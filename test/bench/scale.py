#!/usr/bin/env python3
"""
What many sites cost a master: `make scale`, as root, in an hour; writes scale.json, of which `make docs` makes the tables of docs/scale.md, and `run.py --merge` takes
the rollouts for docs/performance.md.

A real salt-master with a real bus, jobs and locks; only the minions are played (``minions.py``). For each size of an estate a new master, of which all that is done
in a day is asked once; then one small estate where the same is done at 1 to 16 sites at once.

    scale.py run [--sites 2,16,50] [--at-once 1,2,4,8,16] [--times 5] [--into FILE]
    scale.py record                    # asked.json anew: what a real minion asks its master
"""

import argparse
import contextlib
import datetime
import json
import pathlib
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import salt.version
import yaml

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from bench import fit, replay, results  # noqa: E402
from bench.master import Events, Master, cpu, memory, metered, parents, told, tree  # noqa: E402

RAW = HERE / "scale.json"
# Seconds that a node takes for its part: less than the lab's hosts do (docs/verification.md), as longer ones would hide what the master takes.
PACE = {"slapos_ha.facts": 2, "state.sls": 10}
# What is done at some sites of an estate, so many at most, so many at once: all of a large one would be the same for hours.
SOME, AT_ONCE = 16, 4
# How often the memory is looked at, in seconds: to look costs a millisecond for each process.
_LOOK = 1.0


def names(number):
    return [f"s{one:05}" for one in range(number)]


class Estate:
    """So many sites on a master of their own, to be entered."""

    def __init__(self, sites, pace=None):
        self.sites = names(sites)
        self.ids = [minion for site in self.sites for minion in replay.minions(site)]
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="scale-", dir="/tmp"))
        self.master = Master(self.folder / "m", self.ids, replay.pillar())
        self._pace = PACE if pace is None else pace

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            stack.callback(shutil.rmtree, self.folder)
            stack.enter_context(self.master)
            self.events = stack.enter_context(Events(self.master))
            stack.enter_context(self._played())
            self._open = stack.pop_all()
        return self

    def __exit__(self, *problem):
        return self._open.__exit__(*problem)

    @contextlib.contextmanager
    def _played(self):
        opts = self.master.opts
        config = self.master.folder / "players.json"
        config.write_text(json.dumps({
            "master": ["127.0.0.1", opts["publish_port"], opts["ret_port"]], "folder": str(self.master.folder / "player"), "ids": self.ids,
            "pace": self._pace,
        }))  # fmt: skip
        # The daemon's first seconds are its own, and not the minions'.
        before = self._settled()
        self.idle = self.memory()
        begun = time.monotonic()
        command = [sys.executable, str(HERE / "minions.py"), str(config)]
        with (
            open(self.master.folder / "players.log", "w") as log,
            subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            ) as self._players,
        ):
            # The end of its input, at the end of this, is its end.
            self._heard()
            self.begun = {"seconds": time.monotonic() - begun, "cpu": self.cpu() - before}
            yield

    def _settled(self):
        """Wait until the daemon has nothing more to do, and return what it has used."""
        used = self.cpu()
        while True:
            time.sleep(1)
            before, used = used, self.cpu()
            if used - before < 0.05:
                return used

    def _heard(self):
        line = self._players.stdout.readline()
        if not line:
            raise RuntimeError(f"the minions have ended: {self.master.folder}/players.log")
        said = json.loads(line)
        if said["wrong"]:
            raise RuntimeError(f"minions went wrong: {said['wrong']}")
        return said

    def said(self):
        """What the minions have done so far."""
        self._players.stdin.write("said\n")
        self._players.stdin.flush()
        return self._heard()

    def cpu(self):
        return cpu(tree(self.master.daemon.pid))

    def processes(self):
        """{process of the daemon: seconds of processor that it has used}"""
        return {pid: cpu([pid]) for pid in tree(self.master.daemon.pid)}

    def memory(self):
        return memory(tree(self.master.daemon.pid))

    def run(self, what, *arguments, look=_LOOK):
        """Do one thing with ``salt-run slapos_ha_rollout.run`` and return what it cost (dict); raises when it did not end well."""
        log = self.master.folder / "run.log"
        by_process = self.processes()
        before = self.cpu(), self.said(), dict(self.events.counts), dict(self.events.bytes), self.master.job_cache()  # fmt: skip
        command = self.master.command("salt-run", "slapos_ha_rollout.run", what, *arguments)
        daemon = jobs = processes = 0
        with metered(command, log) as process:
            while process.poll() is None:
                known = parents()
                mine = tree(process.pid, known) - {process.pid}
                daemon = max(daemon, memory(tree(self.master.daemon.pid, known)))
                jobs, processes = max(jobs, memory(mine)), max(processes, len(mine))
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(look)
            found = told(process)
        if found["code"]:
            raise RuntimeError(f"{what} ended with {found['code']}:\n{log.read_text()}")
        said, (size, files) = self.said(), self.master.job_cache()
        busiest = sorted(
            (used - by_process.get(pid, 0) for pid, used in self.processes().items()), reverse=True
        )
        return {
            "seconds": found["seconds"], "cpu_run": found["cpu"], "cpu_daemon": self.cpu() - before[0],
            "busiest": busiest[:8], "cpu_players": said["cpu"] - before[1]["cpu"], "memory_run": jobs, "memory_daemon": daemon, "processes": processes,
            "events": _more(self.events.counts, before[2]), "events_bytes": _more(self.events.bytes, before[3]),
            "asked": _more(said["said"], before[1]["said"]), "cache_bytes": size - before[4][0], "cache_files": files - before[4][1],
        }  # fmt: skip


def _more(now, before):
    return {
        key: value - before.get(key, 0) for key, value in now.items() if value > before.get(key, 0)
    }


def measured(sites):
    """One size of an estate: what the minions' start costs, a look at all sites, and a status and a deployment of some."""
    with Estate(sites) as estate:
        some = min(sites, SOME)
        chosen = "sites=" + ",".join(estate.sites[:: sites // some][:some])
        found = {
            "sites": sites, "some": some, "memory_idle": estate.idle, "memory_all": estate.memory(), "start": estate.begun,
            # What a daily run comes to where nothing is to do: all minions are asked for their facts, and whether a highstate would change anything.
            "look": estate.run("deploy", "sites=*"),
            # A rollout asks all minions before it begins anything: this is what that costs, and one site.
            "one": estate.run("status", f"sites={estate.sites[0]}"),
            "status": estate.run("status", chosen, f"concurrency={AT_ONCE}"),
            "deploy": estate.run("deploy", chosen, f"concurrency={AT_ONCE}", "only_differing=false"),
        }  # fmt: skip
        found["players_memory"] = estate.said()["memory"]
    return found


def raced(at_once, times, pace):
    """Rows {n, seconds, memory, ratio} of a rollout of n sites, n at once, where nothing is to do."""
    rows = {n: [] for n in at_once}
    with Estate(max(at_once), pace) as estate:
        # The first run also makes what Salt keeps: it is not counted.
        estate.run("deploy", f"sites={estate.sites[0]}", "only_differing=false")
        for _ in range(times):
            for n in at_once:
                chosen = ",".join(estate.sites[:n])
                cost = estate.run(
                    "deploy", f"sites={chosen}", f"concurrency={n}", "only_differing=false", look=3
                )
                rows[n].append({key: cost[key] for key in ("seconds", "cpu_run", "cpu_daemon", "cpu_players", "memory_run", "memory_daemon")})  # fmt: skip
                print(f"{n} at once: {cost['seconds']:.1f} s", file=sys.stderr)
    return fit.ratios(
        [
            {
                "n": n, "seconds": [round(one["seconds"], 2) for one in costs], "memory": [one["memory_daemon"] + one["memory_run"] for one in costs],
                **{key: statistics.median([one[key] for one in costs]) for key in costs[0] if key != "seconds"},
            }
            for n, costs in rows.items()
        ]
    )  # fmt: skip


def for_bench(rows, record):
    """Put the rollouts of so many sites at once into a part of the bench's results: docs/performance.md has them beside its goal."""
    record.agent = "played"
    for row in rows:
        for seconds in row["seconds"]:
            record.sample(f"sites_{row['n']}", seconds, told=False)
        for size in row["memory"]:
            record.sample(f"memory_{row['n']}", size / 2**20, told=False)
    return record.results()


def run(arguments):
    git = ["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"]
    machine = results.machine()
    found = {
        "date": datetime.date.today().isoformat(),
        "commit": subprocess.run(git, check=True, capture_output=True, text=True).stdout.strip(),
        "machine": f"{machine}, Python {platform.python_version()}, Salt {salt.version.__version__}", "pace": PACE, "at_once": AT_ONCE, "estates": [], "rollout": [], "rollout_without_nodes": [],
    }  # fmt: skip
    into = pathlib.Path(arguments.into)

    def keep():
        into.write_text(json.dumps(results.rounded(found), indent=1) + "\n")

    for sites in arguments.sites:
        found["estates"].append(measured(sites))
        keep()
        print(f"{sites} sites: done", file=sys.stderr)
    if arguments.at_once:
        record = results.Record("rollout", found["commit"], machine)
        found["rollout"] = raced(arguments.at_once, arguments.times, PACE)
        # As run.py --merge takes it.
        found.update(for_bench(found["rollout"], record))
        keep()
        found["rollout_without_nodes"] = raced(arguments.at_once, arguments.times, {})
        keep()


def record(_):
    """What a real minion asks, as asked.json."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="scale-", dir="/tmp"))
    (minion,) = replay.minions("paris")[:1]
    with Master(folder / "m", [minion], replay.pillar()) as master:
        config = {
            "id": minion, "master": "127.0.0.1", "master_port": master.opts["ret_port"], "publish_port": master.opts["publish_port"], "root_dir": str(folder),
            "pki_dir": str(master.folder / "player"), "cachedir": str(folder / "cache"), "sock_dir": str(folder / "s"), "log_file": str(folder / "log"),
        }  # fmt: skip
        (folder / "minion").write_text(yaml.safe_dump(config))
        said = subprocess.run(
            [sys.executable, str(HERE / "record.py"), str(folder / "minion"), "pillar.items", "slapos_ha.facts", "state.sls:slapos_ha", "state.sls:slapos_ha.software"],
            check=True, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
    found = json.loads(said.stdout)
    lines = [f" {json.dumps(kind)}: {{\n" + ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in known.items()) + "\n }" for kind, known in found.items()]  # fmt: skip
    replay.ASKED.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    shutil.rmtree(folder)


def numbers(text):
    return [int(one) for one in text.split(",") if one]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__.strip().splitlines()[0], formatter_class=argparse.RawTextHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("run", help="measure, and write the raw numbers")
    one.add_argument("--sites", type=numbers, default="2,16,50,150,500", help="sizes of estates")
    one.add_argument("--at-once", type=numbers, default="1,2,4,8,16", help="sites at once")
    one.add_argument("--times", type=int, default=5, help="how often each number of sites at once")
    one.add_argument("--into", default=str(RAW), help="the file of the raw numbers")
    one.set_defaults(function=run)
    two = commands.add_parser("record", help="ask a real minion what it asks its master")
    two.set_defaults(function=record)
    arguments = parser.parse_args()
    # Ended by force, it ends its master as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    arguments.function(arguments)


if __name__ == "__main__":
    main()
