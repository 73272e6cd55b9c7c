"""Where each component of the extended processor state stands in the XSAVE area.

Ptrace's NT_X86_XSTATE has the standard, not the compacted form: its layout is a property of the CPU
alone, read from leaf 0xD. Components are those that the kernel has enabled in XCR0.

Source: Intel SDM volume 1 chapter 13, AMD APM volume 2 chapter 11.

Not guaranteed: that a component is in use, or that a program has leave to use it (AMX has to be
asked for); XSTATE_BV in the header of an area tells.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckpt.errors import KernelError
from ckpt.record import record

if TYPE_CHECKING:
    from collections.abc import Callable

LEAF = 0xD
X87, SSE = 0, 1
LEGACY = {X87: (0, 160), SSE: (160, 256)}
LEGACY_SIZE = 512 + 64
LARGEST_AREA = 1 << 20
NAMES = {
    0: "x87",
    1: "sse",
    2: "avx",
    3: "mpx bounds",
    4: "mpx csr",
    5: "avx-512 opmask",
    6: "avx-512 zmm_hi256",
    7: "avx-512 hi16_zmm",
    8: "processor trace",
    9: "pkru",
    10: "pasid",
    11: "cet user",
    12: "cet supervisor",
    17: "amx tile configuration",
    18: "amx tile data",
    19: "apx",
}

Leaf = tuple[int, int, int, int]


@record(frozen=True)
class XsaveArea:
    """`size` bytes hold all enabled components; `layout`: component -> (offset, size)."""

    xcr0: int
    size: int
    size_max: int
    layout: dict[int, tuple[int, int]]


def cpuid(leaf: int, subleaf: int = 0) -> Leaf:
    """eax, ebx, ecx, edx of the CPU that this runs on."""
    from ckpt._native import ffi, lib

    out = ffi.new("struct ckpt_cpuid *")
    lib.ckpt_cpuid(leaf, subleaf, out)
    return out.eax, out.ebx, out.ecx, out.edx


def xsave_area() -> XsaveArea:
    """Of this CPU. Raises KernelError where there is no XSAVE: ckpt needs it."""
    from ckpt._native import lib

    return area_of(int(lib.ckpt_xcr0()), cpuid)


def xsave_layout() -> dict[int, tuple[int, int]]:
    """Component -> (offset, size) in the area of NT_X86_XSTATE, x87 and SSE included."""
    return xsave_area().layout


def area_of(xcr0: int, ask: Callable[[int, int], Leaf]) -> XsaveArea:
    """The area from what `ask(leaf, subleaf)` says; refuses what contradicts itself."""
    if xcr0 & 0b11 != 0b11 or ask(0, 0)[0] < LEAF:
        raise KernelError("the processor state can't be read", why="this CPU has no XSAVE")
    _, size, size_max, _ = ask(LEAF, 0)
    layout = dict(LEGACY)
    for component in range(2, 63):
        if not xcr0 >> component & 1:
            continue
        length, offset, flags, _ = ask(LEAF, component)
        if flags & 1:
            continue  # supervisor state: never in a user's area
        if not LEGACY_SIZE <= offset < offset + length <= size:
            name = NAMES.get(component, str(component))
            why = f"{name} is said to be at {offset}, {length} bytes of {size}"
            raise KernelError("the processor state can't be read", resource="CPUID 0xD", why=why)
        layout[component] = (offset, length)
    if not LEGACY_SIZE <= size <= LARGEST_AREA:
        why = f"an area of {size} bytes"
        raise KernelError("the processor state can't be read", resource="CPUID 0xD", why=why)
    return XsaveArea(xcr0, size, size_max, layout)
