"""Pages of a running task on their way to a page server.

A server must be told which pages come before they come, and a running task may give any of them
back until they have been read. So each piece is copied into memory of ours first, and what was
there is announced and sent.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ckpt.dump.pages import send_file
from ckpt.images.pagemap import PE_PARENT, PE_PRESENT, Run
from ckpt.mem.extents import Extents
from ckpt.mem.running import copy_running
from ckpt.units import PAGE, TASK_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ckpt.dump.pages import Pages

PIECE = 32 << 20


def send_running(
    pid: int,
    mem: int,
    written: Extents,
    parent: Extents,
    pages: Pages,
    progress: Callable[[int], None],
) -> Extents:
    """Send the pages `written` that are there, and name those of `parent`, for the image that was
    begun; returns the former. As ckpt.mem.running.copy_running else."""
    sent = Extents.none()
    begun = 0
    buffer = os.memfd_create("ckpt-piece", os.MFD_CLOEXEC)
    try:
        for piece, end in pieces(written, PIECE):
            os.ftruncate(buffer, 0)
            os.lseek(buffer, 0, os.SEEK_SET)
            copied = copy_running(pid, mem, piece, buffer, progress)
            named = parent & Extents.of([(begun, end)])
            to = pages.more(runs_of(copied, named))
            send_file(buffer, 0, to, copied.nr_pages * PAGE)
            sent |= copied
            begun = end
    finally:
        os.close(buffer)
    return sent


def runs_of(present: Extents, parent: Extents) -> list[Run]:
    """What a pagemap says of these pages."""
    runs = [Run(start, (end - start) // PAGE, PE_PRESENT) for start, end in present]
    runs += [Run(start, (end - start) // PAGE, PE_PARENT) for start, end in parent]
    return sorted(runs)


def pieces(pages: Extents, size: int) -> Iterator[tuple[Extents, int]]:
    """`pages` in parts of at most `size` bytes, each with the address up to which it speaks; the
    last one, which may be empty, for all that is above."""
    part: list[tuple[int, int]] = []
    room = size
    for start, end in pages:
        while end - start > room:
            if room:
                part.append((start, start + room))
                start += room
            yield Extents.of(part), start
            part, room = [], size
        if start < end:
            part.append((start, end))
            room -= end - start
    yield Extents.of(part), TASK_SIZE
