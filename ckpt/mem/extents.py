"""Ranges of pages as the C loops take them: an array of `struct ckpt_extent`.

They stay in C memory while a target is frozen; only what is written into an image becomes Python
objects, after the thaw.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Any

from ckpt._native import check, ffi, lib
from ckpt.units import PAGE


class Extents:
    """An array of ascending, page-aligned ranges."""

    def __init__(self, array: Any, nr: int) -> None:
        self.array = array
        self.nr = nr

    @classmethod
    def of(cls, ranges: Iterable[tuple[int, int]]) -> Extents:
        """From (start, end) pairs."""
        flat = [word for pair in ranges for word in pair]
        raw = struct.pack(f"={len(flat)}Q", *flat)
        array = ffi.new("struct ckpt_extent[]", max(1, len(flat) // 2))
        ffi.memmove(array, raw, len(raw))
        return cls(array, len(flat) // 2)

    @classmethod
    def filled(cls, nr: int, out: Any) -> Extents:
        """From what a C function allocated and stored through `out`."""
        return cls(ffi.gc(out[0], lib.ckpt_free), nr)

    def __len__(self) -> int:
        return self.nr

    def __iter__(self) -> Iterator[tuple[int, int]]:
        raw = bytes(ffi.buffer(self.array, 16 * self.nr)) if self.nr else b""
        return struct.iter_unpack("=QQ", raw)

    @property
    def nr_pages(self) -> int:
        return int(lib.ckpt_extents_sum(self.array, self.nr)) // PAGE

    def before(self, addr: int, first: int) -> int:
        """Index of the first extent from `first` on that starts at or above `addr`."""
        low, high = first, self.nr
        while low < high:
            middle = (low + high) // 2
            if self.array[middle].start < addr:
                low = middle + 1
            else:
                high = middle
        return low


def scan(pagemap: int, ranges: Iterable[tuple[int, int]]) -> Extents:
    """The pages of `ranges` that hold content of their own. `pagemap` is /proc/PID/pagemap."""
    where = Extents.of(ranges)
    out = ffi.new("struct ckpt_extent **")
    nr = check(lib.ckpt_scan_pages(pagemap, where.array, where.nr, out), "pagemap")
    return Extents.filled(nr, out)


def first_guard(pagemap: int, ranges: Iterable[tuple[int, int]]) -> int | None:
    """Address of a guard page (MADV_GUARD_INSTALL) in `ranges`, or None."""
    where = Extents.of(ranges)
    out = ffi.new("uint64_t *")
    found = check(lib.ckpt_find_guard(pagemap, where.array, where.nr, out), "pagemap")
    return int(out[0]) if found else None
