"""Pipes, with the data in flight.

Dump: data is copied out by tee(2) into a pipe of ours, never consumed. A pipe of which the tree has
only one end is looked at with poll(2): either the other end is closed everywhere, and the pipe is
restored like that, or it is held outside. Then its data stays where it is, the image has no
pipe_data_entry for it, and a restore wants `--inherit-fd fd[N]:pipe:[INODE]`. (CRIU writes an entry
for every pipe that has a reader and makes a new, broken pipe of what is not inherited.)

Restore: one pipe2(2) for a pipe; its ends become the first reader and the first writer that were
made so. Every other description, one opened O_RDWR, and all of an inherited pipe are opened anew
through /proc/self/fd.

Not kept: how the data was split into buffers. Refused: packet mode (O_DIRECT). A pipe both of whose
ends are in the tree may have further holders outside; that is not found out.

Source: pipe(7), tee(2), fcntl(2); CRIU's criu/pipes.c for what the image means.
"""

from __future__ import annotations

import fcntl
import os
import select
import stat
import struct
import termios
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ckpt._native import check, lib
from ckpt.errors import ImageError, Refusal, RestoreError
from ckpt.files.kind import DumpKind, FdType, Obstacle, RestoreKind
from ckpt.files.openflags import O_LARGEFILE, SETTABLE, checked, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ckpt.files.descriptor import Descriptor
    from ckpt.files.dumping import DumpView
    from ckpt.files.restoring import RestoreView

DEFAULT_SIZE = 65536
_LARGEST = 1 << 31


def is_pipe(d: Descriptor) -> bool:
    """An anonymous pipe, not a FIFO."""
    return d.format == stat.S_IFIFO and d.link.startswith("pipe:[")


def peek(lfd: int, to: tuple[int, int]) -> bytes:
    """All bytes in the pipe behind `lfd`, which must be open for reading, by way of pipe `to`.

    Raises OSError; ValueError if not all of it fits into `to`.
    """
    (waiting,) = struct.unpack("i", fcntl.ioctl(lfd, termios.FIONREAD, b"\0" * 4))
    if not waiting:
        return b""
    size = fcntl.fcntl(lfd, fcntl.F_GETPIPE_SZ)
    if fcntl.fcntl(to[1], fcntl.F_GETPIPE_SZ) < size:
        fcntl.fcntl(to[1], fcntl.F_SETPIPE_SZ, size)
    copied = check(lib.ckpt_tee(lfd, to[1], waiting), "tee")
    pieces = []
    left = copied
    while left:
        pieces.append(os.read(to[0], left))
        left -= len(pieces[-1])
    if copied != waiting:
        raise ValueError(f"{copied} of {waiting} bytes could be copied")
    return b"".join(pieces)


@dataclass(slots=True)
class Contents:
    """What is in one pipe. `inside` is False when its other end is held outside the tree."""

    size: int = 0
    data: bytes = b""
    inside: bool = True


@dataclass(slots=True)
class Ends:
    """The descriptions of one pipe with their ids."""

    held: list[tuple[Descriptor, int]] = field(default_factory=list)
    contents: Contents = field(default_factory=Contents)

    def end(self, without: int) -> Descriptor | None:
        """One that is not opened with access mode `without`."""
        return next((d for d, _ in self.held if d.accmode != without), None)


