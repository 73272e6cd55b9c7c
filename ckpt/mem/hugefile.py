"""Objects of huge pages, read and filled through a descriptor: hugetlbfs has neither SEEK_DATA nor
write(2).

A page that holds only zeros is taken for a hole, which it is again after a restore: it reads the
same, and is had again from what the mapping has reserved.
"""

from __future__ import annotations

import errno
import os

from ckpt._native import check, ffi, lib
from ckpt.errors import RestoreError
from ckpt.mem.extents import Extents


def data(lfd: int, page: int) -> Extents:
    """Where there is content, as offsets; `page` is the size of its pages in bytes. Raises
    OSError."""
    out = ffi.new("struct ckpt_extent **")
    size = os.fstat(lfd).st_size
    nr = check(lib.ckpt_huge_data(lfd, size, page, out), "shared memory of huge pages")
    return Extents.filled(nr, out)


def copy(lfd: int, found: Extents, to: int) -> None:
    """All of `found` to the position of `to`, which may be a pipe. Raises OSError."""
    check(lib.ckpt_copy_out(lfd, found.array, found.nr, to), "shared memory of huge pages")


def fill(source: int, at: int, lfd: int, offset: int, size: int, page: int, name: str) -> None:
    """Copy `size` bytes at `at` of the file `source` to `offset` of the object `lfd`, which `name`
    names. Raises RestoreError where no huge page is free, OSError."""
    done = lib.ckpt_huge_fill(source, at, lfd, offset, size, page)
    if done == -errno.ENOMEM:
        why = f"no free huge page of {page >> 10} KiB is left"
        raise RestoreError("can't be filled", resource=name, why=why)
    check(done, name)
