"""A tree that stands still because pages of it can't be had, and how it goes on."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

from ckpt.procfs.tree import look, tree

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_STANDS = "TtZX"
_LOOKS = 10


def stop(pids: Iterable[int]) -> list[tuple[int, int]]:
    """Stop these processes and all below them; pid and start time of each that was running.
    The server in C has stopped `pids` themselves already: those count as running."""
    roots = list(pids)
    found: dict[int, int] = {}
    for _ in range(_LOOKS):
        new = [task for root in roots for task in tree(root) if task.pid not in found]
        if not new:
            break
        for task in new:
            if task.pid not in roots and task.state in _STANDS:
                continue
            with suppress(ProcessLookupError, PermissionError):
                os.kill(task.pid, signal.SIGSTOP)
            found[task.pid] = task.starttime
    return list(found.items())


def alive(pidfd: int) -> bool:
    """Whether the process of the descriptor has not ended."""
    try:
        signal.pidfd_send_signal(pidfd, 0)
    except ProcessLookupError:
        return False
    return True


def still_there(stopped: Sequence[tuple[int, int]]) -> bool:
    """Whether any of those whom `stop` has stopped lives."""
    found = ((look(pid), start_time) for pid, start_time in stopped)
    return any(t is not None and t.starttime == s and t.state not in "ZX" for t, s in found)


def go_on(stopped: Sequence[tuple[int, int]]) -> None:
    """Let those go on whom `stop` has stopped."""
    for pid, start_time in stopped:
        task = look(pid)
        if task is not None and task.starttime == start_time:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGCONT)