class PipeDump(DumpKind):
    type = FdType.PIPE

    def __init__(self, view: DumpView) -> None:
        super().__init__(view)
        self.pipes: dict[int, Ends] = {}

    def claims(self, d: Descriptor) -> bool:
        return is_pipe(d)

    def obstacle(self, d: Descriptor) -> Obstacle | None:
        if d.flags & os.O_DIRECT:
            return Obstacle("a pipe in packet mode (O_DIRECT) is not restored yet")
        return None

    def hold(self, d: Descriptor, file_id: int) -> None:
        self.pipes.setdefault(d.ino, Ends()).held.append((d, file_id))

    def settle(self) -> Iterable[Refusal]:
        if not self.pipes:
            return
        own = os.pipe2(os.O_CLOEXEC)
        try:
            for ends in self.pipes.values():
                yield from self._settle_one(ends, own)
        finally:
            os.close(own[0])
            os.close(own[1])

    def _settle_one(self, ends: Ends, own: tuple[int, int]) -> Iterator[Refusal]:
        reader, writer = ends.end(os.O_WRONLY), ends.end(os.O_RDONLY)
        some = reader or writer
        if some is None:
            return
        lfd = self.view.duplicate(some)
        contents = ends.contents
        contents.size = fcntl.fcntl(lfd, fcntl.F_GETPIPE_SZ)
        if reader is None or writer is None:
            # A reader that was opened when no writer was left does not see that there is none.
            contents.inside = any(other_end_is_closed(self.view.duplicate(d)) for d, _ in ends.held)
            if not contents.inside:
                self.view.report.warn(
                    f"pid {some.pid}: descriptor {some.fd}: the other end of {some.link} is held "
                    f"outside the tree: a restore needs --inherit-fd 'fd[N]:{some.link}'"
                )
        if reader is None or not contents.inside:
            return
        try:
            contents.data = peek(lfd, own)
        except (OSError, ValueError) as error:
            yield Refusal(some.pid, str(some), f"its data can't be copied: {error}")

    def entries(self) -> Iterator[Any]:
        for ino, ends in self.pipes.items():
            for d, file_id in ends.held:
                entry = self.entry(file_id)
                pipe = entry.pipe
                pipe.id, pipe.pipe_id, pipe.flags = file_id, ino, d.flags
                pipe.fown.CopyFrom(self.view.fown(d))
                yield entry

    def images(self) -> dict[str, Sequence[Any]]:
        inside = {ino: p.contents for ino, p in self.pipes.items() if p.contents.inside}
        return {"pipes-data": data_messages(inside)} if inside else {}


def data_messages(contents: dict[int, Contents]) -> list[Any]:
    """pipe_data_entry messages, each with its bytes."""
    from ckpt.images.pb.pipe_data_pb2 import pipe_data_entry

    return [
        (pipe_data_entry(pipe_id=ino, bytes=len(c.data), size=c.size), c.data)
        for ino, c in contents.items()
    ]


def other_end_is_closed(lfd: int) -> bool:
    """Of a pipe of which we hold one end only: POLLHUP for a reader, POLLERR for a writer."""
    poll = select.poll()
    poll.register(lfd, 0)
    return any(events & (select.POLLHUP | select.POLLERR) for _, events in poll.poll(0))


@dataclass(slots=True)
class _End:
    pipe_id: int
    flags: int
    signum: int


