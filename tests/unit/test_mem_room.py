"""The room of mappings: against a plain account of which addresses nobody else has."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ckpt.mem.room import listed
from ckpt.procfs.maps import Mapping
from ckpt.units import PAGE, TASK_SIZE

_SIZES = st.tuples(st.integers(0, 2), st.integers(1, 3), st.booleans(), st.booleans())


def mapping(start: int, end: int, ino: int = 0) -> Mapping:
    return Mapping(start, end, "rw-p", 0, (0, 0), ino, "")


@given(st.lists(_SIZES, max_size=8))
def test_room(sizes: list[tuple[int, int, bool, bool]]) -> None:
    """Each range is in a room that touches no other mapping, and reaches up to the next one; what
    touches its like is in one room with it."""
    mappings, some, at = [], [], 16
    for gap, size, wanted, has_file in sizes:
        one = mapping((at + gap) * PAGE, (at + gap + size) * PAGE, int(has_file))
        at += gap + size
        mappings.append(one)
        if wanted:
            some.append(one)
    now = listed(mappings, [(one.start, one.end) for one in some])
    assert list(now.ranges) == [(one.start, one.end) for one in some]
    rooms = list(now.room)
    assert rooms == sorted(rooms)
    assert all(before[1] <= after[0] for before, after in pairwise(rooms))
    for one in some:
        inside = [room for room in rooms if room[0] <= one.start and one.end <= room[1]]
        assert len(inside) == 1
        position = mappings.index(one)
        above = mappings[position + 1] if position + 1 < len(mappings) else None
        if above is None:
            assert inside[0][1] == one.end
        elif above not in some or above.start > one.end or above.has_file != one.has_file:
            assert inside[0][1] == above.start
        else:
            assert inside[0][1] >= above.end
    for one in mappings:
        if one not in some:
            assert all(one.end <= first or last <= one.start for first, last in rooms)


def test_room_ends_with_the_address_space() -> None:
    """[vsyscall] is above it."""
    vsyscall = mapping(0xFFFF_FFFF_FF60_0000, 0xFFFF_FFFF_FF60_1000, 1)
    now = listed([mapping(PAGE, 2 * PAGE), vsyscall], [(PAGE, 2 * PAGE)])
    assert list(now.room) == [(PAGE, TASK_SIZE)]
