"""Virtual memory areas: what a dump says of each, in the image's terms.

Source of the bits: mmap(2), madvise(2), proc_pid_smaps(5); `status` is the image format's own.
"""

from __future__ import annotations

import os
import re
from enum import Enum, IntFlag, auto
from typing import TYPE_CHECKING

from ckpt.kerndat.hugetlb import MAP_HUGETLB, page_size, size_bits
from ckpt.mem.policy import DEFAULT, Policy
from ckpt.record import record
from ckpt.units import PAGE, TASK_SIZE, Range

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ckpt.images.pb.vma_pb2 import vma_entry
    from ckpt.procfs.maps import Mapping
    from ckpt.procfs.smaps import Smap

PROT_READ, PROT_WRITE, PROT_EXEC = 1, 2, 4
MAP_SHARED, MAP_PRIVATE, MAP_FIXED, MAP_ANONYMOUS = 0x1, 0x2, 0x10, 0x20
MAP_GROWSDOWN, MAP_LOCKED, MAP_NORESERVE = 0x100, 0x2000, 0x4000
MAP_FIXED_NOREPLACE = 0x100000
VSYSCALL = 0xFFFF_FFFF_FF60_0000

ADVICE = {"rr": 1, "sr": 2, "dc": 10, "mg": 12, "hg": 14, "nh": 15, "dd": 16, "wf": 18}
"""smaps' VmFlags -> number of the advice that sets it."""

MADV_DONTFORK, MADV_MERGEABLE, MADV_WIPEONFORK = 10, 12, 18


class Status(IntFlag):
    """`vma_entry.status`."""

    REGULAR = 1 << 0
    STACK = 1 << 1
    VSYSCALL = 1 << 2
    VDSO = 1 << 3
    HEAP = 1 << 5
    FILE_PRIVATE = 1 << 6
    FILE_SHARED = 1 << 7
    ANON_SHARED = 1 << 8
    ANON_PRIVATE = 1 << 9
    SYSV = 1 << 10
    SOCKET = 1 << 11
    """The ring of a packet socket."""
    VVAR = 1 << 12
    AIORING = 1 << 13
    MEMFD = 1 << 14
    GUARD = 1 << 16
    EXTERNAL = 1 << 27
    """Made by who makes the file behind it: CRIU's for its plugins, here a ring of io_uring."""


KNOWN_STATUS = Status.REGULAR | Status.STACK | Status.VSYSCALL | Status.VDSO | Status.HEAP
KNOWN_STATUS |= Status.FILE_PRIVATE | Status.FILE_SHARED | Status.ANON_SHARED
KNOWN_STATUS |= Status.ANON_PRIVATE | Status.VVAR | Status.MEMFD | Status.AIORING
KNOWN_STATUS |= Status.SYSV | Status.SOCKET | Status.EXTERNAL


class Backing(Enum):
    """What stands behind a mapping, as far as a dump must know."""

    NONE = auto()
    FILE = auto()
    SHMEM = auto()
    KERNEL = auto()
    SYSV = auto()
    RING = auto()
    """Of a context of AIO, which maps it, of io_uring, or of a packet socket."""


MADE_BY_KERNEL = (Backing.KERNEL, Backing.RING)
"""What no mmap(2) of a task has made."""


@record(frozen=True)
class Vma:
    """One mapping. `shmid` is the id of its file or shared memory; `advice` a bit for each."""

    range: Range
    prot: int
    flags: int
    status: Status
    pgoff: int = 0
    shmid: int = 0
    advice: int = 0
    file_flags: int = 0
    backing: Backing = Backing.NONE
    policy: Policy = DEFAULT

    @property
    def private(self) -> bool:
        return bool(self.flags & MAP_PRIVATE) and self.backing not in MADE_BY_KERNEL

    @property
    def shared(self) -> bool:
        return bool(self.flags & MAP_SHARED)

    @property
    def file_backed(self) -> bool:
        return self.backing in (Backing.FILE, Backing.SHMEM)

    @property
    def of_object(self) -> bool:
        """`shmid` names what is mapped, `pgoff` from where on."""
        return self.file_backed or self.backing is Backing.SYSV

    @property
    def huge_page(self) -> int:
        """Size of its pages where they are huge ones of hugetlbfs, else 0. Of a file in a mounted
        hugetlbfs, CRIU's images don't tell."""
        return page_size(self.flags, MAP_HUGETLB)

    @property
    def locked(self) -> bool:
        return bool(self.flags & MAP_LOCKED)

    def advices(self) -> list[int]:
        return [n for n in ADVICE.values() if self.advice >> n & 1]

    def fill(self, entry: vma_entry) -> None:
        """Write this mapping into `entry`."""
        entry.start, entry.end = self.range.start, self.range.end
        entry.pgoff, entry.shmid = self.pgoff, self.shmid
        entry.prot, entry.flags, entry.status = self.prot, self.flags, int(self.status)
        entry.fd = -1
        if self.advice:
            entry.madv = self.advice
        if self.of_object:
            entry.fdflags = self.file_flags


