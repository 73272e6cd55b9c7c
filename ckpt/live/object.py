"""One object of shared memory, however many tasks map it: anonymous, or a memfd.

What it holds is found by lseek(2), and read, through a descriptor of /proc/PID/map_files: so it is
there as long as we want it, and nobody who maps it is asked.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ckpt._native import check, ffi, lib
from ckpt.errors import CkptError, TargetError
from ckpt.live.reach import ticks
from ckpt.live.view import is_memfd, shareable
from ckpt.mem.extents import Extents
from ckpt.procfs.parse import ProcfsError
from ckpt.procfs.reader import ProcDir
from ckpt.procfs.smaps import parse_smaps
from ckpt.record import field, record
from ckpt.units import PAGE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ckpt.procfs import maps

_MARK_BYTES = 8
"""Of an entry of a page table."""


@record
class SharedObject:
    """`born`: as ckpt.live.reach has it; `data` are the offsets of its pages, `new` those that the
    last look has found. `pid` had it mapped. `index` is the server's."""

    ino: int
    pid: int
    lfd: int
    size: int
    memfd: bool
    born: int
    index: int = -1
    data: Extents = field(default_factory=Extents.none)
    new: Extents = field(default_factory=Extents.none)

    @classmethod
    def of(cls, mapping: maps.Mapping, pid: int) -> SharedObject | None:
        """What the task maps so; its `lfd` is the caller's to close. None: it can't be had, or ends
        within a page."""
        try:
            with ProcDir(pid) as proc:
                name = f"map_files/{mapping.start:x}-{mapping.end:x}"
                lfd = proc.open(name, os.O_RDONLY)
        except (CkptError, OSError):
            return None
        try:
            seen = os.fstat(lfd)
            if seen.st_ino == mapping.ino and not seen.st_size % PAGE:
                memfd = is_memfd(mapping)
                return cls(mapping.ino, pid, lfd, seen.st_size, memfd, ticks(lfd))
        except BaseException:
            os.close(lfd)
            raise
        os.close(lfd)
        return None

    def look(self) -> None:
        """Find data that is new."""
        out = ffi.new("struct ckpt_extent **")
        nr = check(
            lib.ckpt_find_data(self.lfd, self.size, self.data.array, self.data.nr, out),
            "shared memory",
        )
        self.new = Extents.filled(nr, out)
        self.data |= self.new


def mark_bytes(objects: Mapping[int, SharedObject], pids: Iterable[int]) -> dict[int, int]:
    """How much page tables would grow, at most, if all data of each object were marked in each task
    that maps it, which may run."""
    costs = dict.fromkeys(objects, 0)
    for one in objects.values():
        one.look()
    for pid in pids:
        try:
            with ProcDir(pid) as proc:
                smaps = parse_smaps(proc.read("smaps"), running=True)
        except (TargetError, ProcfsError):
            continue  # it has ended, or changed so much meanwhile that nobody can tell
        for smap in smaps:
            m = smap.mapping
            if shareable(m) and m.ino in costs:
                data = objects[m.ino].data & Extents.of([(m.pgoff, m.pgoff + m.end - m.start)])
                # A huge page has no entries yet, and is taken apart.
                entries = (smap.size("Rss") - smap.size("ShmemPmdMapped")) // PAGE
                costs[m.ino] += max(0, data.nr_pages - entries) * _MARK_BYTES
    return costs
