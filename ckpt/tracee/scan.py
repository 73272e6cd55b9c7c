"""Which tasks and threads a tree has: a first look while it runs, and a proof once it stands.

The kernel's lists (task/, task/TID/children) may skip an entry: they are walked from one entry to
the next without a lock held in between, and who leaves while it is the present one takes the place
in the list with it (get_children_pid in fs/proc/array.c, next_tid in fs/proc/base.c). Saying the
same twice is no proof, for each time another one may have left. Why `proved` is one:

1. Entries are only ever added at the end of a list. So one is missed only where another that was
   shown before it has left meanwhile. All that is shown to `proved` stands, and who stands can't
   end; or it is a zombie, which its parent, that stands, can't reap, and which is looked at again
   to be the same. That none of those who stand was killed meanwhile the caller asks the kernel
   afterwards. Hence a list was whole at the moment when its end was reached.
2. Threads are born by threads of their process. A process gets into the list of a thread by its
   fork, by a child of it (CLONE_PARENT), or by the death of somebody further below whose children
   come up to it. Each needs somebody below that thread, or itself, who runs.
3. Children are read before their parents. Assume that below each child of a task, nobody has run
   since the child was read. When the end of the task's own list is reached, all in it stand: so
   nobody below the task runs, or ever will before the thaw. By induction that holds for the root.

The order matters: read downwards, a task that runs below could die after its ancestor (a child
subreaper) was read, and its children come up to where nobody looks any more.

Not guaranteed: a task that was reparented away from the tree before it stood is not of it. Where
the kernel has no lists of children (CONFIG_PROC_CHILDREN), parents are asked of all processes: what
is born behind the reader's back, with a lower number, is seen only by the next look.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from ckpt.errors import TargetError
from ckpt.procfs.reader import ProcDir
from ckpt.procfs.scalars import parse_children
from ckpt.procfs.stat import parse_stat
from ckpt.procfs.tree import TreeTask, has_children_files, look, scan_parents, tree

_DEAD = "ZX"
_ZOMBIE = "Z"


class Seen(NamedTuple):
    """A task of one scan; a leader that is dead may still have threads, a zombie has none."""

    pid: int
    ppid: int
    starttime: int
    dead: bool
    tids: tuple[int, ...]
    zombie: bool


def tasks(root: int, *, children: bool = True) -> list[TreeTask]:
    """The tree as it is now, or the root alone, parents first."""
    if children:
        return tree(root)
    task = look(root)
    return [task] if task else []


def scan(root: int, *, children: bool = True) -> list[Seen]:
    """What was seen of the tree, or without `children` of the root alone, parents first. Raises
    TargetError when the root has ended."""
    seen = []
    for task in tasks(root, children=children):
        try:
            with ProcDir(task.pid) as proc:
                tids = tuple(proc.tids())
        except TargetError:
            continue
        dead = task.state in _DEAD
        seen.append(Seen(task.pid, task.ppid, task.starttime, dead, tids, task.zombie))
    if not seen or seen[0].zombie:
        raise TargetError("it has ended", pid=root, why="nothing can be attached to")
    return seen


def seizable(seen: Sequence[Seen]) -> Iterator[tuple[int, int]]:
    """(tid, pid) of everything that can be seized."""
    for task in seen:
        if not task.zombie:
            yield from ((tid, task.pid) for tid in task.tids)


def proved(
    before: Sequence[Seen], standing: Collection[int], *, children: bool = True
) -> list[Seen] | None:
    """The whole tree, parents first; None where there is more in it, or less, than `before`, the
    last scan, or than stands: then look again.

    `standing` are the tids that stood when this was called. The answer is a proof if all of them
    stand still when it is there.
    """
    known = {task.pid: task for task in before}
    below: dict[int, list[int]] | None = {}
    if children:
        below = None if has_children_files() else scan_parents()
    found = []
    for pid in reversed(known):
        try:
            task = _again(known, pid, standing, below)
        except TargetError:
            return None
        if task is None:
            return None
        found.append(task)
    return found[::-1]


def _again(
    known: dict[int, Seen], pid: int, standing: Collection[int], below: dict[int, list[int]] | None
) -> Seen | None:
    """One task, if all its threads stand and all its children are known. `below`: the children of
    each task, where the kernel's own lists are not to be read."""
    with ProcDir(pid) as proc:
        stat = parse_stat(proc.read("stat"))
        tids = tuple(proc.tids())
        dead = stat.state in _DEAD
        zombie = dead and stat.num_threads < 2
        if dead and not zombie and len(tids) < 2:
            return None  # another thread has taken its place since: execve(2)
        if not all(tid in standing or (tid == pid and dead) for tid in tids):
            return None
        if zombie:
            was = known[pid]
            same = was.zombie and was.starttime == stat.starttime and stat.state == _ZOMBIE
            return was._replace(ppid=stat.ppid) if same else None
        if below is not None:
            children = below.get(pid, [])
        else:
            children = [
                child for tid in tids for child in parse_children(proc.read(f"task/{tid}/children"))
            ]
    if not all(child in known and _is_still_there(known[child], pid) for child in children):
        return None
    return Seen(pid, stat.ppid, stat.starttime, dead, tids, zombie)


def _is_still_there(child: Seen, parent: int) -> bool:
    """Whether a child that was shown has not left since. One that stands can't."""
    if not child.zombie:
        return True
    with ProcDir(child.pid) as proc:
        stat = parse_stat(proc.read("stat"))
    return (stat.state, stat.ppid, stat.starttime) == (_ZOMBIE, parent, child.starttime)
