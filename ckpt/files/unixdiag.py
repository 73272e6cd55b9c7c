"""What sock_diag(7) tells of UNIX sockets: state, peer, name, who waits to be accepted.

Asked by inode, or where that would be many, all of the namespace at once. It has no side effects on
anybody, so a preflight may ask too.

A peer of None: it has none. 0: one that no descriptor leads to, which is closed or, of a
connected socket that is not shut down, not accepted yet.

Source: sock_diag(7), include/uapi/linux/unix_diag.h, net/unix/diag.c.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from ckpt.errors import KernelError
from ckpt.files import netmessage

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

ESTABLISHED, CLOSE, LISTEN = 1, 7, 10

_NETLINK_SOCK_DIAG = 4
_BY_FAMILY = 20
_SHOW_NAME, _SHOW_VFS, _SHOW_PEER, _SHOW_ICONS, _SHOW_RQLEN = 1, 2, 4, 8, 16
_NAME, _VFS, _PEER, _ICONS, _RQLEN, _SHUTDOWN = 0, 1, 2, 3, 4, 6
_REQUEST = struct.Struct("=BBHIIIII")
_MESSAGE = struct.Struct("=BBBBIII")
_ANY = (1 << 32) - 1
_MANY = 16


class UnixInfo(NamedTuple):
    """One socket. `pending`: the inodes of those that wait to be accepted; 0 for one that is closed
    again. `backlog`: of listen(2). `file_ino`: of the file that it is bound to, 32 bits, or 0."""

    ino: int
    type: int
    state: int
    name: bytes
    peer: int | None
    shutdown: int
    pending: tuple[int, ...]
    backlog: int
    file_ino: int


def ask(inodes: Collection[int]) -> dict[int, UnixInfo]:
    """By inode, those of our network namespace that are there. Raises KernelError."""
    told: dict[int, UnixInfo] = {}
    with _diag() as diag:
        if len(inodes) > _MANY:
            diag.send(_request(0, netmessage.DUMP))
            found = {info.ino: info for info in _answers(diag)}
            return {ino: found[ino] for ino in inodes if ino in found}
        for ino in inodes:
            diag.send(_request(ino, 0))
            info = next(_answers(diag), None)
            if info is not None:
                told[ino] = info
    return told


def bound_files() -> set[int]:
    """The inode numbers, 32 bits, of all files that a socket is bound to. Raises KernelError."""
    with _diag() as diag:
        diag.send(_request(0, netmessage.DUMP))
        return {info.file_ino for info in _answers(diag) if info.file_ino}


@contextmanager
def _diag() -> Iterator[socket.socket]:
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as diag:
            yield diag
    except OSError as error:
        raise KernelError(
            "can't be asked for UNIX sockets",
            resource="sock_diag",
            why=os.strerror(error.errno or 0),
            hint="the kernel needs CONFIG_UNIX_DIAG",
        ) from error


def _request(ino: int, flags: int) -> bytes:
    show = _SHOW_NAME | _SHOW_VFS | _SHOW_PEER | _SHOW_ICONS | _SHOW_RQLEN
    body = _REQUEST.pack(socket.AF_UNIX, 0, 0, _ANY, ino, show, _ANY, _ANY)
    return netmessage.message(_BY_FAMILY, netmessage.REQUEST | flags, body)


def _answers(diag: socket.socket) -> Iterator[UnixInfo]:
    try:
        yield from map(_parsed, netmessage.answers(diag))
    except netmessage.AnswerError as error:
        if error.errno != errno.ENOENT:
            raise


def _parsed(body: bytes) -> UnixInfo:
    _, kind, state, _, ino, _, _ = _MESSAGE.unpack_from(body)
    attributes = netmessage.attributes(body, _MESSAGE.size)
    peer = attributes.get(_PEER)
    icons = attributes.get(_ICONS, b"")
    return UnixInfo(
        ino,
        kind,
        state,
        attributes.get(_NAME, b""),
        None if peer is None else struct.unpack("=I", peer)[0],
        attributes.get(_SHUTDOWN, b"\0")[0],
        struct.unpack(f"={len(icons) // 4}I", icons),
        struct.unpack("=II", attributes[_RQLEN])[1] if _RQLEN in attributes else 0,
        struct.unpack_from("=I", attributes[_VFS])[0] if _VFS in attributes else 0,
    )
