"""Where the kernel is in the ring of a packet socket, told by what it has marked."""

from __future__ import annotations

import pytest

from ckpt.files.packetring import Ring, head_of

FRAMES = Ring(1, 8192, 1, 2048, 4, 0, 0, 0)
BLOCKS = Ring(2, 4096, 4, 2048, 8, 1, 0, 0)


@pytest.mark.parametrize(
    ("ages", "head"),
    [
        ("0000", 0),
        ("1000", 1),
        ("1200", 2),
        ("1220", 3),
        ("1234", 0),
        ("5234", 1),
        ("5634", 2),
        ("3330", 3),
        ("0300", 2),
        ("2001", 1),
        # Set back once and gone round since; in between; and nothing to go by.
        ("4312", None),
        ("1324", None),
        ("3333", None),
    ],
)
def test_frames(ages: str, head: int | None) -> None:
    marks = [(int(age), 0) for age in ages]
    assert head_of(FRAMES, marks, [False] * 4) == head
    assert head_of(FRAMES, marks, [True] * 4) == head


@pytest.mark.parametrize(
    ("ages", "waiting", "head"),
    [
        ("1000", "----", 0),
        ("1200", "w---", 1),
        ("5634", "ww--", 2),
        ("5634", "w-ww", 1),
        ("5634", "wwww", 2),
        ("5678", "-www", 0),
    ],
)
def test_blocks(ages: str, waiting: str, head: int) -> None:
    """The newest is open, or handed over as the last for which there was room."""
    marks = [(int(age),) for age in ages]
    assert head_of(BLOCKS, marks, [one == "w" for one in waiting]) == head


def test_one_slot() -> None:
    assert head_of(FRAMES, [(7, 0)], [True]) == 0
    assert head_of(BLOCKS, [(7,)], [False]) == 0


@pytest.mark.parametrize("slot", range(4))
def test_slots_do_not_cross_blocks(slot: int) -> None:
    ring = Ring(0, 4096, 2, 1536, 4, 0, 0, 0)
    assert not ring.fault()
    assert ring.at(slot) == (0, 1536, 4096, 5632)[slot]
