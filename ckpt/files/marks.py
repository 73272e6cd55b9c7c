"""What file system notification has been put on: from an inode to a path, and back to the inode.

fdinfo tells an inode by its number, its file system's device and, mostly, a file handle. A dump
opens the handle (O_PATH, which is no event) on a mount of that device and asks the kernel for the
path. Where there is no handle, or the path that it gives does not lead to the inode (a file that
the kernel knows no name of just now), folders are searched for the inode number: those of
--irmap-scan-path, then those that CRIU searches. --force-irmap searches at once.

The path goes into the image beside the handle, and a restore goes by it; by the handle alone where
an image of CRIU's has no path.

A directory of the mount is opened for open_by_handle_at(2), which who watches that very directory
for IN_OPEN can see. It happens while the target still runs, what has been found is remembered.

Source: proc_pid_fdinfo(5), open_by_handle_at(2), fs/notify/fdinfo.c; CRIU's criu/irmap.c for which
folders are searched.
"""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from ckpt._native import ffi
from ckpt.errors import ImageError, KernelError, RestoreError
from ckpt.files.anonymous import address, made
from ckpt.images.text import get_text, set_text
from ckpt.procfs.mountinfo import parse_mountinfo
from ckpt.procfs.reader import read_system

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckpt.files.dumping import FileOptions
    from ckpt.procfs.mountinfo import Mount

_NR_WORDS = 16
_LARGEST_HANDLE = 128
_HEAD = struct.Struct("=Ii")
_SEARCHED = (
    *("/etc", "/var/spool", "/var/log", "/usr/share/dbus-1/system-services"),
    *("/var/lib/polkit-1/localauthority", "/usr/share/polkit-1/actions", "/lib/udev"),
)
"""Searched with all that is below; then / and only what is in it."""


class Handle(NamedTuple):
    """A file handle; `raw` is empty where the kernel did not tell one."""

    type: int = 0
    raw: bytes = b""


class Mark(NamedTuple):
    """One line of fdinfo: numbers by their names there, all hexadecimal."""

    numbers: dict[str, int]
    handle: Handle

    def __getattr__(self, name: str) -> int:
        try:
            return self.numbers[name]
        except KeyError:
            raise AttributeError(name) from None

    @property
    def dev(self) -> int:
        """`sdev` as stat(2) has it."""
        return device(self.numbers["sdev"])


def device(sdev: int) -> int:
    """From the kernel's own encoding of a device number."""
    return os.makedev(sdev >> 20, sdev & 0xFFFFF)


def parse_marks(info: bytes, kind: str) -> list[Mark]:
    """The lines of fdinfo that begin with `kind`, in their order."""
    found = []
    for line in info.splitlines():
        words = line.decode("ascii", "replace").split()
        if not words or words[0] != kind:
            continue
        try:
            pairs = dict(word.split(":", 1) for word in words[1:] if ":" in word)
            handle = Handle()
            if "f_handle" in pairs:
                raw = bytes.fromhex(pairs.pop("f_handle"))
                handle = Handle(int(pairs["fhandle-type"], 16), raw)
            found.append(Mark({key: int(text, 16) for key, text in pairs.items()}, handle))
        except ValueError as error:
            raise KernelError("fdinfo can't be read", resource=kind, why=repr(line)) from error
    return found


class Finder:
    """Paths of watched inodes, each looked for once in a dump."""

    def __init__(self, options: FileOptions) -> None:
        self._options = options
        self._found: dict[tuple[int, int, Handle], str] = {}
        self._mounts: list[Mount] | None = None

    @property
    def mounts(self) -> list[Mount]:
        if self._mounts is None:
            self._mounts = parse_mountinfo(read_system("self/mountinfo"))
        return self._mounts

    def path(self, mark: Mark) -> str | None:
        """A path that leads to the inode now."""
        key = (mark.dev, mark.ino, mark.handle)
        known = self._found.get(key)
        if known is not None and _leads_to(known, None, mark.ino):
            return known
        for path in self._candidates(mark):
            self._found[key] = path
            return path
        return None

    def _candidates(self, mark: Mark) -> Iterator[str]:
        if mark.handle.raw and not self._options.force_irmap:
            for mount in self.mounts:
                if mount.dev == mark.dev:
                    yield from _by_handle(mount.mountpoint, mark)
        for folder in (*self._options.irmap_scan_paths, *_SEARCHED):
            yield from _below(folder, mark, deep=True)
        yield from _below("/", mark, deep=False)


