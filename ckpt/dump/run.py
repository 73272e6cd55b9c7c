"""The dump: the order of its steps, and what each undoes.

1. Preflight on the running tree: refusals cost the target nothing.
2. The image set is opened: a directory that holds one is refused before the freeze.
3. Seize; from here until the thaw the tree stands still (the frozen time):
   a. look at every task again, take descriptors, find pages: all from outside;
   b. task by task: infect, ask, move the pages, cure;
   c. give every duplicate of a descriptor back.
4. Thaw, for --leave-running. Else the tree stands until the set is whole, and is killed then.
5. Judge what was found: a state that a restore could not bring back, and that came up after the
   preflight, fails the dump here.
6. Encode and write messages, bring all to the disk, commit.

A failure at any step leaves the scopes in reverse: parasites cured, descriptors closed, the tree
thawed, temporary files removed.
"""

from __future__ import annotations

import gc
import os
import signal
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ckpt.dump import describe, inside, snapshot
from ckpt.dump.facts import look, obstacles, surroundings_of
from ckpt.dump.preflight import (
    preflight,
    refuse,
    session_obstacles,
    shared_obstacles,
    tree_model,
)
from ckpt.dump.shared import SharedMemory
from ckpt.dump.stats import DumpStats
from ckpt.errors import ImageError, Refusal, refused_by_kernel
from ckpt.files.dump import FilesDump
from ckpt.files.dumping import FileOptions
from ckpt.images.pagemap import PE_PRESENT, Run, pagemap_messages
from ckpt.images.service import write_service
from ckpt.images.writer import ImageSetWriter
from ckpt.infect.inject import infect
from ckpt.infect.predecessor import settle
from ckpt.infect.threads import run_in_threads
from ckpt.kerndat import cpu
from ckpt.mem.locking import lock_future
from ckpt.mem.transfer import Transfer
from ckpt.procfs.reader import ProcDir
from ckpt.procfs.stat import parse_stat
from ckpt.procfs.status import parse_status
from ckpt.procfs.timens import TimensOffsets
from ckpt.task import regs, thread
from ckpt.tracee.freeze import seize
from ckpt.units import PAGE, Range

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckpt.dump.options import DumpOptions
    from ckpt.dump.snapshot import Snapshot
    from ckpt.infect.session import Session
    from ckpt.pstree.model import Tree
    from ckpt.report import Report
    from ckpt.tracee.freeze import SeizedTree


_SIGPIPE = signal.SIGPIPE.to_bytes(4, "little")


@dataclass(slots=True)
class _Frozen:
    """What the frozen window gave."""

    snapshots: list[Snapshot] = field(default_factory=list)
    zombies: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)
    monotonic_ns: int = 0
    boottime_ns: int = 0


@refused_by_kernel("the dump can't go on")
def dump(options: DumpOptions, report: Report) -> DumpStats:
    """Dump the tree at `options.tree` into `options.images_dir`.

    Raises RefusedError, TargetError, ImageError, KernelError, DeadlineError; the tree then runs on
    as before, and the directory holds nothing new.
    """
    files = FilesDump(
        FileOptions(
            shell_job=options.shell_job,
            file_locks=options.file_locks,
            external=frozenset(options.external),
        ),
        report,
    )
    stats = DumpStats()
    report.stage("look")
    preflight(options, files)
    with ExitStack() as scope:
        writer = scope.enter_context(
            ImageSetWriter(options.images_dir, checksums=options.checksums)
        )
        shared = SharedMemory()
        # Made here, once, and not while the tree stands.
        inside.questions()
        report.stage("freeze")
        with seize(options.tree, deadline_s=options.timeout_s or None) as tree:
            gc.disable()
            try:
                frozen = _take(tree, files, shared, writer, stats, report)
            finally:
                files.close()
                gc.enable()
            stats.frozen_us = (time.monotonic_ns() - tree.frozen_at_ns) // 1000
            if not options.leave_running:
                _write(frozen, options, files, shared, writer, stats, report)
                tree.leave_stopped() if options.leave_stopped else tree.kill()
        if options.leave_running:
            stats.frozen_us = (tree.thawed_at_ns - tree.frozen_at_ns) // 1000
            _write(frozen, options, files, shared, writer, stats, report)
    stats.freezing_us = tree.freezing_ns // 1000
    try:
        write_service(options.work_dir, "stats-dump", stats.message())
    except (ImageError, OSError) as error:
        # The set is whole: that its figures are lost must not look like a dump that failed.
        report.warn(str(error))
    return stats


def _take(
    tree: SeizedTree,
    files: FilesDump,
    shared: SharedMemory,
    writer: ImageSetWriter,
    stats: DumpStats,
    report: Report,
) -> _Frozen:
    frozen = _Frozen(
        monotonic_ns=time.clock_gettime_ns(time.CLOCK_MONOTONIC),
        boottime_ns=time.clock_gettime_ns(time.CLOCK_BOOTTIME),
    )
    with ExitStack() as procs:
        for number, task in enumerate(tree.tasks.values(), 1):
            proc = procs.enter_context(ProcDir(task.pid))
            if task.zombie:
                frozen.zombies[task.pid] = proc.read("stat"), proc.read("status")
                continue
            settle(task)
            facts = look(proc)
            taken = snapshot.take(task, facts, proc, number)
            files.collect(task.pid, task.pidfd)
            taken.take_files(files, proc)
            frozen.snapshots.append(taken)
            shared.collect(proc, facts.smaps)
        files.resolve()
        refuse([*shared_obstacles(s.facts for s in frozen.snapshots), *files.refusals])
        report.stage("memory")
        for taken in frozen.snapshots:
            if regs.value(taken.task.threads[0].regs, "cs") != regs.USER_CS:
                refuse([Refusal(taken.pid, "the task", "32-bit code is not restored yet")])
            _enter(taken, writer.pages(taken.pages_id), stats, report)
        next_id = len(tree.tasks) + 1
        for contents in files.memfd_contents:
            shared.add(writer, next_id, contents.shmid, contents.lfd)
            next_id += 1
        shared.copy(writer, len(tree.tasks) + 1)
        stats.shpages_written = shared.nr_pages
    return frozen


