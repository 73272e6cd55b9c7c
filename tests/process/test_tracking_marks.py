"""Marks of write protection that are not where the engine has put them."""

from __future__ import annotations

import pytest

from ckpt.mem.extents import Extents
from tests.support.case import Case
from tests.support.tracked import VARIANTS, tracked


def test_marks_that_moved_along(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels before 6.13 leave marks in pages that mremap(2) moves, which say that nobody has
    written them. Such a kernel is played here: its scan finds nothing written. The synchronous
    engine can't tell (ckpt.mem.tracking.engine)."""
    with tracked(case, VARIANTS[0]) as t:
        t.step("map 1 anon 64")
        t.step("write 1 0 64")
        t.step("map 2 anon 64")
        t.step("write 2 0 64")
        scan = t.engine._scan

        def scan_marks(ranges: Extents, how: int) -> tuple[Extents, Extents]:
            return Extents.none(), scan(ranges, how)[1]

        record = t.steps.do("move 1 2") & t.steps.mappings(2)
        assert record.nr_pages == 64
        monkeypatch.setattr(t.engine, "_scan", scan_marks)
        t.demand(t.round(2), record)
        assert not t.round(2).written
        monkeypatch.undo()
