"""Where probes try things: raw system calls, pages to play with, children that end at once.

Invariants: a child runs nothing but its function and leaves by _exit; every child is reaped before
its scope is left, whatever happens; numbers in a child's exit code are errnos.
"""

from __future__ import annotations

import errno
import mmap
import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ckpt._native import check, ffi, lib

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ODD = 254
PTRACE_DETACH = 17
PTRACE_SEIZE = 0x4206
PTRACE_INTERRUPT = 0x4207
_WALL = 0x40000000


def call(name: str, *args: int) -> int:
    """One system call by name; OSError as the kernel says it."""
    padded = [arg & (2**64 - 1) for arg in (*args, *[0] * (6 - len(args)))]
    return check(int(lib.ckpt_call(getattr(lib, f"__NR_{name}"), *padded)), name)


def address(buffer: bytearray | mmap.mmap) -> int:
    """Where a buffer stands in our memory, valid as long as it lives."""
    return int(ffi.cast("uintptr_t", ffi.from_buffer(buffer)))


@contextmanager
def pages(number: int, *, shared: bool = False) -> Iterator[tuple[mmap.mmap, int]]:
    """Fresh anonymous pages and their address."""
    flags = mmap.MAP_SHARED if shared else mmap.MAP_PRIVATE
    area = mmap.mmap(-1, number * mmap.PAGESIZE, flags | mmap.MAP_ANONYMOUS)
    view = ffi.from_buffer(area)
    try:
        yield area, int(ffi.cast("uintptr_t", view))
    finally:
        ffi.release(view)
        area.close()


def in_child(function: Callable[[], object]) -> None:
    """Run `function` in a child. OSError with the errno that it failed with there."""
    pid = os.fork()
    if pid == 0:
        code = _ODD
        try:
            function()
            code = 0
        except OSError as error:
            number = error.errno or _ODD
            code = number if 0 < number < _ODD else _ODD
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        raise OSError(errno.EFAULT, f"the trial was ended by {signal.Signals(-code).name}")
    if code:
        raise OSError(code, os.strerror(code) if code != _ODD else "the trial failed")


def expect(condition: object, what: str) -> None:
    """OSError unless `condition`: the kernel took the call and did something else."""
    if not condition:
        raise OSError(errno.EOPNOTSUPP, what)


@contextmanager
def idle_child() -> Iterator[int]:
    """A child that only waits."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(write)
            os.read(read, 1)
        finally:
            os._exit(0)
    os.close(read)
    try:
        yield pid
    finally:
        os.close(write)
        os.kill(pid, signal.SIGKILL)
        while not _ended(os.waitpid(pid, _WALL)[1]):
            pass  # a stop that was on its way


def _ended(status: int) -> bool:
    return os.WIFEXITED(status) or os.WIFSIGNALED(status)


@contextmanager
def stopped_child(options: int = 0) -> Iterator[int]:
    """A child that is seized with `options` and stopped."""
    with idle_child() as pid:
        call("ptrace", PTRACE_SEIZE, pid, 0, options)
        call("ptrace", PTRACE_INTERRUPT, pid, 0, 0)
        os.waitpid(pid, _WALL)
        yield pid
