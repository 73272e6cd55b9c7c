"""Probes of what tracking memory needs: userfaultfd, PAGEMAP_SCAN, and the trap of soft-dirty.

Every answer comes from pages of our own that are protected, written and looked at.
"""

from __future__ import annotations

import errno
import os
import struct
from mmap import PAGESIZE
from pathlib import Path

from ckpt.kerndat.probe import Finding, Need, limited, missing, ok, probe
from ckpt.kerndat.trial import address, call, expect, in_child, pages
from ckpt.kerndat.uffd import (
    DEVICE,
    PM_SCAN_CHECK_WPASYNC,
    PM_SCAN_WP_MATCHING,
    Category,
    Feature,
    Mode,
    copy,
    features,
    protect,
    register,
    scan,
    unregister,
    userfaultfd,
)

_MADV_GUARD_INSTALL = 102
_SOFT_DIRTY = 1 << 55
_NONCOOP = Feature.EVENT_FORK | Feature.EVENT_REMAP | Feature.EVENT_REMOVE | Feature.EVENT_UNMAP


@probe(
    "uffd",
    Need.BETTER,
    "tracking writes and restoring lazily",
    "no incremental dumps, no lazy restore",
    criu=("uffd",),
)
def uffd() -> Finding:
    return ok(f"features {int(features()):#x}")


@probe(
    "uffd_device",
    Need.BETTER,
    f"a full userfaultfd in a task of any user, by {DEVICE}",
    "only tasks of root can be tracked synchronously",
)
def uffd_device() -> None:
    with userfaultfd(device=True):
        pass


@probe(
    "uffd-noncoop",
    Need.BETTER,
    "lazy restore of programs that fork, unmap and move memory",
    "no lazy restore",
    criu=("uffd-noncoop",),
)
def uffd_noncoop() -> None:
    with userfaultfd(_NONCOOP):
        pass


@probe("uffd_missing", Need.BETTER, "pages that arrive after the restore", "no lazy restore")
def uffd_missing() -> None:
    with userfaultfd() as fd, pages(1) as (area, addr):
        register(fd, addr, PAGESIZE, Mode.MISSING)
        source = bytearray(b"x" * (2 * PAGESIZE))
        aligned = address(source) + PAGESIZE - 1 & ~(PAGESIZE - 1)
        copy(fd, addr, aligned, PAGESIZE)
        expect(area[:1] == b"x", "the page has another content")


@probe("uffd_minor", Need.LATER, "shared memory that is filled beside a mapping", "it is copied")
def uffd_minor() -> None:
    with userfaultfd(Feature.MINOR_SHMEM) as fd, pages(1, shared=True) as (_, addr):
        register(fd, addr, PAGESIZE, Mode.MINOR)
        unregister(fd, addr, PAGESIZE)


@probe(
    "uffd_wp",
    Need.BETTER,
    "tracking writes by faults that a server resolves, live snapshots",
    "no live snapshot",
)
def uffd_wp() -> Finding | None:
    with userfaultfd(Feature.PAGEFAULT_FLAG_WP) as fd, pages(2) as (area, addr):
        area[0] = 1
        register(fd, addr, 2 * PAGESIZE, Mode.WP)
        protect(fd, addr, 2 * PAGESIZE, on=True)
        protect(fd, addr, 2 * PAGESIZE, on=False)
        area[0] = 2
        unregister(fd, addr, 2 * PAGESIZE)
    if Feature.WP_HUGETLBFS_SHMEM not in features():
        return limited("not for shared memory")
    return None


