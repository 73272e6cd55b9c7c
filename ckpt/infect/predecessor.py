"""What an earlier controller left behind that died in the middle.

Its stub brings the target out of it by itself, in a fraction of a second. Until then a thread is in
the stub or the parasite, or has a signal frame whose return goes there: such a target must be
neither looked at nor infected again. Afterwards only bytes are left, in places that nobody uses.

A thread that is inside needs nothing from the others, so it is let go on alone until it is out.
Only one that is in a signal handler meanwhile may need them.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ckpt.errors import TargetError
from ckpt.infect import entry, way
from ckpt.infect.place import Memory, vdso_tail
from ckpt.infect.stub import LEADER_AT, MAGIC_BYTES, pieces
from ckpt.procfs.auxv import AT_SYSINFO_EHDR, parse_auxv
from ckpt.procfs.maps import parse_maps
from ckpt.procfs.reader import ProcDir
from ckpt.tracee import dispatch, ops
from ckpt.tracee.stopped import Stopped, read_threads
from ckpt.units import Range

if TYPE_CHECKING:
    from ckpt.procfs.maps import Mapping
    from ckpt.tracee.stopped import SeizedTask

STACK = 1 << 16
"""Bytes above a thread's rsp in which frames of signals are looked for."""
_WINDOW = struct.Struct("<QQ")
_USER_CS = 0x33
_OUT_S, _PAUSE_S, _PASS_S = 3.0, 0.002, 0.1

Seen = Iterable[tuple[Range, bytes]]
"""Holes of a target and what stands there."""


def settle(task: SeizedTask) -> None:
    """Let the threads of a seized task out of a predecessor's stub, and renew what is known of them
    in `task.threads`. To be called before anything else looks at the task.

    Raises TargetError when one does not come out in 3 s.
    """
    if not task.threads:
        return
    memory = Memory(task.threads[0].tid)
    try:
        if _unmarked_vdso(memory):
            return
        until = time.monotonic() + _OUT_S
        pause_s = _PAUSE_S
        while inside := _inside(task, memory):
            if time.monotonic() > until:
                raise _still_there(task)
            stopped = {thread.tid for thread in task.threads if thread.group_stop}
            for tid in inside:
                if tid in stopped:
                    entry.to_next_call(tid)
                else:
                    ops.cont(tid)
            if not stopped.issuperset(inside):
                time.sleep(pause_s)
                pause_s *= 2
            stops = ops.interrupt_and_wait(inside, _OUT_S)
            _renew(task, [(tid, s.group_stop) for tid, s in zip(inside, stops, strict=True)])
        _let_pass(task, until)
    finally:
        memory.close()


def _let_pass(task: SeizedTask, until: float) -> None:
    """Who has come out has gone on, and may be where its calls go to its handler again."""
    while (held := dispatch.held(task)) and time.monotonic() < until:
        for tid, how in held.items():
            dispatch.run_to_passing(tid, how, _PASS_S)
        stops = ops.interrupt_and_wait(list(held), _OUT_S)
        _renew(task, [(tid, s.group_stop) for tid, s in zip(held, stops, strict=True)])


def check(task: SeizedTask, memory: Memory, mappings: Sequence[Mapping], seen: Seen) -> None:
    """Raise TargetError while a predecessor is in the target."""
    if _threads_inside(task, memory, mappings, seen):
        raise _still_there(task)


def _still_there(task: SeizedTask) -> TargetError:
    return TargetError(
        "another ckpt, which was killed, has not left it yet",
        pid=task.pid,
        hint="try again in a second",
    )


def _unmarked_vdso(memory: Memory) -> bool:
    """Whether the vdso, which is the first choice for the leader's piece, has room for it and no
    mark: the usual case, told without a look at the mappings."""
    with ProcDir(memory.tid) as proc:
        auxv = dict(parse_auxv(proc.read("auxv")))
    tail = vdso_tail(memory, auxv.get(AT_SYSINFO_EHDR, 0))
    return len(tail) >= len(pieces()[0]) + way.XSTATE_ALIGN and MAGIC_BYTES not in tail


def _inside(task: SeizedTask, memory: Memory) -> list[int]:
    with ProcDir(memory.tid) as proc:
        mappings = parse_maps(proc.read("maps"))
    return _threads_inside(task, memory, mappings, entry.choose_sites(memory, mappings)[0].seen)


def _threads_inside(
    task: SeizedTask, memory: Memory, mappings: Sequence[Mapping], seen: Seen
) -> list[int]:
    """Threads in a predecessor's hands. The leader is, too, as long as its window is there."""
    marked = [(hole, held) for hole, held in seen if MAGIC_BYTES in held]
    if not marked:
        return []
    ranges = [hole for hole, _ in marked]
    found = [t.tid for t in task.threads if _points_into(memory, t.tid, ranges)]
    leader = task.threads[0].tid
    if leader not in found and _window_there(marked, mappings):
        found.append(leader)
    return found


def _window_there(marked: Seen, mappings: Sequence[Mapping]) -> bool:
    starts = {m.start for m in mappings if not m.has_file and m.executable}
    for _, held in marked:
        at = held.find(MAGIC_BYTES)
        while at >= 0:
            field = at + LEADER_AT
            size = held[at + 8 : at + 12]
            if size == struct.pack("<I", len(pieces()[0])) and len(held) >= field + _WINDOW.size:
                start, length = _WINDOW.unpack_from(held, field)
                if length and start in starts:
                    return True
            at = held.find(MAGIC_BYTES, at + 1)
    return False


def _points_into(memory: Memory, tid: int, ranges: Sequence[Range]) -> bool:
    """Whether the thread is in one of `ranges`, or a signal handler of its will return there."""
    regs = way.REGS.unpack(ops.get_regs(tid))
    if any(regs[way.RIP] in r for r in ranges):
        return True
    stack = memory.read(regs[way.RSP] & ~7, STACK)
    return any(frame_into(stack, r) for r in ranges)


def frame_into(stack: bytes, into: Range) -> bool:
    """Whether a word of `stack`, whose first is aligned, points into a range and stands where a
    signal frame has rip."""
    for high in range(into.start >> 16, (into.end >> 16) + 1):
        wanted = high.to_bytes(6, "little")
        at = stack.find(wanted)
        while at >= 0:
            word = at - 2
            if word >= 0 and word % 8 == 0 and word + 24 <= len(stack):
                rip, _, segments = struct.unpack_from("<3Q", stack, word)
                if rip in into and segments & 0xFFFF == _USER_CS:
                    return True
            at = stack.find(wanted, at + 1)
    return False


def _renew(task: SeizedTask, stops: Sequence[tuple[int, int]]) -> None:
    new: dict[int, Stopped] = {thread.tid: thread for thread in read_threads(stops)}
    ended = {tid for tid, _ in stops} - new.keys()
    task.threads[:] = [new.get(t.tid, t) for t in task.threads if t.tid not in ended]
    if not task.threads:
        raise TargetError("the task ended", pid=task.pid)
