"""
The agent's launchers, imported by Salt: one place decides what starts, stops and judges re6st and SlapOS.
"""

import importlib.machinery
import importlib.util
import sys
import time

from salt.exceptions import CommandExecutionError

FILES = "salt://slapos_ha/files"
# Seconds for which the states of one run share what was read: two files to compare with the master's, one to render and two to compile, for each act of SlapOS's
# first step and twice in a look. A job is a process of its own, so this matters to a minion without `multiprocessing` only.
_SHARED = 60
_read = {"at": 0, "paths": {}, "settings": {}, "modules": {}}


def service(salt, opts, name):
    """Return (module, object) of a launcher, ``re6st`` or ``slapos``, made from this formula's files and the same settings that the agent's volume has."""
    if not _read["settings"] or time.monotonic() - _read["at"] > _SHARED:
        paths = {file: _cached(salt, opts, file) for file in ("re6st", "slapos")}
        settings = salt["slsutil.renderer"](f"{FILES}/settings.json", default_renderer="jinja|json")
        _read.update(at=time.monotonic(), paths=paths, settings=settings, modules={})
    if name not in _read["modules"]:
        _read["modules"][name] = _imported(name, _read["paths"][name])
    module, settings = _read["modules"][name], _read["settings"]
    if name == "re6st":
        return module, module.Re6st(settings["re6st"])
    return module, module.Slapos(settings["slapos"], settings["re6st"])


def _cached(salt, opts, file):
    path = salt["cp.cache_file"](f"{FILES}/{file}", saltenv=opts.get("saltenv") or "base")
    if not path:
        raise CommandExecutionError(
            f"{FILES}/{file} is not in this master's file_roots. Add the formula's folder."
        )
    return path


def _imported(name, path):
    written = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    try:
        loader = importlib.machinery.SourceFileLoader(f"slapos_ha_{name}_launcher", path)
        module = importlib.util.module_from_spec(
            importlib.util.spec_from_loader(loader.name, loader)
        )
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = written
    return module
