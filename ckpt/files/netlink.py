"""Netlink sockets: protocol, port, groups, and the port that one is connected to.

A socket with messages that were not read yet, or in the middle of an answer, is refused: nobody
else than the kernel can send in its name. Refused besides: protocols for which the kernel keeps
something for a port, and ports for which the netfilter does (queues, logs, tables with an owner) or
the audit system may (that of auditd): of that only sockets which have not been used are taken, as
dbus-daemon has one.
What a family of generic netlink keeps for a port is not seen.

Groups are joined last, so that what a restore does is not told to the tree.

Source: netlink(7), sock_diag(7), include/uapi/linux/netlink_diag.h, net/netlink/af_netlink.c.
"""

from __future__ import annotations

import errno
import select
import socket
import struct
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ckpt.errors import ImageError
from ckpt.files import netlock, netmessage, sk_opts, sockdiag, sockextra
from ckpt.files.kind import FdType, Obstacle, RestoreKind
from ckpt.files.sockextra import FamilyDump

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ckpt.files.descriptor import Descriptor
    from ckpt.files.dumping import DumpView
    from ckpt.files.restoring import RestoreView

IMAGE = "ckpt-netlink"
_SOL, _ADD_MEMBERSHIP = 270, 1
_AUDIT, _NETFILTER = 9, 12
PROTOCOLS = {
    0: "route",
    2: "between processes",
    4: "sock_diag",
    6: "IPsec",
    _AUDIT: "audit",
    10: "FIB lookup",
    _NETFILTER: "netfilter",
    15: "uevent",
    16: "generic",
}
OPTIONS = {socket.SOL_SOCKET: sockextra.COMMON, _SOL: (3, 4, 5, 8, 10, 11, 12)}
_KINDS = (socket.SOCK_RAW, socket.SOCK_DGRAM)
_PROTO_ALL, _SHOW = 0xFF, 1 | 2 | 8
_QUERY = struct.Struct("=BBHIIII")
_ANSWER = struct.Struct("=BBBBIIII8x")
_MEMINFO, _GROUPS, _FLAGS = 0, 1, 4
_CB_RUNNING, _CONNECTED = 1, 1
_MOST_WORDS = 4096
_PORTS = ("nfnetlink_queue", "nfnetlink_log")
_HINTS = {
    errno.EADDRINUSE: "another socket has its port, which mostly is a pid: end that process",
    errno.EPERM: "ckpt restore needs CAP_NET_ADMIN for it",
    errno.EPROTONOSUPPORT: "the kernel has no such protocol",
}


class Diag(NamedTuple):
    """Of one socket that has a port."""

    protocol: int
    state: int
    port: int
    dst_port: int
    dst_group: int
    groups: tuple[int, ...]
    unread: int
    answering: bool


class Held(NamedTuple):
    """One socket, asked."""

    d: Descriptor
    id: int
    kind: int
    diag: Diag
    opts: sk_opts.SkOpts
    options: sockextra.Options


def look() -> dict[int, Diag]:
    """All of our network namespace that have a port, by inode. Raises KernelError."""
    found: dict[int, Diag] = {}
    for body in sockdiag.dump(_QUERY.pack(socket.AF_NETLINK, _PROTO_ALL, 0, 0, _SHOW, 0, 0)):
        _, _, protocol, state, port, dst_port, dst_group, ino = _ANSWER.unpack_from(body)
        told = netmessage.attributes(body, _ANSWER.size)
        groups = told.get(_GROUPS, b"")
        (unread,) = struct.unpack_from("=I", told.get(_MEMINFO, bytes(4)))
        (flags,) = struct.unpack_from("=I", told.get(_FLAGS, bytes(4)))
        # Of longs: without the zeros at the end, which CRIU does not take.
        groups = groups[: len(groups.rstrip(b"\0")) + 3 & ~3]
        words = struct.unpack(f"={len(groups) // 4}I", groups)
        answering = bool(flags & _CB_RUNNING)
        found[ino] = Diag(protocol, state, port, dst_port, dst_group, words, unread, answering)
    return found


class NetlinkDump(FamilyDump[Diag]):
    type = FdType.NETLINKSK
    family = socket.AF_NETLINK
    protocol = b"NETLINK"

    def __init__(self, view: DumpView) -> None:
        super().__init__(view)
        self._held: list[Held] = []

    def look(self) -> dict[int, Diag]:
        return look()

    def judged(self, diag: Diag | None) -> Obstacle | None:
        return _judged(diag) if diag else None

    def ask(
        self, d: Descriptor, file_id: int, sock: socket.socket, diag: Diag | None
    ) -> Obstacle | None:
        found = sockextra.foreign(sock)
        if found:
            return found
        if diag is None:
            protocol = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PROTOCOL)
            diag = Diag(protocol, 0, 0, 0, 0, (), 0, answering=False)
        found = _judged(diag) or _unread(diag, sock)
        if found:
            return found
        kind = sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)
        options = sockextra.ask(sock, OPTIONS)
        self._held.append(Held(d, file_id, kind, diag, sk_opts.ask(sock), options))
        return None

    def entries(self) -> Iterator[Any]:
        for held in self._held:
            entry, diag = self.entry(held.id), held.diag
            made = entry.nlsk
            sockextra.fill(self.view, held.d, held.id, made, held.opts)
            made.ino, made.protocol, made.state = held.d.ino, diag.protocol, diag.state
            made.portid, made.dst_portid, made.dst_group = diag.port, diag.dst_port, diag.dst_group
            made.groups.extend(diag.groups)
            yield entry

    def images(self) -> dict[str, Sequence[Any]]:
        ours = []
        for held in self._held:
            with socket.socket(socket.AF_NETLINK, held.kind, held.diag.protocol) as sock:
                new = sockextra.ask(sock, OPTIONS)
            ours.append(sockextra.message(held.d, held.id, held.options, new, type=held.kind))
        return {IMAGE: ours} if ours else {}


