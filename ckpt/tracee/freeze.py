"""Freeze a whole tree of tasks, or one task of it, for the length of a scope.

Order:

1. Seize every thread of every task without stopping any, until a scan finds nothing new.
2. Interrupt all, wait until all stand, look again, children before parents; who was born meanwhile
   is seized and interrupted as well. ckpt/tracee/scan.py says why the look that finds nothing new
   proves that nobody was missed. ckpt/tracee/births.py catches those who have borne the next and
   ended before such a look is over.
3. Read what ptrace tells of each thread. Where the caller says that some stand at a bad moment,
   these alone run on for an instant, and it begins again at 2, for LINGER_S at most. Threads whose
   system calls would go to a handler of their own run on to where they pass, for as long as all of
   it may take (ckpt/tracee/dispatch.py).
4. On the way out of the scope, however it is left, let go of all. Interrupted system calls start
   again, queued signals arrive, and a task that was stopped by a signal remains so.

Registers and masks are never changed here; who does puts them back before the end of the scope.
All of it happens in one thread of ours, the tracer.

Calls that the kernel would not make again after an interrupt (epoll_wait(2), signal(7)) are made
again all the same: ckpt/_native/src/again.h.

Not guaranteed: their timeouts start anew. A task that was reparented away before it stood is not of
the tree.
"""

from __future__ import annotations

import math
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from ckpt.errors import DeadlineError, KernelError, Refusal, RefusedError, TargetError
from ckpt.procfs.reader import ProcDir
from ckpt.procfs.tree import has_children_files
from ckpt.tracee import dispatch, ops, queuedstop
from ckpt.tracee.attached import Attached, thread_status, traced, undisturbed
from ckpt.tracee.births import seize_born
from ckpt.tracee.dispatch import Dispatch
from ckpt.tracee.lasting import lasting
from ckpt.tracee.scan import Seen, proved, scan, seizable, tasks
from ckpt.tracee.stopped import SeizedTask, Stopped, read_threads

LINGER_S = 0.02
KILL_S = 10.0
STOP_S = 5.0

_NAP_S, _LAST_NAP_S = 0.0005, 0.01
_LOOKS_WITHOUT_LISTS = 2
_INSTANT_S, _LONGEST_ROUND_S = 0.0001, 0.05
_LAST_ROUND_S = 4 * _LONGEST_ROUND_S  # so that all can still be brought to a stand in time

Lingering = Callable[["SeizedTask"], list[int]]
"""Which threads of a task had better run on for an instant."""


