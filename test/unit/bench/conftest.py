"""The bench uses the lab's package."""

import sys

from support import ROOT

sys.path.insert(0, str(ROOT / "test/lab"))
