"""All or nothing at the moment when tasks are let go one after another.

A guard is a child of ours that waits at a pipe. Told to go, it goes; when the pipe ends without
that, because we have died or have given up, it kills every task that it was given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckpt._native import ffi, lib
from ckpt._native.guard import Guard
from ckpt.errors import KernelError

if TYPE_CHECKING:
    from collections.abc import Sequence

LET_GO = bytes([lib.CKPT_GUARD_LET_GO])
"""What a guard writes into its verdict when the tasks live on."""


def guard_tasks(pidfds: Sequence[int], verdict: int = -1) -> Guard:
    """One over the tasks of `pidfds`. Raises KernelError.

    `verdict`: a descriptor of ours into which the guard says by one byte what came of them, also
    when we are no more; -1 for none.
    """
    tasks = ffi.new("int32_t[]", list(pidfds))
    try:
        return Guard("guard of tasks", lib.ckpt_guard_start, tasks, len(pidfds), verdict)
    except OSError as error:
        why = error.strerror or ""
        raise KernelError("no guard for the tasks can be started", why=why) from error
