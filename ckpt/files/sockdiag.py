"""What sock_diag(7) tells of sockets, by inode; nothing is opened for it.

Netlink is spoken by hand: pyroute2 takes 100 ms to import. Only sockets of our own network
namespace that are bound or connected are listed. A list is no instant: a socket may be closed while
it is made.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING, NamedTuple

from ckpt.errors import KernelError

if TYPE_CHECKING:
    from collections.abc import Iterator

_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY = 4, 20
_REQUEST_DUMP = 0x301
_ERROR, _DONE = 2, 3
_SHUTDOWN = 8
_HEADER = struct.Struct("=IHHII")
_QUERY = struct.Struct("=BBBBI48x")
_ANSWER = struct.Struct("=BBBB48xIIIII")
_ATTRIBUTE = struct.Struct("=HH")
_ROOM = 1 << 18


class Diag(NamedTuple):
    """Of one socket; `state` as in TCP, `shutdown` its closed halves (1 reading, 2 writing)."""

    state: int
    rqueue: int
    wqueue: int
    shutdown: int


def look(family: int, proto: int) -> dict[int, Diag]:
    """All sockets of one protocol by inode. Raises KernelError."""
    return dict(_answer(body) for body in dump(_QUERY.pack(family, proto, 0, 0, 2**32 - 1)))


def dump(query: bytes) -> list[bytes]:
    """The bodies of all answers to the request of a family. Raises KernelError."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as link:
        size = _HEADER.size + len(query)
        link.send(_HEADER.pack(size, _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 1, 0) + query)
        return list(_answers(link))


def attributes(body: bytes, at: int) -> dict[int, bytes]:
    """Those behind a struct of `at` bytes."""
    found: dict[int, bytes] = {}
    while at + _ATTRIBUTE.size <= len(body):
        size, kind = _ATTRIBUTE.unpack_from(body, at)
        found[kind] = body[at + _ATTRIBUTE.size : at + size]
        at += max(size, _ATTRIBUTE.size) + 3 & ~3
    return found


def _answers(link: socket.socket) -> Iterator[bytes]:
    while True:
        data = link.recv(_ROOM)
        at = 0
        while at < len(data):
            size, kind, *_ = _HEADER.unpack_from(data, at)
            if kind == _DONE:
                return
            if kind == _ERROR:
                (code,) = struct.unpack_from("=i", data, at + _HEADER.size)
                why = os.strerror(-code)
                raise KernelError("does not answer", resource="sock_diag", why=why)
            yield data[at + _HEADER.size : at + size]
            at += size + 3 & ~3


def _answer(body: bytes) -> tuple[int, Diag]:
    _, state, _, _, _, rqueue, wqueue, _, inode = _ANSWER.unpack_from(body)
    shutdown = attributes(body, _ANSWER.size).get(_SHUTDOWN, b"\0")[0]
    return inode, Diag(state, rqueue, wqueue, shutdown)
