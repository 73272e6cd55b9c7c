"""What the holder knows, as the server in C takes it: struct ckpt_lazy_job and what is in it."""

from __future__ import annotations

import mmap
import os
import struct
from bisect import bisect_right
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ckpt._native import check, ffi, lib
from ckpt.errors import CkptError
from ckpt.images.types import WORKING_SET, file_name
from ckpt.images.workingset import NR_MAX, merged, write_working_set
from ckpt.mem.missing.contents import RUN
from ckpt.mem.tracking.protocol import ProtocolError
from ckpt.record import field, record
from ckpt.units import PAGE, page_up

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ckpt.images.workingset import Fetched
    from ckpt.mem.missing.contents import Contents, Source

_JOURNAL_LEN = 1 << 20
_FIRST = struct.Struct("=3Q")
_SPACE = struct.Struct("=iiIIQ")


@record(frozen=True)
class Task:
    """An address space as a restore has handed it over. `soon`: what to bring first, in order.
    `shares`: not its private memory but its mappings of shared memory: start, end, number of the
    object, place there."""

    pid: int
    uffd: int
    pidfd: int
    ranges: list[tuple[int, int]]
    soon: list[tuple[int, int]]
    tracked: bool
    shares: list[tuple[int, int, int, int]] = field(default_factory=list)


@record(frozen=True)
class Object:
    """Shared memory that comes late."""

    shmid: int
    lfd: int
    size: int


class Job:
    """The memory that holder and servers share, and the files that outlive a server."""

    def __init__(
        self, tasks: Sequence[Task], contents: Contents, objects: Sequence[Object] = ()
    ) -> None:
        """Writes the first layout. The descriptors in what is given must stay open. Raises
        ProtocolError: mappings of an object that is not there."""
        self._told_map = mmap.mmap(-1, mmap.PAGESIZE)
        self._records_map = mmap.mmap(-1, NR_MAX * RUN.size)
        self._keep: list[Any] = []  # what C has pointers to
        job = self.job = ffi.new("struct ckpt_lazy_job *")
        self.told = job.told = ffi.cast("struct ckpt_lazy_told *", ffi.from_buffer(self._told_map))
        job.records = ffi.cast("struct ckpt_lazy_run *", ffi.from_buffer(self._records_map))
        job.nr_records_max = NR_MAX
        self._moved_map = mmap.mmap(-1, page_up(max(1, len(tasks))))
        job.moved = ffi.cast("uint8_t *", ffi.from_buffer(self._moved_map))
        job.nr_moved = len(tasks)
        job.journal_len = _JOURNAL_LEN
        for turn in range(2):
            job.layouts[turn] = os.memfd_create("ckpt-lazy-layout", os.MFD_CLOEXEC)
            job.journals[turn] = os.memfd_create("ckpt-lazy-journal", os.MFD_CLOEXEC)
            os.ftruncate(job.journals[turn], _JOURNAL_LEN)
        left = 0
        spaces = {one.shmid: len(tasks) + number for number, one in enumerate(objects)}
        with os.fdopen(os.dup(job.layouts[0]), "wb") as layout:
            for task in tasks:
                runs = _shared(task, spaces) if task.shares else _private(task, contents)
                layout.write(_SPACE.pack(task.uffd, task.pidfd, _flags(task), 0, len(runs)))
                layout.writelines(RUN.pack(*run) for run in runs)
                left += 0 if task.shares else sum(run[1] - run[0] for run in runs)
            for number, one in enumerate(objects):
                runs = list(clipped(contents.objects.get(one.shmid, b""), [(0, one.size)]))
                layout.write(_SPACE.pack(-1, -1, lib.CKPT_LAZY_OBJECT, number, len(runs)))
                layout.writelines(RUN.pack(*run) for run in runs)
                left += sum(run[1] - run[0] for run in runs)
        self.told.nr_left = left // PAGE
        self._set_objects(objects)
        self.set_sources(contents.sources)
        self._set_first(tasks, contents.first)

    def set_sources(self, sources: Sequence[Source]) -> None:
        """For the next server; the number and order is as at first."""
        rows = self._made("struct ckpt_lazy_source[]", max(1, len(sources)))
        for row, source in zip(rows, sources, strict=False):
            row.kind, row.lfd, row.image = source.kind, source.lfd, source.image
            row.size, row.block = source.size, source.block
            row.sums = row.trusted = ffi.NULL
            if source.sums:
                row.sums = ffi.cast("uint64_t *", self._copy(source.sums))
                row.trusted = ffi.cast("uint8_t *", self._copy(source.trusted))
        self.job.sources, self.job.nr_sources = rows, len(sources)

    def _set_objects(self, objects: Sequence[Object]) -> None:
        rows = self._made("struct ckpt_lazy_object[]", max(1, len(objects)))
        for row, one in zip(rows, objects, strict=False):
            row.lfd, row.size = one.lfd, one.size
        self.job.objects, self.job.nr_objects = rows, len(objects)

    def _set_first(self, tasks: Sequence[Task], first: Sequence[Fetched]) -> None:
        spaces = {task.pid: index for index, task in enumerate(tasks) if not task.shares}
        wanted = [(index, *one) for index, task in enumerate(tasks) for one in task.soon]
        self.job.nr_soon = len(wanted)
        wanted += [(spaces[pid], start, end) for pid, start, end in first if pid in spaces]
        packed = self._copy(b"".join(_FIRST.pack(*one) for one in wanted))
        self.job.first = ffi.cast("struct ckpt_lazy_first *", packed)
        self.job.nr_first = len(wanted)

    def start(self) -> int:
        """A new server's pid. The process must have one thread."""
        self.told.error = self.told.stop = 0
        return check(lib.ckpt_lazy_start(self.job), "the server of pages")

    def moved(self, space: int) -> bool:
        """Whether this address space has moved memory."""
        return bool(self._moved_map[space])

    def records(self) -> list[tuple[int, int, int]]:
        """What was brought for the first faults: source, first and last place there."""
        raw = bytes(self._records_map[: self.told.nr_records * RUN.size])
        return [(source, at, at + end - start) for start, end, source, at in RUN.iter_unpack(raw)]

    def _made(self, kind: str, nr: int) -> Any:
        made = ffi.new(kind, nr)
        self._keep.append(made)
        return made

    def _copy(self, data: bytes) -> Any:
        return ffi.from_buffer(self._kept(data))

    def _kept(self, data: bytes) -> bytes:
        self._keep.append(data)
        return data


