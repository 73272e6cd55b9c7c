"""Messages of netlink(7), packed and parsed by hand: pyroute2 takes 100 ms to import, and some of
them are sent while the target stands.

Source: netlink(7), include/uapi/linux/netlink.h.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

REQUEST, ACK, DUMP = 1, 4, 0x300
"""Flags of requests."""
_ERROR, _DONE = 2, 3
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_ROOM = 1 << 18


class AnswerError(OSError):
    """What the kernel has answered with; other errors are of sending and receiving."""


def message(kind: int, flags: int, body: bytes, sequence: int = 1) -> bytes:
    """One message; several may be sent in one piece."""
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, sequence, 0) + body


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded."""
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + b"\0" * (-len(value) % 4)


def attributes(body: bytes, at: int) -> dict[int, bytes]:
    """Those behind a struct of `at` bytes, by kind."""
    found: dict[int, bytes] = {}
    while at + _ATTRIBUTE.size <= len(body):
        size, kind = _ATTRIBUTE.unpack_from(body, at)
        found[kind] = body[at + _ATTRIBUTE.size : at + size]
        at += max(size, _ATTRIBUTE.size) + 3 & ~3
    return found


def answers(link: socket.socket) -> Iterator[bytes]:
    """The bodies of what a dump gives, up to its end; of a request for one thing the caller takes
    one. Raises AnswerError, OSError."""
    while True:
        for kind, body in _messages(link.recv(_ROOM)):
            if kind == _DONE:
                return
            if kind == _ERROR:
                _raise(body)
            yield body


def acknowledged(link: socket.socket) -> None:
    """Wait for the answer to what was sent with ACK. Raises AnswerError, the first of several, and
    OSError."""
    for kind, body in _messages(link.recv(_ROOM)):
        if kind == _ERROR:
            _raise(body)
            return


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _HEADER.size <= len(data):
        size, kind, *_ = _HEADER.unpack_from(data, at)
        yield kind, data[at + _HEADER.size : at + size]
        at += max(size, _HEADER.size) + 3 & ~3


def _raise(body: bytes) -> None:
    """Of an error message; that of number 0 is an acknowledgement."""
    (code,) = struct.unpack_from("=i", body)
    if code:
        raise AnswerError(-code, os.strerror(-code))
