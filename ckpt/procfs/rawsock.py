"""/proc/net/raw, raw6, icmp and icmp6: sockets that no call tells whom they are connected to.

getpeername(2) says that a socket is not connected where it has no port, as most of these.

Source: raw_sock_seq_show() in net/ipv4/raw.c, __ip6_dgram_sock_seq_show() in net/ipv6/datagram.c.
"""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple

_PEER, _STATE, _QUEUES, _INODE = 2, 3, 4, 9


class RawSocket(NamedTuple):
    """`state` as of TCP; `rqueue`: bytes that wait to be read."""

    state: int
    host: str
    port: int
    rqueue: int


def parse_raw_sockets(data: bytes) -> dict[int, RawSocket]:
    """By inode. Raises ValueError for what is no such file."""
    found: dict[int, RawSocket] = {}
    for line in data.decode("ascii").splitlines()[1:]:
        words = line.split()
        try:
            host, _, port = words[_PEER].partition(":")
            rqueue = words[_QUEUES].partition(":")[2]
            one = RawSocket(int(words[_STATE], 16), _host(host), int(port, 16), int(rqueue, 16))
            found[int(words[_INODE])] = one
        except (IndexError, struct.error) as error:
            raise ValueError(f"no line of a socket: {line!r}") from error
    return found


def _host(text: str) -> str:
    """Words in the byte order of the machine, which hold the bytes of the address."""
    words = [int(text[at : at + 8], 16) for at in range(0, len(text), 8)]
    family = socket.AF_INET if len(words) == 1 else socket.AF_INET6
    return socket.inet_ntop(family, struct.pack(f"={len(words)}I", *words))
