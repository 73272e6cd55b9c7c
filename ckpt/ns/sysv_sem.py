"""System V semaphores that a task may have to give back at its end (SEM_UNDO).

What a task would give back is in no file and no answer of the kernel. That it has such a list is
known: kcmp(2) tells it from a task without one. But every process that ever had a second thread has
one, mostly empty. So those are meant that have a list and were the last to operate on a semaphore.

Not found: a task with values to give back on semaphores on which somebody else has operated since.

Source: semop(2), semctl(2), copy_semundo() in ipc/sem.c, sysvipc(7).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ckpt._native import ffi, lib
from ckpt.errors import Refusal
from ckpt.procfs.reader import read_system

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_KCMP_SYSVSEM = 6
_ID, _NR = 1, 3
_NR_MAX = 65536


def undo_obstacles(pids: Sequence[int]) -> Iterator[Refusal]:
    """Of the tasks `pids` those that may have something to undo."""
    sets = [line.split() for line in read_system("sysvipc/sem").splitlines()[1:]]
    suspects = {pid for pid in pids if sets and _has_list(pid)}
    for fields in sets if suspects else ():
        ident = int(fields[_ID])
        for pid in sorted(suspects & _last_users(ident, int(fields[_NR]))):
            why = (
                "it was the last to operate on it, and may have values to give back at its end "
                "(SEM_UNDO), which nobody can read; not restored"
            )
            yield Refusal(pid, f"System V semaphores {ident}", why)


def _has_list(pid: int) -> bool:
    return bool(lib.ckpt_kcmp(os.getpid(), pid, _KCMP_SYSVSEM, 0, 0) > 0)


def _last_users(ident: int, nr: int) -> set[int]:
    """Who was the last to operate on each semaphore of a set; nobody if it is gone."""
    pids = ffi.new("int32_t[]", min(nr, _NR_MAX))
    found = lib.ckpt_sem_last_users(ident, pids, len(pids))
    return {pids[i] for i in range(max(found, 0))} - {0}
