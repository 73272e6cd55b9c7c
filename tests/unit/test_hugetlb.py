"""Huge pages of hugetlbfs in flags and images, and how many of them a restore takes."""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ckpt.errors import RestoreError
from ckpt.files.memfd import HugeMemfd
from ckpt.images.pb.vma_pb2 import vma_entry
from ckpt.kerndat import hugetlb
from ckpt.mem import hugefile, vma
from ckpt.mem.build import NOTHING, Memory, Pages, plan_memory
from ckpt.mem.missing.split import may_be_late, shares
from ckpt.mem.vma import MAP_ANONYMOUS, MAP_NORESERVE, MAP_PRIVATE, MAP_SHARED, Backing, Status, Vma
from ckpt.restore.hugepages import refuse_shortage, wanted
from ckpt.units import PAGE, Range

HUGE = 2 << 20
FLAGS = hugetlb.MAP_HUGETLB | hugetlb.size_bits(HUGE)


def mapping(first: int, nr: int, flags: int, backing: Backing, shmid: int = 0) -> Vma:
    where = Range(first * HUGE, (first + nr) * HUGE)
    return Vma(where, 3, FLAGS | flags, Status.REGULAR, shmid=shmid, backing=backing)


def contents(addr: int, nr_pages: int) -> Pages:
    return Pages(Range(addr, addr + nr_pages * PAGE), 0, 0)


@pytest.mark.parametrize("size", [64 << 10, HUGE, 1 << 30])
@pytest.mark.parametrize("mark", [hugetlb.MAP_HUGETLB, hugetlb.MFD_HUGETLB, hugetlb.SHM_HUGETLB])
def test_flags_tell_a_size(size: int, mark: int) -> None:
    assert hugetlb.page_size(mark | hugetlb.size_bits(size), mark) == size
    assert hugetlb.page_size(hugetlb.size_bits(size), mark) == 0
    assert hugetlb.page_size(mark, mark) == hugetlb.USUAL
    for bits in (1, 12, 63):
        with pytest.raises(ValueError, match="huge pages"):
            hugetlb.page_size(mark | bits << hugetlb.SIZE_SHIFT, mark)


@pytest.mark.parametrize(
    ("start", "end", "bits"),
    [(HUGE + PAGE, 2 * HUGE, 21), (HUGE, 2 * HUGE - PAGE, 21), (HUGE, 2 * HUGE, 30), (0, HUGE, 63)],
)
def test_a_mapping_that_can_not_be(start: int, end: int, bits: int) -> None:
    flags = MAP_PRIVATE | MAP_ANONYMOUS | hugetlb.MAP_HUGETLB | bits << hugetlb.SIZE_SHIFT
    entry = vma_entry(start=start, end=end, pgoff=0, shmid=0, prot=3, flags=flags, fd=-1)
    entry.status = int(Status.REGULAR | Status.ANON_PRIVATE)
    with pytest.raises(vma.VmaError, match="huge pages"):
        vma.from_entry(entry)


def test_it_is_mapped_as_what_it_was() -> None:
    v = mapping(1, 2, MAP_PRIVATE, Backing.NONE)
    plan = plan_memory(Memory((v,), ()), NOTHING, lambda *_: [])
    assert plan.map[0].flags & (FLAGS | MAP_ANONYMOUS) == FLAGS | MAP_ANONYMOUS
    small = Memory((Vma(v.range, 3, MAP_PRIVATE, v.status),), ())
    assert plan_memory(Memory((v,), ()), small, lambda *_: []).unmap == [v.range]


def test_none_comes_late() -> None:
    both = [mapping(1, 1, MAP_PRIVATE, Backing.NONE), mapping(3, 1, MAP_SHARED, Backing.SHMEM, 5)]
    assert may_be_late(both, ()) == []
    assert shares([(both, ())]) == [()]


