"""The kinds of descriptors that ckpt restores. A new kind is one line here for each way.

A kind's module is imported when the first descriptor is met that may be of it (ckpt.files.met): on
a dump that is told by the format of the descriptor, on a restore by the type that its entry says.
Most trees have few kinds, and what all of them import was a tenth of a start.
"""

from __future__ import annotations

import importlib
import stat
from typing import Any, NamedTuple

from ckpt.files.kind import FdType
from ckpt.images.types import message_class

_ANONYMOUS = 0
"""Anonymous inodes have no format."""


class Dumped(NamedTuple):
    """Where a DumpKind is. `format` (S_IFMT): that of all that it claims, None for any."""

    module: str
    name: str
    format: int | None = None

    def load(self) -> Any:
        """The class."""
        return _load(self.module, self.name)


class Restored(NamedTuple):
    """Where a RestoreKind is, and its type."""

    type: FdType
    module: str
    name: str

    def load(self) -> Any:
        """The class."""
        return _load(self.module, self.name)


def _load(module: str, name: str) -> Any:
    return getattr(importlib.import_module(f"ckpt.files.{module}"), name)


DUMP_KINDS = (
    Dumped("pidfd", "PidfdDump"),
    Dumped("memfd", "MemfdDump"),
    Dumped("regular", "RegularDump"),
    Dumped("pipe", "PipeDump", stat.S_IFIFO),
    Dumped("fifo", "FifoDump", stat.S_IFIFO),
    Dumped("tty", "TtyDump", stat.S_IFCHR),
    Dumped("eventfd", "EventfdDump", _ANONYMOUS),
    Dumped("signalfd", "SignalfdDump", _ANONYMOUS),
    Dumped("timerfd", "TimerfdDump", _ANONYMOUS),
    Dumped("epoll", "EpollDump", _ANONYMOUS),
    Dumped("inotify", "InotifyDump", _ANONYMOUS),
    Dumped("fanotify", "FanotifyDump", _ANONYMOUS),
    Dumped("inet", "InetDump", stat.S_IFSOCK),
    Dumped("unix", "UnixDump", stat.S_IFSOCK),
    Dumped("netlink", "NetlinkDump", stat.S_IFSOCK),
    Dumped("packet", "PacketDump", stat.S_IFSOCK),
    Dumped("uring", "UringDump", _ANONYMOUS),
)
"""Who is asked first whether a descriptor is his: a memfd is a regular file, too, and a
pidfd may look like one."""

RESTORE_KINDS = (
    Restored(FdType.REG, "regular", "RegularRestore"),
    Restored(FdType.MEMFD, "memfd", "MemfdRestore"),
    Restored(FdType.PIPE, "pipe", "PipeRestore"),
    Restored(FdType.FIFO, "fifo", "FifoRestore"),
    Restored(FdType.TTY, "ttyrestore", "TtyRestore"),
    Restored(FdType.INETSK, "inet_restore", "InetRestore"),
    Restored(FdType.NETLINKSK, "netlink", "NetlinkRestore"),
    Restored(FdType.PACKETSK, "packet", "PacketRestore"),
    Restored(FdType.EVENTFD, "eventfd", "EventfdRestore"),
    Restored(FdType.SIGNALFD, "signalfd", "SignalfdRestore"),
    Restored(FdType.TIMERFD, "timerfd", "TimerfdRestore"),
    Restored(FdType.PIDFD, "pidfd", "PidfdRestore"),
    Restored(FdType.EVENTPOLL, "epoll", "EpollRestore"),
    Restored(FdType.INOTIFY, "inotify", "InotifyRestore"),
    Restored(FdType.FANOTIFY, "fanotify", "FanotifyRestore"),
    Restored(FdType.EXT, "uring_restore", "UringRestore"),
    Restored(FdType.UNIXSK, "unixrestore", "UnixRestore"),
)
"""In the order of opening; `needs` is checked against it by a test."""

NEEDED = frozenset({FdType.REG, FdType.MEMFD})
"""Those that a restore has in any case, for the files behind mappings."""


def type_name(number: int) -> str:
    """`fd_types` of the image format by name, those without a kind, too."""
    descriptor: Any = message_class("fdinfo.file_entry").DESCRIPTOR
    known = descriptor.fields_by_name["type"].enum_type.values_by_number.get(number)
    return str(known.name if known else number)
