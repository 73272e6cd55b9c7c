"""In which order, and by whom, the tasks of a tree are born so that each gets its session.

A session can only be inherited or founded. So each task is cloned by a task that is in the wanted
session at that moment:

1. by its parent, when both end up in one session, or when the task founds its own;
2. by its parent *before* the parent founds a session, when that is the session the parent was born
   into;
3. by a member of the wanted session that is itself a child of the parent, with CLONE_PARENT;
4. by a helper: a child of the parent that founds the session under its dead leader's number, gives
   birth with CLONE_PARENT, and ends before the restore does;
5. who shares something with a sibling, but not with the parent: by that sibling, with CLONE_PARENT.

What tasks share (ckpt.pstree.sharing) goes from creator to creature only: all who share one thing
must descend from the first of them through births among themselves.

Groups are joined later, when everybody is there; a group whose leader is dead gets a helper too.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator

from ckpt.pstree.model import Task, Tree
from ckpt.pstree.sharing import ALONE, KINDS, Kind, Sharing
from ckpt.record import field, record


class NoBirthError(ValueError):
    """What a task has can't be given to it by any order of births: `resource` says what."""

    def __init__(self, task: Task, resource: str, why: str) -> None:
        self.task, self.resource = task, resource
        super().__init__(why)


def _no_session(task: Task) -> NoBirthError:
    return NoBirthError(
        task,
        f"session {task.sid}",
        f"pid {task.pid} is in session {task.sid}, which neither its parent {task.ppid} nor any "
        "sibling can pass on",
    )


@record
class Birth:
    """One task to be cloned. `creator` clones it (None: the controller does); with
    `for_parent`, as a child of its own parent. Births in `early` come before this task founds its
    session, those in `late` after. `shared`: the flags of clone(2) for what both shall share."""

    pid: int
    creator: int | None
    for_parent: bool = False
    founds_session: bool = False
    helper: bool = False
    shared: int = 0
    early: list[Birth] = field(default_factory=list)
    late: list[Birth] = field(default_factory=list)

    def __iter__(self) -> Iterator[Birth]:
        """This birth and all that follow from it, each after its creator's."""
        yield self
        for child in (*self.early, *self.late):
            yield from child


@record(frozen=True)
class GroupHelper:
    """A child of `member` that takes the number of a dead group leader until all have joined."""

    pgid: int
    member: int


@record(frozen=True)
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


def plan_births(tree: Tree, outer_session: int, outer_group: int, sharing: Sharing = ALONE) -> Plan:
    """The plan for `tree`, whose root is born into `outer_session` and `outer_group`.

    Raises NoBirthError.
    """
    root = Birth(tree.root.pid, None, founds_session=tree.root.leads_session)
    if not root.founds_session and tree.root.sid != outer_session:
        raise _no_session(tree.root)
    _Planning(tree, sharing).add_children(tree.root, root, outer_session)
    _share(tree, sharing, root)
    return Plan(root, tuple(_group_helpers(tree, outer_group)))


@record
class _Family:
    """The children of one parent. `passing`: by session, the child that can pass it on; `made`: the
    births so far; `born_in`: the session into which the parent was born."""

    parent: Task
    birth: Birth
    born_in: int
    passing: dict[int, Birth] = field(default_factory=dict)
    made: dict[int, Birth] = field(default_factory=dict)


class _Planning:
    """The walk down a tree that finds a creator for each task."""

    def __init__(self, tree: Tree, sharing: Sharing) -> None:
        self._tree, self._sharing = tree, sharing

    def add_children(self, parent: Task, birth: Birth, born_in: int) -> None:
        """Put the births of `parent`'s children under `birth`, whose session at birth is
        `born_in`."""
        family = _Family(parent, birth, born_in)
        waiting = self._tree.children(parent.pid)
        while waiting:
            later = []
            for task in waiting:
                made = self._place(task, family)
                if made is None:
                    later.append(task)
                    continue
                family.made[task.pid] = made
                self.add_children(task, made, task.sid if not task.leads_session else parent.sid)
                family.passing.setdefault(task.sid, made)
            if len(later) == len(waiting):
                later = _found_session(later, self._tree, family)
            waiting = later

    def _place(self, task: Task, family: _Family) -> Birth | None:
        kin = self._kin(task, family.parent)
        if kin is not None:
            return _by_kin(task, kin, family)
        return _by_session(task, family)

    def _kin(self, task: Task, parent: Task) -> Task | None:
        """The first sibling before `task` that shares with it what the parent does not."""
        wanted = self._sharing.between
        of_parent = wanted(parent.pid, task.pid)
        for sibling in self._tree.children(parent.pid):
            if sibling.pid == task.pid:
                return None
            if wanted(sibling.pid, task.pid) & ~of_parent:
                return sibling
        return None


