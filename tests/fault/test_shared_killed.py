"""The controller of a dump is killed while it is in one of several processes that share memory,
descriptors and signal actions: all of them run on as they were, and are dumped the next time.

`make test` takes a few operations, `make stress` every one.
"""

from __future__ import annotations

import os

import pytest

from tests.fault.injection import KILLED, Faults, eventually, nr_operations, run
from tests.support import processes, visible
from tests.support.case import Case
from tests.support.programs import program

STRESS = bool(os.environ.get("CKPT_STRESS"))
FEW = 6


@pytest.mark.timeout(3600 if STRESS else 300)
def test_killed_at_operations(case: Case) -> None:
    victim = case.start(program("tree/sharing", "files", "fs", "memory", "handlers"))
    before = visible.look(victim.pid, exact=True)
    log = case.folder / "controller.log"
    argv = ["dump", "-t", str(victim.pid), "-D", str(case.images), "--leave-running", "-v4"]
    case.images.mkdir()
    nr = nr_operations(argv, log)
    visible.assert_same(before, visible.look(victim.pid, exact=True))
    for at in range(1, nr, 1 if STRESS else nr // FEW):
        images = case.folder / f"killed{at}"
        images.mkdir()
        argv[4] = str(images)
        end = run(argv, Faults(at=at), log)
        fewer = end.code == 0 and end.passed < at  # than the first time: it waited less
        assert end.code == KILLED or fewer, str(end)
        assert eventually(lambda: visible.looks_as(before, victim.pid)), visible.differences(
            before, visible.look(victim.pid, exact=True)
        )
    assert eventually(lambda: processes.state(victim.pid) == "S")
    victim.finish()
