"""The controller of a lazy restore is killed: nothing of the tree is left, nor of those who would
have brought its memory, or all of it runs and gets all of its memory.

`make test` takes a few operations, `make stress` all.
"""

from __future__ import annotations

import os

from tests.fault.family import Family
from tests.fault.injection import KILLED, Faults, eventually, nr_operations
from tests.support.case import Case
from tests.support.lazily import HOLDER, SERVER, SOCKET, named

BIRTH = "ckpt_spawn_seed"
STRESS = bool(os.environ.get("CKPT_STRESS"))
FEW = 8
LAST = 4


class LazyFamily(Family):
    """Restored lazily."""

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self.argv.append("--lazy")

    def all_is_in(self, when: str) -> None:
        """Nobody brings pages any more, and what was recorded of that is taken back."""
        helpers = (HOLDER, SERVER)
        assert eventually(lambda: not any(map(named, helpers))), f"{when}: they are still there"
        assert not (self.case.folder / SOCKET).exists(), when
        (self.case.images / "ckpt-working-set.img").unlink(missing_ok=True)


def test_killed_at_operations(case: Case) -> None:
    family = LazyFamily(case)
    nr = nr_operations([*family.argv, "-v4"], family.log, BIRTH)
    family.all_is_in("without faults")
    family.learn()
    family.finish("without faults")
    assert nr > 200, nr
    step = 1 if STRESS else nr // FEW
    gone = whole = 0
    for at in sorted({*range(1, nr, step), *range(nr - LAST, nr + 1)}):
        end = family.restore(Faults(at=at, begin=BIRTH))
        when = f"killed at operation {at} of {nr}"
        assert end.code == KILLED, f"{when}: {end}"
        family.all_is_in(when)
        if family.settle(when):
            whole += 1
            family.untouched(when)
            family.finish(when)
        else:
            gone += 1
            assert not whole, f"{when}: gone, though an earlier end was past the commit"
            family.assert_none_left(when)
    assert gone and whole
