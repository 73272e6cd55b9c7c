"""A controller that infects a target, and dies where it is told to.

It runs in a child of the test, which alone is killed: everything between the first request to the
target and the last is done as a dump does it.
"""

from __future__ import annotations

import os
import select
import signal
import time
import traceback
from collections.abc import Callable

from ckpt._native import lib
from ckpt.errors import CkptError
from ckpt.infect.batch import Batch
from ckpt.infect.inject import infect
from ckpt.infect.predecessor import settle
from ckpt.infect.threads import run_in_threads
from ckpt.task import thread
from ckpt.tracee.freeze import seize
from ckpt.units import Range

FAILED = 99
KILLED = -signal.SIGKILL
_WHOLE_S = 60.0


def visit(pid: int) -> None:
    """Seize, infect, ask the leader and every other thread, cure, thaw."""
    with seize(pid, deadline_s=60) as tree:
        for task in tree.tasks.values():
            settle(task)
            with infect(task) as session:
                batch = Batch()
                me = batch.call("getpid")
                word = batch.space(8)
                batch.call("prctl", thread.PR_GET_TID_ADDRESS, word, 0, 0, 0)
                outcome = session.run(batch)
                assert outcome.of(me) == task.pid
                at = session.layout.batches.start
                answers = Range(at, at + thread.ANSWERS_SIZE)
                others = task.threads[1:]
                asked = run_in_threads(session, task, others, thread.calls(at), answers=answers)
                # A thread may end meanwhile only by being killed.
                assert len([results for _, results, _ in asked if results[0] == 0]) == len(others)


def controller(work: Callable[[], None], *, kill_at: int = 0) -> int:
    """Run `work` in a child that is killed at its `kill_at`-th point; the child's pid."""
    pid = os.fork()
    if pid:
        return pid
    code = FAILED
    try:
        lib.ckpt_fault_arm(kill_at)
        work()
        code = 0
    except (CkptError, AssertionError, OSError):
        traceback.print_exc()
    finally:
        os._exit(code)


def wait(child: int, timeout_s: float = _WHOLE_S) -> int | None:
    """The exit code, negative for a signal; None when the time is over."""
    pidfd = os.pidfd_open(child)
    try:
        if not select.select([pidfd], [], [], timeout_s)[0]:
            return None
    finally:
        os.close(pidfd)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_after(child: int, delay_s: float) -> int:
    """Kill the child unless it has ended by then; its exit code."""
    code = wait(child, delay_s)
    if code is None:
        os.kill(child, signal.SIGKILL)
        code = wait(child)
    assert code is not None
    return code


def nr_points(work: Callable[[], None]) -> int:
    """How many points one whole run of `work` has."""
    reader, writer = os.pipe()

    def counted() -> None:
        before = lib.ckpt_fault_passed()
        work()
        os.write(writer, str(lib.ckpt_fault_passed() - before).encode())

    child = controller(counted)
    os.close(writer)
    try:
        assert wait(child) == 0
        return int(os.read(reader, 100))
    finally:
        os.close(reader)


def eventually(what: Callable[[], bool], timeout_s: float = 60.0) -> bool:
    """Whether `what` comes true in time. The kernel tells nobody when a stub has gone home, so this
    looks again and again."""
    until = time.monotonic() + timeout_s
    while not what():
        if time.monotonic() > until:
            return False
        select.select([], [], [], 0.002)
    return True
