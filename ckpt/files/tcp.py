"""Connections of TCP on the way into the images: the network is locked, they are read, and in the
end either let go or carried away.

1. `prepare`, before the freeze where connections were seen by then: the guard and an owned table.
2. `lock`, `read`, target frozen: the network is locked for all of them, then each is read.
3. `let_go`: target goes on; the table is removed. Or:
4. `silence`, just before the kill: sockets that the kill closes send nothing. Then `leave_locked`:
   a table without an owner takes over, which a restore removes; the guard ends. This and the kill
   are done by a child of ours (ckpt.tracee.lasting); `let_go` remains for us.

Whatever ends this process before 4 removes the table and, by the guard, repair mode; whoever kills
it in the midst of 4 has all of 4 done.

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
from ckpt.files.sockqueue import borrowed
from ckpt.files.tcpguard import TcpGuard
from ckpt.images.types import image_name
from ckpt.tracee.lasting import lasting

if TYPE_CHECKING:
    from collections.abc import Sequence

SKIP = "skip"
_SO_PEEK_OFF = 42


def table_name(run_id: str) -> str:
    """Of the table that a dump leaves behind."""
    return f"ckpt-{run_id}"


class TcpConnections:
    """All connections of one dump. `method`: of --network-lock."""

    def __init__(self, method: str) -> None:
        self._locks = method != SKIP
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

    def read(self, found: Sequence[tuple[int, int]]) -> list[tuple[int, Obstacle | None]]:
        """Read connections (inode number, our duplicate), which are locked: the state of each, and
        what hinders. A target that runs would get errors from one that is being read."""
        if not found:
            return []
        told = lasting(lambda: [_read(lfd) for _, lfd in found])
        if told is None:
            raise KernelError("connections of TCP can't be read")
        for (ino, _), (_, _, *stream) in zip(found, told, strict=True):
            if stream:
                self._streams[ino] = tcprepair.Stream(*stream)
        return [(state, Obstacle(*why) if why else None) for state, why, *_ in told]

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

    def leave_locked(self) -> Sequence[str]:
        """The tree is killed. A failure can't bring it back, and is a warning."""
        warnings = []
        if self._taken and self._lock:
            try:
                with NetLock(table_name(self._run_id), owned=False) as left:
                    left.add(self._taken)
            except KernelError as error:
                warnings.append(f"connections may be closed before they are restored: {error}")
        if self._guard:
            self._guard.dismiss()
        return warnings


def _read(lfd: int) -> tuple[Any, ...]:
    """Of one connection: its state and what hinders (the words of an Obstacle), and the fields of a
    Stream where nothing does."""
    with borrowed(lfd) as sock:
        # Until it was locked, the peer could still change it.
        state = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
        if state not in tcprepair.STATES:
            return state, ("its connection ended just now", "try once more")
        if sock.getsockopt(socket.SOL_SOCKET, _SO_PEEK_OFF) >= 0:
            return state, ("a TCP connection that uses SO_PEEK_OFF is not restored yet",)
        try:
            stream = tcprepair.read(sock, state)
        except OSError as error:
            return state, (f"the connection can't be read: {tcprepair.why(error)}",)
        except ValueError as error:
            return state, (f"the connection can't be read: {error}",)
    return state, (), stream.fields, stream.received, stream.sent