def _judged(diag: Diag) -> Obstacle | None:
    if diag.protocol not in PROTOCOLS:
        return Obstacle(f"a netlink socket of protocol {diag.protocol} is not restored yet")
    if diag.protocol == _AUDIT and (diag.port or diag.groups):
        return Obstacle("an audit socket (netlink) that has been used is not restored yet")
    if diag.protocol == _NETFILTER and diag.port and (what := _kept_for(diag.port)):
        return Obstacle(f"a netlink socket {what} is not restored yet")
    return None


def _unread(diag: Diag, sock: socket.socket) -> Obstacle | None:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    events = dict(poll.poll(0)).get(sock.fileno(), 0)
    if events & select.POLLERR:
        why = "a netlink socket that has yet to tell of lost messages (ENOBUFS) can't be restored"
        return Obstacle(why, "dump it when it has been read")
    if diag.answering or diag.unread or events & select.POLLIN:
        why = "a netlink socket with messages that were not read yet can't be restored"
        return Obstacle(why, "dump it when it has read them")
    return None


def _kept_for(port: int) -> str:
    """What the netfilter keeps for a port."""
    for name in _PORTS:
        with suppress(OSError):
            lines = Path(f"/proc/net/netfilter/{name}").read_text().splitlines()
            if any(int(line.split()[1]) == port for line in lines):
                return f"that packets are given to ({name})"
    return "that owns a table of nftables" if port in netlock.owners() else ""


class NetlinkRestore(RestoreKind):
    type = FdType.NETLINKSK
    field = "nlsk"

    def __init__(self, view: RestoreView) -> None:
        super().__init__(view)
        self._sockets: dict[int, sockextra.Extra] = {}
        self._ours: dict[int, Any] = {}

    def take(self, file_id: int, message: Any) -> None:
        where = f"netlink socket {file_id:#x} of files.img"
        if message.protocol not in PROTOCOLS or len(message.groups) > _MOST_WORDS:
            raise ImageError(
                f"has protocol {message.protocol} and {32 * len(message.groups)} groups, "
                "which is not restored yet",
                resource=where,
            )
        if message.protocol == _AUDIT and (message.portid or len(message.groups)):
            raise ImageError("of the audit system has a port or groups", resource=where)
        if message.dst_group > 32:
            raise ImageError(f"is connected to group {message.dst_group}", resource=where)
        self._sockets[file_id] = sockextra.taken(self.view, message, where)

    def prepare(self, wanted: Iterable[int]) -> None:
        del wanted
        self._ours = sockextra.read(self.view, IMAGE, self._sockets, OPTIONS)
        for own in self._ours.values():
            if own.HasField("type") and own.type not in _KINDS:
                raise ImageError(f"has type {own.type}", resource=f"socket {own.id:#x} of {IMAGE}")

    def text(self, file_id: int) -> str:
        m = self._sockets[file_id].message
        port = f" with port {m.portid}" if m.portid else ""
        return f"make netlink socket ({PROTOCOLS[m.protocol]}){port}"

    def open(self, file_id: int) -> int:
        one, own = self._sockets[file_id], self._ours.get(file_id)
        m = one.message
        kind = own.type if own is not None and own.HasField("type") else socket.SOCK_RAW
        try:
            with socket.socket(socket.AF_NETLINK, kind, m.protocol) as sock:
                sockextra.dress(self.view, sock, one, own)
                if m.portid:
                    sock.bind((m.portid, 0))
                if m.dst_portid or m.dst_group or m.state == _CONNECTED:
                    sock.connect((m.dst_portid, 1 << m.dst_group - 1 if m.dst_group else 0))
                return sock.detach()
        except OSError as error:
            raise sockextra.failed(self.text(file_id), error, _HINTS) from error

    def finish(self, file_id: int, lfd: int) -> None:
        words = self._sockets[file_id].message.groups
        groups = [
            32 * i + bit + 1 for i, w in enumerate(words) for bit in range(32) if w >> bit & 1
        ]
        with sk_opts.borrowed(lfd, socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
            for group in groups:
                try:
                    sock.setsockopt(_SOL, _ADD_MEMBERSHIP, group)
                except OSError as error:
                    text = f"{self.text(file_id)} in group {group}"
                    raise sockextra.failed(text, error, _HINTS) from error
