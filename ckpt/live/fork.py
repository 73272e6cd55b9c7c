"""A copy of each task: the engine `--live=fork`.

1. While the tree stands, each task is copied by a fork of which it sees nothing (ckpt.infect.fork).
   The kernel copies the page tables, and from then on each page that is written to.
2. The tree runs. The memory of the copies, which do nothing, is written out at leisure.
3. The copies end.

It needs nothing of the kernel that not every kernel has, and goes together with tracking. The pause
grows with the memory, and so does what a tree that writes much takes beside itself. Where to copy
the pages takes less time than a fork (a dump that builds on another has few), they are left to the
dump, which copies them while the tree stands; so is what a fork does not copy (MADV_DONTFORK,
MADV_WIPEONFORK), what the copy can lose (pages of files, which may be truncated), and everything of
a task that can't be copied, with a warning.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from ckpt.errors import KernelError, NotOneInstant, TargetError
from ckpt.infect.fork import copy_of
from ckpt.live.figures import Figures
from ckpt.mem.extents import Extents
from ckpt.mem.transfer import copy_placed
from ckpt.procfs.reader import ProcDir
from ckpt.record import record
from ckpt.report import Report
from ckpt.units import PAGE

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from ckpt.infect.fork import Copy
    from ckpt.infect.session import Session
    from ckpt.mem.tracking.client import Keeper
    from ckpt.mem.tracking.engine import Mode
    from ckpt.mem.tracking.state import Answer
    from ckpt.mem.transfer import Content
    from ckpt.procfs.maps import Mapping
    from ckpt.procfs.smaps import Smap
    from ckpt.tracee.freeze import SeizedTree

FIXED_MS = 1.0
FORK_MS_PER_GIB = 18.0
COPY_MS_PER_GIB = 590.0
"""Measured: a fork that is injected, its page tables, and process_vm_readv(2) with write(2)."""


@record
class _Copied:
    """`pages` of `content` are to be written from `copy` into `pages_lfd`."""

    copy: Copy
    content: Content
    pages: Extents
    pages_lfd: int


class Fork:
    """One snapshot."""

    name = "fork"

    def __init__(self) -> None:
        self._copied: list[_Copied] = []
        self._report = Report()
        self._nr_pages = self._peak_bytes = 0
        self._begun_ns = self._ended_ns = 0

    def goes_with(self, mode: Mode) -> bool:
        """With any: it takes no userfaultfd."""
        del mode
        return True

    def prepare(self, pids: Sequence[int], report: Report, keeper: Keeper | None) -> None:
        """Nothing needs time beforehand."""
        del pids, keeper
        self._report = report

    def prepared(self) -> Collection[int]:
        return ()

    def find(self, pid: int, mappings: Sequence[Mapping]) -> None:
        del pid, mappings
        return

    def borrowed(self) -> Collection[int]:
        return ()

    def answer(self, pid: int) -> Answer | None:
        """The keeper has to be asked."""
        del pid
        return None

    def cover(self, pid: int, content: Content, pages_lfd: int) -> Extents:
        """Nothing: a fork needs the task's help."""
        del pid, content, pages_lfd
        return Extents.none()

    def enter(
        self, pid: int, session: Session, content: Content, pages_lfd: int, withheld: Extents
    ) -> Extents:
        wanted = (content.direct | content.hidden) - withheld
        if not pays(wanted.nr_pages, content.all_pages().nr_pages):
            return Extents.none()
        if session.only is not None:
            self._report.warn(f"pid {pid}: copied while it stands: it is under seccomp")
            return Extents.none()
        try:
            copy = copy_of(session)
        except (KernelError, TargetError) as error:
            self._report.warn(f"pid {pid}: copied while it stands: {error}")
            return Extents.none()
        self._copied.append(_Copied(copy, content, wanted, pages_lfd))
        return wanted

    def find_shared(self, ino: int, mapped: Sequence[tuple[int, Smap]]) -> Extents | None:
        """None: a copy shares it as well."""
        del ino, mapped
        return None

    def cover_shared(self, ino: int, pages_lfd: int) -> Extents:
        raise NotImplementedError

    def run_with(self, tree: SeizedTree, report: Report, resumed: Callable[[], None]) -> None:
        """The copies need nothing of the tree: it is let go of at once."""
        del tree, report, resumed
        self._begun_ns = time.monotonic_ns()

    def deliver(self, report: Report) -> None:
        """Raises NotOneInstant where a copy has ended, OSError where pages can't be written."""
        report.stage("live")
        for one in self._copied:
            _write(one)
            self._nr_pages += one.pages.nr_pages
            self._peak_bytes += _private_bytes(one.copy.pid)
            one.copy.close()
        self._ended_ns = time.monotonic_ns()

    def figures(self) -> Figures:
        return Figures(
            engine=self.name,
            nr_rounds=0,
            nr_faults=0,
            fault_pages=0,
            swept_pages=self._nr_pages,
            saved_pages=0,
            peak_bytes=self._peak_bytes,
            shared_pages=0,
            table_bytes=0,
            sweep_us=(self._ended_ns - self._begun_ns) // 1000,
        )

    def close(self) -> None:
        while self._copied:
            self._copied.pop().copy.close()


def pays(nr_wanted: int, nr_all: int) -> bool:
    """Whether a fork of a task with `nr_all` pages takes less time than to copy `nr_wanted`."""
    return COPY_MS_PER_GIB * _gib(nr_wanted) > FIXED_MS + FORK_MS_PER_GIB * _gib(nr_all)


def _gib(nr_pages: int) -> float:
    return nr_pages * PAGE / (1 << 30)


def _write(one: _Copied) -> None:
    try:
        with ProcDir(one.copy.pid) as proc:
            mem = proc.open("mem", os.O_RDONLY)
        try:
            copy_placed(mem, one.content, one.pages, {}, one.pages_lfd)
        finally:
            os.close(mem)
    except (TargetError, OSError) as error:
        if one.copy.lives():
            raise
        raise NotOneInstant("the copy has ended", pid=one.copy.pid, why=str(error)) from error


def _private_bytes(pid: int) -> int:
    """What the copy has of its own: pages that the task has written to since."""
    total = 0
    with suppress(TargetError), ProcDir(pid) as proc:
        for line in proc.read("smaps_rollup").splitlines():
            if line.startswith((b"Private_Clean:", b"Private_Dirty:")):
                total += int(line.split()[1]) << 10
    return total
