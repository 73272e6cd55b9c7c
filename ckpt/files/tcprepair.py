"""The state of a TCP connection: out of a socket, and into a new one, by TCP_REPAIR.

`read` puts a socket into repair mode and out of it again before it returns; a guard
(ckpt.files.tcpguard) does the latter where this process dies in between. Nothing must arrive
meanwhile: the network is locked, and the target stands.

`build` makes a connection of a new socket, which stays in repair mode: closed in it, a socket
vanishes without a packet. `go_on` is the point of no return.

Sequence numbers: a queue's is that behind its last byte. A FIN that was received or sent counts as
one, but is in no queue, and is made anew: that of ours by shutdown(2), that of the peer by a packet
from ourselves in its name. Data that was never sent goes in behind the rest as ordinary data.

Not kept: round-trip times and congestion state, urgent data, keepalive timers' remains.

Source: tcp(7), tcp_repair in net/ipv4/tcp.c; libsoccr of CRIU for the order of steps.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
import termios
from typing import TYPE_CHECKING, Any

from ckpt.errors import ImageError
from ckpt.record import record

if TYPE_CHECKING:
    from ckpt.files.inetaddr import Address

_TCP = socket.IPPROTO_TCP
_REPAIR, _QUEUE, _QUEUE_SEQ, _OPTIONS, _TIMESTAMP, _WINDOW = 19, 20, 21, 22, 24, 29
_NO_QUEUE, _RECEIVED, _SENT = 0, 1, 2
_ON, _OFF, _OFF_QUIETLY = 1, 0, -1
_SIOCOUTQ, _SIOCOUTQNSD = termios.TIOCOUTQ, 0x894B
_SNDBUFFORCE, _RCVBUFFORCE = 32, 33
_MSS, _WSCALE, _SACK, _TIMESTAMPS = 2, 3, 4, 8
_OPT_TIMESTAMPS, _OPT_SACK, _OPT_WSCALE = 1, 2, 4
_WINDOW_FIELDS = ("snd_wl1", "snd_wnd", "max_window", "rcv_wnd", "rcv_wup")
_WINDOW_FORM = struct.Struct("=5I")
_LARGEST = 1 << 30
_PIECE = 1 << 16

FIN_SENT = frozenset({4, 5, 9, 11})
"""FIN_WAIT1, FIN_WAIT2, LAST_ACK, CLOSING."""
FIN_WAITING = frozenset({4, 9, 11})
"""Of these, those whose FIN has not been acknowledged: it is in the count of the send queue."""
FIN_RECEIVED = frozenset({8, 9, 11})
"""CLOSE_WAIT, LAST_ACK, CLOSING."""
STATES = frozenset({1, *FIN_SENT, *FIN_RECEIVED})
"""What can be read and built."""


@record
class Stream:
    """A connection as read: fields of tcp_stream_entry, and its queues."""

    fields: dict[str, int]
    received: bytes
    sent: bytes

    def message(self) -> tuple[Any, bytes]:
        """The entry with its payload."""
        from ckpt.images.pb.tcp_stream_pb2 import tcp_stream_entry

        lengths = {"inq_len": len(self.received), "outq_len": len(self.sent)}
        entry: Any = tcp_stream_entry
        return entry(**self.fields, **lengths), self.received + self.sent


def _count(lfd: int, request: int) -> int:
    return int(struct.unpack("i", fcntl.ioctl(lfd, request, b"\0" * 4))[0])


def repair(sock: socket.socket, mode: int) -> None:
    sock.setsockopt(_TCP, _REPAIR, mode)


def repair_off_quietly(lfd: int) -> None:
    """As if repair mode had never been: no packet is sent. `lfd` stays the caller's."""
    sock = socket.socket(fileno=lfd)
    try:
        repair(sock, _OFF_QUIETLY)
    finally:
        sock.detach()


def repair_on(lfd: int) -> None:
    """From now on closing it sends nothing. `lfd` stays the caller's."""
    sock = socket.socket(fileno=lfd)
    try:
        repair(sock, _ON)
    finally:
        sock.detach()


