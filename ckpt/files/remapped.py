"""Files without a name on the way out of the images: remap-fpath.img and ghost-file-N.img.

Each ghost is made once and held by an O_PATH descriptor; every description, mapping and directory
is opened from that through /proc/self/fd, so all of them are one inode without a name, as they
were.

No name outlives a restore, however it ends. A file that was made by O_TMPFILE never gets one. Any
other gets the one that it lost for as long as three system calls take (made, opened, unlinked),
which a child makes that the death of this process does not touch: see nameless.h. It is empty then
and 0600; contents, owner and mode come after. Where the name is taken, or its directory is gone,
another name or the nearest directory above stands in, which only readlink(2) of /proc/PID/fd shows.

Not guaranteed: who ends that child too, or the machine, in between, leaves an empty file.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ckpt._native import check, ffi, lib
from ckpt.errors import ImageError, RestoreError
from ckpt.files.ghost import DEVICES
from ckpt.files.openflags import O_LARGEFILE, SETTABLE
from ckpt.images.pb.remap_file_path_pb2 import GHOST, LINKED
from ckpt.images.types import image_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ckpt.files.regular import PathFile
    from ckpt.files.restoring import RestoreView

_OLD_GHOST = 1 << 31
"""What images without a type of remap mark a ghost with."""
_FORMATS = (stat.S_IFREG, stat.S_IFDIR, stat.S_IFIFO, stat.S_IFCHR)
_NAMES_TRIED = 100
_LONGEST_NAME = 255
_SYNCED = os.O_SYNC | os.O_DSYNC


class _Ghost(NamedTuple):
    """A checked ghost_file_entry. `parts`: data by offset; `times_ns`: of access, of change."""

    uid: int
    gid: int
    mode: int
    rdev: int
    size: int
    parts: list[tuple[int, bytes]]
    times_ns: tuple[int, int] | None


_JUST_A_LINK = _Ghost(0, 0, stat.S_IFREG, 0, 0, [], None)


class _Opened(NamedTuple):
    """A name that the dump has made, opened with O_PATH; `inode`: device and number."""

    path: str
    lfd: int
    inode: tuple[int, int]


class Remapped:
    """The files of one set that had no name. `close` gives back what it holds."""

    def __init__(self, view: RestoreView) -> None:
        self._view = view
        self._number: dict[int, int] = {}
        self._ghosts: dict[int, _Ghost] = {}
        self._makers: dict[int, tuple[int, PathFile]] = {}
        self._linked: dict[int, int] = {}
        self._files: Mapping[int, PathFile] = {}
        self._opened: dict[int, _Opened] = {}
        self._made: dict[int, int] = {}
        self._own: dict[int, int] = {}

    def __contains__(self, file_id: int) -> bool:
        return file_id in self._number or file_id in self._linked

    def is_link(self, file_id: int) -> bool:
        """Whether the dump has given it another name."""
        return file_id in self._linked

    def prepare(self, files: Mapping[int, PathFile]) -> None:
        """Read and check; nothing is made. Raises ImageError, RestoreError."""
        self._files = files
        for message in self._view.messages("remap-fpath"):
            where = f"file {message.orig_id:#x} of remap-fpath.img"
            if message.orig_id not in files:
                raise ImageError("is no file of files.img", resource=where)
            if message.orig_id in self:
                raise ImageError("is there twice", resource=where)
            kind, number = _kind(message)
            if kind == LINKED:
                if number not in files or files[number].external:
                    raise ImageError("has another name that is nowhere", resource=where)
                self._linked[message.orig_id] = number
                continue
            if kind != GHOST:
                what = "a file of a dead process"
                raise RestoreError(f"is {what}, which is not restored yet", resource=where)
            if number not in self._ghosts:
                self._ghosts[number] = self._read(number)
            self._number[message.orig_id] = number
            if files[message.orig_id].tmpfile:
                self._makers.setdefault(number, (message.orig_id, files[message.orig_id]))

    def open(self, file_id: int, file: PathFile, flags: int) -> int:
        """A description with `flags`, or with O_PATH. Raises OSError, RestoreError."""
        lfd = self.path_lfd(file_id, file)
        wanted = (flags & ~(O_LARGEFILE | os.O_NOFOLLOW)) | os.O_CLOEXEC | os.O_NOCTTY
        return os.open(f"/proc/self/fd/{lfd}", wanted)

    def own(self, file_id: int) -> int | None:
        """The description that made a file by O_TMPFILE; the caller's, and given once."""
        return self._own.pop(file_id, None)

    def path_lfd(self, file_id: int, file: PathFile) -> int:
        """An O_PATH descriptor of the file, made if it has to be. It stays ours."""
        if file_id in self._linked:
            return self._link_lfd(file_id, file)
        number = self._number[file_id]
        if number not in self._made:
            ghost = self._ghosts[number]
            maker = self._makers.get(number, (file_id, file))
            self._made[number] = self._make(*maker, ghost)
            _fill(f"/proc/self/fd/{self._made[number]}", ghost)
        return self._made[number]

    def close(self) -> None:
        """Close what is held. May be called twice."""
        links = (link.lfd for link in self._opened.values())
        lfds = (*self._made.values(), *self._own.values(), *links)
        self._made, self._own = {}, {}
        self._opened = {number: link._replace(lfd=-1) for number, link in self._opened.items()}
        for lfd in lfds:
            if lfd >= 0:
                os.close(lfd)

    def remove_links(self) -> None:
        """Take away each name that was opened, if it still leads to what it did."""
        for link in self._opened.values():
            try:
                found = Path(link.path).lstat()
                if (found.st_dev, found.st_ino) == link.inode:
                    Path(link.path).unlink()
            except OSError as error:
                why = os.strerror(error.errno or 0)
                self._view.report.warn(f"{link.path}: this name of a removed file stays: {why}")

    def _link_lfd(self, file_id: int, file: PathFile) -> int:
        """By the name that the dump made, but shown with the lost one where that can be."""
        number = self._linked[file_id]
        if number not in self._opened:
            path = self._files[number].path
            parent = _nearest(file.path)
            try:
                lfd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
                seen = os.fstat(lfd)
                if stat.S_ISDIR(seen.st_mode):
                    raise NotADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
                self._opened[number] = _Opened(path, lfd, (seen.st_dev, seen.st_ino))
                shown = _make_nameless(parent, Path(file.path).name, _JUST_A_LINK, lfd)
                self._opened[number] = self._opened[number]._replace(lfd=shown)
                os.close(lfd)
            except OSError as error:
                if number not in self._opened:
                    raise _failed(f"{file.path} (by {path})", error) from error
            finally:
                os.close(parent)
        return self._opened[number].lfd

    def _read(self, number: int) -> _Ghost:
        image = image_name("ghost-file", number)
        where = f"{image}.img"
        records = self._view.payloads(image)
        if not records:
            raise ImageError("is missing or empty", resource=where)
        (entry, whole), chunks = records[0], records[1:]
        if stat.S_IFMT(entry.mode) not in _FORMATS:
            raise RestoreError(f"is of type {entry.mode:#o}, not restored yet", resource=where)
        if stat.S_ISCHR(entry.mode) and entry.rdev not in DEVICES:
            raise ImageError(f"is a device {entry.rdev:#x} that nobody carries", resource=where)
        size = entry.size if entry.chunks else len(whole)
        parts = [(c.off, data) for c, data in chunks] if entry.chunks else [(0, whole)]
        if size >= 2**63 or any(offset + len(data) > size for offset, data in parts):
            raise ImageError(f"has data outside of its {size} bytes", resource=where)
        if not stat.S_ISREG(entry.mode) and (size or chunks):
            raise ImageError("has data, but is no file", resource=where)
        return _Ghost(
            *(entry.uid, entry.gid, entry.mode, entry.rdev, size, parts, _times(entry, where))
        )

    def _make(self, file_id: int, file: PathFile, ghost: _Ghost) -> int:
        parent = _nearest(file.path)
        try:
            if file.tmpfile and stat.S_ISREG(ghost.mode):
                made = self._make_temporary(file_id, file, parent)
                if made is not None:
                    return made
            return _make_nameless(parent, Path(file.path).name, ghost)
        except OSError as error:
            raise _failed(file.path, error) from error
        finally:
            os.close(parent)

    def _make_temporary(self, file_id: int, file: PathFile, parent: int) -> int | None:
        """By O_TMPFILE, for its description shows that, and its file can be linked. None where the
        file system does not know it."""
        flags = file.flags & (os.O_ACCMODE | _SYNCED) | os.O_TMPFILE
        try:
            lfd = os.open(".", flags | os.O_CLOEXEC, 0o600, dir_fd=parent)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
                raise
            self._view.report.warn(f"{file.path}: made anew without O_TMPFILE")
            return None
        self._own[file_id] = lfd
        fcntl.fcntl(lfd, fcntl.F_SETFL, file.flags & SETTABLE)
        return os.open(f"/proc/self/fd/{lfd}", os.O_PATH | os.O_CLOEXEC)


