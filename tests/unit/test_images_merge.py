"""Sets merged with those below: every set that builds on them restores what it did before."""

from __future__ import annotations

import os
import random
import shutil
from typing import TYPE_CHECKING

import pytest

from ckpt.errors import ImageError
from ckpt.images.chain import Chain
from ckpt.images.merge import merge
from ckpt.images.pagemap import PE_LAZY, PE_PARENT, PE_PRESENT, Run
from ckpt.images.parent import parent_of
from ckpt.images.reader import ImageSet
from ckpt.units import PAGE
from tests.support.chain_sets import make, make_many, pages, read

if TYPE_CHECKING:
    from pathlib import Path

P, L, N = PE_PARENT, PE_LAZY, PE_PRESENT


def chain_of(folder: Path, nr: int, chance: random.Random) -> list[Path]:
    """Random sets, each above the one before; two pagemaps, of which some sets lack one."""
    sets: list[Path] = []
    known: dict[str, set[int]] = {}
    for number in range(nr):
        images = {}
        for name in ("pagemap-7", "pagemap-shmem-9"):
            if name in known and chance.random() < 0.2:
                continue
            runs, have = some_runs(known.get(name, set()), chance)
            images[name], known[name] = runs, have
        known = {name: known[name] for name in images}
        sets.append(
            make_many(
                folder / str(number),
                images,
                f"../{number - 1}" if number else "",
                run_id=f"run {number}",
                parent_id=f"run {number - 1}" if number else None,
                seed=chance.randrange(256),
                dump_uptime=number,
            )
        )
    return sets


def some_runs(below: set[int], chance: random.Random) -> tuple[list[Run], set[int]]:
    runs: list[Run] = []
    for page in range(60):
        kind = chance.random()
        if kind < 0.4 and page in below:
            runs.append(pages(page, 1, P))
        elif kind < 0.7:
            runs.append(pages(page, 1, N | (L if chance.random() < 0.2 else 0)))
    return runs, {run.addr // PAGE for run in runs}


def contents(directory: Path) -> dict[str, dict[int, bytes]]:
    with Chain(directory) as chain:
        found = {name: read(chain, name) for name in chain.page_images()}
        chain.verify_pages().wait()
    return found


@pytest.mark.parametrize("seed", range(25))
def test_everything_above_stays_as_it_was(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    sets = chain_of(tmp_path, 6, chance)
    before = [contents(one) for one in sets]
    newest = chance.randrange(1, 6)
    nr = chance.randrange(1, newest + 1)
    into = tmp_path / "merging"
    into.mkdir()
    with Chain(sets[newest]) as chain:
        merge(chain, nr, into)
    for gone in sets[newest - nr : newest + 1]:
        shutil.rmtree(gone)
    into.rename(sets[newest])
    for number in (*range(newest - nr), *range(newest, 6)):
        assert contents(sets[number]) == before[number], number
    with ImageSet(sets[newest]) as images:
        images.verify_rest()
        assert images.inventory.dump_criu_run_id == f"run {newest}"
        assert images.inventory.dump_uptime == newest
        assert images.exists("ckpt-parent") == (nr < newest)
    (tmp_path / "next").mkdir()
    parent = parent_of(tmp_path / "next", "../5")
    assert parent.run_id == "run 5"


def test_rot_is_not_carried_over(tmp_path: Path) -> None:
    make(tmp_path / "a", [pages(0, 10, N)], run_id="A")
    runs = [pages(0, 9, P), pages(9, 1, N)]
    make(tmp_path / "b", runs, "../a", run_id="B", parent_id="A")
    with (tmp_path / "a" / "pages-3.img").open("r+b") as file:
        file.seek(3 * PAGE)
        file.write(b"rot")
    (tmp_path / "c").mkdir()
    with Chain(tmp_path / "b") as chain, pytest.raises(ImageError, match="rotten"):
        merge(chain, 1, tmp_path / "c")
    assert not list((tmp_path / "c").iterdir())


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "a", [pages(0, 10, N)], run_id="A")
    make(tmp_path / "b", [pages(0, 10, P)], "../a", run_id="B", parent_id="A")
    (tmp_path / "c").mkdir()

    def full(*_: object, **__: object) -> int:
        raise OSError(28, "no room")

    monkeypatch.setattr(os, "copy_file_range", full)
    with Chain(tmp_path / "b") as chain, pytest.raises(ImageError, match="no space left"):
        merge(chain, 1, tmp_path / "c")
    assert not list((tmp_path / "c").iterdir())


def test_where_ranges_of_files_can_not_be_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "a", [pages(0, 10, N)], run_id="A", seed=5)
    make(tmp_path / "b", [pages(0, 10, P)], "../a", run_id="B", parent_id="A")
    before = contents(tmp_path / "b")
    (tmp_path / "c").mkdir()

    def unable(*_: object, **__: object) -> int:
        raise OSError(95, "not here")

    monkeypatch.setattr(os, "copy_file_range", unable)
    with Chain(tmp_path / "b") as chain:
        assert merge(chain, 1, tmp_path / "c") == 10 * PAGE
    assert contents(tmp_path / "c") == before
    assert not (tmp_path / "c" / "parent").exists()
