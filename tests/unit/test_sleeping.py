"""Which call a sleeper was in, what was left of it, and how it gets into it again."""

from __future__ import annotations

import struct

import pytest

from ckpt.errors import TargetError
from ckpt.infect.batch import number
from ckpt.task import regs, sleeping

U64 = (1 << 64) - 1
INSN, PLACE = 0x401000, 0x7000
RESTART = number("restart_syscall")


class Memory:
    """What a sleeper has: some code before the instruction, and what was left."""

    def __init__(self, code: bytes, left: tuple[int, int] | None = (3, 500)) -> None:
        self._parts = {INSN - 5: code + b"\x0f\x05"}
        if left is not None:
            self._parts[PLACE] = struct.pack("<qq", *left)

    def read(self, addr: int, size: int) -> bytes:
        if addr not in self._parts:
            raise TargetError("its memory can't be read")
        return self._parts[addr][:size]


def moves(name: str) -> bytes:
    return b"\xb8" + number(name).to_bytes(4, "little")


def registers(**changed: int) -> bytes:
    words = dict.fromkeys(regs.NAMES, 0) | changed
    return regs.REGS.pack(*(words[name] & U64 for name in regs.NAMES))


def cut(name: str, **more: int) -> bytes:
    return registers(ax=-516, orig_ax=number(name), ip=INSN + 2, **more)


SLEEPS = {
    "nanosleep": cut("nanosleep", di=1, si=PLACE),
    "clock_nanosleep": cut("clock_nanosleep", di=1, dx=1, r10=PLACE),
    "restarted": cut("restart_syscall", di=1, dx=1, r10=PLACE),
    "about to restart": registers(ax=RESTART, orig_ax=-1, ip=INSN, di=1, r10=PLACE),
}


@pytest.mark.parametrize("raw", SLEEPS.values(), ids=SLEEPS)
def test_what_is_left(raw: bytes) -> None:
    """The same for a call that is cut for the first time, and for one that was before."""
    call = "nanosleep" if raw is SLEEPS["nanosleep"] else "clock_nanosleep"
    found = sleeping.asleep(raw, Memory(moves("clock_nanosleep")).read)
    assert found is not None
    assert (found.call, found.insn, found.left_ns) == (number(call), INSN, 3 * 10**9 + 500)
    saved = regs.rewound(raw, asleep=found)
    assert (regs.value(saved, "ax"), regs.value(saved, "ip")) == (number(call), INSN)
    again = sleeping.arguments(saved, 0x9000)
    assert again is not None and again[0] == number(call)
    assert 0x9000 in again and again[-1] == PLACE
    back = sleeping.interrupted(saved)
    assert regs.signed(regs.value(back, "ax")) == -516
    assert (regs.value(back, "orig_ax"), regs.value(back, "ip")) == (number(call), INSN + 2)
    for name in ("di", "si", "dx", "r10"):
        assert regs.value(back, name) == regs.value(raw, name)


@pytest.mark.parametrize(
    ("raw", "memory"),
    [
        (cut("nanosleep", di=1), Memory(b"")),
        (cut("clock_nanosleep", si=1, r10=PLACE), Memory(b"")),
        (cut("nanosleep", si=PLACE), Memory(b"", (3, 10**9))),
        (cut("poll", si=PLACE), Memory(b"")),
        (cut("restart_syscall", si=PLACE), Memory(moves("futex"))),
    ],
    ids=["no place", "until a time", "nonsense there", "poll", "futex, restarted"],
)
def test_what_is_left_is_not_known(raw: bytes, memory: Memory) -> None:
    """The call is, and is made anew."""
    found = sleeping.asleep(raw, memory.read)
    assert found is not None and found.left_ns is None
    assert regs.value(regs.rewound(raw, asleep=found), "ax") == found.call


@pytest.mark.parametrize(
    ("raw", "memory"),
    [
        (registers(ax=-512, orig_ax=0, ip=INSN), Memory(b"")),
        (registers(ax=-516, orig_ax=-1, ip=INSN), Memory(b"")),
        (cut("restart_syscall"), Memory(b"\x89\xc7\x90\x90\x90")),
        (cut("restart_syscall"), Memory(moves("read"))),
        (cut("nanosleep", si=PLACE), Memory(b"", None)),
    ],
    ids=["another restart", "no call", "other code", "a call without a block", "no memory"],
)
def test_no_sleeper(raw: bytes, memory: Memory) -> None:
    assert sleeping.asleep(raw, memory.read) is None


def test_a_length_is_a_timespec() -> None:
    assert struct.unpack("<qq", sleeping.length(7 * 10**9 + 3)) == (7, 3)
    over = sleeping.over(registers(ax=number("nanosleep"), ip=INSN))
    assert (regs.value(over, "ax"), regs.value(over, "ip")) == (0, INSN + 2)
