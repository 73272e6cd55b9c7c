"""What a tree writes, mapping by mapping, from one look to the next.

Each look finds the pages that were written since the one before and arms them again; a page that is
written many times in between counts once, for that is what an incremental dump would have to write.
Shared memory is not seen (ckpt-pre-dump(1)).

Each task is stopped once, alone, when it is taken over; then nothing is stopped any more.
"""

from __future__ import annotations

import struct
import time
from typing import TYPE_CHECKING, Self

from ckpt.errors import TargetError
from ckpt.mem.extents import Extents
from ckpt.mem.room import listed
from ckpt.mem.tracking.adopt import adopt_new
from ckpt.mem.tracking.where import is_tracked
from ckpt.mem.vma import trackable
from ckpt.procfs.maps import parse_maps
from ckpt.procfs.reader import ProcDir
from ckpt.procfs.tree import look
from ckpt.record import field, record
from ckpt.track.holder import Holder
from ckpt.units import PAGE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckpt.mem.tracking.engine import Found, Mode
    from ckpt.procfs.maps import Mapping
    from ckpt.report import Report

_EVENT = struct.Struct("=QQ")


@record(frozen=True)
class Written:
    """One mapping: how many pages it holds, and how many of them were written."""

    mapping: Mapping
    populated: int
    written: int


@record(frozen=True)
class TaskSample:
    """One task; `mappings` are those with pages, ascending."""

    pid: int
    comm: str
    populated: int
    written: int
    mappings: list[Written]


@record(frozen=True)
class Sample:
    """One look. `interval_s` is the time in which the pages were written; the first look of all has
    found everything written, and its interval is 0."""

    interval_s: float
    scan_us: int
    tasks: list[TaskSample] = field(default_factory=list)

    @property
    def written(self) -> int:
        return sum(task.written for task in self.tasks)

    @property
    def populated(self) -> int:
        return sum(task.populated for task in self.tasks)

    @property
    def bytes_per_s(self) -> float:
        """Of first writes."""
        return self.written * PAGE / self.interval_s if self.interval_s else 0.0


class Watch:
    """A context manager; takes the tree over when it is entered, and lets go at the end."""

    def __init__(self, root: int, mode: Mode, report: Report, *, events: int = -1) -> None:
        self._root = root
        self._report = report
        self._holder = Holder(mode, events, {})
        self._last_s = 0.0

    def __enter__(self) -> Self:
        task = look(self._root)
        if task is None:
            raise TargetError("there is no such process", pid=self._root)
        if is_tracked(task.pid, task.starttime):
            hint = f"ckpt untrack {task.pid}, if no dump is to build on that"
            raise TargetError("its writes are tracked already", pid=task.pid, hint=hint)
        return self

    def __exit__(self, *_: object) -> None:
        self._holder.close()

    def sample(self) -> Sample:
        """Look once. Raises TargetError when the root has ended."""
        adopt_new(self._holder, self._root, self._report)
        pids = list(self._holder.tracked())
        now_s = time.monotonic()
        found = {pid: one for pid in pids if (one := self._look(pid)) is not None}
        scan_us = int((time.monotonic() - now_s) * 1e6)
        interval_s = now_s - self._last_s if self._last_s else 0.0
        self._last_s = now_s
        tasks = [_task_sample(pid, *one) for pid, one in found.items()]
        return Sample(interval_s, scan_us, [task for task in tasks if task is not None])

    def _look(self, pid: int) -> tuple[list[Mapping], Found] | None:
        """None: it has ended."""
        try:
            with ProcDir(pid) as proc:
                mappings = parse_maps(proc.read("maps"), running=True)
            now = listed(mappings, trackable(mappings))
            engine = self._holder.held[pid].engine
            engine.arm(now.ranges, now.room)
            return mappings, engine.look(now.ranges, rearm=True)
        except TargetError:
            return None


def _task_sample(pid: int, mappings: list[Mapping], found: Found) -> TaskSample | None:
    task = look_comm(pid)
    if task is None:
        return None
    rows = []
    for mapping in mappings:
        if not mapping.shared:
            here = Extents.of([(mapping.start, mapping.end)])
            populated = (found.populated & here).nr_pages
            if populated:
                rows.append(Written(mapping, populated, (found.written & here).nr_pages))
    return TaskSample(pid, task, found.populated.nr_pages, found.written.nr_pages, rows)


def look_comm(pid: int) -> str | None:
    """The name of a process, None where it is gone."""
    try:
        with ProcDir(pid) as proc:
            return proc.read("comm").decode(errors="replace").rstrip("\n")
    except TargetError:
        return None


def events(raw: bytes) -> Iterator[tuple[int, int]]:
    """The ranges of pages that a pipe of events gave; whole records only."""
    yield from _EVENT.iter_unpack(raw[: len(raw) // _EVENT.size * _EVENT.size])