def fill_guard(entry: vma_entry, start: int, end: int) -> None:
    """Write guard pages into `entry`: the format has them as mappings behind the real ones."""
    entry.start, entry.end, entry.pgoff, entry.shmid = start, end, 0, 0
    entry.prot, entry.flags, entry.status = 0, MAP_PRIVATE | MAP_ANONYMOUS, int(Status.GUARD)
    entry.fd = -1


class VmaError(ValueError):
    """A mapping of an image that can't be: the text says which and why."""


def guard_of(entry: vma_entry) -> Range | None:
    """The guard pages that this entry of an image is of, if it is of any. Raises VmaError."""
    if not entry.status & Status.GUARD:
        return None
    if entry.start >= entry.end or entry.start % PAGE or entry.end % PAGE or entry.end > TASK_SIZE:
        raise VmaError(f"guard pages {entry.start:#x}-{entry.end:#x} are not a range of pages")
    return Range(entry.start, entry.end)


def from_entry(entry: vma_entry) -> Vma:
    """The mapping that an image tells of. Raises VmaError."""
    where = f"mapping {entry.start:#x}-{entry.end:#x}"
    status = Status(entry.status & int(KNOWN_STATUS))
    if entry.status & ~int(KNOWN_STATUS):
        raise VmaError(f"{where} is of a kind that can't be restored (status {entry.status:#x})")
    if entry.start >= entry.end or entry.start % PAGE or entry.end % PAGE:
        raise VmaError(f"{where} is not a range of pages")
    if not _is_of_whole_pages(entry):
        raise VmaError(f"{where} is not a range of huge pages (flags {entry.flags:#x})")
    if entry.end > TASK_SIZE and not status & Status.VSYSCALL:
        raise VmaError(f"{where} lies outside the address space")
    if not entry.flags & (MAP_SHARED | MAP_PRIVATE):
        raise VmaError(f"{where} is neither shared nor private (flags {entry.flags:#x})")
    if status & (Status.VDSO | Status.VVAR | Status.VSYSCALL):
        backing = Backing.KERNEL
    elif status & (Status.AIORING | Status.EXTERNAL | Status.SOCKET):
        backing = Backing.RING
    elif status & Status.ANON_SHARED:
        backing = Backing.SHMEM
    elif status & Status.SYSV:
        backing = Backing.SYSV
    elif status & (Status.FILE_PRIVATE | Status.FILE_SHARED):
        backing = Backing.FILE
    elif status & Status.ANON_PRIVATE:
        backing = Backing.NONE
    else:
        raise VmaError(f"{where} has no kind (status {entry.status:#x})")
    return Vma(
        range=Range(entry.start, entry.end),
        prot=entry.prot & 7,
        flags=entry.flags,
        status=status,
        pgoff=entry.pgoff,
        shmid=entry.shmid,
        advice=entry.madv,
        file_flags=entry.fdflags,
        backing=backing,
    )


def _is_of_whole_pages(entry: vma_entry) -> bool:
    """Whether what is said to be of huge pages can be."""
    try:
        size = page_size(entry.flags, MAP_HUGETLB)
    except ValueError:
        return False
    return not size or not (entry.start % size or entry.end % size)


_SEGMENT = re.compile(r"/SYSV[0-9a-f]{8} \(deleted\)")
VDSO = "[vdso]"
VVARS = ("[vvar]", "[vvar_vclock]")
_KERNEL_NAMES = {
    VDSO: Status.VDSO,
    **dict.fromkeys(VVARS, Status.VVAR),
    "[vsyscall]": Status.VSYSCALL,
}

_AIO, _URING = "/[aio]", "anon_inode:[io_uring]"
_ANON_HUGE = "/anon_hugepage (deleted)"
_SOCKET = "socket:["

_MISSING = "um"
HUGETLB = "ht"
"""The flag of a mapping of huge pages."""

TRACKED = "uw"
"""The flag of a mapping whose writes are tracked, by ckpt or by the target's own userfaultfd."""

_REFUSED_FLAGS = {
    _MISSING: "it is registered with a userfaultfd, its own or that of a lazy restore under way",
    TRACKED: "it is registered with a userfaultfd",
    "ui": "it is registered with a userfaultfd",
    "ss": "a shadow stack is not restored yet",
    "io": "it maps a device",
    "pf": "it maps a device",
}


FLAGS = frozenset({"gd", "nr", "lo", "lf", "sl", HUGETLB, *ADVICE, *_REFUSED_FLAGS}) - {TRACKED}
"""The flags of smaps that a dump looks at, but for the mark of tracking."""


