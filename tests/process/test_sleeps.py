"""Sleeps of which nobody is told what is left go on, as the kernel's own list of timers shows."""

from __future__ import annotations

import re
import time
from pathlib import Path

from tests.requirements import require
from tests.support.case import Case
from tests.support.programs import program

LIST = Path("/proc/timer_list")
SLEPT_NS = 500_000_000
HOUR_NS = 3600 * 10**9
_WAKEUP = re.compile(r"hrtimer_wakeup.*\n # expires at \S+ nsecs \[in (-?[0-9]+) to")


def left(wholes_ns: list[int]) -> list[int]:
    """What is left of the sleeps of about these lengths, of which there is one each. The kernel
    lets go of its list after each line, and may skip one then: it is read until all are there."""
    for _ in range(1000):
        found = {int(ns) for ns in _WAKEUP.findall(LIST.read_text())}
        each = [[ns for ns in found if whole - HOUR_NS < ns <= whole] for whole in wholes_ns]
        if all(len(those) == 1 for those in each):
            return [ns for those in each for ns in those]
    raise AssertionError(each)


def test_sleeps_go_on(case: Case) -> None:
    """For what was left, not for their whole length, and never for less."""
    try:
        there = "hrtimer_wakeup" in LIST.read_text()
    except OSError:
        there = False
    require(there, f"{LIST} can't be read")
    before = time.monotonic_ns()
    victim = case.start_command(str(program("outside/sleepers").build(case.built)))
    victim.wait_ready()
    wholes = [int(line) * 10**9 for line in victim.out.splitlines()]
    pids = victim.tree
    assert len(left(wholes)) == len(wholes) == 5
    case.ckpt.dump(victim.pid, case.images).ok()
    victim.await_gone(pids)
    case.ckpt.restore(case.images).ok()
    now = left(wholes)
    most_ns = time.monotonic_ns() - before
    for whole, ns in zip(wholes, now, strict=True):
        assert whole - most_ns <= ns <= whole - SLEPT_NS // 2, (whole, ns)
    victim.finish()
