"""With next to no privilege: one capability brings back what has no more than ckpt itself has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support import processes
from tests.support.ckptcmd import Ckpt
from tests.support.programs import program

if TYPE_CHECKING:
    from tests.support.case import Case
    from tests.support.victim import Victim

FEW = ("setpriv", "--inh-caps=-all", "--bounding-set=-all,+checkpoint_restore")
NONE = ("setpriv", "--inh-caps=-all", "--bounding-set=-all")
CLOCK = "monotonic clock jumps ahead"


def started(case: Case, name: str, *prefix: str) -> Victim:
    one = program(name)
    victim = case.start_command(*prefix, str(one.build(case.built)), *one.args)
    victim.wait_ready()
    return victim


def few(case: Case) -> Ckpt:
    return Ckpt(case.ckpt.logs, prefix=FEW)


@pytest.mark.parametrize("name", ["tree/threads_and_children", "files/pipes"])
def test_there_and_back(case: Case, name: str) -> None:
    victim = started(case, name, *FEW)
    pids = victim.tree
    few(case).dump(victim.pid, case.images).ok()
    victim.await_gone(pids)
    assert CLOCK in few(case).restore(case.images).ok().log
    victim.finish()


def test_capabilities_that_ckpt_lacks(case: Case) -> None:
    """Named before anything is built."""
    victim = started(case, "tree/children")
    pids = victim.tree
    case.ckpt.dump(victim.pid, case.images).ok()
    victim.await_gone(pids)
    few(case).restore(case.images).failed(6, "ckpt itself lacks", "CAP_SYS_PTRACE")
    case.ckpt.restore(case.images).ok()
    victim.finish()


def test_a_bounding_set_of_less(case: Case) -> None:
    """To drop something of it takes a capability, too."""
    victim = started(case, "tree/children", *NONE)
    pids = victim.tree
    few(case).dump(victim.pid, case.images).ok()
    victim.await_gone(pids)
    few(case).restore(case.images).failed(7, "bounding set", "not permitted")
    processes.reap_orphans()
    case.ckpt.restore(case.images).ok()
    victim.finish()
