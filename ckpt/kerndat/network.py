"""Probes of sockets and networks. Netlink is spoken by hand: pyroute2 takes 100 ms to import.

Source: tcp(7) and uapi/linux/tcp.h, netlink(7), sock_diag(7), rtnetlink(7), nfnetlink. Everything
is asked on sockets of our own or in a network namespace of a child; nothing is listed that changes.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import socket
import struct
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ckpt.kerndat.probe import Finding, Need, missing, ok, probe
from ckpt.kerndat.trial import call, expect, in_child

if TYPE_CHECKING:
    from collections.abc import Iterator

_TCP_REPAIR, _TCP_REPAIR_QUEUE, _TCP_REPAIR_WINDOW = 19, 20, 29
_SIOCGSKNS, _SIOCUNIXFILE = 0x894C, 0x89E0
_SO_BUF_LOCK, _IPV6_FREEBIND = 72, 78
_NETLINK_ROUTE, _NETLINK_SOCK_DIAG, _NETLINK_NETFILTER = 0, 4, 12
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_EXCL, _NLM_F_CREATE, _NLM_F_DUMP = 1, 4, 0x200, 0x400, 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_SOCK_DIAG_BY_FAMILY = 20
_RTM_NEWLINK, _RTM_GETNSID = 16, 90
_NETNSA_PID = 2
_IFLA_IFNAME, _IFLA_LINKINFO, _IFLA_INFO_KIND, _IFLA_LINK_NETNSID = 3, 18, 1, 37
_NFT_MSG_GETTABLE = 10 << 8 | 1
_CLONE_NEWNET = 0x40000000
_WANTED_IFINDEX = 77
_REFUSED = "sockets are refused"
_NO_CONNECTIONS = "TCP connections are refused"


@contextmanager
def _tcp_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        with socket.create_connection(listener.getsockname()) as client:
            server, _ = listener.accept()
            with server:
                yield client, server


@contextmanager
def _repair(sock: socket.socket) -> Iterator[None]:
    sock.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, 1)
    try:
        yield
    finally:
        sock.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, -1)


@probe("tcp_repair", Need.TREE, "TCP connections", _NO_CONNECTIONS)
def tcp_repair() -> None:
    with _tcp_pair() as (client, _), _repair(client):
        client.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR_QUEUE, 1)
        expect(len(client.getsockopt(socket.IPPROTO_TCP, _TCP_REPAIR_WINDOW, 20)) == 20, "short")


@probe(
    "tcp_half_closed",
    Need.TREE,
    "TCP connections that one side has closed",
    _NO_CONNECTIONS,
    criu=("tcp_half_closed",),
)
def tcp_half_closed() -> None:
    with _tcp_pair() as (client, _):
        client.shutdown(socket.SHUT_WR)
        with _repair(client):
            pass


@probe(
    "sockopt_buf_lock",
    Need.BETTER,
    "whether a socket's buffer sizes were chosen",
    "they are restored as if they were",
    criu=("sockopt_buf_lock",),
)
def sockopt_buf_lock() -> None:
    with socket.socket() as sock:
        sock.getsockopt(socket.SOL_SOCKET, _SO_BUF_LOCK)


@probe(
    "ipv6_freebind",
    Need.TREE,
    "IPv6 addresses that come later",
    "IPv6 sockets are refused",
    criu=("ipv6_freebind",),
)
def ipv6_freebind() -> None:
    with socket.socket(socket.AF_INET6) as sock:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)


@probe("sk_ns", Need.TREE, "the network namespace of a socket", _REFUSED, criu=("sk_ns",))
def sk_ns() -> None:
    with socket.socket() as sock:
        os.close(fcntl.ioctl(sock.fileno(), _SIOCGSKNS))


@probe(
    "sk_unix_file",
    Need.LATER,
    "the file that a Unix socket is bound to",
    _REFUSED,
    criu=("sk_unix_file",),
)
def sk_unix_file() -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            os.close(fcntl.ioctl(sock.fileno(), _SIOCUNIXFILE))
        except OSError as error:
            if error.errno != errno.ENOENT:  # it is bound to none, and the request is known
                raise


def _attribute(kind: int, value: bytes) -> bytes:
    padded = value + bytes(-len(value) % 4)
    return struct.pack("=HH", 4 + len(value), kind) + padded


def _ask(protocol: int, kind: int, flags: int, body: bytes) -> bytes:
    """The first answer's message, header included. OSError for an error in it."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol) as sock:
        sock.settimeout(2)
        header = struct.pack("=IHHII", 16 + len(body), kind, _NLM_F_REQUEST | flags, 1, 0)
        sock.send(header + body)
        answer = sock.recv(65536)
    if len(answer) >= 20 and struct.unpack_from("=H", answer, 4)[0] in (_NLMSG_ERROR, _NLMSG_DONE):
        error = -struct.unpack_from("=i", answer, 16)[0]
        if error:
            raise OSError(error, os.strerror(error))
    return answer


