"""Unused bytes behind segments, and room for a window; looked up in this very process."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from ckpt.errors import TargetError
from ckpt.infect import entry, place
from ckpt.infect.stub import MAGIC_BYTES, pieces
from ckpt.procfs.maps import Mapping, parse_maps
from ckpt.units import PAGE, TASK_SIZE, Range


@pytest.fixture
def memory() -> Iterator[place.Memory]:
    opened = place.Memory(os.getpid())
    yield opened
    opened.close()


def own_mappings() -> list[Mapping]:
    return parse_maps(Path("/proc/self/maps").read_bytes())


def test_holes_are_behind_every_segment(memory: place.Memory) -> None:
    mappings = own_mappings()
    found = list(place.holes(memory, mappings))
    assert found
    assert found[0].mapping.path == "[vdso]"
    for hole in found:
        m = hole.mapping
        assert m.executable and not m.writable and not m.shared
        assert hole.range.end == m.end and 0 < len(hole.range) < PAGE * 2
        assert hole.held == memory.read(hole.range.start, len(hole.range))
        if m.ino:
            first = m.pgoff + hole.range.start - m.start
            for offset, size in segments(m.file_path):
                inside = offset <= m.pgoff < offset + size
                assert not inside or offset + size == first, (str(m), hole.range)


def segments(path: str) -> list[tuple[int, int]]:
    with Path(path).open("rb") as stream:
        elf = ELFFile(io.BytesIO(stream.read()))
        return [
            (segment["p_offset"], segment["p_filesz"])
            for segment in elf.iter_segments("PT_LOAD")
            if segment["p_flags"] & 1
        ]


def test_the_vdso_ends_where_its_sections_end(memory: place.Memory) -> None:
    vdso = next(m for m in own_mappings() if m.path == "[vdso]")
    tail = place.vdso_tail(memory, vdso.start)
    assert 0 < len(tail) < PAGE
    assert not any(tail)
    assert place.vdso_tail(memory, vdso.start + 8) == b""
    assert place.vdso_tail(memory, 0) == b""


def test_places_don_t_overlap_and_repeat(memory: place.Memory) -> None:
    mappings = own_mappings()
    wanted = [(1200, 8), (304, 8), (836, 64), (304, 8), (836, 64), (64, 64)]
    first, again = (
        [places.take(size, align) for size, align in wanted]
        for places in (place.Places(memory, mappings), place.Places(memory, mappings))
    )
    assert first == again
    taken = sorted((p.range for p in first if p), key=lambda r: r.start)
    assert len(taken) >= 2
    assert all(a.end <= b.start for a, b in pairwise(taken))
    for p, (size, align) in zip(first, wanted, strict=True):
        if p:
            assert len(p.range) == size == len(p.before) and p.addr % align == 0
            assert p.before == memory.read(p.addr, size)


class Segments(place.Memory):
    """The memory of a static program: the vdso and one segment, each with room behind its end."""

    def __init__(self, behind_vdso: int, behind_code: int) -> None:
        self.tid = 0
        self.mappings: list[Mapping] = []
        self._bytes: dict[int, bytes] = {}
        for number, room in enumerate((behind_vdso, behind_code)):
            start, size = (number + 1) << 24, 2 * PAGE
            head = place._EHDR.pack(b"\x7fELF", 2, 1, 3, 62, 1, 0, 64, 0, 0, 64, 56, 1, 64, 0, 0)
            load = place._PHDR.pack(1, 5, 0, 0, 0, size - room, size - room, PAGE)
            self._bytes[start] = (head + load).ljust(size, b"\0")
            path = "/program" if number else "[vdso]"
            self.mappings.append(Mapping(start, start + size, "r-xp", 0, (0, 0), number, path))

    def read(self, addr: int, size: int) -> bytes:
        start = max(start for start in self._bytes if start <= addr)
        return self._bytes[start][addr - start :][:size]


def test_threads_of_a_static_program_find_room_before_frames_do() -> None:
    first, second = (len(piece) for piece in pieces())
    memory = Segments(first + 200, second + 200)
    _, leader, further = entry.choose_sites(memory, memory.mappings)
    assert further is not None
    assert len(leader.code.range) == first and leader.xstate is None
    memory = Segments(first + 200, second - 200)
    assert entry.choose_sites(memory, memory.mappings)[2] is None


def test_no_place_for_what_is_larger_than_a_page(memory: place.Memory) -> None:
    assert place.Places(memory, own_mappings()).take(3 * PAGE) is None


def test_taking_from_a_hole() -> None:
    mapping = own_mappings()[0]
    hole = place.Hole(Range(0x1003, 0x1100), bytes(range(0xFD)), True, mapping)
    assert hole.take(16, 8) == Range(0x1008, 0x1018)
    assert (hole.range, hole.held) == (Range(0x1018, 0x1100), bytes(range(0x15, 0xFD)))
    assert hole.take(0xE9, 1) is None
    assert hole.take(0xE8, 8) == Range(0x1018, 0x1100)


def test_marks_of_a_killed_controller_are_no_content(memory: place.Memory) -> None:
    """What is put back at the end is what stood there before it."""
    vdso = next(m for m in own_mappings() if m.path == "[vdso]")
    hole = place.Hole(Range(vdso.end - 64, vdso.end), MAGIC_BYTES + b"x" * 56, True, vdso)
    assert place._unmarked(memory, hole) == bytes(64)


def mapping(start: int, end: int) -> Mapping:
    return Mapping(start, end, "rw-p", 0, (0, 0), 0, "")


def test_window_far_from_everything() -> None:
    taken = [mapping(1 << 21, 1 << 22), mapping(1 << 40, 1 << 41), mapping(1 << 46, TASK_SIZE)]
    start = place.window(taken, 0x20000)
    assert start % PAGE == 0
    assert 1 << 44 < start < (1 << 46) - (1 << 44)


def test_no_window_in_a_full_address_space() -> None:
    with pytest.raises(TargetError):
        place.window([mapping(1 << 20, TASK_SIZE)], PAGE)
