"""SlapOS's first run by one interpreter, with a package `slapos` of the test's own in its place: what is run, what it ends with, and what is said of it."""

import json
import os
import signal
import sys
import time

import pytest
from salt.exceptions import CommandExecutionError
from support import load_module

from ..launchers.conftest import load

# As slapos.core 1.25.0 is: a command's module is imported when it is run, and takes long; main takes its arguments as it is imported.
COMMAND = """
import os
here = os.path.dirname(os.path.abspath(__file__)) + "/../.."
with open(here + "/imports", "a") as imports:
    imports.write(__name__.rpartition(".")[2] + chr(10))
"""
ENTRY = """
import importlib, json, os, sys, time

def main(argv=sys.argv[1:]):
    action = argv[1]
    name = "format" if action == "format" else "slapgrid"
    here = importlib.import_module("slapos.cli." + name).here
    with open(here + "/calls", "a") as calls:
        calls.write(json.dumps([sys.argv[0], *argv]) + chr(10))
    plan = json.load(open(here + "/plan.json")).get(action, {})
    with open(here + "/pid", "w") as pid:
        pid.write(str(os.getpid()))
    time.sleep(plan.get("seconds", 0))
    print("said by", action)
    print(plan.get("print", ""), file=sys.stderr)
    if plan.get("raises"):
        raise RuntimeError(plan["raises"])
    if plan.get("later"):
        import atexit
        atexit.register(print, plan["later"])
    return plan.get("code", 0)
"""
SCRIPT = """#!{python} -s
import sys
from slapos.cli.entry import main
if __name__ == "__main__":
    sys.exit(main())
"""


class World:
    def __init__(self, folder, module):
        self.folder = folder
        settings = {
            "program": f"{folder}/bin/slapos", "path": [], "config": f"{folder}/slapos.cfg", "instance_root": f"{folder}/grid", "computer_xml": f"{folder}/slapos.xml",
            "interface": "lo", "user_ids": [], "ha_run_dir": f"{folder}/run", "start_seconds": 1, "stop_seconds": 1, "task_seconds": 1, "boot_seconds": 1,
            "promise_seconds": 1,
        }  # fmt: skip
        re6st = {
            "program": "re6stnet", "path": [], "conf_dir": str(folder), "ha_run_dir": f"{folder}/run", "start_seconds": 1, "stop_seconds": 1, "mesh_seconds": 1,
        }  # fmt: skip
        self.service = module.Slapos(settings, re6st)
        self.service.supervisord = lambda: True
        (folder / "slapos.xml").write_text("")
        for part in ("bin", "slapos/cli"):
            (folder / part).mkdir(parents=True)
        for part in ("slapos", "slapos/cli"):
            (folder / part / "__init__.py").write_text("")
        for name in ("format", "slapgrid"):
            (folder / f"slapos/cli/{name}.py").write_text(COMMAND)
        (folder / "slapos/cli/entry.py").write_text(ENTRY)
        # An interpreter that finds the package, as one of an environment does.
        python = folder / "bin/python3"
        python.write_text(f'#!/bin/sh\nPYTHONPATH={folder} exec {sys.executable} "$@"\n')
        python.chmod(0o755)
        self.script(SCRIPT.format(python=python))
        self.plan()

    def script(self, text):
        (self.folder / "bin/slapos").write_text(text)
        (self.folder / "bin/slapos").chmod(0o755)

    def plan(self, **plan):
        (self.folder / "plan.json").write_text(json.dumps(plan))

    def calls(self):
        """What was run, without the program and its configuration."""
        lines = [json.loads(line) for line in (self.folder / "calls").read_text().splitlines()]
        ending = ["--cfg", f"{self.folder}/slapos.cfg"]
        assert all(line[0] == f"{self.folder}/bin/slapos" for line in lines)
        assert all(line[-2:] == ending for line in lines)
        return [line[1:-2] for line in lines]

    def imports(self):
        return (self.folder / "imports").read_text().split()


@pytest.fixture
def module():
    return load("slapos")


@pytest.fixture
def world(tmp_path, module):
    return World(tmp_path, module)


@pytest.fixture
def wrong():
    return ["slappart0 is not there"]


@pytest.fixture
def actor(world, module, wrong, monkeypatch):
    actor = load_module(
        "_modules/slapos_node_register.py",
        __utils__={"slapos_launcher.service": lambda *_: (module, world.service)},
    )
    monkeypatch.setattr(actor, "partitions", lambda: wrong)
    return actor


