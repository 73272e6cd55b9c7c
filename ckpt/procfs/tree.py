"""Which processes stand below a process.

task/TID/children of every thread of a parent, breadth first; where the kernel has no such file
(CONFIG_PROC_CHILDREN), one scan of every process's parent. Zombies belong to the tree, threads do
not.

Not guaranteed: of running processes the answer is what was seen, not what was true at one instant.
The kernel may skip children while their siblings exit, a child of a dying parent moves to another,
and a pid can be used anew. Who needs the truth stops what was found and asks again until nothing is
new.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ckpt.errors import TargetError
from ckpt.procfs.reader import ProcDir, pids
from ckpt.procfs.scalars import parse_children
from ckpt.procfs.stat import parse_stat
from ckpt.record import record

if TYPE_CHECKING:
    from collections.abc import Iterator


@record(frozen=True)
class TreeTask:
    """One process as it was seen: its state is the letter of /proc/PID/stat."""

    pid: int
    ppid: int
    state: str
    starttime: int
    num_threads: int

    @property
    def zombie(self) -> bool:
        """All of it has ended. A main thread that is dead alone may have ended for execve(2) of
        another one, which takes its place: only one look at both, as this is, tells them apart."""
        return self.state in "ZX" and self.num_threads < 2


def has_children_files() -> bool:
    """Whether this kernel has task/TID/children."""
    return Path("/proc/thread-self/children").exists()


def children_of(proc: ProcDir) -> list[int]:
    """The children of all threads of one process, by the kernel's own list, without repetition."""
    found: dict[int, None] = {}
    for tid in proc.tids():
        try:
            data = proc.read(f"task/{tid}/children")
        except TargetError:
            if not proc.alive():
                raise
            continue  # this thread has ended: its children went to another one of the same process
        found.update(dict.fromkeys(parse_children(data)))
    return list(found)


def scan_parents() -> dict[int, list[int]]:
    """Every process's children from a scan of all of them."""
    found: dict[int, list[int]] = {}
    for pid in pids():
        task = look(pid)
        if task is not None:
            found.setdefault(task.ppid, []).append(pid)
    return found


def look(pid: int) -> TreeTask | None:
    """One process as it is now; None when it is gone."""
    try:
        with ProcDir(pid) as proc:
            stat = parse_stat(proc.read("stat"))
    except TargetError:
        return None
    return TreeTask(pid, stat.ppid, stat.state, stat.starttime, stat.num_threads)


def tree(root: int) -> list[TreeTask]:
    """The root and all below it, parents before their children. TargetError: no such root."""
    with ProcDir(root):
        return list(_walk(root, None if has_children_files() else scan_parents()))


def _walk(root: int, scanned: dict[int, list[int]] | None) -> Iterator[TreeTask]:
    seen = {root}
    level = [root]
    while level:
        below: list[int] = []
        for pid in level:
            task = look(pid)
            if task is None:
                continue
            yield task
            below += scanned.get(pid, []) if scanned is not None else _children_if_alive(pid)
        level = [pid for pid in dict.fromkeys(below) if pid not in seen]
        seen.update(level)


def _children_if_alive(pid: int) -> list[int]:
    try:
        with ProcDir(pid) as proc:
            return children_of(proc)
    except TargetError:
        return []
