"""userfaultfd and PAGEMAP_SCAN by number, as far as probes need them.

Source: userfaultfd(2), ioctl_userfaultfd(2), uapi/linux/userfaultfd.h, PAGEMAP_SCAN in
uapi/linux/fs.h and Documentation/admin-guide/mm/pagemap.rst. Numbers stand here because the headers
of the oldest machine that ckpt is built on lack half of them.

Everything acts on our own pages. A page that is protected synchronously must not be written before
its protection is gone: nobody serves the fault.
"""

from __future__ import annotations

import fcntl
import os
import struct
from contextlib import contextmanager
from enum import IntFlag
from typing import TYPE_CHECKING, NamedTuple

from ckpt.kerndat.trial import address, call, expect

if TYPE_CHECKING:
    from collections.abc import Iterator

DEVICE = "/dev/userfaultfd"
_API = 0xAA
_UFFDIO_API = 0xC018AA3F
_UFFDIO_REGISTER = 0xC020AA00
_UFFDIO_UNREGISTER = 0x8010AA01
_UFFDIO_COPY = 0xC028AA03
_UFFDIO_WRITEPROTECT = 0xC018AA06
IOC_NEW = 0xAA00
_PAGEMAP_SCAN = 0xC0606610
PM_SCAN_WP_MATCHING = 1
PM_SCAN_CHECK_WPASYNC = 2


class Feature(IntFlag):
    """UFFD_FEATURE_*, what UFFDIO_API offers and takes."""

    PAGEFAULT_FLAG_WP = 1 << 0
    EVENT_FORK = 1 << 1
    EVENT_REMAP = 1 << 2
    EVENT_REMOVE = 1 << 3
    MISSING_HUGETLBFS = 1 << 4
    MISSING_SHMEM = 1 << 5
    EVENT_UNMAP = 1 << 6
    SIGBUS = 1 << 7
    THREAD_ID = 1 << 8
    MINOR_HUGETLBFS = 1 << 9
    MINOR_SHMEM = 1 << 10
    EXACT_ADDRESS = 1 << 11
    WP_HUGETLBFS_SHMEM = 1 << 12
    WP_UNPOPULATED = 1 << 13
    POISON = 1 << 14
    WP_ASYNC = 1 << 15
    MOVE = 1 << 16


class Mode(IntFlag):
    """UFFDIO_REGISTER_MODE_*."""

    MISSING = 1
    WP = 2
    MINOR = 4


class Category(IntFlag):
    """PAGE_IS_*, what PAGEMAP_SCAN tells of a page."""

    WPALLOWED = 1
    WRITTEN = 2
    FILE = 4
    PRESENT = 8
    SWAPPED = 16
    PFNZERO = 32
    HUGE = 64
    SOFT_DIRTY = 128
    GUARD = 256


class Region(NamedTuple):
    """Pages of one kind, half open."""

    start: int
    end: int
    categories: int


@contextmanager
def userfaultfd(features: Feature | int = 0, *, device: bool = False) -> Iterator[int]:
    """A userfaultfd of our own mm with exactly these features; OSError where it can't be had."""
    flags = os.O_CLOEXEC | os.O_NONBLOCK
    if device:
        dev = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
        try:
            fd = fcntl.ioctl(dev, IOC_NEW, flags)
        finally:
            os.close(dev)
    else:
        fd = call("userfaultfd", flags)
    try:
        start(fd, features)
        yield fd
    finally:
        os.close(fd)


def start(fd: int, features: Feature | int) -> None:
    """Make a new userfaultfd ready, with exactly these features. Once for each."""
    fcntl.ioctl(fd, _UFFDIO_API, bytearray(struct.pack("=QQQ", _API, features, 0)), True)


def features() -> Feature:
    """All that this kernel offers."""
    fd = call("userfaultfd", os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        api = bytearray(struct.pack("=QQQ", _API, 0, 0))
        fcntl.ioctl(fd, _UFFDIO_API, api, True)
    finally:
        os.close(fd)
    return Feature(struct.unpack("=QQQ", api)[1] & (max(Feature) * 2 - 1))


def register(fd: int, addr: int, length: int, mode: Mode) -> None:
    """Register a range of ours."""
    fcntl.ioctl(fd, _UFFDIO_REGISTER, bytearray(struct.pack("=QQQQ", addr, length, mode, 0)), True)


def unregister(fd: int, addr: int, length: int) -> None:
    """Take the registration of a range back."""
    fcntl.ioctl(fd, _UFFDIO_UNREGISTER, bytearray(struct.pack("=QQ", addr, length)), True)


def protect(fd: int, addr: int, length: int, *, on: bool) -> None:
    """Set or take write protection of a registered range."""
    fcntl.ioctl(
        fd, _UFFDIO_WRITEPROTECT, bytearray(struct.pack("=QQQ", addr, length, int(on))), True
    )


def copy(fd: int, to: int, source: int, length: int) -> None:
    """Fill pages that are missing."""
    request = bytearray(struct.pack("=QQQQq", to, source, length, 0, 0))
    fcntl.ioctl(fd, _UFFDIO_COPY, request, True)
    expect(struct.unpack("=QQQQq", request)[4] == length, "fewer bytes than asked for")


def scan(
    start: int, end: int, mask: Category | int, *, flags: int = 0, returned: int | None = None
) -> list[Region]:
    """Our own pages in [start, end) that have all categories of `mask`; at most 64 regions."""
    vec = bytearray(24 * 64)
    wanted = int(mask if returned is None else returned)
    words = (96, flags, start, end, 0, address(vec), 64, 0, 0, mask, 0, wanted)
    request = bytearray(struct.pack("=12Q", *words))
    fd = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    try:
        count = fcntl.ioctl(fd, _PAGEMAP_SCAN, request, True)
    finally:
        os.close(fd)
    return [Region(*struct.unpack_from("=QQQ", vec, 24 * n)) for n in range(count)]
