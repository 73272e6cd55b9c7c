"""What an infection leaves of private pages behind code is content for every later dump: as the
target has it, and not as it was while the stub stood there."""

from __future__ import annotations

import os

import pytest

from tests.property.set_contents import pages_of
from tests.support.case import Case
from tests.support.machine import PAGE, mappings
from tests.support.programs import program

DUMPS = {
    "dumps": (("dump", "--leave-running"), ()),
    "pre-dump": (("pre-dump",), ()),
    "live": (("dump", "--leave-running"), ("--live",)),
}


def ends_of_code(pid: int) -> dict[int, bytes]:
    """The last page of each mapping of code, by its number."""
    lfd = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
    try:
        return {
            m.end // PAGE - 1: os.pread(lfd, PAGE, m.end - PAGE)
            for m in mappings(pid)
            if m.access == "r-xp" and m.path.startswith("/")
        }
    finally:
        os.close(lfd)


@pytest.mark.parametrize(("first", "second"), DUMPS.values(), ids=DUMPS.keys())
def test_the_stub_is_in_no_image(
    case: Case, first: tuple[str, ...], second: tuple[str, ...]
) -> None:
    victim = case.start(program("tree/threads_and_children"))
    pids = victim.tree
    before = {pid: ends_of_code(pid) for pid in pids}
    below = case.folder / "below"
    below.mkdir()
    case.ckpt.run(first[0], "-t", victim.pid, "-D", below, *first[1:]).ok()
    case.ckpt.dump(victim.pid, case.images, *second).ok()
    found = {pid: dict(pages_of(case.images, pid)) for pid in pids}
    assert any(before[pid].keys() & found[pid].keys() for pid in pids), "nothing was copied"
    for pid in pids:
        for number in before[pid].keys() & found[pid].keys():
            assert found[pid][number] == before[pid][number], f"pid {pid} page {number:#x}"
    if not second:
        victim.await_gone(pids)
        case.ckpt.restore(case.images).ok()
    assert {pid: ends_of_code(pid) for pid in pids} == before
    victim.finish()
