"""What is in flight to UNIX sockets, sent again when all of them are made.

Not earlier, since a message may carry any of them, itself included (SCM_RIGHTS). The end that a
connection has lost sends before it is closed for good; that is also what a reset (ECONNRESET) comes
of, which the target has yet to see: that end is closed with data unread in it.

Datagrams to a socket with a name are sent by who had sent them, before anybody connects.

Not kept: the address that a datagram came from, where that socket is not in the tree.
"""

from __future__ import annotations

import os
import socket
from collections import ChainMap
from typing import TYPE_CHECKING, Any, NamedTuple

from ckpt.files import sockopts, sockqueue
from ckpt.files.sockqueue import borrowed
from ckpt.files.unixnames import file_of
from ckpt.units import PAGE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ckpt.files.restoring import RestoreView
    from ckpt.files.sockqueue import Queued
    from ckpt.files.unixnames import Name


class Checked(NamedTuple):
    """One socket of the images, checked."""

    id: int
    message: Any
    flags: int
    signum: int
    name: Name | None
    where: str


class Filler:
    """Fills the queues of one restore. `opened` are the sockets that the builder has made; `now` is
    who is being filled, for errors."""

    def __init__(
        self,
        view: RestoreView,
        queues: dict[int, list[Queued]],
        ours: dict[int, Any],
        opened: Mapping[int, int],
    ) -> None:
        self.now: Checked | None = None
        self._view = view
        self._queues = queues
        self._ours = ours
        self._opened = opened
        self._anything = ChainMap(dict(opened), view.lfds)
        self._senders: list[tuple[Checked, int]] = []
        self._dead: list[tuple[Checked, int]] = []
        self._done: set[int] = set()

    def later(self, receiver: Checked, lfd: int) -> None:
        """`lfd`, which stays its owner's, shall send what is in flight to `receiver`."""
        self._senders.append((receiver, lfd))
        self._done.add(receiver.id)

    def from_the_dead(self, receiver: Checked, lfd: int) -> None:
        """As `later`; then `lfd` is closed. It is the filler's from now on."""
        self._dead.append((receiver, lfd))
        self._done.add(receiver.id)

    def fill(self, sockets: Sequence[Checked]) -> None:
        """Send everything; `sockets` are all. Raises OSError."""
        self._anything = ChainMap(dict(self._opened), self._view.lfds)
        for receiver, lfd in (*self._senders, *self._dead):
            self._send(receiver, lfd)
        for receiver, lfd in self._dead:
            if receiver.id in self._ours and self._ours[receiver.id].reset:
                with borrowed(self._opened[receiver.id]) as sock:
                    sock.send(b"\0")
            os.close(lfd)
            self._dead = self._dead[1:]
        for s in sockets:
            if s.message.type == socket.SOCK_DGRAM and s.name and s.id not in self._done:
                self._fill_named(s, sockets)
        self.now = None

    def close(self) -> None:
        """After an error: close what is the filler's."""
        dead, self._dead = self._dead, []
        for _, lfd in dead:
            os.close(lfd)

    def _send(self, receiver: Checked, lfd: int) -> None:
        queue = self._queues.get(receiver.id)
        if not queue:
            return
        self.now = receiver
        with borrowed(lfd) as sock:
            before = sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
            sockopts.make_room(sock, sum(len(q.data) + PAGE for q in queue))
            sockqueue.send_again(self._view, lfd, queue, receiver.where, opened=self._anything)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, before // 2)

    def _fill_named(self, s: Checked, sockets: Sequence[Checked]) -> None:
        queue = self._queues.get(s.id, [])
        self.now = s
        ours = self._ours.get(s.id)
        senders = list(ours.senders) if ours else []
        senders += [b""] * (len(queue) - len(senders))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as nobody:
            for queued, raw in zip(queue, senders, strict=False):
                lfd = self._sender(s, raw[2:], sockets)
                self._send_datagram(s, queued, nobody.fileno() if lfd is None else lfd)

    def _sender(self, receiver: Checked, name: bytes, sockets: Sequence[Checked]) -> int | None:
        """Whoever has the name."""
        if not name:
            return None
        for other in sockets:
            if other.name and other.name.raw == name and other.id in self._opened:
                return self._opened[other.id]
        self._view.report.warn(
            f"{receiver.where}: a datagram in flight to it came from a socket that is not in "
            "the tree; it comes without that address now"
        )
        return None

    def _send_datagram(self, receiver: Checked, queued: Queued, lfd: int) -> None:
        assert receiver.name is not None
        name, where, opened = receiver.name, receiver.where, self._anything
        if name.file is None:
            sockqueue.send_again(self._view, lfd, [queued], where, name.given, opened)
            return
        file = file_of(self._opened[receiver.id])
        try:
            to = b"/proc/self/fd/%d" % file
            sockqueue.send_again(self._view, lfd, [queued], where, to, opened)
        finally:
            os.close(file)
