"""The restore: the order of its steps.

1. The images are read and checked; the plan is computed. `--dry-run` ends here.
2. What the machine lacks is looked for: numbers that are taken, files that are missing.
3. Every open file description is opened, once (ckpt.files).
4. Control groups are made. The tasks are born, with memory, and join them; process groups are
   made; the dead die (build, groups). Sessions get their terminals (terminals). Of a lazy restore,
   memory that comes late is registered and handed over here (lazily): later steps may need it.
5. Each task gets its other state (state); those that were stopped are stopped again (stops).
6. Pages have been verified meanwhile: a rotten one fails the restore here.
7. All are stopped, get their registers, and are let go (commit).

The scripts of --action-script are run after 1 (pre-restore), after 6 (post-restore), when all are
stopped (pre-resume), and at the end (post-resume).

Up to the end of 7 a failure ends every task that was made, and leaves the images untouched.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from ckpt.actions import Actions, Event
from ckpt.errors import ImageError, RestoreError, refused_by_kernel
from ckpt.files.restore import FilesRestore
from ckpt.files.restoring import RestoreFileOptions
from ckpt.images.service import write_service
from ckpt.kerndat import cpu
from ckpt.mem.vdso import this_kernel
from ckpt.mem.vma import Backing
from ckpt.ns.join import joined
from ckpt.pstree.sharing import FILES
from ckpt.record import field, record
from ckpt.restore import commit, filters, state, stops
from ckpt.restore.build import Site
from ckpt.restore.cgroups import cgroups_of
from ckpt.restore.groups import end_the_dead, join_groups
from ckpt.restore.hugepages import check_pages, refuse_shortage
from ckpt.restore.late import restore_late
from ckpt.restore.lazily import Late
from ckpt.restore.load import Loaded, load
from ckpt.restore.numbers import await_reaping, taken_numbers
from ckpt.restore.outside import restore_outside
from ckpt.restore.plan import make_plan
from ckpt.restore.powers import clock_offsets, powers_for
from ckpt.restore.shared import SharedMemory, fill
from ckpt.restore.stats import RestoreStats
from ckpt.restore.terminals import set_foregrounds
from ckpt.scope import all_descriptors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ckpt.mem.vma import Vma
    from ckpt.ns.cgroup_restore import GroupsRestore
    from ckpt.pstree.model import Tree
    from ckpt.report import Report
    from ckpt.restore.early import Early
    from ckpt.restore.options import Consent, Lazily, RestoreOptions
    from ckpt.restore.plan import RestorePlan
    from ckpt.restore.powers import Powers
    from ckpt.restore.started import Started


@record
class RestoreResult:
    """The root's pid, the figures, and with --dry-run the plan as lines."""

    pid: int
    stats: RestoreStats
    plan: list[str] = field(default_factory=list)


@refused_by_kernel("the restore can't go on")
def restore(
    options: RestoreOptions,
    report: Report,
    lazily: Lazily | None = None,
    consent: Consent | None = None,
    early: Early | None = None,
) -> RestoreResult:
    """Restore the set in `options.images_dir`; with `lazily` much of its memory comes later.
    `early` may have tasks of it already.

    Raises ImageError, RestoreError, KernelError, TargetError, DeadlineError, ActionError; nothing
    that was made is left then.
    """
    began = time.monotonic_ns()
    stats = RestoreStats()
    actions = Actions(options.action_script, options.images_dir, report)
    report.stage("read")
    images = os.fspath(options.images_dir)
    with load(images, verify=options.checksums, lazily=bool(lazily)) as loaded:
        _refuse_cpu(options, loaded)
        outer = (os.getsid(0), os.getpgid(0))
        started = early.started if early else None
        plan = _plan(options, loaded, outer, started)
        if early is not None:
            early.keep(plan.kept)
            report.info(f"{len(plan.kept)} tasks were there already {plan.misfit}".rstrip())
        for memory in plan.memory.values():
            stats.pages_compared += memory.nr_compared
            stats.pages_skipped_cow += memory.nr_kept
            stats.pages_restored += memory.nr_loaded
        root = plan.tree.root.pid
        cgroups = cgroups_of(options.cgroups, loaded, report)
        if not options.dry_run:
            actions.run(Event.PRE_RESTORE)
        with _files(options, loaded, report) as files:
            files.check_tree(plan.tree.numbers(), _groups(loaded.tree, plan.tree))
            if options.dry_run:
                joins = [f"join {one}" for one in options.join_ns]
                lines = [*joins, *map(str, files.plan()), *plan.lines(loaded), *cgroups.lines()]
                return RestoreResult(root, stats, lines)
            _refuse_taken(plan, early.numbers() if early else set())
            refuse_shortage(loaded, plan, files.huge_memfds())
            with joined(options.join_ns):
                _carry_out(
                    *(options, lazily, consent, early, loaded, plan, files, cgroups, stats),
                    *(report, actions),
                )
    stats.restore_us = (time.monotonic_ns() - began) // 1000
    try:
        write_service(options.work_dir, "stats-restore", stats.message())
    except (ImageError, OSError) as error:
        # The tree runs: that its figures are lost must not look like a restore that failed.
        report.warn(str(error))
    actions.run(Event.POST_RESUME, root)
    return RestoreResult(root, stats)


