"""The files of /proc/PID that hold one number.

Source: proc_pid_oom_score_adj(5), proc_pid_coredump_filter(5), proc_pid_timerslack_ns(5),
proc_pid_loginuid(5), proc_pid_personality(5), proc_pid_task(5) (`children` is a row of numbers).

`timerslack_ns` of another process needs CAP_SYS_NICE or ptrace rights; `coredump_filter` of a task
without mm is empty.
"""

from __future__ import annotations

from ckpt.procfs.parse import dec, fail, hexa, signed

LOGINUID_UNSET = 2**32 - 1


def parse_oom_score_adj(data: bytes) -> int:
    """-1000 to 1000."""
    value = signed(data.strip(), "oom_score_adj", data)
    if not -1000 <= value <= 1000:
        fail("oom_score_adj", data, "outside of -1000 to 1000")
    return value


def parse_coredump_filter(data: bytes) -> int | None:
    """The bits of core(5); None for a task without mm."""
    return hexa(data.strip(), "coredump_filter", data) if data else None


def parse_timerslack_ns(data: bytes) -> int:
    """Nanoseconds; 0 for a real-time task."""
    return dec(data.strip(), "timerslack_ns", data)


def parse_loginuid(data: bytes) -> int:
    """The uid of the login, LOGINUID_UNSET where there was none."""
    value = dec(data.strip(), "loginuid", data)
    if value > LOGINUID_UNSET:
        fail("loginuid", data, "more than 32 bits")
    return value


def parse_personality(data: bytes) -> int:
    """The execution domain and its flags, personality(2)."""
    return hexa(data.strip(), "personality", data)


def parse_children(data: bytes) -> list[int]:
    """The pids in task/TID/children, oldest first."""
    return [dec(token, "children", data) for token in data.split()]
