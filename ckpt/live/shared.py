"""Shared memory of a live snapshot by write protection: each object is armed in every task that
maps it, and copied once.

1. While the tree runs: every object is opened, every mapping of it registered; then it is looked
   who else could write to it (ckpt.live.reach). What has data is protected, and what has lost its
   protection meanwhile is again.
2. While it stands: data that is new, and what was written since the last round, is protected.
3. The tree runs. Who is born has its parent's protection. The server reads pages by a descriptor of
   the object: an end, munmap(2) or execve(2) takes nothing away.

Left to the dump, which copies it while the tree stands: what somebody outside of the tree maps,
what any descriptor is open of, what can't be registered (System V shared memory), and what would
take more page tables for marks on untouched pages than there may be.

A task that maps more of an object than it did while all are armed, by mremap(2), loses the
snapshot.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ckpt.errors import NotOneInstant, TargetError
from ckpt.live.object import SharedObject, mark_bytes
from ckpt.live.reach import Objects, reaching
from ckpt.live.view import Segment, View, shareable
from ckpt.mem.extents import Extents
from ckpt.mem.vma import TRACKED
from ckpt.procfs.tree import tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ckpt.live.server import Server
    from ckpt.procfs.maps import Mapping
    from ckpt.procfs.smaps import Smap
    from ckpt.report import Report

_TRIES = 4
"""To arm tasks that were born while others were armed."""


class Shared:
    """All of one snapshot. `room`: bytes of page tables that may be made. `table_bytes`: that are,
    at most; they stay with the tasks. `inherited`: tasks that have a view as children of others, as
    far as they were met in the frozen window. `nr_pages` were taken over."""

    def __init__(self, server: Server, room: int, report: Report) -> None:
        self._server = server
        self._room = room
        self._report = report
        self._views: dict[int, View] = {}
        self._children: list[View] = []
        self._objects: dict[int, SharedObject] = {}
        self._opened: list[int] = []
        self._left: set[int] = set()
        self._taken: set[int] = set()
        self._next_child = 0
        self._stands = False
        self.inherited: set[int] = set()
        self.table_bytes = 0
        self.nr_pages = 0

    def add(self, view: View) -> None:
        """Serve its faults from now on; it is ours to close."""
        try:
            view.index = self._server.add_view(view)
        except BaseException:
            view.close()
            raise
        self._views[view.pid] = view

    def begin(self, root: int, arm: Callable[[int], None]) -> None:
        """When there is a view of every task. `arm` makes one of a task of the tree at `root` that
        was born meanwhile."""
        if not self._views:
            return
        found: dict[int, set[int]] = {}
        for _ in range(_TRIES):
            self._register()
            tasks = list(tree(root))
            if not tasks:
                raise TargetError("it has ended", pid=root)
            born = {one.ino: one.born for one in self._objects.values()}
            memfds = {one.ino for one in self._objects.values() if one.memfd}
            found = reaching(Objects(born, memfds, tasks[0].starttime), self._views.keys())
            others = set[int]().union(*found.values()) - self._views.keys()
            late = others & {task.pid for task in tasks}
            if not late:
                break
            for pid in late:
                arm(pid)
        for ino, pids in found.items():
            self._drop(ino, f"pid {min(pids)} can write to it, too")
        self._limit()

    def round(self) -> int:
        """Protect what is not; how many pages that were."""
        self._adopt()
        nr_pages = 0
        for one in self._objects.values():
            one.look()
        for view in self._all():
            pages = self._noted(view)
            for one in self._objects.values():
                pages |= view.places(one.ino, one.data if view.fresh else one.new)
            try:
                view.protect(pages)
            except ProcessLookupError:
                continue  # it has ended
            view.fresh = False
            nr_pages += pages.nr_pages
        return nr_pages

    def find(self, ino: int, mapped: Sequence[tuple[int, Smap]]) -> Extents | None:
        """The offsets of the pages of an object, which the tasks of the tree have `mapped` so; None
        if it is left to the dump. All stand."""
        if not self._stands:
            self._stands = True
            self._adopt()
            for view in self._all():
                view.unsure = self._noted(view)
        if self._children:
            marked = {pid for pid, smap in mapped if TRACKED in smap.flags}
            self.inherited |= marked - self._views.keys()
        if ino not in self._objects:
            return None
        if why := self._unfit(mapped):
            self._drop(ino, why)
            return None
        self._objects[ino].look()
        return self._objects[ino].data

    def cover(self, ino: int, pages_lfd: int) -> Extents:
        """Take over what `find` has found; the offsets of pages that are left to the dump."""
        one = self._objects[ino]
        # Before anything is protected: whoever writes to it now must be served by copying.
        self._server.cover(one.index, one.data, one.data, pages_lfd)
        self._taken.add(ino)
        rest = Extents.none()
        for view in self._all():
            pages = view.places(ino, one.data if view.fresh else one.new)
            pages |= view.unsure & view.ranges(ino)
            try:
                view.protect(pages)
                rest |= view.offsets(ino, view.unprotected(pages)) & one.data
            except ProcessLookupError:
                continue
        self._server.leave_out(one.index, rest)
        self.nr_pages += one.data.nr_pages - rest.nr_pages
        return rest

    def verify(self) -> None:
        """Everything is copied: was there any other way to write to it? Raises NotOneInstant."""
        for view in self._views.values():
            try:
                now = filter(shareable, view.mappings())
            except TargetError:
                continue  # it has ended
            for mapping in now:
                if mapping.ino in self._taken and not view.holds(mapping):
                    why = "it has mapped more of shared memory that was not copied yet"
                    raise NotOneInstant(
                        "the snapshot is not of one instant",
                        pid=view.pid,
                        resource=f"mapping {mapping}",
                        why=why,
                        hint="once more, or --live=fork",
                    )

    def release(self) -> None:
        """Take registrations back, while faults are served: parents first, who then have no more
        children with a view."""
        for view in self._views.values():
            view.release()
        done = 0
        self._adopt()
        while done < len(self._children):
            for child in self._children[done:]:
                child.release()
                done += 1
            self._adopt()

    def close(self) -> None:
        """After the server's end."""
        while self._views:
            self._views.popitem()[1].close()
        while self._opened:
            os.close(self._opened.pop())

    def _all(self) -> Iterator[View]:
        yield from self._views.values()
        yield from self._children

    def _adopt(self) -> None:
        """Note the views of children that were born."""
        by_index = {view.index: view for view in self._all()}
        for child in self._server.children(self._next_child):
            parent = by_index[int(child.parent)]
            view = View(0, int(child.uffd), index=int(child.index), segments=parent.segments)
            by_index[view.index] = view
            self._children.append(view)
            self._next_child = view.index + 1

    def _register(self) -> None:
        for view in self._views.values():
            if view.segments or not view.fresh:
                continue
            try:
                mappings = view.mappings()
                view.segments = tuple(
                    Segment(m.start, m.end, m.pgoff, m.ino)
                    for m in mappings
                    if shareable(m) and self._has(m, view.pid)
                )
            except TargetError:
                continue  # it has ended
            self._server.map(view, {ino: one.index for ino, one in self._objects.items()})
            for ino in view.register(mappings):
                self._drop(ino, f"it can't be registered in pid {view.pid}")

    def _has(self, mapping: Mapping, pid: int) -> bool:
        """Whether the object of a mapping of the task is one of ours, or is now."""
        if mapping.ino in self._left:
            return False
        if mapping.ino not in self._objects:
            found = SharedObject.of(mapping, pid)
            if found is None:
                return False
            self._opened.append(found.lfd)
            self._objects[mapping.ino] = found
            found.index = self._server.add_object(pid, found.lfd)
        return True

    def _noted(self, view: View) -> Extents:
        noted = self._server.noted(view.index)
        if noted is not None:
            return noted
        return Extents.of((s.start, s.end) for s in view.segments)

    def _unfit(self, mapped: Sequence[tuple[int, Smap]]) -> str:
        """Why what is mapped so is not all protected; empty if it is."""
        for pid, smap in mapped:
            view = self._views.get(pid)
            if view is None and TRACKED not in smap.flags:
                return f"pid {pid} was born too late"
            if view is not None and not view.holds(smap.mapping):
                return f"pid {pid} has mapped it anew"
        if any(self._server.moved(view.index) for view in self._all()):
            return "mappings were moved"
        return ""

    def _limit(self) -> None:
        """Leave out what would take too much for marks."""
        costs = mark_bytes(self._objects, self._views)
        for ino in sorted(costs, key=lambda ino: costs[ino]):
            if self.table_bytes + costs[ino] > self._room:
                why = f"it would take {costs[ino] >> 20} MiB of page tables; see --live-memory"
                self._drop(ino, why)
            else:
                self.table_bytes += costs[ino]

    def _drop(self, ino: int, why: str) -> None:
        """An object is left to the dump."""
        self._left.add(ino)
        if self._objects.pop(ino, None) is None:
            return
        self._report.info(f"shared memory {ino} is copied while the tree stands: {why}")
        if not self._stands:
            for view in self._all():
                view.forget(ino)
