"""One ring of io_uring, as a process that has its descriptor sees it: sizes, fields, memory.

Its memory is two regions, which any process may map: the rings with their counters, completions and
the array of submissions, and the submissions themselves. Where the fields are, only the kernel that
makes a ring tells, so one as large is made to ask.

Source: io_uring_setup(2), io_uring_enter(2), include/uapi/linux/io_uring.h.
"""

from __future__ import annotations

import mmap
import os
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from ckpt._native import ffi, lib
from ckpt.files.anonymous import address, made
from ckpt.units import PAGE

if TYPE_CHECKING:
    from collections.abc import Iterator

PARAMS = struct.Struct("=30I")
SQE_SIZE, _CQE_SIZE = 64, 16
SQ_RING, SQES = 0, 0x10000000
OFFSETS = (0, SQ_RING, 0x8000000, SQES)
"""What mmap(2) is asked for: IORING_OFF_SQ_RING, _CQ_RING and _SQES."""
_SETUP_CQSIZE = 8
_SQ_AT, _CQ_AT, _NR_OFFSETS = 10, 20, 7
_HEAD, _TAIL, _MASK, _ENTRIES, _FLAGS, _DROPPED, _ARRAY = range(7)
_CQ_OVERFLOW, _CQ_FLAGS = 4, 6
MOST_SQ, MOST_CQ = 1 << 15, 1 << 16


class Layout(NamedTuple):
    """Sizes, and where the fields are in the region of the rings."""

    sq_entries: int
    cq_entries: int
    offsets: tuple[int, ...]

    @classmethod
    def of(cls, params: bytes) -> Layout:
        """From the io_uring_params that the kernel has filled in."""
        words = PARAMS.unpack(params)
        sq, cq = (words[at : at + _NR_OFFSETS] for at in (_SQ_AT, _CQ_AT))
        return cls(words[0], words[1], (*sq, *cq))

    @property
    def array_at(self) -> int:
        return self.offsets[_ARRAY]

    @property
    def array_size(self) -> int:
        return 4 * self.sq_entries

    @property
    def rings_size(self) -> int:
        return self.array_at + self.array_size + PAGE - 1 & -PAGE

    @property
    def sqes_size(self) -> int:
        return SQE_SIZE * self.sq_entries + PAGE - 1 & -PAGE


class Counters(NamedTuple):
    """Of submissions and completions; all grow for ever, modulo 2**32."""

    sq_head: int
    sq_tail: int
    cq_head: int
    cq_tail: int


def params(cq_entries: int) -> bytes:
    """What io_uring_setup is to be asked for, beside the number of submissions."""
    return PARAMS.pack(0, cq_entries, _SETUP_CQSIZE, *[0] * 27)


def layout_here(sq_entries: int, cq_entries: int) -> Layout:
    """That of such a ring on this kernel. Raises OSError."""
    asked = ffi.new("uint8_t[]", params(cq_entries))
    os.close(made("io_uring_setup", sq_entries, address(asked)))
    return Layout.of(bytes(ffi.buffer(asked, PARAMS.size)))


@contextmanager
def region(lfd: int, size: int, at: int) -> Iterator[mmap.mmap]:
    """A region of the ring behind our descriptor. Raises OSError."""
    with mmap.mmap(lfd, size, offset=at) as memory:
        yield memory


def read_region(lfd: int, size: int, at: int) -> bytes:
    """What is in a region. A ring without an array may have a shorter one: zeros then, where
    touching it would be the end of us (SIGBUS). Raises OSError."""
    start = made("mmap", 0, size, mmap.PROT_READ, mmap.MAP_SHARED, lfd, at)
    try:
        data = bytearray(size)
        lib.ckpt_vm_read(os.getpid(), start, ffi.from_buffer(data), size)
    finally:
        made("munmap", start, size)
    return bytes(data)


def counters(rings: bytes | mmap.mmap, layout: Layout) -> Counters:
    sq, cq = layout.offsets[:_NR_OFFSETS], layout.offsets[_NR_OFFSETS:]
    places = (sq[_HEAD], sq[_TAIL], cq[_HEAD], cq[_TAIL])
    return Counters(*(struct.unpack_from("=I", rings, at)[0] for at in places))


def advance(lfd: int, rings: mmap.mmap, layout: Layout, nr: int) -> None:
    """Let a new ring take and complete `nr` submissions of nothing (IORING_OP_NOP, a zeroed one).
    Raises OSError."""
    sq, cq = layout.offsets[:_NR_OFFSETS], layout.offsets[_NR_OFFSETS:]
    array = struct.pack(f"={layout.sq_entries}I", *range(layout.sq_entries))
    rings[layout.array_at : layout.array_at + layout.array_size] = array
    done = 0
    while done < nr:
        some = min(nr - done, layout.sq_entries, layout.cq_entries)
        struct.pack_into("=I", rings, sq[_TAIL], done + some)
        if made("io_uring_enter", lfd, some, 0, 0, 0, 0) != some:
            raise OSError(5, "a ring takes no submissions")
        done += some
        struct.pack_into("=I", rings, cq[_HEAD], done)
    now = counters(rings, layout)
    if (now.sq_head, now.cq_tail) != (nr, nr):
        raise OSError(5, f"a ring counts {now}, not {nr}")


def content(rings: bytes, layout: Layout) -> bytes:
    """What stood in the region of the rings, fit for a ring with an array. One without
    (IORING_SETUP_NO_SQARRAY) has zeros there: submissions are taken in their order then."""
    array = rings[layout.array_at : layout.array_at + layout.array_size]
    if any(array):
        return rings
    identity = struct.pack(f"={layout.sq_entries}I", *range(layout.sq_entries))
    return rings[: layout.array_at] + identity + rings[layout.array_at + layout.array_size :]
