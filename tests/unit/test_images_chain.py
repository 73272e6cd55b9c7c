"""Which set of a chain holds a page."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from ckpt.errors import ImageError
from ckpt.images import chain as chain_module
from ckpt.images import pagemap
from ckpt.images.chain import Chain, Piece
from ckpt.images.pagemap import PE_LAZY, PE_PARENT, PE_PRESENT, Run
from ckpt.images.writer import ImageSetWriter
from ckpt.units import PAGE, Range
from tests.support.image_set import inventory, write_pages

if TYPE_CHECKING:
    from pathlib import Path

P, L, N = PE_PARENT, PE_LAZY, PE_PRESENT


def pages(start: int, count: int, flags: int) -> Run:
    return Run(start * PAGE, count, flags)


def span(start: int, end: int) -> Range:
    return Range(start * PAGE, end * PAGE)


def make(directory: Path, runs: list[Run], parent: str = "") -> Path:
    directory.mkdir()
    if parent:
        (directory / "parent").symlink_to(parent)
    with ImageSetWriter(directory) as writer:
        writer.write("pagemap-7", pagemap.pagemap_messages(3, runs))
        write_pages(writer, 3, sum(run.nr_pages for run in runs if run.flags & N))
        writer.write("inventory", [inventory()])
        writer.commit()
    return directory


def test_a_set_alone(tmp_path: Path) -> None:
    make(tmp_path / "a", [pages(1, 2, N), pages(5, 1, L)])
    with Chain(tmp_path / "a") as chain:
        assert chain.resolve("pagemap-7") == [
            Piece(span(1, 3), 0, 3, 0, N),
            Piece(span(5, 6), 0, 3, None, L),
        ]


def test_pages_of_three_layers(tmp_path: Path) -> None:
    make(tmp_path / "a", [pages(0, 10, N)])
    make(tmp_path / "b", [pages(0, 2, P), pages(2, 3, N), pages(5, 5, P)], "../a")
    make(tmp_path / "c", [pages(1, 1, N), pages(2, 6, P)], "../b")
    with Chain(tmp_path / "c") as chain:
        assert len(chain.layers) == 3
        pieces = chain.resolve("pagemap-7")
        assert [(p.range, p.layer, p.offset) for p in pieces] == [
            (span(1, 2), 0, 0),
            (span(2, 5), 1, 0),
            (span(5, 8), 2, 5 * PAGE),
        ]
        for piece in pieces:
            lfd = chain.layers[piece.layer].pages_fd(piece.pages)
            assert piece.offset is not None
            assert len(os.pread(lfd, len(piece.range), piece.offset)) == len(piece.range)


def test_rot_in_a_parent_is_found(tmp_path: Path) -> None:
    make(tmp_path / "a", [pages(0, 10, N)])
    make(tmp_path / "b", [pages(0, 1, N), pages(1, 9, P)], "../a")
    with Chain(tmp_path / "b") as chain:
        chain.verify_pages().wait()
        with (tmp_path / "a" / "pages-3.img").open("r+b") as file:
            file.write(b"rot")
        with pytest.raises(ImageError, match=r"pages-3.img: rotten at byte 0"):
            chain.verify_pages().wait()


@pytest.mark.parametrize(
    "below", [[pages(0, 2, N)], [pages(3, 2, N)], [pages(0, 2, N), pages(3, 2, N)], []]
)
def test_a_page_that_no_parent_has(tmp_path: Path, below: list[Run]) -> None:
    make(tmp_path / "a", below)
    make(tmp_path / "b", [pages(1, 3, P)], "../a")
    with Chain(tmp_path / "b") as chain, pytest.raises(ImageError, match="lacks the pages"):
        chain.resolve("pagemap-7")


def test_the_last_set_has_no_parent(tmp_path: Path) -> None:
    make(tmp_path / "a", [pages(1, 3, P)])
    with Chain(tmp_path / "a") as chain, pytest.raises(ImageError, match="lacks the pages"):
        chain.resolve("pagemap-7")


def test_a_chain_must_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = len(os.listdir("/proc/self/fd"))
    make(tmp_path / "a", [], "../b")
    make(tmp_path / "b", [], "../a")
    with pytest.raises(ImageError, match="leads back"):
        Chain(tmp_path / "a")
    make(tmp_path / "self", [], ".")
    with pytest.raises(ImageError, match="leads back"):
        Chain(tmp_path / "self")
    monkeypatch.setattr(chain_module, "MAX_DEPTH", 2)
    make(tmp_path / "1", [])
    make(tmp_path / "2", [], "../1")
    make(tmp_path / "3", [], "../2")
    with pytest.raises(ImageError, match="at most 2 sets"):
        Chain(tmp_path / "3")
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_parent_that_is_gone(tmp_path: Path) -> None:
    make(tmp_path / "a", [], "../gone")
    with pytest.raises(ImageError, match=r"a/parent: leads nowhere"):
        Chain(tmp_path / "a")
    (tmp_path / "gone").touch()
    with pytest.raises(ImageError, match=r"a/parent: can't be opened"):
        Chain(tmp_path / "a")


def test_many_runs(tmp_path: Path) -> None:
    make(tmp_path / "a", [pages(2 * number, 1, N) for number in range(3000)])
    make(tmp_path / "b", [pages(4 * number, 1, P) for number in range(1500)], "../a")
    with Chain(tmp_path / "b") as chain:
        pieces = chain.resolve("pagemap-7")
    assert [piece.offset for piece in pieces] == [2 * n * PAGE for n in range(1500)]
