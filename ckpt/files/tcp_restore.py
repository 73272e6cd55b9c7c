"""Connections of TCP on the way out of the images.

They are built before there are tasks, and stay in repair mode until nothing else can fail: if the
restore does, they vanish without a packet, the lock that the dump has left behind still stands, and
the set can be restored once more. A lock of our own covers the time on a machine where the dump's
is not. `let_loose` removes both, then lets every connection go on.
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
from typing import TYPE_CHECKING, Any

from ckpt.errors import ImageError, RestoreError
from ckpt.files import netlock, sk_opts, tcprepair
from ckpt.files.netlock import MARK, Connection, NetLock
from ckpt.files.tcp import SKIP, table_name
from ckpt.images.types import INVENTORY, image_name
from ckpt.record import record

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ckpt.files.inetaddr import Address
    from ckpt.files.restoring import RestoreView

_PATIENCE_S = 2.0


@record
class Wanted:
    """One connection to be built, and our duplicate of it once it is."""

    sort: tuple[int, int, int]
    state: int
    opts: Any
    src: Address
    dst: Address
    message: Any
    payload: bytes
    lfd: int = -1


class TcpRestore:
    """All connections of one restore."""

    def __init__(self, view: RestoreView) -> None:
        self._view = view
        self._wanted: dict[int, Wanted] = {}
        self._lock: NetLock | None = None

    def take(self, file_id: int, ino: int, wanted: Wanted) -> None:
        """Read and check what belongs to it; `wanted` has no message yet."""
        name = image_name("tcp-stream", ino)
        found = self._view.payloads(name)
        if len(found) != 1:
            raise ImageError("is missing" if not found else "has many", resource=f"{name}.img")
        wanted.message, wanted.payload = found[0]
        tcprepair.check(wanted.message, wanted.payload, f"{name}.img")
        self._wanted[file_id] = wanted

    def build(self, file_id: int, sock: socket.socket) -> None:
        """Raises OSError, RestoreError. `sock` is in repair mode, and has its options."""
        self._locked()
        w = self._wanted[file_id]
        family = w.sort[0]
        ends = w.src.for_call(family), w.dst.for_call(family)
        tcprepair.build(sock, w.state, w.message, w.payload, ends)
        if w.state in tcprepair.FIN_RECEIVED:
            tcprepair.send_fin(w.message, w.src, w.dst, MARK)
            _await_fin(sock, w)
        w.lfd = fcntl.fcntl(sock, fcntl.F_DUPFD_CLOEXEC, 3)

    def let_loose(self) -> None:
        """Open the network, and let all of them go on. Raises RestoreError, KernelError."""
        if not any(w.lfd >= 0 for w in self._wanted.values()):
            return
        if self._lock:
            run_id = self._view.images.read_one(INVENTORY).dump_criu_run_id
            if run_id:
                netlock.remove(table_name(run_id))
            self._lock.close()
        for w in self._built():
            what = f"connection from {w.src} to {w.dst}"
            with sk_opts.borrowed(w.lfd, *w.sort) as sock:
                try:
                    tcprepair.go_on(sock, w.state, w.message, w.payload)
                    sk_opts.apply_buffers(self._view.report, sock, w.opts, what)
                    reuse = int(w.opts.reuseaddr)
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
                except OSError as error:
                    why = os.strerror(error.errno or 0)
                    raise RestoreError("can't go on", resource=what, why=why) from error

    def close(self) -> None:
        """Forget them: what is still in repair mode vanishes. May be called twice."""
        for w in self._built():
            os.close(w.lfd)
            w.lfd = -1
        if self._lock:
            self._lock.close()

    def _built(self) -> Iterable[Wanted]:
        return [w for w in self._wanted.values() if w.lfd >= 0]

    def _locked(self) -> None:
        if self._lock is None and self._view.options.network_lock != SKIP:
            self._lock = NetLock(f"ckpt-restore-{os.urandom(16).hex()}", owned=True)
            self._lock.add([Connection(w.src, w.dst) for w in self._wanted.values()])


def _await_fin(sock: socket.socket, w: Wanted) -> None:
    """The packet comes by way of the loopback device, mostly at once."""
    until = time.monotonic() + _PATIENCE_S
    while sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == 1:
        if time.monotonic() > until:
            why = "the end of what the peer sent could not be made"
            raise RestoreError("can't be built", resource=f"{w.src} to {w.dst}", why=why)
        time.sleep(0.001)