class PipeRestore(RestoreKind):
    type = FdType.PIPE
    field = "pipe"

    def __init__(self, view: RestoreView) -> None:
        super().__init__(view)
        self._ends: dict[int, _End] = {}
        self._contents: dict[int, tuple[int | None, bytes]] | None = None
        self._by_pipe: dict[int, list[int]] = {}
        self._open: dict[int, int] = {}

    def take(self, file_id: int, message: Any) -> None:
        where = f"pipe {file_id:#x} of files.img"
        flags = checked(message.flags, where)
        if flags & (os.O_PATH | os.O_DIRECT) or flags & os.O_ACCMODE == os.O_ACCMODE:
            raise ImageError(f"has open flags {flags:#o} that no pipe has", resource=where)
        end = _End(message.pipe_id, flags, self.view.signum(message.fown, where))
        self._ends[file_id] = end

    def prepare(self, wanted: Iterable[int]) -> None:
        self._contents = read_contents(self.view, "pipes-data")
        for file_id in sorted(wanted):
            self._by_pipe.setdefault(self._ends[file_id].pipe_id, []).append(file_id)
        for pipe_id, ids in self._by_pipe.items():
            modes = {self._ends[i].flags & os.O_ACCMODE for i in ids}
            whole = os.O_RDWR in modes or modes >= {os.O_RDONLY, os.O_WRONLY}
            name = f"pipe:[{pipe_id}]"
            if not whole and pipe_id not in self._contents and name not in self.view.inherit:
                raise RestoreError(
                    "its other end was held outside the tree, and nothing was given for it",
                    resource=name,
                    hint=f"--inherit-fd 'fd[N]:{name}' with N open in ckpt",
                )

    def text(self, file_id: int) -> str:
        end = self._ends[file_id]
        given = "given " if f"pipe:[{end.pipe_id}]" in self.view.inherit else ""
        data = len((self._contents or {}).get(end.pipe_id, (0, b""))[1])
        return f"open {given}pipe:[{end.pipe_id}] {shown(end.flags)}, {data} bytes in it"

    def open(self, file_id: int) -> int:
        if file_id not in self._open:
            self._make(self._ends[file_id].pipe_id)
        lfd = self._open.pop(file_id)
        end = self._ends[file_id]
        try:
            self.view.set_signum(lfd, end.signum)
        except BaseException:
            os.close(lfd)
            raise
        return lfd

    def close(self) -> None:
        opened, self._open = self._open, {}
        for lfd in opened.values():
            os.close(lfd)

    def _make(self, pipe_id: int) -> None:
        """Open every description of one pipe."""
        given = self.view.inherited(f"pipe:[{pipe_id}]")
        if given is not None:
            try:
                for file_id in self._by_pipe[pipe_id]:
                    self._open[file_id] = _again(given, self._ends[file_id].flags)
            except OSError as error:
                why = os.strerror(error.errno or 0)
                raise RestoreError(
                    "what --inherit-fd gives is no such pipe",
                    resource=f"pipe:[{pipe_id}]",
                    why=why,
                ) from error
            finally:
                os.close(given)
            return
        own = os.pipe2(os.O_CLOEXEC)
        spare = {os.O_RDONLY: own[0], os.O_WRONLY: own[1]}
        try:
            self.view.give(own[0], self._by_pipe[pipe_id])
            fill(self.view, own[1], f"pipe:[{pipe_id}]", (self._contents or {}).get(pipe_id))
            for file_id in self._by_pipe[pipe_id]:
                flags = self._ends[file_id].flags
                mode = flags & os.O_ACCMODE
                if mode in spare and not flags & O_LARGEFILE:
                    self._open[file_id] = spare.pop(mode)
                    fcntl.fcntl(self._open[file_id], fcntl.F_SETFL, flags & SETTABLE)
                else:
                    self._open[file_id] = _again(own[0], flags)
        finally:
            for lfd in spare.values():
                os.close(lfd)


def _again(lfd: int, flags: int) -> int:
    flags &= os.O_ACCMODE | SETTABLE
    return os.open(f"/proc/self/fd/{lfd}", flags | os.O_CLOEXEC | os.O_NOCTTY)


def read_contents(view: RestoreView, image: str) -> dict[int, tuple[int | None, bytes]]:
    """Size (None: not told) and data of each pipe of pipes-data or fifo-data."""
    found: dict[int, tuple[int | None, bytes]] = {}
    for message, data in view.payloads(image):
        where = f"pipe {message.pipe_id} of {image}.img"
        size = message.size if message.HasField("size") else None
        if message.pipe_id in found:
            raise ImageError("is there twice", resource=where)
        if len(data) != message.bytes or (size is not None and not 0 < size <= _LARGEST):
            raise ImageError("has a size that no pipe has", resource=where)
        if len(data) > max(size or DEFAULT_SIZE, DEFAULT_SIZE):
            raise ImageError(f"holds {len(data)} bytes, more than fits", resource=where)
        found[message.pipe_id] = (size, data)
    return found


def fill(view: RestoreView, lfd: int, name: str, contents: tuple[int | None, bytes] | None) -> None:
    """Give an empty pipe its size and its data, by its end for writing."""
    size, data = contents or (None, b"")
    room = fcntl.fcntl(lfd, fcntl.F_GETPIPE_SZ)
    if size is not None and size != room:
        with suppress(OSError):
            room = fcntl.fcntl(lfd, fcntl.F_SETPIPE_SZ, size)
        if room < size:
            view.report.warn(f"{name}: has room for {room} bytes, before the dump for {size}")
    if len(data) > room:
        raise RestoreError(
            f"its {len(data)} bytes don't fit into {room}",
            resource=name,
            hint="raise /proc/sys/fs/pipe-max-size or run with CAP_SYS_RESOURCE",
        )
    left = memoryview(data)
    while left:
        left = left[os.write(lfd, left) :]
