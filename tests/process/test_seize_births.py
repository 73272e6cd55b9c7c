"""Freezing trees in which threads and processes are born and end all the time: nobody is missed."""

from __future__ import annotations

import os
from pathlib import Path

from ckpt.tracee.freeze import seize
from tests.process.test_seize import DEADLINE_S, started, verdict, victim
from tests.support import processes

PF_EXITING = 0x4
FREEZES = 300 if os.environ.get("CKPT_STRESS") else 100


def is_ending(pid: int) -> bool:
    """A zombie, or about to be one: inside of exit(2) nothing can be attached to any more."""
    stat = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return stat[0] in "ZX" or bool(int(stat[6]) & PF_EXITING)


def test_births_and_deaths(built: Path) -> None:
    """While threads and processes are born, exec and die, all that live stand, every time."""
    with started(*victim(built, "churn")) as process:
        for _ in range(50):
            with seize(process.pid, deadline_s=DEADLINE_S) as tree:
                alive = [pid for pid in processes.tree(process.pid) if not is_ending(pid)]
                assert alive == [task.pid for task in tree.tasks.values() if not task.zombie]
                for pid in alive:
                    tids = [int(name) for name in os.listdir(f"/proc/{pid}/task")]
                    lives = {tid for tid in tids if processes.state(tid) not in "ZX"}
                    assert lives == {thread.tid for thread in tree.tasks[pid].threads}
                    assert {processes.state(tid) for tid in lives} == {"t"}
        assert verdict(process) == "whole"


def test_threads_that_start_the_next(built: Path) -> None:
    """Chains of threads each of which lives for less time than a look at them takes."""
    seen = set()
    with started(*victim(built, "relay")) as process:
        for _ in range(FREEZES):
            with seize(process.pid, deadline_s=DEADLINE_S) as tree:
                tids = [int(name) for name in os.listdir(f"/proc/{process.pid}/task")]
                lives = {tid for tid in tids if processes.state(tid) not in "ZX"}
                assert lives == {thread.tid for thread in tree.tasks[process.pid].threads}
                assert {processes.state(tid) for tid in lives} == {"t"}
                seen |= lives
        assert verdict(process) == "whole"
    assert len(seen) > FREEZES // 10, "the threads did not change"


def session_members(sid: int) -> dict[int, str]:
    """State of every process of a session, by a look at all processes: no list of children."""
    found = {}
    for entry in os.listdir("/proc"):
        if not entry.isdecimal():
            continue
        try:
            stat = Path(f"/proc/{entry}/stat").read_text().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(stat[3]) == sid:
            found[int(entry)] = stat[0]
    return found


def test_nobody_is_missed(built: Path) -> None:
    """Whenever a tree is frozen whose lists of children change all the time, all of it stands."""
    with started(*victim(built, "brood")) as process:
        seen = set()
        try:
            for _ in range(FREEZES):
                with seize(process.pid, deadline_s=DEADLINE_S) as tree:
                    members = session_members(process.pid)
                    assert set(members.values()) <= {"t", "Z"}, members
                    stand = {task.pid for task in tree.tasks.values() if not task.zombie}
                    assert {pid for pid, state in members.items() if state == "t"} == stand
                    assert members.keys() == tree.tasks.keys()
                    seen |= stand
            assert len(seen) > FREEZES // 10, "the tree did not change"
            assert verdict(process) == "whole"
        finally:
            process.kill()
            assert process.stdin is not None
            process.stdin.close()  # then all of them end by themselves
            process.wait()
            while left := session_members(process.pid):
                processes.wait_gone(left)
