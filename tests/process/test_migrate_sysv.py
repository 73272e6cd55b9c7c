"""A tree moves, and its System V semaphores or message queue with it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.fault.injection import eventually
from tests.process.test_sysv_objects import VICTIMS
from tests.support import processes
from tests.support.moved import migrate, serving
from tests.support.programs import program
from tests.support.victim import SUCCESS, start
from tests.support.worlds import FIRST_PID, World, number_inside, running


@pytest.mark.parametrize("kind", VICTIMS if os.environ.get("CKPT_STRESS") else ["sem"])
def test_there_and_back(kind: str, here: World, there: World, built: Path, tmp_path: Path) -> None:
    """Where it comes back, what it has left lies about with what the killed tree gave back: it is
    put in order. The victim compares all of it, in the namespaces of either world."""
    tmp_path.chmod(0o755)
    known = set(processes.tree(os.getpid()))
    victim_program = program(*VICTIMS[kind])
    binary = victim_program.build(built)
    here.numbers_from(FIRST_PID)
    victim = start(here.inside("setsid", binary, *victim_program.args), tmp_path / "victim")
    try:
        victim.wait_ready()
        pid = number_inside(processes.children(victim.process.pid)[0])
        nr = len(here.processes(binary))
        for source, target in ((here, there), (there, here)):
            with serving(target, tmp_path / "images", "--once") as server:
                done = migrate(source, pid, server.port)
                assert done.returncode == 0, done.stderr
            assert source.processes(binary) == []
            assert len(target.processes(binary)) == nr
        victim.go()
        assert eventually(lambda: not running(binary)), victim.out
        assert victim.out.rstrip().endswith(SUCCESS), victim.out
    finally:
        processes.end_leftovers(known)
        victim.process.returncode = 0
        victim.close()