def _kind(message: Any) -> tuple[int, int]:
    if message.HasField("remap_type"):
        return message.remap_type, message.remap_id
    if message.remap_id & _OLD_GHOST:
        return GHOST, message.remap_id & ~_OLD_GHOST
    return LINKED, message.remap_id


def _times(entry: Any, where: str) -> tuple[int, int] | None:
    if not entry.HasField("atim") or not entry.HasField("mtim"):
        return None
    for time in (entry.atim, entry.mtim):
        if not 0 <= time.tv_usec < 10**6 or not -(2**33) < time.tv_sec < 2**33:
            raise ImageError("has a time that can't be", resource=where)
    atim, mtim = ((t.tv_sec * 10**6 + t.tv_usec) * 1000 for t in (entry.atim, entry.mtim))
    return atim, mtim


def _nearest(path: str) -> int:
    """The directory that the path was in, or what is left of the way to it."""
    for folder in Path(path).parents:
        try:
            return os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            continue
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)


def _make_nameless(parent: int, name: str, ghost: _Ghost, source: int = -1) -> int:
    """`source`: an O_PATH descriptor of the file to link, instead of making one."""
    permissions = 0o700 if stat.S_ISDIR(ghost.mode) else 0o600
    mode = stat.S_IFMT(ghost.mode) | permissions
    for attempt in range(_NAMES_TRIED):
        suffix = f".ckpt-{attempt}.ghost" if attempt else ""
        text = ffi.new("char[]", os.fsencode(name)[: _LONGEST_NAME - len(suffix)] + suffix.encode())
        wanted = ffi.new(
            "struct ckpt_nameless *",
            {"dir": parent, "from": source, "mode": mode, "rdev": ghost.rdev, "name": text},
        )
        try:
            return check(lib.ckpt_nameless(wanted), name)
        except FileExistsError:
            continue
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)


