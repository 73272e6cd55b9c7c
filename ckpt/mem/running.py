"""Copying pages of a task that runs: what a pre-dump writes.

Nothing is stopped, so what is copied is of no one instant: a page that is written meanwhile is
reported by the next round of tracking, and written again. A page that is not there any more when
its turn comes is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckpt._native import check, ffi, lib
from ckpt.mem.extents import Extents

if TYPE_CHECKING:
    from collections.abc import Callable

_STEP = 4096
"""Extents between two reports of progress."""


def copy_running(
    pid: int, mem: int, pages: Extents, lfd: int, progress: Callable[[int], None]
) -> Extents:
    """Copy `pages` of task `pid` to `lfd` at its position; returns those that were there.

    `mem` is /proc/PID/mem, opened when the pages were found: it holds on to that address space.
    `progress` is told the bytes of each step. Raises OSError; ESRCH when the address space is gone.
    """
    copied = Extents.none()
    done = ffi.new("uint64_t *")
    for first in range(0, pages.nr, _STEP):
        before = int(done[0])
        out = ffi.new("struct ckpt_extent **")
        part = min(_STEP, pages.nr - first)
        nr = lib.ckpt_copy_running(pid, mem, pages.array + first, part, lfd, done, out)
        copied |= Extents.filled(check(nr, f"memory of pid {pid}"), out)
        progress(int(done[0]) - before)
    return copied
