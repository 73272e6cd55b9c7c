"""A userfaultfd of a task under construction, for the pages that it is born without.

1. /dev/userfaultfd, opened by us, goes in with a batch; the task makes the descriptor with it.
   Without the device, userfaultfd(2) in the task.
2. We take a duplicate with pidfd_getfd(2); the task closes its own.
3. UFFDIO_API and the registration of the mappings come from our side.

The children of the task must be there already: a fork would be an event that nobody reads yet.

Source: userfaultfd(2), ioctl_userfaultfd(2). UFFD_FEATURE_EVENT_FORK needs CAP_SYS_PTRACE of us.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ckpt._native import check, lib
from ckpt.errors import KernelError, RestoreError, refused_by_kernel
from ckpt.infect.batch import SOCK, Batch
from ckpt.kerndat import uffd as api
from ckpt.mem.extents import Extents

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ckpt.infect.session import Session
    from ckpt.units import Range

_FLAGS = os.O_CLOEXEC | os.O_NONBLOCK
_EVENTS = (
    api.Feature.EVENT_FORK
    | api.Feature.EVENT_REMAP
    | api.Feature.EVENT_REMOVE
    | api.Feature.EVENT_UNMAP
)
_WHAT = "its memory can't come later"


def open_missing(
    session: Session, pid: int, pidfd: int, ranges: Iterable[Range], features: api.Feature
) -> int:
    """The descriptor, close-on-exec and non-blocking, with `ranges` registered for missing pages,
    and for write protection if `features`, beside the events, have any of that.

    Raises KernelError, RestoreError. The task's descriptor table is as it was.
    """
    lfd = _make(session, pid, pidfd)
    try:
        with refused_by_kernel(_WHAT):
            api.start(lfd, _EVENTS | features)
            where = Extents.of((r.start, r.end) for r in ranges)
            wp = bool(features & api.Feature.PAGEFAULT_FLAG_WP)
            check(lib.ckpt_lazy_register(lfd, where.array, where.nr, wp), "userfaultfd")
    except BaseException:
        os.close(lfd)
        raise
    return lfd


def _make(session: Session, pid: int, pidfd: int) -> int:
    batch = Batch()
    fds = []
    try:
        fds.append(os.open(api.DEVICE, os.O_RDWR | os.O_CLOEXEC))
        slot = batch.receive_fds(SOCK, 1)[0]
        made = batch.call("ioctl", slot, api.IOC_NEW, _FLAGS, note="userfaultfd")
        batch.call("close", slot)
    except OSError:
        made = batch.call("userfaultfd", _FLAGS, note="userfaultfd")  # it has our privileges yet
    try:
        number = session.run(batch, fds=fds).of(made)
    except KernelError as error:
        hint = f"give {api.DEVICE}, or restore without --lazy and --lazy-pages"
        raise KernelError(_WHAT, pid=pid, why=str(error), hint=hint) from error
    finally:
        for lfd in fds:
            os.close(lfd)
    lfd = lib.ckpt_pidfd_getfd(pidfd, number)
    closing = Batch()
    closing.call("close", number)
    session.run(closing)
    if lfd < 0:
        raise RestoreError("its userfaultfd can't be had", pid=pid, why=os.strerror(-lfd))
    return int(lfd)
