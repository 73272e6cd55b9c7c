"""Tasks that are born, and get memory, while the set that they will be made of is yet to come.

1. `fill`, once for each set of a chain that grows: the tasks of an outline are born, by the births
   of a restore, and get the pages that this set knows of; with the next set, what has changed.
2. The restore of the last set takes those that it can have (`keep`, `hand_over`), and does the
   rest: who has been born since, what has changed in memory, and everything else.
3. The others end, all of them where the root can't be had (`drop`).

They run nothing but the parasite, and end when we do. What they have been given is not trusted
later: a page stays as it is only where the last set has it from the same place of the same file.

Not for trees with a controlling terminal, which is inherited by who is born after it was taken, nor
for tasks that share memory, which can't enter the time namespace later; and where a machine has
several NUMA nodes, not for those that want memory of certain ones, which no outline tells. Of
memory only what is anonymous and private comes early. It is charged to the control groups of who
restores.
"""

from __future__ import annotations

import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from ckpt.errors import CkptError, RestoreError
from ckpt.images.chain import Chain
from ckpt.infect.batch import Batch
from ckpt.mem.resolve import resolve
from ckpt.mem.vdso import this_kernel
from ckpt.pstree.birth import NoBirthError, plan_births
from ckpt.pstree.sharing import CLONE_VM
from ckpt.restore.build import Site
from ckpt.restore.load import Loaded, TaskImage
from ckpt.restore.plan import RestorePlan, plan_memories
from ckpt.restore.started import (
    Outline,
    Started,
    early_memory,
    file_ids,
    in_the_clear,
)
from ckpt.restore.vdso import Placing
from ckpt.restore.window import Needs, Window, parked, places_of, window_for
from ckpt.scope import all_descriptors

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from ckpt.mem.vma import Vma
    from ckpt.pstree.birth import Plan

_SPARE_SLOTS = 256
"""For threads that are yet to come."""

_WALL = 0x40000000


class Early:
    """The tasks, and what is known of them. A context manager: leaving it ends them, unless they
    were handed over."""

    def __init__(self) -> None:
        self.started: Started | None = None
        self._site: Site | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._site is not None:
            with self.hand_over():
                pass

    def numbers(self) -> set[int]:
        """Of the tasks that there are."""
        return set() if self._site is None else set(self._site.tasks)

    def fill(self, folder: Path, outline: Outline) -> None:
        """Bring the tasks to what the set of pages in `folder`, whose tree looked like `outline`,
        knows. Raises CkptError of any kind: leave the scope then."""
        births = _births(outline)
        with Chain(folder, verify=False, pages_only=True, resolver=resolve) as chain:
            loaded = _loaded(chain, outline)
            vmas = [v for of_task in outline.vmas.values() for v in of_task]
            before = self.started
            if before is not None and (
                file_ids(loaded)[: len(before.files)] == before.files
                and in_the_clear(before.window, vmas, Needs())
            ):
                self.keep(before.survivors(outline.tree, births.root))
            else:
                self.drop()
            self._fill(loaded, births, vmas)
            loaded.let_go()

    def _fill(self, loaded: Loaded, births: Plan, vmas: list[Vma]) -> None:
        before = self.started
        window = _window(loaded, vmas) if before is None else before.window
        kept = {} if before is None else before.memory_of(self.numbers())
        memory = plan_memories(loaded, births.root, kept)
        vdso = dict.fromkeys(memory, Placing(tuple(parked(window, this_kernel()))))
        plan = RestorePlan(loaded.tree, births, memory, window, vdso)
        if self._site is None:
            self._site = Site(loaded, plan, _no_file)
            with all_descriptors():
                self._site.raise_all(None)
        else:
            with all_descriptors():
                self._site.go_on(loaded, plan)
        contents = {pid: image.memory for pid, image in loaded.tasks.items()}
        self.started = Started(loaded.tree, births.root, window, contents, file_ids(loaded))

    def hand_over(self) -> Site:
        """The tasks, which their new owner ends or lets go."""
        if self._site is None:
            raise ValueError("nobody was born early")
        site, self._site, self.started = self._site, None, None
        return site

    def drop(self) -> None:
        """End all tasks; their numbers are free then."""
        if self._site is None:
            return
        site = self.hand_over()
        with site, suppress(CkptError):  # who has ended meanwhile can't reap; the scope ends all
            _end_others(site, {site.plan.births.root.pid})

    def keep(self, pids: Collection[int]) -> None:
        """End the others; all, if the root is not among `pids`."""
        if self._site is None or self._site.plan.births.root.pid not in pids:
            self.drop()
        else:
            _end_others(self._site, pids)


def _end_others(site: Site, kept: Collection[int]) -> None:
    helpers = site.plan.births.helpers()
    for birth in reversed(list(site.plan.births.root)):
        if birth.pid not in kept and birth.pid in site.tasks:
            task = site.plan.tree.get(birth.pid)
            _end(site, birth.pid, helpers[birth.pid] if task is None else task.ppid)


def _end(site: Site, pid: int, parent: int) -> None:
    built = site.tasks[pid]
    signal.pidfd_send_signal(built.pidfd, signal.SIGKILL)
    batch = Batch()
    batch.call("wait4", pid, 0, _WALL, 0, want=pid, note=f"pid {pid}")
    site.tasks[parent].session.run(batch)
    site.forget_one(pid)


def _no_file(_: Vma) -> int:
    raise RestoreError("a file is wanted before there are any")


def _births(outline: Outline) -> Plan:
    try:
        births = plan_births(outline.tree, 0, 0, outline.sharing)
    except (NoBirthError, RecursionError) as error:
        raise RestoreError("the tree can't be born", why=str(error)) from error
    if any(birth.shared & CLONE_VM for birth in births.root):
        raise RestoreError("it can't be born early", why="tasks of it share memory")
    return births


def _loaded(chain: Chain, outline: Outline) -> Loaded:
    loaded = Loaded(chain, outline.tree, {}, {}, None, outline.sharing)
    for task in outline.tree:
        if task.dead:
            continue
        name = f"pagemap-{task.pid}"
        pages = loaded.pages(name) if chain.layers[0].exists(name) else ()
        memory = early_memory(outline.vmas[task.pid], pages)
        loaded.tasks[task.pid] = TaskImage(task, None, {task.pid: None}, None, None, memory, {})
    return loaded


def _window(loaded: Loaded, vmas: list[Vma]) -> Window:
    places = places_of(loaded)
    try:
        places = places._replace(nr_slots=2 * places.nr_slots + _SPARE_SLOTS)
        return window_for(vmas, places, Needs())
    except ValueError as error:
        raise RestoreError("it can't be born early", why=str(error)) from error
