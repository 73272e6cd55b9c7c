"""The frozen window: what is taken from the tree while it stands.

Everything here costs the target its time, so nothing is computed that can be computed later. Order:

1. Look at every task from outside, take its descriptors.
2. Find the pages. Where writes are tracked, the keeper is asked, once for all tasks; what the
   parent set has as it is drops out.
3. Task by task: infect, ask, move the pages, cure. Then shared memory.
4. Look at what goes on by itself, timers and clocks.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from ckpt.dump import inside, live, nodes, rings, sharing, snapshot, threadtimers
from ckpt.dump.facts import NOTHING_KNOWN, look
from ckpt.dump.preflight import refuse
from ckpt.errors import Refusal, TargetError
from ckpt.images.directory import pages_written
from ckpt.infect.inject import infect
from ckpt.infect.predecessor import settle
from ckpt.infect.threads import run_in_further
from ckpt.mem.extents import Extents
from ckpt.mem.locking import lock_future
from ckpt.mem.transfer import Transfer
from ckpt.mem.vma import segments, trackable
from ckpt.ns.sysv_dump import waits_at
from ckpt.procfs.reader import ProcDir
from ckpt.procfs.smaps import parse_smaps
from ckpt.pstree.sharing import FILES, VM
from ckpt.task import regs, seccomp, thread
from ckpt.units import PAGE, Range

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ckpt.dump.snapshot import Snapshot
    from ckpt.dump.work import Work
    from ckpt.infect.session import Session
    from ckpt.mem.tracking.state import Answer
    from ckpt.ns.sysv_dump import Wait
    from ckpt.tracee.freeze import SeizedTree


class FlagsChangedError(Exception):
    """What was assumed of a mapping (pid, mapping) did not hold: a defect if a user sees it."""


_CALLS = frozenset((*seccomp.HOME, *seccomp.OURS))
_SIGPIPE = signal.SIGPIPE.to_bytes(4, "little")


def take(tree: SeizedTree, work: Work) -> None:
    """Fill `work.frozen`, and the pages files."""
    frozen, files = work.frozen, work.files
    work.stats.instant_ms = time.time_ns() // 1_000_000
    alive = [task.pid for task in tree.tasks.values() if not task.zombie]
    frozen.sharing = sharing.sharing_of(alive)
    procs: dict[int, ProcDir] = {}
    with ExitStack() as scope:
        for number, task in enumerate(tree.tasks.values(), 1):
            proc = procs[task.pid] = scope.enter_context(ProcDir(task.pid))
            if task.zombie:
                frozen.zombies[task.pid] = proc.read("stat"), proc.read("status")
                continue
            settle(task)
            facts = look(proc, work.known.get(task.pid, NOTHING_KNOWN), stands=True)
            taken = snapshot.take(task, facts, number, work.slept)
            files.collect(task.pid, task.pidfd, frozen.sharing.first(FILES, task.pid))
            taken.take_files(files, proc)
            frozen.snapshots.append(taken)
            work.shared.collect(proc, facts.smaps)
        files.resolve()
        _take_objects(work)
        refuse([*_between_tasks(work), *files.refusals])
        risk = work.options.risk_seccomp
        refuse(r for s in frozen.snapshots for r in s.filter_obstacles(risk=risk))
        _warn_of_risks(work)
        refuse(refusal for s in frozen.snapshots for refusal in s.ring_obstacles())
        refuse(refusal for s in frozen.snapshots for refusal in s.take_urings(files))
        _find_pages(work, procs)
        _warn_of_rings(work)
        work.report.stage("memory")
        for taken in frozen.snapshots:
            if regs.value(taken.task.threads[0].regs, "cs") != regs.USER_CS:
                refuse([Refusal(taken.pid, "the task", "32-bit code is not restored yet")])
            _enter(taken, work)
        next_id = len(tree.tasks) + 1
        for contents in files.memfd_contents:
            engine = None if contents.open else work.engine
            what = (work.pages, next_id, contents.shmid, contents.lfd)
            if contents.huge_page:
                work.shared.add_huge(*what, contents.huge_page)
            else:
                work.shared.add(*what, engine)
            next_id += 1
        work.shared.copy(work.pages, len(tree.tasks) + 1, work.engine)
        work.stats.shpages_written = work.shared.nr_pages
        _stop_clocks(tree, work)


def _stop_clocks(tree: SeizedTree, work: Work) -> None:
    """What the clocks of the restored tree will say is the time by which all of its timers have
    been asked: none may expire before its time has come."""
    frozen = work.frozen
    work.files.at_last()
    frozen.monotonic_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    frozen.boottime_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    for taken in frozen.snapshots:
        taken.clocks_stop(frozen.monotonic_ns, tree.frozen_at_ns + tree.freezing_ns)


def _take_objects(work: Work) -> None:
    """Semaphores and message queues."""
    frozen = work.frozen
    threads: dict[int, Sequence[int]] = dict.fromkeys(frozen.zombies, ())
    for taken in frozen.snapshots:
        threads[taken.pid] = [stopped.tid for stopped in taken.task.threads]

    def waits() -> set[Wait]:
        words = (
            (regs.value(stopped.regs, "orig_ax"), regs.value(stopped.regs, "di"))
            for taken in frozen.snapshots
            for stopped in taken.task.threads
        )
        return {where for call, first in words if (where := waits_at(call, first))}

    frozen.objects.take(threads, waits)


def _warn_of_risks(work: Work) -> None:
    for taken in work.frozen.snapshots:
        for why in {seccomp.hazard(chain) for chain in taken.filters.values()} - {""}:
            work.report.warn(f"pid {taken.pid}: {why}")


def _warn_of_rings(work: Work) -> None:
    for taken in work.frozen.snapshots:
        for mapping in taken.rings():
            work.report.warn(
                f"pid {taken.pid}: context of AIO at {mapping.start:#x}: requests that are in "
                "flight can't be seen, and are lost by a restore"
            )


def _between_tasks(work: Work) -> Iterator[Refusal]:
    """What no task by itself tells."""
    frozen = work.frozen
    for taken in frozen.snapshots:
        first = frozen.sharing.first(VM, taken.pid)
        if first == taken.pid:
            frozen.segments.attached(taken.pid, segments(taken.facts.smaps))
        elif work.engine is not None:
            why = f"shared with pid {first} (clone(2)); not with --live"
            yield Refusal(taken.pid, VM.what, why, "dump without --live")
    yield from sharing.obstacles((s.facts for s in frozen.snapshots), work.options.tree)
    yield from frozen.segments.obstacles()
    for ident in work.shared.clashes:
        why = "other shared memory of the tree has its number in the images"
        yield Refusal(work.options.tree, f"System V shared memory {ident}", why)


def confirm(work: Work, *, standing: bool) -> None:
    """Find out whether what was assumed of mappings holds, as far as that can be known.

    Of a tree that still stands, it is known then, and put right. Of one that runs again, what is
    now as it was before the freeze is taken for what it was in between; else FlagsChangedError.
    """
    for taken in work.frozen.snapshots:
        facts = taken.facts
        if not facts.assumed:
            continue
        try:
            with ProcDir(taken.pid) as proc:
                now = parse_smaps(proc.read("smaps"), running=not standing)
        except TargetError:
            continue  # it has ended since
        if standing:
            if [smap.mapping for smap in now] != [smap.mapping for smap in facts.smaps]:
                raise FlagsChangedError(taken.pid, "other mappings")
            facts.put_right(now)
        elif changed := facts.flags_changed(now):
            raise FlagsChangedError(taken.pid, str(changed[0]))


def _find_pages(work: Work, procs: dict[int, ProcDir]) -> None:
    """Which pages of each task go into the image, and which the parent set has as they are."""
    answers: dict[int, Answer] = {}
    if work.increment is not None:
        wanted = {
            s.pid: Extents.of(trackable(smap.mapping for smap in s.facts.smaps))
            for s in work.frozen.snapshots
            if s.pid in work.tracked
        }
        if not live.has_borrowed(work):
            answers = work.increment.last_round(wanted, rearm=work.goes_on, report=work.report)
    for taken in work.frozen.snapshots:
        if work.frozen.sharing.first(VM, taken.pid) != taken.pid:
            continue  # with those of the first
        answer = answers.get(taken.pid)
        known, guards = live.found(work, taken)
        live.answer(work, taken.pid)
        if answer is not None:
            known = answer.populated
        taken.find_pages(procs[taken.pid], known, guards)
        if work.increment is not None:
            taken.content = taken.content.above(work.increment.kept(taken.pid, final=True))
        if work.options.lazy_pages:
            taken.leave_pages()
        taken.read_early()
        if work.engine is not None:
            live.cover(work, taken, work.engine)


def _enter(taken: Snapshot, work: Work) -> None:
    """What needs a parasite: the task's own answers, and its pages."""
    before = time.monotonic_ns()
    taken.hold_filters_off()
    calls = _CALLS if taken.filters else None
    with infect(taken.task, only=calls) as session, ProcDir(taken.pid) as proc:
        asked = inside.questions()
        taken.inside = inside.Inside(session.run(asked.batch), asked)
        taken.threads[taken.pid] = taken.inside.leader
        taken.lock_future = lock_future(session, proc, taken.facts.status.vm_locked or 0)
        _ask_threads(taken, session)
        nodes.ask(taken, session, own_memory=work.frozen.sharing.first(VM, taken.pid) == taken.pid)
        work.frozen.objects.ask(session)
        if work.files.has_rings:
            rings.refuse_registered(taken, session)
        mem = proc.open("mem", os.O_RDONLY)
        try:
            if work.engine is None or taken.pages_lfd < 0:
                _copy(taken, work, session, mem)
            else:
                live.copy_rest(work, taken, work.engine, session, mem)
        finally:
            os.close(mem)
        posix = threadtimers.with_threads(taken, session)
        taken.timers = inside.ask_timers(session, posix, taken.inside)
    taken.take_pending()
    work.stats.memdump_us += (time.monotonic_ns() - before) // 1000


