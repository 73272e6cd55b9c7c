"""Pages and half-open ranges."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckpt.units import PAGE, Range, gaps, merge, page_down, page_up

SMALL = st.tuples(st.integers(0, 60), st.integers(0, 60)).map(lambda p: Range(min(p), max(p)))


def covered(ranges: list[Range]) -> set[int]:
    return {addr for r in ranges for addr in range(r.start, r.end)}


@pytest.mark.parametrize(
    ("addr", "down", "up"),
    [
        (0, 0, 0),
        (1, 0, PAGE),
        (PAGE, PAGE, PAGE),
        (PAGE + 1, PAGE, 2 * PAGE),
        (2**64, 2**64, 2**64),
    ],
)
def test_page_borders(addr: int, down: int, up: int) -> None:
    assert (page_down(addr), page_up(addr)) == (down, up)


def test_range() -> None:
    r = Range(0x1000, 0x3000)
    assert len(r) == 0x2000
    assert r.nr_pages == 2
    assert 0x1000 in r
    assert 0x3000 not in r
    assert str(r) == "1000-3000"
    assert not Range(5, 5)
    assert r.intersection(Range(0x2000, 0x9000)) == Range(0x2000, 0x3000)
    assert r.intersection(Range(0x3000, 0x9000)) is None
    assert not r.overlaps(Range(0x3000, 0x4000))


@pytest.mark.parametrize("ends", [(2, 1), (-1, 1)])
def test_no_range(ends: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="not a range"):
        Range(*ends)


@given(st.lists(SMALL, max_size=10))
def test_merge_covers_the_same(ranges: list[Range]) -> None:
    merged = merge(ranges)
    assert covered(merged) == covered(ranges)
    assert all(a.end < b.start for a, b in pairwise(merged))


@given(st.lists(SMALL, max_size=10), SMALL)
def test_gaps_are_what_is_left(ranges: list[Range], within: Range) -> None:
    found = list(gaps(ranges, within))
    assert covered(found) == covered([within]) - covered(ranges)
    assert all(found)


@given(SMALL, SMALL)
def test_overlap_and_intersection_agree(a: Range, b: Range) -> None:
    both = covered([a]) & covered([b])
    common = a.intersection(b)
    assert (covered([common]) if common else set()) == both
    if a and b:
        assert a.overlaps(b) == bool(both)
