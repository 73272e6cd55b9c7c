"""Whether the pools of huge pages have room for a tree, found out before anything is built of it: a
task that gets none where it was promised one dies of SIGBUS.

Counted: what new mappings reserve, contents where nothing is reserved, copies that children have of
their parents' pages, objects of shared memory and segments as a whole where they reserve. Not
counted: shared mappings of files in a mounted hugetlbfs, which have pages, or get theirs before
tasks are born; limits of control groups.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ckpt.errors import RestoreError
from ckpt.kerndat import hugetlb
from ckpt.kerndat.hugetlb import MAP_HUGETLB
from ckpt.mem.build import clip
from ckpt.mem.vma import MAP_NORESERVE, Backing
from ckpt.ns.sysv_shm import is_there
from ckpt.units import Range, gaps, merge

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ckpt.files.memfd import HugeMemfd
    from ckpt.mem.build import MemoryPlan, Pages
    from ckpt.mem.vma import Vma
    from ckpt.restore.load import Loaded
    from ckpt.restore.plan import RestorePlan


def refuse_shortage(loaded: Loaded, plan: RestorePlan, memfds: Sequence[HugeMemfd]) -> None:
    """Raises RestoreError where a pool has less than the tree takes."""
    for size, nr in sorted(wanted(loaded, plan, memfds).items()):
        pool = hugetlb.pool(size)
        resource = f"huge pages of {size >> 10} KiB"
        if pool is None and not hugetlb.told():
            continue
        if pool is None:
            why = "this kernel has no pages of that size"
            raise RestoreError("can't be had", resource=resource, why=why)
        if pool.available < nr:
            why = f"{nr} are wanted, {max(0, pool.available)} are free"
            hint = f"add {nr - pool.available} to what {pool.file} says"
            raise RestoreError("there are too few", resource=resource, why=why, hint=hint)


def check_pages(v: Vma, lfd: int) -> None:
    """Raises RestoreError where the file for this mapping has other pages than it had: without its
    hugetlbfs there may be an ordinary one at its path."""
    if os.fstat(lfd).st_blksize != v.huge_page:
        raise RestoreError(
            f"is no file of huge pages of {v.huge_page >> 10} KiB",
            resource=str(Path(f"/proc/self/fd/{lfd}").readlink()),
            hint="mount the hugetlbfs that it was in",
        )


def wanted(loaded: Loaded, plan: RestorePlan, memfds: Sequence[HugeMemfd]) -> dict[int, int]:
    """How many pages of each size in bytes the tree takes. Raises ImageError."""
    found: dict[int, int] = {}
    for pid, memory in plan.memory.items():
        for v in _huge(loaded.tasks[pid].memory.vmas):
            if v.private:
                found[v.huge_page] = found.get(v.huge_page, 0) + _of_private(v, memory)
    for size, nr in (*_of_objects(loaded), *_of_memfds(loaded, memfds), *_of_segments(loaded)):
        found[size] = found.get(size, 0) + nr
    return {size: nr for size, nr in found.items() if nr}


def _huge(vmas: Iterable[Vma]) -> Iterator[Vma]:
    return (v for v in vmas if v.flags & MAP_HUGETLB)


def _of_private(v: Vma, memory: MemoryPlan) -> int:
    """What a mapping reserves as far as it is new, and what is filled elsewhere."""
    new: list[Range] = []
    if not v.flags & MAP_NORESERVE:
        new = [one.vma.range for one in memory.map if v.range.overlaps(one.vma.range)]
    filled = (p for part in gaps(new, v.range) for p in clip(memory.load, part))
    return sum(map(len, new)) // v.huge_page + _touched((p.range for p in filled), v.huge_page)


def _of_objects(loaded: Loaded) -> Iterator[tuple[int, int]]:
    """Of each object of anonymous shared memory."""
    users: dict[int, list[Vma]] = {}
    for image in loaded.tasks.values():
        for v in _huge(image.memory.vmas):
            if v.backing is Backing.SHMEM:
                users.setdefault(v.shmid, []).append(v)
    for shmid, vmas in users.items():
        whole = [p.range for p in _stored(loaded, shmid)]
        if not all(v.flags & MAP_NORESERVE for v in vmas):
            whole.append(Range(0, max(v.pgoff + len(v.range) for v in vmas)))
        size = vmas[0].huge_page
        yield size, _touched(whole, size)


def _of_memfds(loaded: Loaded, memfds: Sequence[HugeMemfd]) -> Iterator[tuple[int, int]]:
    """Of each: what it holds, and what shared mappings reserve of it."""
    mapped = [
        v
        for image in (loaded.tasks.values() if memfds else ())
        for v in _huge(image.memory.vmas)
        if v.backing is Backing.FILE and v.shared and not v.flags & MAP_NORESERVE
    ]
    for memfd in memfds:
        whole = [p.range for p in _stored(loaded, memfd.shmid)]
        whole += (
            Range(v.pgoff, min(v.pgoff + len(v.range), memfd.size))
            for v in mapped
            if v.shmid in memfd.files and v.pgoff < memfd.size
        )
        yield memfd.huge_page, _touched(whole, memfd.huge_page)


def _of_segments(loaded: Loaded) -> Iterator[tuple[int, int]]:
    """Of those of System V that are not there already."""
    for segment in loaded.segments.values():
        if segment.huge_page and not is_there(segment.id):
            yield segment.huge_page, segment.room // segment.huge_page


def _stored(loaded: Loaded, shmid: int) -> tuple[Pages, ...]:
    return loaded.pages(f"pagemap-shmem-{shmid}")


def _touched(ranges: Iterable[Range], size: int) -> int:
    """How many pages of `size` the ranges are in."""
    whole = merge(Range(r.start - r.start % size, r.end + -r.end % size) for r in ranges)
    return sum(map(len, whole)) // size
