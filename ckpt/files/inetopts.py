"""Options of IPv4 and IPv6 sockets: which there are, and those that a socket has changed.

What CRIU's image has fields for (`ip_opts`) goes there; all the rest that can be read and set again
by the same bytes goes into ckpt-inet.img, where it differs from what a new socket has.

Groups of multicast are in ckpt.files.multicast. Not seen, since the kernel does not tell: of TCP
sockets such groups, programs that choose in a SO_REUSEPORT group (SO_ATTACH_REUSEPORT_CBPF and
EBPF), keys (TCP_MD5SIG, TCP_AO), IPsec policies of a socket. Not kept: SO_INCOMING_CPU and
TCP_QUICKACK, which the kernel itself changes.

Source: socket(7), ip(7), ipv6(7), tcp(7), udp(7) and the headers in uapi/linux.
"""

from __future__ import annotations

import socket
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from ckpt._native import check as succeeded
from ckpt._native import ffi, lib
from ckpt.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Iterable

Key = tuple[int, int]
"""Level and name of an option."""

UDP_LITE = 136
_SOL_UDP, _SOL_RAW = 17, 255
_LONGEST, _ROOM = 256, 1 << 14

_OPTIONS = {
    socket.SOL_SOCKET: (
        *(29, 35, 37, 40, 41, 42, 43, 45, 46, 47, 60, 61, 63, 64, 65, 69, 73, 74, 75, 82),
        44,  # SO_LOCK_FILTER: nothing of the filter can be set after it
    ),
    socket.IPPROTO_IP: (
        *(
            3,
            4,
            5,
            6,
            7,
            10,
            11,
            12,
            13,
            18,
            19,
            20,
            21,
            22,
            23,
            24,
            25,
            26,
            32,
            33,
            34,
            49,
            50,
            51,
        ),
    ),
    socket.IPPROTO_IPV6: (
        *(2, 3, 4, 5, 7, 8, 11, 16, 17, 18, 19, 23, 25, 29, 31, 33, 36, 51, 53, 54, 55, 56, 57, 58),
        59,
        *(60, 62, 66, 67, 70, 72, 73, 74, 75, 76, 77),
    ),
    socket.IPPROTO_TCP: (
        *(1, 2, 3, 7, 8, 9, 10, 13, 16, 17, 18, 23, 25, 27, 30, 33, 34, 36, 37, 44, 45, 46),
    ),
    _SOL_UDP: (1, 101, 102, 103, 104),
    UDP_LITE: (10, 11),
    _SOL_RAW: (1,),
    socket.IPPROTO_ICMPV6: (1,),
}
_OF_A_CONNECTION = frozenset({(socket.IPPROTO_TCP, name) for name in (2, 10, 23, 27, 30, 33)})
"""What a connection has changed by itself, or nobody may set in one."""

_OF_DATAGRAMS = frozenset(
    {(socket.IPPROTO_IP, name) for name in (32, 33, 34)}
    | {(socket.IPPROTO_IPV6, name) for name in (17, 18, 19)}
)
"""Of multicasts: TCP tells values that nobody can set."""

_IP_FREEBIND, _IPV6_FREEBIND, _IPV6_RECVPKTINFO, _IP_PKTINFO = 15, 78, 49, 8
_FREEBIND = {
    socket.AF_INET: (socket.IPPROTO_IP, _IP_FREEBIND),
    socket.AF_INET6: (socket.IPPROTO_IPV6, _IPV6_FREEBIND),
}
_PKTINFO = {
    socket.AF_INET: (socket.IPPROTO_IP, _IP_PKTINFO),
    socket.AF_INET6: (socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO),
}
_KEEP = {
    "tcp_keepidle": socket.TCP_KEEPIDLE,
    "tcp_keepintvl": socket.TCP_KEEPINTVL,
    "tcp_keepcnt": socket.TCP_KEEPCNT,
}
_RAW = {"hdrincl": 3, "nodefrag": 22}


def _levels(family: int, kind: int, proto: int) -> tuple[int, ...]:
    own = {UDP_LITE: (_SOL_UDP, UDP_LITE), socket.IPPROTO_UDP: (_SOL_UDP,)}.get(proto, ())
    if kind == socket.SOCK_RAW:
        own = (_SOL_RAW, socket.IPPROTO_ICMPV6)
    six = (socket.IPPROTO_IPV6,) if family == socket.AF_INET6 else ()
    tcp = kind == socket.SOCK_STREAM
    return (socket.SOL_SOCKET, socket.IPPROTO_IP, *six, *((socket.IPPROTO_TCP,) if tcp else own))


@cache
def _keys(family: int, kind: int, proto: int) -> tuple[tuple[Key, ...], Any]:
    """What such a socket is asked for, for us and for C."""
    tcp = kind == socket.SOCK_STREAM
    keys = tuple(
        (level, name)
        for level in _levels(family, kind, proto)
        for name in _OPTIONS[level]
        if not tcp or (level, name) not in _OF_DATAGRAMS
    )
    return keys, ffi.new("int32_t[]", [number for key in keys for number in key])


