"""The kinds of descriptors that ckpt restores. A new kind is one line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckpt.files.epoll import EpollDump, EpollRestore
from ckpt.files.eventfd import EventfdDump, EventfdRestore
from ckpt.files.fanotify import FanotifyDump, FanotifyRestore
from ckpt.files.fifo import FifoDump, FifoRestore
from ckpt.files.inet import InetDump
from ckpt.files.inet_restore import InetRestore
from ckpt.files.inotify import InotifyDump, InotifyRestore
from ckpt.files.memfd import MemfdDump, MemfdRestore
from ckpt.files.netlink import NetlinkDump, NetlinkRestore
from ckpt.files.packet import PacketDump, PacketRestore
from ckpt.files.pidfd import PidfdDump, PidfdRestore
from ckpt.files.pipe import PipeDump, PipeRestore
from ckpt.files.regular import RegularDump, RegularRestore
from ckpt.files.signalfd import SignalfdDump, SignalfdRestore
from ckpt.files.timerfd import TimerfdDump, TimerfdRestore
from ckpt.files.tty import TtyDump
from ckpt.files.ttyrestore import TtyRestore
from ckpt.files.unix import UnixDump
from ckpt.files.unixrestore import UnixRestore
from ckpt.files.uring import UringDump
from ckpt.files.uring_restore import UringRestore

if TYPE_CHECKING:
    from ckpt.files.kind import DumpKind, RestoreKind

DUMP_KINDS: tuple[type[DumpKind], ...] = (
    *(PidfdDump, MemfdDump, RegularDump, PipeDump, FifoDump, TtyDump),
    *(EventfdDump, SignalfdDump, TimerfdDump, EpollDump, InotifyDump, FanotifyDump),
    *(InetDump, UnixDump, NetlinkDump, PacketDump, UringDump),
)
"""Who is asked first whether a descriptor is his: a memfd is a regular file, too, and a
pidfd may look like one."""

RESTORE_KINDS: tuple[type[RestoreKind], ...] = (
    *(RegularRestore, MemfdRestore, PipeRestore, FifoRestore, TtyRestore),
    *(InetRestore, NetlinkRestore, PacketRestore),
    *(EventfdRestore, SignalfdRestore, TimerfdRestore, PidfdRestore, EpollRestore),
    *(InotifyRestore, FanotifyRestore, UringRestore, UnixRestore),
)
"""In the order of opening; `needs` is checked against it by a test."""
