"""Interval and POSIX timers of a process: what is left of each, and under which number.

Asked by the process itself; that POSIX timers exist, and whom they notify, stands in
/proc/PID/timers. Restored in two steps, since time is precious: timers are made with their numbers
while the process is built (`create`), and armed with what was left right before it is let go
(`arm`). Absolute times have become relative ones by then.

A periodic timer whose signal waits is not armed by the kernel before that signal is taken: an
interval timer then says that nothing is left. It is restored with one whole interval.

Not guaranteed: timer_getoverrun(2) of an expiry that was delivered before the dump. A CPU timer
counts what ckpt does inside of the process, some ten microseconds, as well.

Source: setitimer(2), timer_create(2), PR_TIMER_CREATE_RESTORE_IDS(2const), kernel/time/itimer.c,
kernel/time/posix-timers.c.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from ckpt.errors import KernelError
from ckpt.infect.batch import Batch, Data, Load, Outcome, Result
from ckpt.record import record

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ckpt.images.pb.timer_pb2 import posix_timer_entry, task_timers_entry
    from ckpt.infect.session import Session
    from ckpt.procfs.timers import PosixTimer

PR_TIMER_CREATE_RESTORE_IDS = 77
SIGALRM, SIGVTALRM, SIGPROF = 14, 26, 27
_ITIMERS = (("real", SIGALRM), ("virt", SIGVTALRM), ("prof", SIGPROF))
_PAIRS = struct.Struct("<4Q")
_EVENT = struct.Struct("<Qiii44x")
_NOTIFY = {"signal": 0, "none": 1, "thread": 2}
_SIGEV_NONE, _SIGEV_THREAD_ID = 1, 4
_SI_TIMER = -2
_CLOCKS = {0, 1, 7, 8, 9, 11}
_CLOCK_FD, _OF_SCHEDULER, _PER_THREAD = 3, 2, 4
OWN_THREAD = -2
"""The clock of a timer of the CPU time of whichever thread has made it."""
_AT_ONCE = 500
_FARTHEST = 1 << 20
NR_TIMERS_MAX = 1 << 16


@record(frozen=True)
class Questions:
    """Where the answers of `ask` will be."""

    itimers: Data
    posix: tuple[tuple[PosixTimer, Data, Result], ...]

    def running(self, outcome: Outcome) -> bool:
        """Whether any interval timer is."""
        return any(outcome.read(self.itimers, _PAIRS.size * len(_ITIMERS)))


def clock_of_thread(tid: int) -> int:
    """The clock of the CPU time of the thread with this number."""
    return (~tid << 3) | _PER_THREAD | _OF_SCHEDULER


def obstacle(timer: PosixTimer) -> str:
    """Why this timer can't be restored, or an empty string."""
    clock = timer.clock
    if clock < 0 and clock & 3 == _CLOCK_FD:
        return "it counts a clock of a device; not restored yet"
    if clock >= 0 and clock not in _CLOCKS:
        return f"clock {clock} is not restored yet"
    return ""


def ask(batch: Batch, timers: Iterable[PosixTimer]) -> Questions:
    """Add the calls that read what is left of every timer of the calling process."""
    itimers = batch.space(_PAIRS.size * len(_ITIMERS))
    for which in range(len(_ITIMERS)):
        batch.call("getitimer", which, itimers + _PAIRS.size * which)
    posix = []
    for timer in sorted(timers, key=lambda t: t.timer_id):
        left = batch.space(_PAIRS.size)
        batch.call("timer_gettime", timer.timer_id, left, note=f"timer {timer.timer_id}")
        overrun = batch.call("timer_getoverrun", timer.timer_id, any_result=True)
        posix.append((timer, left, overrun))
    return Questions(itimers, tuple(posix))


