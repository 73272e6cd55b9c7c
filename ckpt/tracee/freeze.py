"""Freeze a whole tree of tasks for the length of a scope.

Order:

1. Seize every thread of every task without stopping any, until a scan finds nothing new.
2. Interrupt all, wait until all stand, scan again; who was born meanwhile is seized and interrupted
   as well. A scan that finds nothing new while all stand is the truth, for nobody is left who could
   bear.
3. Read what ptrace tells of each thread.
4. On the way out of the scope, however it is left, let go of all. Interrupted system calls start
   again, queued signals arrive, and a task that was stopped by a signal remains so.

Registers and masks are never changed here; who does puts them back before the end of the scope.
All of it happens in one thread of ours, the tracer.

Not guaranteed: a call that the kernel never restarts (epoll_wait(2), signal(7)) returns EINTR from
being interrupted alone. A task that was reparented away before it stood is not of the tree.
"""

from __future__ import annotations

import math
import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from ckpt.errors import DeadlineError, Refusal, RefusedError, TargetError
from ckpt.procfs.reader import ProcDir
from ckpt.procfs.tree import look, tree
from ckpt.tracee import ops
from ckpt.tracee.attached import Attached, thread_status, traced, undisturbed
from ckpt.tracee.stopped import SeizedTask, Stopped, read_threads

KILL_S = 10.0
STOP_S = 5.0

_DEAD = "ZX"
_STOPPED = "TZX"
_NAP_S = 0.0005


class _Seen(NamedTuple):
    """A task of one scan; a leader that is dead may still have threads."""

    pid: int
    ppid: int
    dead: bool
    tids: tuple[int, ...]


class SeizedTree:
    """`tasks`: root first, parents before children, zombies included. `frozen_at_ns` was just
    before the first interrupt of the attempt that held, `thawed_at_ns` is after the last thread was
    let go (both time.monotonic_ns), `freezing_ns` is how long it took until all stood."""

    def __init__(self, root: int, until: float) -> None:
        self.tasks: dict[int, SeizedTask] = {}
        self.frozen_at_ns = 0
        self.thawed_at_ns = 0
        self.freezing_ns = 0
        self._root = root
        self._attached = Attached(until)
        self._leave_stopped = False

    def kill(self) -> None:
        """SIGKILL for all tasks; returns when all are gone or zombies. Nothing is left to thaw.

        Raises DeadlineError where one does not die within KILL_S seconds.
        """
        with undisturbed():
            alive = [task for task in self.tasks.values() if not task.zombie]
            for task in alive:
                _send(task.pidfd, signal.SIGKILL)
            left = self._attached.wait_for_ends(KILL_S)
            self._attached.let_go()
            self.thawed_at_ns = time.monotonic_ns()
        for task in alive:
            if task.pid in left or not _ended(task.pidfd):
                why = f"{KILL_S:g} s after SIGKILL"
                raise DeadlineError("the task does not die", pid=task.pid, why=why)

    def leave_stopped(self) -> None:
        """Have every task stopped by SIGSTOP when the scope has ended without an error."""
        self._leave_stopped = True

    def _freeze(self) -> None:
        while self._attached.seize(_threads(_scan(self._root))):
            pass
        # The kernel may skip a child while a sibling of it exits: one scan that finds nothing
        # new is no proof, it must say the same twice.
        before: list[_Seen] = []
        while True:
            self._attached.stand()
            seen = _scan(self._root)
            if not self._attached.seize(_threads(seen)) and seen == before:
                break
            before = seen
        self.frozen_at_ns = self._attached.interrupted_at_ns
        self.freezing_ns = time.monotonic_ns() - self.frozen_at_ns
        self._read(seen)

    def _read(self, seen: list[_Seen]) -> None:
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
        self.thawed_at_ns = self.thawed_at_ns or time.monotonic_ns()
        for task in self.tasks.values():
            os.close(task.pidfd)
        until = time.monotonic() + STOP_S
        for task in stopping:
            _wait_stopped(task.pid, until)


@contextmanager
def seize(root_pid: int, *, deadline_s: float | None) -> Iterator[SeizedTree]:
    """Freeze the tree below `root_pid`, root included, until the end of the scope.

    `deadline_s` bounds the time until all stand; None: it may take for ever. Raises RefusedError
    (traced by another, main thread dead, ourselves in the tree), TargetError (no such task, not
    permitted), DeadlineError (a thread does not stop). After each of them the tree runs on.
    """
    until = math.inf if deadline_s is None else time.monotonic() + deadline_s
    _refuse_early(root_pid)
    frozen = SeizedTree(root_pid, until)
    whole = False
    try:
        frozen._freeze()
        yield frozen
        whole = True
    finally:
        with undisturbed():
            frozen._end(leave_stopped=whole and frozen._leave_stopped)


def _refuse_early(root: int) -> None:
    """What is in the way and can be seen before anything is touched."""
    for task in tree(root):
        if task.pid == os.getpid():
            why = "ckpt itself runs in this tree"
            raise RefusedError([Refusal(task.pid, "the task", why, "start it from elsewhere")])
        status = thread_status(task.pid, task.pid)
        if status is not None and status.tracer_pid:
            raise traced(task.pid, status.tracer_pid)


def _scan(root: int) -> list[_Seen]:
    seen = []
    for task in tree(root):
        try:
            with ProcDir(task.pid) as proc:
                tids = tuple(proc.tids())
        except TargetError:
            continue
        seen.append(_Seen(task.pid, task.ppid, task.state in _DEAD, tids))
    if not seen or (seen[0].dead and len(seen[0].tids) < 2):
        raise TargetError("it has ended", pid=root, why="nothing can be attached to")
    return seen


def _threads(seen: list[_Seen]) -> Iterator[tuple[int, int]]:
    """(tid, pid) of everything that can be seized."""
    for task in seen:
        if not task.dead or len(task.tids) > 1:
            yield from ((tid, task.pid) for tid in task.tids)


def _leader_first(task: _Seen) -> list[int]:
    return sorted(task.tids, key=lambda tid: (tid != task.pid, tid))


def _seized_task(task: _Seen, threads: list[Stopped]) -> SeizedTask | None:
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


def _send(pidfd: int, number: int) -> None:
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return


def _ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(int(KILL_S * 1000)))


def _wait_stopped(pid: int, until: float) -> None:
    """A task that was let go with a SIGSTOP queued stops before its first step, but not at once."""
    while (task := look(pid)) is not None and task.state not in _STOPPED:
        if time.monotonic() > until:
            raise DeadlineError("it was to be left stopped and runs", pid=pid)
        time.sleep(_NAP_S)
