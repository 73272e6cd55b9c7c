"""The vdso: code that the kernel maps into every task, an ELF file in memory, with its data.

Kernels differ in it: in how many pages it and its data have, in which functions there are, and
where. What is read here may come from an image, and so is hostile: every offset is bounded.

Source: vdso(7), elf(5), arch/x86/entry/vdso/.
"""

from __future__ import annotations

import os
import struct
from contextlib import closing
from typing import TYPE_CHECKING

from ckpt.infect import place
from ckpt.mem.vma import VDSO, VVARS, Status
from ckpt.procfs.maps import parse_maps
from ckpt.procfs.reader import ProcDir
from ckpt.record import record

if TYPE_CHECKING:
    from collections.abc import Iterator

_EHDR = struct.Struct("<16s2HI3QI6H")
_PHDR = struct.Struct("<2I6Q")
_DYN = struct.Struct("<qQ")
_SYM = struct.Struct("<IBBHQQ")
_MAGIC = b"\x7fELF\x02\x01"
"""64 bits, little-endian."""
_PT_LOAD, _PT_DYNAMIC = 1, 2
_DT_HASH, _DT_STRTAB, _DT_SYMTAB, _DT_STRSZ = 4, 5, 6, 10
_STT_FUNC, _UNDEFINED = 2, 0
_SYMBOLS_MAX, _NAME_MAX = 256, 64
LONGEST = 1 << 16
"""Bytes. Those of today's kernels have two pages."""


@record(frozen=True)
class Function:
    """It begins at `offset` of the vdso and has `size` bytes; `names` without their `__vdso_`."""

    offset: int
    size: int
    names: frozenset[str]


@record(frozen=True)
class Vdso:
    """All of its pages."""

    raw: bytes

    def read(self, offset: int, size: int) -> bytes:
        """As much of it as there is."""
        return self.raw[offset : offset + size]

    @property
    def used(self) -> int:
        """How many bytes of it are the kernel's: what follows is nobody's."""
        return min(place.vdso_used(self, 0) or len(self.raw), len(self.raw))

    def same(self, other: Vdso) -> bool:
        """Whether both are of one kernel."""
        return self.raw[: self.used] == other.raw[: other.used]

    @property
    def functions(self) -> tuple[Function, ...]:
        """What it exports, ascending. Raises ValueError where that can't be read."""
        try:
            symbols = sorted(self._symbols())
        except (struct.error, LookupError, OverflowError, UnicodeDecodeError) as error:
            raise ValueError(f"its table of functions is damaged ({error})") from error
        ends = [*(offset for offset, _, _ in symbols), self.used]
        found: dict[int, Function] = {}
        for offset, size, name in symbols:
            room = min(end for end in ends if end > offset) - offset
            before = found.get(offset)
            names = {name} if before is None else {name, *before.names}
            found[offset] = Function(offset, min(size or room, room), frozenset(names))
        if not found:
            raise ValueError("it has no functions")
        return tuple(found.values())

    def _symbols(self) -> Iterator[tuple[int, int, str]]:
        """Offset, size and name of each function."""
        base, tables = self._tables()
        nr_symbols = struct.unpack_from("<2I", self.raw, tables[_DT_HASH] - base)[1]
        if nr_symbols > _SYMBOLS_MAX:
            raise ValueError(f"it has {nr_symbols} symbols")
        strings = self.read(tables[_DT_STRTAB] - base, tables[_DT_STRSZ])
        for number in range(nr_symbols):
            at = tables[_DT_SYMTAB] - base + number * _SYM.size
            name_at, info, _, section, value, size = _SYM.unpack_from(self.raw, at)
            if info & 0xF != _STT_FUNC or section == _UNDEFINED:
                continue
            if not 0 < value - base < self.used:
                raise ValueError(f"a function is at {value:#x}")
            name = strings[name_at : name_at + _NAME_MAX].split(b"\0")[0].decode("ascii")
            yield value - base, size, name.removeprefix("__vdso_")

    def _tables(self) -> tuple[int, dict[int, int]]:
        """Its address in its own terms, and the dynamic section."""
        head = _EHDR.unpack_from(self.raw)
        if not head[0].startswith(_MAGIC) or head[9] != _PHDR.size:
            raise ValueError("it is no ELF file of 64 bits")
        base, dynamic = None, b""
        for number in range(head[10]):
            segment = _PHDR.unpack_from(self.raw, head[5] + number * _PHDR.size)
            if segment[0] == _PT_LOAD and base is None:
                base = segment[3] - segment[2]
            elif segment[0] == _PT_DYNAMIC:
                dynamic = self.read(segment[2], segment[5])
        found = dict(_DYN.iter_unpack(dynamic[: len(dynamic) // _DYN.size * _DYN.size]))
        wanted = (_DT_HASH, _DT_STRTAB, _DT_SYMTAB, _DT_STRSZ)
        if base is None or any(found.get(tag, -1) < base for tag in wanted[:3]):
            raise ValueError("its tables are missing")
        return base, {tag: found[tag] for tag in wanted}


@record(frozen=True)
class KernelCode:
    """What a kernel maps into a task: sizes and kinds of all mappings, ascending, and the vdso,
    None where there is none."""

    mappings: tuple[tuple[int, Status], ...]
    vdso: Vdso | None

    @property
    def size(self) -> int:
        """Of all mappings together, in bytes."""
        return sum(size for size, _ in self.mappings)


def this_kernel() -> KernelCode:
    """As this process has it."""
    with ProcDir(os.getpid()) as proc:
        found = [m for m in parse_maps(proc.read("maps")) if m.path in (VDSO, *VVARS)]
    kinds = tuple((len(m.range), Status.VDSO if m.path == VDSO else Status.VVAR) for m in found)
    code = [m.range for m in found if m.path == VDSO]
    if len(code) != 1:
        return KernelCode(kinds, None)
    with closing(place.Memory(os.getpid())) as memory:
        return KernelCode(kinds, Vdso(memory.read(code[0].start, len(code[0]))))
