"""What becomes of a tree that was dumped, where somebody else decides that."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from ckpt.tracee.freeze import SeizedTree


class Fate(Enum):
    END = "it ends"
    STOP = "it is left stopped"


Handover = Callable[[SeizedTree], Fate]
"""Called while the tree stands and its set is whole. What it raises lets the tree run on; the set
stays."""
