"""One operation of a dump or a restore of huge pages fails: the pool, too, is as it was then."""

from __future__ import annotations

import errno

import pytest

from tests.fault.family import Family
from tests.fault.injection import Faults, nr_operations, run
from tests.fault.test_dump_fails import Target
from tests.fault.test_restore_fails import KINDS, REFUSED, assert_clear
from tests.support.case import Case
from tests.support.hugepool import all_back, free, huge_page_pool

pytestmark = [pytest.mark.stress, pytest.mark.timeout(3600)]
PAGES = 16
VICTIMS = [("huge/memfd", "mapped"), ("huge/shared", "reserved"), ("huge/sysv", "part")]
each_victim = pytest.mark.parametrize("which", VICTIMS, ids=lambda which: which[0])


@each_victim
def test_every_operation_of_a_dump_fails(case: Case, which: tuple[str, str]) -> None:
    with huge_page_pool(PAGES):
        target = Target(case, *which)
        taken = free()
        argv = target.argv("-R")
        nr = nr_operations(argv, target.log, code=errno.EIO)
        target.clear()
        for at in range(1, nr + 1):
            end = run(argv, Faults(at=at, code=errno.EIO), target.log)
            when = f"operation {at} of {nr}"
            if end.code != 0:
                assert_clear(end, when, (REFUSED, *KINDS))
                target.assert_no_images(when)
            target.assert_unharmed(when)
            assert free() == taken, when
            target.clear()
        target.victim.finish()


@each_victim
def test_every_operation_of_a_restore_fails(case: Case, which: tuple[str, str]) -> None:
    with huge_page_pool(PAGES):
        family = Family(case, *which)
        pool = free()
        nr = nr_operations([*family.argv, "-v4"], family.log, code=errno.ENOMEM)
        family.learn()
        family.finish("without faults")
        for at in range(1, nr + 1):
            end = family.restore(Faults(at=at, code=errno.ENOMEM))
            when = f"operation {at} of {nr}"
            if end.code == 0:
                assert family.settle(when), f"{when}: {end}"
                family.finish(when)
            else:
                assert_clear(end, when)
                family.assert_none_left(when)
            assert all_back(pool), f"{when}: {free()} of {pool} pages are free"
        family.whole_restore("after all")
