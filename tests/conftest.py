"""Set-up for every room of tests.

The tests run against the installed package, which alone has the extension, so the source tree goes
behind it on the path: it is needed there only for `tests` itself.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = str(Path(__file__).resolve().parent.parent)

sys.path[:] = [entry for entry in sys.path if entry not in ("", ROOT)] + [ROOT]
