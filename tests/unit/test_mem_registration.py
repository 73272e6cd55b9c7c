"""Registrations taken back, beside what the target has registered with a userfaultfd of its own."""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

from ckpt.kerndat.uffd import Feature, Mode, protect, register, userfaultfd
from ckpt.mem.extents import Extents
from ckpt.mem.registration import unregister
from ckpt.mem.room import Listed
from ckpt.procfs.smaps import parse_smaps
from ckpt.units import PAGE
from tests.requirements import require

UFFD_WP = 1 << 57
NR = 8


def test_what_the_target_has_registered_stays() -> None:
    """One range that holds both: the kernel lets anybody take the protection of either."""
    require(os.geteuid() == 0, "a userfaultfd of one's own needs root")
    memory = mmap.mmap(-1, NR * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.write(bytes([7]) * NR * PAGE)
    first = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    middle, end = first + NR // 2 * PAGE, first + NR * PAGE
    pagemap = os.open("/proc/self/pagemap", os.O_RDONLY)
    with (
        userfaultfd(Feature.PAGEFAULT_FLAG_WP) as own,
        userfaultfd(Feature.PAGEFAULT_FLAG_WP) as ours,
    ):
        for uffd, start in ((own, first), (ours, middle)):
            register(uffd, start, NR // 2 * PAGE, Mode.WP)
            protect(uffd, start, NR // 2 * PAGE, on=True)
        assert marks(pagemap, first) == [True] * NR
        room = Extents.of([(first, end)])
        unregister(ours, pagemap, Listed(Extents.of([(first, middle), (middle, end)]), room))
        assert marks(pagemap, first) == [True] * (NR // 2) + [False] * (NR // 2)
        smaps = parse_smaps(Path("/proc/self/smaps").read_bytes())
        flags = {one.mapping.start: "uw" in one.flags for one in smaps}
        assert flags[first]
        assert not any(flags[start] for start in flags if middle <= start < end)
    os.close(pagemap)
    memory[:] = bytes(NR * PAGE)


def marks(pagemap: int, start: int) -> list[bool]:
    words = memoryview(os.pread(pagemap, 8 * NR, start // PAGE * 8)).cast("Q")
    return [bool(word & UFFD_WP) for word in words]
