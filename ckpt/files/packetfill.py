"""Receive rings of packet sockets on the way out of the images; see ckpt.files.packetring.

A new ring begins with its first slot, and only packets move it on. So it is sent as many frames as
it needs, over loopback, of a type for experiments (IEEE 802) and with a word of ours that its
filter asks for: nobody else's are counted. (Who listens to all of loopback sees them.) That is
before the socket gets its own address and filter. Then what waited to be read is put into place.

Blocks (version 3) are filled until the kernel opens the one that is wanted, with a packet in it
that found no room in the one before. That packet is taken out again: the block says that its first
one is behind it, and that it has none. (A first packet that would have filled the block then comes
after one without any.) A timer that was faster has handed the block over: then the ring goes round
once more. Numbers of blocks begin with 1 anew.

Source: as ckpt.files.packetring; prb_fill_curr_block() and prb_retire_rx_blk_timer_expired().
"""

from __future__ import annotations

import errno
import mmap
import os
import socket
import struct
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from ckpt._native import ffi
from ckpt.errors import ImageError
from ckpt.files.anonymous import address, made
from ckpt.files.packetring import KEPT_IMAGE, RING_IMAGE, USER, V3, Ring

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ckpt.files.restoring import RestoreView

_SOL, _RX_RING, _STATISTICS = 263, 5, 6
_ETHERTYPE = 0x88B5
_LOOPBACK = "lo"
_SMALL, _LARGE, _SPARE = 64, 60_000, 1024
_ATTACH_FILTER, _DETACH_FILTER = 26, 27
_NET_OFF = -0x100000
_LOAD, _IS_EQUAL, _RETURN = 0x20, 0x15, 0x06
_NR_PACKETS, _FIRST, _LENGTH = 12, 16, 20
_PATIENCE_S = 60.0
_WORD = struct.Struct("=I")


class Saved(NamedTuple):
    """What the images tell of a ring beside its sizes."""

    head: int
    full: bool
    kept: dict[int, bytes]


def read(view: RestoreView, rings: Mapping[int, Ring]) -> dict[int, Saved]:
    """Of these rings by the id of their socket; of one that nothing is told of, that it is new.
    Raises ImageError."""
    found = {file_id: Saved(0, full=False, kept={}) for file_id in rings}
    told = set()
    for m in view.messages(RING_IMAGE):
        where = f"ring of {m.id:#x} of {RING_IMAGE}.img"
        if m.id not in rings or m.id in told:
            raise ImageError("is of no socket, or there twice", resource=where)
        if m.head >= rings[m.id].nr:
            raise ImageError(f"is at slot {m.head}, which it has not", resource=where)
        told.add(m.id)
        found[m.id] = Saved(m.head, m.full, {})
    for m in view.messages(KEPT_IMAGE):
        where = f"slot {m.slot} of {m.id:#x} of {KEPT_IMAGE}.img"
        if m.id not in told or m.slot >= rings[m.id].nr or m.slot in found[m.id].kept:
            raise ImageError("is of no ring, or there twice", resource=where)
        if len(m.data) > rings[m.id].slot_size:
            raise ImageError("is larger than a slot", resource=where)
        found[m.id].kept[m.slot] = bytes(m.data)
    for file_id, saved in found.items():
        if saved.full and len(saved.kept) != rings[file_id].nr:
            where = f"ring of {file_id:#x} of {RING_IMAGE}.img"
            raise ImageError("is said to be full, and is not", resource=where)
    return found


def make(sock: socket.socket, ring: Ring, saved: Saved) -> None:
    """The ring of a new packet socket that has its version and is not bound. Raises OSError."""
    sizes = ring[1:] if ring.version == V3 else ring[1:5]
    sock.setsockopt(_SOL, _RX_RING, struct.pack(f"={len(sizes)}I", *sizes))
    if not saved.head and not saved.kept:
        return
    with mmap.mmap(sock.fileno(), ring.size) as memory:
        with _sender(sock) as send:
            if ring.version == V3:
                _advance_blocks(sock, memory, ring, saved, send)
            else:
                _advance_frames(memory, ring, saved.head, send)
        _put(memory, ring, saved)
    _nr_taken(sock)


def unbind(lfd: int) -> None:
    """Of any interface and no protocol. Raises OSError."""
    bind(lfd, 0, 0)


def bind(lfd: int, index: int, protocol: int) -> None:
    """To an interface by its number, 0 for any: the socket module takes a name alone. `protocol` as
    in an address. Raises OSError."""
    name = ffi.new("uint8_t[]", struct.pack("=HHi12x", socket.AF_PACKET, protocol, index))
    made("bind", lfd, address(name), len(name))


