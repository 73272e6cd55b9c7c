"""A task's memory in one piece, as it may read and write it itself; nothing is stopped for it.

For what the task's own protections forbid there is /proc/PID/mem (ckpt/infect/place.py).

Source: process_vm_readv(2).
"""

from __future__ import annotations

import os

from ckpt._native import ffi, lib
from ckpt.errors import TargetError


def read(pid: int, addr: int, size: int) -> bytes:
    """All `size` bytes at `addr`. Raises TargetError where they can't be read."""
    buffer = bytearray(size)
    done = lib.ckpt_vm_read(pid, addr, ffi.from_buffer(buffer), size)
    _check(done, size, "its memory can't be read", pid, addr)
    return bytes(buffer)


def write(pid: int, addr: int, raw: bytes) -> None:
    """Write all of `raw` at `addr`. Raises TargetError where that can't be done; a part of it may
    be there then."""
    done = lib.ckpt_vm_write(pid, addr, ffi.from_buffer(raw), len(raw))
    _check(done, len(raw), "its memory can't be written", pid, addr)


def _check(done: int, wanted: int, what: str, pid: int, addr: int) -> None:
    if done != wanted:
        why = os.strerror(-done) if done < 0 else f"{done} of {wanted} bytes"
        raise TargetError(what, pid=pid, resource=f"{addr:#x}", why=why)
