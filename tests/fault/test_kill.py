"""The controller is killed with SIGKILL at every request that it makes: nothing happens to the
target, which comes out by itself and can be infected again.

`make test` takes a few points of each kind of main thread; `make stress` takes all of them and adds
500 random moments.
"""

from __future__ import annotations

import mmap
import os
import random
import signal
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ckpt.infect import entry
from ckpt.tracee import ops
from tests.fault.controller import (
    KILLED,
    controller,
    eventually,
    kill_after,
    nr_points,
    visit,
    wait,
)
from tests.support import processes
from tests.support.case import Case
from tests.support.programs import program
from tests.support.victim import Victim

KINDS = (
    *("registers", "vectors", "nanosleep", "clock_nanosleep", "futex", "poll", "select"),
    *("epoll", "sigtimedwait", "read", "sigsuspend", "rseq"),
)
FEW = 3
UNSTEADY = 80
RANDOM = 500
_NEVER_BLOCKED = 1 << signal.SIGKILL - 1 | 1 << signal.SIGSTOP - 1
STRESS = bool(os.environ.get("CKPT_STRESS"))


class Steady:
    """A running tests/victims/fault/steady.c and what it looked like at first."""

    def __init__(self, case: Case, kind: str) -> None:
        self.victim: Victim = case.start(program("fault/steady", kind))
        self.pid = self.victim.pid
        with (self.victim.folder / "rounds").open("rb") as rounds:
            self._rounds = mmap.mmap(rounds.fileno(), 4096, prot=mmap.PROT_READ)
        assert self.advances()
        self._maps, self._fds = self._look()

    def _look(self) -> tuple[str, list[str]]:
        proc = Path(f"/proc/{self.pid}")
        return (proc / "maps").read_text(), sorted(os.listdir(proc / "fd"))

    def counts(self) -> tuple[int, ...]:
        return struct.unpack("<13Q", self._rounds[: 13 * 8])

    def alive(self) -> bool:
        return processes.state(self.pid) not in ("", "Z", "X")

    def advances(self) -> bool:
        """Every thread finishes another round."""
        before = self.counts()
        done = eventually(
            lambda: (
                not self.alive()
                or all(now > then for now, then in zip(self.counts(), before, strict=True))
            ),
            timeout_s=60,
        )
        return done and self.alive()

    def untouched(self) -> bool:
        """Mappings and descriptors are the first ones, now or soon."""
        return eventually(lambda: self._look() == (self._maps, self._fds))

    def assert_well(self, when: str) -> None:
        assert self.alive(), f"{when}: {self.victim.out}"
        assert self.untouched(), f"{when}: {self._look()} was {self._maps, self._fds}"
        assert self.advances(), f"{when}: {self.counts()} {self.victim.out}"

    def finish(self) -> None:
        os.kill(self.pid, signal.SIGUSR1)
        self.victim.verdict()


@pytest.fixture
def steady(case: Case) -> Iterator[Callable[[str], Steady]]:
    yield lambda kind: Steady(case, kind)


def whole_visit(target: Steady) -> None:
    assert wait(controller(lambda: visit(target.pid))) == 0
    target.assert_well("after a whole visit")


def kill_at(target: Steady, point: int, nr: int) -> None:
    """`nr` is what one run had; others differ by what comes in between (births, signals)."""
    code = wait(controller(lambda: visit(target.pid), kill_at=point))
    assert code == KILLED or (code == 0 and point > nr - UNSTEADY), f"point {point}: {code}"
    target.assert_well(f"killed at point {point}")


def kill_within(target: Steady, delay_s: float) -> None:
    child = controller(lambda: visit(target.pid))
    assert kill_after(child, delay_s) in (0, KILLED)
    target.assert_well(f"killed after {delay_s * 1e3:.2f} ms")


@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_points(steady: Callable[[str], Steady], kind: str) -> None:
    target = steady(kind)
    nr = nr_points(lambda: visit(target.pid))
    assert nr > 100
    chance = random.Random(kind)
    points = range(1, nr) if STRESS else sorted(chance.sample(range(1, nr), FEW))
    for point in points:
        kill_at(target, point, nr)
    whole_visit(target)
    target.finish()


def dying_at_leave(pid: int) -> None:
    """Killed when the leader has its mask back, and not yet its registers."""
    real = ops.set_regs

    def set_regs(tid: int, regs: bytes) -> None:
        if tid == pid and ops.get_sigmask(tid) != entry.ALL_SIGNALS & ~_NEVER_BLOCKED:
            nr_set.append(tid)
        if len(nr_set) > 1:
            os.kill(os.getpid(), signal.SIGKILL)
        real(tid, regs)

    nr_set: list[int] = []
    ops.set_regs = set_regs
    visit(pid)


@pytest.mark.parametrize("kind", ["registers", "vectors", "rseq"])
def test_signals_come_before_the_registers(steady: Callable[[str], Steady], kind: str) -> None:
    """The mask is given back before the registers: handlers run where the leader is parked."""
    target = steady(kind)
    for _ in range(100 if STRESS else 8):
        assert wait(controller(lambda: dying_at_leave(target.pid))) == KILLED
        target.assert_well("killed between mask and registers")
    whole_visit(target)
    target.finish()


def test_visited_at_once_after_a_kill(steady: Callable[[str], Steady]) -> None:
    """The next controller waits until the one before is out."""
    target = steady("nanosleep")
    nr = nr_points(lambda: visit(target.pid))
    for point in range(1, nr - UNSTEADY, 1 if STRESS else nr // 8):
        assert wait(controller(lambda: visit(target.pid), kill_at=point)) == KILLED
        assert wait(controller(lambda: visit(target.pid))) == 0, f"after point {point}"
        assert target.untouched()
    target.assert_well("after all")
    target.finish()


def test_killed_at_random(steady: Callable[[str], Steady]) -> None:
    chance = random.Random(4)
    kinds = KINDS if STRESS else ("futex", "registers")
    for kind in kinds:
        target = steady(kind)
        for _ in range(RANDOM // len(kinds) + 1 if STRESS else 5):
            kill_within(target, chance.uniform(0, 0.03))
        whole_visit(target)
        target.finish()