def _copy(taken: Snapshot, work: Work, session: Session, mem: int) -> None:
    """All pages, in the order of their addresses."""
    what = taken.content
    pages_fd = work.pages.begin(f"pagemap-{taken.pid}", taken.pages_id, what.runs)
    nr_done = 0

    def progress(done: int) -> None:
        nonlocal nr_done
        nr_done += done
        work.report.progress(nr_done, what.direct.nr_pages * PAGE)

    usable = session if session.can_pass_fds and not _sigpipe_pending(taken) else None
    with pages_written(work.pages.where(taken.pages_id)):
        Transfer(taken.pid, mem, pages_fd, usable, progress).run(what, taken.read)
    work.pages.end()


def _sigpipe_pending(taken: Snapshot) -> bool:
    """Then the parasite can't tell a SIGPIPE of its own from the target's."""
    queued = (*taken.task.pending, *taken.task.threads[0].pending)
    return any(info[:4] == _SIGPIPE for info in queued)


def _ask_threads(taken: Snapshot, session: Session) -> None:
    at = session.layout.batches.start
    answers = Range(at, at + thread.ANSWERS_SIZE)
    calls = thread.calls(at)
    for stopped, results, raw in run_in_further(session, taken.task, calls, answers=answers):
        taken.threads[stopped.tid] = thread.answers(raw, results[-1])
