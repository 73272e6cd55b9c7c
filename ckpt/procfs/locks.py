"""/proc/locks, and the `lock:` lines of /proc/PID/fdinfo/FD.

Source: proc_locks(5), lock_get_status() in fs/locks.c.

A line with an arrow is a waiter for the lock of the same number before it, not a lock that is held.
The pid is -1 for open-file-description locks and 0 for owners that the reader's pid namespace does
not see. Leases and delegations appear as kinds of their own.
"""

from __future__ import annotations

import re
from os import makedev

from ckpt.procfs.parse import dec, fail, hexa, lines, signed, text
from ckpt.record import record

FILE = "locks"
EOF = 2**63 - 1
_LINE = re.compile(
    rb"([0-9]+): *(->)? *(POSIX|FLOCK|OFDLCK|LEASE|DELEG|ACCESS|UNKNOWN) +"
    rb"(\*NOINODE\*|[A-Z]+) +(READ|WRITE|UNLCK|RW|NONE) +(-?[0-9]+) "
    rb"(?:([0-9a-f]+):([0-9a-f]+):([0-9]+)|<none>:0) +(-?[0-9]+) +(EOF|-?[0-9]+)"
)


@record(frozen=True)
class Lock:
    """One lock; `start` and `end` are bytes of the file, both inclusive, EOF for its very end."""

    number: int
    waiting: bool
    kind: str
    mode: str
    access: str
    pid: int
    device: tuple[int, int]
    ino: int
    start: int
    end: int

    @property
    def dev(self) -> int:
        return makedev(*self.device)


def parse_lock(line: bytes, file: str = FILE) -> Lock:
    """One line, without its end and without the `lock:` of fdinfo."""
    found = _LINE.fullmatch(line)
    if found is None:
        fail(file, line, "not a lock")
    number, arrow, kind, mode, access, pid, major, minor, ino, start, end = found.groups()
    return Lock(
        number=dec(number, file, line),
        waiting=arrow is not None,
        kind=text(kind),
        mode=text(mode),
        access=text(access),
        pid=signed(pid, file, line),
        device=(hexa(major, file, line), hexa(minor, file, line)) if major else (0, 0),
        ino=dec(ino, file, line) if ino else 0,
        start=signed(start, file, line),
        end=EOF if end == b"EOF" else signed(end, file, line),
    )


def parse_locks(data: bytes) -> list[Lock]:
    """Every lock of the machine that the reader's pid namespace can see."""
    return [parse_lock(line) for line in lines(data, FILE)]
