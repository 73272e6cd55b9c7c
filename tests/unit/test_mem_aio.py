"""Rings of AIO in images that nobody's dump would write."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from ckpt.images.types import message_class
from ckpt.mem import aio
from ckpt.mem.build import Memory, Pages
from ckpt.mem.vma import Backing, Status, Vma
from ckpt.units import PAGE, Range

WHERE = Range(0x10000, 0x10000 + 2 * PAGE)
NR = (2 * PAGE - 32) // 32


def head(**fields: int) -> bytes:
    known = {"id": 3, "nr": NR, "head": 1, "tail": 2, "magic": 0xA10A10A1}
    known |= {"c": 1, "i": 0, "len": 32}
    return struct.pack("<8I", *{**known, **fields}.values())


def entry(**fields: int) -> Any:
    cls: Any = message_class("mm.mm_entry")
    known = {"id": WHERE.start, "nr_req": 7, "ring_len": 2 * PAGE}
    return cls(aios=[{**known, **fields}])


def rings(mm: Any, data: bytes, nr_pages: int = 2) -> tuple[aio.Ring, ...]:
    status = Status.REGULAR | Status.AIORING
    v = Vma(range=WHERE, prot=3, flags=1, status=status, backing=Backing.RING)
    pages = Pages(Range(WHERE.start, WHERE.start + nr_pages * PAGE), 0, 0)
    whole = data.ljust(2 * PAGE, b"\0")
    return aio.rings(
        mm, Memory((v,), (pages,)), lambda p: whole[p.offset : p.offset + len(p.range)]
    )


def test_a_ring() -> None:
    (ring,) = rings(entry(), head())
    assert (ring.range, ring.nr, ring.head, ring.tail) == (WHERE, NR, 1, 2)
    assert aio.nr_requests(WHERE) == (NR - 2) // 2


@pytest.mark.parametrize(
    "fields",
    [{"nr": NR + 1}, {"head": NR}, {"tail": NR}, {"magic": 1}, {"c": 2}, {"i": 1}, {"len": 64}],
)
def test_heads_that_are_none(fields: dict[str, int]) -> None:
    assert aio.damage(WHERE, head(**fields))
    with pytest.raises(ValueError, match="its head"):
        rings(entry(), head(**fields))


def test_rings_that_are_not_those_of_the_mappings() -> None:
    with pytest.raises(ValueError, match="not those"):
        rings(entry(id=PAGE), head())
    with pytest.raises(ValueError, match="not those"):
        rings(message_class("mm.mm_entry")(), head())
    with pytest.raises(ValueError, match="as a whole"):
        rings(entry(ring_len=PAGE), head())
    with pytest.raises(ValueError, match="as a whole"):
        rings(entry(), head(), nr_pages=1)
