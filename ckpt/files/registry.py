"""The kinds of descriptors that ckpt restores. A new kind is one line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckpt.files.fifo import FifoDump, FifoRestore
from ckpt.files.memfd import MemfdDump, MemfdRestore
from ckpt.files.pipe import PipeDump, PipeRestore
from ckpt.files.regular import RegularDump, RegularRestore
from ckpt.files.tty import TtyDump, TtyRestore

if TYPE_CHECKING:
    from ckpt.files.kind import DumpKind, RestoreKind

DUMP_KINDS: tuple[type[DumpKind], ...] = (MemfdDump, RegularDump, PipeDump, FifoDump, TtyDump)
"""Who is asked first whether a descriptor is his: a memfd is a regular file, too."""

RESTORE_KINDS: tuple[type[RestoreKind], ...] = (
    *(RegularRestore, MemfdRestore, PipeRestore, FifoRestore, TtyRestore),
)
"""In the order of opening; `needs` is checked against it by a test."""