class SeizedTree:
    """`tasks`: root first, parents before children, zombies included. `frozen_at_ns` was just
    before the first interrupt of the attempt that held, `thawed_at_ns` is after the last thread was
    let go (both time.monotonic_ns), `freezing_ns` is how long it took until all stood."""

    def __init__(
        self,
        root: int,
        until: float,
        *,
        children: bool = True,
        lingering: Lingering | None = None,
    ) -> None:
        self.tasks: dict[int, SeizedTask] = {}
        self.frozen_at_ns = 0
        self.thawed_at_ns = 0
        self.freezing_ns = 0
        self._root = root
        self._children = children
        self._lingering = lingering
        self._until = until
        self._attached = Attached(until)
        self._leave_stopped = False
        self._ran = False

    def kill(
        self,
        before: Callable[[], object] = lambda: None,
        after: Callable[[], Sequence[str]] = tuple,
    ) -> Sequence[str]:
        """SIGKILL for all tasks, between `before` and `after`; returns what the latter does, when
        all are gone or zombies. Nothing is left to thaw.

        Who kills this process meanwhile has all of it done or nothing (ckpt.tracee.lasting), so
        both may be called in a child of ours. Raises what `before` does, and the tree lives;
        DeadlineError where a task does not die within KILL_S seconds.
        """
        alive = [task for task in self.tasks.values() if not task.zombie]

        def end() -> list[str]:
            before()
            for task in alive:
                _send(task.pidfd, signal.SIGKILL)
            return list(after())

        with undisturbed():
            told = _done_by_a_child(end)
            said: Sequence[str] = end() if told is None else told
            left = self._attached.wait_for_ends(KILL_S)
            self._attached.let_go()
            self.thawed_at_ns = time.monotonic_ns()
        for task in alive:
            if task.pid in left or not _ended(task.pidfd):
                why = f"{KILL_S:g} s after SIGKILL"
                raise DeadlineError("the task does not die", pid=task.pid, why=why)
        return said

    def leave_stopped(self) -> None:
        """Have every task stopped by SIGSTOP when the scope has ended without an error."""
        self._leave_stopped = True

    def standing(self) -> list[tuple[int, int, int]]:
        """Thread, process, and the signal that has stopped the latter or 0, of each that stands."""
        stopped = self._attached.group_stop
        return [(tid, pid, stopped[tid]) for tid, pid in self._attached.pid_of.items()]

    def runs(self) -> None:
        """All were let run, still seized, by whoever calls this; new threads are seized as well."""
        self._ran = True
        self.thawed_at_ns = time.monotonic_ns()

    def _let_go_of_new(self) -> None:
        """A thread that is born while others are let go of is seized by its birth."""
        while new := {tid: pid for pid in self.tasks for tid in _seized_by_us(pid)}:
            self._attached.pid_of.update(new)
            if self._attached.let_go():
                return  # it can't be before it wakes: the end of our thread does it

    def _freeze(self) -> None:
        self._stop()
        self._linger()
        round_s = _INSTANT_S
        while held := self._held():
            self._let_pass(held, round_s)
            self._linger()
            round_s = min(_LONGEST_ROUND_S, 2 * round_s)

    def _held(self) -> dict[int, Dispatch]:
        """The threads whose calls would go to their handler. RefusedError: they always would, as
        far as we may wait."""
        alive = [task for task in self.tasks.values() if not task.zombie]
        found = {task.pid: dispatch.held(task) for task in alive}
        late = time.monotonic() + _LAST_ROUND_S > self._until
        never = [
            dispatch.refusal(task, tid, how)
            for task in alive
            for tid, how in found[task.pid].items()
            if late or task.stopped or not how.selector
        ]
        if never:
            raise RefusedError(never)
        return {tid: how for some in found.values() for tid, how in some.items()}

    def _let_pass(self, held: dict[int, Dispatch], round_s: float) -> None:
        """Each of them alone first, which mostly suffices, and then all, for it may wait for one of
        the others."""
        self._forget_tasks()
        for tid, how in held.items():
            self._attached.run_to_passing(tid, how, round_s)
        self._stop()
        if not self._held():
            return
        self._forget_tasks()
        self._attached.run_all()
        time.sleep(round_s)
        self._stop()

    def _linger(self) -> None:
        until = min(self._until, time.monotonic() + LINGER_S)
        instant_s = _INSTANT_S
        while self._lingering is not None and time.monotonic() < until:
            alive = [task for task in self.tasks.values() if not task.zombie]
            before = {t.tid: t for task in alive for t in task.threads}
            tids = [tid for task in alive for tid in self._lingering(task)]
            if not tids:
                return
            self._forget_tasks()
            self._attached.run_on(tids)
            time.sleep(instant_s)
            self._stop()
            now = {t.tid: t.regs for task in self.tasks.values() for t in task.threads}
            # A machine that has no processor for them has not let them run at all.
            waited = any(now.get(tid) == before[tid].regs for tid in tids)
            instant_s = 2 * instant_s if waited else _INSTANT_S

    def _forget_tasks(self) -> None:
        for task in self.tasks.values():
            os.close(task.pidfd)
        self.tasks.clear()

    def _stop(self) -> None:
        seen = scan(self._root, children=self._children)
        while self._attached.seize(seizable(seen)) and time.monotonic() < self._until:
            seen = scan(self._root, children=self._children)
        nap_s = _NAP_S
        while not (found := self._whole(seen)):
            if time.monotonic() > self._until:
                raise DeadlineError("the tree does not come to a stand", pid=self._root)
            seen = scan(self._root, children=self._children)
            caught = self._attached.seize(seizable(seen))
            if not caught and not seize_born(self._attached, children=self._children):
                time.sleep(nap_s)  # somebody is about to be gone altogether
                nap_s = min(_LAST_NAP_S, 2 * nap_s)
        self.frozen_at_ns = self._attached.interrupted_at_ns
        self.freezing_ns = time.monotonic_ns() - self.frozen_at_ns
        self._read(found)

    def _whole(self, seen: list[Seen]) -> list[Seen] | None:
        """The tree, if `seen` is all of it and all of it stands."""
        for _ in range(1 if has_children_files() else _LOOKS_WITHOUT_LISTS):
            self._attached.stand()
            found = proved(seen, self._attached.at_rest(), children=self._children)
            if found is None:
                return None
        return found if self._attached.all_stand() else None

    def _read(self, seen: list[Seen]) -> None:
        group_stop = self._attached.group_stop
        standing = [
            (tid, group_stop[tid]) for task in seen for tid in task.tids if tid in group_stop
        ]
        threads = {thread.tid: thread for thread in read_threads(standing)}
        for task in seen:
            mine = [threads[tid] for tid in _leader_first(task) if tid in threads]
            if mine and mine[0].tid != task.pid:
                why = "its main thread has ended while others live"
                raise RefusedError([Refusal(task.pid, "the task", why)])
            seized = _seized_task(task, mine)
            if seized is not None:
                self.tasks[task.pid] = seized

    def _end(self, *, leave_stopped: bool) -> None:
        stopping = []
        if leave_stopped and self._attached.pid_of:
            stopping = [t for t in self.tasks.values() if not t.zombie and not t.stopped]
            for task in stopping:
                _send(task.pidfd, signal.SIGSTOP)
        self._attached.let_go()
        if self._ran:
            self._let_go_of_new()
        self.thawed_at_ns = self.thawed_at_ns or time.monotonic_ns()
        for task in self.tasks.values():
            os.close(task.pidfd)
        until = time.monotonic() + STOP_S
        for pid in queuedstop.await_effect([task.pid for task in stopping], until):
            raise DeadlineError("it was to be left stopped and runs", pid=pid)


