"""Folders of a migration, which go when nobody needs them any more.

Somebody else may still be writing the last file there, a restore its figures: one file keeps a
folder from being removed. So it is tried again; afterwards the writer finds nothing to write to.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_TRIES = 10


def remove(folder: Path) -> None:
    """With all that is in it. Raises nothing: what can't be removed stays."""
    for _ in range(_TRIES):
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):
            if not folder.exists():
                return
