"""Huge pages of hugetlbfs: how flags tell their size, and what this machine has of them.

Not transparent huge pages, which are ordinary memory. Each size has a pool of its own; a mapping
reserves from it what it may need, unless MAP_NORESERVE says not to.

Source: mmap(2) "MAP_HUGE_2MB", memfd_create(2), shmget(2), Documentation/admin-guide/mm/
hugetlbpage.rst.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ckpt.units import PAGE

MAP_HUGETLB = 0x40000
MFD_HUGETLB = 0x4
SHM_HUGETLB = 0o4000
SIZE_SHIFT = 26
SIZE_BITS = 0x3F << SIZE_SHIFT
"""log2 of the size, in the flags of mmap(2), memfd_create(2) and shmget(2) alike."""

FS_MAGIC = 0x958458F6
"""f_type of hugetlbfs, statfs(2)."""

USUAL = 2 << 20
"""What flags without a size mean on x86-64, as long as nobody changed the machine's default."""

_POOLS = Path("/sys/kernel/mm/hugepages")
_SMALLEST, _LARGEST = PAGE.bit_length(), 40


_OBJECT = 1 << 31


def object_id(ino: int) -> int:
    """The id in images of the object with this inode number: apart from those of other shared
    memory, whose inode numbers the kernel counts by themselves."""
    return ino & _OBJECT - 1 | _OBJECT


def size_bits(size: int) -> int:
    """The bits that say `size`, a power of two."""
    return size.bit_length() - 1 << SIZE_SHIFT


def page_size(flags: int, mark: int) -> int:
    """The size of pages that `flags` ask for; 0 where they have not the bit `mark`. ValueError:
    a size that no page can have."""
    if not flags & mark:
        return 0
    bits = (flags & SIZE_BITS) >> SIZE_SHIFT
    if bits and not _SMALLEST <= bits <= _LARGEST:
        raise ValueError(f"huge pages of 2**{bits} bytes")
    return 1 << bits if bits else USUAL


class Pool(NamedTuple):
    """Numbers of pages of one size. `more`: how many the kernel may add by itself (overcommit)."""

    size: int
    free: int
    reserved: int
    more: int

    @property
    def available(self) -> int:
        """What nobody has, nor is promised."""
        return self.free - self.reserved + self.more

    @property
    def file(self) -> str:
        """Where the administrator says how many there shall be."""
        return str(_folder(self.size) / "nr_hugepages")


def pool(size: int) -> Pool | None:
    """None: the kernel has no pages of this size."""
    folder = _folder(size)
    try:
        free, reserved, surplus, overcommit = (
            int((folder / name).read_text("ascii"))
            for name in (
                *("free_hugepages", "resv_hugepages"),
                *("surplus_hugepages", "nr_overcommit_hugepages"),
            )
        )
    except FileNotFoundError:
        return None
    return Pool(size, free, reserved, max(0, overcommit - surplus))


def told() -> bool:
    """Whether the kernel tells of its pools here, where sysfs may not be mounted."""
    return _POOLS.is_dir()


def devices() -> dict[int, int]:
    """st_dev of the kernel's own hugetlbfs of each size, where all memory of huge pages is that has
    no name in a mounted one -> that size."""
    found = {}
    for folder in _POOLS.glob("hugepages-*kB"):
        size = int(folder.name.removeprefix("hugepages-").removesuffix("kB")) << 10
        with suppress(OSError):  # a kernel of before memfd_create(2) knew them
            lfd = os.memfd_create("ckpt", os.MFD_CLOEXEC | MFD_HUGETLB | size_bits(size))
            try:
                found[os.fstat(lfd).st_dev] = size
            finally:
                os.close(lfd)
    return found


def _folder(size: int) -> Path:
    return _POOLS / f"hugepages-{size >> 10}kB"
