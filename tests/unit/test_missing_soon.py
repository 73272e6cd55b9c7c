"""What of late memory is wanted at once."""

from __future__ import annotations

from ckpt.mem.missing.soon import Thread, wanted_soon
from ckpt.units import PAGE, Range


def pages(first: int, last: int) -> Range:
    return Range(first * PAGE, last * PAGE)


def test_around_the_registers_then_small_mappings() -> None:
    late = [pages(100, 104), pages(1000, 2000), pages(3000, 4000)]
    thread = Thread(sp=1500 * PAGE + 8, tp=102 * PAGE, ip=1 << 46)
    assert wanted_soon(late, [thread]) == [pages(1499, 1508), pages(101, 104), pages(100, 104)]


def test_only_what_comes_late() -> None:
    late = [pages(10, 11), pages(12, 1012)]
    thread = Thread(sp=11 * PAGE, tp=5000 * PAGE, ip=2**64 - 1)
    assert wanted_soon(late, [thread])[:2] == [pages(10, 11), pages(12, 19)]
    assert wanted_soon([], [thread]) == []


def test_at_address_zero() -> None:
    assert wanted_soon([pages(0, 1000)], [Thread(0, 0, 0)]) == [
        pages(0, 8),
        pages(0, 2),
        pages(0, 4),
    ]


def test_not_everything_of_many() -> None:
    late = [pages(n * 100, n * 100 + 64) for n in range(1000)]
    assert wanted_soon(late, []) == late[:16]
