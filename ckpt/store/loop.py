"""Generation after generation of one tree, until it ends or we are ended.

Each goes: `.next` is made, a set is written there that builds on the newest generation, and one
rename makes it a generation (ckpt.store.generations). Then the store is thinned in the background.
A generation that fails is told and left out; only the first one ends us.
"""

from __future__ import annotations

import os
import select
import shutil
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ckpt.errors import CkptError, ImageError, TargetError, refused_by_kernel
from ckpt.images.reader import ImageSet
from ckpt.record import record
from ckpt.store.background import Thinning
from ckpt.store.generations import (
    NEXT,
    begin_next,
    generations,
    owned,
    publish,
    recover,
    steady,
)

if TYPE_CHECKING:
    from pathlib import Path

    from ckpt.report import Report
    from ckpt.store.generations import Generation


@record(frozen=True, kw_only=True)
class SnapshotOptions:
    """`directory` is the store. `every_s`: seconds from one generation to the next. `keep`: how
    many of the newest stay, at least. `count`: how many generations to make, None for no end."""

    pid: int
    directory: Path
    every_s: float
    keep: int
    count: int | None = None


@record(frozen=True)
class Shot:
    """What became of one dump. `instant_ms`: when, by the wall clock."""

    instant_ms: int
    frozen_us: int
    pages_written: int
    pages_in_parent: int


Take = Callable[["Path", str], Shot]
"""Dump the tree into a folder, building on the set at a path relative to it (empty for none).
Raises CkptError."""
Tell = Callable[["Generation", Shot], None]


@refused_by_kernel("the series can't go on")
def snapshot(options: SnapshotOptions, take: Take, tell: Tell, report: Report) -> None:
    """Make generations. Returns when `count` are made, or the tree has ended.

    Raises ImageError and KernelError where the store can't be used, TargetError if there is no such
    task, and what the first dump raises. However it ends, the store holds generations alone.
    """
    try:
        pidfd = os.pidfd_open(options.pid)
    except OSError as error:
        raise TargetError("there is no such process", pid=options.pid) from error
    try:
        with owned(options.directory):
            recover(options.directory)
            _must_be_of(options)
            _Series(options, take, tell, report, pidfd).run()
    finally:
        os.close(pidfd)


def _must_be_of(options: SnapshotOptions) -> None:
    """One store is of one tree: who asks for an instant should not get another tree."""
    for newest in generations(options.directory)[-1:]:
        with ImageSet(newest.path, verify=False) as images:
            tasks = images.read("pstree") if images.exists("pstree") else []
        if tasks and tasks[0].pid != options.pid:
            raise ImageError(
                f"holds generations of another tree, pid {tasks[0].pid}",
                resource=str(options.directory),
                hint="a folder of its own for each tree",
            )


class _Series:
    def __init__(
        self, options: SnapshotOptions, take: Take, tell: Tell, report: Report, pidfd: int
    ) -> None:
        self._options = options
        self._store = options.directory
        self._take = take
        self._tell = tell
        self._report = report
        self._pidfd = pidfd
        self._thinning = Thinning(self._store, options.keep, report)

    def run(self) -> None:
        nr = 0
        at = time.monotonic()
        try:
            while self._options.count is None or nr < self._options.count:
                if self._ended(at - time.monotonic()):
                    break
                nr += self._generation(first=not nr)
                at = max(at + self._options.every_s, time.monotonic())
            self._thinning.finish()
            # The last generation may have come while it worked.
            self._thinning.start()
            self._thinning.finish()
        finally:
            self._thinning.stop()
            recover(self._store)

    def _ended(self, wait_s: float) -> bool:
        """Whether the root has ended, looked at for `wait_s` seconds."""
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(max(0, round(wait_s * 1000))))

    def _generation(self, *, first: bool) -> bool:
        try:
            made, shot = self._make()
        except CkptError as error:
            shutil.rmtree(self._store / NEXT, ignore_errors=True)
            if first:
                raise
            if not self._ended(0):
                self._report.warn(f"this generation is left out: {error}")
            return False
        self._tell(made, shot)
        self._thinning.start()
        return True

    def _make(self) -> tuple[Generation, Shot]:
        before = generations(self._store)
        prev, number = (f"../{before[-1].name}", before[-1].number + 1) if before else ("", 1)
        folder = begin_next(self._store)
        # Nobody moves the sets that this one builds on.
        with steady(self._store):
            shot = self._take(folder, prev)
        instant_ms = max(shot.instant_ms, before[-1].instant_ms if before else 0)
        return publish(self._store, number, instant_ms), shot
