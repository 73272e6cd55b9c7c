"""Rings that packet sockets share with the kernel (PACKET_RX_RING): where the kernel is in one, and
what is in it.

A ring is slots: frames, or in version 3 blocks. The kernel fills them one after the other, and
hands each to the program by its status, which gives it back in the same way. Nothing tells which
slot is the next one. But the kernel has marked those that it has filled: frames with the time,
blocks with a number. So it is behind the newest mark, where marks fall, once in a ring. If they
fall twice, the clock was set back, and the place is not known until the ring has gone round.

The network goes on while the tree stands: what is looked at twice is the same twice, or was changed
meanwhile.

Source: packet(7), Documentation/networking/packet_mmap.rst, net/packet/af_packet.c.
"""

from __future__ import annotations

import mmap
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from ckpt.images.types import message_class

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

RING_IMAGE, KEPT_IMAGE = "ckpt-packet-ring", "ckpt-packet-kept"
FIELDS = (
    *("block_size", "block_nr", "frame_size", "frame_nr"),
    *("retire_tmo", "sizeof_priv", "features"),
)
PARAMS = struct.Struct("=7I")
USER = 1
V3 = 2
MOST_BYTES = 1 << 32
LARGEST_BLOCK = 32 << 20
"""A block has to fit into a message of the images."""
_AGE = {0: (20, struct.Struct("=II")), 1: (16, struct.Struct("=II")), 2: (24, struct.Struct("=Q"))}
"""By version: where the mark stands in a slot."""
_STATUS = {0: 0, 1: 0, 2: 8}
_NR_PACKETS, _LENGTH = 12, 20
_WORD = struct.Struct("=I")
_NR_LOOKS = 20


class Ring(NamedTuple):
    """As in packet_diag_ring and tpacket_req3; `version` as in PACKET_VERSION."""

    version: int
    block_size: int
    block_nr: int
    frame_size: int
    frame_nr: int
    retire_tmo: int
    sizeof_priv: int
    features: int

    @property
    def size(self) -> int:
        return self.block_size * self.block_nr

    @property
    def nr(self) -> int:
        """Of slots."""
        return self.block_nr if self.version == V3 else self.frame_nr

    @property
    def slot_size(self) -> int:
        return self.block_size if self.version == V3 else self.frame_size

    def at(self, slot: int) -> int:
        """Where a slot is."""
        if self.version == V3:
            return slot * self.block_size
        block, frame = divmod(slot, self.block_size // self.frame_size)
        return block * self.block_size + frame * self.frame_size

    def word_at(self, slot: int, field: int | None = None) -> int:
        """Where a slot has its status, or another field."""
        return self.at(slot) + (_STATUS[self.version] if field is None else field)

    def status(self, memory: mmap.mmap, slot: int) -> int:
        (found,) = _WORD.unpack_from(memory, self.word_at(slot))
        return int(found)

    def release(self, memory: mmap.mmap, slot: int) -> None:
        """Give a slot back to the kernel."""
        _WORD.pack_into(memory, self.word_at(slot), 0)

    def age(self, memory: mmap.mmap, slot: int) -> tuple[int, ...]:
        """The mark of a slot; zeros: the kernel was never there."""
        at, form = _AGE[self.version]
        return form.unpack_from(memory, self.at(slot) + at)

    def set_age(self, block: bytearray | mmap.mmap, slot_at: int, age: tuple[int, ...]) -> None:
        """The mark of the slot that begins at `slot_at`."""
        at, form = _AGE[self.version]
        form.pack_into(block, slot_at + at, *age)

    def fault(self) -> str:
        """Why it can be no ring, or none that the images have room for."""
        if self.version not in _STATUS or not 0 < self.size < MOST_BYTES:
            return "of no known kind or size"
        if not 32 <= self.frame_size <= self.block_size:
            return "with frames of no known size"
        if self.frame_nr != self.block_size // self.frame_size * self.block_nr:
            return "with another number of frames than it has room for"
        return "with blocks over 32 MiB" if self.slot_size > LARGEST_BLOCK else ""


class Place(NamedTuple):
    """Of a ring. `kept`: the slots that wait to be read, oldest first. `lost`: packets in a block
    that the kernel is at, and has not handed over."""

    head: int
    full: bool
    kept: list[tuple[int, bytes]]
    lost: int


def look(lfd: int, ring: Ring) -> Place | None:
    """What is in the ring of our descriptor. None: its place can't be told. Raises OSError."""
    with mmap.mmap(lfd, ring.size, mmap.MAP_SHARED, mmap.PROT_READ) as memory:
        before = None
        for _ in range(_NR_LOOKS):
            seen = [(ring.age(memory, i), ring.status(memory, i)) for i in range(ring.nr)]
            head = head_of(ring, [age for age, _ in seen], [bool(s & USER) for _, s in seen])
            # Of frames one look is enough: what came in between makes marks fall twice.
            if head is not None and (ring.version != V3 or seen == before):
                return _place(memory, ring, head, [bool(s & USER) for _, s in seen])
            before = seen
    return None


def head_of(ring: Ring, ages: Sequence[tuple[int, ...]], waiting: Sequence[bool]) -> int | None:
    """The slot that the kernel fills next, or is at."""
    nr = len(ages)
    falls = [i for i in range(nr) if ages[i] > ages[(i + 1) % nr]]
    if len(falls) > 1 or (nr > 1 and not falls and any(map(any, ages))):
        return None
    if not falls:
        return 0
    if ring.version == V3 and not waiting[falls[0]]:
        return falls[0]
    return (falls[0] + 1) % nr


def _place(memory: mmap.mmap, ring: Ring, head: int, waiting: Sequence[bool]) -> Place:
    kept = []
    for slot in (*range(head, ring.nr), *range(head)):
        if waiting[slot]:
            at, size = ring.at(slot), ring.slot_size
            if ring.version == V3:
                size = min(size, *_WORD.unpack_from(memory, at + _LENGTH))
            kept.append((slot, memory[at : at + size].rstrip(b"\0")))
    lost = 0
    if ring.version == V3 and not waiting[head]:
        (lost,) = _WORD.unpack_from(memory, ring.word_at(head, _NR_PACKETS))
    return Place(head, waiting[head], kept, lost)


def messages(file_id: int, place: Place) -> tuple[Any, Iterator[Any]]:
    """Those of both images."""
    head: Any = message_class("ckpt_packet_ring.ckpt_packet_ring_entry")
    kept: Any = message_class("ckpt_packet_ring.ckpt_packet_kept_entry")
    slots = (kept(id=file_id, slot=slot, data=data) for slot, data in place.kept)
    return head(id=file_id, head=place.head, full=place.full), slots
