"""The controller of a restore is killed at every operation, from the birth of the root to the end:
nothing of the tree is left, or all of it runs, and the image set serves again.

`make test` takes every so many-th operation, and all of the last ones; `make stress` all.
"""

from __future__ import annotations

from tests.fault.family import Family
from tests.support.case import Case


def test_killed_at_every_operation(case: Case) -> None:
    family = Family(case)
    family.kill_at_operations(few=20, last=12)
    family.whole_restore("after all")
