"""Sockets of IPv4 and IPv6: TCP, UDP and UDP-Lite, raw ones and those of ping, into the images.

A TCP socket is listening, or closed: unbound, bound, or one whose connection is over. Connections
are those of ckpt.files.tcp. A UDP socket is unbound, bound or connected; datagrams that wait to be
read are lost, which UDP allows (CRIU drops them as well; a warning says so), and one that collects
a datagram with MSG_MORE or UDP_CORK is refused. Raw sockets and those of ping are as those of UDP.

What a running target shows is sock_diag's, asked once; what counts is asked of duplicates while it
stands. Refused besides: sockets of another network namespace, upper protocols (TLS), tunnels.

Source: ip(7), tcp(7), udp(7), sock_diag(7); inet_sk_entry of CRIU.
"""

from __future__ import annotations

import fcntl
import select
import socket
import termios
from enum import IntEnum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ckpt.errors import Refusal
from ckpt.files import inetaddr, inetopts, multicast, sk_opts, sockdiag, sockextra
from ckpt.files.descriptor import proto_name
from ckpt.files.inetaddr import Address
from ckpt.files.kind import DumpKind, FdType, Obstacle
from ckpt.files.netlock import Connection
from ckpt.files.tcp import TcpConnections
from ckpt.files.tcprepair import STATES
from ckpt.procfs.rawsock import RawSocket, parse_raw_sockets
from ckpt.record import field, record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ckpt.files.descriptor import Descriptor
    from ckpt.files.dumping import DumpView


class State(IntEnum):
    """Of a TCP socket; others are ESTABLISHED where they are connected, else CLOSE."""

    ESTABLISHED = 1
    SYN_SENT = 2
    SYN_RECV = 3
    FIN_WAIT1 = 4
    FIN_WAIT2 = 5
    TIME_WAIT = 6
    CLOSE = 7
    CLOSE_WAIT = 8
    LAST_ACK = 9
    LISTEN = 10
    CLOSING = 11
    NEW_SYN_RECV = 12


class Sort(NamedTuple):
    """What socket(2) is asked for."""

    family: int
    kind: int
    proto: int

    @property
    def told(self) -> bool:
        """Whether they are datagrams that sock_diag knows everywhere."""
        return self.kind == _DGRAM and self.proto in (socket.IPPROTO_UDP, inetopts.UDP_LITE)


_V4, _V6 = int(socket.AF_INET), int(socket.AF_INET6)
_STREAM, _DGRAM, _RAW = (
    int(kind) for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW)
)
SORTS = {
    b"TCP": Sort(_V4, _STREAM, socket.IPPROTO_TCP),
    b"TCPv6": Sort(_V6, _STREAM, socket.IPPROTO_TCP),
    b"UDP": Sort(_V4, _DGRAM, socket.IPPROTO_UDP),
    b"UDPv6": Sort(_V6, _DGRAM, socket.IPPROTO_UDP),
    b"UDP-Lite": Sort(_V4, _DGRAM, inetopts.UDP_LITE),
    b"UDPLITEv6": Sort(_V6, _DGRAM, inetopts.UDP_LITE),
    b"PING": Sort(_V4, _DGRAM, socket.IPPROTO_ICMP),
    b"PINGv6": Sort(_V6, _DGRAM, socket.IPPROTO_ICMPV6),
    b"RAW": Sort(_V4, _RAW, 0),
    b"RAWv6": Sort(_V6, _RAW, 0),
}
"""By the name that sockfs tells. Which protocol a raw socket has, only itself does."""
_NEW = RawSocket(State.CLOSE, "", 0, 0)

_TCP_ULP, _UDP_ENCAP = 31, 100
_MSG_PEEK = socket.MSG_PEEK | socket.MSG_DONTWAIT


