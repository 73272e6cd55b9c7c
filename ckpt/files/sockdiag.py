"""What sock_diag(7) tells of sockets, by inode; nothing is opened for it.

Only sockets of our own network namespace that are bound or connected are listed. A list is no
instant: a socket may be closed while it is made.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING, NamedTuple

from ckpt.errors import KernelError
from ckpt.files import netmessage

if TYPE_CHECKING:
    from collections.abc import Iterator

_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY = 4, 20
_SHUTDOWN = 8
_QUERY = struct.Struct("=BBBBI48x")
_ANSWER = struct.Struct("=BBBB48xIIIII")
_LOCAL = struct.Struct("!H2x16s")
_PEER = struct.Struct("!2xH16x16sI")


class Diag(NamedTuple):
    """Of one socket; `state` as in TCP, `shutdown` its closed halves (1 reading, 2 writing), `peer`
    address (the first 4 or all bytes) and port of what it is, or is being, connected to."""

    state: int
    rqueue: int
    wqueue: int
    shutdown: int
    peer: tuple[bytes, int] = (bytes(16), 0)


def look(family: int, proto: int) -> dict[int, Diag]:
    """All sockets of one protocol by inode. Raises KernelError."""
    return dict(_answer(body) for body in dump(_QUERY.pack(family, proto, 0, 0, 2**32 - 1)))


def local_ends(family: int, proto: int) -> Iterator[tuple[int, str, int]]:
    """Inode, address and port of all of a protocol; the inode of those that nobody has open any
    more is 0. An IPv4 address that an IPv6 socket has is told as such. Raises KernelError."""
    size = 4 if family == socket.AF_INET else 16
    for body in dump(_QUERY.pack(family, proto, 0, 0, 2**32 - 1)):
        port, address = _LOCAL.unpack_from(body, 4)
        host = socket.inet_ntop(family, address[:size])
        yield _ANSWER.unpack_from(body)[-1], host.removeprefix("::ffff:"), port


def dump(query: bytes) -> list[bytes]:
    """The bodies of all answers to the request of a family. Raises KernelError."""
    flags = netmessage.REQUEST | netmessage.DUMP
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as link:
        link.send(netmessage.message(_SOCK_DIAG_BY_FAMILY, flags, query))
        try:
            return list(netmessage.answers(link))
        except OSError as error:
            why = os.strerror(error.errno or 0)
            raise KernelError("does not answer", resource="sock_diag", why=why) from error


def _answer(body: bytes) -> tuple[int, Diag]:
    _, state, _, _, _, rqueue, wqueue, _, inode = _ANSWER.unpack_from(body)
    shutdown = netmessage.attributes(body, _ANSWER.size).get(_SHUTDOWN, b"\0")[0]
    port, address, _ = _PEER.unpack_from(body, 4)
    return inode, Diag(state, rqueue, wqueue, shutdown, (address, port))
