"""One operation of a restore fails: every operation in turn, entries of batches included.

The restore is then an error of a kind that ckpt(1) lists, and nothing is left of the tree; or it
was one that a restore can do without, and the tree is whole. `make test` takes a few.
"""

from __future__ import annotations

import errno
import os

import pytest

from tests.fault.family import Family
from tests.fault.injection import End, Faults, nr_operations
from tests.support.case import Case

STRESS = bool(os.environ.get("CKPT_STRESS"))
FEW = 25
USAGE, REFUSED, TARGET, IMAGE, RESTORE, KERNEL, DEADLINE = 2, 3, 4, 5, 6, 7, 8
KINDS = (USAGE, TARGET, IMAGE, RESTORE, KERNEL, DEADLINE)


def assert_clear(end: End, when: str, kinds: tuple[int, ...] = KINDS) -> None:
    """A kind of its own and a message, no stack."""
    assert end.code in kinds, f"{when}: {end}"
    errors = [line for line in end.said.splitlines() if "Error (" in line]
    assert errors, f"{when}: {end}"
    assert "Traceback" not in end.said, f"{when}: {end}"


@pytest.mark.parametrize("code", [errno.ENOMEM, errno.EIO], ids=["ENOMEM", "EIO"])
def test_every_operation_fails(case: Case, code: int) -> None:
    family = Family(case)
    nr = nr_operations([*family.argv, "-v4"], family.log, code=code)
    family.learn()
    family.finish("without faults")
    assert nr > 300, nr
    failed = 0
    for at in range(1, nr + 1, 1 if STRESS else nr // FEW):
        end = family.restore(Faults(at=at, code=code))
        when = f"operation {at} of {nr}"
        if end.code == 0:
            assert family.settle(when), f"{when}: {end}"
            family.finish(when)
        else:
            failed += 1
            assert_clear(end, when)
            family.assert_none_left(when)
    assert failed
    family.whole_restore("after all")
