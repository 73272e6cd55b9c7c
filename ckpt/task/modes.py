"""Modes of prctl(2) and membarrier(2) that a process or a thread has asked for.

Of the process: no gain of execution rights (MDWE), same-page merging of all its memory, huge pages
only where advised, registrations for membarrier(2). Asked from inside; set after its memory is
whole and its children are born, for some are passed on by fork(2), and MDWE is never taken back.

Of a thread: whether it may read the time stamp counter (asked from inside), its policy for broken
memory, I/O flushing (flags in stat), speculation (status). Set by the thread itself.

What differs from the default is kept in ckpt-thread; the format has the membarrier registrations.

Not guaranteed: that a mapping whose advice was taken back after PR_SET_MEMORY_MERGE is not merged
for a moment.

Source: PR_SET_MDWE(2const), PR_SET_MEMORY_MERGE(2const), PR_SET_THP_DISABLE(2const),
PR_SET_TSC(2const), PR_MCE_KILL(2const), PR_SET_IO_FLUSHER(2const),
PR_SET_SPECULATION_CTRL(2const), membarrier(2), include/linux/sched.h.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckpt.record import record

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ckpt.images.pb.ckpt_thread_pb2 import ckpt_thread_entry
    from ckpt.images.pb.core_pb2 import task_core_entry
    from ckpt.infect.batch import Batch, Data, Outcome, Result
    from ckpt.procfs.stat import Stat
    from ckpt.procfs.status import Status
    from ckpt.units import Range

PR_GET_TSC, PR_SET_TSC, TSC_ENABLED = 25, 26, 1
_PR_SET_MDWE, _PR_GET_MDWE = 65, 66
_PR_SET_MEMORY_MERGE, _PR_GET_MEMORY_MERGE = 67, 68
_PR_SET_THP_DISABLE, _PR_GET_THP_DISABLE = 41, 42
_PR_MCE_KILL, _MCE_KILL_SET = 33, 1
_PR_SET_IO_FLUSHER = 57
_PR_SET_SPECULATION_CTRL = 53
_GET_REGISTRATIONS = 1 << 9
_REGISTRATIONS = (1 << 2, 1 << 4, 1 << 6, 1 << 8)
_MADV_UNMERGEABLE = 13
_EINVAL = 22

_PF_MCE_PROCESS, _PF_MCE_EARLY = 0x00000080, 0x08000000
_PF_IO_FLUSHER = 0x00080000 | 0x00100000

_SPECULATION = {
    "thread mitigated": 4,
    "thread force mitigated": 8,
    "conditional disabled": 4,
    "conditional force disabled": 8,
}
"""What status says of a thread that may not speculate -> the value of PR_SET_SPECULATION_CTRL."""

STORE_BYPASS, INDIRECT_BRANCH = 0, 1


@record(frozen=True)
class Asked:
    """Where the answers of a process will be."""

    mdwe: Result
    merge: Result
    thp: Result
    membarrier: Result

    def fill(self, outcome: Outcome, tc: task_core_entry, own: ckpt_thread_entry) -> None:
        """Write what differs from the default into the leader's messages."""
        mdwe, merge = outcome.of(self.mdwe), outcome.of(self.merge)
        if mdwe > 0:
            own.mdwe = mdwe
        if merge == 1:
            own.memory_merge = True
        if (thp := outcome.of(self.thp)) > 1:
            own.thp_disable_flags = thp & ~1
        if (mask := outcome.of(self.membarrier)) > 0:
            tc.membarrier_registration_mask = mask

    def thp_disabled(self, outcome: Outcome) -> bool:
        return outcome.of(self.thp) > 0


def ask(batch: Batch) -> Asked:
    """Add the questions to a process."""
    mdwe, merge, thp = (
        batch.call("prctl", option, 0, 0, 0, 0, any_result=True)
        for option in (_PR_GET_MDWE, _PR_GET_MEMORY_MERGE, _PR_GET_THP_DISABLE)
    )
    told = batch.call("membarrier", _GET_REGISTRATIONS, 0, 0, any_result=True)
    return Asked(mdwe, merge, thp, told)


def restore_merging(batch: Batch, own: ckpt_thread_entry, unmerged: Iterable[Range]) -> None:
    """Add the calls for the process's own memory; `unmerged` mappings are left out of it."""
    if own.memory_merge:
        batch.call("prctl", _PR_SET_MEMORY_MERGE, 1, 0, 0, 0, note="same-page merging")
        for where in unmerged:
            batch.call("madvise", where.start, len(where), _MADV_UNMERGEABLE, also=_EINVAL)


def restore_process(batch: Batch, tc: task_core_entry, own: ckpt_thread_entry | None) -> None:
    """Add the calls for everything else that the whole process has."""
    for registration in _REGISTRATIONS:
        if tc.membarrier_registration_mask & registration:
            batch.call("membarrier", registration, 0, 0, note="membarrier registration")
    if own is not None and own.thp_disable_flags:
        flags = own.thp_disable_flags
        batch.call("prctl", _PR_SET_THP_DISABLE, 1, flags, 0, 0, note="huge pages")
    if own is not None and own.mdwe:
        batch.call("prctl", _PR_SET_MDWE, own.mdwe, 0, 0, 0, note="memory-deny-write-execute")


# ---- one thread


def fill_thread(own: ckpt_thread_entry, stat: Stat, status: Status, tsc: int) -> None:
    """Write a thread's modes into its message; `tsc` is its answer to PR_GET_TSC."""
    if tsc not in (0, TSC_ENABLED):
        own.tsc = tsc
    if stat.flags & _PF_MCE_PROCESS:
        own.mce_kill = int(bool(stat.flags & _PF_MCE_EARLY))
    if stat.flags & _PF_IO_FLUSHER == _PF_IO_FLUSHER:
        own.io_flusher = True
    own.store_bypass = _SPECULATION.get(status.store_bypass, 0)
    own.indirect_branch = _SPECULATION.get(status.indirect_branch, 0)


def ask_tsc(batch: Batch, place: Data) -> None:
    """Add the question whose answer, 4 bytes at `place`, is the calling thread's `tsc`."""
    batch.call("prctl", PR_GET_TSC, place, 0, 0, 0, any_result=True)


def restore_thread(batch: Batch, own: ckpt_thread_entry) -> None:
    """Add the calls for the calling thread, which must have its powers still."""
    if own.HasField("mce_kill"):
        batch.call(
            *("prctl", _PR_MCE_KILL, _MCE_KILL_SET, own.mce_kill, 0, 0), note="machine check policy"
        )
    if own.io_flusher:
        batch.call("prctl", _PR_SET_IO_FLUSHER, 1, 0, 0, 0, note="I/O flusher")
    for which, value in (
        (STORE_BYPASS, own.store_bypass),
        (INDIRECT_BRANCH, own.indirect_branch),
    ):
        if value:
            batch.call(*("prctl", _PR_SET_SPECULATION_CTRL, which, value, 0, 0), note="speculation")
    if own.tsc:
        batch.call("prctl", PR_SET_TSC, own.tsc, 0, 0, 0, note="time stamp counter")