def tree(vmas: list[Vma], pages: list[Pages], objects: dict[int, list[Pages]]) -> tuple[Any, Any]:
    """What a set of one task holds, and the plan of it."""
    memory = Memory(tuple(vmas), tuple(pages))
    loaded = SimpleNamespace(
        tasks={7: SimpleNamespace(memory=memory)},
        segments={},
        pages=lambda name: objects.get(int(name.removeprefix("pagemap-shmem-")), []),
    )
    return loaded, SimpleNamespace(memory={7: plan_memory(memory, NOTHING, lambda *_: [])})


def test_what_is_wanted() -> None:
    """All that is reserved; what has contents, where nothing is; each object once."""
    vmas = [
        mapping(1, 3, MAP_PRIVATE, Backing.NONE),
        mapping(4, 3, MAP_PRIVATE | MAP_NORESERVE, Backing.NONE),
        mapping(10, 4, MAP_SHARED, Backing.SHMEM, 5),
        mapping(20, 2, MAP_SHARED, Backing.SHMEM, 5),
        mapping(30, 4, MAP_SHARED | MAP_NORESERVE, Backing.SHMEM, 6),
        mapping(40, 2, MAP_SHARED, Backing.FILE, 9),
    ]
    pages = [contents(HUGE, 512), contents(5 * HUGE - PAGE, 2)]
    objects = {5: [contents(0, 1)], 6: [contents(HUGE, 1), contents(3 * HUGE, 512)]}
    objects[8] = [contents(HUGE, 1), contents(3 * HUGE, 1)]
    loaded, plan = tree(vmas, pages, objects)
    memfd = HugeMemfd(8, 4 * HUGE, HUGE, frozenset({9}))
    assert wanted(loaded, plan, [memfd]) == {HUGE: 3 + 2 + 4 + 2 + 3}


def test_a_shortage_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, plan = tree([mapping(1, 3, MAP_PRIVATE, Backing.NONE)], [], {})
    for pool, text in (
        (hugetlb.Pool(HUGE, 3, 1, 0), "3 are wanted, 2 are free.*add 1 to.*nr_hugepages"),
        (None, "no pages of that size"),
    ):
        monkeypatch.setattr(hugetlb, "pool", lambda _, pool=pool: pool)
        with pytest.raises(RestoreError, match=text):
            refuse_shortage(loaded, plan, [])
    monkeypatch.setattr(hugetlb, "pool", lambda _: hugetlb.Pool(HUGE, 3, 1, 1))
    refuse_shortage(loaded, plan, [])


def test_a_size_that_the_kernel_has_not() -> None:
    assert hugetlb.pool(3 << 20) is None


def test_what_is_no_zero_is_data(tmp_path: Path) -> None:
    """By whole pages, neighbours together."""
    path = tmp_path / "object"
    raw = bytearray(5 * HUGE)
    raw[HUGE - 1] = raw[HUGE] = raw[4 * HUGE + 300_000] = 1
    path.write_bytes(raw)
    lfd = os.open(path, os.O_RDONLY)
    try:
        assert list(hugefile.data(lfd, HUGE)) == [(0, 2 * HUGE), (4 * HUGE, 5 * HUGE)]
    finally:
        os.close(lfd)


def test_filling_goes_through_a_mapping(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(bytes(range(256)) * 64)
    target.write_bytes(bytes(3 * HUGE))
    from_lfd, to_lfd = os.open(source, os.O_RDONLY), os.open(target, os.O_RDWR)
    try:
        hugefile.fill(from_lfd, PAGE, to_lfd, 2 * HUGE - PAGE, 2 * PAGE, HUGE, "object")
        with pytest.raises(OSError, match="object"):
            hugefile.fill(from_lfd, 0, to_lfd, 0, 5 * PAGE, HUGE, "object")
        with mmap.mmap(to_lfd, 0) as memory:
            there = memory[2 * HUGE - PAGE : 2 * HUGE + PAGE]
            assert there == source.read_bytes()[PAGE : 3 * PAGE]
            assert not any(memory[2 * HUGE + PAGE :])
    finally:
        os.close(from_lfd)
        os.close(to_lfd)
