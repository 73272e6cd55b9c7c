"""General registers of one thread, between ptrace's bytes and the image's message.

The order of `struct user_regs_struct` (x86-64) is the order of the message's fields. A dump stores
registers from which the thread goes on by itself: a system call that the stop has interrupted is
rewound, as the kernel would have done.

Not guaranteed: a call that sleeps for a relative time starts its time anew in the restored task,
but for those of ckpt.task.sleeping. A call that an earlier stop had already turned into
restart_syscall(2), and whose number is not found, returns EINTR in the restored task.

Source: arch/x86/kernel/signal.c (arch_do_signal_or_restart), ptrace(2).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from ckpt.infect.batch import number

if TYPE_CHECKING:
    from ckpt.images.pb.core_x86_pb2 import user_x86_regs_entry, user_x86_regs_mode
    from ckpt.task.sleeping import Asleep

REGS = struct.Struct("<27Q")
NAMES = (
    *("r15", "r14", "r13", "r12", "bp", "bx", "r11", "r10", "r9", "r8", "ax", "cx", "dx", "si"),
    *("di", "orig_ax", "ip", "cs", "flags", "sp", "ss", "fs_base", "gs_base", "ds", "es", "fs"),
    "gs",
)
USER_CS = 0x33
_AX, _ORIG_AX, _IP = NAMES.index("ax"), NAMES.index("orig_ax"), NAMES.index("ip")
_NO_CALL = (1 << 64) - 1
_EINTR = 4
_RESTART = {-512, -513, -514}
_RESTART_BLOCK = -516
_BY_HANDLERS, _BY_SOME = {-514, _RESTART_BLOCK}, -512
_SA_RESTART = 0x10000000
_SYSCALL_LEN = 2
_NATIVE: user_x86_regs_mode = 1  # type: ignore[assignment]


def signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word


def value(raw: bytes, name: str) -> int:
    """One register out of ptrace's bytes."""
    return int(REGS.unpack(raw)[NAMES.index(name)])


def rewound(raw: bytes, *, handler: int | None = None, asleep: Asleep | None = None) -> bytes:
    """The registers from which the thread goes on without the kernel's memory of its call.

    `handler`: the flags (SA_*) of the handler that is to run first, if one is; before most of them
    an interrupted call returns EINTR. `asleep`: the call that holds a restart block.
    """
    words = list(REGS.unpack(raw))
    call, result = signed(words[_ORIG_AX]), signed(words[_AX])
    if call >= 0 and handler is not None and _ended_by(handler, result):
        words[_AX] = -_EINTR & _NO_CALL
    elif asleep is not None:
        words[_AX], words[_IP] = asleep.call, asleep.insn
    elif call >= 0 and (result in _RESTART or result == _RESTART_BLOCK):
        if result == _RESTART_BLOCK and call == number("restart_syscall"):
            words[_AX] = -_EINTR & _NO_CALL
        else:
            words[_AX] = words[_ORIG_AX]
            words[_IP] -= _SYSCALL_LEN
    words[_ORIG_AX] = _NO_CALL
    return REGS.pack(*words)


def _ended_by(flags: int, result: int) -> bool:
    """Whether a handler with these flags ends a call with this result: handle_signal()."""
    return result in _BY_HANDLERS or (result == _BY_SOME and not flags & _SA_RESTART)


def fill(
    entry: user_x86_regs_entry,
    raw: bytes,
    *,
    handler: int | None = None,
    asleep: Asleep | None = None,
) -> None:
    """Write the registers `raw`, rewound, into the message."""
    words = REGS.unpack(rewound(raw, handler=handler, asleep=asleep))
    for name, word in zip(NAMES, words, strict=True):
        setattr(entry, name, word)
    entry.mode = _NATIVE


def pack(entry: user_x86_regs_entry) -> bytes:
    """ptrace's bytes of the registers in a message."""
    words = [getattr(entry, name) for name in NAMES]
    words[_ORIG_AX] = _NO_CALL
    return REGS.pack(*words)
