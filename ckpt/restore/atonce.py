"""What of the memory that comes late must be there before the first instruction: what the kernel
looks at without waiting for a missing page. Reading it here waits.

- When a thread ends, its page faults are told to no userfaultfd any more, and fail: the futexes
  that it leaves in its robust list would stay locked, and who waits for it would wait for ever.
- futex(2) with priority inheritance, which goes on in a thread that was in it, finds EFAULT.
- /proc/PID/cmdline is empty.

The list of a thread is followed as the kernel does, which takes any list for what it is: one that
leads nowhere ends there.

Source: handle_userfault() in fs/userfaultfd.c; exit_robust_list() in kernel/futex/core.c,
fault_in_user_writeable() there, mm_release() in kernel/fork.c; get_mm_cmdline() in fs/proc/base.c.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from ckpt.errors import TargetError
from ckpt.infect.batch import number
from ckpt.tracee import vm
from ckpt.units import PAGE, TASK_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ckpt.restore.load import Loaded, TaskImage

_HEAD = struct.Struct("=QqQ")
"""struct robust_list_head: the first entry, from there to its futex, the one that is under way."""
_POINTER = struct.Struct("=Q")
_WORD = 4
_NR_ENTRIES_MAX = 2048
_ARGUMENTS_MAX = 16 * PAGE


def await_needed(loaded: Loaded) -> None:
    """The pages must be served by now; where they can't be had the tasks are killed, so that this
    ends."""
    for pid, image in loaded.tasks.items():
        _await_task(pid, image)


def _await_task(pid: int, image: TaskImage) -> None:
    start, end = image.mm.mm_arg_start, image.mm.mm_arg_end
    _look(pid, start, max(0, min(end - start, _ARGUMENTS_MAX)))
    for core in image.threads.values():
        _look(pid, core.thread_info.clear_tid_addr, _WORD)
        entry = core.thread_core
        if entry.futex_rla_len == _HEAD.size:
            for addr in _left_locked(pid, entry.futex_rla):
                _look(pid, addr, _WORD)
        for addr in _called_with(core.thread_info.gpregs):
            _look(pid, addr, _WORD)


def _left_locked(pid: int, head_at: int) -> Iterator[int]:
    """The futexes of a robust list."""
    raw = _look(pid, head_at, _HEAD.size)
    if not raw:
        return
    entry, offset, pending = _HEAD.unpack(raw)
    if pending:
        yield (pending & ~1) + offset
    for _ in range(_NR_ENTRIES_MAX):
        addr = entry & ~1  # the lowest bit tells of priority inheritance
        if addr == head_at:
            return
        yield addr + offset
        raw = _look(pid, addr, _POINTER.size)
        if not raw:
            return
        (entry,) = _POINTER.unpack(raw)


def _called_with(registers: Any) -> tuple[int, ...]:
    """The futexes of a call that goes on."""
    if number("futex") in (registers.ax, registers.orig_ax):
        return registers.di, registers.r8
    return ()


def _look(pid: int, addr: int, size: int) -> bytes:
    """What is there, when it is there; nothing where no memory is."""
    if not 0 < addr <= TASK_SIZE - size:
        return b""
    try:
        return vm.read(pid, addr, size)
    except TargetError:
        return b""
