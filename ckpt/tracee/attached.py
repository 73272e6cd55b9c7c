"""The threads that we have seized: bring all to a stand, let all go.

A thread is known here before it is seized and forgotten after it was let go, so whatever interrupts
us in between, `let_go` finds it; letting go of one that was never seized does nothing.

Order in `stand`: interrupt all, wait for each. Two things need patience:

1. A thread that sleeps in the kernel without being interruptible stands when it wakes. It may be
   waiting for another one that stands already (vfork(2) waits for the child's exec), so after
   PATIENCE_S all the others run on until it has stopped, and all are interrupted again.
2. exec(2) ends a thread that stood and gives its number to another one. Whenever an end was seen,
   all are looked at again.

Not guaranteed: a thread that never wakes can't be let go, for PTRACE_DETACH wants it to stand. The
kernel does it at the end of the thread of ours that seized it.
"""

from __future__ import annotations

import array
import errno
import os
import threading
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from signal import SIG_BLOCK, SIG_SETMASK, pthread_sigmask, valid_signals

from ckpt._native import ffi, lib
from ckpt.errors import DeadlineError, KernelError, Refusal, RefusedError, TargetError
from ckpt.procfs.reader import ProcDir
from ckpt.procfs.status import Status, parse_status
from ckpt.procfs.tree import look
from ckpt.tracee.dispatch import Dispatch, run_to_passing
from ckpt.tracee.ops import StopKind

PATIENCE_S = 0.1
LET_GO_S = 1.0
_LOOK_S = 1.0

_DEAD = "ZX"
_TRIES_S = (0.0, *(0.001 for _ in range(20)))
"""Waits before who was denied is tried again. Where a thread calls execve(2) that does not lead its
process, the number of the process is a dead thread's until it is the caller's."""


class _Stops:
    """An array of struct ckpt_stop."""

    def __init__(self, threads: Collection[tuple[int, int]]) -> None:
        """Of (tid, pid) pairs."""
        fields = array.array("i", [field for tid, pid in threads for field in (tid, 0, 0, pid)])
        self.nr = len(threads)
        self.raw = ffi.from_buffer("struct ckpt_stop[]", fields)
        self._fields = fields

    def wait(self, timeout_s: float) -> int:
        """Until each stands or has ended; returns how many do neither. Handlers of signals run."""
        until = time.monotonic() + timeout_s
        while True:
            left_ns = max(0, int((until - time.monotonic()) * 1e9))
            left: int = lib.ckpt_stand(self.raw, self.nr, left_ns)
            if left >= 0:
                return left

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        """(tid, kind, signal) of each."""
        return zip(self._fields[0::4], self._fields[1::4], self._fields[2::4], strict=True)


@contextmanager
def undisturbed() -> Iterator[None]:
    """No handler of a signal, and so no exception out of nowhere, until the end of the scope."""
    before = pthread_sigmask(SIG_BLOCK, valid_signals())
    try:
        yield
    finally:
        pthread_sigmask(SIG_SETMASK, before)


def thread_status(pid: int, tid: int) -> Status | None:
    """None when the thread is gone."""
    try:
        with ProcDir(pid) as proc:
            return parse_status(proc.read(f"task/{tid}/status"))
    except TargetError:
        return None


