"""The machine's pool of huge pages, which tests that run beside each other share."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.fault.injection import eventually
from tests.requirements import require

SIZE = 2 << 20
POOL = Path("/proc/sys/vm/nr_hugepages")
_STATE = Path("/sys/kernel/mm/hugepages/hugepages-2048kB")


@contextmanager
def huge_page_pool(pages: int) -> Iterator[None]:
    """Within it the machine has `pages` more than before, of 2 MiB, and nobody else of these tests
    changes that."""
    with POOL.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = int(POOL.read_text())
        try:
            POOL.write_text(str(before + pages))
        except OSError as error:
            require(False, f"no huge pages can be had: {error}")
        try:
            there = int(POOL.read_text())
            require(there == before + pages, "the machine has no memory for huge pages")
            yield
        finally:
            POOL.write_text(str(before))


def all_back(pages: int) -> bool:
    """Whether so many are free, now or soon: whoever looks into /proc of a process that ends, such
    as ps(1), keeps its memory for that time."""
    return eventually(lambda: free() == pages)


def free() -> int:
    """How many of the pool nobody has, nor is promised."""
    numbers = (int((_STATE / name).read_text()) for name in ("free_hugepages", "resv_hugepages"))
    return next(numbers) - next(numbers)
