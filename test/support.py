"""What the tests import: where the checkout is, and Salt modules without Salt's loader."""

import importlib.util
import pathlib
import socket
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
LAB = "test/lab/"
# The lab's tests that have two hosts of their own, at the same time as the deployment with its faults: those that need no site, and those that one deployment without a fault is enough for.
SECOND_LAB = tuple(
    f"{LAB}tests/test_{name}.py"
    for name in ("1_bad_input", "3_lab", "4_split_brain", "6_modes", "7_drbd", "8_second_lab")
)


def served(folder):
    """
    Make a folder that holds of this checkout what a minion or a master is given, and return its path for file_roots.

    The file server walks all that it serves each time it lists it: with .git and the tests' recordings that is a third of a functional test's time.
    """
    root = folder / "served"
    root.mkdir(parents=True, exist_ok=True)
    for name in ("_modules", "_states", "_runners", "_utils", "slapos_ha", "orch"):
        if not (root / name).is_symlink():
            (root / name).symlink_to(ROOT / name)
    return str(root)


def answers(path):
    """Whether somebody listens at a socket. Salt's own client, asked too early, says that it is connected and is not (3007.15)."""
    with socket.socket(socket.AF_UNIX) as one:
        return one.connect_ex(str(path)) == 0


def load_module(relative, name=None, **dunders):
    """Import a Salt module by its path in the tree, with the loader's names (``__salt__`` …) given by the test."""
    path = ROOT / relative
    name = name or "formula_" + relative.replace("/", "_").removesuffix(".py")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    for key, value in {"__salt__": {}, "__opts__": {}, "__context__": {}, **dunders}.items():
        setattr(module, key, value)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    for key, value in dunders.items():
        setattr(module, key, value)
    return module
