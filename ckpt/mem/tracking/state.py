"""What the keeper knows of pages: sets, and the transaction that a round is. Pure.

Scanning and re-arming consumes what the kernel knew, so it is kept here until an image set that
holds it is committed. For each address space:

- `stored`: pages that can be resolved through the committed image set `base`;
- `owed`: written, seen by rounds, and in no committed set;
- `pending`: in the last committed set, but direct I/O may have been in flight while they were
  copied, so they are copied once more.

The order of one transaction: `begin`, `note` for each address space that was scanned, `end`,
`commit` with the number that `end` gave. A round that is not committed merges into the next one. A
commit that does not belong to the last round is refused and changes nothing.

The page that a client must write is in `must`, or in `populated` and not in `stored`. A page that
is not populated is in no set after the commit: should it come back, the kernel reports it written.

Not guaranteed: that the image set named by `base` still exists, or that a client tells the truth.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from ckpt.mem.extents import Extents
from ckpt.record import field, record

if TYPE_CHECKING:
    from ckpt.mem.tracking.engine import Found


class WrongRoundError(Exception):
    """A commit of a round that is not the last one, or was committed already."""


@record(frozen=True)
class Answer:
    """One address space, as a round found it; all within the ranges that were asked for.

    `must`: populated pages that are to be written whatever the parent image has. `populated`: pages
    with content of their own. `stored`: pages that `base` resolves. `untracked`: ranges of which
    every page is always in `must`. `io_contexts`: it has had some since it is tracked.
    """

    must: Extents
    populated: Extents
    stored: Extents
    untracked: Extents
    io_contexts: bool


@record
class Pages:
    """The sets of one address space."""

    stored: Extents = field(default_factory=Extents.none)
    owed: Extents = field(default_factory=Extents.none)
    pending: Extents = field(default_factory=Extents.none)
    io_contexts: bool = False


@record(frozen=True)
class _Noted:
    ranges: Extents
    must: Extents
    populated: Extents


class Ledger:
    """All address spaces of one keeper. `base`: the id of the image set that every `stored` is
    relative to; None: there was no commit yet."""

    def __init__(self) -> None:
        self.base: str | None = None
        self._pages: dict[int, Pages] = {}
        self._noted: dict[int, _Noted] = {}
        self._number = 0
        self._open = False

    def add(self, pid: int) -> None:
        """A new address space: nothing of it is stored. One of the same pid is forgotten."""
        self.drop(pid)
        self._pages[pid] = Pages()

    def inherit(self, pid: int, base: str, stored: Extents) -> None:
        """An address space that was made from the image set `base`, of which `stored` is unchanged.
        WrongRoundError: others are relative to another set."""
        if self.base not in (None, base):
            raise WrongRoundError(f"the base is {self.base}, not {base}")
        self.add(pid)
        self.base = base
        self._pages[pid].stored = stored

    def drop(self, pid: int) -> None:
        """Forget an address space; a commit of the round under way passes over it."""
        self._pages.pop(pid, None)
        self._noted.pop(pid, None)

    def forget(self) -> None:
        """Nothing is known of what was written: every next set is a whole one."""
        self.begin()
        self.base = None
        for pid, pages in self._pages.items():
            self._pages[pid] = Pages(io_contexts=pages.io_contexts)

    def __getitem__(self, pid: int) -> Pages:
        return self._pages[pid]

    def __iter__(self) -> Iterator[int]:
        return iter(self._pages)

    def begin(self) -> None:
        """A round begins; the one before can't be committed any more."""
        self._noted.clear()
        self._open = False

    def note(self, pid: int, ranges: Extents, found: Found) -> Answer:
        """Keep what the scan of `ranges` has consumed; what the client is to be told of it."""
        pages = self._pages[pid]
        pages.owed |= found.written
        must = (pages.owed | pages.pending) & found.populated
        self._noted[pid] = _Noted(ranges, must, found.populated)
        stored = pages.stored & ranges
        return Answer(must, found.populated, stored, found.untracked, pages.io_contexts)

    def end(self) -> int:
        """The round is whole; the number by which it can be committed, once."""
        self._number += 1
        self._open = True
        return self._number

    def commit(
        self,
        number: int,
        set_id: str,
        stored: Mapping[int, Extents],
        *,
        settled: Mapping[int, bool],
        io_contexts: Mapping[int, bool],
    ) -> None:
        """The image set `set_id` is whole and holds what round `number` demanded.

        `stored`: the pages of each address space that `set_id` resolves. Those not named are not
        in it. `settled`: every thread has crossed the border of the kernel between the round and
        the copying, so no direct I/O from before the round was in flight any more.
        """
        if not self._open or number != self._number:
            raise WrongRoundError(f"round {number} is not the last one, or is committed already")
        self._open = False
        self.base = set_id
        for pid, pages in self._pages.items():
            noted = self._noted.get(pid)
            if noted is None or pid not in stored:
                pages.stored = Extents.none()
                continue
            pages.stored = stored[pid] & noted.populated
            pages.owed -= noted.ranges
            pages.pending -= noted.ranges
            if not settled.get(pid):
                pages.pending |= noted.must
            pages.io_contexts |= io_contexts.get(pid, False)
        self._noted.clear()
