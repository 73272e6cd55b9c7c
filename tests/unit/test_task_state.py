"""Registers, FPU state and signals between ptrace's bytes and messages."""

from __future__ import annotations

import struct

import pytest

from ckpt.images.pb.core_x86_pb2 import user_x86_fpregs_entry, user_x86_regs_entry
from ckpt.images.pb.siginfo_pb2 import signal_queue_entry
from ckpt.infect.batch import number
from ckpt.task import fpu, regs, signals

LAYOUT = {2: (576, 256), 5: (1088, 64), 6: (1152, 512), 7: (1664, 1024), 9: (2688, 8)}
SIZE = 2696
SA_RESTART = 0x10000000
U64 = (1 << 64) - 1


def registers(**changed: int) -> bytes:
    words = dict.fromkeys(regs.NAMES, 7) | {"ip": 0x401002, "orig_ax": U64} | changed
    return regs.REGS.pack(*(words[name] & U64 for name in regs.NAMES))


@pytest.mark.parametrize("result", [-512, -513, -514, -516])
def test_an_interrupted_call_is_rewound(result: int) -> None:
    raw = regs.rewound(registers(ax=result, orig_ax=number("read")))
    assert regs.value(raw, "ax") == number("read")
    assert regs.value(raw, "ip") == 0x401000


@pytest.mark.parametrize(
    ("result", "flags", "ended"),
    [(-512, 0, True), (-512, SA_RESTART, False), (-513, 0, False), (-514, SA_RESTART, True)],
)
def test_what_a_handler_ends(result: int, flags: int, ended: bool) -> None:
    raw = regs.rewound(registers(ax=result, orig_ax=number("read")), handler=flags)
    assert regs.signed(regs.value(raw, "ax")) == (-4 if ended else number("read"))
    assert regs.value(raw, "ip") == (0x401002 if ended else 0x401000)


def test_a_call_without_its_number_returns_eintr() -> None:
    raw = regs.rewound(registers(ax=-516, orig_ax=number("restart_syscall")))
    assert regs.signed(regs.value(raw, "ax")) == -4
    assert regs.value(raw, "ip") == 0x401002


@pytest.mark.parametrize(
    "changed", [{"ax": -512}, {"ax": 5, "orig_ax": 0}, {"ax": -4, "orig_ax": 0}]
)
def test_what_is_no_interrupted_call_stays(changed: dict[str, int]) -> None:
    raw = registers(**changed)
    again = regs.rewound(raw)
    assert regs.value(again, "ax") == regs.value(raw, "ax")
    assert regs.value(again, "ip") == regs.value(raw, "ip")
    assert regs.value(again, "orig_ax") == U64


def test_registers_round_trip() -> None:
    raw = regs.REGS.pack(*(i * 0x0101010101010101 & U64 for i in range(27)))
    entry = user_x86_regs_entry()
    regs.fill(entry, raw)
    assert regs.pack(entry) == regs.rewound(raw)


def xstate(in_use: int) -> bytes:
    raw = bytearray(SIZE)
    raw[:416] = bytes(i * 7 & 0xFF for i in range(416))
    struct.pack_into("<Q", raw, 512, in_use)
    for component, (at, size) in LAYOUT.items():
        if in_use >> component & 1:
            raw[at : at + size] = bytes((component + i) & 0xFF for i in range(size))
    return bytes(raw)


@pytest.mark.parametrize("in_use", [0, 1, 3, 7, 0xE7, 0x2E7])
def test_fpu_round_trip(in_use: int) -> None:
    entry = user_x86_fpregs_entry()
    fpu.fill(entry, xstate(in_use), LAYOUT)
    assert fpu.pack(entry, SIZE, LAYOUT) == xstate(in_use)


def test_fpu_state_that_this_cpu_lacks() -> None:
    entry = user_x86_fpregs_entry()
    fpu.fill(entry, xstate(0xE7), LAYOUT)
    with pytest.raises(fpu.FpuError, match="lacks"):
        fpu.pack(entry, 832, {2: (576, 256)})


def test_amx_is_seen() -> None:
    assert fpu.unknown_components(xstate(3 | 1 << 18)) == 1 << 18


@pytest.mark.parametrize("info", [b"", bytes(128), struct.pack("<i", 65) + bytes(124)])
def test_damaged_signals(info: bytes) -> None:
    queue = signal_queue_entry()
    queue.signals.add().siginfo = info
    assert signals.damaged(queue)


def test_sound_signals() -> None:
    queue = signal_queue_entry()
    signals.fill_pending(queue, [struct.pack("<i", 10) + bytes(124)])
    assert not signals.damaged(queue)
