"""One thread under ptrace(2): attach, stop, look, set, go on.

Every function must be called by the thread of ours that seized: the kernel knows no other tracer.
Functions that read or set state want the thread to stand at a stop.

Stops are looked at, never consumed, so that a signal which a thread stands before is not lost with
us. A thread may be killed at any moment: `ThreadGone` is an ordinary answer.

Not guaranteed: that a stop is the one asked for. Signals, a stop of the whole group or an interrupt
that came late can be in front: look at `Stop.kind`.

Source: ptrace(2), kernel/ptrace.c, kernel/signal.c.
"""

from __future__ import annotations

import errno
import os
import struct
import time
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

from ckpt._native import ffi, lib
from ckpt.errors import DeadlineError, KernelError, TargetError

REGS_SIZE: int = lib.CKPT_REGS_SIZE
SIGINFO_SIZE: int = lib.CKPT_SIGINFO_SIZE
XSTATE_MAX = 1 << 16
EXITKILL = 0x00100000

_SIGINFOS_AT_ONCE = 32
_CALL_S = 5.0

_REGS = struct.Struct("<27Q")
_RAX, _ORIG_RAX, _RIP = 10, 15, 16
_ARGUMENTS = (14, 13, 12, 7, 9, 8)  # rdi rsi rdx r10 r8 r9


class ThreadGone(TargetError):
    """The thread ended, or is not (any more) a standing tracee of ours."""


class StopKind(IntEnum):
    """How a thread stands; values of ckpt/_native/src/ptrace.h."""

    RUNNING = lib.CKPT_STOP_NONE
    INTERRUPT = lib.CKPT_STOP_INTERRUPT
    GROUP = lib.CKPT_STOP_GROUP
    SIGNAL = lib.CKPT_STOP_SIGNAL
    SYSCALL = lib.CKPT_STOP_SYSCALL
    EVENT = lib.CKPT_STOP_EVENT
    EXITED = lib.CKPT_STOP_EXITED
    KILLED = lib.CKPT_STOP_KILLED
    GONE = lib.CKPT_STOP_GONE

    @property
    def ended(self) -> bool:
        return self >= StopKind.EXITED


class Stop(NamedTuple):
    """`signal`: what a SIGNAL stop is about to deliver, the signal that stopped a GROUP or ended a
    KILLED thread, an EXITED one's status, an EVENT's number. `group_stop`: the signal that has
    stopped the thread's process, else 0."""

    kind: StopKind
    signal: int
    group_stop: int


def _checked(result: int, what: str, tid: int) -> int:
    if result >= 0:
        return result
    why = os.strerror(-result)
    if result == -errno.ESRCH:
        raise ThreadGone(what, pid=tid, why="the thread ended or does not stand")
    if result == -errno.EPERM:
        hint = "ckpt needs CAP_SYS_PTRACE over it, and no other tracer"
        raise TargetError(what, pid=tid, why=why, hint=hint)
    raise KernelError(what, pid=tid, why=why)


def seize_thread(tid: int, *, exitkill: bool) -> None:
    """Attach without stopping. `exitkill`: the kernel kills it when we end before `detach`."""
    options = EXITKILL if exitkill else 0
    _checked(lib.ckpt_trace_seize(tid, options), "can't be attached to", tid)


def clear_exitkill(tid: int) -> None:
    """From here on the thread survives our end."""
    _checked(lib.ckpt_trace_options(tid, 0), "its tracing can't be changed", tid)


def interrupt(tid: int) -> None:
    """Ask the thread to stand; it does so at its next way back to user mode, not at once."""
    _checked(lib.ckpt_trace_interrupt(tid), "can't be interrupted", tid)


def look(tid: int) -> Stop:
    """How the thread stands now, without waiting."""
    stop = ffi.new("struct ckpt_stop *", {"tid": tid})
    lib.ckpt_trace_look(stop)
    return _stop(stop)