def _flags(task: Task) -> int:
    tracked = lib.CKPT_LAZY_TRACKED if task.tracked else 0
    return int(lib.CKPT_LAZY_SHARES if task.shares else tracked)


def _private(task: Task, contents: Contents) -> list[tuple[int, int, int, int]]:
    return list(clipped(contents.runs.get(task.pid, b""), task.ranges))


def _shared(task: Task, spaces: Mapping[int, int]) -> list[tuple[int, int, int, int]]:
    """As runs whose source is the number of an object's space."""
    if any(share[2] not in spaces for share in task.shares):
        raise ProtocolError("mappings of shared memory that is not there")
    return [(start, end, spaces[shmid], at) for start, end, shmid, at in sorted(task.shares)]


def clipped(runs: bytes, ranges: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int, int, int]]:
    """The parts of packed runs that are in the ascending `ranges`."""
    at = 0
    for start, end, source, place in RUN.iter_unpack(runs):
        while at < len(ranges) and ranges[at][1] <= start:
            at += 1
        i = at
        while i < len(ranges) and ranges[i][0] < end:
            first, last = max(start, ranges[i][0]), min(end, ranges[i][1])
            yield first, last, source, place + first - start
            i += 1


def as_dumped(records: Iterable[tuple[int, int, int]], contents: Contents) -> Iterator[Fetched]:
    """Places in sources as addresses of the processes that were dumped."""
    known: dict[int, list[tuple[int, int, int, int]]] = {}
    for pid, runs in contents.runs.items():
        for start, end, source, at in RUN.iter_unpack(runs):
            known.setdefault(source, []).append((at, at + end - start, pid, start))
    for rows in known.values():
        rows.sort()
    for source, first, last in records:
        rows = known.get(source, [])
        i = bisect_right(rows, (first, 1 << 64)) - 1
        if i >= 0 and first < rows[i][1]:
            at, end, pid, start = rows[i]
            yield pid, start + first - at, start + min(last, end) - at


def record_working_set(job: Job, contents: Contents) -> None:
    """What was asked for, for the next restore. The set may be read-only: then without."""
    records = job.records()
    if records and contents.folders:
        fetched = merged(contents.first, as_dumped(records, contents))
        with suppress(CkptError, OSError):
            write_working_set(contents.folders[0], fetched, file_name(WORKING_SET))