def _leads_to(path: str, dev: int | None, ino: int) -> bool:
    try:
        seen = os.lstat(path)
    except OSError:
        return False
    return seen.st_ino == ino and dev in (None, seen.st_dev)


def _by_handle(mountpoint: str, mark: Mark) -> Iterator[str]:
    with suppress(OSError):
        lfd = open_handle(mountpoint, mark.handle)
        try:
            path = os.readlink(f"/proc/self/fd/{lfd}")  # noqa: PTH115 (a Path changes the text)
            seen = os.fstat(lfd)
        finally:
            os.close(lfd)
        # Not the number of fdinfo: some file systems show another one than theirs.
        if path.startswith("/") and _leads_to(path, seen.st_dev, seen.st_ino):
            yield path


def open_handle(mountpoint: str, handle: Handle) -> int:
    """Open (O_PATH) what a handle means on the file system there. Raises OSError."""
    where = os.open(mountpoint, os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        packed = ffi.from_buffer(_HEAD.pack(len(handle.raw), handle.type) + handle.raw)
        return made("open_by_handle_at", where, address(packed), os.O_PATH | os.O_CLOEXEC)
    finally:
        os.close(where)


def _below(folder: str, mark: Mark, *, deep: bool) -> Iterator[str]:
    """Everything in a folder that is the inode, the folder itself included."""
    if _leads_to(folder, mark.dev, mark.ino):
        yield folder
    try:
        entries = sorted(os.scandir(folder), key=lambda e: e.name)
    except OSError:
        return
    for entry in entries:
        if entry.inode() == mark.ino and _leads_to(entry.path, mark.dev, mark.ino):
            yield entry.path
        elif deep and entry.is_dir(follow_symlinks=False):
            yield from _below(entry.path, mark, deep=True)


def put_handle(message: Any, handle: Handle, path: str) -> None:
    """Fill an fh_entry."""
    message.bytes, message.type = len(handle.raw), handle.type
    padded = handle.raw.ljust(8 * _NR_WORDS, b"\0")
    message.handle.extend(struct.unpack(f"<{_NR_WORDS}Q", padded[: 8 * _NR_WORDS]))
    set_text(message, "path", path)


def check_handle(message: Any, where: str) -> None:
    """Raise ImageError for an fh_entry that can't be."""
    path = get_text(message, "path")
    if message.bytes > min(_LARGEST_HANDLE, 8 * len(message.handle)):
        raise ImageError("has a file handle that can't be", resource=where)
    if (path and not path.startswith("/")) or "\0" in path:
        raise ImageError(f"has a path that can't be: {path!r}", resource=where)


def open_marked(message: Any, sdev: int, what: str) -> int:
    """Open (O_PATH) the inode of a checked fh_entry. `what` it is for. Raises RestoreError."""
    path = get_text(message, "path")
    try:
        if path:
            return os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        raw = struct.pack(f"<{len(message.handle)}Q", *message.handle)[: message.bytes]
        for mount in parse_mountinfo(read_system("self/mountinfo")):
            if mount.dev == device(sdev):
                return open_handle(mount.mountpoint, Handle(message.type, raw))
    except OSError as error:
        raise RestoreError(
            f"{what}, which can't be found",
            resource=path or "a file handle",
            why=os.strerror(error.errno or 0),
            hint="put it back as it was",
        ) from error
    raise RestoreError(f"{what}, whose file system is not mounted", resource=f"device {sdev:#x}")
