"""Shared memory: one object, however many tasks map it or hold it.

Anonymous objects are found by the device and inode behind their mappings and read through a
descriptor of /proc/PID/map_files; memfds come from ckpt.files with a descriptor. Each is copied
once, with its holes. Its id in the images is the inode number.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ckpt._native import check, lib
from ckpt.images.pagemap import PE_PRESENT, Run, pagemap_messages
from ckpt.mem.vma import Backing, backing_of
from ckpt.units import PAGE, page_down, page_up

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from google.protobuf.message import Message

    from ckpt.images.writer import ImageSetWriter
    from ckpt.procfs.reader import ProcDir
    from ckpt.procfs.smaps import Smap


class SharedMemory:
    """The objects of one dump, by id. Ids are inode numbers, cut to the 32 bits of the format."""

    def __init__(self) -> None:
        self._sources: dict[int, tuple[ProcDir, str]] = {}
        self._runs: dict[int, tuple[int, list[Run]]] = {}

    @property
    def nr_pages(self) -> int:
        """Pages copied so far."""
        return sum(run.nr_pages for _, runs in self._runs.values() for run in runs)

    def collect(self, proc: ProcDir, smaps: Sequence[Smap]) -> None:
        """Note every anonymous object that the task at `proc` maps; `proc` stays open until
        `copy`."""
        for smap in smaps:
            if backing_of(smap) is Backing.SHMEM:
                link = f"map_files/{smap.start:x}-{smap.end:x}"
                self._sources.setdefault(object_id(smap), (proc, link))

    def copy(self, writer: ImageSetWriter, first_pages_id: int) -> None:
        """Copy the anonymous objects into pages files, numbered from `first_pages_id` on."""
        for shmid, (proc, link) in self._sources.items():
            lfd = proc.open(link, os.O_RDONLY)
            try:
                self.add(writer, first_pages_id + len(self._runs), shmid, lfd)
            finally:
                os.close(lfd)

    def add(self, writer: ImageSetWriter, pages_id: int, shmid: int, lfd: int) -> None:
        """Copy one object."""
        self._runs[shmid] = (pages_id, copy_data(lfd, writer.pages(pages_id)))

    def images(self) -> Iterator[tuple[str, list[Message]]]:
        for shmid, (pages_id, runs) in self._runs.items():
            yield f"pagemap-shmem-{shmid}", pagemap_messages(pages_id, runs)


def object_id(smap: Smap) -> int:
    """The id of the object behind a mapping. All such objects live on one device."""
    return smap.mapping.ino & 0xFFFFFFFF


def copy_data(lfd: int, pages_fd: int) -> list[Run]:
    """Copy what is no hole of the file `lfd` to `pages_fd`; returns the runs, by file offset."""
    runs: list[Run] = []
    size = page_up(os.fstat(lfd).st_size)
    at, written = 0, 0
    while at < size:
        try:
            start = page_down(os.lseek(lfd, at, os.SEEK_DATA))
        except OSError:
            break
        end = page_up(os.lseek(lfd, start, os.SEEK_HOLE))
        check(lib.ckpt_copy_file(lfd, start, pages_fd, written, end - start), "shared memory")
        runs.append(Run(start, (end - start) // PAGE, PE_PRESENT))
        written += end - start
        at = end
    return runs
