"""Runs of pages and their places."""

from __future__ import annotations

import time
from typing import Any

import pytest

from ckpt.errors import ImageError
from ckpt.images import framing
from ckpt.images.pagemap import (
    PE_LAZY,
    PE_PARENT,
    PE_PRESENT,
    Run,
    from_messages,
    merge_runs,
    pagemap_messages,
)
from ckpt.units import PAGE, Range
from tests.support.image_set import new


def head(number: int = 3) -> Any:
    return new("pagemap.pagemap_head", pages_id=number)


def entry(addr: int, compat: int = 1, **fields: Any) -> Any:
    return new("pagemap.pagemap_entry", vaddr=addr, compat_nr_pages=compat, **fields)


def test_runs_keep_their_places() -> None:
    runs = [
        Run(0x1000, 2, PE_PRESENT),
        Run(0x3000, 1, PE_PARENT),
        Run(0x9000, 5, PE_PRESENT | PE_LAZY),
        Run(0x20000, 1, PE_LAZY),
        Run(0x30000, 1, PE_PRESENT),
    ]
    pagemap = from_messages(pagemap_messages(3, runs), "f", 8 * PAGE)
    assert (pagemap.pages, list(pagemap.runs), pagemap.nr_present) == (3, runs, 8)
    assert [(e.range, e.offset) for e in pagemap.extents()] == [
        (Range(0x1000, 0x3000), 0),
        (Range(0x3000, 0x4000), None),
        (Range(0x9000, 0xE000), 2 * PAGE),
        (Range(0x20000, 0x21000), None),
        (Range(0x30000, 0x31000), 7 * PAGE),
    ]


def test_neighbours_become_one_run() -> None:
    runs = [Run(0, 1, 4), Run(PAGE, 1, 4), Run(2 * PAGE, 1, 1), Run(4 * PAGE, 1, 1)]
    assert merge_runs(runs) == [Run(0, 2, 4), Run(2 * PAGE, 1, 1), Run(4 * PAGE, 1, 1)]


@pytest.mark.parametrize(
    "runs", [[Run(PAGE, 1, 4), Run(0, 1, 4)], [Run(0, 2, 4), Run(PAGE, 1, 4)], [Run(1, 1, 4)]]
)
def test_runs_that_are_none(runs: list[Run]) -> None:
    with pytest.raises(ValueError, match="not a run"):
        merge_runs(runs)


def test_both_counts_are_written_and_long_runs_split() -> None:
    long = (1 << 32) + 5
    messages: list[Any] = pagemap_messages(1, [Run(0, long, PE_PARENT)])
    counts = [(m.compat_nr_pages, m.nr_pages) for m in messages[1:]]
    assert counts == [((1 << 32) - 1, (1 << 32) - 1), (6, 6)]
    assert messages[2].vaddr == ((1 << 32) - 1) * PAGE
    assert sum(run.nr_pages for run in from_messages(messages, "f").runs) == long


def test_either_count_is_read() -> None:
    old = from_messages([head(), entry(PAGE, 7)], "f")
    new_one = from_messages([head(), entry(PAGE, 0, nr_pages=7, flags=4)], "f")
    assert old.runs == new_one.runs == [Run(PAGE, 7, PE_PRESENT)]


def test_sets_without_flags() -> None:
    pagemap = from_messages([head(), entry(0), entry(PAGE, in_parent=True)], "f", PAGE)
    assert [run.flags for run in pagemap.runs] == [PE_PRESENT, PE_PARENT]


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ([entry(PAGE + 1)], "no run"),
        ([entry(PAGE, 0)], "no run"),
        ([entry(PAGE, 1, nr_pages=0)], "no run"),
        ([entry((1 << 64) - PAGE, 1)], "no run"),
        ([entry(PAGE, 1, nr_pages=1 << 63)], "no run"),
        ([entry(PAGE, 2), entry(2 * PAGE)], "begins before"),
        ([entry(2 * PAGE), entry(PAGE)], "begins before"),
        ([entry(PAGE, flags=0)], "make no sense"),
        ([entry(PAGE, flags=PE_PARENT | PE_PRESENT)], "make no sense"),
        ([entry(PAGE, flags=PE_PRESENT, in_parent=True)], "make no sense"),
        ([entry(PAGE, flags=12)], "make no sense"),
        ([entry(PAGE, flags=4, blocks=b"")], "compressed"),
    ],
)
def test_nonsense_is_refused(entries: list[Any], why: str) -> None:
    with pytest.raises(ImageError, match=f"x.img: .*{why}"):
        from_messages([head(), *entries], "x.img")


def test_pages_must_be_as_many_as_told() -> None:
    messages = pagemap_messages(3, [Run(0, 2, PE_PRESENT)])
    for size in (0, PAGE, 2 * PAGE + 1, 3 * PAGE):
        with pytest.raises(ImageError, match=r"pages-3.img: has .* tells of 2 pages"):
            from_messages(messages, "f", size)
    with pytest.raises(ImageError, match="no head"):
        from_messages([], "f")


def test_many_runs_are_quick() -> None:
    runs = [Run(number * 2 * PAGE, 1, PE_PRESENT) for number in range(20_000)]
    start = time.process_time()
    data = framing.encode("pagemap-1", pagemap_messages(1, runs))
    messages = [record.message for record in framing.decode("pagemap-1", data)]
    assert len(list(from_messages(messages, "f").extents())) == len(runs)
    assert time.process_time() - start < 2
