"""Live dumps of trees whose processes share memory: it is armed in every one of them, and the image
is of one instant.

Oracle: the victim's own books (tests/victims/live/bank.c), which no torn image would balance.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.support.case import Case
from tests.support.live import NOTHING, check_beside, traces
from tests.support.processes import children
from tests.support.programs import program
from tests.support.victim import Victim

NR_STRESS = int(os.environ.get("CKPT_LIVE_SNAPSHOTS", "200"))
STRESS = bool(os.environ.get("CKPT_STRESS"))
ALL_WAYS = ("WRITE", "BEAR", "PUNCH", "MEMFD", "PLAIN")
WAYS = ALL_WAYS if STRESS else ALL_WAYS[:3]


def snapshot(case: Case, victim: Victim, number: int, *options: str) -> tuple[Path, dict[str, int]]:
    """Where it is, and its figures."""
    images = case.folder / f"live{number}"
    images.mkdir()
    done = case.ckpt.run(
        "dump", "-t", victim.pid, "-D", images, "--live=wp", "--json", *options
    ).ok()
    figures = json.loads(done.stdout)
    return images, {"shpages": figures["shpages_written"], **figures["live"]}


@pytest.mark.parametrize("how", WAYS)
def test_one_instant(case: Case, how: str) -> None:
    victim = case.start(program("live/bank", how))
    images, figures = snapshot(case, victim, 1)
    assert all(traces(pid) == NOTHING for pid in (victim.pid, *children(victim.pid)))
    check_beside(case, victim, images)
    # What can be written to by write(2) is copied while the tree stands.
    assert figures["shared_pages"] == (0 if how == "WRITE" else figures["shpages"])
    victim.finish()


def test_whoever_is_outside(case: Case) -> None:
    """What the parent of the tree maps as well is copied while the tree stands."""
    victim = case.start(program("live/bank", "PLAIN"))
    teller = children(victim.pid)[0]
    images = case.folder / "live"
    images.mkdir()
    done = case.ckpt.run("dump", "-t", teller, "-D", images, "--live=wp", "-j").ok()
    assert "is copied while the tree stands" in done.log
    assert traces(teller) == NOTHING
    victim.finish()


@pytest.mark.stress
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("how", ALL_WAYS)
def test_many_instants(case: Case, how: str) -> None:
    """Each restored beside the original, which never stops."""
    victim = case.start(program("live/bank", how))
    for number in range(NR_STRESS):
        images, _ = snapshot(case, victim, number)
        check_beside(case, victim, images)
        shutil.rmtree(images)
        shutil.rmtree(images.with_name(f"{images.name}-copy"))
    victim.finish()
