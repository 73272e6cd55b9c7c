"""The threads of a live snapshot, and what they share (ckpt/_native/src/live.h).

One serves the faults of the target, one sweeps, one writes what was copied. All run in C without
the GIL. While anything is protected the first must live: threads of the target
wait for it. Should our process end, the kernel takes all protection away.
"""

from __future__ import annotations

import errno
import os
import threading
from typing import TYPE_CHECKING, Any

from ckpt._native import check, ffi, lib
from ckpt.errors import KernelError, NotOneInstant
from ckpt.mem.extents import Extents
from ckpt.record import names, record

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ckpt.live.space import Space
    from ckpt.live.view import View


@record(frozen=True)
class Figures:
    """What the server has counted; pages, unless the name says otherwise."""

    nr_noted: int
    nr_unmappings: int
    nr_faults: int
    fault_pages: int
    swept_pages: int
    saved_pages: int
    covered_pages: int
    peak_bytes: int


class Server:
    """Spaces are added as they are armed, and covered while their task stands. `close` ends the
    threads; after that nothing that is protected may be left. `native` is for ckpt.live.watch."""

    def __init__(self, room: int) -> None:
        """`room`: bytes of buffers. Raises KernelError."""
        self.native = lib.ckpt_live_new(room)
        if self.native == ffi.NULL:
            raise KernelError("a live snapshot can't begin", why="no memory or no descriptor left")
        self._figures = ffi.new("struct ckpt_live_figures *")
        works = (lib.ckpt_live_serve, lib.ckpt_live_sweep, lib.ckpt_live_write)
        self._threads = [
            threading.Thread(target=work, args=(self.native,), name="live", daemon=True)
            for work in works
        ]
        for thread in self._threads:
            thread.start()

    def add(self, space: Space) -> int:
        """Serve its faults from now on."""
        index = lib.ckpt_live_add(
            self.native,
            space.pid,
            space.uffd,
            space.mem,
            space.pagemap,
            space.fdinfo,
            space.lent,
        )
        return check(index, "live snapshot")

    def add_view(self, view: View) -> int:
        """Serve the faults of a view, and of the views of its children."""
        index = lib.ckpt_live_add_view(self.native, view.pid, view.uffd, view.pagemap, view.fdinfo)
        return check(index, "live snapshot")

    def add_object(self, pid: int, lfd: int) -> int:
        """Shared memory, read through `lfd`; `pid` has it mapped."""
        return check(lib.ckpt_live_add_object(self.native, pid, lfd), "live snapshot")

    def map(self, view: View, indexes: Mapping[int, int]) -> None:
        """What the view maps. `indexes`: of the objects, by inode number."""
        words = [(s.start, s.end, s.offset, indexes[s.ino]) for s in view.segments]
        array = ffi.new("struct ckpt_live_segment[]", words)
        check(lib.ckpt_live_map(self.native, view.index, array, len(words)), "live snapshot")

    def children(self, first: int) -> Iterator[Any]:
        """struct ckpt_live_child of each view made by a fork, from index `first` on."""
        child = ffi.new("struct ckpt_live_child *")
        while lib.ckpt_live_next_child(self.native, first, child):
            first = child.index + 1
            yield child

    def moved(self, index: int) -> bool:
        """Whether a view's mappings are elsewhere than they were."""
        return bool(lib.ckpt_live_moved(self.native, index))

    def noted(self, index: int) -> Extents | None:
        """What has lost its protection or its place since the last call; None: too much."""
        return self._noted(index, lib.CKPT_LIVE_NOTED)

    def displaced(self, index: int) -> Extents | None:
        """Where memory has come to with its protection, as `noted`; before `close`."""
        return self._noted(index, lib.CKPT_LIVE_DISPLACED)

    def _noted(self, index: int, which: int) -> Extents | None:
        out = ffi.new("struct ckpt_extent **")
        nr = lib.ckpt_live_noted(self.native, index, which, out)
        found = Extents.filled(max(0, nr), out)
        if nr == -errno.EOVERFLOW:
            return None
        check(nr, "live snapshot")
        return found

    def cover(self, index: int, everything: Extents, covered: Extents, pages_lfd: int) -> None:
        """Nothing of `covered` loses its protection any more before it was copied to the place in
        `pages_lfd` that its number among the pages of `everything` gives it."""
        result = lib.ckpt_live_cover(
            self.native,
            index,
            everything.array,
            everything.nr,
            covered.array,
            covered.nr,
            pages_lfd,
        )
        check(result, "live snapshot")

    def leave_out(self, index: int, pages: Extents) -> None:
        """These of what is covered somebody else copies, before their owner runs."""
        result = lib.ckpt_live_leave_out(self.native, index, pages.array, pages.nr)
        check(result, "live snapshot")

    def sweep(self, percent: int) -> None:
        """Copy what nobody writes to, for at most `percent` of the time."""
        lib.ckpt_live_begin(self.native, percent)

    def heard(self) -> None:
        """Its descriptor said that there is news: forget that."""
        os.eventfd_read(lib.ckpt_live_done(self.native))

    def figures(self) -> Figures:
        """What was counted so far."""
        lib.ckpt_live_result(self.native, self._figures)
        return Figures(*(int(getattr(self._figures, name)) for name in names(Figures)))

    def end(self) -> None:
        """End the threads: nobody serves faults any more. Harmless a second time."""
        if self._threads:
            lib.ckpt_live_stop(self.native)
        while self._threads:
            self._threads.pop().join()

    def close(self) -> None:
        """The end of everything. Harmless a second time."""
        if self.native == ffi.NULL:
            return
        self.end()
        lib.ckpt_live_free(self.native)
        self.native = ffi.NULL

    def is_whole(self) -> bool:
        """Everything is copied and written. Raises NotOneInstant, OSError of a write."""
        result = lib.ckpt_live_result(self.native, self._figures)
        if result == -errno.ENODATA:
            addr = int(self._figures.lost_addr)
            raise NotOneInstant(
                "the snapshot is not of one instant",
                pid=int(self._figures.lost_pid),
                resource=f"page {addr:x}" if addr else "",
                why="memory was given back before it was copied",
                hint="once more, or --live=fork",
            )
        return bool(check(result, "pages of the live snapshot"))
