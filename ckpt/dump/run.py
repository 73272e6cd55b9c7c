"""The dump: the order of its steps, and what each undoes.

0. The pre-dump scripts, if there are any. Memory that the tree was restored without is waited for.
1. Where memory is tracked, or shall be: the parent set, and the keeper of the tracking.
2. Preflight on the running tree: refusals cost the target nothing.
3. The image set is opened: a directory that holds one is refused before the freeze.
4. Seize; from here until the thaw the tree stands still (the frozen time, ckpt.dump.take).
5. Thaw, for --leave-running without scripts. Else the tree stands until the set is whole and the
   post-dump scripts have ended well, and is killed then, unless it shall be left.
6. Judge what was found, encode and write messages, bring all to the disk, commit (ckpt.dump.write).
7. The keeper learns that the set is whole, or ends.

A failure at any step leaves the scopes in reverse: parasites cured, descriptors closed, the tree
thawed, temporary files removed. What a round of tracking has consumed stays with the keeper.
"""

from __future__ import annotations

import gc
import time
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from ckpt.actions import Actions, Event
from ckpt.dump import inside, live, nodes
from ckpt.dump.fate import Fate
from ckpt.dump.pages import pages_for
from ckpt.dump.preflight import preflight, refuse, root_obstacles
from ckpt.dump.take import FlagsChangedError, confirm, take
from ckpt.dump.work import Work, new_run_id, uptime_us
from ckpt.dump.write import write
from ckpt.errors import ImageError, refused_by_kernel
from ckpt.files.dump import FilesDump
from ckpt.files.dumping import External, FileOptions
from ckpt.images.service import write_service
from ckpt.images.writer import ImageSetWriter
from ckpt.infect.passing import in_vdso
from ckpt.mem.missing.finish import finish
from ckpt.mem.tracking.where import is_root_tracked
from ckpt.ns.cgroup_dump import GroupsDump
from ckpt.scope import all_descriptors
from ckpt.task import slept
from ckpt.tracee.freeze import seize

if TYPE_CHECKING:
    from collections.abc import Callable

    from ckpt.dump.engine import LiveEngine
    from ckpt.dump.fate import Handover
    from ckpt.dump.increment import Increment
    from ckpt.dump.options import DumpOptions
    from ckpt.dump.stats import DumpStats
    from ckpt.report import Report
    from ckpt.tracee.freeze import SeizedTree


@refused_by_kernel("the dump can't go on")
def dump(
    options: DumpOptions,
    report: Report,
    new_engine: Callable[[], LiveEngine] | None = None,
    handover: Handover | None = None,
) -> DumpStats:
    """Dump the tree at `options.tree` into `options.images_dir`. `new_engine`: for a live dump,
    makes an engine for one attempt. `handover`: decides what becomes of a tree that would end.

    Raises RefusedError, TargetError, ImageError, KernelError, DeadlineError, ActionError; the tree
    then runs on as before, and the directory holds nothing new, but the set, where only a post-dump
    script has failed.
    """
    actions = Actions(options.action_script, options.images_dir, report)
    actions.run(Event.PRE_DUMP, options.tree)
    # A duplicate is held of every descriptor of the tree.
    with all_descriptors():
        try:
            stats = _dump(options, report, actions, new_engine, handover, assume=True)
        except FlagsChangedError as changed:
            report.info(f"a mapping changed meanwhile, once more: {changed}")
            stats = _dump(options, report, actions, new_engine, handover, assume=False)
    try:
        write_service(options.work_dir, "stats-dump", stats.message())
    except (ImageError, OSError) as error:
        # The set is whole: that its figures are lost must not look like a dump that failed.
        report.warn(str(error))
    return stats


def _dump(
    options: DumpOptions,
    report: Report,
    actions: Actions,
    new_engine: Callable[[], LiveEngine] | None,
    handover: Handover | None,
    *,
    assume: bool,
) -> DumpStats:
    """`assume`: flags of mappings may be taken from before the freeze, and confirmed after it."""
    finish(options.tree, report, options.timeout_s)
    report.stage("look")
    files = files_dump(options, report)
    with ExitStack() as scope:
        scope.callback(files.let_go)
        increment = _increment(options, report, scope)
        tracked = frozenset(increment.keeper.tracked()) if increment else frozenset()
        groups = GroupsDump.begin(options.cgroups)
        refusals, known = preflight(options, files, tracked, groups)
        refuse([*refusals, *root_obstacles(options)])
        writer = scope.enter_context(
            ImageSetWriter(options.images_dir, checksums=options.checksums)
        )
        work = Work(
            options,
            report,
            files,
            groups,
            writer,
            pages_for(options, writer, scope),
            increment,
            tracked,
            known if assume else {},
            run_id=new_run_id(),
            uptime_us=uptime_us() if increment else 0,
        )
        if increment is not None:
            increment.link(writer)
            if work.goes_on:
                work.tracked = increment.adopt(options.tree, report)
        work.pages.prepare([f"pagemap-{pid}" for pid in known])
        scope.callback(files.open_network)
        files.before_freeze(work.run_id)
        # Made here, once, and not while the tree stands.
        inside.questions()
        nodes.prepare(known.values())
        if new_engine is not None:
            engine = new_engine()
            scope.callback(engine.close)
            live.prepare(work, engine, list(known))
        work.slept = slept.look(known)
        _stop_and_write(work, actions, handover)
        if increment is not None:
            _settle(work, increment)
    return work.stats


