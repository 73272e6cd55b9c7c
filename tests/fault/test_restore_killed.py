"""The controller of a restore is killed at every operation, from the birth of the root to the end:
nothing of the tree is left, or all of it runs, and the image set serves again.

`make test` takes every so many-th operation, and all of the last ones; `make stress` all.
"""

from __future__ import annotations

import os

from tests.fault.family import Family
from tests.fault.injection import KILLED, Faults, nr_operations
from tests.support.case import Case

BIRTH = "ckpt_spawn_seed"
STRESS = bool(os.environ.get("CKPT_STRESS"))
FEW = 20
LAST = 12


def test_killed_at_every_operation(case: Case) -> None:
    family = Family(case)
    nr = nr_operations([*family.argv, "-v4"], family.log, BIRTH)
    family.learn()
    family.finish("without faults")
    assert nr > 200, nr
    step = 1 if STRESS else nr // FEW
    gone = whole = 0
    for at in sorted({*range(1, nr, step), *range(nr - LAST, nr + 1)}):
        end = family.restore(Faults(at=at, begin=BIRTH))
        when = f"killed at operation {at} of {nr}"
        assert end.code == KILLED, f"{when}: {end}"
        if family.settle(when):
            whole += 1
            family.untouched(when)
            family.finish(when)
        else:
            gone += 1
            assert not whole, f"{when}: gone, though an earlier end was past the commit"
            family.assert_none_left(when)
    assert gone and whole
    family.whole_restore("after all")
