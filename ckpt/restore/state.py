"""The state of one task beside its memory, and its further threads.

Order, each step by the task itself unless said otherwise:

1. descriptors: everything inherited is closed, its own are received and put in their places;
2. root, working directory, umask, bounds of the memory, executable;
3. advice and locks of memory, personality, signal actions;
4. further threads, each with a batch of its own that ends with its credentials; they park; then
   what is in ckpt.restore.late;
5. POSIX timers, unarmed; limits, the leader's own thread state, pending signals, credentials, at
   the very end dumpable;
6. right before the tasks are let go: timers are armed.

Every signal stays blocked all the time.
"""

from __future__ import annotations

import os
import resource
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from ckpt._native import lib
from ckpt.errors import RestoreError
from ckpt.images.text import get_text
from ckpt.infect.batch import SOCK, Batch, Load, Result
from ckpt.infect.lend import Lender
from ckpt.mem import aio, apply, policy
from ckpt.mem.locking import restore_lock_future
from ckpt.mem.vma import MADV_MERGEABLE
from ckpt.pstree.sharing import CLONE_FS, FILES
from ckpt.restore import apart, filters
from ckpt.restore.window import THREAD_SLOT
from ckpt.task import creds, limits, mm, modes, sched, signals, thread, timers
from ckpt.tracee import vm

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ckpt.files.restore import FilesRestore, Placement
    from ckpt.mem.build import MemoryPlan
    from ckpt.report import Report
    from ckpt.restore.build import Built, Site
    from ckpt.restore.load import TaskImage
    from ckpt.restore.powers import Powers
    from ckpt.units import Range

_F_DUPFD_CLOEXEC = 1030
_O_CLOEXEC = 0o2000000
_CLONE_THREAD = 0x100 | 0x200 | 0x400 | 0x800 | 0x10000 | 0x40000
_PR_SET_CHILD_SUBREAPER = 36
_TOP = 0xFFFFFFFF
_STACK_END = 4096
_CLONE_ARGS_SIZE = 88


def restore_descriptors(site: Site, built: Built, files: FilesRestore) -> None:
    """Step 1, for all who share a table when it is the turn of the first of them.

    Received descriptors take the lowest free numbers, where others may belong: so they are moved to
    a stretch of numbers that the table does not use before any is placed. The command sockets of
    all who have the table begin that stretch.
    """
    if site.loaded.sharing.first(FILES, built.pid) != built.pid:
        return
    socks = sorted(built.table.values())
    batch = Batch()
    for before, sock in zip((-1, *socks), (*socks, _TOP + 1), strict=True):
        if sock - before > 1:
            batch.call("close_range", before + 1, sock - 1, 0)
    built.session.run(batch)
    taken = files.numbers(built.pid) | (set(socks) if len(socks) > 1 else set())
    first = _free_numbers(taken, 1 + len(socks) + int(lib.CKPT_MAX_FDS))
    for own, pid in enumerate(built.table, first):
        _move_socket(site.tasks[pid], own)
        built.table[pid] = own
    place(built, files, files.placements(built.pid))


def _move_socket(built: Built, own: int) -> None:
    """Give the command socket the number `own`, which is free."""
    if built.sock == own:
        return
    batch = Batch()
    batch.call("fcntl", SOCK, _F_DUPFD_CLOEXEC, own, want=own, note="command socket")
    batch.keep(SOCK, batch.put(struct.pack("<i", own)))
    batch.call("close", built.sock)
    built.session.run(batch)
    built.sock = own


def place(built: Built, files: FilesRestore, placements: Iterable[Placement]) -> None:
    """Put descriptors of ours into their places in the task's table."""
    by_file: dict[int, list[Placement]] = {}
    for placement in placements:
        by_file.setdefault(placement.file_id, []).append(placement)
    ids = list(by_file)
    for first in range(0, len(ids), lib.CKPT_MAX_FDS):
        wave = {i: by_file[i] for i in ids[first : first + lib.CKPT_MAX_FDS]}
        batch = _wave(wave, built.sock + 1)
        built.session.run(batch, fds=[files.lfd(i) for i in wave])


def _wave(wave: dict[int, list[Placement]], above: int) -> Batch:
    batch = Batch()
    slots = batch.receive_fds(SOCK, len(wave))
    high = [batch.call("fcntl", slot, _F_DUPFD_CLOEXEC, above) for slot in slots]
    for slot in slots:
        batch.call("close", slot)
    for moved, placements in zip(high, wave.values(), strict=True):
        for p in placements:
            flags = _O_CLOEXEC if p.cloexec else 0
            batch.call("dup3", moved, p.fd, flags, want=p.fd, note=f"descriptor {p.fd}")
        batch.call("close", moved)
    return batch


