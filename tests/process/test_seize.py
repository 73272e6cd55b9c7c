"""Freezing whole trees: nothing that stood there may be able to tell afterwards."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ckpt.errors import DeadlineError, RefusedError, TargetError
from ckpt.tracee import ops
from ckpt.tracee.freeze import seize
from ckpt.tracee.stopped import SeizedTask
from tests.support import processes
from tests.support.programs import program
from tests.support.xsave import contents

DEADLINE_S = 60.0
SIGUSR1, SIGRTMIN = int(signal.SIGUSR1), int(signal.SIGRTMIN)

Process = subprocess.Popen[bytes]


@contextmanager
def started(*command: str | Path) -> Iterator[Process]:
    """A child that has said `ready`; it is ended, if need be, at the end of the scope."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield process
        finally:
            process.kill()


def victim(built: Path, name: str, *args: str) -> tuple[str | Path, ...]:
    return (program(f"seized/{name}").build(built), *args)


def python(text: str) -> tuple[str, ...]:
    return (sys.executable, "-Ic", "import os, signal, sys, time\n" + text)


def verdict(process: Process) -> str:
    """The last line of a victim whose standard input ends now."""
    out, _ = process.communicate(timeout=60)
    return out.decode().strip().rpartition("\n")[2]


def wait_for_state(pid: int, states: str) -> None:
    """Until /proc shows one of `states`: nobody but its parent and tracer is told."""
    until = time.monotonic() + DEADLINE_S
    while processes.state(pid) not in states:
        assert time.monotonic() < until, f"pid {pid}: {processes.state(pid)}, not one of {states}"
        select.poll().poll(1)


def registers(task: SeizedTask) -> list[tuple[bytes, bytes, int]]:
    return [(one.regs, contents(one.xstate), one.sigmask) for one in task.threads]


def test_threads_stand_and_go_on(built: Path) -> None:
    """All threads are seen, leader first, standing; twice the same state; afterwards they run."""
    with started(*victim(built, "threads", "5")) as process:
        pid = process.pid
        states = []
        for _ in range(2):
            for tid in os.listdir(f"/proc/{pid}/task"):
                wait_for_state(int(tid), "S")
            with seize(pid, deadline_s=DEADLINE_S) as tree:
                task = tree.tasks[pid]
                assert [task.threads[0].tid, len(task.threads)] == [pid, 5]
                assert {processes.state(thread.tid) for thread in task.threads} == {"t"}
                assert (task.ppid, task.zombie, task.stopped) == (os.getpid(), False, False)
                assert all(thread.rseq for thread in task.threads), "glibc registers rseq"
                states.append(registers(task))
            assert tree.frozen_at_ns < tree.thawed_at_ns
            wait_for_state(pid, "S")
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(task.pidfd)
        assert states[0] == states[1]


def test_blocking_calls_and_handlers_see_nothing(built: Path) -> None:
    """read, poll, futex, nanosleep, and a signal handler 1,000 times a second, 50 freezes."""
    with started(*victim(built, "blocked")) as process:
        for _ in range(50):
            with seize(process.pid, deadline_s=DEADLINE_S) as tree:
                assert len(tree.tasks[process.pid].threads) == 6
        assert verdict(process) == "whole"


def test_a_thousand_threads(built: Path) -> None:
    """All of them stand, and the time that it took is known."""
    with started(*victim(built, "threads", "1000")) as process:
        for _ in range(3):
            with seize(process.pid, deadline_s=DEADLINE_S) as tree:
                assert len(tree.tasks[process.pid].threads) == 1000
            assert 0 < tree.freezing_ns <= tree.thawed_at_ns - tree.frozen_at_ns


def test_stopped_target_remains_stopped(built: Path) -> None:
    """A task stopped by SIGSTOP is known as such, stays so, and goes on at SIGCONT."""
    with started(*victim(built, "threads", "3")) as process:
        os.kill(process.pid, signal.SIGSTOP)
        wait_for_state(process.pid, "T")
        with seize(process.pid, deadline_s=DEADLINE_S) as tree:
            task = tree.tasks[process.pid]
            assert (task.stopped, task.stop_signal) == (True, signal.SIGSTOP)
            assert {thread.group_stop for thread in task.threads} == {signal.SIGSTOP}
        wait_for_state(process.pid, "T")
        os.kill(process.pid, signal.SIGCONT)
        wait_for_state(process.pid, "S")