def read(sock: socket.socket, state: int) -> Stream:
    """Of a socket in one of STATES. Raises OSError; ValueError if a queue can't be copied."""
    repair(sock, _ON)
    try:
        return _read(sock, state)
    finally:
        sock.setsockopt(_TCP, _QUEUE, _NO_QUEUE)
        repair(sock, _OFF_QUIETLY)


def _read(sock: socket.socket, state: int) -> Stream:
    lfd = sock.fileno()
    info = sock.getsockopt(_TCP, socket.TCP_INFO, 8)
    fin = int(state in FIN_WAITING)
    nr_out = max(_count(lfd, _SIOCOUTQ) - fin, 0)
    nr_unsent = max(_count(lfd, _SIOCOUTQNSD) - fin, 0)
    fields = {
        "opt_mask": info[5],
        "snd_wscale": info[6] & 0xF if info[5] & _OPT_WSCALE else 0,
        "rcv_wscale": info[6] >> 4 if info[5] & _OPT_WSCALE else 0,
        "mss_clamp": sock.getsockopt(_TCP, socket.TCP_MAXSEG),
        "timestamp": sock.getsockopt(_TCP, _TIMESTAMP) & 0xFFFFFFFF,
        "cork": sock.getsockopt(_TCP, socket.TCP_CORK),
        "nodelay": sock.getsockopt(_TCP, socket.TCP_NODELAY),
        "unsq_len": min(nr_unsent, nr_out),
    }
    window = _WINDOW_FORM.unpack(sock.getsockopt(_TCP, _WINDOW, _WINDOW_FORM.size))
    fields.update(zip(_WINDOW_FIELDS, window, strict=True))
    fields["inq_seq"], received = _read_queue(sock, _RECEIVED, _count(lfd, termios.FIONREAD))
    fields["outq_seq"], sent = _read_queue(sock, _SENT, nr_out)
    return Stream(fields, received, sent)


