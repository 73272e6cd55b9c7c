"""A dump is killed of targets whose system calls are judged by somebody: what brings them home is
let through, and nothing else that they do has changed. `make test` takes a few operations, `make
stress` all.

The filters of seccomp, held off until then, deny all that they don't name. A thread whose calls go
to a handler of its own counts those that were handled.
"""

from __future__ import annotations

import os
import signal

import pytest

from tests.fault.injection import Faults, eventually, nr_operations, run
from tests.support import visible
from tests.support.case import Case
from tests.support.programs import program

STRESS = bool(os.environ.get("CKPT_STRESS"))
VICTIMS = {("task/seccomp", "deny"): 16, ("task/user_dispatch", "range"): 6}
VICTIMS[("task/user_dispatch", "busy")] = 6


@pytest.mark.parametrize(("words", "few"), VICTIMS.items(), ids=map(" ".join, VICTIMS))
def test_killed_at_operations(case: Case, words: tuple[str, str], few: int) -> None:
    victim = case.start(program(*words))
    before = visible.look(victim.pid, exact=True)
    case.images.mkdir()
    log = case.folder / "controller.log"
    argv = ["dump", "-t", str(victim.pid), "-D", str(case.images), "-W", str(case.folder), "-R"]
    nr = nr_operations(argv, log, code=0)
    assert nr > 100, nr
    for at in range(1, nr, 1 if STRESS else nr // few):
        for path in case.images.iterdir():
            path.unlink()
        end = run(argv, Faults(at=at), log)
        fewer = end.code == 0 and end.passed < at  # than the first time: it looked less often
        assert end.code == -signal.SIGKILL or fewer, f"operation {at} of {nr}: {end}"
        if not eventually(lambda: visible.looks_as(before, victim.pid)):
            visible.assert_same(before, visible.look(victim.pid, exact=True))
    victim.finish()
