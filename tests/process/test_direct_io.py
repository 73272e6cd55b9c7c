"""Direct I/O in flight while a chain is made: what the device writes after the scan is not lost."""

from __future__ import annotations

import pytest

from ckpt.mem.tracking.engine import Mode
from tests.support.case import Case
from tests.support.programs import program

NR_CYCLES = 4  # as in the victim


@pytest.mark.parametrize("mode", list(Mode))
def test_reads_past_the_page_cache(case: Case, mode: Mode) -> None:
    """In each pre-dump 32 reads are in flight, and the last ones before the dump; after the restore
    each block is where it was read to."""
    victim = case.start(program("chain/direct"))
    pid, pids = victim.pid, victim.tree
    chain = case.folder / "chain"
    chain.mkdir()
    prev: list[str] = []
    for number in range(NR_CYCLES + 1):
        images = chain / str(number)
        images.mkdir()
        words = ["-D", str(images), "--track-mode", mode.value, *prev]
        prev = ["--prev-images-dir", f"../{number}"]
        if number < NR_CYCLES:
            victim.expect_ready()
            case.ckpt.run("pre-dump", "-t", pid, *words).ok()
            victim.wait_ready()  # the reads have ended
            victim.expect_ready()
            victim.go(f"cycle{number}")
            victim.wait_ready()  # the next ones have begun
        else:
            case.ckpt.run("dump", "-t", pid, *words).ok()
    victim.await_gone(pids)
    case.ckpt.restore(images).ok()
    victim.finish()
