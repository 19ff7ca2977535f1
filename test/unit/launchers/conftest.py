"""The launchers imported as modules, with real processes that only have the names of re6stnet, babeld, openvpn and slapos."""

import importlib.machinery
import importlib.util
import pathlib
import stat
import sys
import textwrap

import pytest

FILES = pathlib.Path(__file__).resolve().parents[3] / "slapos_ha/files"


def load(name):
    written, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        loader = importlib.machinery.SourceFileLoader(
            f"launcher_{name}_under_test", str(FILES / name)
        )
        module = importlib.util.module_from_spec(
            importlib.util.spec_from_loader(loader.name, loader)
        )
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = written
    return module


@pytest.fixture
def program(tmp_path):
    """Write an executable Python program; the kernel calls its process by the file's name."""

    def write(name, text, folder="bin"):
        path = tmp_path / folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!{sys.executable}\n" + textwrap.dedent(text))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    return write
