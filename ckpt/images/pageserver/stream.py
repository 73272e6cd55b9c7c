"""A connected socket, plain or TLS, as both ends use it: blocking, one kind of error.

A peer that vanished without a word is noticed by TCP itself: after _SILENCE_S without an answer the
connection breaks. Blocking is the back-pressure: nothing here keeps more than its caller's buffer.

One thread reads and writes; `abort` alone may be called by another, and ends its calls.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from ckpt.errors import PeerError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

_SILENCE_S = 60
_PROBE_S = 5
_IOV_MAX = 1024
_HINT = "if it failed, its log tells why"


class Stream:
    """`sock` becomes ours. `peer` names the other side in errors."""

    def __init__(self, sock: socket.socket, peer: str) -> None:
        self.peer = peer
        self._sock = sock
        self._is_plain = type(sock) is socket.socket
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            _watch(sock)

    def fileno(self) -> int:
        return self._sock.fileno()

    @property
    def plain(self) -> socket.socket:
        """The socket, of a stream without TLS."""
        assert self._is_plain
        return self._sock

    @property
    def secure(self) -> ssl.SSLSocket | None:
        """The socket, of a stream with TLS."""
        return None if self._is_plain else self._sock  # type: ignore[return-value]

    def receive(self, into: memoryview) -> int:
        """At least one byte; 0 at the end of the stream."""
        try:
            return self._sock.recv_into(into)
        except OSError as error:
            raise broken(self.peer, error) from error

    def receive_exactly(self, nr_bytes: int) -> bytes:
        """Raises PeerError if the stream ends before."""
        data = bytearray(nr_bytes)
        view, at = memoryview(data), 0
        while at < nr_bytes:
            got = self.receive(view[at:])
            if not got:
                raise self.gone()
            at += got
        return bytes(data)

    def receives_within(self, seconds: float, nr_bytes: int) -> bytes | None:
        """`nr_bytes`, or None if nothing at all came in time."""
        self._sock.settimeout(seconds)
        first = bytearray(1)
        try:
            if not self._sock.recv_into(first):
                raise self.gone()
        except TimeoutError:
            return None
        except OSError as error:
            raise broken(self.peer, error) from error
        finally:
            self._sock.settimeout(None)
        return bytes(first) + self.receive_exactly(nr_bytes - 1)

    def send(self, parts: Sequence[bytes | memoryview]) -> None:
        """All of `parts`, in order."""
        try:
            if self._is_plain:
                self._gather(parts)
            else:
                self._sock.sendall(parts[0] if len(parts) == 1 else b"".join(parts))
        except OSError as error:
            raise broken(self.peer, error) from error

    def end(self) -> None:
        """Say that nothing more comes, wait for the other side to say so, and close."""
        try:
            self._sock.settimeout(_PROBE_S)
            if self._is_plain:
                self._sock.shutdown(socket.SHUT_WR)
                while self._sock.recv(4096):
                    pass
            else:
                self._sock = _unwrapped(self._sock)
        except OSError:
            # What mattered was acknowledged before; how the peer leaves is its own affair.
            return
        finally:
            self._sock.close()

    def abort(self) -> None:
        """End every call on this stream, in any thread. `close` is still to be called."""
        try:
            # Not SSLSocket's: that one goes on in plain text for a moment.
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)
        except OSError:
            # It is broken or closed already, which is what was wanted.
            return

    def close(self) -> None:
        """At once. May be called twice."""
        self._sock.close()

    def gone(self) -> PeerError:
        """The error for an end of the stream where more must come."""
        return PeerError("has gone", resource=self.peer, hint=_HINT)

    def _gather(self, parts: Sequence[bytes | memoryview]) -> None:
        for first in range(0, len(parts), _IOV_MAX):
            some = [memoryview(part) for part in parts[first : first + _IOV_MAX]]
            while some:
                sent = self._sock.sendmsg(some)
                while some and sent >= len(some[0]):
                    sent -= len(some.pop(0))
                if sent:
                    some[0] = some[0][sent:]


def broken(peer: str, error: OSError) -> PeerError:
    """The error for what a system call or TLS raised."""
    reason = getattr(error, "reason", None) or error.strerror or os.strerror(error.errno or 0)
    detail = getattr(error, "verify_message", "")
    why = str(reason).lower().replace("_", " ")
    return PeerError(
        "the connection failed",
        resource=peer,
        why=f"{why}: {detail}" if detail else why,
        hint=_HINT,
    )


def _watch(sock: socket.socket) -> None:
    tcp = socket.IPPROTO_TCP
    sock.setsockopt(tcp, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(tcp, socket.TCP_KEEPIDLE, _PROBE_S)
    sock.setsockopt(tcp, socket.TCP_KEEPINTVL, _PROBE_S)
    sock.setsockopt(tcp, socket.TCP_KEEPCNT, _SILENCE_S // _PROBE_S)
    sock.setsockopt(tcp, socket.TCP_USER_TIMEOUT, _SILENCE_S * 1000)


def _unwrapped(sock: socket.socket) -> socket.socket:
    secure: ssl.SSLSocket = sock  # type: ignore[assignment]
    return secure.unwrap()