def fill(
    entry: task_timers_entry,
    asked: Questions,
    outcome: Outcome,
    infos: Sequence[bytes],
    within_ns: int,
    passed_ns: int,
) -> None:
    """Write the timers into the message. `infos` are the signals that wait now, at most `within_ns`
    after the timers were asked: one that had less left and whose signal waits has expired in
    between, and must not expire for a second time. `passed_ns`: so long after they were asked is
    what the task's clocks will say, so much less is left."""
    waiting = {struct.unpack_from("<i", info)[0] for info in infos}
    for at, (name, signal) in enumerate(_ITIMERS):
        timer = getattr(entry, name)
        raw = outcome.read(asked.itimers + _PAIRS.size * at, _PAIRS.size)
        isec, iusec, sec, usec = _PAIRS.unpack(raw)
        soon = sec * 10**9 + usec * 1000 <= within_ns
        if soon and (signal in waiting or not (sec or usec)):
            sec, usec = isec, iusec
        elif name == "real":
            sec, usec = _less(sec, usec, passed_ns // 1000, 10**6)
        timer.isec, timer.iusec, timer.vsec, timer.vusec = isec, iusec, sec, usec
    expired = {struct.unpack_from("<i", i, 16)[0] for i in infos if _by_timer(i)}
    for timer, left, overrun in asked.posix:
        isec, insec, sec, nsec = _PAIRS.unpack(outcome.read(left, _PAIRS.size))
        if timer.timer_id in expired and sec * 10**9 + nsec <= within_ns:
            sec, nsec = isec, insec
        elif timer.clock in _CLOCKS:
            sec, nsec = _less(sec, nsec, passed_ns, 10**9)
        one = entry.posix.add()
        _fill_posix(one, timer, max(0, outcome.of(overrun)))
        one.isec, one.insec, one.vsec, one.vnsec = isec, insec, sec, nsec


def _less(seconds: int, rest: int, passed: int, per_s: int) -> tuple[int, int]:
    """Never nothing, if it is not."""
    left = seconds * per_s + rest
    return divmod(max(1, left - passed), per_s) if left else (0, 0)


def _by_timer(info: bytes) -> bool:
    return bool(struct.unpack_from("<i", info, 8)[0] == _SI_TIMER)


def _fill_posix(entry: posix_timer_entry, timer: PosixTimer, overrun: int) -> None:
    entry.it_id, entry.clock_id = timer.timer_id, timer.clock & 0xFFFFFFFF
    entry.si_signo, entry.sival_ptr, entry.overrun = timer.signo, timer.sigval, overrun
    entry.it_sigev_notify = _NOTIFY[timer.notify]
    if timer.notify_thread:
        entry.it_sigev_notify |= _SIGEV_THREAD_ID
        entry.notify_thread_id = timer.notify_tid


# ---- restore


def damaged(entry: task_timers_entry) -> bool:
    """Whether these timers of an image can't be ones."""
    for name, _ in _ITIMERS:
        timer = getattr(entry, name)
        if timer.iusec >= 10**6 or timer.vusec >= 10**6 or max(timer.isec, timer.vsec) >> 63:
            return True
    ids = [timer.it_id for timer in entry.posix]
    return (
        len(set(ids)) != len(ids)
        or len(ids) > NR_TIMERS_MAX
        or any(
            t.it_id >> 31
            or max(t.insec, t.vnsec) >= 10**9
            or max(t.isec, t.vsec) >> 63
            or t.si_signo > 64
            or t.it_sigev_notify & ~7
            for t in entry.posix
        )
    )


def create(session: Session, entry: task_timers_entry) -> None:
    """Make the POSIX timers, unarmed, with their numbers, in the task of `session`. Its threads
    must be there. Raises KernelError."""
    timers = sorted(entry.posix, key=lambda t: t.it_id)
    if not timers:
        return
    batch = Batch()
    said = batch.call("prctl", PR_TIMER_CREATE_RESTORE_IDS, 1, 0, 0, 0, any_result=True)
    if session.run(batch).of(said) < 0:
        create_by_counting(session, timers)
        return
    for first in range(0, len(timers), _AT_ONCE):
        batch = Batch()
        for timer in timers[first : first + _AT_ONCE]:
            _create(batch, timer, batch.put(struct.pack("<i", timer.it_id)))
        session.run(batch)
    batch = Batch()
    batch.call("prctl", PR_TIMER_CREATE_RESTORE_IDS, 0, 0, 0, 0)
    session.run(batch)


def create_by_counting(session: Session, timers: Sequence[posix_timer_entry]) -> None:
    """As `create`, where the kernel can't be told a number (before Linux 6.15): it counts on from
    the last one, so timers are made and deleted until it is at the one before the wanted."""
    for timer in timers:
        made = _made(session, timer)
        if made < timer.it_id <= _FARTHEST:
            batch = Batch()
            batch.call("timer_delete", made)
            session.run(batch)
            for left in range(timer.it_id - made - 1, 0, -_AT_ONCE):
                _count(session, min(left, _AT_ONCE))
            made = _made(session, timer)
        if made != timer.it_id:
            raise KernelError(
                "a timer can't get its number", pid=session.pid, why=f"{made}, not {timer.it_id}"
            )


def _made(session: Session, timer: posix_timer_entry) -> int:
    """The number of a timer like this one, made now."""
    batch = Batch()
    place = batch.space(8)
    _create(batch, timer, place)
    number: int = struct.unpack("<i", session.run(batch).read(place, 4))[0]
    return number


def _count(session: Session, times: int) -> None:
    """Have the kernel use up numbers."""
    batch = Batch()
    event = batch.put(_EVENT.pack(0, 0, _SIGEV_NONE, 0))
    place = batch.space(8)
    for _ in range(times):
        batch.call("timer_create", 1, event, place, note="timer")
        batch.call("timer_delete", Load(place, 4))
    session.run(batch)


def _create(batch: Batch, timer: posix_timer_entry, place: Data) -> None:
    event = _EVENT.pack(
        timer.sival_ptr,
        timer.si_signo,
        timer.it_sigev_notify,
        timer.notify_thread_id,
    )
    clock = timer.clock_id - (1 << 32) if timer.clock_id >> 31 else timer.clock_id
    batch.call(*("timer_create", clock, batch.put(event), place), note=f"timer {timer.it_id}")


def arm(batch: Batch, entry: task_timers_entry) -> None:
    """Add the calls that set every timer going which was."""
    for which, (name, signal) in enumerate(_ITIMERS):
        timer = getattr(entry, name)
        if timer.vsec or timer.vusec:
            value = batch.put(_PAIRS.pack(timer.isec, timer.iusec, timer.vsec, timer.vusec))
            batch.call("setitimer", which, value, 0, note=f"interval timer ({signal})")
    for one in entry.posix:
        if one.vsec or one.vnsec or one.isec or one.insec:
            value = batch.put(_PAIRS.pack(one.isec, one.insec, one.vsec, one.vnsec))
            batch.call("timer_settime", one.it_id, 0, value, 0, note=f"timer {one.it_id}")
