"""`ckpt dump --live` is killed: the target is unharmed, and there is no set that looks whole."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.support.case import Case
from tests.support.live import await_no_traces, check_beside, killed_at
from tests.support.processes import children
from tests.support.programs import program
from tests.support.victim import Victim

STAGES = ("round 1", "Stage: memory", "Stage: live")
MORE_STAGES = ("Stage: freeze", "Stage: write")
NR_KILLS = 200


def _kill_during(
    case: Case, victim: Victim, images: Path, stage: str, *, delay_s: float, catch: str
) -> None:
    """Kill it `delay_s` after it says that it is at `stage`, or let it end by itself before."""
    images.mkdir()
    options = ("--live=wp", f"--live-catch={catch}", "-v3")
    killed_at(case.ckpt.argv("dump", "-t", victim.pid, "-D", images, *options), stage, delay_s)


def _check(case: Case, victim: Victim, images: Path) -> None:
    await_no_traces(victim.pid, *children(victim.pid))
    if (images / "inventory.img").exists():
        check_beside(case, victim, images)
    else:
        case.ckpt.run("restore", "-D", images, "-d").failed(5, "inventory")


@pytest.mark.parametrize(
    "stage", [*STAGES, *(pytest.param(stage, marks=pytest.mark.stress) for stage in MORE_STAGES)]
)
def test_killed_at_a_stage(case: Case, stage: str) -> None:
    victim = case.start(program("live/accounts", "FREE"))
    images = case.folder / "killed"
    _kill_during(case, victim, images, stage, delay_s=0, catch="always")
    _check(case, victim, images)
    victim.finish()


def test_killed_with_shared_memory(case: Case) -> None:
    """It is protected in several processes, whose children are, too."""
    victim = case.start(program("live/bank", "BEAR"))
    images = case.folder / "killed"
    _kill_during(case, victim, images, "Stage: live", delay_s=0, catch="auto")
    _check(case, victim, images)
    victim.finish()


@pytest.mark.stress
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("name", "how"), [("live/accounts", "FREE"), ("live/bank", "BEAR")])
def test_killed_at_random(case: Case, name: str, how: str) -> None:
    victim = case.start(program(name, how))
    for number in range(NR_KILLS):
        images = case.folder / f"killed{number}"
        stage, catch = random.choice((*STAGES, *MORE_STAGES)), random.choice(("auto", "always"))
        delay_s = random.random() ** 3 / 2
        _kill_during(case, victim, images, stage, delay_s=delay_s, catch=catch)
        _check(case, victim, images)
    victim.finish()
