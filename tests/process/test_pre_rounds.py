"""`ckpt dump --pre-rounds`: rounds and the dump in one command, and what is left when it fails."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ckpt.dump.rounds import dump_after_rounds
from ckpt.images.chain import Chain
from ckpt.images.pagemap import PE_PARENT
from tests.process.test_dump_between_steps import change, options
from tests.programs.test_incremental_programs import DICTIONARY, resident
from tests.support import keepers, processes
from tests.support.between import Between
from tests.support.case import Case
from tests.support.chain import Sets
from tests.support.imageset import fingerprint
from tests.support.programs import program
from tests.support.victim import Victim
from tests.support.waiting import wait_until

LEDGER = program("chain/ledger")
WAYS = pytest.mark.parametrize(
    "words", [("--pre-rounds", "3"), ("--pre-rounds", "auto", "--max-downtime", "90000")]
)
OUT_OF_REACH = ("--pre-rounds", "auto", "--max-downtime", "1")
"""Less than what the model says that any dump takes."""
DEADLINE, USAGE = 8, 2
CLOCK_NANOSLEEP = "230"


def in_parent(images: Path, pid: int) -> int:
    with Chain(images) as chain:
        runs = chain.layers[0].pagemap(f"pagemap-{pid}").runs
        return sum(run.nr_pages for run in runs if run.flags & PE_PARENT)


def assert_nothing_left(images: Path, victim: Victim) -> None:
    assert not os.listdir(images)
    processes.wait_gone(keepers.of(victim.pid))


@WAYS
def test_rounds_and_dump(case: Case, words: tuple[str, ...]) -> None:
    victim = case.start(LEDGER)
    change(victim, 1)
    result = case.ckpt.dump(victim.pid, case.images, *words).ok()
    assert "a dump now would stand for" in result.log
    victim.await_gone([victim.pid])
    processes.wait_gone(keepers.of(victim.pid))
    assert in_parent(case.images, victim.pid) > 1500
    rounds = sorted(path.name for path in case.images.glob("pre-*"))
    assert rounds == [f"pre-{n + 1}" for n in range(3 if "3" in words else 2)]
    with Chain(case.images) as chain:
        assert len(chain.layers) == len(rounds) + 1
    case.ckpt.restore(case.images).ok()
    change(victim, 2, 3, 4)
    victim.finish()


@WAYS
def test_of_a_program_at_work(case: Case, words: tuple[str, ...]) -> None:
    command = [sys.executable, "-S", str(DICTIONARY)]
    wanted = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    victim = case.start_command("sh", "-c", f"exec {' '.join(command)} go")
    wait_until(victim.pid, lambda: resident(victim.pid) > 12 << 20)
    case.ckpt.dump(victim.pid, case.images, *words).ok()
    victim.await_gone([victim.pid])
    assert in_parent(case.images, victim.pid)
    case.ckpt.restore(case.images).ok()
    victim.go()
    assert processes.wait_end(victim.pid, 60) == 0
    victim.process.returncode = 0
    assert victim.out == wanted


def test_going_on_after_it(case: Case) -> None:
    """Tracked on; the next set builds on the dump."""
    victim = case.start(LEDGER)
    words = ("--pre-rounds", "2", "--leave-running", "--track-mem")
    case.ckpt.dump(victim.pid, case.images, *words).ok()
    change(victim, 1)
    second = case.folder / "second"
    case.ckpt.dump(victim.pid, second, "--prev-images-dir", "../images", "--pre-rounds", "1").ok()
    victim.await_gone([victim.pid])
    assert in_parent(second, victim.pid) > 1500
    with Chain(second) as chain:
        assert len(chain.layers) == 5
    case.ckpt.restore(second).ok()
    change(victim, 2, 3, 4)
    victim.finish()


def test_out_of_reach(case: Case) -> None:
    victim = case.start(LEDGER)
    before = Path(f"/proc/{victim.pid}/maps").read_text()
    result = case.ckpt.dump(victim.pid, case.images, *OUT_OF_REACH)
    result.failed(DEADLINE, "1 ms can't be reached", "MiB/s", "--max-downtime")
    assert_nothing_left(case.images, victim)
    assert Path(f"/proc/{victim.pid}/maps").read_text() == before
    change(victim, 1, 2, 3, 4)
    victim.finish()


def test_out_of_reach_of_a_tracked_tree(case: Case) -> None:
    """Tracking goes on, and the set that was built upon has lost nothing: the rounds that would
    replace its pages are gone."""
    victim = case.start(LEDGER)
    sets = Sets(case.folder / "chain", victim.pid, "async")
    sets.pre_dump()
    before = fingerprint(sets.path)
    change(victim, 1)
    images = sets.folder / "last"
    words = ("--prev-images-dir", "../1", "--auto-dedup")
    case.ckpt.dump(victim.pid, images, *words, *OUT_OF_REACH).failed(DEADLINE, "can't be reached")
    assert not os.listdir(images)
    assert fingerprint(sets.path) == before
    assert keepers.of(victim.pid)
    change(victim, 2)
    case.ckpt.dump(victim.pid, images, *words, "--pre-rounds", "1").ok()
    victim.await_gone([victim.pid])
    case.ckpt.restore(images).ok()
    change(victim, 3, 4)
    victim.finish()


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("stage", ["scan", "memory", "freeze", "write"])
def test_interrupted(case: Case, stage: str) -> None:
    victim = case.start(LEDGER)
    report = Between(stage, interrupt, nr=1 if stage in ("freeze", "write") else 2)
    with pytest.raises(KeyboardInterrupt):
        dump_after_rounds(options(victim, case.images), report, rounds=2, max_downtime_ms=None)
    assert_nothing_left(case.images, victim)
    change(victim, 1, 2, 3, 4)
    victim.finish()


class InterruptedAtTheEnd(Between):
    def info(self, text: str) -> None:
        if "of older images freed" in text:
            interrupt()


def test_interrupted_after_the_commit(case: Case) -> None:
    """The tree is gone, its set is whole, and builds on the rounds: they must stay."""
    victim = case.start(LEDGER)
    change(victim, 1)
    report = InterruptedAtTheEnd("", interrupt)
    with pytest.raises(KeyboardInterrupt):
        dump_after_rounds(
            options(victim, case.images, auto_dedup=True), report, rounds=2, max_downtime_ms=None
        )
    victim.await_gone([victim.pid])
    assert in_parent(case.images, victim.pid) > 1500
    case.ckpt.restore(case.images).ok()
    change(victim, 2, 3, 4)
    victim.finish()


def test_killed_in_a_round(case: Case) -> None:
    """Nobody can clear away then; but it is told what is in the way, and the tree is dumped."""
    victim = case.start(LEDGER)
    pid = os.fork()
    if pid == 0:
        report = Between("memory", lambda: os.kill(os.getpid(), signal.SIGKILL), nr=2)
        dump_after_rounds(options(victim, case.images), report, rounds=2, max_downtime_ms=None)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    change(victim, 1)
    result = case.ckpt.dump(victim.pid, case.images, "--pre-rounds", "1")
    result.failed(5, "pre-1", "is there already", "--images-dir")
    case.ckpt.dump(victim.pid, case.folder / "other", "--pre-rounds", "1").ok()
    victim.await_gone([victim.pid])
    case.ckpt.restore(case.folder / "other").ok()
    change(victim, 2, 3, 4)
    victim.finish()


def test_folder_with_a_set(case: Case) -> None:
    """Refused before any round, and not harmed."""
    victim = case.start(LEDGER)
    case.ckpt.dump(victim.pid, case.images, "--leave-running").ok()
    before = fingerprint(case.images)
    result = case.ckpt.dump(victim.pid, case.images, "--pre-rounds", "2")
    result.failed(5, "holds an image set")
    assert "round 1" not in result.log
    assert fingerprint(case.images) == before
    change(victim, 1, 2, 3, 4)
    victim.finish()


def test_nothing_can_be_tracked(case: Case) -> None:
    """A full descriptor table: rounds have nothing to write, the dump has all."""
    victim = case.start_command("sleep", "1000")
    # It sleeps: while its libraries were loaded, it would need the descriptor itself.
    wait_until(victim.pid, lambda: _call(victim.pid) == CLOCK_NANOSLEEP)
    resource.prlimit(victim.pid, resource.RLIMIT_NOFILE, (3, 3))
    words = ("--pre-rounds", "auto", "--max-downtime", "90000", "--leave-running")
    result = case.ckpt.dump(victim.pid, case.images, *words).ok()
    assert "descriptor table is full" in result.log
    assert not in_parent(case.images, victim.pid)
    assert not keepers.of(victim.pid)


def _call(pid: int) -> str:
    return Path(f"/proc/{pid}/syscall").read_text().split()[0]


def test_not_to_a_page_server(case: Case) -> None:
    words = ("--pre-rounds", "1", "--page-server", "--address", "127.0.0.1", "--port", "1")
    case.ckpt.dump(os.getpid(), case.images, *words).failed(USAGE, "--page-server")
