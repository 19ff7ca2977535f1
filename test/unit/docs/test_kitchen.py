"""kitchen.yml names what is there. It is not run here (docs/limits.md), so this is what keeps it from rotting."""

import re
import shlex

import pytest
import yaml
from support import ROOT

KITCHEN = yaml.safe_load((ROOT / "kitchen.yml").read_text())
SUITES = {suite["name"]: suite for suite in KITCHEN["suites"]}


def test_it_has_four_platforms_that_the_formula_says_it_supports():
    names = [platform["name"] for platform in KITCHEN["platforms"]]
    assert len(names) == 4 and "debian-12" in names
    supported = yaml.safe_load((ROOT / "FORMULA").read_text())["os"].lower()
    assert all(name.partition("-")[0] in supported for name in names)


def test_the_formula_is_the_folder_of_formula():
    formula = yaml.safe_load((ROOT / "FORMULA").read_text())
    assert KITCHEN["provisioner"]["formula"] == formula["top_level_dir"]
    assert (ROOT / KITCHEN["provisioner"]["formula"]).is_dir()


@pytest.mark.parametrize("name", SUITES)
def test_every_path_and_sls_of_a_suite_exists(name):
    suite = SUITES[name]
    for path in suite["provisioner"]["pillars_from_files"].values():
        assert (ROOT / path).is_file(), path
    for sls in suite["provisioner"]["state_top"]["base"]["*"]:
        path = ROOT / sls.replace(".", "/")
        assert path.with_suffix(".sls").is_file() or (path / "init.sls").is_file(), sls
    program, *words = shlex.split(suite["verifier"]["command"])
    assert program == "pytest"
    paths = [word for word in words if not word.startswith("-")]
    assert paths and all((ROOT / path).exists() for path in paths), paths
    # Each suite is converged twice, and has tests of its own.
    assert "test/integration/test_converged.py" in paths
    assert list((ROOT / f"test/integration/{name}").glob("test_*.py"))


def test_every_folder_of_tests_is_a_suites():
    folders = {path.parent.name for path in (ROOT / "test/integration").glob("*/test_*.py")}
    assert folders == set(SUITES)


def test_the_minion_is_a_node_of_each_pillar():
    minion = KITCHEN["provisioner"]["salt_minion_id"]
    for suite in SUITES.values():
        (path,) = suite["provisioner"]["pillars_from_files"].values()
        site = yaml.safe_load((ROOT / path).read_text())["slapos_ha"]
        assert minion in site["cluster"]["nodes"]


def test_what_the_tests_expect_is_what_the_defaults_install(defaults):
    text = (ROOT / "test/integration/software/test_software.py").read_text()
    for kind in ("re6st", "slapos"):
        install = defaults[kind]["install"]
        assert f'"{install["prefix"]}"' in text
        name, version = re.fullmatch(r"(.+)==(.+)", install["requirements"][0]).groups()
        assert f'"{name}", "{version}"' in text, f"{name} is pinned to {version}"
    users = defaults["slapos"]["users"]
    text = (ROOT / "test/integration/configuration/test_configuration.py").read_text()
    assert f'({users["slapsoft_id"]}, "slapsoft")' in text
    assert f'({users["slapuser_first_id"]}, "slapuser0")' in text
