"""Victims that never stand still: whenever the dump comes, it takes one consistent moment."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys

import pytest

from tests.support import processes
from tests.support.case import Case
from tests.support.programs import Program, programs

VICTIMS = {p.name: p for p in programs("moving")}


@pytest.fixture(params=VICTIMS)
def program(request: pytest.FixtureRequest) -> Program:
    return VICTIMS[request.param]


def test_undisturbed(case: Case, program: Program) -> None:
    case.start(program).finish()


def test_leave_running(case: Case, program: Program) -> None:
    victim = case.start(program)
    for _ in range(5):
        case.ckpt.dump(victim.pid, case.images, "--leave-running").ok()
        shutil.rmtree(case.images)
    victim.finish()


def test_killed_in_the_midst_of_the_end(case: Case) -> None:
    """The tree is gone as a whole."""
    victim = case.start(VICTIMS["pipes"])
    pids = victim.tree
    assert len(pids) > 1
    where = ("tests.support.killedat", "ckpt.tracee.freeze:_send", "parent")
    argv = case.ckpt.argv("dump", "-t", victim.pid, "-D", case.images)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    case.images.mkdir()
    words = [sys.executable, "-P", "-m", *where, *argv[1:]]
    killed = subprocess.run(words, env=env, check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    victim.await_gone(pids)
    case.ckpt.restore(case.images).ok()
    victim.finish()


def test_dump_and_restore(case: Case, program: Program) -> None:
    victim = case.start(program)
    for _ in range(3):
        case.ckpt.dump(victim.pid, case.images).ok()
        processes.reap_orphans()
        case.ckpt.restore(case.images).ok()
        shutil.rmtree(case.images)
    victim.finish()
