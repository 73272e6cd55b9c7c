"""Shared anonymous memory: one object, however many tasks map it.

It is found by the device and inode behind its mappings and copied once, from a descriptor of
/proc/PID/map_files, with its holes. Its id in the images is the inode number.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ckpt._native import check, lib
from ckpt.images.pagemap import PE_PRESENT, Run, pagemap_messages
from ckpt.mem.vma import Backing
from ckpt.units import PAGE, page_down, page_up

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from google.protobuf.message import Message

    from ckpt.dump.stats import DumpStats
    from ckpt.images.writer import ImageSetWriter
    from ckpt.mem.vma import Vma
    from ckpt.procfs.reader import ProcDir
    from ckpt.procfs.smaps import Smap


@dataclass(slots=True)
class _Object:
    pid: int
    link: str
    proc: ProcDir
    pages_id: int = 0
    runs: list[Run] = field(default_factory=list)


class SharedMemory:
    """The objects of one dump. Ids are inode numbers, truncated to what the format holds."""

    def __init__(self) -> None:
        self._objects: dict[tuple[int, int], _Object] = {}
        self._ids: dict[tuple[int, int], int] = {}

    def __len__(self) -> int:
        return len(self._objects)

    def collect(self, proc: ProcDir, vmas: Sequence[Vma], smaps: Sequence[Smap]) -> None:
        """Note every object that the task at `proc` maps; `proc` must stay open until `copy`."""
        for v, smap in zip(vmas, smaps, strict=True):
            if v.backing is not Backing.SHMEM:
                continue
            key = (smap.mapping.dev, smap.mapping.ino)
            link = f"map_files/{v.range.start:x}-{v.range.end:x}"
            self._objects.setdefault(key, _Object(proc.pid, link, proc))
            self._ids.setdefault(key, smap.mapping.ino & 0xFFFFFFFF)

    def shmid(self, smap: Smap) -> int:
        """The id of the object behind a mapping that was collected."""
        return self._ids[smap.mapping.dev, smap.mapping.ino]

    def copy(self, writer: ImageSetWriter, first_pages_id: int, stats: DumpStats) -> None:
        """Copy what the objects hold into pages files, numbered from `first_pages_id` on."""
        for number, what in enumerate(self._objects.values(), first_pages_id):
            what.pages_id = number
            lfd = what.proc.open(what.link, os.O_RDONLY)
            try:
                what.runs = copy_data(lfd, writer.pages(number))
            finally:
                os.close(lfd)
            stats.shpages_written += sum(r.nr_pages for r in what.runs)

    def images(self) -> Iterator[tuple[str, list[Message]]]:
        for key, what in self._objects.items():
            yield (
                f"pagemap-shmem-{self._ids[key]}",
                pagemap_messages(what.pages_id, what.runs),
            )


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
