"""The arming of a live snapshot: its memory is protected while the tree runs.

1. Each task is stopped by itself, for a millisecond, to make a userfaultfd in it; where its writes
   are tracked, its keeper lends the one that is there.
2. What is not protected is, until a round finds little that was written since the one before.

Invariant: what is noted as protected was seen protected after notes were taken for the last time,
so that whatever loses its protection later is in the notes of the server.

A task that can't be armed is left to the dump, which copies it while it stands, and said.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ckpt._native import lib
from ckpt.errors import CkptError, KernelError, Refusal, RefusedError, TargetError
from ckpt.infect.predecessor import settle
from ckpt.live.loan import Loan
from ckpt.live.space import Space, maps_shared, view_of
from ckpt.mem.room import Listed
from ckpt.mem.tracking.client import KeeperRefused
from ckpt.mem.tracking.contexts import may_write_unseen
from ckpt.tracee.freeze import seize

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from ckpt.live.server import Server
    from ckpt.live.shared import Shared
    from ckpt.mem.extents import Extents
    from ckpt.mem.tracking.client import Keeper
    from ckpt.report import Report
    from ckpt.tracee.stopped import SeizedTask

SEIZE_S = 10.0
_KCMP_VM = 1
MOST_ROUNDS = 8
_LITTLE = 256
"""Pages: to protect so many again takes less time than to find them."""

_PAYS = 0.5
"""A round that leaves more than this part of what the one before has left is the last one."""


class Armed:
    """What is armed of one tree. `spaces`: of tasks with memory of their own; `loans`: those of
    them that a keeper has lent; `nr_rounds` were made. Descriptors are ours until `close`."""

    def __init__(
        self, server: Server, shared: Shared, report: Report, keeper: Keeper | None
    ) -> None:
        self.spaces: dict[int, Space] = {}
        self.loans: dict[int, Loan] = {}
        self.nr_rounds = 0
        self._server = server
        self._shared = shared
        self._report = report
        self._keeper = keeper
        self._tracked: Collection[int] = keeper.tracked() if keeper is not None else ()
        self._shares: dict[int, int] = {}
        self._nr_unmappings = 0

    def begin(self, pids: Sequence[int]) -> None:
        """Arm what the tasks have, while they run; the first is the root of their tree."""
        for pid in pids:
            other = self._sharing_with(pid)
            if other is not None:
                self._shares[pid] = other
            else:
                self._arm_or_warn(pid)
        self._shared.begin(pids[0], self._arm_or_warn)
        self._arm_again()

    def indexes(self) -> dict[int, int]:
        """Of the memory of each task, as the server has it."""
        own = {pid: space.index for pid, space in self.spaces.items()}
        return own | {pid: own[other] for pid, other in self._shares.items()}

    def register_new(self, space: Space, ranges: Extents) -> None:
        """Of `ranges`, the mappings made since the last round; all, if some were taken away
        meanwhile."""
        if self._server.figures().nr_unmappings == self._nr_unmappings:
            ranges = ranges - space.armed
        if ranges:
            space.register(Listed.standing(ranges))

    def close(self) -> None:
        """Whatever is still protected loses its protection with the descriptors."""
        while self.spaces:
            self.spaces.popitem()[1].close()

    def _sharing_with(self, pid: int) -> int | None:
        """A task that is armed already and has the same memory."""
        for other in self.spaces:
            if lib.ckpt_kcmp(pid, other, _KCMP_VM, 0, 0) == 0:
                return other
        return None

    def _arm_or_warn(self, pid: int) -> None:
        if pid in self.spaces:
            return
        try:
            if self._keeper is not None and pid in self._tracked:
                self._borrow(pid, self._keeper)
            else:
                self._arm(pid)
        except (TargetError, RefusedError, KernelError, KeeperRefused) as error:
            self._report.warn(f"pid {pid}: copied while it stands: {error}")

    def _borrow(self, pid: int, keeper: Keeper) -> None:
        lent = keeper.lend(pid)
        self.loans[pid] = Loan(lent)
        try:
            space = Space.around(pid, lent.uffd, lent=True)
        except TargetError:
            os.close(lent.uffd)
            raise
        except BaseException:
            os.close(lent.uffd)
            keeper.close()  # which serves it again: nobody does here
            raise
        self._serve(space)
        try:
            self._add_view(pid)
        except (TargetError, RefusedError, KernelError) as error:
            why = f"its shared memory is copied while it stands: {error}"
            self._report.warn(f"pid {pid}: {why}")

    def _add_view(self, pid: int) -> None:
        if not maps_shared(pid):
            return
        with _standing(pid) as task:
            view = view_of(task)
        if view is not None:
            self._shared.add(view)

    def _arm(self, pid: int) -> None:
        with _standing(pid) as task:
            space = Space.of(task)
        if space.view is not None:
            self._shared.add(space.view)
        self._serve(space)

    def _serve(self, space: Space) -> None:
        try:
            space.index = self._server.add(space)
        except BaseException:
            space.close()
            raise
        self.spaces[space.pid] = space

    def _arm_again(self) -> None:
        before = 0
        for self.nr_rounds in range(1, MOST_ROUNDS + 1):
            self._nr_unmappings = self._server.figures().nr_unmappings
            written = sum(self._round(space) for space in self.spaces.values())
            written += self._shared.round()
            self._report.info(f"round {self.nr_rounds}: {written} pages protected")
            if written <= _LITTLE or (before and written > before * _PAYS):
                return
            before = written

    def _round(self, space: Space) -> int:
        """Protect what is not; how many pages that were. A task that has ended has none."""
        try:
            now = space.mappings()
            ranges = now.ranges
            space.register(now)
            # What was refused has no protection to lose.
            written = space.content(space.unprotected(ranges & space.armed))
            if loan := self.loans.get(space.pid):
                loan.note(written)
            space.protect(written)
            # Whatever is unprotected from here on is noted, or seen by the look.
            self._server.noted(space.index)
            space.protected = (ranges & space.armed) - space.unprotected(ranges & space.armed)
        except (TargetError, ProcessLookupError):
            return 0
        return written.nr_pages


@contextmanager
def _standing(pid: int) -> Iterator[SeizedTask]:
    """One task, by itself."""
    with seize(pid, deadline_s=SEIZE_S, children=False) as seized:
        task = seized.tasks.get(pid)
        if task is None or task.zombie:
            raise TargetError("it has ended", pid=pid)
        settle(task)
        yield task


def refuse_pinned(pids: Sequence[int]) -> None:
    """Devices that write into pinned pages do not ask for write protection. A ring of io_uring pins
    pages only while it has requests in flight, and the dump refuses one that has while the tree
    stands; what is asked of it later meets the protection like any call.
    """
    found = []
    for pid in pids:
        try:
            if may_write_unseen(pid):
                why = "AIO or pinned memory: written without any fault"
                found.append(Refusal(pid, "the task", why, "--live=fork, or a dump that stops it"))
        except CkptError:
            continue  # it has ended
    if found:
        raise RefusedError(found)
