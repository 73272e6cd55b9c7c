"""A victim whose pages went through a page server, and its other images by a copy, lives again."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from ckpt.images.reader import ImageSet
from ckpt.images.types import PAGEMAPS
from tests.support.pageserver import PAGE
from tests.support.programs import program
from tests.support.serverprocess import page_server

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.case import Case


def moved(images: Path, target: Path) -> None:
    """Pages by the server; all else but the sums, which know the pages already, by copying."""
    target.mkdir()
    with page_server(target) as server:
        with server.sender() as sender, ImageSet(images) as source:
            maps = [f"{stem}-{n}" for stem in PAGEMAPS for n in source.names(stem)]
            for name in maps:
                pagemap = source.pagemap(name)
                assert sender.open(name) is False
                sink = sender.sink(pagemap.runs)
                at, end = 0, pagemap.nr_present * PAGE
                while at < end:
                    at += os.sendfile(sink, source.pages_fd(pagemap.pages), at, end - at)
                sender.finish()
            sender.close()
        server.ends(0)
    for path in images.iterdir():
        if not path.name.startswith("page") and path.name != "ckpt-checksums.img":
            shutil.copy(path, target)


def test_restored_from_what_was_received(case: Case) -> None:
    for name in ("sparse", "shared_anonymous"):
        victim = case.dumped(program(f"memory/{name}"))
        target = case.folder / f"target-{name}"
        moved(case.images, target)
        case.ckpt.restore(target).ok()
        victim.finish()
        shutil.rmtree(case.images)


def test_rot_in_received_pages_is_found(case: Case) -> None:
    victim = case.dumped(program("memory/private"))
    target = case.folder / "target"
    moved(case.images, target)
    with (target / "pages-1.img").open("r+b") as file:
        file.seek(5 * PAGE)
        byte = file.read(1)
        file.seek(5 * PAGE)
        file.write(bytes([byte[0] ^ 1]))
    case.ckpt.restore(target).failed(5, "pages-1.img", "rotten")
    (target / "ckpt-checksums-pages.img").unlink()
    case.ckpt.restore(case.images).ok()
    victim.finish()
