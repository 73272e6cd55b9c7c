"""Threads whose system calls are sent to a handler of their own (SIGSYS), and what lets them pass.

A thread says from which addresses its calls pass (mode 1) or do not (mode 2), and may name a byte,
the selector: while that is 0 all of them pass. A call of the parasite's that does not would run the
target's handler, so a thread is entered only while its selector says that all pass. Nobody writes
that byte while all stand, so it holds for the way home, too. Programs set it around each call that
their handler makes for them, and while they are in their own runtime.

Asked for mode 2 the kernel keeps mode 1 with the complement of the range, which goes around the end
of the address space; that it tells, and does not take back as such.

Not guaranteed: that a process outside of the tree that shares the byte leaves it alone.

Source: Documentation/admin-guide/syscall-user-dispatch.rst, kernel/entry/syscall_user_dispatch.c,
ptrace(2).
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from ckpt._native import ffi, lib
from ckpt.errors import DeadlineError, KernelError, Refusal, TargetError
from ckpt.record import record
from ckpt.tracee import ops, vm
from ckpt.tracee.ops import StopKind

if TYPE_CHECKING:
    from ckpt.tracee.stopped import SeizedTask

FROM_RANGE, FROM_ELSEWHERE = 1, 2
_WORD = 1 << 64
_ALL_PASS = b"\0"


@record(frozen=True)
class Dispatch:
    """As prctl(2) takes it: calls pass from the `length` bytes at `offset`, or from all others, by
    `mode`; `selector` is the address of the byte, or 0."""

    mode: int
    offset: int
    length: int
    selector: int


def told(raw: ffi.CData) -> Dispatch | None:
    """What a struct ckpt_dispatch of the kernel's means; None: all calls pass always."""
    if not raw.mode:
        return None
    offset, length = int(raw.offset), int(raw.len)
    if raw.mode == FROM_RANGE and offset and offset + length >= _WORD:
        return Dispatch(
            FROM_ELSEWHERE, (offset + length) % _WORD, _WORD - length, int(raw.selector)
        )
    return Dispatch(int(raw.mode), offset, length, int(raw.selector))


def set_dispatch(tid: int, wanted: Dispatch) -> None:
    """Have calls of a standing thread go to its handler from now on: nothing may be called in it
    any more. Raises KernelError where the kernel does not take it, TargetError."""
    raw = ffi.new(
        "struct ckpt_dispatch *",
        {
            "mode": wanted.mode,
            "selector": wanted.selector,
            "offset": wanted.offset,
            "len": wanted.length,
        },
    )
    result = lib.ckpt_trace_set_dispatch(tid, raw)
    if result:
        why = os.strerror(-result)
        raise KernelError("its system calls can't be sent to its handler", pid=tid, why=why)


def passes(tid: int, dispatch: Dispatch) -> bool:
    """Whether the selector says that all calls of the thread pass."""
    try:
        return bool(dispatch.selector) and vm.read(tid, dispatch.selector, 1) == _ALL_PASS
    except TargetError:
        return False


def held(task: SeizedTask) -> dict[int, Dispatch]:
    """The threads of a standing task of which calls would not pass."""
    return {
        t.tid: t.dispatch
        for t in task.threads
        if t.dispatch is not None and not passes(t.tid, t.dispatch)
    }


def refusal(task: SeizedTask, tid: int, dispatch: Dispatch) -> Refusal:
    """What stands in the way of entering one of `held`."""
    why = "its system calls are sent to a handler of its own (PR_SET_SYSCALL_USER_DISPATCH)"
    if not dispatch.selector:
        return Refusal(task.pid, f"thread {tid}", f"{why}, and no selector ever lets them pass")
    hint = "a longer --timeout waits longer for a call that its handler makes"
    if task.stopped:
        hint = "let it go on (SIGCONT)"
    return Refusal(task.pid, f"thread {tid}", f"{why}, which its selector says still", hint)


def run_to_passing(tid: int, dispatch: Dispatch, timeout_s: float) -> None:
    """Let a standing thread run to its next call of those that pass because its selector says so,
    for at most `timeout_s`. It stands then, at the entry of that call or elsewhere, runs, or has
    ended: have it stand."""
    until = time.monotonic() + timeout_s
    signal = 0
    try:
        while True:
            ops.next_syscall(tid, signal)
            stop = ops.wait_stop(tid, max(0.0, until - time.monotonic()))
            if stop.kind.ended or stop.kind is StopKind.GROUP:
                return
            if stop.kind is StopKind.SYSCALL and passes(tid, dispatch):
                return
            if time.monotonic() > until:
                return
            signal = stop.signal if stop.kind is StopKind.SIGNAL else 0
    except (DeadlineError, ops.ThreadGone):
        return
