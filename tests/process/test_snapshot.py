"""`ckpt snapshot`: every generation is what the victim itself recorded at that instant."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from ckpt.mem.tracking.where import is_tracked
from ckpt.procfs.tree import look
from tests.support import visible
from tests.support.programs import program
from tests.support.stores import Kept
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from tests.support.case import Case

STRESS = bool(os.environ.get("CKPT_STRESS"))


def tracked(kept: Kept) -> bool:
    root = look(kept.victim.pid)
    assert root is not None
    return is_tracked(root.pid, root.starttime)


def ended(kept: Kept, process: subprocess.Popen[bytes], signum: int) -> None:
    """A signal is a good end."""
    process.send_signal(signum)
    assert process.wait(60) == 0, kept.said


def await_generations(kept: Kept, number: int) -> None:
    """Until that one is made."""

    def made() -> bool:
        return any(int(path.name[:6]) >= number for path in kept.store.glob("0*"))

    wait_until(kept.victim.pid, made, timeout_s=60)


def test_every_generation(case: Case) -> None:
    """Thinned and merged meanwhile."""
    kept = Kept(case)
    said = kept.snapshot("--every", "20ms", "--keep", "2", "--count", "7", "--json").ok()
    made = [json.loads(line) for line in said.stdout.splitlines()]
    assert [one["number"] for one in made] == list(range(1, 8))
    assert all(one["pages_written"] < made[0]["pages_written"] for one in made[1:])
    assert all(one["pages_in_parent"] for one in made[1:])
    assert not tracked(kept)
    shown = kept.generations()
    numbers = [one["number"] for one in shown]
    assert numbers[-2:] == [6, 7]
    assert len(numbers) < 7, "nothing was merged"
    assert all(one["parent"] == below for one, below in zip(shown[1:], numbers, strict=False))
    assert not list(kept.store.glob(".[!o]*"))
    kept.end_victim()
    assert kept.prove_all() == numbers


def test_nothing_is_left(case: Case) -> None:
    """In a victim that is at rest."""
    victim = case.start(program("chain/ledger"))
    before = visible.look(victim.pid, exact=True)
    case.images.mkdir()
    case.ckpt.run("snapshot", victim.pid, "-D", case.images, "--count", "2", "--every", "1ms").ok()
    visible.assert_same(before, visible.look(victim.pid, exact=True))
    for step in range(1, 5):
        victim.expect_ready()
        victim.go(f"step{step}")
        victim.wait_ready()
    victim.finish()


def test_by_time(case: Case) -> None:
    kept = Kept(case)
    made = [json.loads(kept.snapshot("--count", "1", "--json").ok().stdout) for _ in range(2)]
    # The second run tracked nothing: it wrote all.
    assert [one["number"] for one in made] == [1, 2]
    assert not made[1]["pages_in_parent"]
    case.ckpt.restore(kept.store, "--at", "3", "--dry-run").failed(5, "no generation 3", "from 1")
    planned = case.ckpt.restore(kept.store, "--at", made[0]["time"], "--dry-run").ok()
    assert "generation 1 of" in planned.log
    kept.await_round()


def test_going_on_where_it_was_left(case: Case) -> None:
    """With --track-mem, the next run builds on the last generation of the one before."""
    kept = Kept(case)
    for number in range(1, 3):
        said = kept.snapshot("--count", "1", "--track-mem", "--json").ok()
        assert bool(json.loads(said.stdout)["pages_in_parent"]) == (number > 1)
        assert tracked(kept)
    case.ckpt.run("untrack", kept.victim.pid).ok()
    kept.end_victim()
    assert kept.prove_all() == [1, 2]


@pytest.mark.parametrize("signum", [signal.SIGTERM, *([signal.SIGINT] if STRESS else [])])
def test_ended_by_a_signal(case: Case, signum: int) -> None:
    kept = Kept(case)
    process = kept.background("--every", "10ms", "--keep", "2")
    await_generations(kept, 3)
    case.ckpt.run("snapshot", *kept.words).failed(5, "another ckpt snapshot")
    ended(kept, process, signum)
    assert not tracked(kept)
    assert not list(kept.store.glob(".[!o]*"))
    kept.end_victim()
    kept.prove(kept.generations()[-1]["number"])


def test_it_ends_with_the_tree(case: Case) -> None:
    kept = Kept(case)
    process = kept.background("--every", "10ms", "--keep", "2")
    await_generations(kept, 2)
    kept.end_victim()
    assert process.wait(60) == 0, kept.said
    assert not list(kept.store.glob(".[!o]*"))
    kept.prove(kept.generations()[-1]["number"])


def killed_at_a_random_moment(kept: Kept, chance: random.Random) -> None:
    newest = max((int(path.name[:6]) for path in kept.store.glob("0*")), default=0)
    process = kept.background("--every", "5ms", "--keep", "2")
    await_generations(kept, newest + 1)
    with suppress(subprocess.TimeoutExpired):
        process.wait(chance.random() * 0.3)
    process.kill()
    process.wait(60)


def test_killed_at_random_moments(case: Case) -> None:
    """The victim runs on, the store stays restorable, the next run goes on with it."""
    chance = random.Random(6)
    kept = Kept(case)
    for _ in range(100 if STRESS else 2):
        killed_at_a_random_moment(kept, chance)
        kept.await_round()
        assert kept.generations()
    kept.snapshot("--count", "2", "--every", "1ms", "--keep", "2").ok()
    assert not tracked(kept)
    assert not list(kept.store.glob(".[!o]*"))
    kept.end_victim()
    for one in kept.generations()[0 if STRESS else -1 :]:
        kept.prove(one["number"])


def test_refusals(case: Case) -> None:
    kept = Kept(case)
    run = case.ckpt.run
    run("snapshot", "-D", kept.store).failed(2, "the pid is missing")
    run("snapshot", 1 << 21, "-D", kept.store).failed(4, "no such process")
    run("snapshot", *kept.words, "--keep", "0").failed(2, "from 1 to 200")
    run("snapshot", *kept.words, "--every", "often").failed(2, "a time is")
    run("snapshot", *kept.words, "-t", "1").failed(2, "second tree")
    (kept.store / "000009-20260101T000000.000Z").mkdir()
    run("show", kept.store).failed(5, "holds no image set")
    assert not tracked(kept)
