"""The outline of a tree on its way: a field of a frame.

    [pid, parent, group, session, dead, exit signal, [further threads],
     [what it shares: a number for each kind], [[start, end, protection, flags, status], ...]]

for each task. What comes is hostile: it is checked like an image set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ckpt.dump.facts import look
from ckpt.dump.preflight import tree_model
from ckpt.dump.sharing import sharing_of
from ckpt.errors import PeerError, TargetError
from ckpt.images.pb.vma_pb2 import vma_entry
from ckpt.mem import vma
from ckpt.procfs.reader import ProcDir
from ckpt.procfs.stat import parse_stat
from ckpt.procfs.tree import tree as process_tree
from ckpt.pstree.model import State, Task, Tree
from ckpt.pstree.sharing import KINDS, Sharing
from ckpt.restore.started import Outline
from ckpt.task.signals import NR_SIGNALS

if TYPE_CHECKING:
    from ckpt.migrate.wire import Frame

_DEAD = "ZX"
_PID_MAX = 1 << 22
_NR_FIELDS, _NR_OF_VMA = 9, 5


def of_running(root: int) -> list[Any] | None:
    """The outline of the running tree at `root`; None where none can be had, or it would be of no
    use: a tree that changes meanwhile, or has a controlling terminal."""
    alive, dead = {}, {}
    try:
        for seen in process_tree(root):
            with ProcDir(seen.pid) as proc:
                if seen.state in _DEAD:
                    stat = parse_stat(proc.read("stat"))
                    dead[seen.pid] = stat.ppid, stat.pgrp, stat.session
                else:
                    alive[seen.pid] = look(proc), False
        shared = sharing_of(list(alive))
        model = tree_model(root, alive, dead)
    except (TargetError, ValueError):
        return None
    if any(facts.stat.tty_nr for facts, _ in alive.values()):
        return None
    found = []
    for task in model:
        ids = shared.ids(task.pid)
        smaps = [] if task.dead else alive[task.pid][0].smaps
        found.append(
            [
                *(task.pid, 0 if task is model.root else task.ppid, task.pgid, task.sid),
                *(int(task.dead), task.exit_signal, list(task.threads)),
                [] if task.dead else [ids[kind] for kind in KINDS],
                [_row(vma.from_smap(smap)) for smap in smaps],
            ]
        )
    return found


def _row(v: vma.Vma) -> list[int]:
    return [v.range.start, v.range.end, v.prot, v.flags, int(v.status)]


def from_frame(frame: Frame) -> Outline:
    """The outline in the frame. Raises PeerError for what is none."""
    rows = frame.fields.get("outline")
    try:
        if not isinstance(rows, list) or not all(map(_is_task, rows)):
            raise ValueError("not what an outline looks like")
        tasks = [_task(row) for row in rows]
        roots = [task.pid for task in tasks if not task.ppid]
        if len(roots) != 1:
            raise ValueError(f"{len(roots)} tasks have no parent")
        tree = Tree(tasks, roots[0])
        if tree.root.dead:
            raise ValueError("the root is dead")
        alive = [row for row in rows if not row[4]]
        shared = Sharing({row[0]: dict(zip(KINDS, row[7], strict=True)) for row in alive})
        return Outline(tree, shared, {row[0]: _vmas(row[8]) for row in alive})
    except ValueError as error:
        raise PeerError("sent an outline that makes no sense", why=str(error)) from error


def _is_task(row: Any) -> bool:
    return (
        isinstance(row, list)
        and len(row) == _NR_FIELDS
        and all(map(_are_numbers, (row[:6], row[6], row[7])))
        and isinstance(row[8], list)
        and all(_are_numbers(one) and len(one) == _NR_OF_VMA for one in row[8])
    )


def _are_numbers(values: Any) -> bool:
    return isinstance(values, list) and all(type(n) is int and 0 <= n < 1 << 64 for n in values)


def _task(row: list[Any]) -> Task:
    pid, ppid, pgid, sid, dead, exit_signal, threads = row[:7]
    if not all(0 < number < _PID_MAX for number in (pid, pgid, sid, *threads)):
        raise ValueError(f"a number of pid {pid} can't be one")
    if exit_signal > NR_SIGNALS:
        raise ValueError(f"exit signal {exit_signal}")
    state = State.DEAD if dead else State.ALIVE
    return Task(pid, ppid, pgid, sid, state, tuple(threads), exit_signal)


def _vmas(rows: list[list[int]]) -> tuple[vma.Vma, ...]:
    """In order, without what is the same for everybody."""
    found: list[vma.Vma] = []
    for start, end, prot, flags, status in rows:
        if start >= 1 << 63 or max(prot, flags, status) >= 1 << 31:
            if status & vma.Status.VSYSCALL:
                continue
            raise ValueError(f"a mapping at {start:#x}")
        entry = vma_entry(
            start=start, end=end, pgoff=0, shmid=0, prot=prot, flags=flags, status=status, fd=-1
        )
        v = vma.from_entry(entry)
        if found and v.range.start < found[-1].range.end:
            raise ValueError(f"mappings overlap at {start:#x}")
        found.append(v)
    return tuple(found)