def wait_stop(tid: int, timeout_s: float) -> Stop:
    """Wait until the thread stands, at whatever stop, or has ended. Raises DeadlineError."""
    stop = ffi.new("struct ckpt_stop *", {"tid": tid})
    until = time.monotonic() + timeout_s
    while True:
        left_ns = max(0, int((until - time.monotonic()) * 1e9))
        result = lib.ckpt_trace_wait(stop, left_ns)
        if stop.kind != lib.CKPT_STOP_NONE:
            return _stop(stop)
        if result != -errno.EINTR:
            raise DeadlineError("does not stop", pid=tid, why=f"{timeout_s:g} s are over")


def interrupt_and_wait(tids: Sequence[int], timeout_s: float) -> list[Stop]:
    """Have every thread stand (kind INTERRUPT or GROUP) or find that it ended.

    Signals that stand in front are delivered first. DeadlineError names those that don't stop; the
    others stand all the same. Ends are left to be reaped.
    """
    stops = ffi.new("struct ckpt_stop[]", [{"tid": tid, "pid": tid} for tid in tids])
    lib.ckpt_interrupt_many(ffi.new("int32_t[]", list(tids)), len(tids))
    until = time.monotonic() + timeout_s
    while True:
        left_ns = max(0, int((until - time.monotonic()) * 1e9))
        left = lib.ckpt_stand(stops, len(tids), left_ns)
        if left == 0:
            return [_stop(stop) for stop in stops]
        if left > 0:
            tid = next(stop.tid for stop in stops if stop.kind == lib.CKPT_STOP_NONE)
            why = f"{timeout_s:g} s are over, {left} threads don't stand"
            raise DeadlineError("does not stop", pid=tid, why=why)


def reap(tid: int) -> None:
    """Forget a tracee that ended; a process goes on to its parent. Of our own child the exit status
    is lost thereby."""
    lib.ckpt_trace_reap(tid)


def get_regs(tid: int) -> bytes:
    """struct user_regs_struct, REGS_SIZE bytes."""
    regs = bytearray(REGS_SIZE)
    _checked(lib.ckpt_trace_get_regs(tid, ffi.from_buffer(regs)), "its registers", tid)
    return bytes(regs)


def set_regs(tid: int, regs: bytes) -> None:
    """Set all of struct user_regs_struct in one request."""
    if len(regs) != REGS_SIZE:
        raise ValueError(f"{len(regs)} bytes of registers, not {REGS_SIZE}")
    _checked(lib.ckpt_trace_set_regs(tid, ffi.from_buffer(regs)), "its registers", tid)


def get_xstate(tid: int) -> bytes:
    """The XSAVE area in standard form; its size depends on the CPU and the thread."""
    xstate = bytearray(XSTATE_MAX)
    result = lib.ckpt_trace_get_xstate(tid, ffi.from_buffer(xstate), len(xstate))
    return bytes(xstate[: _checked(result, "its FPU state", tid)])


def set_xstate(tid: int, xstate: bytes) -> None:
    """Set an area that `get_xstate` gave on a CPU of the same features."""
    result = lib.ckpt_trace_set_xstate(tid, ffi.from_buffer(xstate), len(xstate))
    _checked(result, "its FPU state", tid)


def get_sigmask(tid: int) -> int:
    """Blocked signals, signal N at bit N - 1; inside sigsuspend(2) those it will put back."""
    mask = ffi.new("uint64_t *")
    _checked(lib.ckpt_trace_get_sigmask(tid, mask), "its signal mask", tid)
    return int(mask[0])


def set_sigmask(tid: int, mask: int) -> None:
    """Block exactly `mask`; SIGKILL and SIGSTOP are left out by the kernel."""
    _checked(lib.ckpt_trace_set_sigmask(tid, mask), "its signal mask", tid)


