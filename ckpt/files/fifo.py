"""Named pipes: a path (in a regular file's entry of its own) and, as for pipes, the data in flight.

A FIFO belongs to everybody who knows its path, so an end that the tree has not got is no obstacle.
Data is taken from an end that the tree can read from. Where it can't, and nobody else can, but data
is there, the dump is refused: it could not be seen without opening the FIFO anew, which others
notice.

Restore: opening one end blocks until there is the other, so a spare descriptor (O_RDWR never waits)
is held until all are open. Data is written back once, and not at all where somebody outside still
holds the FIFO with data in it.

Source: fifo(7); CRIU's criu/fifo.c for what the image means.
"""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ckpt.errors import ImageError, Refusal, RestoreError
from ckpt.files.kind import DumpKind, FdType, Obstacle, RestoreKind
from ckpt.files.openflags import shown
from ckpt.files.pipe import is_pipe, open_pipe
from ckpt.files.pipedata import (
    Ends,
    Saved,
    fill,
    messages,
    nr_waiting,
    other_end_is_closed,
    read_contents,
    settled,
)
from ckpt.files.regular import RegularDump, RegularRestore

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ckpt.files.descriptor import Descriptor
    from ckpt.files.dumping import DumpView
    from ckpt.files.restoring import RestoreView


class FifoDump(DumpKind):
    type = FdType.FIFO

    def __init__(self, view: DumpView) -> None:
        super().__init__(view)
        self._fifos: dict[tuple[int, int], Ends] = {}
        self._paths: dict[int, int] = {}

    def claims(self, d: Descriptor) -> bool:
        return d.format == stat.S_IFIFO and not is_pipe(d) and not d.flags & os.O_PATH

    def obstacle(self, d: Descriptor) -> Obstacle | None:
        return self.view.kind(RegularDump).path_obstacle(d)

    def hold(self, d: Descriptor, file_id: int) -> None:
        self._fifos.setdefault((d.dev, d.ino), Ends()).held.append((d, file_id))
        self._paths[file_id] = self.view.kind(RegularDump).add_path(d)

    def settle(self) -> Iterable[Refusal]:
        return settled(self._fifos.values(), self._settle_one)

    def _settle_one(self, ends: Ends, own: tuple[int, int]) -> Iterator[Refusal]:
        reader = ends.end(os.O_WRONLY)
        some = reader or ends.held[0][0]
        lfd = self.view.duplicate(some)
        ends.contents.size = fcntl.fcntl(lfd, fcntl.F_GETPIPE_SZ)
        if reader is None:
            ends.contents.inside = False
            waiting = nr_waiting(lfd)
            if waiting and other_end_is_closed(lfd):
                yield Refusal(
                    some.pid,
                    str(some),
                    f"a FIFO with {waiting} bytes in it that nobody can read now",
                    "read them, or close it before the dump",
                )
            return
        yield from ends.take(some, lfd, own)

    def entries(self) -> Iterator[Any]:
        for (_, ino), ends in self._fifos.items():
            for _, file_id in ends.held:
                entry = self.entry(file_id)
                entry.fifo.id, entry.fifo.pipe_id = file_id, ino & 0xFFFF_FFFF
                entry.fifo.regf_id = self._paths[file_id]
                yield entry

    def images(self) -> dict[str, Sequence[Any]]:
        inside = {
            ino & 0xFFFF_FFFF: ends.contents
            for (_, ino), ends in self._fifos.items()
            if ends.contents.inside
        }
        return dict(messages("fifo-data", inside))


class _Fifo(NamedTuple):
    pipe_id: int
    path_id: int


class FifoRestore(RestoreKind):
    type = FdType.FIFO
    field = "fifo"

    def __init__(self, view: RestoreView) -> None:
        super().__init__(view)
        self._fifos: dict[int, _Fifo] = {}
        self._contents: dict[int, Saved] = {}
        self._spare: dict[int, int] = {}

    def take(self, file_id: int, message: Any) -> None:
        path_id = message.regf_id if message.HasField("regf_id") else file_id
        self._fifos[file_id] = _Fifo(message.pipe_id, path_id)

    def prepare(self, wanted: Iterable[int]) -> None:
        paths = self.view.kind(RegularRestore).files
        for file_id in wanted:
            fifo = self._fifos[file_id]
            if fifo.path_id not in paths:
                raise ImageError(
                    f"has no path ({fifo.path_id:#x})", resource=f"FIFO {file_id:#x} of files.img"
                )
        self._contents = read_contents(self.view, "fifo-data")

    def owned_by(self, file_id: int) -> int:
        return self._fifos[file_id].path_id

    def text(self, file_id: int) -> str:
        fifo = self._fifos[file_id]
        file = self.view.kind(RegularRestore).files[fifo.path_id]
        data = len(self._contents.get(fifo.pipe_id, Saved()).data)
        return f"open FIFO {file.path} {shown(file.flags)}, {data} bytes in it"

    def open(self, file_id: int) -> int:
        fifo = self._fifos[file_id]
        file = self.view.kind(RegularRestore).files[fifo.path_id]
        given = self.view.inherited(file.resource)
        if given is not None:
            return given
        try:
            path = self.view.kind(RegularRestore).path(fifo.path_id)
            self._hold_spare(fifo, path)
            lfd = open_pipe(path, file.flags & ~os.O_NOFOLLOW if path != file.path else file.flags)
        except OSError as error:
            raise RestoreError(
                "can't be opened",
                resource=file.path,
                why=os.strerror(error.errno or 0),
                hint="make the FIFO again (mkfifo)",
            ) from error
        try:
            self.view.set_signum(lfd, file.signum)
        except BaseException:
            os.close(lfd)
            raise
        return lfd

    def close(self) -> None:
        spare, self._spare = self._spare, {}
        for lfd in spare.values():
            os.close(lfd)

    def _hold_spare(self, fifo: _Fifo, path: str) -> None:
        """Open it so that nothing after this waits, and put its data in."""
        if fifo.pipe_id in self._spare:
            return
        if not stat.S_ISFIFO(Path(path).stat().st_mode):
            raise RestoreError("is no FIFO any more", resource=path, hint="make it again (mkfifo)")
        spare = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._spare[fifo.pipe_id] = spare
        if waiting := nr_waiting(spare):
            self.view.report.warn(f"{path}: holds {waiting} bytes, kept instead of the image's")
            return
        fill(self.view, spare, path, self._contents.get(fifo.pipe_id, Saved()))
