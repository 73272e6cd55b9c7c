"""The pre-dump: memory is written while the tree runs, so that the dump after it has less to do.

1. Every task that is not tracked yet is stopped by itself, for its infection alone.
2. A round: what was written since the set before moves from the kernel to the keeper, and is armed
   again, all of it while the tree runs.
3. Threads that may have direct I/O in flight are seen to cross the border of the kernel, one at a
   time. Where that can't be had, the pages of this round are written again in the next.
4. The pages are copied. What is written meanwhile is found by the next round.
5. The set is committed: pagemaps, pages, and an inventory, which alone make no tree. Then the
   keeper learns of it.

A pre-dump that fails leaves the tree as it was, but tracked if it was before; the pages that its
round has consumed are written by the next one.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from ckpt.dump import describe
from ckpt.dump.increment import begin
from ckpt.dump.pages import pages_for
from ckpt.dump.preflight import preflight
from ckpt.dump.run import files_dump
from ckpt.dump.stats import DumpStats
from ckpt.dump.streaming import runs_of, send_running
from ckpt.dump.work import new_run_id, uptime_us
from ckpt.errors import ImageError, TargetError, refused_by_kernel
from ckpt.images.directory import pages_written
from ckpt.images.service import write_service
from ckpt.images.writer import ImageSetWriter
from ckpt.mem.extents import Extents
from ckpt.mem.missing.finish import finish
from ckpt.mem.room import Listed, listed
from ckpt.mem.running import copy_running
from ckpt.mem.tracking.contexts import has_io_contexts
from ckpt.mem.vma import trackable
from ckpt.ns.cgroup_dump import GroupsDump
from ckpt.procfs.maps import parse_maps
from ckpt.procfs.reader import ProcDir
from ckpt.record import field, record
from ckpt.tracee.crossing import crossed
from ckpt.tracee.scan import scan
from ckpt.units import PAGE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ckpt.dump.increment import Increment
    from ckpt.dump.options import DumpOptions
    from ckpt.dump.pages import Pages
    from ckpt.images.pagemap import Run
    from ckpt.report import Report

_CROSSING_S = 0.2


@record
class _Task:
    """One tracked task. `mem` is /proc/PID/mem; `written` and `parent` are what this set says of
    its pages."""

    pid: int
    mem: int
    written: Extents = field(default_factory=Extents.none)
    parent: Extents = field(default_factory=Extents.none)
    settled: bool = False
    io_contexts: bool = False

    def runs(self) -> list[Run]:
        return runs_of(self.written, self.parent)


@refused_by_kernel("the pre-dump can't go on")
def pre_dump(options: DumpOptions, report: Report) -> DumpStats:
    """Write what the tree has written since the set before, or all, into `options.images_dir`.

    Raises TargetError, ImageError, KernelError; the tree runs on in any case.
    """
    stats = DumpStats()
    finish(options.tree, report)
    report.stage("look")
    scan(options.tree, children=False)  # of a root that has ended the keeper would only end as well
    with ExitStack() as scope:
        increment = begin(options, report, track=True)
        assert increment is not None
        scope.enter_context(increment)
        writer = scope.enter_context(
            ImageSetWriter(options.images_dir, checksums=options.checksums)
        )
        pages = pages_for(options, writer, scope)
        increment.link(writer)
        run_id, uptime = new_run_id(), uptime_us()
        before = time.monotonic_ns()
        pids = increment.adopt(options.tree, report)
        stats.freezing_us = (time.monotonic_ns() - before) // 1000
        _warn_of_refusals(options, report, pids)
        tasks = _round(increment, pids, scope, report)
        before = time.monotonic_ns()
        _copy(tasks, increment, pages, report)
        stats.memdump_us = (time.monotonic_ns() - before) // 1000
        _commit(writer, pages, stats, run_id, uptime)
        with increment.set_is_whole(report):
            _settle(tasks, increment, run_id)
        if options.auto_dedup:
            increment.dedup(options, report)
    try:
        write_service(options.work_dir, "stats-dump", stats.message())
    except (ImageError, OSError) as error:
        report.warn(str(error))
    return stats


def _warn_of_refusals(options: DumpOptions, report: Report, tracked: frozenset[int]) -> None:
    """What would keep the dump from being made, said while there is time to change it."""
    groups = GroupsDump.begin(options.cgroups)
    for refusal in preflight(options, files_dump(options, report), tracked, groups).refusals:
        report.warn(f"a dump would be refused: {refusal}")


def _round(
    increment: Increment, pids: Iterable[int], scope: ExitStack, report: Report
) -> list[_Task]:
    """Move the dirty bits to the keeper; the tasks that answered, with what there is to copy."""
    report.stage("scan")
    tasks: dict[int, _Task] = {}
    wanted: dict[int, Listed] = {}
    for pid in pids:
        try:
            with ProcDir(pid) as proc:
                mem = proc.open("mem", os.O_RDONLY)
                scope.callback(os.close, mem)
                mappings = parse_maps(proc.read("maps"), running=True)
                wanted[pid] = listed(mappings, trackable(mappings))
                tasks[pid] = _Task(pid, mem)
        except TargetError:
            continue  # it has ended
    increment.round(wanted)
    return [tasks[pid] for pid in increment.answers]


def _copy(tasks: list[_Task], increment: Increment, pages: Pages, report: Report) -> None:
    for task in tasks:
        answer = increment.answers[task.pid]
        try:
            task.settled = crossed(task.pid, _CROSSING_S)
            task.io_contexts = answer.io_contexts or has_io_contexts(task.pid)
        except TargetError:
            continue
        task.parent = answer.populated & increment.kept(task.pid, final=False)
        task.written = answer.populated - task.parent
    report.stage("memory")
    total = sum(task.written.nr_pages for task in tasks) * PAGE
    done = 0

    def progress(step: int) -> None:
        nonlocal done
        done += step
        report.progress(done, total)

    for number, task in enumerate(tasks, 1):
        with pages_written(pages.where(number)):
            _copy_task(task, number, pages, progress)


def _copy_task(task: _Task, number: int, pages: Pages, progress: Callable[[int], None]) -> None:
    name = f"pagemap-{task.pid}"
    try:
        if pages.remote:
            pages.begin(name, number, list)
            task.written = send_running(
                task.pid, task.mem, task.written, task.parent, pages, progress
            )
        else:
            lfd = pages.begin(name, number, task.runs)
            task.written = copy_running(task.pid, task.mem, task.written, lfd, progress)
    except ProcessLookupError:
        task.written = task.parent = Extents.none()
    pages.end()


def _commit(
    writer: ImageSetWriter,
    pages: Pages,
    stats: DumpStats,
    run_id: str,
    uptime: int,
) -> None:
    """Make the set whole."""
    before = time.monotonic_ns()
    for name, messages in pages.images():
        writer.write(name, messages)
    for runs in pages.runs():
        stats.count(runs)
    writer.write("inventory", [describe.inventory(run_id, uptime)])
    writer.sync()
    pages.commit()
    writer.commit()
    stats.memwrite_us = (time.monotonic_ns() - before) // 1000


def _settle(tasks: list[_Task], increment: Increment, run_id: str) -> None:
    """Tell the keeper. A task that has ended or become another program since the round is in the
    set, but not built upon."""
    alive = increment.keeper.tracked()
    mine = [task for task in tasks if task.pid in alive]
    increment.commit(
        run_id,
        {task.pid: task.written | task.parent for task in mine},
        settled={task.pid: task.settled for task in mine},
        io_contexts={task.pid: task.io_contexts for task in mine},
    )