def pending(tid: int, *, shared: bool) -> tuple[bytes, ...]:
    """Queued signals as 128-byte siginfo_t: the thread's own, or its whole process's."""
    found: list[bytes] = []
    buffer = bytearray(SIGINFO_SIZE * _SIGINFOS_AT_ONCE)
    raw = ffi.from_buffer(buffer)
    while True:
        result = lib.ckpt_trace_peek_siginfo(tid, shared, len(found), _SIGINFOS_AT_ONCE, raw)
        nr = _checked(result, "its pending signals", tid)
        found += (bytes(buffer[at : at + SIGINFO_SIZE]) for at in range(0, nr * 128, SIGINFO_SIZE))
        if nr < _SIGINFOS_AT_ONCE:
            return tuple(found)


def cont(tid: int, signal: int = 0) -> None:
    """Let the thread run; from a SIGNAL stop it takes `signal`."""
    _checked(lib.ckpt_trace_cont(tid, signal), "can't be let run", tid)


def next_syscall(tid: int, signal: int = 0) -> None:
    """Let the thread run up to the next entry to or exit from a system call."""
    _checked(lib.ckpt_trace_syscall(tid, signal), "can't be let run", tid)


def detach(tid: int, signal: int = 0) -> None:
    """Let go of a standing thread; interrupted system calls start again by themselves."""
    _checked(lib.ckpt_trace_detach(tid, signal), "can't be detached", tid)


def remote_call(tid: int, syscall_insn_addr: int, nr: int, *args: int) -> int:
    """Have a standing thread make system call `nr` through the instruction at an address of its.

    Returns what the kernel returned, -errno included. The thread stands at the exit from the call,
    its registers are lost (rip behind the instruction) and no interrupted call starts again. Its
    signals should be blocked: TargetError if one comes in front of the call.
    """
    _prepare_call(tid, syscall_insn_addr, nr, args)
    _to_syscall_stop(tid)
    _to_syscall_stop(tid)
    result: int = _REGS.unpack(get_regs(tid))[_RAX]
    return result - (1 << 64) if result >> 63 else result


def cut_call(tid: int, syscall_insn_addr: int, nr: int, *args: int) -> int:
    """As `remote_call`, of a call that is interrupted at once: its restart block, if it has one, is
    then the thread's. The thread stands as after `interrupt_and_wait`."""
    _prepare_call(tid, syscall_insn_addr, nr, args)
    _to_syscall_stop(tid)
    interrupt(tid)
    _to_syscall_stop(tid)
    result: int = _REGS.unpack(get_regs(tid))[_RAX]
    interrupt(tid)  # once more: the stop at the exit has used the other one up
    cont(tid)
    stop = wait_stop(tid, _CALL_S)
    if stop.kind not in (StopKind.INTERRUPT, StopKind.GROUP):
        why = f"{stop.kind.name.lower()}, {stop.signal}"
        raise TargetError("it does not stand after its call", pid=tid, why=why)
    return result - (1 << 64) if result >> 63 else result


def _prepare_call(tid: int, insn: int, nr: int, args: Sequence[int]) -> None:
    regs = list(_REGS.unpack(get_regs(tid)))
    regs[_RAX], regs[_ORIG_RAX], regs[_RIP] = nr, (1 << 64) - 1, insn
    for place, value in zip(_ARGUMENTS, args, strict=False):
        regs[place] = value & ((1 << 64) - 1)
    set_regs(tid, _REGS.pack(*regs))


def _to_syscall_stop(tid: int) -> None:
    while True:
        next_syscall(tid)
        stop = wait_stop(tid, _CALL_S)
        if stop.kind == StopKind.SYSCALL:
            return
        if stop.kind not in (StopKind.INTERRUPT, StopKind.GROUP):
            why = f"{stop.kind.name.lower()}, {stop.signal}"
            raise TargetError("a system call in the task failed", pid=tid, why=why)


def _stop(raw: ffi.CData) -> Stop:
    kind = StopKind(raw.kind)
    return Stop(kind, raw.signal, raw.signal if kind == StopKind.GROUP else 0)