def _plan(
    options: RestoreOptions, loaded: Loaded, outer: tuple[int, int], started: Started | None
) -> RestorePlan:
    stays = not options.restore_detached
    here = this_kernel()
    job = options.shell_job
    try:
        return make_plan(loaded, outer, shell_job=job, here=here, stays=stays, started=started)
    except RestoreError:
        if options.checksums:
            # What looks like the vdso of another kernel may be rotten pages.
            loaded.chain.verify_pages().wait()
        raise


def _refuse_cpu(options: RestoreOptions, loaded: Loaded) -> None:
    """What --cpu-cap asks to match, where the set has a record of its CPU."""
    images = loaded.chain.layers[0]
    if not options.cpu_cap or not images.exists("cpuinfo"):
        return
    there = cpu.from_message(images.read_one("cpuinfo"))
    if found := cpu.mismatches(there, cpu.this_cpu(), options.cpu_cap):
        raise RestoreError(
            "this CPU is not that of the dump",
            why="; ".join(found),
            hint="restore on a richer one, or at your own risk with --cpu-cap=none",
        )


def _carry_out(
    options: RestoreOptions,
    lazily: Lazily | None,
    consent: Consent | None,
    early: Early | None,
    loaded: Loaded,
    plan: RestorePlan,
    files: FilesRestore,
    cgroups: GroupsRestore,
    stats: RestoreStats,
    report: Report,
    actions: Actions,
) -> None:
    with ExitStack() as scope:
        # The tasks are born with our limit and get their own at the end: until then they must hold
        # their own numbers and those that we work with.
        scope.enter_context(all_descriptors())
        late = scope.enter_context(Late(lazily))
        late.offer(loaded)
        verifying = scope.enter_context(_verified(options, loaded, lazily))
        powers = powers_for(loaded)
        report.stage("files")
        files.open_all(_owners(loaded))
        shared = scope.enter_context(SharedMemory(loaded))
        stats.pages_restored += shared.make_all(report) + _fill_memfds(loaded, files)

        report.stage("tasks")
        scope.enter_context(cgroups)
        site = scope.enter_context(_site(options, loaded, plan, files, shared, cgroups, early))
        before = time.monotonic_ns()
        raise_all = site.take_up if site.tasks else site.raise_all
        raise_all(clock_offsets(loaded, powers, report))
        stats.forking_us = (time.monotonic_ns() - before) // 1000
        join_groups(site)
        set_foregrounds(site, files, report)
        end_the_dead(site)
        late.hand_over(site, shared, report)
        report.stage("state")
        _give_state(site, files, shared, powers, report)
        files.apply_seals()
        shared.settle()
        late.settle(loaded)
        verifying()
        files.finish()
        files.close()
        cgroups.settle({pid: list(image.task.threads) for pid, image in loaded.tasks.items()})
        actions.run(Event.POST_RESTORE, plan.tree.root.pid)
        _resume(options, site, files, shared, cgroups, actions, consent)
        late.committed()


def _give_state(
    site: Site, files: FilesRestore, shared: SharedMemory, powers: Powers, report: Report
) -> None:
    """Step 5."""
    tasks = site.loaded.tasks
    for pid, image in tasks.items():
        built = site.tasks[pid]
        state.restore_descriptors(site, built, files)
        state.restore_context(site, built, image, files)
        restore_outside(image, report)
    for pid, image in tasks.items():
        state.restore_threads(site, site.tasks[pid], image, files, powers)
    restore_late(site, files, report)
    shared.objects.tell(lambda pid: site.tasks[pid].session)
    for image in tasks.values():
        filters.hold_off(image)
    stops.stop_again(site)
    for pid, image in tasks.items():
        state.restore_leader(site.tasks[pid], image, powers, report)


