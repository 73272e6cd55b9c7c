"""What is on its way through a pipe or FIFO: copied out on dump, put in on restore.

Data is copied by tee(2) into a pipe of ours, never consumed. What was written in packet mode
(O_DIRECT) keeps its borders: a read ends with a packet, and what it leaves of one is dropped. Our
copy does the same, so a read of one byte tells how long the packet is that it was of. Bytes that
were written before the mode was changed stand before a packet, and are read together with it.

Source: pipe(2), tee(2), fs/pipe.c (PIPE_BUF_FLAG_PACKET); CRIU's criu/pipes.c for the images.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
import termios
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from ckpt._native import check, lib
from ckpt.errors import ImageError, Refusal, RestoreError
from ckpt.images.types import message_class
from ckpt.record import field, record

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from ckpt.files.descriptor import Descriptor
    from ckpt.files.restoring import RestoreView

DEFAULT_SIZE = 65536
_LARGEST = 1 << 31
_PAGE = 4096


@record
class Contents:
    """What is in one pipe. `borders`: lengths, in turn, of what is in no packet and of a packet.
    `inside` is False when its other end is held outside the tree."""

    size: int = 0
    data: bytes = b""
    borders: list[int] = field(default_factory=list)
    inside: bool = True


def peek(lfd: int, to: tuple[int, int], *, packets: bool) -> Contents:
    """All bytes in the pipe behind `lfd`, which must be open for reading, by way of pipe `to`,
    which is empty before and after. `packets`: there may be some.

    Raises OSError; ValueError if not all of it fits into `to`.
    """
    size, waiting = fcntl.fcntl(lfd, fcntl.F_GETPIPE_SZ), nr_waiting(lfd)
    if not waiting:
        return Contents(size)
    if fcntl.fcntl(to[1], fcntl.F_GETPIPE_SZ) < size:
        fcntl.fcntl(to[1], fcntl.F_SETPIPE_SZ, size)
    pieces = []
    left = _copied(lfd, to, waiting)
    while left:
        pieces.append(os.read(to[0], left))
        left -= len(pieces[-1])
    borders: list[int] = []
    if packets or len(pieces) > 1:
        _copied(lfd, to, waiting)
        for piece in pieces:
            borders += _inside(to[0], len(piece), last=piece is pieces[-1])
    return Contents(size, b"".join(pieces), borders if any(borders[1::2]) else [])


def nr_waiting(lfd: int) -> int:
    """How many bytes are in the pipe behind a descriptor. Raises OSError."""
    return int(struct.unpack("i", fcntl.ioctl(lfd, termios.FIONREAD, b"\0" * 4))[0])


def _copied(lfd: int, to: tuple[int, int], waiting: int) -> int:
    copied = check(lib.ckpt_tee(lfd, to[1], waiting), "tee")
    if copied != waiting:
        os.read(to[0], copied)
        raise ValueError(f"{copied} of {waiting} bytes could be copied")
    return copied


def _inside(lfd: int, length: int, *, last: bool) -> tuple[int, int]:
    """Drop what one read would give; how much of it is in no packet, and in one. The end of a read
    is the end of a packet, but for the last read."""
    left, start = length, nr_waiting(lfd)
    while left:
        os.read(lfd, 1)
        dropped = start - nr_waiting(lfd)
        if dropped > 1 or (left == 1 and (length == 1 or not last)):
            return length - left, dropped
        left -= dropped
        start -= dropped
    return length, 0


@record
class Ends:
    """The descriptions of one pipe with their ids."""

    held: list[tuple[Descriptor, int]] = field(default_factory=list)
    contents: Contents = field(default_factory=Contents)

    def end(self, without: int) -> Descriptor | None:
        """One that is not opened with access mode `without`."""
        return next((d for d, _ in self.held if d.accmode != without), None)

    def take(self, d: Descriptor, lfd: int, to: tuple[int, int]) -> Iterator[Refusal]:
        """As `peek`, into `contents`; what hinders is told of `d`, whose duplicate is `lfd`."""
        packets = any(one.flags & os.O_DIRECT for one, _ in self.held)
        try:
            self.contents = peek(lfd, to, packets=packets)
        except (OSError, ValueError) as error:
            yield Refusal(d.pid, str(d), f"its data can't be copied: {error}")


def settled(
    pipes: Collection[Ends], settle: Callable[[Ends, tuple[int, int]], Iterable[Refusal]]
) -> Iterator[Refusal]:
    """What `settle` finds of each, with an empty pipe of ours to copy by way of."""
    if not pipes:
        return
    own = os.pipe2(os.O_CLOEXEC)
    try:
        for ends in pipes:
            yield from settle(ends, own)
    finally:
        os.close(own[0])
        os.close(own[1])


def messages(image: str, contents: Mapping[int, Contents]) -> dict[str, list[Any]]:
    """`image` (pipes-data or fifo-data), with pipe_data_entry messages, each with its bytes; and
    an image of ours for packets, if there are any."""
    from ckpt.images.pb.pipe_data_pb2 import pipe_data_entry

    own: Any = message_class("ckpt_pipe.ckpt_pipe_entry")
    entries = [
        (pipe_data_entry(pipe_id=ino, bytes=len(c.data), size=c.size), c.data)
        for ino, c in contents.items()
    ]
    packets = [own(pipe_id=ino, borders=c.borders) for ino, c in contents.items() if c.borders]
    return {image: entries, **({_OWN[image]: packets} if packets else {})} if entries else {}


_OWN = {"pipes-data": "ckpt-pipe", "fifo-data": "ckpt-fifo"}


def other_end_is_closed(lfd: int) -> bool:
    """Of a pipe of which we hold one end only: POLLHUP for a reader, POLLERR for a writer."""
    poll = select.poll()
    poll.register(lfd, 0)
    return any(events & (select.POLLHUP | select.POLLERR) for _, events in poll.poll(0))


class Saved(NamedTuple):
    """What the images say of a pipe. `size`: None where not told. `borders`: as in Contents."""

    size: int | None = None
    data: bytes = b""
    borders: tuple[int, ...] = ()

    @property
    def room(self) -> int:
        """Bytes that it takes; a packet begins a page."""
        pages = sum(-(-length // _PAGE) for length in self.borders)
        return max(len(self.data), pages * _PAGE)


def read_contents(view: RestoreView, image: str) -> dict[int, Saved]:
    """Of each pipe of pipes-data or fifo-data. Raises ImageError."""
    found: dict[int, Saved] = {}
    for message, data in view.payloads(image):
        where = f"pipe {message.pipe_id} of {image}.img"
        size = message.size if message.HasField("size") else None
        if message.pipe_id in found:
            raise ImageError("is there twice", resource=where)
        if len(data) != message.bytes or (size is not None and not 0 < size <= _LARGEST):
            raise ImageError("has a size that no pipe has", resource=where)
        if len(data) > max(size or DEFAULT_SIZE, DEFAULT_SIZE):
            raise ImageError(f"holds {len(data)} bytes, more than fits", resource=where)
        found[message.pipe_id] = Saved(size, data)
    for message in view.messages(_OWN[image]):
        saved = found.get(message.pipe_id)
        if saved is None or sum(message.borders) != len(saved.data):
            raise ImageError(
                "has packets that are not its data",
                resource=f"pipe {message.pipe_id} of {_OWN[image]}.img",
            )
        found[message.pipe_id] = saved._replace(borders=tuple(message.borders))
    return found


def fill(view: RestoreView, lfd: int, name: str, saved: Saved) -> None:
    """Give an empty pipe its size and its data, by its end for writing."""
    size, data, borders = saved
    room = fcntl.fcntl(lfd, fcntl.F_GETPIPE_SZ)
    if size is not None and size != room:
        with suppress(OSError):
            room = fcntl.fcntl(lfd, fcntl.F_SETPIPE_SZ, size)
        if room < size:
            view.report.warn(f"{name}: has room for {room} bytes, before the dump for {size}")
    if saved.room > room:
        raise RestoreError(
            f"its {len(data)} bytes don't fit into {room}",
            resource=name,
            hint="raise /proc/sys/fs/pipe-max-size or run with CAP_SYS_RESOURCE",
        )
    flags = fcntl.fcntl(lfd, fcntl.F_GETFL)
    left = memoryview(data)
    for nth, length in enumerate(borders):
        fcntl.fcntl(lfd, fcntl.F_SETFL, flags | (os.O_DIRECT if nth % 2 else 0))
        _write(lfd, left[:length])
        left = left[length:]
    if borders:
        fcntl.fcntl(lfd, fcntl.F_SETFL, flags)
    _write(lfd, left)


def _write(lfd: int, data: memoryview) -> None:
    while data:
        data = data[os.write(lfd, data) :]
