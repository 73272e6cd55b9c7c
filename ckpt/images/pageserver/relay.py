"""A TLS stream for what can only use a plain socket: C, which asks for pages and answers.

A thread passes bytes on between the stream and one end of a socket pair; the other end is what is
used. An end of either side is an end of the other, and so is a failure: what is cut off is never
taken for what is complete, since whoever uses the pair has a message that tells the end.

OpenSSL's objects are for one thread at a time: from here on the stream belongs to the relay.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from ckpt.images.pageserver.stream import Stream

_PIECE = 256 << 10
_MOST = 1 << 20
"""So many bytes wait for one direction at most: whoever sends faster than that is held up."""


class Relay:
    """A context manager: `sock` is the plain end. `stream` becomes ours. A stream that is plain
    already is passed through as it is."""

    def __init__(self, stream: Stream) -> None:
        secure = stream.secure
        self._thread: threading.Thread | None = None
        self._stream = stream
        if secure is None:
            self.sock = stream.plain
            return
        self.sock, ours = socket.socketpair()
        secure.setblocking(False)
        ours.setblocking(False)
        self._thread = threading.Thread(
            target=_pass_on, args=(secure, ours), name="tls-relay", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """What was written has left, as far as the other side takes it."""
        if self._thread is None:
            self._stream.close()
            return
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)
        self._thread.join()
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            with suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)
        self.close()


def _pass_on(secure: ssl.SSLSocket, plain: socket.socket) -> None:
    try:
        _Both(secure, plain).run()
    except OSError:
        pass  # both ends see the end of their streams, which came too early
    finally:
        plain.close()
        secure.close()


class _Both:
    """Bytes between the two, in both directions, by one thread."""

    def __init__(self, secure: ssl.SSLSocket, plain: socket.socket) -> None:
        self._secure, self._plain = secure, plain
        self._out = bytearray()
        self._in = bytearray()
        self._plain_ended = False
        self._starved = False
        """TLS has a record of its own to read before it can write."""

    def run(self) -> None:
        while not (self._plain_ended and not self._out):
            self._wait()
            self._from_plain()
            self._to_secure()
            if not self._from_secure():
                break
            self._to_plain()
        self._plain.setblocking(True)
        self._plain.sendall(self._in)
        if self._plain_ended:
            # Says that nothing more comes; an answer is not waited for.
            with suppress(OSError, ValueError):
                self._secure.unwrap()

    def _wait(self) -> None:
        poll = select.poll()
        wants = (select.POLLIN if len(self._in) < _MOST else 0) | (
            select.POLLOUT if self._out and not self._starved else 0
        )
        poll.register(self._secure, wants)
        wants = (select.POLLIN if len(self._out) < _MOST and not self._plain_ended else 0) | (
            select.POLLOUT if self._in else 0
        )
        if wants or not self._plain_ended:
            poll.register(self._plain, wants)
        pending = self._secure.pending() and len(self._in) < _MOST
        poll.poll(0 if pending else None)

    def _from_plain(self) -> None:
        if self._plain_ended or len(self._out) >= _MOST:
            return
        with suppress(BlockingIOError):
            data = self._plain.recv(_PIECE)
            self._out += data
            self._plain_ended = not data

    def _to_secure(self) -> None:
        self._starved = False
        while self._out:
            try:
                sent = self._secure.send(memoryview(self._out)[:_PIECE])
            except ssl.SSLWantReadError:
                self._starved = True
                return
            except ssl.SSLWantWriteError:
                return
            del self._out[:sent]

    def _from_secure(self) -> bool:
        """Whether more may come."""
        while len(self._in) < _MOST:
            try:
                data = self._secure.recv(_PIECE)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return True
            if not data:
                return False
            self._in += data
        return True

    def _to_plain(self) -> None:
        with suppress(BlockingIOError):
            while self._in:
                sent = self._plain.send(memoryview(self._in)[:_PIECE])
                del self._in[:sent]
