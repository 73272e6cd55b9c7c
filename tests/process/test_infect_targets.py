"""A parasite in targets that may do little, that are stopped, that are full: in, and out again with
nothing changed."""

from __future__ import annotations

import errno
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from ckpt.errors import RefusedError, TargetError
from ckpt.infect import place
from ckpt.infect.batch import Batch
from ckpt.infect.inject import infect
from ckpt.infect.session import Session
from ckpt.infect.threads import run_in_thread, run_in_threads
from ckpt.procfs.maps import parse_maps
from ckpt.task import thread
from ckpt.tracee import ops
from ckpt.tracee.freeze import seize
from ckpt.tracee.stopped import SeizedTask
from ckpt.units import Range
from tests.fault.controller import eventually
from tests.support import processes
from tests.support.case import Case
from tests.support.programs import program
from tests.support.xsave import contents

STATUS = (
    "SigPnd",
    "SigBlk",
    "SigIgn",
    "SigCgt",
    "Shd",
    "Cap",
    "Uid",
    "Gid",
    "Threads",
    "VmSize",
    "VmLck",
    "Seccomp",
    "FDSize",
)


@contextmanager
def frozen(pid: int) -> Iterator[SeizedTask]:
    with seize(pid, deadline_s=60) as tree:
        yield tree.tasks[pid]


def view(task: SeizedTask) -> dict[str, object]:
    """Everything that an infection could leave behind in a standing task."""
    proc = Path(f"/proc/{task.pid}")
    smaps = (proc / "smaps").read_text().splitlines()
    found: dict[str, object] = {
        "maps": (proc / "maps").read_text(),
        "flags": [line for line in smaps if line.startswith("VmFlags")],
        "limits": (proc / "limits").read_text(),
        "status": [
            line for line in (proc / "status").read_text().splitlines() if line.startswith(STATUS)
        ],
        "code": executable_bytes(task.pid),
    }
    for fd in os.listdir(proc / "fd"):
        found[f"fd {fd}"] = (
            str((proc / "fd" / fd).readlink()),
            (proc / "fdinfo" / fd).read_text(),
        )
    for stopped in task.threads:
        tid = stopped.tid
        state = (ops.get_regs(tid), contents(ops.get_xstate(tid)), ops.get_sigmask(tid))
        found[f"thread {tid}"] = (*state, ops.pending(tid, shared=False))
    return found


def executable_bytes(pid: int) -> dict[str, bytes]:
    """What every executable mapping holds, the vdso's included."""
    found = {}
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as mem:
        for m in parse_maps(Path(f"/proc/{pid}/maps").read_bytes()):
            if m.executable and m.readable:
                mem.seek(m.start)
                found[str(m)] = mem.read(len(m.range))
    return found


def ask(task: SeizedTask, session: Session) -> None:
    """A batch in the leader, a few calls in every other thread."""
    batch = Batch()
    me = batch.call("gettid")
    word = batch.space(8)
    batch.call("prctl", thread.PR_GET_TID_ADDRESS, word, 0, 0, 0)
    outcome = session.run(batch)
    assert outcome.of(me) == task.threads[0].tid
    at = session.layout.batches.start
    answers = Range(at, at + thread.ANSWERS_SIZE)
    for stopped, results, _ in run_in_threads(
        session, task, task.threads[1:], [("gettid", ()), *thread.calls(at)], answers=answers
    ):
        assert results == (stopped.tid, 0, 0, 0, 0, 0)


def assert_harmless(task: SeizedTask) -> None:
    before = view(task)
    for _ in range(2):
        with infect(task) as session:
            ask(task, session)
        after = view(task)
        assert {k: v for k, v in after.items() if v != before[k]} == {}
        assert after.keys() == before.keys()


@pytest.mark.parametrize(
    "what", ["plain", "as", "data", "fsize", "mlock", "nobody", "undumpable", "mdwe"]
)
def test_targets_that_may_do_little(case: Case, what: str) -> None:
    victim = case.start(program("fault/limited", what))
    with frozen(victim.pid) as task:
        assert_harmless(task)
    victim.finish()


def test_no_room_in_the_address_space(case: Case) -> None:
    """A hard limit: the stub goes back by itself and the errno is told."""
    victim = case.start(program("fault/limited", "as_hard"))
    with frozen(victim.pid) as task:
        before = view(task)
        with pytest.raises(TargetError, match=errno.errorcode[errno.ENOMEM]), infect(task):
            pass
        assert view(task) == before
    victim.finish()


