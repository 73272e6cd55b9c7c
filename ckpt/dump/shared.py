"""Shared memory: one object, however many tasks map it or hold it.

Anonymous objects are found by the device and inode behind their mappings and read through a
descriptor of /proc/PID/map_files; memfds come from ckpt.files with a descriptor. Each is copied
once, with its holes, by a live engine if there is one that can; those of huge pages, while the tree
stands. Its id in the images is the inode number.

Not kept: what a task has written behind the end of an object, in its last page; mmap(2) promises
nothing of it.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any

from ckpt._native import check, lib
from ckpt.dump.pages import send_file
from ckpt.images.directory import pages_written
from ckpt.images.pagemap import PE_PRESENT, Run
from ckpt.kerndat import hugetlb
from ckpt.mem import hugefile
from ckpt.mem.transfer import write_all
from ckpt.mem.vma import Backing, backing_of
from ckpt.units import PAGE, page_down, page_up

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ckpt.dump.engine import LiveEngine
    from ckpt.dump.pages import Pages
    from ckpt.mem.extents import Extents
    from ckpt.procfs.reader import ProcDir
    from ckpt.procfs.smaps import Smap


class SharedMemory:
    """The objects of one dump, by id. Ids are inode numbers, cut to the 32 bits of the format.
    `nr_pages` counts what was copied so far; `clashes` are ids that a segment and another object
    have both."""

    def __init__(self) -> None:
        self._sources: dict[int, tuple[ProcDir, str, Backing, int]] = {}
        self._mapped: dict[int, list[tuple[int, Smap]]] = {}
        self.clashes: list[int] = []
        self._sizes: dict[int, int] = {}
        self._nr = 0
        self.nr_pages = 0

    def collect(self, proc: ProcDir, smaps: Sequence[Smap]) -> None:
        """Note every anonymous object, and segment of System V, that the task at `proc` maps;
        `proc` stays open until `copy`."""
        for smap in smaps:
            backing = backing_of(smap)
            if smap.mapping.shared:
                self._mapped.setdefault(object_id(smap), []).append((proc.pid, smap))
            if backing in (Backing.SHMEM, Backing.SYSV):
                link = f"map_files/{smap.start:x}-{smap.end:x}"
                source = (proc, link, backing, smap.huge_page)
                known = self._sources.setdefault(object_id(smap), source)
                if known[2:] != source[2:]:
                    self.clashes.append(object_id(smap))

    def copy(self, pages: Pages, first_pages_id: int, engine: LiveEngine | None) -> None:
        """Copy the anonymous objects, into pages files numbered from `first_pages_id` on."""
        for shmid, (proc, link, backing, huge_page) in self._sources.items():
            lfd = proc.open(link, os.O_RDONLY)
            pages_id = first_pages_id + self._nr
            try:
                if huge_page:
                    self.add_huge(pages, pages_id, shmid, lfd, huge_page)
                else:
                    if backing is Backing.SHMEM:
                        self._sizes[shmid] = os.fstat(lfd).st_size
                    self.add(pages, pages_id, shmid, lfd, engine)
            finally:
                os.close(lfd)

    def images(self) -> list[tuple[str, list[Any]]]:
        """How long the objects are that mremap(2) or munmap(2) has left with mappings that end
        elsewhere; CRIU's images have no field for it."""
        from ckpt.images.pb.ckpt_shmem_pb2 import ckpt_shmem_entry

        found = []
        for shmid, size in self._sizes.items():
            mappings = [smap.mapping for _, smap in self._mapped[shmid]]
            if size != max(m.pgoff + m.end - m.start for m in mappings):
                found.append(ckpt_shmem_entry(shmid=shmid, size=size))
        return [("ckpt-shmem", found)] if found else []

    def add(
        self, pages: Pages, pages_id: int, shmid: int, lfd: int, engine: LiveEngine | None
    ) -> None:
        """Copy one object, without its holes, or have `engine` take it over."""
        self._nr += 1
        if engine is not None and self._cover(pages, pages_id, shmid, lfd, engine):
            return
        runs = list(data_runs(lfd))
        self.nr_pages += sum(run.nr_pages for run in runs)
        to = pages.begin(f"pagemap-shmem-{shmid}", pages_id, lambda: runs)
        with pages_written(pages.where(pages_id)):
            size = os.fstat(lfd).st_size
            for run in runs:
                length = min(run.nr_pages * PAGE, size - run.addr)
                send_file(lfd, run.addr, to, length)
                # An object may end within a page; pages files have whole ones.
                write_all(to, bytes(run.nr_pages * PAGE - length))
        pages.end()

    def add_huge(self, pages: Pages, pages_id: int, shmid: int, lfd: int, huge_page: int) -> None:
        """Copy one object of pages of this size, what is not zero of it."""
        self._nr += 1
        found = hugefile.data(lfd, huge_page)
        runs = _runs(found)
        self.nr_pages += found.nr_pages
        to = pages.begin(f"pagemap-shmem-{shmid}", pages_id, lambda: runs)
        with pages_written(pages.where(pages_id)):
            hugefile.copy(lfd, found, to)
        pages.end()

    def _cover(self, pages: Pages, pages_id: int, shmid: int, lfd: int, engine: LiveEngine) -> bool:
        mapped = self._mapped.get(shmid, [])
        inos = {smap.mapping.ino for _, smap in mapped}
        data = engine.find_shared(min(inos), mapped) if len(inos) == 1 else None
        if data is None:
            return False
        runs = partial(_runs, data)
        to = pages.begin(f"pagemap-shmem-{shmid}", pages_id, runs)
        rest = engine.cover_shared(min(inos), to)
        with pages_written(pages.where(pages_id)):
            done = lib.ckpt_copy_placed(lfd, data.array, data.nr, rest.array, rest.nr, to)
            check(done, "shared memory")
        pages.end()
        self.nr_pages += data.nr_pages
        return True


def _runs(data: Extents) -> list[Run]:
    return [Run(start, (end - start) // PAGE, PE_PRESENT) for start, end in data]


def object_id(smap: Smap) -> int:
    """The id of the object behind a mapping. All such objects live on one device, but those of huge
    pages, whose inode numbers are counted apart."""
    if smap.huge_page and backing_of(smap) is Backing.SHMEM:
        return hugetlb.object_id(smap.mapping.ino)
    return smap.mapping.ino & 0xFFFFFFFF


def data_runs(lfd: int) -> Iterator[Run]:
    """What is no hole of the file `lfd`, by file offset."""
    size = page_up(os.fstat(lfd).st_size)
    at = 0
    while at < size:
        try:
            start = page_down(os.lseek(lfd, at, os.SEEK_DATA))
        except OSError:
            return
        at = page_up(os.lseek(lfd, start, os.SEEK_HOLE))
        yield Run(start, (at - start) // PAGE, PE_PRESENT)
