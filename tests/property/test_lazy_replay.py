"""What a server of missing pages knows after any events, against a model of single pages."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckpt._native import lib
from ckpt.lazy.layout import Job, Task
from ckpt.mem.missing.contents import RUN, Contents, Source
from ckpt.units import PAGE

BASE = 0x7F00_0000_0000
NR = 64
FAULT, FORK, REMAP, REMOVE, UNMAP = 0x12, 0x13, 0x14, 0x15, 0x16
OPENED, CLOSED, QUIET, UNDONE, DONE = range(0xF0, 0xF5)
YOUNG, CHANGE = lib.CKPT_LAZY_YOUNG, lib.CKPT_LAZY_CHANGE
NOWHERE = (1 << 64) - 1
MESSAGE = struct.Struct("=B7x3Q")
SPACE = struct.Struct("=iiIIQ")

Memory = dict[int, tuple[int, int]]
"""Of each missing page, by number: its source and its place there, in pages."""


@dataclass
class Change:
    """Missing memory that has been moved, or unmapped (`to` is None), in pages."""

    start: int
    to: int | None
    nr: int
    pieces: Memory


@dataclass
class Space:
    """`changes`: since it was quiet. `parent`: of a young child."""

    memory: Memory
    changes: list[Change] = field(default_factory=list)
    parent: int = 0

    def move(self, start: int, to: int, nr: int) -> None:
        moved = {p - start + to: self.memory.pop(p) for p in within(self.memory, start, nr)}
        self.drop(to, nr)
        self.memory.update(moved)

    def drop(self, start: int, nr: int) -> None:
        for page in within(self.memory, start, nr):
            del self.memory[page]

    def note(self, start: int, to: int | None, nr: int) -> bool:
        pieces = {page: self.memory[page] for page in within(self.memory, start, nr)}
        kept = bool(pieces) or to is not None
        if kept:
            self.changes.append(Change(start, to, nr, pieces))
        return kept

    def undo(self, change: Change) -> None:
        if change.to is not None:
            self.drop(change.to, change.nr)
        self.memory = change.pieces | self.memory


def within(memory: Memory, start: int, nr: int) -> list[int]:
    return [page for page in memory if start <= page < start + nr]


pages = st.integers(0, NR - 1)
lengths = st.integers(1, 12)
events = st.lists(
    st.tuples(
        st.sampled_from([FAULT, FORK, REMAP, REMOVE, UNMAP, CLOSED, QUIET]), pages, pages, lengths
    ),
    max_size=40,
)
layouts = st.lists(
    st.tuples(st.integers(0, 6), st.integers(1, 9), st.integers(0, 2)), min_size=1, max_size=8
)


def runs_of(layout: list[tuple[int, int, int]]) -> Iterator[tuple[int, int, int, int]]:
    """Runs with gaps, in pages: start, end, source, place."""
    at = 0
    for gap, nr, source in layout:
        at += gap
        yield at, at + nr, source, at * 3
        at += nr


def address(page: int) -> int:
    return BASE + page * PAGE


def apply(spaces: dict[int, Space], uffd: int, event: tuple[int, int, int, int]) -> Iterator[bytes]:
    """The notes that follow it: what a server has found out, which is here a matter of chance."""
    kind, a, b, nr = event
    of = spaces[uffd]
    if kind == FORK:
        child = spaces[b] = Space(dict(of.memory), parent=uffd)
        for number in reversed(range(len(of.changes))):
            if a >> number % 6 & 1:
                child.undo(of.changes[number])
                yield MESSAGE.pack(UNDONE, b, number, 0)
    elif kind == REMOVE:
        of.drop(a, nr)
    elif kind == UNMAP:
        of.note(a, None, nr)
        of.drop(a, nr)
    elif kind == REMAP:
        noted = of.note(a, b, nr)
        of.move(a, b, nr)
        for other, space in spaces.items():
            if noted and space.parent == uffd and (a + other) % 2:
                space.move(a, b, nr)
                yield MESSAGE.pack(DONE, other, 0, 0)
    elif kind == QUIET:
        of.changes = []
        for space in spaces.values():
            if space.parent == uffd:
                space.parent = 0


def restless(spaces: dict[int, Space], uffd: int) -> bool:
    return bool(spaces[uffd].changes) or any(one.parent == uffd for one in spaces.values())


def message(event: tuple[int, int, int, int]) -> bytes:
    kind, a, b, nr = event
    if kind == FORK:
        return MESSAGE.pack(kind, b, 0, 0)
    if kind == REMAP:
        return MESSAGE.pack(kind, address(a), address(b), nr * PAGE)
    if kind in (REMOVE, UNMAP):
        return MESSAGE.pack(kind, address(a), address(a + nr), 0)
    return MESSAGE.pack(kind, 0, address(a), 0)


def read_layout(lfd: int) -> dict[int, Space]:
    data = Path(f"/proc/self/fd/{lfd}").read_bytes()
    rows: list[tuple[int, Space]] = []
    parents: list[int] = []
    at = 0
    while at < len(data):
        uffd, _, flags, other, nr = SPACE.unpack_from(data, at)
        at += SPACE.size
        runs = list(RUN.iter_unpack(data[at : at + nr * RUN.size]))
        at += nr * RUN.size
        if flags & CHANGE:
            start, end, to, _ = runs[0]
            where = None if to == NOWHERE else (to - BASE) // PAGE
            change = Change(
                (start - BASE) // PAGE, where, (end - start) // PAGE, pages_of(runs[1:])
            )
            rows[other][1].changes.append(change)
        else:
            parents.append(other if flags & YOUNG else -1)
            rows.append((uffd, Space(pages_of(runs))))
    for (_, space), parent in zip(rows, parents, strict=True):
        space.parent = rows[parent][0] if parent >= 0 else 0
    return {uffd: space for uffd, space in rows if uffd >= 0}


def pages_of(runs: list[tuple[int, int, int, int]]) -> Memory:
    return {
        (start - BASE) // PAGE + n: (source, place // PAGE + n)
        for start, end, source, place in runs
        for n in range((end - start) // PAGE)
    }


@settings(max_examples=150, deadline=None)
@given(layouts, st.tuples(events, events))
def test_a_successor_knows_what_its_predecessor_knew(
    layout: list[tuple[int, int, int]], halves: tuple[list[tuple[int, int, int, int]], ...]
) -> None:
    """Twice: the second one knows what the first has written down."""
    runs = list(runs_of(layout))
    packed = b"".join(RUN.pack(address(a), address(b), s, p * PAGE) for a, b, s, p in runs)
    contents = Contents([Source(lib.CKPT_LAZY_FILE, -1, 0, 1 << 30)] * 3, {1: packed})
    job = Job([Task(1, 1000, -1, [(BASE, address(1 << 20))], [], tracked=False)], contents)
    memory: Memory = {a + n: (s, p + n) for a, b, s, p in runs for n in range(b - a)}
    spaces = {1000: Space(memory)}
    try:
        for turn, happened in enumerate(halves):
            os.pwrite(job.job.journals[turn], b"".join(journal(spaces, happened)), 0)
            left = lib.ckpt_lazy_replay(job.job)
            assert left == sum(len(space.memory) for space in spaces.values())
            assert job.told.turn == 1 - turn
            assert read_layout(job.job.layouts[1 - turn]) == spaces
    finally:
        for lfd in (*job.job.layouts, *job.job.journals):
            os.close(lfd)


def journal(spaces: dict[int, Space], happened: list[tuple[int, int, int, int]]) -> Iterator[bytes]:
    """What a server writes of these events, which are applied to `spaces`."""
    for index, (kind, a, b, nr) in enumerate(happened):
        # Young ones are not listened to.
        old = sorted(uffd for uffd, space in spaces.items() if not space.parent)
        uffd = old[(a + b) % len(old)]
        if kind == CLOSED:
            if len(old) > 1 and not restless(spaces, uffd):
                del spaces[uffd]
                yield MESSAGE.pack(CLOSED, uffd, 0, 0)
            continue
        if kind == QUIET:
            yield from apply(spaces, uffd, (kind, a, b, nr))
            yield MESSAGE.pack(QUIET, uffd, 0, 0)
            continue
        if kind == FORK:
            b = max(spaces) + 1
        if kind == REMAP and a < b + nr and b < a + nr:
            continue
        if index % 3 == 0:
            yield MESSAGE.pack(OPENED, uffd, 0, 0)  # a server that was killed in read(2)
        yield MESSAGE.pack(OPENED, uffd, 0, 0)
        yield message((kind, a, b, nr))
        yield from apply(spaces, uffd, (kind, a, b, nr))


@pytest.mark.parametrize("data", [b"x" * 7, SPACE.pack(5, -1, 0, 0, 1 << 60)])
def test_a_damaged_layout_is_an_error(data: bytes) -> None:
    job = Job([], Contents())
    os.pwrite(job.job.layouts[0], data, 0)
    assert lib.ckpt_lazy_replay(job.job) < 0
    for lfd in (*job.job.layouts, *job.job.journals):
        os.close(lfd)
