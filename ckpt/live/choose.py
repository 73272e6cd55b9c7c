"""Which engine makes a live dump: `--live=auto`.

Measured on Linux 6.18: a fork stands for 18 ms for each GiB of pages of 4 KiB, and for next to
nothing for huge pages; each page that is written to later costs 4 us. Write protection stands for
some milliseconds whatever the size, but stops each task once more by itself beforehand, splits huge
pages, and each page that is written to costs 10 to 20 us. So a fork is taken where its pause is as
short, and write protection for what is larger. Shared memory is shared with a fork, too: it would
be copied while the tree stands, which takes 590 ms for each GiB. So is all of a task with memory of
hugetlbfs, whose own writes a fork could leave without a page.

Both build on sets before. Write protection does where writes are tracked synchronously, which costs
each page that is written to between two snapshots 3 to 20 us; a fork does where they are tracked in
any way, of which the asynchronous one costs 0.5 to 2 us a page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckpt.errors import TargetError
from ckpt.kerndat import tracking
from ckpt.live.fork import COPY_MS_PER_GIB, FIXED_MS, FORK_MS_PER_GIB
from ckpt.mem.tracking.contexts import may_write_unseen
from ckpt.mem.tracking.engine import Mode
from ckpt.procfs.reader import ProcDir

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

SHORT_MS = 4.0
"""A pause that write protection does not undercut."""

HUGE_MS_PER_GIB = 0.5

LONG_MS = 20.0
"""A pause for which a chain is begun anew, so that it can go on by write protection."""


def pick(mode: str, pids: Collection[int], *, tracked: Mode | None) -> str:
    """wp or fork. `mode`: that, or auto. `tracked`: how writes are, or must be, tracked; None: as
    the engine likes, or not at all. What can't be asked by write protection is left to a fork."""
    if mode != "auto":
        return mode
    if tracked is Mode.ASYNC or not wp_can(pids):
        return "fork"
    return "fork" if pause_ms(pids) <= SHORT_MS else "wp"


def wp_can(pids: Collection[int]) -> bool:
    """Whether write protection is to be had, and nothing writes to memory past it."""
    probes = (tracking.uffd_wp, tracking.pagemap_scan)
    return all(probe.run().supported for probe in probes) and not any(map(_is_pinned, pids))


def pause_ms(pids: Iterable[int]) -> float:
    """How long a tree will probably stand for forks of all its tasks."""
    return sum(map(fork_ms, pids))


def _is_pinned(pid: int) -> bool:
    try:
        return may_write_unseen(pid)
    except TargetError:
        return False  # it has ended


def fork_ms(pid: int) -> float:
    """How long a fork of this task will probably take, and to copy its part of what it shares. A
    task that has ended takes no time."""
    try:
        with ProcDir(pid) as proc:
            sizes = dict(_sizes(proc.read("smaps_rollup")))
    except TargetError:
        return 0.0
    huge = sizes.get(b"AnonHugePages", 0)
    small = max(0, sizes.get(b"Anonymous", 0) - huge)
    forked = small * FORK_MS_PER_GIB + huge * HUGE_MS_PER_GIB
    if pool := sizes.get(b"Private_Hugetlb", 0) + sizes.get(b"Shared_Hugetlb", 0):
        # A task that has any is not forked, but copied.
        forked = (small + huge + pool) * COPY_MS_PER_GIB
    copied = sizes.get(b"Pss_Shmem", 0) * COPY_MS_PER_GIB
    return FIXED_MS + (forked + copied) / (1 << 30)


def _sizes(rollup: bytes) -> Iterable[tuple[bytes, int]]:
    for line in rollup.splitlines()[1:]:
        words = line.split()
        yield words[0].removesuffix(b":"), int(words[1]) << 10
