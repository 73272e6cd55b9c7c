"""The synchronous engine: a thread of ours serves each write-protect fault (Linux 5.7).

What is populated and not protected was written. A look that rearms finds these pages first and then
protects exactly them: what is written in between was found already, and is copied later than that.

The serving thread is a loop in C without the GIL. The writing threads of the target wait for it, so
it lives exactly as long as the engine; when our process dies, the kernel drops all protection.

Memory that mremap(2) moves takes its protection along, and the page there is another one than
before: the server is told of it (who moves waits until then), and all that was moved counts as
written. A look at a running target may miss a move that is under way; the next one has it.

The userfaultfd can be lent to another process, which then serves in our place (a live snapshot).

A fault costs the target 3 us on a quiet machine and 18 on a loaded one (asynchronous: 0.5 and 2.3).
Where faults ascend, runs of up to 64 pages make that thirty times less a page; 16 do twenty times,
256 seventy, but with up to 1 MiB too much at the end of each run.

Exactness: with `run_max` 1 a page is found only if it was written. With more, ascending faults take
the protection of runs, and at the end of one there may be as many pages too many as were written.
Without PAGEMAP_SCAN (before Linux 6.7) zero pages count as content.
"""

from __future__ import annotations

import errno
import os
import threading
from typing import TYPE_CHECKING, ClassVar

from ckpt._native import ffi, lib
from ckpt.errors import KernelError
from ckpt.mem.extents import Extents
from ckpt.mem.tracking.engine import Engine, Mode
from ckpt.record import record

if TYPE_CHECKING:
    from ckpt.mem.room import Listed

RUN_MAX = 64


@record(frozen=True)
class Served:
    """Counts since the engine was made: faults, pages that lost their protection, lost events."""

    nr_faults: int
    nr_unprotected: int
    nr_lost: int


class Synchronous(Engine):
    """`uffd` tells of memory that is moved, too (open_uffd). `events`: -1, or a non-blocking pipe
    of the caller's that gets two u64 for each fault: start and end of the pages that lost their
    protection. It must outlive the engine."""

    mode: ClassVar[Mode] = Mode.SYNC

    def __init__(
        self,
        uffd: int,
        pagemap: int,
        *,
        run_max: int = RUN_MAX,
        events: int = -1,
        words: bool = False,
    ) -> None:
        super().__init__(uffd, pagemap)
        self._how = lib.CKPT_SCAN_WORDS if words else 0
        self._served = ffi.new("struct ckpt_wp_served *")
        self._moves = lib.ckpt_wp_moves_new()
        if self._moves == ffi.NULL:
            raise MemoryError
        self._moves = ffi.gc(self._moves, lib.ckpt_wp_moves_free)
        self._moved = Extents.none()
        self._stop = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._result = 0
        self._arguments = (run_max, events)
        self._thread: threading.Thread | None = None
        self._start()

    def served(self) -> Served:
        counts = self._served
        return Served(int(counts.nr_faults), int(counts.nr_unprotected), int(counts.nr_lost))

    def close(self) -> None:
        """As Engine.close; threads of the target that wait in a fault go on."""
        if self._stop >= 0:
            self._end_server()
            os.close(self._stop)
            self._stop = -1
        super().close()

    def release(self, mappings: Listed) -> None:
        """As Engine.release, unless it is lent."""
        if self._thread is not None:
            super().release(mappings)

    def lend(self) -> tuple[int, Extents]:
        """The userfaultfd, which stays ours, and what was moved; from here on its borrower must
        serve faults and events, and the threads of the target wait for that."""
        self._demand_server()
        self._end_server()
        moved = self._moved | self._heard(self._armed)
        self._moved = Extents.none()
        return self._uffd, moved

    def take_back(self, moved: Extents, registered: Extents) -> None:
        """The borrower serves no longer; `moved` is what it has heard of memory that was moved.
        What it has read and not answered is told again. Nothing is registered here: what of
        `registered` is not any more was never protected, or is in other mappings by now."""
        self._armed = self._armed | registered
        self._moved = self._moved | moved
        self._checked(lib.ckpt_wake_all(self._uffd))
        self._start()

    def _start(self) -> None:
        self._thread = threading.Thread(
            target=self._serve, args=self._arguments, name="write-protect faults", daemon=True
        )
        self._thread.start()

    def _end_server(self) -> None:
        """Harmless where there is none."""
        if self._thread is None:
            return
        os.eventfd_write(self._stop, 1)
        self._thread.join()
        self._thread = None
        os.eventfd_read(self._stop)

    def _serve(self, run_max: int, events: int) -> None:
        self._result = lib.ckpt_serve_wp(
            self._uffd, self._stop, events, run_max, self._moves, self._served
        )

    def _look(self, tracked: Extents, *, rearm: bool) -> tuple[Extents, Extents]:
        self._demand_server()
        self._moved = self._moved | self._heard(tracked)
        written, populated = self._scan(tracked, self._how)
        written = written | (populated & self._moved)
        if rearm:
            self._checked(lib.ckpt_protect_wp(self._uffd, written.array, written.nr))
            self._moved = self._moved - tracked
        return written, populated

    def _heard(self, tracked: Extents) -> Extents:
        """What was moved since the last look; where that is too much to remember, all."""
        out = ffi.new("struct ckpt_extent **")
        nr = lib.ckpt_wp_moved(self._moves, out)
        moved = Extents.filled(max(0, nr), out)
        if nr == -errno.EOVERFLOW:
            return tracked
        self._checked(nr)
        return moved

    def _lost(self, tracked: Extents) -> Extents:
        """Nothing: pages of a mapping that is not registered are not protected either."""
        del tracked
        return Extents.none()

    def _demand_server(self) -> None:
        """A server that gave up would leave threads of the target waiting: never protect again."""
        if self._result not in (0, -errno.ESRCH):
            why = os.strerror(-self._result)
            raise KernelError("nobody serves write-protect faults any more", why=why)
