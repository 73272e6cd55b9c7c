"""The seccomp filters of a thread: a chain, the first installed first.

Read by ptrace, whole and with their flags; written to seccomp.img, each once, with the number of
the one before it. Installed again while they are held off by ptrace (PTRACE_O_SUSPEND_SECCOMP), so
that what the restore still has to do in the thread is not judged by them: what all threads of a
process have in common by its leader for all at once, while it has its powers; the rest by each
thread.

A target must survive our end at any moment (INFECT.md), and then nothing holds its filters off.
Therefore a dump wants, of every filter, that it allows what brings a thread home, and that it
answers to no call which we make with a signal: see `hazard`. Who dumps can take that risk
(--risk-seccomp): as long as we live no filter judges anything.

The strict mode is here a chain of one filter, STRICT_MODE: it allows read(2), write(2), exit(2) and
sigreturn(2). A thread in it can't be asked from outside for what a dump needs (its handlers, its
alternate stack, its timers), and every call that asks is one which it would die for.

Not guaranteed: that a filter's speculation flag comes back (its effect, if it had any, is restored
by ckpt.task.modes).

Source: seccomp(2), ptrace(2) PTRACE_SECCOMP_GET_FILTER, kernel/seccomp.c.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

from ckpt.images.pb import core_pb2
from ckpt.images.pb.seccomp_pb2 import seccomp_entry
from ckpt.infect.batch import Batch, number
from ckpt.record import record
from ckpt.task import bpf

if TYPE_CHECKING:
    from ckpt.images.pb.core_pb2 import thread_core_entry

STRICT = 1
SET_MODE_STRICT = 0
FLAG_TSYNC, FLAG_LOG, FLAG_SPEC_ALLOW = 1, 2, 4
SET_MODE_FILTER = 1
_FPROG = struct.Struct("<QQ")

HOME = ("rt_sigprocmask", "rt_sigreturn", "munmap", "close", "prlimit64")
"""What brings a thread home and undoes what was done: must be allowed."""

OURS = (
    *("kill", "ppoll", "mmap", "madvise", "socketpair", "recvmsg", "sendto", "sendmsg", "write"),
    *("read", "recvfrom", "rt_sigaction", "sigaltstack", "prctl", "brk", "getitimer", "membarrier"),
    *("timer_gettime", "timer_getoverrun", "vmsplice", "mincore", "fcntl", "getpid", "gettid"),
    *("get_mempolicy", "exit_group"),
)
"""What else a dump makes a thread do: may fail, but no more."""

_HARMLESS = {bpf.ALLOW, bpf.LOG, bpf.ERRNO, bpf.TRACE}
_ALLOWED = {bpf.ALLOW, bpf.LOG}


@record(frozen=True)
class Filter:
    """One filter: its instructions of 8 bytes each, and the flags that can be had."""

    program: bytes
    flags: int


Chain = tuple[Filter, ...]

STRICT_MODE = Filter(b"", 0)
"""Stands alone in a chain, and for no filter."""


def hazard(chain: Chain) -> str:
    """Why a thread under these filters might not survive our end or a restore; or empty."""
    if STRICT_MODE in chain:
        return "it is under seccomp's strict mode, which would kill it, should ckpt end midway"
    for one in chain:
        if why := _hazard(one.program):
            return why
    return ""


def supervised(chain: Chain) -> str:
    """Why these filters can't be restored, whatever the risk; or empty."""
    for one in chain:
        for code, _, _, k in bpf.INSN.iter_unpack(one.program):
            if code & 0x07 == 0x06 and k & bpf.ACTION == bpf.USER_NOTIF:
                return "a supervisor answers for its seccomp filter; not restored yet"
    return ""


@cache
def _hazard(program: bytes) -> str:
    for name in HOME:
        if bpf.actions(program, number(name)) - _ALLOWED:
            return f"its seccomp filter may forbid {name}(2), which is its only way back"
    for name in OURS:
        if bpf.actions(program, number(name)) - _HARMLESS:
            return f"its seccomp filter may kill it for {name}(2), should ckpt end midway"
    return ""


def images(chains: Iterable[Chain]) -> tuple[seccomp_entry, dict[Chain, int]]:
    """The message that holds all chains, and the number of each one's last filter."""
    entry = seccomp_entry()
    known: dict[Chain, int] = {}
    for chain in chains:
        if STRICT_MODE in chain:
            continue
        for length in range(1, len(chain) + 1):
            part = chain[:length]
            if part in known:
                continue
            added = entry.seccomp_filters.add(filter=part[-1].program)
            if length > 1:
                added.prev = known[part[:-1]]
            if part[-1].flags:
                added.flags = part[-1].flags
            known[part] = len(known)
    return entry, known


def fill(entry: thread_core_entry, chain: Chain, known: Mapping[Chain, int]) -> None:
    if STRICT_MODE in chain:
        entry.seccomp_mode = core_pb2.strict
        return
    entry.seccomp_mode = core_pb2.filter if chain else core_pb2.disabled
    if chain:
        entry.seccomp_filter = known[chain]


def chain_of(entry: thread_core_entry, filters: seccomp_entry) -> Chain:
    """The chain that an image gives a thread. Raises ValueError where it can't be one."""
    if not entry.seccomp_mode:
        return ()
    if entry.seccomp_mode == core_pb2.strict:
        return (STRICT_MODE,)
    found: list[Filter] = []
    at: int | None = entry.seccomp_filter
    total = len(filters.seccomp_filters)
    while at is not None:
        if at >= total or len(found) > total:
            raise ValueError(f"there is no seccomp filter {at}, or it goes round in circles")
        one = filters.seccomp_filters[at]
        if bpf.damaged(one.filter):
            raise ValueError(f"seccomp filter {at} is damaged")
        found.append(Filter(one.filter, one.flags & FLAG_LOG))
        at = one.prev if one.HasField("prev") else None
    return tuple(reversed(found))


def common(chains: Sequence[Chain]) -> Chain:
    """What all of these begin with. The strict mode is each thread's own."""
    length = 0
    for some in zip(*chains, strict=False):
        if STRICT_MODE in some or any(one != some[0] for one in some):
            break
        length += 1
    return chains[0][:length]


def install(batch: Batch, one: Filter, *, everybody: bool) -> None:
    """Add the call that puts one more filter on the calling thread, or on all of its process; or
    the call that begins its strict mode."""
    if one == STRICT_MODE:
        batch.call("seccomp", SET_MODE_STRICT, 0, 0, want=0, note="seccomp's strict mode")
        return
    program = batch.put(one.program)
    fprog = batch.struct("<QQ", len(one.program) // bpf.INSN.size, program)
    flags = one.flags & FLAG_LOG | FLAG_SPEC_ALLOW | (FLAG_TSYNC if everybody else 0)
    batch.call("seccomp", SET_MODE_FILTER, flags, fprog, want=0, note="seccomp filter")


def remote(one: Filter, at: int) -> tuple[bytes, tuple[int, ...]]:
    """Without a batch: what must stand at the address `at` of the thread, and the arguments of
    seccomp(2) then."""
    if one == STRICT_MODE:
        return b"", (SET_MODE_STRICT, 0, 0)
    size = len(one.program) // bpf.INSN.size
    memory = _FPROG.pack(size, at + _FPROG.size) + one.program
    return memory, (SET_MODE_FILTER, one.flags & FLAG_LOG | FLAG_SPEC_ALLOW, at)
