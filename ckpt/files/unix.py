"""UNIX sockets on the way into the images: with names, connections and the data in flight.

A connection is between two sockets, told by inode numbers, and both have to be in the tree; or the
other end is closed, or waits for accept(2), or counts as closed (--unix-close). What sock_diag(7)
and options tell is asked while the target stands. The other side is ckpt.files.unixrestore.

Not kept: the pid that SO_PEERCRED shows where that process is not in the tree (there is a warning).
Refused: a peer outside the tree, data for one that was not accepted, names that lead elsewhere.

Source: unix(7), sock_diag(7), net/unix/af_unix.c; CRIU's criu/sk-unix.c for what the image means.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
import termios
from typing import TYPE_CHECKING, Any, NamedTuple

from ckpt.errors import Refusal
from ckpt.files import sockopts, sockqueue, unixdiag, unixnames
from ckpt.files.descriptor import proto_name
from ckpt.files.kind import DumpKind, FdType, Obstacle
from ckpt.files.sockqueue import Queued, borrowed
from ckpt.files.unixclose import closed_outside
from ckpt.images.types import message_class
from ckpt.procfs.fdinfo import parse_fdinfo

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from ckpt.files.descriptor import Descriptor
    from ckpt.files.dumping import DumpView
    from ckpt.files.unixdiag import UnixInfo
    from ckpt.files.unixnames import Name

_PEERGROUPS = 59
_UCRED = struct.Struct("=iII")
_NO_ID = (1 << 32) - 1
_BOTH = 3
_FOWN = ("uid", "euid", "signum", "pid_type", "pid")
_SK_OPTS = (
    *("so_sndbuf", "so_rcvbuf", "so_snd_tmo_sec", "so_snd_tmo_usec"),
    *("so_rcv_tmo_sec", "so_rcv_tmo_usec"),
)
USK_EXTERN = 1
_KINDS = (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET)


class _Credentials(NamedTuple):
    pid: int
    uid: int
    gid: int
    groups: tuple[int, ...]


class _Socket(NamedTuple):
    """All that is known of one."""

    d: Descriptor
    id: int
    info: UnixInfo
    name: Name | None
    options: dict[str, int]
    credentials: _Credentials | None
    reset: bool
    queue: list[Queued]
    listener: UnixInfo | None

    @property
    def peer(self) -> int:
        """As CRIU has it: that of one that was not accepted yet is the listener."""
        return self.listener.ino if self.listener else self.info.peer or 0


def is_unix(d: Descriptor) -> bool:
    return proto_name(d).startswith(b"UNIX")


class UnixDump(DumpKind):
    type = FdType.UNIXSK

    def __init__(self, view: DumpView) -> None:
        super().__init__(view)
        self._met: dict[int, Descriptor] = {}
        self._any_flying = False
        self._queues: dict[int, list[Queued]] = {}
        self._held: list[tuple[Descriptor, int]] = []
        self._sockets: list[_Socket] = []
        self._outside: dict[int, UnixInfo] = {}

    def claims(self, d: Descriptor) -> bool:
        return is_unix(d)

    def obstacle(self, d: Descriptor) -> Obstacle | None:
        self._any_flying |= bool(_nr_flying(d))
        info = unixdiag.ask([d.ino]).get(d.ino)
        if info is None:
            return Obstacle("it is of another network namespace, which is not restored yet")
        if info.type not in _KINDS:
            return Obstacle(f"a UNIX socket of type {info.type} is not restored yet")
        self._met.setdefault(d.ino, d)
        return None

    def between(self) -> Iterable[Refusal]:
        # A peer that is in flight itself nobody sees while the tree runs.
        told = self._told(self._met) if self._met and not self._any_flying else {}
        waiting = {ino: info for info in told.values() for ino in info.pending}
        outside = self._peers_outside(told)
        for ino, info in told.items():
            if found := _apart(info, told, waiting, outside):
                d = self._met[ino]
                yield Refusal(d.pid, str(d), *found)

    def in_flight(self, d: Descriptor) -> list[int]:
        """Duplicates of what is in flight to this socket, which the view closes; once for each."""
        if d.ino in self._queues or not _nr_flying(d):
            return []
        lfd = self.view.duplicate(d)
        with borrowed(lfd) as sock:
            listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            kind = sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)
        if listens or sockopts.obstacle(lfd):
            return []  # `settle` refuses it
        try:
            queue = sockqueue.peek(lfd, kind)
        except (OSError, ValueError):
            return []  # as above
        self._queues[d.ino] = queue
        return [self.view.keep(right) for queued in queue for right in queued.rights]

    def hold(self, d: Descriptor, file_id: int) -> None:
        self._held.append((d, file_id))

    def settle(self) -> Iterable[Refusal]:
        if not self._held:
            return
        told = self._told([d.ino for d, _ in self._held])
        waiting = {ino: info for info in told.values() for ino in info.pending}
        self._outside = self._peers_outside(told)
        for d, file_id in self._held:
            info = told.get(d.ino)
            if info is None or info.type not in _KINDS:
                continue  # refused already
            try:
                why, hint = _apart(info, told, waiting, self._outside) or ("", "")
                if not why:
                    why = self._settle_one(d, file_id, info, waiting.get(info.ino))
            except (OSError, ValueError) as error:
                why, hint = f"it can't be looked at: {error}", ""
            if why:
                yield Refusal(d.pid, str(d), why, hint)

    def _told(self, inodes: Collection[int]) -> dict[int, UnixInfo]:
        told = unixdiag.ask(inodes)
        return closed_outside(told) if self.view.options.unix_close else told

    def _peers_outside(self, told: dict[int, UnixInfo]) -> dict[int, UnixInfo]:
        """Those with names that a restore may connect to: --ext-unix-sk, --external."""
        options = self.view.options
        wanted = {
            info.peer
            for info in told.values()
            if info.type == socket.SOCK_DGRAM and info.peer and info.peer not in told
        }
        any_of = options.ext_unix_sk
        wanted = {
            ino
            for ino in wanted
            if f"unix[{ino}]" in options.external
            or (any_of is not None and (not any_of or ino in any_of))
        }
        found = unixdiag.ask(wanted) if wanted else {}
        return {ino: info for ino, info in found.items() if info.name[:1] in (b"/", b"\0")}

    def _settle_one(
        self, d: Descriptor, file_id: int, info: UnixInfo, listener: UnixInfo | None
    ) -> str:
        """Remember it, or say why not. `listener`: where it waits to be accepted."""
        lfd = self.view.duplicate(d)
        why = sockopts.obstacle(lfd)
        if why:
            return why
        if listener and _unread(lfd):
            return "a UNIX socket with data for one that nobody has accepted is not restored yet"
        name = unixnames.find(lfd, info.name) if info.name else None
        connected = info.peer is not None or info.type == socket.SOCK_DGRAM
        queue = self._queues.get(d.ino)
        if queue is None:
            queue = sockqueue.peek(lfd, info.type) if connected else []
            if [self.view.keep(right) for queued in queue for right in queued.rights]:
                return "descriptors were sent to it just now; try once more"
        if queue and info.peer is None and name is None:
            return "it is not connected, but data is in flight to it; not restored yet"
        shows = info.type != socket.SOCK_DGRAM or info.peer is not None
        credentials = _credentials(lfd) if shows else None
        if credentials and credentials.pid not in self.view.pidfds:
            self.view.report.warn(
                f"pid {d.pid}: {d}: its peer shows as pid {credentials.pid}, which is not in the "
                f"tree: after a restore it will show as another (SO_PEERCRED)"
            )
        self._sockets.append(
            _Socket(
                *(d, file_id, info, name, sockopts.look(lfd), credentials),
                info.peer == 0 and _has_error(lfd),
                queue,
                listener,
            )
        )
        return ""

    def entries(self) -> Iterator[Any]:
        opts: Any = message_class("sk_opts.sk_opts_entry")
        for s in self._sockets:
            entry = self.entry(s.id)
            usk = entry.usk
            usk.id, usk.ino, usk.type, usk.state = s.id, s.info.ino, s.info.type, s.info.state
            usk.flags, usk.uflags, usk.peer, usk.name = s.d.flags, 0, s.peer, b""
            usk.backlog = s.info.backlog if s.info.state == unixdiag.LISTEN else 0
            if s.name:
                unixnames.write(s.name, usk)
            if s.info.shutdown:
                usk.shutdown = s.info.shutdown
            usk.fown.CopyFrom(self.view.fown(s.d))
            usk.opts.CopyFrom(opts(**s.options))
            yield entry
        for info in self._outside.values():
            # As CRIU has them: an entry that no descriptor refers to.
            entry = self.entry(self.view.next_id())
            usk = entry.usk
            usk.id, usk.ino, usk.type, usk.state = entry.id, info.ino, info.type, unixdiag.LISTEN
            usk.flags, usk.uflags, usk.backlog, usk.peer = 0, USK_EXTERN, 0, 0
            usk.name = info.name
            usk.fown.CopyFrom(message_class("fown.fown_entry")(**dict.fromkeys(_FOWN, 0)))
            usk.opts.CopyFrom(opts(**dict.fromkeys(_SK_OPTS, 0)))
            yield entry

    def images(self) -> dict[str, Sequence[Any]]:
        own: Any = message_class("ckpt_unix.ckpt_unix_entry")
        ours = []
        for s in self._sockets:
            message = own(id=s.id)
            if s.credentials is not None:
                c = s.credentials
                message.pid, message.uid, message.gid = c.pid, c.uid, c.gid
                message.groups.extend(c.groups)
            if s.info.peer == 0 and not s.listener:
                message.reset = s.reset
            if s.listener:
                message.place = s.listener.pending.index(s.info.ino)
            if s.info.type == socket.SOCK_DGRAM and any(q.address for q in s.queue):
                message.senders.extend(q.address for q in s.queue)
            if s.name and s.name.moved:
                message.moved = os.fsencode(s.name.moved)
            if message.ListFields()[1:]:
                ours.append(message)
        flying = self.view.flying
        queues = [m for s in self._sockets for m in sockqueue.messages(s.id, s.queue, flying)]
        found = {"ckpt-unix": ours, "sk-queues": queues}
        return {name: messages for name, messages in found.items() if messages}


def _apart(
    info: UnixInfo,
    told: dict[int, UnixInfo],
    waiting: dict[int, UnixInfo],
    outside: dict[int, UnixInfo],
) -> tuple[str, str] | None:
    """Why others stand in the way, and what would help."""
    strangers = [ino for ino in info.pending if ino not in told]
    if strangers:
        why = f"a UNIX socket at which connections from outside the tree ({len(strangers)}) wait"
        return f"{why} to be accepted", "dump it when they were, or --unix-close"
    if info.peer is None:
        return None
    if info.peer == 0:
        if info.type == socket.SOCK_DGRAM or info.shutdown == _BOTH or info.ino in waiting:
            return None
        return (
            "a UNIX socket whose connection nobody has accepted is not restored yet",
            "dump it when somebody has, or --unix-close",
        )
    if info.peer in outside:
        return None
    other = told.get(info.peer)
    if other is None:
        datagrams = info.type == socket.SOCK_DGRAM
        return (
            f"a UNIX socket whose peer, socket:[{info.peer}], is outside the tree",
            f"--external 'unix[{info.peer}]' or --ext-unix-sk"
            if datagrams
            else "dump a tree that holds both, or --unix-close",
        )
    if other.peer != info.ino and not other.name:
        return "it is connected to a nameless socket that is not to it; not restored yet", ""
    return None


def _nr_flying(d: Descriptor) -> int:
    """How many descriptors are in flight to it."""
    told = parse_fdinfo(d.info).values("scm_fds") if b"scm_fds" in d.info else []
    return int(told[0]) if told else 0


def _unread(lfd: int) -> int:
    """Bytes that it has sent and nobody has read (SIOCOUTQ)."""
    (waiting,) = struct.unpack("i", fcntl.ioctl(lfd, termios.TIOCOUTQ, b"\0" * 4))
    return int(waiting)


def _credentials(lfd: int) -> _Credentials | None:
    """Of the peer, as the kernel shows them; None where it has none."""
    with borrowed(lfd) as sock:
        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        pid, uid, gid = _UCRED.unpack(raw)
        if not pid or uid == _NO_ID:
            return None
        try:
            groups = sock.getsockopt(socket.SOL_SOCKET, _PEERGROUPS, 1024)
        except OSError:
            groups = b""
    return _Credentials(pid, uid, gid, struct.unpack(f"={len(groups) // 4}I", groups))


def _has_error(lfd: int) -> bool:
    """Told by poll(2): reading SO_ERROR would take it away."""
    poll = select.poll()
    poll.register(lfd, 0)
    return any(events & select.POLLERR for _, events in poll.poll(0))
