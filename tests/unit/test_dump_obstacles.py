"""What the facts of a task tell of it that can't be dumped, where no ordinary process shows it."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ckpt.dump.describe import unknown_state
from ckpt.dump.facts import Facts, look, obstacles, surroundings_of
from ckpt.procfs.reader import ProcDir
from ckpt.procfs.timers import PosixTimer
from ckpt.record import replace
from ckpt.task import sched, timers
from tests.requirements import require

KTHREADD = 2


@pytest.fixture
def facts() -> Facts:
    """Those of this very process."""
    with ProcDir(os.getpid()) as proc:
        return look(proc)


def why(facts: Facts, ours: Facts) -> list[str]:
    return [f"{r.resource}: {r.why}" for r in obstacles(facts, ours.surroundings)]


def test_nothing_is_in_the_way_of_this_process(facts: Facts) -> None:
    assert why(facts, facts) == []


def test_a_foreign_security_profile(facts: Facts) -> None:
    profile = replace(facts.surroundings, profile=b"confined (enforce)")
    found = why(replace(facts, surroundings=profile), facts)
    assert found == ["security profile confined (enforce): it is not ckpt's own; not restored yet"]


def test_a_kernel_thread() -> None:
    name = Path(f"/proc/{KTHREADD}/comm")
    found = name.exists() and name.read_text() == "kthreadd\n"
    require(found, "pid 2 is no kernel thread here, as in a pid namespace")
    with ProcDir(KTHREADD) as proc, ProcDir(os.getpid()) as own:
        kernel, ours = look(proc), surroundings_of(own)
    (refusal,) = obstacles(kernel, ours)
    assert refusal.pid == KTHREADD and "no memory of its own (a kernel thread?)" in refusal.why


@pytest.mark.parametrize(
    ("in_use", "cs", "text"),
    [
        (3 | 1 << 17 | 1 << 18, 0x33, "FPU components 0x60000 (AMX tiles?)"),
        (3, 0x23, "32-bit code"),
        (0x2E7, 0x33, ""),
    ],
    ids=["AMX", "32 bit", "ordinary"],
)
def test_registers_that_no_image_holds(in_use: int, cs: int, text: str) -> None:
    registers = bytearray(216)
    struct.pack_into("<Q", registers, 17 * 8, cs)
    xstate = bytes(512) + struct.pack("<Q", in_use) + bytes(10496)
    thread = SimpleNamespace(tid=8, regs=bytes(registers), xstate=xstate)
    stood: Any = SimpleNamespace(pid=7, task=SimpleNamespace(threads=[thread]))
    found = list(unknown_state(stood))
    assert len(found) == bool(text)
    for refusal in found:
        assert (refusal.pid, refusal.resource) == (7, "thread 8") and text in refusal.why


def test_a_policy_that_nobody_knows() -> None:
    """7 is that of sched_ext."""
    assert sched.obstacle(7) == "scheduling policy 7 is not restored yet"
    assert not any(sched.obstacle(policy) for policy in sched.KNOWN)


@pytest.mark.parametrize(
    ("clock", "text"),
    [(~5 << 3 | 3, "a clock of a device"), (10, "clock 10 is not restored yet")],
    ids=["device", "unknown"],
)
def test_timers_of_other_clocks(clock: int, text: str) -> None:
    timer = PosixTimer(1, 0, 0, "none", False, 0, clock)
    assert text in timers.obstacle(timer)
