"""Which agent the lab's hosts get."""

import pathlib
from types import SimpleNamespace

import pytest
from slaplab import agent
from slaplab.base import LabError

NONE = "opensvc:\n  Installed: (none)\n  Candidate: (none)\n  Version table:\n"
ONE = "opensvc:\n  Installed: (none)\n  Candidate: 2.1-1890\n  Version table:\n"


@pytest.fixture
def apt(monkeypatch, tmp_path):
    """apt-cache and apt-get; the latter brings a package unless the repository is down."""
    world = SimpleNamespace(policy="", down=False, calls=[])

    def run(*command, cwd=None, check=True, **_):
        world.calls.append(command[0])
        if command[0] == "apt-cache":
            return SimpleNamespace(returncode=0, stdout=world.policy)
        if world.down:
            return SimpleNamespace(returncode=100, stdout="E: Failed to fetch")
        (pathlib.Path(cwd) / "opensvc_2.1-1890_all.deb").touch()
        return SimpleNamespace(returncode=0, stdout="")

    monkeypatch.setattr(agent, "run", run)
    monkeypatch.setattr(agent, "cache", lambda: tmp_path)
    monkeypatch.delenv("LAB_AGENT", raising=False)
    return world


@pytest.mark.parametrize("policy", ["", NONE])
def test_where_apt_has_no_agent_it_is_the_stand_in(apt, policy):
    apt.policy = policy
    assert agent.chosen() == ("standin", agent.STANDIN)
    assert apt.calls == ["apt-cache"]
    assert "TEST DOUBLE" in agent.describe(agent.chosen())


def test_the_package_of_the_repository_is_taken_and_kept(apt, tmp_path):
    apt.policy = ONE
    expected = ("package", tmp_path / "agent/opensvc_2.1-1890_all.deb")
    assert agent.chosen() == expected and agent.chosen() == expected
    assert apt.calls == ["apt-cache", "apt-get", "apt-cache"]


def test_a_repository_that_does_not_answer_is_said_and_is_no_obstacle(apt, capsys):
    apt.policy, apt.down = ONE, True
    assert agent.chosen()[0] == "standin"
    assert "Failed to fetch" in capsys.readouterr().out


def test_what_is_named_wins(apt, tmp_path, monkeypatch):
    apt.policy = ONE
    (tmp_path / "tree/opensvc").mkdir(parents=True)
    (tmp_path / "a.deb").touch()
    (tmp_path / "om").touch(mode=0o755)
    assert agent.chosen(tmp_path / "tree") == ("tree", tmp_path / "tree")
    assert agent.chosen(tmp_path / "a.deb")[0] == "package"
    monkeypatch.setenv("LAB_AGENT", str(tmp_path / "om"))
    assert agent.chosen()[0] == "binary"
    monkeypatch.setenv("LAB_AGENT", "standin")
    assert agent.chosen()[0] == "standin"
    assert apt.calls == []
    with pytest.raises(LabError, match="LAB_AGENT=.*nowhere: give the tree"):
        agent.chosen(tmp_path / "nowhere")
