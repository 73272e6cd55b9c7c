"""The way home: which registers, by which way, and the signal frame."""

from __future__ import annotations

import struct

import pytest

from ckpt.infect import way
from ckpt.infect.batch import number

U64 = (1 << 64) - 1
RIP, FLAGS, STACK = 0x401000, 0x246, 0x7FFF_0000_1000
NANOSLEEP, FUTEX, READ, EPOLL = (
    number(name) for name in ("nanosleep", "futex", "read", "epoll_wait")
)
RESTART = number("restart_syscall")


def registers(rax: int, orig_rax: int) -> bytes:
    words = list(range(100, 127))
    words[way.RAX], words[way.ORIG_RAX], words[way.RIP] = rax & U64, orig_rax & U64, RIP
    words[way.CS], words[way.EFLAGS], words[way.RSP], words[way.SS] = 0x33, FLAGS, STACK, 0x2B
    return way.REGS.pack(*words)


@pytest.mark.parametrize(
    ("rax", "orig_rax", "insn", "rip", "new_rax", "by_frame"),
    [
        (-512, READ, b"\x48\x3d", RIP - 2, READ, True),
        (-513, READ, b"\x48\x3d", RIP - 2, READ, True),
        (-514, FUTEX, b"\x48\x3d", RIP - 2, FUTEX, True),
        (-516, NANOSLEEP, b"\x48\x3d", RIP - 2, RESTART, False),
        (RESTART, -1, b"\x0f\x05", RIP, RESTART, False),
        (RESTART, NANOSLEEP, b"\x0f\x05", RIP, RESTART, False),
        (RESTART, -1, b"\x90\x90", RIP, RESTART, True),
        (-512, -1, b"\x90\x90", RIP, -512, True),
        (-516, -1, b"\x90\x90", RIP, -516, True),
        (-4, EPOLL, b"\x48\x3d", RIP, -4, True),
        (-4, READ, b"\x48\x3d", RIP, -4, True),
        (7, READ, b"\x48\x3d", RIP, 7, True),
        (0, -1, b"\x90\x90", RIP, 0, True),
    ],
)
def test_table(
    rax: int, orig_rax: int, insn: bytes, rip: int, new_rax: int, by_frame: bool
) -> None:
    home = way.home(registers(rax, orig_rax), 0x1234, insn, signalled=False)
    assert (home.regs[way.RIP], home.regs[way.RAX]) == (rip, new_rax & U64)
    assert home.by_frame == by_frame
    assert home.sigmask == 0x1234
    assert home.registers[-3:] == (FLAGS, STACK, rip)
    assert home.registers[:10] == tuple(range(100, 110))


@pytest.mark.parametrize("rax", [-514, -516])
def test_what_a_handler_ends(rax: int) -> None:
    home = way.home(registers(rax, EPOLL), 0, b"\x48\x3d", signalled=True)
    assert (home.regs[way.RIP], home.regs[way.RAX]) == (RIP, -4 & U64)
    assert home.by_frame


@pytest.mark.parametrize("rax", [-512, -513, -4, 7])
def test_what_none_ends(rax: int) -> None:
    regs = registers(rax, READ)
    before, after = (way.home(regs, 0, b"\x48\x3d", signalled=yes) for yes in (False, True))
    assert before == after


def test_entering_changes_rip_alone() -> None:
    before = way.REGS.unpack(registers(-512, READ))
    after = way.REGS.unpack(way.entered(registers(-512, READ), 0xABC))
    changed = {i for i in range(27) if before[i] != after[i]}
    assert changed == {way.RIP, way.ORIG_RAX}
    assert (after[way.RIP], after[way.ORIG_RAX]) == (0xABC, way.NO_CALL)


def test_which_signals_get_through() -> None:
    raw = struct.pack("<i124x", 10)
    all_caught = (1 << 64) - 1
    assert way.signalled(0, all_caught, (raw,))
    assert not way.signalled(1 << 9, all_caught, (raw,))
    assert not way.signalled(0, ~(1 << 9) & all_caught, (raw,))
    assert way.signalled(1 << 9, all_caught, (), (raw, struct.pack("<i124x", 12)))
    assert not way.signalled(0, all_caught, (), ())


def test_frame() -> None:
    """struct ucontext of x86-64."""
    home = way.home(registers(7, READ), 0xFEDC, b"\x90\x90", signalled=False)
    raw = way.frame(home, 0x5000)
    assert len(raw) == way.FRAME_SIZE
    assert struct.unpack_from("<Q", raw, 40)[0] == home.regs[way.R8]
    assert struct.unpack_from("<3Q", raw, 40 + 15 * 8) == (STACK, RIP, FLAGS)
    assert struct.unpack_from("<4H", raw, 40 + 18 * 8) == (0x33, 0, 0, 0x2B)
    assert struct.unpack_from("<Q", raw, 40 + 144 + 8 + 32)[0] == 0x5000
    assert struct.unpack_from("<Q", raw, 296)[0] == 0xFEDC


LAYOUT = {0: (0, 160), 1: (160, 256), 2: (576, 256), 9: (2688, 8), 17: (2816, 64), 18: (3072, 8192)}


def area(in_use: int, features: int, size: int) -> bytes:
    raw = bytearray(size)
    raw[:464] = bytes(range(256)) + bytes(208)
    struct.pack_into("<Q", raw, 464, features)
    struct.pack_into("<Q", raw, 512, in_use)
    return bytes(raw)


@pytest.mark.parametrize(
    ("in_use", "features", "size", "kept"),
    [
        (0b11, 0b1000000111, 576, 0b11),
        (0b111, 0b1000000111, 832, 0b111),
        (0x203, 0x207, 2696, 0x207),
    ],
)
def test_xstate_is_no_longer_than_what_is_in_use(
    in_use: int, features: int, size: int, kept: int
) -> None:
    image = way.xstate_image(area(in_use, features, 2696), LAYOUT)
    assert len(image) == size + 4
    magic1, extended, told, told_size = struct.unpack_from("<IIQI", image, 464)
    assert (magic1, extended, told, told_size) == (0x46505853, size + 4, kept, size)
    assert struct.unpack_from("<I", image, size)[0] == 0x46505845
    assert image[:464] == area(in_use, features, 2696)[:464]


@pytest.mark.parametrize(
    "raw", [b"", bytes(100), area(0b100, 0b11, 2696), area(1 << 40, 1 << 40, 2696), area(4, 7, 700)]
)
def test_xstate_that_makes_no_sense_goes_by_registers(raw: bytes) -> None:
    assert way.xstate_image(raw, LAYOUT) == b""


def test_room_to_look_for() -> None:
    """AMX, which must be asked for, would never find room."""
    assert way.xstate_sizes(LAYOUT) == (2700, 836)
