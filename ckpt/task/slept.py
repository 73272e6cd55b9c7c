"""For how long a thread has slept in a call whose length is known, but not what is left of it: a
nanosleep(2) without a place for that, poll(2), a futex with a limit.

1. Before the freeze, of each thread that sleeps in such a call: when it last ran, by the clock of
   its processor, and how often it had gone to sleep (/proc/PID/task/TID/sched). This process visits
   each of these processors once, to learn how far its clock is behind CLOCK_MONOTONIC.
2. When the tree stands: a thread that has slept once more, in its stop, and not oftener, slept
   through until then.

The clock of a processor falls behind and never catches up, so what is found out is at most the
truth: a sleep never becomes too short by it. It is counted from when the thread last ran, though
its call may have begun earlier, and gone on after an earlier dump or a wakeup for nothing. Where
this can't be found out (no such file, a processor that ckpt may not use), the call starts anew.

/proc/timer_list has the exact time of every sleep, but says of none whose it is.

Source: kernel/sched/clock.c, kernel/sched/core.c (update_rq_clock_task), proc_pid_syscall(5).
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from ckpt.errors import KernelError, TargetError
from ckpt.infect.batch import number
from ckpt.procfs.reader import ProcDir
from ckpt.procfs.sched import Ran, parse_sched
from ckpt.procfs.stat import parse_stat

if TYPE_CHECKING:
    from collections.abc import Iterable

_CALLS = ("nanosleep", "clock_nanosleep", "poll", "futex", "restart_syscall")
_RATE = 1000
"""Clocks may run apart by one part of so many: what NTP does to one and not to the other."""


class Sleep(NamedTuple):
    """`since_ns`: of CLOCK_MONOTONIC; it began then, or earlier. `slept`: see Ran."""

    since_ns: int
    slept: int


class Slept(NamedTuple):
    """What was seen of threads, by number, at `at_ns`: before the freeze."""

    sleeps: dict[int, Sleep]
    at_ns: int

    def passed_ns(self, tid: int, slept: int) -> int:
        """How long a thread has slept at least; 0 if that is not known, or it was awake since it
        was seen: it has gone to sleep `slept` times by now, the last time for being stopped."""
        seen = self.sleeps.get(tid)
        if seen is None or slept != seen.slept + 1:
            return 0
        passed = max(0, self.at_ns - seen.since_ns)
        return passed - passed // _RATE


NOT_SEEN = Slept({}, 0)


def look(pids: Iterable[int]) -> Slept:
    """At the threads of running tasks."""
    calls = frozenset(b"%d" % number(name) for name in _CALLS)
    seen: dict[int, tuple[int, Ran]] = {}
    for pid in pids:
        with suppress(TargetError, KernelError), ProcDir(pid) as proc:
            for tid in proc.tids():
                if (found := _asleep(proc, tid, calls)) is not None:
                    seen[tid] = found
    behind = _behind({cpu for cpu, _ in seen.values()})
    sleeps = {
        tid: Sleep(ran.at_ns + behind[cpu], ran.slept)
        for tid, (cpu, ran) in seen.items()
        if cpu in behind
    }
    return Slept(sleeps, time.monotonic_ns())


def _asleep(proc: ProcDir, tid: int, calls: frozenset[bytes]) -> tuple[int, Ran] | None:
    """The processor of a thread that sleeps in one of these calls, and when it ran."""
    try:
        if proc.read(f"task/{tid}/syscall").partition(b" ")[0] not in calls:
            return None
        ran = parse_sched(proc.read(f"task/{tid}/sched"))
        processor = parse_stat(proc.read(f"task/{tid}/stat")).processor
        again = parse_sched(proc.read(f"task/{tid}/sched"))
    except (TargetError, KernelError):
        return None
    return (processor, ran) if ran is not None and ran == again else None


def _behind(cpus: Iterable[int]) -> dict[int, int]:
    """By how many nanoseconds at most the clocks of processors are behind CLOCK_MONOTONIC. One that
    this thread may not run on is left out."""
    found: dict[int, int] = {}
    usable = os.sched_getaffinity(0)
    try:
        for cpu in usable.intersection(cpus):
            with suppress(OSError):
                os.sched_setaffinity(0, {cpu})
                with open("/proc/thread-self/sched", "rb") as file:  # noqa: PTH123
                    ran = parse_sched(file.read())
                if ran is not None:
                    found[cpu] = time.monotonic_ns() - ran.at_ns
    finally:
        with suppress(OSError):
            os.sched_setaffinity(0, usable)
    return found
