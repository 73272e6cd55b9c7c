"""Sockets of IPv4 and IPv6 on the way out of the images; see ckpt.files.inet.

Order: options, owner, bind, connect (UDP) before there are tasks; listening, closed halves and
SO_REUSEADDR at the very end. So none accepts a connection for a tree that may still fail, and what
had been bound beside a listening socket can be bound beside it again. A connection that nobody had
answered is asked for anew when nothing else can fail. A socket whose address is taken is tried once
more with SO_REUSEADDR, which is given back: the target may have had it set only while it bound.
Where nobody has it but connections that are over, it is taken from them (ckpt.files.timewait).

The socket is given to its user before it is bound: a SO_REUSEPORT group takes only one user's.

Source: as ckpt.files.inet; sockfs_setattr() in net/socket.c for the owner.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ckpt.errors import ImageError, RestoreError
from ckpt.files import inetaddr, inetopts, multicast, sk_opts, tcprepair, timewait
from ckpt.files.inet import SORTS, Sort, State
from ckpt.files.kind import FdType, RestoreKind
from ckpt.files.openflags import SETTABLE, checked
from ckpt.files.tcp_restore import TcpRestore, Wanted
from ckpt.files.tcprepair import STATES
from ckpt.record import record

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from ckpt.files.inetaddr import Address
    from ckpt.files.restoring import RestoreView

_SORTS = frozenset(SORTS.values())
_MOST_BACKLOG = 1 << 31
_BOTH = 3
_NAMES = {
    socket.IPPROTO_TCP: "TCP",
    socket.IPPROTO_UDP: "UDP",
    inetopts.UDP_LITE: "UDP-Lite",
    socket.IPPROTO_ICMP: "ping",
    socket.IPPROTO_ICMPV6: "ping",
}
_RAW = int(socket.SOCK_RAW)
_HINTS = {
    errno.EACCES: "sysctl net.ipv4.ping_group_range must hold a group of ckpt, for a ping socket",
    errno.EADDRINUSE: "end the process that has it (ss -nap)",
    errno.ENODEV: "the interface of its multicast group must be there",
    errno.EADDRNOTAVAIL: "give this machine the address first",
    errno.EPERM: "ckpt restore needs CAP_NET_ADMIN and CAP_NET_RAW for it",
}


@record
class Socket:
    """One socket to be made; `uid` is None where the set does not tell."""

    message: Any
    sort: Sort
    src: Address
    dst: Address
    flags: int
    signum: int
    uid: int | None = None
    gid: int = 0
    options: tuple[Any, ...] = ()
    memberships: tuple[Any, ...] = ()

    @property
    def connected(self) -> bool:
        """Whether it is a connection of TCP."""
        return self.sort.kind == socket.SOCK_STREAM and self.message.state in STATES

    @property
    def opening(self) -> bool:
        """Whether it is a connection of TCP that nobody has answered."""
        return self.sort.kind == socket.SOCK_STREAM and self.message.state == State.SYN_SENT

    def __str__(self) -> str:
        raw = self.sort.kind == _RAW
        name = f"raw ({self.sort.proto})" if raw else _NAMES[self.sort.proto]
        state = State(self.message.state)
        if state is State.LISTEN:
            return f"{name} socket that listens on {self.src}"
        if state is State.CLOSE:
            return f"{name} socket" + ("" if self.src.anything else f" bound to {self.src}")
        return f"{name} socket from {self.src} to {self.dst}"


class InetRestore(RestoreKind):
    type = FdType.INETSK
    field = "isk"

    def __init__(self, view: RestoreView) -> None:
        super().__init__(view)
        self.sockets: dict[int, Socket] = {}
        self._connections = TcpRestore(view)
        self._opening: list[tuple[Socket, int]] = []
        self._inodes: set[int] = set()
        self._at_dead_ports: set[int] = set()

    def take(self, file_id: int, message: Any) -> None:
        where = f"socket {file_id:#x} of files.img"
        sort = Sort(message.family, message.type, message.proto)
        raw = sort.kind == _RAW
        if (sort._replace(proto=0) if raw else sort) not in _SORTS or not 0 < sort.proto < 256:
            raise ImageError(f"is of a sort that is not restored yet: {sort}", resource=where)
        self._check_state(sort, message, where)
        sk_opts.check(message.opts, where)
        ends = ((message.src_addr, message.src_port), (message.dst_addr, message.dst_port))
        src, dst = (
            inetaddr.of_words(sort.family, words, port, message.ifname, where)
            for words, port in ends
        )
        flags = checked(message.flags, where)
        signum = self.view.signum(message.fown, where)
        self.sockets[file_id] = Socket(message, sort, src, dst, flags, signum)

    def _check_state(self, sort: Sort, message: Any, where: str) -> None:
        tcp = sort.kind == socket.SOCK_STREAM
        possible: Container[int] = (State.CLOSE, State.ESTABLISHED)
        if tcp:
            possible = {State.CLOSE, State.LISTEN, State.SYN_SENT, *STATES}
        if message.state not in tuple(State):
            raise ImageError(f"has state {message.state}", resource=where)
        if message.state not in possible:
            kind = RestoreError if tcp else ImageError
            name = State(message.state).name
            raise kind(f"is in state {name}, which is not restored yet", resource=where)
        if message.backlog >= _MOST_BACKLOG:
            raise ImageError(f"has a backlog of {message.backlog}", resource=where)

    def prepare(self, wanted: Iterable[int]) -> None:
        for file_id in wanted:
            made = self.sockets[file_id]
            if made.connected or made.opening:
                self._prepare_connection(file_id, made)
        for entry in self.view.messages("ckpt-inet"):
            where = f"socket {entry.id:#x} of ckpt-inet.img"
            known = self.sockets.get(entry.id)
            if known is None or known.uid is not None:
                raise ImageError("is no socket, or there twice", resource=where)
            inetopts.check(entry.options, where)
            multicast.check(entry.memberships, where)
            if max(entry.uid, entry.gid) >= 2**32 - 1:
                raise ImageError("belongs to nobody", resource=where)
            known.uid, known.gid, known.options = entry.uid, entry.gid, tuple(entry.options)
            known.memberships = tuple(entry.memberships)

    def _prepare_connection(self, file_id: int, made: Socket) -> None:
        options = self.view.options
        if options.tcp_close:
            made.message.state, made.message.shutdown = State.CLOSE, _BOTH
            made.src = made.dst = inetaddr.nowhere(made.sort.family)
            return
        if options.other_net:
            why = "a connection stays in the network where it was dumped"
            hint = "--tcp-close"
            raise RestoreError(
                "can't go into a joined network", resource=str(made), why=why, hint=hint
            )
        if not options.tcp_established:
            hint = "--tcp-established, or --tcp-close"
            raise RestoreError("it was connected at the dump", resource=str(made), hint=hint)
        if made.opening:
            return
        m = made.message
        wanted = Wanted(made.sort, m.state, m.opts, made.src, made.dst, None, b"")
        self._connections.take(file_id, m.ino, wanted)

    def text(self, file_id: int) -> str:
        return f"make {self.sockets[file_id]}"

    def open(self, file_id: int) -> int:
        made = self.sockets[file_id]
        try:
            sock = socket.socket(*made.sort)
        except OSError as error:
            raise failed(made, error) from error
        self._inodes.add(os.fstat(sock.fileno()).st_ino)
        try:
            if made.connected:
                tcprepair.repair(sock, 1)
                self.dress(made, sock)
                self._connections.build(file_id, sock)
            else:
                self._build(made, sock)
        except OSError as error:
            sock.close()
            raise failed(made, error) from error
        except BaseException:
            sock.close()
            raise
        return sock.detach()

    def _build(self, made: Socket, sock: socket.socket) -> None:
        self.dress(made, sock)
        if not made.src.anything:
            self._bind(made, sock)
        if made.message.state == State.ESTABLISHED:
            sock.connect(made.dst.for_call(made.sort.family))
        if made.opening:
            self._opening.append((made, fcntl.fcntl(sock, fcntl.F_DUPFD_CLOEXEC, 3)))

    def dress(self, made: Socket, sock: socket.socket) -> None:
        """Everything of a new socket but its addresses. Raises OSError."""
        sk_opts.apply(self.view.report, sock, made.message.opts, str(made))
        inetopts.apply_ip(sock, made.message)
        inetopts.apply(sock, made.options)
        multicast.apply(sock, made.memberships)
        fcntl.fcntl(sock, fcntl.F_SETFL, made.flags & SETTABLE)
        self.view.set_signum(sock.fileno(), made.signum)
        if made.uid is not None and (made.uid, made.gid) != (os.geteuid(), os.getegid()):
            os.fchown(sock.fileno(), made.uid, made.gid)

    def _bind(self, made: Socket, sock: socket.socket) -> None:
        address = made.src.for_call(made.sort.family)
        reuse = int(made.message.opts.reuseaddr)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
        try:
            sock.bind(address)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            self._bind_again(made, sock)

    def _bind_again(self, made: Socket, sock: socket.socket) -> None:
        address = made.src.for_call(made.sort.family)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(address)
        except OSError:
            tcp = made.sort.kind == socket.SOCK_STREAM
            if not tcp or not timewait.only_the_dead(made.src, self._inodes):
                raise
            self._bind_at_a_dead_port(made, sock)

    def _bind_at_a_dead_port(self, made: Socket, sock: socket.socket) -> None:
        try:
            timewait.bind(sock, made.src.for_call(made.sort.family))
        except PermissionError as error:
            raise RestoreError(
                "can't be made",
                resource=str(made),
                why="connections of its port that are over are still in TIME_WAIT",
                hint="wait for a minute, or give ckpt restore CAP_NET_ADMIN",
            ) from error
        self._at_dead_ports.add(os.fstat(sock.fileno()).st_ino)

    def finish(self, file_id: int, lfd: int) -> None:
        made = self.sockets[file_id]
        if made.connected:
            return
        with sk_opts.borrowed(lfd, *made.sort) as sock:
            try:
                self._finish(made, sock)
            except OSError as error:
                raise failed(made, error) from error

    def _finish(self, made: Socket, sock: socket.socket) -> None:
        if made.message.state == State.LISTEN:
            # Its own connections are on that port, too.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if os.fstat(sock.fileno()).st_ino in self._at_dead_ports:
                timewait.listen(sock, made.message.backlog)
            else:
                sock.listen(made.message.backlog)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(made.message.opts.reuseaddr))
        if made.message.shutdown:
            # The halves are closed though a socket that is not connected reports an error.
            with suppress(OSError):
                sock.shutdown(made.message.shutdown - 1)

    def release(self) -> None:
        self._connections.let_loose()
        for made, lfd in self._opening:
            with sk_opts.borrowed(lfd, *made.sort) as sock:
                self._begin(made, sock)
        self._forget()

    def _begin(self, made: Socket, sock: socket.socket) -> None:
        """Ask for a connection anew. Who waits in connect(2) calls it again, and waits on."""
        flags = fcntl.fcntl(sock, fcntl.F_GETFL)
        fcntl.fcntl(sock, fcntl.F_SETFL, flags | os.O_NONBLOCK)
        wrong = sock.connect_ex(made.dst.for_call(made.sort.family))
        fcntl.fcntl(sock, fcntl.F_SETFL, flags)
        if wrong not in (0, errno.EINPROGRESS):
            self.view.report.warn(f"{made}: it is refused at once: {os.strerror(wrong)}")

    def _forget(self) -> None:
        opening, self._opening = self._opening, []
        for _, lfd in opening:
            os.close(lfd)

    def abandon(self) -> None:
        self._connections.close()
        self._forget()


def failed(made: Socket, error: OSError) -> RestoreError:
    """The error of a restore, with what helps."""
    return RestoreError(
        "can't be made",
        resource=str(made),
        why=os.strerror(error.errno or 0),
        hint=_HINTS.get(error.errno or 0, ""),
    )
