"""Messages in the receive queues of sockets: sk-queues.img.

They are looked at and left where they are (see _native/src/sockets.h), and sent again by the peer
at restore. With SO_PASSCRED each has the pid and ids of its sender: what a process of the tree sent
comes back so, what one outside or a dead one sent comes back without them, with a warning.

Descriptors in flight (SCM_RIGHTS) come with the first byte of what they were sent with; looking at
them makes duplicates of them, which are described as all others are (ckpt.files.inflight).

Not kept: how a stream was split into buffers, an empty message that was already peeked at, and
empty ones at the end of a seqpacket connection that is shut down.

Source: unix(7), socket(7) for SO_PEEK_OFF; CRIU's criu/sk-queue.c for what the image means.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import select
import socket
import struct
import termios
from array import array
from typing import TYPE_CHECKING, Any, NamedTuple

from ckpt._native import check, ffi, lib
from ckpt.errors import ImageError
from ckpt.images.types import message_class

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ckpt.files.restoring import RestoreView

SCM_CREDENTIALS = 2
_UCRED = struct.Struct("=iII")
_LARGEST = 1 << 30
_FIRST_SIZE, _FIRST_NR = 1 << 18, 256
MOST_RIGHTS = 253
"""SCM_MAX_FD of the kernel, in one message."""
_NOBODY = 65534
_FLAGS = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL


class Queued(NamedTuple):
    """One message. `sender`: pid, uid and gid where the socket is told them. `address`: the
    sockaddr that it came from, empty for none. `rights`: what is in flight with it, at a dump
    duplicates of ours, at a restore ids of files.img."""

    data: bytes
    sender: tuple[int, int, int] | None = None
    address: bytes = b""
    rights: tuple[int, ...] = ()


def peek(lfd: int, kind: int) -> list[Queued]:
    """Every message in the queue of a connected socket or one of datagrams; all stay there. The
    duplicates of what is in flight are the caller's.

    Raises OSError; ValueError where looking would change something.
    """
    poll = select.poll()
    poll.register(lfd, select.POLLIN | select.POLLRDHUP)
    ((_, events),) = poll.poll(0) or ((lfd, 0),)
    if not events & select.POLLIN:
        return []
    (wanted,) = struct.unpack("i", fcntl.ioctl(lfd, termios.FIONREAD, b"\0" * 4))
    if events & select.POLLERR and kind != socket.SOCK_STREAM:
        if wanted or kind == socket.SOCK_DGRAM:
            raise ValueError("an error is pending, which would be lost by looking at its data")
        return []
    whole = kind == socket.SOCK_STREAM or (
        kind == socket.SOCK_SEQPACKET and events & select.POLLRDHUP
    )
    if whole and not wanted:
        return []
    size, nr = max(_FIRST_SIZE, 2 * wanted), _FIRST_NR
    while True:
        room = {
            "buffer": ffi.new("uint8_t[]", size),
            "messages": ffi.new("struct ckpt_message[]", nr),
            "rights": ffi.new("int32_t[]", nr + MOST_RIGHTS),
        }
        sizes = {"size": size, "nr": nr, "max_rights": nr + MOST_RIGHTS}
        queue = ffi.new("struct ckpt_queue *", {**room, **sizes, "wanted": wanted if whole else -1})
        count = lib.ckpt_peek_queue(lfd, queue)
        if count != -errno.ENOBUFS or size >= _LARGEST:
            break
        size, nr = size * 8, nr * 8
    rights = iter(list(queue.rights[0 : queue.nr_rights]))
    return [_queued(queue, i, rights) for i in range(check(count, "SO_PEEK_OFF"))]


def _queued(queue: Any, index: int, rights: Iterator[int]) -> Queued:
    message = queue.messages[index]
    sender = (message.pid, message.uid, message.gid) if message.has_cred else None
    if sender is not None and not sender[0] and sender[1] == _NOBODY:
        sender = None  # it was sent before anybody wanted to know
    named = message.address_len if message.address_len > 2 else 0
    return Queued(
        bytes(ffi.buffer(queue.buffer + message.at, message.len)),
        sender,
        bytes(ffi.buffer(message.address, min(named, lib.CKPT_ADDRESS_MAX))),
        tuple(itertools.islice(rights, message.nr_rights)),
    )


class borrowed:
    """A socket object for a descriptor that stays its owner's. Family and type are not asked: its
    methods for options, sendmsg and shutdown need neither."""

    def __init__(self, lfd: int) -> None:
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, lfd)

    def __enter__(self) -> socket.socket:
        return self._sock

    def __exit__(self, *_: object) -> None:
        self._sock.detach()


def messages(file_id: int, queue: list[Queued], flying: Mapping[int, int]) -> list[Any]:
    """sk_packet_entry messages, each with its bytes. `flying`: the entry of each duplicate."""
    entry: Any = message_class("sk_packet.sk_packet_entry")
    made = []
    for queued in queue:
        message = entry(id_for=file_id, length=len(queued.data))
        if queued.sender is not None:
            message.ucred.pid, message.ucred.uid, message.ucred.gid = queued.sender
        if queued.rights:
            message.scm.add(type=socket.SCM_RIGHTS, rights=[flying[lfd] for lfd in queued.rights])
        made.append((message, queued.data))
    return made


def read_queues(view: RestoreView) -> dict[int, list[Queued]]:
    """By the id of the receiving socket. Raises ImageError."""
    found: dict[int, list[Queued]] = {}
    for message, data in view.payloads("sk-queues"):
        where = f"packet for file {message.id_for:#x} of sk-queues.img"
        rights = [right for scm in message.scm for right in scm.rights]
        if any(scm.type != socket.SCM_RIGHTS for scm in message.scm) or len(rights) > MOST_RIGHTS:
            raise ImageError("carries what no packet does", resource=where)
        if len(data) != message.length:
            raise ImageError(f"has {len(data)} bytes, not {message.length}", resource=where)
        c = message.ucred
        sender = (c.pid, c.uid, c.gid) if message.HasField("ucred") else None
        found.setdefault(message.id_for, []).append(Queued(data, sender, b"", tuple(rights)))
    return found


def send_again(
    view: RestoreView,
    lfd: int,
    queue: Sequence[Queued],
    name: str,
    to: bytes | None = None,
    opened: Mapping[int, int] | None = None,
) -> None:
    """Send all of them by the peer of the socket `name`, or by one that is not connected to the
    address `to`. `opened`: our descriptor of each entry that is in flight. Raises OSError where one
    does not fit."""
    lost: set[int] = set()
    with borrowed(lfd) as sock:
        for queued in queue:
            lfds = [(opened or {})[right] for right in queued.rights]
            beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", lfds))] if lfds else []
            sender: list[Any] = []
            if queued.sender is not None:
                sender = [(socket.SOL_SOCKET, SCM_CREDENTIALS, _UCRED.pack(*queued.sender))]
            left = queued.data
            while True:
                try:
                    sent = sock.sendmsg([left], [*beside, *sender], _FLAGS, *([to] if to else []))
                except ProcessLookupError:
                    lost.add(queued.sender[0] if queued.sender else 0)
                    sender = []
                    continue
                left, beside = left[sent:], []
                if not left:
                    break
    for pid in sorted(lost):
        view.report.warn(f"{name}: pid {pid}, which sent what is in flight, is not there any more")


def no_room(error: OSError) -> bool:
    """Whether sending failed for want of room alone."""
    return error.errno in (errno.EAGAIN, errno.ENOBUFS)
