"""The way home: with which registers, and how, a stopped thread goes on by itself.

A thread that stood in a system call has its restart still before it, which the kernel would see to
on the way back to user mode. A thread that comes home from the stub does that itself:

    rax at the stop             rip       rax                     way
    -512, -513, -514            -2        orig_rax                frame
    -516                        -2        219 (restart_syscall)   registers
    -514, -516, and a handler   same      -4                      frame
      is about to run
    219 before `syscall`        same      same                    registers
    anything else               same      same                    frame

*Frame*: rt_sigreturn(2) on a prepared signal frame; all changes at once. It destroys the restart
block, therefore *registers*: mask, flags and registers one after another.

orig_rax counts: without a system call under way the values of rax mean nothing. Calls that the
kernel itself would not make again stand with -514 (ckpt/_native/src/again.h).

Source: arch/x86/kernel/signal.c (arch_do_signal_or_restart, restore_sigcontext),
arch/x86/kernel/fpu/signal.c, include/linux/errno.h.

Not guaranteed: -512 means EINTR as well before a handler without SA_RESTART, and so does whatever
is in the table before one whose signal comes after the stop; here the call begins again.
"""

from __future__ import annotations

import errno
import struct
from functools import cache
from operator import itemgetter

from ckpt.infect.batch import number
from ckpt.record import record

REGS = struct.Struct("<27Q")
(R15, R14, R13, R12, RBP, RBX, R11, R10, R9, R8, RAX, RCX, RDX, RSI, RDI, ORIG_RAX, RIP) = range(17)
CS, EFLAGS, RSP, SS = 17, 18, 19, 20
NO_CALL = (1 << 64) - 1
SYSCALL_INSN = b"\x0f\x05"

_RESTARTED = {512, 513, 514}
_NOT_BY_HANDLERS = {514, 516}
_BY_BLOCK = 516
_SIGNED = 1 << 63

_WORD, _ENTERED = struct.Struct("<Q"), struct.Struct("<QQ")
_EINTR = (1 << 64) - errno.EINTR
_FRAME = struct.Struct("<QQQiiQ18QHxxxxH5Q64xQ")
_IN_FRAME = itemgetter(
    *(R8, R9, R10, R11, R12, R13, R14, R15, RDI, RSI, RBP, RBX, RDX, RAX, RCX, RSP, RIP),
    *(EFLAGS, CS, SS),
)
FRAME_SIZE = _FRAME.size
XSTATE_ALIGN = 64
_SW_RESERVED = 464
_XSTATE_BV = 512
_LEGACY = 576
_ASKED_FOR = 17  # AMX and what follows: a process must ask for it
_MAGIC1, _MAGIC2 = 0x46505853, 0x46505845
_UC_FLAGS = 0x7  # xstate follows, ss is valid, ss is to be restored as it is
_BAD_STACK = 0x7FFFFFFF  # no mode of sigaltstack(2): the alternate stack is left alone


@record(frozen=True)
class Way:
    """`registers` as the stub loads them (r15 to rdi, flags, rsp, rip), `regs` the same as struct
    user_regs_struct; `by_frame`: rt_sigreturn is possible."""

    regs: tuple[int, ...]
    sigmask: int
    by_frame: bool

    @property
    def registers(self) -> tuple[int, ...]:
        r = self.regs
        return (*r[:15], r[EFLAGS], r[RSP], r[RIP])


def rip(regs: bytes) -> int:
    """Where a thread with these registers stands."""
    word: int = _WORD.unpack_from(regs, RIP * 8)[0]
    return word


def home(regs: bytes, sigmask: int, insn: bytes, *, signalled: bool) -> Way:
    """The way home for a thread that stopped with these registers (struct user_regs_struct) and
    mask. `insn`: the two bytes at rip. `signalled`: a handler is to run before anything else."""
    r = list(REGS.unpack(regs))
    code = (1 << 64) - r[RAX] if r[RAX] & _SIGNED else 0
    in_call = not r[ORIG_RAX] & _SIGNED
    restart = number("restart_syscall")
    by_frame = True
    if in_call and signalled and code in _NOT_BY_HANDLERS:
        r[RAX] = _EINTR
    elif in_call and code in _RESTARTED:
        r[RIP] -= 2
        r[RAX] = r[ORIG_RAX]
    elif in_call and code == _BY_BLOCK:
        r[RIP] -= 2
        r[RAX] = restart
        by_frame = False
    elif r[RAX] == restart and insn == SYSCALL_INSN:
        by_frame = False
    r[ORIG_RAX] = NO_CALL
    return Way(tuple(r), sigmask, by_frame)


def entered(regs: bytes, rip: int) -> bytes:
    """`regs` with rip in the stub, and no call that would be restarted."""
    return regs[: ORIG_RAX * 8] + _ENTERED.pack(NO_CALL, rip) + regs[CS * 8 :]


def frame(way: Way, xstate_addr: int) -> bytes:
    """The signal frame (struct ucontext, FRAME_SIZE bytes): what rsp points to at rt_sigreturn.
    `xstate_addr` is where `xstate_image` stands."""
    return _FRAME.pack(
        *(_UC_FLAGS, 0, 0, _BAD_STACK, 0, 0),
        *_IN_FRAME(way.regs),
        *(0, 0, 0, 0, xstate_addr, way.sigmask),
    )


def xstate_sizes(layout: dict[int, tuple[int, int]]) -> tuple[int, ...]:
    """How much room for `xstate_image` is worth looking for: for everything that is there without
    being asked for, then for AVX."""
    ends = {c: offset + size for c, (offset, size) in layout.items() if c < _ASKED_FOR}
    return (max([_LEGACY, *ends.values()]) + 4, ends.get(2, _LEGACY) + 4)


def xstate_image(xstate: bytes, layout: dict[int, tuple[int, int]]) -> bytes:
    """The XSAVE area of NT_X86_XSTATE as a signal frame wants it, no longer than the components
    in use (`layout`: component -> offset, size). Must stand 64-byte aligned. Empty where the area
    is not one that sigreturn would take."""
    if len(xstate) < _LEGACY:
        return b""
    features = struct.unpack_from("<Q", xstate, _SW_RESERVED)[0]
    in_use = struct.unpack_from("<Q", xstate, _XSTATE_BV)[0]
    size, features = _extent(in_use, features, tuple(layout.items()))
    if in_use & ~features or size > len(xstate):
        return b""
    image = bytearray(xstate[:size]) + struct.pack("<I", _MAGIC2)
    struct.pack_into("<IIQI28x", image, _SW_RESERVED, _MAGIC1, size + 4, features, size)
    return bytes(image)


@cache
def _extent(
    in_use: int, features: int, layout: tuple[tuple[int, tuple[int, int]], ...]
) -> tuple[int, int]:
    """Where the components in use end, and which of the features end there or before."""
    ends = {c: offset + size for c, (offset, size) in layout}
    size = max([_LEGACY, *(end for c, end in ends.items() if in_use >> c & 1)])
    return size, features & sum(1 << c for c, end in ends.items() if end <= size)


def signalled(sigmask: int, caught: int, *queues: tuple[bytes, ...]) -> bool:
    """Whether one of these 128-byte siginfos is of a signal that `sigmask` lets through and that is
    `caught` (SigCgt of proc_pid_status(5))."""
    numbers = (struct.unpack_from("<i", raw)[0] for queue in queues for raw in queue)
    return any(caught & ~sigmask & 1 << (signo - 1) for signo in numbers)
