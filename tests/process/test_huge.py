"""Memory of the pool of huge pages, in every way there is to have some."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support import visible
from tests.support.case import Case
from tests.support.hugepool import POOL, all_back, free, huge_page_pool
from tests.support.live import NOTHING, traces
from tests.support.programs import Program, program, programs
from tests.support.victim import Victim

PAGES = 24
SURROUNDINGS = 6
BANK = program("huge/bank")
VICTIMS = {p.name: p for p in programs("huge")}


@pytest.fixture
def pool() -> Iterator[int]:
    """How many pages are free in it."""
    with huge_page_pool(PAGES):
        yield free()


def mount(folder: Path) -> None:
    subprocess.run(["mount", "-t", "hugetlbfs", "none", str(folder)], check=True, timeout=60)


@pytest.fixture
def mounted(case: Case) -> Iterator[Path]:
    """A hugetlbfs, where tests/victims/huge/file.c looks for it."""
    folder = case.folder / "huge"
    folder.mkdir()
    mount(folder)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True, timeout=60)


@pytest.fixture(params=VICTIMS)
def victim_of(request: pytest.FixtureRequest) -> Program:
    return VICTIMS[request.param]


@pytest.mark.usefixtures("mounted")
def test_restored(case: Case, pool: int, victim_of: Program) -> None:
    """Killed by the dump, and built anew; in the end every page is given back."""
    victim = case.start(victim_of)
    case.dump_and_restore(victim, victim_of.words("dump"), [], victim_of.differs)
    victim.finish()
    assert all_back(pool), f"{free()} of {pool} pages are free"


@pytest.mark.parametrize("name", ["private-unreserved", "memfd-mapped"])
def test_a_dump_shows_nothing(case: Case, pool: int, name: str) -> None:
    """Not in the task, nor in the pool."""
    victim = case.start(VICTIMS[name])
    before, taken = visible.look(victim.pid, exact=True), free()
    case.ckpt.dump(victim.pid, case.images, "--leave-running").ok()
    visible.assert_same(before, visible.look(victim.pid, exact=True))
    assert free() == taken
    victim.finish()
    assert all_back(pool), f"{free()} of {pool} pages are free"


def test_without_its_file_system(case: Case, pool: int, mounted: Path) -> None:
    """What would be made in its place is no memory of huge pages."""
    victim = case.start(VICTIMS["file-removed"])
    pids = victim.tree
    case.ckpt.dump(victim.pid, case.images, *VICTIMS["file-removed"].words("dump")).ok()
    victim.await_gone(pids)
    subprocess.run(["umount", str(mounted)], check=True, timeout=60)
    try:
        case.ckpt.restore(case.images).failed(SURROUNDINGS, "huge pages of 2048 KiB", "hugetlbfs")
        victim.await_gone(pids)
    finally:
        mount(mounted)
    case.ckpt.restore(case.images).ok()
    victim.finish()
    assert all_back(pool), f"{free()} of {pool} pages are free"


def test_too_few(case: Case, pool: int) -> None:
    """Said before anything is built: how many are wanted, how many there are, where to say so."""
    victim = case.start(program("huge/private", "reserved"))
    pids = victim.tree
    taken = pool - free()
    case.ckpt.dump(victim.pid, case.images).ok()
    victim.await_gone(pids)
    assert all_back(pool), f"{free()} of {pool} pages are free"
    before = int(POOL.read_text())
    POOL.write_text(str(before - pool + taken - 1))
    short = case.ckpt.restore(case.images)
    short.failed(SURROUNDINGS, "huge pages of 2048 KiB", f"{taken - 1} are free", "nr_hugepages")
    victim.await_gone(pids)
    POOL.write_text(str(before))
    case.ckpt.restore(case.images).ok()
    victim.finish()
    assert all_back(pool), f"{free()} of {pool} pages are free"


def ended(victim: Victim) -> None:
    """Its memory is given back."""
    pids = victim.tree
    victim.kill()
    victim.await_gone(pids)


@pytest.mark.parametrize("engine", ["wp", "fork"])
def test_live(case: Case, pool: int, engine: str) -> None:
    """Copied while the tree stands, in the instant of what is copied later; no page is taken for
    that, and none protected."""
    victim = case.start(BANK)
    taken = free()
    case.ckpt.dump(victim.pid, case.images, f"--live={engine}").ok()
    assert free() == taken
    assert traces(victim.pid) == NOTHING
    ended(victim)
    case.ckpt.restore(case.images).ok()
    victim.finish()
    assert all_back(pool), f"{free()} of {pool} pages are free"


@pytest.mark.parametrize("mode", ["async", "sync"])
def test_chain(case: Case, pool: int, mode: str) -> None:
    """What was written since the set before is found by whole pages."""
    victim = case.start(BANK)
    sets = [case.folder / f"set{number}" for number in range(3)]
    for images in sets:
        images.mkdir()
    tracked = f"--track-mode={mode}"
    case.ckpt.run("pre-dump", "-t", victim.pid, "-D", sets[0], tracked).ok()
    live = ["--live=wp"] if mode == "sync" else ["--leave-running"]
    for before, images in pairwise(sets):
        on = ["--prev-images-dir", f"../{before.name}", "--track-mem", *live]
        case.ckpt.run("dump", "-t", victim.pid, "-D", images, *on).ok()
    case.ckpt.run("untrack", victim.pid).ok()
    assert traces(victim.pid) == NOTHING
    ended(victim)
    case.ckpt.restore(sets[-1]).ok()
    victim.finish()
    assert all_back(pool), f"{free()} of {pool} pages are free"


def test_lazy(case: Case, pool: int) -> None:
    """Huge pages are there before the tree runs, beside others that come later."""
    victim = case.start(BANK)
    pids = victim.tree
    case.ckpt.dump(victim.pid, case.images).ok()
    victim.await_gone(pids)
    case.ckpt.restore(case.images, "--lazy").ok()
    victim.finish()
    assert all_back(pool), f"{free()} of {pool} pages are free"
