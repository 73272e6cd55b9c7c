"""What each set of a chain holds, for people: its own pages, and what of them is still of use.

Nothing is verified here, and a chain that can't be restored is shown as far as it goes: `layers_of`
gives the reason beside the sets.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ckpt.errors import ImageError
from ckpt.images.chain import Chain
from ckpt.images.directory import real_path
from ckpt.images.pagemap import PE_PARENT, PE_PRESENT
from ckpt.images.reader import ImageSet
from ckpt.images.spans import total
from ckpt.images.types import PAGEMAPS, image_name, parse_file_name
from ckpt.record import record
from ckpt.units import PAGE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckpt.images.pagemap import Pagemap


@record(frozen=True)
class Layer:
    """One set. Sizes are in bytes.

    `directory`: without links. `run_id`: empty if it has none. `dump_uptime_us`: how long the
    machine had been up at the dump, 0 if that was not recorded. `tasks`: of how many the memory is
    there. `present`: pages of its own, `in_parent`: those that it leaves to older sets, `freed`:
    those of the first that are gone; `used`: what the newest set takes from here, None if that
    can't be told. `on_disk`: the room that all of its files take.
    """

    directory: str
    run_id: str
    dump_uptime_us: int
    tasks: int
    present: int
    in_parent: int
    freed: int
    used: int | None
    on_disk: int


def layers_of(directory: str | os.PathLike[str]) -> tuple[list[Layer], str]:
    """The sets, the newest first, and why they can't be restored, empty if nothing is known.

    Raises ImageError if the newest is none.
    """
    try:
        with Chain(directory, verify=False) as chain:
            try:
                used = [sum(map(total, one.values())) for one in chain.used]
            except ImageError as error:
                return [layer_of(layer, None) for layer in chain.layers], str(error)
            return [layer_of(*one) for one in zip(chain.layers, used, strict=True)], ""
    except ImageError as error:
        with ImageSet(directory, verify=False) as newest:
            return [layer_of(newest, None)], str(error)


def layer_of(images: ImageSet, used: int | None = None) -> Layer:
    """One set by itself. Raises ImageError for a damaged pagemap."""
    present = in_parent = 0
    for pagemap in _pagemaps(images):
        for run in pagemap.runs:
            present += run.nr_pages * PAGE if run.flags & PE_PRESENT else 0
            in_parent += run.nr_pages * PAGE if run.flags & PE_PARENT else 0
    files = [file for file in os.listdir(images.dir_lfd) if parse_file_name(file)]
    blocks = sum(
        os.stat(file, dir_fd=images.dir_lfd, follow_symlinks=False).st_blocks for file in files
    )
    return Layer(
        directory=real_path(images.dir_lfd, images.directory),
        run_id=images.inventory.dump_criu_run_id,
        dump_uptime_us=images.inventory.dump_uptime,
        tasks=len(images.names("pagemap")),
        present=present,
        in_parent=in_parent,
        freed=images.punched.size,
        used=used,
        on_disk=blocks * 512,
    )


def _pagemaps(images: ImageSet) -> Iterator[Pagemap]:
    for stem in PAGEMAPS:
        for number in images.names(stem):
            yield images.pagemap(image_name(stem, number))
