"""From snapshots to messages: pure, after the thaw.

The kernel object ids of tasks tell what they share (ckpt.pstree.sharing). All namespaces are ckpt's
own, so every task has the ids of the inventory; the clocks of its time namespace are in
timens-0.img.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from ckpt.errors import Refusal
from ckpt.images.pb.ckpt_thread_pb2 import ckpt_thread_entry
from ckpt.images.pb.core_pb2 import core_entry, task_kobj_ids_entry
from ckpt.images.pb.fs_pb2 import fs_entry
from ckpt.images.pb.inventory_pb2 import NO_LSM, inventory_entry
from ckpt.images.pb.mm_pb2 import mm_entry
from ckpt.images.pb.pstree_pb2 import pstree_entry
from ckpt.images.pb.timens_pb2 import timens_entry
from ckpt.images.text import set_text
from ckpt.kerndat.xsave import xsave_layout
from ckpt.mem import aio, policy, vma
from ckpt.ns.cgroup_dump import OWN_SET
from ckpt.procfs import scalars
from ckpt.procfs.timens import NS_PER_S
from ckpt.pstree.model import State
from ckpt.pstree.sharing import KINDS
from ckpt.task import creds, fpu, limits, mm, modes, regs, sched, seccomp, signals, thread

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from google.protobuf.message import Message

    from ckpt.dump.snapshot import Snapshot
    from ckpt.mem.vma import Vma
    from ckpt.ns.cgroup_dump import GroupsDump
    from ckpt.procfs.stat import Stat
    from ckpt.procfs.status import Status
    from ckpt.pstree.model import Tree
    from ckpt.pstree.sharing import Ids
    from ckpt.tracee.stopped import Stopped

_IMG_VERSION = 2
_NAMESPACES = (
    *("pid_ns_id", "net_ns_id", "ipc_ns_id", "uts_ns_id", "mnt_ns_id", "user_ns_id"),
    *("cgroup_ns_id", "time_ns_id"),
)
IPC_NS_ID = 1 + _NAMESPACES.index("ipc_ns_id")
Image = tuple[str, "list[Message]"]


def object_ids(shared: Ids) -> task_kobj_ids_entry:
    """Ids of a task that uses `shared`."""
    ids = task_kobj_ids_entry(**{kind.field: number for kind, number in shared.items()})
    for at, name in enumerate(_NAMESPACES, 1):
        setattr(ids, name, at)
    return ids


def inventory(run_id: str, uptime_us: int) -> inventory_entry:
    """`uptime_us`: 0 where memory is not tracked."""
    entry = inventory_entry(
        img_version=_IMG_VERSION,
        fdinfo_per_id=True,
        ns_per_id=True,
        root_ids=object_ids(dict.fromkeys(KINDS, 0)),
        root_cg_set=OWN_SET,
        lsmtype=NO_LSM,
        dump_criu_run_id=run_id,
    )
    if uptime_us:
        entry.dump_uptime = uptime_us
    return entry


def tree_images(tree: Tree) -> Iterator[Image]:
    """pstree.img, and what a host tree's set has though it is empty here."""
    entries: list[Message] = []
    for task in tree:
        entry = pstree_entry(
            pid=task.pid,
            ppid=0 if task is tree.root else task.ppid,
            pgid=task.pgid,
            sid=task.sid,
        )
        if not task.dead:
            entry.threads.extend((task.pid, *task.threads))
        entries.append(entry)
    yield "pstree", entries


def filters(snapshots: Iterable[Snapshot]) -> tuple[Image, dict[seccomp.Chain, int]]:
    """seccomp.img, and under which number the last filter of each chain stands there."""
    entry, known = seccomp.images(chain for s in snapshots for chain in s.filters.values())
    return ("seccomp", [entry]), known


def clocks(monotonic_ns: int, boottime_ns: int) -> Image:
    """timens-0.img: what the task's clocks said at the dump."""
    entry = timens_entry()
    for where, ns in ((entry.monotonic, monotonic_ns), (entry.boottime, boottime_ns)):
        where.tv_sec, where.tv_nsec = divmod(ns, NS_PER_S)
    return "timens-0", [entry]


