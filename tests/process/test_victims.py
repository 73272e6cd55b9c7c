"""Every victim three times: undisturbed, dumped and left running, dumped and restored."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import visible
from tests.support.case import Case
from tests.support.programs import Program, programs

ROOMS = ("task", "time", "tree", "memory", "files")
DRIVEN_ELSEWHERE = (
    *("refused", "moving", "outside", "bench", "fault", "seized", "chain", "crossing", "keeper"),
    *("tracked", "cgroups", "lazy", "live", "migrate", "topology", "vdso", "huge", "calls"),
    "traffic",
)
VICTIMS = {f"{p.source.parent.name}-{p.name}": p for p in programs(*ROOMS)}


@pytest.fixture(params=VICTIMS)
def program(request: pytest.FixtureRequest) -> Program:
    return VICTIMS[request.param]


def test_undisturbed(case: Case, program: Program) -> None:
    """The victim's own checks hold when nobody touches it: else it proves nothing."""
    case.start(program).finish()


def test_leave_running(case: Case, program: Program) -> None:
    """A dump that leaves the target running changes nothing that can be seen of it."""
    victim = case.start(program)
    before = visible.look(victim.pid, exact=True)
    case.ckpt.dump(victim.pid, case.images, "--leave-running", *program.words("dump")).ok()
    visible.assert_same(before, visible.look(victim.pid, exact=True))
    victim.finish()


def test_dump_and_restore(case: Case, program: Program) -> None:
    """Killed by the dump, built anew by the restore: it looks the same and goes on."""
    victim = case.start(program)
    for _ in range(program.cycles):
        case.dump_and_restore(
            victim, program.words("dump"), program.words("restore"), program.differs
        )
    victim.finish()


def test_every_victim_of_every_room_is_found() -> None:
    here = Path(__file__).resolve().parent.parent / "victims"
    assert {path.name for path in here.iterdir() if path.is_dir()} == {*ROOMS, *DRIVEN_ELSEWHERE}
