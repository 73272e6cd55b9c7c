"""The CPU's capabilities in the words of CRIU's cpuinfo.img, and which of them programs rely on.

A word is one register of one CPUID leaf, at the place that Linux once gave it; word 3 is Linux's
own invention, of which the image holds three bits. Names are those of /proc/cpuinfo.

Source: arch/x86/include/asm/cpufeatures.h; the format's places differ from today's kernel in words
11 (leaf 7 ecx) and 16 (leaf 0xF edx) and 18 words later on nothing moves any more.
"""

from __future__ import annotations

from typing import NamedTuple

NR_WORDS = 19
NR_WORDS_V1 = 12
EAX, EBX, ECX, EDX = range(4)
DEFAULT_CPU_CAP = frozenset({"fpu", "ins"})
"""What --cpu-cap is where it is not given."""


class Place(NamedTuple):
    """Where a word comes from."""

    leaf: int
    subleaf: int
    register: int


PLACES = {
    0: Place(0x1, 0, EDX),
    1: Place(0x8000_0001, 0, EDX),
    4: Place(0x1, 0, ECX),
    6: Place(0x8000_0001, 0, ECX),
    9: Place(0x7, 0, EBX),
    10: Place(0xD, 1, EAX),
    11: Place(0x7, 0, ECX),
    12: Place(0xF, 1, EDX),
    13: Place(0x8000_0008, 0, EBX),
    14: Place(0x6, 0, EAX),
    15: Place(0x8000_000A, 0, EDX),
    16: Place(0xF, 0, EDX),
    17: Place(0x8000_0007, 0, EBX),
    18: Place(0x7, 0, EDX),
}

LINUX_WORD = 3
REP_GOOD, NOPL, CPUID = 16, 20, 25
FPU, FXSR, OSXSAVE = (0, 0), (0, 24), (4, 27)

# Bits that stand for instructions a program can use, by word. What only the kernel can use (paging,
# virtualisation, power) may differ between two machines without a program's notice.
INSTRUCTIONS: dict[int, dict[int, str]] = {
    0: {0: "fpu", 4: "tsc", 8: "cx8", 11: "sep", 15: "cmov", 19: "clflush", 23: "mmx", 24: "fxsr"}
    | {25: "sse", 26: "sse2"},
    1: {11: "syscall", 22: "mmxext", 27: "rdtscp", 30: "3dnowext", 31: "3dnow"},
    3: {REP_GOOD: "rep_good", NOPL: "nopl"},
    4: {0: "pni", 1: "pclmulqdq", 3: "monitor", 9: "ssse3", 12: "fma", 13: "cx16", 19: "sse4_1"}
    | {20: "sse4_2", 22: "movbe", 23: "popcnt", 25: "aes", 26: "xsave", 27: "osxsave", 28: "avx"}
    | {29: "f16c", 30: "rdrand"},
    6: {5: "abm", 6: "sse4a", 7: "misalignsse", 8: "3dnowprefetch", 11: "xop", 16: "fma4"}
    | {21: "tbm"},
    9: {0: "fsgsbase", 3: "bmi1", 4: "hle", 5: "avx2", 8: "bmi2", 9: "erms", 11: "rtm", 14: "mpx"}
    | {16: "avx512f", 17: "avx512dq", 18: "rdseed", 19: "adx", 21: "avx512ifma"}
    | {23: "clflushopt", 24: "clwb", 26: "avx512pf", 27: "avx512er", 28: "avx512cd"}
    | {29: "sha_ni", 30: "avx512bw", 31: "avx512vl"},
    10: {0: "xsaveopt", 1: "xsavec", 2: "xgetbv1", 3: "xsaves"},
    11: {1: "avx512vbmi", 4: "ospke", 5: "waitpkg", 6: "avx512_vbmi2", 8: "gfni", 9: "vaes"}
    | {10: "vpclmulqdq", 11: "avx512_vnni", 12: "avx512_bitalg", 14: "avx512_vpopcntdq"}
    | {22: "rdpid", 25: "cldemote", 27: "movdiri", 28: "movdir64b"},
    18: {2: "avx512_4vnniw", 3: "avx512_4fmaps", 4: "fsrm", 8: "avx512_vp2intersect"}
    | {14: "serialize", 16: "tsxldtrk", 22: "amx_bf16", 23: "avx512_fp16", 24: "amx_tile"}
    | {25: "amx_int8"},
}


def names_of(word: int, bits: int) -> list[str]:
    """The set bits of one word by their names, those without one by number."""
    known = INSTRUCTIONS.get(word, {})
    return [known.get(n, f"word {word} bit {n}") for n in range(32) if bits >> n & 1]


def instruction_mask(word: int) -> int:
    """The bits of one word that stand for instructions."""
    return sum(1 << bit for bit in INSTRUCTIONS.get(word, {}))