def test_signals_sent_while_frozen_arrive() -> None:
    """Once each if ordinary, all of them if real-time, with their values; none is lost."""
    text = """
got = []
signal.signal(signal.SIGUSR1, lambda n, f: got.append(n))
signal.signal(signal.SIGRTMIN, lambda n, f: got.append(n))
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
print("ready", flush=True)
while sys.stdin.buffer.raw.read(1): pass
print(sorted(got), [int(n) for n in signal.sigpending()])
"""
    with started(*python(text)) as process:
        with seize(process.pid, deadline_s=DEADLINE_S):
            os.kill(process.pid, signal.SIGUSR2)
            for _ in range(2):
                os.kill(process.pid, signal.SIGUSR1)
            os.kill(process.pid, signal.SIGRTMIN)
        with seize(process.pid, deadline_s=DEADLINE_S) as tree:
            task = tree.tasks[process.pid]
            # The others may not have found their way to the handler yet, or be in it, with their
            # own signals blocked.
            assert signal.SIGUSR2 in [info[0] for info in task.pending]
            assert [thread.pending for thread in task.threads] == [()]
            assert task.threads[0].sigmask >> (signal.SIGUSR2 - 1) & 1
        assert verdict(process) == f"{[SIGUSR1, SIGRTMIN]} {[int(signal.SIGUSR2)]}"


def test_signal_that_stands_in_front(built: Path) -> None:
    """A SIGSTOP sent just before stops the process, and is not swallowed by the freeze."""
    with started(*victim(built, "threads", "3")) as process:
        for _ in range(30):
            os.kill(process.pid, signal.SIGSTOP)
            with seize(process.pid, deadline_s=DEADLINE_S):
                pass
            wait_for_state(process.pid, "T")
            os.kill(process.pid, signal.SIGCONT)


def test_traced_target_is_refused(built: Path) -> None:
    """By a debugger that traces the task, and by one that traces another thread of it."""
    text = """
from ckpt.tracee import ops
ops.seize_thread(int(sys.argv[1]), exitkill=False)
print("ready", flush=True)
sys.stdin.read()
"""
    with started(*victim(built, "threads", "3")) as process:
        for tid in sorted(os.listdir(f"/proc/{process.pid}/task")):
            with (
                started(*python(text), tid) as debugger,
                pytest.raises(RefusedError, match=f"traced by pid {debugger.pid}"),
                seize(process.pid, deadline_s=DEADLINE_S),
            ):
                pytest.fail("a traced task was seized")
            wait_for_state(process.pid, "S")
        with seize(process.pid, deadline_s=DEADLINE_S) as tree:
            assert len(tree.tasks[process.pid].threads) == 3


def test_controller_in_the_tree() -> None:
    """Nothing is touched of a tree that would freeze who freezes it."""
    with (
        pytest.raises(RefusedError, match="ckpt itself"),
        seize(os.getppid() or os.getpid(), deadline_s=DEADLINE_S),
    ):
        pytest.fail("we stand and can't have got here")


def test_dead_leader_is_refused(built: Path) -> None:
    """A process whose main thread has ended; its other threads run on."""
    with started(*victim(built, "headless")) as process:
        wait_for_state(process.pid, "Z")
        with (
            pytest.raises(RefusedError, match="main thread has ended"),
            seize(process.pid, deadline_s=DEADLINE_S),
        ):
            pytest.fail("a process without main thread was seized")
        assert verdict(process) == "whole"
        assert process.wait() == 0


def test_killed_controller_lets_go(built: Path) -> None:
    """The kernel detaches what was frozen; a signal on its way is not lost."""
    text = """
from ckpt.tracee.freeze import seize
with seize(int(sys.argv[1]), deadline_s=20):
    os.kill(int(sys.argv[1]), signal.SIGSTOP)
    print("ready", flush=True)
    sys.stdin.read()
"""
    with started(*victim(built, "threads", "4")) as process:
        with started(*python(text), str(process.pid)) as controller:
            wait_for_state(process.pid, "t")
            controller.kill()
        wait_for_state(process.pid, "T")
        os.kill(process.pid, signal.SIGCONT)
        wait_for_state(process.pid, "S")


def test_no_such_target() -> None:
    process = subprocess.Popen(["true"])
    wait_for_state(process.pid, "Z")
    for _ in range(2):
        with pytest.raises(TargetError), seize(process.pid, deadline_s=DEADLINE_S):
            pytest.fail("there is nothing to be seized")
        assert process.wait() == 0


NESTED = """
def family(depth):
    for _ in range(2):
        if not os.fork():
            if depth: family(depth - 1)
            else: os.fork() or os._exit(7)
            os.write(ends[1], b".")
            while True: signal.pause()
ends = os.pipe()
family(1)
for _ in range(6): os.read(ends[0], 1)
print("ready", flush=True)
sys.stdin.read()
"""


