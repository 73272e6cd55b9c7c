"""A userfaultfd of the target's mm, in our hands alone.

Order:

1. /dev/userfaultfd, opened by us, goes in with a batch; the task makes the descriptor with it: a
   full one, whoever the task is. Without the device, userfaultfd(2) in the task.
2. We take a duplicate with pidfd_getfd(2).
3. The task closes its own. Should we end before that, its parasite closes it on the way out.
4. UFFDIO_API from our side.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from ckpt._native import lib
from ckpt.errors import CkptError, KernelError, TargetError, refused_by_kernel
from ckpt.infect.batch import LENT_FD, SOCK, Batch
from ckpt.kerndat import uffd as api
from ckpt.mem.tracking.engine import Mode

if TYPE_CHECKING:
    from ckpt.infect.session import Session
    from ckpt.tracee.stopped import SeizedTask

_FLAGS = os.O_CLOEXEC | os.O_NONBLOCK
_USER_MODE_ONLY = 1
_WHAT = "no userfaultfd for tracking its memory"
_SYNC = api.Feature.PAGEFAULT_FLAG_WP
_ASYNC = _SYNC | api.Feature.WP_ASYNC | api.Feature.WP_UNPOPULATED
_MORE = api.Feature.WP_HUGETLBFS_SHMEM
EVENTS = api.Feature.EVENT_REMOVE | api.Feature.EVENT_UNMAP | api.Feature.EVENT_REMAP
"""Of memory that is given back or moved; whoever does that waits until the event is read. Every
synchronous userfaultfd has them."""

NOTHING_MORE = api.Feature(0)

BIRTHS = api.Feature.EVENT_FORK
"""A child comes with a userfaultfd of its own, and its parent waits until that is read."""


def open_uffd(
    session: Session, task: SeizedTask, mode: Mode, more: api.Feature = NOTHING_MORE
) -> int:
    """The descriptor, close-on-exec and non-blocking, ready for write protection in `mode`, and for
    what `more` of the kernel's features tell. A synchronous one tells of EVENTS.

    Raises KernelError (no room in the task's descriptor table, not permitted, not in this kernel)
    or TargetError. The session's lent descriptor must not be in use. The target's descriptor table
    is as it was, whatever happens.
    """
    if not session.can_pass_fds:
        raise _full(task.pid)
    number = _make(session, task.pid, mode)
    try:
        lfd = lib.ckpt_pidfd_getfd(task.pidfd, number)
    finally:
        _close_there(session, number)
    if lfd < 0:
        why = os.strerror(-lfd)
        raise TargetError("its userfaultfd can't be had", pid=task.pid, why=why)
    try:
        _start(lfd, mode, task.pid, more)
    except BaseException:
        os.close(lfd)
        raise
    return int(lfd)


def open_pagemap(pid: int) -> int:
    """/proc/PID/pagemap, bound to the mm of this moment. TargetError: it has ended; a zombie has
    no mm any more."""
    try:
        return os.open(f"/proc/{pid}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError) as error:
        raise TargetError("it has ended", pid=pid) from error


def _make(session: Session, pid: int, mode: Mode) -> int:
    """The number of a new userfaultfd in the task."""
    try:
        device = os.open(api.DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return _make_by_call(session, pid, mode)
    try:
        batch = Batch()
        slot = batch.receive_fds(SOCK, 1)[0]
        made = batch.call("ioctl", slot, api.IOC_NEW, _FLAGS, any_result=True)
        batch.keep(LENT_FD, made)
        batch.call("close", slot, any_result=True)
        result = session.run(batch, fds=[device]).of(made)
    finally:
        os.close(device)
    if result in (-errno.EMFILE, -errno.EBADF):  # no room for it, or for the device
        raise _full(pid)
    return _number(result, pid)


def _make_by_call(session: Session, pid: int, mode: Mode) -> int:
    flags = _FLAGS | (_USER_MODE_ONLY if mode is Mode.ASYNC else 0)
    batch = Batch()
    made = batch.call("userfaultfd", flags, any_result=True)
    batch.keep(LENT_FD, made)
    result = session.run(batch).of(made)
    if result == -errno.EMFILE:
        raise _full(pid)
    return _number(result, pid)


def _number(result: int, pid: int) -> int:
    if result >= 0:
        return result
    hint = f"give {api.DEVICE}, or vm.unprivileged_userfaultfd" if result == -errno.EPERM else ""
    raise KernelError(_WHAT, pid=pid, why=os.strerror(-result), hint=hint)


def _close_there(session: Session, number: int) -> None:
    batch = Batch()
    batch.call("close", number)
    batch.keep(LENT_FD, batch.put(b"\xff" * 4))
    session.run(batch)


def _start(lfd: int, mode: Mode, pid: int, more: api.Feature) -> None:
    with refused_by_kernel(_WHAT):
        offered = api.features()
        wanted = (_ASYNC if mode is Mode.ASYNC else _SYNC | EVENTS) | more
        if wanted & ~offered:
            lacking = ", ".join(str(f.name) for f in wanted & ~offered)
            raise KernelError(_WHAT, pid=pid, why=f"the kernel lacks {lacking}")
        api.start(lfd, wanted | (offered & _MORE))


def _full(pid: int) -> CkptError:
    hint = "raise its RLIMIT_NOFILE, or have it close one"
    return KernelError(_WHAT, pid=pid, why="its descriptor table is full", hint=hint)
