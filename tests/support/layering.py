"""One image set taken apart into a chain that restores the same.

`home` says for every page in which layer its content is, 0 being the oldest. Layers below that one
hold STALE there, wherever they hold anything, so that a page from the wrong layer is seen; the
oldest holds every page. All sets get run ids and links as ckpt makes them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ckpt.images.pagemap import PE_PARENT, PE_PRESENT, Run, merge_runs, pagemap_messages
from ckpt.images.reader import ImageSet
from ckpt.images.types import CHECKSUMS, INVENTORY, PAGEMAPS, Framing, image_name, parse_file_name
from ckpt.images.writer import ImageSetWriter
from ckpt.units import PAGE
from tests.support.image_set import inventory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ckpt.images.pagemap import Pagemap

STALE = b"\xa5" * PAGE


def spread(source: Path, folder: Path, nr_layers: int, home: Callable[[str, int], int]) -> Path:
    """Make the sets `folder`/0 to `folder`/N-1; returns the newest. `home` gets the name of a
    pagemap and the number of a page among all that it has."""
    folder.mkdir()
    with ImageSet(source) as images:
        names = [image_name(stem, n) for stem in PAGEMAPS for n in images.names(stem)]
        homes = {name: _homes(images.pagemap(name), name, home) for name in names}
        for layer in range(nr_layers):
            newest = layer == nr_layers - 1
            directory = folder / str(layer)
            directory.mkdir()
            with ImageSetWriter(directory) as writer:
                if layer:
                    writer.link_parent(f"../{layer - 1}", f"layer {layer - 1}")
                for name in names:
                    _write_layer(images, writer, name, homes[name], layer, newest)
                if newest:
                    _copy_rest(images, writer)
                group = images.inventory.root_cg_set
                entry = images.inventory if newest else inventory(root_cg_set=group)
                entry.dump_criu_run_id = f"layer {layer}"
                writer.write(INVENTORY, [entry])
                writer.commit()
    return folder / str(nr_layers - 1)


def _homes(pagemap: Pagemap, name: str, home: Callable[[str, int], int]) -> list[tuple[int, int]]:
    """Address and home of every page."""
    addresses = (run.addr + index * PAGE for run in pagemap.runs for index in range(run.nr_pages))
    return [(addr, home(name, number)) for number, addr in enumerate(addresses)]


def _write_layer(
    images: ImageSet,
    writer: ImageSetWriter,
    name: str,
    homes: list[tuple[int, int]],
    layer: int,
    newest: bool,
) -> None:
    pagemap = images.pagemap(name)
    number = pagemap.pages
    source = images.pages_fd(number) if pagemap.nr_present else -1
    runs = []
    lfd = writer.pages(number)
    for index, (addr, home) in enumerate(homes):
        if layer == home or layer == 0:
            data = os.pread(source, PAGE, index * PAGE) if home == layer else STALE
            os.write(lfd, data)
            runs.append(Run(addr, 1, PE_PRESENT))
        elif newest or _listed(index, layer):
            runs.append(Run(addr, 1, PE_PARENT))
        elif layer < home:
            os.write(lfd, STALE)
            runs.append(Run(addr, 1, PE_PRESENT))
        else:
            runs.append(Run(addr, 1, PE_PARENT))
    writer.write(name, pagemap_messages(number, merge_runs(runs)))


def _listed(index: int, layer: int) -> bool:
    """Most sets in the middle have nothing newer either."""
    return (index * 31 + layer) % 64 != 0


def _copy_rest(images: ImageSet, writer: ImageSetWriter) -> None:
    for file in sorted(os.listdir(images.dir_lfd)):
        found = parse_file_name(file)
        if found is None or found.type.framing is not Framing.ORDINARY:
            continue
        if found.type.stem in (*PAGEMAPS, CHECKSUMS):
            continue
        name = image_name(found.type.stem, found.number)
        writer.write(name, images.read_payloads(name))
