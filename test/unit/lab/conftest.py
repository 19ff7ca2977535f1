"""The lab's own modules, which are in no package of the tests."""

import sys

from support import ROOT

sys.path.insert(0, str(ROOT / "test/lab"))
