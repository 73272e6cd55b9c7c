"""Connections of TCP on the way into the images: the network is locked, they are read, and in the
end either let go or carried away.

1. `prepare`, before the freeze where connections were seen by then: the guard and an owned table.
2. `take`, target frozen: the network is locked for all of them, then each is read.
3. `let_go`: target goes on; the table is removed. Or:
4. `silence`, just before the kill: sockets that the kill closes send nothing. Then `leave_locked`:
   a table without an owner takes over, which a restore removes; the guard ends.

Whatever ends this process before 4 removes the table and, by the guard, repair mode; between the
two steps of 4 the set is whole and the tree dead, but the peer may hear of it.

Those that are being opened are none yet, and begun anew (ckpt.files.inet_restore). Refused: those
that use SO_PEEK_OFF, which disturbs reading.
"""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from ckpt.errors import KernelError
from ckpt.files import tcprepair
from ckpt.files.kind import Obstacle
from ckpt.files.netlock import Connection, NetLock
from ckpt.files.tcpguard import TcpGuard
from ckpt.images.types import image_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckpt.report import Report

SKIP = "skip"
_SO_PEEK_OFF = 42


def table_name(run_id: str) -> str:
    """Of the table that a dump leaves behind."""
    return f"ckpt-{run_id}"


class TcpConnections:
    """All connections of one dump. `method`: of --network-lock."""

    def __init__(self, method: str, report: Report) -> None:
        self._locks = method != SKIP
        self._report = report
        self._run_id = os.urandom(8).hex()
        self._guard: TcpGuard | None = None
        self._lock: NetLock | None = None
        self._taken: list[Connection] = []
        self._streams: dict[int, tcprepair.Stream] = {}

    def name(self, run_id: str) -> None:
        self._run_id = run_id

    def prepare(self) -> None:
        """Raises KernelError."""
        if self._guard is None:
            self._guard = TcpGuard()
        if self._lock is None and self._locks:
            self._lock = NetLock(table_name(self._run_id) + "-dump", owned=True)

    def lock(self, lfds: Sequence[int], connections: Sequence[Connection]) -> None:
        """From here until `let_go` or a restore nothing of them leaves or arrives."""
        if not connections:
            return
        self.prepare()
        if self._lock:
            self._lock.add(connections)
        assert self._guard is not None
        self._guard.hold(lfds)
        self._taken.extend(connections)

    def read(self, ino: int, state: int, sock: socket.socket) -> Obstacle | None:
        """Read one connection, which is locked."""
        if sock.getsockopt(socket.SOL_SOCKET, _SO_PEEK_OFF) >= 0:
            return Obstacle("a TCP connection that uses SO_PEEK_OFF is not restored yet")
        try:
            self._streams[ino] = tcprepair.read(sock, state)
        except OSError as error:
            return Obstacle(f"the connection can't be read: {tcprepair.why(error)}")
        except ValueError as error:
            return Obstacle(f"the connection can't be read: {error}")
        return None

    def images(self) -> dict[str, Sequence[Any]]:
        return {
            image_name("tcp-stream", ino): [stream.message()]
            for ino, stream in self._streams.items()
        }

    def let_go(self) -> None:
        """Nothing is left of the lock. May be called twice."""
        with ExitStack() as scope:
            if self._lock:
                scope.callback(self._lock.close)
            if self._guard:
                scope.callback(self._guard.close)
        self._lock = self._guard = None

    def silence(self) -> None:
        if self._taken and self._guard:
            self._guard.silence()

    def leave_locked(self) -> None:
        """The tree is dead. A failure can't bring it back, and is a warning."""
        if self._taken and self._lock:
            try:
                with NetLock(table_name(self._run_id), owned=False) as left:
                    left.add(self._taken)
            except KernelError as error:
                self._report.warn(f"connections may be closed before they are restored: {error}")
        if self._guard:
            self._guard.dismiss()
            self._guard = None
        self.let_go()
