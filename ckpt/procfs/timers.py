"""/proc/PID/timers: the POSIX timers of a process, newest first.

Source: proc_pid_timers(5), show_timer() in fs/proc/base.c. Needs CONFIG_CHECKPOINT_RESTORE.

`clock` may be negative: a CPU clock of a process or thread. `notify_tid` is of the reader's pid
namespace.
"""

from __future__ import annotations

import re

from ckpt.procfs.parse import dec, fail, hexa, signed, text
from ckpt.record import record

FILE = "timers"
_TIMER = re.compile(
    rb"ID: ([0-9]+)\n"
    rb"signal: ([0-9]+)/(?:0x)?([0-9a-f]+|\(null\))\n"
    rb"notify: (none|signal|thread)/(tid|pid)\.([0-9]+)\n"
    rb"ClockID: (-?[0-9]+)\n"
)


@record(frozen=True)
class PosixTimer:
    """One timer_create(2): `sigval` as it is delivered, `notify` none, signal or thread."""

    timer_id: int
    signo: int
    sigval: int
    notify: str
    notify_thread: bool
    notify_tid: int
    clock: int


def parse_timers(data: bytes) -> list[PosixTimer]:
    """All timers; an empty file is a process without any."""
    timers: list[PosixTimer] = []
    at = 0
    while at < len(data):
        found = _TIMER.match(data, at)
        if found is None:
            fail(FILE, data[at:].split(b"\n", 1)[0], "not a timer")
        block = found[0]
        at = found.end()
        timers.append(
            PosixTimer(
                timer_id=dec(found[1], FILE, block),
                signo=dec(found[2], FILE, block),
                sigval=0 if found[3] == b"(null)" else hexa(found[3], FILE, block),
                notify=text(found[4]),
                notify_thread=found[5] == b"tid",
                notify_tid=dec(found[6], FILE, block),
                clock=signed(found[7], FILE, block),
            )
        )
    return timers
