"""A dump of a target under seccomp is killed: its filters, held off until then, judge what brings
the target home, and deny all that they don't name. `make test` takes a few operations, `make
stress` all."""

from __future__ import annotations

import os
import signal

from tests.fault.injection import Faults, eventually, nr_operations, run
from tests.support import visible
from tests.support.case import Case
from tests.support.programs import program

STRESS = bool(os.environ.get("CKPT_STRESS"))
FEW = 16


def test_killed_at_operations(case: Case) -> None:
    victim = case.start(program("task/seccomp", "deny"))
    before = visible.look(victim.pid, exact=True)
    case.images.mkdir()
    log = case.folder / "controller.log"
    argv = ["dump", "-t", str(victim.pid), "-D", str(case.images), "-W", str(case.folder), "-R"]
    nr = nr_operations(argv, log, code=0)
    assert nr > 100, nr
    for at in range(1, nr, 1 if STRESS else nr // FEW):
        for path in case.images.iterdir():
            path.unlink()
        end = run(argv, Faults(at=at), log)
        fewer = end.code == 0 and end.passed < at  # than the first time: it looked less often
        assert end.code == -signal.SIGKILL or fewer, f"operation {at} of {nr}: {end}"
        eventually(lambda: visible.looks_as(before, victim.pid), 5)
        visible.assert_same(before, visible.look(victim.pid, exact=True))
    victim.finish()
