"""A process of ours that undoes something should we die before it is sent away (guard.h)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ckpt._native import check, ffi
from ckpt.scope import Closing

if TYPE_CHECKING:
    from collections.abc import Callable

_WALL = 0x40000000


class Guard(Closing):
    """`start`: a function of guard.h, with all its `arguments` but the last. Closed before it was
    sent away, it does its work. Raises what `check` does, of `what`."""

    __slots__ = ("_lfd", "_pid")

    def __init__(self, what: str, start: Callable[..., int], *arguments: object) -> None:
        started = ffi.new("struct ckpt_guard *")
        check(start(*arguments, started), what)
        self._pid, self._lfd = int(started.pid), int(started.lfd)

    def send_away(self) -> None:
        """Nothing is undone from here on, whatever becomes of us."""
        os.write(self._lfd, b"g")

    def close(self) -> None:
        """When this returns, all is undone, or stays."""
        os.close(self._lfd)
        os.waitpid(self._pid, _WALL)
