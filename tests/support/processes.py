"""Which processes are below us, their ends, and clearing up what a test left behind.

The test process is a child subreaper, so whatever a test started, dumped or restored (half-built
tasks included) is below it: nothing else is ever ended, and every end can be waited for.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterable
from pathlib import Path


def children(pid: int) -> list[int]:
    """The children of all threads of `pid`, zombies included; none if it is gone."""
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [child for thread in threads for child in _children(thread)]


def _children(thread: Path) -> list[int]:
    """None if it has ended: its children are another thread's then."""
    try:
        return [int(word) for word in (thread / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def tree(root: int) -> list[int]:
    """`root` and all below it, parents first."""
    pids = [root]
    for pid in pids:
        pids += children(pid)
    return pids


def state(pid: int) -> str:
    """The letter of /proc/PID/stat, or "" if there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return text[text.rindex(")") + 2]


def name(pid: int) -> str:
    """What /proc/PID/comm says, or "" if there is no such process."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().rstrip("\n")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def wait_end(pid: int, timeout_s: float = 60) -> int | None:
    """Wait for the end of `pid` and reap it where it is our child.

    Returns the wait status, None where somebody else reaped it. TimeoutError after `timeout_s`.
    """
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    except OSError:  # a number in use as a thread only
        return None
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        if not poll.poll(timeout_s * 1000):
            raise TimeoutError(f"pid {pid} (state {state(pid)}) has not ended in {timeout_s} s")
    finally:
        os.close(pidfd)
    try:
        return os.waitpid(pid, 0)[1]
    except ChildProcessError:
        return None


def wait_gone(pids: Iterable[int], timeout_s: float = 60) -> None:
    """Wait until none of `pids` exists, reaping those that have become ours."""
    deadline = time.monotonic() + timeout_s
    for pid in pids:
        while state(pid):
            wait_end(pid, max(0.0, deadline - time.monotonic()))
            if time.monotonic() > deadline:
                raise TimeoutError(f"pid {pid} is still there (state {state(pid)})")


def end_leftovers(known: set[int]) -> list[int]:
    """Kill and reap every process below us that is not in `known`; return which there were."""
    ended: list[int] = []
    while left := [pid for pid in tree(os.getpid())[1:] if pid not in known]:
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        for pid in left:
            if pid in children(os.getpid()):
                wait_end(pid)
        ended += [pid for pid in left if pid not in ended]
    return ended


def wait_stop(pid: int) -> int:
    """Wait until the tracee or child `pid` stops; its wait status."""
    return os.waitpid(pid, 0x40000000)[1]  # __WALL


def reap_orphans() -> None:
    """Reap all our children, every one of which must be dead or dying."""
    for pid in children(os.getpid()):
        wait_end(pid)