def test_three_commands_import_what_they_share_once(actor, world):
    assert actor.slapos_run() == {"format": 0, "software": 0, "instance": 0}
    assert world.calls() == [
        ["node", "format", "--now", "--alter_user=True"],
        ["node", "software", "--now"],
        ["node", "instance", "--now"],
    ]
    assert world.imports() == ["format", "slapgrid"]


def test_a_slapos_with_other_modules_imports_them_itself(actor, world):
    for name in ("format", "slapgrid"):
        (world.folder / f"slapos/cli/{name}.py").rename(world.folder / f"slapos/cli/new_{name}.py")
    entry = world.folder / "slapos/cli/entry.py"
    entry.write_text(entry.read_text().replace('"slapos.cli."', '"slapos.cli.new_"'))
    assert actor.slapos_run() == {"format": 0, "software": 0, "instance": 0}
    assert world.imports() == ["new_format", "new_slapgrid", "new_slapgrid"]


def test_what_is_formatted_is_not_formatted_again(actor, world, wrong):
    wrong.clear()
    assert actor.slapos_run() == {"software": 0, "instance": 0}
    assert [call[1] for call in world.calls()] == ["software", "instance"]


def test_without_the_master_it_goes_on(actor, world):
    world.plan(format={"code": 2}, software={"code": 10}, instance={"code": 3})
    assert actor.slapos_run() == {"format": 2, "software": 10, "instance": 3}


@pytest.mark.parametrize(
    ("plan", "calls", "said"),
    [
        ({"format": {"code": 1}}, 1, r"^slapos node format --now --alter_user=True: exit code 1\nsaid by format$"),
        ({"software": {"code": 2, "print": "Traceback"}}, 2, r"^slapos node software --now: exit code 2\n(said by software|Traceback)\n"),
        ({"software": {"print": "Max retries exceeded", "code": 1}}, 2, "software --now: exit code 1: the SlapOS master cannot be reached"),
        ({"software": {"code": "no room at all"}}, 2, r"^slapos node software --now: exit code 1\n(.*\n)*no room at all"),
        ({"software": {"code": 1, "later": "at its end"}}, 2, r"^slapos node software --now: exit code 1\n(.*\n)*at its end"),
        ({"instance": {"raises": "no room"}}, 3, r"^slapos node instance --now: exit code 1\n(.*\n)*RuntimeError: no room"),
    ],
)  # fmt: skip
def test_the_one_that_fails_is_the_last_and_is_told(actor, world, plan, calls, said):
    world.plan(**plan)
    with pytest.raises(CommandExecutionError, match=said) as error:
        actor.slapos_run()
    assert len(world.calls()) == calls
    others = [call[1] for call in world.calls()[:-1]]
    assert not any(f"said by {action}" in str(error.value) for action in others)


def test_a_slapos_that_cannot_be_imported_is_told(actor, world):
    (world.folder / "slapos/cli/entry.py").write_text("import nothing_of_this_name\n")
    with pytest.raises(CommandExecutionError, match="(?s)node format.*nothing_of_this_name"):
        actor.slapos_run()


def test_one_that_is_killed_is_told(actor, world):
    (world.folder / "slapos/cli/entry.py").write_text(
        "import os\ndef main():\n    os.kill(os.getpid(), 9)\n"
    )
    with pytest.raises(CommandExecutionError, match="node format .*: exit code -9"):
        actor.slapos_run()


def test_one_that_hangs_ends_with_its_interpreter(actor, world):
    world.plan(format={"seconds": 600})
    said = "^slapos node format, software, instance: did not end within 3 s$"
    with pytest.raises(CommandExecutionError, match=said):
        actor.slapos_run(timeout=1)
    pid, ends = int((world.folder / "pid").read_text()), time.monotonic() + 10
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < ends:
            os.kill(pid, 0)
            time.sleep(0.05)
        os.kill(pid, signal.SIGKILL)


def test_a_slapos_that_is_no_python_script_is_run_each_time(actor, world):
    world.script(f'#!/bin/sh\nexec {world.folder}/bin/python3 -c "import sys; from slapos.cli.entry import main; sys.argv[0] = \'{world.folder}/bin/slapos\'; sys.exit(main())" "$@"\n')  # fmt: skip
    world.plan(instance={"code": 3})
    assert actor.slapos_run() == {"format": 0, "software": 0, "instance": 3}
    assert world.imports() == ["format", "slapgrid", "slapgrid"] and len(world.calls()) == 3
