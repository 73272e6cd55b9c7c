"""What one thread has for itself: robust list, clear_child_tid, rseq, name, niceness, processors,
which of its system calls go to its handler.

Robust list, niceness, processors and name are asked from outside; clear_child_tid, the alternate
stack, the parent-death signal and securebits only the thread itself can tell (`ask`).

Source: get_robust_list(2), set_tid_address(2), prctl(2), rseq(2), sched_setaffinity(2).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from ckpt.errors import TargetError
from ckpt.infect.batch import Batch, Data
from ckpt.record import record
from ckpt.task import creds, modes, signals
from ckpt.tracee.dispatch import Dispatch, set_dispatch

if TYPE_CHECKING:
    from ckpt.images.pb.ckpt_thread_pb2 import ckpt_thread_entry
    from ckpt.images.pb.core_pb2 import thread_core_entry
    from ckpt.images.pb.rseq_pb2 import rseq_entry

PR_SET_PDEATHSIG, PR_GET_PDEATHSIG, PR_SET_NAME, PR_GET_TID_ADDRESS = 1, 2, 15, 40
PR_SET_TIMERSLACK = 29
PRIO_PROCESS = 0
_EINVAL = 22

_STACK_AT, _TID_AT, _PDEATH_AT, _TSC_AT = 0, 24, 32, 36
ANSWERS_SIZE = 40
"""Bytes that `calls` needs for its answers."""

Call = tuple[str, tuple[int, ...]]


def calls(at: int) -> list[Call]:
    """The calls that a thread must make itself, with answers at address `at` (ANSWERS_SIZE bytes);
    the last returns the securebits."""
    return [
        ("sigaltstack", (0, at + _STACK_AT)),
        ("prctl", (PR_GET_TID_ADDRESS, at + _TID_AT, 0, 0, 0)),
        ("prctl", (PR_GET_PDEATHSIG, at + _PDEATH_AT, 0, 0, 0)),
        ("prctl", (modes.PR_GET_TSC, at + _TSC_AT, 0, 0, 0)),
        ("prctl", (creds.PR_GET_SECUREBITS, 0, 0, 0, 0)),
    ]


@record(frozen=True)
class Answers:
    """What a thread told of itself."""

    stack: bytes
    clear_child_tid: int
    pdeath_signal: int
    tsc: int
    securebits: int


def answers(raw: bytes, securebits: int) -> Answers:
    """`raw` holds the ANSWERS_SIZE bytes; `securebits` is what the last call returned.

    Raises TargetError where they could not be read.
    """
    if len(raw) != ANSWERS_SIZE:
        raise TargetError("what a thread has answered can't be read", why=f"{len(raw)} bytes")
    return Answers(
        stack=raw[_STACK_AT : _STACK_AT + signals.STACK_SIZE],
        clear_child_tid=struct.unpack_from("<Q", raw, _TID_AT)[0],
        pdeath_signal=struct.unpack_from("<i", raw, _PDEATH_AT)[0],
        tsc=struct.unpack_from("<i", raw, _TSC_AT)[0],
        securebits=securebits,
    )


def restore(batch: Batch, entry: thread_core_entry, clear_child_tid: int) -> None:
    """Add the calls by which a thread gets all of it but name, credentials and rseq."""
    batch.call("set_tid_address", clear_child_tid)
    if entry.futex_rla_len:
        batch.call("set_robust_list", entry.futex_rla, entry.futex_rla_len, note="robust list")
    if entry.HasField("sas"):
        signals.restore_stack(batch, entry.sas)
    batch.call("setpriority", PRIO_PROCESS, 0, entry.sched_nice, note="niceness")


def restore_name(batch: Batch, comm: str) -> None:
    batch.call("prctl", PR_SET_NAME, batch.text(comm.encode("utf-8", "surrogateescape")), 0, 0, 0)


def restore_rseq(batch: Batch, entry: rseq_entry) -> None:
    """Add the registration of the thread's rseq area; its memory must be in place."""
    if entry.rseq_abi_pointer:
        batch.call(
            *("rseq", entry.rseq_abi_pointer, entry.rseq_abi_size, 0, entry.signature),
            note="rseq",
        )


def fill_dispatch(own: ckpt_thread_entry, how: Dispatch) -> None:
    """Write which of its system calls go to its handler into a thread's message."""
    entry = own.dispatch
    entry.mode, entry.selector = how.mode, how.selector
    entry.offset, entry.length = how.offset, how.length


def restore_dispatch(tid: int, own: ckpt_thread_entry | None) -> None:
    """The last of all that a standing thread gets, for nothing may be called in it afterwards.
    Raises KernelError where the kernel does not take it."""
    if own is not None and own.HasField("dispatch"):
        entry = own.dispatch
        set_dispatch(tid, Dispatch(entry.mode, entry.offset, entry.length, entry.selector))


def restore_timer_slack(batch: Batch, slack_ns: int) -> None:
    batch.call("prctl", PR_SET_TIMERSLACK, slack_ns, 0, 0, 0, note="timer slack")


def restore_affinity(batch: Batch, cpus: int) -> None:
    """Add the call that binds the calling thread to the processors in the mask `cpus`; where this
    machine has none of them the thread may run on all."""
    size = max(8, (cpus.bit_length() + 63) // 64 * 8)
    mask: Data = batch.put(cpus.to_bytes(size, "little"))
    batch.call("sched_setaffinity", 0, size, mask, also=_EINVAL, note="processors")
