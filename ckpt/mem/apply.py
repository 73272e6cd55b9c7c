"""A memory plan, carried out in its task.

Contents are read by the task itself from the pages files (preadv; ckpt.mem.reads says which reads):
one copy, by the kernel, into fresh pages. All of it happens inside the parasite; the order is the
plan's (ckpt.mem.build).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ckpt.infect.batch import Batch, Load
from ckpt.infect.lend import Lender
from ckpt.mem import policy
from ckpt.mem.reads import reads
from ckpt.mem.vma import Backing
from ckpt.record import record
from ckpt.units import PAGE, Range

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping, Sequence

    from ckpt.infect.session import Session
    from ckpt.mem.build import Map, MemoryPlan, Pages
    from ckpt.mem.reads import Read
    from ckpt.mem.vma import Vma

MADV_DONTNEED = 4
MADV_GUARD_INSTALL = 102
_ENOMEM = 12
_EINVAL = 22
_MLOCK_ONFAULT = 1
_MREMAP_MOVE_FIXED = 3
_SHM_RDONLY = 0o10000
_LOAD_TIMEOUT_S = 3600.0


@record(frozen=True)
class Segments:
    """What is needed to attach System V shared memory: by id how many bytes it takes, and an
    address where the largest has room, aligned to its pages, beside all that the tasks have."""

    sizes: Mapping[int, int]
    scratch: int


def shape(
    session: Session, plan: MemoryPlan, lfd_of: Callable[[Vma], int], segments: Segments
) -> None:
    """Steps 1 to 4: mappings as they shall be, without contents. `lfd_of` gives our descriptor of
    what stands behind a mapping."""
    lender = Lender(session)
    for gone in plan.unmap:
        lender.add(None, _unmap(gone))
    for one in plan.map:
        if one.vma.backing is Backing.SYSV:
            lender.add(None, _attach(one, segments), size=2048)
            continue
        lender.add(lfd_of(one.vma) if one.vma.file_backed else None, _map(one))
    for where, prot in plan.open_up:
        lender.add(None, _protect(where, prot))
    for where, wanted in plan.bind:
        lender.add(None, _bind(where, wanted))
    for gone in plan.discard:
        lender.add(None, _advise(gone, MADV_DONTNEED))
    lender.flush()


def fill(session: Session, loads: Sequence[Pages], pages_lfd: Callable[[int], int]) -> None:
    """Step 5: contents. `loads` ascend, ids of newer files are larger."""
    lender = Lender(session, timeout_s=_LOAD_TIMEOUT_S)
    for read in reads(loads):
        lender.add(pages_lfd(read.pages_id), _load(read), size=16 * len(read.parts))
    lender.flush()


def settle(session: Session, plan: MemoryPlan) -> None:
    """Step 6: protections as they shall be."""
    lender = Lender(session)
    for where, prot in plan.protect:
        lender.add(None, _protect(where, prot))
    lender.flush()


def finish(session: Session, plan: MemoryPlan, on_fault: Container[int]) -> None:
    """Steps 7 to 9, after every child has been cloned. `on_fault` holds the starts of mappings
    whose pages are locked as they come."""
    lender = Lender(session)
    for where in plan.guard:
        lender.add(None, _guard(where))
    for where, advice in plan.advise:
        lender.add(None, _advise(where, advice))
    for where in plan.lock:
        lender.add(None, _lock(where, _MLOCK_ONFAULT if where.start in on_fault else 0))
    lender.flush()


def move(session: Session, moves: Iterable[tuple[Range, int]]) -> None:
    """Move whole mappings, each to its address; what is there goes."""
    batch = Batch()
    for where, to in moves:
        batch.call(
            *("mremap", where.start, len(where), len(where), _MREMAP_MOVE_FIXED, to),
            want=to,
            note=f"mapping {where} to {to:x}",
        )
    if len(batch):
        session.run(batch)


def _load(read: Read) -> Callable[[Batch, Load], None]:
    def add(batch: Batch, fd: Load) -> None:
        batch.call_all(
            "preadv", fd, read.parts, read.offset, offset=True, note="contents of memory"
        )

    return add


def _unmap(where: Range) -> Callable[[Batch, Load], None]:
    def add(batch: Batch, _: Load) -> None:
        batch.call("munmap", where.start, len(where), note=f"mapping {where}")

    return add


def _map(one: Map) -> Callable[[Batch, Load], None]:
    where = one.vma.range

    def add(batch: Batch, fd: Load) -> None:
        batch.call(
            "mmap",
            where.start,
            len(where),
            one.prot,
            one.flags,
            fd if one.vma.file_backed else -1,
            one.vma.pgoff if one.vma.file_backed else 0,
            want=where.start,
            note=f"mapping {where}",
        )

    return add


def _attach(one: Map, segments: Segments) -> Callable[[Batch, Load], None]:
    """A segment can only be attached whole: elsewhere, and the part that is wanted is moved."""
    where, v = one.vma.range, one.vma
    at = segments.scratch + -segments.scratch % (v.huge_page or PAGE)
    writable = v.file_flags & os.O_ACCMODE == os.O_RDWR
    whole = Range(at, at + segments.sizes[v.shmid])
    part = Range(at + v.pgoff, at + v.pgoff + len(where))
    note = f"mapping {where} of System V shared memory {v.shmid}"

    def add(batch: Batch, _: Load) -> None:
        flags = 0 if writable else _SHM_RDONLY
        batch.call("shmat", v.shmid, whole.start, flags, want=whole.start, note=note)
        size = len(where)
        moved = ("mremap", part.start, size, size, _MREMAP_MOVE_FIXED, where.start)
        batch.call(*moved, want=where.start, note=note)
        for rest in (Range(whole.start, part.start), Range(part.end, whole.end)):
            if len(rest):
                batch.call("munmap", rest.start, len(rest), note=note)
        batch.call("mprotect", where.start, size, one.prot, note=note)

    return add


def _protect(where: Range, prot: int) -> Callable[[Batch, Load], None]:
    def add(batch: Batch, _: Load) -> None:
        batch.call("mprotect", where.start, len(where), prot, note=f"mapping {where}")

    return add


def _bind(where: Range, wanted: policy.Policy) -> Callable[[Batch, Load], None]:
    def add(batch: Batch, _: Load) -> None:
        policy.bind(batch, where, wanted)

    return add


def _advise(where: Range, advice: int) -> Callable[[Batch, Load], None]:
    def add(batch: Batch, _: Load) -> None:
        # EINVAL: advice that this kernel was not built with; the memory is right without it.
        batch.call(
            "madvise", where.start, len(where), advice, also=_EINVAL, note=f"advice for {where}"
        )

    return add


def _guard(where: Range) -> Callable[[Batch, Load], None]:
    def add(batch: Batch, _: Load) -> None:
        batch.call(
            "madvise", where.start, len(where), MADV_GUARD_INSTALL, note=f"guard pages {where}"
        )

    return add


def seal(batch: Batch, mappings: Iterable[Range]) -> None:
    """Add the calls that forbid every further change of these mappings, mseal(2): the last that is
    done to them."""
    for where in mappings:
        batch.call("mseal", where.start, len(where), 0, note=f"seal of mapping {where}")


def _lock(where: Range, flags: int) -> Callable[[Batch, Load], None]:
    def add(batch: Batch, _: Load) -> None:
        # ENOMEM: nothing to lock in memory without access rights; the mapping is locked anyway.
        batch.call("mlock2", where.start, len(where), flags, also=_ENOMEM, note=f"lock of {where}")

    return add
