"""Signals: actions and pending ones of a process, mask, stack and pending ones of a thread.

Actions and alternate stacks are asked from inside (no other way exists); masks and pending signals
come through ptrace. On restore pending signals are queued while everything is blocked; whatever
the restore itself has caused (SIGCHLD of a helper) is drained before.

Source: sigaction(2), sigaltstack(2), rt_sigqueueinfo(2), ptrace(2) PTRACE_PEEKSIGINFO.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ckpt.infect.batch import Arg, Batch, Data, Outcome

if TYPE_CHECKING:
    from ckpt.images.pb.core_pb2 import task_core_entry, thread_sas_entry
    from ckpt.images.pb.siginfo_pb2 import signal_queue_entry

NR_SIGNALS = 64
SIGKILL, SIGCHLD, SIGSTOP = 9, 17, 19
SIGINFO_SIZE = 128
_ACTION = struct.Struct("<QQQQ")
_STACK = struct.Struct("<QixxxxQ")
_SIGNO = struct.Struct("<i")
_SIG_DFL, _SIG_IGN = 0, 1
_SS_ONSTACK = 1
_EPERM, _ESRCH = 1, 3
SETTABLE = tuple(s for s in range(1, NR_SIGNALS + 1) if s not in (SIGKILL, SIGSTOP))


def ask_actions(batch: Batch) -> Data:
    """Add the calls that read every signal's action; `fill_actions` takes them up."""
    place = batch.space(_ACTION.size * NR_SIGNALS)
    for signal in SETTABLE:
        batch.call("rt_sigaction", signal, 0, place + _ACTION.size * (signal - 1), 8)
    return place


def fill_actions(entry: task_core_entry, outcome: Outcome, place: Data) -> None:
    """Write the actions that `ask_actions` read; the message has none for KILL and STOP."""
    for signal in SETTABLE:
        raw = outcome.read(place + _ACTION.size * (signal - 1), _ACTION.size)
        action = entry.sigactions.add()
        action.sigaction, action.flags, action.restorer, action.mask = _ACTION.unpack(raw)


def first_handler(
    sigmask: int, queues: Iterable[Iterable[bytes]], outcome: Outcome, actions: Data
) -> int | None:
    """Flags (SA_*) of the handler that runs first in a thread with this mask; None: none does.
    `queues`: pending siginfos, those of the thread before those of its process; `actions` as
    `ask_actions` read them. Within a queue the lowest number comes first (signal(7))."""
    for queue in queues:
        for signal in sorted(_SIGNO.unpack_from(raw)[0] for raw in queue):
            if sigmask >> (signal - 1) & 1 or signal not in SETTABLE:
                continue
            raw = outcome.read(actions + _ACTION.size * (signal - 1), _ACTION.size)
            handler, flags, _, _ = _ACTION.unpack(raw)
            if handler not in (_SIG_DFL, _SIG_IGN):
                return int(flags)
    return None


def restore_actions(batch: Batch, entry: task_core_entry) -> None:
    """Add the calls that set every action which is not the default."""
    for signal, action in zip(SETTABLE, entry.sigactions, strict=False):
        raw = _ACTION.pack(action.sigaction, action.flags, action.restorer, action.mask)
        if any(raw):
            batch.call("rt_sigaction", signal, batch.put(raw), 0, 8, note=f"signal {signal}")


def ask_stack(batch: Batch, place: Data) -> None:
    """Add the call that reads the calling thread's alternate stack to `place` (24 bytes)."""
    batch.call("sigaltstack", 0, place)


STACK_SIZE = _STACK.size


def fill_stack(entry: thread_sas_entry, raw: bytes) -> None:
    sp, flags, size = _STACK.unpack(raw)
    entry.ss_sp, entry.ss_size, entry.ss_flags = sp, size, flags & ~_SS_ONSTACK & 0xFFFFFFFF


def restore_stack(batch: Batch, entry: thread_sas_entry) -> None:
    flags = entry.ss_flags & ~_SS_ONSTACK
    flags -= 1 << 32 if flags >> 31 else 0
    raw = _STACK.pack(entry.ss_sp, flags, entry.ss_size)
    batch.call("sigaltstack", batch.put(raw), 0, note="alternate signal stack")


def fill_pending(entry: signal_queue_entry, infos: Iterable[bytes]) -> None:
    """Write pending signals, each 128 bytes of siginfo, in their order."""
    for info in infos:
        entry.signals.add().siginfo = info


def drain(batch: Batch) -> None:
    """Add the calls that take away every signal pending now (all are blocked)."""
    everything = batch.put(b"\xff" * 8)
    nothing = batch.put(bytes(16))
    batch.drain("rt_sigtimedwait", everything, 0, nothing, 8)


def restore_pending(
    batch: Batch, entry: signal_queue_entry, pid: Arg, tid: Arg | None = None
) -> None:
    """Add the calls that queue these signals to the process, or to the thread `tid` of it. SIGSTOP,
    which nobody can block, is left out: see `holds_stop`."""
    for signal in entry.signals:
        number = _SIGNO.unpack_from(signal.siginfo)[0]
        if number == SIGSTOP:
            continue
        info = batch.put(signal.siginfo)
        if tid is None:
            batch.call("rt_sigqueueinfo", pid, number, info, note=f"pending signal {number}")
        else:
            batch.call(
                *("rt_tgsigqueueinfo", pid, tid, number, info), note=f"pending signal {number}"
            )


def holds_stop(entry: signal_queue_entry) -> bool:
    """Whether the task was to stop at its next step, or once more."""
    return any(_SIGNO.unpack_from(signal.siginfo)[0] == SIGSTOP for signal in entry.signals)


def damaged(entry: signal_queue_entry) -> bool:
    """Whether this queue of an image can't be one."""
    return any(
        len(s.siginfo) != SIGINFO_SIZE or not 0 < _SIGNO.unpack_from(s.siginfo)[0] <= NR_SIGNALS
        for s in entry.signals
    )
