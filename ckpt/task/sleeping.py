"""Sleeps that an interrupt has cut: which call it was, and what was left of it.

The kernel keeps what it needs to go on in the thread's restart block, which nobody can read. But a
nanosleep(2) or clock_nanosleep(2) that was given a place for what is left finds it written there at
every interrupt, so at the stop of a dump as well.

The restore has the thread make the call for what was left, with its own place, and interrupts it:
then its restart block is as it was, and the registers are those that stood before
(ckpt.restore.sleeps). Without that the call starts anew with its whole time.

A thread that was interrupted before has lost the number of its call, which it restarts by
restart_syscall(2): what stands before the instruction tells it, `mov $NUMBER, %eax` in every libc.

Of a sleep without such a place, of poll(2) and of a futex with a limit only the whole length is
known: ckpt.task.slept finds out how much of it has passed. epoll_wait(2) and others that hold no
restart block start anew. select(2) and ppoll(2) keep what is left themselves.

Source: kernel/time/hrtimer.c (nanosleep_copyout), fs/select.c (poll_select_finish,
do_restart_poll), kernel/futex/waitwake.c (futex_wait), nanosleep(2).
"""

from __future__ import annotations

import struct
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from ckpt.errors import TargetError
from ckpt.infect.batch import number
from ckpt.infect.way import NO_CALL, ORIG_RAX, R10, RAX, RDI, RDX, REGS, RIP, RSI, SYSCALL_INSN

if TYPE_CHECKING:
    from collections.abc import Callable

    Read = Callable[[int, int], bytes]

NS_PER_S = 10**9
LEFT_MAX_NS = (1 << 63) - 1
_RESTART_BLOCK = (1 << 64) - 516
_TIMESPEC = struct.Struct("<qq")
_MOV_EAX = b"\xb8"
_MOV_LEN = 5
_FUTEX_COMMAND, _FUTEX_WAIT = 0x7F, 0
_TIMER_ABSTIME = 1
_CLOCKS = (0, 1, 7, 11)
"""Those that go on while a thread sleeps."""
_NS_PER_MS = 10**6
_MS_MAX = (1 << 31) - 1


class Asleep(NamedTuple):
    """A call that holds a restart block: its number, the address of its instruction, the
    nanoseconds that were left, where they are known, else how many it was to take in all."""

    call: int
    insn: int
    left_ns: int | None
    whole_ns: int | None = None

    def after(self, passed_ns: int) -> Asleep:
        """The same, of which so much is known to have passed; 0: nothing is known."""
        if self.left_ns is not None or self.whole_ns is None or not passed_ns:
            return self
        return self._replace(left_ns=max(0, self.whole_ns - passed_ns))

    def less(self, passed_ns: int) -> Asleep:
        """The same, so much later."""
        if self.left_ns is None:
            return self
        return self._replace(left_ns=max(0, self.left_ns - passed_ns))


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
        left_ns = _left_ns(call, words, read)
    except TargetError:
        return None
    whole_ns = None
    with suppress(TargetError):  # what it read when it began may be gone
        whole_ns = _whole_ns(call, words, read) if left_ns is None else None
    return Asleep(call, insn, left_ns, whole_ns)


def _number_before(code: bytes) -> int:
    if code[:1] != _MOV_EAX or code[_MOV_LEN:] != SYSCALL_INSN:
        return -1
    return int.from_bytes(code[1:_MOV_LEN], "little")


def _left_ns(call: int, words: tuple[int, ...], read: Read) -> int | None:
    place = _place(call, words)
    return _time_at(place, read) if place else None


def _time_at(addr: int, read: Read) -> int | None:
    seconds, nanoseconds = _TIMESPEC.unpack(read(addr, _TIMESPEC.size))
    time: int = seconds * NS_PER_S + nanoseconds
    valid = seconds >= 0 and 0 <= nanoseconds < NS_PER_S and time <= LEFT_MAX_NS
    return time if valid else None


def _whole_ns(call: int, words: tuple[int, ...], read: Read) -> int | None:
    """None for a call without an end, or that ends at a certain time."""
    if call == number("poll"):
        limit_ms: int = words[RDX] & 0xFFFF_FFFF
        return limit_ms * _NS_PER_MS if limit_ms <= _MS_MAX else None
    if call == number("nanosleep"):
        return _time_at(words[RDI], read)
    if call == number("clock_nanosleep"):
        goes_on = words[RDI] in _CLOCKS and _is_relative(words)
        return _time_at(words[RDX], read) if goes_on else None
    return _time_at(words[R10], read) if _is_wait(words) and words[R10] else None


def _is_relative(words: tuple[int, ...]) -> bool:
    """Of clock_nanosleep(2)."""
    return not words[RSI] & _TIMER_ABSTIME


def _is_wait(words: tuple[int, ...]) -> bool:
    """Of futex(2); FUTEX_WAIT_BITSET waits until a certain time."""
    return words[RSI] & _FUTEX_COMMAND == _FUTEX_WAIT


def _place(call: int, words: tuple[int, ...]) -> int:
    """Where the call was to write what is left, 0 for nowhere."""
    if call == number("nanosleep"):
        return words[RSI]
    return words[R10] if call == number("clock_nanosleep") and not words[RSI] else 0


def arguments(raw: bytes, length_at: int, left_ns: int) -> tuple[int, ...] | None:
    """The call, number first, that a thread whose saved registers are `raw` must make for what was
    left: as it was made, but for the length, which is read at `length_at`. None if it stands before
    no such call."""
    words = REGS.unpack(raw)
    call = words[RAX]
    if call == number("nanosleep"):
        return call, length_at, words[RSI]
    if call == number("clock_nanosleep") and _is_relative(words):
        return call, words[RDI], words[RSI], length_at, words[R10]
    if call == number("poll"):
        return call, words[RDI], words[RSI], min(_MS_MAX, -(-left_ns // _NS_PER_MS))
    if call == number("futex") and _is_wait(words):
        return call, words[RDI], words[RSI], words[RDX], length_at
    return None


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


def over(raw: bytes, result: int) -> bytes:
    """The same, when the time was over and the call had returned `result`."""
    words = list(REGS.unpack(raw))
    words[RAX] = result & ((1 << 64) - 1)
    words[RIP] += len(SYSCALL_INSN)
    return REGS.pack(*words)
