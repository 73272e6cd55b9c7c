"""The keeper's only loop: connections, ends of processes, signals.

One client is served at a time, from its first message until it closes: a chain of dumps belongs to
one process. Others wait for QUEUE_S seconds and are then told who is served. A client may die, or
send anything, at any moment: it loses its connection, what the last round consumed stays in the
ledger, and what it had borrowed is taken back.

It ends when the root of the tree has ended, by request or signal, and when nothing was ever handed
over within IDLE_S seconds while nobody was connected.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ckpt.errors import CkptError
from ckpt.mem.tracking import protocol
from ckpt.mem.tracking.requests import Refused, Requests
from ckpt.record import record

QUEUE_S = 3.0
IDLE_S = 10.0
_QUEUE_MAX = 16
_PEER = struct.Struct("3i")


@record(frozen=True)
class _Waiting:
    client: socket.socket
    until: float


class Server:
    """Owns none of what it is given. `run` returns when the keeper is to end."""

    def __init__(self, listening: socket.socket, requests: Requests, root_pidfd: int) -> None:
        self._listening = listening
        self._requests = requests
        self._root_pidfd = root_pidfd
        self._client: socket.socket | None = None
        self._queue: list[_Waiting] = []
        self._idle_since = time.monotonic()

    def run(self) -> None:
        listening = self._listening
        listening.setblocking(False)
        with _signals() as wakeup:
            while not self._requests.finished:
                ready = self._poll(wakeup)
                if wakeup in ready or self._root_pidfd in ready or self._left_alone():
                    break
                for pidfd, pid in self._requests.pidfds().items():
                    if pidfd in ready:
                        self._requests.drop(pid)
                if listening.fileno() in ready:
                    self._accept()
                if self._client is not None and self._client.fileno() in ready:
                    self._serve(self._client)
                self._next()

    def _poll(self, wakeup: int) -> set[int]:
        poll = select.poll()
        watched = [wakeup, self._root_pidfd, self._listening.fileno(), *self._requests.pidfds()]
        if self._client is not None:
            watched.append(self._client.fileno())
        for lfd in watched:
            poll.register(lfd, select.POLLIN)
        return {lfd for lfd, _ in poll.poll(self._timeout_ms())}

    def _timeout_ms(self) -> int | None:
        untils = [waiting.until for waiting in self._queue]
        if self._may_be_left_alone():
            untils.append(self._idle_since + IDLE_S)
        if not untils:
            return None
        return max(0, int((min(untils) - time.monotonic()) * 1000) + 1)

    def _may_be_left_alone(self) -> bool:
        return self._client is None and not self._requests.ever_tracked

    def _left_alone(self) -> bool:
        return self._may_be_left_alone() and time.monotonic() - self._idle_since >= IDLE_S

    def _accept(self) -> None:
        try:
            client, _ = self._listening.accept()
        except OSError:
            return  # it has gone already
        uid = peer(client)[1]
        if uid not in (0, os.geteuid()):
            _refuse(client, f"user {uid} may not use it")
        elif len(self._queue) >= _QUEUE_MAX:
            self._refuse_busy(client)
        else:
            self._queue.append(_Waiting(client, time.monotonic() + QUEUE_S))

    def _next(self) -> None:
        """Serve the next one if nobody is served; send those away who have waited too long."""
        if self._client is None and self._queue:
            self._client = self._queue.pop(0).client
        now = time.monotonic()
        for waiting in [waiting for waiting in self._queue if waiting.until <= now]:
            self._queue.remove(waiting)
            self._refuse_busy(waiting.client)

    def _refuse_busy(self, client: socket.socket) -> None:
        pid = peer(self._client)[0] if self._client is not None else 0
        _refuse(client, f"busy: it is used by pid {pid}", busy=True)

    def _serve(self, client: socket.socket) -> None:
        """One message, or the end of the connection."""
        try:
            message = protocol.receive(client, first_s=protocol.MESSAGE_S)
            if message is None:
                self._hang_up()
                return
            try:
                reply = self._requests.answer(message)
            finally:
                message.close()
            if not self._requests.finished:
                protocol.send(client, reply.head, reply.blobs, reply.fds)
        except (Refused, CkptError) as error:
            self._say(client, str(error))
        except protocol.ProtocolError as error:
            self._say(client, f"not understood: {error}")
            self._hang_up()
        except OSError:
            self._hang_up()

    def _say(self, client: socket.socket, text: str) -> None:
        try:
            protocol.send(client, {"error": text})
        except OSError:
            self._hang_up()

    def _hang_up(self) -> None:
        if self._client is not None:
            self._client.close()
            self._requests.hung_up()
        self._client = None
        self._idle_since = time.monotonic()


def peer(sock: socket.socket) -> tuple[int, int, int]:
    """pid, uid and gid of the other side when it connected."""
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    pid, uid, gid = _PEER.unpack(raw)
    return pid, uid, gid


def _refuse(client: socket.socket, text: str, *, busy: bool = False) -> None:
    """Say why, without waiting, and close."""
    with client:
        try:
            protocol.send(client, {"error": text, "busy": busy}, timeout_s=0.001)
        except OSError:
            return


@contextmanager
def _signals() -> Iterator[int]:
    """A descriptor that becomes readable when we are told to end."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    try:
        yield ours.fileno()
    finally:
        signal.set_wakeup_fd(before)
        ours.close()
        theirs.close()
