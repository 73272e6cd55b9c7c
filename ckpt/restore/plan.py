"""The plan of a restore: everything that is decided, before anything is done.

A pure function of the images and of the session and group that the root is born into. `lines` is
what --dry-run prints.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ckpt.errors import ImageError
from ckpt.infect.blob import Layout, blob, layout_at
from ckpt.mem.build import NOTHING, Memory, MemoryPlan, free_window, plan_memory
from ckpt.pstree.birth import Birth, NoBirthError, Plan, plan_births
from ckpt.pstree.model import Task, Tree
from ckpt.units import PAGE, page_up

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckpt.restore.load import Loaded

BATCHES_LEN = 1 << 20
THREAD_SLOT = 4 * PAGE
PARKING_LEN = 32 * PAGE
"""Where a task's vdso waits while its address space is made."""


@dataclass(frozen=True, slots=True)
class Window:
    """The parasite's window, the same in every task: code, session, batches, then a slot for each
    thread, then the parking place of the vdso."""

    layout: Layout
    nr_slots: int

    def slot(self, index: int) -> int:
        """Address of the slot of the `index`-th further thread."""
        return self.layout.batches.start + BATCHES_LEN + index * THREAD_SLOT

    @property
    def parking(self) -> int:
        return self.layout.window.end - PARKING_LEN


@dataclass(frozen=True, slots=True)
class RestorePlan:
    """`memory` is by pid of live tasks; `tree` has the sessions and groups as they will be."""

    tree: Tree
    births: Plan
    memory: dict[int, MemoryPlan]
    window: Window

    def lines(self, loaded: Loaded) -> Iterator[str]:
        """The plan for people to read."""
        yield f"window {self.window.layout.window}"
        for birth in self.births.root:
            yield from self._birth_lines(birth, loaded)
        for helper in self.births.group_helpers:
            yield f"helper {helper.pgid}: leads its group until pid {helper.member} has joined"

    def _birth_lines(self, birth: Birth, loaded: Loaded) -> Iterator[str]:
        creator = f"cloned by {birth.creator}" if birth.creator else "started by ckpt"
        if birth.helper:
            yield f"helper {birth.pid}: {creator}, founds session {birth.pid}, ends again"
            return
        task = self.tree[birth.pid]
        yield (
            f"pid {birth.pid}: {creator}, parent {task.ppid}, group {task.pgid}, "
            f"session {task.sid}, {task.state.name.lower()}, {1 + len(task.threads)} threads"
        )
        if task.dead:
            return
        m, image = self.memory[birth.pid], loaded.tasks[birth.pid]
        yield (
            f"pid {birth.pid}: {len(image.memory.vmas)} mappings ({len(m.map)} new), "
            f"{m.nr_loaded} pages to load, {m.nr_kept} shared with the creator"
        )


def make_plan(loaded: Loaded, outer: tuple[int, int], *, shell_job: bool) -> RestorePlan:
    """The plan for a root born into the session and group `outer`. Raises ImageError."""
    tree = _joined(loaded.tree, outer) if shell_job else loaded.tree
    try:
        births = plan_births(tree, outer[0] if shell_job else 0, outer[1] if shell_job else 0)
    except (NoBirthError, RecursionError) as error:
        raise ImageError(
            "sessions that can't be restored",
            resource="pstree.img",
            why=str(error),
            hint="--shell-job restores a root into the session of ckpt restore",
        ) from error
    nr_slots = max(len(task.threads) for task in tree)
    data_len = page_up(BATCHES_LEN + 2 * PAGE) + nr_slots * THREAD_SLOT + PARKING_LEN + 2 * PAGE
    try:
        at = free_window(
            (image.memory for image in loaded.tasks.values()), blob().code_len + data_len
        )
    except ValueError as error:
        raise ImageError(str(error), resource="mm-*.img") from error
    memory: dict[int, MemoryPlan] = {}
    _plan_memories(loaded, births.root, NOTHING, memory)
    return RestorePlan(tree, births, memory, Window(layout_at(at, data_len), nr_slots))


def _plan_memories(
    loaded: Loaded, birth: Birth, creator: Memory, memory: dict[int, MemoryPlan]
) -> None:
    own = creator
    if birth.pid in loaded.tasks and not birth.helper:
        own = loaded.tasks[birth.pid].memory
        memory[birth.pid] = plan_memory(own, creator, loaded.differing)
    for child in (*birth.early, *birth.late):
        _plan_memories(loaded, child, own, memory)


def _joined(tree: Tree, outer: tuple[int, int]) -> Tree:
    """The tree with the root's session and group replaced by the outer ones, for a root that leads
    neither (CRIU's --shell-job)."""
    root = tree.root
    if root.leads_session:
        return tree
    sids = {root.sid: outer[0]}
    pgids = {} if root.leads_group or root.pgid in tree else {root.pgid: outer[1]}
    return Tree(
        (
            Task(
                t.pid,
                t.ppid,
                pgids.get(t.pgid, t.pgid),
                sids.get(t.sid, t.sid),
                t.state,
                t.threads,
            )
            for t in tree
        ),
        root.pid,
    )
