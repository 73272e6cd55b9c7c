"""Seccomp under ptrace(2): which filters a standing thread has, and holding them off.

Both want CAP_SYS_ADMIN, and a tracer that is under no filter itself. Filters are held off until
they are let work again, the thread is let go, or its tracer ends.

Source: ptrace(2) PTRACE_SECCOMP_GET_FILTER, PTRACE_O_SUSPEND_SECCOMP, kernel/seccomp.c.
"""

from __future__ import annotations

import errno
import os

from ckpt._native import ffi, lib
from ckpt.errors import KernelError, TargetError
from ckpt.tracee.ops import EXITKILL, ThreadGone

SUSPEND_SECCOMP = 1 << 21
_INSNS_MAX = 4096


def filters(tid: int) -> tuple[tuple[bytes, int], ...]:
    """(instructions, flags) of each filter of a standing thread, the first installed first.

    Raises TargetError where they can't be had, ThreadGone.
    """
    found: list[tuple[bytes, int]] = []
    buffer = bytearray(8 * _INSNS_MAX)
    while True:
        flags = ffi.new("uint64_t *")
        nr = lib.ckpt_trace_get_filter(tid, len(found), ffi.from_buffer(buffer), flags)
        if nr == -errno.ENOENT:
            return tuple(found)
        _check(nr, tid)
        found.append((bytes(buffer[: 8 * nr]), int(flags[0])))


def hold_off(tid: int) -> None:
    """No filter judges what the standing thread does until it is let go. Raises as `filters`."""
    _check(lib.ckpt_trace_options(tid, SUSPEND_SECCOMP), tid)


def seize_without(tid: int) -> None:
    """Attach to a thread that ends with us; no filter judges it. Raises as `filters`."""
    _check(lib.ckpt_trace_seize(tid, SUSPEND_SECCOMP | EXITKILL), tid)


def _check(result: int, tid: int) -> None:
    if result >= 0:
        return
    why = os.strerror(-result)
    if result == -errno.ESRCH:
        raise ThreadGone("its seccomp filters", pid=tid, why="the thread ended or does not stand")
    if result in (-errno.EPERM, -errno.EACCES):
        hint = "ckpt needs CAP_SYS_ADMIN, and must not be under seccomp itself"
        raise TargetError("its seccomp filters can't be held off", pid=tid, why=why, hint=hint)
    if result == -errno.EMEDIUMTYPE:
        raise TargetError("its seccomp filters can't be read", pid=tid, why="not classic BPF")
    raise KernelError("its seccomp filters can't be read", pid=tid, why=why)
