"""timerfd_create(2): timers that are read.

The image says what was left of a timer, however it was set. Timers are started last of all
(`finish`), so that the time between dump and restore counts for none but those that were set to a
time of the wall clock (TFD_TIMER_ABSTIME with CLOCK_REALTIME): these keep that time, which stands
in an image of our own, ckpt-timerfd; without it, in CRIU's images, they too go on with what was
left.

Ticks that were not read come back (TFD_IOC_SET_TICKS). A periodic timer that has expired is counted
on by the kernel only when somebody looks, so a dump asks it through a duplicate (timerfd_gettime),
which the target can't notice. It asks last of all in the freeze, just before the clocks.

A timer whose time has come says that nothing is left, as one that is not set does, until the
interrupt has been served by its processor, which may be late: see `_visit_processors`. To set the
ticks is to forget one that comes in between: see `start`.

Not kept: that the wall clock was set (ECANCELED) and nobody has read that yet.

Source: timerfd_create(2), fs/timerfd.c.
"""

from __future__ import annotations

import fcntl
import os
import re
import struct
import time
from contextlib import suppress
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
_CLOCK_READ = {_REALTIME_ALARM: _REALTIME, 9: 7}
"""What the alarm clocks say can't be read on every machine."""
_NS = 10**9
_LONGEST_S = 2**63 - 1
_SEEMS_STILL = re.compile(rb"^ticks: 0$.*^it_value: \(0, 0\)$", re.MULTILINE | re.DOTALL).search
_MOST_TICKS = 2**64 - 1
_PATIENCE_NS = (0, 10**5, 10**6, 10**7, 10**8, 10**9)


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

    def at_last(self) -> None:
        lfds = {file_id: self.view.duplicate(d) for d, file_id in self.held}
        for file_id, lfd in lfds.items():
            self._asked[file_id] = _ask(lfd)
        still = [file_id for file_id, asked in self._asked.items() if _SEEMS_STILL(asked.info)]
        if still:
            _visit_processors()
        for file_id in still:
            self._asked[file_id] = _ask(lfds[file_id])

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


def _ask(lfd: int) -> _Asked:
    now = ffi.new("uint64_t[4]")
    made("timerfd_gettime", lfd, address(now))
    wall_ns = time.clock_gettime_ns(time.CLOCK_REALTIME)
    return _Asked(read_system(f"self/fdinfo/{lfd}"), wall_ns)


def _visit_processors() -> None:
    """Run on each for a moment: interrupts of timers whose time had come have been there first."""
    allowed = os.sched_getaffinity(0)
    try:
        for cpu in range(os.sysconf("SC_NPROCESSORS_CONF")):
            with suppress(OSError):  # not one of ours
                os.sched_setaffinity(0, {cpu})
    finally:
        os.sched_setaffinity(0, allowed)


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
        try:
            date = self._expires_ns.get(file_id) if m.settime_flags & _ABSTIME else None
            start(lfd, m, date, left, interval)
        except OSError as error:
            raise RestoreError(
                "can't be set", resource=self.text(file_id), why=error.strerror or ""
            ) from error


def start(lfd: int, m: Any, date: int | None, left: int, interval: int) -> None:
    """Give it its ticks before it can tick again, however late that makes it. `date`: when it
    does, in nanoseconds of the wall clock, if it has one."""
    clock = _CLOCK_READ.get(m.clockid, m.clockid)
    for patience_ns in _PATIENCE_NS:
        now, ticks = time.clock_gettime_ns(clock), m.ticks
        end = now + max(left, patience_ns) if date is None else date
        if ticks and interval and end <= now:
            missed = (now - end) // interval + 1
            ticks, end = min(ticks + missed, _MOST_TICKS), end + missed * interval
        first = end if m.settime_flags & _ABSTIME else end - now
        if not left:
            first = 0
        times = ffi.new("uint64_t[4]", [*divmod(interval, _NS), *_timespec(first)])
        made("timerfd_settime", lfd, m.settime_flags, address(times), 0)
        if not ticks:
            return
        fcntl.ioctl(lfd, _TFD_IOC_SET_TICKS, struct.pack("=Q", ticks))
        if not left or time.clock_gettime_ns(clock) < end:
            return


def _timespec(ns: int) -> tuple[int, int]:
    """Never zero, which would stop the timer, if `ns` is not."""
    seconds, rest = divmod(ns, _NS)
    return min(seconds, _LONGEST_S), rest