class Asked(NamedTuple):
    """What a socket has told, taken apart when there is time for it."""

    keys: tuple[Key, ...]
    lengths: bytes
    data: bytes

    def options(self) -> dict[Key, bytes]:
        """Without those that this kernel has not, or that have no value now."""
        found: dict[Key, bytes] = {}
        at = 0
        for key, length in zip(self.keys, memoryview(self.lengths).cast("i"), strict=True):
            if length >= 0:
                found[key] = self.data[at : at + length]
                at += length
        return found


def ask(lfd: int, family: int, kind: int, proto: int) -> Asked:
    """Every option of the table that this kernel tells. Raises OSError."""
    keys, numbers = _keys(family, kind, proto)
    lengths = ffi.new("int32_t[]", len(keys))
    data = ffi.new("uint8_t[]", _ROOM)
    told = lib.ckpt_get_options(lfd, numbers, len(keys), lengths, data, _ROOM)
    used = succeeded(told, "socket options")
    return Asked(keys, bytes(ffi.buffer(lengths)), bytes(ffi.buffer(data, used)))


def of_a_new_one(family: int, kind: int, proto: int) -> dict[Key, bytes]:
    """What `ask` says of a new socket. One of ping, which not everybody may make, is as one of
    UDP."""
    if kind == socket.SOCK_DGRAM and proto in (socket.IPPROTO_ICMP, socket.IPPROTO_ICMPV6):
        proto = socket.IPPROTO_UDP
    with socket.socket(family, kind, proto) as sock:
        return ask(sock.fileno(), family, kind, proto).options()


def changed(
    found: dict[Key, bytes], new: dict[Key, bytes], *, connected: bool
) -> list[tuple[Key, bytes]]:
    """What a restore has to set, in order. `connected`: a TCP socket that is or was."""
    return [
        (key, value)
        for key, value in found.items()
        if value != new.get(key) and not (connected and key in _OF_A_CONNECTION)
    ]


def check(options: Iterable[Any], where: str) -> None:
    """Raise ImageError for an option that ckpt never writes."""
    for option in options:
        if option.name not in _OPTIONS.get(option.level, ()) or len(option.value) > _LONGEST:
            what = f"option {option.name} of level {option.level}"
            raise ImageError(f"has {what}, which is none of a socket's", resource=where)


def apply(sock: socket.socket, options: Iterable[Any]) -> None:
    """On a new socket, before it is bound. Raises OSError."""
    for option in options:
        sock.setsockopt(option.level, option.name, option.value)


def ask_ip(sock: socket.socket) -> dict[str, int]:
    """The fields of ip_opts_entry, and of sk_opts_entry what TCP has."""
    get, family = sock.getsockopt, sock.family
    found = {"freebind": get(*_FREEBIND[family]), "pktinfo": get(*_PKTINFO[family])}
    if family == socket.AF_INET or sock.type != socket.SOCK_RAW:
        # A raw socket of IPv6 has no options of IPv4.
        found["tos"] = get(socket.IPPROTO_IP, socket.IP_TOS)
        found["ttl"] = get(socket.IPPROTO_IP, socket.IP_TTL)
    if sock.type == socket.SOCK_STREAM:
        found |= {key: get(socket.IPPROTO_TCP, name) for key, name in _KEEP.items()}
    if family == socket.AF_INET6:
        found["v6only"] = get(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    elif sock.type == socket.SOCK_RAW:
        found |= {key: get(socket.IPPROTO_IP, name) for key, name in _RAW.items()}
    return found


def write_ip(found: dict[str, int], message: Any) -> None:
    """Encode what `ask_ip` found into an inet_sk_entry."""
    for key, value in found.items():
        if key == "v6only":
            message.v6only = value
        elif key in _RAW:
            setattr(message.ip_opts.raw, key, value)
        else:
            setattr(message.opts if key in _KEEP else message.ip_opts, key, value)


def apply_ip(sock: socket.socket, message: Any) -> None:
    """What `write_ip` wrote, where a new socket has it otherwise. Raises OSError."""
    ip, opts = message.ip_opts, message.opts
    wanted: list[tuple[int, int, Any, str]] = [
        (*_FREEBIND[sock.family], ip, "freebind"),
        (*_PKTINFO[sock.family], ip, "pktinfo"),
        (socket.IPPROTO_IP, socket.IP_TOS, ip, "tos"),
        (socket.IPPROTO_IP, socket.IP_TTL, ip, "ttl"),
    ]
    if sock.type == socket.SOCK_STREAM:
        wanted += [(socket.IPPROTO_TCP, name, opts, key) for key, name in _KEEP.items()]
    if sock.family == socket.AF_INET6:
        wanted.append((socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, message, "v6only"))
    elif sock.type == socket.SOCK_RAW and ip.HasField("raw"):
        wanted += [(socket.IPPROTO_IP, name, ip.raw, key) for key, name in _RAW.items()]
    for level, name, holder, key in wanted:
        if holder.HasField(key):
            value = int(getattr(holder, key))
            if value != sock.getsockopt(level, name):
                sock.setsockopt(level, name, value)
