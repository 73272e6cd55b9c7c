"""inotify(7): watches with their numbers.

A watch is put on the inode again that its path leads to (ckpt.files.marks), last of all, so that
what a restore opens and closes itself is no event. Numbers come back by INOTIFY_IOC_SETNEXTWD.

Refused: events that nobody has read yet, since nothing could put them back (CRIU drops them with a
warning), and watches on what has no path. Not kept: which numbers had been given to watches that
were removed since; the next new watch may get one of these.

Source: inotify(7), fs/notify/inotify/inotify_user.c.
"""

from __future__ import annotations

import fcntl
import os
import struct
import termios
from typing import TYPE_CHECKING, Any

from ckpt._native import ffi
from ckpt.errors import ImageError, Refusal, RestoreError
from ckpt.files.anonymous import AnonymousDump, AnonymousRestore, address, made
from ckpt.files.kind import FdType, Obstacle
from ckpt.files.marks import Finder, check_handle, open_marked, parse_marks, put_handle
from ckpt.images.text import get_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ckpt.files.descriptor import Descriptor
    from ckpt.files.dumping import DumpView

_IN_CLOEXEC = 0o2000000
_SETNEXTWD = 0x40044900
_LARGEST_WD = 2**31 - 1


def unread(lfd: int) -> int:
    """Bytes of events that wait to be read."""
    (waiting,) = struct.unpack("i", fcntl.ioctl(lfd, termios.FIONREAD, b"\0" * 4))
    return int(waiting)


class InotifyDump(AnonymousDump):
    type = FdType.INOTIFY
    links = frozenset({"anon_inode:inotify"})
    field = "ify"

    def __init__(self, view: DumpView) -> None:
        super().__init__(view)
        self.finder = Finder(view.options)
        self._paths: dict[tuple[int, int], str] = {}

    def obstacle(self, d: Descriptor) -> Obstacle | None:
        for mark in parse_marks(d.info, "inotify"):
            if self.finder.path(mark) is None:
                return Obstacle(
                    f"it watches inode {mark.ino} of device {os.major(mark.dev)}:"
                    f"{os.minor(mark.dev)}, which no known path leads to",
                    "--irmap-scan-path with the folder that it is in",
                )
        return None

    def settle(self) -> Iterable[Refusal]:
        for d, file_id in self.held:
            waiting = unread(self.view.duplicate(d))
            if waiting:
                yield Refusal(
                    d.pid,
                    str(d),
                    f"its queue holds {waiting} bytes of events that are not read, and can't be "
                    "put back",
                    "dump again when they are read",
                )
            for mark in parse_marks(d.info, "inotify"):
                self._paths[file_id, mark.wd] = self.finder.path(mark) or ""

    def fill(self, message: Any, d: Descriptor, file_id: int) -> None:
        for mark in parse_marks(d.info, "inotify"):
            entry = message.wd.add(
                id=file_id,
                i_ino=mark.ino,
                mask=mark.mask,
                ignored_mask=mark.ignored_mask,
                s_dev=mark.sdev,
                wd=mark.wd,
            )
            put_handle(entry.f_handle, mark.handle, self._paths[file_id, mark.wd])


class InotifyRestore(AnonymousRestore):
    type = FdType.INOTIFY
    field = "ify"

    def check(self, message: Any, where: str) -> None:
        seen = set()
        for entry in message.wd:
            if not 0 < entry.wd <= _LARGEST_WD or entry.wd in seen:
                raise ImageError(f"has watch {entry.wd}", resource=where)
            seen.add(entry.wd)
            check_handle(entry.f_handle, where)

    def text(self, file_id: int) -> str:
        watched = self.messages[file_id].wd
        names = ", ".join(get_text(w.f_handle, "path") or f"inode {w.i_ino}" for w in watched)
        return f"make inotify instance that watches {names or 'nothing'}"

    def make(self, file_id: int, message: Any) -> int:
        del file_id, message
        return made("inotify_init1", _IN_CLOEXEC)

    def finish(self, file_id: int, lfd: int) -> None:
        for entry in sorted(self.messages[file_id].wd, key=lambda w: int(w.wd)):
            inode = open_marked(entry.f_handle, entry.s_dev, f"was watched as {entry.wd}")
            try:
                self._watch(lfd, entry, inode)
            finally:
                os.close(inode)

    def _watch(self, lfd: int, entry: Any, inode: int) -> None:
        name = get_text(entry.f_handle, "path") or f"inode {entry.i_ino}"
        if os.fstat(inode).st_ino != entry.i_ino:
            self.view.report.warn(f"{name} is watched, and is not the file any more that it was")
        path = ffi.from_buffer(f"/proc/self/fd/{inode}\0".encode())
        try:
            fcntl.ioctl(lfd, _SETNEXTWD, entry.wd)
            number = made("inotify_add_watch", lfd, address(path), entry.mask)
        except OSError as error:
            raise RestoreError(
                f"can't be watched as {entry.wd}",
                resource=name,
                why=os.strerror(error.errno or 0),
                hint="/proc/sys/fs/inotify has the limits",
            ) from error
        if number != entry.wd:
            raise RestoreError(f"is watched as {number}, was as {entry.wd}", resource=name)
