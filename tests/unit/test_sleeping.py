"""Which call a sleeper was in, what was left of it, and how it gets into it again."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from ckpt.errors import TargetError
from ckpt.infect.batch import number
from ckpt.procfs.sched import parse_sched
from ckpt.task import regs, sleeping, slept

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
    again = sleeping.arguments(saved, 0x9000, 1)
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
    over = sleeping.over(registers(ax=number("futex"), ip=INSN), -110)
    assert regs.signed(regs.value(over, "ax")) == -110 and regs.value(over, "ip") == INSN + 2


@pytest.mark.parametrize(
    ("raw", "again"),
    [
        (cut("nanosleep", di=PLACE), ("nanosleep", 0x9000, 0)),
        (cut("clock_nanosleep", di=7, dx=PLACE), ("clock_nanosleep", 7, 0, 0x9000, 0)),
        (cut("poll", di=5, si=2, dx=3001), ("poll", 5, 2, 2002)),
        (cut("futex", di=5, si=128, dx=9, r10=PLACE), ("futex", 5, 128, 9, 0x9000)),
    ],
    ids=["nanosleep", "clock_nanosleep", "poll", "futex"],
)
def test_what_has_passed(raw: bytes, again: tuple[str | int, ...]) -> None:
    """Makes what is left known; without it the call is made anew."""
    found = sleeping.asleep(raw, Memory(b"", (3, 10**6)).read)
    assert found is not None and found.left_ns is None
    assert found.whole_ns == 3001 * 10**6
    assert found.after(0).left_ns is None
    assert found.after(10**6).left_ns == 3000 * 10**6
    assert found.after(10**12).left_ns == 0
    saved = regs.rewound(raw, asleep=found)
    call = sleeping.arguments(saved, 0x9000, 2001 * 10**6 + 1)
    assert call == (number(str(again[0])), *again[1:])


@pytest.mark.parametrize(
    "raw",
    [
        cut("poll", dx=-1),
        cut("futex", si=9, r10=PLACE),
        cut("futex", si=0),
        cut("clock_nanosleep", di=1, si=1, dx=PLACE),
        cut("clock_nanosleep", di=2, dx=PLACE),
        cut("nanosleep", di=1),
    ],
    ids=["endless", "until a time", "endless futex", "until a time", "of work", "no memory"],
)
def test_no_length(raw: bytes) -> None:
    found = sleeping.asleep(raw, Memory(b"").read)
    assert found is not None and found.left_ns is found.whole_ns is None


def test_slept_through() -> None:
    """Only who has gone to sleep once more, in its stop; and a little less than the truth."""
    seen = slept.Slept({7: slept.Sleep(10**9, 4)}, 3 * 10**9)
    assert seen.passed_ns(7, 5) == 2 * 10**9 - 2 * 10**6
    assert seen.passed_ns(7, 6) == seen.passed_ns(7, 4) == seen.passed_ns(8, 5) == 0
    assert slept.Slept({7: slept.Sleep(10**9, 4)}, 1).passed_ns(7, 5) == 0


def test_when_a_thread_ran() -> None:
    text = Path("/proc/thread-self/sched").read_bytes()
    ran, again = parse_sched(text), parse_sched(Path("/proc/thread-self/sched").read_bytes())
    assert ran is not None and again is not None and ran.slept <= again.slept
    assert 0 < ran.at_ns <= again.at_ns
    assert parse_sched(text.replace(b"se.exec_start", b"se.other")) is None
