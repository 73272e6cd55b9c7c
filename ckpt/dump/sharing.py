"""Who shares what in a tree, as kcmp(2) tells of tasks that run or stand.

Refused: threads with a descriptor table of their own, or with directories that they share with
others than their process, and a memory or descriptor table that the root shares with its parent,
which is not dumped.

Not seen: that a task shares something with another one outside of the tree.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from ckpt._native import check, lib
from ckpt.errors import Refusal
from ckpt.pstree.sharing import FILES, FS, KINDS, VM, Kind, Sharing, numbered

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ckpt.dump.facts import Facts


def sharing_of(pids: Sequence[int]) -> Sharing:
    """What the live tasks `pids` share; who comes first in them comes first in it."""
    return numbered({kind: _groups(pids, kind) for kind in KINDS}, pids)


def obstacles(facts: Iterable[Facts], root: int) -> Iterator[Refusal]:
    """What of their sharing could not be brought back."""
    tasks = list(facts)
    for task in tasks:
        if task.pid == root:
            yield from _with_parent(root, task.stat.ppid)
        for tid in apart(task.pid, task.threads, FILES):
            why = f"it has a {FILES.what} of its own; not restored yet"
            yield Refusal(task.pid, f"thread {tid}", why)
    yield from _directories_of_several(tasks)


def apart(pid: int, tids: Iterable[int], kind: Kind) -> list[int]:
    """The threads `tids` of a process that do not share its `kind`."""
    return [tid for tid in tids if tid != pid and _order(pid, tid, kind) > 0]


def _order(one: int, other: int, kind: Kind) -> int:
    """Of what two tasks use, as kcmp(2) has it: 0 if it is the same. Negative where one has ended,
    who shares nothing any more. Raises OSError."""
    order: int = lib.ckpt_kcmp(one, other, kind.kcmp, 0, 0)
    return order if order == -errno.ESRCH else check(order, "kcmp")


def _directories_of_several(tasks: Sequence[Facts]) -> Iterator[Refusal]:
    """A thread's own are restored where nobody else has them."""
    process_of = {tid: task.pid for task in tasks for tid in apart(task.pid, task.threads, FS)}
    if not process_of:
        return
    for group in _groups((*(task.pid for task in tasks), *process_of), FS):
        for tid in process_of.keys() & group if len(group) > 1 else ():
            other = next(one for one in group if one != tid)
            why = f"it shares its {FS.what} with thread {other}, not with its process"
            yield Refusal(process_of[tid], f"thread {tid}", f"{why}; not restored yet")


def _with_parent(root: int, parent: int) -> Iterator[Refusal]:
    for kind in (VM, FILES) if parent else ():
        if lib.ckpt_kcmp(root, parent, kind.kcmp, 0, 0) == 0:
            why = f"shared with pid {parent} (clone(2)), which is not in the tree"
            yield Refusal(root, kind.what, why, f"dump the tree of pid {parent}")


def _groups(pids: Iterable[int], kind: Kind) -> list[list[int]]:
    """Those who share one, by the kernel's order of what they use."""
    ordered: list[list[int]] = []
    for pid in pids:
        low, high = 0, len(ordered)
        while low < high:
            middle = (low + high) // 2
            order = _order(pid, ordered[middle][0], kind)
            if order == 0:
                ordered[middle].append(pid)
                break
            if order == 1:
                high = middle
            else:
                low = middle + 1
        else:
            ordered.insert(low, [pid])
    return ordered
