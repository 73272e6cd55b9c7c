"""Ranges of pages as the C loops take them: an array of `struct ckpt_extent`.

They stay in C memory while a target is frozen; only what is written into an image becomes Python
objects, after the thaw. They are sets too: `|`, `&` and `-` are one pass in C each and give ranges
that don't touch.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Any

from ckpt._native import check, ffi, lib
from ckpt.units import PAGE

_EXTENT = struct.Struct("=QQ")


class Extents:
    """An array of ascending, page-aligned ranges, which nobody changes. `apart`: it is known that
    none of them touch."""

    def __init__(self, array: Any, nr: int, *, apart: bool = False) -> None:
        self.array = array
        self.nr = nr
        self.apart = apart

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

    @classmethod
    def none(cls) -> Extents:
        """The empty set."""
        return cls.of(())

    @classmethod
    def from_bytes(cls, raw: bytes | bytearray | memoryview) -> Extents:
        """From what `to_bytes` gave, or somebody else: ValueError unless it is a set of pages."""
        if len(raw) % _EXTENT.size:
            raise ValueError(f"{len(raw)} bytes are no whole number of ranges")
        nr = len(raw) // _EXTENT.size
        array = ffi.new("struct ckpt_extent[]", max(1, nr))
        ffi.memmove(array, raw, len(raw))
        if lib.ckpt_check_set(array, nr):
            raise ValueError("not ascending ranges of whole pages")
        return cls(array, nr)

    def to_bytes(self) -> bytes:
        """Two u64 a range, in the machine's order."""
        return bytes(ffi.buffer(self.array, _EXTENT.size * self.nr)) if self.nr else b""

    def __or__(self, other: Extents) -> Extents:
        if self.apart and not other.nr:
            return self
        if other.apart and not self.nr:
            return other
        return self._combined(lib.CKPT_SET_OR, other)

    def __and__(self, other: Extents) -> Extents:
        if not self.nr or not other.nr:
            return Extents.none()
        return self._combined(lib.CKPT_SET_AND, other)

    def __sub__(self, other: Extents) -> Extents:
        if self.apart and not other.nr:
            return self
        return self._combined(lib.CKPT_SET_SUB, other)

    def _combined(self, op: int, other: Extents) -> Extents:
        out = ffi.new("struct ckpt_extent **")
        nr = check(
            lib.ckpt_combine_sets(op, self.array, self.nr, other.array, other.nr, out),
            "sets of pages",
        )
        made = Extents.filled(nr, out)
        made.apart = True
        return made

    def __len__(self) -> int:
        return self.nr

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return _EXTENT.iter_unpack(self.to_bytes())

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


def scan(pagemap: int, ranges: Iterable[tuple[int, int]], *, anonymous: bool = False) -> Extents:
    """The pages of `ranges` that hold content of their own. `pagemap` is /proc/PID/pagemap;
    `anonymous`: no file is mapped in `ranges`."""
    where = Extents.of(ranges)
    out = ffi.new("struct ckpt_extent **")
    nr = check(lib.ckpt_scan_pages(pagemap, where.array, where.nr, anonymous, out), "pagemap")
    return Extents.filled(nr, out)


def scan_guards(pagemap: int, start: int, end: int) -> Extents:
    """The guard pages (MADV_GUARD_INSTALL) between two addresses."""
    out = ffi.new("struct ckpt_extent **")
    nr = lib.ckpt_scan_guards(pagemap, start, end, out)
    found = Extents.filled(max(0, nr), out)
    check(nr, "pagemap")
    return found
