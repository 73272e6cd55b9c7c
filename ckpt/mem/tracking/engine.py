"""What a tracker of writes does, whichever way the kernel lets it.

An engine belongs to one mm, the one that existed when its descriptors were opened. After exec or
the end of the task `alive` is false and everything else raises TargetError. It is used by one
thread, on a target that may run meanwhile.

Invariants:

- A page that changed between two looks which rearm is in `written` of the second, or is no longer
  `populated` (what a hole reads as is known). Nothing is trusted from the last look: memory that
  was unmapped and mapped again, moved, or has grown counts as written.
- A page that is `written` without need costs time, never truth.
- Holes, the zero page and pages of a file are never protected; no page table is made.
- Which mappings have no file is read anew for each look, to scan these without looking at each
  page's kind. If it were wrong, pages of the file would be content and protected: no harm.

Not seen: writes by another mapping or by write(2) to shared memory (which is no content of its own
and in neither set), and by direct I/O that was under way. A target that registers a userfaultfd of
its own, asynchronous too, over memory that it has mapped anew between `arm` and `look` can lose
marks to us once. A kernel that leaves protection marks in pages that mremap(2) has moved out of a
registration (before 6.13) can hide them from the synchronous engine where it is not told of moves.

Source: userfaultfd(2), ioctl_userfaultfd(2), Documentation/admin-guide/mm/pagemap.rst, fs/proc/
task_mmu.c, KERNEL.md.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from ckpt._native import check, ffi, lib
from ckpt.errors import KernelError, TargetError
from ckpt.mem.extents import Extents, scan
from ckpt.mem.registration import unregister
from ckpt.record import record

if TYPE_CHECKING:
    from ckpt.mem.room import Listed

NO_ROOM = Extents.none()


class Mode(StrEnum):
    """ASYNC: the kernel takes the protection of a page by itself; SYNC: we serve each fault."""

    ASYNC = "async"
    SYNC = "sync"


@record(frozen=True)
class Found:
    """What a look has found in the ranges asked for.

    `written`: populated pages written since they were last armed, and all populated pages of what
    is not tracked. `populated`: pages with content of their own, as mem.extents.scan has them.
    `untracked`: ranges that can't be registered or were never armed.
    """

    written: Extents
    populated: Extents
    untracked: Extents


class Engine(ABC):
    """Owns a userfaultfd and /proc/PID/pagemap of one mm; `close` closes both."""

    mode: ClassVar[Mode]

    def __init__(self, uffd: int, pagemap: int) -> None:
        self._uffd = uffd
        self._pagemap = pagemap
        self._maps = _beside(pagemap, "maps")
        self._armed = Extents.none()

    def arm(self, ranges: Extents, room: Extents = NO_ROOM) -> Extents:
        """Register `ranges`, one for each mapping; what can't be had is returned, by range. `room`:
        of ckpt.mem.room, where the target runs.

        What is registered already is left as it is. Protection itself comes with the first `look`
        that rearms, which finds everything populated written.
        """
        out = ffi.new("struct ckpt_extent **")
        nr = self._checked(
            lib.ckpt_register_wp(self._uffd, ranges.array, ranges.nr, room.array, room.nr, out)
        )
        refused = Extents.filled(nr, out)
        if refused:
            self._demand_alive()
        self._armed = (self._armed | ranges) - refused
        return refused

    def look(self, ranges: Extents, *, rearm: bool) -> Found:
        """What was written in `ranges` since it was last armed; `rearm` forgets it.

        Raises TargetError when the mm is gone; nothing was consumed then that could be of use.
        """
        tracked = ranges & self._armed
        found = self._look(tracked, rearm=rearm)
        untracked = (ranges - self._armed) | self._lost(tracked)
        written, populated = found
        if untracked:
            whole = scan(self._pagemap, untracked)
            written, populated = written | whole, populated | whole
        self._demand_alive()
        return Found(written, populated, untracked)

    def alive(self) -> bool:
        """Whether the mm still exists."""
        return len(os.pread(self._pagemap, 8, 0)) == 8

    def release(self, mappings: Listed) -> None:
        """Take the registrations of `mappings` back in small steps. `close` takes what is left in
        one, 24 ms/GiB in which page faults of the target wait."""
        unregister(self._uffd, self._pagemap, mappings)

    def close(self) -> None:
        """Let go: the kernel drops registration and protection with the last descriptor."""
        for lfd in (self._uffd, self._pagemap, self._maps):
            if lfd >= 0:
                os.close(lfd)
        self._uffd = self._pagemap = self._maps = -1

    def lend(self) -> tuple[int, Extents]:
        """The userfaultfd for another process to serve, and the pages that were written whatever
        their protection says; from here on nothing is known of them here. An asynchronous one
        serves itself."""
        raise KernelError("it can't be lent", resource="userfaultfd", why="it is asynchronous")

    def take_back(self, moved: Extents, registered: Extents) -> None:
        """What was lent is ours again; all of `moved` counts as written. Its borrower has
        `registered` what it could while the target stood."""
        raise NotImplementedError

    @abstractmethod
    def _look(self, tracked: Extents, *, rearm: bool) -> tuple[Extents, Extents]:
        """Written and populated pages of what was armed."""

    @abstractmethod
    def _lost(self, tracked: Extents) -> Extents:
        """What of `tracked` is no longer registered, so far as `_look` has left it out."""

    def _scan(self, ranges: Extents, how: int) -> tuple[Extents, Extents]:
        """Written and populated pages; `how` is of CKPT_SCAN_*."""
        anonymous = ranges & self._anonymous()
        others = ranges - anonymous
        written, populated = self._scan_some(anonymous, how | lib.CKPT_SCAN_ANONYMOUS)
        if others:
            more = self._scan_some(others, how)
            written, populated = written | more[0], populated | more[1]
        return written, populated

    def _anonymous(self) -> Extents:
        """Private mappings without a file; none where it can't be told."""
        if self._maps < 0:
            return Extents.none()
        out = ffi.new("struct ckpt_extent **")
        nr = self._checked(lib.ckpt_find_anonymous(self._maps, out))
        return Extents.filled(nr, out)

    def _scan_some(self, ranges: Extents, how: int) -> tuple[Extents, Extents]:
        found = ffi.new("struct ckpt_found *")
        self._checked(lib.ckpt_scan_written(self._pagemap, ranges.array, ranges.nr, how, found))
        return (
            Extents(ffi.gc(found.written, lib.ckpt_free), int(found.nr_written)),
            Extents(ffi.gc(found.populated, lib.ckpt_free), int(found.nr_populated)),
        )

    def _checked(self, result: int) -> int:
        """The result of a C function, or why it has none."""
        if result < 0:
            self._demand_alive()
        try:
            return check(result, "userfaultfd")
        except OSError as error:
            why = error.strerror or ""
            raise KernelError("writes can't be tracked", resource="userfaultfd", why=why) from error

    def _demand_alive(self) -> None:
        if not self.alive():
            raise TargetError("its memory can't be tracked any more: it has ended or called exec")


def _beside(pagemap: int, name: str) -> int:
    """Another file of the same /proc/PID, or -1. After exec it is that of another mm, and ours is
    gone."""
    try:
        place = os.readlink(f"/proc/self/fd/{pagemap}")  # noqa: PTH115
        return os.open(f"{place.removesuffix('pagemap')}{name}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1
