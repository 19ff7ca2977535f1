#!/usr/bin/env python3
"""
Build a release and prove it: an SPM package, a source archive and SHA256SUMS (`make release`).

What SPM installs is what lies below ``top_level_dir`` and the folders of modules: not ``orch/``. So the package has it below ``slapos_ha/spm/``, which the operator
names as a second root of files: ``orch.deploy`` is then called the same as from a checkout.
"""

import argparse
import getpass
import hashlib
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile

import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent
BIN = pathlib.Path(sys.executable).parent
# What an operator needs of the tree, and where the package has it.
PACKAGED = {
    "FORMULA": "FORMULA",
    "LICENSE": "slapos_ha/LICENSE",
    "README.md": "README.md",
    "pillar.example": "pillar.example",
    "_modules": "_modules",
    "_runners": "_runners",
    "_states": "_states",
    "_utils": "_utils",
    "slapos_ha": "slapos_ha",
    "orch": "slapos_ha/spm/orch",
}


class ReleaseError(Exception):
    """What keeps the release from being built, and what to do."""


def version(root=ROOT):
    """The version of FORMULA, which has to be the newest of the changelog."""
    formula = yaml.safe_load((root / "FORMULA").read_text())
    headings = re.findall(r"^## \[([^\]]+)\]", (root / "CHANGELOG.md").read_text(), re.M)
    released = [heading for heading in headings if heading != "Unreleased"]
    newest = released[0] if released else "none"
    if not re.fullmatch(r"\d+\.\d+\.\d+", formula["version"]):
        raise ReleaseError(
            f"FORMULA: version: {formula['version']!r} is no version of SemVer; give three numbers such as 0.1.0"
        )
    if newest != formula["version"]:
        raise ReleaseError(
            f"CHANGELOG.md: the newest release is {newest}, and FORMULA has version {formula['version']!r}; put what is below [Unreleased] "
            f"below a heading '## [{formula['version']}] - <date>', or correct FORMULA"
        )
    return formula["version"], str(formula["release"])


def _run(*words, **kwargs):
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, check=False, **kwargs
    )
    if done.returncode:
        raise ReleaseError(
            f"{' '.join(map(str, words[:4]))}: {(done.stderr or done.stdout).strip()}"
        )
    return done.stdout


def archive(root, into, name):
    """The source archive of the commit that is checked out; refuses what is not committed, since it would not be in it."""
    changed = _run("git", "-C", root, "status", "--porcelain")
    if changed.strip():
        raise ReleaseError(
            f"what is not committed would not be released; commit or remove it:\n{changed.rstrip()}"
        )
    path = into / f"{name}.tar.gz"
    _run("git", "-C", root, "archive", "--format=tar.gz", f"--prefix={name}/", "-o", path, "HEAD")
    return path


def spm_config(folder):
    """The folder of a configuration with which spm keeps all that it writes below ``folder``."""
    config = folder / "config"
    config.mkdir(parents=True, exist_ok=True)
    (config / "spm").write_text(
        json.dumps(
            {
                "spm_build_dir": str(folder / "build"),
                "formula_path": str(folder / "salt"),
                "pillar_path": str(folder / "pillar"),
                "reactor_path": str(folder / "reactor"),
                "spm_cache_dir": str(folder / "cache"),
                "spm_db": str(folder / "cache/packages.db"),
                "spm_repos_config": str(folder / "config/spm.repos"),
                "spm_logfile": str(folder / "spm.log"),
                "cachedir": str(folder / "cache"),
                "root_dir": str(folder),
                "user": getpass.getuser(),
            }
        )
    )
    return config


def spm(folder, *words):
    """Run Salt's spm. It ends with 0 when it failed, too: who calls looks at what has become of it."""
    return _run(BIN / "spm", "-c", spm_config(folder), *words)


def package(source, into):
    """The SPM package of a source archive, built by Salt's own spm."""
    with tempfile.TemporaryDirectory() as name:
        work = pathlib.Path(name)
        _run("tar", "-xzf", source, "-C", work)
        (tree,) = work.iterdir()
        staged = work / "slapos_ha"
        for path, place in PACKAGED.items():
            target = staged / place
            target.parent.mkdir(parents=True, exist_ok=True)
            if (tree / path).is_dir():
                shutil.copytree(tree / path, target, dirs_exist_ok=True)
            else:
                shutil.copy2(tree / path, target)
        said = spm(work / "spm", "build", staged)
        built = list((work / "spm/build").glob("*.spm"))
        if len(built) != 1:
            raise ReleaseError(f"spm built {len(built)} packages, not one: {said.strip()}")
        return pathlib.Path(shutil.copy(built[0], into))


def installed(package_file, folder):
    """Install the package with spm into an empty folder and return {path below it: sha256} of what is there."""
    spm(folder, "-y", "local", "install", package_file)
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for part in ("salt", "pillar")
        for path in sorted((folder / part).rglob("*"))
        if path.is_file()
    }


def expected(source):
    """{path: sha256} of what an installation has to have, from the source archive."""
    found = {}
    with tarfile.open(source) as tar:
        for member in tar.getmembers():
            inside = member.name.partition("/")[2]
            for path, place in PACKAGED.items():
                if not member.isfile() or not (inside == path or inside.startswith(f"{path}/")):
                    continue
                target = f"{place}{inside.removeprefix(path)}"
                if target == "pillar.example":
                    target = "pillar/slapos_ha.sls.orig"
                elif target == "README.md":
                    target = "salt/slapos_ha/README.md"
                elif target == "FORMULA":
                    continue  # spm keeps it in its own database
                else:
                    target = f"salt/{target}"
                found[target] = hashlib.sha256(tar.extractfile(member).read()).hexdigest()
    return found


def verify(package_file, source):
    """What an installation of the package lacks, has too much or has otherwise, as sentences."""
    with tempfile.TemporaryDirectory() as name:
        there, wanted = installed(package_file, pathlib.Path(name) / "root"), expected(source)
    wrong = [f"{path} is not installed" for path in sorted(set(wanted) - set(there))]
    wrong += [f"{path} is installed and in no list" for path in sorted(set(there) - set(wanted))]
    wrong += [
        f"{path} is not as in the source"
        for path in sorted(set(there) & set(wanted))
        if there[path] != wanted[path]
    ]
    return wrong


def release(into, root=ROOT):
    """Build both into a folder, with SHA256SUMS, and install the package into an empty root; the files that were made."""
    number, _ = version(root)
    into.mkdir(parents=True, exist_ok=True)
    source = archive(root, into, f"slapos_ha-{number}")
    built = package(source, into)
    wrong = verify(built, source)
    if wrong:
        raise ReleaseError("the package is not whole:\n" + "\n".join(wrong))
    sums = into / "SHA256SUMS"
    sums.write_text(
        "".join(
            f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
            for path in (source, built)
        )
    )
    return [source, built, sums]


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="release", description=__doc__.strip().splitlines()[0])
    parser.add_argument(
        "--into", type=pathlib.Path, required=True, help="the folder of what is built"
    )
    given = parser.parse_args(arguments)
    try:
        made = release(given.into)
    except ReleaseError as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    for path in made:
        print(f"release: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
