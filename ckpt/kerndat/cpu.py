"""This CPU, as cpuinfo.img records it, and whether another one can run what ran here.

Source: CRIU's images/cpuinfo.proto and its documentation of --cpu-cap.

Three questions, each asked if it is in `caps`: `fpu`, whether the FPU's saved form is understood;
`ins`, whether every instruction that was there is here; `cpu`, whether all capabilities are equal.
"More" is no mismatch for the first two: a richer CPU runs what a poorer one began.

Not guaranteed: that a program which asked CPUID once finds what it remembers; and all CPUs of one
machine are taken to be equal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckpt.errors import ImageError
from ckpt.kerndat import cpufeature as feature
from ckpt.kerndat.xsave import Leaf, area_of, cpuid
from ckpt.record import record

if TYPE_CHECKING:
    from collections.abc import Callable, Set

    from ckpt.images.pb.cpuinfo_pb2 import cpuinfo_entry

VENDORS = {b"GenuineIntel": 1, b"AuthenticAMD": 2}
INTEL, AMD = 1, 2
IMAGE = "cpuinfo.img"
# x87 to hi16_zmm, and pkru: what core-N.img has fields for. A task that uses more is not dumped.
RECORDED_COMPONENTS = 0x2FF


@record(frozen=True)
class CpuInfo:
    """One CPU. `words` are always NR_WORDS; what a version-1 image lacks stands as None."""

    vendor: int
    family: int
    model: int
    stepping: int
    model_id: str
    words: tuple[int | None, ...]
    xcr0: int = 0
    xsave_size: int = 0
    xsave_size_max: int = 0

    def has(self, place: tuple[int, int]) -> bool:
        """Whether bit place[1] of word place[0] is set."""
        return bool((self.words[place[0]] or 0) >> place[1] & 1)


def this_cpu() -> CpuInfo:
    """The CPU that the caller runs on."""
    from ckpt._native import lib

    return describe(cpuid, int(lib.ckpt_xcr0()))


def describe(ask: Callable[[int, int], Leaf], xcr0: int) -> CpuInfo:
    """A CPU from what `ask(leaf, subleaf)` says."""
    top, *name = ask(0, 0)
    vendor = VENDORS.get(
        b"".join(word.to_bytes(4, "little") for word in (name[0], name[2], name[1]))
    )
    top_extended = ask(0x8000_0000, 0)[0]
    signature = ask(1, 0)[0]
    base_family, model = signature >> 8 & 0xF, signature >> 4 & 0xF
    family = base_family + (signature >> 20 & 0xFF if base_family == 0xF else 0)
    if family >= 6:
        model += (signature >> 16 & 0xF) << 4
    words = [0] * feature.NR_WORDS
    for number, place in feature.PLACES.items():
        if place.leaf <= (top_extended if place.leaf >> 31 else top):
            words[number] = ask(place.leaf, place.subleaf)[place.register]
    words[feature.LINUX_WORD] = 1 << feature.NOPL | 1 << feature.CPUID
    if (vendor == INTEL and family == 6) or (vendor == AMD and family >= 0x10):
        words[feature.LINUX_WORD] |= 1 << feature.REP_GOOD
    if vendor == AMD:
        words[0] &= ~(1 << 31)  # a private 3DNow mark, which has a place of its own
    area = area_of(xcr0, ask)
    return CpuInfo(
        vendor or 0,
        family,
        model,
        signature & 0xF,
        _brand(ask) if top_extended >= 0x8000_0004 else "",
        tuple(words),
        xcr0,
        area.size,
        area.size_max,
    )


def _brand(ask: Callable[[int, int], Leaf]) -> str:
    raw = b"".join(word.to_bytes(4, "little") for n in range(3) for word in ask(0x8000_0002 + n, 0))
    return raw.split(b"\0")[0].decode("ascii", "replace").strip()


def mismatches(recorded: CpuInfo, here: CpuInfo, caps: Set[str]) -> list[str]:
    """Why what ran on `recorded` must not run `here`, by the questions in `caps`; empty: it may."""
    found: list[str] = []
    if "fpu" in caps:
        for name, place in (
            ("x87", feature.FPU),
            ("fxsr", feature.FXSR),
            ("xsave", feature.OSXSAVE),
        ):
            if recorded.has(place) and not here.has(place):
                found.append(f"the FPU state was saved with {name}, which is missing here")
        lost = recorded.xcr0 & ~here.xcr0 & RECORDED_COMPONENTS
        if lost:
            found.append(f"FPU state components {lost:#x} are missing here")
    if "ins" in caps:
        for word, (then, now) in enumerate(zip(recorded.words, here.words, strict=True)):
            missing = (then or 0) & ~(now or 0) & feature.instruction_mask(word)
            found += [
                f"instructions of {name} are missing here"
                for name in feature.names_of(word, missing)
            ]
    if "cpu" in caps:
        if recorded.vendor != here.vendor:
            found.append("the vendor differs")
        for word, (then, now) in enumerate(zip(recorded.words, here.words, strict=True)):
            if then is not None and now is not None and then != now:
                names = ", ".join(feature.names_of(word, then ^ now))
                found.append(f"capabilities differ: {names}")
    return found


def to_message(cpu: CpuInfo) -> cpuinfo_entry:
    """The message of cpuinfo.img."""
    from ckpt.images.pb.cpuinfo_pb2 import cpuinfo_entry

    message = cpuinfo_entry()
    x86 = message.x86_entry.add()
    # The format knows two makers and no unknown one on write.
    x86.vendor_id = x86.INTEL if cpu.vendor == INTEL else x86.AMD
    x86.cpu_family = cpu.family
    x86.model = cpu.model
    x86.stepping = cpu.stepping
    x86.capability_ver = 2
    x86.capability.extend(word or 0 for word in cpu.words)
    if cpu.model_id:
        x86.model_id = cpu.model_id
    x86.xfeatures_mask = cpu.xcr0
    x86.xsave_size = cpu.xsave_size
    x86.xsave_size_max = cpu.xsave_size_max
    return message


def from_message(message: cpuinfo_entry) -> CpuInfo:
    """The CPU of an image. Raises ImageError for what is no x86 CPU or of an unknown version."""
    if len(message.x86_entry) != 1:
        why = f"{len(message.x86_entry)} x86 CPUs, expected one"
        raise ImageError("can't be compared with this CPU", resource=IMAGE, why=why)
    x86 = message.x86_entry[0]
    nr_words = {1: feature.NR_WORDS_V1, 2: feature.NR_WORDS}.get(x86.capability_ver)
    if nr_words is None or len(x86.capability) != nr_words or x86.vendor_id not in (INTEL, AMD):
        why = (
            f"vendor {x86.vendor_id}, capability version {x86.capability_ver}"
            f" with {len(x86.capability)} words"
        )
        raise ImageError("unknown form", resource=IMAGE, why=why)
    padding = (None,) * (feature.NR_WORDS - nr_words)
    return CpuInfo(
        x86.vendor_id,
        x86.cpu_family,
        x86.model,
        x86.stepping,
        x86.model_id,
        (*x86.capability, *padding),
        x86.xfeatures_mask,
        x86.xsave_size,
        x86.xsave_size_max,
    )