@record
class Held:
    """One socket. What stands below `file_id` is found by `settle`."""

    d: Descriptor
    file_id: int
    sort: Sort
    state: int = State.CLOSE
    backlog: int = 0
    shutdown: int = 0
    src: Address | None = None
    dst: Address | None = None
    opts: sk_opts.SkOpts | None = None
    ip: dict[str, int] | None = None
    others: inetopts.Asked | None = None
    memberships: list[multicast.Membership] = field(default_factory=list)


def sort_of(d: Descriptor) -> Sort | None:
    """Told by an extended attribute of sockfs, for which nothing is opened."""
    return SORTS.get(proto_name(d))


class InetDump(DumpKind):
    type = FdType.INETSK

    def __init__(self, view: DumpView) -> None:
        super().__init__(view)
        self.held: list[Held] = []
        self._seen: dict[Sort, dict[int, sockdiag.Diag]] = {}
        self._seen_connected = False
        self._sorts: dict[tuple[int, int], Sort | None] = {}
        self._groups: list[multicast.Group] = []
        self._raw: dict[str, dict[int, RawSocket]] = {}
        self._connections = TcpConnections(view.options.network_lock)

    def claims(self, d: Descriptor) -> bool:
        # Kept for what is asked of it next, while its owner stands still.
        self._sorts[d.pid, d.fd] = sort = sort_of(d)
        return sort is not None

    def obstacle(self, d: Descriptor) -> Obstacle | None:
        sort = self._sorts[d.pid, d.fd]
        if sort is None or sort.kind != _STREAM:
            return None
        if sort not in self._seen:
            # Of the time before the freeze: what has changed by then is for `settle` to find.
            self._seen[sort] = sockdiag.look(sort.family, sort.proto)
        seen = self._seen[sort].get(d.ino)
        if seen is None:
            return None
        self._seen_connected |= seen.state in STATES
        return self._judged(seen.state)

    def _judged(self, state: int) -> Obstacle | None:
        options = self.view.options
        if state in (State.CLOSE, State.LISTEN) or options.tcp_close:
            return None
        name = State(state).name.replace("_", "-")
        if state not in (State.SYN_SENT, *STATES):
            return Obstacle(f"a TCP connection ({name}) is not restored yet", "wait a moment")
        if not options.tcp_established:
            return Obstacle(f"it is a TCP connection ({name})", "--tcp-established, or --tcp-close")
        return None

    def before_freeze(self, run_id: str) -> None:
        self._connections.name(run_id)
        if self._seen_connected and not self.view.options.tcp_close:
            self._connections.prepare()

    def let_go(self) -> None:
        self._connections.let_go()

    def before_kill(self) -> None:
        self._connections.silence()

    def after_kill(self) -> Sequence[str]:
        return self._connections.leave_locked()

    def hold(self, d: Descriptor, file_id: int) -> None:
        sort = self._sorts[d.pid, d.fd]
        assert sort is not None, d
        self.held.append(Held(d, file_id, sort))

    def settle(self) -> Iterable[Refusal]:
        datagrams = {h.sort for h in self.held if h.sort.told}
        self._groups = multicast.joined() if self.held else []
        diags = {sort: sockdiag.look(sort.family, sort.proto) for sort in datagrams}
        for held in self.held:
            lfd = self.view.duplicate(held.d)
            if held.sort.kind == _RAW:
                with sk_opts.borrowed(lfd, *held.sort) as sock:
                    proto = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PROTOCOL)
                held.sort = held.sort._replace(proto=proto)
            with sk_opts.borrowed(lfd, *held.sort) as sock:
                try:
                    obstacle = self._look(held, sock, diags.get(held.sort, {}))
                except OSError as error:
                    obstacle = Obstacle(sk_opts.unreadable(error))
            if obstacle:
                yield Refusal(held.d.pid, str(held.d), obstacle.why, obstacle.hint)
        yield from self._settle_connections()

    def _untold(self, sort: Sort) -> dict[int, RawSocket]:
        name = "raw" if sort.kind == _RAW else "icmp"
        name += "6" if sort.family == _V6 else ""
        if name not in self._raw:
            self._raw[name] = parse_raw_sockets(Path("/proc/net", name).read_bytes())
        return self._raw[name]

    def _settle_connections(self) -> Iterator[Refusal]:
        connected = [h for h in self.held if h.sort.kind == _STREAM and h.state in STATES and h.dst]
        lfds = [self.view.duplicate(held.d) for held in connected]
        ends = [Connection(h.src, h.dst) for h in connected if h.src and h.dst]
        self._connections.lock(lfds, ends)
        inodes = [held.d.ino for held in connected]
        read = self._connections.read(list(zip(inodes, lfds, strict=True)))
        for held, (state, obstacle) in zip(connected, read, strict=True):
            held.state = state
            if obstacle:
                yield Refusal(held.d.pid, str(held.d), obstacle.why, obstacle.hint)

    def _look(
        self, held: Held, sock: socket.socket, diags: dict[int, sockdiag.Diag]
    ) -> Obstacle | None:
        found = sockextra.foreign(sock)
        if found:
            return found
        held.opts, held.ip = sk_opts.ask(sock), inetopts.ask_ip(sock)
        held.others = inetopts.ask(sock.fileno(), *held.sort)
        held.src = inetaddr.of_call(sock.getsockname())
        if held.sort.kind != _STREAM:
            held.memberships = multicast.ask(sock, self._groups)
        if held.sort.told:
            return self._look_datagram(held, sock, diags.get(held.d.ino))
        if held.sort.kind == _STREAM:
            return self._look_tcp(held, sock)
        self._look_untold(held, sock, self._untold(held.sort))
        return None

    def _look_datagram(
        self, held: Held, sock: socket.socket, diag: sockdiag.Diag | None
    ) -> Obstacle | None:
        if sock.getsockopt(socket.IPPROTO_UDP, _UDP_ENCAP):
            return Obstacle("a UDP tunnel can't be restored")
        held.dst = _peer(sock)
        held.state = State.ESTABLISHED if held.dst else State.CLOSE
        if diag is None:
            return None
        held.shutdown = diag.shutdown
        if diag.wqueue:
            # What is on its way through a device is counted as well.
            return Obstacle("it holds datagrams that are not sent (UDP_CORK, MSG_MORE)")
        if diag.rqueue:
            self._warn_of_loss(held)
        return None

    def _look_untold(self, held: Held, sock: socket.socket, told: dict[int, RawSocket]) -> None:
        """A raw socket or one of ping, which is listed unless it was never bound. That only sending
        is shut down nobody tells."""
        seen = told.get(held.d.ino, _NEW)
        held.state = State.ESTABLISHED if seen.state == State.ESTABLISHED else State.CLOSE
        if held.state == State.ESTABLISHED:
            held.dst = Address(seen.host, seen.port)
        poll = select.poll()
        poll.register(sock, select.POLLRDHUP)
        events = dict(poll.poll(0)).get(sock.fileno(), 0)
        if events & (select.POLLHUP | select.POLLRDHUP):
            held.shutdown = 3 if events & select.POLLHUP else 1
        if seen.rqueue:
            self._warn_of_loss(held)

    def _warn_of_loss(self, held: Held) -> None:
        self.view.report.warn(
            f"pid {held.d.pid}: {held.d}: datagrams that were not read yet are lost"
        )

    def _look_tcp(self, held: Held, sock: socket.socket) -> Obstacle | None:
        if sock.getsockopt(socket.IPPROTO_TCP, _TCP_ULP, 16):
            return Obstacle("a TCP socket with an upper protocol (TLS) is not restored yet")
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
        held.state = info[0]
        if held.state == State.LISTEN:
            waiting, held.backlog = (int.from_bytes(info[at : at + 4], "little") for at in (24, 28))
            return self._judged_waiting(waiting, held)
        if held.state == State.CLOSE:
            return self._look_closed(held, sock)
        if self.view.options.tcp_close:
            held.state, held.shutdown = State.CLOSE, 3
            held.src = inetaddr.nowhere(held.sort.family)
            return None
        if held.state == State.SYN_SENT:
            return self._judged(held.state) or self._look_opening(held, sock)
        held.dst = _peer(sock)
        return self._judged(held.state)

    def _look_opening(self, held: Held, sock: socket.socket) -> Obstacle | None:
        """A connection that its peer has not answered is begun anew by the restore."""
        assert held.src is not None
        diag = sockdiag.look(held.sort.family, held.sort.proto).get(held.d.ino)
        if diag is None or diag.state != State.SYN_SENT:
            return Obstacle("its connection has changed just now", "try once more")
        if fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)) != bytes(4):
            return Obstacle(
                "it has sent data with a connection that is not open yet (TCP Fast Open)"
            )
        address, port = diag.peer
        host = socket.inet_ntop(held.sort.family, address[: 4 if held.sort.family == _V4 else 16])
        held.dst = Address(host, port, held.src.device)
        return None

    def _judged_waiting(self, waiting: int, held: Held) -> Obstacle | None:
        if not waiting:
            return None
        if self.view.options.skip_in_flight:
            self.view.report.warn(
                f"pid {held.d.pid}: {held.d}: {waiting} connections that nobody accepted are lost"
            )
            return None
        why = f"{waiting} connections wait for accept(2) in it"
        return Obstacle(why, "--skip-in-flight leaves them out")

    def _look_closed(self, held: Held, sock: socket.socket) -> Obstacle | None:
        poll = select.poll()
        poll.register(sock, select.POLLRDHUP)
        events = dict(poll.poll(0)).get(sock.fileno(), 0)
        if events & select.POLLERR:
            return Obstacle("its connection failed, and the error has not been read yet")
        if events & select.POLLRDHUP:
            held.shutdown = 3
            if sock.recv(1, _MSG_PEEK):
                return Obstacle("its connection is over, and data has not been read yet")
        return None

    def entries(self) -> Iterator[Any]:
        for held in self.held:
            assert held.src is not None and held.opts is not None and held.ip is not None
            entry = self.entry(held.file_id)
            message = entry.isk
            message.id, message.ino, message.flags = held.file_id, held.d.ino, held.d.flags
            message.family, message.type, message.proto = held.sort
            message.state, message.backlog = held.state, held.backlog
            dst = held.dst or inetaddr.nowhere(held.sort.family)
            message.src_port, message.dst_port = held.src.port, dst.port
            message.src_addr.extend(held.src.words(held.sort.family))
            message.dst_addr.extend(dst.words(held.sort.family))
            message.fown.CopyFrom(self.view.fown(held.d))
            sk_opts.write(held.opts, message.opts)
            inetopts.write_ip(held.ip, message)
            if held.shutdown:
                message.shutdown = held.shutdown
            if held.src.device or dst.device:
                message.ifname = held.src.device or dst.device
            yield entry

    def images(self) -> dict[str, Sequence[Any]]:
        from ckpt.images.pb.ckpt_inet_pb2 import ckpt_inet_entry

        new = cache(inetopts.of_a_new_one)
        messages = []
        for held in self.held:
            assert held.others is not None
            message = ckpt_inet_entry(id=held.file_id, uid=held.d.uid, gid=held.d.gid)
            was_connected = held.state not in (State.CLOSE, State.LISTEN) or bool(held.shutdown)
            connected = held.sort.kind == _STREAM and was_connected
            for key, value in inetopts.changed(
                held.others.options(), new(*held.sort), connected=connected
            ):
                message.options.add(level=key[0], name=key[1], value=value)
            multicast.write(held.memberships, message)
            messages.append(message)
        return {"ckpt-inet": messages, **self._connections.images()} if messages else {}


def _peer(sock: socket.socket) -> Address | None:
    try:
        return inetaddr.of_call(sock.getpeername())
    except OSError:
        return None  # not connected
