"""Packet sockets: protocol and interface, memberships, options, fanout groups.

Packets that wait to be read are lost, as packets may be at any time; a warning says so. Those in a
ring (PACKET_RX_RING) are kept, see ckpt.files.packetring, but for what a program has in a block
that it has given back. Counts (PACKET_STATISTICS) begin anew. Refused: rings for sending
(PACKET_TX_RING), of which nothing tells where the kernel is; fanout groups that choose by a
program; eBPF filters; SOCK_PACKET.

They are bound last, so that no packet of a time before the tree is complete arrives. An interface
is found again by its name where the set tells it, else by its number.

Source: packet(7), sock_diag(7), include/uapi/linux/packet_diag.h, net/packet/af_packet.c.
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from ckpt.errors import ImageError
from ckpt.files import netmessage, packetfill, packetring, sk_opts, sockdiag, sockextra
from ckpt.files.kind import FdType, Obstacle, RestoreKind
from ckpt.files.packetring import Place, Ring
from ckpt.files.sockextra import FamilyDump

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ckpt.files.descriptor import Descriptor
    from ckpt.files.dumping import DumpView
    from ckpt.files.restoring import RestoreView

IMAGE = "ckpt-packet"
_SOL = 263
OPTIONS = {socket.SOL_SOCKET: sockextra.COMMON, _SOL: (19, 20, 23, 24)}
"""TX_HAS_OFF, QDISC_BYPASS, IGNORE_OUTGOING, VNET_HDR_SZ: those that packet_sock_entry has not."""
_FLAGS = {"aux_data": (8, 2), "orig_dev": (9, 4), "vnet_hdr": (15, 8), "loss": (14, 16)}
"""The option, and its bit in a packet_diag_info."""
_NUMBERS = {"version": 10, "reserve": 12, "timestamp": 17}
_COPY_THRESH = 7
_ADD_MEMBERSHIP, _FANOUT = 1, 18
NO_FANOUT = (1 << 32) - 1
_BY_PROGRAM = (6, 7)
_KINDS = (socket.SOCK_RAW, socket.SOCK_DGRAM)
_SHOW = 1 | 2 | 4 | 8 | 16
_QUERY = struct.Struct("=BBHIIII")
_ANSWER = struct.Struct("=BBHI8x")
_INFO = struct.Struct("=6I")
_MEMBER = struct.Struct("=IIHH32s")
_MREQ = struct.Struct("=IHH32s")
_A_INFO, _A_MEMBERS, _A_RX, _A_TX, _A_FANOUT, _A_MEMINFO = 0, 1, 2, 3, 4, 6
_GONE = NO_FANOUT
_MOST_MEMBERS = 4096
_HINTS = {
    errno.ENODEV: "its interface must be there",
    errno.EPERM: "ckpt restore needs CAP_NET_RAW for it",
    errno.ENETDOWN: "ckpt restore needs the loopback interface for it, which is down",
    errno.EINVAL: "a fanout group of this number may be there already, of another kind",
}


class Diag(NamedTuple):
    """Of one packet socket. `protocol` in host order. `members`: interface, type and address, as
    often as it was joined. `ring`: that for receiving; `sends`: there is one for sending."""

    kind: int
    protocol: int
    info: dict[str, int]
    members: list[tuple[int, int, bytes]]
    ring: Ring | None
    sends: bool
    fanout: int
    unread: int


class Held(NamedTuple):
    """One socket, asked."""

    d: Descriptor
    id: int
    diag: Diag
    device: str
    opts: sk_opts.SkOpts
    options: sockextra.Options
    place: Place | None


def look() -> dict[int, Diag]:
    """All of our network namespace by inode. Raises KernelError."""
    found = {}
    for body in sockdiag.dump(_QUERY.pack(socket.AF_PACKET, 0, 0, 0, _SHOW, 0, 0)):
        _, kind, protocol, ino = _ANSWER.unpack_from(body)
        told = netmessage.attributes(body, _ANSWER.size)
        index, version, reserve, copy_thresh, timestamp, flags = _INFO.unpack_from(told[_A_INFO])
        info = {name: int(bool(flags & bit)) for name, (_, bit) in _FLAGS.items()}
        info |= {"ifindex": index, "version": version, "reserve": reserve}
        info |= {"copy_thresh": copy_thresh, "timestamp": timestamp}
        members = [
            (member, sort, address[:length])
            for member, count, sort, length, address in _MEMBER.iter_unpack(told[_A_MEMBERS])
            for _ in range(count)
        ]
        (fanout,) = struct.unpack("=I", told.get(_A_FANOUT, b"\xff" * 4))
        (unread,) = struct.unpack_from("=I", told.get(_A_MEMINFO, bytes(4)))
        ring = Ring(version, *packetring.PARAMS.unpack_from(told[_A_RX])) if _A_RX in told else None
        sends = _A_TX in told
        found[ino] = Diag(kind, protocol, info, members, ring, sends, fanout, unread)
    return found


class PacketDump(FamilyDump[Diag]):
    type = FdType.PACKETSK
    family = socket.AF_PACKET
    protocol = b"PACKET"

    def __init__(self, view: DumpView) -> None:
        super().__init__(view)
        self._held: list[Held] = []

    def look(self) -> dict[int, Diag]:
        return look()

    def judged(self, diag: Diag | None) -> Obstacle | None:
        return _judged(diag)

    def ask(
        self, d: Descriptor, file_id: int, sock: socket.socket, diag: Diag | None
    ) -> Obstacle | None:
        obstacle = _judged(diag)
        if diag is None or obstacle is not None:
            return obstacle
        if diag.unread:
            self.view.report.warn(f"pid {d.pid}: {d}: packets that were not read yet are lost")
        place = packetring.look(sock.fileno(), diag.ring) if diag.ring else None
        if diag.ring and place is None:
            why = (
                "it can't be told at which place of its ring the kernel is: the clock was set back"
            )
            return Obstacle(why, "dump it when as many packets have come as the ring has room for")
        if place and place.lost:
            self.view.report.warn(
                f"pid {d.pid}: {d}: {place.lost} packets that were not handed over yet are lost"
            )
        index = diag.info["ifindex"]
        device = socket.if_indextoname(index) if index else ""
        options = sockextra.ask(sock, OPTIONS)
        self._held.append(Held(d, file_id, diag, device, sk_opts.ask(sock), options, place))
        return None

    def ring_of(self, ino: int, size: int) -> int:
        """The entry of the socket whose ring a mapping of `size` bytes shows; 0: of none that is
        mapped so."""
        held = (h for h in self._held if h.d.ino == ino and h.diag.ring)
        return next((h.id for h in held if h.diag.ring and h.diag.ring.size == size), 0)

    def entries(self) -> Iterator[Any]:
        for held in self._held:
            entry, diag = self.entry(held.id), held.diag
            made = entry.psk
            sockextra.fill(self.view, held.d, held.id, made, held.opts)
            made.type, made.protocol = diag.kind, socket.htons(diag.protocol)
            for name, value in diag.info.items():
                setattr(made, name, value)
            for index, sort, address in diag.members:
                made.mclist.add(index=index, type=sort, addr=address)
            if diag.fanout != NO_FANOUT:
                made.fanout = diag.fanout
            if diag.ring is not None:
                for name, value in zip(packetring.FIELDS, diag.ring[1:], strict=True):
                    setattr(made.rx_ring, name, value)
            yield entry

    def images(self) -> dict[str, Sequence[Any]]:
        if not self._held:
            return {}
        new: dict[int, sockextra.Options] = {}
        for kind in {held.diag.kind for held in self._held}:
            with socket.socket(socket.AF_PACKET, kind, 0) as sock:
                new[kind] = sockextra.ask(sock, OPTIONS)
        ours = []
        for held in self._held:
            fields = {"device": held.device} if held.device else {}
            one_new = new[held.diag.kind]
            ours.append(sockextra.message(held.d, held.id, held.options, one_new, **fields))
        found: dict[str, Sequence[Any]] = {IMAGE: ours}
        rings = [packetring.messages(h.id, h.place) for h in self._held if h.place]
        if rings:
            found[packetring.RING_IMAGE] = [head for head, _ in rings]
            found[packetring.KEPT_IMAGE] = [slot for _, slots in rings for slot in slots]
        return found


def _judged(diag: Diag | None) -> Obstacle | None:
    if diag is None:
        return Obstacle("it is of another network namespace, which is not restored yet")
    if diag.kind not in _KINDS:
        return Obstacle(f"a packet socket of type {diag.kind} is not restored yet")
    if diag.sends:
        return Obstacle(
            "a packet socket with a ring for sending (PACKET_TX_RING) can't be restored"
        )
    if diag.ring and (fault := diag.ring.fault()):
        return Obstacle(f"a packet socket with a ring {fault} can't be restored")
    if diag.fanout != NO_FANOUT and diag.fanout >> 16 & 0xFF in _BY_PROGRAM:
        return Obstacle("a packet socket whose fanout group chooses by a program can't be restored")
    if diag.info["ifindex"] == _GONE:
        return Obstacle("a packet socket whose interface is gone can't be restored")
    return None


class PacketRestore(RestoreKind):
    type = FdType.PACKETSK
    field = "psk"

    def __init__(self, view: RestoreView) -> None:
        super().__init__(view)
        self._sockets: dict[int, sockextra.Extra] = {}
        self._ours: dict[int, Any] = {}
        self._rings: dict[int, Ring] = {}
        self._saved: dict[int, packetfill.Saved] = {}

    def take(self, file_id: int, message: Any) -> None:
        where = f"packet socket {file_id:#x} of files.img"
        if message.type not in _KINDS or message.protocol > 0xFFFF:
            raise ImageError(f"has type {message.type}, which is not restored yet", resource=where)
        if message.HasField("tx_ring"):
            raise ImageError("has a ring for sending, which can't be restored", resource=where)
        if message.HasField("rx_ring"):
            sizes = (getattr(message.rx_ring, name) for name in packetring.FIELDS)
            ring = self._rings[file_id] = Ring(message.version, *sizes)
            if fault := ring.fault():
                raise ImageError(f"has a ring {fault}", resource=where)
        if len(message.mclist) > _MOST_MEMBERS or any(len(m.addr) > 32 for m in message.mclist):
            raise ImageError("has memberships that no socket has", resource=where)
        if any(m.type > 3 or m.index >= 1 << 31 for m in message.mclist):
            raise ImageError("has memberships that no socket has", resource=where)
        if message.ifindex >= 1 << 31 or any(
            getattr(message, name) >= 1 << 31 for name in (*_NUMBERS, "copy_thresh")
        ):
            raise ImageError("has a number that no socket has", resource=where)
        self._sockets[file_id] = sockextra.taken(self.view, message, where)

    def prepare(self, wanted: Iterable[int]) -> None:
        del wanted
        self._ours = sockextra.read(self.view, IMAGE, self._sockets, OPTIONS)
        self._saved = packetfill.read(self.view, self._rings)
        for own in self._ours.values():
            if len(own.device.encode()) > 15 or "\0" in own.device:
                where = f"socket {own.id:#x} of {IMAGE}.img"
                raise ImageError("is bound to what can't be an interface", resource=where)

    def text(self, file_id: int) -> str:
        m, own = self._sockets[file_id].message, self._ours.get(file_id)
        device = own.device if own is not None else ""
        bound = f" bound to {device or f'interface {m.ifindex}'}" if m.ifindex else ""
        ring = f" with a ring of {self._rings[file_id].nr}" if file_id in self._rings else ""
        return f"make packet socket of protocol {socket.ntohs(m.protocol):#06x}{bound}{ring}"

    def ring_lfd(self, file_id: int, size: int) -> int:
        """Our descriptor of a socket whose ring has this size, to be mapped. Raises ImageError."""
        ring, lfd = self._rings.get(file_id), self.view.lfds.get(file_id)
        if ring is None or lfd is None or ring.size != size:
            where = f"packet socket {file_id:#x} of files.img"
            raise ImageError("is mapped, and has no such ring", resource=where)
        return lfd

    def open(self, file_id: int) -> int:
        one = self._sockets[file_id]
        m = one.message
        try:
            with socket.socket(socket.AF_PACKET, m.type, 0) as sock:
                for name, (option, _) in _FLAGS.items():
                    if getattr(m, name):
                        sock.setsockopt(_SOL, option, 1)
                for name, option in _NUMBERS.items():
                    sock.setsockopt(_SOL, option, getattr(m, name))
                if file_id in self._rings:
                    packetfill.make(sock, self._rings[file_id], self._saved[file_id])
                sock.setsockopt(_SOL, _COPY_THRESH, m.copy_thresh)
                sockextra.dress(self.view, sock, one, self._ours.get(file_id))
                return sock.detach()
        except OSError as error:
            raise sockextra.failed(self.text(file_id), error, _HINTS) from error

    def finish(self, file_id: int, lfd: int) -> None:
        m = self._sockets[file_id].message
        with sk_opts.borrowed(lfd, socket.AF_PACKET, m.type, 0) as sock:
            try:
                self._bind(file_id, m, sock)
            except OSError as error:
                raise sockextra.failed(self.text(file_id), error, _HINTS) from error

    def _bind(self, file_id: int, m: Any, sock: socket.socket) -> None:
        own = self._ours.get(file_id)
        device = own.device if own is not None and own.device else ""
        if m.ifindex and not device:
            device = socket.if_indextoname(m.ifindex)
        index = socket.if_nametoindex(device) if device else 0
        for member in m.mclist:
            at = index if member.index == m.ifindex else member.index
            mreq = _MREQ.pack(at, member.type, len(member.addr), bytes(member.addr))
            sock.setsockopt(_SOL, _ADD_MEMBERSHIP, mreq)
        if m.protocol or m.ifindex:
            packetfill.bind(sock.fileno(), index, m.protocol)
        if m.HasField("fanout") and m.fanout != NO_FANOUT:
            sock.setsockopt(_SOL, _FANOUT, struct.pack("=I", m.fanout))
