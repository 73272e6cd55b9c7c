"""The controller of a lazy restore is killed: nothing of the tree is left, nor of those who would
have brought its memory, or all of it runs and gets all of its memory.

`make test` takes a few operations, `make stress` all.
"""

from __future__ import annotations

from tests.fault.family import Family
from tests.fault.injection import eventually
from tests.support.case import Case
from tests.support.lazily import HOLDER, SERVER, SOCKET, named


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
    LazyFamily(case).kill_at_operations(few=8, last=4)