def _by_kin(task: Task, kin: Task, family: _Family) -> Birth | None:
    creator = family.made.get(kin.pid)
    if creator is None:
        return None
    made = Birth(task.pid, kin.pid, for_parent=True, founds_session=task.leads_session)
    if task.leads_session or task.sid == kin.sid:
        creator.late.append(made)
    elif kin.leads_session and not creator.for_parent and task.sid == family.parent.sid:
        creator.early.append(made)
    else:
        raise _no_session(task)
    return made


def _by_session(task: Task, family: _Family) -> Birth | None:
    parent = family.parent
    if task.leads_session or task.sid == parent.sid:
        made = Birth(task.pid, parent.pid, founds_session=task.leads_session)
        family.birth.late.append(made)
    elif parent.leads_session and task.sid == family.born_in:
        made = Birth(task.pid, parent.pid)
        family.birth.early.append(made)
    elif task.sid in family.passing:
        creator = family.passing[task.sid]
        made = Birth(task.pid, creator.pid, for_parent=True)
        creator.late.append(made)
    else:
        return None
    return made


def _share(tree: Tree, sharing: Sharing, root: Birth) -> None:
    """Give each birth its flags, and see that they make all share what they shall."""
    born: dict[tuple[Kind, int], set[int]] = {}
    for birth in root:
        if birth.creator is not None:
            birth.shared = sharing.between(birth.creator, birth.pid)
        if birth.for_parent and not birth.helper:
            _check_exit_signal(tree, birth)
        for kind in KINDS if sharing.ids(birth.pid) else ():
            members = born.setdefault((kind, sharing.first(kind, birth.pid)), set())
            if members and birth.creator not in members:
                raise NoBirthError(
                    tree[birth.pid],
                    kind.what,
                    f"shared with pid {min(members)} (clone(2)), but not with who must give birth "
                    f"to it, pid {birth.creator}",
                )
            members.add(birth.pid)


def _check_exit_signal(tree: Tree, birth: Birth) -> None:
    """With CLONE_PARENT it is that of the creator; helpers have the usual one."""
    task = tree[birth.pid]
    creator = tree.get(birth.creator)
    given = signal.SIGCHLD if creator is None else creator.exit_signal
    if task.exit_signal != given and not task.dead:
        why = f"it can only be born with that of pid {birth.creator}, {given}"
        raise NoBirthError(task, f"exit signal {task.exit_signal}", why)


def _found_session(stuck: list[Task], tree: Tree, family: _Family) -> list[Task]:
    """Give the first stuck task's session a helper under its dead leader's number."""
    sid = stuck[0].sid
    if sid in tree or sid <= 0 or sid in family.passing:
        raise _no_session(stuck[0])
    helper = Birth(sid, family.parent.pid, founds_session=True, helper=True)
    family.birth.late.append(helper)
    family.passing[sid] = helper
    return stuck


def _group_helpers(tree: Tree, outer_group: int) -> Iterator[GroupHelper]:
    known = {task.pid for task in tree} | {outer_group}
    session_helpers = {task.sid for task in tree if task.sid not in tree and task.sid > 0}
    for task in tree:
        if task.pgid in known or task.pgid in session_helpers or task.dead:
            continue
        if task.pgid <= 0:
            why = "its leader is in another pid namespace, and the root of the tree is not of it"
            raise NoBirthError(task, f"group {task.pgid}", why)
        known.add(task.pgid)
        yield GroupHelper(task.pgid, task.pid)
