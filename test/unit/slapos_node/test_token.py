"""A token reaches its program as it is, on its standard input only: through Salt's own cmd.run_all, whatever signs it has."""

import json
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from salt.modules import cmdmod
from support import load_module

# Notes what it was called with, and what others could see of that.
PROGRAM = """#!{python}
import argparse, json, sys
parser = argparse.ArgumentParser()
parser.add_argument("--token")
seen = open("/proc/self/cmdline").read()
token = parser.parse_args().token if len(sys.argv) > 1 else sys.stdin.readline().strip()
open("{folder}/seen.json", "w").write(json.dumps([token, seen]))
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("token")
    program = folder / "program"
    program.write_text(PROGRAM.format(python=sys.executable, folder=folder))
    program.chmod(0o755)
    for name, value in {
        "__opts__": {"cachedir": str(folder)},
        "__grains__": {"os": "Debian", "kernel": "Linux", "os_family": "Debian"},
        "__salt__": {"config.option": lambda *_: None},
        "__pillar__": {},
    }.items():
        setattr(cmdmod, name, value)
    module = load_module(
        "_modules/slapos_node_register.py",
        "register_fuzzed",
        __salt__={"cmd.run_all": cmdmod.run_all},
    )
    return folder, program, module


@settings(max_examples=10, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(token=st.one_of(st.sampled_from(["-x", "--help", "a\\nb", "$(id)", "'\"`", "%s%%", "#;|&", "a\\\\n"]), st.from_regex(r"[!-~]{1,24}", fullmatch=True)))  # fmt: skip
@pytest.mark.parametrize("how", ["re6st-conf", "slapos"])
def test_a_token_comes_whole_and_unseen(world, how, token):
    folder, program, module = world
    args = [str(program)]
    if how == "re6st-conf":
        args = [sys.executable, "-c", module._WITH_TOKEN, str(program)]
    _, output = module._run(args, how, secret=token)
    got, seen = json.loads((folder / "seen.json").read_text())
    assert got == token
    assert len(token) < 4 or token not in seen


def test_a_pillar_without_a_token_says_which(world, monkeypatch):
    module = world[2]
    monkeypatch.setattr(module, "__pillar__", {"slapos_ha": {"re6st": {}}}, raising=False)
    monkeypatch.setattr(module, "__grains__", {"id": "demo1"}, raising=False)
    with pytest.raises(module.SaltInvocationError, match="pillar slapos_ha:re6st:token is missing"):
        module._secret("slapos_ha:re6st:token")
