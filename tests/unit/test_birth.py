"""Births: every task gets its session, whoever has to give it."""

from __future__ import annotations

import pytest

from ckpt.pstree.birth import Birth, NoBirthError, Plan, plan_births
from ckpt.pstree.model import State, Task, Tree
from ckpt.pstree.sharing import (
    CLONE_FILES,
    CLONE_SIGHAND,
    CLONE_VM,
    FILES,
    FS,
    SIGHAND,
    VM,
    Kind,
    Sharing,
    numbered,
)
from ckpt.record import replace

OUTER = 50


GROUPED: dict[Kind, list[tuple[int, ...]]] = {
    FILES: [(101, 102)],
    VM: [(100, 103)],
    SIGHAND: [(100, 103)],
}


def task(pid: int, ppid: int, sid: int, pgid: int | None = None) -> Task:
    return Task(pid, ppid, sid if pgid is None else pgid, sid, State.ALIVE)


def born(plan: Plan, tree: Tree) -> dict[int, tuple[int, int]]:
    """pid -> (parent, session), from walking the plan as the kernel would carry it out."""
    got: dict[int, tuple[int, int]] = {}

    def walk(birth: Birth, parent: int, session: int) -> None:
        for child in birth.early:
            walk(child, parent if child.for_parent else birth.pid, session)
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


def sharing(tree: Tree, groups: dict[Kind, list[tuple[int, ...]]]) -> Sharing:
    return numbered(groups, (t.pid for t in tree))


def test_what_is_shared_comes_from_the_creator() -> None:
    """Siblings give what their parent has not; the parent gives the rest."""
    tree = Tree([task(100, 1, 100), *(task(pid, 100, 100) for pid in (101, 102, 103))], 100)
    root = plan_births(tree, OUTER, 40, sharing(tree, GROUPED)).root
    births = {birth.pid: birth for birth in root}
    assert (births[102].creator, births[102].for_parent, births[102].shared) == (
        101,
        True,
        CLONE_FILES,
    )
    assert (births[103].creator, births[103].shared) == (100, CLONE_VM | CLONE_SIGHAND)
    assert births[101].shared == 0
    assert born(plan_births(tree, OUTER, 40, sharing(tree, GROUPED)), tree)[102] == (100, 100)


def test_shared_with_a_founder_of_a_session() -> None:
    """The one that shares with it is in the old session, or has founded its own as well."""
    for sid in (100, 102):
        tree = Tree([task(100, 1, 100), task(101, 100, 101), task(102, 100, sid)], 100)
        plan = plan_births(tree, OUTER, 40, sharing(tree, {FS: [(101, 102)]}))
        assert born(plan, tree)[102] == (100, sid)


def test_group_from_outside_of_the_pid_namespace() -> None:
    """Its number is 0: it can be inherited only."""
    tree = Tree([task(100, 1, 0, 100), task(101, 100, 0, 0)], 100)
    assert not plan_births(tree, 0, 0).helpers()
    with pytest.raises(NoBirthError, match="pid namespace"):
        plan_births(tree, 0, 100)


@pytest.mark.parametrize(
    ("groups", "why"),
    [
        ({FILES: [(100, 102)]}, "shared with pid 100"),
        ({FILES: [(101, 103)], FS: [(102, 103)]}, "shared with pid 103"),
    ],
    ids=["over a generation", "two siblings"],
)
def test_shared_things_that_nobody_can_pass_on(
    groups: dict[Kind, list[tuple[int, ...]]], why: str
) -> None:
    parents = {101: 100, 102: 101 if FS not in groups else 100, 103: 100}
    tree = Tree([task(100, 1, 100), *(task(pid, p, 100) for pid, p in parents.items())], 100)
    with pytest.raises(NoBirthError, match=why):
        plan_births(tree, OUTER, 40, sharing(tree, groups))


def test_exit_signals_of_siblings() -> None:
    """Who is cloned by a sibling has the sibling's exit signal, and can have no other."""
    tasks = [task(100, 1, 100), task(101, 100, 100), replace(task(102, 100, 100), exit_signal=0)]
    tree = Tree(tasks, 100)
    with pytest.raises(NoBirthError, match="born with that of pid 101"):
        plan_births(tree, OUTER, 40, sharing(tree, {FILES: [(101, 102)]}))
    plan_births(tree, OUTER, 40)


def test_signal_actions_without_memory() -> None:
    with pytest.raises(ValueError, match="pid 100 and pid 101 share signal actions"):
        numbered({SIGHAND: [(100, 101)]}, (100, 101))


def test_not_a_tree() -> None:
    with pytest.raises(ValueError, match="does not descend"):
        Tree([task(100, 1, 100), task(200, 199, 100)], 100)