def _free_numbers(numbers: set[int], length: int) -> int:
    """The first of `length` descriptor numbers in a row that the task does not use itself."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    above = max(numbers, default=-1) + 1
    if above + length <= limit:
        return above
    before = -1
    for number in sorted(numbers):
        if number - before - 1 >= length:
            return before + 1
        before = number
    raise RestoreError(
        "its descriptor table leaves no room to work in",
        why=f"{len(numbers)} descriptors under a limit of {limit}",
        hint="raise the limit of open files for ckpt restore",
    )


def restore_context(site: Site, built: Built, image: TaskImage, files: FilesRestore) -> None:
    """Steps 2 and 3. What belongs to a memory that several share is left to the first of them."""
    plan = site.plan.memory.get(built.pid)
    lender = Lender(built.session)
    root_lfd = files.directory_lfd(image.fs.root_id)
    if not os.path.samestat(os.fstat(root_lfd), Path("/").stat()):

        def change_root(batch: Batch, fd: Load) -> None:
            batch.call("fchdir", fd, note="root")
            batch.call("chroot", batch.text("."), note="root")

        lender.add(root_lfd, change_root)
    lender.add(
        files.directory_lfd(image.fs.cwd_id),
        lambda batch, fd: _only(batch.call("fchdir", fd, note="working directory")),
    )
    if plan is not None:
        lender.add(
            files.mapping_lfd(image.mm.exe_file_id, os.O_RDONLY),
            lambda batch, fd: mm.restore(batch, image.mm, fd),
        )
    lender.flush()
    batch = Batch()
    if plan is not None:
        _finish_memory(batch, built, image, plan)
    batch.call("umask", image.fs.umask)
    batch.call("personality", image.core.tc.personality)
    if image.core.tc.child_subreaper:
        batch.call("prctl", _PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signals.restore_actions(batch, image.core.tc)
    built.session.run(batch)


def _finish_memory(batch: Batch, built: Built, image: TaskImage, plan: MemoryPlan) -> None:
    _restore_rings(built, image)
    own = image.own.get(built.pid)
    on_fault = frozenset(own.lock_on_fault) if own is not None else frozenset()
    apply.finish(built.session, plan, on_fault)
    if own is not None:
        modes.restore_merging(batch, own, _unmerged(image))
    if own is not None and own.sealed:
        starts = frozenset(own.sealed)
        apply.seal(batch, (v.range for v in image.memory.vmas if v.range.start in starts))
    if image.mm.thp_disabled:
        batch.call("prctl", mm.PR_SET_THP_DISABLE, 1, 0, 0, 0)


def _restore_rings(built: Built, image: TaskImage) -> None:
    if not image.rings:
        return
    empty = os.memfd_create("ckpt", os.MFD_CLOEXEC)
    try:
        for ring in image.rings:
            aio.restore(built.session, ring, empty)
    finally:
        os.close(empty)


def _unmerged(image: TaskImage) -> Iterator[Range]:
    """Private mappings that were left out of same-page merging."""
    for v in image.memory.ordinary():
        if v.private and MADV_MERGEABLE not in v.advices():
            yield v.range


def _only(_: Result) -> None:
    return


def restore_threads(
    site: Site, built: Built, image: TaskImage, files: FilesRestore, powers: Powers
) -> None:
    """Step 4: clone the further threads; return when each has run its batch and parks."""
    started, window = [], site.plan.window
    for index, tid in enumerate(image.task.threads):
        slot = window.slot(built.pid, index)
        batch = Batch()
        _thread_state(batch, image, tid, powers)
        at = slot + _STACK_END
        raw = batch.encode(at, slot)
        if len(raw) > THREAD_SLOT - _STACK_END:
            raise RestoreError("its state is too large", pid=built.pid, resource=f"thread {tid}")
        head = window.layout.session(
            sock=-1, exit_on_eof=True, batch=at, stack_top=slot + _STACK_END
        )
        # The session's data area is the slot: the third word of its struct.
        head = head[:16] + struct.pack("<Q", slot) + head[24:]
        vm.write(built.pid, slot, head)
        vm.write(built.pid, at, raw)
        started.append((tid, slot, batch, at, len(raw)))
    own = {tid: there for tid in image.threads if (there := apart.directories(image, tid))}
    together = [one for one in started if one[0] not in own]
    for first in range(0, len(together), 500):
        _clone_threads(built, together[first : first + 500])
    for one in started:
        if one[0] in own:
            _clone_threads(built, [one], apart.Elsewhere(image, own[one[0]], files))


Started = tuple[int, int, Batch, int, int]


def _clone_threads(
    built: Built, started: list[Started], elsewhere: apart.Elsewhere | None = None
) -> None:
    cloning = Batch()
    flags = _CLONE_THREAD
    if elsewhere is not None:
        elsewhere.go(cloning)
        flags &= ~CLONE_FS
    for tid, slot, _, _, _ in started:
        wanted = cloning.put(struct.pack("<i", tid))
        args = cloning.struct("<11Q", flags, 0, 0, 0, 0, 0, 0, 0, wanted, 1, 0)
        cloning.clone(args, _CLONE_ARGS_SIZE, slot, 0, want=tid, note=f"thread {tid}")
    if elsewhere is not None:
        elsewhere.come_back(cloning)
    for _, _, _, at, _ in started:
        cloning.wait(at + 12, 1)
    built.session.run(cloning, fds=elsewhere.lfds if elsewhere is not None else ())
    for tid, _, batch, at, size in started:
        try:
            batch.decode(at, vm.read(built.pid, at, size))
        except Exception as error:
            raise RestoreError(
                "its state can't be restored",
                pid=built.pid,
                resource=f"thread {tid}",
                why=str(error),
            ) from error


def _thread_state(batch: Batch, image: TaskImage, tid: int, powers: Powers) -> None:
    """Everything of one thread but registers and mask, in the thread's own batch."""
    core = image.threads[tid]
    entry = core.thread_core
    thread.restore(batch, entry, core.thread_info.clear_tid_addr)
    comm = get_text(core.tc if core.HasField("tc") else entry, "comm")
    thread.restore_name(batch, comm)
    if entry.HasField("rseq_entry"):
        thread.restore_rseq(batch, entry.rseq_entry)
    own = image.own.get(tid)
    if own is not None and own.cpus:
        thread.restore_affinity(batch, int.from_bytes(own.cpus, "little"))
    sched.restore(batch, entry, own)
    if own is not None:
        modes.restore_thread(batch, own)
        policy.set_own(batch, policy.of_thread(own))
    if own is not None and own.timerslack_ns:
        thread.restore_timer_slack(batch, own.timerslack_ns)
    signals.restore_pending(batch, entry.signals_p, image.task.pid, tid)
    creds.restore(batch, entry.creds, powers.ours, powers.last_cap)
    if entry.pdeath_sig:
        batch.call("prctl", thread.PR_SET_PDEATHSIG, entry.pdeath_sig, 0, 0, 0)


