"""FPU, SSE, AVX, AVX-512 and PKRU state, between ptrace's NT_X86_XSTATE and the image's message.

NT_X86_XSTATE is the non-compacted XSAVE area: 512 bytes of FXSAVE, a 64-byte header whose first
word says which components hold state, then each component where CPUID leaf 0xD puts it. The
message has one field for each component that it knows.

Source: Intel SDM volume 1 chapter 13, arch/x86/kernel/fpu/xstate.c.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ckpt.images.pb.core_x86_pb2 import user_x86_fpregs_entry

_LEGACY = struct.Struct("<HHHHQQII")
_HEADER_AT = 512
_X87_AND_SSE = 0b11

COMPONENTS = {
    2: ("ymmh_space", "I", 256),
    3: ("bndreg_state", "Q", 64),
    4: ("bndcsr_state", "Q", 64),
    5: ("opmask_reg", "Q", 64),
    6: ("zmm_upper", "Q", 512),
    7: ("hi16_zmm", "Q", 1024),
    9: ("pkru", "I", 8),
}
"""Component number -> field, its element, bytes."""

KNOWN = _X87_AND_SSE | sum(1 << n for n in COMPONENTS)


class FpuError(ValueError):
    """State that can't be written to, or taken from, an image."""


def unknown_components(xstate: bytes) -> int:
    """Bits of components in use that the image can't hold (AMX tiles, for instance)."""
    return int(struct.unpack_from("<Q", xstate, _HEADER_AT)[0]) & ~KNOWN


def fill(
    entry: user_x86_fpregs_entry, xstate: bytes, layout: Mapping[int, tuple[int, int]]
) -> None:
    """Write `xstate` into the message; `layout` is component -> (offset, size) on this CPU."""
    (
        entry.cwd,
        entry.swd,
        entry.twd,
        entry.fop,
        entry.rip,
        entry.rdp,
        entry.mxcsr,
        entry.mxcsr_mask,
    ) = _LEGACY.unpack_from(xstate)
    entry.st_space.extend(struct.unpack_from("<32I", xstate, 32))
    entry.xmm_space.extend(struct.unpack_from("<64I", xstate, 160))
    entry.padding.extend(struct.unpack_from("<24I", xstate, 416))
    in_use = struct.unpack_from("<Q", xstate, _HEADER_AT)[0]
    entry.xsave.xstate_bv = in_use
    for number, (field, code, size) in COMPONENTS.items():
        if number not in layout or layout[number][0] + size > len(xstate):
            continue
        raw = xstate[layout[number][0] : layout[number][0] + size]
        if not in_use >> number & 1:
            raw = bytes(size)
        words = struct.unpack(f"<{size // struct.calcsize(code)}{code}", raw)
        getattr(entry.xsave, field).extend(words)


def pack(entry: user_x86_fpregs_entry, size: int, layout: Mapping[int, tuple[int, int]]) -> bytes:
    """NT_X86_XSTATE bytes, `size` of them, for this CPU. Raises FpuError where it can't hold the
    state or the message is not one."""
    raw = bytearray(size)
    if len(entry.st_space) != 32 or len(entry.xmm_space) != 64 or len(entry.padding) > 24:
        raise FpuError("the FPU state in the image is damaged")
    _LEGACY.pack_into(
        raw,
        0,
        entry.cwd & 0xFFFF,
        entry.swd & 0xFFFF,
        entry.twd & 0xFFFF,
        entry.fop & 0xFFFF,
        entry.rip,
        entry.rdp,
        entry.mxcsr,
        entry.mxcsr_mask,
    )
    struct.pack_into("<32I", raw, 32, *entry.st_space)
    struct.pack_into("<64I", raw, 160, *entry.xmm_space)
    in_use = entry.xsave.xstate_bv if entry.HasField("xsave") else _X87_AND_SSE
    if in_use & ~KNOWN:
        raise FpuError(f"FPU components {in_use & ~KNOWN:#x} can't be restored")
    struct.pack_into("<Q", raw, _HEADER_AT, in_use)
    for number, (field, code, length) in COMPONENTS.items():
        if not in_use >> number & 1:
            continue
        words = getattr(entry.xsave, field)
        if number not in layout or layout[number][0] + length > size:
            raise FpuError(f"this CPU lacks the FPU component {number} ({field})")
        if len(words) * struct.calcsize(code) > length:
            raise FpuError(f"the FPU state in the image is damaged ({field})")
        struct.pack_into(f"<{len(words)}{code}", raw, layout[number][0], *words)
    return bytes(raw)
