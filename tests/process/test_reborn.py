"""Threads that call execve(2): who would attach to their process waits for them meanwhile, and they
wait for the end of threads that are attached to."""

from __future__ import annotations

import os

from tests.support.case import Case
from tests.support.programs import program

NR = 200 if os.environ.get("CKPT_STRESS") else 12
GONE, REFUSED = 4, 3


def test_dumps_come_to_an_end(case: Case) -> None:
    """A dump that meets the process between two programs may be refused, or find it gone."""
    victim = case.start(program("seized/reborn"))
    for number in range(NR):
        images = case.folder / f"images{number}"
        images.mkdir()
        result = case.ckpt.run("dump", "-t", victim.pid, "-D", images, "--leave-running")
        assert result.exit_code in (0, GONE, REFUSED), str(result)
    victim.finish()
