"""Which engine makes a live dump: `--live=auto`.

Measured on Linux 6.18: a fork stands for 18 ms for each GiB of pages of 4 KiB, and for next to
nothing for huge pages; each page that is written to later costs 4 us. Write protection stands for
some milliseconds whatever the size, but stops each task once more by itself beforehand, splits huge
pages, and each page that is written to costs 10 to 20 us. So a fork is taken where its pause is as
short, and write protection for what is larger. Shared memory is shared with a fork, too: it would
be copied while the tree stands, which takes 590 ms for each GiB.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckpt.errors import TargetError
from ckpt.kerndat import tracking
from ckpt.live.fork import COPY_MS_PER_GIB, FIXED_MS, FORK_MS_PER_GIB
from ckpt.procfs.reader import ProcDir

if TYPE_CHECKING:
    from collections.abc import Iterable

SHORT_MS = 4.0
"""A pause that write protection does not undercut."""

HUGE_MS_PER_GIB = 0.5


def pick(mode: str, pids: Iterable[int], *, tracked: bool) -> str:
    """wp or fork. `mode`: that, or auto. `tracked`: writes are, or shall be, tracked, which takes
    another userfaultfd than write protection does."""
    if mode != "auto":
        return mode
    if tracked or not (tracking.uffd_wp.run().supported and tracking.pagemap_scan.run().supported):
        return "fork"
    return "fork" if sum(map(fork_ms, pids)) <= SHORT_MS else "wp"


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
    copied = sizes.get(b"Pss_Shmem", 0) * COPY_MS_PER_GIB
    return FIXED_MS + (forked + copied) / (1 << 30)


def _sizes(rollup: bytes) -> Iterable[tuple[bytes, int]]:
    for line in rollup.splitlines()[1:]:
        words = line.split()
        yield words[0].removesuffix(b":"), int(words[1]) << 10
