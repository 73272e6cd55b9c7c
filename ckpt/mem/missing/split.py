"""Which memory of a task may be missing while it runs: pure.

Private anonymous mappings, and shared anonymous memory that nothing but its mappings leads to.
Everything else is there before the start: pages of files, of a memfd, of a segment of System V can
be read past the mapping, or through a new one, which would give zeros and tell nobody; locked
memory may not be missing; what a fork wipes or does not pass on would be filled in the child;
mappings under mseal(2) can't be registered; of hugetlbfs a page would have to come whole.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, NamedTuple

from ckpt.mem.vma import MADV_DONTFORK, MADV_WIPEONFORK, Backing
from ckpt.record import replace
from ckpt.units import PAGE, Range

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence

    from ckpt.mem.build import Memory, Pages
    from ckpt.mem.vma import Vma


def split(memory: Memory, sealed: Container[int]) -> tuple[Memory, tuple[Range, ...]]:
    """The memory without the contents that may come late, and the mappings that these are in.
    `sealed` holds the starts of mappings under mseal(2)."""
    late = may_be_late(memory.vmas, sealed)
    starts = [p.range.start for p in memory.pages]
    ends = [p.range.end for p in memory.pages]
    with_pages = [r for r in late if bisect_right(ends, r.start) < bisect_left(starts, r.end)]
    kept = tuple(_outside(memory.pages, with_pages))
    return replace(memory, pages=kept), tuple(with_pages)


def may_be_late(vmas: Iterable[Vma], sealed: Container[int]) -> list[Range]:
    """The mappings whose contents may come late."""
    return [v.range for v in vmas if _may_be_late(v, sealed)]


def _may_be_late(v: Vma, sealed: Container[int]) -> bool:
    if v.backing is not Backing.NONE or not v.private or v.locked or v.range.start in sealed:
        return False
    if v.huge_page:
        return False
    return not {MADV_DONTFORK, MADV_WIPEONFORK} & set(v.advices())


class Share(NamedTuple):
    """A mapping of the shared memory `shmid`, from the byte `at` of it on."""

    range: Range
    shmid: int
    at: int


def shares(memories: Iterable[tuple[Iterable[Vma], Container[int]]]) -> list[tuple[Share, ...]]:
    """For each address space, given by its mappings and the starts of those under mseal(2), the
    mappings of shared memory whose contents may come late: every mapping of it must be one that
    they can come to."""
    found: list[tuple[Share, ...]] = []
    early: set[int] = set()
    for vmas, sealed in memories:
        mapped = [v for v in vmas if v.backing is Backing.SHMEM]
        early |= {
            v.shmid
            for v in mapped
            if v.locked or v.range.start in sealed or not v.shared or v.huge_page
        }
        found.append(tuple(Share(v.range, v.shmid, v.pgoff) for v in mapped))
    return [tuple(s for s in one if s.shmid not in early) for one in found]


def _outside(pages: Sequence[Pages], late: Sequence[Range]) -> Iterable[Pages]:
    """What of `pages` is in none of the ascending `late`."""
    at = 0
    for p in pages:
        start = p.range.start
        while at < len(late) and late[at].end <= start:
            at += 1
        i = at
        while i < len(late) and late[i].start < p.range.end:
            if late[i].start > start:
                yield p.part(Range(start, late[i].start))
            start = max(start, late[i].end)
            i += 1
        if start < p.range.end:
            yield p.part(Range(start, p.range.end))


def nr_common(own: Sequence[tuple[int, int]], other: Sequence[tuple[int, int]]) -> int:
    """How many pages two ascending lists of ranges have in common."""
    i = j = common = 0
    while i < len(own) and j < len(other):
        start, end = max(own[i][0], other[j][0]), min(own[i][1], other[j][1])
        common += max(0, end - start) // PAGE
        if own[i][1] <= other[j][1]:
            i += 1
        else:
            j += 1
    return common
