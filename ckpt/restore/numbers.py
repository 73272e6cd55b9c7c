"""Numbers of tasks that are still in use, as process, thread, group or session.

clone3(2) with set_tid says EEXIST for any of these uses; a restore wants to know before it builds.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from ckpt.procfs.tree import look

if TYPE_CHECKING:
    from collections.abc import Iterator

_REAPING_S = 3.0
_STEP_S = 0.01


def taken_numbers(wanted: set[int]) -> Iterator[tuple[int, str]]:
    """Those of `wanted` that live, and of whom."""
    for number in wanted:
        if os.path.exists(f"/proc/{number}"):  # noqa: PTH110 (threads are not listed)
            yield number, "a process or thread has it"
    with os.scandir("/proc") as entries:
        pids = [int(e.name) for e in entries if e.name.isdecimal()]
    for pid in pids:
        with suppress(ProcessLookupError):
            for name, number in (("group", os.getpgid(pid)), ("session", os.getsid(pid))):
                if number in wanted and number != pid:
                    yield number, f"pid {pid} is in the {name} of that number"


def await_reaping(wanted: set[int]) -> None:
    """Wait a moment for an init that has not reaped its orphans yet: right after a dump the killed
    tasks are zombies of init's, which some reap only now and then."""
    until = time.monotonic() + _REAPING_S
    while time.monotonic() < until and any(_is_orphan(number) for number in wanted):
        time.sleep(_STEP_S)


def _is_orphan(pid: int) -> bool:
    task = look(pid)
    return task is not None and task.state == "Z" and task.ppid == 1
