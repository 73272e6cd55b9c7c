"""Every thread is seen to cross the border of the kernel, and none can tell afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ckpt.tracee.crossing import crossed
from tests.support import processes
from tests.support.case import Case
from tests.support.programs import program
from tests.support.waiting import wait_until

DEADLINE_S = 60.0


def tracers(pid: int) -> set[int]:
    """Who traces threads of `pid`."""
    found = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        status = (task / "status").read_text()
        found.add(int(status.split("TracerPid:")[1].split()[0]))
    return found


def states(pid: int) -> set[str]:
    return {processes.state(int(task.name)) for task in Path(f"/proc/{pid}/task").iterdir()}


@pytest.mark.parametrize("args", [(), ("direct",)], ids=["", "direct"])
def test_threads_in_many_calls_see_nothing(case: Case, args: tuple[str, ...]) -> None:
    """Asked 100 times while nine threads sleep, wait, spin and read; direct reads included."""
    victim = case.start(program("crossing/threads", *args))
    for _ in range(100):
        assert crossed(victim.pid, DEADLINE_S)
    assert tracers(victim.pid) == {0}
    victim.finish()


def test_a_read_that_does_not_end_is_not_crossed(case: Case) -> None:
    """It has begun before and is under way still: no proof. The thread is let go."""
    victim = case.start(program("crossing/stuck"))
    assert not crossed(victim.pid, 0.3)
    wait_until(victim.pid, lambda: tracers(victim.pid) == {0})
    victim.go()
    victim.verdict()


def test_stopped_target_has_crossed_and_remains_stopped(case: Case) -> None:
    victim = case.start_command("sleep", "1000")
    os.kill(victim.pid, signal.SIGSTOP)
    wait_until(victim.pid, lambda: states(victim.pid) == {"T"})
    assert crossed(victim.pid, DEADLINE_S)
    assert states(victim.pid) == {"T"}
    os.kill(victim.pid, signal.SIGCONT)
    wait_until(victim.pid, lambda: states(victim.pid) == {"S"})


def test_threads_come_and_go(built: Path) -> None:
    """While threads and processes are born and die, the answer comes, and is yes."""
    command = [program("seized/churn").build(built)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            for _ in range(50):
                assert crossed(process.pid, DEADLINE_S)
            out, _ = process.communicate(timeout=60)
            assert out.decode().strip().endswith("whole")
        finally:
            process.kill()


def test_target_that_is_gone(case: Case) -> None:
    """Nothing of it can be in flight."""
    victim = case.start_command("true")
    processes.wait_end(victim.pid)
    assert crossed(victim.pid, DEADLINE_S)


TRACE = """
import sys
from ckpt.tracee import ops
for tid in map(int, sys.argv[1:]):
    ops.seize_thread(tid, exitkill=False)
print("ready", flush=True)
sys.stdin.read()
"""


def test_somebody_elses_tracee_is_no_proof(case: Case) -> None:
    """A running thread that another process traces can't be made to stand."""
    victim = case.start(program("crossing/threads"))
    tids = os.listdir(f"/proc/{victim.pid}/task")
    tracer = subprocess.Popen(
        [sys.executable, "-Pc", TRACE, *tids], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert tracer.stdout is not None
    assert tracer.stdout.readline() == b"ready\n"
    assert not crossed(victim.pid, 1.0)
    assert tracers(victim.pid) == {tracer.pid}
    tracer.communicate(timeout=60)
    assert crossed(victim.pid, DEADLINE_S)
    victim.finish()


CROSS = """
import sys
from ckpt.tracee.crossing import crossed
sys.exit(0 if crossed(int(sys.argv[1]), 20.0) else 1)
"""


def test_killed_in_the_middle(case: Case) -> None:
    """At every request of ptrace: the target runs on, untraced."""
    victim = case.start(program("crossing/threads"))
    killed = 0
    for at in range(1, 100):
        done = subprocess.run(
            [sys.executable, "-Pc", CROSS, str(victim.pid)],
            env={**os.environ, "CKPT_FAULT_KILL_AT": str(at)},
            timeout=60,
            check=False,
        )
        wait_until(victim.pid, lambda: tracers(victim.pid) == {0})
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL
        killed += 1
    assert killed >= 4, "two threads spin and one reads a pipe: each is interrupted"
    assert "t" not in states(victim.pid)
    victim.finish()
