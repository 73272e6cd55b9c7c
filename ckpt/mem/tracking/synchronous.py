"""The synchronous engine: a thread of ours serves each write-protect fault (Linux 5.7).

What is populated and not protected was written. A look that rearms finds these pages first and then
protects exactly them: what is written in between was found already, and is copied later than that.

The serving thread is a loop in C without the GIL. The writing threads of the target wait for it, so
it lives exactly as long as the engine; when our process dies, the kernel drops all protection.

A fault costs the target 3 us on a quiet machine and 18 on a loaded one (asynchronous: 0.5 and 2.3).
Where faults ascend, runs of up to 64 pages make that thirty times less a page; 16 do twenty times,
256 seventy, but with up to 1 MiB too much at the end of each run.

Exactness: with `run_max` 1 a page is found only if it was written. With more, ascending faults take
the protection of runs, and at the end of one there may be as many pages too many as were written.
Without PAGEMAP_SCAN (before Linux 6.7) zero pages count as content.
"""

from __future__ import annotations

import os
import threading
from typing import ClassVar

from ckpt._native import ffi, lib
from ckpt.errors import KernelError
from ckpt.mem.extents import Extents
from ckpt.mem.tracking.engine import Engine, Mode
from ckpt.record import record

RUN_MAX = 64
_ENDED = 3  # ESRCH


@record(frozen=True)
class Served:
    """Counts since the engine was made: faults, pages that lost their protection, lost events."""

    nr_faults: int
    nr_unprotected: int
    nr_lost: int


class Synchronous(Engine):
    """`events`: -1, or a non-blocking pipe of the caller's that gets two u64 for each fault: start
    and end of the pages that lost their protection. It must outlive the engine."""

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
        self._stop = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._result = 0
        self._thread = threading.Thread(
            target=self._serve, args=(run_max, events), name="write-protect faults", daemon=True
        )
        self._thread.start()

    def served(self) -> Served:
        counts = self._served
        return Served(int(counts.nr_faults), int(counts.nr_unprotected), int(counts.nr_lost))

    def close(self) -> None:
        """As Engine.close; threads of the target that wait in a fault go on."""
        if self._stop >= 0:
            os.eventfd_write(self._stop, 1)
            self._thread.join()
            os.close(self._stop)
            self._stop = -1
        super().close()

    def _serve(self, run_max: int, events: int) -> None:
        self._result = lib.ckpt_serve_wp(self._uffd, self._stop, events, run_max, self._served)

    def _look(self, tracked: Extents, *, rearm: bool) -> tuple[Extents, Extents]:
        self._demand_server()
        written, populated = self._scan(tracked, self._how)
        if rearm:
            self._checked(lib.ckpt_protect_wp(self._uffd, written.array, written.nr))
        return written, populated

    def _lost(self, tracked: Extents) -> Extents:
        """Nothing: pages of a mapping that is not registered are not protected either."""
        del tracked
        return Extents.none()

    def _demand_server(self) -> None:
        """A server that gave up would leave threads of the target waiting: never protect again."""
        if self._result not in (0, -_ENDED):
            why = os.strerror(-self._result)
            raise KernelError("nobody serves write-protect faults any more", why=why)
