"""The lock of the network: an nftables table of our own that drops packets of some connections.

    with NetLock("ckpt-...", owned=True) as lock:    gone with this process, however that ends
        lock.add(connections)

A table whose owner is a netlink socket (NFT_TABLE_F_OWNER, Linux 5.12) is removed by the kernel
when that socket closes. So a killed dump leaves no rule in the way of a target that runs on. What
has to outlive the dump of a killed tree is a second table without an owner, made while the first
one still holds.

Two rules for a connection: what leaves by it and what arrives. Packets that carry MARK pass: a
restore sends them to its own sockets.

Source: uapi/linux/netfilter/nf_tables.h; nft(8).
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from ckpt.errors import KernelError
from ckpt.files.netmessage import (
    ACK,
    DUMP,
    REQUEST,
    AnswerError,
    acknowledged,
    answers,
    attribute,
    attributes,
    message,
)
from ckpt.scope import Closing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckpt.files.inetaddr import Address

MARK = 0xC114
"""As CRIU's."""

_NETLINK_NETFILTER, _NFPROTO_INET, _NFPROTO_IPV4, _NFPROTO_IPV6 = 12, 1, 2, 10
_BATCH_BEGIN, _BATCH_END, _NFTABLES = 0x10, 0x11, 10
_NEWTABLE, _GETTABLE, _DELTABLE, _NEWCHAIN, _NEWRULE = (_NFTABLES << 8 | n for n in (0, 1, 2, 3, 6))
_CREATE, _EXCL, _APPEND = 0x400, 0x200, 0x800
_NESTED, _OWNER, _TABLE_OWNER = 0x8000, 2, 7
_LOCAL_IN, _LOCAL_OUT, _PRIORITY, _ACCEPT, _DROP = 1, 3, -300, 1, 0
_NETWORK, _TRANSPORT, _META_MARK, _META_NFPROTO, _META_L4PROTO = 1, 2, 3, 15, 16
_EQ, _NEQ = 0, 1
_SNDBUFFORCE, _ROOM, _SIZE_OF_TWO = 32, 1 << 22, 2048
_MAPPED = "::ffff:"


class Connection(NamedTuple):
    """Its two ends, our own first."""

    src: Address
    dst: Address

    def sides(self) -> tuple[int, bytes, bytes]:
        """Version, and the addresses as packets have them: those of IPv4 for a mapped one."""
        hosts = [end.host.removeprefix(_MAPPED) for end in self]
        if "." in hosts[0]:
            pair = [socket.inet_pton(socket.AF_INET, host) for host in hosts]
            return _NFPROTO_IPV4, pair[0], pair[1]
        pair = [socket.inet_pton(socket.AF_INET6, end.host) for end in self]
        return _NFPROTO_IPV6, pair[0], pair[1]


def _nest(kind: int, *parts: bytes) -> bytes:
    return attribute(kind | _NESTED, b"".join(parts))


def _number(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack(">I", value & 0xFFFFFFFF))


def _text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def _expression(name: str, *data: bytes) -> bytes:
    return _nest(1, _text(1, name), _nest(2, *data))


def _compare(value: bytes, operation: int = _EQ) -> bytes:
    data = _nest(3, attribute(1, value))
    return _expression("cmp", _number(1, 1), _number(2, operation), data)


def _meta(key: int, value: bytes, operation: int = _EQ) -> bytes:
    loaded = _expression("meta", _number(2, key), _number(1, 1))
    return loaded + _compare(value, operation)


def _payload(base: int, offset: int, value: bytes) -> bytes:
    where = (_number(1, 1), _number(2, base), _number(3, offset), _number(4, len(value)))
    return _expression("payload", *where) + _compare(value)


def _drops(version: int, src: bytes, dst: bytes, ports: bytes) -> bytes:
    offset = 12 if version == _NFPROTO_IPV4 else 8
    verdict = _nest(2, _nest(2, _number(1, _DROP)))
    return _nest(
        4,
        _meta(_META_NFPROTO, bytes([version])),
        _meta(_META_L4PROTO, bytes([socket.IPPROTO_TCP])),
        _payload(_NETWORK, offset, src),
        _payload(_NETWORK, offset + len(src), dst),
        _payload(_TRANSPORT, 0, ports),
        _meta(_META_MARK, struct.pack("=I", MARK), _NEQ),
        _expression("immediate", _number(1, 0), verdict),
    )


@cache
def _template(version: int) -> tuple[bytes, list[int]]:
    """What `_drops` gives, and where source, destination and ports stand in it: a dump locks many
    connections while their owners stand still."""
    size = 4 if version == _NFPROTO_IPV4 else 16
    fields = bytes(range(0xA0, 0xA0 + size)), bytes(range(0xC0, 0xC0 + size)), b"\xe0\xe1\xe2\xe3"
    made = _drops(version, *fields)
    return made, [made.index(field) for field in fields]


