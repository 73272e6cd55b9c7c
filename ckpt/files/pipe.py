"""Pipes, with the data in flight.

Dump: data is copied out (ckpt.files.pipedata). A pipe of which the tree has
only one end is looked at with poll(2): either the other end is closed everywhere, and the pipe is
restored like that, or it is held outside. Then its data stays where it is, the image has no
pipe_data_entry for it, and a restore wants `--inherit-fd fd[N]:pipe:[INODE]`. (CRIU writes an entry
for every pipe that has a reader and makes a new, broken pipe of what is not inherited.)

Restore: one pipe2(2) for a pipe; its ends become the first reader and the first writer that were
made so. Every other description, one opened O_RDWR, and all of an inherited pipe are opened anew
through /proc/self/fd.

Not kept: how the data was split into buffers, packets aside. A pipe both of whose
ends are in the tree may have further holders outside; that is not found out.

Source: pipe(7), tee(2), fcntl(2); CRIU's criu/pipes.c for what the image means.
"""

from __future__ import annotations

import fcntl
import os
import stat
from typing import TYPE_CHECKING, Any

from ckpt.errors import ImageError, Refusal, RestoreError
from ckpt.files.kind import DumpKind, FdType, RestoreKind
from ckpt.files.openflags import O_LARGEFILE, SETTABLE, checked, open_as, shown
from ckpt.files.pipedata import (
    Ends,
    Saved,
    fill,
    messages,
    other_end_is_closed,
    read_contents,
    settled,
)
from ckpt.record import record

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


class PipeDump(DumpKind):
    type = FdType.PIPE

    def __init__(self, view: DumpView) -> None:
        super().__init__(view)
        self.pipes: dict[int, Ends] = {}

    def claims(self, d: Descriptor) -> bool:
        return is_pipe(d)

    def hold(self, d: Descriptor, file_id: int) -> None:
        self.pipes.setdefault(d.ino, Ends()).held.append((d, file_id))

    def settle(self) -> Iterable[Refusal]:
        return settled(self.pipes.values(), self._settle_one)

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
        yield from ends.take(some, lfd, own)

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
        return dict(messages("pipes-data", inside))


@record
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
        self._contents: dict[int, Saved] = {}
        self._by_pipe: dict[int, list[int]] = {}
        self._open: dict[int, int] = {}

    def take(self, file_id: int, message: Any) -> None:
        where = f"pipe {file_id:#x} of files.img"
        flags = checked(message.flags, where)
        if flags & os.O_PATH or flags & os.O_ACCMODE == os.O_ACCMODE:
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
        data = len(self._contents.get(end.pipe_id, Saved()).data)
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
            saved = self._contents.get(pipe_id, Saved())
            fill(self.view, own[1], f"pipe:[{pipe_id}]", saved)
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
    return open_pipe(f"/proc/self/fd/{lfd}", flags & ~O_LARGEFILE)


def open_pipe(path: str, flags: int) -> int:
    """As `open_as`; open(2) does not take O_DIRECT of a pipe or FIFO. Raises OSError."""
    lfd = open_as(path, flags & ~os.O_DIRECT)
    try:
        if flags & os.O_DIRECT:
            fcntl.fcntl(lfd, fcntl.F_SETFL, flags & SETTABLE)
    except BaseException:
        os.close(lfd)
        raise
    return lfd
