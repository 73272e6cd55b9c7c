"""Which system calls of a thread pass, as the kernel tells it and as prctl(2) takes it."""

from __future__ import annotations

import pytest

from ckpt._native import ffi
from ckpt.tracee.dispatch import FROM_ELSEWHERE, FROM_RANGE, Dispatch, told

TOP = 1 << 64


def raw(mode: int, offset: int, length: int, selector: int = 0x5000) -> ffi.CData:
    fields = {"mode": mode, "selector": selector, "offset": offset, "len": length}
    return ffi.new("struct ckpt_dispatch *", fields)


@pytest.mark.parametrize("offset", [0, 0x7000])
def test_off(offset: int) -> None:
    assert told(raw(0, offset, 0)) is None


@pytest.mark.parametrize(
    ("offset", "length"), [(0, 0), (0, 1 << 47), (0x7000, 0x1000), (0x7000, TOP - 0x7001)]
)
def test_a_range_stays_one(offset: int, length: int) -> None:
    expected = Dispatch(FROM_RANGE, offset, length, 0x5000)
    assert told(raw(FROM_RANGE, offset, length)) == expected


@pytest.mark.parametrize(("offset", "length"), [(0x7000, 0x1000), (0, 0x1000), (0x7000, 1)])
def test_a_range_around_the_end_is_the_rest_of_another(offset: int, length: int) -> None:
    """The kernel turns FROM_ELSEWHERE into its complement, and does not take that back."""
    kept = raw(FROM_RANGE, offset + length, TOP - length)
    assert told(kept) == Dispatch(FROM_ELSEWHERE, offset, length, 0x5000)
