"""Pre-dumps that die or fail between the round and the commit, and keepers that do.

A round takes the dirty bits from the kernel; what happens after it must not lose them. After each
accident the tree changes a little more, and the next set must hold what the model says: every page
written before the accident, after it, and the last time that all went well.

`make test` takes a few points; `make stress` takes all of them.
"""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.fault.injection import KILLED, End, Faults, run
from tests.property.changing_tree import Tree, memory_differs
from tests.property.set_contents import nr_in_parent, set_differs, tasks_of
from tests.requirements import require
from tests.support import keepers, processes
from tests.support.case import Case
from tests.support.chain import restored
from tests.support.imageset import fingerprint

STRESS = bool(os.environ.get("CKPT_STRESS"))
FEW = 3
FRESH = 40
"""After so many points a new chain begins: the length of one is limited."""
MODES = pytest.mark.parametrize("mode", ["async", "sync"])
NOT_BUILT_UPON = "is not built upon"


class Rounds:
    """A tree with a child, whose memory changes before each set. `newest`: the last whole set."""

    def __init__(self, case: Case, mode: str) -> None:
        self.case = case
        self.mode = mode
        self.tree = Tree(case)
        self.newest: Path | None = None
        self.nr = 0
        for slot, kind in enumerate(("anonymous", "noreserve", "file")):
            self.tree.map(0, kind, slot, 0, 128)
            self.tree.fill(0, (slot, 0, 128), 1, "fill")
        self.tree.fork(0)

    def change(self) -> None:
        """Some of everything that a round must notice, each time other pages."""
        at = self.nr
        for n in (0, 1):
            for run_number in range(3):
                self.tree.fill(n, (run_number, at * 3, 40), 7, "tfill" if n else "fill")
            self.tree.advise(n, (0, at * 5, 6), 4)
            self.tree.load(n, (1, at * 11, 3), at % 100)

    def argv(self, verb: str, *words: str) -> list[str]:
        """The next set, building on the newest."""
        self.nr += 1
        folder = self.folder
        folder.mkdir()
        argv = [verb, "-t", str(self.tree.pid), "-D", str(folder), "-W", str(folder)]
        argv += ["--track-mode", self.mode, *words]
        if self.newest is not None:
            argv += ["--prev-images-dir", os.path.relpath(self.newest, folder)]
        return argv

    @property
    def folder(self) -> Path:
        return self.case.folder / f"set{self.nr}"

    def run(self, argv: list[str], faults: Faults | None = None) -> End:
        self.tree.wait_idle()
        return run([*argv, "-v4"], faults or Faults(), self.case.folder / "controller.log")

    def whole(self, *, after_fault: bool = False) -> bool:
        """Whether there is a set now; then it holds what it should, and is the newest. A fault may
        have kept a task from being tracked: the set lacks it then."""
        if not (self.folder / "inventory.img").exists():
            return False
        self.newest = self.folder
        there = tasks_of(self.folder)
        for p in self.tree.all:
            if p.machine.pid in there or not after_fault:
                wrong = set_differs(self.folder, p)
                assert not wrong, f"{self.folder.name}: {wrong[:5]}"
        return True

    def made(self, verb: str, *words: str) -> End:
        """Change, then a set that must come about and be right."""
        self.change()
        end = self.run(self.argv(verb, *words))
        assert end.code == 0, str(end)
        assert self.whole()
        return end

    def kill_keeper(self) -> None:
        found = keepers.of(self.tree.pid)
        assert len(found) == 1, found
        os.kill(found[0], signal.SIGKILL)
        processes.wait_gone(found)

    def assert_runs(self, when: str) -> None:
        for p in self.tree.all:
            status = Path(f"/proc/{p.machine.pid}/status").read_text()
            assert "TracerPid:\t0" in status, f"{when}: traced"
            assert p.machine.command("touch", 0, 0) == 0

    def dump_and_restore(self) -> None:
        self.change()
        end = self.run(self.argv("dump"))
        assert end.code == 0, str(end)
        self.tree.wait_gone()
        assert self.newest != self.folder and self.whole()
        processes.wait_gone(keepers.of(self.tree.pid))
        restored(self.folder)
        assert not [text for p in self.tree.all for text in memory_differs(p)]


def points(nr: int, seed: str) -> Iterator[int]:
    yield from range(1, nr + 1) if STRESS else sorted(random.Random(seed).sample(range(1, nr), FEW))


