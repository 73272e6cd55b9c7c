"""The last steps: from tasks that run the parasite to tasks that run their own code.

1. Every thread is seized, to be killed if this process dies (PTRACE_O_EXITKILL).
2. The parasites let go of their sockets and park; all threads are stopped. Those that slept for a
   time of which it is known what was left begin to sleep again (sleeps).
3. The leaders unmap the window; registers, FPU state and signal masks are set, and whose calls go
   to its handler gets that back. From here no code of ours is left in any task.
4. Tasks that shall be stopped and are not yet (stops) get a SIGSTOP, which waits for them.
5. A guard, a process of its own, is set over the tree: it kills every task when we die before we
   have sent it away. The kill-on-exit option is taken off every thread; were there no guard, our
   death in between would end only part of the tree.
6. Commit: the guard is sent away by one write. Then all are let go, by us or by our death.

Up to the commit any failure, our own death included, ends every task.

Not guaranteed: who kills us and the guard at once, between the two, ends part of the tree.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from ckpt.errors import ImageError, RestoreError
from ckpt.infect.batch import number
from ckpt.infect.blob import blob
from ckpt.kerndat.xsave import xsave_layout
from ckpt.restore.filters import install_rest
from ckpt.restore.guard import guard_tasks
from ckpt.restore.sleeps import sleep_again
from ckpt.restore.stops import is_held, was_to_stop
from ckpt.task import fpu, regs, thread
from ckpt.tracee import ops, queuedstop

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ckpt.restore.build import Site
    from ckpt.restore.load import TaskImage

_STOP_TIMEOUT_S = 10.0
_STOPPED_S = 1.0


def take_over(site: Site) -> None:
    """Steps 1 to 3."""
    images = list(site.loaded.tasks.values())
    for image in images:
        for tid in image.threads if not image.chains and not is_held(image) else ():
            ops.seize_thread(tid, exitkill=True)
    for image in images:
        site.tasks[image.task.pid].session.leave()
    tids = [tid for image in images for tid in image.threads]
    ops.interrupt_and_wait(tids, _STOP_TIMEOUT_S)
    window = site.plan.window.layout.window
    for image in images:
        install_rest(image, site.plan.window.of(image.task.pid))
    asleep: dict[int, bytes] = {}
    for image in images:
        layout = site.plan.window.of(image.task.pid)
        asleep |= sleep_again(image, layout, site.clocks_since_ns)
    for pid in site.plan.memory:
        # A sleeper has to stand where the kernel restarts its call.
        call = ops.cut_call if pid in asleep else ops.remote_call
        _unmap_window(call, pid, window.start, len(window))
    for image in images:
        _set_state(image, asleep)


def _unmap_window(call: Callable[..., int], pid: int, start: int, size: int) -> None:
    result = call(pid, start + blob().syscall, number("munmap"), start, size)
    if result:
        raise RestoreError("the last window can't be unmapped", pid=pid, why=os.strerror(-result))


def _set_state(image: TaskImage, asleep: Mapping[int, bytes]) -> None:
    layout = xsave_layout()
    for tid, core in image.threads.items():
        info = core.thread_info
        try:
            xstate = fpu.pack(info.fpregs, len(ops.get_xstate(tid)), layout)
        except fpu.FpuError as error:
            raise ImageError(
                "can't be restored", resource=f"core-{tid}.img", why=str(error)
            ) from error
        ops.set_xstate(tid, xstate)
        ops.set_regs(tid, asleep.get(tid) or regs.pack(info.gpregs))
        mask = core.tc.blk_sigset if core.HasField("tc") else core.thread_core.blk_sigset
        ops.set_sigmask(tid, mask)
        thread.restore_dispatch(tid, image.own.get(tid))


def let_go(site: Site, *, leave_stopped: bool, verdict: int = -1) -> None:
    """Steps 4 to 6. `verdict`: see ckpt.restore.guard."""
    images = list(site.loaded.tasks.values())
    held = [image for image in images if is_held(image)]
    others = [image for image in images if not is_held(image)]
    stopping = [image for image in others if leave_stopped or was_to_stop(image)]
    for image in stopping:
        os.kill(image.task.pid, signal.SIGSTOP)
    with guard_tasks([site.tasks[image.task.pid].pidfd for image in images], verdict) as guard:
        for tid in (tid for image in images for tid in image.threads):
            ops.clear_exitkill(tid)
        guard.send_away()
        # The parents of stopped tasks come later: they find them stopped.
        _detach(held)
        _await_stop(held)
        _detach(others)
        _await_stop(stopping)


def _detach(images: list[TaskImage]) -> None:
    for tid in (tid for image in images for tid in image.threads):
        # From here on a task may end like any other.
        with suppress(ops.ThreadGone):
            ops.detach(tid)


def _await_stop(images: list[TaskImage]) -> None:
    """They stop by themselves, but not at once, unless somebody has them go on meanwhile."""
    queuedstop.await_effect([i.task.pid for i in images], time.monotonic() + _STOPPED_S)
