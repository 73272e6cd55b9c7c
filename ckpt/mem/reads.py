"""Which reads bring the pages of a plan into memory: few large ones, whatever a chain looks like.

A set that many newer ones build on is used in thousands of pieces, between which single pages come
from elsewhere. Two things keep the number of reads low:

- Files are read one after another, the oldest set's first, and what stands together in a file is
  one read, at however many addresses.
- A short gap that newer files fill is read over: those pages hold something old for a moment, and
  are overwritten when their own file's turn comes. So the order of reads must be kept.

Reading over a page costs a third of a microsecond, a read of its own some fifteen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ckpt.units import PAGE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ckpt.mem.build import Pages

IOV_MAX = 1024
CALL_MAX = 1 << 30
GAP_MAX = 32 * PAGE


class Read(NamedTuple):
    """Bytes from `offset` of the file `pages_id`, to `parts` (address, length) in turn."""

    pages_id: int
    offset: int
    parts: list[tuple[int, int]]


_START, _END, _OFFSET, _LAST = range(4)
"""Of what is read in one piece: addresses, place in the file, index of the last of its loads."""


def reads(loads: Sequence[Pages]) -> Iterator[Read]:
    """The reads for `loads`, which ascend. Pages are whole after all of them, in this order, if
    newer files have larger ids (with equal ones, or others, nothing is read over)."""
    extents = _extents(loads)
    for pages_id in sorted(extents):
        yield from _grouped(pages_id, extents[pages_id])


def _extents(loads: Sequence[Pages]) -> dict[int, list[list[int]]]:
    """By file: what is read in one piece."""
    found: dict[int, list[list[int]]] = {}
    for index, (where, offset, pages_id) in enumerate(loads):
        of_file = found.get(pages_id)
        if of_file is None:
            of_file = found[pages_id] = []
        else:
            before = of_file[-1]
            aligned = offset - before[_OFFSET] == where.start - before[_START]
            if aligned and _filled(loads, before, index):
                before[_END], before[_LAST] = where.end, index
                continue
        of_file.append([where.start, where.end, offset, index])
    return found


def _filled(loads: Sequence[Pages], before: list[int], index: int) -> bool:
    """Whether newer files fill what is between `before` and the load at `index`."""
    start, pages_id = loads[index].range.start, loads[index].pages_id
    at = before[_END]
    if start - at > GAP_MAX:
        return False
    for between in range(before[_LAST] + 1, index):
        p = loads[between]
        if p.range.start != at or p.pages_id <= pages_id:
            return False
        at = p.range.end
    return at == start


def _grouped(pages_id: int, extents: Sequence[list[int]]) -> Iterator[Read]:
    first = follows = size = 0
    parts: list[tuple[int, int]] = []
    for start, end, offset, _ in extents:
        while start < end:
            full = len(parts) == IOV_MAX or size == CALL_MAX
            if parts and (offset != follows or full):
                yield Read(pages_id, first, parts)
                parts = []
            if not parts:
                first, size = offset, 0
            length = end - start if end - start <= CALL_MAX - size else CALL_MAX - size
            parts.append((start, length))
            start += length
            size += length
            follows = offset = offset + length
    if parts:
        yield Read(pages_id, first, parts)
