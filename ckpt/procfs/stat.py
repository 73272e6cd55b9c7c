"""/proc/PID/stat and /proc/PID/task/TID/stat: one line of numbers.

Source: proc_pid_stat(5), do_task_stat() in fs/proc/array.c.

The comm stands in parentheses unescaped and may hold blanks, newlines and parentheses itself: it
ends at the last one. Addresses and `exit_code` read 0 without PTRACE_MODE_READ. Reading another
process's file takes `kstkesp` and `kstkeip` only of dead or exiting tasks: they are left out.
"""

from __future__ import annotations

from ckpt.procfs.parse import dec, fail, signed, text
from ckpt.record import record

FILE = "stat"
_NR_FIELDS = 50  # from state on; kernels since 3.5
_IO_WORKER = 0x10  # PF_IO_WORKER of include/linux/sched.h, since Linux 5.12
_FLAGS = 6


@record(frozen=True)
class Stat:
    """Fields by the names of proc_pid_stat(5); addresses are the target's, times clock ticks."""

    pid: int
    comm: str
    state: str
    ppid: int
    pgrp: int
    session: int
    tty_nr: int
    tpgid: int
    flags: int
    utime: int
    stime: int
    priority: int
    nice: int
    num_threads: int
    starttime: int
    vsize: int
    rss: int
    start_code: int
    end_code: int
    start_stack: int
    exit_signal: int
    processor: int
    rt_priority: int
    policy: int
    start_data: int
    end_data: int
    start_brk: int
    arg_start: int
    arg_end: int
    env_start: int
    env_end: int
    exit_code: int


# Name and place, counted from 0 at the state; a dash marks numbers that may be negative.
_PLACES = (
    ("ppid", 1, "-"),
    ("pgrp", 2, "-"),
    ("session", 3, "-"),
    ("tty_nr", 4, "-"),
    ("tpgid", 5, "-"),
    ("flags", 6, ""),
    ("utime", 11, ""),
    ("stime", 12, ""),
    ("priority", 15, "-"),
    ("nice", 16, "-"),
    ("num_threads", 17, ""),
    ("starttime", 19, ""),
    ("vsize", 20, ""),
    ("rss", 21, "-"),
    ("start_code", 23, ""),
    ("end_code", 24, ""),
    ("start_stack", 25, ""),
    ("exit_signal", 35, "-"),
    ("processor", 36, "-"),
    ("rt_priority", 37, ""),
    ("policy", 38, ""),
    ("start_data", 42, ""),
    ("end_data", 43, ""),
    ("start_brk", 44, ""),
    ("arg_start", 45, ""),
    ("arg_end", 46, ""),
    ("env_start", 47, ""),
    ("env_end", 48, ""),
    ("exit_code", 49, "-"),
)


def parse_stat(data: bytes) -> Stat:
    """One stat line. `pgrp`, `session` and `tpgid` are 0 or -1 where there is none to be seen."""
    pid, paren, rest = data.partition(b" (")
    comm, close, numbers = rest.rpartition(b") ")
    if not paren or not close or not numbers.endswith(b"\n"):
        fail(FILE, data, "no command in parentheses, or no end")
    fields = numbers[:-1].split(b" ")
    if len(fields) < _NR_FIELDS:
        fail(FILE, data, f"{len(fields)} fields, expected {_NR_FIELDS} or more")
    if len(fields[0]) != 1 or not fields[0].isalpha():
        fail(FILE, data, "no state")
    values = {
        name: (signed if sign else dec)(fields[place], FILE, data) for name, place, sign in _PLACES
    }
    return Stat(pid=dec(pid, FILE, data), comm=text(comm), state=text(fields[0]), **values)


def is_io_worker(data: bytes) -> bool:
    """Whether the line is of a thread that the kernel has made to work for io_uring: one that never
    runs in user mode. It takes a tenth of the time of `parse_stat`."""
    fields = data.rpartition(b") ")[2].split(b" ", _FLAGS + 1)
    flags = fields[_FLAGS] if len(fields) > _FLAGS else b""
    return flags.isdigit() and bool(int(flags) & _IO_WORKER)
