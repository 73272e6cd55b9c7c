"""The tree that an image set holds: numbers, parents, groups, sessions, and what tasks share."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

from ckpt.pstree.model import State, Task, Tree
from ckpt.pstree.sharing import KINDS, Ids, Sharing
from ckpt.restore.sound import wrong
from ckpt.task import signals

if TYPE_CHECKING:
    from ckpt.images.reader import ImageSet

_X86_64 = 1
_PID_MAX = 1 << 22


def read_tree(images: ImageSet, entries: list[Any], cores: dict[int, Any]) -> Tree:
    """The tasks of pstree.img, whose messages are `entries`, with their `cores` by pid. Raises
    ImageError."""
    tasks, roots = [], []
    for entry in entries:
        core = cores[entry.pid]
        for number in (entry.pid, *entry.threads):
            if not 0 < number < _PID_MAX:
                raise wrong("pstree", f"{number} can't be the number of a task")
        for number in (entry.pgid, entry.sid):  # 0: its leader is in another pid namespace
            if not 0 <= number < _PID_MAX:
                raise wrong("pstree", f"{number} can't be the number of a group or session")
        if core.mtype != _X86_64 or not core.HasField("tc"):
            raise wrong(f"core-{entry.pid}", "it is not the core of an x86-64 task")
        try:
            state = State(core.tc.task_state)
        except ValueError as error:
            raise wrong(f"core-{entry.pid}", f"task state {core.tc.task_state}") from error
        if entry.ppid == 0:
            roots.append(entry.pid)
        others = tuple(tid for tid in entry.threads if tid != entry.pid)
        exit_signal = _exit_signal(images, entry.pid)
        tasks.append(Task(entry.pid, entry.ppid, entry.pgid, entry.sid, state, others, exit_signal))
    if len(roots) != 1:
        raise wrong("pstree", f"{len(roots)} tasks have no parent")
    try:
        tree = Tree(tasks, roots[0])
    except ValueError as error:
        raise wrong("pstree", str(error)) from error
    if len(tree.numbers()) != sum(1 + len(set(t.threads)) for t in tree):
        raise wrong("pstree", "two tasks or threads have one number")
    if tree.root.dead:
        raise wrong("pstree", "the root of the tree is dead")
    return tree


def read_sharing(images: ImageSet, tree: Tree) -> Sharing:
    """What live tasks of it share. Raises ImageError."""
    ids: dict[int, Ids] = {}
    for task in tree:
        if not task.dead:
            entry = images.read_one(f"ids-{task.pid}")
            ids[task.pid] = {kind: getattr(entry, kind.field) for kind in KINDS}
    try:
        return Sharing(ids)
    except ValueError as error:
        raise wrong("ids", str(error)) from error


def _exit_signal(images: ImageSet, pid: int) -> int:
    name = f"ckpt-thread-{pid}"
    own = images.read_one(name) if images.exists(name) else None
    if own is None or not own.HasField("exit_signal"):
        return signal.SIGCHLD
    if own.exit_signal > signals.NR_SIGNALS:
        raise wrong(name, f"exit signal {own.exit_signal}")
    return int(own.exit_signal)
