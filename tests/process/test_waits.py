"""Calls that wait go on as if nothing had been, those too that the kernel ends at any interrupt.

The oracle is the victim, which looks at the result of each of its calls (tests/victims/seized).
"""

from __future__ import annotations

import os
import shutil

import pytest

from tests.support.case import Case
from tests.support.programs import program

WAITS = program("seized/waits")
NR = 8 if os.environ.get("CKPT_STRESS") else 1


def test_undisturbed(case: Case) -> None:
    case.start(WAITS).finish()


@pytest.mark.parametrize(
    "words", ["--leave-running", "--live=wp", "--live=wp --live-catch=always", "--live=fork"]
)
def test_of_a_tree_that_runs_on(case: Case, words: str) -> None:
    victim = case.start(WAITS)
    for _ in range(NR):
        case.ckpt.dump(victim.pid, case.images, *words.split()).ok()
        shutil.rmtree(case.images)
    victim.finish()


def test_of_a_restored_tree(case: Case) -> None:
    victim = case.start(WAITS)
    for _ in range(NR):
        pids = victim.tree
        case.ckpt.dump(victim.pid, case.images).ok()
        victim.await_gone(pids)
        case.ckpt.restore(case.images).ok()
        shutil.rmtree(case.images)
    victim.finish()
