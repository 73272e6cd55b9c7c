"""What becomes of a tree that was dumped, where somebody else decides that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ckpt.dump.snapshot import Snapshot
    from ckpt.tracee.freeze import SeizedTree


class Fate(Enum):
    END = "it ends"
    STOP = "it is left stopped"


Handover = Callable[["SeizedTree", "Sequence[Snapshot]"], Fate]
"""Called while the tree stands and its set is whole, with what was taken of its tasks. What it
raises lets the tree run on; the set stays."""