def _filled(version: int, *fields: bytes) -> bytes:
    made, places = _template(version)
    parts, at = [], 0
    for place, field in zip(places, fields, strict=True):
        parts += [made[at:place], field]
        at = place + len(field)
    return b"".join((*parts, made[at:]))


def _rules(table: str, connection: Connection) -> list[tuple[int, int, bytes]]:
    version, src, dst = connection.sides()
    ours, theirs = (struct.pack(">H", end.port) for end in connection)
    named = _text(1, table)
    out = named + _text(2, "output") + _filled(version, src, dst, ours + theirs)
    into = named + _text(2, "input") + _filled(version, dst, src, theirs + ours)
    return [(_NEWRULE, _CREATE | _APPEND, body) for body in (out, into)]


def _chain(table: str, name: str, hook: int) -> tuple[int, int, bytes]:
    hooked = _nest(4, _number(1, hook), _number(2, _PRIORITY))
    body = _text(1, table) + _text(3, name) + hooked + _number(5, _ACCEPT) + _text(7, "filter")
    return _NEWCHAIN, _CREATE, body


class NetLock(Closing):
    """One table. `owned` ones are the kernel's to remove when this object is closed."""

    def __init__(self, name: str, *, owned: bool) -> None:
        """Makes the table, empty. Raises KernelError."""
        self.name = name
        self._link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
        try:
            self._link.bind((0, 0))
            flags = _number(2, _OWNER) if owned else b""
            self._run(
                [
                    (_NEWTABLE, _CREATE | _EXCL, _text(1, name) + flags),
                    _chain(name, "input", _LOCAL_IN),
                    _chain(name, "output", _LOCAL_OUT),
                ]
            )
        except BaseException:
            self._link.close()
            raise

    def add(self, connections: Sequence[Connection]) -> None:
        """From now on nothing of these leaves or arrives. Raises KernelError.

        Each message is a transaction, which takes the kernel some milliseconds however small.
        """
        with suppress(PermissionError):
            self._link.setsockopt(socket.SOL_SOCKET, _SNDBUFFORCE, _ROOM)
        room = self._link.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        at_once = max(1, room // 2 // _SIZE_OF_TWO)
        for at in range(0, len(connections), at_once):
            some = connections[at : at + at_once]
            self._run([rule for c in some for rule in _rules(self.name, c)])

    def close(self) -> None:
        """May be called twice."""
        self._link.close()

    def _run(self, requests: Sequence[tuple[int, int, bytes]]) -> None:
        transact(self._link, requests)


def remove(name: str) -> bool:
    """Remove a table that has no owner. Whether there was one. Raises KernelError."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as link:
        link.bind((0, 0))
        return transact(link, [(_DELTABLE, 0, _text(1, name))], missing_ok=True)


def owners() -> set[int]:
    """The netlink ports that own a table: it is removed when such a socket is closed. Raises
    KernelError."""
    found: set[int] = set()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as link:
        try:
            link.send(message(_GETTABLE, REQUEST | DUMP, struct.pack(">BBH", 0, 0, 0)))
            for body in answers(link):
                told = attributes(body, 4)
                if _TABLE_OWNER in told:
                    found.add(int.from_bytes(told[_TABLE_OWNER], "big"))
        except AnswerError:
            return found
        except OSError as error:
            why = os.strerror(error.errno or 0)
            raise KernelError("can't be asked for tables", resource="nftables", why=why) from error
    return found


def transact(
    link: socket.socket, requests: Sequence[tuple[int, int, bytes]], *, missing_ok: bool = False
) -> bool:
    """All of these or none. False where what they name is missing. Raises KernelError."""
    begin = struct.pack(">BBH", 0, 0, _NFTABLES)
    own = struct.pack(">BBH", _NFPROTO_INET, 0, 0)
    messages = [message(_BATCH_BEGIN, REQUEST, begin, 0)]
    for index, (kind, flags, body) in enumerate(requests, 1):
        ack = ACK if index == len(requests) else 0
        messages.append(message(kind, REQUEST | flags | ack, own + body, index))
    messages.append(message(_BATCH_END, REQUEST, begin, len(requests) + 1))
    try:
        link.send(b"".join(messages))
        acknowledged(link)
    except OSError as error:
        if error.errno == errno.ENOENT and missing_ok:
            return False
        why = os.strerror(error.errno or 0)
        hint = "--network-lock skip, if nothing can arrive meanwhile"
        raise KernelError(
            "the network can't be locked", resource="nftables", why=why, hint=hint
        ) from error
    return True
