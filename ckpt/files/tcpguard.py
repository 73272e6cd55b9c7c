"""A process that undoes TCP_REPAIR on a target's sockets where this process dies before it did.

A socket in repair mode sends nothing, and its target would not know why. So before the first one is
put into it, a child of ours that leads a session of its own has a duplicate of each:

1. `TcpGuard()` starts the child, before the freeze.
2. `hold` gives it the duplicates; they are the child's when this returns.
3. `silence`, before a kill: the child puts them all into repair mode, in which a socket vanishes
   without a packet when its last holder ends.
4. `dismiss`: the child ends and leaves them as they are. On any other end of ours the child sees
   the end of its socket, takes all of them out of repair mode, and ends.
5. `close`, of who has made it: nothing of it is left.

While connections are read, and from `silence` to `dismiss`, not even a killed dump lets the target
run (ckpt.tracee.lasting): the latter two may be called by another child of ours.

Not guaranteed: who kills us and the child at once leaves sockets as they are in that instant.
"""

from __future__ import annotations

import os
import signal
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

from ckpt.errors import KernelError
from ckpt.files.tcprepair import repair_off_quietly, repair_on

if TYPE_CHECKING:
    from collections.abc import Sequence

_AT_ONCE = 250
_HOLD, _SILENCE, _DISMISS, _DONE = b"h", b"s", b"d", b"k"


class TcpGuard:
    """The child, until `dismiss` or `close`."""

    def __init__(self) -> None:
        self._sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._pid = os.fork()
        if not self._pid:
            _be_the_child(theirs)
        theirs.close()

    def hold(self, lfds: Sequence[int]) -> None:
        """Raises KernelError."""
        for at in range(0, len(lfds), _AT_ONCE):
            some = list(lfds[at : at + _AT_ONCE])
            socket.send_fds(self._sock, [_HOLD], some)
            self._await()

    def silence(self) -> None:
        """Raises KernelError."""
        self._sock.send(_SILENCE)
        self._await()

    def dismiss(self) -> None:
        """The sockets stay as they are; nothing of the child's holds them when it has ended."""
        with suppress(OSError):
            self._sock.send(_DISMISS)

    def close(self) -> None:
        """The sockets leave repair mode, unless it was dismissed. May be called twice."""
        self._sock.close()
        pid, self._pid = self._pid, 0
        if pid:
            os.waitpid(pid, 0)

    def _await(self) -> None:
        if self._sock.recv(1) != _DONE:
            raise KernelError("the guard of TCP connections has ended")


def _be_the_child(own: socket.socket) -> None:
    """Never returns, whatever happens."""
    held: list[int] = []
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        os.closerange(0, own.fileno())
        os.closerange(own.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
        if not _serve(own, held):
            for lfd in held:
                with suppress(OSError):
                    repair_off_quietly(lfd)
    finally:
        os._exit(0)


def _serve(own: socket.socket, held: list[int]) -> bool:
    """Whether it was dismissed."""
    while True:
        said, fds, *_ = socket.recv_fds(own, 1, _AT_ONCE)
        held += fds
        if said == _SILENCE:
            for lfd in held:
                repair_on(lfd)
        elif said != _HOLD:
            return said == _DISMISS
        own.send(_DONE)
