"""/proc/PID/task/TID/sched: when a thread last ran, by the clock of the processor where it did.

Source: kernel/sched/debug.c (proc_sched_show_task). Absent without CONFIG_SCHED_DEBUG before Linux
6.15. That clock leaves out what the processor spent on interrupts or was not given by a hypervisor.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_RAN = re.compile(rb"^se\.exec_start +: +([0-9]+)\.([0-9]{6})$", re.MULTILINE)
_SWITCHES = re.compile(rb"^nr_voluntary_switches +: +([0-9]+)$", re.MULTILINE)


class Ran(NamedTuple):
    """`at_ns`: when the thread was last accounted for, as it went to sleep if it sleeps. `slept`:
    how often it has gone to sleep."""

    at_ns: int
    slept: int


def parse_sched(data: bytes) -> Ran | None:
    """None where this kernel's file has another form."""
    ran, switches = _RAN.search(data), _SWITCHES.search(data)
    if ran is None or switches is None:
        return None
    return Ran(int(ran[1]) * 10**6 + int(ran[2]), int(switches[1]))
