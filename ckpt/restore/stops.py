"""Tasks that were stopped by a signal are stopped again while they are being built, so that their
parents learn of it as if it had been long ago.

A stop is reported to the parent by SIGCHLD, and to one wait(2) of it. Where that was so before the
dump it must not be again; where it was not, it must be, once. So for each such task:

1. All its threads are seized, to be killed if this process dies, and brought to a stand.
2. SIGSTOP, or what stopped it, takes effect. The report waits for the parent.
3. The parent takes the report, if it had taken it before. The SIGCHLD waits in its queue, and is
   thrown away with whatever else the restore has caused there (ckpt.task.signals.drain).
4. The threads go on under trace, which a stop of their process does not hinder. When they are let
   go, it holds them at once, before any signal that waits for them, and without another report: see
   __ptrace_unlink() in kernel/ptrace.c and task_participate_group_stop() in kernel/signal.c.

All threads are there by then, for a new one would join the stop, and no parent has got its pending
signals yet. The parent of the root is outside: it is told of the stop by the kernel as ever.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from ckpt.errors import TargetError
from ckpt.infect.batch import Batch
from ckpt.pstree.model import State
from ckpt.task import signals
from ckpt.tracee import ops
from ckpt.tracee.ops import StopKind

if TYPE_CHECKING:
    from ckpt.restore.build import Site
    from ckpt.restore.load import TaskImage

_STEP_S = 10.0
_P_PID = 1
_WNOHANG, _WSTOPPED, _WALL = 1, 2, 0x40000000
_ALL = (1 << 64) - 1
_BY_TERMINAL = (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)


def is_held(image: TaskImage) -> bool:
    """Whether the threads are seized from `stop_again` on."""
    return image.task.state is State.STOPPED


def was_to_stop(image: TaskImage) -> bool:
    """Whether SIGSTOP had come, and the task had not yet seen it."""
    queues = [image.core.tc.signals_s, *(t.thread_core.signals_p for t in image.threads.values())]
    return any(signals.holds_stop(queue) for queue in queues)


def stop_again(site: Site) -> None:
    """All steps, for every task. Threads of tasks with seccomp filters are seized already
    (ckpt.restore.filters). Raises TargetError, DeadlineError, KernelError."""
    for pid, image in site.loaded.tasks.items():
        if not is_held(image):
            continue
        for tid in image.threads if not image.chains else ():
            ops.seize_thread(tid, exitkill=True)
        ops.interrupt_and_wait(list(image.threads), _STEP_S)
        _stop(image)
        own, parent = image.own.get(pid), site.tasks.get(image.task.ppid)
        if parent is not None and own is not None and own.stop_reported:
            batch = Batch()
            batch.call("waitid", _P_PID, pid, 0, _WSTOPPED | _WNOHANG | _WALL, 0)
            parent.session.run(batch)
        for tid in image.threads:
            ops.cont(tid)


def _stop(image: TaskImage) -> None:
    pid = image.task.pid
    leader, *others = sorted(image.threads, key=lambda tid: tid != pid)
    number = _number(image)
    stops = _take(leader, number)
    if not stops and number != signal.SIGSTOP:
        # Nobody could continue an orphaned group: nothing else stops it.
        stops = _take(leader, signal.SIGSTOP)
    for tid in others:
        ops.cont(tid)
    if not stops or any(ops.wait_stop(tid, _STEP_S).kind is not StopKind.GROUP for tid in others):
        raise TargetError("it can't be stopped again", pid=pid)


def _number(image: TaskImage) -> int:
    """What stopped it first, where that would still do so; else SIGSTOP, which always does."""
    tc = image.core.tc
    number = int(tc.stop_signo)
    actions = dict(zip(signals.SETTABLE, tc.sigactions, strict=False))
    if number in _BY_TERMINAL and (number not in actions or not actions[number].sigaction):
        return number
    return int(signal.SIGSTOP)


def _take(leader: int, number: int) -> bool:
    """Whether the leader, which stands and blocks all signals, is stopped by this one."""
    os.kill(leader, signal.SIGSTOP)
    stop = ops.look(leader)
    while stop.kind in (StopKind.INTERRUPT, StopKind.SYSCALL):  # it may have been interrupted twice
        ops.cont(leader)
        stop = ops.wait_stop(leader, _STEP_S)
    if stop.kind is not StopKind.SIGNAL or stop.signal != signal.SIGSTOP:
        return False
    ops.set_sigmask(leader, _ALL ^ 1 << number - 1)
    ops.next_syscall(leader, number)  # comes next where it does not stop
    stopped = ops.wait_stop(leader, _STEP_S).kind is StopKind.GROUP
    ops.set_sigmask(leader, _ALL)
    return stopped
