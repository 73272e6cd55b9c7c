"""System V shared memory from outside, as ipcs(1) and ipcrm(1) have it."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

from tests.support.procfd import libc

libc.shmat.restype = ctypes.c_void_p
libc.shmdt.argtypes = [ctypes.c_void_p]


def segments() -> dict[int, dict[str, int]]:
    """Every segment by id: key, size, nattch, ..., as /proc/sysvipc/shm tells."""
    head, *lines = Path("/proc/sysvipc/shm").read_text().splitlines()
    rows = [dict(zip(head.split(), map(int, line.split()), strict=True)) for line in lines]
    return {row["shmid"]: row for row in rows}


def of_creator(pid: int) -> list[int]:
    """The segments that `pid` has made."""
    return [ident for ident, row in segments().items() if row["cpid"] == pid]


def remove(ident: int) -> None:
    subprocess.run(["ipcrm", "-m", str(ident)], check=True)


def make(key: int) -> int:
    """A segment of one page with this key."""
    ident: int = libc.shmget(key, 4096, 0o1000 | 0o2000 | 0o600)
    assert ident >= 0
    return ident


def attach(ident: int) -> int:
    addr: int = libc.shmat(ident, None, 0)
    assert addr != ctypes.c_void_p(-1).value
    return addr


def detach(addr: int) -> None:
    assert libc.shmdt(addr) == 0
