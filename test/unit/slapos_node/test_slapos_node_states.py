"""When SlapOS is formatted and run by the deployment, and when it is left alone: every combination, without a node."""

import pytest
from salt.exceptions import CommandExecutionError
from support import load_module


class Node:
    """What the states ask and do, recorded."""

    def __init__(self, tmp_path):
        self.root = tmp_path
        self.log = tmp_path / "var/log/supervisord.log"
        self.done = []
        self.mounted = True
        self.code = 1
        self.start_code = 0
        self.wrong = []
        self.codes = {"software": 0, "instance": 0}
        self.told = True

    def ran(self):
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.log.write_text("")

    def on_ha_filesystem(self, path, mount, device=""):
        return self.mounted

    def launch(self, name, verb):
        if verb == "status":
            return {"code": self.code, "infos": [], "warnings": ["the watchdog is FATAL"]}
        self.done.append(verb)
        self.code = {"start": self.start_code, "stop": 1}[verb]
        if verb == "start":
            self.ran()

    def slapos_run(self, timeout):
        codes = {**({"format": 0 if self.told else 2} if self.wrong else {}), **self.codes}
        for action, code in codes.items():
            self.done.append(action)
            if code not in {"format": (0, 2), "software": (0, 10), "instance": (0, 3, 10)}[action]:
                raise CommandExecutionError(f"{action} failed")
        return codes

    def slapos_format(self, timeout):
        self.done.append("format")
        self.wrong = []
        return self.told

    def partitions(self):
        return self.wrong

    def functions(self):
        names = ("on_ha_filesystem", "launch", "slapos_run", "slapos_format", "partitions")
        return {f"slapos_node.{name}": getattr(self, name) for name in names}


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path)


@pytest.fixture
def states(node):
    text = load_module("_utils/slapos_text.py")
    return load_module(
        "_states/slapos_node.py",
        __salt__=node.functions(),
        __opts__={"test": False},
        __utils__={"slapos_text.has_run": text.has_run},
    )


def proven(states, node, **more):
    return states.slapos_proven(str(node.root), "/srv/x", **more)


def test_the_first_run_is_done_and_stopped(states, node):
    ret = proven(states, node)
    assert ret["result"] is True and "watchdog RUNNING" in ret["comment"]
    assert node.done == ["software", "instance", "start", "stop"]
    node.done.clear()
    again = proven(states, node)
    assert again["result"] is True and again["changes"] == {} and node.done == []


def test_a_first_run_that_the_cluster_owns_is_not_stopped(states, node):
    proven(states, node, cluster_runs_it=True)
    assert node.done == ["software", "instance", "start"]


@pytest.mark.parametrize(
    ("code", "cluster", "done"),
    [(0, False, ["stop"]), (2, False, ["stop"]), (1, False, []), (0, True, []), (2, True, [])],
)
def test_what_a_died_run_left_running_is_stopped_unless_the_cluster_runs_it(
    states, node, code, cluster, done
):
    node.ran()
    node.code = code
    ret = proven(states, node, cluster_runs_it=cluster)
    assert ret["result"] is True and node.done == done and bool(ret["changes"]) is bool(done)


@pytest.mark.parametrize(
    ("spoil", "result", "comment", "done"),
    [
        (lambda n: n.codes.update(instance=3), True, "master cannot be reached", 4),
        (
            lambda n: (n.wrong.append("not there"), setattr(n, "told", False)),
            True,
            "master cannot be reached",
            5,
        ),
        (lambda n: n.codes.update(software=10, instance=10), True, "RUNNING", 4),
        (lambda n: n.codes.update(instance=2), False, "instance failed", 2),
        (lambda n: n.codes.update(software=1), False, "software failed", 1),
        (lambda n: setattr(n, "start_code", 2), False, "the watchdog is FATAL", 3),
        (lambda n: setattr(n, "mounted", False), False, "is not mounted on this node", 0),
    ],
)
def test_first_runs_that_go_wrong(states, node, spoil, result, comment, done):
    spoil(node)
    ret = proven(states, node)
    assert ret["result"] is result and comment in ret["comment"] and len(node.done) == done


@pytest.mark.parametrize("told", [True, False])
def test_formatted(states, node, told):
    node.told = told
    assert states.slapos_formatted("/srv/slapgrid", "/srv/x")["changes"] == {}
    assert node.done == []
    node.wrong = ["/srv/slapgrid/slappart0 belongs to 999:999, not 5001"]
    ret = states.slapos_formatted("/srv/slapgrid", "/srv/x")
    assert ret["result"] is True and node.done == ["format"]
    assert "belongs to 999:999" in ret["changes"]["partitions"]["old"][0]
    assert ("could not be told" in ret["comment"]) is not told


def test_a_format_without_effect_is_a_failure(states, node, monkeypatch):
    node.wrong = ["/srv/slapgrid/slappart0 is not there"]
    states.__salt__["slapos_node.slapos_format"] = lambda timeout: True
    ret = states.slapos_formatted("/srv/slapgrid", "/srv/x")
    assert ret["result"] is False and ret["changes"] == {}
    assert "slappart0 is not there" in ret["comment"]


def test_test_mode_does_nothing(states, node):
    states.__opts__["test"] = True
    node.wrong = ["wrong"]
    assert proven(states, node)["result"] is None
    assert states.slapos_formatted("/srv/slapgrid", "/srv/x")["result"] is None
    assert node.done == []


def test_what_was_done_before_a_failure_is_reported(states):
    left = {"a": {"old": None, "new": 1}, "b": {"old": None, "new": 2}}

    def act(changes):
        del left["a"]
        raise CommandExecutionError("b is broken")

    ret = states._converge("x", lambda: dict(left), act, "good", "would")
    assert ret["result"] is False and ret["comment"] == "b is broken"
    assert ret["changes"] == {"a": {"old": None, "new": 1}}
