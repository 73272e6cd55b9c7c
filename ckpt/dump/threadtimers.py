"""Whose CPU time a timer counts that a thread has made for itself (CLOCK_THREAD_CPUTIME_ID).

Nothing from outside tells. But while all threads stand but one, only that one's time goes on: a
thread that asks twice what is left of its own timer gets two answers, of another's the same one
twice. A thread that has just come home may be on its processor for a moment more, so it has to be
so three times. From then on such a timer is one of that thread's clock, by its number (as
pthread_getcpuclockid(3) gives it), which counts the same and can be made by whom it may be.

Not found out: the thread of a timer that does not run, or has run out just now.

Source: timer_create(2), kernel/time/posix-cpu-timers.c (posix_cpu_timer_get).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from ckpt.dump.preflight import refuse
from ckpt.errors import Refusal
from ckpt.infect.batch import Batch
from ckpt.infect.threads import run_in_thread
from ckpt.record import replace
from ckpt.task.timers import OWN_THREAD, clock_of_thread
from ckpt.units import Range

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckpt.dump.snapshot import Snapshot
    from ckpt.infect.session import Session
    from ckpt.procfs.timers import PosixTimer
    from ckpt.tracee.stopped import Stopped

_TIMES = 3
_TIMERSPEC = struct.Struct("<4Q")


def with_threads(taken: Snapshot, session: Session) -> list[PosixTimer]:
    """The timers of an infected task, each with a clock that says what it counts. Raises
    RefusedError."""
    found = list(taken.facts.timers)
    if len(taken.task.threads) == 1:
        return found
    for at, timer in enumerate(found):
        if timer.clock != OWN_THREAD:
            continue
        resource = f"POSIX timer {timer.timer_id}"
        if taken.filters:
            why = "of the CPU time of a thread, in a process with seccomp filters, is not restored"
            refuse([Refusal(taken.pid, resource, why)])
        tid = _thread_of(timer, taken, session)
        if tid is None:
            why = "it does not run, and the CPU time of which thread it counts can't be found out"
            refuse([Refusal(taken.pid, resource, why, "delete it, or dump while it runs")])
        else:
            found[at] = replace(timer, clock=clock_of_thread(tid))
    return found


def _thread_of(timer: PosixTimer, taken: Snapshot, session: Session) -> int | None:
    """The leader is the first to be asked: then no thread has been running a moment ago."""
    if all(_moves_for_leader(timer, session) for _ in range(_TIMES)):
        return taken.pid
    for thread in _likely_first(timer, taken):
        if all(_moves_for(timer, thread, taken, session) for _ in range(_TIMES)):
            return thread.tid
    return None


def _likely_first(timer: PosixTimer, taken: Snapshot) -> Iterator[Stopped]:
    """The threads but the leader, and first the one that is notified: mostly it is that one."""
    others = [thread for thread in taken.task.threads if thread.tid != taken.pid]
    yield from sorted(others, key=lambda thread: thread.tid != timer.notify_tid)


def _moves_for_leader(timer: PosixTimer, session: Session) -> bool:
    batch = Batch()
    places = [batch.space(_TIMERSPEC.size) for _ in range(2)]
    for place in places:
        batch.call("timer_gettime", timer.timer_id, place, note=f"timer {timer.timer_id}")
    outcome = session.run(batch)
    first, second = (outcome.read(place, _TIMERSPEC.size) for place in places)
    return first != second


def _moves_for(timer: PosixTimer, thread: Stopped, taken: Snapshot, session: Session) -> bool:
    at, size = session.layout.batches.start, _TIMERSPEC.size
    calls = [("timer_gettime", (timer.timer_id, at + i * size)) for i in range(2)]
    answers = Range(at, at + 2 * size)
    results, raw = run_in_thread(session, taken.task, thread, calls, answers=answers)
    return not any(results) and raw[:size] != raw[size:]