@contextmanager
def seize(
    root_pid: int,
    *,
    deadline_s: float | None,
    children: bool = True,
    lingering: Lingering | None = None,
) -> Iterator[SeizedTree]:
    """Freeze the tree below `root_pid`, root included, until the end of the scope; without
    `children` the root's threads alone. `lingering`: see 3 above; asked of each live task.

    `deadline_s` bounds the time until all stand; None: it may take for ever. Raises RefusedError
    (traced by another, main thread dead, ourselves in the tree), TargetError (no such task, not
    permitted), DeadlineError (a thread does not stop). After each of them the tree runs on.
    """
    until = math.inf if deadline_s is None else time.monotonic() + deadline_s
    _refuse_early(root_pid, children=children)
    frozen = SeizedTree(root_pid, until, children=children, lingering=lingering)
    whole = False
    try:
        frozen._freeze()
        yield frozen
        whole = True
    finally:
        with undisturbed():
            frozen._end(leave_stopped=whole and frozen._leave_stopped)


def _refuse_early(root: int, *, children: bool) -> None:
    """What is in the way and can be seen before anything is touched."""
    for task in tasks(root, children=children):
        if task.pid == os.getpid():
            why = "ckpt itself runs in this tree"
            raise RefusedError([Refusal(task.pid, "the task", why, "start it from elsewhere")])
        status = thread_status(task.pid, task.pid)
        if status is not None and status.tracer_pid:
            raise traced(task.pid, status.tracer_pid)


def _leader_first(task: Seen) -> list[int]:
    return sorted(task.tids, key=lambda tid: (tid != task.pid, tid))


def _seized_task(task: Seen, threads: list[Stopped]) -> SeizedTask | None:
    """None: it is gone altogether."""
    try:
        pidfd = os.pidfd_open(task.pid)
    except ProcessLookupError:
        return None
    group_stop = threads[0].group_stop if threads else 0
    return SeizedTask(
        pid=task.pid,
        pidfd=pidfd,
        ppid=task.ppid,
        threads=threads,
        pending=ops.pending(task.pid, shared=True) if threads else (),
        stopped=bool(group_stop),
        stop_signal=group_stop,
        zombie=not threads,
    )


def _seized_by_us(pid: int) -> list[int]:
    try:
        with ProcDir(pid) as proc:
            tids = proc.tids()
    except TargetError:
        return []
    statuses = ((tid, thread_status(pid, tid)) for tid in tids)
    ours = threading.get_native_id()
    return [tid for tid, status in statuses if status and status.tracer_pid == ours]


def _done_by_a_child(work: Callable[[], list[str]]) -> list[str] | None:
    """None: it has not come to its end, and is for us to do."""
    try:
        told: list[str] | None = lasting(work)
    except KernelError:
        return None
    return told


def _send(pidfd: int, number: int) -> None:
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return


def _ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(int(KILL_S * 1000)))
