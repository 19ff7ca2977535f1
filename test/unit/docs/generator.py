"""docs/generate.py as a module; docs is no package."""

import importlib.util

from support import ROOT

_spec = importlib.util.spec_from_file_location("generate", ROOT / "docs/generate.py")
GENERATE = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(GENERATE)