def _read_queue(sock: socket.socket, queue: int, size: int) -> tuple[int, bytes]:
    sock.setsockopt(_TCP, _QUEUE, queue)
    end = sock.getsockopt(_TCP, _QUEUE_SEQ) & 0xFFFFFFFF
    if not size:
        return end, b""
    data = sock.recv(size, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    if len(data) != size:
        raise ValueError(f"{len(data)} of {size} bytes of a queue can be read")
    return end, data


def check(message: Any, payload: bytes, where: str) -> None:
    """Raise ImageError for what no connection has."""
    if message.inq_len + message.outq_len != len(payload) or len(payload) > _LARGEST:
        raise ImageError("has queues of another length", resource=where)
    if message.unsq_len > message.outq_len:
        raise ImageError("has more that is not sent than it has to send", resource=where)
    if max(message.snd_wscale, message.rcv_wscale) > 14 or not 0 < message.mss_clamp < 65536:
        raise ImageError("has a window or segment size that none has", resource=where)


def build(
    sock: socket.socket, state: int, message: Any, payload: bytes, ends: tuple[Any, Any]
) -> None:
    """Make a connection of a new socket, which is in repair mode. Raises OSError.

    `ends`: for bind and connect.
    """
    fins = int(state in FIN_RECEIVED), int(state in FIN_SENT)
    starts = (
        (_RECEIVED, message.inq_seq - message.inq_len - fins[0]),
        (_SENT, message.outq_seq - message.outq_len - fins[1]),
    )
    for queue, start in starts:
        sock.setsockopt(_TCP, _QUEUE, queue)
        sock.setsockopt(_TCP, _QUEUE_SEQ, struct.pack("=I", start & 0xFFFFFFFF))
    sock.setsockopt(_TCP, _QUEUE, _NO_QUEUE)
    sock.bind(ends[0])
    sock.connect(ends[1])
    sock.setsockopt(_TCP, _OPTIONS, _options(message))
    if message.opt_mask & _OPT_TIMESTAMPS:
        sock.setsockopt(_TCP, _TIMESTAMP, struct.pack("=I", message.timestamp))
    received = payload[: message.inq_len]
    sent = payload[message.inq_len : len(payload) - message.unsq_len]
    _fill(sock, _RECEIVED, _RCVBUFFORCE, received)
    _fill(sock, _SENT, _SNDBUFFORCE, sent)
    sock.setsockopt(_TCP, _QUEUE, _NO_QUEUE)
    if message.HasField("snd_wnd"):
        window = [getattr(message, field) for field in _WINDOW_FIELDS]
        if fins[0]:
            window[3] += 1
            window[4] -= 1
        packed = _WINDOW_FORM.pack(*(value & 0xFFFFFFFF for value in window))
        sock.setsockopt(_TCP, _WINDOW, packed)


def _options(message: Any) -> bytes:
    pairs = [(_MSS, message.mss_clamp)]
    if message.opt_mask & _OPT_SACK:
        pairs.append((_SACK, 0))
    if message.opt_mask & _OPT_WSCALE:
        pairs.append((_WSCALE, message.snd_wscale | message.rcv_wscale << 16))
    if message.opt_mask & _OPT_TIMESTAMPS:
        pairs.append((_TIMESTAMPS, 0))
    return b"".join(struct.pack("=II", *pair) for pair in pairs)


def _fill(sock: socket.socket, queue: int, room: int, data: bytes) -> None:
    if not data:
        return
    # What the kernel counts for data depends on how it came: the size is put right by `go_on`.
    sock.setsockopt(socket.SOL_SOCKET, room, min(4 * len(data) + (1 << 20), _LARGEST))
    sock.setsockopt(_TCP, _QUEUE, queue)
    left = memoryview(data)
    while left:
        left = left[sock.send(left[:_PIECE], socket.MSG_DONTWAIT) :]


def go_on(sock: socket.socket, state: int, message: Any, payload: bytes) -> None:
    """Let it loose: what was not sent yet, our FIN, what the target chose. The network is open."""
    repair(sock, _OFF)
    unsent = memoryview(payload)[len(payload) - message.unsq_len :]
    if unsent:
        room = min(4 * message.outq_len + (1 << 20), _LARGEST)
        sock.setsockopt(socket.SOL_SOCKET, _SNDBUFFORCE, room)
    while unsent:
        unsent = unsent[sock.send(unsent[:_PIECE], socket.MSG_DONTWAIT) :]
    if state in FIN_SENT:
        sock.shutdown(socket.SHUT_WR)
    for field, name in (("nodelay", socket.TCP_NODELAY), ("cork", socket.TCP_CORK)):
        if message.HasField(field):
            sock.setsockopt(_TCP, name, getattr(message, field))


def send_fin(message: Any, src: Address, dst: Address, mark: int) -> None:
    """The FIN of the peer `dst`, sent by us in its name to our own `src`. Raises OSError."""
    mapped = "::ffff:"
    here, there = src.host.removeprefix(mapped), dst.host.removeprefix(mapped)
    family = socket.AF_INET if "." in here else socket.AF_INET6
    ours, theirs = (socket.inet_pton(family, host) for host in (here, there))
    seq = message.inq_seq - 1 & 0xFFFFFFFF
    ack = message.outq_seq - message.outq_len & 0xFFFFFFFF
    window = min(message.snd_wnd >> message.snd_wscale, 0xFFFF)
    head = [dst.port, src.port, seq, ack, 5 << 4, 0x11, window, 0, 0]
    pseudo = theirs + ours + struct.pack(">II", 20, _TCP)
    head[7] = _checksum(pseudo + struct.pack(">HHIIBBHHH", *head))
    segment = struct.pack(">HHIIBBHHH", *head)
    with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        if family == socket.AF_INET:
            ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 40, 0, 0, 64, _TCP, 0, theirs, ours)
            raw.sendto(ip + segment, (here, 0))
        else:
            ip = struct.pack(">IHBB16s16s", 6 << 28, 20, _TCP, 64, theirs, ours)
            raw.sendto(ip + segment, (here, 0))


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def why(error: OSError) -> str:
    """Why TCP_REPAIR failed."""
    if error.errno == errno.EPERM:
        return "TCP_REPAIR needs CAP_NET_ADMIN"
    return os.strerror(error.errno or 0)
