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

NR_MAX = 1 << 16
"""So many faults are recorded at most."""

Fetched = tuple[int, int, int]
"""pid, start and end as at the dump."""


def read_working_set(images: ImageSet) -> list[Fetched]:
    """What is to be fetched first; nothing where there is no record, or none that can be read."""
    if not images.exists(WORKING_SET):
        return []
    try:
        entries = images.read(WORKING_SET)[:NR_MAX]
    except ImageError:
        return []
    fetched = [(e.pid, e.vaddr, e.vaddr + e.nr_pages * PAGE) for e in entries]
    return [one for one in fetched if one[1] < one[2] <= TASK_SIZE and not one[1] % PAGE]


def write_working_set(dir_lfd: int, fetched: Iterable[Fetched], where: str) -> None:
    """Write the record, in place of an older one. Raises ImageError."""
    entry: Any = message_class(TYPES[WORKING_SET].entry)
    messages = [
        entry(pid=pid, vaddr=start, nr_pages=(end - start) // PAGE) for pid, start, end in fetched
    ]
    data = framing.encode(WORKING_SET, messages)
    files_of.replace(dir_lfd, file_name(WORKING_SET), data, where, sync=False)


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
