"""Random tables of descriptors, shared in random ways, come back with the same sharing.

A forked child does a few random operations on its descriptors, forks on the way so that several
processes share what was there, and stands still. kcmp(2) over the originals and over what was
opened again has to tell the same groups.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from ckpt._native import lib
from tests.support import descriptors as ds

FIRST = 10
"""Descriptors below are the test's own."""

NONE = 999
"""A number that no descriptor has."""

Step = tuple[str, int, int]
steps = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "open",
                "append",
                "pipe",
                "event",
                "dup",
                "again",
                "seek",
                "write",
                "close",
                "keep",
                "fork",
            ]
        ),
        st.integers(0, 5),
        st.integers(0, 3000),
    ),
    max_size=14,
)


class Forked:
    """As ds.Stander, without a new interpreter: a process that ran `plan` and waits."""

    def __init__(self, plan: list[Step], folder: Path) -> None:
        hold, self._hold = os.pipe()
        self._report, report = os.pipe()
        self.own = {FIRST - 1: self._hold, FIRST - 2: self._report}
        self._pid = os.fork()
        if self._pid == 0:
            try:
                self._become(plan, folder, hold, report)
            except BaseException as error:
                os.write(FIRST - 2, f"{error!r}\n".encode())
                raise
            finally:
                os._exit(1)
        os.close(hold)
        os.close(report)
        with os.fdopen(self._report, "rb", closefd=False) as said:
            nr_tasks = 1 + sum(step[0] == "fork" for step in plan)
            lines = [said.readline().decode().strip() for _ in range(nr_tasks)]
        self.pids = sorted(int(line) for line in lines if line.isdecimal())
        if len(self.pids) != nr_tasks:
            self.end()
            raise AssertionError(f"the child failed: {lines}")

    def end(self) -> None:
        os.write(self._hold, b"x" * len(self.pids))
        os.close(self._hold)
        os.waitpid(self._pid, 0)
        os.close(self._report)

    def _become(self, plan: list[Step], folder: Path, hold: int, report: int) -> None:
        for lfd, number in ((hold, 900), (report, 901), (os.open("/dev/null", os.O_RDWR), 902)):
            os.dup2(lfd, number)
        for number, lfd in ((FIRST - 1, 900), (FIRST - 2, 901), (0, 902), (1, 902), (2, 902)):
            os.dup2(lfd, number)
        for number in (*range(3, FIRST - 2), *range(FIRST, 903)):
            try:
                os.close(number)
            except OSError:
                continue
        children = _perform(plan, folder)
        os.write(FIRST - 2, f"{os.getpid()}\n".encode())
        os.read(FIRST - 1, 1)
        for child in children:
            os.waitpid(child, 0)
        os._exit(0)


def _perform(plan: list[Step], folder: Path) -> list[int]:
    """The plan, in the child. A step that does not fit what is there does nothing."""
    made: list[int] = []
    children: list[int] = []

    def move(fd: int) -> int:
        high = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, FIRST)
        os.close(fd)
        made.append(high)
        return high

    for what, which, amount in plan:
        some = made[which % len(made)] if made else NONE
        try:
            if what == "open":
                move(os.open(folder / f"file{which % 3}", os.O_RDWR))
            elif what == "append":
                move(os.open(folder / f"file{which % 3}", os.O_WRONLY | os.O_APPEND))
            elif what == "pipe":
                for fd in os.pipe2(os.O_NONBLOCK if amount % 2 else 0):
                    move(fd)
            elif what == "event":
                move(os.eventfd(amount, os.EFD_NONBLOCK if amount % 2 else 0))
            elif what == "dup":
                made.append(fcntl.fcntl(some, fcntl.F_DUPFD_CLOEXEC, FIRST))
            elif what == "again":
                move(os.open(f"/proc/self/fd/{some}", os.O_RDONLY | os.O_NONBLOCK))
            elif what == "seek":
                os.lseek(some, amount, os.SEEK_SET)
            elif what == "write" and ds.link("self", some).startswith("pipe:"):
                os.write(some, b"d" * amount)
            elif what == "close":
                os.close(some)
                made.remove(some)
            elif what == "keep":
                os.set_inheritable(some, True)
            elif what == "fork":
                child = os.fork()
                if child == 0:
                    os.write(FIRST - 2, f"{os.getpid()}\n".encode())
                    os.read(FIRST - 1, 1)
                    os._exit(0)
                children.append(child)
        except OSError:
            continue
    return children


@settings(max_examples=60)
@given(plan=steps)
def test_sharing_flags_and_positions_come_back(plan: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(3):
            (folder / f"file{number}").write_bytes(b"0123456789" * 100)
        (folder / "images").mkdir()
        tree = Forked(plan, folder)
        try:
            saved = ds.save(tree, folder / "images")
            inherit = {ds.link(tree.pids[0], fd): lfd for fd, lfd in tree.own.items()}
            with ds.restored(saved, inherit=inherit) as files:
                tables = {pid: ds.by_number(files, pid) for pid in tree.pids}
                _compare(tables, {pid: [*files.placements(pid)] for pid in tree.pids})
        finally:
            tree.end()


def _compare(tables: dict[int, dict[int, int]], placements: dict[int, list[object]]) -> None:
    everything = [(pid, fd, lfd) for pid, table in tables.items() for fd, lfd in table.items()]
    for pid, table in tables.items():
        assert set(table) == {int(fd) for fd in os.listdir(f"/proc/{pid}/fd")}
        assert len(placements[pid]) == len(table)
    for pid, fd, lfd in everything:
        if fd >= FIRST:
            there, here = ds.flags(pid, fd), ds.flags("self", lfd)
            assert here | os.O_CLOEXEC == there | os.O_CLOEXEC
        assert ds.position("self", lfd) == ds.position(pid, fd)
        if fd >= FIRST and ds.link(pid, fd).startswith("pipe:"):
            assert ds.link("self", lfd) != ds.link(pid, fd)
    for index, (pid, fd, lfd) in enumerate(everything):
        for other_pid, other_fd, other_lfd in everything[:index]:
            same = lib.ckpt_kcmp(pid, other_pid, 0, fd, other_fd) == 0
            assert (lfd == other_lfd) == same
            if fd >= FIRST and other_fd >= FIRST:
                one_pipe = ds.link(pid, fd) == ds.link(other_pid, other_fd)
                assert one_pipe == (ds.link("self", lfd) == ds.link("self", other_lfd))
