"""Copy before write: the engine `--live=wp`.

1. Each task is stopped by itself, for a millisecond, to make a userfaultfd in it. Its memory is
   then protected while it runs; a fault in this phase only takes the protection of the page.
2. What was written meanwhile is protected again, until that is little (1 and 2: ckpt.live.arm).
3. The tree stands. What has been written since the last round is found from the page tables,
   protected, and looked at again: what is not protected then is left to the dump, which copies it
   while the tree stands. Among that are the private pages of files and whatever the kernel does
   not let us register.
4. The tree runs, still seized (ckpt.live.watch). A page is copied out before it loses its
   protection: for the thread that wants to write to it, or when the sweep comes to it.
5. Registrations are taken back, mapping by mapping.

The server of the faults runs through all of it: a thread inside of a kernel's copy to user memory
can't stand before it was served.

Shared memory goes the same way, object by object (ckpt.live.shared).

Where writes are tracked, private memory is not armed anew, and nothing of it taken back: its keeper
lends what it has (ckpt.live.loan), and only what was written since the set before is protected, and
copied.

Not guaranteed: a task born between 1 and 3 is copied while it stands.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from ckpt.errors import CkptError, KernelError, TargetError
from ckpt.kerndat import tracking
from ckpt.live.arm import Armed, refuse_pinned
from ckpt.live.figures import Figures, Found
from ckpt.live.server import Server
from ckpt.live.shared import Shared
from ckpt.live.space import anonymous
from ckpt.live.watch import Watch
from ckpt.mem.extents import Extents
from ckpt.mem.tracking.engine import Mode
from ckpt.mem.vma import trackable
from ckpt.report import Report

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from ckpt.infect.session import Session
    from ckpt.mem.tracking.client import Keeper
    from ckpt.mem.tracking.state import Answer
    from ckpt.mem.transfer import Content
    from ckpt.procfs.maps import Mapping
    from ckpt.procfs.smaps import Smap
    from ckpt.tracee.freeze import SeizedTree


class WriteProtect:
    """One snapshot. `room`: bytes of buffers; `percent`: how much of the time the sweep works;
    `calls`: whether calls that take memory away are caught before they are made. That slows every
    system call of the tree, so None means: if such calls were seen while memory was armed."""

    name = "wp"

    def __init__(self, *, room: int, percent: int = 100, calls: bool | None = None) -> None:
        self._server: Server | None = None
        self._shared: Shared | None = None
        self._armed: Armed | None = None
        self._room = room
        self._percent = percent
        self._calls = calls
        self._keeper: Keeper | None = None
        self._report = Report()
        self._written: dict[int, Extents] = {}
        self._anonymous: dict[int, Extents] = {}
        self._begun_ns = self._ended_ns = 0

    def goes_with(self, mode: Mode) -> bool:
        """With the engine whose userfaultfd can be lent."""
        return mode is Mode.SYNC

    def prepare(self, pids: Sequence[int], report: Report, keeper: Keeper | None) -> None:
        """Arm what the tasks have, while they run. Raises RefusedError (AIO), KernelError
        (no write protection here)."""
        self._report = report
        for probe in (tracking.uffd_wp, tracking.pagemap_scan):
            found = probe.run()
            if not found.supported:
                why = f"{probe.name}: {found.detail or 'missing'}"
                raise KernelError("no write protection", why=why, hint="--live=fork")
        refuse_pinned(pids)
        self._server = Server(self._room)
        self._shared = Shared(self._server, self._room, report)
        self._keeper = keeper
        self._armed = Armed(self._server, self._shared, report, keeper)
        self._armed.begin(pids)

    def prepared(self) -> Collection[int]:
        if self._armed is None or self._shared is None:
            return ()
        return self._armed.spaces.keys() | self._shared.inherited

    def find(self, pid: int, mappings: Sequence[Mapping]) -> Found | None:
        """Only what may have changed since the last round is looked at: holes, and what the server
        has heard of. What is protected no more all the same is found when it is copied."""
        assert self._server is not None
        assert self._armed is not None
        space = self._armed.spaces.get(pid)
        if space is None:
            return None
        ranges = Extents.of(trackable(mappings))
        unsure, known = ranges, Extents.none()
        noted = self._server.noted(space.index)
        if noted is not None:
            known = (space.protected & ranges) - noted
            unsure = ranges - known
        # Page tables that are not there at all are told of only in what is registered.
        content = space.content(unsure)
        unprotected = space.unprotected(unsure)
        written = self._written[pid] = content & unprotected
        self._anonymous[pid] = Extents.of(anonymous(mappings))
        populated = known | content
        if loan := self._armed.loans.get(pid):
            loan.note(written)
            displaced = self._server.displaced(space.index)
            loan.note(ranges if displaced is None else displaced)
            loan.stands(ranges, populated)
        return Found(populated, unprotected)

    def borrowed(self) -> Collection[int]:
        return self._armed.loans.keys() if self._armed else ()

    def answer(self, pid: int) -> Answer | None:
        """In the keeper's place, which has lent the task."""
        assert self._armed is not None
        loan = self._armed.loans.get(pid)
        return None if loan is None else loan.answer()

    def cover(self, pid: int, content: Content, pages_lfd: int) -> Extents:
        """All that can be protected."""
        assert self._server is not None
        assert self._armed is not None
        space = self._armed.spaces.get(pid)
        if space is None:
            return Extents.none()
        wanted = content.direct | content.hidden
        # Before anything is protected: whoever else writes to it now must be served by copying.
        self._server.cover(space.index, content.placed(), wanted, pages_lfd)
        written = self._written.pop(pid)
        self._armed.register_new(space, self._anonymous.pop(pid))
        space.protect(written)
        rest = space.unprotected(written) & wanted
        self._server.leave_out(space.index, rest)
        return wanted - rest

    def enter(
        self, pid: int, session: Session, content: Content, pages_lfd: int, withheld: Extents
    ) -> Extents:
        """Nothing: all was taken over from outside."""
        del pid, session, content, pages_lfd, withheld
        return Extents.none()

    def find_shared(self, ino: int, mapped: Sequence[tuple[int, Smap]]) -> Extents | None:
        return None if self._shared is None else self._shared.find(ino, mapped)

    def cover_shared(self, ino: int, pages_lfd: int) -> Extents:
        assert self._shared is not None
        return self._shared.cover(ino, pages_lfd)

    def run_with(self, tree: SeizedTree, report: Report, resumed: Callable[[], None]) -> None:
        """Raises NotOneInstant, and OSError where pages can't be written."""
        report.stage("live")
        assert self._server is not None
        assert self._armed is not None
        calls = self._calls
        if calls is None:
            # Who has done it while we looked on will do it again.
            calls = self._server.figures().nr_unmappings > 0
        watch = Watch(tree, self._server, self._armed.indexes())
        self._begun_ns = time.monotonic_ns()
        self._server.sweep(self._percent)
        watch.resume(calls=calls)
        resumed()
        watch.run()
        self._ended_ns = time.monotonic_ns()

    def deliver(self, report: Report) -> None:
        """Everything is written: take registrations back, or give back what is lent."""
        del report
        assert self._shared is not None
        assert self._armed is not None
        self._shared.verify()
        for space in self._armed.spaces.values():
            with suppress(TargetError):  # it has ended
                space.release()
        self._shared.release()
        self._give_back()

    def figures(self) -> Figures:
        """Before `close`."""
        assert self._server is not None
        assert self._shared is not None
        assert self._armed is not None
        counted = self._server.figures()
        return Figures(
            engine=self.name,
            nr_rounds=self._armed.nr_rounds,
            nr_faults=counted.nr_faults,
            fault_pages=counted.fault_pages,
            swept_pages=counted.swept_pages,
            saved_pages=counted.saved_pages,
            peak_bytes=counted.peak_bytes,
            shared_pages=self._shared.nr_pages,
            table_bytes=self._shared.table_bytes,
            sweep_us=(self._ended_ns - self._begun_ns) // 1000,
        )

    def close(self) -> None:
        """Whatever is still protected loses its protection with the descriptors."""
        self._give_back()
        if self._server is not None:
            self._server.close()
        if self._shared is not None:
            self._shared.close()
        if self._armed is not None:
            self._armed.close()

    def _give_back(self) -> None:
        """Whoever waits for a fault meanwhile waits for the keeper. Harmless a second time."""
        if self._keeper is None or self._armed is None or not self._armed.loans:
            return
        assert self._server is not None
        self._server.end()
        returned = {
            pid: loan.returned(self._displaced_of(pid)) for pid, loan in self._armed.loans.items()
        }
        self._armed.loans.clear()
        try:
            self._keeper.give_back(returned)
        except CkptError as error:
            # It takes back by itself what was lent, if it lives: nobody is left waiting.
            self._keeper.close()
            self._report.warn(f"the next set can't build on this one: {error}")

    def _displaced_of(self, pid: int) -> Extents | None:
        assert self._server is not None
        assert self._armed is not None
        space = self._armed.spaces.get(pid)
        return Extents.none() if space is None else self._server.displaced(space.index)
