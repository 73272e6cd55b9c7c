"""A memory plan, carried out in its task.

Contents are read by the task itself from the pages file (preadv): one copy, by the kernel, into
fresh pages. All of it happens inside the parasite; the order is the plan's (ckpt.mem.build).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckpt.infect.batch import Batch, Load
from ckpt.infect.lend import Lender
from ckpt.units import Range

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Sequence

    from ckpt.infect.session import Session
    from ckpt.mem.build import Map, MemoryPlan, Pages
    from ckpt.mem.vma import Vma

MADV_DONTNEED = 4
_ENOMEM = 12
_EINVAL = 22
_IOV_MAX = 1024
_MLOCK_ONFAULT = 1
_CALL_MAX = 1 << 30
_MREMAP_MOVE_FIXED = 3
_LOAD_TIMEOUT_S = 3600.0


def shape(session: Session, plan: MemoryPlan, lfd_of: Callable[[Vma], int]) -> None:
    """Steps 1 to 4: mappings as they shall be, without contents. `lfd_of` gives our descriptor of
    what stands behind a mapping."""
    lender = Lender(session)
    for gone in plan.unmap:
        lender.add(None, _unmap(gone))
    for one in plan.map:
        lender.add(lfd_of(one.vma) if one.vma.file_backed else None, _map(one))
    for where, prot in plan.open_up:
        lender.add(None, _protect(where, prot))
    for gone in plan.discard:
        lender.add(None, _advise(gone, MADV_DONTNEED))
    lender.flush()


def fill(session: Session, loads: Sequence[Pages], pages_lfd: Callable[[int], int]) -> None:
    """Step 5: contents."""
    lender = Lender(session, timeout_s=_LOAD_TIMEOUT_S)
    for run in _contiguous(loads):
        lender.add(pages_lfd(run[0].pages_id), _load(run), size=16 * len(run))
    lender.flush()


def settle(session: Session, plan: MemoryPlan) -> None:
    """Step 6: protections as they shall be."""
    lender = Lender(session)
    for where, prot in plan.protect:
        lender.add(None, _protect(where, prot))
    lender.flush()


def finish(session: Session, plan: MemoryPlan, on_fault: Container[int]) -> None:
    """Steps 7 and 8, after every child has been cloned. `on_fault` holds the starts of mappings
    whose pages are locked as they come."""
    lender = Lender(session)
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


def _contiguous(loads: Sequence[Pages]) -> Iterator[list[Pages]]:
    """Pieces that stand one behind another in one file, as many as one call takes."""
    run: list[Pages] = []
    size = 0
    for p in loads:
        follows = (
            run
            and p.pages_id == run[-1].pages_id
            and p.offset == run[-1].offset + len(run[-1].range)
        )
        if run and (not follows or len(run) == _IOV_MAX or size + len(p.range) > _CALL_MAX):
            yield run
            run, size = [], 0
        run.append(p)
        size += len(p.range)
    if run:
        yield run


def _load(run: list[Pages]) -> Callable[[Batch, Load], None]:
    parts = [(p.range.start, len(p.range)) for p in run]

    def add(batch: Batch, fd: Load) -> None:
        batch.call_all("preadv", fd, parts, run[0].offset, offset=True, note="contents of memory")

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


def _protect(where: Range, prot: int) -> Callable[[Batch, Load], None]:
    def add(batch: Batch, _: Load) -> None:
        batch.call("mprotect", where.start, len(where), prot, note=f"mapping {where}")

    return add


def _advise(where: Range, advice: int) -> Callable[[Batch, Load], None]:
    def add(batch: Batch, _: Load) -> None:
        # EINVAL: advice that this kernel was not built with; the memory is right without it.
        batch.call(
            "madvise", where.start, len(where), advice, also=_EINVAL, note=f"advice for {where}"
        )

    return add


def _lock(where: Range, flags: int) -> Callable[[Batch, Load], None]:
    def add(batch: Batch, _: Load) -> None:
        # ENOMEM: nothing to lock in memory without access rights; the mapping is locked anyway.
        batch.call("mlock2", where.start, len(where), flags, also=_ENOMEM, note=f"lock of {where}")

    return add
