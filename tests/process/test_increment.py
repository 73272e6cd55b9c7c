"""Chains of images: pre-dumps of a running victim, a dump on top, and what comes back.

The victim keeps a record of its memory in a file and compares by itself.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ckpt.images.chain import Chain
from ckpt.images.pagemap import PE_PARENT, PE_PRESENT
from tests.support import processes, visible
from tests.support.case import Case
from tests.support.ckptcmd import Result
from tests.support.programs import program
from tests.support.victim import Victim

LEDGER = program("chain/ledger")


class Chained:
    """A victim and the sets that were made of it, each building on the one before."""

    def __init__(self, case: Case, mode: str = "") -> None:
        self.case = case
        self.victim: Victim = case.start(LEDGER)
        self.words = ["--track-mode", mode] if mode else []
        self.nr = 0
        self.step = 0
        self.folder.mkdir()

    @property
    def folder(self) -> Path:
        return self.case.folder / "chain"

    @property
    def newest(self) -> Path:
        return self.folder / str(self.nr)

    def _next(self, verb: str, *words: str, prev: bool = True) -> Result:
        words = (*words, "--prev-images-dir", f"../{self.nr}") if prev and self.nr else words
        self.nr += 1
        self.newest.mkdir()
        return self.case.ckpt.run(
            verb, "-t", self.victim.pid, "-D", self.newest, "-v3", *self.words, *words
        )

    def pre_dump(self, *words: str, prev: bool = True) -> Result:
        return self._next("pre-dump", *words, prev=prev)

    def dump(self, *words: str, prev: bool = True) -> Result:
        return self._next("dump", *words, prev=prev)

    def change(self) -> None:
        """One more step of the victim, which runs by itself until it is done."""
        self.step += 1
        self.victim.expect_ready()
        self.victim.go(f"step{self.step}")
        self.victim.wait_ready()

    def count(self, flag: int) -> int:
        """Pages of the newest set with this flag."""
        with Chain(self.newest) as chain:
            pagemap = chain.layers[0].pagemap(f"pagemap-{self.victim.pid}")
            return sum(run.nr_pages for run in pagemap.runs if run.flags & flag)

    def restore_and_finish(self) -> None:
        self.victim.await_gone([self.victim.pid])
        self.case.ckpt.restore(self.newest).ok()
        while self.step < 4:
            self.change()
        self.victim.finish()


@pytest.fixture(params=["async", "sync"])
def chained(case: Case, request: pytest.FixtureRequest) -> Iterator[Chained]:
    yield Chained(case, request.param)


def keeper_of(pid: int) -> int:
    """The process that holds the tracking of `pid`."""
    found = [
        int(entry)
        for entry in os.listdir("/proc")
        if entry.isdecimal() and _is_keeper(int(entry), pid)
    ]
    assert len(found) == 1, found
    return found[0]


def kill_keeper_of(pid: int) -> None:
    keeper = keeper_of(pid)
    os.kill(keeper, signal.SIGKILL)
    processes.wait_gone([keeper])


def _is_keeper(candidate: int, pid: int) -> bool:
    try:
        words = Path(f"/proc/{candidate}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return b"ckpt.mem.tracking.keeper" in words and str(pid).encode() in words


def test_three_pre_dumps_and_a_dump(chained: Chained) -> None:
    before = visible.look(chained.victim.pid)
    for _ in range(3):
        chained.pre_dump().ok()
        chained.change()
    chained.dump().ok()
    written, inherited = chained.count(PE_PRESENT), chained.count(PE_PARENT)
    assert inherited > 1500, (written, inherited)
    assert written < 800, (written, inherited)
    chained.victim.await_gone([chained.victim.pid])
    chained.case.ckpt.restore(chained.newest).ok()
    visible.assert_same(before, visible.look(chained.victim.pid), LEDGER.words("differs"))
    chained.change()
    chained.victim.finish()


def test_pre_dump_leaves_no_trace_but_tracking(chained: Chained) -> None:
    before = visible.look(chained.victim.pid, exact=True)
    chained.pre_dump().ok()
    after = visible.look(chained.victim.pid, exact=True)
    tracked = {name: fact.replace(" uw", "") for name, fact in after.facts.items()}
    visible.assert_same(before, visible.View(tracked))
    chained.case.ckpt.run("untrack", chained.victim.pid).ok()
    visible.assert_same(before, visible.look(chained.victim.pid, exact=True))
    for _ in range(4):
        chained.change()
    chained.victim.finish()


def test_going_on_after_dumps(chained: Chained) -> None:
    """Whole sets one after the other, the target running on, each restorable."""
    chained.dump("--leave-running", "--track-mem").ok()
    for _ in range(2):
        chained.change()
        chained.dump("--leave-running", "--track-mem").ok()
        assert chained.count(PE_PARENT) > 1500
    chained.change()
    chained.dump().ok()
    assert chained.count(PE_PARENT) > 1500
    chained.restore_and_finish()


def test_auto_dedup(chained: Chained) -> None:
    chained.pre_dump().ok()
    blocks = _blocks(chained.newest)
    first = chained.newest
    chained.change()
    chained.pre_dump("--auto-dedup").ok()
    assert _blocks(first) < blocks
    chained.change()
    chained.dump("--auto-dedup").ok()
    chained.restore_and_finish()


def _blocks(folder: Path) -> int:
    return sum(path.stat().st_blocks for path in folder.glob("pages-*.img"))


def test_parent_that_is_not_the_last_set(chained: Chained) -> None:
    """Everything is written, and said."""
    chained.pre_dump().ok()
    chained.change()
    chained.pre_dump(prev=False).ok()
    chained.change()
    result = chained.dump("--prev-images-dir", "../1", prev=False).ok()
    assert "not built upon" in result.stderr + result.log
    assert not chained.count(PE_PARENT)
    assert not (chained.newest / "parent").exists()
    chained.restore_and_finish()


def test_keeper_killed(chained: Chained) -> None:
    chained.pre_dump().ok()
    chained.change()
    kill_keeper_of(chained.victim.pid)
    chained.change()
    result = chained.dump().ok()
    assert "not built upon" in result.stderr + result.log
    assert not chained.count(PE_PARENT)
    chained.restore_and_finish()


def test_keeper_killed_between_pre_dumps(chained: Chained) -> None:
    chained.pre_dump().ok()
    chained.change()
    kill_keeper_of(chained.victim.pid)
    chained.change()
    chained.pre_dump().ok()
    chained.change()
    chained.dump().ok()
    assert chained.count(PE_PARENT) > 1000
    chained.restore_and_finish()


def test_failed_pre_dump_loses_nothing(chained: Chained) -> None:
    """A round whose set is not committed is part of the next one."""
    chained.pre_dump().ok()
    chained.change()
    (chained.folder / "bad").mkdir()
    bad = subprocess.run(
        [
            *("prlimit", "--fsize=100000"),
            *chained.case.ckpt.argv("pre-dump", "-t", chained.victim.pid),
            *("-D", str(chained.folder / "bad"), "--prev-images-dir", "../1"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert bad.returncode == 5, bad
    assert not os.listdir(chained.folder / "bad")
    chained.change()
    chained.dump().ok()
    assert chained.count(PE_PARENT) > 1000
    chained.restore_and_finish()


def test_nothing_is_left_when_the_target_ends(chained: Chained) -> None:
    chained.pre_dump().ok()
    keeper = keeper_of(chained.victim.pid)
    for _ in range(4):
        chained.change()
    chained.victim.finish()
    processes.wait_gone([keeper])


def test_plain_dump_of_a_tracked_target(chained: Chained) -> None:
    chained.pre_dump().ok()
    chained.change()
    chained.dump(prev=False).ok()
    assert not chained.count(PE_PARENT)
    chained.restore_and_finish()


def test_untrack_what_is_not_tracked(case: Case) -> None:
    victim = case.start(LEDGER)
    case.ckpt.run("untrack", victim.pid).failed(4, "not tracked")
