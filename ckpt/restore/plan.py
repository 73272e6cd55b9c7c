"""The plan of a restore: everything that is decided, before anything is done.

A pure function of the images and of the session and group that the root is born into. `lines` is
what --dry-run prints.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckpt.errors import ImageError
from ckpt.infect.blob import Layout, blob, layout_at
from ckpt.mem.build import NOTHING, Memory, MemoryPlan, free_window, plan_memory
from ckpt.pstree.birth import Birth, NoBirthError, Plan, plan_births
from ckpt.pstree.model import Task, Tree
from ckpt.pstree.sharing import CLONE_VM, KINDS, VM
from ckpt.record import field, record, replace
from ckpt.restore.vdso import Placing, adopt, place
from ckpt.units import PAGE, Range, page_up

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckpt.mem.vdso import KernelCode
    from ckpt.restore.load import Loaded

BATCHES_LEN = 1 << 20
THREAD_SLOT = 4 * PAGE
ROOM_LEN = page_up(BATCHES_LEN + 2 * PAGE)
PARKING_LEN = 32 * PAGE
_APART = 16 * PAGE
"""Where a task's vdso waits while its address space is made."""


@record(frozen=True)
class Window:
    """The parasite's window, the same in every task: code, rooms (session, stack, batches), then a
    slot for each thread, then the parking place of the vdso. Who shares a memory with others has a
    room and slots that are not theirs. `room_nr` and `slot_nr`: the first of each task."""

    layout: Layout
    nr_rooms: int = 1
    room_nr: dict[int, int] = field(default_factory=dict)
    slot_nr: dict[int, int] = field(default_factory=dict)

    @property
    def scratch(self) -> int:
        """Where System V shared memory of any size of the set can be attached for a moment."""
        return self.layout.window.end + _APART

    def of(self, pid: int) -> Layout:
        """The window as the task `pid` uses it (0: one that shares nothing)."""
        start = self.layout.data + self.room_nr.get(pid, 0) * ROOM_LEN
        return replace(self.layout, room=Range(start, start + ROOM_LEN))

    def slot(self, pid: int, index: int) -> int:
        """Address of the slot of the `index`-th further thread of a task."""
        slots = self.layout.data + self.nr_rooms * ROOM_LEN
        return slots + (self.slot_nr.get(pid, 0) + index) * THREAD_SLOT

    @property
    def parking(self) -> int:
        return self.layout.window.end - PARKING_LEN


@record(frozen=True)
class RestorePlan:
    """`memory` is by pid of live tasks, one for those who share it, and so is `vdso`; `tree` has
    the sessions and groups as they will be."""

    tree: Tree
    births: Plan
    memory: dict[int, MemoryPlan]
    window: Window
    vdso: dict[int, Placing]

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
        if birth.shared:
            what = ", ".join(kind.what for kind in KINDS if birth.shared & kind.flag)
            yield f"pid {birth.pid}: shares with pid {birth.creator}: {what}"
        if birth.pid not in self.memory:
            return
        m, image = self.memory[birth.pid], loaded.tasks[birth.pid]
        yield (
            f"pid {birth.pid}: {len(image.memory.vmas)} mappings ({len(m.map)} new), "
            f"{m.nr_loaded} pages to load, {m.nr_kept} shared with the creator"
        )
        if self.vdso[birth.pid].foreign:
            yield f"pid {birth.pid}: {self.vdso[birth.pid]}"


def make_plan(
    loaded: Loaded,
    outer: tuple[int, int],
    *,
    shell_job: bool,
    here: KernelCode,
    stays: bool = False,
) -> RestorePlan:
    """The plan for a root born into the session and group `outer`, whose leader `stays` as long as
    the root, by a kernel that maps `here` into its tasks. What is in `loaded` becomes what that
    makes of it. Raises ImageError and RestoreError."""
    stand_ins = adopt(loaded, here)
    tree = _joined(loaded.tree, outer, stays=stays) if shell_job else loaded.tree
    try:
        session, group = outer if shell_job else (0, 0)
        births = plan_births(tree, session, group, loaded.sharing)
    except (NoBirthError, RecursionError) as error:
        raise ImageError(
            "sessions or shared things that can't be restored",
            resource="pstree.img",
            why=str(error),
            hint="--shell-job restores a root into the session of ckpt restore",
        ) from error
    rooms, slots, nr_slots = _places(loaded)
    nr_rooms = 1 + max(rooms.values(), default=0)
    data_len = nr_rooms * ROOM_LEN + nr_slots * THREAD_SLOT + PARKING_LEN
    try:
        largest = max((s.size for s in loaded.segments.values()), default=0)
        scratch = page_up(largest) + _APART if largest else 0
        size = blob().code_len + data_len + scratch
        moved = sum(len_ for len_, _ in here.mappings) + _APART if stand_ins else 0
        at = free_window((image.memory for image in loaded.tasks.values()), size + moved)
    except ValueError as error:
        raise ImageError(str(error), resource="mm-*.img") from error
    memory: dict[int, MemoryPlan] = {}
    _plan_memories(loaded, births.root, NOTHING, memory)
    window = Window(layout_at(at, data_len), nr_rooms, rooms, slots)
    apart = page_up(at + size) + _APART
    vdso = {p: place(loaded.tasks[p], stand_ins.get(p), here, apart) for p in memory}
    return RestorePlan(tree, births, memory, window, vdso)


def _places(loaded: Loaded) -> tuple[dict[int, int], dict[int, int], int]:
    """By task its room and its first slot, and how many slots there must be."""
    rooms: dict[int, int] = {}
    slots: dict[int, int] = {}
    nr_slots = 0
    for group in loaded.sharing.groups(VM):
        used = 0
        for number, pid in enumerate(group):
            rooms[pid], slots[pid] = number, used
            used += len(loaded.tree[pid].threads)
        nr_slots = max(nr_slots, used)
    return rooms, slots, nr_slots


def _plan_memories(
    loaded: Loaded, birth: Birth, creator: Memory, memory: dict[int, MemoryPlan]
) -> None:
    own = creator
    if birth.pid in loaded.tasks and not birth.helper:
        own = loaded.tasks[birth.pid].memory
        if not birth.shared & CLONE_VM:
            memory[birth.pid] = plan_memory(own, creator, loaded.differing)
    for child in (*birth.early, *birth.late):
        _plan_memories(loaded, child, own, memory)


def _joined(tree: Tree, outer: tuple[int, int], *, stays: bool) -> Tree:
    """The tree with the root's session and group replaced by the outer ones, for a root that leads
    no session (CRIU's --shell-job).

    Who `stays` is the shell's job in the root's place. So the root has to be of his group, even if
    it led one: what is typed goes to the job's group, and it stops and goes on as a whole.
    """
    root = tree.root
    if root.leads_session:
        return tree
    sids = {root.sid: outer[0]}
    keeps = not stays and (root.leads_group or root.pgid in tree)
    pgids = {} if keeps else {root.pgid: outer[1]}
    return Tree(
        (
            Task(
                t.pid,
                t.ppid,
                pgids.get(t.pgid, t.pgid),
                sids.get(t.sid, t.sid),
                t.state,
                t.threads,
                t.exit_signal,
            )
            for t in tree
        ),
        root.pid,
    )
