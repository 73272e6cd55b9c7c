"""The runs of one image as they come over the wire.

Each is checked when it comes: aligned, not empty, ascending, with flags that make sense; and what
is said to be in the parent is there. Kept in flat arrays, neighbours merged, since the other side
decides how many there are: at most MAX_RUNS.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from typing import TYPE_CHECKING

from ckpt.errors import PeerError
from ckpt.images.pagemap import PE_LAZY, PE_PARENT, PE_PRESENT, Run, pagemap_messages
from ckpt.units import PAGE, PAGE_SHIFT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from google.protobuf.message import Message

MAX_RUNS = 1 << 22
"""A pagemap of so many has some 100 MB, and what reads it takes it into memory."""

_END = 1 << 63
_FLAGS = {PE_PARENT, PE_LAZY, PE_PRESENT, PE_PARENT | PE_LAZY, PE_PRESENT | PE_LAZY}


class ReceivedRuns:
    """The runs of image `name`. `parent`: the ranges that its parent holds, ascending; None if it
    has no parent."""

    def __init__(self, name: str, parent: Sequence[tuple[int, int]] | None) -> None:
        self.nr_present = 0
        self._name = name
        self._parent = parent
        self._starts = [start for start, _ in parent or ()]
        self._flat = array("Q")
        self._end = 0
        self._flags = 0

    def add(self, run: Run) -> None:
        """Take one more. Raises PeerError if it can't be one."""
        addr, nr_pages, flags = run
        if addr % PAGE or nr_pages == 0 or nr_pages > (_END - addr) >> PAGE_SHIFT:
            raise self._wrong(addr, f"{nr_pages} pages from there are no run")
        if addr < self._end:
            raise self._wrong(addr, f"it begins before {self._end:#x}, the end of the one before")
        if flags not in _FLAGS:
            raise self._wrong(addr, f"flags {flags:#x} make no sense")
        end = addr + (nr_pages << PAGE_SHIFT)
        if flags & PE_PARENT and not self._in_parent(addr, end):
            raise self._wrong(addr, "the parent does not have these pages")
        if flags & PE_PRESENT:
            self.nr_present += nr_pages
        if addr == self._end and flags == self._flags and self._flat:
            self._flat[-2] += nr_pages
        elif len(self._flat) == 3 * MAX_RUNS:
            raise self._wrong(addr, f"there are more than {MAX_RUNS} runs")
        else:
            self._flat.extend((addr, nr_pages, flags))
        self._end, self._flags = end, flags

    def messages(self, pages: int) -> list[Message]:
        """The content of the pagemap image, with N of pages-N.img."""
        return pagemap_messages(pages, self._runs())

    def _runs(self) -> Iterator[Run]:
        fields = iter(self._flat)
        return (Run(*one) for one in zip(fields, fields, fields, strict=True))

    def _in_parent(self, start: int, end: int) -> bool:
        if not self._parent:
            return False
        index = bisect_right(self._starts, start) - 1
        return index >= 0 and end <= self._parent[index][1]

    def _wrong(self, addr: int, why: str) -> PeerError:
        return PeerError(f"sent what is wrong at {addr:#x}", resource=self._name, why=why)
