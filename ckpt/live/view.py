"""How one task maps shared memory, under write protection by a userfaultfd of its own.

That userfaultfd, unlike the one of private memory, tells of forks: a child comes with a view too,
protected as its parent's is, so that nobody ever maps an object unprotected. Pages that a task maps
but has not touched get a mark in its page table, which takes 8 bytes for each.

Source: userfaultfd(2), mm/userfaultfd.c.
"""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from ckpt._native import check, ffi, lib
from ckpt.errors import TargetError
from ckpt.kerndat.uffd import Feature
from ckpt.mem.extents import Extents
from ckpt.mem.registration import register, unregister
from ckpt.mem.room import Listed, listed
from ckpt.mem.tracking.open import BIRTHS, open_pagemap
from ckpt.procfs.maps import parse_maps
from ckpt.procfs.reader import ProcDir
from ckpt.record import field, record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckpt.procfs.maps import Mapping

FEATURES = BIRTHS | Feature.WP_HUGETLBFS_SHMEM

_ANONYMOUS = "/dev/zero (deleted)"
_MEMFD = "/memfd:"


def is_memfd(mapping: Mapping) -> bool:
    """Whether it is of a file that may be open as well."""
    return mapping.path.startswith(_MEMFD)


def shareable(mapping: Mapping) -> bool:
    """Whether it is shared memory that is protected. That of System V can't be (EINVAL), huge pages
    are few, and are copied while the tree stands."""
    if not mapping.shared:
        return False
    return mapping.path == _ANONYMOUS or (is_memfd(mapping) and mapping.dev == _device())


@cache
def _device() -> int:
    """st_dev of the kernel's own tmpfs."""
    lfd = os.memfd_create("ckpt", os.MFD_CLOEXEC)
    try:
        return os.fstat(lfd).st_dev
    finally:
        os.close(lfd)


class Segment(NamedTuple):
    """[start, end) maps the object with inode number `ino` from `offset` on."""

    start: int
    end: int
    offset: int
    ino: int


@record
class View:
    """`pid` is 0 for the child of another view, whose descriptors are not ours to close: it has no
    `pagemap` (-1). `segments` are registered, ascending. `unsure`: what may have lost protection.
    `fresh`: nothing was protected yet, or only as far as its parent was."""

    pid: int
    uffd: int
    pagemap: int = -1
    fdinfo: int = -1
    index: int = -1
    segments: tuple[Segment, ...] = ()
    unsure: Extents = field(default_factory=Extents.none)
    fresh: bool = True

    @classmethod
    def of(cls, pid: int, uffd: int) -> View:
        """Takes `uffd` over. Raises TargetError, OSError."""
        view = cls(pid, uffd)
        try:
            view.pagemap = open_pagemap(pid)
            view.fdinfo = os.open(f"/proc/self/fdinfo/{uffd}", os.O_RDONLY | os.O_CLOEXEC)
        except BaseException:
            view.close()
            raise
        return view

    def mappings(self) -> list[Mapping]:
        """Of the task, which may run. Raises TargetError."""
        with ProcDir(self.pid) as proc:
            return parse_maps(proc.read("maps"), running=True)

    def register(self, mappings: Sequence[Mapping]) -> set[int]:
        """Have all segments, which are of `mappings`; the objects that could not be had."""
        refused = {start for start, _ in register(self.uffd, self._listed(mappings, self.segments))}
        return {s.ino for s in self.segments if s.start in refused}

    def forget(self, ino: int) -> None:
        """Leave an object alone."""
        self._unregister([s for s in self.segments if s.ino == ino])
        self.segments = tuple(s for s in self.segments if s.ino != ino)

    def holds(self, mapping: Mapping) -> bool:
        """Whether this mapping is one that was registered, or a part of it."""
        return any(
            s.ino == mapping.ino
            and s.start <= mapping.start
            and mapping.end <= s.end
            and mapping.start - s.start == mapping.pgoff - s.offset
            for s in self.segments
        )

    def ranges(self, ino: int) -> Extents:
        """Where the object is mapped."""
        return Extents.of((s.start, s.end) for s in self.segments if s.ino == ino)

    def places(self, ino: int, offsets: Extents) -> Extents:
        """Where `offsets` of the object are mapped."""
        pairs = list(offsets)
        return Extents.of(
            (max(start, s.offset) - s.offset + s.start, min(end - s.offset + s.start, s.end))
            for s in self.segments
            if s.ino == ino
            for start, end in pairs
            if start < s.offset + s.end - s.start and end > s.offset
        )

    def offsets(self, ino: int, addresses: Extents) -> Extents:
        """Which offsets of the object are mapped at `addresses`."""
        found = Extents.none()
        for s in self.segments:
            if s.ino == ino:
                within = addresses & Extents.of([(s.start, s.end)])
                shift = s.offset - s.start
                found |= Extents.of((start + shift, end + shift) for start, end in within)
        return found

    def protect(self, pages: Extents) -> None:
        """Protect what is mapped of `pages`. ProcessLookupError: the task has ended."""
        check(lib.ckpt_protect_wp(self.uffd, pages.array, pages.nr), "userfaultfd")

    def unprotected(self, pages: Extents) -> Extents:
        """What of `pages` is not protected; nothing where that can't be seen."""
        if self.pagemap < 0:
            return Extents.none()
        out = ffi.new("struct ckpt_extent **")
        nr = check(lib.ckpt_find_unprotected(self.pagemap, pages.array, pages.nr, out), "pagemap")
        return Extents.filled(nr, out)

    def release(self) -> None:
        """Take the registrations back, while faults are still served."""
        self._unregister(self.segments)

    def close(self) -> None:
        for lfd in (self.uffd, self.pagemap, self.fdinfo):
            if lfd >= 0:
                os.close(lfd)

    def _unregister(self, segments: Sequence[Segment]) -> None:
        if self.pid:
            inos = {s.ino for s in segments}
            try:
                mappings = self.mappings()
            except TargetError:
                return  # it has ended
            now = [m for m in mappings if shareable(m) and m.ino in inos]
            unregister(self.uffd, self.pagemap, self._listed(mappings, now))
        else:
            ranges = Extents.of((s.start, s.end) for s in segments)
            unregister(self.uffd, self.pagemap, Listed.standing(ranges))

    @staticmethod
    def _listed(mappings: Sequence[Mapping], some: Sequence[Segment | Mapping]) -> Listed:
        return listed(mappings, [(one.start, one.end) for one in some])
