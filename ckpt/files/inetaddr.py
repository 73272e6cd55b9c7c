"""Addresses of IPv4 and IPv6 sockets, as Python has them and as the images do.

The images have an address as words of the machine's byte order that hold the address's bytes as
they are on the wire, and ports as numbers; a link-local address gets its interface by name.

Source: inet_sk_entry of CRIU; ip(7), ipv6(7).
"""

from __future__ import annotations

import socket
import struct
from typing import Any, NamedTuple

from ckpt.errors import ImageError, RestoreError

_WORDS = {socket.AF_INET: 1, socket.AF_INET6: 4}


class Address(NamedTuple):
    """`device`: the interface of a link-local address, else empty."""

    host: str
    port: int
    device: str = ""

    def __str__(self) -> str:
        device = f"%{self.device}" if self.device else ""
        return f"[{self.host}{device}]:{self.port}" if ":" in self.host else f"{self[0]}:{self[1]}"

    @property
    def anything(self) -> bool:
        """Neither address nor port: what a socket has that was never bound."""
        return not self.port and self.host in ("0.0.0.0", "::")

    def words(self, family: int) -> list[int]:
        packed = socket.inet_pton(family, self.host)
        return list(struct.unpack(f"={len(packed) // 4}I", packed))

    def for_call(self, family: int) -> tuple[Any, ...]:
        """For bind and connect. Raises RestoreError where the interface is not there."""
        if family == socket.AF_INET:
            return (self.host, self.port)
        scope = 0
        if self.device:
            try:
                scope = socket.if_nametoindex(self.device)
            except OSError as error:
                raise RestoreError("is not there", resource=f"interface {self.device}") from error
        return (self.host, self.port, 0, scope)


def nowhere(family: int) -> Address:
    """Of a socket that is not bound, or not connected."""
    return Address("::" if family == socket.AF_INET6 else "0.0.0.0", 0)


def of_call(found: tuple[Any, ...]) -> Address:
    """From getsockname or getpeername."""
    host, port = found[:2]
    scope = found[3] if len(found) == 4 else 0
    return Address(host.partition("%")[0], port, socket.if_indextoname(scope) if scope else "")


def of_words(family: int, words: Any, port: int, device: str, where: str) -> Address:
    """From an image. Raises ImageError."""
    if len(words) != _WORDS[socket.AddressFamily(family)] or not 0 <= port <= 65535:
        raise ImageError("has an address that is none", resource=where)
    host = socket.inet_ntop(family, struct.pack(f"={len(words)}I", *words))
    local = host.lower().startswith("fe80:")
    return Address(host, port, device if local else "")
