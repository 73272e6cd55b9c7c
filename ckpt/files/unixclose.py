"""--unix-close: connections of UNIX sockets that lead out of the tree, as if they had ended.

Nobody can give a stranger's end back to it, so the tree gets its own end in the state in which it
would be had the other one been closed: what has arrived can be read, then there is the end of file.
Who waits to be accepted from outside is not there. Datagram sockets have no connection that could
end; ckpt.files.unix asks for their peers by name.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ckpt.files.unixdiag import UnixInfo

_BOTH = 3


def closed_outside(told: dict[int, UnixInfo]) -> dict[int, UnixInfo]:
    """What was told of all sockets of the tree, each as it would be without those outside."""
    waiting = {ino for info in told.values() for ino in info.pending}
    return {ino: _closed(info, told, waiting) for ino, info in told.items()}


def _closed(info: UnixInfo, told: dict[int, UnixInfo], waiting: set[int]) -> UnixInfo:
    info = info._replace(pending=tuple(ino for ino in info.pending if ino in told))
    if info.peer is None or info.peer in told or info.type == socket.SOCK_DGRAM:
        return info
    if info.ino in waiting:
        return info
    return info._replace(peer=0, shutdown=_BOTH)
