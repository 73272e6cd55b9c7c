"""The rings of io_setup(2): contexts of the kernel's asynchronous input and output.

A context is named by the address of its ring, which the kernel maps and which mremap(2) moves. What
it has completed and nobody has taken yet is in the ring, whose pages are in the image like any
others. Restore: a new context whose ring is as long is moved to the old place. Its tail is the
kernel's own, so it gets there by completing reads of an empty file; its head is ours to write, and
so are the events.

Not seen: requests that are still in flight. Nobody can tell of them without taking part in the
context; the caller warns.

Source: io_setup(2), fs/aio.c.
"""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from ckpt.errors import KernelError, RestoreError
from ckpt.infect.batch import SOCK, Batch
from ckpt.mem.vma import Status
from ckpt.tracee import vm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ckpt.infect.batch import Data, Load
    from ckpt.infect.session import Session
    from ckpt.mem.build import Memory, Pages
    from ckpt.mem.vma import Vma
    from ckpt.units import Range

_HEAD = struct.Struct("<8I")
_EVENT, _MAGIC = 32, 0xA10A10A1
_FILDES_AT, _ID_SIZE = 20, 4
_AT_ONCE, _ROUNDS = 64, 100
_LONGEST = 1 << 28
_MREMAP_MOVE_FIXED = 3


class Ring(NamedTuple):
    """A ring of the images: where it is, and all that is in it."""

    range: Range
    data: bytes

    @property
    def nr(self) -> int:
        """Events that it has room for."""
        return capacity(self.range)

    @property
    def head(self) -> int:
        return int(_HEAD.unpack_from(self.data)[2])

    @property
    def tail(self) -> int:
        return int(_HEAD.unpack_from(self.data)[3])


def capacity(where: Range) -> int:
    """Events that a ring of this length holds."""
    return (len(where) - _HEAD.size) // _EVENT


def nr_requests(where: Range) -> int:
    """What io_setup is to be asked for, so that its ring is as long."""
    return (capacity(where) - 2) // 2


def damage(where: Range, head: bytes) -> str:
    """What is wrong with the head of a ring; empty if nothing is."""
    _, nr, first, last, magic, compatible, incompatible, length = _HEAD.unpack(head)
    if (magic, compatible, incompatible, length) != (_MAGIC, 1, 0, _HEAD.size):
        return "its head is none"
    if nr != capacity(where) or max(first, last) >= nr or len(where) > _LONGEST:
        return f"its head says {nr} events, {first} and {last}"
    return ""


def obstacle(pid: int, where: Range) -> str:
    """Why the ring of a task that stands can't be restored. Raises TargetError."""
    wrong = damage(where, vm.read(pid, where.start, _HEAD.size))
    return f"it is a ring of AIO, but {wrong}" if wrong else ""


def fill(mm: Any, vmas: Iterable[Vma]) -> None:
    """The aio_ring_entry messages of a mm_entry."""
    for v in vmas:
        if v.status & Status.AIORING:
            length = len(v.range)
            mm.aios.add(id=v.range.start, nr_req=nr_requests(v.range), ring_len=length)


def rings(mm: Any, memory: Memory, read: Callable[[Pages], bytes]) -> tuple[Ring, ...]:
    """The rings of a mm_entry; `read` gives what is in pages of the set. ValueError: not as they
    can be."""
    mapped = {v.range.start: v.range for v in memory.vmas if v.status & Status.AIORING}
    if sorted(entry.id for entry in mm.aios) != sorted(mapped):
        raise ValueError("its AIO rings are not those of its mappings")
    found = []
    for entry in mm.aios:
        where = mapped[entry.id]
        parts = [p for p in memory.pages if p.range.overlaps(where)]
        data = b"".join(read(p.part(p.range.intersection(where) or p.range)) for p in parts)
        if len(data) != len(where) or entry.ring_len != len(where):
            raise ValueError(f"its AIO ring {where} is not there as a whole")
        if wrong := damage(where, data[: _HEAD.size]):
            raise ValueError(f"of its AIO ring {where}, {wrong}")
        found.append(Ring(where, data))
    return tuple(found)


def restore(session: Session, ring: Ring, empty: int) -> None:
    """Make one in its task. `empty` is our descriptor of an empty file. Raises RestoreError,
    KernelError."""
    _make(session, ring)
    _advance(session, ring, ring.head, empty, take=True)
    _advance(session, ring, (ring.tail - ring.head) % ring.nr, empty, take=False)
    # The number in front is the kernel's, and the new one's.
    vm.write(session.pid, ring.range.start + _ID_SIZE, ring.data[_ID_SIZE:])


def _make(session: Session, ring: Ring) -> None:
    batch = Batch()
    place = batch.space(8)
    batch.call("io_setup", nr_requests(ring.range), place, note="AIO context")
    try:
        context = int.from_bytes(session.run(batch).read(place, 8), "little")
    except KernelError as error:
        hint = (
            "raise /proc/sys/fs/aio-max-nr" if errno.errorcode[errno.EAGAIN] in str(error) else ""
        )
        raise RestoreError(
            "an AIO context can't be made", pid=session.pid, why=str(error), hint=hint
        ) from error
    nr = _HEAD.unpack(vm.read(session.pid, context, _HEAD.size))[1]
    if nr != ring.nr:
        raise RestoreError(
            "an AIO context can't be as it was",
            pid=session.pid,
            why=f"its ring has room for {nr} events here, {ring.nr} before",
            hint="restore on a machine with no more processors",
        )
    batch = Batch()
    size, to = len(ring.range), ring.range.start
    batch.call("mremap", context, size, size, _MREMAP_MOVE_FIXED, to, want=to, note="AIO ring")
    session.run(batch)


def _advance(session: Session, ring: Ring, nr_events: int, empty: int, *, take: bool) -> None:
    """Let the context complete so many requests; `take` what they leave in the ring."""
    at_once = max(1, min(_AT_ONCE, ring.nr // 2))
    while nr_events:
        batch = Batch()
        (slot,) = batch.receive_fds(SOCK, 1)
        requests, events = _requests(batch, slot, at_once), batch.space(at_once * _EVENT)
        for _ in range(_ROUNDS):
            nr = min(at_once, nr_events)
            if not nr:
                break
            context = ring.range.start
            batch.call("io_submit", context, nr, requests, want=nr, note="AIO context")
            if take:
                batch.call("io_getevents", context, nr, nr, events, 0, want=nr)
            nr_events -= nr
        batch.call("close", slot)
        session.run(batch, fds=[empty])


def _requests(batch: Batch, slot: Load, nr: int) -> Data:
    """Pointers to one request, a read of nothing, as often as it shall be made: struct iocb with
    IOCB_CMD_PREAD, which is 0."""
    buffer = batch.space(8)
    request = batch.struct("<8Q", 0, 0, 0, buffer, 1, 0, 0, 0)
    batch.copy(request + _FILDES_AT, slot.at, 4)
    return batch.struct(f"<{nr}Q", *[request] * nr)
