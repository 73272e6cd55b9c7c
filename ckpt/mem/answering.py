"""The lazy side of a page server: pages of a set, or of tasks that stand, for whoever asks.

A client asks for pages by task and address (GET), as often as it wants, and takes its leave (CLOSE)
when it has all. Until then a connection that breaks loses nothing: another one may come and ask
again. What can't be read is never answered with anything else: the connection breaks off there.

C answers, in a thread of ours, so that signals are heard meanwhile.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ckpt._native import ffi, lib
from ckpt.errors import ImageError, PeerError
from ckpt.images.pageserver.relay import Relay
from ckpt.images.types import parse_name
from ckpt.record import record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ckpt.images.chain import Chain
    from ckpt.images.pageserver.listener import Listener
    from ckpt.images.pageserver.stream import Stream
    from ckpt.report import Report

Row = tuple[int, int, int, int, int]
"""Number of the task, start, end, offset, descriptor."""

_LOOK_S = 0.1


@record
class Held:
    """What can be asked for, as C takes it. The descriptors are the caller's."""

    array: Any
    nr: int
    nr_bytes: int

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Held:
        """From pieces in any order that don't overlap. A descriptor is that of a file, with the
        offset of the piece in it, or of /proc/PID/mem, with its address."""
        ordered = sorted(rows)
        array = ffi.new("struct ckpt_held[]", [(*row, 0) for row in ordered] or 1)
        return cls(array, len(ordered), sum(row[2] - row[1] for row in ordered))


@record
class Answered:
    """What was asked for, by all clients together."""

    nr_requests: int = 0
    nr_bytes: int = 0
    nr_clients: int = 0


def held_of_set(chain: Chain) -> Held:
    """The private memory of every task of a set, wherever in its chain the pages are."""
    rows: list[Row] = []
    for name in chain.page_images():
        parsed = parse_name(name)
        if parsed.type.stem != "pagemap" or parsed.number is None:
            continue
        for start, end, layer, pages, offset, _ in chain.resolve(name):
            if offset is not None:
                lfd = chain.layers[layer].pages_fd(pages)
                rows.append((parsed.number, start, end, offset, lfd))
    return Held.of(rows)


def answer_clients(listener: Listener, held: Held, report: Report) -> Answered:
    """Answer one client after the other, until one takes its leave.

    Raises ImageError if a page can't be read; PeerError only where no other client can come.
    """
    total = Answered()
    while True:
        try:
            stream = listener.accept()
            report.info(f"{stream.peer} is connected")
            total.nr_clients += 1
            _answer(stream, held, total, report)
        except PeerError as error:
            if listener.where is None:
                raise
            report.warn(f"{error}; the next one is waited for")
            continue
        return total


def _answer(stream: Stream, held: Held, total: Answered, report: Report) -> None:
    with Relay(stream) as relay:
        answering = Answering(relay.sock, held)
        before = total.nr_bytes
        result = answering.wait(lambda done: report.progress(before + done, held.nr_bytes))
    total.nr_requests += answering.done.nr_requests
    total.nr_bytes += answering.done.nr_bytes
    if result:
        raise _error(stream.peer, -result)


class Answering:
    """One client on `sock`, a plain socket, answered by a thread of ours from now on."""

    def __init__(self, sock: socket.socket, held: Held) -> None:
        self._sock = sock
        self._held = held
        self._result = 0
        self.done = ffi.new("struct ckpt_answered *")
        self._thread = threading.Thread(target=self._work, name="answer", daemon=True)
        self._thread.start()

    def wait(self, look: Callable[[int], None]) -> int:
        """Until it has taken its leave: what `ckpt_answer` returned. `look` is told the bytes so
        far. Whatever interrupts us ends it."""
        try:
            while self._thread.is_alive():
                self._thread.join(_LOOK_S)
                look(int(self.done.nr_bytes))
        except BaseException:
            self.stop()
            raise
        return self._result

    def stop(self) -> None:
        """It gets no more answers."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def _work(self) -> None:
        held = self._held
        self._result = lib.ckpt_answer(self._sock.fileno(), held.array, held.nr, self.done)


def _error(peer: str, number: int) -> ImageError:
    if number == errno.ENODATA:
        return ImageError("pages can't be read", resource="page server", why="they are gone")
    if number == errno.ECONNRESET:
        return PeerError("has gone without leave", resource=peer)
    if number == errno.EPROTO:
        return PeerError("sent what is no request for pages", resource=peer)
    return PeerError("the connection failed", resource=peer, why=os.strerror(number).lower())