def zombie(stat: Stat, status: Status) -> Image:
    core = core_entry(mtype=core_entry.X86_64)
    tc = core.tc
    tc.task_state, tc.exit_code = State.DEAD, stat.exit_code
    tc.personality, tc.flags, tc.blk_sigset = 0, stat.flags, status.signals.blocked
    set_text(tc, "comm", stat.comm)
    return f"core-{stat.pid}", [core]


def task_images(
    s: Snapshot,
    ids: task_kobj_ids_entry,
    vmas: list[Vma],
    chains: Mapping[seccomp.Chain, int],
    groups: GroupsDump,
) -> Iterator[Image]:
    """Everything of one task but its files and pages. `vmas` have their ids by now; `chains` is
    what `filters` returned. `groups` numbers the cgroup sets that it meets."""
    yield f"ids-{s.pid}", [ids]
    for stopped in s.task.threads:
        core, own = core_entry(mtype=core_entry.X86_64), _own(s, stopped.tid)
        _fill_thread(core, s, stopped)
        if stopped.dispatch is not None:
            thread.fill_dispatch(own, stopped.dispatch)
        seccomp.fill(core.thread_core, s.filters.get(stopped.tid, ()), chains)
        core.thread_core.cg_set = groups.number(s.facts.cgroup(stopped.tid))
        sched.fill(core.thread_core, own, s.scheds[stopped.tid])
        modes.fill_thread(
            own,
            s.facts.thread_stat(stopped.tid),
            s.facts.thread_status(stopped.tid),
            s.threads[stopped.tid].tsc,
        )
        if stopped.tid == s.pid:
            _fill_task(core, s)
            core.tc.cg_set = core.thread_core.cg_set
            assert s.inside is not None
            s.inside.asked.modes.fill(s.inside.outcome, core.tc, own)
        yield f"core-{stopped.tid}", [core]
        yield f"ckpt-thread-{stopped.tid}", [own]
    yield f"mm-{s.pid}", [_memory(s, vmas)]
    umask = s.facts.status.umask or 0
    fs = fs_entry(cwd_id=s.links["cwd"], root_id=s.links["root"], umask=umask)
    yield f"fs-{s.pid}", [fs]


def _fill_thread(core: core_entry, s: Snapshot, stopped: Stopped) -> None:
    told = s.threads[stopped.tid]
    core.thread_info.clear_tid_addr = told.clear_child_tid
    handler = _first_handler(s, stopped)
    asleep = s.asleep.get(stopped.tid)
    regs.fill(core.thread_info.gpregs, stopped.regs, handler=handler, asleep=asleep)
    fpu.fill(core.thread_info.fpregs, stopped.xstate, xsave_layout())
    entry = core.thread_core
    entry.futex_rla, entry.futex_rla_len = s.robust[stopped.tid]
    stat, status = s.facts.thread_stat(stopped.tid), s.facts.thread_status(stopped.tid)
    entry.sched_nice = stat.nice
    entry.blk_sigset = stopped.sigmask
    signals.fill_stack(entry.sas, told.stack)
    entry.pdeath_sig = told.pdeath_signal
    signals.fill_pending(entry.signals_p, s.pending[stopped.tid])
    creds.fill(entry.creds, status, told.securebits)
    set_text(entry, "comm", stat.comm)
    if stopped.rseq:
        rseq = entry.rseq_entry
        rseq.rseq_abi_pointer = stopped.rseq.pointer
        rseq.rseq_abi_size = stopped.rseq.size
        rseq.signature = stopped.rseq.signature


def _first_handler(s: Snapshot, stopped: Stopped) -> int | None:
    """Flags of the handler that runs when the thread goes on, if one does."""
    assert s.inside is not None
    queues = (s.pending[stopped.tid], s.pending[0])
    if not any(queues):
        return None
    return signals.first_handler(stopped.sigmask, queues, s.inside.outcome, s.inside.asked.actions)


