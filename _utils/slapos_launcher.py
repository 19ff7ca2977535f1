"""
The agent's launchers, imported by Salt: one place decides what starts, stops and judges re6st and SlapOS.
"""

import importlib.machinery
import importlib.util
import sys
import time

from salt.exceptions import CommandExecutionError

FILES = "salt://slapos_ha/files"
# Seconds for which the states of one run share what was read: two files to compare with the master's, one to render and two to compile, nine times in SlapOS's
# first step. A job is a process of its own, so this matters to a minion without `multiprocessing` only.
_SHARED = 60
_read = {}


def service(salt, opts, name):
    """Return (module, object) of a launcher, ``re6st`` or ``slapos``, made from this formula's files and the same settings that the agent's volume has."""
    since, module, settings = _read.get(name, (0, None, None))
    if not module or time.monotonic() - since > _SHARED:
        module, settings = _launcher(salt, opts, name)
        _read[name] = time.monotonic(), module, settings
    if name == "re6st":
        return module, module.Re6st(settings["re6st"])
    return module, module.Slapos(settings["slapos"], settings["re6st"])


def _launcher(salt, opts, name):
    paths = {}
    for file in ("re6st", "slapos"):
        paths[file] = salt["cp.cache_file"](
            f"{FILES}/{file}", saltenv=opts.get("saltenv") or "base"
        )
        if not paths[file]:
            raise CommandExecutionError(
                f"{FILES}/{file} is not in this master's file_roots. Add the formula's folder."
            )
    written = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    try:
        loader = importlib.machinery.SourceFileLoader(f"slapos_ha_{name}_launcher", paths[name])
        module = importlib.util.module_from_spec(
            importlib.util.spec_from_loader(loader.name, loader)
        )
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = written
    return module, salt["slsutil.renderer"](f"{FILES}/settings.json", default_renderer="jinja|json")
