"""What two image sets say differently of the memory of the tasks that are in both.

Chains are resolved, so that it does not matter which set of a chain holds a page. Three things are
asked, the cheapest first: is it the very same place of the same file (sets of one chain share most
of theirs); do blocks of equal sums (ckpt.images.checksums) stand there; and only then, are the
bytes the same, which is the `Comparer`'s work, in C.

A page that only one set has differs, unless it is zeros in memory that reads as zeros without it.
Mappings are compared by address: memory that moved is gone here and new there.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from ckpt.images import directory as files_of
from ckpt.images.mappings import UNKNOWN, NamedMapping, mappings_of
from ckpt.images.types import file_name, parse_name
from ckpt.record import field, record
from ckpt.units import PAGE_SHIFT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ckpt.images.chain import Chain, Piece
    from ckpt.images.checksums import FileSum

ZEROS = -1


class Pair(NamedTuple):
    """Pages at `at_a` of our descriptor `lfd_a`, and at `at_b` of `lfd_b`. ZEROS is a descriptor,
    too."""

    lfd_a: int
    lfd_b: int
    at_a: int
    at_b: int
    nr_pages: int


Comparer = Callable[[Sequence[Pair]], Sequence[int]]
"""How many pages differ, for each pair. Raises ImageError."""


@record
class MappingDiff:
    """Addresses that are one mapping in set A, or none, and one in set B, or none. In pages:
    `changed` are in both sets, `only_a` and `only_b` in one of them."""

    start: int
    end: int
    a: NamedMapping | None
    b: NamedMapping | None
    changed: int = 0
    only_a: int = 0
    only_b: int = 0

    @property
    def pages(self) -> int:
        return self.changed + self.only_a + self.only_b

    @property
    def differs(self) -> bool:
        """A mapping that is only in one of them differs without any pages, too."""
        return bool(self.pages) or self.a is None or self.b is None or self.a.perms != self.b.perms


@record
class MemoryDiff:
    """One task, or one object of shared memory: `name` is "pagemap-7" or "pagemap-shmem-9".
    `in_a`, `in_b`: whether that set has it. `mappings` are those that differ, of `nr_mappings`."""

    name: str
    in_a: bool
    in_b: bool
    nr_mappings: int = 0
    mappings: list[MappingDiff] = field(default_factory=list)

    @property
    def number(self) -> int:
        """The pid, or the object's id."""
        return parse_name(self.name).number or 0

    @property
    def shared(self) -> bool:
        return parse_name(self.name).type.stem != "pagemap"

    @property
    def pages(self) -> int:
        return sum(one.pages for one in self.mappings)


def diff(a: Chain, b: Chain, compare: Comparer) -> list[MemoryDiff]:
    """All that has pages in either, tasks first. Raises ImageError if a set is damaged, or lacks
    pages."""
    in_a, in_b = set(a.page_images()), set(b.page_images())
    return [
        _Comparison(a, b, name, name in in_a, name in in_b, compare).run()
        for name in sorted(in_a | in_b, key=_order)
    ]


def _order(name: str) -> tuple[str, int]:
    parsed = parse_name(name)
    return parsed.type.stem, parsed.number or 0


class _Part(NamedTuple):
    """Addresses with their place in each set: number of layer, N of pages-N.img, offset; None where
    the set has none."""

    start: int
    end: int
    a: tuple[int, int, int] | None
    b: tuple[int, int, int] | None


class _Comparison:
    """The same pagemap of two chains, or that of one and nothing."""

    def __init__(
        self, a: Chain, b: Chain, name: str, in_a: bool, in_b: bool, compare: Comparer
    ) -> None:
        self._chains = (a, b)
        self._found = MemoryDiff(name, in_a, in_b)
        self._in = (in_a, in_b)
        self._compare = compare
        self._files: dict[tuple[int, int, int], int] = {}
        self._same: dict[int, tuple[int, int]] = {}
        self._sums: dict[int, FileSum | None] = {}

    def run(self) -> MemoryDiff:
        name = self._found.name
        rows = self._rows()
        self._found.nr_mappings = len(rows)
        places = [
            list(_placed(chain.resolve(name))) if there else []
            for chain, there in zip(self._chains, self._in, strict=True)
        ]
        with ExitStack() as scope:
            self._scope = scope
            self._count(rows, _parts(*places))
        self._found.mappings = [row for row in rows if row.differs]
        return self._found

    def _rows(self) -> list[MappingDiff]:
        if self._found.shared:
            whole = NamedMapping(0, 1 << 64, "rw-s", f"[shared {self._found.number}]", True)
            a, b = (whole if there else None for there in self._in)
            return [MappingDiff(whole.start, whole.end, a, b)]
        lists = [
            mappings_of(chain.layers[0], self._found.number) if there else []
            for chain, there in zip(self._chains, self._in, strict=True)
        ]
        return list(_side_by_side(*lists))

    def _count(self, rows: list[MappingDiff], parts: Iterable[_Part]) -> None:
        asked: list[Pair] = []
        answers: list[tuple[MappingDiff, str]] = []
        for row, part in _assigned(rows, parts):
            what = "changed" if part.a and part.b else "only_a" if part.a else "only_b"
            one = row.a or row.b
            if what != "changed" and not (one and one.zeros):
                _add(row, what, (part.end - part.start) >> PAGE_SHIFT)
                continue
            for pair in self._unlike(part):
                asked.append(pair)
                answers.append((row, what))
        for (row, what), nr in zip(answers, self._compare(asked), strict=True):
            _add(row, what, nr)

    def _unlike(self, part: _Part) -> Iterator[Pair]:
        """What of it must be looked at."""
        lfd_a, at_a = self._open(0, part.a)
        lfd_b, at_b = self._open(1, part.b)
        size = part.end - part.start
        if ZEROS in (lfd_a, lfd_b):
            yield Pair(lfd_a, lfd_b, at_a, at_b, size >> PAGE_SHIFT)
        elif self._same[lfd_a] != self._same[lfd_b] or at_a != at_b:
            sums = self._sums[lfd_a], self._sums[lfd_b]
            for start, end in _unsummed(sums, at_a, at_b, size):
                nr_pages = (end - start) >> PAGE_SHIFT
                yield Pair(lfd_a, lfd_b, at_a + start, at_b + start, nr_pages)

    def _open(self, side: int, place: tuple[int, int, int] | None) -> tuple[int, int]:
        if place is None:
            return ZEROS, 0
        layer, pages, offset = place
        key = side, layer, pages
        if key not in self._files:
            images = self._chains[side].layers[layer]
            file = file_name("pages", pages)
            lfd = files_of.open_existing(images.dir_lfd, file, f"{images.directory}/{file}")
            self._scope.callback(os.close, lfd)
            status = os.fstat(lfd)
            self._files[key] = lfd
            self._same[lfd] = status.st_dev, status.st_ino
            self._sums[lfd] = images.sum_of(file)
        return self._files[key], offset