def _enter(
    taken: Snapshot,
    pages_fd: int,
    stats: DumpStats,
    report: Report,
) -> None:
    """What needs a parasite: the task's own answers, and its pages."""
    nr_done = 0

    def progress(done: int) -> None:
        nonlocal nr_done
        nr_done += done
        report.progress(nr_done, taken.content.nr_direct * PAGE)

    before = time.monotonic_ns()
    with infect(taken.task) as session, ProcDir(taken.pid) as proc:
        asked = inside.questions()
        taken.inside = inside.Inside(session.run(asked.batch), asked)
        taken.threads[taken.pid] = taken.inside.leader
        taken.lock_future = lock_future(session, proc, taken.facts.status.vm_locked or 0)
        _ask_threads(taken, session)
        mem = proc.open("mem", os.O_RDONLY)
        try:
            usable = session if session.can_pass_fds and not _sigpipe_pending(taken) else None
            Transfer(taken.pid, mem, pages_fd, usable, progress).run(taken.content, taken.vdso)
        finally:
            os.close(mem)
    stats.memdump_us += (time.monotonic_ns() - before) // 1000


def _sigpipe_pending(taken: Snapshot) -> bool:
    """Then the parasite can't tell a SIGPIPE of its own from the target's."""
    queued = (*taken.task.pending, *taken.task.threads[0].pending)
    return any(info[:4] == _SIGPIPE for info in queued)


def _ask_threads(taken: Snapshot, session: Session) -> None:
    at = session.layout.batches.start
    others = [stopped for stopped in taken.task.threads if stopped.tid != taken.pid]
    if not others:
        return
    answers = Range(at, at + thread.ANSWERS_SIZE)
    asked = run_in_threads(taken.task, others, thread.calls(at), answers=answers)
    for stopped, results, raw in asked:
        taken.threads[stopped.tid] = thread.answers(raw, results[-1])


def _model(root: int, frozen: _Frozen) -> Tree:
    dead = {}
    for pid, (raw, _) in frozen.zombies.items():
        stat = parse_stat(raw)
        dead[pid] = (stat.ppid, stat.pgrp, stat.session)
    alive = {s.pid: (s.facts, bool(s.task.stopped)) for s in frozen.snapshots}
    return tree_model(root, alive, dead)


def _judge(frozen: _Frozen, options: DumpOptions) -> None:
    """Refuse what turned up between the preflight and the freeze."""
    with ProcDir(os.getpid()) as own:
        ours = surroundings_of(own)
    found: list[Refusal] = []
    for taken in frozen.snapshots:
        assert taken.inside is not None
        found.extend(obstacles(taken.facts, ours))
        found.extend(describe.unknown_state(taken))
        found.extend(taken.inside.obstacles(taken.pid))
    found.extend(session_obstacles(_model(options.tree, frozen), options))
    refuse(found)


def _write(
    frozen: _Frozen,
    options: DumpOptions,
    files: FilesDump,
    shared: SharedMemory,
    writer: ImageSetWriter,
    stats: DumpStats,
    report: Report,
) -> None:
    """Encode and write everything, make it durable, make it whole."""
    _judge(frozen, options)
    before = time.monotonic_ns()
    report.stage("write")
    root = frozen.snapshots[0]
    offsets = root.facts.timens if "timens_offsets" in root.facts.raw else TimensOffsets()
    images: list[tuple[str, Sequence[Any]]] = [
        *describe.tree_images(_model(options.tree, frozen)),
        describe.cgroups(root),
        describe.clocks(
            frozen.monotonic_ns + offsets.monotonic_ns, frozen.boottime_ns + offsets.boottime_ns
        ),
        *(describe.zombie(parse_stat(a), parse_status(b)) for a, b in frozen.zombies.values()),
    ]
    for number, taken in enumerate(frozen.snapshots, 1):
        images += describe.task_images(taken, describe.object_ids(number), taken.vmas())
        images.append((f"fdinfo-{number}", files.fdinfo(taken.pid)))
        runs = [Run(a, (b - a) // PAGE, PE_PRESENT) for a, b in taken.content.ordered()]
        images.append((f"pagemap-{taken.pid}", pagemap_messages(taken.pages_id, runs)))
        stats.pages_written += sum(r.nr_pages for r in runs)
    stats.pages_scanned = stats.pages_written
    for name, messages in (*images, *shared.images(), *files.images().items()):
        writer.write(name, messages)
    if options.cpu_cap:
        writer.write("cpuinfo", [cpu.to_message(cpu.this_cpu())])
    writer.write("inventory", [describe.inventory()])
    writer.sync()
    writer.commit()
    stats.memwrite_us = (time.monotonic_ns() - before) // 1000
