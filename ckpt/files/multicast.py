"""The multicast groups that a socket of IPv4 or IPv6 has joined, with the sources it wants.

No call lists them, but MCAST_MSFILTER answers for one group and interface whether the socket is a
member, and /proc/net/igmp and igmp6 list what any socket has joined: so all of those are asked for.

A group that was joined by an address of the interface other than its first can be left only by the
interface or by the group alone afterwards: the kernel does not tell that address.

Source: ip(7), RFC 3678, ip_mc_gsfget() in net/ipv4/igmp.c, ip6_mc_msfget() in net/ipv6/mcast.c.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ckpt._native import ffi
from ckpt.errors import ImageError
from ckpt.files.anonymous import address, made

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_MSFILTER, _JOIN_GROUP, _ADD_MEMBERSHIP = 48, 42, 35
_SIOCGIFADDR = 0x8915
_EXCLUDE = 0
_HEAD, _STORAGE = struct.Struct("=I4x128sII"), 128
_MOST_SOURCES = 256
_LENGTHS = {int(socket.AF_INET): 4, int(socket.AF_INET6): 16}
_LEVELS = {int(socket.AF_INET): socket.IPPROTO_IP, int(socket.AF_INET6): socket.IPPROTO_IPV6}


class Group(NamedTuple):
    """One that somebody on this machine has joined. `at`: its address as on the wire."""

    family: int
    ifindex: int
    at: bytes


class Membership(NamedTuple):
    """Of one socket. `mode`: MCAST_EXCLUDE (0) or MCAST_INCLUDE (1) these sources."""

    group: Group
    mode: int
    sources: tuple[bytes, ...]


def joined() -> list[Group]:
    """All groups of our network namespace."""
    return [*_joined_four(), *_joined_six()]


def _lines(name: str) -> list[str]:
    try:
        return Path("/proc/net", name).read_text(encoding="ascii").splitlines()
    except OSError:
        return []  # a kernel without that protocol


def _joined_four() -> Iterable[Group]:
    index = 0
    for line in _lines("igmp")[1:]:
        words = line.split()
        if not line.startswith("\t"):
            index = int(words[0])
        else:
            yield Group(socket.AF_INET, index, struct.pack("=I", int(words[0], 16)))


def _joined_six() -> Iterable[Group]:
    for line in _lines("igmp6"):
        index, _, group, *_ = line.split()
        yield Group(socket.AF_INET6, int(index), bytes.fromhex(group))


def ask(sock: socket.socket, groups: Sequence[Group]) -> list[Membership]:
    """Those of `groups` that a socket is in. Raises OSError."""
    families = {socket.AF_INET, sock.family}
    if sock.family == socket.AF_INET6 and sock.type == socket.SOCK_RAW:
        families = {socket.AF_INET6}
    found = (_asked(sock, group) for group in groups if group.family in families)
    return [membership for membership in found if membership]


def _asked(sock: socket.socket, group: Group) -> Membership | None:
    room = _HEAD.size + _MOST_SOURCES * _STORAGE
    data = ffi.new("uint8_t[]", room)
    head = _HEAD.pack(group.ifindex, _storage(group.family, group.at), 0, _MOST_SOURCES)
    ffi.buffer(data)[: len(head)] = head
    length = ffi.new("unsigned int *", room)
    level = _LEVELS[group.family]
    try:
        made("getsockopt", sock.fileno(), level, _MSFILTER, address(data), address(length))
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            return None
        raise
    told = bytes(ffi.buffer(data))
    _, _, mode, count = _HEAD.unpack_from(told)
    if count > _MOST_SOURCES:
        raise OSError(errno.E2BIG, f"it wants {count} sources of a multicast group")
    places = range(_HEAD.size, _HEAD.size + count * _STORAGE, _STORAGE)
    sources = tuple(_address(group.family, told[at : at + _STORAGE]) for at in places)
    return Membership(group, mode, sources)


def _storage(family: int, at: bytes) -> bytes:
    """A sockaddr_storage."""
    gap = b"\0\0" if family == socket.AF_INET else b"\0" * 6
    return (struct.pack("=H", family) + gap + at).ljust(_STORAGE, b"\0")


def _address(family: int, storage: bytes) -> bytes:
    start = 4 if family == socket.AF_INET else 8
    return storage[start : start + _LENGTHS[family]]


def write(memberships: Iterable[Membership], message: Any) -> None:
    """Into a ckpt_inet_entry."""
    for group, mode, sources in memberships:
        device = socket.if_indextoname(group.ifindex)
        message.memberships.add(device=device, group=group.at, mode=mode, sources=sources)


def check(memberships: Iterable[Any], where: str) -> None:
    """Raise ImageError for what no socket can be in."""
    for m in memberships:
        lengths = {len(m.group), *(len(source) for source in m.sources)}
        if len(lengths) != 1 or not lengths <= set(_LENGTHS.values()) or m.mode > 1:
            raise ImageError("is in a multicast group that can't be", resource=where)
        if len(m.sources) > _MOST_SOURCES or len(m.device.encode()) > 15 or "\0" in m.device:
            raise ImageError("is in a multicast group that can't be", resource=where)


def apply(sock: socket.socket, memberships: Iterable[Any]) -> None:
    """Join them. Raises OSError, ENODEV where an interface is not there."""
    for m in memberships:
        family = next(f for f, length in _LENGTHS.items() if length == len(m.group))
        level = _LEVELS[family]
        try:
            index = socket.if_nametoindex(m.device)
        except OSError as error:
            raise OSError(errno.ENODEV, f"there is no interface {m.device}") from error
        group = _storage(family, m.group)
        if family == socket.AF_INET:
            mreqn = struct.pack("=4s4si", m.group, _first_address(sock, m.device), index)
            sock.setsockopt(level, _ADD_MEMBERSHIP, mreqn)
        else:
            sock.setsockopt(level, _JOIN_GROUP, struct.pack("=I4x", index) + group)
        if m.mode != _EXCLUDE or m.sources:
            head = _HEAD.pack(index, group, m.mode, len(m.sources))
            wanted = b"".join(_storage(family, source) for source in m.sources)
            sock.setsockopt(level, _MSFILTER, head + wanted)


def _first_address(sock: socket.socket, device: str) -> bytes:
    """By which most programs name an interface when they leave."""
    try:
        told = fcntl.ioctl(sock, _SIOCGIFADDR, os.fsencode(device).ljust(40, b"\0"))
    except OSError:
        return bytes(4)
    return told[20:24]
