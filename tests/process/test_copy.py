"""A copy of a stopped task (ckpt.infect.fork): its memory is of one instant, the task sees nothing
of it, and neither outlives what it is for."""

from __future__ import annotations

import os
import random
import signal
import struct
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ckpt.infect.fork import copy_of
from ckpt.infect.inject import infect
from ckpt.infect.predecessor import settle
from ckpt.tracee.freeze import seize
from ckpt.units import PAGE
from tests.fault.controller import KILLED, controller, kill_after, nr_points, wait
from tests.support import visible
from tests.support.copies import copies, soon, untouched
from tests.support.programs import program

if TYPE_CHECKING:
    from ckpt.infect.fork import Copy
    from tests.support.case import Case
    from tests.support.victim import Victim

STRESS = bool(os.environ.get("CKPT_STRESS"))
NR = 2048
CHILDLESS = ((), ("subreaper",))


def started(case: Case, *args: str) -> Victim:
    return case.start(program("fault/childless", *args))


def copied(pid: int) -> Copy:
    with seize(pid, deadline_s=60) as tree:
        settle(tree.tasks[pid])
        with infect(tree.tasks[pid]) as session:
            return copy_of(session)


def rounds(victim: Victim, pid: int) -> list[int]:
    """The number in each page of the area."""
    (start,) = struct.unpack("<Q", (victim.folder / "area").read_bytes())
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as mem:
        mem.seek(start)
        data = mem.read(NR * PAGE)
    return [struct.unpack_from("<Q", data, page * PAGE)[0] for page in range(NR)]


def assert_one_instant(found: list[int]) -> None:
    """Pages are written in order, so at any instant those of one round stand before those of the
    round before."""
    changes = sum(a != b for a, b in pairwise(found))
    assert changes <= 1, f"{changes} borders"
    assert found[0] - found[-1] in (0, 1)


def _goes_on(victim: Victim, since: int) -> bool:
    return rounds(victim, victim.pid)[-1] > since


@pytest.mark.parametrize("kind", CHILDLESS, ids=" ".join)
def test_a_copy(case: Case, kind: tuple[str, ...]) -> None:
    victim = started(case, "all", *kind)
    before = visible.look(victim.pid, exact=True)
    for _ in range(100 if STRESS else 5):
        with copied(victim.pid) as copy:
            found = rounds(victim, copy.pid)
            assert_one_instant(found)
            assert soon(partial(_goes_on, victim, found[0]))
            assert rounds(victim, copy.pid) == found
            assert len(os.listdir(f"/proc/{copy.pid}/fd")) == 1
            assert os.getsid(copy.pid) == copy.pid
            visible.assert_same(before, visible.look(victim.pid, exact=True))
        assert not copies()
    victim.finish()


def test_it_ends_with_whoever_made_it(case: Case) -> None:
    victim = started(case, "all")

    def work() -> None:
        copied(victim.pid)
        os.kill(os.getpid(), signal.SIGKILL)

    assert wait(controller(work)) == KILLED
    assert soon(lambda: not copies())
    victim.finish()


def visit(pid: int) -> None:
    with copied(pid) as copy:
        assert copy.lives()


@pytest.mark.parametrize("kind", CHILDLESS, ids=" ".join)
def test_killed_at_points(case: Case, kind: tuple[str, ...]) -> None:
    """Whoever makes a copy is killed at any request: the task runs on and sees nothing, unless it
    waits like a tracer just then: its other threads run while the batch comes to its end."""
    victim = started(case, "ordinary", *kind)
    before = visible.look(victim.pid, exact=True)
    nr = nr_points(lambda: visit(victim.pid))
    chance = random.Random(len(kind))
    points = range(1, nr) if STRESS else sorted(chance.sample(range(nr // 3, nr), 12))
    for point in points:
        code = wait(controller(lambda: visit(victim.pid), kill_at=point))
        assert code in (KILLED, 0), f"point {point}: {code}"
        assert soon(lambda: untouched(victim, before)), f"point {point}"
        assert soon(lambda: not copies()), f"point {point}"
    victim.finish()


def test_killed_at_random_moments(case: Case) -> None:
    victim = started(case, "ordinary", "subreaper")
    before = visible.look(victim.pid, exact=True)
    chance = random.Random(3)
    for _ in range(200 if STRESS else 5):
        assert kill_after(controller(lambda: visit(victim.pid)), chance.uniform(0, 0.03)) in (
            0,
            KILLED,
        )
        assert soon(lambda: untouched(victim, before))
        assert soon(lambda: not copies())
    victim.finish()
