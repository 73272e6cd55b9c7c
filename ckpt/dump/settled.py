"""Looks at running processes that may be between two programs.

In execve(2) a process is for a moment, milliseconds if it has many threads, not what it was and not
yet what it will be: where a thread that is not the first makes the call, the one that /proc/PID
shows is dead until the other takes its place, and has neither memory nor namespaces nor
descriptors. What is found in the way then is no fact about either program. So whoever is refused is
looked at again, unless its program was the same before and after.

Source: de_thread(), begin_new_exec() in fs/exec.c.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ckpt.errors import KernelError, TargetError
from ckpt.procfs.reader import ProcDir
from ckpt.procfs.stat import parse_stat
from ckpt.procfs.tree import look

if TYPE_CHECKING:
    from ckpt.dump.facts import Known
    from ckpt.errors import Refusal

Judged = tuple["list[Refusal]", "Known"]

PATIENCE_S = 2.0
_NAP_S, _LAST_NAP_S = 0.0005, 0.02
_KERNEL_THREAD = 0x200000  # PF_KTHREAD of include/linux/sched.h


def settled(pid: int, judge: Callable[[int], Judged]) -> Judged:
    """What `judge` finds in a running process: at once where that is nothing, else in one program,
    but after PATIENCE_S seconds in whatever there is.

    Raises what `judge` raises; TargetError while the process lives only after that time.
    """
    until = time.monotonic() + PATIENCE_S
    nap_s = _NAP_S
    while True:
        before = _program(pid)
        late = time.monotonic() > until
        try:
            judged = judge(pid)
        except TargetError:
            if late or (task := look(pid)) is None or task.zombie:
                raise
        else:
            if late or not judged[0] or (before and before == _program(pid)):
                return judged
        time.sleep(nap_s)
        nap_s = min(_LAST_NAP_S, 2 * nap_s)


def _program(pid: int) -> bytes:
    """Differs from one execve(2) to the next, by where its stack and its vdso are; empty between
    them, and where the process is gone."""
    try:
        with ProcDir(pid) as proc:
            kernel = parse_stat(proc.read("stat")).flags & _KERNEL_THREAD
            return b"kernel" if kernel else proc.read("auxv")
    except TargetError:
        return b""
    except KernelError:
        return b"unknown"  # not permitted, which whoever judges finds out as well
