"""Runs of pages: what a pagemap image says, and where its pages are in pages-N.img.

Runs are ascending and don't overlap. Present runs stand in pages-N.img in the order of the
pagemap, without gaps, so an offset is the sum of the present pages before it. A page is present,
or in the parent set, or neither if it is lazy only (its owner still has it).

Written are both counts, `compat_nr_pages` (32 bits, all that older readers know) and `nr_pages`
(64 bits); runs are split where the first would overflow. Read is either: CRIU 4.2 writes 0 into the
first, older ones know only that. Facts: criu/pagemap.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ckpt.errors import ImageError
from ckpt.units import PAGE, PAGE_SHIFT, Range

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from google.protobuf.message import Message

PE_PARENT = 1
PE_LAZY = 2
PE_PRESENT = 4

_KNOWN = PE_PARENT | PE_LAZY | PE_PRESENT
_MAX_PAGES = (1 << 32) - 1
_END = 1 << 63


class Run(NamedTuple):
    """`nr_pages` pages from `addr` (an offset, for a shared memory object) with equal flags."""

    addr: int
    nr_pages: int
    flags: int

    @property
    def range(self) -> Range:
        return Range(self.addr, self.addr + (self.nr_pages << PAGE_SHIFT))


class Extent(NamedTuple):
    """A run with its place in pages-N.img; None if its pages are not there."""

    range: Range
    offset: int | None
    flags: int


class Pagemap:
    """The runs of one pagemap. `pages` is the N of pages-N.img."""

    def __init__(self, pages: int, runs: Sequence[Run]) -> None:
        self.pages = pages
        self.runs = runs

    @property
    def nr_present(self) -> int:
        """How many pages are in pages-N.img."""
        return sum(run.nr_pages for run in self.runs if run.flags & PE_PRESENT)

    def extents(self) -> Iterator[Extent]:
        """All runs in order, each with its byte offset in pages-N.img."""
        offset = 0
        for run in self.runs:
            present = bool(run.flags & PE_PRESENT)
            yield Extent(run.range, offset if present else None, run.flags)
            if present:
                offset += run.nr_pages << PAGE_SHIFT


def merge_runs(runs: Iterable[Run]) -> list[Run]:
    """The same pages in as few runs as can be. Raises ValueError if runs overlap or descend."""
    merged: list[Run] = []
    end = -1
    for run in runs:
        if run.addr < end or run.nr_pages <= 0 or run.addr % PAGE:
            raise ValueError(f"not a run after {end:#x}: {run}")
        if merged and run.addr == end and run.flags == merged[-1].flags:
            last = merged[-1]
            merged[-1] = Run(last.addr, last.nr_pages + run.nr_pages, last.flags)
        else:
            merged.append(run)
        end = run.addr + (run.nr_pages << PAGE_SHIFT)
    return merged


def pagemap_messages(pages: int, runs: Iterable[Run]) -> list[Message]:
    """The messages of a pagemap image: its head with N of pages-N.img, then the runs, merged."""
    import ckpt.images.pb.pagemap_pb2 as pb

    entry = pb.pagemap_entry
    messages: list[Message] = [pb.pagemap_head(pages_id=pages)]
    for addr, nr_pages, flags in merge_runs(runs):
        while nr_pages > _MAX_PAGES:
            messages.append(
                entry(vaddr=addr, compat_nr_pages=_MAX_PAGES, nr_pages=_MAX_PAGES, flags=flags)
            )
            addr += _MAX_PAGES << PAGE_SHIFT
            nr_pages -= _MAX_PAGES
        messages.append(entry(vaddr=addr, compat_nr_pages=nr_pages, nr_pages=nr_pages, flags=flags))
    return messages


def from_messages(messages: Sequence[Any], file: str, pages_size: int | None = None) -> Pagemap:
    """The pagemap that `messages` of image `file` describe.

    `pages_size` is the size of pages-N.img in bytes, None if it is not to be compared. Raises
    ImageError if there is no head, or a run is not aligned, empty, too long, out of order, has
    flags that make no sense or is compressed, or the present pages are not as many as pages-N.img
    holds.
    """
    if not messages:
        raise ImageError("has no head", resource=file)
    runs: list[Run] = []
    end = 0
    for index in range(1, len(messages)):
        run = addr, nr_pages, _ = _run(messages[index], file)
        if addr < end:
            raise _wrong(file, addr, f"it begins before {end:#x}, the end of the one before")
        end = addr + (nr_pages << PAGE_SHIFT)
        runs.append(run)
    pagemap = Pagemap(messages[0].pages_id, runs)
    if pages_size is not None and pagemap.nr_present << PAGE_SHIFT != pages_size:
        raise ImageError(
            f"has {pages_size} bytes, but {file} tells of {pagemap.nr_present} pages",
            resource=f"pages-{pagemap.pages}.img",
            hint="take the image from its origin again",
        )
    return pagemap


def _run(entry: Any, file: str) -> Run:
    addr = entry.vaddr
    nr_pages = entry.nr_pages if entry.HasField("nr_pages") else entry.compat_nr_pages
    flags = entry.flags if entry.HasField("flags") else 0
    if entry.in_parent:
        flags |= PE_PARENT
    elif not entry.HasField("flags"):
        flags = PE_PRESENT
    if addr % PAGE or nr_pages == 0 or nr_pages > (_END - addr) >> PAGE_SHIFT:
        raise _wrong(file, addr, f"{nr_pages} pages from there are no run")
    if entry.HasField("blocks"):
        raise _wrong(file, addr, "its pages are compressed, by a CRIU newer than 4.2")
    if flags & ~_KNOWN or not flags or (flags & PE_PARENT and flags & PE_PRESENT):
        raise _wrong(file, addr, f"flags {flags:#x} make no sense")
    return Run(addr, nr_pages, flags)


def _wrong(file: str, addr: int, why: str) -> ImageError:
    return ImageError(f"is wrong at {addr:#x}", resource=file, why=why)
