"""A dump's side of a live engine: what it takes over, and what is left to copy at once.

The pages file of a live dump is written in no order: every page has its place by its number among
all pages of the task, and two hands write there, the engine's and ours.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from ckpt.actions import Event
from ckpt.dump.facts import look
from ckpt.dump.preflight import refuse
from ckpt.errors import Refusal, TargetError
from ckpt.images.directory import pages_written
from ckpt.mem.extents import Extents
from ckpt.mem.transfer import copy_placed
from ckpt.mem.vma import is_aio
from ckpt.procfs.reader import ProcDir

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ckpt.actions import Actions
    from ckpt.dump.engine import LiveEngine
    from ckpt.dump.snapshot import Snapshot
    from ckpt.dump.work import Work
    from ckpt.infect.session import Session
    from ckpt.tracee.freeze import SeizedTree


def prepare(work: Work, engine: LiveEngine, pids: Sequence[int]) -> None:
    """Have the engine prepare; what is known of mappings is looked at again after that, so that
    the frozen window has as little as possible to read. Raises RefusedError for a tracked tree,
    TargetError where it has ended."""
    if not pids:
        raise TargetError("it has ended", pid=work.options.tree)
    keeper = work.increment.keeper if work.increment is not None else None
    if keeper is not None and work.tracked and not engine.goes_with(keeper.mode):
        why = f"its writes are tracked, by the engine {keeper.mode}, which --live=wp can't share"
        hint = "ckpt untrack PID, or --live=fork; --track-mode=sync from the first set on"
        refuse([Refusal(work.options.tree, "the tree", why, hint)])
    work.engine = engine
    engine.prepare(pids, work.report, keeper)
    known = {}
    for pid, before in work.known.items():
        try:
            with ProcDir(pid) as proc:
                known[pid] = look(proc, before).known
        except TargetError:
            continue  # it has ended
    work.known = known
    work.tracked |= frozenset(engine.prepared())


@contextmanager
def hurried(work: Work) -> Iterator[None]:
    """Within it this thread goes before others of the machine, if we may have that: the tree waits
    for it. Without an engine nothing of the kind: there is more to do than to hurry."""
    if work.engine is None:
        yield
        return
    policy, param = os.sched_getscheduler(0), os.sched_getparam(0)
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    try:
        yield
    finally:
        with suppress(OSError):
            os.sched_setscheduler(0, policy, param)


def found(work: Work, taken: Snapshot) -> tuple[Extents | None, Extents | None]:
    """The engine's knowledge of a task's pages, and of where guard pages may be."""
    if work.engine is None:
        return None, None
    mappings = [smap.mapping for smap in taken.facts.smaps]
    found = work.engine.find(taken.pid, mappings)
    if found is None:
        return None, None
    return found[0], found[1] | Extents.of((m.start, m.end) for m in mappings if m.shared)


def has_borrowed(work: Work) -> bool:
    """Whether the engine answers in the place of the keeper."""
    return work.engine is not None and bool(work.engine.borrowed())


def answer(work: Work, pid: int) -> None:
    """Note what the engine knows of writes to a task, after `found`."""
    if work.engine is None or work.increment is None:
        return
    known = work.engine.answer(pid)
    if known is not None:
        work.increment.answers[pid] = known


def cover(work: Work, taken: Snapshot, engine: LiveEngine) -> None:
    """Have the engine take over what it can from outside of the task."""
    what = taken.content
    taken.pages_lfd = work.pages.begin(f"pagemap-{taken.pid}", taken.pages_id, what.runs)
    taken.later = engine.cover(taken.pid, what, taken.pages_lfd)


def copy_rest(work: Work, taken: Snapshot, engine: LiveEngine, session: Session, mem: int) -> None:
    """Copy what the engine has not taken over. `mem` is /proc/PID/mem."""
    what = taken.content
    if orphans_go_to := _collector(work, taken):
        work.report.info(f"pid {taken.pid}: not copied: pid {orphans_go_to} takes orphans in")
    elif _has_huge_pages(taken):
        # Its own next write to each would need a page more than it has, and be its end without.
        work.report.info(f"pid {taken.pid}: not copied: it has private huge pages")
    else:
        taken.later |= engine.enter(taken.pid, session, what, taken.pages_lfd, _withheld(taken))
    rest = (what.direct | what.hidden) - taken.later
    with pages_written(work.pages.where(taken.pages_id)):
        copy_placed(mem, what, rest, taken.read, taken.pages_lfd)
    work.stats.frozen_pages += rest.nr_pages


def _collector(work: Work, taken: Snapshot) -> int:
    """A task of the tree above this one that is a child subreaper, or may be: it would become the
    parent of whatever an engine makes. 0 if there is none. A task's parents are asked before it.
    """
    above = {one.pid: one for one in work.frozen.snapshots}
    seen = {taken.pid}
    while (pid := taken.facts.stat.ppid) in above and pid not in seen:
        taken = above[pid]
        seen.add(pid)
        if taken.inside is None or taken.inside.subreaper:
            return pid
    return 0


def _has_huge_pages(taken: Snapshot) -> bool:
    return any(s.huge_page and not s.mapping.shared for s in taken.facts.smaps)


def _withheld(taken: Snapshot) -> Extents:
    """What a child gets not at all or as zeros (MADV_DONTFORK, MADV_WIPEONFORK), what it shares:
    rings that the kernel writes to, and what it loses when somebody truncates a file: its own
    copies of pages of that file, too (ftruncate(2) takes them from all mappings)."""
    return Extents.of(
        (s.start, s.end)
        for s in taken.facts.smaps
        if s.mapping.has_file or is_aio(s.mapping) or not s.flags.isdisjoint(("dc", "wf"))
    )


def run_with(
    work: Work, engine: LiveEngine, actions: Actions, tree: SeizedTree, check: Callable[[], None]
) -> None:
    """The last thing while the tree is seized: the user's own copies, of files; then the engine
    stays with the tree as long as it wants. `check` is made when the tree runs, beside the engine,
    whose thread has to be there for the tree; what it raises, this raises."""
    work.tracked |= frozenset(engine.prepared())
    before = time.monotonic_ns()
    actions.run(Event.LIVE_INSTANT, work.options.tree)
    work.stats.script_us = (time.monotonic_ns() - before) // 1000
    failed: list[Exception] = []

    def run() -> None:
        try:
            check()
        except Exception as error:
            failed.append(error)

    checker = threading.Thread(target=run, name="live check")
    with pages_written(str(work.options.images_dir)):
        engine.run_with(tree, work.report, checker.start)
    if checker.ident is None:
        return  # the tree stands still: the check comes later
    checker.join()
    work.checked = True
    for error in failed:
        raise error


def deliver(work: Work, engine: LiveEngine) -> None:
    """Wait for the engine's pages. Raises as LiveEngine.deliver does."""
    with pages_written(str(work.options.images_dir)):
        engine.deliver(work.report)
    work.stats.live = engine.figures()
    engine.close()