def _fill_memfds(loaded: Loaded, files: FilesRestore) -> int:
    """How many pages were put in."""
    contents = files.memfd_contents
    return sum(fill(loaded, c.shmid, c.lfd, c.size, c.huge_page) for c in contents)


@contextmanager
def _verified(
    options: RestoreOptions, loaded: Loaded, lazily: Lazily | None
) -> Iterator[Callable[[], None]]:
    """Within it pages are verified; what it gives waits for the end of that."""
    if not options.checksums:
        yield lambda: None
        return
    verifying = loaded.verify_early() if lazily else loaded.chain.verify_pages()
    try:
        yield verifying.wait
    finally:
        verifying.cancel()


def _site(
    options: RestoreOptions,
    loaded: Loaded,
    plan: RestorePlan,
    files: FilesRestore,
    shared: SharedMemory,
    cgroups: GroupsRestore,
    early: Early | None,
) -> Site:
    def lfd_of(v: Vma) -> int:
        if v.backing is Backing.SHMEM:
            return shared.lfd(v.shmid)
        lfd = files.mapping_lfd(v.shmid, v.file_flags)
        if v.huge_page:
            check_pages(v, lfd)
        return lfd

    born = early.hand_over().tasks if early is not None and early.started else {}
    return Site(
        loaded,
        plan,
        lfd_of,
        born,
        root_sibling=options.restore_sibling,
        terminal_of=files.terminal_of,
        born=cgroups.join,
    )


def _resume(
    options: RestoreOptions,
    site: Site,
    files: FilesRestore,
    shared: SharedMemory,
    cgroups: GroupsRestore,
    actions: Actions,
    consent: Consent | None,
) -> None:
    root = site.plan.tree.root.pid
    for pid, image in site.loaded.tasks.items():
        state.start_timers(site.tasks[pid], image)
    commit.take_over(site)
    _write_pidfile(options, root)
    actions.run(Event.PRE_RESUME, root)
    if consent is not None:
        consent.wait()
    files.release()
    shared.send_guards_away()
    verdict = -1 if consent is None else consent.verdict
    commit.let_go(site, leave_stopped=options.leave_stopped, verdict=verdict)
    shared.keep()
    cgroups.keep()
    files.remove_links()
    site.forget()


def _files(options: RestoreOptions, loaded: Loaded, report: Report) -> FilesRestore:
    return FilesRestore(
        loaded.chain.layers[0],
        RestoreFileOptions(
            shell_job=options.shell_job,
            file_locks=options.file_locks,
            skip_file_rwx_check=options.skip_file_rwx_check,
            tcp_established=options.tcp_established,
            tcp_close=options.tcp_close,
            network_lock=options.network_lock,
            other_net=any(one.kind == "net" for one in options.join_ns),
            build_ids=options.file_validation == "buildid",
            inherit={given.resource: given.lfd for given in options.inherit_fd},
        ),
        {pid: loaded.sharing.ids(pid)[FILES] for pid in loaded.tasks},
        report,
    )


def _groups(old: Tree, new: Tree) -> dict[int, int]:
    """What each group of the images will be."""
    return {task.pgid: new[task.pid].pgid for task in old}


def _owners(loaded: Loaded) -> dict[int, tuple[int, int]]:
    """Who may open a task's pipes by name."""
    ids = {pid: image.core.thread_core.creds for pid, image in loaded.tasks.items()}
    return {pid: (creds.fsuid, creds.fsgid) for pid, creds in ids.items()}


def _refuse_taken(plan: RestorePlan, ours: set[int]) -> None:
    """`ours`: the numbers of tasks of the tree that are there already."""
    wanted = (plan.tree.numbers() | set(plan.births.helpers())) - ours
    await_reaping(wanted)
    for number, why in taken_numbers(wanted):
        raise RestoreError(
            f"the number {number} is taken",
            pid=number,
            why=why,
            hint="end that process, or restore in another pid namespace",
        )


def _write_pidfile(options: RestoreOptions, pid: int) -> None:
    if options.pidfile is None:
        return
    try:
        lfd = os.open(options.pidfile, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise RestoreError(
            "the pidfile can't be made", resource=str(options.pidfile), why=error.strerror or ""
        ) from error
    try:
        os.write(lfd, str(pid).encode())
    finally:
        os.close(lfd)
