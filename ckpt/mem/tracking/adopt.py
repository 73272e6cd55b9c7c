"""New tasks of a tree are handed to its keeper, each by itself.

For each task that lives and is not tracked (born since, or exec'ed): its threads alone are seized,
it is infected, a userfaultfd is made in it and taken, it is cured and let go; the keeper gets the
userfaultfd and the pagemap of this very moment. No other task stands meanwhile, and a task that is
tracked already is not touched. The tree runs on and bears children, so it is looked at again until
there is nobody new, at most LOOKS times; who is born later is found by the next round.

What can't be tracked is passed over with a warning, once, and is whole in every layer: tasks under
seccomp, with a tracer, without a free descriptor, kernel threads, and those that share their memory
with another task (vfork(2) under way, clone(2) with CLONE_VM), for two trackers of one memory would
take each other's marks away.

Not guaranteed: that a task shares memory with one outside of the tree is not seen.
"""

from __future__ import annotations

import os
import time
from functools import cmp_to_key
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

from ckpt._native import lib
from ckpt.errors import DeadlineError, KernelError, RefusedError, TargetError
from ckpt.infect.inject import infect
from ckpt.infect.predecessor import settle
from ckpt.mem.tracking.client import KeeperRefused
from ckpt.mem.tracking.open import open_pagemap, open_uffd
from ckpt.procfs.tree import look, tree
from ckpt.tracee.freeze import seize

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ckpt.mem.tracking.client import Known
    from ckpt.mem.tracking.engine import Mode
    from ckpt.procfs.tree import TreeTask
    from ckpt.report import Report

LOOKS = 10
SEIZE_S = 10.0
_DEAD = "ZX"
_KCMP_VM = 1
_SKIPPED = (RefusedError, TargetError, DeadlineError, KernelError, KeeperRefused)


class Holder(Protocol):
    """Who takes tasks over: a keeper, or a process for itself."""

    @property
    def mode(self) -> Mode: ...

    def tracked(self) -> dict[int, Known]: ...

    def adopt(self, pid: int, start_time: int, uffd: int, pagemap: int) -> None: ...


def adopt_new(keeper: Holder, root_pid: int, report: Report) -> list[int]:
    """Hand every task of the tree over that is alive and not tracked; their pids.

    Raises what makes further work useless: KeeperGone, HarmError, and TargetError where the root
    has ended.
    """
    adopted: list[int] = []
    tried: set[tuple[int, int]] = set()
    for _ in range(LOOKS):
        known = {(pid, task.start_time) for pid, task in keeper.tracked().items()}
        alive = [task for task in tree(root_pid) if task.state not in _DEAD]
        new = [task for task in alive if (task.pid, task.starttime) not in known | tried]
        if not new:
            break
        sharing = _sharing(alive)
        for task in new:
            tried.add((task.pid, task.starttime))
            if task.pid in sharing:
                why = f"it shares its memory with pid {sharing[task.pid]}"
                report.warn(f"pid {task.pid}: not tracked, but whole in every image set: {why}")
            elif _adopt(keeper, task, report):
                adopted.append(task.pid)
    return adopted


def _adopt(keeper: Holder, task: TreeTask, report: Report) -> bool:
    before = time.monotonic_ns()
    try:
        _hand_over(keeper, task)
    except _SKIPPED as error:
        now = look(task.pid)
        if now is None or now.starttime != task.starttime or now.state in _DEAD:
            report.debug(f"pid {task.pid}: ended before it was tracked")
        else:
            report.warn(f"pid {task.pid}: not tracked, but whole in every image set: {error}")
        return False
    report.info(f"pid {task.pid}: tracked, {(time.monotonic_ns() - before) // 1000} us")
    return True


def _hand_over(keeper: Holder, task: TreeTask) -> None:
    """The keeper has `task`, and its descriptor table is as it was."""
    lfds: list[int] = []
    try:
        with seize(task.pid, deadline_s=SEIZE_S, children=False) as seized:
            standing = seized.tasks.get(task.pid)
            if standing is None or standing.zombie:
                raise TargetError("it has ended", pid=task.pid)
            settle(standing)
            with infect(standing) as session:
                lfds.append(open_uffd(session, standing, keeper.mode))
            lfds.append(open_pagemap(task.pid))
        keeper.adopt(task.pid, task.starttime, *lfds)
    finally:
        for lfd in lfds:
            os.close(lfd)


def _sharing(tasks: Iterable[TreeTask]) -> dict[int, int]:
    """The tasks whose memory is another one's as well, each with one of these others."""
    alive = [task.pid for task in tasks if lib.ckpt_kcmp(task.pid, task.pid, _KCMP_VM, 0, 0) == 0]
    ordered = sorted(alive, key=cmp_to_key(_order))
    found: dict[int, int] = {}
    for one, other in pairwise(ordered):
        if lib.ckpt_kcmp(one, other, _KCMP_VM, 0, 0) == 0:
            found.update({one: other, other: one})
    return found


def _order(one: int, other: int) -> int:
    """By the kernel's order of their memories; who has ended meanwhile is anywhere."""
    order = lib.ckpt_kcmp(one, other, _KCMP_VM, 0, 0)
    return {1: -1, 2: 1}.get(order, 0)