def test_nested_tree_with_zombies() -> None:
    """Root first, parents before children, zombies among them and not seized."""
    with started(*python(NESTED)) as process:
        for pid in processes.tree(process.pid):
            wait_for_state(pid, "SZ")
        family = processes.tree(process.pid)
        zombies = {pid for pid in family if processes.state(pid) == "Z"}
        with seize(process.pid, deadline_s=DEADLINE_S) as tree:
            tasks = list(tree.tasks.values())
            assert {task.pid for task in tasks} == set(family)
            assert {task.pid for task in tasks if task.zombie} == zombies
            assert (len(zombies), tasks[0].pid) == (4, process.pid)
            places = {task.pid: place for place, task in enumerate(tasks)}
            assert all(places[task.ppid] < places[task.pid] for task in tasks[1:])
            assert all(task.zombie is not bool(task.threads) for task in tasks)
        assert {pid for pid in family if processes.state(pid) == "Z"} == zombies
        process.kill()
        wait_for_state(process.pid, "Z")
        for pid in family[1:]:
            os.kill(pid, signal.SIGKILL)
            processes.wait_end(pid)


def test_kill() -> None:
    """All are gone or zombies when it returns, and nothing of ours holds them."""
    with started(*python(NESTED)) as process:
        family = processes.tree(process.pid)
        with seize(process.pid, deadline_s=DEADLINE_S) as tree:
            tree.kill()
            assert {processes.state(pid) for pid in family} <= {"Z", ""}
        assert process.wait() == -signal.SIGKILL
        for pid in family[1:]:
            processes.wait_end(pid)


def test_leave_stopped(built: Path) -> None:
    """Every task is stopped after the scope, and all its threads go on at SIGCONT."""
    with started(*victim(built, "threads", "4")) as process:
        with seize(process.pid, deadline_s=DEADLINE_S) as tree:
            tree.leave_stopped()
        tids = [int(tid) for tid in os.listdir(f"/proc/{process.pid}/task")]
        assert processes.state(process.pid) == "T"
        for tid in tids:
            wait_for_state(tid, "T")
        os.kill(process.pid, signal.SIGCONT)
        for tid in tids:
            wait_for_state(tid, "S")


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_errors_thaw(built: Path, error: type[BaseException]) -> None:
    """Whatever ends the scope, the tree runs on, even where it was to be left stopped."""
    with started(*victim(built, "threads", "4")) as process:
        with pytest.raises(error), seize(process.pid, deadline_s=DEADLINE_S) as tree:
            tree.leave_stopped()
            raise error
        wait_for_state(process.pid, "S")


def test_parent_in_vfork_is_waited_for(built: Path) -> None:
    """It can't stop before its child has gone on: the child runs until then."""
    with started(*victim(built, "vforked", "short")) as process:
        for _ in range(3):
            with seize(process.pid, deadline_s=DEADLINE_S) as tree:
                assert {processes.state(pid) for pid in tree.tasks} <= {"t", "Z"}
        assert verdict(process) == "whole"


def test_thread_that_never_stops(built: Path) -> None:
    """DeadlineError names it, and when the controller is gone it goes on as if nothing was."""
    text = """
from ckpt.tracee.freeze import seize
from ckpt.errors import DeadlineError
try:
    with seize(int(sys.argv[1]), deadline_s=0.5): print("seized")
except DeadlineError as error: print(error)
"""
    with started(*victim(built, "vforked")) as process:
        _, child = processes.tree(process.pid)
        done = subprocess.run(
            [*python(text), str(process.pid)], capture_output=True, text=True, check=True
        )
        assert f"thread {process.pid}" in done.stdout
        assert "in vfork(2), state D" in done.stdout
        assert "execve(2) of its child" in done.stdout
        wait_for_state(child, "S")
        os.kill(child, signal.SIGUSR1)
        assert verdict(process) == "whole"


def test_the_deadline_of_a_seizure_of_our_own_child(built: Path) -> None:
    with started(*victim(built, "vforked")) as process:
        _, child = processes.tree(process.pid)
        with pytest.raises(DeadlineError), seize(process.pid, deadline_s=0.3):
            pytest.fail("a thread in vfork stood")
        os.kill(child, signal.SIGUSR1)
        # The tracer lives on: what could not be let go stands as soon as it wakes.
        assert ops.wait_stop(process.pid, DEADLINE_S).kind == ops.StopKind.INTERRUPT
        ops.detach(process.pid)
        assert verdict(process) == "whole"


def test_one_task_without_its_children() -> None:
    """The children run on while the parent alone stands."""
    text = """
parent = os.getpid()
if not os.fork():
    while os.getppid() == parent: pass
    os._exit(0)
print("ready", flush=True)
sys.stdin.read()
os.killpg(0, signal.SIGKILL)
"""
    with started(*python("os.setsid()\n" + text)) as process:
        (child,) = processes.children(process.pid)
        wait_for_state(child, "R")
        with seize(process.pid, deadline_s=DEADLINE_S, children=False) as tree:
            assert list(tree.tasks) == [process.pid]
            assert processes.state(process.pid) == "t"
            assert processes.state(child) == "R"
            assert "TracerPid:\t0\n" in Path(f"/proc/{child}/status").read_text()
    processes.wait_gone([child])