def test_full_descriptor_table(case: Case) -> None:
    """No number is to be had: the calls are made one by one, and no descriptor can be passed."""
    victim = case.start(program("files/full_table"))
    with frozen(victim.pid) as task:
        before = view(task)
        with infect(task) as session:
            assert not session.can_pass_fds
            ask(task, session)
        assert view(task) == before
    victim.finish()


def test_full_below_the_hard_limit(case: Case) -> None:
    """The soft limit is raised inside, for the time of the session."""
    victim = case.start(program("fault/limited", "plain"))
    limits = resource.prlimit(victim.pid, resource.RLIMIT_NOFILE)
    with frozen(victim.pid) as task:
        resource.prlimit(victim.pid, resource.RLIMIT_NOFILE, (4, limits[1]))
        before = view(task)
        with infect(task) as session:
            assert session.can_pass_fds
            ask(task, session)
        assert view(task) == before
        resource.prlimit(victim.pid, resource.RLIMIT_NOFILE, limits)
    victim.finish()


def test_stopped_target(case: Case) -> None:
    """Infected while a signal has stopped it, and stopped afterwards."""
    victim = case.start(program("fault/limited", "plain"))
    os.kill(victim.pid, signal.SIGSTOP)
    assert eventually(lambda: processes.state(victim.pid) == "T")
    with frozen(victim.pid) as task:
        assert task.stopped
        assert_harmless(task)
    # Let go, it runs up to its way back to user mode, where it stops again.
    assert eventually(lambda: processes.state(victim.pid) == "T")
    os.kill(victim.pid, signal.SIGCONT)
    victim.finish()


def test_stopped_while_infected(case: Case) -> None:
    """SIGSTOP comes in the middle: the session goes on, the target stops after it."""
    victim = case.start(program("fault/limited", "plain"))
    with frozen(victim.pid) as task, infect(task) as session:
        os.kill(victim.pid, signal.SIGSTOP)
        ask(task, session)
    assert eventually(lambda: processes.state(victim.pid) == "T")
    os.kill(victim.pid, signal.SIGCONT)
    victim.finish()


def test_seccomp_is_refused(case: Case) -> None:
    victim = case.start(program("refused/seccomp_kills"))
    with frozen(victim.pid) as task:
        before = view(task)
        with pytest.raises(RefusedError, match="seccomp"), infect(task):
            pass
        assert view(task) == before
    victim.finish()


def test_failing_call_is_named(case: Case) -> None:
    """The error of a batch leaves the scope, and the target as it was."""
    victim = case.start(program("fault/limited", "plain"))
    with frozen(victim.pid) as task:
        before = view(task)
        batch = Batch()
        batch.call("close", 12345, note="no such descriptor")
        with pytest.raises(Exception, match="no such descriptor"), infect(task) as session:
            session.run(batch)
        assert view(task) == before
    victim.finish()


def test_killed_while_infected(case: Case) -> None:
    victim = case.start(program("fault/limited", "plain"))
    with frozen(victim.pid) as task, pytest.raises(TargetError), infect(task) as session:
        os.kill(victim.pid, signal.SIGKILL)
        while True:
            ask(task, session)
    processes.wait_end(victim.pid)
    victim.process.returncode = 0


def test_a_look_that_fails_once(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """The vdso is passed over for the leader's piece, and would do for it a moment later: that of
    the other threads must not come where the leader's is."""
    victim = case.start(program("fault/family"))
    with frozen(victim.pid) as task, ExitStack() as inside:
        assert len(task.threads) > 1
        with monkeypatch.context() as patched:
            patched.setattr(place, "vdso_used", lambda *_: 0)
            session = inside.enter_context(infect(task))
        ask(task, session)
    victim.finish()


def test_a_thousand_threads(case: Case) -> None:
    victim = case.start(program("tree/threads_1000"))
    with frozen(victim.pid) as task:
        assert len(task.threads) == 1000
        with infect(task) as session:
            ask(task, session)
            at = session.layout.batches.start
            results, _ = run_in_thread(
                session, task, task.threads[7], [("gettid", ())] * 12, answers=Range(at, at)
            )
            assert results == (task.threads[7].tid,) * 12
        for stopped in task.threads:
            assert ops.get_regs(stopped.tid) == stopped.regs
            assert ops.get_sigmask(stopped.tid) == stopped.sigmask
    victim.finish()
