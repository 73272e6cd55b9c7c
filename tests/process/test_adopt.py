"""Handing tasks of a tree over while it lives: births, tracers, and a controller that is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ckpt.errors import TargetError
from ckpt.mem.tracking.adopt import adopt_new
from ckpt.mem.tracking.client import Keeper
from ckpt.mem.tracking.engine import Mode
from ckpt.report import Report
from tests.support import processes
from tests.support.case import Case
from tests.support.commanded import Commanded, Said, outside, private
from tests.support.programs import program
from tests.support.waiting import wait_until


@pytest.fixture
def target(built: Path) -> Iterator[Commanded]:
    with Commanded(built) as started:
        yield started


def test_while_processes_and_threads_come_and_go(built: Path) -> None:
    """Only what lives on is tracked, whatever is born, exec'ed and dies meanwhile."""
    command = [program("seized/churn").build(built)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            with Keeper.start(process.pid, Mode.ASYNC) as keeper:
                adopted = set()
                for _ in range(5):
                    adopted |= set(adopt_new(keeper, process.pid, Report()))
                    answers = keeper.round({pid: private(pid) for pid in [process.pid]}, rearm=True)
                    assert set(answers) == {process.pid}
                assert process.pid in adopted
                keeper.untrack()
            out, _ = process.communicate(timeout=60)
            assert out.decode().strip().endswith("whole")
        finally:
            process.kill()


def test_ended_children_are_nobodys_warning(target: Commanded) -> None:
    """A zombie has no memory to be tracked."""
    said = Said()
    child = int(target.ask("f"))
    os.kill(child, signal.SIGKILL)
    wait_until(target.pid, lambda: processes.state(child) == "Z")
    with Keeper.start(target.pid, Mode.ASYNC) as keeper:
        assert adopt_new(keeper, target.pid, said) == [target.pid]
        assert said.warnings == []
        keeper.untrack()
    target.finish()


def test_somebody_elses_tracee_is_a_warning(case: Case) -> None:
    """The tracer is not disturbed, the others of the tree are tracked."""
    said = Said()
    victim = case.start(program("refused/ptraced"))
    tracees = set()
    for pid in victim.tree:
        status = Path(f"/proc/{pid}/status").read_text()
        if "TracerPid:\t0\n" not in status:
            tracees.add(pid)
    assert tracees
    with Keeper.start(victim.pid, Mode.ASYNC) as keeper:
        assert set(adopt_new(keeper, victim.pid, said)) == set(victim.tree) - tracees
        assert len(said.warnings) == len(tracees)
        assert all("traced" in text for text in said.warnings)
        keeper.untrack()


def test_root_that_has_ended(case: Case) -> None:
    victim = case.start_command("true")
    processes.wait_end(victim.pid)
    assert Keeper.find(victim.pid) is None
    with pytest.raises(TargetError):
        Keeper.start(victim.pid, Mode.ASYNC)


ADOPTS = """
import sys
from ckpt.mem.tracking.adopt import adopt_new
from ckpt.mem.tracking.client import Keeper
from ckpt.report import Report
from ckpt.mem.tracking.engine import Mode
pid = int(sys.argv[1])
keeper = Keeper.find(pid) or Keeper.start(pid, Mode.ASYNC)
sys.exit(0 if adopt_new(keeper, pid, Report()) == [pid] else 1)
"""


def test_controller_killed_while_it_adopts(target: Commanded) -> None:
    """At one fault point after the other (every fifth): the target's tables are as they were, the
    keeper lives on, and a later controller can do it."""
    before = outside([target.pid], smaps=True)
    ends = []
    for at in range(3, 1000, 5):
        done = subprocess.run(
            [sys.executable, "-Pc", ADOPTS, str(target.pid)],
            env={**os.environ, "CKPT_FAULT_KILL_AT": str(at)},
            timeout=60,
            check=False,
        )
        wait_until(target.pid, lambda: outside([target.pid], smaps=True) == before)
        target.write(at % 64)
        ends.append(done.returncode)
        if done.returncode != -signal.SIGKILL:
            break
    assert ends[-1] == 0
    assert len(ends) > 5
    keeper = Keeper.find(target.pid)
    assert keeper is not None
    with keeper:
        assert set(keeper.tracked()) == {target.pid}
        keeper.untrack()
    target.finish()
