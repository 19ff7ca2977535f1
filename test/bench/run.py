#!/usr/bin/env python3
"""`make bench`: measure, put the numbers into test/bench/results.json, and write docs/performance.md and its picture."""

import argparse
import os
import pathlib
import re
import signal
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "lab")]
from slaplab import base, cli  # noqa: E402
from slaplab.base import REPO, Lab, LabError, cache, run  # noqa: E402

from bench import parts, report, results  # noqa: E402 the paths are set just above


def say(text):
    print(f"bench: {text}", flush=True)


def commit():
    """The commit that is measured, and whether something of the tree is not in it: what the bench itself writes does not count."""
    at = base.commit().removesuffix("-dirty")
    written = (
        results.FILE.relative_to(REPO),
        "docs/performance.md",
        "docs/pictures/performance.svg",
    )
    others = (
        "git",
        "-C",
        REPO,
        "status",
        "--porcelain",
        "--",
        ".",
        *(f":!{path}" for path in written),
    )
    return at + ("-dirty" if run(*others, check=False).stdout.strip() else "")


def reason(error, lab):
    """Why a part failed, in one line without this machine's paths: the results are kept in the repository."""
    text = " ".join(str(error).split()) or type(error).__name__
    places = (
        (lab.home, "LAB_HOME"),
        (cache(), "CACHE"),
        (REPO, "CHECKOUT"),
        (pathlib.Path.home(), "~"),
    )
    for place, name in places:
        text = text.replace(str(place), name)
    return text if len(text) <= 400 else f"{text[:300]} … {text[-100:]}"


def measure(bench, chosen, store, at):
    """
    Measure the chosen parts in their order, at a commit, and hand the results of each to `store`, however it ends: whether all went well. One that fails does not
    keep the others from being measured; of one that is interrupted what was measured until then is kept.
    """
    where, good = results.machine(), True
    for name, (whole, function) in parts.PARTS.items():
        if name not in chosen:
            continue
        say(f"{name}: {function.__doc__.strip().splitlines()[0]}")
        record = results.Record(name, at, where, say)
        try:
            if whole:
                bench.ready()
            function(bench, record)
        except (KeyboardInterrupt, SystemExit):
            record.failed = results.INTERRUPTED
            raise
        except Exception as error:
            record.failed = reason(error, bench.lab)
            good = False
            say(f"{name}: FAILED: {record.failed}")
        finally:
            # Of what was interrupted before its first number there is nothing to keep.
            if record.samples or record.failed != results.INTERRUPTED:
                record.agent = "" if name in parts.WITHOUT_LAB else bench.agent()
                store(record.results())
    return good


def parser():
    known = ", ".join(parts.PARTS)
    one = argparse.ArgumentParser(
        prog="test/bench/run.py",
        description=f"Measure {known}; each takes the place of its former self in the results.",
        epilog="Exit code: 0 all was measured, 1 a part was not (why is in the results), 2 wrong arguments, 130 interrupted; what was measured is kept.",
    )
    one.add_argument("--only", type=_names, help="these parts, separated by commas; all if not given")  # fmt: skip
    one.add_argument("--repetitions", type=_positive, default=5, help="of what can be repeated (5)")
    one.add_argument("--deploys", type=_positive, default=1, help="full deployments, each in a new lab (1)")  # fmt: skip
    one.add_argument("--sync-mib", type=_positive, default=1024, help="size of the disk that is copied, in MiB, as far as the hosts have room (1024)")  # fmt: skip
    one.add_argument("--sync-seconds", type=_positive, default=120, help="how long to wait for a copy with DRBD's defaults; what is left is reckoned (120)")  # fmt: skip
    one.add_argument("--agent", help="as for test/lab/lab (LAB_AGENT)")
    one.add_argument("--home", help="the lab's folder; default: that of this checkout's lab, with -bench at its end")  # fmt: skip
    one.add_argument("--reuse", action="store_true", help="the lab that is up, and its site as it is")  # fmt: skip
    one.add_argument("--keep", action="store_true", help="leave the lab up afterwards")
    one.add_argument("--clean", action="store_true", help="end a lab that was left up, and remove its folder")  # fmt: skip
    one.add_argument("--results", type=pathlib.Path, default=results.FILE, help="the file of the numbers (test/bench/results.json)")  # fmt: skip
    one.add_argument("--merge", type=pathlib.Path, action="append", default=[], help="put the parts of this file into the results as well; measures only what --only names")  # fmt: skip
    one.add_argument("--report", action="store_true", help="measure nothing: write the page and the picture of the numbers that are there")  # fmt: skip
    return one


def _names(text):
    names = text.split(",")
    wrong = [name for name in names if name not in parts.PARTS]
    if wrong:
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(wrong)}; known: {', '.join(parts.PARTS)}")  # fmt: skip
    return names


def _positive(text):
    if not re.fullmatch(r"[1-9]\d{0,5}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)


def alone(lab):
    """One bench at a time in a lab: a second one would begin with a new one in its place."""
    return base.alone(f"{lab.home}.lock", f"another bench is at work in {lab.home}")


def written(path):
    """Write the page and the picture, which are made of the numbers of the tree only."""
    print(report.text(results.read(path)))
    if path.resolve() == results.FILE:
        run(sys.executable, REPO / "docs/generate.py", quiet=False)


def main(arguments=None):
    options = parser().parse_args(arguments)
    chosen = options.only or ([] if options.merge or options.report else list(parts.PARTS))
    if os.geteuid() != 0 and (options.clean or set(chosen) - set(parts.WITHOUT_LAB)):
        print("bench: needs root: the lab makes a network namespace", file=sys.stderr)
        return 1
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        # Begun with nohup it is not to hear that its terminal has gone.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, _: sys.exit(128 + number))
    lab = Lab(options.home or f"{Lab().home}-bench")
    try:
        return _main(options, chosen, lab)
    except (LabError, results.BadResults) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _main(options, chosen, lab):
    with alone(lab):
        if options.clean:
            cli.clean(lab)
            return 0

        def store(new):
            results.write(options.results, results.merged(results.read(options.results), new))

        for path in options.merge:
            if not path.exists():
                raise LabError(f"{path} is not there")
            store(results.read(path))
        bench = parts.Bench(lab, options, counted="processes" in chosen)
        try:
            good = measure(bench, chosen, store, commit())
        finally:
            if not options.keep and not options.reuse:
                cli.clean(lab)
            if results.read(options.results)["parts"]:
                written(options.results)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
