"""The plan of a restore: everything that is decided, before anything is done.

A pure function of the images and of the session and group that the root is born into. `lines` is
what --dry-run prints.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckpt.errors import ImageError
from ckpt.mem.build import NOTHING, Memory, MemoryPlan, plan_memory
from ckpt.pstree.birth import Birth, NoBirthError, Plan, plan_births
from ckpt.pstree.model import Task, Tree
from ckpt.pstree.sharing import CLONE_VM, KINDS
from ckpt.record import record, replace
from ckpt.restore.started import elsewhere
from ckpt.restore.vdso import Placing, adopt, place
from ckpt.restore.window import Needs, Places, Window, places_of, window_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ckpt.mem.vdso import KernelCode
    from ckpt.restore.load import Loaded
    from ckpt.restore.started import Started

_NO_SESSION = (-1, -1)
"""No task has it: the session that ckpt is in may be 0, one from outside of its pid namespace."""


@record(frozen=True)
class RestorePlan:
    """`memory` is by pid of live tasks, one for those who share it, and so is `vdso`; `tree` has
    the sessions and groups as they will be. `misfit`: why it does not go on from what was started;
    `kept`: the tasks that it goes on with, if it does.
    """

    tree: Tree
    births: Plan
    memory: dict[int, MemoryPlan]
    window: Window
    vdso: dict[int, Placing]
    misfit: str = ""
    kept: frozenset[int] = frozenset()

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
    started: Started | None = None,
) -> RestorePlan:
    """The plan for a root born into the session and group `outer`, whose leader `stays` as long as
    the root, by a kernel that maps `here` into its tasks. It goes on from `started`, if it can.
    What is in `loaded` becomes what that makes of it. Raises ImageError and RestoreError."""
    stand_ins = adopt(loaded, here)
    tree = _joined(loaded.tree, outer, stays=stays) if shell_job else loaded.tree
    try:
        session, group = outer if shell_job else _NO_SESSION
        births = plan_births(tree, session, group, loaded.sharing)
    except (NoBirthError, RecursionError) as error:
        raise ImageError(
            "sessions or shared things that can't be restored",
            resource="pstree.img",
            why=str(error),
            hint="--shell-job restores a root into the session of ckpt restore",
        ) from error
    places = places_of(loaded)
    needs = Needs(_largest(loaded), here.size if stand_ins else 0)
    misfit = ""
    if started is not None:
        misfit = started.misfit(loaded, tree, births.root, places, needs)
    if started is None or misfit:
        window, kept, before = _window(loaded, places, needs), frozenset[int](), {}
    else:
        window = replace(started.window, slot_nr=places.slots)
        kept = started.survivors(tree, births.root)
        before = started.memory_of(kept)
    memory = plan_memories(loaded, births.root, before)
    apart = window.apart(needs)
    vdso = {p: place(loaded.tasks[p], stand_ins.get(p), here, apart) for p in memory}
    return RestorePlan(tree, births, memory, window, vdso, misfit, kept)


def plan_memories(
    loaded: Loaded, root: Birth, before: Mapping[int, Memory]
) -> dict[int, MemoryPlan]:
    """For every task of `root`'s tree that has a memory of its own, in the order of births.
    `before`: what those have who are there already."""
    memory: dict[int, MemoryPlan] = {}
    _plan_memories(loaded, root, NOTHING, before, memory)
    return memory


def _largest(loaded: Loaded) -> int:
    return max((s.room + s.huge_page for s in loaded.segments.values()), default=0)


def _window(loaded: Loaded, places: Places, needs: Needs) -> Window:
    vmas = (v for image in loaded.tasks.values() for v in image.memory.vmas)
    try:
        return window_for(vmas, places, needs)
    except ValueError as error:
        raise ImageError(str(error), resource="mm-*.img") from error


def _plan_memories(
    loaded: Loaded,
    birth: Birth,
    creator: Memory,
    before: Mapping[int, Memory],
    memory: dict[int, MemoryPlan],
) -> None:
    own = creator
    if birth.pid in loaded.tasks and not birth.helper:
        own = loaded.tasks[birth.pid].memory
        if birth.pid in before:
            memory[birth.pid] = plan_memory(own, before[birth.pid], elsewhere)
        elif not birth.shared & CLONE_VM:
            memory[birth.pid] = plan_memory(own, creator, loaded.differing)
    for child in (*birth.early, *birth.late):
        _plan_memories(loaded, child, own, before, memory)


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
