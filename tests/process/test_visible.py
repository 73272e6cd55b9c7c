"""The looking glass itself: what was changed from outside is seen, and nothing else."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from tests.support import processes, visible
from tests.support.case import Case
from tests.support.programs import program
from tests.support.waiting import wait_until


def stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    wait_until(pid, lambda: processes.state(pid) == "T")


CHANGES: dict[str, tuple[Callable[[int], object], set[str]]] = {
    "nothing": (lambda pid: pid, set()),
    "state": (stop, {"state", "thread/PID/state"}),
    "nice": (
        lambda pid: os.setpriority(os.PRIO_PROCESS, pid, 5),
        {"stat/nice", "stat/priority", "thread/PID/nice", "thread/PID/priority"},
    ),
    "affinity": (
        lambda pid: os.sched_setaffinity(pid, {0}),
        {"status/Cpus_allowed", "thread/PID/Cpus_allowed"},
    ),
    "file": (lambda pid: os.truncate(f"/proc/{pid}/cwd/data", 7), {"fd/3/size"}),
    "pending": (
        lambda pid: os.kill(pid, signal.SIGUSR1),
        {"status/ShdPnd"},
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_change_is_seen(case: Case, change: str) -> None:
    victim = case.start(program("outside/observed"))
    before = visible.look(victim.pid)
    act, expected = CHANGES[change]
    act(victim.pid)
    lines = visible.differences(before, visible.look(victim.pid))
    pid = str(victim.pid)
    seen = {line.split(":")[0].removeprefix(f"{pid}/").replace(pid, "PID") for line in lines}
    assert seen == expected, lines
    os.kill(victim.pid, signal.SIGCONT)
    victim.finish()


def test_two_looks_at_a_resting_tree_are_equal(case: Case) -> None:
    victim = case.start(program("tree/tree_100"))
    before = visible.look(victim.pid, exact=True)
    visible.assert_same(before, visible.look(victim.pid, exact=True))
    assert len(before["tree"].split()) == 100
    victim.finish()
