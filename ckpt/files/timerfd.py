"""timerfd_create(2): timers that are read.

The image says what was left of a timer, however it was set. Timers are started last of all
(`finish`), so that the time between dump and restore counts for none but those that were set to a
time of the wall clock (TFD_TIMER_ABSTIME with CLOCK_REALTIME): these keep that time, which stands
in an image of our own, ckpt-timerfd; without it, in CRIU's images, they too go on with what was
left.

Ticks that were not read come back (TFD_IOC_SET_TICKS). A periodic timer that has expired is counted
on by the kernel only when somebody looks, so a dump asks it through a duplicate (timerfd_gettime),
which the target can't notice.

Not kept: that the wall clock was set (ECANCELED) and nobody has read that yet.

Source: timerfd_create(2), fs/timerfd.c.
"""

from __future__ import annotations

import fcntl
import struct
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from ckpt._native import ffi
from ckpt.errors import ImageError, KernelError, RestoreError
from ckpt.files.anonymous import AnonymousDump, AnonymousRestore, address, made, value
from ckpt.files.kind import FdType
from ckpt.images.types import message_class
from ckpt.procfs.fdinfo import parse_fdinfo
from ckpt.procfs.reader import read_system

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ckpt.errors import Refusal
    from ckpt.files.descriptor import Descriptor
    from ckpt.files.dumping import DumpView
    from ckpt.files.restoring import RestoreView
    from ckpt.procfs.fdinfo import FdInfo

_TFD_CLOEXEC = 0o2000000
_ABSTIME, _CANCEL_ON_SET = 1, 2
_TFD_IOC_SET_TICKS = 0x40085400
_REALTIME, _REALTIME_ALARM = 0, 8
_CLOCKS = {
    _REALTIME: "CLOCK_REALTIME",
    1: "CLOCK_MONOTONIC",
    7: "CLOCK_BOOTTIME",
    _REALTIME_ALARM: "CLOCK_REALTIME_ALARM",
    9: "CLOCK_BOOTTIME_ALARM",
}
_NS = 10**9
_LONGEST_S = 2**63 - 1


class _Asked(NamedTuple):
    """What fdinfo said, and CLOCK_REALTIME just then."""

    info: bytes
    wall_ns: int


class TimerfdDump(AnonymousDump):
    type = FdType.TIMERFD
    links = frozenset({"anon_inode:[timerfd]"})
    field = "tfd"

    def __init__(self, view: DumpView) -> None:
        super().__init__(view)
        self._asked: dict[int, _Asked] = {}

    def settle(self) -> Iterable[Refusal]:
        for d, file_id in self.held:
            lfd = self.view.duplicate(d)
            now = ffi.new("uint64_t[4]")
            made("timerfd_gettime", lfd, address(now))
            wall_ns = time.clock_gettime_ns(time.CLOCK_REALTIME)
            self._asked[file_id] = _Asked(read_system(f"self/fdinfo/{lfd}"), wall_ns)
        return ()

    def fill(self, message: Any, d: Descriptor, file_id: int) -> None:
        del d
        info = parse_fdinfo(self._asked[file_id].info)
        message.clockid = value(info, "clockid")
        message.ticks = value(info, "ticks")
        message.settime_flags = value(info, "settime flags", 8)
        message.vsec, message.vnsec = _pair(info, "it_value")
        message.isec, message.insec = _pair(info, "it_interval")

    def images(self) -> dict[str, Sequence[Any]]:
        own: Any = message_class("ckpt_timerfd.ckpt_timerfd_entry")
        found = []
        for file_id, asked in self._asked.items():
            info = parse_fdinfo(asked.info)
            seconds, ns = _pair(info, "it_value")
            of_wall = value(info, "clockid") in (_REALTIME, _REALTIME_ALARM)
            if of_wall and value(info, "settime flags", 8) & _ABSTIME and (seconds or ns):
                found.append(own(id=file_id, expires_ns=asked.wall_ns + seconds * _NS + ns))
        return {"ckpt-timerfd": found} if found else {}


def _pair(info: FdInfo, key: str) -> tuple[int, int]:
    """ "(seconds, nanoseconds)" of fdinfo."""
    try:
        (text,) = info.values(key)
        seconds, ns = text.strip("()").split(",")
        return int(seconds), int(ns)
    except ValueError as error:
        raise KernelError("fdinfo does not tell", resource=key, why=repr(info.extra)) from error


class TimerfdRestore(AnonymousRestore):
    type = FdType.TIMERFD
    field = "tfd"

    def __init__(self, view: RestoreView) -> None:
        super().__init__(view)
        self._expires_ns: dict[int, int] = {}

    def check(self, message: Any, where: str) -> None:
        if message.clockid not in _CLOCKS:
            raise ImageError(f"has clock {message.clockid}", resource=where)
        if message.settime_flags & ~(_ABSTIME | _CANCEL_ON_SET):
            raise ImageError(f"has flags {message.settime_flags:#x}", resource=where)
        for seconds, ns in ((message.vsec, message.vnsec), (message.isec, message.insec)):
            if seconds > _LONGEST_S or ns >= _NS:
                raise ImageError("has a time that can't be", resource=where)

    def prepare(self, wanted: Iterable[int]) -> None:
        del wanted
        for message in self.view.messages("ckpt-timerfd"):
            self._expires_ns[message.id] = message.expires_ns

    def text(self, file_id: int) -> str:
        m = self.messages[file_id]
        left = f"{m.vsec}.{m.vnsec:09} s left" if m.vsec or m.vnsec else "not set"
        again = f", every {m.isec}.{m.insec:09} s" if m.isec or m.insec else ""
        return f"make timerfd of {_CLOCKS[m.clockid]}, {left}{again}, {m.ticks} ticks"

    def make(self, file_id: int, message: Any) -> int:
        del file_id
        return made("timerfd_create", message.clockid, _TFD_CLOEXEC)

    def finish(self, file_id: int, lfd: int) -> None:
        """Start it."""
        m = self.messages[file_id]
        left, interval = m.vsec * _NS + m.vnsec, m.isec * _NS + m.insec
        if not left and interval and m.ticks:
            left = interval  # a set of CRIU's: it had expired, nobody knows how long ago
        first = left
        if left and m.settime_flags & _ABSTIME:
            first = self._expires_ns.get(file_id, time.clock_gettime_ns(m.clockid) + left)
        try:
            times = ffi.new("uint64_t[4]", [*divmod(interval, _NS), *_timespec(first)])
            made("timerfd_settime", lfd, m.settime_flags, address(times), 0)
            if m.ticks:
                fcntl.ioctl(lfd, _TFD_IOC_SET_TICKS, struct.pack("=Q", m.ticks))
        except OSError as error:
            raise RestoreError(
                "can't be set", resource=self.text(file_id), why=error.strerror or ""
            ) from error


def _timespec(ns: int) -> tuple[int, int]:
    """Never zero, which would stop the timer, if `ns` is not."""
    seconds, rest = divmod(ns, _NS)
    return min(seconds, _LONGEST_S), rest
