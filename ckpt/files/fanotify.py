"""fanotify(7): groups with their marks on inodes, mounts and whole file systems.

Marks come last of all, as those of inotify do, on what their paths lead to: an inode's
(ckpt.files.marks), the mount point of a mount; for a file system, which CRIU's format has no mark
for, any mount point of it, in ckpt-fanotify.img.

Events that nobody has read can't be put back. With marks on inodes only they refuse the dump; with
a mark on a mount or file system, where our own work can be such an event, they are lost with a
warning.

Refused: permission events: whoever touches a marked file waits for the group's answer, and ckpt
would wait for the target that it has stopped. Not kept: objects in the queue of errors, and the
process that a group of an unprivileged user belongs to.

Source: fanotify_init(2), fanotify_mark(2), fs/notify/fdinfo.c, fs/notify/fanotify/fanotify_user.c.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from ckpt._native import ffi
from ckpt.errors import ImageError, Refusal, RestoreError
from ckpt.files.anonymous import AnonymousDump, AnonymousRestore, address, made
from ckpt.files.inotify import InotifyDump, unread
from ckpt.files.kind import FdType, Obstacle
from ckpt.files.marks import check_handle, open_marked, parse_marks, put_handle
from ckpt.images.text import get_text, set_text
from ckpt.images.types import message_class

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ckpt.files.descriptor import Descriptor
    from ckpt.files.dumping import DumpView
    from ckpt.files.marks import Mark
    from ckpt.files.restoring import RestoreView

_ADD, _IGNORED_MASK = 0x1, 0x20
_SURV_MODIFY, _EVICTABLE, _IGNORE = 0x40, 0x200, 0x400
_MOUNT, _FILESYSTEM = 0x10, 0x100
_PERMISSION = 0x10000 | 0x20000 | 0x40000 | 0x100000
_MARK_FLAGS = _SURV_MODIFY | _EVICTABLE | _IGNORE
_BY_INODE, _BY_MOUNT = 1, 2


class _Seen(NamedTuple):
    """Marks of one group, each with the path that it will be put on by."""

    inodes: list[tuple[Mark, str]]
    mounts: list[tuple[Mark, str]]
    filesystems: list[tuple[Mark, str]]

    @property
    def wide(self) -> bool:
        return bool(self.mounts or self.filesystems)


class FanotifyDump(AnonymousDump):
    type = FdType.FANOTIFY
    links = frozenset({"anon_inode:[fanotify]"})
    field = "ffy"

    def __init__(self, view: DumpView) -> None:
        super().__init__(view)
        self._seen: dict[int, _Seen] = {}

    def obstacle(self, d: Descriptor) -> Obstacle | None:
        marks = _marks(d)
        if any((m.mask | m.ignored_mask) & _PERMISSION for m in marks):
            why = "a fanotify group that is asked for permission: who asks would wait for the dump"
            return Obstacle(why, "remove its marks for permission events")
        for mark in marks:
            if not self._path(mark):
                return Obstacle(
                    f"it has a mark on {_named(mark)}, which no known path leads to",
                    "--irmap-scan-path with the folder that it is in",
                )
        return None

    def settle(self) -> Iterable[Refusal]:
        for d, file_id in self.held:
            seen = self._seen[file_id] = _Seen([], [], [])
            for mark in _marks(d):
                _group(seen, mark).append((mark, self._path(mark)))
            waiting = unread(self.view.duplicate(d))
            if waiting and seen.wide:
                lost = f"pid {d.pid}: {d}: {waiting} bytes of events that are not read are lost"
                self.view.report.warn(lost)
            elif waiting:
                why = f"its queue holds {waiting} bytes of events that can't be put back"
                yield Refusal(d.pid, str(d), why, "dump again when they are read")

    def _path(self, mark: Mark) -> str:
        finder = self.view.kind(InotifyDump).finder
        if "ino" in mark.numbers:
            return finder.path(mark) or ""
        if "mnt_id" in mark.numbers:
            found = (m for m in finder.mounts if m.mnt_id == mark.mnt_id)
        else:
            found = (m for m in finder.mounts if m.dev == mark.dev)
        return next((m.mountpoint for m in found), "")

    def fill(self, message: Any, d: Descriptor, file_id: int) -> None:
        (group,) = (m for m in parse_marks(d.info, "fanotify") if "flags" in m.numbers)
        message.faflags = group.numbers["flags"]
        message.evflags = group.numbers["event-flags"]
        seen = self._seen[file_id]
        for mark, path in seen.inodes:
            entry = _entry(message, mark, file_id, _BY_INODE, mark.sdev)
            entry.ie.i_ino = mark.ino
            put_handle(entry.ie.f_handle, mark.handle, path)
        for mark, path in seen.mounts:
            entry = _entry(message, mark, file_id, _BY_MOUNT, 0)
            entry.me.mnt_id = mark.mnt_id
            set_text(entry.me, "path", path)

    def images(self) -> dict[str, Sequence[Any]]:
        own: Any = message_class("ckpt_fanotify.ckpt_fanotify_entry")
        entries = []
        for file_id, seen in self._seen.items():
            for mark, path in seen.filesystems:
                entry = own(
                    id=file_id, mflags=mark.mflags, mask=mark.mask, ignored_mask=mark.ignored_mask
                )
                set_text(entry, "path", path)
                entries.append(entry)
        return {"ckpt-fanotify": entries} if entries else {}


def _marks(d: Descriptor) -> list[Mark]:
    return [m for m in parse_marks(d.info, "fanotify") if "flags" not in m.numbers]


def _named(mark: Mark) -> str:
    kinds = (("ino", "inode"), ("mnt_id", "mount"), ("sdev", "file system"))
    return next((f"{name} {mark.numbers[k]}" for k, name in kinds if k in mark.numbers), "nothing")


def _group(seen: _Seen, mark: Mark) -> list[tuple[Mark, str]]:
    if "ino" in mark.numbers:
        return seen.inodes
    return seen.mounts if "mnt_id" in mark.numbers else seen.filesystems


def _entry(message: Any, mark: Mark, file_id: int, kind: int, sdev: int) -> Any:
    return message.mark.add(
        id=file_id,
        type=kind,
        mflags=mark.mflags,
        mask=mark.mask,
        ignored_mask=mark.ignored_mask,
        s_dev=sdev,
    )


class FanotifyRestore(AnonymousRestore):
    type = FdType.FANOTIFY
    field = "ffy"

    def __init__(self, view: RestoreView) -> None:
        super().__init__(view)
        self._filesystems: dict[int, list[Any]] = {}

    def check(self, message: Any, where: str) -> None:
        for mark in message.mark:
            _check_masks(mark, where)
            if mark.type == _BY_INODE and mark.HasField("ie"):
                check_handle(mark.ie.f_handle, where)
            elif mark.type != _BY_MOUNT or not get_text(mark.me, "path").startswith("/"):
                raise ImageError("has a mark on nothing", resource=where)

    def prepare(self, wanted: Iterable[int]) -> None:
        del wanted
        for mark in self.view.messages("ckpt-fanotify"):
            _check_masks(mark, "ckpt-fanotify.img")
            if not get_text(mark, "path").startswith("/"):
                raise ImageError("has a mark on nothing", resource="ckpt-fanotify.img")
            self._filesystems.setdefault(mark.id, []).append(mark)

    def text(self, file_id: int) -> str:
        nr = len(self.messages[file_id].mark) + len(self._filesystems.get(file_id, ()))
        return f"make fanotify group with {nr} marks"

    def make(self, file_id: int, message: Any) -> int:
        del file_id
        # The group remembers whether it was made with FAN_CLOEXEC.
        lfd = made("fanotify_init", message.faflags, message.evflags)
        os.set_inheritable(lfd, False)
        return lfd

    def finish(self, file_id: int, lfd: int) -> None:
        for mark in self.messages[file_id].mark:
            if mark.type == _BY_INODE:
                inode = open_marked(mark.ie.f_handle, mark.s_dev, "was marked by fanotify")
                name = get_text(mark.ie.f_handle, "path") or f"inode {mark.ie.i_ino}"
                try:
                    _put(lfd, mark, 0, f"/proc/self/fd/{inode}", name)
                finally:
                    os.close(inode)
            else:
                path = get_text(mark.me, "path")
                _put(lfd, mark, _MOUNT, path, path)
        for mark in self._filesystems.get(file_id, ()):
            path = get_text(mark, "path")
            _put(lfd, mark, _FILESYSTEM, path, path)


def _check_masks(mark: Any, where: str) -> None:
    if (mark.mask | mark.ignored_mask) & _PERMISSION:
        raise ImageError("has marks for permission events", resource=where)
    if mark.mflags & ~_MARK_FLAGS:
        raise ImageError(f"has a mark with flags {mark.mflags:#x}", resource=where)


def _put(lfd: int, mark: Any, kind: int, path: str, name: str) -> None:
    """Put one mark on; `name` is for errors."""
    where = ffi.from_buffer(os.fsencode(path) + b"\0")
    try:
        for flags, mask in _calls(mark):
            made("fanotify_mark", lfd, _ADD | kind | flags, mask, -1 & 0xFFFF_FFFF, address(where))
    except OSError as error:
        raise RestoreError(
            "can't be marked by fanotify", resource=name, why=os.strerror(error.errno or 0)
        ) from error


def _calls(mark: Any) -> Iterator[tuple[int, int]]:
    """Flags and mask of each call that one mark takes."""
    evictable = mark.mflags & _EVICTABLE
    if mark.mask:
        yield evictable, mark.mask
    if mark.ignored_mask:
        how = _IGNORE if mark.mflags & _IGNORE else _IGNORED_MASK
        yield how | mark.mflags & _SURV_MODIFY | evictable, mark.ignored_mask
