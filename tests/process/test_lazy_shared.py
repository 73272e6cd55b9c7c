"""Shared memory that comes late is whole, whichever of its mappings a page is needed through."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import processes
from tests.support.lazily import (
    HOLDER,
    SERVER,
    LazyPages,
    kill_servers,
    named,
    pages_held,
    until,
    until_all_is_in,
)
from tests.support.programs import program

if TYPE_CHECKING:
    from tests.support.case import Case

LONG = bool(os.environ.get("CKPT_STRESS"))
SEEDS = range(1, 41 if LONG else 2)
STEPS = "2000" if LONG else "300"


def shared_resident(pid: int) -> int:
    """KiB of shared memory that the process has touched."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("RssShmem")]
    return int(line.split()[1])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("calm", [("calm",), ()], ids=["calm", "unruly"])
def test_memory_that_is_shared_comes_late(case: Case, seed: int, calm: tuple[str, ...]) -> None:
    """Only what is waited for comes, until the tree does what needs all of it."""
    victim = case.dumped(program("lazy/shared", str(seed), STEPS, *calm))
    with pages_held(case) as hold:
        case.ckpt.restore(case.images, "--lazy").ok()
        assert shared_resident(victim.pid) < 64
        victim.go()
        if not calm:
            hold.unlink()
        victim.verdict(100)
    until_all_is_in(case.images)


@pytest.mark.parametrize("options", [(), ("--track-mem",)])
def test_all_of_it_comes(case: Case, options: tuple[str, ...]) -> None:
    """Nobody asks for it, and nothing of the restore is left in the tree then."""
    victim = case.dumped(program("lazy/shared", "7", "100"))
    other = LazyPages(case.images)
    case.ckpt.restore(case.images, "--lazy-pages", *options).ok()
    other.done()
    until(lambda: not named(HOLDER))
    for pid in victim.tree:
        smaps = Path(f"/proc/{pid}/smaps").read_text()
        assert "/dev/zero" in smaps and " um" not in smaps
    victim.finish(timeout_s=100)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("calm", [("calm",), ()] if LONG else [()])
def test_the_server_is_killed(case: Case, seed: int, calm: tuple[str, ...]) -> None:
    """What was punched before is not filled again by the next one."""
    chance = random.Random(seed)
    victim = case.dumped(program("lazy/shared", str(100 + seed), "2000", *calm))
    with pages_held(case) as hold:
        case.ckpt.restore(case.images, "--lazy").ok()
        victim.go()
        kill_servers(victim.pid, chance)
        hold.unlink()
    victim.verdict(100)
    until_all_is_in(case.images)


def test_the_holder_is_killed(case: Case) -> None:
    victim = case.dumped(program("lazy/shared", "3", STEPS))
    with pages_held(case) as hold:
        case.ckpt.restore(case.images, "--lazy").ok()
        (holder,) = named(HOLDER)
        os.kill(holder, signal.SIGKILL)
        processes.wait_end(holder)
        hold.unlink()
    victim.finish(timeout_s=100)
    until(lambda: not named(SERVER))


def test_pages_are_lost_and_come_back(case: Case) -> None:
    """The tree is stopped, and never sees zeros."""
    victim = case.dumped(program("lazy/shared", "4", "100", "calm"))
    with pages_held(case) as hold:
        case.ckpt.restore(case.images, "--lazy").ok()
        path = largest(case.images)
        whole = path.read_bytes()
        with path.open("r+b") as file:
            file.seek(4 << 20)
            file.write(bytes(4096))
        hold.unlink()
    until(lambda: processes.state(victim.pid) == "T")
    path.write_bytes(whole)
    LazyPages(case.images).done()
    victim.finish(timeout_s=100)
    until_all_is_in(case.images)


def largest(images: Path) -> Path:
    """The pages of the shared memory."""
    return max(images.glob("pages-*.img"), key=lambda path: path.stat().st_size)


def test_small_objects_are_there_before(case: Case) -> None:
    victim = case.start(program("memory/shared_parts"))
    pids = victim.tree
    case.ckpt.dump(victim.pid, case.images).ok()
    victim.await_gone(pids)
    case.ckpt.restore(case.images, "--lazy").ok()
    victim.finish()
    until_all_is_in(case.images)
