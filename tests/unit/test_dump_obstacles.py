"""What the facts of a task tell of it that can't be dumped, where no ordinary process shows it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ckpt.dump.facts import Facts, look, obstacles, surroundings_of
from ckpt.procfs.reader import ProcDir
from ckpt.procfs.timers import PosixTimer
from ckpt.record import replace
from ckpt.task import sched, timers
from tests.requirements import require

KTHREADD = 2


@pytest.fixture
def facts() -> Facts:
    """Those of this very process."""
    with ProcDir(os.getpid()) as proc:
        return look(proc)


def why(facts: Facts, ours: Facts) -> list[str]:
    return [f"{r.resource}: {r.why}" for r in obstacles(facts, ours.surroundings)]


def test_nothing_is_in_the_way_of_this_process(facts: Facts) -> None:
    assert why(facts, facts) == []


def test_a_foreign_security_profile(facts: Facts) -> None:
    profile = replace(facts.surroundings, profile=b"confined (enforce)")
    found = why(replace(facts, surroundings=profile), facts)
    assert found == ["security profile confined (enforce): it is not ckpt's own; not restored yet"]


def test_a_kernel_thread() -> None:
    name = Path(f"/proc/{KTHREADD}/comm")
    found = name.exists() and name.read_text() == "kthreadd\n"
    require(found, "pid 2 is no kernel thread here, as in a pid namespace")
    with ProcDir(KTHREADD) as proc, ProcDir(os.getpid()) as own:
        kernel, ours = look(proc), surroundings_of(own)
    (refusal,) = obstacles(kernel, ours)
    assert refusal.pid == KTHREADD and "no memory of its own (a kernel thread?)" in refusal.why


def test_a_policy_that_nobody_knows() -> None:
    """7 is that of sched_ext."""
    assert sched.obstacle(7) == "scheduling policy 7 is not restored yet"
    assert not any(sched.obstacle(policy) for policy in sched.KNOWN)


@pytest.mark.parametrize(
    ("clock", "text"),
    [(~5 << 3 | 3, "a clock of a device"), (10, "clock 10 is not restored yet")],
    ids=["device", "unknown"],
)
def test_timers_of_other_clocks(clock: int, text: str) -> None:
    timer = PosixTimer(1, 0, 0, "none", False, 0, clock)
    assert text in timers.obstacle(timer, 1)
