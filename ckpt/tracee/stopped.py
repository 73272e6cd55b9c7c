"""What is known of a task that stands: read once when it stood, never written back from here.

If a thread stands inside a restartable sequence (rseq(2)), `regs` has the sequence's abort address
as rip: a thread that is sent elsewhere in between would come back into a sequence that the kernel
no longer knows of. The live thread keeps its own rip, and the kernel restarts it on detach.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Sequence

from ckpt._native import ffi, lib
from ckpt.errors import KernelError
from ckpt.record import record
from ckpt.tracee import ops
from ckpt.tracee.dispatch import Dispatch, told

_RIP = struct.Struct("<Q")
_RIP_AT = 16 * 8
_AT_ONCE = 64
_MORE = 64  # an area that fills its room may be larger


@record(frozen=True)
class Rseq:
    """A registration: address and size of the thread's rseq area, and its signature."""

    pointer: int
    size: int
    signature: int


@record(frozen=True)
class Stopped:
    """One thread. `regs` is struct user_regs_struct, `xstate` the XSAVE area, `sigmask` has signal
    N at bit N - 1, `pending` are its own queued signals as siginfo_t, `group_stop` is the signal
    that has stopped its process, or 0. `dispatch`: calls of its go to a handler of its own."""

    tid: int
    regs: bytes
    xstate: bytes
    sigmask: int
    rseq: Rseq | None
    pending: tuple[bytes, ...]
    group_stop: int
    dispatch: Dispatch | None = None


@record(frozen=True)
class SeizedTask:
    """One process: threads leader first, none if it is a zombie, which is not seized. `pidfd` is
    ours and closed by the scope of `seize`; `pending` are the signals queued for the process."""

    pid: int
    pidfd: int
    ppid: int
    threads: list[Stopped]
    pending: tuple[bytes, ...]
    stopped: bool
    stop_signal: int
    zombie: bool


def read_threads(stops: Sequence[tuple[int, int]]) -> list[Stopped]:
    """The state of standing threads, given as (tid, group stop), without those that have ended."""
    found = _read_some(stops[:1], ops.XSTATE_MAX)
    room = len(found[0].xstate) + _MORE if found else ops.XSTATE_MAX
    for first in range(1, len(stops), _AT_ONCE):
        found += _read_some(stops[first : first + _AT_ONCE], room)
    return found


def _read_some(stops: Sequence[tuple[int, int]], room: int) -> list[Stopped]:
    """`room`: bytes for the XSAVE area of each."""
    threads = ffi.new("struct ckpt_thread[]", [{"tid": tid} for tid, _ in stops])
    xstates = bytearray(room * len(stops))
    lib.ckpt_read_threads(threads, len(stops), ffi.from_buffer(xstates), room)
    found = []
    for thread, (tid, group_stop), at in zip(
        threads, stops, range(0, len(xstates), room), strict=True
    ):
        if thread.result == -errno.ESRCH:
            continue
        if thread.result:
            why = os.strerror(-thread.result)
            raise KernelError("its state can't be read", pid=tid, resource="a thread", why=why)
        size = thread.nr_xstate
        xstate = bytes(xstates[at : at + size]) if size < room else ops.get_xstate(tid)
        found.append(_stopped(thread, xstate, group_stop))
    return found


def _stopped(thread: ffi.CData, xstate: bytes, group_stop: int) -> Stopped:
    tid = int(thread.tid)
    regs = bytes(ffi.buffer(thread.regs))
    if thread.abort_ip:
        rip = _RIP.pack(thread.abort_ip)
        regs = regs[:_RIP_AT] + rip + regs[_RIP_AT + _RIP.size :]
    rseq = thread.rseq
    return Stopped(
        tid=tid,
        regs=regs,
        xstate=xstate,
        sigmask=int(thread.sigmask),
        rseq=Rseq(rseq.pointer, rseq.size, rseq.signature) if rseq.pointer else None,
        pending=ops.pending(tid, shared=False) if thread.pending else (),
        group_stop=group_stop,
        dispatch=told(thread.dispatch),
    )
