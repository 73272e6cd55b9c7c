"""Devices that write to memory behind the page tables while a tree is tracked.

A page that is pinned for direct I/O before a round, and written by the device after it, leaves no
trace. The victim checks the memory that it has got back against the file it was read from.
"""

from __future__ import annotations

import os
import struct

import pytest

from tests.support.case import Case
from tests.support.chain import Sets
from tests.support.programs import program
from tests.support.victim import Victim
from tests.support.waiting import wait_until

NR_IMAGES = 40 if os.environ.get("CKPT_STRESS") else 6
NR_BATCHES = 2
MODES = pytest.mark.parametrize("mode", ["async", "sync"])


def turns(victim: Victim) -> int:
    with (victim.folder / "turns").open("rb") as file:
        return int(struct.unpack("<Q", file.read(8))[0])


def wait_turns(victim: Victim, more: int) -> None:
    until = turns(victim) + more
    wait_until(victim.pid, lambda: turns(victim) >= until)


@MODES
@pytest.mark.timeout(900)
def test_reads_past_the_page_cache(case: Case, mode: str) -> None:
    """Image after image of a loop that goes on: it looks at every slot before it reads again."""
    victim = case.start(program("tracked/transfers", "pread"))
    for number in range(NR_IMAGES):
        sets = Sets(case.folder / f"chain{number}", victim.pid, mode)
        for _ in range(2):
            sets.pre_dump()
            wait_turns(victim, 1)
        sets.dump()
        assert sets.in_parent, "nothing was left to the parent"
        victim.await_gone([victim.pid])
        sets.restore()
        wait_turns(victim, NR_BATCHES + 1)
    victim.finish()


@MODES
@pytest.mark.parametrize("way", ["aio", "uring", "uring_fixed"])
def test_contexts(case: Case, way: str, mode: str) -> None:
    """Rounds while requests are in flight; a dump when the context is gone."""
    victim = case.start(program("tracked/transfers", way))
    sets = Sets(case.folder / "chain", victim.pid, mode)
    for _ in range(3):
        wait_turns(victim, NR_BATCHES)
        sets.pre_dump()
    victim.expect_ready()
    victim.go("settle")
    victim.wait_ready()
    sets.dump()
    victim.await_gone([victim.pid])
    sets.restore()
    victim.finish()
