"""What Debian's crit reads of an image."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.requirements import require


def decoded(path: Path) -> Any:
    """Its messages."""
    require(shutil.which("crit"), "crit is not installed")
    done = subprocess.run(
        ["crit", "decode", "-i", path], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["entries"]
