"""System V semaphores and message queues from outside, as ipcs(1) and ipcrm(1) have them."""

from __future__ import annotations

import ctypes
import struct
import subprocess
from pathlib import Path

from tests.support.procfd import libc

IPC_CREAT, IPC_EXCL, IPC_NOWAIT = 0o1000, 0o2000, 0o4000
GETPID, GETVAL = 11, 12
KEYS = {"sem": 0x5E000000, "msg": 0x5F000000}
"""Those of the victims' objects, less the pid of who made them."""


def rows(kind: str) -> dict[int, dict[str, int]]:
    """Every set ("sem") or queue ("msg") by id, as /proc/sysvipc tells of it."""
    head, *lines = Path("/proc/sysvipc", kind).read_text().splitlines()
    found = [dict(zip(head.split(), map(int, line.split()), strict=True)) for line in lines]
    return {row[f"{kind}id" if kind == "sem" else "msqid"]: row for row in found}


def of_key(kind: str, key: int) -> int:
    (ident,) = [ident for ident, row in rows(kind).items() if row["key"] == key]
    return ident


def remove(kind: str, ident: int) -> None:
    """Harmless where there is none."""
    option = {"sem": "-s", "msg": "-q"}[kind]
    subprocess.run(["ipcrm", option, str(ident)], check=False, capture_output=True)


def make(kind: str, key: int) -> int:
    """A set of one semaphore, or an empty queue, with this key."""
    flags = IPC_CREAT | IPC_EXCL | 0o600
    ident: int = libc.semget(key, 1, flags) if kind == "sem" else libc.msgget(key, flags)
    assert ident >= 0
    return ident


def value(ident: int, num: int) -> int:
    result: int = libc.semctl(ident, num, GETVAL)
    assert result >= 0
    return result


def state(kind: str, ident: int) -> tuple[dict[str, int], list[tuple[int, int]]]:
    """All that can be told from outside: times, and of semaphores values and last users, of a
    queue its messages' types."""
    row = rows(kind)[ident]
    if kind == "msg":
        return row, [(0, found) for found in types(ident)]
    nums = range(row["nsems"])
    return row, [(value(ident, num), libc.semctl(ident, num, GETPID)) for num in nums]


def operate(ident: int, num: int, op: int) -> None:
    """semop(2) by this process."""
    raw = struct.pack("<Hhh", num, op, IPC_NOWAIT)
    assert libc.semop(ident, raw, ctypes.c_size_t(1)) == 0


def send(ident: int, kind: int, text: bytes) -> None:
    raw = struct.pack("<q", kind) + text
    assert libc.msgsnd(ident, raw, ctypes.c_size_t(len(text)), IPC_NOWAIT) == 0


def types(ident: int) -> list[int]:
    """The types of all messages; the queue keeps them (MSG_COPY)."""
    found: list[int] = []
    buffer = ctypes.create_string_buffer(8 + 8192)
    flags = IPC_NOWAIT | 0o40000
    while True:
        index = ctypes.c_long(len(found))
        if libc.msgrcv(ident, buffer, ctypes.c_size_t(8192), index, flags) < 0:
            return found
        found.append(struct.unpack_from("<q", buffer)[0])
