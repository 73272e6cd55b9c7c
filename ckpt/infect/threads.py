"""A few system calls in threads other than the leader, of a task that is infected.

Each thread in turn goes into the second piece of the stub, makes its calls without a trap, parks,
and is given mask and registers back. Nothing of it lives in the window: should this process die,
the thread goes home by itself, and a leader that does so first takes nothing from it but the place
for answers (EFAULT, which harms nobody).

The calls must not wait. One thread stands in the piece at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ckpt.errors import TargetError
from ckpt.infect import entry, stub, way
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
        with ProcDir(memory.tid) as proc:
            site = entry.choose_sites(memory, parse_maps(proc.read("maps")))[2]
        if site is None:
            raise TargetError("no room for the threads' stub", pid=task.pid)
        try:
            for thread in threads:
                try:
                    results = _visit(task, thread, memory, site, numbered)
                except ops.ThreadGone:
                    continue
                yield thread, results, memory.read(answers.start, len(answers))
        finally:
            site.put_back(memory)
    finally:
        memory.close()


def run_in_thread(
    task: SeizedTask, stopped: Stopped, calls: Sequence[Call], *, answers: Range
) -> tuple[tuple[int, ...], bytes]:
    """`run_in_threads` for one. Raises ThreadGone where it was killed."""
    for _, results, raw in run_in_threads(task, [stopped], calls, answers=answers):
        return results, raw
    raise ops.ThreadGone("the thread ended", pid=stopped.tid)


def _visit(
    task: SeizedTask,
    thread: Stopped,
    memory: Memory,
    site: entry.Site,
    calls: Sequence[tuple[int, tuple[int, ...]]],
) -> tuple[int, ...]:
    """All calls in one thread, as many at a time as the piece holds."""
    entry.check_unmoved(thread)
    home = entry.way_of(memory, task, thread)
    frame_addr = entry.write_frame(memory, site, home, entry.xstate_of(thread))
    results: list[int] = []
    for first in range(0, len(calls), stub.NR_CALLS):
        some = calls[first : first + stub.NR_CALLS]
        code = stub.thread_code(site.piece, site.addr, home, frame_addr, some)
        memory.write(site.addr, code)
        entry.enter(thread, site.addr + site.piece.enter)
        if not entry.stand_parked(thread.tid, site, (), _TIMEOUT_S):
            raise TargetError("the thread did not wait for its answers", pid=thread.tid)
        regs = way.REGS.unpack(ops.get_regs(thread.tid))
        results += reversed([regs[r] for r in _RESULTS[: len(some)]])
        entry.leave(task, thread)
    return tuple(r - (1 << 64) if r >> 63 else r for r in results)
