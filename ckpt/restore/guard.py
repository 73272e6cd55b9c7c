"""All or nothing at the moment when tasks are let go one after another.

A guard is a child of ours that waits at a pipe. Told to go, it goes; when the pipe ends without
that, because we have died or have given up, it kills every task that it was given.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Self

from ckpt._native import ffi, lib
from ckpt.errors import KernelError

if TYPE_CHECKING:
    from collections.abc import Sequence

LET_GO = bytes([lib.CKPT_GUARD_LET_GO])
"""What a guard writes into its verdict when the tasks live on."""

_WALL = 0x40000000


class Guard:
    """Stands over the tasks of `pidfds` within its scope. Raises KernelError.

    `verdict`: a descriptor of ours into which the guard says by one byte what came of them, also
    when we are no more; -1 for none.
    """

    def __init__(self, pidfds: Sequence[int], verdict: int = -1) -> None:
        self._pidfds = pidfds
        self._verdict = verdict

    def __enter__(self) -> Self:
        started = ffi.new("struct ckpt_guard *")
        result = lib.ckpt_guard_start(
            ffi.new("int32_t[]", list(self._pidfds)), len(self._pidfds), self._verdict, started
        )
        if result < 0:
            raise KernelError("no guard for the tasks can be started", why=os.strerror(-result))
        self._pid, self._lfd = started.pid, started.lfd
        return self

    def send_away(self) -> None:
        """The tasks live on from here, whatever becomes of us."""
        os.write(self._lfd, b"g")

    def __exit__(self, *_: object) -> None:
        os.close(self._lfd)
        os.waitpid(self._pid, _WALL)
