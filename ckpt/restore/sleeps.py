"""Threads that slept go on sleeping for what was left (ckpt.task.sleeping says of which that is
known): each makes its call once more, and is cut at once, so that the kernel remembers it as it did
before the dump. When the thread is let go, the kernel restarts the call by itself, or has it return
EINTR to a signal handler, as ever.

Every signal is blocked, and the window is still there.

Not exact: a sleep gets longer by the time that the dump took from its interrupt to the reading of
the clock, at most the time of freezing.
"""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING

from ckpt.errors import RestoreError
from ckpt.infect.blob import blob
from ckpt.task import regs, sleeping
from ckpt.tracee import ops, vm

if TYPE_CHECKING:
    from ckpt.infect.blob import Layout
    from ckpt.restore.load import TaskImage

_ERESTART_RESTARTBLOCK = 516
_OVER = (0, -errno.ETIMEDOUT)
_ANEW = (-errno.EFAULT, -errno.EAGAIN)
"""The call would not sleep at all, and the thread finds that out by itself, as where poll(2) tells
that something is there."""


def sleep_again(image: TaskImage, layout: Layout, clocks_since_ns: int | None) -> dict[int, bytes]:
    """The threads of a task that sleep again, or whose time is over, with the registers that they
    must get. What can't begin again, for its place to write to is gone, or what it waits for is
    there, starts anew.
    `clocks_since_ns`: since when the tasks' clocks run, during which sleeps go on as well."""
    found = {}
    for tid, core in image.threads.items():
        own = image.own.get(tid)
        if own is None or not own.HasField("sleep_left_ns"):
            continue
        at = layout.batches.start
        raw = regs.pack(core.thread_info.gpregs)
        passed_ns = time.monotonic_ns() - clocks_since_ns if clocks_since_ns else 0
        left_ns = max(0, own.sleep_left_ns - passed_ns)
        call = sleeping.arguments(raw, at, left_ns)
        if call is None:
            continue
        vm.write(image.task.pid, at, sleeping.length(left_ns))
        result = ops.cut_call(tid, layout.window.start + blob().syscall, *call)
        if result == -_ERESTART_RESTARTBLOCK:
            found[tid] = sleeping.interrupted(raw)
        elif result in _OVER:
            found[tid] = sleeping.over(raw, result)
        elif result < 0 and result not in _ANEW:
            why = f"its sleep can't begin again: {os.strerror(-result)}"
            raise RestoreError("can't be restored", pid=image.task.pid, why=why)
    return found
