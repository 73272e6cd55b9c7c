"""ckpt-working-set.img: which pages a tree has asked for after a lazy restore, in that order.

A hint, and taken for no more: what is damaged in it, or of another set, costs time at most.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ckpt.errors import ImageError
from ckpt.images import directory as files_of
from ckpt.images import framing
from ckpt.images.types import TYPES, WORKING_SET, file_name, message_class
from ckpt.units import PAGE, TASK_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ckpt.images.reader import ImageSet

NR_MAX = 1 << 14
"""So many faults are recorded at most: each costs the next restore some time before its start."""

Fetched = tuple[int, int, int]
"""pid, start and end as at the dump."""


def read_working_set(images: ImageSet) -> list[Fetched]:
    """What is to be fetched first; nothing where there is no record, or none that can be read."""
    if not images.exists(WORKING_SET):
        return []
    try:
        entries = images.read(WORKING_SET)
    except ImageError:
        return []
    rows = [row for e in entries for row in zip(e.pid, e.vaddr, e.nr_pages, strict=False)]
    fetched = [(pid, at, at + nr_pages * PAGE) for pid, at, nr_pages in rows[:NR_MAX]]
    return [one for one in fetched if one[1] < one[2] <= TASK_SIZE and not one[1] % PAGE]


def write_working_set(dir_lfd: int, fetched: Iterable[Fetched], where: str) -> None:
    """Write the record, in place of an older one. Raises ImageError."""
    entry: Any = message_class(TYPES[WORKING_SET].entry)
    rows = list(fetched)
    message = entry(
        pid=[pid for pid, _, _ in rows],
        vaddr=[start for _, start, _ in rows],
        nr_pages=[(end - start) // PAGE for _, start, end in rows],
    )
    data = framing.encode(WORKING_SET, [message])
    files_of.renew(dir_lfd, file_name(WORKING_SET), data, where)


def merged(before: Iterable[Fetched], new: Iterable[Fetched]) -> list[Fetched]:
    """What was fetched first, then what was asked for all the same, each once."""
    seen: set[tuple[int, int]] = set()
    found: list[Fetched] = []
    for pid, start, end in (*before, *new):
        missing = [at for at in range(start, end, PAGE) if (pid, at) not in seen]
        seen.update((pid, at) for at in missing)
        if missing:
            found.append((pid, missing[0], missing[-1] + PAGE))
    return found[:NR_MAX]
