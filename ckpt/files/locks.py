"""Locks that descriptors hold: POSIX record locks (of a process), flock(2), open-file-description
locks and leases (of a description).

They are read from the `lock:` lines of fdinfo, which name exactly those that were taken through
this description by this process, so nothing has to be matched by inode. A lock is written once, for
the first descriptor of its description.

A process that waits for a lock is in an interrupted system call and asks again by itself. A lease
that is being broken is refused, and so are delegations.

Restore: all are taken by the task itself (`RecordLock.packed` is the struct flock for F_SETLK and
F_OFD_SETLK): record locks belong to the process, and the others are shown as those of the process
which took them; who is told that a lease is to be broken is set before (see owner). None waits: a
lock that somebody else has taken meanwhile is an error.

Source: proc_pid_fdinfo(5), fcntl_locking(2), flock(2); numbers from include/linux/filelock.h.
"""

from __future__ import annotations

import fcntl
import os
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from ckpt.errors import ImageError, RestoreError
from ckpt.files.kind import Obstacle
from ckpt.procfs.locks import EOF

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ckpt.files.descriptor import Descriptor
    from ckpt.procfs.locks import Lock

FL_POSIX, FL_FLOCK, FL_LEASE, FL_OFDLCK = 1, 2, 32, 1024
_KINDS = {"POSIX": FL_POSIX, "FLOCK": FL_FLOCK, "LEASE": FL_LEASE, "OFDLCK": FL_OFDLCK}
F_SETLK, F_OFD_SETLK, F_SETLEASE = 6, 37, 1024
_COMMANDS = {FL_POSIX: F_SETLK, FL_OFDLCK: F_OFD_SETLK}
_TYPES = {"READ": fcntl.F_RDLCK, "WRITE": fcntl.F_WRLCK}
_FLOCK = struct.Struct("hh4xqqi4x")
_REFUSED = {"DELEG": "a delegation"}


def obstacle(d: Descriptor, *, file_locks: bool) -> Obstacle | None:
    """Why the locks of a descriptor stand in the way of a dump."""
    for lock in d.locks:
        if lock.kind == "LEASE" and lock.mode != "ACTIVE":
            return Obstacle("it holds a lease that is being broken", "dump again when it is over")
        if lock.kind not in _KINDS or lock.access not in _TYPES:
            what = _REFUSED.get(lock.kind, f"a lock of kind {lock.kind} {lock.access}")
            return Obstacle(f"{what} is not restored yet", "give it up before the dump")
        if not file_locks:
            return Obstacle(f"it holds a file lock ({lock.kind})", "--file-locks")
    return None


class HeldLock(NamedTuple):
    """One lock that a dump found. `length` 0 means up to the end of the file."""

    kind: int
    type: int
    pid: int
    fd: int
    start: int
    length: int

    def message(self) -> Any:
        """As a file_lock_entry."""
        from ckpt.images.pb.file_lock_pb2 import file_lock_entry

        return file_lock_entry(
            flag=self.kind,
            type=self.type,
            pid=self.pid,
            fd=self.fd,
            start=self.start,
            len=self.length,
        )


def held(
    described: Iterable[tuple[Descriptor, int]], holders: Mapping[int, int]
) -> Iterator[HeldLock]:
    """The locks of descriptors, each with the id of its description, every lock once. `holders`:
    for each task the one whose descriptors stand for those of all who share its table."""
    seen: set[tuple[int, int, Lock]] = set()
    for d, file_id in described:
        for lock in d.locks:
            kind = _KINDS[lock.kind]
            # The number counts the lines of one file, the pid is that of whoever took a flock.
            key = (file_id, d.pid if kind == FL_POSIX else 0, _bare(lock))
            if key not in seen:
                seen.add(key)
                length = 0 if lock.end == EOF else lock.end - lock.start + 1
                taker = lock.pid if holders.get(lock.pid) == d.pid else d.pid
                yield HeldLock(kind, _TYPES[lock.access], taker, d.fd, lock.start, length)


def _bare(lock: Lock) -> Any:
    return lock.kind, lock.access, lock.start, lock.end


class RecordLock(NamedTuple):
    """One record lock for a task to take: fcntl(fd, command, packed)."""

    fd: int
    type: int
    start: int
    length: int
    command: int = F_SETLK

    @property
    def packed(self) -> bytes:
        """A struct flock of x86-64."""
        return _FLOCK.pack(self.type, os.SEEK_SET, self.start, self.length, 0)


class SavedLocks:
    """The checked locks of an image set. `where` is the image's name in errors."""

    def __init__(self, messages: Iterable[Any]) -> None:
        self.records: dict[int, list[RecordLock]] = {}
        self.flocks: list[tuple[int, int, int]] = []
        self.leases: list[tuple[int, int, int]] = []
        for message in messages:
            where = f"lock of pid {message.pid} on descriptor {message.fd} in filelocks.img"
            if message.type not in _TYPES.values():
                raise ImageError(f"has type {message.type}", resource=where)
            if message.fd < 0 or message.start < 0 or message.len < 0:
                raise ImageError("has a range that can't be", resource=where)
            if message.flag == FL_FLOCK:
                self.flocks.append((message.pid, message.fd, message.type))
            elif message.flag == FL_LEASE:
                self.leases.append((message.pid, message.fd, message.type))
            elif message.flag in _COMMANDS:
                command = _COMMANDS[message.flag]
                lock = RecordLock(message.fd, message.type, message.start, message.len, command)
                self.records.setdefault(message.pid, []).append(lock)
            else:
                why = f"flag {message.flag:#x}"
                raise RestoreError("is a kind not restored yet", resource=where, why=why)

    def __bool__(self) -> bool:
        return bool(self.records or self.flocks or self.leases)


def flock_operation(lock_type: int) -> int:
    """The operation of flock(2) that takes a lock of this type without waiting."""
    return (fcntl.LOCK_SH if lock_type == fcntl.F_RDLCK else fcntl.LOCK_EX) | fcntl.LOCK_NB
