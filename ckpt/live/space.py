"""One address space under write protection, for the length of a live snapshot.

Invariants:

- What is `armed` is found by looking: a page counts as protected only if its page table says so at
  the moment that matters, whatever was registered or protected before.
- Pages of files, the zero page and holes are never protected.
- `close` takes everything back; the kernel does it if we are killed.

Source: userfaultfd(2), Documentation/admin-guide/mm/pagemap.rst.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

from ckpt._native import check, ffi, lib
from ckpt.errors import CkptError
from ckpt.infect.inject import infect
from ckpt.live.view import FEATURES, View, shareable
from ckpt.mem.extents import Extents, scan
from ckpt.mem.registration import register, unregister
from ckpt.mem.room import Listed, listed
from ckpt.mem.tracking.engine import Mode
from ckpt.mem.tracking.open import open_pagemap, open_uffd
from ckpt.mem.vma import trackable
from ckpt.procfs.maps import parse_maps
from ckpt.procfs.reader import ProcDir
from ckpt.record import field, record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ckpt.infect.session import Session
    from ckpt.procfs.maps import Mapping
    from ckpt.tracee.stopped import SeizedTask


def anonymous(mappings: Iterable[Mapping]) -> Iterator[tuple[int, int]]:
    """The ranges of private memory without a file."""
    return trackable(m for m in mappings if not m.has_file)


@record
class Space:
    """All descriptors are ours; the task keeps none. `armed` is registered, `protected` was found
    protected by the last look of a round. `view`: of its shared memory, if it has any that can be
    had; for ckpt.live.shared, which closes it. `lent`: the userfaultfd is the keeper's as well, who
    goes on with it."""

    pid: int
    uffd: int
    mem: int
    pagemap: int
    fdinfo: int
    lent: bool = False
    index: int = -1
    armed: Extents = field(default_factory=Extents.none)
    protected: Extents = field(default_factory=Extents.none)
    view: View | None = None

    @classmethod
    def of(cls, task: SeizedTask) -> Space:
        """A task that stands; it is infected for a moment. Raises what an infection does,
        KernelError (no userfaultfd), TargetError."""
        with ExitStack() as undo:
            with infect(task) as session:
                uffd = open_uffd(session, task, Mode.SYNC)
                undo.callback(os.close, uffd)
                view = _view(session, task)
                if view is not None:
                    undo.callback(view.close)
            made = cls.around(task.pid, uffd)
            undo.pop_all()
        made.view = view
        return made

    @classmethod
    def around(cls, pid: int, uffd: int, *, lent: bool = False) -> Space:
        """With the userfaultfd of a task, which it takes over unless this fails. Raises
        TargetError."""
        with ExitStack() as undo:
            with ProcDir(pid) as proc:
                mem = proc.open("mem", os.O_RDONLY)
            undo.callback(os.close, mem)
            pagemap = open_pagemap(pid)
            undo.callback(os.close, pagemap)
            fdinfo = os.open(f"/proc/self/fdinfo/{uffd}", os.O_RDONLY | os.O_CLOEXEC)
            undo.pop_all()
        return cls(pid, uffd, mem, pagemap, fdinfo, lent)

    def mappings(self) -> Listed:
        """What can be protected; the task may run."""
        with ProcDir(self.pid) as proc:
            mappings = parse_maps(proc.read("maps"), running=True)
        return listed(mappings, anonymous(mappings))

    def register(self, mappings: Listed) -> None:
        """Have what can be protected of `mappings`."""
        refused = register(self.uffd, mappings)
        self.armed = (self.armed | mappings.ranges) - refused

    def unprotected(self, ranges: Extents) -> Extents:
        """What of `ranges` is not protected, whether or not a page is there."""
        out = ffi.new("struct ckpt_extent **")
        nr = check(lib.ckpt_find_unprotected(self.pagemap, ranges.array, ranges.nr, out), "pagemap")
        return Extents.filled(nr, out)

    def content(self, ranges: Iterable[tuple[int, int]]) -> Extents:
        """The pages of the task's own."""
        return scan(self.pagemap, ranges)

    def protect(self, pages: Extents) -> None:
        """Protect what can be of `pages`; look at the result with `unprotected`."""
        check(lib.ckpt_protect_wp(self.uffd, pages.array, pages.nr), "userfaultfd")

    def release(self) -> None:
        """Take registrations back in small steps, while faults are still served. What this leaves
        goes with the descriptor. What is lent stays as it is. Raises TargetError: it has ended."""
        if not self.lent:
            unregister(self.uffd, self.pagemap, self.mappings())

    def close(self) -> None:
        for lfd in (self.uffd, self.mem, self.pagemap, self.fdinfo):
            os.close(lfd)


def maps_shared(pid: int) -> bool:
    """Whether a view of the task would show anything; it may run."""
    with ProcDir(pid) as proc:
        return any(map(shareable, parse_maps(proc.read("maps"), running=True)))


def view_of(task: SeizedTask) -> View | None:
    """The view alone of a task that stands; None: it can't be had, or would show nothing."""
    with infect(task) as session:
        return _view(session, task)


def _view(session: Session, task: SeizedTask) -> View | None:
    if not maps_shared(task.pid):
        return None
    try:
        return View.of(task.pid, open_uffd(session, task, Mode.SYNC, FEATURES))
    except (CkptError, OSError):
        return None  # it is copied while the tree stands
