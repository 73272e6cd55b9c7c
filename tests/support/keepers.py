"""The processes that hold the tracking of a tree's writes, found without ckpt's help."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support import processes

_MODULE = b"ckpt.mem.tracking.keeper"


def of(root: int) -> list[int]:
    """The keepers of the tree of `root` among the processes below us."""
    found = []
    for pid in processes.tree(os.getpid())[1:]:
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if _MODULE in words and str(root).encode() in words:
            found.append(pid)
    return found