@contextmanager
def _sender(sock: socket.socket) -> Iterator[Callable[[int], None]]:
    """In it the socket takes nothing but what is sent so, one frame with so many bytes of data at a
    time, and has taken it then."""
    words = struct.unpack("=2I", os.urandom(8))
    _attach(sock, words)
    sock.bind((_LOOPBACK, _ETHERTYPE))
    head = bytes(12) + struct.pack("!H2I", _ETHERTYPE, *words)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as other:

        def send(size: int) -> None:
            other.sendto(head + bytes(size - 8), (_LOOPBACK, _ETHERTYPE))
            _until(partial(_nr_taken, sock))

        yield send
    unbind(sock.fileno())
    sock.setsockopt(socket.SOL_SOCKET, _DETACH_FILTER, 0)


def _nr_taken(sock: socket.socket) -> int:
    """Packets since it was asked last, those without room included."""
    (nr,) = _WORD.unpack_from(sock.getsockopt(_SOL, _STATISTICS, 12))
    return int(nr)


def _attach(sock: socket.socket, words: tuple[int, ...]) -> None:
    """Let nothing through but what begins with these two."""
    first, second = words
    code = [
        (_LOAD, 0, 0, _NET_OFF & 0xFFFF_FFFF),
        (_IS_EQUAL, 0, 3, first),
        (_LOAD, 0, 0, _NET_OFF + 4 & 0xFFFF_FFFF),
        (_IS_EQUAL, 0, 1, second),
        (_RETURN, 0, 0, 0x40000),
        (_RETURN, 0, 0, 0),
    ]
    program = ffi.new("uint8_t[]", b"".join(struct.pack("=HBBI", *line) for line in code))
    given = struct.pack("=H6xQ", len(code), address(program))
    sock.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, given)


def _until(arrived: Callable[[], Any]) -> None:
    """Until a frame has come, which most times it has when it is sent."""
    deadline = time.monotonic() + _PATIENCE_S
    while not arrived():
        if time.monotonic() > deadline:
            raise OSError(errno.ETIMEDOUT, "what is sent over loopback does not arrive")
        time.sleep(0.0001)


def _advance_frames(memory: mmap.mmap, ring: Ring, head: int, send: Callable[[int], None]) -> None:
    for slot in range(head):
        send(_SMALL)
        _until(partial(_is_taken, memory, ring, slot))
        ring.release(memory, slot)


def _is_taken(memory: mmap.mmap, ring: Ring, slot: int) -> int:
    return ring.status(memory, slot) & USER


def _open_block(memory: mmap.mmap, ring: Ring) -> int:
    """The block that the kernel has opened last."""
    return max(range(ring.nr), key=lambda slot: ring.age(memory, slot))


def _advance_blocks(
    sock: socket.socket, memory: mmap.mmap, ring: Ring, saved: Saved, send: Callable[[int], None]
) -> None:
    """The block `head` open and without packets; or, of a full ring, all closed, and it next."""
    slots = range(ring.nr)
    while _open_block(memory, ring) != saved.head or not _emptied(sock, memory, ring, saved.head):
        send(_fitting(memory, ring))
        last = _open_block(memory, ring)
        for slot in slots:
            if slot != last and ring.status(memory, slot) & USER:
                ring.release(memory, slot)
    # The timer may have handed one over since.
    for slot in slots:
        if slot != saved.head:
            ring.release(memory, slot)
    while saved.full and not all(ring.status(memory, slot) & USER for slot in slots):
        send(_fitting(memory, ring))


def _fitting(memory: mmap.mmap, ring: Ring) -> int:
    """How much to send: most of what there is room for. What finds no room, and takes some in the
    next block, is small."""
    at = ring.at(_open_block(memory, ring))
    room = ring.block_size - _WORD.unpack_from(memory, at + _LENGTH)[0]
    return min(room - _SPARE, _LARGE) if room > 2 * _SPARE else _SMALL


def _emptied(sock: socket.socket, memory: mmap.mmap, ring: Ring, slot: int) -> bool:
    """Take the packets out of the block that is open. False: it was handed over before."""
    at = ring.at(slot)
    # Takes the lock under which the timer works: what it had begun is done, and later it finds no
    # packets.
    _nr_taken(sock)
    (length,) = _WORD.unpack_from(memory, at + _LENGTH)
    _WORD.pack_into(memory, at + _NR_PACKETS, 0)
    _WORD.pack_into(memory, at + _FIRST, length)
    _nr_taken(sock)
    return not ring.status(memory, slot) & USER and _open_block(memory, ring) == slot


def _put(memory: mmap.mmap, ring: Ring, saved: Saved) -> None:
    """Slots with what they had. Marks stay such that the next dump finds the place again."""
    behind = (saved.head - 1) % ring.nr if saved.head else None
    for slot in range(ring.nr):
        at, data = ring.at(slot), saved.kept.get(slot)
        if data is None:
            if ring.version != V3 and slot != behind:
                ring.set_age(memory, at, (0, 0))
            continue
        whole = bytearray(data.ljust(48, b"\0"))
        if ring.version == V3:
            ring.set_age(whole, 0, ring.age(memory, slot))
        memory[at : at + len(whole)] = bytes(whole)
