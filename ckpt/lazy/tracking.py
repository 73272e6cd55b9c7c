"""From a lazy restore to a tracked tree, when all of its memory is there (--track-mem).

Pages have come write-protected, so what was written since is known. The userfaultfd of a lazy
restore also tells of every fork and unmapping, for which the target waits: it gives place to one
that does not. While the tasks stand:

1. the server of pages, which has answered their events so far, is ended;
2. what was written is read; the old userfaultfd is closed, which takes its protection along;
3. a new one is made by the task itself; the keeper gets it, arms it, and learns which pages are
   as the images have them.

A task that has moved memory meanwhile is left out: protected pages would stand for others. Its next
dump is whole, as is that of children that were born since.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

from ckpt.errors import CkptError
from ckpt.infect.inject import infect
from ckpt.infect.predecessor import settle
from ckpt.mem.extents import Extents
from ckpt.mem.missing.contents import RUN
from ckpt.mem.tracking.asynchronous import Asynchronous
from ckpt.mem.tracking.client import Keeper
from ckpt.mem.tracking.engine import Mode
from ckpt.mem.tracking.open import open_pagemap, open_uffd
from ckpt.mem.vma import trackable
from ckpt.procfs.maps import parse_maps
from ckpt.procfs.reader import ProcDir
from ckpt.procfs.tree import look
from ckpt.tracee.freeze import seize

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ckpt.lazy.layout import Task
    from ckpt.mem.missing.contents import Contents
    from ckpt.tracee.stopped import SeizedTask

_SEIZE_S = 10.0


def track(
    tasks: Sequence[Task],
    moved: Callable[[int], bool],
    contents: Contents,
    root_pid: int,
    end_server: Callable[[], None],
) -> None:
    """Hand every task of `tasks` that is tracked to a new keeper. `moved` tells, by its number,
    whether one has moved memory. The descriptors of `tasks` are closed. Raises CkptError: nothing
    is tracked, and the tree runs on."""
    wanted = [(index, task) for index, task in enumerate(tasks) if task.tracked]
    with ExitStack() as scope:
        keeper = scope.enter_context(Keeper.start(root_pid, Mode.ASYNC))
        scope.push(lambda kind, *_: keeper.untrack() if kind else None)
        standing = []
        for index, task in wanted:
            seized = scope.enter_context(seize(task.pid, deadline_s=_SEIZE_S, children=False))
            one = seized.tasks.get(task.pid)
            if one is not None and not one.zombie:
                settle(one)
                standing.append((index, task, one))
        end_server()
        for task in tasks:
            if task.shares:
                continue  # the server has closed it
            if task not in [known for _, known, _ in standing]:
                os.close(task.uffd)
        for index, task, one in standing:
            if moved(index):
                os.close(task.uffd)
            else:
                _hand_over(keeper, task, one, contents)


def _hand_over(keeper: Keeper, task: Task, standing: SeizedTask, contents: Contents) -> None:
    with ProcDir(task.pid) as proc:
        # As they are now: a mapping that has grown is not to be cut in two.
        ranges = Extents.of(trackable(parse_maps(proc.read("maps"))))
    known = Extents.of((run[0], run[1]) for run in RUN.iter_unpack(contents.runs[task.pid]))
    before = Asynchronous(task.uffd, open_pagemap(task.pid))
    try:
        before.arm(ranges)
        found = before.look(ranges, rearm=False)
    finally:
        before.close()
    stored = (known & ranges & found.populated) - found.written
    with infect(standing) as session:
        uffd = open_uffd(session, standing, Mode.ASYNC)
    pagemap = -1
    try:
        pagemap = open_pagemap(task.pid)
        now = look(task.pid)
        if now is None:
            raise CkptError("it has ended", pid=task.pid)
        keeper.inherit(
            task.pid, now.starttime, uffd, pagemap, base=contents.base, ranges=ranges, stored=stored
        )
    finally:
        os.close(uffd)
        if pagemap >= 0:
            os.close(pagemap)
