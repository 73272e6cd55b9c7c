"""Controllers that have to do with System V semaphores and message queues are killed, or one of
their operations fails: a dump changes nothing of them, a restore leaves none that it made.

`make test` takes a few operations, `make stress` every one.
"""

from __future__ import annotations

import errno
import os

import pytest

from tests.fault.injection import KILLED, Faults, eventually, nr_operations, run
from tests.fault.test_restore_fails import KINDS, REFUSED, assert_clear
from tests.process.test_sysv_objects import VICTIMS
from tests.support import processes, sysvobj, visible
from tests.support.case import Case
from tests.support.programs import program
from tests.support.victim import Victim

LOOK, GUARD = "ckpt_sysv_look", "ckpt_guard_objects"
STRESS = bool(os.environ.get("CKPT_STRESS"))
FEW = 4
DAMAGE = pytest.mark.parametrize("code", [0, errno.EIO], ids=["killed", "EIO"])
KIND = pytest.mark.parametrize("kind", ["sem", "msg"] if STRESS else ["sem"])


def object_of(victim: Victim, kind: str) -> int:
    return sysvobj.of_key(kind, sysvobj.KEYS[kind] | victim.pid)


def points(nr: int) -> range:
    return range(1, nr + 1, 1 if STRESS else max(1, nr // FEW))


@DAMAGE
@KIND
@pytest.mark.timeout(3600 if STRESS else 300)
def test_dump(case: Case, kind: str, code: int) -> None:
    """Values, last users and times stay; nobody who waits is woken; in the end the victim gives
    back what it had to."""
    # A tree that is let go before it is entered finds such calls ended (ckpt.tracee.freeze).
    interrupted = ["interrupted"] if kind == "sem" else []
    victim = case.start(program(*VICTIMS[kind], *interrupted))
    before = visible.look(victim.pid, exact=True)
    state = sysvobj.state(kind, object_of(victim, kind))
    log = case.folder / "controller.log"
    argv = ["dump", "-t", str(victim.pid), "-D", "", "--leave-running", "-v4"]

    def into(folder: str) -> list[str]:
        (case.folder / folder).mkdir()
        argv[4] = str(case.folder / folder)
        return argv

    nr = nr_operations(into("whole"), log, LOOK, code)
    for at in points(nr):
        end = run(into(f"at{at}"), Faults(at=at, begin=LOOK, code=code), log)
        if code and end.code:
            assert_clear(end, f"operation {at} of {nr}", (REFUSED, *KINDS))
        elif not code:
            assert end.code == KILLED or (end.code == 0 and end.passed < at), str(end)
        assert eventually(lambda: visible.looks_as(before, victim.pid)), f"operation {at}: {end}"
        assert sysvobj.state(kind, object_of(victim, kind)) == state, f"operation {at}: {end}"
    victim.finish()


@DAMAGE
@KIND
@pytest.mark.timeout(3600 if STRESS else 300)
def test_restore(case: Case, kind: str, code: int) -> None:
    """The object goes with the tree, and the last restore makes it again."""
    known = set(processes.tree(os.getpid()))
    victim = case.start(program(*VICTIMS[kind]))
    ident, pids = object_of(victim, kind), victim.tree
    case.ckpt.dump(victim.pid, case.images).ok()
    victim.await_gone(pids)
    sysvobj.remove(kind, ident)
    argv = ["restore", "-D", str(case.images), "-W", str(case.folder), "-d", "-v4"]
    log = case.folder / "controller.log"
    for at in range(1, 160) if STRESS else (1, 4, 40):
        end = run(argv, Faults(at=at, begin=GUARD, code=code), log)
        if code and end.code:
            assert_clear(end, f"operation {at}")
        elif not code:
            assert end.code == KILLED, str(end)
        if end.code == 0:
            # What failed is not needed: what it has made is ended here.
            processes.end_leftovers(known)
            sysvobj.remove(kind, ident)
        processes.end_leftovers(known)
        assert eventually(lambda: ident not in sysvobj.rows(kind)), f"left after operation {at}"
    case.ckpt.restore(case.images).ok()
    victim.finish()
    assert ident not in sysvobj.rows(kind)
