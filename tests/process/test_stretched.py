"""Mappings that grow all the time are never seen in two parts by who lives in them: not while they
are registered, and not while that is taken back.

The oracle is the victim: mremap(2) over a border fails, and it says so (tests/victims/live).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from ckpt.mem.room import Listed
from ckpt.mem.tracking.engine import Mode
from ckpt.procfs.smaps import parse_smaps
from tests.support.case import Case
from tests.support.live import NOTHING, traces
from tests.support.programs import program
from tests.support.tracked import VARIANTS, Variant, tracked
from tests.support.victim import Victim

STRETCHER = program("live/stretcher")
NR_SETS = 3
UFFD_WP = 1 << 57
"""Of a word of pagemap: Documentation/admin-guide/mm/pagemap.rst."""


def shot(case: Case, victim: Victim, verb: str, number: int, *words: str) -> Path:
    """The set of this number, which builds on that of the number before if they are numbered."""
    images = case.folder / str(number)
    images.mkdir()
    case.ckpt.run(verb, "-t", victim.pid, "-D", images, *words).ok()
    return images


def restored(case: Case, victim: Victim, images: Path) -> None:
    case.ckpt.restore(images).ok()
    victim.finish()
    (victim.folder / "out").write_bytes(b"")


@pytest.mark.parametrize("catch", ["auto", "always"])
def test_live(case: Case, catch: str) -> None:
    victim = case.start(STRETCHER)
    words = ("--live=wp", f"--live-catch={catch}")
    sets = [shot(case, victim, "dump", number, *words) for number in range(NR_SETS)]
    assert traces(victim.pid) == NOTHING
    victim.finish()
    (victim.folder / "out").write_bytes(b"")
    for images in sets:
        restored(case, victim, images)


@pytest.mark.parametrize("mode", list(Mode))
def test_pre_dumps(case: Case, mode: Mode) -> None:
    victim = case.start(STRETCHER)
    for number in range(NR_SETS):
        parent = ("--prev-images-dir", f"../{number - 1}") if number else ()
        shot(case, victim, "pre-dump", number, f"--track-mode={mode}", *parent)
    last = shot(case, victim, "dump", NR_SETS, "--prev-images-dir", f"../{NR_SETS - 1}")
    victim.await_gone([victim.pid])
    restored(case, victim, last)


def test_chain_of_live_dumps(case: Case) -> None:
    """The userfaultfd goes from the keeper to the snapshot and back."""
    victim = case.start(STRETCHER)
    words = ("--live=wp", "--track-mem")
    shot(case, victim, "dump", 0, *words)
    for number in range(1, NR_SETS):
        shot(case, victim, "dump", number, *words, "--prev-images-dir", f"../{number - 1}")
    case.ckpt.run("untrack", victim.pid).ok()
    assert traces(victim.pid) == NOTHING
    victim.finish()
    (victim.folder / "out").write_bytes(b"")
    restored(case, victim, case.folder / str(NR_SETS - 1))


@pytest.mark.parametrize("mode", list(Mode))
def test_track(case: Case, mode: Mode) -> None:
    victim = case.start(STRETCHER)
    looks = ("--interval=0.02", "--count=30", "--json")
    case.ckpt.run("track", victim.pid, *looks, f"--track-mode={mode}").ok()
    assert traces(victim.pid) == NOTHING
    victim.finish()


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_nothing_is_left_to_the_end_of_the_descriptor(case: Case, variant: Variant) -> None:
    """Neither a registration nor a mark: who tracks next would take it for protection."""
    with tracked(case, variant) as t:
        t.steps.do("map 1 anon 64")
        t.steps.do("write 1 0 64")
        t.round(1)
        t.steps.do("write 1 8 8")
        start, end = t.steps.areas[1]
        words = _words(t.steps.pid, start, end)
        assert {bool(word & UFFD_WP) for word in words} == {False, True}
        assert _flags(t.steps.pid, start) & {"uw", "um"} == {"uw"}
        t.engine.release(Listed.standing(t.steps.mappings(1)))
        assert not any(word & UFFD_WP for word in _words(t.steps.pid, start, end))
        assert not _flags(t.steps.pid, start) & {"uw", "um"}
        t.steps.do("write 1 0 64")


def _words(pid: int, start: int, end: int) -> tuple[int, ...]:
    with Path(f"/proc/{pid}/pagemap").open("rb") as pagemap:
        pagemap.seek(start // 4096 * 8)
        raw = pagemap.read((end - start) // 4096 * 8)
    return tuple(memoryview(raw).cast("Q"))


def _flags(pid: int, addr: int) -> set[str]:
    smaps = parse_smaps(Path(f"/proc/{pid}/smaps").read_bytes())
    return next(set(one.flags) for one in smaps if addr in one.mapping.range)
