"""Threads that call execve(2): who would attach to their process waits for them meanwhile, and they
wait for the end of threads that are attached to. Between two programs a process is neither."""

from __future__ import annotations

import os

import pytest

from tests.support import processes
from tests.support.case import Case
from tests.support.programs import program

NR = 200 if os.environ.get("CKPT_STRESS") else 6


@pytest.mark.parametrize("alone", [False, True], ids=["with_its_parent", "alone"])
def test_dumps_do_not_fail(case: Case, alone: bool) -> None:
    """A dump that meets the process between two programs waits for the second."""
    victim = case.start(program("seized/reborn"))
    pid = processes.children(victim.pid)[0] if alone else victim.pid
    for number in range(NR):
        images = case.folder / f"images{number}"
        images.mkdir()
        case.ckpt.dump(pid, images, "--leave-running", "--shell-job").ok()
    victim.finish()
