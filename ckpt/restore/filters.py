"""Seccomp filters, put on again while they are held off: what is still to be done in a task is not
judged by them.

1. Before the leader's last batches every thread of a process that has filters is seized, to be
   killed if this process dies, with its filters held off (`hold_off`);
2. what all threads have in common is installed by the leader for all, while it has its powers, and
   so is what the leader has beyond that (`install_by_leader`);
3. at the commit, when all stand, the other threads get the rest of theirs (`install_rest`).

They work from the moment when the threads are let go.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ckpt.errors import RestoreError
from ckpt.infect.batch import Batch, number
from ckpt.infect.blob import blob
from ckpt.task import seccomp
from ckpt.tracee import filters, ops, vm

if TYPE_CHECKING:
    from ckpt.infect.blob import Layout
    from ckpt.restore.build import Built
    from ckpt.restore.load import TaskImage


def hold_off(image: TaskImage) -> None:
    """Step 1. Raises TargetError where that is not permitted."""
    if image.chains:
        for tid in image.threads:
            filters.seize_without(tid)


def install_by_leader(built: Built, image: TaskImage) -> None:
    """Step 2."""
    if not image.chains:
        return
    common = _common(image)
    leader = image.chains.get(built.pid, ())
    for position, one in enumerate(leader):
        batch = Batch()
        seccomp.install(batch, one, everybody=position < len(common) and len(image.threads) > 1)
        built.session.run(batch)


def install_rest(image: TaskImage, layout: Layout) -> None:
    """Step 3: `layout` is the task's window, which is still there; nobody uses its batches."""
    common = _common(image) if image.chains else ()
    call = layout.window.start + blob().syscall
    for tid, chain in image.chains.items():
        if tid == image.task.pid:
            continue
        for one in chain[len(common) :]:
            raw, arguments = seccomp.remote(one, layout.batches.start)
            vm.write(tid, layout.batches.start, raw)
            result = ops.remote_call(tid, call, number("seccomp"), *arguments)
            if result:
                raise RestoreError(
                    "its seccomp filter can't be installed",
                    pid=image.task.pid,
                    resource=f"thread {tid}",
                    why=os.strerror(-result),
                )


def _common(image: TaskImage) -> seccomp.Chain:
    return seccomp.common([image.chains.get(tid, ()) for tid in image.threads])