@MODES
@pytest.mark.parametrize("code", [0, errno.ENOSPC, errno.EIO], ids=["killed", "ENOSPC", "EIO"])
@pytest.mark.timeout(3600 if STRESS else 300)
def test_pre_dump_has_an_accident(case: Case, mode: str, code: int) -> None:
    """At each of its operations, dedup included; the next set is a dump that leaves it running."""
    rounds = Rounds(case, mode)
    rounds.made("pre-dump")
    nr = rounds.made("pre-dump", "--auto-dedup").passed
    assert nr > 30, "faults have no points"
    for point in points(nr, f"{mode} {code}"):
        if point % FRESH == 0:
            rounds.newest = None
            rounds.made("pre-dump")
        rounds.change()
        old = rounds.newest
        assert old is not None
        before = fingerprint(old)
        end = rounds.run(
            rounds.argv("pre-dump", "--auto-dedup"), Faults(at=point, code=code, batches=False)
        )
        killed = end.code == KILLED or (end.code == 0 and end.passed < point)
        assert killed if code == 0 else end.code >= 0, f"point {point}: {end}"
        rounds.assert_runs(f"point {point}")
        if not rounds.whole(after_fault=True):
            assert fingerprint(old) == before, f"point {point}: the parent was touched: {end}"
        rounds.made("dump", "-R", "--track-mem")
    rounds.made("pre-dump")
    assert nr_in_parent(rounds.folder), "the last two sets have nothing to do with each other"
    rounds.dump_and_restore()


@MODES
@pytest.mark.timeout(3600 if STRESS else 300)
def test_keeper_dies(case: Case, mode: str) -> None:
    """While a pre-dump is at any of its operations. What comes next is whole, and says so."""
    rounds = Rounds(case, mode)
    rounds.made("pre-dump")
    nr = rounds.made("pre-dump").passed
    for point in points(nr, mode):
        if point % FRESH == 0:
            rounds.newest = None
            rounds.made("pre-dump")
        rounds.change()
        keeper = keepers.of(rounds.tree.pid)[0]
        faults = Faults(at=point, kill=partial(kill_other, keeper))
        end = rounds.run(rounds.argv("pre-dump"), faults)
        assert "signal" in end.said, f"point {point} of {nr} was not reached: {end}"
        rounds.assert_runs(f"point {point}")
        rounds.whole(after_fault=True)
        end = rounds.made("dump", "-R", "--track-mem")
        if not nr_in_parent(rounds.folder):
            assert NOT_BUILT_UPON in end.said, str(end)
    rounds.dump_and_restore()


@MODES
def test_keeper_dies_between_sets(case: Case, mode: str) -> None:
    """The tree runs on untracked; the dump is complete, with a warning."""
    rounds = Rounds(case, mode)
    rounds.made("pre-dump")
    rounds.kill_keeper()
    assert not keepers.of(rounds.tree.pid)
    rounds.change()
    end = rounds.run(rounds.argv("dump", "-R"))
    assert end.code == 0 and NOT_BUILT_UPON in end.said, str(end)
    assert rounds.whole() and not nr_in_parent(rounds.folder)
    rounds.dump_and_restore()


@MODES
def test_disk_is_full(case: Case, mode: str) -> None:
    """Really: a file system of 256 KiB. Parents keep what they have."""
    rounds = Rounds(case, mode)
    rounds.made("pre-dump")
    rounds.made("pre-dump")
    assert rounds.newest is not None
    before = fingerprint(rounds.newest)
    for verb, words in (("pre-dump", ()), ("dump", ("-R", "--track-mem")), ("dump", ())):
        # More than there is room for.
        for run_number in range(3):
            rounds.tree.fill(0, (run_number, 0, 128), 1, "fill")
        argv = rounds.argv(verb, "--auto-dedup", *words)
        with small_disk(rounds.folder):
            end = rounds.run(argv)
            assert end.code not in (0, KILLED), str(end)
            assert "space" in end.said.lower(), str(end)
            assert not (rounds.folder / "inventory.img").exists()
        assert fingerprint(rounds.newest) == before, "the parent was touched"
        rounds.assert_runs(verb)
    rounds.made("pre-dump")
    assert nr_in_parent(rounds.folder), "the failures have ended the tracking"
    rounds.dump_and_restore()


def kill_other(pid: int, *_: int) -> None:
    os.kill(pid, signal.SIGKILL)


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A file system with no more than 256 KiB on `folder`."""
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    require(done.returncode == 0, f"no right to mount: {done.stderr}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
