"""/proc/PID/limits: the resource limits, also where prlimit(2) is not permitted.

Source: proc_pid_limits(5), lnames[] in fs/proc/base.c; numbers from asm-generic/resource.h, which
x86-64 and arm64 use.

The kernel prints names in a column of 25 and values in columns of 20, and a value may fill its
column; so rows are read by name from the front and by value behind it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ckpt.procfs.parse import U64_MAX, dec, fail, lines

FILE = "limits"
INFINITY = U64_MAX

# Printed name -> (RLIMIT_ number, its name, the unit as printed).
RESOURCES: dict[bytes, tuple[int, str, bytes]] = {
    b"Max cpu time": (0, "cpu", b"seconds"),
    b"Max file size": (1, "fsize", b"bytes"),
    b"Max data size": (2, "data", b"bytes"),
    b"Max stack size": (3, "stack", b"bytes"),
    b"Max core file size": (4, "core", b"bytes"),
    b"Max resident set": (5, "rss", b"bytes"),
    b"Max processes": (6, "nproc", b"processes"),
    b"Max open files": (7, "nofile", b"files"),
    b"Max locked memory": (8, "memlock", b"bytes"),
    b"Max address space": (9, "as", b"bytes"),
    b"Max file locks": (10, "locks", b"locks"),
    b"Max pending signals": (11, "sigpending", b"signals"),
    b"Max msgqueue size": (12, "msgqueue", b"bytes"),
    b"Max nice priority": (13, "nice", b""),
    b"Max realtime priority": (14, "rtprio", b""),
    b"Max realtime timeout": (15, "rttime", b"us"),
}
NR_LIMITS = len(RESOURCES)
_ROW = re.compile(rb"(Max [a-z ]*?) +([0-9]+|unlimited) +([0-9]+|unlimited) +([a-z]*) *")


class Limit(NamedTuple):
    """Soft and hard limit in the resource's own unit; INFINITY where there is none."""

    soft: int
    hard: int


def parse_limits(data: bytes) -> tuple[Limit, ...]:
    """All limits, indexed by RLIMIT_ number."""
    found: dict[int, Limit] = {}
    for line in lines(data, FILE):
        if line.startswith(b"Limit "):
            continue
        row = _ROW.fullmatch(line)
        if row is None or row[1] not in RESOURCES:
            fail(FILE, line, "not a limit that ckpt knows")
        number, _, unit = RESOURCES[row[1]]
        if row[4] != unit or number in found:
            fail(FILE, line, "another unit than expected, or a second time")
        found[number] = Limit(_value(row[2], line), _value(row[3], line))
    missing = set(range(NR_LIMITS)) - found.keys()
    if missing:
        fail(FILE, data[-80:], f"no line for resource {min(missing)}")
    return tuple(found[number] for number in range(NR_LIMITS))


def _value(token: bytes, line: bytes) -> int:
    return INFINITY if token == b"unlimited" else dec(token, FILE, line)
