"""Files in an images directory, by descriptor: nothing is opened through a path or a symbolic link.

New files get a temporary name `.NAME.img.tmp`, mode 0600 and O_EXCL, and their own name only when
they are whole. What is opened for reading must be a regular file: a FIFO or device of that name
would hang or trick the reader. Errors become ImageError and name directory and file.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ckpt.errors import ImageError
from ckpt.images import framing
from ckpt.images.types import parse_file_name, parse_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from google.protobuf.message import Message

_NEW = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY
_OLD = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
_MODE = 0o600
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def open_directory(directory: str) -> int:
    """A descriptor of an images directory. Raises ImageError if there is none."""
    try:
        return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ImageError(
            "can't be opened as images directory",
            resource=directory,
            why=_reason(error),
            hint="it must exist; --images-dir names it",
        ) from error


def real_path(dir_lfd: int, otherwise: str) -> str:
    """The path of an open directory, without links; `otherwise` where /proc can't tell."""
    try:
        return str(Path(f"/proc/self/fd/{dir_lfd}").readlink())
    except OSError:
        return otherwise


def create(dir_lfd: int, file: str, where: str) -> int:
    """A descriptor, for reading and writing, of a new file under its temporary name."""
    try:
        return os.open(temporary(file), os.O_RDWR | _NEW, _MODE, dir_fd=dir_lfd)
    except OSError as error:
        raise cannot_write(where, error) from error


def open_existing(dir_lfd: int, file: str, where: str) -> int:
    """A descriptor, for reading, of a regular file."""
    try:
        lfd = os.open(file, _OLD, dir_fd=dir_lfd)
    except OSError as error:
        raise ImageError(
            "can't be opened",
            resource=where,
            why="it is a symbolic link" if error.errno == errno.ELOOP else _reason(error),
            hint="the image set is incomplete" if error.errno == errno.ENOENT else "",
        ) from error
    if not stat.S_ISREG(os.fstat(lfd).st_mode):
        os.close(lfd)
        raise ImageError("is not a regular file", resource=where)
    return lfd


def write_all(lfd: int, data: bytes, where: str) -> None:
    """Write all of `data` at the file's position."""
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(lfd, view) :]
    except OSError as error:
        raise cannot_write(where, error) from error


def read_all(lfd: int, limit: int, where: str) -> bytes:
    """The whole file. Raises ImageError if it has more than `limit` bytes."""
    size = os.fstat(lfd).st_size
    if size > limit:
        raise ImageError(f"has {size} bytes, more than the {limit} it may have", resource=where)
    parts: list[bytes] = []
    at = 0
    try:
        while part := os.pread(lfd, size - at, at):
            parts.append(part)
            at += len(part)
    except OSError as error:
        raise ImageError(f"can't be read at byte {at}: {_reason(error)}", resource=where) from error
    return b"".join(parts)


def place(dir_lfd: int, file: str, where: str, *, into: int | None = None) -> None:
    """Give a new file its own name, in place of an older one; `into`: in that directory."""
    to = dir_lfd if into is None else into
    try:
        os.rename(temporary(file), file, src_dir_fd=dir_lfd, dst_dir_fd=to)
    except OSError as error:
        raise cannot_write(where, error) from error


def read_link(dir_lfd: int, name: str, where: str) -> str:
    """Where a symbolic link leads, as it is spelled; empty if there is nothing of that name."""
    try:
        return os.readlink(name, dir_fd=dir_lfd)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise ImageError("is no symbolic link", resource=where) from error


def make_link(dir_lfd: int, name: str, target: str, where: str) -> None:
    """A symbolic link to `target`, unless there is one."""
    try:
        os.symlink(target, name, dir_fd=dir_lfd)
    except OSError as error:
        if error.errno == errno.EEXIST and read_link(dir_lfd, name, where) == target:
            return
        raise cannot_write(where, error) from error


