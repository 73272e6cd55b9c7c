"""Copies of tasks (ckpt.infect.fork), and whether a task is as it was before it had one."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tests.fault.controller import eventually
from tests.support import processes, visible

if TYPE_CHECKING:
    from tests.support.victim import Victim

soon = partial(eventually, timeout_s=60)


def copies() -> list[int]:
    """Those that have not ended: whatever loses its parent comes to us."""
    found = []
    for pid in processes.tree(os.getpid())[1:]:
        try:
            name = Path(f"/proc/{pid}/comm").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if name == "ckpt-copy\n" and processes.state(pid) not in ("Z", "X", ""):
            found.append(pid)
    return found


def untouched(victim: Victim, before: visible.View) -> bool:
    """Whether all is as it was."""
    return visible.looks_as(before, victim.pid)