def files_dump(options: DumpOptions, report: Report) -> FilesDump:
    """The descriptors of the tree that `options` names; nothing is opened yet."""
    return FilesDump(
        FileOptions(
            shell_job=options.shell_job,
            file_locks=options.file_locks,
            external=External(options.external),
            force_irmap=options.force_irmap,
            irmap_scan_paths=options.irmap_scan_path,
            skip_in_flight=options.skip_in_flight,
            ghost_limit=options.ghost_limit,
            link_remap=options.link_remap,
            ext_unix_sk=options.ext_unix_sk,
            tcp_established=options.tcp_established,
            tcp_close=options.tcp_close,
            unix_close=options.unix_close,
            network_lock=options.network_lock,
            build_ids=options.file_validation == "buildid",
        ),
        report,
    )


def _increment(options: DumpOptions, report: Report, scope: ExitStack) -> Increment | None:
    tracked = is_root_tracked(options.tree)
    if not (options.track_mem or options.prev_images_dir or tracked):
        return None
    # Only now: most dumps have nothing to do with tracking.
    from ckpt.dump.increment import begin

    increment = begin(options, report, track=options.track_mem and options.survives)
    return None if increment is None else scope.enter_context(increment)


def _stop_and_write(work: Work, actions: Actions, handover: Handover | None) -> None:
    options, stats, report = work.options, work.stats, work.report
    report.stage("freeze")
    with (
        live.hurried(work),
        seize(options.tree, deadline_s=options.timeout_s or None, lingering=in_vdso) as tree,
    ):
        gc.disable()
        try:
            take(tree, work)
        finally:
            work.files.close()
            if options.survives:
                work.files.open_network()
            gc.enable()
        stats.frozen_us = (time.monotonic_ns() - tree.frozen_at_ns) // 1000
        if work.engine is not None:
            check = partial(confirm, work, standing=False)
            live.run_with(work, work.engine, actions, tree, check)
        # What a post-dump script copies of the file systems must be of the instant of the images.
        standing = work.engine is None and (bool(actions) or not options.leave_running)
        if standing:
            confirm(work, standing=True)
            write(work)
            actions.run(Event.POST_DUMP, options.tree)
        if not options.leave_running:
            snapshots = work.frozen.snapshots
            fate = Fate.STOP if options.leave_stopped else Fate.END
            _end(work, tree, fate if handover is None else handover(tree, snapshots))
    if options.leave_running:
        stats.frozen_us = (tree.thawed_at_ns - tree.frozen_at_ns) // 1000 - stats.script_us
    if not standing:
        if not work.checked:
            confirm(work, standing=False)
        if work.engine is not None:
            live.deliver(work, work.engine)
        write(work)
        if work.engine is not None:
            actions.run(Event.POST_DUMP, options.tree)
    stats.freezing_us = tree.freezing_ns // 1000


def _end(work: Work, tree: SeizedTree, fate: Fate) -> None:
    """The set is whole, and the tree shall not run on: all of it ends, or none where this fails."""
    if fate is Fate.STOP:
        tree.leave_stopped()
        return
    for text in tree.kill(work.files.before_kill, work.files.after_kill):
        work.report.warn(text)


def _settle(work: Work, increment: Increment) -> None:
    """The set is whole. Tracking goes on relative to it, or ends."""
    with increment.set_is_whole(work.report):
        if work.goes_on:
            snapshots = work.frozen.snapshots
            # Nothing that threads had pinned before the freeze is in flight while all stand; what
            # AIO has may be.
            increment.commit(
                work.run_id,
                {s.pid: s.content.all_pages() for s in snapshots},
                settled={s.pid: True for s in snapshots},
                io_contexts={s.pid: bool(s.rings()) for s in snapshots},
            )
        else:
            increment.untrack()
    if work.options.auto_dedup:
        increment.dedup(work.options, work.report)
