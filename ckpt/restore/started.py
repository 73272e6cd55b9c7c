"""What there is already of a tree whose image set has not come yet: tasks that were born early.

Pure. They were born from an *outline*: what could be seen of the tree while it ran. Each has the
anonymous private memory that it had then; nothing else of it is there. A set that tells of the same
births goes on from them (ckpt.restore.early has the mechanism).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ckpt.files.ttyimage import CTTY
from ckpt.mem import policy
from ckpt.mem.build import Memory, clip
from ckpt.mem.vma import MAP_GROWSDOWN, Backing
from ckpt.record import record
from ckpt.restore.window import APART
from ckpt.units import Range

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ckpt.images.reader import ImageSet
    from ckpt.mem.build import Pages
    from ckpt.mem.vma import Vma
    from ckpt.pstree.birth import Birth
    from ckpt.pstree.model import Tree
    from ckpt.pstree.sharing import Sharing
    from ckpt.restore.load import Loaded
    from ckpt.restore.window import Needs, Places, Window

FileIds = tuple[tuple[int, int], ...]
_SAME = ("pid", "creator", "for_parent", "founds_session", "helper", "shared")


@record(frozen=True)
class Outline:
    """A tree as it looked while it ran. `vmas` is by live task: all of them, ascending."""

    tree: Tree
    sharing: Sharing
    vmas: Mapping[int, tuple[Vma, ...]]


@record(frozen=True)
class Started:
    """The tasks: how they were born, their window, what is in their memory. `files` are the files
    that the pages of `memory` are numbered by."""

    tree: Tree
    births: Birth
    window: Window
    memory: Mapping[int, Memory]
    files: FileIds

    def survivors(self, tree: Tree, births: Birth) -> frozenset[int]:
        """The tasks that can be those of `tree`, whose tasks shall be born by `births`."""
        return frozenset(self._survivors(self.births, births, tree))

    def _survivors(self, one: Birth, other: Birth, tree: Tree) -> set[int]:
        if not self._alike(one, other, tree):
            return set()
        found = {one.pid}
        for known, wanted in ((one.early, other.early), (one.late, other.late)):
            by_pid = {birth.pid: birth for birth in known}
            for birth in wanted:
                there = by_pid.get(birth.pid)
                below = self._survivors(there, birth, tree) if there else set()
                if not below and other.founds_session and wanted is other.early:
                    return set()  # who has founded its session can't give birth before that
                found |= below
        return found

    def _alike(self, one: Birth, other: Birth, tree: Tree) -> bool:
        tasks = [found.get(one.pid) for found in (self.tree, tree)]
        ends = [None if task is None else (task.exit_signal, task.dead) for task in tasks]
        return ends[0] == ends[1] and all(
            getattr(one, name) == getattr(other, name) for name in _SAME
        )

    def misfit(
        self, loaded: Loaded, tree: Tree, births: Birth, places: Places, needs: Needs
    ) -> str:
        """Why the set `loaded`, whose `tree` shall be born by `births`, can't go on from here;
        empty where it can."""
        if not self.survivors(tree, births):
            return "it has other tasks now"
        if file_ids(loaded)[: len(self.files)] != self.files:
            return "the set does not build on those before it"
        if places.nr_slots > self.window.nr_slots or any(places.rooms.values()):
            return "it has many more threads now, or tasks that share memory"
        if _controlled(loaded.chain.layers[0]):
            return "it has a controlling terminal"
        vmas = [v for image in loaded.tasks.values() for v in image.memory.vmas]
        leaders = (policy.of_thread(i.own.get(pid)) for pid, i in loaded.tasks.items())
        if policy.several_nodes() and (any(leaders) or any(v.policy for v in vmas)):
            return "it wants memory of certain nodes"
        return "" if in_the_clear(self.window, vmas, needs) else "it uses more addresses now"

    def memory_of(self, pids: Iterable[int]) -> dict[int, Memory]:
        """What those of them have who have a memory of their own."""
        return {pid: self.memory[pid] for pid in pids if pid in self.memory}


def _controlled(images: ImageSet) -> bool:
    """Whether a session has a terminal. One that is only open is like any other file."""
    if not images.exists("tty-info"):
        return False
    return any(info.sid or info.type == CTTY for info in images.read("tty-info"))


def in_the_clear(window: Window, vmas: Iterable[Vma], needs: Needs) -> bool:
    """Whether no mapping is where the window is, or the room that is needed behind it."""
    start, end = window.layout.window.start, window.apart(needs) + needs.size
    room = Range(start - APART, end + APART)
    return not any(v.range.overlaps(room) for v in vmas)


def file_ids(loaded: Loaded) -> FileIds:
    """Device and inode of every file with pages, by its number in `Pages.pages_id`."""
    status = [os.fstat(loaded.pages_lfd(number)) for number in range(loaded.nr_files)]
    return tuple((found.st_dev, found.st_ino) for found in status)


def elsewhere(a: Pages, b: Pages) -> list[Range]:
    """For ckpt.mem.build.plan_memory: pages are the same where they are from one place of one file,
    and nothing is compared."""
    return [] if a.pages_id == b.pages_id and a.offset == b.offset else [a.range]


def early_memory(vmas: Sequence[Vma], pages: Sequence[Pages]) -> Memory:
    """What of a task can be there before its files are: its anonymous private memory."""
    kept = [v for v in vmas if _is_plain(v)]
    contents = [p for v in kept for p in clip(pages, v.range)]
    return Memory(tuple(kept), tuple(contents))


def _is_plain(v: Vma) -> bool:
    # What grows down does so between two looks, and is small. Huge pages are counted first.
    if v.flags & MAP_GROWSDOWN or v.huge_page:
        return False
    return v.private and v.backing is Backing.NONE
