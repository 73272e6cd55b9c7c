"""Which set of a chain holds a page."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from ckpt.errors import ImageError
from ckpt.images import chain as chain_module
from ckpt.images.chain import Chain, Piece
from ckpt.images.pagemap import PE_LAZY, PE_PARENT, PE_PRESENT, Run
from ckpt.images.parent import parent_of
from ckpt.images.writer import ImageSetWriter
from ckpt.units import PAGE
from tests.support.chain_sets import make, make_many, pages, span
from tests.support.image_set import inventory

if TYPE_CHECKING:
    from pathlib import Path

P, L, N = PE_PARENT, PE_LAZY, PE_PRESENT


def test_a_set_alone(tmp_path: Path) -> None:
    make(tmp_path / "a", [pages(1, 2, N), pages(5, 1, L)])
    with Chain(tmp_path / "a") as chain:
        assert chain.resolve("pagemap-7") == [
            Piece(1 * PAGE, 3 * PAGE, 0, 3, 0, N),
            Piece(5 * PAGE, 6 * PAGE, 0, 3, None, L),
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


def test_a_set_remembers_what_it_builds_on(tmp_path: Path) -> None:
    make(tmp_path / "a", [pages(0, 2, N)], run_id="first")
    make(tmp_path / "b", [pages(0, 2, P)], "../a", run_id="second", parent_id="first")
    assert str((tmp_path / "b" / "parent").readlink()) == "../a"
    with Chain(tmp_path / "b") as chain:
        assert chain.layers[0].read_one("ckpt-parent").run_id == "first"
        assert [p.layer for p in chain.resolve("pagemap-7")] == [1]
        assert "ckpt-parent.img" in chain.layers[0]._sums


@pytest.mark.parametrize("verify", [True, False])
def test_another_set_at_parent_is_refused(tmp_path: Path, verify: bool) -> None:
    before = len(os.listdir("/proc/self/fd"))
    make(tmp_path / "a", [pages(0, 2, N)], run_id="first")
    make(tmp_path / "b", [pages(0, 2, P)], "../a", run_id="second", parent_id="first")
    (tmp_path / "a").rename(tmp_path / "gone")
    make(tmp_path / "a", [pages(0, 2, N)], run_id="other")
    wanted = r"b/parent: is not the set that was built upon: that was dump first, this is other"
    with pytest.raises(ImageError, match=wanted):
        Chain(tmp_path / "b", verify=verify)
    (tmp_path / "b" / "ckpt-parent.img").unlink()
    with Chain(tmp_path / "b", verify=verify) as chain:
        assert [p.layer for p in chain.resolve("pagemap-7")] == [1]
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_wrong_set_far_down_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "a", [pages(0, 2, N)], run_id="other")
    make(tmp_path / "b", [pages(0, 2, P)], "../a", run_id="second", parent_id="first")
    make(tmp_path / "c", [pages(0, 2, N)], "../b", run_id="third", parent_id="second")
    with pytest.raises(ImageError, match=r"c/parent/parent: is not the set"):
        Chain(tmp_path / "c")


def test_a_parent_without_a_name(tmp_path: Path) -> None:
    make(tmp_path / "a", [pages(0, 2, N)])
    make(tmp_path / "b", [pages(0, 2, P)], "../a", parent_id="")
    with Chain(tmp_path / "b") as chain:
        assert len(chain.layers) == 2


def test_an_aborted_set_leaves_no_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = os.rename

    def failing(src: str, dst: str, **where: int) -> None:
        if dst == "inventory.img":
            assert str((tmp_path / "parent").readlink()) == "../a"
            raise OSError(28, "No space left on device")
        rename(src, dst, **where)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(ImageError), ImageSetWriter(tmp_path) as writer:
        writer.write("inventory", [inventory()])
        writer.link_parent("../a", "first")
        assert os.listdir(tmp_path) == []
        writer.commit()
    assert os.listdir(tmp_path) == []


def test_a_link_that_is_there_already(tmp_path: Path) -> None:
    (tmp_path / "parent").symlink_to("../a")
    with ImageSetWriter(tmp_path) as writer:
        with pytest.raises(ImageError, match=r"parent: leads to \.\./a already, not to \.\./b"):
            writer.link_parent("../b", "")
        writer.link_parent("../a", "")
        writer.write("inventory", [inventory()])
        writer.abort()
    assert os.listdir(tmp_path) == ["parent"]
    (tmp_path / "parent").unlink()
    (tmp_path / "parent").mkdir()
    with ImageSetWriter(tmp_path) as writer, pytest.raises(ImageError, match="no symbolic link"):
        writer.link_parent("../a", "")


def test_what_a_parent_can_answer_for(tmp_path: Path) -> None:
    make_many(
        tmp_path / "a",
        {"pagemap-7": [pages(0, 10, N)], "pagemap-8": [pages(0, 1, N)]},
        run_id="first",
    )
    make_many(
        tmp_path / "b",
        {
            "pagemap-7": [pages(0, 2, P), pages(2, 1, N), pages(3, 1, L), pages(5, 1, P)],
            "pagemap-shmem-1": [pages(0, 1, N), pages(7, 1, N | L)],
        },
        "../a",
        run_id="second",
    )
    (tmp_path / "c").mkdir()
    found = parent_of(tmp_path / "c", "../b")
    assert (found.path, found.run_id) == ("../b", "second")
    assert found.ranges == {
        "pagemap-7": [(0, 3 * PAGE), (5 * PAGE, 6 * PAGE)],
        "pagemap-shmem-1": [(0, PAGE), (7 * PAGE, 8 * PAGE)],
    }


def test_what_can_be_no_parent(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    with pytest.raises(ImageError, match="holds no image set"):
        parent_of(tmp_path / "c", ".")
    with pytest.raises(ImageError, match="can't be opened"):
        parent_of(tmp_path / "c", "../none")
    make(tmp_path / "b", [pages(0, 1, P)], "../gone")
    with pytest.raises(ImageError, match="leads nowhere"):
        parent_of(tmp_path / "c", "../b")
    make(tmp_path / "a", [pages(0, 1, P)])
    with pytest.raises(ImageError, match="lacks the pages"):
        parent_of(tmp_path / "c", "../a")


def test_a_parent_with_other_tasks(tmp_path: Path) -> None:
    make_many(tmp_path / "a", {"pagemap-8": [pages(0, 9, N)], "pagemap-shmem-7": [pages(0, 9, N)]})
    make(tmp_path / "b", [pages(0, 1, P)], "../a")
    with Chain(tmp_path / "b") as chain, pytest.raises(ImageError) as caught:
        chain.resolve("pagemap-7")
    assert "a/pagemap-7.img" in str(caught.value).replace("b/parent", "a")
    assert "lacks the pages 0-1000" in str(caught.value)


@pytest.mark.parametrize("kind", ["fifo", "file", "loop of links", "empty folder"])
def test_what_else_may_be_called_parent(tmp_path: Path, kind: str) -> None:
    before = len(os.listdir("/proc/self/fd"))
    make(tmp_path / "a", [pages(0, 1, N)])
    link = tmp_path / "a" / "parent"
    if kind == "fifo":
        os.mkfifo(link)
    elif kind == "file":
        link.write_text("../b")
    elif kind == "empty folder":
        (tmp_path / "b").mkdir()
        link.symlink_to("../b")
    else:
        link.symlink_to("parent")
    if kind == "empty folder":
        with Chain(tmp_path / "a") as chain:
            assert [piece.layer for piece in chain.resolve("pagemap-7")] == [0]
    else:
        with pytest.raises(ImageError, match="a/parent: "):
            Chain(tmp_path / "a")
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_long_chain_opens_few_files(tmp_path: Path) -> None:
    """Many tasks in many layers: one descriptor for each set, until pages are read."""
    names = [f"pagemap-{pid}" for pid in range(1, 41)]
    make_many(tmp_path / "0", {name: [pages(0, 20, N)] for name in names})
    for layer in range(1, 20):
        some = {name: [pages(0, layer, P), pages(layer, 1, N)] for name in names}
        make_many(tmp_path / str(layer), some, f"../{layer - 1}")
    before = len(os.listdir("/proc/self/fd"))
    with Chain(tmp_path / "19") as chain:
        for name in chain.page_images():
            assert len({piece.layer for piece in chain.resolve(name)}) == 20
        assert len(os.listdir("/proc/self/fd")) - before == 20
    assert len(os.listdir("/proc/self/fd")) == before
