"""docs/generate.py and what it imports as modules; docs is no package."""

import importlib
import sys

from support import ROOT

sys.path.insert(0, str(ROOT / "docs"))
GENERATE = importlib.import_module("generate")
PICTURES = importlib.import_module("pictures")
TREE_PAGES = importlib.import_module("tree_pages")
