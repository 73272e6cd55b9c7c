"""Sleeps that an interrupt has cut: which call it was, and what was left of it.

The kernel keeps what it needs to go on in the thread's restart block, which nobody can read. But a
nanosleep(2) or clock_nanosleep(2) that was given a place for what is left finds it written there at
every interrupt, so at the stop of a dump as well.

The restore has the thread make the call for what was left, with its own place, and interrupts it:
then its restart block is as it was, and the registers are those that stood before
(ckpt.restore.sleeps). Without that the call starts anew with its whole time.

A thread that was interrupted before has lost the number of its call, which it restarts by
restart_syscall(2): what stands before the instruction tells it, `mov $NUMBER, %eax` in every libc.

Not known is what was left of a sleep without such a place, of poll(2), of a futex with a limit and
of epoll_wait(2): they start anew. select(2) and ppoll(2) keep it themselves.

Source: kernel/time/hrtimer.c (nanosleep_copyout), fs/select.c (poll_select_finish), nanosleep(2).
"""

from __future__ import annotations

import struct
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from ckpt.errors import TargetError
from ckpt.infect.batch import number
from ckpt.infect.way import NO_CALL, ORIG_RAX, R10, RAX, RDI, REGS, RIP, RSI, SYSCALL_INSN

if TYPE_CHECKING:
    from collections.abc import Callable

    Read = Callable[[int, int], bytes]

NS_PER_S = 10**9
LEFT_MAX_NS = (1 << 63) - 1
_RESTART_BLOCK = (1 << 64) - 516
_TIMESPEC = struct.Struct("<qq")
_MOV_EAX = b"\xb8"
_MOV_LEN = 5


class Asleep(NamedTuple):
    """A call that holds a restart block: its number, the address of its instruction, and the
    nanoseconds that were left, where they are known."""

    call: int
    insn: int
    left_ns: int | None


@cache
def _with_block() -> frozenset[int]:
    """The calls that go on by a restart block."""
    return frozenset(map(number, ("nanosleep", "clock_nanosleep", "poll", "futex")))


def asleep(raw: bytes, read: Read) -> Asleep | None:
    """What a thread that stands with these registers was doing; None if it was no such call, or
    nobody knows any more which. `read` reads the thread's memory, and may raise TargetError."""
    words = REGS.unpack(raw)
    if words[RAX] == _RESTART_BLOCK and words[ORIG_RAX] != NO_CALL:
        call, insn = words[ORIG_RAX], words[RIP] - len(SYSCALL_INSN)
    elif words[RAX] == number("restart_syscall"):
        call, insn = words[RAX], words[RIP]
    else:
        return None
    try:
        if call == number("restart_syscall"):
            call = _number_before(read(insn - _MOV_LEN, _MOV_LEN + len(SYSCALL_INSN)))
        if call not in _with_block():
            return None
        return Asleep(call, insn, _left_ns(call, words, read))
    except TargetError:
        return None


def _number_before(code: bytes) -> int:
    if code[:1] != _MOV_EAX or code[_MOV_LEN:] != SYSCALL_INSN:
        return -1
    return int.from_bytes(code[1:_MOV_LEN], "little")


def _left_ns(call: int, words: tuple[int, ...], read: Read) -> int | None:
    place = _place(call, words)
    if not place:
        return None
    seconds, nanoseconds = _TIMESPEC.unpack(read(place, _TIMESPEC.size))
    left: int = seconds * NS_PER_S + nanoseconds
    valid = seconds >= 0 and 0 <= nanoseconds < NS_PER_S and left <= LEFT_MAX_NS
    return left if valid else None


def _place(call: int, words: tuple[int, ...]) -> int:
    """Where the call was to write what is left, 0 for nowhere."""
    if call == number("nanosleep"):
        return words[RSI]
    return words[R10] if call == number("clock_nanosleep") and not words[RSI] else 0


def arguments(raw: bytes, length_at: int) -> tuple[int, ...] | None:
    """The call, number first, that a thread whose saved registers are `raw` must make for what was
    left: as it was made, but for the length, which is read at `length_at`. None if it stands before
    no such call."""
    words = REGS.unpack(raw)
    call = words[RAX]
    if not _place(call, words):
        return None
    if call == number("nanosleep"):
        return call, length_at, words[RSI]
    return call, words[RDI], words[RSI], length_at, words[R10]


def length(left_ns: int) -> bytes:
    """A struct timespec."""
    return _TIMESPEC.pack(*divmod(left_ns, NS_PER_S))


def interrupted(raw: bytes) -> bytes:
    """The saved registers `raw`, which stand before the call, as they were when an interrupt had
    just cut it."""
    words = list(REGS.unpack(raw))
    words[ORIG_RAX], words[RAX] = words[RAX], _RESTART_BLOCK
    words[RIP] += len(SYSCALL_INSN)
    return REGS.pack(*words)


def over(raw: bytes) -> bytes:
    """The same, when the time was over."""
    words = list(REGS.unpack(raw))
    words[RAX] = 0
    words[RIP] += len(SYSCALL_INSN)
    return REGS.pack(*words)
