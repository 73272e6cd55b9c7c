"""How one thread is scheduled: policy with its parameters, reset on fork, I/O priority.

Asked from outside (sched_getattr, ioprio_get), set by the thread itself while it has its powers:
after its niceness, which policies of real time carry along, and after its processors, which a
deadline wants all.

Policy and priority are in the format's core; the rest is our own (ckpt-thread). Without that a
deadline can't be restored, and the rest is as if it had never been asked for.

Not guaranteed: utilization clamps, and a slice of its own for SCHED_OTHER (Linux 6.12).

Source: sched(7), sched_setattr(2), ioprio_set(2), kernel/sched/syscalls.c.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from ckpt._native import check, ffi, lib
from ckpt.infect.batch import Batch, number
from ckpt.record import record

if TYPE_CHECKING:
    from ckpt.images.pb.ckpt_thread_pb2 import ckpt_thread_entry
    from ckpt.images.pb.core_pb2 import thread_core_entry

OTHER, FIFO, RR, BATCH, IDLE, DEADLINE = 0, 1, 2, 3, 5, 6
KNOWN = {OTHER, FIFO, RR, BATCH, IDLE, DEADLINE}
_REAL_TIME = {FIFO, RR}
_ATTR = struct.Struct("<IIQiIQQQ")
_KEPT_FLAGS = 0x7
"""SCHED_FLAG_RESET_ON_FORK, _RECLAIM, _DL_OVERRUN: those that stay with a thread."""

_WHO_PROCESS, _CLASS_SHIFT = 1, 13


@record(frozen=True)
class Sched:
    """One thread's. Times in nanoseconds, of a deadline only; `io` as ioprio_set(2) takes it."""

    policy: int
    flags: int
    priority: int
    runtime: int
    deadline: int
    period: int
    io: int


def ask(tid: int) -> Sched:
    """How thread `tid` is scheduled. Raises TargetError where it has ended."""
    raw = ffi.new("uint8_t[]", _ATTR.size)
    at = int(ffi.cast("uintptr_t", raw))
    result = lib.ckpt_call(number("sched_getattr"), tid, at, _ATTR.size, 0, 0, 0)
    check(result, f"scheduling of thread {tid}")
    _, policy, flags, _, priority, *times = _ATTR.unpack(bytes(ffi.buffer(raw)))
    runtime, deadline, period = times if policy == DEADLINE else (0, 0, 0)
    io = lib.ckpt_call(number("ioprio_get"), _WHO_PROCESS, tid, 0, 0, 0, 0)
    asked_for = io > 0 and io >> _CLASS_SHIFT
    io = int(io) if asked_for else 0
    return Sched(policy, flags & _KEPT_FLAGS, priority, runtime, deadline, period, io)


def obstacle(policy: int) -> str:
    """Why this policy can't be restored, or an empty string."""
    return "" if policy in KNOWN else f"scheduling policy {policy} is not restored yet"


def fill(entry: thread_core_entry, own: ckpt_thread_entry, sched: Sched) -> None:
    """Write it into the format's message and ours."""
    entry.sched_policy, entry.sched_prio = sched.policy, sched.priority
    if sched.flags:
        own.sched_flags = sched.flags
    if sched.policy == DEADLINE:
        own.dl_runtime, own.dl_deadline = sched.runtime, sched.deadline
        own.dl_period = sched.period
    if sched.io:
        own.io_priority = sched.io


def damaged(entry: thread_core_entry) -> bool:
    """Whether the policy of an image can't be one."""
    nice_is_one = -20 <= entry.sched_nice < 20
    return entry.sched_policy not in KNOWN or entry.sched_prio > 99 or not nice_is_one


def restore(batch: Batch, entry: thread_core_entry, own: ckpt_thread_entry | None) -> None:
    """Add the calls by which the calling thread gets policy and I/O priority."""
    policy = entry.sched_policy
    flags = own.sched_flags if own is not None else 0
    if policy != OTHER or flags:
        times = [0, 0, 0]
        if policy == DEADLINE and own is not None:
            times = [own.dl_runtime, own.dl_deadline, own.dl_period]
        priority = entry.sched_prio if policy in _REAL_TIME else 0
        attr = _ATTR.pack(
            _ATTR.size, policy, flags & _KEPT_FLAGS, entry.sched_nice, priority, *times
        )
        batch.call("sched_setattr", 0, batch.put(attr), 0, note=f"scheduling policy {policy}")
    if own is not None and own.io_priority:
        batch.call("ioprio_set", _WHO_PROCESS, 0, own.io_priority, note="I/O priority")
