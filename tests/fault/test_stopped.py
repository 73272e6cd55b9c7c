"""A task that is stopped by a signal, and a dump that fails or dies in it: it does not run on.

A failing dump brings it back as it was. One that was killed leaves it in the stub, from where it
goes home when somebody has it go on; the next dump takes it there, and no further.

`make test` takes a few operations, `make stress` all.
"""

from __future__ import annotations

import errno
import os
import signal

import pytest

from tests.fault.injection import KILLED, Faults, eventually, nr_operations, run
from tests.fault.test_dump_fails import Target
from tests.support import processes
from tests.support.case import Case

BEGIN = "ckpt_trace_set_regs"
"""The first operation after which there is something to undo."""
FEW = 8
STRESS = bool(os.environ.get("CKPT_STRESS"))
WAYS = pytest.mark.parametrize("how", ["spin", "sleep"])


class Counter(Target):
    """tests/victims/fault/counter.c, stopped."""

    def __init__(self, case: Case, how: str) -> None:
        super().__init__(case, "fault/counter", how)
        self.pid = self.victim.pid
        self.stop()

    @property
    def count(self) -> bytes:
        return (self.victim.folder / "count").read_bytes()[:8]

    def stop(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)
        self.await_stopped("by us")

    def await_stopped(self, when: str) -> None:
        stopped = eventually(lambda: processes.state(self.pid) == "T")
        assert stopped, f"{when}: its state is {processes.state(self.pid)}"

    def go_on_and_stop(self, when: str) -> None:
        before = self.count
        os.kill(self.pid, signal.SIGCONT)
        assert eventually(lambda: self.count != before), f"{when}: it does not go on"
        self.assert_unharmed(when)
        self.stop()

    def finish(self) -> None:
        (self.victim.folder / "stop").touch()
        os.kill(self.pid, signal.SIGCONT)
        self.victim.verdict()

    def operations(self, code: int) -> range:
        nr = nr_operations(self.argv("-R"), self.log, BEGIN, code)
        self.clear()
        assert nr > 40, nr
        return range(1, nr + 1, 1 if STRESS else nr // FEW)


@WAYS
def test_a_dump_that_fails(case: Case, how: str) -> None:
    counter = Counter(case, how)
    failed = 0
    for at in counter.operations(errno.EIO):
        before = counter.count
        end = run(counter.argv("-R"), Faults(at, errno.EIO, BEGIN), counter.log)
        failed += end.code != 0
        when = f"operation {at} fails"
        counter.await_stopped(when)
        assert counter.count == before, f"{when}: it ran on: {end}"
        counter.go_on_and_stop(when)
        counter.clear()
    assert failed
    counter.finish()


@WAYS
def test_a_dump_that_is_killed(case: Case, how: str) -> None:
    counter = Counter(case, how)
    for at in counter.operations(0):
        before = counter.count
        when = f"killed at operation {at}"
        end = run(counter.argv("-R"), Faults(at, begin=BEGIN), counter.log)
        assert end.code == KILLED, f"{when}: {end}"
        counter.await_stopped(when)
        counter.clear()
        end = run(counter.argv("-R"), Faults(), counter.log)
        assert end.code == 0, f"{when}, and the next: {end}"
        counter.await_stopped(when)
        assert counter.count == before, f"{when}: it ran on"
        counter.go_on_and_stop(when)
        counter.clear()
    counter.finish()
