"""What a server of missing pages knows after any events, against a model of single pages."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
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
OPENED, CLOSED = 0xF0, 0xF1
MESSAGE = struct.Struct("=B7x3Q")
SPACE = struct.Struct("=iiIIQ")

Memory = dict[int, tuple[int, int]]
"""Of each missing page, by number: its source and its place there, in pages."""

pages = st.integers(0, NR - 1)
lengths = st.integers(1, 12)
events = st.lists(
    st.tuples(st.sampled_from([FAULT, FORK, REMAP, REMOVE, UNMAP, CLOSED]), pages, pages, lengths),
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


def apply(spaces: dict[int, Memory], uffd: int, event: tuple[int, int, int, int]) -> None:
    kind, a, b, nr = event
    memory = spaces[uffd]
    if kind == FORK:
        spaces[b] = dict(memory)
    elif kind in (REMOVE, UNMAP):
        for page in range(a, a + nr):
            memory.pop(page, None)
    elif kind == REMAP:
        moved = {page - a + b: memory.pop(page) for page in range(a, a + nr) if page in memory}
        for page in range(b, b + nr):
            memory.pop(page, None)
        memory.update(moved)


def message(event: tuple[int, int, int, int]) -> bytes:
    kind, a, b, nr = event
    if kind == FORK:
        return MESSAGE.pack(kind, b, 0, 0)
    if kind == REMAP:
        return MESSAGE.pack(kind, address(a), address(b), nr * PAGE)
    if kind in (REMOVE, UNMAP):
        return MESSAGE.pack(kind, address(a), address(a + nr), 0)
    return MESSAGE.pack(kind, 0, address(a), 0)


def read_layout(lfd: int) -> dict[int, Memory]:
    data = Path(f"/proc/self/fd/{lfd}").read_bytes()
    found: dict[int, Memory] = {}
    at = 0
    while at < len(data):
        uffd, _, _, _, nr = SPACE.unpack_from(data, at)
        at += SPACE.size
        memory: Memory = {}
        for start, end, source, place in RUN.iter_unpack(data[at : at + nr * RUN.size]):
            for n in range((end - start) // PAGE):
                memory[(start - BASE) // PAGE + n] = (source, place // PAGE + n)
        at += nr * RUN.size
        if uffd >= 0:
            found[uffd] = memory
    return found


@settings(max_examples=150)
@given(layouts, events)
def test_a_successor_knows_what_its_predecessor_knew(
    layout: list[tuple[int, int, int]], happened: list[tuple[int, int, int, int]]
) -> None:
    runs = list(runs_of(layout))
    packed = b"".join(RUN.pack(address(a), address(b), s, p * PAGE) for a, b, s, p in runs)
    contents = Contents([Source(lib.CKPT_LAZY_FILE, -1, 0, 1 << 30)] * 3, {1: packed})
    job = Job([Task(1, 1000, -1, [(BASE, address(1 << 20))], [], tracked=False)], contents)
    spaces: dict[int, Memory] = {
        1000: {a + n: (s, p + n) for a, b, s, p in runs for n in range(b - a)}
    }
    journal, born = [], 1000
    for index, (kind, a, b, nr) in enumerate(happened):
        uffd = sorted(spaces)[(a + b) % len(spaces)]
        if kind == CLOSED:
            if len(spaces) > 1:
                del spaces[uffd]
                journal.append(MESSAGE.pack(CLOSED, uffd, 0, 0))
            continue
        if kind == FORK:
            born += 1
            b = born
        if kind == REMAP and a < b + nr and b < a + nr:
            continue
        if index % 3 == 0:
            journal.append(MESSAGE.pack(OPENED, uffd, 0, 0))  # a server that was killed in read(2)
        journal += [MESSAGE.pack(OPENED, uffd, 0, 0), message((kind, a, b, nr))]
        apply(spaces, uffd, (kind, a, b, nr))
    os.pwrite(job.job.journals[0], b"".join(journal), 0)
    try:
        assert lib.ckpt_lazy_replay(job.job) == sum(map(len, spaces.values()))
        assert job.told.turn == 1
        assert read_layout(job.job.layouts[1]) == spaces
    finally:
        for lfd in (*job.job.layouts, *job.job.journals):
            os.close(lfd)


@pytest.mark.parametrize("data", [b"x" * 7, SPACE.pack(5, -1, 0, 0, 1 << 60)])
def test_a_damaged_layout_is_an_error(data: bytes) -> None:
    job = Job([], Contents())
    os.pwrite(job.job.layouts[0], data, 0)
    assert lib.ckpt_lazy_replay(job.job) < 0
    for lfd in (*job.job.layouts, *job.job.journals):
        os.close(lfd)
