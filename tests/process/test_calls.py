"""Threads that do nothing but call memory functions at random, under all that looks at a target.

The oracle is the victim: it knows what each page holds and what each call has to return
(tests/victims/calls). Where nothing of a target is registered with a userfaultfd while it runs, all
its calls have the very results of a second victim with the same seed that nobody touches; else the
kernel may have in two mappings what would be one, which only mremap(2) tells (ckpt-pre-dump(1)).
"""

from __future__ import annotations

import os
import random
import subprocess
import tempfile
from pathlib import Path

import pytest

from ckpt.errors import NotOneInstant
from ckpt.mem.tracking.engine import Mode
from tests.support.case import Case
from tests.support.live import LOOKS, NOTHING, killed_after, traces
from tests.support.programs import Program, program
from tests.support.victim import Victim

LONG = bool(os.environ.get("CKPT_STRESS"))
NR_TIMES = 6 if LONG else 1
NR_KILLS = 20
MOST_S = 3.0
SEED = "7"
CALLS = program("calls/calls", SEED)
SEVERAL = program("calls/calls", SEED, "split")


def images(case: Case) -> Path:
    return Path(tempfile.mkdtemp(prefix="images", dir=case.folder))


def results(text: str) -> list[str]:
    """A line for each world: how many steps, and a hash of what came of them."""
    return [line for line in text.splitlines() if line[:1].isdigit()]


def assert_as_if_alone(case: Case, victim: Victim, program: Program) -> None:
    victim.finish()
    lines = results(victim.out)
    steps = [line.split()[0] for line in lines]
    command = [str(program.build(case.built)), *program.args, *steps]
    alone = subprocess.run(command, capture_output=True, text=True, check=True)
    assert results(alone.stdout) == lines


def test_left_running(case: Case) -> None:
    victim = case.start(SEVERAL)
    for _ in range(NR_TIMES):
        case.ckpt.dump(victim.pid, images(case), "--leave-running").ok()
    assert_as_if_alone(case, victim, SEVERAL)


def test_copied(case: Case) -> None:
    """Files end earlier while their private pages are copied."""
    victim = case.start(SEVERAL)
    for _ in range(NR_TIMES):
        case.ckpt.dump(victim.pid, images(case), "--live=fork").ok()
    victim.finish()


@pytest.mark.parametrize("lazy", [(), ("--lazy",)], ids=["whole", "lazy"])
def test_restored(case: Case, lazy: tuple[str, ...]) -> None:
    """Of several mappings, a restore may have made one, so that none are moved at once."""
    victim = case.start(CALLS)
    for _ in range(NR_TIMES):
        folder = images(case)
        case.ckpt.dump(victim.pid, folder).ok()
        # It may have had a child, which nobody knew of before.
        victim.await_gone([int(core.stem.split("-")[1]) for core in folder.glob("core-*.img")])
        case.ckpt.restore(folder, *lazy).ok()
    assert_as_if_alone(case, victim, CALLS)


@pytest.mark.stress
@pytest.mark.parametrize("catch", ["auto", "always"])
def test_live(case: Case, catch: str) -> None:
    """What is unmapped in one call may be of two userfaultfds, private and shared: no event of one
    may be waited for without a look at the other."""
    victim = case.start(CALLS)
    for _ in range(NR_TIMES):
        words = ("--live=wp", f"--live-catch={catch}")
        done = case.ckpt.dump(victim.pid, images(case), *words)
        assert done.exit_code in (0, NotOneInstant.exit_code), done
    assert traces(victim.pid) == NOTHING
    victim.finish()


@pytest.mark.parametrize("mode", list(Mode))
def test_tracked(case: Case, mode: Mode) -> None:
    victim = case.start(CALLS)
    for _ in range(NR_TIMES):
        words = ("--interval=0.02", "--count=10", "--json", f"--track-mode={mode}")
        case.ckpt.run("track", victim.pid, *words).ok()
    assert traces(victim.pid) == NOTHING
    victim.finish()


@pytest.mark.stress
@pytest.mark.parametrize("words", LOOKS, ids=" ".join)
def test_killed(case: Case, words: tuple[str, ...]) -> None:
    """At moments of chance: whoever runs on has never been touched."""
    victim = case.start(CALLS)
    chance = random.Random(SEED)
    for _ in range(NR_KILLS):
        verb, *options = words
        argv = case.ckpt.argv(verb, "-t", victim.pid, "-D", images(case), *options)
        killed_after(argv, chance.random() * MOST_S)
    victim.finish()