def restore_leader(built: Built, image: TaskImage, powers: Powers, report: Report) -> None:
    """Step 5. Filters are held off, where there are any."""
    filters.install_by_leader(built, image)
    timers.create(built.session, image.core.tc.timers)
    batch = Batch()
    for number in limits.restore(batch, list(image.core.tc.rlimits.rlimits)):
        report.warn(f"pid {built.pid}: hard limit {number} is above ours and stays at ours")
    own = image.own.get(built.pid)
    if own is not None:
        restore_lock_future(batch, own.lock_future)
    modes.restore_process(batch, image.core.tc, own)
    signals.drain(batch)
    signals.restore_pending(batch, image.core.tc.signals_s, built.pid)
    root_only = image.mm.dumpable == mm.ROOT_ONLY
    if root_only:
        mm.provoke_root_only(batch)
    _thread_state(batch, image, built.pid, powers)
    if not root_only or not mm.has_root_only():
        batch.call("prctl", mm.PR_SET_DUMPABLE, image.mm.dumpable == 1, 0, 0, 0)
    told = batch.call("prctl", mm.PR_GET_DUMPABLE, 0, 0, 0, 0)
    if built.session.run(batch).of(told) != mm.ROOT_ONLY and root_only:
        report.warn(
            f"pid {built.pid}: root could have its core (fs.suid_dumpable=2); here nobody will"
        )


def start_timers(built: Built, image: TaskImage) -> None:
    """Step 6."""
    batch = Batch()
    timers.arm(batch, image.core.tc.timers)
    if len(batch):
        built.session.run(batch)
