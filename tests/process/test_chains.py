"""Processes out of chains: what was dumped at once comes back from many sets."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ckpt.images.chain import Chain
from tests.support.layering import spread
from tests.support.programs import program

if TYPE_CHECKING:
    from tests.support.case import Case

PROGRAMS = (
    "memory/private",
    "memory/cow_generations",
    "memory/shared_anonymous",
    "memory/memfd",
    "memory/file_private",
    "tree/children",
)


def dumped_and_spread(case: Case, name: str, nr_layers: int, share: float, seed: int) -> Path:
    """Dump a victim, kill it, and take its set apart; the newest of the sets."""
    victim = case.start(program(name))
    pids = victim.tree
    case.ckpt.dump(victim.pid, case.images).ok()
    victim.await_gone(pids)
    chance = random.Random(seed)

    def home(_name: str, _page: int) -> int:
        return chance.randrange(nr_layers) if chance.random() < share else 0

    return spread(case.images, case.folder / "chain", nr_layers, home)


@pytest.mark.parametrize("name", PROGRAMS)
def test_ten_layers(case: Case, name: str) -> None:
    newest = dumped_and_spread(case, name, 10, 0.5, seed=len(name))
    case.ckpt.restore(newest).ok()
    case.victims[0].finish()


@pytest.mark.parametrize("seed", range(6))
def test_random_layers(case: Case, seed: int) -> None:
    """From few scattered pages to none that stand together, after freeing what is replaced."""
    newest = dumped_and_spread(case, "memory/sparse", 2 + seed, seed / 5, seed)
    if seed % 2:
        case.ckpt.run("dedup", "-D", newest).ok()
    case.ckpt.restore(newest).ok()
    case.victims[0].finish()


def test_freed_pages_are_not_restored(case: Case) -> None:
    """The whole set that a newer one builds on is refused when it has lost pages."""
    victim = case.start(program("memory/private"))
    pids = victim.tree
    case.ckpt.dump(victim.pid, case.images).ok()
    victim.await_gone(pids)
    chance = random.Random(1)
    newest = spread(case.images, case.folder / "chain", 2, lambda *_: int(chance.random() < 0.1))
    # The oldest becomes a whole set, too: of stale pages, but that is for its owner to judge.
    for file in case.images.iterdir():
        if not file.name.startswith(("pagemap-", "pages-", "ckpt-checksums", "inventory")):
            (case.folder / "chain" / "0" / file.name).write_bytes(file.read_bytes())
    older = case.folder / "chain" / "0"
    case.ckpt.restore(older, "--dry-run").ok()
    case.ckpt.run("dedup", "-D", newest).ok()
    for option in ((), ("--no-checksums",)):
        case.ckpt.restore(older, *option).failed(5, "pages that are needed", "layer 1")
    case.ckpt.restore(newest).ok()
    victim.finish()


def test_the_wrong_parent_is_refused(case: Case) -> None:
    newest = dumped_and_spread(case, "memory/private", 3, 0.5, seed=1)
    (newest.parent / "1").rename(newest.parent / "gone")
    (newest.parent / "1").symlink_to("0")
    case.ckpt.restore(newest).failed(5, "not the set that was built upon", "layer 1", "layer 0")
    (newest.parent / "1").unlink()
    case.ckpt.restore(newest).failed(5, "leads nowhere")
    (newest.parent / "gone").rename(newest.parent / "1")
    case.ckpt.restore(newest).ok()
    case.victims[0].finish()


def test_what_can_not_be_freed_fails_no_dump(case: Case) -> None:
    """Somebody reads the parent while --auto-dedup wants to make holes in it."""
    victim = case.start(program("memory/private"))
    folders = [case.folder / name for name in "abc"]
    for folder in folders:
        folder.mkdir()
    a, b, c = folders
    case.ckpt.run("pre-dump", "-t", victim.pid, "-D", a, "--track-mem").ok()
    options = ("--track-mem", "--auto-dedup", "--prev-images-dir")
    pids = victim.tree
    with Chain(a):
        said = case.ckpt.run("pre-dump", "-t", victim.pid, "-D", b, *options, "../a").ok()
        assert "no page of an older set was freed" in said.stderr + said.log
        done = case.ckpt.run("dump", "-t", victim.pid, "-D", c, *options, "../b").ok()
        assert "no page of an older set was freed" in done.stderr + done.log
    victim.await_gone(pids)
    assert not list(case.folder.glob("*/ckpt-punched.img"))
    case.ckpt.run("dedup", "-D", c).ok()
    case.ckpt.restore(c).ok()
    victim.finish()
