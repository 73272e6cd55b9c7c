"""The mappings of a task as an image set names them, for people and for comparisons.

Nothing here reads pages. Works with what there is: the set of a pre-dump has no mappings at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ckpt.images.text import get_text
from ckpt.record import record
from ckpt.units import TASK_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckpt.images.reader import ImageSet

_STACK, _VSYSCALL, _VDSO, _VVAR = 1 << 1, 1 << 2, 1 << 3, 1 << 12
_ANON_SHARED, _ANON_PRIVATE, _MEMFD = 1 << 8, 1 << 9, 1 << 14
_SHARED = 0x01
_TOP = 1 << 64


@record(frozen=True)
class NamedMapping:
    """Addresses from `start` up to `end`. `perms` as in /proc/PID/maps. `what`: the path, or a word
    in brackets, empty for plain anonymous memory. `zeros`: a page that is in no set reads as zeros
    (of a private file mapping it is the file's)."""

    start: int
    end: int
    perms: str
    what: str
    zeros: bool


UNKNOWN = NamedMapping(0, _TOP, "????", "(the set names no mappings)", False)
"""All that is known of the memory in the set of a pre-dump."""


def mappings_of(images: ImageSet, pid: int) -> list[NamedMapping]:
    """The mappings of a task, ascending. Raises ImageError for a damaged image."""
    if not images.exists(f"mm-{pid}"):
        return [UNKNOWN]
    mm: Any = images.read_one(f"mm-{pid}")
    names = dict(_names(images))
    found = [_mapping(vma, mm, names) for vma in mm.vmas if vma.start < TASK_SIZE]
    return sorted(found, key=lambda one: one.start)


def _names(images: ImageSet) -> Iterator[tuple[int, str]]:
    for file in images.read("files") if images.exists("files") else []:
        if file.HasField("reg"):
            yield file.id, get_text(file.reg, "name")


def _mapping(vma: Any, mm: Any, names: dict[int, str]) -> NamedMapping:
    letters = zip("rwx", (1, 2, 4), strict=True)
    perms = "".join(letter if vma.prot & bit else "-" for letter, bit in letters)
    private = bool(vma.status & _ANON_PRIVATE)
    return NamedMapping(
        vma.start,
        vma.end,
        perms + ("s" if vma.flags & _SHARED else "p"),
        _what(vma, mm, names),
        private and not vma.status & (_VSYSCALL | _VDSO | _VVAR),
    )


def _what(vma: Any, mm: Any, names: dict[int, str]) -> str:
    for bit, word in ((_VSYSCALL, "vsyscall"), (_VDSO, "vdso"), (_VVAR, "vvar")):
        if vma.status & bit:
            return f"[{word}]"
    if vma.status & _MEMFD:
        return names.get(vma.shmid, f"[memfd {vma.shmid}]")
    if vma.status & _ANON_SHARED:
        return f"[shared {vma.shmid}]"
    if not vma.status & _ANON_PRIVATE:
        return names.get(vma.shmid, f"[file {vma.shmid}]")
    if vma.status & _STACK or vma.start <= mm.mm_start_stack < vma.end:
        return "[stack]"
    if vma.start < mm.mm_brk and mm.mm_start_brk < vma.end:
        return "[heap]"
    return ""
