"""Everything about a tree that would make its dump impossible, found before anything is touched.

The tree runs meanwhile, so a clean preflight is no promise: the dump looks again while all stands
still. Its worth is that a refusal, the usual case of one, has cost the target nothing.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from ckpt.dump.facts import Facts, Known, group_obstacles, look, obstacles, surroundings_of
from ckpt.dump.settled import settled
from ckpt.dump.sharing import apart
from ckpt.errors import Refusal, RefusedError, TargetError
from ckpt.mem.vma import Backing, from_smap
from ckpt.procfs.reader import ProcDir
from ckpt.procfs.stat import parse_stat
from ckpt.procfs.tree import tree as process_tree
from ckpt.pstree.birth import NoBirthError, plan_births
from ckpt.pstree.model import State, Task, Tree
from ckpt.pstree.sharing import FS

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator

    from ckpt.dump.options import DumpOptions
    from ckpt.dump.settled import Judged
    from ckpt.files.dump import FilesDump
    from ckpt.ns.cgroup_dump import GroupsDump
    from ckpt.pstree.sharing import Sharing


class Preflight(NamedTuple):
    """What is in the way, and by task what the frozen window needs not find out again."""

    refusals: list[Refusal]
    known: dict[int, Known]


def preflight(
    options: DumpOptions,
    files: FilesDump,
    tracked: Container[int] = frozenset(),
    groups: GroupsDump | None = None,
    *,
    arriving: bool = False,
) -> Preflight:
    """Look at the running tree. TargetError when there is no such tree. `tracked`: the tasks whose
    writes ckpt tracks. `groups`: what records control groups, if they shall be. `arriving`: a dump
    would wait for memory of the tree that a lazy restore still brings."""
    found: list[Refusal] = []
    known: dict[int, Known] = {}
    with ProcDir(os.getpid()) as own:
        ours = surroundings_of(own)
    seen = process_tree(options.tree)
    if os.getpid() in (task.pid for task in seen):
        raise TargetError("the tree holds ckpt itself", pid=options.tree, hint="dump a subtree")

    def judge(pid: int) -> Judged:
        with ProcDir(pid) as proc:
            facts = look(proc)
        is_tracked, risk = pid in tracked, options.risk_seccomp
        refusals = list(
            obstacles(facts, ours, tracked=is_tracked, arriving=arriving, risk_seccomp=risk)
        )
        refusals += group_obstacles(facts, groups) if groups is not None else ()
        if facts.raw["maps"]:  # else a kernel thread: it has no executable either
            refusals += _of_files(facts, files)
        return refusals, facts.known

    for task in seen:
        if task.state in "ZX":
            continue
        try:
            refusals, known[task.pid] = settled(task.pid, judge)
        except TargetError:
            if task.pid == options.tree:
                raise
        else:
            found.extend(refusals)
    found.extend(files.preflight_together())
    return Preflight(found, known)


def _of_files(facts: Facts, files: FilesDump) -> list[Refusal]:
    found = files.preflight(facts.pid)
    for tid in apart(facts.pid, facts.threads, FS):
        found += files.preflight_thread(tid)
    mappings = (s.mapping for s in facts.smaps if from_smap(s).backing is Backing.FILE)
    return found + files.mapping_refusals(facts.pid, mappings)


def refuse(found: Iterable[Refusal]) -> None:
    """Raise RefusedError where anything was found."""
    refusals = tuple(dict.fromkeys(found))
    if refusals:
        raise RefusedError(refusals)


def tree_model(
    root: int, alive: dict[int, tuple[Facts, bool]], dead: dict[int, tuple[int, int, int]]
) -> Tree:
    """The tree of live tasks (facts, stopped) and zombies (parent, group, session)."""
    tasks = [
        Task(
            pid,
            facts.stat.ppid,
            facts.stat.pgrp,
            facts.stat.session,
            State.STOPPED if stopped else State.ALIVE,
            tuple(tid for tid in facts.threads if tid != pid),
            facts.stat.exit_signal,
        )
        for pid, (facts, stopped) in alive.items()
    ]
    tasks += [Task(pid, ppid, pgid, sid, State.DEAD) for pid, (ppid, pgid, sid) in dead.items()]
    try:
        return Tree(tasks, root)
    except ValueError as error:
        raise TargetError("its tree changed while it was looked at", pid=root) from error


def birth_obstacles(tree: Tree, sharing: Sharing, options: DumpOptions) -> Iterator[Refusal]:
    """Sessions, groups and shared things that a restore could not give to the tasks again."""
    root = tree.root
    if not root.leads_session and not options.shell_job:
        yield _outside_session(root.pid, root.sid)
        return
    try:
        plan_births(tree, root.sid, root.pgid, sharing)
    except NoBirthError as error:
        yield Refusal(error.task.pid, error.resource, str(error))


def root_obstacles(options: DumpOptions) -> Iterator[Refusal]:
    """That of `birth_obstacles` which no step of a running tree can change but setsid(2)."""
    with ProcDir(options.tree) as proc:
        session = parse_stat(proc.read("stat")).session
    if session != options.tree and not options.shell_job:
        yield _outside_session(options.tree, session)


def _outside_session(pid: int, session: int) -> Refusal:
    return Refusal(
        pid,
        f"session {session}",
        "the root of the tree does not lead its session",
        "--shell-job makes it join the session of ckpt restore",
    )
