"""`ckpt dump --live=fork`: what a fork does not copy, chains, ends of the copy and of ckpt."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ckpt.cli.live import _outgrown
from ckpt.dump.options import DumpOptions
from ckpt.dump.run import dump
from ckpt.errors import NotOneInstant
from ckpt.live.choose import LONG_MS, SHORT_MS, fork_ms, pick
from ckpt.live.fork import Fork, pays
from ckpt.mem.tracking.engine import Mode
from ckpt.record import replace
from ckpt.report import Report
from tests.fault.injection import Faults, nr_operations, run
from tests.support import processes, visible
from tests.support.copies import copies, soon, untouched
from tests.support.programs import program

if TYPE_CHECKING:
    from tests.support.case import Case
    from tests.support.victim import Victim

STRESS = bool(os.environ.get("CKPT_STRESS"))
GIB = 1 << 18
"""In pages."""


def live_dump(case: Case, victim: Victim, images: Path, *options: str) -> dict[str, Any]:
    images.mkdir()
    done = case.ckpt.run("dump", "-t", victim.pid, "-D", images, "--live=fork", "--json", *options)
    said: dict[str, Any] = json.loads(done.ok().stdout)
    assert said["live"]["engine"] == "fork"
    return said


def test_what_a_fork_does_not_copy(case: Case) -> None:
    victim = case.start(program("live/withheld"))
    said = live_dump(case, victim, case.images)
    assert said["live"]["swept_pages"] >= 1024, "by the copy"
    assert said["frozen_pages"] >= 2 * 1024, "while it stood"
    assert not copies()
    victim.kill()
    case.ckpt.restore(case.images).ok()
    victim.finish()


def test_a_chain(case: Case) -> None:
    """Tracked asynchronously, too; what is little is copied without a fork."""
    victim = case.start(program("chain/ledger"))
    sets = [case.folder / name for name in "abc"]
    said = [live_dump(case, victim, sets[0], "--track-mem")]
    for step in (1, 2):
        victim.expect_ready()
        victim.go(f"step{step}")
        victim.wait_ready()
        above = ("--track-mem", "--prev-images-dir", f"../{sets[step - 1].name}")
        said.append(live_dump(case, victim, sets[step], *above))
    assert said[0]["live"]["swept_pages"] > 2000
    assert said[1]["pages_skipped_parent"] > 1500
    assert not said[2]["live"]["swept_pages"]
    case.ckpt.run("untrack", victim.pid).ok()
    victim.kill()
    case.ckpt.restore(sets[2]).ok()
    for step in (3, 4):
        victim.expect_ready()
        victim.go(f"step{step}")
        victim.wait_ready()
    victim.finish()


def test_the_copy_is_killed(case: Case) -> None:
    """There is no set then, and the target runs on."""
    victim = case.start(program("fault/childless", "all"))
    before = visible.look(victim.pid, exact=True)

    class Killed(Fork):
        def deliver(self, report: Report) -> None:
            for pid in copies():
                os.kill(pid, signal.SIGKILL)
                processes.wait_end(pid)
            super().deliver(report)

    case.images.mkdir()
    options = DumpOptions(
        tree=victim.pid, images_dir=case.images, work_dir=case.folder, leave_running=True
    )
    with pytest.raises(NotOneInstant, match="the copy has ended"):
        dump(options, Report(), Killed)
    assert not list(case.images.iterdir())
    visible.assert_same(before, visible.look(victim.pid, exact=True))
    victim.finish()


def test_killed_at_operations(case: Case) -> None:
    victim = case.start(program("fault/childless", "ordinary", "subreaper"))
    before = visible.look(victim.pid, exact=True)
    case.images.mkdir()
    log = case.folder / "controller.log"
    words = ["-t", str(victim.pid), "-D", str(case.images), "-W", str(case.folder)]
    argv = ["dump", *words, "--live=fork"]
    nr = nr_operations(argv, log, code=0)
    assert nr > 100, nr
    for at in range(1, nr, 1 if STRESS else nr // 12):
        for path in case.images.iterdir():
            path.unlink()
        killed = run(argv, Faults(at=at), log)
        fewer = killed.code == 0 and killed.passed < at  # than the first time: it looked less often
        assert killed.code == -signal.SIGKILL or fewer, f"operation {at} of {nr}: {killed}"
        assert soon(lambda: untouched(victim, before)), f"{at} of {nr}"
        assert soon(lambda: not copies()), f"{at} of {nr}"
    victim.finish()


def test_which_engine(case: Case) -> None:
    victim = case.start(program("fault/childless", "all"))
    assert 0 < fork_ms(victim.pid) < SHORT_MS
    assert fork_ms(1 << 22) == 0
    assert pick("auto", [victim.pid], tracked=None) == "fork"
    for tracked in (None, Mode.SYNC):
        assert pick("auto", [victim.pid] * 100, tracked=tracked) == "wp"
    assert pick("auto", [victim.pid] * 100, tracked=Mode.ASYNC) == "fork"
    assert pick("wp", [], tracked=None) == "wp"
    assert pays(GIB, GIB)
    assert pays(GIB // 10, GIB)
    assert not pays(GIB // 100, GIB)
    assert not pays(100, 100)
    victim.finish()


def test_a_tree_that_has_outgrown_forks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its chain begins anew, unless somebody has said how."""
    monkeypatch.setattr("ckpt.cli.live.wp_can", lambda _: True)
    here = Path()
    options = DumpOptions(tree=1, images_dir=here, work_dir=here, live="auto", track_mem=True)
    for pause_ms, outgrown in ((LONG_MS, False), (LONG_MS + 1, True)):
        monkeypatch.setattr("ckpt.cli.live.pause_ms", lambda _, it=pause_ms: it)
        assert _outgrown(options, [1], Mode.ASYNC) is outgrown
    assert not _outgrown(options, [1], Mode.SYNC)
    assert not _outgrown(options, [1], None)
    for kept in (replace(options, live="fork"), replace(options, track_mode="async")):
        assert not _outgrown(kept, [1], Mode.ASYNC)