class Attached:
    """`pid_of`: the process of each thread that is or may be seized; workers that the kernel has
    made for io_uring never are. `group_stop`: the signal that has stopped each standing thread's
    process, or 0; only of those that stood at the last `stand`.
    """

    def __init__(self, until: float) -> None:
        """`until`: when to give up, on time.monotonic(); may be infinite."""
        self.pid_of: dict[int, int] = {}
        self.group_stop: dict[int, int] = {}
        self._workers: set[int] = set()
        self.interrupted_at_ns = 0
        self._until = until

    def seize(self, threads: Iterable[tuple[int, int]]) -> int:
        """Attach to (tid, pid) pairs that aren't known yet, and return to how many: those that are
        gone or dead don't count. Raises RefusedError (somebody traces it), TargetError (EPERM)."""
        new = [
            (tid, pid)
            for tid, pid in threads
            if tid not in self.pid_of and tid not in self._workers
        ]
        self.pid_of.update(new)
        denied = self._seize(new)
        for wait_s in _TRIES_S:
            denied = [(tid, pid) for tid, pid in denied if self._may_live(tid, pid)]
            if not denied:
                break
            time.sleep(wait_s)
            denied = self._seize(denied)
        for tid, pid in denied:
            if self._may_live(tid, pid):
                raise TargetError(
                    "can't be attached to",
                    pid=pid,
                    resource=f"thread {tid}",
                    why="the kernel does not permit it",
                    hint="ckpt needs CAP_SYS_PTRACE over it",
                )
        return sum(tid in self.pid_of for tid, _ in new)

    def _seize(self, threads: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Returns those that were denied."""
        self.pid_of.update(threads)
        results = ffi.new("int32_t[]", len(threads))
        tids, pids = [tid for tid, _ in threads], [pid for _, pid in threads]
        lib.ckpt_seize_many(tids, pids, len(threads), 0, results)
        denied = []
        for result, (tid, pid) in zip(results, threads, strict=True):
            if result:
                del self.pid_of[tid]
            if result == -errno.ENOTSUP:
                self._workers.add(tid)
            elif result and result != -errno.ESRCH:
                denied.append((tid, pid))
        return denied

    def _may_live(self, tid: int, pid: int) -> bool:
        status = thread_status(pid, tid)
        if status is None:
            return False
        # A dead thread of somebody else's stays until that one waits for it.
        if status.tracer_pid not in (0, threading.get_native_id()):
            raise traced(pid, status.tracer_pid)
        return status.state not in _DEAD

    def stand(self) -> None:
        """Have all stand that live. DeadlineError: one does not; the others stand."""
        new = [tid for tid in self.pid_of if tid not in self.group_stop]
        while True:
            self.interrupted_at_ns = self.interrupted_at_ns or time.monotonic_ns()
            _interrupt(new)
            stops = _Stops(self.pid_of.items())
            left = stops.wait(max(0.0, min(PATIENCE_S, self._until - time.monotonic())))
            ended = self._note(stops)
            if left:
                self._wait_for_sleepers(stops)
                new = list(self.pid_of)
            elif ended:
                new = []
            else:
                return

    def at_rest(self) -> Collection[int]:
        """Who needs not be waited for: those that stood at the last `stand`, and workers, which do
        nothing but what a thread of their process has asked for."""
        self._workers = {tid for tid in self._workers if lib.ckpt_is_worker(tid)}
        if not self._workers:
            return self.group_stop
        return self.group_stop.keys() | self._workers

    def run_on(self, tids: Iterable[int]) -> None:
        """Let some of those that stand run until the next `stand`."""
        stops = _Stops([(tid, self.pid_of[tid]) for tid in tids if tid in self.pid_of])
        stops.wait(0)
        self._note(stops)
        lib.ckpt_unstand(stops.raw, stops.nr)
        for tid, _, _ in stops:
            self.group_stop.pop(tid, None)

    def run_all(self) -> None:
        """Let all run until the next `stand`, as if they had not stood."""
        self.run_on(list(self.pid_of))
        self.interrupted_at_ns = 0

    def run_to_passing(self, tid: int, how: Dispatch, timeout_s: float) -> None:
        """Let one that stands run to a call that it makes itself, until the next `stand`."""
        if tid in self.pid_of:
            self.group_stop.pop(tid, None)
            run_to_passing(tid, how, timeout_s)

    def all_stand(self) -> bool:
        """Whether those that stood at the last `stand` do so still: none was killed."""
        stops = _Stops(self.pid_of.items())
        return stops.wait(0) == 0 and self._note(stops) == 0

    def _note(self, stops: _Stops) -> int:
        """Returns how many have ended since they were seized."""
        ended = 0
        for tid, kind, signal in stops:
            if kind >= StopKind.EXITED:
                self.forget(tid)
                ended += 1
            elif kind != StopKind.RUNNING:
                self.group_stop[tid] = signal if kind == StopKind.GROUP else 0
        return ended

    def _wait_for_sleepers(self, stops: _Stops) -> None:
        """Let the others run until those that did not stand have stopped. However late it is, they
        are given one look: a machine that itself stood still has not let them run."""
        sleepers = [tid for tid, kind, _ in stops if kind == StopKind.RUNNING]
        looked = False
        while sleepers := [tid for tid in sleepers if self._sleeps(tid)]:
            left_s = self._until - time.monotonic()
            if left_s <= 0:
                if looked:
                    raise self._too_late(sleepers)
                left_s = _LOOK_S
            looked = True
            lib.ckpt_unstand(stops.raw, stops.nr)
            self.group_stop.clear()
            self.interrupted_at_ns = 0
            waiting = _Stops([(tid, self.pid_of[tid]) for tid in sleepers])
            waiting.wait(min(_LOOK_S, left_s))
            sleepers = [tid for tid, kind, _ in waiting if kind == StopKind.RUNNING]

    def _sleeps(self, tid: int) -> bool:
        status = thread_status(self.pid_of[tid], tid)
        if status is not None and status.state in _DEAD:
            # A leader that ended before its threads: of it nothing is told until they have, too.
            self.forget(tid)
            return False
        return True

    def _too_late(self, sleepers: list[int]) -> DeadlineError:
        tid = sleepers[0]
        status = thread_status(self.pid_of[tid], tid)
        more = f", as do {len(sleepers) - 1} more" if len(sleepers) > 1 else ""
        where, hint = "", "the tree runs on; look at /proc/TID/wchan, or give a longer --timeout"
        if _in_vfork(self.pid_of[tid], tid):
            where = " in vfork(2)"
            hint = "nothing but the end or execve(2) of its child wakes it: dump after that"
        return DeadlineError(
            "a thread does not stop",
            pid=self.pid_of[tid],
            resource=f"thread {tid}",
            why=f"it sleeps in the kernel{where}, state {status.state if status else '?'}{more}",
            hint=hint,
        )

    def forget(self, tid: int) -> None:
        """It has ended, or is none of ours."""
        pid = self.pid_of.pop(tid, None)
        self.group_stop.pop(tid, None)
        if tid == pid and not is_own_child(pid):
            lib.ckpt_trace_reap(tid)

    def let_go(self) -> list[int]:
        """Detach all. Returns those that can't be let go before they wake."""
        left = self._detach(list(self.pid_of))
        if left:
            _interrupt(left)
            stops = _Stops([(tid, self.pid_of[tid]) for tid in left])
            stops.wait(LET_GO_S)
            self._note(stops)
            left = self._detach([tid for tid in left if tid in self.pid_of])
        self.pid_of.clear()
        self.group_stop.clear()
        return left

    def _detach(self, tids: list[int]) -> list[int]:
        results = ffi.new("int32_t[]", len(tids))
        lib.ckpt_detach_many(tids, len(tids), results)
        return [tid for tid, result in zip(tids, results, strict=True) if result]

    def wait_for_ends(self, timeout_s: float) -> list[int]:
        """After SIGKILL: wait until all have ended. Returns those that have not."""
        leaders_last = sorted(self.pid_of.items(), key=lambda item: item[0] == item[1])
        stops = _Stops(leaders_last)
        stops.wait(timeout_s)
        self._note(stops)
        return list(self.pid_of)


def _interrupt(tids: list[int]) -> None:
    lib.ckpt_interrupt_many(tids, len(tids))


def is_own_child(pid: int) -> bool:
    """Then its exit status is for whoever waits for it here, not for the tracer to take."""
    task = look(pid)
    return task is not None and task.ppid == os.getpid()


def traced(pid: int, tracer: int) -> RefusedError:
    """The refusal of a task that somebody else traces."""
    hint = "end the debugger, or have it detach"
    return RefusedError([Refusal(pid, "the task", f"it is traced by pid {tracer}", hint)])


def _in_vfork(pid: int, tid: int) -> bool:
    """Whether a thread that can't be interrupted waits for a child that has its memory."""
    try:
        with ProcDir(pid) as proc:
            raw = proc.read(f"task/{tid}/syscall")
    except (TargetError, KernelError):
        return False
    births = (lib.__NR_vfork, lib.__NR_clone, lib.__NR_clone3)
    return raw.partition(b" ")[0] in [str(number).encode() for number in births]
