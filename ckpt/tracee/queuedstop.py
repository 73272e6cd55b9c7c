"""A SIGSTOP that waits for seized tasks: were their tracer to end, they would stop, not run.

A task that stands under ptrace takes no signal. Let go, it looks for signals before it goes back to
its program, and a queued SIGSTOP stops all its threads there: the first that looks takes it, and
whoever looks later finds a stop under way (get_signal(), do_signal_stop() in kernel/signal.c). So
not one instruction is executed between the end of the tracer and the stop.

`take_back` undoes it without a trace. SIGCONT would, too, but a handler would see it.
"""

from __future__ import annotations

import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from ckpt.errors import DeadlineError
from ckpt.procfs.tree import look
from ckpt.tracee import ops
from ckpt.tracee.ops import StopKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ckpt.tracee.stopped import SeizedTask

_STEP_S = 10.0
_MOST_SIGNALS = 4096
_STANDS = "TZX"
_NAP_S = 0.0005


def queue(tasks: Iterable[SeizedTask]) -> None:
    """For all that are not stopped by a signal already, or dead."""
    for task in tasks:
        if not task.zombie and not task.stopped:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(task.pidfd, signal.SIGSTOP)


def await_effect(pids: Iterable[int], until: float) -> list[int]:
    """After these were let go with a SIGSTOP queued: they stop before their first step, but not at
    once. Returns those that do not stand by `until` (time.monotonic)."""
    left = [pid for pid in pids if _runs(pid)]
    while left and time.monotonic() < until:
        time.sleep(_NAP_S)
        left = [pid for pid in left if _runs(pid)]
    return left


def _runs(pid: int) -> bool:
    task = look(pid)
    return task is not None and task.state not in _STANDS


def take_back(tasks: Iterable[SeizedTask]) -> None:
    """Of `queue`; they stand as before. What else was queued in front may have been begun to be
    delivered. Raises DeadlineError."""
    for task in tasks:
        if not task.zombie and not task.stopped:
            with suppress(ops.ThreadGone):
                _take_back(task.pid)


def _take_back(tid: int) -> None:
    """Let the main thread go as far as the delivery of SIGSTOP, which is left out."""
    stop = ops.look(tid)
    for _ in range(_MOST_SIGNALS):
        ops.cont(tid, stop.signal if stop.kind is StopKind.SIGNAL else 0)
        stop = ops.wait_stop(tid, _STEP_S)
        if stop.kind.ended:
            return
        if stop.kind is StopKind.SIGNAL and stop.signal == signal.SIGSTOP:
            ops.interrupt(tid)
            ops.cont(tid)
            ops.wait_stop(tid, _STEP_S)
            return
    raise DeadlineError("a queued SIGSTOP does not come", pid=tid)
