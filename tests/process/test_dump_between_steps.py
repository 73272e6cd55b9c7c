"""What happens to a tree or its keeper while a dump is under way: the set that comes of it is
right, and a keeper costs pages, never a set."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ckpt.dump.options import DumpOptions
from ckpt.dump.pre_dump import pre_dump
from ckpt.dump.run import dump
from ckpt.dump.stats import DumpStats
from ckpt.report import Report
from tests.support import keepers, processes
from tests.support.between import Between
from tests.support.case import Case
from tests.support.chain import Sets, restored
from tests.support.programs import program
from tests.support.victim import Victim

ADVISED, LEDGER = program("chain/advised"), program("chain/ledger")
Verb = Callable[[DumpOptions, Report], DumpStats]
MODES = pytest.mark.parametrize("mode", ["async", "sync"])


def change(victim: Victim, *steps: int) -> None:
    """Have the ledger take steps; it compares all of its memory with its record after each."""
    for step in steps:
        victim.expect_ready()
        victim.go(f"step{step}")
        victim.wait_ready()


def options(victim: Victim, folder: Path, prev: str = "", **more: Any) -> DumpOptions:
    folder.mkdir(exist_ok=True)
    return DumpOptions(
        tree=victim.pid, images_dir=folder, work_dir=folder, prev_images_dir=prev, **more
    )


@pytest.mark.parametrize("leave_running", [False, True])
def test_flags_change_before_the_freeze(case: Case, *, leave_running: bool) -> None:
    """Between the look that reads them and the freeze, which reads only maps."""
    victim = case.start(ADVISED)

    def advise() -> None:
        victim.expect_ready()
        victim.go("advise")
        victim.wait_ready()

    report = Between("freeze", advise)
    dump(options(victim, case.images, leave_running=leave_running), report)
    if leave_running:
        victim.kill()
    victim.await_gone([victim.pid])
    restored(case.images)
    victim.finish()


@MODES
@pytest.mark.parametrize("stage", ["freeze", "memory", "write"])
def test_keeper_is_killed(case: Case, mode: str, stage: str) -> None:
    """Before the last round all is written; after it nothing of the keeper is needed."""
    victim = case.start(LEDGER)
    sets = Sets(case.folder / "chain", victim.pid, mode)
    sets.pre_dump()
    change(victim, 1)
    keeper = keepers.of(victim.pid)[0]

    def kill() -> None:
        os.kill(keeper, signal.SIGKILL)
        processes.wait_gone([keeper])

    report = Between(stage, kill)
    folder = sets.folder / "last"
    dump(options(victim, folder, f"../{sets.newest}"), report)
    assert report.warned("every page is written") == (stage == "freeze")
    victim.await_gone([victim.pid])
    restored(folder)
    change(victim, 2, 3, 4)
    victim.finish()


def test_keeper_hangs(case: Case) -> None:
    """The tree does not stand for its sake longer than a few seconds."""
    victim = case.start(LEDGER)
    sets = Sets(case.folder / "chain", victim.pid, "async")
    sets.pre_dump()
    change(victim, 1)
    keeper = keepers.of(victim.pid)[0]
    folder = sets.folder / "last"
    report = Between("freeze", lambda: os.kill(keeper, signal.SIGSTOP))
    began_s = time.monotonic()
    stats = dump(options(victim, folder, f"../{sets.newest}"), report)
    assert report.warned("every page is written")
    assert stats.frozen_us < 30e6 and time.monotonic() - began_s < 60
    victim.await_gone([victim.pid])
    os.kill(keeper, signal.SIGCONT)
    processes.wait_gone([keeper])
    restored(folder)
    change(victim, 2, 3, 4)
    victim.finish()


@pytest.mark.parametrize("verb", [dump, pre_dump])
def test_keeper_is_killed_before_it_learns_of_the_set(case: Case, verb: Verb) -> None:
    """The set is whole, so that is no failure; the next one is whole as well, and right."""
    victim = case.start(LEDGER)
    sets = Sets(case.folder / "chain", victim.pid, "async")
    sets.pre_dump()
    change(victim, 1)
    report = Between("memory", lambda: os.kill(keepers.of(victim.pid)[0], signal.SIGKILL))
    folder = sets.folder / "second"
    verb(options(victim, folder, "../1", leave_running=True, track_mem=True), report)
    assert report.warned("the set is whole, but the next one can't build on it")
    assert (folder / "inventory.img").exists()
    change(victim, 2)
    last = Between("", lambda: None)
    dump(options(victim, sets.folder / "last", "../second"), last)
    assert last.warned("is not built upon")
    victim.await_gone([victim.pid])
    restored(sets.folder / "last")
    change(victim, 3, 4)
    victim.finish()