def _fill(path: str, ghost: _Ghost) -> None:
    """`path` leads to the file through /proc/self/fd."""
    try:
        if stat.S_ISREG(ghost.mode):
            lfd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                os.ftruncate(lfd, ghost.size)
                for offset, data in ghost.parts:
                    _write(lfd, offset, data)
            finally:
                os.close(lfd)
        os.chown(path, ghost.uid, ghost.gid)
        Path(path).chmod(stat.S_IMODE(ghost.mode))
        if ghost.times_ns:
            os.utime(path, ns=ghost.times_ns)
    except OSError as error:
        raise _failed("a deleted file", error) from error


def _write(lfd: int, offset: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        try:
            done = os.pwrite(lfd, view, offset)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return _write_mapped(lfd, offset, view)
        view, offset = view[done:], offset + done
    return None


def _write_mapped(lfd: int, offset: int, data: memoryview) -> None:
    """Into a file of hugetlbfs, which has no write(2). The kernel copies, so that a pool without
    pages is an error and no SIGBUS."""
    source = os.memfd_create("ckpt", os.MFD_CLOEXEC)
    try:
        _write(source, 0, data)
        page = os.fstat(lfd).st_blksize
        check(lib.ckpt_huge_fill(source, 0, lfd, offset, len(data), page), "huge pages")
    finally:
        os.close(source)


def _failed(path: str, error: OSError) -> RestoreError:
    return RestoreError(
        "deleted file can't be made again",
        resource=path,
        why=os.strerror(error.errno or 0),
        hint="--inherit-fd gives another file in its place",
    )
