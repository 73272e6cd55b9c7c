"""What ckpt does not restore yet is refused by name, and the target has noticed nothing."""

from __future__ import annotations

import os

import pytest

from tests.support import processes, visible
from tests.support.case import Case
from tests.support.procfd import libc
from tests.support.programs import Program, programs
from tests.support.programs import program as named

REFUSED = 3
PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 17, 0x4206, 0x4207
VICTIMS = {p.name: p for p in programs("refused")}


@pytest.fixture(params=VICTIMS)
def program(request: pytest.FixtureRequest) -> Program:
    return VICTIMS[request.param]


def test_undisturbed(case: Case, program: Program) -> None:
    case.start(program).finish()


def test_refused_before_harm(case: Case, program: Program) -> None:
    """Exit code 3, the thing and its pid named, no image left, the target as it was."""
    victim = case.start(program)
    before = visible.look(victim.pid, exact=True)
    pids = victim.tree
    result = case.ckpt.dump(victim.pid, case.images, *program.words("dump"))
    result.failed(REFUSED, *program.words("refused"))
    assert any(f"pid {pid}" in result.stderr for pid in pids), str(result)
    assert list(case.images.iterdir()) == [], "a refused dump left images"
    visible.assert_same(before, visible.look(victim.pid, exact=True))
    victim.finish()


@pytest.mark.parametrize("name", ["seccomp_strict", "seccomp_kills", "seccomp_home"])
def test_who_takes_the_risk_dumps_it(case: Case, name: str) -> None:
    """`--risk-seccomp`: nothing but ckpt's death can harm it, which a warning says."""
    victim = case.start(VICTIMS[name])
    pids, before = victim.tree, visible.look(victim.pid)
    done = case.ckpt.dump(victim.pid, case.images, "--risk-seccomp").ok()
    assert "should ckpt end midway" in done.log or "its only way back" in done.log, str(done)
    victim.await_gone(pids)
    case.ckpt.restore(case.images).ok()
    visible.assert_same(before, visible.look(victim.pid))
    victim.finish()


def test_traced_from_outside_names_the_tracer(case: Case) -> None:
    """A debugger that holds the target is named by its pid."""
    victim = case.start(named("task/join"))
    assert libc.ptrace(PTRACE_SEIZE, victim.pid, None, None) == 0
    try:
        result = case.ckpt.dump(victim.pid, case.images)
        result.failed(REFUSED, "traced", str(os.getpid()), str(victim.pid))
    finally:
        # Only a stopped tracee can be let go.
        assert libc.ptrace(PTRACE_INTERRUPT, victim.pid, None, None) == 0
        processes.wait_stop(victim.pid)
        assert libc.ptrace(PTRACE_DETACH, victim.pid, None, None) == 0
    victim.finish()
