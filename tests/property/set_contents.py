"""What the sets of a chain hold for each page, beside the model of memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ckpt.images.chain import Chain
from ckpt.images.pagemap import PE_PARENT
from tests.property.changing_tree import Process, contents
from tests.support.machine import PAGE


def pages_of(folder: Path, pid: int) -> Iterator[tuple[int, bytes]]:
    """Number and content of each page that the chain below `folder` has for a task."""
    with Chain(folder) as chain:
        for piece in chain.resolve(f"pagemap-{pid}"):
            assert piece.offset is not None
            # Not by path: the kernel follows no more than 40 links.
            folder_lfd = chain.layers[piece.layer].dir_lfd
            lfd = os.open(f"pages-{piece.pages}.img", os.O_RDONLY, dir_fd=folder_lfd)
            try:
                for i in range(piece.range.nr_pages):
                    data = os.pread(lfd, PAGE, piece.offset + i * PAGE)
                    yield piece.range.start // PAGE + i, data
            finally:
                os.close(lfd)


def tasks_of(folder: Path) -> list[int]:
    """The tasks whose pages the set has."""
    with Chain(folder) as chain:
        return list(chain.layers[0].names("pagemap"))


def set_differs(folder: Path, p: Process) -> list[str]:
    """Where the private pages that a restore would make are not those of the model."""
    held = dict(pages_of(folder, p.machine.pid))
    found = []
    for number, page in p.space.pages.items():
        if page.shared is not None:
            continue
        data = held.get(number, contents(page.base))
        if data not in [contents(word) for word in page.words]:
            said = [hex(word) for word in page.words]
            where = "in" if number in held else "not in"
            found.append(f"pid {p.machine.pid} page {number:#x} is {where} the set: {said}")
    return found


def nr_in_parent(folder: Path) -> int:
    """How many pages of all tasks the set leaves to its parent."""
    with Chain(folder) as chain:
        newest = chain.layers[0]
        return sum(
            extent.range.nr_pages
            for number in newest.names("pagemap")
            for extent in newest.pagemap(f"pagemap-{number}").extents()
            if extent.flags & PE_PARENT
        )
