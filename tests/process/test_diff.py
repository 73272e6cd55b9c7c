"""What `ckpt diff` tells of two dumps of a victim, against what that says it has changed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from ckpt.mem.extents import Extents
from tests.support.tracked import steps

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.case import Case
    from tests.support.tracked import Steps


def dumped(case: Case, victim: Steps, name: str, *options: str) -> Path:
    images = case.folder / name
    case.ckpt.dump(victim.pid, images, "--leave-running", *options).ok()
    return images


def area_of(case: Case, victim: Steps, area: int, a: Path, b: Path) -> int:
    """How many pages of that area differ."""
    found: Any = json.loads(case.ckpt.run("diff", a, b, "--json").ok().stdout)
    (task,) = found["tasks"]
    start, end = victim.areas[area]
    rows = [row for row in task["mappings"] if row["start"] < end and start < row["end"]]
    return sum(row["changed"] + row["only_a"] + row["only_b"] for row in rows)


@pytest.mark.parametrize("chained", [False, True], ids=["apart", "chain"])
def test_what_the_victim_has_changed(case: Case, chained: bool) -> None:
    """Sets that stand alone, and sets of one chain."""
    with steps(case) as victim:
        victim.do("map 1 anon 512")
        victim.do("write 1 0 400")
        track = ("--track-mem",) if chained else ()
        sets = [dumped(case, victim, "0", *track)]
        record = Extents.none()
        for number, todo in enumerate(("write 1 3 5", "write 1 390 40", "advise 1 0 2 dontneed")):
            record |= victim.do(todo)
            if "dontneed" in todo:
                record |= victim.pages(1, 0, 2)
            build = (*track, "--prev-images-dir", f"../{number}") if chained else ()
            sets.append(dumped(case, victim, str(number + 1), *build))
        assert area_of(case, victim, 1, sets[0], sets[3]) == record.nr_pages
        assert area_of(case, victim, 1, sets[1], sets[2]) == 40
        assert not area_of(case, victim, 1, sets[3], sets[3])
        if chained:
            case.ckpt.run("untrack", victim.pid).ok()
        victim.quit()
