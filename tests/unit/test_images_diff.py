"""Comparing sets: against a plain comparison page by page, and what is not even read."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest

from ckpt.cli.__main__ import main
from ckpt.errors import ImageError
from ckpt.images.chain import Chain
from ckpt.images.checksums import BLOCK
from ckpt.images.diff import diff
from ckpt.images.pagemap import PE_LAZY, PE_PARENT, PE_PRESENT, Run, pagemap_messages
from ckpt.images.writer import ImageSetWriter
from ckpt.units import PAGE
from tests.support.chain_sets import make, pages, read
from tests.support.image_set import HEAP, STACK, inventory, memory, write_set

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ckpt.images.diff import MemoryDiff, Pair

P, L, N = PE_PARENT, PE_LAZY, PE_PRESENT


class Counting:
    """A comparer that also tells how much it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, pairs: Sequence[Pair]) -> list[int]:
        from ckpt.mem.compare import compare

        self.asked += sum(pair.nr_pages for pair in pairs)
        return compare(pairs)


def compared(a: Path, b: Path, comparer: Counting | None = None) -> list[MemoryDiff]:
    with Chain(a) as older, Chain(b) as newer:
        return diff(older, newer, comparer or Counting())


def counts(found: MemoryDiff) -> tuple[int, int, int]:
    rows = found.mappings
    return (
        sum(row.changed for row in rows),
        sum(row.only_a for row in rows),
        sum(row.only_b for row in rows),
    )


def plainly(a: Path, b: Path) -> tuple[int, int, int]:
    """The same of sets without mappings, from what a restore would load."""
    with Chain(a) as older, Chain(b) as newer:
        old, new = read(older), read(newer)
    both = old.keys() & new.keys()
    changed = sum(old[page] != new[page] for page in both)
    return changed, len(old) - len(both), len(new) - len(both)


@pytest.mark.parametrize("seed", range(20))
def test_as_page_by_page(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)

    def some(flags: list[int]) -> list[Run]:
        runs, at = [], 0
        for _ in range(chance.randrange(1, 12)):
            at += chance.randrange(0, 4)
            nr = chance.randrange(1, 30)
            runs.append(pages(at, nr, chance.choice(flags)))
            at += nr
        return runs

    make(tmp_path / "a", [pages(0, 500, N)], run_id="A", seed=chance.randrange(3))
    make(tmp_path / "b", some([N, P]), "../a", run_id="B", parent_id="A", seed=chance.randrange(3))
    make(tmp_path / "c", some([N]), seed=chance.randrange(3))
    for first, second in ("ab", "ba", "bc", "ca", "cc"):
        a, b = tmp_path / first, tmp_path / second
        assert counts(compared(a, b)[0]) == plainly(a, b)


def test_what_two_sets_share_is_not_read(tmp_path: Path) -> None:
    make(tmp_path / "a", [pages(0, 3000, N)], run_id="A")
    runs = [pages(0, 100, P), pages(100, 50, N), pages(150, 2850, P)]
    make(tmp_path / "b", runs, "../a", run_id="B", parent_id="A", seed=7)
    asked = Counting()
    assert counts(compared(tmp_path / "a", tmp_path / "b", asked)[0]) == (50, 0, 0)
    assert asked.asked == 50


def test_blocks_of_equal_sums_are_not_read(tmp_path: Path) -> None:
    per_block = BLOCK // PAGE
    make(tmp_path / "a", [pages(0, 3 * per_block + 10, N)])
    make(tmp_path / "b", [pages(0, 3 * per_block + 10, N)])
    asked = Counting()
    assert not compared(tmp_path / "a", tmp_path / "b", asked)[0].mappings
    assert asked.asked == 10
    asked = Counting()
    with (
        Chain(tmp_path / "a", verify=False) as a,
        Chain(tmp_path / "b", verify=False) as b,
    ):
        assert not diff(a, b, asked)[0].mappings
    assert asked.asked == 3 * per_block + 10


def test_pages_that_are_missing(tmp_path: Path) -> None:
    """The file is cut after it was opened: an error, and no difference."""
    make(tmp_path / "a", [pages(0, 100, N)])
    make(tmp_path / "b", [pages(0, 100, N)], seed=1)

    def cut(pairs: Sequence[Pair]) -> list[int]:
        with (tmp_path / "b" / "pages-3.img").open("r+b") as file:
            file.truncate(5 * PAGE)
        return Counting()(pairs)

    with (
        Chain(tmp_path / "a") as a,
        Chain(tmp_path / "b") as b,
        pytest.raises(ImageError, match="ends before"),
    ):
        diff(a, b, cut)


def write_tree(folder: Path, data: dict[int, bytes], heap_pages: int = 4) -> Path:
    """A set of one task with the mappings of tests.support.image_set and these pages."""
    folder.mkdir()
    mm: Any = memory()
    for vma in mm.vmas:
        if vma.start == HEAP:
            vma.end = HEAP + heap_pages * PAGE
    with ImageSetWriter(folder) as writer:
        writer.write("mm-7", [mm])
        writer.write("pagemap-7", pagemap_messages(1, [Run(addr, 1, N) for addr in sorted(data)]))
        lfd = writer.pages(1)
        for _, content in sorted(data.items()):
            with open(lfd, "wb", closefd=False) as file:
                file.write(content)
        writer.write("inventory", [inventory()])
        writer.commit()
    return folder


def test_mappings_and_zeros(tmp_path: Path) -> None:
    zero, one, two = bytes(PAGE), b"1" * PAGE, b"2" * PAGE
    a = write_tree(tmp_path / "a", {HEAP: zero, HEAP + PAGE: one, HEAP + 2 * PAGE: one, STACK: one})
    b = write_tree(
        tmp_path / "b", {HEAP + PAGE: two, STACK: one, STACK + PAGE: one, HEAP + 5 * PAGE: one}, 6
    )
    (found,) = compared(a, b)
    rows = found.mappings
    assert [(row.start, row.end, row.changed, row.only_a, row.only_b) for row in rows] == [
        (HEAP, HEAP + 4 * PAGE, 1, 1, 0),
        (HEAP + 4 * PAGE, HEAP + 6 * PAGE, 0, 0, 1),
        (STACK, STACK + 2 * PAGE, 0, 0, 1),
    ]
    assert [row.a is None for row in rows] == [False, True, False]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        write_set(tmp_path / name)
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    assert main(["diff", a, b]) == 0
    assert capsys.readouterr().out == (
        "pid 10: the same\npid 20: the same\nshared memory 77: the same\nno page differs\n"
    )
    c = str(write_tree(tmp_path / "c", {HEAP: b"x" * PAGE}))
    assert main(["diff", a, c]) == 0
    out = capsys.readouterr().out
    assert "pid 10: only in A" in out
    assert "pid 7: only in B, 1 pages" in out
    assert main(["diff", a, b, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pages"] == 0
    assert main(["diff", a]) == 2
    assert main(["diff", a, str(tmp_path)]) == 5


def test_sets_of_pre_dumps(tmp_path: Path) -> None:
    make(tmp_path / "a", [pages(0, 5, N)])
    make(tmp_path / "b", [pages(2, 6, N)], seed=2)
    (found,) = compared(tmp_path / "a", tmp_path / "b")
    assert counts(found) == (0, 2, 3)
