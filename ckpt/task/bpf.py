"""What a seccomp filter may answer to a system call whose arguments are not known.

A filter is a classic BPF program over the call's number, the machine and the arguments, a pure
function with forward jumps only. Every way through it that the number allows is walked: where it
depends on anything but number and machine both branches are taken. So the answer may hold actions
that no call ever meets, but never lacks one.

Source: seccomp(2), linux/seccomp.h, linux/filter.h, kernel/seccomp.c (seccomp_check_filter).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping

KILL_PROCESS, KILL_THREAD, TRAP, ERRNO = 0x80000000, 0x00000000, 0x00030000, 0x00050000
USER_NOTIF, TRACE, LOG, ALLOW = 0x7FC00000, 0x7FF00000, 0x7FFC0000, 0x7FFF0000
ACTION = 0xFFFF0000
AUDIT_ARCH_X86_64 = 0xC000003E

INSN = struct.Struct("<HBBI")
NR_INSNS_MAX = 4096
_UNKNOWN = None
_LD_ABS, _LD_IMM, _LD_LEN, _LD_MEM, _LDX = 0x20, 0x00, 0x80, 0x60, {0x01, 0x61, 0x81}
_ST, _STX, _TAX, _TXA, _JA, _RET_K, _RET_A = 0x02, 0x03, 0x07, 0x87, 0x05, 0x06, 0x16
_CLASS, _ALU, _JMP = 0x07, 0x04, 0x05
_NUMBER_AT, _ARCH_AT, _DATA_LEN = 0, 4, 64
_COMPARE: Mapping[int, Callable[[int, int], bool]] = {
    0x15: lambda a, k: a == k,
    0x25: lambda a, k: a > k,
    0x35: lambda a, k: a >= k,
    0x45: lambda a, k: bool(a & k),
}


def damaged(program: bytes) -> bool:
    """Whether this can't be a filter's program."""
    nr, rest = divmod(len(program), INSN.size)
    return bool(rest) or not 0 < nr <= NR_INSNS_MAX


def actions(program: bytes, nr: int) -> frozenset[int]:
    """Every action that the filter may answer with to call number `nr` of x86-64."""
    insns = list(INSN.iter_unpack(program))
    found: set[int] = set()
    waiting: list[tuple[int, int | None]] = [(0, 0)]
    seen = set(waiting)
    while waiting:
        at, a = waiting.pop()
        if at >= len(insns):
            found.add(KILL_PROCESS)
            continue
        for step in _steps(insns[at], at, a, nr, found):
            if step not in seen:
                seen.add(step)
                waiting.append(step)
    return frozenset(found)


def _steps(
    insn: tuple[int, int, int, int], at: int, a: int | None, nr: int, found: set[int]
) -> list[tuple[int, int | None]]:
    """Where the program may go on from the instruction at `at`, and with which accumulator."""
    code, if_true, if_false, k = insn
    if code == _RET_K:
        found.add(k & ACTION)
        return []
    if code == _RET_A:
        found.add(KILL_PROCESS if a is _UNKNOWN else a & ACTION)
        return []
    if code == _JA:
        return [(at + 1 + k, a)]
    if code & _CLASS == _JMP:
        compare = _COMPARE.get(code)
        if a is _UNKNOWN or compare is None:
            return [(at + 1 + if_true, a), (at + 1 + if_false, a)]
        return [(at + 1 + (if_true if compare(a, k) else if_false), a)]
    if code == _LD_ABS:
        known = {_NUMBER_AT: nr, _ARCH_AT: AUDIT_ARCH_X86_64}
        return [(at + 1, known.get(k, _UNKNOWN))]
    if code in (_LD_IMM, _LD_LEN):
        return [(at + 1, k if code == _LD_IMM else _DATA_LEN)]
    if code in (_LD_MEM, _TXA) or code & _CLASS == _ALU:
        return [(at + 1, _UNKNOWN)]
    return [(at + 1, a)]
