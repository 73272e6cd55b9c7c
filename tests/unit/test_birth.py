"""Births: every task gets its session, whoever has to give it."""

from __future__ import annotations

import pytest

from ckpt.pstree.birth import Birth, NoBirthError, Plan, plan_births
from ckpt.pstree.model import State, Task, Tree

OUTER = 50


def task(pid: int, ppid: int, sid: int, pgid: int | None = None) -> Task:
    return Task(pid, ppid, sid if pgid is None else pgid, sid, State.ALIVE)


def born(plan: Plan, tree: Tree) -> dict[int, tuple[int, int]]:
    """pid -> (parent, session), from walking the plan as the kernel would carry it out."""
    got: dict[int, tuple[int, int]] = {}

    def walk(birth: Birth, parent: int, session: int) -> None:
        for child in birth.early:
            walk(child, birth.pid, session)
        own = birth.pid if birth.founds_session else session
        got[birth.pid] = (parent, own)
        for child in birth.late:
            walk(child, parent if child.for_parent else birth.pid, own)

    walk(plan.root, tree.root.ppid, OUTER)
    return got


@pytest.mark.parametrize(
    "tasks",
    [
        [task(100, 1, 100)],
        [task(100, 1, OUTER, 40), task(101, 100, OUTER, 40)],
        [task(100, 1, 100), task(101, 100, 100), task(102, 101, 102), task(103, 102, 102)],
        [task(100, 1, 100), task(101, 100, OUTER)],
        [task(100, 1, 100), task(101, 100, 101), task(102, 101, 100)],
        [task(100, 1, 100), task(101, 100, 101), task(102, 100, 101)],
        [task(100, 1, 100), task(102, 100, 101), task(103, 100, 101)],
    ],
    ids=["alone", "shell-job", "plain", "before-setsid", "nested-early", "adopted", "dead-leader"],
)
def test_sessions(tasks: list[Task]) -> None:
    tree = Tree(tasks, 100)
    plan = plan_births(tree, OUTER, 40)
    got = born(plan, tree)
    assert {t.pid: (t.ppid, t.sid) for t in tree} == {
        pid: got[pid] for pid in (t.pid for t in tree)
    }
    assert set(got) - {t.pid for t in tree} <= set(plan.helpers())


def test_dead_group_leader_gets_a_helper() -> None:
    tree = Tree([task(100, 1, 100), task(101, 100, 100, 77), task(102, 100, 100, 77)], 100)
    assert plan_births(tree, OUTER, 40).helpers() == {77: 101}


def test_impossible_session() -> None:
    tree = Tree(
        [task(100, 1, 100), task(101, 100, 101), task(102, 101, 101), task(103, 101, 100)], 100
    )
    plan_births(tree, OUTER, 40)  # 103 is born before 101 founds its session
    far = Tree(
        [task(100, 1, 100), task(101, 100, 101), task(102, 101, 101), task(103, 102, 100)], 100
    )
    with pytest.raises(NoBirthError, match="pid 103 is in session 100"):
        plan_births(far, OUTER, 40)


def test_not_a_tree() -> None:
    with pytest.raises(ValueError, match="does not descend"):
        Tree([task(100, 1, 100), task(200, 199, 100)], 100)
