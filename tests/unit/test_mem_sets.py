"""Sets of pages against Python's own sets of page numbers."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckpt.mem.extents import Extents
from ckpt.units import PAGE

PAGES = st.sets(st.integers(0, 40), max_size=41)


def cut(pages: set[int], cuts: set[int]) -> list[tuple[int, int]]:
    """Ranges of `pages`, in runs that are divided before each page of `cuts`."""
    found: list[tuple[int, int]] = []
    for page in sorted(pages):
        if found and found[-1][1] == page * PAGE and page not in cuts:
            found[-1] = (found[-1][0], (page + 1) * PAGE)
        else:
            found.append((page * PAGE, (page + 1) * PAGE))
    return found


def merged(pages: set[int]) -> list[tuple[int, int]]:
    return cut(pages, set())


@given(PAGES, PAGES, PAGES, PAGES)
def test_operations(a: set[int], b: set[int], cuts_a: set[int], cuts_b: set[int]) -> None:
    left, right = Extents.of(cut(a, cuts_a)), Extents.of(cut(b, cuts_b))
    assert list(left | right) == merged(a | b)
    assert list(left & right) == merged(a & b)
    assert list(left - right) == merged(a - b)


@given(PAGES, PAGES, PAGES)
def test_operations_on_results(a: set[int], b: set[int], c: set[int]) -> None:
    """One of which may be an operand itself, where the other is empty."""
    both, last = Extents.of(cut(a, a)) | Extents.of(cut(b, b)), Extents.of(cut(c, c))
    assert list(both | last) == list(last | both) == merged(a | b | c)
    assert list(both - last) == merged((a | b) - c)
    assert list(both & last) == list(last & both) == merged((a | b) & c)


@given(PAGES, PAGES)
def test_bytes_and_back(pages: set[int], cuts: set[int]) -> None:
    ranges = cut(pages, cuts)
    raw = Extents.of(ranges).to_bytes()
    assert raw == b"".join(struct.pack("=QQ", *pair) for pair in ranges)
    assert list(Extents.from_bytes(raw)) == ranges


@given(st.lists(st.integers(0, (1 << 64) - 1), max_size=8))
def test_anything_from_outside(words: list[int]) -> None:
    """Taken exactly if it is a set: ascending, disjoint, of whole pages, none empty."""
    raw = struct.pack(f"={len(words)}Q", *words)
    good = len(words) % 2 == 0 and all(w % PAGE == 0 and w < 1 << 63 for w in words)
    pairs = list(zip(words[::2], words[1::2], strict=False))
    good = good and all(start < end for start, end in pairs)
    good = good and all(a[1] <= b[0] for a, b in pairwise(pairs))
    if good:
        assert list(Extents.from_bytes(raw)) == pairs
    else:
        with pytest.raises(ValueError):
            Extents.from_bytes(raw)


@pytest.mark.parametrize(
    "words",
    [
        (PAGE,),
        (PAGE, PAGE),
        (2 * PAGE, PAGE),
        (PAGE, 2 * PAGE + 1),
        (1, PAGE),
        (PAGE, 3 * PAGE, 2 * PAGE, 4 * PAGE),
        (4 * PAGE, 5 * PAGE, PAGE, 2 * PAGE),
        (0, 1 << 63),
    ],
)
def test_refused(words: tuple[int, ...]) -> None:
    with pytest.raises(ValueError):
        Extents.from_bytes(struct.pack(f"={len(words)}Q", *words))
    with pytest.raises(ValueError):
        Extents.from_bytes(struct.pack(f"={len(words)}Q", *words) + b"\0")


def test_none() -> None:
    none = Extents.none()
    one = Extents.of([(PAGE, 3 * PAGE)])
    assert list(none) == list(none | none) == list(none - one) == list(one - one) == []
    assert list(none | one) == list(one - none) == [(PAGE, 3 * PAGE)]
    assert none.to_bytes() == b"" and not none and none.nr_pages == 0
    assert not Extents.from_bytes(b"")


def test_any_operand_does_no_harm() -> None:
    """Ranges that are no set give no meaning, but stay inside of what was allocated."""
    odd = Extents.of([(5 * PAGE, PAGE), (PAGE, PAGE), (0, 9 * PAGE), (PAGE, 2 * PAGE)])
    for result in (odd | odd, odd & odd, odd - odd, odd | Extents.of([(0, PAGE)])):
        assert len(result) <= 8
