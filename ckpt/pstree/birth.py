"""In which order, and by whom, the tasks of a tree are born so that each gets its session.

A session can only be inherited or founded. So each task is cloned by a task that is in the wanted
session at that moment:

1. by its parent, when both end up in one session, or when the task founds its own;
2. by its parent *before* the parent founds a session, when that is the session the parent was born
   into;
3. by a member of the wanted session that is itself a child of the parent, with CLONE_PARENT;
4. by a helper: a child of the parent that founds the session under its dead leader's number, gives
   birth with CLONE_PARENT, and ends before the restore does.

Groups are joined later, when everybody is there; a group whose leader is dead gets a helper too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from ckpt.pstree.model import Task, Tree


class NoBirthError(ValueError):
    """A task's session can't be given to it by any order of births."""

    def __init__(self, task: Task) -> None:
        self.task = task
        super().__init__(
            f"pid {task.pid} is in session {task.sid}, which neither its parent {task.ppid} nor "
            f"any sibling can pass on"
        )


@dataclass(slots=True)
class Birth:
    """One task to be cloned. `creator` clones it (None: the controller does); with
    `for_parent`, as a child of its own parent. Births in `early` come before this task founds its
    session, those in `late` after."""

    pid: int
    creator: int | None
    for_parent: bool = False
    founds_session: bool = False
    helper: bool = False
    early: list[Birth] = field(default_factory=list)
    late: list[Birth] = field(default_factory=list)

    def __iter__(self) -> Iterator[Birth]:
        """This birth and all that follow from it, each after its creator's."""
        yield self
        for child in (*self.early, *self.late):
            yield from child


@dataclass(frozen=True, slots=True)
class GroupHelper:
    """A child of `member` that takes the number of a dead group leader until all have joined."""

    pgid: int
    member: int


@dataclass(frozen=True, slots=True)
class Plan:
    """The births, outermost first, and the helpers that groups need."""

    root: Birth
    group_helpers: tuple[GroupHelper, ...]

    def helpers(self) -> dict[int, int]:
        """Every helper's pid -> the pid that has it as a child and must reap it."""
        found = {h.pgid: h.member for h in self.group_helpers}
        found.update(self._session_helpers(self.root))
        return found

    def _session_helpers(self, birth: Birth) -> dict[int, int]:
        found = {}
        for child in (*birth.early, *birth.late):
            if child.helper:
                found[child.pid] = birth.pid
            found.update(self._session_helpers(child))
        return found


def plan_births(tree: Tree, outer_session: int, outer_group: int) -> Plan:
    """The plan for `tree`, whose root is born into `outer_session` and `outer_group`.

    Raises NoBirthError.
    """
    root = Birth(tree.root.pid, None, founds_session=tree.root.leads_session)
    if not root.founds_session and tree.root.sid != outer_session:
        raise NoBirthError(tree.root)
    _add_children(tree, tree.root, root, outer_session)
    return Plan(root, tuple(_group_helpers(tree, outer_group)))


def _add_children(tree: Tree, parent: Task, birth: Birth, born_in: int) -> None:
    """Put the births of `parent`'s children under `birth`, whose session at birth is `born_in`."""
    placed: dict[int, Birth] = {}  # session -> the child of `parent` that can pass it on
    waiting = tree.children(parent.pid)
    while waiting:
        later = []
        for task in waiting:
            made = _place(task, parent, birth, born_in, placed)
            if made is None:
                later.append(task)
                continue
            _add_children(tree, task, made, task.sid if not task.leads_session else parent.sid)
            placed.setdefault(task.sid, made)
        if len(later) == len(waiting):
            later = _found_session(later, tree, parent, birth, placed)
        waiting = later


def _place(
    task: Task, parent: Task, birth: Birth, born_in: int, placed: dict[int, Birth]
) -> Birth | None:
    if task.leads_session or task.sid == parent.sid:
        made = Birth(task.pid, parent.pid, founds_session=task.leads_session)
        birth.late.append(made)
    elif parent.leads_session and task.sid == born_in:
        made = Birth(task.pid, parent.pid)
        birth.early.append(made)
    elif task.sid in placed:
        creator = placed[task.sid]
        made = Birth(task.pid, creator.pid, for_parent=True)
        creator.late.append(made)
    else:
        return None
    return made


def _found_session(
    stuck: list[Task], tree: Tree, parent: Task, birth: Birth, placed: dict[int, Birth]
) -> list[Task]:
    """Give the first stuck task's session a helper under its dead leader's number."""
    sid = stuck[0].sid
    if sid in tree or sid <= 0:
        raise NoBirthError(stuck[0])
    helper = Birth(sid, parent.pid, founds_session=True, helper=True)
    birth.late.append(helper)
    placed[sid] = helper
    return stuck


def _group_helpers(tree: Tree, outer_group: int) -> Iterator[GroupHelper]:
    known = {task.pid for task in tree} | {outer_group}
    session_helpers = {task.sid for task in tree if task.sid not in tree}
    for task in tree:
        if task.pgid in known or task.pgid in session_helpers or task.dead:
            continue
        known.add(task.pgid)
        yield GroupHelper(task.pgid, task.pid)
