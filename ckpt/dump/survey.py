"""`ckpt check --tree`: everything that a dump of a running tree would be refused for, as far as it
can be told without stopping it. Files of /proc are read and kcmp(2) is asked, no more.

Nothing of it is a promise, for the tree runs. What only a stopped task tells a dump alone finds:
who owns the signals of a descriptor, whether a file of /proc tells of a process outside, what is in
a pipe or queue, seccomp filters that would kill a task for what ckpt does in it, and what has to be
asked from within. It is refused then as well, before the task has changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckpt.dump import sharing
from ckpt.dump.facts import Facts, look
from ckpt.dump.preflight import birth_obstacles, preflight, root_obstacles, tree_model
from ckpt.dump.run import files_dump
from ckpt.errors import Refusal, TargetError
from ckpt.mem.missing.finish import is_arriving
from ckpt.mem.tracking.client import Keeper
from ckpt.mem.tracking.where import is_root_tracked
from ckpt.mem.vma import segments as segments_of
from ckpt.ns.cgroup_dump import GroupsDump
from ckpt.ns.sysv_shm import SegmentsDump
from ckpt.procfs.reader import ProcDir
from ckpt.procfs.stat import parse_stat
from ckpt.procfs.tree import tree as process_tree
from ckpt.pstree.sharing import VM

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckpt.dump.options import DumpOptions
    from ckpt.report import Report

_DEAD = "ZX"


def survey(options: DumpOptions, report: Report) -> list[Refusal]:
    """What is in the way, each thing once. TargetError: there is no such process."""
    arriving = is_arriving(options.tree)
    if arriving:
        report.warn("memory of the tree is still missing: a dump would wait for it")
    tracked = _tracked(options.tree)
    with files_dump(options, report) as files:
        groups = GroupsDump.begin(options.cgroups)
        seen = preflight(options, files, tracked, groups, arriving=arriving)
        found = [*seen.refusals, *root_obstacles(options)]
        found += files.between()
    found += _between_tasks(options)
    return list(dict.fromkeys(found))


def _tracked(root: int) -> frozenset[int]:
    """The tasks whose writes ckpt tracks; its marks on their memory are no obstacle."""
    keeper = Keeper.find(root) if is_root_tracked(root) else None
    if keeper is None:
        return frozenset()
    try:
        return frozenset(keeper.tracked())
    finally:
        keeper.close()


def _between_tasks(options: DumpOptions) -> Iterator[Refusal]:
    """What no task by itself tells."""
    alive: dict[int, tuple[Facts, bool]] = {}
    dead: dict[int, tuple[int, int, int]] = {}
    for task in process_tree(options.tree):
        try:
            with ProcDir(task.pid) as proc:
                if task.state not in _DEAD:
                    alive[task.pid] = look(proc), task.state == "T"
                    continue
                stat = parse_stat(proc.read("stat"))
        except TargetError:
            continue  # it has ended
        dead[task.pid] = stat.ppid, stat.pgrp, stat.session
        if stat.num_threads > 1:
            yield Refusal(task.pid, "the task", "its main thread has ended while others live")
    shared, segments = sharing.sharing_of(list(alive)), SegmentsDump()
    for pid, (facts, _) in alive.items():
        if shared.first(VM, pid) == pid:
            segments.attached(pid, segments_of(facts.smaps))
    yield from segments.obstacles()
    yield from sharing.obstacles((facts for facts, _ in alive.values()), options.tree)
    try:
        model = tree_model(options.tree, alive, dead)
    except TargetError:
        return  # it changed meanwhile, which is no obstacle
    yield from birth_obstacles(model, shared, options)
