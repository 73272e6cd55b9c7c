"""Segments of System V shared memory in an image set."""

from __future__ import annotations

from typing import Any

import pytest

from ckpt.errors import ImageError
from ckpt.images.pb.ipc_shm_pb2 import ipc_shm_entry
from ckpt.mem.build import segments_fit
from ckpt.mem.vma import Backing, Status, Vma
from ckpt.ns.sysv_shm import Segment, segments_of
from ckpt.units import PAGE, Range

NAME = "ipcns-shm-3"


def entry(**changed: Any) -> Any:
    made = ipc_shm_entry(size=5000, in_pagemaps=True)
    for name in ("size", "in_pagemaps", "hugetlb_flag"):
        if name in changed:
            setattr(made, name, changed.pop(name))
    desc = {"key": 7, "uid": 1, "gid": 2, "cuid": 3, "cgid": 4, "mode": 0o1640, "id": 32769}
    for name, value in (desc | changed).items():
        setattr(made.desc, name, value)
    return made


def test_what_it_says() -> None:
    found = segments_of([entry(), entry(id=0)], NAME)
    assert found[32769] == Segment(32769, 7, 1, 2, 3, 4, 0o1640, 5000)
    assert list(found) == [32769, 0]
    assert segments_of([], NAME) == {}


@pytest.mark.parametrize(
    "entries",
    [
        [entry(), entry()],
        [entry(id=1 << 31)],
        [entry(size=0)],
        [entry(size=1 << 47)],
        [entry(mode=0o10640)],
        [entry(in_pagemaps=False)],
        [entry(hugetlb_flag=0o4000 | 63 << 26)],
    ],
    ids=["twice", "id", "empty", "size", "mode", "pages inside", "pages of no size"],
)
def test_hostile(entries: list[Any]) -> None:
    with pytest.raises(ImageError, match="segment"):
        segments_of(entries, NAME)


def mapping(pgoff: int, nr_pages: int, shmid: int = 5) -> Vma:
    where = Range(1 << 20, (1 << 20) + nr_pages * PAGE)
    status = Status.REGULAR | Status.SYSV
    return Vma(where, 3, 1, status, pgoff=pgoff, shmid=shmid, backing=Backing.SYSV)


def test_mappings_lie_within_their_segment() -> None:
    """The last page counts whole; huge pages are not of a segment without."""
    sizes = {5: (3 * PAGE, 0), 7: (2 << 20, 2 << 20)}
    assert segments_fit([mapping(0, 3), mapping(2 * PAGE, 1)], sizes) is None
    others = mapping(0, 1, shmid=6), mapping(0, 1, shmid=7)
    for wrong in (mapping(0, 4), mapping(3 * PAGE, 1), mapping(1 << 63, 1), *others):
        assert segments_fit([mapping(0, 1), wrong], sizes) is wrong
