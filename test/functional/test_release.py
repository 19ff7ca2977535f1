"""A release is built from a commit by Salt's own spm, installed into an empty root, and has all that an operator needs; what is not right is refused."""

import hashlib
import importlib.util
import shutil
import subprocess
import tarfile

import pytest
from saltfactories.utils.functional import Loaders
from support import ROOT

from .conftest import minion_opts

_spec = importlib.util.spec_from_file_location("release", ROOT / "tools/release.py")
release = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(release)


def git(tree, *words):
    subprocess.run(
        ["git", "-C", tree, "-c", "user.name=x", "-c", "user.email=x@example.org", *words],
        check=True, capture_output=True,
    )  # fmt: skip


def changelog(tree, heading):
    path = tree / "CHANGELOG.md"
    path.write_text(f"# Changelog\n\n## [Unreleased]\n\n{heading}\n")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """This checkout as a repository of its own, released as FORMULA says."""
    tree = tmp_path_factory.mktemp("tree")
    for path in {*release.PACKAGED, "docs", ".gitignore"}:
        copy = shutil.copytree if (ROOT / path).is_dir() else shutil.copy2
        ignore = {"ignore": shutil.ignore_patterns("__pycache__")} if copy is shutil.copytree else {}  # fmt: skip
        copy(ROOT / path, tree / path, **ignore)
    changelog(tree, "## [0.1.0] - 2026-11-26")
    git(tree, "init", "-q")
    git(tree, "add", "-A")
    git(tree, "commit", "-qm", "x")
    return tree


@pytest.fixture(scope="module")
def built(tree, tmp_path_factory):
    into = tmp_path_factory.mktemp("dist")
    return release.release(into, tree)


def test_an_archive_a_package_and_their_digests_are_built(built):
    source, package, sums = built
    assert (source.name, package.name) == ("slapos_ha-0.1.0.tar.gz", "slapos_ha-0.1.0-1.spm")
    assert sums.read_text().splitlines() == [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}" for path in built[:2]
    ]
    subprocess.run(["sha256sum", "--quiet", "-c", sums.name], cwd=sums.parent, check=True)
    with tarfile.open(source) as tar:
        assert "slapos_ha-0.1.0/docs/design.md" in tar.getnames()


@pytest.fixture(scope="module")
def root(built, tmp_path_factory):
    folder = tmp_path_factory.mktemp("root")
    return folder, release.installed(built[1], folder)


def test_the_package_installs_into_an_empty_root(root, built):
    folder, there = root
    assert there == release.expected(built[0])
    assert {
        "salt/_modules/opensvc.py", "salt/_runners/slapos_ha.py", "salt/_states/drbd.py", "salt/_utils/slapos_site.py", "salt/slapos_ha/init.sls",
        "salt/slapos_ha/schema.yaml", "salt/slapos_ha/files/re6st", "salt/slapos_ha/spm/orch/deploy.sls", "pillar/slapos_ha.sls.orig",
    } <= set(there)  # fmt: skip
    # Nothing of the tests and of the lab is on a master.
    assert not any("test" in path.split("/") for path in there)


def test_the_orchestrations_are_called_the_same_as_from_a_checkout(root, tmp_path):
    folder, _ = root
    opts = minion_opts(tmp_path, "demo1", {})
    opts["file_roots"] = {"base": [str(folder / "salt"), str(folder / "salt/slapos_ha/spm")]}
    states = Loaders(opts).modules.cp.list_states()
    checkout = {f"orch.{path.stem}" for path in (ROOT / "orch").glob("*.sls")}
    assert checkout | {"slapos_ha", "slapos_ha.storage"} <= set(states)


@pytest.mark.parametrize(
    "heading, why",
    [
        ("", "the newest release is none, and FORMULA has version '0.1.0'"),
        ("## [0.2.0] - 2027-01-01\n\n## [0.1.0] - 2026-11-26", "the newest release is 0.2.0"),
    ],
)
def test_a_version_that_the_changelog_has_not_is_refused(tree, tmp_path, heading, why):
    for name in ("FORMULA", "CHANGELOG.md"):
        shutil.copy2(tree / name, tmp_path / name)
    changelog(tmp_path, heading)
    with pytest.raises(release.ReleaseError, match=why):
        release.release(tmp_path / "dist", tmp_path)
    assert not (tmp_path / "dist").exists()


def test_a_version_that_is_none_is_refused(tree, tmp_path):
    shutil.copy2(tree / "CHANGELOG.md", tmp_path / "CHANGELOG.md")
    (tmp_path / "FORMULA").write_text("{name: slapos_ha, version: '1', release: 1}")
    with pytest.raises(release.ReleaseError, match="'1' is no version of SemVer"):
        release.version(tmp_path)


def test_what_is_not_committed_is_refused(tree, tmp_path):
    shutil.copytree(tree, tmp_path / "tree")
    (tmp_path / "tree/slapos_ha/new.sls").write_text("{}")
    with pytest.raises(release.ReleaseError, match=r"not committed.*\n.*slapos_ha/new\.sls"):
        release.release(tmp_path / "dist", tmp_path / "tree")


def test_a_package_that_is_not_whole_is_seen(tree, built, tmp_path, monkeypatch):
    monkeypatch.setattr(release, "PACKAGED", {key: place for key, place in release.PACKAGED.items() if key != "orch"})  # fmt: skip
    package = release.package(built[0], tmp_path)
    monkeypatch.undo()
    wrong = release.verify(package, built[0])
    assert "salt/slapos_ha/spm/orch/deploy.sls is not installed" in wrong
