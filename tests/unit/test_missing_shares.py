"""Which shared memory may come late: that of which every mapping may."""

from __future__ import annotations

from ckpt.mem.missing.split import Share, shares
from ckpt.mem.vma import MAP_LOCKED, MAP_PRIVATE, MAP_SHARED, Backing, Status, Vma
from ckpt.units import PAGE, Range


def mapping(
    page: int, shmid: int, flags: int = MAP_SHARED, backing: Backing = Backing.SHMEM
) -> Vma:
    where = Range(page * PAGE, (page + 4) * PAGE)
    return Vma(where, 3, flags, Status.REGULAR, pgoff=PAGE, shmid=shmid, backing=backing)


def ids(*memories: tuple[list[Vma], tuple[int, ...]]) -> list[list[int]]:
    return [[share.shmid for share in one] for one in shares(memories)]


def test_where_they_are() -> None:
    (found,) = shares([([mapping(16, 7)], ())])
    assert found == (Share(Range(16 * PAGE, 20 * PAGE), 7, PAGE),)


def test_one_mapping_decides_for_all() -> None:
    plain = [mapping(16, 1), mapping(32, 2), mapping(48, 3), mapping(64, 4)]
    locked = mapping(16, 1, MAP_SHARED | MAP_LOCKED)
    private = mapping(32, 2, MAP_PRIVATE)
    sealed = mapping(80, 3)
    assert ids((plain, ()), ([locked, private, sealed], (80 * PAGE,))) == [[4], []]


def test_other_memory() -> None:
    others = [mapping(16, 1, backing=b) for b in (Backing.FILE, Backing.SYSV, Backing.NONE)]
    assert ids((others, ())) == [[]]
