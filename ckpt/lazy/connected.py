"""Who is connected to the holder, and an address space as a restore hands it over."""

from __future__ import annotations

import os
import socket
import struct

from ckpt.lazy.giving import Giving
from ckpt.lazy.layout import Object, Task
from ckpt.mem.extents import Extents
from ckpt.mem.missing.client import SHARE
from ckpt.mem.tracking.protocol import Message, ProtocolError
from ckpt.record import field, record
from ckpt.units import PAGE

_SPAN = struct.Struct("=QQ")
_UFFD = "anon_inode:[userfaultfd]"


@record
class Client:
    """`waits`: for the end; `restores`: it has handed over address spaces and not committed yet;
    `wants_service`: its request to serve is not answered yet."""

    sock: socket.socket
    waits: bool = False
    restores: bool = False
    wants_service: bool = False
    giving: Giving = field(default_factory=Giving)


def task_of(message: Message) -> Task:
    """The address space, whose descriptors are the caller's from here on. Raises ProtocolError."""
    if len(message.blobs) != 2 or len(message.fds) != 2 or not _is_uffd(message.fds[0]):
        raise ProtocolError("a userfaultfd, a process and its ranges are wanted")
    try:
        ranges = list(Extents.from_bytes(message.blobs[0]))
        soon = [one for one in _SPAN.iter_unpack(message.blobs[1]) if one[0] < one[1]]
    except (ValueError, struct.error) as error:
        raise ProtocolError(str(error)) from error
    pid, tracked = message.get("pid", int), message.get("tracked", bool)
    uffd, pidfd = message.fds
    message.fds.clear()
    return Task(pid, uffd, pidfd, ranges, soon, tracked)


def shares_of(message: Message) -> Task:
    """The mappings of shared memory of a task; as `task_of`. Raises ProtocolError."""
    if len(message.blobs) != 1 or len(message.fds) != 2 or not _is_uffd(message.fds[0]):
        raise ProtocolError("a userfaultfd, a process and its mappings are wanted")
    try:
        shares = list(SHARE.iter_unpack(message.blobs[0]))
    except struct.error as error:
        raise ProtocolError(str(error)) from error
    pid = message.get("pid", int)
    uffd, pidfd = message.fds
    message.fds.clear()
    return Task(pid, uffd, pidfd, [], [], tracked=False, shares=shares)


def object_of(message: Message) -> Object:
    """Shared memory, whose descriptor is the caller's from here on. Raises ProtocolError."""
    if len(message.fds) != 1:
        raise ProtocolError("one descriptor is wanted")
    shmid, size = message.get("shmid", int), message.get("size", int)
    if size <= 0 or size % PAGE:
        raise ProtocolError("no size of shared memory")
    return Object(shmid, message.fds.pop(), size)


def _is_uffd(lfd: int) -> bool:
    return os.readlink(f"/proc/self/fd/{lfd}") == _UFFD  # noqa: PTH115 (a Path changes the text)