def sync_new(dir_lfd: int, files: Sequence[str], where: str) -> None:
    """fsync new files, in several threads: a journal takes together what comes together.

    Measured on ext4: 2000 small files take 440 ms one after the other, 69 ms in 16 threads.
    """
    import threading

    nr_threads = min(16, len(files) // 8 + 1)
    failed: list[OSError] = []

    def sync(some: Sequence[str]) -> None:
        try:
            for file in some:
                lfd = os.open(temporary(file), _OLD, dir_fd=dir_lfd)
                try:
                    os.fsync(lfd)
                finally:
                    os.close(lfd)
        except OSError as error:
            failed.append(error)

    threads: list[threading.Thread] = []
    for first in range(1, nr_threads):
        thread = threading.Thread(target=sync, args=(files[first::nr_threads],))
        try:
            thread.start()
        except RuntimeError:  # no room for another thread
            sync(files[first::nr_threads])
        else:
            threads.append(thread)
    sync(files[::nr_threads])
    for thread in threads:
        thread.join()
    if failed:
        raise cannot_write(where, failed[0])


def write_image(
    directory: str | os.PathLike[str],
    name: str,
    messages: Iterable[Message | tuple[Message, bytes]],
) -> None:
    """Write one image that is no part of a set (cpuinfo, stats-restore), replacing an older one.

    Not synced to the disk. Not for two processes at a time.
    """
    file = parse_name(name).file
    data = framing.encode(name, messages)
    dir_lfd = open_directory(os.fspath(directory))
    try:
        renew(dir_lfd, file, data, f"{os.fspath(directory)}/{file}")
    finally:
        os.close(dir_lfd)


def renew(dir_lfd: int, file: str, data: bytes, where: str) -> None:
    """Write one file that can be done without, in place of an older one.

    Who is killed meanwhile leaves no temporary file, at worst no file at all: until it is whole
    the new one has no name (open(2), O_TMPFILE). Not synced to the disk.
    """
    try:
        lfd = os.open(".", os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, _MODE, dir_fd=dir_lfd)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR):
            raise cannot_write(where, error) from error
        replace(dir_lfd, file, data, where)  # a file system without such files
        return
    try:
        write_all(lfd, data, where)
        with suppress(FileNotFoundError):
            os.unlink(file, dir_fd=dir_lfd)
        os.link(f"/proc/self/fd/{lfd}", file, dst_dir_fd=dir_lfd, follow_symlinks=True)
    except OSError as error:
        raise cannot_write(where, error) from error
    finally:
        os.close(lfd)


def replace(dir_lfd: int, file: str, data: bytes, where: str) -> None:
    """Write one file, in place of an older one; durable when it returns."""
    with suppress(FileNotFoundError):
        os.unlink(temporary(file), dir_fd=dir_lfd)
    lfd = create(dir_lfd, file, where)
    try:
        write_all(lfd, data, where)
        sync_one(lfd, where)
    finally:
        os.close(lfd)
    place(dir_lfd, file, where)
    sync_one(dir_lfd, where)


def sync_one(lfd: int, where: str) -> None:
    """fsync."""
    try:
        os.fsync(lfd)
    except OSError as error:
        raise cannot_write(where, error) from error


def lock(dir_lfd: int, where: str, *, shared: bool = False) -> None:
    """Keep others from the directory (flock) until the descriptor is closed. Writers of a set and
    those that free pages of one are alone; readers share. Raises ImageError if somebody is in the
    way."""
    try:
        fcntl.flock(dir_lfd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        # Some network file systems know no locks: there the user keeps processes apart.
        if error.errno == errno.EWOULDBLOCK:
            what = "writes images there, or frees pages" if shared else "works with images there"
            raise ImageError(f"another process {what}", resource=where) from error


def temporary(file: str) -> str:
    """The name that a file has until it is whole."""
    return f".{file}.tmp"


def is_temporary(name: str) -> bool:
    """Whether this is the temporary name of an image."""
    file = name.removeprefix(".").removesuffix(".tmp")
    return name == temporary(file) and parse_file_name(file) is not None


@contextmanager
def pages_written(where: str) -> Iterator[None]:
    """Within it an error for want of room is one of writing to `where`."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise cannot_write(where, error) from error
        raise


def cannot_write(where: str, error: OSError) -> ImageError:
    """The error for a failed write."""
    full = error.errno in _NO_ROOM
    return ImageError(
        "can't be written",
        resource=where,
        why=_reason(error),
        hint="make room, or choose another --images-dir" if full else "",
    )


def _reason(error: OSError) -> str:
    return os.strerror(error.errno or 0).lower()
