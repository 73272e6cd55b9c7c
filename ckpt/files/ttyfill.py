"""What a pseudo terminal that was just made gets before anybody uses it.

Raises OSError where it can't be.
"""

from __future__ import annotations

import fcntl
import os
import termios
from typing import TYPE_CHECKING

from ckpt.files import ttystate
from ckpt.files.ptmx import PTS
from ckpt.files.ttyqueue import Pair, Queues, put

if TYPE_CHECKING:
    from ckpt.files.ttyimage import Info
    from ckpt.report import Report


def fill(info: Info, master: int, slave: int | None) -> None:
    """What is on its way, settings and size."""
    whole = info.whole
    if whole is None:
        return
    fcntl.ioctl(master, termios.TIOCSWINSZ, whole.winsize)
    if slave is None:
        whole.settings.set(master)
    else:
        queues = Queues(info.output, info.lines, info.rest, info.stopped)
        put(Pair(master, slave), queues, whole.settings)
    if whole.locked.any:
        whole.locked.lock(master)
    if info.packets:
        ttystate.tell(master, termios.TIOCPKT, 1)


def own_node(index: int, info: Info, report: Report) -> None:
    """Give the slave's node its owner and mode; where that is not allowed, warn."""
    if info.node is None:
        return
    uid, gid, mode = info.node
    path = f"{PTS}/{index}"
    try:
        os.chown(path, uid, gid)
        os.chmod(path, mode)  # noqa: PTH101
    except OSError as error:
        why = os.strerror(error.errno or 0)
        report.warn(f"{path}: its owner can't be restored: {why}")