def _diag(family: int, body: bytes) -> None:
    _ask(_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY, _NLM_F_DUMP, struct.pack("=B", family) + body)


@probe("sock_diag", Need.TREE, "the state of sockets", _REFUSED)
def sock_diag() -> None:
    _diag(socket.AF_UNIX, struct.pack("=BHIIIII", 0, 0, 2**32 - 1, 0, 0, 0, 0))
    _diag(socket.AF_INET, struct.pack("=BBBI48s", socket.IPPROTO_TCP, 0, 0, 1 << 10, b""))


@probe("netlink_diag", Need.TREE, "netlink sockets", "they are refused")
def netlink_diag() -> None:
    _diag(socket.AF_NETLINK, struct.pack("=BHIIII", 0xFF, 0, 0, 1 | 2 | 8, 0, 0))


@probe("packet_diag", Need.TREE, "packet sockets", "they are refused")
def packet_diag() -> None:
    _diag(socket.AF_PACKET, struct.pack("=BHIIII", 0, 0, 0, 1 | 2 | 4 | 8 | 16, 0, 0))


@probe(
    "net_diag_raw",
    Need.LATER,
    "raw sockets, told by more than files of /proc",
    "nothing yet",
    criu=("net_diag_raw",),
)
def net_diag_raw() -> None:
    body = struct.pack("=BBBI48s", socket.IPPROTO_RAW, 0, socket.IPPROTO_UDP, 2**32 - 1, b"")
    _diag(socket.AF_INET, body)


@probe("nsid", Need.LATER, "numbers of network namespaces", _REFUSED, criu=("nsid",))
def nsid() -> None:
    body = struct.pack("=B3x", 0) + _attribute(_NETNSA_PID, struct.pack("=I", os.getpid()))
    _ask(_NETLINK_ROUTE, _RTM_GETNSID, 0, body)


def _new_link(index: int, *more: bytes) -> None:
    info = _attribute(_IFLA_INFO_KIND, b"veth")
    body = struct.pack("=BxHiII", 0, 0, index, 0, 0) + _attribute(_IFLA_LINKINFO, info)
    flags = _NLM_F_ACK | _NLM_F_EXCL | _NLM_F_CREATE
    _ask(_NETLINK_ROUTE, _RTM_NEWLINK, flags, body + b"".join(more))


@probe(
    "newifindex",
    Need.LATER,
    "network devices with the index that they had",
    "network namespaces are refused",
    criu=("newifindex",),
)
def newifindex() -> None:
    def trial() -> None:
        call("unshare", _CLONE_NEWNET)
        _new_link(_WANTED_IFINDEX, _attribute(_IFLA_IFNAME, b"ckpt0\0"))
        expect(socket.if_nametoindex("ckpt0") == _WANTED_IFINDEX, "another index")

    in_child(trial)


@probe(
    "link_nsid",
    Need.LATER,
    "network devices whose other end is in another namespace",
    "network namespaces are refused",
    criu=("link_nsid",),
)
def link_nsid() -> None:
    """An unknown number must be refused: a kernel that knows no numbers would not look at it."""

    def trial() -> None:
        call("unshare", _CLONE_NEWNET)
        try:
            _new_link(0, _attribute(_IFLA_LINK_NETNSID, struct.pack("=i", 12345)))
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return
        raise OSError(errno.EOPNOTSUPP, "")

    in_child(trial)


def _nftables() -> None:
    _ask(_NETLINK_NETFILTER, _NFT_MSG_GETTABLE, _NLM_F_DUMP, struct.pack("=BBH", 0, 0, 0))


@probe(
    "nftables",
    Need.LATER,
    "firewall rules of a network namespace",
    "network namespaces are refused",
    criu=("nftables",),
)
def nftables() -> None:
    _nftables()


@probe(
    "network_lock_nftables",
    Need.TREE,
    "holding connections still while they are dumped",
    "TCP connections need --network-lock skip",
    criu=("network_lock_nftables",),
)
def network_lock_nftables() -> None:
    _nftables()


@probe(
    "has_ipt_legacy",
    Need.LATER,
    "firewall rules of the old kind",
    "nothing where nftables is there",
    criu=("has_ipt_legacy",),
)
def has_ipt_legacy() -> Finding:
    found = shutil.which("iptables-legacy")
    tables = Path("/proc/net/ip_tables_names").exists()
    return ok(found) if found and tables else missing("no iptables-legacy, or not in this kernel")
