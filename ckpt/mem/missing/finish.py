"""Before a tree is dumped all of its memory must be there: what a lazy restore has left to bring is
waited for while the tree runs. It comes at full speed anyway.

The holder of the missing pages is found by the processes that were restored, or by their children's
parents. Where it is not found, for all of these have ended but a child, the mappings tell, and the
dump is refused.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from typing import TYPE_CHECKING

from ckpt.errors import DeadlineError
from ckpt.mem.tracking import where
from ckpt.procfs.tree import look, tree
from ckpt.units import PAGE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckpt.mem.missing.client import Holder
    from ckpt.report import Report

_NAP_S = 0.01
_ANEW_S = 10.0
_ALONE_S = 60.0
_PEER = struct.Struct("3i")


def finish(root: int, report: Report, timeout_s: float = 0) -> None:
    """Return when nothing of the tree below `root` is missing any more. `timeout_s`: wait no longer
    than that, 0: without limit. Raises LostPagesError, DeadlineError; the tree is as it was."""
    until = time.monotonic() + timeout_s if timeout_s else None
    for sock in _holders(root):
        _finish(root, sock, report, until)


def is_arriving(root: int) -> bool:
    """Whether something of the tree is missing yet that is being brought."""
    for sock in _holders(root):
        sock.close()
        return True
    return False


def _holders(root: int) -> Iterator[socket.socket]:
    """Connections to the holders of this tree, for the caller. Cheap where no tree has any."""
    uid = os.geteuid()
    if not any(folder.has_missing() for folder in where.existing(uid, os.environ)):
        return
    tasks = tree(root)
    above = look(tasks[0].ppid)
    while above is not None:
        tasks.append(above)
        above = look(above.ppid)
    for task in tasks:
        name = where.missing_name(task.pid, task.starttime)
        for folder in where.existing(uid, os.environ):
            if folder.has(name) and (sock := folder.connect(name)) is not None:
                yield sock


def _finish(root: int, sock: socket.socket, report: Report, until: float | None) -> None:
    from ckpt.mem.missing.client import Holder, HolderGone

    report.stage("missing")
    report.info("memory that the tree was restored without is waited for")
    # Its end as a process is the end of its descriptors; that of the connection comes before.
    pid = _PEER.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))[0]
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        _await_server(root, sock, until)
        return
    try:
        if _readable(pidfd, 0):
            _await_server(root, sock, until)
            return
        with Holder(sock) as holder:
            _watch(root, holder, pidfd, report, until)
    except HolderGone:
        _readable(pidfd, None if until is None else max(0, until - time.monotonic()))
    finally:
        os.close(pidfd)


def _await_server(root: int, sock: socket.socket, until: float | None) -> None:
    """The holder was killed. Its server, who finishes alone, has the socket until it ends."""
    with sock:
        if not _readable(sock.fileno(), _ALONE_S if until is None else until - time.monotonic()):
            raise DeadlineError(
                "memory that it was restored without is still missing",
                pid=root,
                why="who told how much is left was killed",
                hint="wait until ckpt-lazy-pages has ended",
            )


def _readable(lfd: int, timeout_s: float | None) -> bool:
    """A descriptor can be read, or has its end, within that time."""
    poll = select.poll()
    poll.register(lfd, select.POLLIN)
    return bool(poll.poll(None if timeout_s is None else max(0, timeout_s * 1000)))


def _watch(root: int, holder: Holder, pidfd: int, report: Report, until: float | None) -> None:
    """Until the holder ends: raises HolderGone."""
    from ckpt.mem.missing.client import LostPagesError

    total, anew = 0, time.monotonic() + _ANEW_S
    while True:
        status = holder.status()
        left = status.get("left", 0)
        assert isinstance(left, int)
        total = max(total, left)
        report.progress((total - left) * PAGE, total * PAGE)
        now = time.monotonic()
        if status.get("state") != "lost":
            anew = now + _ANEW_S
        elif not status.get("interrupted") or now > anew:
            raise LostPagesError(
                "memory that it was restored without can't be had",
                pid=root,
                why=str(status.get("why")),
                hint="put the images back, or the source, and start ckpt lazy-pages again",
            )
        if until is not None and now > until:
            raise DeadlineError(
                "memory that it was restored without is still missing",
                pid=root,
                why=f"{left * PAGE >> 10} KiB",
                hint="give it more time with --timeout",
            )
        _readable(pidfd, _NAP_S)
