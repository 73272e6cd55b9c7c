"""/proc/PID/smaps: mappings with their VmFlags and sizes.

Source: proc_pid_smaps(5), show_smap() and show_smap_vma_flags() in fs/proc/task_mmu.c.

A target stands still while its smaps are read, so this is built for speed: the kernel pads every
number to one width, which makes the block of sizes equally long in every mapping. One regular
expression for this length reads the whole text and keeps the block as it stands; sizes are parsed
only when asked for. Where one number is wider than its field a slower expression takes over. With
5,000 mappings the kernel takes 7 ms to write the text, this 10 to read it (8 without the collector
of garbage, which a caller in a frozen window does well to hold).

VmFlags that matter here: rd wr ex sh, mr mw me ms (may ...), gd (grows down), lo (locked), dd (not
in core dumps), dc (not inherited by fork), wf (wiped by fork), hg nh (huge page advice), mg (ksm),
um uw ui (userfaultfd), ss (shadow stack), sf (synchronous fault), io pf (device, no struct page),
ht (huge pages of hugetlbfs), sd (soft-dirty: says nothing on kernels that don't track).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ckpt.procfs.maps import HEADER, Mapping, device, refuse_order
from ckpt.procfs.parse import fail, lines

FILE = "smaps"
_FLAGS = "\nVmFlags: "
_TAIL = r"VmFlags: ([a-z0-9? ]*)\n"
_ANY = re.compile(HEADER + r"(Size:.*\n(?:[A-Z][A-Za-z_]*:.*\n)*?)" + _TAIL)
_SIZE = re.compile(r"^([A-Za-z_]+): +([0-9]{1,19})( kB)?$", re.MULTILINE)
_LONGEST_BLOCK = 65536
_HUGETLB = "ht"


class Smap(NamedTuple):
    """One mapping as smaps shows it. `text` is its unparsed block of sizes."""

    mapping: Mapping
    flags: frozenset[str]
    text: str

    @property
    def start(self) -> int:
        return self.mapping.start

    @property
    def end(self) -> int:
        return self.mapping.end

    def sizes(self) -> dict[str, int]:
        """All numbers of the block by their name, those in kB turned into bytes."""
        return {
            name: int(number) << 10 if unit else int(number)
            for name, number, unit in _SIZE.findall(self.text)
        }

    def size(self, name: str) -> int:
        """One number (`Rss`, `Swap`, ...) in bytes; 0 where this kernel does not print it."""
        return self.sizes().get(name, 0)

    @property
    def huge_page(self) -> int:
        """Size of its pages where they are huge ones of hugetlbfs, else 0."""
        return self.size("KernelPageSize") if _HUGETLB in self.flags else 0

    @property
    def userfaultfd(self) -> bool:
        """Registered with a userfaultfd, the target's own or a tracker's."""
        return not self.flags.isdisjoint(("um", "uw", "ui"))


def parse_smaps(data: bytes, *, running: bool = False) -> list[Smap]:
    """All mappings of a whole `smaps`, ascending and without overlap. `running`: as parse_maps()
    has it; the sizes of such a mapping are those of all of it."""
    devices: dict[str, tuple[int, int]] = {}
    known: dict[str, frozenset[str]] = {}
    smaps: list[Smap] = []
    last = 0
    for start_hex, end_hex, perms, pgoff, dev, ino, path, block, flags in _blocks(data):
        start = int(start_hex, 16)
        end = int(end_hex, 16)
        offset = 0 if pgoff == "00000000" else int(pgoff, 16)
        if running and start < last and start < end:
            start, offset = last, offset + last - start
            if end <= start:
                continue
        if not last <= start < end:
            refuse_order(start, end, FILE)
        last = end
        if dev not in devices:
            devices[dev] = device(dev)
        if flags not in known:
            known[flags] = frozenset(flags.split())
        mapping = Mapping(
            start,
            end,
            perms,
            offset,
            devices[dev],
            0 if ino == "0" else int(ino),
            path.replace("\\012", "\n") if "\\" in path else path,
        )
        smaps.append(Smap(mapping, known[flags], block))
    return smaps


def _blocks(data: bytes) -> list[tuple[str, ...]]:
    """What the expression catches of every mapping, none of them skipped."""
    text = data.decode("utf-8", "surrogateescape")
    first = text.find("\n") + 1
    length = text.find(_FLAGS) + 1 - first
    nr_lines = text.count("\n", first, first + length) + 2
    if first and 5 < length < _LONGEST_BLOCK:
        # A block of this length may hold more lines only if a mapping was swallowed whole.
        block = rf"(Size:(?s:.{{{length - 5}}}))"
        found = re.findall(HEADER + block + _TAIL, text)
        if len(found) * nr_lines == text.count("\n") and text.endswith("\n"):
            return found
    found = _ANY.findall(text)
    nr_read = sum(fields[7].count("\n") + 2 for fields in found)
    if nr_read != text.count("\n") or (text and not text.endswith("\n")):
        _refuse(data)
    return found


def _refuse(data: bytes) -> None:
    header = re.compile(HEADER)
    inside = False
    for line in lines(data, FILE):
        is_header = header.fullmatch(line.decode("utf-8", "surrogateescape") + "\n") is not None
        if is_header == inside and (is_header or not inside):
            fail(FILE, line, "a mapping without VmFlags before it, or no mapping")
        if b":" not in line:
            fail(FILE, line, "no key and colon")
        inside = not line.startswith(b"VmFlags:")
    fail(FILE, data[-100:], "a mapping without sizes or VmFlags")
