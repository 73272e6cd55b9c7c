"""Shared memory. Anonymous memory comes back as what it was: an object that no file system names.

We map it ourselves, shared and anonymous, take a descriptor of it from /proc/self/map_files, fill
it, and lend the descriptor to each task that maps it. Needs CAP_SYS_ADMIN or
CAP_CHECKPOINT_RESTORE over this process, as map_files does.
"""

from __future__ import annotations

import errno
import mmap
import os
from typing import TYPE_CHECKING, Self

from ckpt._native import check, ffi, lib
from ckpt.errors import ImageError, RestoreError
from ckpt.kerndat.hugetlb import MAP_HUGETLB, SIZE_BITS
from ckpt.mem import hugefile
from ckpt.mem.vma import MAP_NORESERVE, Backing
from ckpt.ns.sysv_restore import ObjectsRestore
from ckpt.ns.sysv_shm import SegmentsRestore
from ckpt.units import page_up

if TYPE_CHECKING:
    from ckpt.mem.vma import Vma
    from ckpt.report import Report
    from ckpt.restore.load import Loaded

_SIZE_MAX = 1 << 46


class SharedMemory:
    """The objects of one set by their id, and how many bytes they have. A context manager:
    descriptors close with it."""

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded
        self._lfds: dict[int, int] = {}
        self._late = loaded.late_objects()
        self.sizes: dict[int, int] = {}
        self.segments = SegmentsRestore(loaded.segments)
        pids = [task.pid for task in loaded.tree]
        self.objects = ObjectsRestore(loaded.objects, pids, loaded.tasks, loaded.tree.root.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.objects.close()
        self.segments.close()
        for lfd in self._lfds.values():
            os.close(lfd)
        self._lfds.clear()

    def lfd(self, shmid: int) -> int:
        """A descriptor, for reading and writing, of an object that `make_all` made."""
        return self._lfds[shmid]

    def make_all(self, report: Report) -> int:
        """Make every object that a mapping refers to, and every one of System V, and fill what
        does not come late; returns the pages written."""
        loaded = self._loaded
        self.objects.make_all(report)
        users: dict[int, list[Vma]] = {}
        for image in loaded.tasks.values():
            for v in image.memory.vmas:
                if v.backing is Backing.SHMEM:
                    users.setdefault(v.shmid, []).append(v)
        nr_pages = sum(self._make(loaded, shmid, vmas) for shmid, vmas in users.items())
        return nr_pages + self.segments.make_all(
            lambda s, lfd: fill(loaded, s.id, lfd, s.size, s.huge_page)
        )

    def settle(self) -> None:
        """All tasks have what they use of System V: owners and modes as they were."""
        self.segments.settle()
        self.objects.settle()

    def send_guards_away(self) -> None:
        """Right before the tree is let go."""
        self.segments.send_guard_away()
        self.objects.send_guard_away()

    def keep(self) -> None:
        """The tree lives."""
        self.segments.keep()
        self.objects.keep()

    def _make(self, loaded: Loaded, shmid: int, vmas: list[Vma]) -> int:
        stored = max((p.range.end for p in loaded.pages(_name(shmid))), default=0)
        size = loaded.shmem_sizes.get(shmid, 0)
        if size and stored > size:
            raise ImageError(
                "has pages beyond its object", resource=_name(shmid), why=f"size {size}"
            )
        size = size or page_up(max(stored, *(v.pgoff + len(v.range) for v in vmas)))
        huge = vmas[0].flags & (MAP_HUGETLB | SIZE_BITS)
        if any(v.flags & (MAP_HUGETLB | SIZE_BITS) != huge for v in vmas):
            raise ImageError("has pages of several sizes", resource=_name(shmid))
        page = vmas[0].huge_page
        size += -size % page if page else 0
        if size > _SIZE_MAX:
            raise ImageError("is too large", resource=_name(shmid), why=f"{size} bytes")
        reserve = not all(v.flags & MAP_NORESERVE for v in vmas)
        lfd = _anonymous(size, 0 if reserve else MAP_NORESERVE, huge)
        self._lfds[shmid] = lfd
        self.sizes[shmid] = size
        return 0 if shmid in self._late else fill(loaded, shmid, lfd, size, page)


def _name(shmid: int) -> str:
    return f"pagemap-shmem-{shmid}"


def fill(loaded: Loaded, shmid: int, lfd: int, size: int, huge_page: int = 0) -> int:
    """Write what the set holds of object `shmid`, of `size` bytes and of huge pages of a size that
    is not 0, to `lfd`; returns how many pages."""
    pages = loaded.pages(_name(shmid))
    for p in pages:
        if p.range.end > page_up(size):
            raise ImageError(
                "has pages beyond its object", resource=_name(shmid), why=f"size {size}"
            )
        length = min(p.range.end, size) - p.range.start
        start, source = p.range.start, loaded.pages_lfd(p.pages_id)
        if huge_page:
            hugefile.fill(source, p.offset, lfd, start, length, huge_page, _name(shmid))
            continue
        check(lib.ckpt_copy_file(source, p.offset, lfd, start, length), _name(shmid))
    return sum(p.range.nr_pages for p in pages)


def _anonymous(size: int, reserve: int, huge: int) -> int:
    """`reserve` and `huge` are flags of mmap(2), or 0."""
    flags = mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | reserve | huge
    try:
        with mmap.mmap(-1, size, flags=flags) as mapping:
            view = ffi.from_buffer(mapping)
            start = int(ffi.cast("uintptr_t", view))
            ffi.release(view)
            link = f"/proc/self/map_files/{start:x}-{start + size:x}"
            return os.open(link, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise RestoreError(
            "shared memory can't be made",
            resource=f"{size} bytes",
            why=error.strerror or "",
            hint="ckpt restore needs CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE"
            if error.errno == errno.EPERM
            else "",
        ) from error
