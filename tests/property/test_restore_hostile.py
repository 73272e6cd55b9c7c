"""A hostile image set: the plan of its restore is made or an error says why not, in bounded time
and memory; a restore of it fails and leaves nothing, or is whole."""

from __future__ import annotations

import os
import random
import resource
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ckpt.errors import CkptError
from ckpt.report import Report
from tests.fault.family import Family
from tests.fault.injection import Faults, run
from tests.fault.test_restore_fails import assert_clear
from tests.support.case import fresh_case
from tests.support.hostile import blow, laid_out

STRESS = bool(os.environ.get("CKPT_STRESS"))
PLANS = 5000 if STRESS else 60
RESTORES = 400 if STRESS else 12
ROOM = 2 << 30
PLAN_S = 5
"""Of processor time: the machine may be busy."""


class Originals:
    """The set of a real dump: small files by name, and pages."""

    def __init__(self, family: Family) -> None:
        self.family = family
        self.files, self.pages = {}, {}
        for path in family.case.images.iterdir():
            if path.name.startswith("pages-"):
                self.pages[path.name] = path
            elif path.name not in ("ckpt-checksums.img", "stats-dump"):
                self.files[path.name] = path.read_bytes()

    def hostile(self, seed: int) -> tuple[Path, str]:
        """A set with one to three lies, and what they are."""
        chance = random.Random(seed)
        files = dict(self.files)
        told = [blow(chance, files) for _ in range(chance.choice((1, 1, 2, 3)))]
        folder = Path(mkdtemp(dir=self.family.case.folder)) / "set"
        laid_out(files, self.pages, folder)
        return folder, f"seed {seed}: {told}"


@pytest.fixture(scope="module")
def originals(built: Path) -> Iterator[Originals]:
    with fresh_case(built) as case:
        yield Originals(Family(case))


def plan(folder: Path) -> list[str]:
    """The plan's lines. Within ROOM of memory."""
    from ckpt.restore.options import RestoreOptions
    from ckpt.restore.run import restore

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + ROOM, limits[1]))
    try:
        return restore(
            RestoreOptions(images_dir=folder, work_dir=folder.parent, dry_run=True), Report()
        ).plan
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def check_plan(originals: Originals, seed: int) -> None:
    folder, told = originals.hostile(seed)
    lfds = os.listdir("/proc/self/fd")
    began = time.process_time()
    try:
        assert plan(folder), told
    except CkptError as error:
        assert str(error), told
    except Exception as error:
        raise AssertionError(f"{told}: {error!r}") from error
    finally:
        shutil.rmtree(folder.parent)
    assert time.process_time() - began < PLAN_S, told
    assert os.listdir("/proc/self/fd") == lfds, f"{told}: descriptors of ours"


@settings(max_examples=PLANS)
@given(seed=st.integers(0, 1 << 32))
@example(seed=129421)  # a path that is not UTF-8
def test_plan_of_a_hostile_set(originals: Originals, seed: int) -> None:
    check_plan(originals, seed)


@pytest.mark.timeout(3600 if STRESS else 300)
def test_restore_of_a_hostile_set(originals: Originals) -> None:
    family = originals.family
    ends = set()
    for seed in range(RESTORES):
        folder, told = originals.hostile(seed)
        argv = ["restore", "-D", str(folder), "-W", str(folder.parent), "-d", "-v4"]
        end = run(argv, Faults(), family.log, room=ROOM)
        ends.add(end.code == 0)
        if end.code:
            assert_clear(end, told)
            family.assert_none_left(told)
        family.clear()
        shutil.rmtree(folder.parent)
    assert ends == {True, False}
    family.whole_restore("after all")
