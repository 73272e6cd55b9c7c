"""The controller of a restore that makes a segment of System V shared memory is killed: the segment
goes with the tree."""

from __future__ import annotations

import os

import pytest

from tests.fault.injection import KILLED, Faults, eventually, run
from tests.support import processes, sysv
from tests.support.case import Case
from tests.support.programs import program

BEGIN = "ckpt_guard_segments"
STRESS = bool(os.environ.get("CKPT_STRESS"))
POINTS = range(1, 120) if STRESS else (2, 3, 4, 40, 90)


@pytest.mark.timeout(3600 if STRESS else 300)
def test_killed(case: Case) -> None:
    known = set(processes.tree(os.getpid()))
    victim = case.start(program("memory/sysv", "key"))
    (ident,) = sysv.of_creator(victim.pid)
    pids = victim.tree
    case.ckpt.dump(victim.pid, case.images).ok()
    victim.await_gone(pids)
    sysv.remove(ident)
    argv = ["restore", "-D", str(case.images), "-W", str(case.folder), "-d", "-v4"]
    log = case.folder / "controller.log"
    for at in POINTS:
        end = run(argv, Faults(at=at, begin=BEGIN), log)
        assert end.code == KILLED, str(end)
        processes.end_leftovers(known)
        assert eventually(lambda: ident not in sysv.segments()), f"left after operation {at}"
    case.ckpt.restore(case.images).ok()
    victim.finish()
    assert ident not in sysv.segments()