@probe(
    "uffd_wp_async",
    Need.BETTER,
    "tracking writes without any fault being served: rounds that freeze nothing",
    "rounds need a server of faults",
)
def uffd_wp_async() -> None:
    wanted = Feature.WP_ASYNC | Feature.WP_UNPOPULATED
    with userfaultfd(wanted) as fd, pages(4) as (area, addr):
        end = addr + 4 * PAGESIZE
        area[0] = area[2 * PAGESIZE] = 1
        register(fd, addr, end - addr, Mode.WP)
        mask = Category.WRITTEN | Category.PRESENT
        flags = PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC
        expect(len(scan(addr, end, mask, flags=flags)) == 2, "written pages were not reported")
        expect(not scan(addr, end, mask), "protected pages are reported as written")
        area[2 * PAGESIZE] = 2
        written = [(r.start - addr) // PAGESIZE for r in scan(addr, end, mask)]
        expect(written == [2], "a write was not seen")


@probe(
    "pagemap_scan",
    Need.BETTER,
    "finding pages without reading a word for each",
    "pagemap is read word by word",
    criu=("pagemap_scan",),
)
def pagemap_scan() -> None:
    with pages(4) as (area, addr):
        area[PAGESIZE] = 1
        found = scan(addr, addr + 4 * PAGESIZE, Category.PRESENT)
        start = addr + PAGESIZE
        expect([(r.start, r.end) for r in found] == [(start, start + PAGESIZE)], "wrong pages")


@probe(
    "madv_guard",
    Need.TREE,
    "guard pages inside a mapping",
    "nothing where programs can't make any; else trees with such pages can't be dumped",
    criu=("madv_guard", "pagemap_scan_guard_pages"),
)
def madv_guard() -> Finding | None:
    with pages(2) as (_, addr):
        call("madvise", addr, PAGESIZE, _MADV_GUARD_INSTALL)
        try:
            found = scan(addr, addr + 2 * PAGESIZE, Category.GUARD)
        except OSError:
            return missing("programs can make guard pages, but PAGEMAP_SCAN does not show them")
        expect([r.start for r in found] == [addr], "the guard is not shown")
    return None


@probe("soft_dirty", Need.LATER, "CRIU's way to track writes", "nothing: ckpt does without it")
def soft_dirty() -> None:
    """Writing 4 to clear_refs succeeds on kernels without it: only a page's own bit tells."""

    def trial() -> None:
        with pages(1) as (area, addr):
            area[0] = 1
            Path("/proc/self/clear_refs").write_bytes(b"4")
            if _pagemap_word(addr) & _SOFT_DIRTY:
                raise OSError(errno.EOPNOTSUPP, "not cleared")
            area[0] = 2
            if not _pagemap_word(addr) & _SOFT_DIRTY:
                raise OSError(errno.EOPNOTSUPP, "not set")

    try:
        in_child(trial)
    except OSError as error:
        expect(error.errno != errno.EOPNOTSUPP, "clear_refs is taken, but no page becomes dirty")
        raise


def _pagemap_word(addr: int) -> int:
    fd = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    try:
        word: int = struct.unpack("=Q", os.pread(fd, 8, addr // PAGESIZE * 8))[0]
    finally:
        os.close(fd)
    return word


@probe(
    "pagemap_frames",
    Need.BETTER,
    "page frame numbers, which show what parent and child share",
    "copy-on-write pages are found by comparing them",
)
def pagemap_frames() -> None:
    with pages(1) as (area, addr):
        area[0] = 1
        expect(_pagemap_word(addr) & ((1 << 55) - 1), "frame numbers are hidden")


@probe(
    "mem_dirty_track",
    Need.BETTER,
    "incremental dumps",
    "every dump is a full one",
    criu=("mem_dirty_track",),
)
def mem_dirty_track() -> Finding:
    """Wherever one of the two engines can work; soft-dirty is none of them."""
    if uffd_wp_async.run().supported and pagemap_scan.run().supported:
        return ok("userfaultfd write protection, asynchronous")
    found = uffd_wp.run()
    if not found.supported:
        return missing(f"neither asynchronous nor synchronous write protection: {found.detail}")
    return limited("synchronous write protection only: every first write is served by ckpt")


@probe("thp", Need.BETTER, "huge pages in restored memory", "restored memory has small pages")
def thp() -> Finding:
    try:
        text = Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text("ascii")
    except FileNotFoundError:
        return missing("not configured")
    chosen = text[text.find("[") + 1 : text.find("]")]
    return limited("switched off") if chosen == "never" else ok(chosen)
