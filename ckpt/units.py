"""Pages, addresses and half-open ranges of them. Pure arithmetic, no policy.

The page here is the image format's: 4096 bytes, which is also x86-64's. Addresses are always the
target's unless a name says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ckpt.record import record

PAGE = 4096
PAGE_SHIFT = 12
TASK_SIZE = 0x7FFF_FFFF_F000


def page_down(addr: int) -> int:
    return addr & ~(PAGE - 1)


def page_up(addr: int) -> int:
    return (addr + PAGE - 1) & ~(PAGE - 1)


@record(frozen=True)
class Range:
    """Addresses from `start` up to and without `end`."""

    start: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end:
            raise ValueError(f"not a range: {self.start:#x}-{self.end:#x}")

    def __lt__(self, other: Range) -> bool:
        return (self.start, self.end) < (other.start, other.end)

    def __len__(self) -> int:
        return self.end - self.start

    def __bool__(self) -> bool:
        return self.end > self.start

    def __contains__(self, addr: int) -> bool:
        return self.start <= addr < self.end

    def __str__(self) -> str:
        return f"{self.start:x}-{self.end:x}"

    @property
    def nr_pages(self) -> int:
        return (self.end - self.start) >> PAGE_SHIFT

    def overlaps(self, other: Range) -> bool:
        return self.start < other.end and other.start < self.end

    def intersection(self, other: Range) -> Range | None:
        start, end = max(self.start, other.start), min(self.end, other.end)
        return Range(start, end) if start < end else None


def merge(ranges: Iterable[Range]) -> list[Range]:
    """The same addresses as sorted ranges that neither touch nor overlap."""
    merged: list[Range] = []
    for r in sorted(ranges):
        if not r:
            continue
        if merged and r.start <= merged[-1].end:
            merged[-1] = Range(merged[-1].start, max(merged[-1].end, r.end))
        else:
            merged.append(r)
    return merged


def gaps(taken: Iterable[Range], within: Range) -> Iterator[Range]:
    """What of `within` no range of `taken` covers, ascending."""
    at = within.start
    for r in merge(taken):
        if r.start > at and at < within.end:
            yield Range(at, min(r.start, within.end))
        at = max(at, r.end)
    if at < within.end:
        yield Range(at, within.end)
