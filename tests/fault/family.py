"""A small dumped tree (tests/victims/fault/family.c) that is restored again and again, whole or not
at all, and what must be true after each try."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.fault.injection import KILLED, End, Faults, eventually, nr_operations, run
from tests.support import processes
from tests.support.case import Case
from tests.support.imageset import fingerprint
from tests.support.programs import program
from tests.support.victim import SUCCESS, Victim

BIRTH = "ckpt_spawn_seed"
"""The operation with which a restore begins to have something to lose."""
UNSTEADY = 8
"""How many operations more one restore may take than another: a thread that takes its time to stand
is interrupted once more, and stands twice."""
STRESS = bool(os.environ.get("CKPT_STRESS"))


class Family:
    """`pids`: the tree, its zombie included; `alive`: those that live when it is whole, of whom
    `stopped` don't run."""

    def __init__(self, case: Case, *which: str) -> None:
        self.case = case
        self.known = set(processes.tree(os.getpid()))
        self.victim: Victim = case.start(program(*which or ("fault/family", "stopped")))
        self.pids = self.victim.tree
        self.alive = [pid for pid in self.pids if processes.state(pid) != "Z"]
        self.stopped = {pid for pid in self.alive if processes.state(pid) == "T"}
        case.ckpt.dump(self.victim.pid, case.images).ok()
        self.victim.await_gone(self.pids)
        self.prints = fingerprint(case.images)
        self.argv = ["restore", "-D", str(case.images), "-W", str(case.folder), "-d"]
        self.lfds = os.listdir("/proc/self/fd")
        self.maps: dict[int, list[str]] = {}

    @property
    def log(self) -> Path:
        return self.case.folder / "controller.log"

    def restore(self, faults: Faults, without: tuple[int, ...] = ()) -> End:
        return run([*self.argv, "-v4"], faults, self.log, without=without)

    def left(self) -> list[int]:
        """What lives of the tree, or below us, that should not if it is gone."""
        return [
            pid
            for pid in {*processes.tree(os.getpid()), *self.pids}
            if pid not in self.known and processes.state(pid) not in ("", "Z", "X")
        ]

    def is_whole(self) -> bool:
        """All live in the memory that `learn` saw; none is traced or is being killed, and those
        stand who were stopped."""
        return all(
            _is_well(pid, stopped=pid in self.stopped) and _maps(pid) == self.maps[pid]
            for pid in self.alive
        )

    def learn(self) -> None:
        """Note what the whole tree, running now, looks like."""
        self.maps = {pid: _maps(pid) for pid in self.alive}

    def settle(self, when: str) -> bool:
        """Wait until it is gone or whole; whether it is whole."""
        found = ""

        def settled() -> bool:
            nonlocal found
            found = "gone" if not self.left() else "whole" if self.is_whole() else ""
            return bool(found)

        assert eventually(settled), (
            f"{when}: neither gone nor whole: {[(p, processes.state(p)) for p in self.left()]}"
        )
        return found == "whole"

    def assert_none_left(self, when: str) -> None:
        assert eventually(lambda: not self.left()), f"{when}: left are {self.left()}"
        self.untouched(when)
        self.clear()

    def untouched(self, when: str) -> None:
        assert fingerprint(self.case.images) == self.prints, f"{when}: the images were touched"
        assert os.listdir("/proc/self/fd") == self.lfds, f"{when}: descriptors of ours"

    def clear(self) -> None:
        """End what is left; what it may have said is taken back, for the size is looked at."""
        processes.end_leftovers(self.known)
        os.truncate(self.victim.folder / "out", 0)

    def finish(self, when: str) -> None:
        """The restored tree ends by itself with success, and can be restored anew."""
        self.victim.go()
        self.victim.verdict()
        assert self.victim.out == f"{SUCCESS}\n", f"{when}: {self.victim.out}"
        self.clear()
        os.close(self.victim.held.pop())

    def all_is_in(self, when: str) -> None:
        """For those whose memory comes later: wait until nobody brings any."""

    def kill_at_operations(self, few: int, last: int) -> None:
        """Kill restores at `few` operations, or all with STRESS, and at the `last` ones: nothing is
        left, or all is there. The earlier ones end the first way, the later ones the other."""
        nr = nr_operations([*self.argv, "-v4"], self.log, BIRTH)
        self.all_is_in("without faults")
        self.learn()
        self.finish("without faults")
        assert nr > 200, nr
        step = 1 if STRESS else nr // few
        gone, whole, committed = 0, 0, nr
        for at in sorted({*range(1, nr, step), *range(nr - last, nr + 1)}):
            end = self.restore(Faults(at=at, begin=BIRTH))
            when = f"killed at operation {at} of {nr}"
            fewer = end.code == 0 and at > nr - UNSTEADY
            assert end.code == KILLED or fewer, f"{when}: {end}"
            self.all_is_in(when)
            if self.settle(when):
                whole += 1
                committed = min(committed, at)
                self.untouched(when)
                self.finish(when)
            else:
                gone += 1
                late = f"{when}: gone, though an end at operation {committed} was past the commit"
                assert at < committed + UNSTEADY, late
                self.assert_none_left(when)
        assert gone and whole

    def whole_restore(self, when: str) -> None:
        end = self.restore(Faults())
        assert end.code == 0, f"{when}: {end}"
        self.finish(when)


def _is_well(pid: int, *, stopped: bool) -> bool:
    if processes.state(pid) not in (("T",) if stopped else ("R", "S", "D")):
        return False
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return False
    status = {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}
    killed = int(status["SigPnd"], 16) >> (signal.SIGKILL - 1) & 1
    return status["TracerPid"] == "0" and not killed


def _maps(pid: int) -> list[str]:
    """Addresses and access of every mapping."""
    try:
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [" ".join(line.split()[:2]) for line in lines]