def _add(row: MappingDiff, what: str, nr: int) -> None:
    setattr(row, what, getattr(row, what) + nr)


def _placed(pieces: Iterable[Piece]) -> Iterator[tuple[int, int, tuple[int, int, int]]]:
    """Pages that are in no file (lazy ones) are left out."""
    for start, end, layer, pages, offset, _ in pieces:
        if offset is not None:
            yield start, end, (layer, pages, offset)


def _parts(
    a: Sequence[tuple[int, int, tuple[int, int, int]]],
    b: Sequence[tuple[int, int, tuple[int, int, int]]],
) -> Iterator[_Part]:
    """Both lists of pieces, ascending, cut where either is."""
    i = j = at = 0
    while i < len(a) or j < len(b):
        start_a, end_a, place_a = a[i] if i < len(a) else (1 << 64, 1 << 64, (0, 0, 0))
        start_b, end_b, place_b = b[j] if j < len(b) else (1 << 64, 1 << 64, (0, 0, 0))
        start = max(at, min(start_a, start_b))
        inside_a, inside_b = start_a <= start, start_b <= start
        end = min(end_a if inside_a else start_a, end_b if inside_b else start_b)
        yield _Part(
            start,
            end,
            _moved(place_a, start - start_a) if inside_a else None,
            _moved(place_b, start - start_b) if inside_b else None,
        )
        at = end
        i += end_a <= at
        j += end_b <= at


def _moved(place: tuple[int, int, int], by: int) -> tuple[int, int, int]:
    return place[0], place[1], place[2] + by


def _side_by_side(a: list[NamedMapping], b: list[NamedMapping]) -> Iterator[MappingDiff]:
    """Addresses of mappings, cut where a mapping of either set begins or ends."""
    if UNKNOWN in a or UNKNOWN in b:
        known = [one for one in (*a, *b) if one is not UNKNOWN]
        a, b = (known if UNKNOWN in side else side for side in (a, b))
        if not known:
            yield MappingDiff(UNKNOWN.start, UNKNOWN.end, UNKNOWN, UNKNOWN)
            return
    borders: defaultdict[int, list[NamedMapping | None]] = defaultdict(lambda: [None, None])
    for side, mappings in enumerate((a, b)):
        for one in mappings:
            borders[one.start], borders[one.end]
            borders[one.start][side] = one
    inside: list[NamedMapping | None] = [None, None]
    at = 0
    for border in sorted(borders):
        if inside[0] or inside[1]:
            yield MappingDiff(at, border, inside[0], inside[1])
        for side, begun in enumerate(borders[border]):
            last = inside[side]
            if begun or (last and last.end <= border):
                inside[side] = begun
        at = border


def _assigned(
    rows: Sequence[MappingDiff], parts: Iterable[_Part]
) -> Iterator[tuple[MappingDiff, _Part]]:
    """Each part, cut at the borders of rows. Pages of no mapping (a damaged or foreign set) belong
    to no row and are left out."""
    at = 0
    for part in parts:
        start = part.start
        while start < part.end:
            while at < len(rows) and rows[at].end <= start:
                at += 1
            if at == len(rows) or rows[at].start >= part.end:
                break
            row = rows[at]
            start = max(start, row.start)
            end = min(part.end, row.end)
            by = start - part.start
            yield (
                row,
                _Part(
                    start,
                    end,
                    _moved(part.a, by) if part.a else None,
                    _moved(part.b, by) if part.b else None,
                ),
            )
            start = end


def _unsummed(
    sums: tuple[FileSum | None, FileSum | None], at_a: int, at_b: int, size: int
) -> Iterator[tuple[int, int]]:
    """What of `size` bytes, counted from both places, is not in whole blocks of equal sums."""
    a, b = sums
    if a is None or b is None or a.block != b.block or at_a % a.block != at_b % b.block:
        yield 0, size
        return
    block = a.block
    start = 0
    at = -at_a % block
    while at + block <= size:
        index_a, index_b = (at_a + at) // block, (at_b + at) // block
        if _intact(a, index_a) and _intact(b, index_b) and a.sums[index_a] == b.sums[index_b]:
            if start < at:
                yield start, at
            start = at + block
        at += block
    if start < size:
        yield start, size


def _intact(one: FileSum, index: int) -> bool:
    """Whether the sum is of a whole block of pages that are all there."""
    if (index + 1) * one.block > one.size:
        return False
    begin = index * one.block
    return not any(start < begin + one.block and begin < end for start, end in one.punched)
