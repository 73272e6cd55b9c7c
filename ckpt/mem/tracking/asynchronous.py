"""The asynchronous engine: the kernel itself takes the protection of a page that is written
(UFFD_FEATURE_WP_ASYNC, Linux 6.7), and one call finds and protects again what was.

A look that rearms is one pass of PAGEMAP_SCAN with PM_SCAN_WP_MATCHING over what is registered: per
page, finding and protecting are one step, so no write falls between them. Mappings that came in the
place of registered ones are left out by that pass; they are looked for right after it and count as
untracked until they are armed.

What is registered anew counts as written once, whatever its pages say: kernels before 6.13 leave
the marks of another registration in pages that mremap(2) has moved.
"""

from __future__ import annotations

from typing import ClassVar

from ckpt._native import ffi, lib
from ckpt.mem.extents import Extents
from ckpt.mem.tracking.engine import NO_ROOM, Engine, Mode


class Asynchronous(Engine):
    """Page-exact: `written` of tracked ranges holds no page that was not written."""

    mode: ClassVar[Mode] = Mode.ASYNC

    def __init__(self, uffd: int, pagemap: int) -> None:
        super().__init__(uffd, pagemap)
        self._new = Extents.none()

    def arm(self, ranges: Extents, room: Extents = NO_ROOM) -> Extents:
        """As Engine.arm."""
        self._new = self._new | self._lost(ranges)
        if room:
            self._new = self._new | (room - ranges)
        return super().arm(ranges, room)

    def _look(self, tracked: Extents, *, rearm: bool) -> tuple[Extents, Extents]:
        written, populated = self._scan(tracked, lib.CKPT_SCAN_REARM if rearm else 0)
        new = tracked & self._new
        if new:
            written = written | (populated & new)
            if rearm:
                self._new = self._new - new
        return written, populated

    def _lost(self, tracked: Extents) -> Extents:
        out = ffi.new("struct ckpt_extent **")
        nr = self._checked(
            lib.ckpt_find_unregistered(self._pagemap, tracked.array, tracked.nr, out)
        )
        return Extents.filled(nr, out)
