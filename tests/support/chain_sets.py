"""Small sets that build on one another, for tests of chains. Page N of a pages file holds only
bytes `seed` + N, modulo 256."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ckpt.images import pagemap
from ckpt.images.chain import Chain
from ckpt.images.pagemap import PE_PRESENT, Run
from ckpt.images.writer import ImageSetWriter
from ckpt.units import PAGE, Range
from tests.support.image_set import inventory

if TYPE_CHECKING:
    from collections.abc import Mapping

PAGES_ID = 3


def pages(start: int, count: int, flags: int) -> Run:
    """A run, in numbers of pages."""
    return Run(start * PAGE, count, flags)


def span(start: int, end: int) -> Range:
    """Addresses, from numbers of pages."""
    return Range(start * PAGE, end * PAGE)


def make(
    directory: Path,
    runs: list[Run],
    parent: str = "",
    *,
    run_id: str = "",
    parent_id: str | None = None,
    seed: int = 0,
) -> Path:
    """A set with pagemap-7 alone. `parent_id` None: as CRIU's, without ckpt-parent.img."""
    return make_many(
        directory, {"pagemap-7": runs}, parent, run_id=run_id, parent_id=parent_id, seed=seed
    )


def make_many(
    directory: Path,
    images: Mapping[str, list[Run]],
    parent: str = "",
    *,
    run_id: str = "",
    parent_id: str | None = None,
    seed: int = 0,
    checksums: bool = True,
    dump_uptime: int | None = None,
) -> Path:
    """A set with these pagemaps; the first has its pages in pages-3.img, the next in pages-4.img,
    and so on."""
    directory.mkdir()
    if parent and parent_id is None:
        (directory / "parent").symlink_to(parent)
    with ImageSetWriter(directory, checksums=checksums) as writer:
        if parent_id is not None:
            writer.link_parent(parent, parent_id)
        for number, (name, runs) in enumerate(images.items(), PAGES_ID):
            writer.write(name, pagemap.pagemap_messages(number, runs))
            fill(writer, number, sum(run.nr_pages for run in runs if run.flags & PE_PRESENT), seed)
        writer.write("inventory", [inventory(dump_criu_run_id=run_id, dump_uptime=dump_uptime)])
        writer.commit()
    return directory


def fill(writer: ImageSetWriter, number: int, nr_pages: int, seed: int) -> None:
    """Write pages-`number`.img."""
    lfd = writer.pages(number)
    for page in range(nr_pages):
        os.write(lfd, bytes([(seed + page) % 256]) * PAGE)
        writer.advance(number, (page + 1) * PAGE)


def read(chain: Chain, name: str = "pagemap-7") -> dict[int, bytes]:
    """What a restore would load: content by number of page."""
    found: dict[int, bytes] = {}
    for piece in chain.resolve(name):
        if piece.offset is None:
            continue
        lfd = chain.layers[piece.layer].pages_fd(piece.pages)
        for index in range(piece.range.nr_pages):
            data = os.pread(lfd, PAGE, piece.offset + index * PAGE)
            assert len(data) == PAGE
            found[piece.range.start // PAGE + index] = data
    return found


def numbers(chain: Chain, name: str = "pagemap-7") -> dict[int, int]:
    """The same for sets of `make`: the number that fills each page."""
    found = read(chain, name)
    assert all(data == data[:1] * PAGE for data in found.values())
    return {page: data[0] for page, data in found.items()}
