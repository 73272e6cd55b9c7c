"""How the pages of a running task are cut into pieces on their way to a page server."""

from __future__ import annotations

import pytest

from ckpt.dump.streaming import pieces
from ckpt.mem.extents import Extents
from ckpt.units import PAGE, TASK_SIZE

SIZE = 4 * PAGE


@pytest.mark.parametrize(
    "pages",
    [
        [],
        [(1, 5)],
        [(1, 5), (6, 7)],
        [(1, 3), (4, 6), (8, 9)],
        [(1, 14)],
        [(1, 2), (3, 6), (7, 15), (20, 21)],
    ],
)
def test_every_piece_is_whole_ranges(pages: list[tuple[int, int]]) -> None:
    """None is empty, also where a piece is full at the end of a range."""
    ranges = [(first * PAGE, last * PAGE) for first, last in pages]
    found = Extents.none()
    before = 0
    for piece, end in pieces(Extents.of(ranges), SIZE):
        assert all(start < stop for start, stop in piece)
        assert piece.nr_pages * PAGE <= SIZE
        assert all(before <= start and stop <= end for start, stop in piece)
        found |= piece
        before = end
    assert before == TASK_SIZE
    assert list(found) == ranges
