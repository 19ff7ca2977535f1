"""The parts of the opensvc module, loaded from the tree; om is a table of recorded answers."""

import copy
import json
import types

import pytest
from support import load_module

UTILS = (
    "opensvc_agent",
    "opensvc_goal",
    "opensvc_om",
    "opensvc_seal",
    "slapos_disk",
    "slapos_kept",
)
MODULES = ("opensvc", "opensvc_config", "opensvc_act", "opensvc_cluster")


@pytest.fixture(scope="session")
def utils():
    """``__utils__`` as the loader would give it."""
    loaded = {}
    for name in UTILS:
        module = load_module(f"_utils/{name}.py", f"opensvc_test_{name}")
        for key, value in vars(module).items():
            if isinstance(value, types.FunctionType) and not key.startswith("_"):
                loaded[f"{name}.{key}"] = value
    return loaded


@pytest.fixture(scope="session")
def parse(utils):
    return utils["opensvc_agent.parse_status"]


@pytest.fixture(scope="session")
def recorded(root):
    """One recorded answer: ``recorded("opensvc-2.1", "status_missing")`` as cmd.run_all would return it."""

    def read(agent, name):
        base = root / "test/fixtures" / agent
        err = base / f"{name}.err"
        return {
            "stdout": (base / f"{name}.out").read_text(),
            "stderr": err.read_text() if err.exists() else "",
            "retcode": int((base / f"{name}.rc").read_text()),
            "pid": 1,
        }

    return read


@pytest.fixture
def two(recorded, parse):
    """The state of a whole service on two nodes, up on demo1 (agent 2.1), to change at will."""
    return parse(recorded("opensvc-2.1", "full_daemon_status.json")["stdout"], 2)


class Om:
    """``cmd.run_all`` for tests: answers by the arguments' beginning, the last one given stays; remembers what it was asked."""

    def __init__(self):
        self.calls, self.answers, self.kwargs = [], [], []

    def says(self, args, stdout="", stderr="", retcode=0, once=False, then=None):
        if isinstance(stdout, dict):
            stdout = json.dumps(stdout)
        answer = {"stdout": stdout, "stderr": stderr, "retcode": retcode, "pid": 1}
        self.answers.insert(0, [args, answer, once, then])

    def repeats(self, args, recording, **kwargs):
        self.says(args, recording["stdout"], recording["stderr"], recording["retcode"], **kwargs)

    def __call__(self, command, **kwargs):
        assert isinstance(command, list), "no shell"
        assert kwargs["python_shell"] is False and kwargs["ignore_retcode"] is True
        args = command[1:]
        self.calls.append(args)
        self.kwargs.append(kwargs)
        for entry in self.answers:
            prefix, answer, once, then = entry
            if args[: len(prefix)] == prefix:
                if once:
                    self.answers.remove(entry)
                if then:
                    then(args)
                return copy.deepcopy(answer)
        raise AssertionError(f"om was not expected to be asked {args}")

    def asked(self, *args):
        return [call for call in self.calls if call[: len(args)] == list(args)]


@pytest.fixture
def om():
    return Om()


@pytest.fixture
def agent(tmp_path, utils, om, monkeypatch):
    """
    The files of the execution module over a fake om and a configuration folder in ``agent.etc``; all public functions are attributes.

    ``agent.major(3)`` makes it an agent 3.
    """
    program = tmp_path / "om"
    program.write_text("#!/bin/false\n")
    program.chmod(0o755)
    etc = tmp_path / "etc"
    (etc / "namespaces/slapos/svc").mkdir(parents=True)
    (etc / "namespaces/slapos/cfg").mkdir(parents=True)
    (tmp_path / "cache").mkdir()
    functions = {"cmd.run_all": om}
    context = {}
    opts = {
        "opensvc.om": str(program),
        "opensvc.etc": str(etc),
        "cachedir": str(tmp_path / "cache"),
        "test": False,
    }
    pillar = {}
    spaces = {
        "__salt__": functions,
        "__utils__": utils,
        "__opts__": opts,
        "__context__": context,
        "__pillar__": pillar,
    }
    world = types.SimpleNamespace(
        om=om,
        etc=etc,
        context=context,
        opts=opts,
        functions=functions,
        program=program,
        pillar=pillar,
        utils=utils,
    )
    for name in MODULES:
        module = load_module(f"_modules/{name}.py", f"opensvc_test_module_{name}", **spaces)
        for key, value in vars(module).items():
            if isinstance(value, types.FunctionType) and value.__module__ == module.__name__:
                functions.setdefault(f"opensvc.{key}", value)
                if not key.startswith("_"):
                    setattr(world, key, value)
        setattr(world, "module_" + name, module)
    monkeypatch.setattr("socket.gethostname", lambda: "demo1")

    def major(number):
        # Another agent is another file.
        program.write_text("#!/bin/false\n" + "#" * number)
        if number < 3:
            om.says(["node", "--version"], "om node version 2.1-1890\n")
        else:
            om.says(["node", "--version"], "", "Error: unknown flag: --version\n", 1)
            om.says(["--version"], "om version v3.0.0-rc21\n")

    world.become = major
    major(2)
    return world


@pytest.fixture
def service(agent, recorded):
    """The whole service's configuration as the agent's file."""
    config = json.loads(recorded("opensvc-2.1", "full_print_config.json")["stdout"])
    config.pop("metadata", None)
    text = "\n".join(
        f"[{section}]\n" + "".join(f"{key} = {value}\n" for key, value in keywords.items())
        for section, keywords in config.items()
    )
    (agent.etc / "namespaces/slapos/svc/comp1.conf").write_text(text)
    return config


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self):
        self.now, self.slept = 1000.0, []

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        assert seconds >= 0
        self.slept.append(seconds)
        self.now += max(seconds, 0.001)


@pytest.fixture
def clock(agent, monkeypatch):
    timer = Clock()
    for name in ("opensvc", "opensvc_act"):
        monkeypatch.setattr(getattr(agent, "module_" + name), "time", timer)
    return timer
