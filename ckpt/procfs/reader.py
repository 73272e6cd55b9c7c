"""Where /proc is opened: one process by a descriptor of its directory.

A pid can be given to another process between two looks; an open descriptor of /proc/PID can not.
After its process has gone every read through it fails with ESRCH, which is TargetError here, as is
ENOENT of the directory itself. A file that only this kernel lacks is `None` from `read_if`.

Reads are one open, as few reads as the file needs, one close: 4 us for a small file. seq_file gives
about a page at a time whatever the buffer, so only a read that returns nothing is the end.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from ckpt.errors import KernelError, TargetError
from ckpt.scope import Closing

_CHUNK = 1 << 16
_DIR = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_GONE = (errno.ENOENT, errno.ESRCH)


class ProcDir(Closing):
    """One process, or one thread of it (`thread`), for as long as this is open.

    Close it, or use it as a context manager. Names are relative to the directory: "maps",
    "task/12/stat", "fdinfo/0". Every method raises TargetError when the process is gone and
    KernelError for what is not permitted.
    """

    __slots__ = ("dirfd", "pid", "where")

    def __init__(self, pid: int, *, root: str | Path = "/proc") -> None:
        self.pid = pid
        self.where = f"{root}/{pid}"
        self.dirfd = -1
        try:
            self.dirfd = os.open(self.where, _DIR)
        except OSError as error:
            raise self._failed(error, "") from error

    def close(self) -> None:
        """Give the descriptor back; harmless when done twice."""
        if self.dirfd >= 0:
            dirfd, self.dirfd = self.dirfd, -1
            os.close(dirfd)

    def fileno(self) -> int:
        return self.dirfd

    def read(self, name: str) -> bytes:
        """The whole file."""
        try:
            return read_at(self.dirfd, name)
        except OSError as error:
            raise self._failed(error, name) from error

    def read_if(self, name: str) -> bytes | None:
        """The whole file; None where there is none but the process is alive."""
        try:
            return read_at(self.dirfd, name)
        except FileNotFoundError as error:
            if not self.alive():
                raise self._failed(error, name) from error
            return None
        except OSError as error:
            raise self._failed(error, name) from error

    def write(self, name: str, data: bytes) -> None:
        """One write(2) of all of `data`, as files of /proc want it."""
        try:
            fd = os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=self.dirfd)
            try:
                os.write(fd, data)
            finally:
                os.close(fd)
        except OSError as error:
            raise self._failed(error, name) from error

    def open(self, name: str, flags: int) -> int:
        """A descriptor of the file, close-on-exec, without becoming a controlling terminal."""
        try:
            return os.open(name, flags | os.O_CLOEXEC | os.O_NOCTTY, dir_fd=self.dirfd)
        except OSError as error:
            raise self._failed(error, name) from error

    def readlink(self, name: str) -> bytes:
        """The text of a link. Nothing is followed or opened."""
        try:
            return os.readlink(name.encode(), dir_fd=self.dirfd)
        except OSError as error:
            raise self._failed(error, name) from error

    def stat(self, name: str) -> os.stat_result:
        """stat(2) of what a link stands for (fd/N, exe, map_files/...), without opening it."""
        try:
            return os.stat(name, dir_fd=self.dirfd)
        except OSError as error:
            raise self._failed(error, name) from error

    def names(self, name: str) -> list[str]:
        """The entries of a directory, in its order."""
        try:
            fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.dirfd)
            try:
                with os.scandir(fd) as entries:
                    return [entry.name for entry in entries]
            finally:
                os.close(fd)
        except OSError as error:
            raise self._failed(error, name) from error

    def numbers(self, name: str) -> list[int]:
        """The entries of a directory that are numbers (fd, fdinfo, task), ascending."""
        return sorted(int(entry) for entry in self.names(name) if entry.isdecimal())

    def tids(self) -> list[int]:
        """All threads, ascending: the leader is not always the first."""
        return self.numbers("task")

    def alive(self) -> bool:
        """Whether the process still has its place in /proc; a zombie has."""
        try:
            os.stat("stat", dir_fd=self.dirfd)
        except OSError as error:
            if error.errno in _GONE:
                return False
            raise self._failed(error, "stat") from error
        return True

    def _failed(self, error: OSError, name: str) -> TargetError | KernelError:
        resource = f"{self.where}/{name}" if name else self.where
        why = os.strerror(error.errno or 0)
        if error.errno in _GONE and name not in ("", "stat") and self.alive():
            # A closed descriptor, an ended thread, a zombie's or kernel thread's memory.
            return TargetError("the process has none", pid=self.pid, resource=resource, why=why)
        if error.errno in _GONE:
            return TargetError(
                "the process is not there",
                pid=self.pid,
                resource=resource,
                why=why,
                hint="it has ended, or lives in another pid namespace",
            )
        if error.errno in (errno.EACCES, errno.EPERM):
            hint = "ckpt needs CAP_SYS_PTRACE or CAP_CHECKPOINT_RESTORE over it"
            return KernelError("not permitted", pid=self.pid, resource=resource, why=why, hint=hint)
        return KernelError("can't be read", pid=self.pid, resource=resource, why=why)


def read_at(dirfd: int, name: str) -> bytes:
    """The whole file `name` below `dirfd`. Raises OSError as the kernel says it."""
    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=dirfd)
    try:
        data = os.read(fd, _CHUNK)
        rest = os.read(fd, _CHUNK) if data else b""
        if not rest:
            return data
        pieces = [data]
        while rest:
            pieces.append(rest)
            rest = os.read(fd, _CHUNK)
        return b"".join(pieces)
    finally:
        os.close(fd)


def read_system(name: str, *, root: str | Path = "/proc") -> bytes:
    """A file of /proc that belongs to no process (locks, filesystems, sys/...)."""
    path = Path(root, name)
    try:
        return path.read_bytes()
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise KernelError("can't be read", resource=str(path), why=why) from error


def pids(*, root: str | Path = "/proc") -> list[int]:
    """Every process of the reader's pid namespace, ascending."""
    with os.scandir(root) as entries:
        return sorted(int(entry.name) for entry in entries if entry.name.isdecimal())
