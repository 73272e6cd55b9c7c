"""Ports of TCP on which nothing is left but connections that are over.

For a minute the kernel remembers those in state TIME_WAIT, and refuses their port, with EADDRINUSE,
to who has not SO_REUSEADDR; and to who has it, where the socket of those connections had not. Only
of a socket in repair mode nothing is asked, but it must not listen so, and listen(2) asks anew. So:

1. `bind` binds in repair mode, and leaves it.
2. `listen` binds a second socket beside it, in repair mode and with SO_REUSEPORT. From now on the
   port takes any socket of this user and address that has SO_REUSEPORT, without a look at others.
3. The first one has it while it begins to listen.
4. A third socket, in repair mode and without it, has the port forget what the second one did.

Needs CAP_NET_ADMIN. Not guaranteed: between 2 and 4 another process of the socket's user could
listen there as well, if it has SO_REUSEPORT.

Source: inet_csk_get_port(), inet_csk_update_fastreuse(), sk_reuseport_match() and
inet_bind_conflict() in net/ipv4/inet_connection_sock.c; TCP_REPAIR in net/ipv4/tcp.c.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

from ckpt.files import sockdiag, tcprepair

if TYPE_CHECKING:
    from collections.abc import Container

    from ckpt.files.inetaddr import Address

_ANY = ("0.0.0.0", "::")


def only_the_dead(at: Address, ours: Container[int]) -> bool:
    """Whether nobody has a socket at this address, or one that overlaps with it, but for those
    with inodes of `ours`. Raises KernelError."""
    for family in (socket.AF_INET, socket.AF_INET6):
        for inode, host, port in sockdiag.local_ends(family, socket.IPPROTO_TCP):
            same = host in (*_ANY, at.host) or at.host in _ANY
            if inode and inode not in ours and port == at.port and same:
                return False
    return True


def bind(sock: socket.socket, address: tuple[Any, ...]) -> None:
    """Whoever has it. Raises OSError; EPERM without CAP_NET_ADMIN."""
    tcprepair.repair(sock, 1)
    try:
        sock.bind(address)
    finally:
        tcprepair.repair_off_quietly(sock.fileno())


def listen(sock: socket.socket, backlog: int) -> None:
    """With a socket that `bind` has bound. Raises OSError."""
    with _beside(sock, reuse_port=True):
        before = sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            sock.listen(backlog)
        finally:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, before)
    _beside(sock, reuse_port=False).close()


def _beside(sock: socket.socket, *, reuse_port: bool) -> socket.socket:
    """Another one at the address of `sock`, of the same owner."""
    owner = os.fstat(sock.fileno())
    other = socket.socket(sock.family, sock.type)
    try:
        os.fchown(other.fileno(), owner.st_uid, owner.st_gid)
        if sock.family == socket.AF_INET6:
            only = sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
            other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(reuse_port))
        bind(other, sock.getsockname())
    except BaseException:
        other.close()
        raise
    return other
