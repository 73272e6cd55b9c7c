"""A few system calls in threads other than the leader, of a task that is infected.

Each thread in turn goes into the second piece of the stub, makes its calls without a trap, parks,
and is given mask and registers back. Nothing of it lives in the window: should this process die,
the thread goes home by itself, and a leader that does so first takes nothing from it but the place
for answers (EFAULT, which harms nobody).

The calls must not wait. One thread is in the piece at a time, and the piece is neither used again
nor put back before it is out.

What each thread needs to come home is computed for AT_ONCE of them, then they are visited by a loop
in C (ckpt/_native/src/visit.h). A thread with which something is out of the ordinary (it takes
long, is about to get a signal, was killed) is left to `_late`, which has all the patience.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from ckpt._native import ffi, lib
from ckpt.errors import CkptError, KernelError, TargetError
from ckpt.infect import controller, entry, stub, way
from ckpt.infect.batch import number
from ckpt.infect.place import Memory
from ckpt.infect.session import Session
from ckpt.procfs.reader import ProcDir
from ckpt.record import record
from ckpt.tracee import ops
from ckpt.tracee.stopped import SeizedTask, Stopped
from ckpt.units import Range

Call = tuple[str, tuple[int, ...]]
_Numbered = tuple[int, tuple[int, ...]]
Asked = tuple[Stopped, tuple[int, ...], bytes]
AT_ONCE = 64
_RESULTS = (way.RBP, way.R12, way.R13, way.R14, way.R15)
_TIMEOUT_S = 5.0
_ANSWERS_MAX = 64
_VISIT = struct.Struct("<iiiIQQ216s216s216x64x")


@record
class _Visits:
    """What all visits in one task share. `vacant`: no thread is in the piece."""

    task: SeizedTask
    memory: Memory
    site: entry.Site
    controller: int
    answers: Range
    caught: int
    vacant: bool = True


def run_in_threads(
    session: Session,
    task: SeizedTask,
    threads: Iterable[Stopped],
    calls: Sequence[Call],
    *,
    answers: Range,
) -> Iterator[Asked]:
    """Make `calls` (name, arguments) in each of `threads` of the task of `session`, which stand.

    For each the results, as the kernel returns them, and the bytes at `answers` afterwards, a range
    of the leader's data that the calls write to, at most 64 bytes, seen after the last NR_CALLS or
    less of them. A thread that was killed meanwhile is left out.

    Raises TargetError (no room, the task ended), DeadlineError, HarmError.
    """
    if len(answers) > _ANSWERS_MAX:
        raise ValueError(f"{len(answers)} bytes of answers")
    numbered = [(number(name), args) for name, args in calls]
    memory = Memory(task.threads[0].tid)
    left = iter(threads)
    try:
        visits = _prepare(session, task, memory, answers)
        try:
            while some := list(islice(left, AT_ONCE)):
                yield from _visit(visits, some, numbered)
        finally:
            if visits.vacant:
                visits.site.put_back(memory)
    finally:
        memory.close()


def run_in_further(
    session: Session, task: SeizedTask, calls: Sequence[Call], *, answers: Range
) -> Iterator[Asked]:
    """`run_in_threads` for all but the leader; nothing is looked at where there are no others."""
    others = [stopped for stopped in task.threads if stopped.tid != task.pid]
    if others:
        yield from run_in_threads(session, task, others, calls, answers=answers)


def run_in_thread(
    session: Session,
    task: SeizedTask,
    stopped: Stopped,
    calls: Sequence[Call],
    *,
    answers: Range,
) -> tuple[tuple[int, ...], bytes]:
    """`run_in_threads` for one. Raises ThreadGone where it was killed."""
    for _, results, raw in run_in_threads(session, task, [stopped], calls, answers=answers):
        return results, raw
    raise ops.ThreadGone("the thread ended", pid=stopped.tid)


def _prepare(session: Session, task: SeizedTask, memory: Memory, answers: Range) -> _Visits:
    if session.further is None:
        raise TargetError(
            "no room for the threads' stub",
            pid=task.pid,
            why=f"no other executable mapping ends in {len(stub.pieces()[1])} unused bytes",
            hint="a static program may have too few; linked with shared libraries it has them",
        )
    with ProcDir(memory.tid) as proc:
        pid = controller.pid_for(proc)
    return _Visits(task, memory, session.further, pid, answers, entry.caught_signals(task))


def _site(visits: _Visits) -> ffi.CData:
    """struct ckpt_visit_site."""
    site = visits.site
    return ffi.new(
        "struct ckpt_visit_site *",
        {
            "code": site.addr,
            "frame": site.frame.addr if site.frame else 0,
            "xstate": site.xstate.addr if site.xstate else 0,
            "park": site.parked.start,
            "park_end": site.parked.stop,
            "answers": visits.answers.start,
            "code_len": len(site.piece),
            "frame_len": way.FRAME_SIZE,
            "answers_len": len(visits.answers),
            "mem": visits.memory.fileno(),
        },
    )


def _visit(
    visits: _Visits, threads: Sequence[Stopped], calls: Sequence[_Numbered]
) -> Iterator[Asked]:
    """All calls in each of AT_ONCE threads or less, as many at a time as the piece holds: a thread
    that is to make more goes in again, before the next one overwrites its answers."""
    some = [calls[i : i + stub.NR_CALLS] for i in range(0, len(calls), stub.NR_CALLS)]
    order = [(thread, part) for thread in threads for part in some]
    rows, writes = bytearray(), bytearray()
    for thread, part in order:
        rows += _describe(visits, thread, part, writes)
    raw = ffi.from_buffer("struct ckpt_visit[]", rows)
    ends = iter(_run(visits, order, raw, ffi.from_buffer(writes)))
    for thread, parts in zip(threads, zip(*[ends] * len(some), strict=True), strict=True):
        if all(part is not None for part in parts):
            results = tuple(result for part in parts if part for result in part[0])
            yield thread, results, parts[-1][1] if parts[-1] else b""


def _run(
    visits: _Visits,
    order: Sequence[tuple[Stopped, Sequence[_Numbered]]],
    raw: ffi.CData,
    writes: ffi.CData,
) -> Iterator[tuple[tuple[int, ...], bytes] | None]:
    """Results and answers of each visit, None of a thread that was killed."""
    site, size = _site(visits), len(visits.answers)
    at = 0
    while at < len(order):
        visits.vacant = False
        done = lib.ckpt_visit_threads(site, raw + at, len(order) - at, writes)
        visits.vacant = True
        for i in range(at, at + done):
            yield _results(raw[i], len(order[i][1]), size)
        at += done
        if at < len(order) and raw[at].result:
            there = _late(visits, order[at][0], raw[at])
            yield _results(raw[at], len(order[at][1]), size) if there else None
            at += 1


def _describe(
    visits: _Visits, thread: Stopped, calls: Sequence[_Numbered], writes: bytearray
) -> bytes:
    """A struct ckpt_visit; what is to be written for it is added to `writes`."""
    site = visits.site
    back, frame, xstate = entry.compute_return(
        visits.memory, site, visits.task, thread, visits.controller, visits.caught
    )
    at = len(writes)
    writes += stub.thread_code(site.piece, site.addr, back, calls)
    writes += frame
    writes += xstate
    return _VISIT.pack(
        *(thread.tid, lib.CKPT_VISIT_BEFORE, 0, len(xstate), at, thread.sigmask),
        thread.regs,
        way.entered(thread.regs, site.addr + site.piece.enter),
    )


def _results(visit: ffi.CData, nr_calls: int, size: int) -> tuple[tuple[int, ...], bytes]:
    regs = way.REGS.unpack(ffi.buffer(visit.after))
    results = reversed([regs[r] for r in _RESULTS[:nr_calls]])
    signed = tuple(r - (1 << 64) if r >> 63 else r for r in results)
    return signed, b"" if visit.result else bytes(ffi.buffer(visit.answers))[:size]


def _late(visits: _Visits, thread: Stopped, visit: ffi.CData) -> bool:
    """Bring the thread back that the loop has stopped at, and complete `visit`. False: it was
    killed."""
    try:
        if visit.stage == lib.CKPT_VISIT_INSIDE:
            visits.vacant = False
            ffi.buffer(visit.after)[:] = _parked(visits, thread)
        else:
            entry.check_unmoved(thread)
            raise KernelError("can't be asked", pid=thread.tid, why=os.strerror(-visit.result))
    except CkptError as error:
        # An ended thread is in nobody's way.
        ended = entry.ended(thread.tid)
        visits.vacant = visits.vacant or ended
        if ended and isinstance(error, TargetError):
            return False
        raise
    answers = visits.memory.read(visits.answers.start, len(visits.answers))
    visit.result = 0 if len(answers) == len(visits.answers) else -errno.EFAULT
    ffi.buffer(visit.answers)[:] = answers.ljust(_ANSWERS_MAX, b"\0")
    return True


def _parked(visits: _Visits, thread: Stopped) -> bytes:
    """Registers of a thread that has made its calls, which then stands as before."""
    parked = entry.stand_parked(thread, visits.site, (), _TIMEOUT_S)
    regs = ops.get_regs(thread.tid)
    if parked:
        entry.leave(thread)
    visits.vacant = True
    if not parked:
        raise TargetError("the thread did not wait for its answers", pid=thread.tid)
    return regs
