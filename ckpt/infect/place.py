"""Bytes of a target that nobody uses, and addresses where its window can be.

A segment seldom fills its last page: what follows its end in the mapping is never looked at. Where
that is the program headers say, not zeros. The vdso is such a segment too. Written through
/proc/PID/mem such a page becomes a private copy; nothing else changes.

Never below rsp: red zones, coroutines and alternate stacks are in use.

Source: elf(5), fs/binfmt_elf.c, proc_pid_mem(5).

Not guaranteed: that a program which patches itself leaves its own padding alone.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from typing import Protocol

from ckpt._native import lib
from ckpt.errors import TargetError
from ckpt.infect.stub import MAGIC_BYTES
from ckpt.procfs.maps import Mapping
from ckpt.record import record
from ckpt.units import PAGE, TASK_SIZE, Range, gaps, page_down, page_up

_EHDR = struct.Struct("<4sBB10xHHIQQQIHHHHHH")
_PHDR = struct.Struct("<IIQQQQQQ")
_ELF64, _PT_LOAD, _PHNUM_MAX = 2, 1, 64
_VDSO = "[vdso]"
_LOWEST, _DISTANCE = 1 << 20, 1 << 16
_MAYBE_HUGE = 2 << 20
"""What begins and ends at such an address may be of huge pages, which nobody else can write to."""


@record
class Hole:
    """Unused bytes. `held` is what stands there, `executable` whether code may."""

    range: Range
    held: bytes
    executable: bool
    mapping: Mapping

    def take(self, size: int, align: int) -> Range | None:
        """Take `size` bytes off the front, aligned; None where there is no room."""
        start = self.range.start + -self.range.start % align
        if start + size > self.range.end:
            return None
        self.held = self.held[start + size - self.range.start :]
        self.range = Range(start + size, self.range.end)
        return Range(start, start + size)


@record(frozen=True)
class Place:
    """A taken piece and what stood there before."""

    range: Range
    before: bytes

    @property
    def addr(self) -> int:
        return self.range.start


class Readable(Protocol):
    """What bytes can be read from by their address, as many as there are."""

    def read(self, addr: int, size: int, /) -> bytes: ...


class Memory:
    """One target's memory through /proc/TID/mem, protections disregarded. `tid` must be alive: a
    process's leader may have ended before its threads."""

    def __init__(self, tid: int) -> None:
        self.tid = tid
        try:
            self._lfd = os.open(f"/proc/{tid}/mem", os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise TargetError("its memory can't be opened", pid=tid, why=str(error)) from error

    def read(self, addr: int, size: int) -> bytes:
        """As much as can be read of it."""
        try:
            return os.pread(self._lfd, size, addr)
        except OSError:
            return b""

    def write(self, addr: int, raw: bytes) -> None:
        lib.ckpt_fault_point()
        try:
            done = os.pwrite(self._lfd, raw, addr)
        except OSError as error:
            raise TargetError(
                "its memory can't be written",
                pid=self.tid,
                resource=f"{addr:#x}",
                why=os.strerror(error.errno or 0),
            ) from error
        if done != len(raw):
            raise TargetError("its memory can't be written", pid=self.tid, resource=f"{addr:#x}")

    def fileno(self) -> int:
        return self._lfd

    def close(self) -> None:
        os.close(self._lfd)


def _loads(memory: Readable, start: int) -> tuple[list[tuple[int, int]], int]:
    """(offset, size in the file) of each PT_LOAD of the ELF file whose head is at `start`, and
    where its section headers end."""
    head = memory.read(start, _EHDR.size)
    if len(head) < _EHDR.size:
        return [], 0
    magic, size, *_, phoff, shoff, _, _, phentsize, phnum, shentsize, shnum, _ = _EHDR.unpack(head)
    if magic != b"\x7fELF" or size != _ELF64 or phentsize != _PHDR.size or phnum > _PHNUM_MAX:
        return [], 0
    raw = memory.read(start + phoff, phnum * _PHDR.size)
    found = []
    for i in range(len(raw) // _PHDR.size):
        kind, _, offset, _, _, filesz, memsz, _ = _PHDR.unpack_from(raw, i * _PHDR.size)
        if kind == _PT_LOAD and memsz == filesz:
            found.append((offset, filesz))
    return found, shoff + shentsize * shnum


def vdso_used(memory: Readable, start: int) -> int:
    """How many bytes the vdso at `start` has; 0 if there is none."""
    loads, sections_end = _loads(memory, start)
    return max([sections_end, *(offset + size for offset, size in loads)]) if loads else 0


def vdso_tail(memory: Memory, start: int) -> bytes:
    """What stands behind the vdso at `start` in its last page; empty where that can't be told."""
    used = vdso_used(memory, start) if start else 0
    return memory.read(start + used, page_up(used) - used)


def _tail(mapping: Mapping, loads: Sequence[tuple[int, int]]) -> Range | None:
    """What a file's mapping holds beyond the segment that it is the end of."""
    upto = mapping.pgoff + (mapping.end - mapping.start)
    ends = {
        offset + size
        for offset, size in loads
        if page_down(offset) <= mapping.pgoff and upto - PAGE < offset + size < upto
    }
    if len(ends) != 1:
        return None
    return Range(mapping.start + ends.pop() - mapping.pgoff, mapping.end)


def holes(memory: Memory, mappings: Sequence[Mapping]) -> Iterator[Hole]:
    """The unused bytes of a target, the vdso's first, then ascending; executable ones only, as
    nobody has reason to look at their ends."""
    heads = {(m.device, m.ino): m.start for m in mappings if m.pgoff == 0 and m.ino and m.readable}
    for m in sorted(mappings, key=lambda m: m.path != _VDSO):
        if not (m.executable and m.readable) or m.writable or m.shared or m.end > TASK_SIZE:
            continue
        if not (m.start | m.end) & (_MAYBE_HUGE - 1):
            continue
        if m.path == _VDSO:
            used = vdso_used(memory, m.start)
            tail = Range(m.start + used, m.end) if 0 < used < len(m.range) else None
        elif (m.device, m.ino) in heads:
            tail = _tail(m, _loads(memory, heads[m.device, m.ino])[0])
        else:
            continue
        held = memory.read(tail.start, len(tail)) if tail else b""
        if tail and len(held) == len(tail):
            yield Hole(tail, held, True, m)


class Places:
    """Takes places out of the holes of one target, first fit, looking at no more of its mappings
    than it needs."""

    def __init__(self, memory: Memory, mappings: Sequence[Mapping]) -> None:
        self._memory = memory
        self._more = holes(memory, mappings)
        self._holes: list[Hole] = []
        self.seen: list[tuple[Range, bytes]] = []

    def _hole(self, index: int) -> Hole | None:
        while len(self._holes) <= index:
            hole = next(self._more, None)
            if hole is None:
                return None
            self.seen.append((hole.range, hole.held))
            if MAGIC_BYTES in hole.held:
                hole.held = _unmarked(self._memory, hole)
            self._holes.append(hole)
        return self._holes[index]

    def take(self, size: int, align: int = 8) -> Place | None:
        """`size` bytes, or None where there are none left."""
        index = 0
        while (hole := self._hole(index)) is not None:
            whole, held = hole.range, hole.held
            taken = hole.take(size, align)
            if taken:
                first = taken.start - whole.start
                return Place(taken, held[first : first + size])
            index += 1
        return None


def _unmarked(memory: Memory, hole: Hole) -> bytes:
    """What stood in a hole before a controller that died left its marks there."""
    if hole.mapping.path == _VDSO:
        return bytes(len(hole.held))
    m = hole.mapping
    try:
        lfd = os.open(f"/proc/{memory.tid}/map_files/{m.start:x}-{m.end:x}", os.O_RDONLY)
    except OSError:
        return hole.held
    try:
        offset = hole.range.start - m.start + m.pgoff
        return os.pread(lfd, len(hole.held), offset).ljust(len(hole.held), b"\0")
    finally:
        os.close(lfd)


def window(mappings: Sequence[Mapping], size: int) -> int:
    """An address where `size` bytes have room: the middle of the widest gap, far from everything
    that grows. Raises TargetError where there is none."""
    taken = [m.range for m in mappings if m.end <= TASK_SIZE]
    widest = max(gaps(taken, Range(_LOWEST, TASK_SIZE)), key=len, default=Range(0, 0))
    if len(widest) < size + 2 * _DISTANCE:
        raise TargetError("no room for the parasite in its address space")
    return page_down(widest.start + (len(widest) - size) // 2)
