"""Blocks of memory that grow, move and go to the kernel before they have arrived: what every call
returns and what every page holds is as it would be after any other restore.

The oracle is the victim, which knows both (tests/victims/lazy/blocks.c).
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest

from ckpt.lazy.start import numbers_of
from tests.support.lazily import kill_servers, pages_held, until_all_is_in
from tests.support.programs import program

if TYPE_CHECKING:
    from tests.support.case import Case
    from tests.support.programs import Program

LONG = bool(os.environ.get("CKPT_STRESS"))
SEEDS = range(1, 41 if LONG else 2)
ENOUGH_S = 100


def blocks(seed: int) -> Program:
    return program("lazy/blocks", str(seed), "2000" if LONG else "200", "3")


def endless_blocks(seed: int, how: str) -> Program:
    return program("lazy/blocks", str(seed), "20000", "3", how)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("options", [("--lazy",), ()] if LONG else [("--lazy",)])
def test_blocks(case: Case, options: tuple[str, ...], seed: int) -> None:
    victim = case.dumped(blocks(seed))
    with pages_held(case) as hold:
        case.ckpt.restore(case.images, *options).ok()
        if seed % 3 == 0:
            hold.unlink()
        victim.finish(timeout_s=ENOUGH_S)
    until_all_is_in(case.images)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_server_is_killed(case: Case, seed: int) -> None:
    victim = case.dumped(blocks(seed))
    with pages_held(case) as hold:
        case.ckpt.restore(case.images, "--lazy").ok()
        victim.go()
        kill_servers(victim.pid, random.Random(seed))
        hold.unlink()
    victim.verdict(ENOUGH_S)
    until_all_is_in(case.images)


@pytest.mark.parametrize("killed", [False, True] if LONG else [False])
def test_what_has_grown_again_is_empty(case: Case, killed: bool) -> None:
    """In a child, too, that is born before anybody could see that the change is over."""
    victim = case.dumped(program("lazy/regrown", "2000" if LONG else "50"))
    with pages_held(case) as hold:
        case.ckpt.restore(case.images, "--lazy").ok()
        victim.go()
        if killed:
            kill_servers(victim.pid, random.Random(1))
        victim.verdict(ENOUGH_S)
        hold.unlink()
    until_all_is_in(case.images)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("how", ["stays", "moves"] if LONG else ["stays"])
def test_tracked_meanwhile(case: Case, how: str, seed: int) -> None:
    """What was written to memory that was missing is in the next sets, whatever became of the
    mappings since."""
    victim = case.dumped(endless_blocks(seed, how))
    second, third = (case.folder / name for name in ("second", "third"))
    with pages_held(case) as hold:
        case.ckpt.restore(case.images, "--lazy", "--track-mem").ok()
        victim.go()
        hold.unlink()
    second.mkdir()
    case.ckpt.run("pre-dump", "-t", victim.pid, "-D", second, "--prev-images-dir", "../images").ok()
    case.ckpt.dump(victim.pid, third, "--prev-images-dir", "../second").ok()
    victim.await_gone(sorted(numbers_of(third)))
    case.ckpt.restore(third, "--lazy").ok()
    victim.go("enough")
    victim.verdict(ENOUGH_S)
    until_all_is_in(third)
