"""The three ways to install, as the states that a node would run."""

import copy
import json
import os
import shutil
import subprocess
import sys

import pytest
import yaml
from support import ROOT


@pytest.fixture(scope="module")
def render(make_loaders):
    example = yaml.safe_load((ROOT / "pillar.example").read_text())

    made = {}

    def run(sls, **install):
        pillar = copy.deepcopy(example)
        pillar["slapos_ha"]["allow_unverified"] = True
        for section in ("re6st", "slapos"):
            pillar["slapos_ha"][section]["install"] = dict(install)
        key = str(install)
        if key not in made:
            made[key] = make_loaders("demo1", pillar)
        low = made[key].modules.state.show_low_sls(sls)
        assert all(isinstance(chunk, dict) for chunk in low), low
        return low

    return run


def functions(low):
    return [f"{chunk['state']}.{chunk['fun']}" for chunk in low]


@pytest.mark.parametrize("kind", ["re6st", "slapos"])
@pytest.mark.parametrize("method", ["pip", "packages", "installed"])
def test_units_and_cron_are_put_aside_first_and_programs_looked_for_last(render, kind, method):
    low = render(f"slapos_ha.{kind}", method=method)
    found = functions(low)
    assert ("slapos_node.environment_present" in found) is (method == "pip")
    assert ("pkg.installed" in found) is (method == "packages")
    order = {
        chunk["name"]: chunk["order"] for chunk in sorted(low, key=lambda chunk: chunk["order"])
    }
    first = min(order.values())
    last = f"{'re6st' if kind == 're6st' else 'SlapOS'} and what it runs are there"
    assert order[last] == max(order.values())
    (masked,) = [chunk for chunk in low if chunk["fun"] == "units_masked"]
    installs = [c for c in low if c["fun"] in ("installed", "environment_present")]
    assert all(masked["order"] < chunk["order"] for chunk in installs)
    if kind == "slapos":
        users = next(chunk for chunk in low if chunk["fun"] == "users_present")
        cron = next(chunk for chunk in low if chunk["fun"] == "cron_diverted")
        assert users["order"] == first and all(cron["order"] < c["order"] for c in installs)


@pytest.mark.parametrize(
    ("packages", "pkgs"),
    [({}, ["re6st-node"]), ({"re6st-node": "1.2", "other": ""}, ["other", {"re6st-node": "1.2"}])],
)
def test_packages_with_and_without_versions(render, packages, pkgs):
    low = render("slapos_ha.re6st", method="packages", packages=packages)
    assert next(chunk for chunk in low if chunk["fun"] == "installed")["pkgs"] == pkgs


@pytest.mark.parametrize("kind, name", [("re6st", "re6st"), ("slapos", "SlapOS")])
def test_a_repository_is_known_with_its_pinned_key_before_anything_comes_from_it(
    render, kind, name
):
    repository = {
        "url": "https://x.test/debian",
        "suite": "bookworm",
        "key": "https://x.test/key.asc",
        "key_sha256": "ab" * 32,
    }
    low = render(f"slapos_ha.{kind}", method="packages", packages={"p": "1"}, repository=repository)
    key, source = [chunk for chunk in low if chunk["fun"] == "managed" and "apt" in chunk["name"]]
    assert key["name"] == f"/etc/apt/keyrings/slapos_ha-{name}.asc"
    assert (key["source"], key["source_hash"]) == (repository["key"], f"sha256={'ab' * 32}")
    assert source["name"] == f"/etc/apt/sources.list.d/slapos_ha-{name}.sources"
    assert source["contents"] == [
        "Types: deb",
        "URIs: https://x.test/debian",
        "Suites: bookworm",
        "Components: main",
        f"Signed-By: {key['name']}",
    ]
    (installed,) = [chunk for chunk in low if chunk["fun"] == "installed"]
    assert key["order"] < source["order"] < installed["order"]
    assert source["require_in"] == [{"pkg": installed["__id__"]}]


@pytest.mark.parametrize("digest", ["ab" * 32, None])
def test_the_agents_package_is_the_pinned_one_or_knowingly_any(make_loaders, digest):
    pillar = yaml.safe_load((ROOT / "pillar.example").read_text())
    agent = {"source": "package", "url": "https://x.test/d/opensvc_2.1.deb", "sha256": digest}
    pillar["slapos_ha"]["cluster"]["agent"] = {key: value for key, value in agent.items() if value}
    pillar["slapos_ha"]["allow_unverified"] = not digest
    low = make_loaders("demo1", pillar).modules.state.show_low_sls("slapos_ha.agent")
    [managed] = [chunk for chunk in low if chunk["fun"] == "managed"]
    assert managed["name"] == "/var/cache/slapos_ha/opensvc_2.1.deb"
    assert managed.get("source_hash") == (f"sha256={digest}" if digest else None)
    assert managed.get("skip_verify", False) is not bool(digest)


@pytest.fixture
def settings(make_loaders):
    """What a node of the example is given for its launchers."""
    loaders = make_loaders("demo2", yaml.safe_load((ROOT / "pillar.example").read_text()))
    return loaders.modules.slsutil.renderer(
        "salt://slapos_ha/files/settings.json", default_renderer="jinja|json"
    )


def test_the_launchers_settings(settings):
    assert settings["re6st"]["program"] == "/opt/re6st/bin/re6stnet"
    assert settings["slapos"]["computer_xml"].startswith("/srv/comp1.slapos.svc.paris/")
    assert settings["slapos"]["user_ids"] == [5000, *range(5001, 5011)]
    assert settings["re6st"]["start_seconds"] < settings["re6st"]["mesh_seconds"]


@pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")
@pytest.mark.parametrize("launcher", ["re6st", "slapos"])
def test_the_settings_have_each_key_that_the_launchers_read(settings, tmp_path, launcher):
    """
    On a node where nothing is installed both are down.

    In namespaces of their own: a babeld or a user's process of another test beside this one would be theirs.
    """
    for name in ("re6st", "slapos"):
        shutil.copy(ROOT / "slapos_ha/files" / name, tmp_path)
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    apart = ["unshare", "--net", "--pid", "--fork", "--mount-proc"]
    done = subprocess.run(
        [*apart, sys.executable, "-IS", tmp_path / launcher, "status"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (1, "")