def obstacle(smap: Smap, *, tracked: bool, arriving: bool = False) -> str:
    """Why this mapping can't be restored, or an empty string. `tracked`: ckpt tracks the writes of
    this task. `arriving`: a lazy restore still brings memory to it."""
    path = smap.mapping.path
    if path in _KERNEL_NAMES:
        return ""
    ours = {TRACKED} if tracked else set()
    ours |= {TRACKED, _MISSING} if arriving else set()
    for flag, why in _REFUSED_FLAGS.items():
        if flag in smap.flags and flag not in ours:
            return why
    if path == _URING:
        return "a sealed ring of io_uring is not restored yet" if "sl" in smap.flags else ""
    if is_socket(smap.mapping) and smap.mapping.shared:
        return "a sealed ring of a socket is not restored yet" if "sl" in smap.flags else ""
    if path.startswith(("[uprobes]", "anon_inode:", "socket:")):
        return f"a mapping of {path} is not restored yet"
    return ""


def backing_of(smap: Smap) -> Backing:
    """What stands behind a mapping. Cheap: asked of every mapping while the target is frozen."""
    mapping = smap.mapping
    if mapping.path in _KERNEL_NAMES:
        return Backing.KERNEL
    if not mapping.has_file:
        return Backing.NONE
    if mapping.path == _URING or mapping.path.startswith((_AIO, _SOCKET)):
        return Backing.RING
    if mapping.path == "/dev/zero (deleted)":
        return Backing.SHMEM
    if mapping.path == _ANON_HUGE and HUGETLB in smap.flags:
        return Backing.SHMEM if mapping.shared else Backing.NONE
    return Backing.SYSV if is_segment(mapping) else Backing.FILE


def is_segment(mapping: Mapping) -> bool:
    """Whether this is System V shared memory; its inode number is the segment's id."""
    return bool(_SEGMENT.fullmatch(mapping.path)) and mapping.shared and not mapping.device[0]


def segments(smaps: Iterable[Smap]) -> list[tuple[int, int]]:
    """The System V shared memory that is mapped: for each mapping its id, and the size of its pages
    if they are huge ones, else 0."""
    return [(s.mapping.ino, s.huge_page) for s in smaps if is_segment(s.mapping)]


def is_aio(mapping: Mapping) -> bool:
    """Whether it is the ring of a context of AIO."""
    return mapping.path.startswith(_AIO)


def is_uring(mapping: Mapping) -> bool:
    """Whether it is of a ring of io_uring."""
    return mapping.path == _URING


def is_socket(mapping: Mapping) -> bool:
    """Whether it is of a socket: the ring of one for packets, if it can be restored."""
    return mapping.path.startswith(_SOCKET)


def _ring_status(mapping: Mapping) -> Status:
    if is_aio(mapping):
        return Status.AIORING
    return Status.SOCKET if is_socket(mapping) else Status.FILE_SHARED | Status.EXTERNAL


def trackable(mappings: Iterable[Mapping]) -> Iterator[tuple[int, int]]:
    """The ranges whose pages a dump would take from the task, ascending: what is private and no
    part of the kernel's own."""
    for m in mappings:
        if not m.shared and m.path not in _KERNEL_NAMES:
            yield m.start, m.end


def from_smap(smap: Smap) -> Vma:
    """The mapping as a dump sees it; ids of files and shared memory are filled in later."""
    mapping, vm = smap.mapping, smap.flags
    perms = mapping.perms
    prot = sum(
        bit
        for char, bit in zip(perms[:3], (PROT_READ, PROT_WRITE, PROT_EXEC), strict=True)
        if char != "-"
    )
    flags = MAP_SHARED if "sh" in vm or perms[3] == "s" else MAP_PRIVATE
    status = Status.REGULAR
    backing = backing_of(smap)
    special = _KERNEL_NAMES.get(mapping.path)
    if special is not None:
        status |= special
        flags |= MAP_ANONYMOUS
    elif backing is Backing.RING:
        status |= _ring_status(mapping)
    elif backing is Backing.SHMEM:
        status |= Status.ANON_SHARED
        flags |= MAP_ANONYMOUS
    elif backing is Backing.SYSV:
        status |= Status.SYSV
    elif backing is Backing.FILE:
        shared = bool(flags & MAP_SHARED)
        status |= Status.FILE_SHARED if shared else Status.FILE_PRIVATE
        status |= Status.MEMFD if mapping.path.startswith("/memfd:") else Status(0)
    else:
        status |= Status.ANON_PRIVATE
        status |= Status.HEAP if mapping.path == "[heap]" else Status(0)
        status |= Status.STACK if mapping.path == "[stack]" else Status(0)
        flags |= MAP_ANONYMOUS
    flags |= MAP_GROWSDOWN if "gd" in vm else 0
    flags |= MAP_NORESERVE if "nr" in vm else 0
    flags |= MAP_LOCKED if "lo" in vm else 0
    flags |= MAP_HUGETLB | size_bits(smap.huge_page) if smap.huge_page else 0
    advice = 0 if special is not None else sum(1 << n for f, n in ADVICE.items() if f in vm)
    return Vma(
        range=mapping.range,
        prot=prot,
        flags=flags,
        status=status,
        pgoff=mapping.pgoff if backing is not Backing.NONE else 0,
        shmid=mapping.ino if backing is Backing.SYSV else 0,
        advice=advice,
        file_flags=os.O_RDWR if backing is Backing.SYSV and "mw" in vm else 0,
        backing=backing,
    )
