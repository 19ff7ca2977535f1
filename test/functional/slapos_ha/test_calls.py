"""What the formula calls is there: releases of Salt differ in what they bring, and a name is wrong only when it is called."""

import re
import shutil

import pytest
from support import ROOT

CALL = re.compile(
    r"""(?:__salt__|salt)\[['"]([a-z0-9_]+\.[a-z0-9_]+)['"]\]|_asked\("([a-z_.]+)\""""
)
# On the nodes they come with packages that a machine for tests need not have.
TOOLS = {"lvm": "lvm"}


def calls():
    """{function: the files that call it}, of what runs on a minion."""
    found = {}
    for folder in ("_modules", "_states", "_utils", "slapos_ha"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".sls", ".jinja", ".yaml"):
                for match in CALL.finditer(path.read_text()):
                    found.setdefault(match[1] or match[2], set()).add(path.name)
    return found


@pytest.fixture(scope="module")
def modules(make_loaders):
    return make_loaders().modules


def test_every_function_that_is_called_is_there(modules):
    wanted = {
        name: files
        for name, files in calls().items()
        if shutil.which(TOOLS.get(name.partition(".")[0], "sh"))
    }
    assert {"cmd.run_all", "opensvc.config_show", "pkg.install", "user.add"} <= set(wanted)
    assert {name: files for name, files in wanted.items() if name not in modules} == {}
