"""One operation of a dump fails, the disk is full, a signal ends it: the target runs on as it did,
and the images folder holds nothing new. `make test` takes a few operations, `make stress` all.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fault.injection import Faults, eventually, nr_operations, run
from tests.fault.test_restore_fails import KINDS, REFUSED, assert_clear
from tests.support import visible
from tests.support.case import Case
from tests.support.programs import program
from tests.support.victim import Victim

STRESS = bool(os.environ.get("CKPT_STRESS"))
FEW = 25
IMAGE = 5


class Target:
    """A running tests/victims/fault/family.c and where it is dumped to."""

    def __init__(self, case: Case, name: str = "fault/family", *args: str) -> None:
        self.case = case
        self.victim: Victim = case.start(program(name, *args))
        self.before = visible.look(self.victim.pid, exact=True)
        self.lfds = os.listdir("/proc/self/fd")
        case.images.mkdir()

    def argv(self, *options: str) -> list[str]:
        fixed = ["-t", str(self.victim.pid), "-D", str(self.case.images), "-v4"]
        return ["dump", *fixed, "-W", str(self.case.folder), *options]

    @property
    def log(self) -> Path:
        return self.case.folder / "controller.log"

    def assert_unharmed(self, when: str) -> None:
        """At once or soon: a thread that was left in the stub comes home by itself."""
        if not eventually(lambda: visible.looks_as(self.before, self.victim.pid)):
            visible.assert_same(self.before, visible.look(self.victim.pid, exact=True))
        assert os.listdir("/proc/self/fd") == self.lfds, f"{when}: descriptors of ours"

    def assert_no_images(self, when: str) -> None:
        held = os.listdir(self.case.images)
        assert not held, f"{when}: the folder holds {held}"

    def clear(self) -> None:
        for path in self.case.images.iterdir():
            path.unlink()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO], ids=["ENOSPC", "EIO"])
def test_every_operation_fails(case: Case, code: int) -> None:
    target = Target(case)
    argv = target.argv("-R")
    nr = nr_operations(argv, target.log, code=code)
    target.assert_unharmed("without faults")
    target.clear()
    assert nr > 200, nr
    failed = 0
    for at in range(1, nr + 1, 1 if STRESS else nr // FEW):
        end = run(argv, Faults(at=at, code=code), target.log)
        when = f"operation {at} of {nr}"
        if end.code == 0:
            assert (case.images / "inventory.img").exists(), when
        else:
            failed += 1
            # What can't be looked for is not found, and a dump refuses what it does not find.
            assert_clear(end, when, (REFUSED, *KINDS))
            target.assert_no_images(when)
        target.assert_unharmed(when)
        target.clear()
    assert failed
    target.victim.finish()


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """A tmpfs on `folder` for the scope."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("size", ["4k", "64k", "256k", "1m"])
def test_disk_full(case: Case, size: str) -> None:
    target = Target(case, "memory/private")
    with small_disk(case.images, size):
        end = run(target.argv(), Faults(), target.log)
        assert_clear(end, size)
        assert "space" in end.said.lower(), str(end)
        target.assert_no_images(size)
    target.assert_unharmed(size)
    target.victim.finish()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_at_operations(case: Case, number: signal.Signals) -> None:
    """The signal comes just before an operation, while the target may stand still."""
    target = Target(case)
    argv = target.argv("-R")
    nr = nr_operations(argv, target.log, code=-number)
    target.clear()
    ended = 0
    for at in range(1, nr + 1, 1 if STRESS else nr // 10):
        end = run(argv, Faults(at=at, code=-number), target.log)
        when = f"{number.name} at operation {at} of {nr}"
        if end.code != 0:
            ended += 1
            assert end.code == 128 + number, f"{when}: {end}"
            if not (case.images / "inventory.img").exists():  # it came too late to undo
                target.assert_no_images(when)
        target.assert_unharmed(when)
        target.clear()
    assert ended
    target.victim.finish()
