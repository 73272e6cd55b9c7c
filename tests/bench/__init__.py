"""How long a target stands still, how long a dump and a restore take, and what they need.

`python -m tests.bench` as root; nothing here is a test, no figure is asserted. Times depend on the
machine, so each is given beside a plain write of as many bytes to the same place in the same run.
"""

import sys
from pathlib import Path

# As in tests/conftest.py: `ckpt` is the installed package, which alone has the extension.
_ROOT = str(Path(__file__).resolve().parents[2])
sys.path[:] = [entry for entry in sys.path if entry not in ("", _ROOT)] + [_ROOT]
