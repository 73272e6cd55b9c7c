"""Which of the tasks that were born early a tree can go on with."""

from __future__ import annotations

from typing import Any, cast

import pytest

from ckpt.pstree.birth import plan_births
from ckpt.pstree.model import State, Task, Tree
from ckpt.pstree.sharing import ALONE, FILES, Sharing, numbered
from ckpt.restore.started import Started

_ANY = cast("Any", None)
ROOT = Task(1, 0, 1, 1, State.ALIVE)
CHILD = Task(2, 1, 1, 1, State.ALIVE)
GRANDCHILD = Task(3, 2, 1, 1, State.ALIVE)
FOUNDER = Task(4, 1, 4, 4, State.ALIVE)
BEFORE = Task(5, 4, 1, 1, State.ALIVE)
"""Its parent founded a session after its birth."""

WITHIN = Task(6, 4, 4, 4, State.ALIVE)
ALL = (ROOT, CHILD, GRANDCHILD, FOUNDER, BEFORE, WITHIN)


def survivors(old: tuple[Task, ...], new: tuple[Task, ...], sharing: Sharing = ALONE) -> set[int]:
    trees = [Tree(tasks, 1) for tasks in (old, new)]
    births = [
        plan_births(tree, 0, 0, shared).root
        for tree, shared in zip(trees, (ALONE, sharing), strict=True)
    ]
    started = Started(trees[0], births[0], _ANY, {}, ())
    return set(started.survivors(trees[1], births[1]))


def without(*gone: Task) -> tuple[Task, ...]:
    return tuple(task for task in ALL if task not in gone)


def changed(task: Task, **fields: Any) -> tuple[Task, ...]:
    names = ("pid", "ppid", "pgid", "sid", "state", "threads", "exit_signal")
    values = {name: getattr(task, name) for name in names} | fields
    return tuple(Task(**values) if one is task else one for one in ALL)


CASES = {
    "the same": (ALL, ALL, {1, 2, 3, 4, 5, 6}),
    "another group": (ALL, changed(CHILD, pgid=2), {1, 2, 3, 4, 5, 6}),
    "more threads": (ALL, changed(CHILD, threads=(9,)), {1, 2, 3, 4, 5, 6}),
    "one more": (without(GRANDCHILD), ALL, {1, 2, 4, 5, 6}),
    "one more within a session": (without(WITHIN), ALL, {1, 2, 3, 4, 5}),
    "one more from before a session": (without(BEFORE), ALL, {1, 2, 3}),
    "one less": (ALL, without(GRANDCHILD), {1, 2, 4, 5, 6}),
    "a parent less": (
        ALL,
        (*without(CHILD, GRANDCHILD), Task(3, 1, 1, 1, State.ALIVE)),
        {1, 4, 5, 6},
    ),
    "one has died": (ALL, changed(GRANDCHILD, state=State.DEAD), {1, 2, 4, 5, 6}),
    "another exit signal": (ALL, changed(GRANDCHILD, exit_signal=0), {1, 2, 4, 5, 6}),
    "a session since": (ALL, changed(CHILD, sid=2, pgid=2), {1, 4, 5, 6}),
    "the root has another end": (ALL, changed(ROOT, exit_signal=0), set()),
}


@pytest.mark.parametrize(("old", "new", "expected"), CASES.values(), ids=CASES)
def test_survivors(old: tuple[Task, ...], new: tuple[Task, ...], expected: set[int]) -> None:
    assert survivors(old, new) == expected


def test_what_is_shared_since() -> None:
    """A descriptor table: who has it now is born anew, and so are those born by it."""
    shared = numbered({FILES: [[1, 2]]}, [task.pid for task in ALL])
    assert survivors(ALL, ALL, shared) == {1, 4, 5, 6}