def _fill_task(core: core_entry, s: Snapshot) -> None:
    assert s.inside is not None and s.timers is not None
    tc, stat = core.tc, s.facts.stat
    tc.task_state = State.STOPPED if s.task.stopped else State.ALIVE
    if s.task.stopped:
        tc.stop_signo = s.task.stop_signal
    tc.exit_code = 0
    tc.personality, tc.flags = s.facts.personality, stat.flags
    tc.blk_sigset = s.task.threads[0].sigmask
    set_text(tc, "comm", stat.comm)
    infos = [info for queue in s.pending.values() for info in queue]
    s.timers.fill(tc.timers, infos, s.pending_at_ns, s.clock_ns)
    limits.fill(tc.rlimits, s.facts.limits)
    signals.fill_pending(tc.signals_s, s.pending[0])
    if "loginuid" in s.facts.raw:
        tc.loginuid = scalars.parse_loginuid(s.facts.raw["loginuid"])
    tc.oom_score_adj = scalars.parse_oom_score_adj(s.facts.raw["oom_score_adj"])
    signals.fill_actions(tc, s.inside.outcome, s.inside.asked.actions)
    tc.child_subreaper = s.inside.subreaper


def _memory(s: Snapshot, vmas: list[Vma]) -> mm_entry:
    assert s.inside is not None
    entry = mm_entry()
    mm.fill(entry, s.facts.stat, s.facts.auxv, s.inside.brk)
    for v in vmas:
        v.fill(entry.vmas.add())
    aio.fill(entry, vmas)
    for start, end in s.content.guards:
        vma.fill_guard(entry.vmas.add(), start, end)
    entry.exe_file_id = s.links["exe"]
    entry.dumpable = s.inside.dumpable
    if s.inside.thp_disabled:
        entry.thp_disabled = True
    return entry


def _own(s: Snapshot, tid: int) -> ckpt_thread_entry:
    entry = ckpt_thread_entry()
    mask = sum(1 << cpu for cpu in s.cpus[tid])
    entry.cpus = mask.to_bytes((mask.bit_length() + 7) // 8, "little")
    asleep = s.asleep.get(tid)
    if asleep is not None and asleep.left_ns is not None:
        entry.sleep_left_ns = asleep.left_ns
    if s.slack.get(tid):
        entry.timerslack_ns = scalars.parse_timerslack_ns(s.slack[tid])
    if tid in s.directories:
        own = entry.directories
        own.cwd_id, own.root_id = s.directories[tid]
        own.umask = s.facts.thread_status(tid).umask or 0
    if tid in s.policies:
        policy.fill(entry, s.policies[tid])
    if tid == s.pid:
        policy.fill_mappings(entry, s.bindings)
        if not s.facts.stat.tty_nr:
            entry.no_terminal = True
        entry.lock_on_fault.extend(m.start for m in s.facts.smaps if "lf" in m.flags)
        entry.sealed.extend(m.start for m in s.facts.smaps if "sl" in m.flags)
        # The kernel's record of a stop, which is cleared for whoever waits for it.
        if s.task.stopped and not s.facts.stat.exit_code:
            entry.stop_reported = True
        if s.facts.stat.exit_signal != signal.SIGCHLD:
            entry.exit_signal = s.facts.stat.exit_signal
        if s.lock_future:
            entry.lock_future = s.lock_future
        kept = scalars.parse_coredump_filter(s.facts.raw["coredump_filter"])
        if kept is not None:
            entry.coredump_filter = kept
    return entry


def unknown_state(s: Snapshot) -> Iterator[Refusal]:
    """Registers that the image can't hold."""
    for stopped in s.task.threads:
        beyond = fpu.unknown_components(stopped.xstate)
        if beyond:
            yield Refusal(
                s.pid,
                f"thread {stopped.tid}",
                f"FPU components {beyond:#x} (AMX tiles?) are not restored yet",
            )
        if regs.value(stopped.regs, "cs") != regs.USER_CS:
            yield Refusal(s.pid, f"thread {stopped.tid}", "32-bit code is not restored yet")
