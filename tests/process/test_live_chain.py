"""Live dumps by write protection that build on each other: each set is whole with those before it.

The oracles are the victims' own books: a page that was taken for unchanged and was not, or was
written after its instant, makes some restored copy fail.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from ckpt.mem.tracking.client import Keeper
from tests.support import processes, visible
from tests.support.live import NOTHING, check_beside, killed_at, traces
from tests.support.programs import program

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.case import Case
    from tests.support.victim import Victim

NR_STRESS = int(os.environ.get("CKPT_LIVE_SNAPSHOTS", "1000"))
STRESS = bool(os.environ.get("CKPT_STRESS"))
STAGES = ("Stage: look", "round 1", "Stage: freeze", "Stage: memory", "Stage: live", "Stage: write")
NR_KILLS = 200
NR_SETS = 20


def shot(case: Case, victim: Victim, number: int, *options: str) -> dict[str, Any]:
    """The set of this number, which builds on that of the number before, if there is one."""
    words = command(case, victim, number)
    said: dict[str, Any] = json.loads(case.ckpt.run(*words, *options).ok().stdout)
    assert said["live"]["engine"] == "wp"
    return said


def command(case: Case, victim: Victim, number: int) -> list[str]:
    images = folder(case, number)
    images.mkdir()
    words = ["dump", "-t", str(victim.pid), "-D", str(images), "--live=wp", "--track-mem", "--json"]
    if number:
        words += ["--prev-images-dir", f"../{folder(case, number - 1).name}"]
    return words


def folder(case: Case, number: int) -> Path:
    return case.folder / f"set{number}"


def prove(case: Case, victim: Victim, sets: list[Path]) -> None:
    """Restore each in the place of the original, which is dead."""
    size = (victim.folder / "out").stat().st_size
    for images in sets:
        os.truncate(victim.folder / "out", size)
        case.ckpt.restore(images).ok()
        victim.finish()


@pytest.mark.parametrize("name", ["accounts", "shuffle"])
def test_each_is_of_its_instant(case: Case, name: str) -> None:
    """While all that can be done with memory is done, by threads that never stop for it."""
    victim = case.start(program(f"live/{name}", "FREE"))
    sets = range(6 if STRESS else 2)
    said = [shot(case, victim, number, "--live-catch=always") for number in sets]
    assert all(one["pages_skipped_parent"] for one in said[1:])
    case.ckpt.run("untrack", victim.pid).ok()
    assert traces(victim.pid) == NOTHING
    victim.kill()
    prove(case, victim, [folder(case, number) for number in (sets if STRESS else sets[-1:])])


@pytest.mark.stress
@pytest.mark.parametrize("how", ["PLAIN", "BEAR"])
def test_with_shared_memory(case: Case, how: str) -> None:
    """Which is armed as well, beside what is tracked, and whole in each set."""
    victim = case.start(program("live/bank", how))
    said = [shot(case, victim, number) for number in (0, 1)]
    assert said[1]["pages_skipped_parent"]
    live = said[1]["live"]
    later = live["fault_pages"] + live["swept_pages"] + live["saved_pages"]
    assert later >= said[1]["shpages_written"] > 0
    check_beside(case, victim, folder(case, 1))
    case.ckpt.run("untrack", victim.pid).ok()
    assert all(traces(pid) == NOTHING for pid in (victim.pid, *processes.children(victim.pid)))
    victim.finish()


def step(victim: Victim, number: int) -> None:
    victim.expect_ready()
    victim.go(f"step{number}")
    victim.wait_ready()


def test_only_what_was_written(case: Case) -> None:
    """Of a victim that writes nothing between two sets, and something before the third."""
    victim = case.start(program("chain/ledger"))
    before = visible.look(victim.pid, exact=True)
    said = [shot(case, victim, number) for number in (0, 1)]
    assert said[0]["live"]["swept_pages"] > 2000
    assert not said[1]["live"]["swept_pages"]
    assert said[1]["pages_skipped_parent"] > 2000
    step(victim, 1)
    said.append(shot(case, victim, 2))
    assert 0 < said[2]["live"]["swept_pages"] < 2000
    case.ckpt.run("untrack", victim.pid).ok()
    visible.assert_same(before, visible.look(victim.pid, exact=True))
    victim.kill()
    case.ckpt.restore(folder(case, 2)).ok()
    for number in (2, 3, 4):
        step(victim, number)
    victim.finish()


@pytest.mark.stress
def test_with_sets_of_other_kinds(case: Case) -> None:
    """A pre-dump of the same tracker, by a fork, and a last one that ends the tree."""
    victim = case.start(program("live/accounts", "KEEP"))
    folder(case, 0).mkdir()
    words = ("-t", victim.pid, "-D", folder(case, 0), "--track-mode=sync")
    case.ckpt.run("pre-dump", *words).ok()
    assert shot(case, victim, 1)["pages_skipped_parent"]
    folder(case, 2).mkdir()
    above = ("--track-mem", "--prev-images-dir", "../set1", "--live=fork", "--json")
    forked = case.ckpt.dump(victim.pid, folder(case, 2), *above).ok()
    assert json.loads(forked.stdout)["pages_skipped_parent"]
    assert shot(case, victim, 3)["pages_skipped_parent"]
    pids = victim.tree
    case.ckpt.dump(victim.pid, folder(case, 4), "--prev-images-dir", "../set3").ok()
    victim.await_gone(pids)
    prove(case, victim, [folder(case, number) for number in (1, 2, 3, 4)])


def kill_and_go_on(case: Case, victim: Victim, stage: str, delay_s: float) -> None:
    """Set 0 is there: a dump that builds on it is killed, and the next one, which is whole where
    that had borrowed, is proved beside the original. Then all sets are removed."""
    killed_at(case.ckpt.argv(*command(case, victim, 1), "-v3"), stage, delay_s)
    shutil.rmtree(folder(case, 1))
    shot(case, victim, 1, "--live-catch=always")
    check_beside(case, victim, folder(case, 1))
    for old in (folder(case, 0), folder(case, 1), case.folder / "set1-copy"):
        shutil.rmtree(old)


@pytest.mark.parametrize(
    "stage", ["Stage: live", *(pytest.param(one, marks=pytest.mark.stress) for one in STAGES)]
)
def test_killed_at_a_stage(case: Case, stage: str) -> None:
    """The keeper takes back what it has lent: nobody waits, and no page is missed."""
    victim = case.start(program("live/accounts", "FREE"))
    shot(case, victim, 0, "--live-catch=always")
    kill_and_go_on(case, victim, stage, 0.0)
    case.ckpt.run("untrack", victim.pid).ok()
    assert traces(victim.pid) == NOTHING
    victim.finish()


@pytest.mark.stress
def test_an_attempt_that_fails(case: Case) -> None:
    """What it has found written is in the set after it."""
    victim = case.start(program("live/accounts", "KEEP"))
    shot(case, victim, 0)
    words = command(case, victim, 1)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", folder(case, 1)], check=True)
    try:
        case.ckpt.run(*words).failed(5, "space")
    finally:
        subprocess.run(["umount", folder(case, 1)], check=True)
    folder(case, 1).rmdir()
    assert shot(case, victim, 1)["pages_skipped_parent"]
    case.ckpt.run("untrack", victim.pid).ok()
    victim.kill()
    prove(case, victim, [folder(case, 1)])


def test_the_keeper_is_killed(case: Case) -> None:
    """While it has lent: this set is whole, and so is the next one, which builds on nothing."""
    victim = case.start(program("chain/ledger"))
    shot(case, victim, 0)
    step(victim, 1)
    with Keeper.find(victim.pid) as keeper:  # type: ignore[union-attr]
        keeper_pid = keeper.status().keeper_pid
    script = case.folder / "script"
    script.write_text(
        f'#!/bin/sh\n[ "$CRTOOLS_SCRIPT_ACTION" != live-instant ] || kill -9 {keeper_pid}\n'
    )
    script.chmod(0o755)
    said = shot(case, victim, 1, f"--action-script={script}")
    assert said["pages_skipped_parent"]
    processes.wait_end(keeper_pid)
    assert not shot(case, victim, 2)["pages_skipped_parent"]
    case.ckpt.run("untrack", victim.pid).ok()
    assert traces(victim.pid) == NOTHING
    victim.kill()
    case.ckpt.restore(folder(case, 1)).ok()
    for number in (2, 3, 4):
        step(victim, number)
    victim.finish()


@pytest.mark.stress
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", ["accounts", "shuffle"])
def test_a_thousand_instants(case: Case, name: str) -> None:
    """In chains of NR_SETS; each set is restored beside the original, which never stops."""
    victim = case.start(program(f"live/{name}", "FREE"))
    for number in range(NR_STRESS // 2):
        here = number % NR_SETS
        if not here and number:
            for old in range(NR_SETS):
                shutil.rmtree(folder(case, old))
        shot(case, victim, here, "--live-catch=always")
        check_beside(case, victim, folder(case, here))
        shutil.rmtree(case.folder / f"set{here}-copy")
    case.ckpt.run("untrack", victim.pid).ok()
    assert traces(victim.pid) == NOTHING
    victim.finish()


@pytest.mark.stress
@pytest.mark.timeout(3600)
def test_killed_at_random(case: Case) -> None:
    victim = case.start(program("live/accounts", "FREE"))
    for _ in range(NR_KILLS):
        shot(case, victim, 0, "--live-catch=always")
        kill_and_go_on(case, victim, random.choice(STAGES), random.random() ** 3 / 2)
    case.ckpt.run("untrack", victim.pid).ok()
    assert traces(victim.pid) == NOTHING
    victim.finish()
