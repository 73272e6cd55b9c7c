"""Rings in their tasks: those of io_uring under their numbers, and mapped where they were; those of
packet sockets mapped.

A ring of io_uring is refused as a message (SCM_RIGHTS), so a task takes it from us, pidfd_getfd(2).
The kernel maps such a ring at no address that is asked for, nor moves its mapping. But it takes the
only place that is left: so for a moment all others are, which costs two calls for each gap between
mappings.

Source: io_uring_get_unmapped_area() in io_uring/memmap.c; arch/x86/kernel/sys_x86_64.c, where room
is searched downwards from below the stack, then upwards.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ckpt.errors import ImageError
from ckpt.files.kind import FdType
from ckpt.infect.batch import Batch
from ckpt.mem.vma import (
    MAP_ANONYMOUS,
    MAP_FIXED_NOREPLACE,
    MAP_NORESERVE,
    MAP_PRIVATE,
    MAP_SHARED,
    Status,
)
from ckpt.procfs.maps import parse_maps
from ckpt.procfs.reader import ProcDir
from ckpt.pstree.sharing import VM
from ckpt.units import PAGE, TASK_SIZE, Range, gaps

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ckpt.files.packet import PacketRestore
    from ckpt.files.restore import FilesRestore, Placement
    from ckpt.infect.batch import Result
    from ckpt.mem.vma import Vma
    from ckpt.restore.build import Built
    from ckpt.restore.load import Loaded

_F_DUPFD_CLOEXEC, _O_CLOEXEC = 1030, 0o2000000
_RESERVED = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE
_MMAP_MIN = 1 << 16
_AT_ONCE = 500


def place(built: Built, files: FilesRestore, placements: Iterable[Placement]) -> None:
    """Put rings of ours into their places in the task's table."""
    batch = Batch()
    for p in placements:
        taken = _take(batch, built, files.lfd(p.file_id))
        flags = _O_CLOEXEC if p.cloexec else 0
        batch.call("dup3", taken, p.fd, flags, want=p.fd, note=f"descriptor {p.fd}")
        batch.call("close", taken)
    if len(batch):
        built.session.run(batch)


def _take(batch: Batch, built: Built, lfd: int) -> Result:
    """A descriptor of ours, out of the way of all that the task uses."""
    pidfd = batch.call("pidfd_open", os.getpid(), 0, note="ckpt restore")
    got = batch.call("pidfd_getfd", pidfd, lfd, 0, note="a ring")
    high = batch.call("fcntl", got, _F_DUPFD_CLOEXEC, built.sock + 1)
    batch.call("close", got)
    batch.call("close", pidfd)
    return high


def map_all(built: Built, loaded: Loaded, files: FilesRestore) -> None:
    """Map what the task had mapped of rings; of a memory that several share, by the first."""
    if loaded.sharing.first(VM, built.pid) != built.pid:
        return
    for v in loaded.tasks[built.pid].memory.vmas:
        if v.status & Status.EXTERNAL:
            _map(built, v, files.lfd(v.shmid))
        elif v.status & Status.SOCKET:
            packets: PacketRestore | None = files.met(FdType.PACKETSK)
            if packets is None:
                where = f"pid {built.pid}: mapping {v.range}"
                raise ImageError("is of a packet socket, which the set has not", resource=where)
            how = (v.range.start, MAP_SHARED | MAP_FIXED_NOREPLACE, 0)
            _map_from(built, v, packets.ring_lfd(v.shmid, len(v.range)), how)


def _map(built: Built, v: Vma, lfd: int) -> None:
    with ProcDir(built.pid) as proc:
        taken = [m.range for m in parse_maps(proc.read("maps")) if m.end <= TASK_SIZE]
    taken = sorted([*taken, v.range], key=lambda r: r.start)
    beside = (v.range.start, v.range.end)
    others = [
        gap
        for gap in gaps(taken, Range(PAGE, TASK_SIZE))
        if len(gap) >= len(v.range) or gap.end in beside or gap.start in beside
    ]
    for at in range(0, len(others), _AT_ONCE):
        batch = Batch()
        for gap in others[at : at + _AT_ONCE]:
            # Below the least address nobody may map anything, the kernel neither.
            low = gap.start < _MMAP_MIN
            batch.call("mmap", gap.start, len(gap), 0, _RESERVED, -1, 0, any_result=low)
        built.session.run(batch)
    _map_from(built, v, lfd, (0, MAP_SHARED, v.pgoff))
    for at in range(0, len(others), _AT_ONCE):
        batch = Batch()
        for gap in others[at : at + _AT_ONCE]:
            batch.call("munmap", gap.start, len(gap))
        built.session.run(batch)


def _map_from(built: Built, v: Vma, lfd: int, how: tuple[int, int, int]) -> None:
    """Map a descriptor of ours at the place of `v`. `how`: address to ask for, flags, offset."""
    batch = Batch()
    ring = _take(batch, built, lfd)
    where = v.range
    addr, flags, offset = how
    batch.call(
        *("mmap", addr, len(where), v.prot, flags, ring, offset),
        want=where.start,
        note=f"mapping {where} of a ring",
    )
    batch.call("close", ring)
    for advice in v.advices():
        batch.call("madvise", where.start, len(where), advice, note=f"advice for {where}")
    built.session.run(batch)
