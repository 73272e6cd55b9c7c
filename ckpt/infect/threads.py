"""A few system calls in threads other than the leader, of a task that is infected.

Each thread in turn goes into the second piece of the stub, makes its calls without a trap, parks,
and is given mask and registers back. Nothing of it lives in the window: should this process die,
the thread goes home by itself, and a leader that does so first takes nothing from it but the place
for answers (EFAULT, which harms nobody).

The calls must not wait. One thread is in the piece at a time, and the piece is neither used again
nor put back before it is out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ckpt.errors import CkptError, TargetError
from ckpt.infect import controller, entry, stub, way
from ckpt.infect.batch import number
from ckpt.infect.place import Memory
from ckpt.procfs.maps import parse_maps
from ckpt.procfs.reader import ProcDir
from ckpt.tracee import ops
from ckpt.tracee.stopped import SeizedTask, Stopped
from ckpt.units import Range

Call = tuple[str, tuple[int, ...]]
_RESULTS = (way.RBP, way.R12, way.R13, way.R14, way.R15)
_TIMEOUT_S = 5.0


@dataclass(slots=True)
class _Visits:
    """What all visits in one task share. `vacant`: no thread is in the piece."""

    task: SeizedTask
    memory: Memory
    site: entry.Site
    controller: int
    vacant: bool = True


def run_in_threads(
    task: SeizedTask, threads: Iterable[Stopped], calls: Sequence[Call], *, answers: Range
) -> Iterator[tuple[Stopped, tuple[int, ...], bytes]]:
    """Make `calls` (name, arguments) in each of `threads`, which stand; for each the results, as
    the kernel returns them, and the bytes at `answers` afterwards, a range of the leader's data
    that the calls write to. A thread that was killed meanwhile is left out.

    Raises TargetError (no room, the task ended), DeadlineError, HarmError.
    """
    numbered = [(number(name), args) for name, args in calls]
    memory = Memory(task.threads[0].tid)
    try:
        visits = _prepare(task, memory)
        try:
            for thread in threads:
                try:
                    results = _visit(visits, thread, numbered)
                except TargetError:
                    if entry.ended(thread.tid):
                        continue
                    raise
                yield thread, results, memory.read(answers.start, len(answers))
        finally:
            if visits.vacant:
                visits.site.put_back(memory)
    finally:
        memory.close()


def run_in_thread(
    task: SeizedTask, stopped: Stopped, calls: Sequence[Call], *, answers: Range
) -> tuple[tuple[int, ...], bytes]:
    """`run_in_threads` for one. Raises ThreadGone where it was killed."""
    for _, results, raw in run_in_threads(task, [stopped], calls, answers=answers):
        return results, raw
    raise ops.ThreadGone("the thread ended", pid=stopped.tid)


def _prepare(task: SeizedTask, memory: Memory) -> _Visits:
    with ProcDir(memory.tid) as proc:
        site = entry.choose_sites(memory, parse_maps(proc.read("maps")))[2]
        if site is None:
            raise TargetError("no room for the threads' stub", pid=task.pid)
        return _Visits(task, memory, site, controller.pid_for(proc))


def _visit(
    visits: _Visits, thread: Stopped, calls: Sequence[tuple[int, tuple[int, ...]]]
) -> tuple[int, ...]:
    """All calls in one thread, as many at a time as the piece holds."""
    v = visits
    entry.check_unmoved(thread)
    back = entry.write_return(v.memory, v.site, v.task, thread, v.controller)
    results: list[int] = []
    for first in range(0, len(calls), stub.NR_CALLS):
        some = calls[first : first + stub.NR_CALLS]
        v.memory.write(v.site.addr, stub.thread_code(v.site.piece, v.site.addr, back, some))
        v.vacant = False
        try:
            entry.enter(thread, v.site)
            regs = _results(v, thread)
        except CkptError:
            # An ended thread is in nobody's way.
            v.vacant = v.vacant or entry.ended(thread.tid)
            raise
        results += reversed([regs[r] for r in _RESULTS[: len(some)]])
    return tuple(r - (1 << 64) if r >> 63 else r for r in results)


def _results(visits: _Visits, thread: Stopped) -> tuple[int, ...]:
    """Registers of a thread that has made its calls, which then stands as before."""
    parked = entry.stand_parked(thread.tid, visits.site, (), _TIMEOUT_S)
    regs = way.REGS.unpack(ops.get_regs(thread.tid))
    if parked:
        entry.leave(visits.task, thread)
    visits.vacant = True
    if not parked:
        raise TargetError("the thread did not wait for its answers", pid=thread.tid)
    return regs
