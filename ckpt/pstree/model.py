"""Tasks of one tree: who is whose child, and in which group and session.

Pure: built from /proc by a dump and from `pstree.img` by a restore. Numbers are those of the pid
namespace that the tree lives in.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from enum import IntEnum

from ckpt.record import record


class State(IntEnum):
    """As `task_core_entry.task_state` says it."""

    ALIVE = 1
    DEAD = 2
    STOPPED = 3


@record(frozen=True)
class Task:
    """One process. `threads` holds the other threads' ids, without the leader's; `exit_signal` is
    what its parent gets at its end."""

    pid: int
    ppid: int
    pgid: int
    sid: int
    state: State
    threads: tuple[int, ...] = ()
    exit_signal: int = signal.SIGCHLD

    @property
    def leads_session(self) -> bool:
        return self.sid == self.pid

    @property
    def leads_group(self) -> bool:
        return self.pgid == self.pid

    @property
    def dead(self) -> bool:
        return self.state is State.DEAD


class Tree:
    """Tasks with one root. Raises ValueError where they don't form a tree."""

    def __init__(self, tasks: Iterable[Task], root: int) -> None:
        self._tasks: dict[int, Task] = {}
        self._children: dict[int, list[int]] = {}
        for task in tasks:
            if task.pid in self._tasks:
                raise ValueError(f"two tasks have pid {task.pid}")
            self._tasks[task.pid] = task
            if task.pid != root:
                self._children.setdefault(task.ppid, []).append(task.pid)
        if root not in self._tasks:
            raise ValueError(f"there is no root {root}")
        self.root = self._tasks[root]
        reached = [task.pid for task in self]
        if len(reached) != len(self._tasks):
            lost = min(set(self._tasks) - set(reached))
            raise ValueError(f"pid {lost} does not descend from {root}")

    def __iter__(self) -> Iterator[Task]:
        """Parents before children, siblings in order."""
        waiting = [self.root.pid]
        while waiting:
            pid = waiting.pop()
            yield self._tasks[pid]
            waiting.extend(reversed(self._children.get(pid, ())))

    def __len__(self) -> int:
        return len(self._tasks)

    def __contains__(self, pid: int) -> bool:
        return pid in self._tasks

    def __getitem__(self, pid: int) -> Task:
        return self._tasks[pid]

    def get(self, pid: int | None) -> Task | None:
        return None if pid is None else self._tasks.get(pid)

    def children(self, pid: int) -> list[Task]:
        return [self._tasks[child] for child in self._children.get(pid, ())]

    def parent(self, task: Task) -> Task | None:
        return None if task is self.root else self._tasks[task.ppid]

    def numbers(self) -> set[int]:
        """Every process and thread id of the tree."""
        return {n for task in self for n in (task.pid, *task.threads)}
